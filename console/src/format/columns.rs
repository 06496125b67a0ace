//! Text in columns of the terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How many columns the text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// Where text breaks into rows of so many columns: between any two characters.
pub struct RowBreaks {
    width: usize,
    used: usize,
}

impl RowBreaks {
    /// Of a text that has not begun, in rows of at least one column.
    pub fn of_width(width: usize) -> Self {
        Self { width: width.max(1), used: 0 }
    }

    /// Whether the next character of the text begins another row.
    pub fn is_before(&mut self, next: char) -> bool {
        let columns = next.width().unwrap_or(0);
        let breaks = self.used + columns > self.width && self.used > 0;
        self.used = if breaks { columns } else { self.used + columns };
        breaks
    }
}

/// The text in lines of at most `width` columns, broken where the columns end.
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

/// Where rows of at most `width` columns begin in a text but for the first, as numbers of characters: behind the
/// last blank of the row before, where it has one.
pub fn row_starts(text: &str, width: usize) -> Vec<usize> {
    let width = width.max(1);
    let (mut starts, mut used) = (Vec::new(), 0);
    // Where a word begins in this row, and how many columns are before it.
    let mut word: Option<(usize, usize)> = None;
    for (place, c) in text.chars().enumerate() {
        let columns = c.width().unwrap_or(0);
        if used + columns > width && used > 0 && c != ' ' {
            let (start, before) = word.take().unwrap_or((place, used));
            starts.push(start);
            used -= before;
        }
        used += columns;
        // A blank that has no room is not seen.
        if c == ' ' {
            word = Some((place + 1, used));
        }
    }
    starts
}

/// The text in lines of at most `width` columns, broken between words where it has any; what
/// follows is indented as the text is.
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
    // A word that is longer than a line.
    lines.iter().flat_map(|line| wrap(line.trim_end(), width)).collect()
}

/// The text cut to at most `width` columns; a cut one ends in `…`.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let kept: String = text
        .chars()
        .take_while(|c| match left.checked_sub(c.width().unwrap_or(0)) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        })
        .collect();
    if width == 0 { String::new() } else { kept + "…" }
}

/// The text cut to at most `width` columns; a cut one begins with `…`.
pub fn cut_front(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let reversed: String = text.chars().rev().collect();
    cut(&reversed, width).chars().rev().collect()
}

/// The text in exactly `width` columns.
pub fn pad(text: &str, width: usize) -> String {
    let text = cut(text, width);
    let missing = width.saturating_sub(text.width());
    text + &" ".repeat(missing)
}

/// The text in exactly `width` columns, at their right end.
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
    }

    #[test]
    fn rows_begin_with_words_where_there_are_some() {
        assert_eq!(row_starts("one two three", 7), [8]);
        assert_eq!(row_starts("one two three", 8), [8]);
        assert_eq!(row_starts("a longest word", 4), [2, 6, 10]);
        assert_eq!(row_starts("日本語", 4), [2]);
        assert_eq!(row_starts("short", 9), [0; 0]);
    }

    #[test]
    fn words_stay_whole_where_they_fit() {
        assert_eq!(wrap_words("  one two three", 9), ["  one two", "  three"]);
        assert_eq!(wrap_words("one", 9), ["one"]);
        assert_eq!(wrap_words("", 9), [""]);
        assert_eq!(wrap_words("abcdefgh ij", 5), ["abcde", "fgh", "ij"]);
        assert_eq!(wrap("日本語", 5), ["日本", "語"]);
        assert_eq!(wrap("日本", 1), ["日", "本"]);
    }
}
