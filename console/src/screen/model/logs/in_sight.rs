//! Which lines of the log are in sight, and in how many rows each.

use ratatui::layout::Rect;

use super::{LogRow, Logs};
use crate::format::row_starts;

/// So many columns before a line's text tell when, how grave, and by whom.
pub const LEAD_WIDTH: usize = 30;

/// A row of the panel: the position of its line among those that the filter shows, and which of the
/// line's rows it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The line's position.
    pub position: usize,
    /// Which of its rows; a line that is not wrapped has one.
    pub part: usize,
}

/// The rows that fit, so that the newest or the selected line is among them.
pub fn rows(logs: &Logs, inside: Rect) -> Vec<Row> {
    let (width, height) = (usize::from(inside.width), usize::from(inside.height));
    if let Some(cursor) = logs.cursor()
        && let Some(last) = last_part(logs, cursor, inside)
    {
        let first = logs.part().min(last);
        return (first..first + height).map(|part| Row { position: cursor, part }).collect();
    }
    let rows_of = |position: usize| {
        let count = logs.row(position).map_or(0, |row| height_of(row, logs.wrap, width));
        (0..count).map(move |part| Row { position, part })
    };
    if let Some(cursor) = logs.cursor() {
        let mut rows = Vec::new();
        let mut cursor_is_visible = false;
        for position in logs.top()..logs.passing() {
            rows.extend(rows_of(position));
            cursor_is_visible |= position == cursor && rows.len() <= height;
            if rows.len() >= height {
                break;
            }
        }
        rows.truncate(height);
        if cursor_is_visible {
            return rows;
        }
    }
    // From the newest line, or the selected one, upwards.
    let end = logs.cursor().map_or(logs.passing(), |cursor| cursor + 1);
    let mut upwards = Vec::new();
    for position in (0..end).rev() {
        upwards.extend(rows_of(position).rev());
        if upwards.len() >= height {
            break;
        }
    }
    upwards.truncate(height);
    upwards.reverse();
    upwards
}

/// Of a line that has more rows than there are, the row that is the first one in sight at its end.
pub fn last_part(logs: &Logs, position: usize, inside: Rect) -> Option<usize> {
    let rows = height_of(logs.row(position)?, logs.wrap, inside.width.into());
    rows.checked_sub(inside.height.into()).filter(|last| *last > 0)
}

fn height_of(row: &LogRow, is_wrapped: bool, width: usize) -> usize {
    if !is_wrapped || row.origin.is_marker() {
        return 1;
    }
    1 + row_starts(&row.text, text_width(width)).len()
}

/// How many columns of a row of the panel a line's text has.
pub fn text_width(width: usize) -> usize {
    width.saturating_sub(LEAD_WIDTH)
}
