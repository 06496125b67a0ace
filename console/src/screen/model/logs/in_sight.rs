//! The visible rows of the log.

use ratatui::layout::Rect;

use super::{LogRow, Logs};
use crate::format::row_starts;

/// The width of the columns before a line's text: time, level and writer.
pub const LEAD_WIDTH: usize = 30;

/// A row of the panel: the position of its line among the lines that pass the filter, and the row's index within
/// the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The line's position.
    pub position: usize,
    /// The index of the row within the line; a line that is not wrapped has one row.
    pub part: usize,
}

/// The rows that fit, with the newest or the selected line among them.
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
    // Upwards from the newest line, or from the selected one.
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

/// For a line with more rows than fit, the first visible row when its end is visible; otherwise `None`.
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

/// The width of a line's text in a panel of this width.
pub fn text_width(width: usize) -> usize {
    width.saturating_sub(LEAD_WIDTH)
}
