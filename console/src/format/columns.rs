//! Text in the columns of a terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The number of columns that the text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// Finds the row breaks of a text in rows of a certain width, between any two characters.
pub struct RowBreaks {
    width: usize,
    used: usize,
}

impl RowBreaks {
    /// Begins a text, in rows of at least one column.
    pub fn of_width(width: usize) -> Self {
        Self { width: width.max(1), used: 0 }
    }

    /// Whether a new row begins before the next character of the text.
    pub fn is_before(&mut self, next: char) -> bool {
        let columns = next.width().unwrap_or(0);
        let breaks = self.used + columns > self.width && self.used > 0;
        self.used = if breaks { columns } else { self.used + columns };
        breaks
    }
}

/// The text in lines of at most `width` columns, broken at any character.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut breaks = RowBreaks::of_width(width);
    let mut lines = vec![String::new()];
    for c in text.chars() {
        if breaks.is_before(c) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push(c);
        }
    }
    lines
}

/// The starts of all rows but the first in a text with rows of at most `width` columns, as character indices. A
/// row ends after its last space, if it has one.
pub fn row_starts(text: &str, width: usize) -> Vec<usize> {
    let width = width.max(1);
    let (mut starts, mut used) = (Vec::new(), 0);
    // The start of the present word in this row, and the number of columns before it.
    let mut word: Option<(usize, usize)> = None;
    for (place, c) in text.chars().enumerate() {
        let columns = c.width().unwrap_or(0);
        if used + columns > width && used > 0 && c != ' ' {
            let (start, before) = word.take().unwrap_or((place, used));
            starts.push(start);
            used -= before;
        }
        used += columns;
        // A space that does not fit is invisible.
        if c == ' ' {
            word = Some((place + 1, used));
        }
    }
    starts
}

/// The text in lines of at most `width` columns, broken between words where possible. Further lines have the
/// indentation of the text.
pub fn wrap_words(text: &str, width: usize) -> Vec<String> {
    let indent = text.len() - text.trim_start_matches(' ').len();
    let indent = " ".repeat(indent.min(width / 2));
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_inclusive(' ') {
        if !line.trim().is_empty() && line.width() + word.trim_end().width() > width {
            lines.push(std::mem::replace(&mut line, indent.clone()));
        }
        line.push_str(word);
    }
    lines.push(line);
    // This breaks words that are longer than a line.
    lines.iter().flat_map(|line| wrap(line.trim_end(), width)).collect()
}

/// A text of several lines on one line.
pub fn in_one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

/// The text cut to at most `width` columns, with `…` at the end if it was cut.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    if width == 0 { String::new() } else { beginning(text.chars(), width - 1) + "…" }
}

/// The end of the text in at most `width` columns, with `…` at its beginning if it was cut.
pub fn cut_front(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    if width == 0 { String::new() } else { format!("…{}", end(text, width - 1)) }
}

/// The beginning and the end of a name in at most `width` columns, with `…` between them if it was cut. Names that
/// are listed together often begin with the same words.
fn cut_name(name: &str, width: usize) -> String {
    if name.width() <= width {
        return name.to_owned();
    }
    let Some(kept) = width.checked_sub(1) else { return String::new() };
    let last = kept / 2;
    format!("{}…{}", beginning(name.chars(), kept - last), end(name, last))
}

/// As many of the characters as have room in `width` columns.
fn beginning(chars: impl Iterator<Item = char>, width: usize) -> String {
    let mut left = width;
    chars
        .take_while(|c| match left.checked_sub(c.width().unwrap_or(0)) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        })
        .collect()
}

/// As much of the end of the text as has room in `width` columns.
fn end(text: &str, width: usize) -> String {
    beginning(text.chars().rev(), width).chars().rev().collect()
}

/// The text in exactly `width` columns, aligned to the left.
pub fn pad(text: &str, width: usize) -> String {
    filled(cut(text, width), width)
}

/// The name in exactly `width` columns, aligned to the left, with `…` in its middle if it was cut.
pub fn pad_name(name: &str, width: usize) -> String {
    filled(cut_name(name, width), width)
}

fn filled(text: String, width: usize) -> String {
    let missing = width.saturating_sub(text.width());
    text + &" ".repeat(missing)
}

/// The text in exactly `width` columns, aligned to the right.
pub fn pad_left(text: &str, width: usize) -> String {
    let text = cut(text, width);
    let missing = width.saturating_sub(text.width());
    " ".repeat(missing) + &text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_are_never_cut_in_half() {
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(pad("日本語", 4), "日… ");
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(cut_front("engine::reload", 8), "…:reload");
        assert_eq!(cut_front("日本語", 4), "…語");
    }

    #[test]
    fn a_name_keeps_its_beginning_and_its_end() {
        assert_eq!(cut_name("subsystem-of-audio-14", 12), "subsys…io-14");
        assert_eq!(cut_name("日本語の名前", 8), "日本…前");
        assert_eq!(cut_name("world", 5), "world");
        assert_eq!([0, 1, 2].map(|width| cut_name("world", width)), ["", "…", "w…"]);
        assert_eq!(pad_name("日本語の名前", 6), "日…前 ");
    }

    #[test]
    fn rows_begin_with_whole_words_if_possible() {
        assert_eq!(row_starts("one two three", 7), [8]);
        assert_eq!(row_starts("one two three", 8), [8]);
        assert_eq!(row_starts("a longest word", 4), [2, 6, 10]);
        assert_eq!(row_starts("日本語", 4), [2]);
        assert_eq!(row_starts("short", 9), [0; 0]);
    }

    #[test]
    fn words_stay_whole_if_they_fit() {
        assert_eq!(wrap_words("  one two three", 9), ["  one two", "  three"]);
        assert_eq!(wrap_words("one", 9), ["one"]);
        assert_eq!(wrap_words("", 9), [""]);
        assert_eq!(wrap_words("abcdefgh ij", 5), ["abcde", "fgh", "ij"]);
        assert_eq!(wrap("日本語", 5), ["日本", "語"]);
        assert_eq!(wrap("日本", 1), ["日", "本"]);
    }
}
