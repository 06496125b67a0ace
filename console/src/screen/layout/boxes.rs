//! The boxes that lie over the panels: how their text is wrapped, and how much of it is in sight.

use crate::format::wrap_words;

/// A border and a blank line above the text, and below it.
const FRAME_HEIGHT: u16 = 4;
/// A border and two blanks before the text, and after it; the screen shows beside the box.
const FRAME_WIDTH: u16 = 8;
/// Longer lines are hard to read.
const WIDEST_DETAILS: u16 = 100;
const WIDEST_PREVIEW: u16 = 110;

/// On narrower screens the help has one column.
const LEAST_FOR_TWO: u16 = 110;
/// What lies between two columns.
pub const COLUMN_GAP: u16 = 3;

/// How many columns the help has on a screen of this width, and how wide each is.
pub fn help_columns(screen_width: u16) -> (usize, usize) {
    let width = screen_width.saturating_sub(FRAME_WIDTH);
    match screen_width >= LEAST_FOR_TWO {
        true => (2, usize::from((width - COLUMN_GAP) / 2)),
        false => (1, width.into()),
    }
}

/// How many rows of a text are in sight on a screen of this height.
pub fn page(screen_height: u16) -> usize {
    screen_height.saturating_sub(FRAME_HEIGHT).max(1).into()
}

/// The rows of a text that a screen of this width shows in a box.
pub fn details(lines: &[String], screen_width: u16) -> Vec<String> {
    let width = width(screen_width, WIDEST_DETAILS);
    lines.iter().flat_map(|line| wrap_words(line, width)).collect()
}

/// The rows of one line of a preview.
pub fn preview(line: &str, screen_width: u16) -> Vec<String> {
    wrap_words(line, width(screen_width, WIDEST_PREVIEW))
}

fn width(screen_width: u16, widest: u16) -> usize {
    screen_width.saturating_sub(FRAME_WIDTH).clamp(1, widest).into()
}
