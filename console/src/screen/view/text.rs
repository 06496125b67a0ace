//! Styled text in columns.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::format::{RowBreaks, row_starts};
pub(super) use crate::format::{cut, cut_front, pad, pad_left, pad_name, wrap, wrap_words};

/// Cuts spans to at most `width` columns. A cut text ends in `…`.
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

/// The line in the style of the selection, over its whole width.
pub(super) fn selected(mut line: Line<'static>, width: usize, style: Style) -> Line<'static> {
    for span in &mut line.spans {
        span.style = line.style.patch(span.style).patch(style);
    }
    let missing = width.saturating_sub(line.width());
    line.push_span(Span::styled(" ".repeat(missing), style));
    line
}

/// Wraps spans into rows of at most `width` columns, between words if possible.
pub(super) fn wrap_spans_at_words(
    spans: Vec<Span<'static>>,
    width: usize,
) -> Vec<Vec<Span<'static>>> {
    let text: String = spans.iter().map(|span| span.content.as_ref()).collect();
    let mut starts = row_starts(&text, width).into_iter().peekable();
    let mut rows = vec![Vec::new()];
    let mut place = 0;
    for span in spans {
        let mut part = String::new();
        for c in span.content.chars() {
            if starts.next_if_eq(&place).is_some() {
                let ended = Span::styled(std::mem::take(&mut part), span.style);
                rows.last_mut().into_iter().for_each(|row: &mut Vec<_>| row.push(ended.clone()));
                rows.push(Vec::new());
            }
            part.push(c);
            place += 1;
        }
        if let Some(row) = rows.last_mut() {
            row.push(Span::styled(part, span.style));
        }
    }
    rows
}

/// Wraps spans into lines of at most `width` columns, also within words.
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
