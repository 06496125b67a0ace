//! The Live tab.

use ratatui::Frame;
use ratatui::layout::Rect;

use super::theme::Theme;
use super::{draw_empty, tree};
use crate::screen::layout::Panel;
use crate::screen::model::State;
use crate::screen::model::live::COLUMNS;
use crate::screen::model::tree::TreeTab as _;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    if let Some(error) = state.live.error() {
        return draw_empty(frame, area, &error.to_string(), theme);
    }
    let rows = state.live.rows();
    if rows.is_empty() {
        return draw_empty(frame, area, "the host has not shown its live tables yet", theme);
    }
    let selected = state.live.selected(&rows);
    let has_focus = state.focus == Panel::Tabs;
    let columns = (&COLUMNS[..], &[4, 3, 2][..], 1);
    tree::draw(frame, area, columns, (&rows, selected), has_focus, theme);
}
