//! The choice of a host to attach to.

use ratatui::Frame;
use ratatui::text::Line;

use super::overlay::draw_box;
use super::text::{cut, pad};
use super::theme::Theme;
use crate::format;
use crate::screen::model::picker::Picker;

/// Draws the choice on the whole screen.
pub fn draw_picker(frame: &mut Frame<'_>, picker: &Picker, now_ms: u64, theme: &Theme) {
    let width = usize::from(frame.area().width).saturating_sub(6);
    let names = picker.hosts().iter().map(|host| format::width(&host.name));
    let name_width = names.max().unwrap_or(0);
    let rows = picker.hosts().iter().enumerate().map(|(position, host)| {
        let up = format::duration(now_ms.saturating_sub(host.started_at_ms));
        let text = format!(
            "{}  pid {:<8} up {up:<8} {}",
            pad(&host.name, name_width),
            host.pid,
            host.plugin_dir.display()
        );
        let style = if position == picker.selected_index() { theme.selected } else { theme.plain };
        Line::styled(cut(&text, width), style)
    });
    let mut lines: Vec<Line<'_>> = rows.collect();
    if lines.is_empty() {
        lines.push(Line::raw("No host runs any more. Hosts that start are shown here."));
    }
    let top = picker.selected_index().saturating_sub(usize::from(frame.area().height / 2));
    let hint = "↑ ↓ choose   Enter attaches   q quits";
    draw_box(frame, "Attach to", lines, top, hint, theme.focused_border, theme);
    if theme.is_ascii {
        super::ascii::replace(frame.buffer_mut());
    }
}
