//! The Vault tab.

use ratatui::Frame;
use ratatui::layout::Rect;

use super::theme::Theme;
use super::{draw_empty, tree};
use crate::screen::layout::Panel;
use crate::screen::model::State;
use crate::screen::model::tree::TreeTab as _;
use crate::screen::model::vault::COLUMNS;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    if let Some(error) = state.vault.error() {
        return draw_empty(frame, area, &error.to_string(), theme);
    }
    let rows = state.vault.rows();
    if rows.is_empty() {
        return draw_empty(frame, area, "the host has not shown its Vault yet", theme);
    }
    let selected = state.vault.selected(&rows);
    let has_focus = state.focus == Panel::Tabs;
    let columns = (&COLUMNS[..], &[3, 2, 1][..], 4);
    tree::draw(frame, area, columns, (&rows, selected), has_focus, theme);
}
