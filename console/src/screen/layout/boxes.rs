//! The boxes of overlays: how their text is wrapped, and how many of its rows are visible.

use crate::format::wrap_words;

/// A border and a blank line, above and below the text.
const FRAME_HEIGHT: u16 = 4;
/// A border and two blanks at each side of the text, and some columns of the screen beside the box.
const FRAME_WIDTH: u16 = 8;
/// The maximum width of a text. Longer lines are hard to read.
const WIDEST_DETAILS: u16 = 100;
const WIDEST_PREVIEW: u16 = 110;

/// On narrower screens the help has one column.
const LEAST_FOR_TWO: u16 = 110;
/// The gap between two columns.
pub const COLUMN_GAP: u16 = 3;

/// The number of columns of the help on a screen of this width, and the width of each.
pub fn help_columns(screen_width: u16) -> (usize, usize) {
    let width = screen_width.saturating_sub(FRAME_WIDTH);
    match screen_width >= LEAST_FOR_TWO {
        true => (2, usize::from((width - COLUMN_GAP) / 2)),
        false => (1, width.into()),
    }
}

/// The number of visible rows of a text on a screen of this height.
pub fn page(screen_height: u16) -> usize {
    screen_height.saturating_sub(FRAME_HEIGHT).max(1).into()
}

/// The rows of a text in a box on a screen of this width.
pub fn details(lines: &[String], screen_width: u16) -> Vec<String> {
    let width = width(screen_width, WIDEST_DETAILS);
    lines.iter().flat_map(|line| wrap_words(line, width)).collect()
}

/// The rows of one line of a preview on a screen of this width.
pub fn preview(line: &str, screen_width: u16) -> Vec<String> {
    wrap_words(line, width(screen_width, WIDEST_PREVIEW))
}

fn width(screen_width: u16, widest: u16) -> usize {
    screen_width.saturating_sub(FRAME_WIDTH).clamp(1, widest).into()
}
