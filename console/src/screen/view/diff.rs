//! Differences: the Diff tab, and the preview of a reload.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line as Text, Span};

use super::plugins::row_of;
use super::text::{cut, selected};
use super::theme::Theme;
use super::{draw_empty, draw_rule};
use crate::compare::preview::{Line, Sort};
use crate::screen::layout::{Panel, boxes};
use crate::screen::model::State;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let Some(lines) = state.diff.lines() else {
        let text = match state.plugins.selected() {
            Some(_) => "comparing …",
            None => "no plugin is selected",
        };
        return draw_empty(frame, area, text, theme);
    };
    let height = usize::from(area.height);
    let width = usize::from(area.width).saturating_sub(1);
    let top = state.diff.top(height);
    let has_focus = state.focus == Panel::Tabs;
    for (offset, line) in lines.iter().skip(top).take(height).enumerate() {
        let row = row_of(area, offset);
        let is_selected = state.diff.selected() == top + offset && has_focus;
        if line.sort == Sort::Heading && !is_selected {
            draw_rule(frame, row, &line.text, theme);
            continue;
        }
        let text = cut(&format!(" {}", line.text), width);
        let text = Text::from(Span::styled(text, style(line.sort, theme)));
        frame.render_widget(
            match is_selected {
                true => selected(text, area.width.into(), theme.selected),
                false => text,
            },
            row,
        );
    }
}

/// The lines in a box on a screen of this width, wrapped.
pub(super) fn in_box(lines: &[Line], screen_width: u16, theme: &Theme) -> Vec<Text<'static>> {
    let styled = lines.iter().flat_map(|line| {
        let style = style(line.sort, theme);
        let rows = boxes::preview(&line.text, screen_width);
        rows.into_iter().map(move |text| Text::styled(text, style))
    });
    styled.collect()
}

fn style(sort: Sort, theme: &Theme) -> Style {
    match sort {
        Sort::Heading => theme.strong,
        Sort::Added => theme.good,
        Sort::Removed => theme.bad.remove_modifier(Modifier::BOLD),
        Sort::Changed => theme.warning,
        Sort::Breaking | Sort::Error => theme.bad,
        Sort::Plain => theme.plain,
        Sort::Note => theme.dim,
    }
}
