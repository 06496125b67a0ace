//! The Vault tab.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::draw_empty;
use super::plugins::row_of;
use super::text::cut;
use super::theme::Theme;
use crate::state::State;
use crate::state::vault::VaultLine;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let lines = state.vault.lines();
    if lines.is_empty() {
        return draw_empty(frame, area, "the host has not shown its Vault yet", theme);
    }
    let height = usize::from(area.height);
    let width = usize::from(area.width).saturating_sub(1);
    let top = state.vault.top.min(lines.len().saturating_sub(height));
    for (offset, line) in lines.iter().skip(top).take(height).enumerate() {
        frame.render_widget(styled(line, width, theme), row_of(area, offset));
    }
}

fn styled(line: &VaultLine, width: usize, theme: &Theme) -> Line<'static> {
    let joined = |cells: &[String]| cut(&format!("   {}", cells.join("  ")), width);
    match line {
        VaultLine::Heading(text) => Line::styled(cut(&format!(" {text}"), width), theme.strong),
        VaultLine::Columns(cells) => Line::styled(joined(cells), theme.dim),
        VaultLine::Cells(cells) => Line::from(Span::raw(joined(cells))),
        VaultLine::Text(text) => Line::from(Span::raw(cut(&format!("   {text}"), width))),
        VaultLine::Blank => Line::default(),
    }
}
