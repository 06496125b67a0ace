//! Text in columns.

use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::format::RowBreaks;
pub(super) use crate::format::{wrap, wrap_words};

/// The text cut to at most `width` columns; a cut one ends in `…`.
pub(super) fn cut(text: &str, width: usize) -> String {
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
pub(super) fn cut_front(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let reversed: String = text.chars().rev().collect();
    cut(&reversed, width).chars().rev().collect()
}

/// The text in exactly `width` columns.
pub(super) fn pad(text: &str, width: usize) -> String {
    let text = cut(text, width);
    let missing = width.saturating_sub(text.width());
    text + &" ".repeat(missing)
}

/// The text in exactly `width` columns, at their right end.
pub(super) fn pad_left(text: &str, width: usize) -> String {
    let text = cut(text, width);
    let missing = width.saturating_sub(text.width());
    " ".repeat(missing) + &text
}

/// Spans cut to at most `width` columns; cut ones end in `…`.
pub(super) fn cut_spans(spans: Vec<Span<'static>>, width: usize) -> Vec<Span<'static>> {
    if spans.iter().map(Span::width).sum::<usize>() <= width {
        return spans;
    }
    let mut first = wrap_spans(spans, width.saturating_sub(1).max(1)).swap_remove(0);
    if width > 1 {
        first.push(Span::raw("…"));
    }
    first
}

/// The line as the selected one, over its whole width.
pub(super) fn selected(mut line: Line<'static>, width: usize, style: Style) -> Line<'static> {
    for span in &mut line.spans {
        span.style = line.style.patch(span.style).patch(style);
    }
    let missing = width.saturating_sub(line.width());
    line.push_span(Span::styled(" ".repeat(missing), style));
    line
}

/// Spans in lines of at most `width` columns, broken where the columns end.
pub(super) fn wrap_spans(spans: Vec<Span<'static>>, width: usize) -> Vec<Vec<Span<'static>>> {
    let mut breaks = RowBreaks::of_width(width);
    let mut lines = vec![Vec::new()];
    for span in spans {
        let mut text = String::new();
        for c in span.content.chars() {
            if breaks.is_before(c) {
                if let Some(line) = lines.last_mut() {
                    line.push(Span::styled(std::mem::take(&mut text), span.style));
                }
                lines.push(Vec::new());
            }
            text.push(c);
        }
        if let Some(line) = lines.last_mut() {
            line.push(Span::styled(text, span.style));
        }
    }
    lines
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
}
