//! The Build tab: the output of cargo, in its own colours.

use ansi_to_tui::IntoText;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::draw_empty;
use super::plugins::row_of;
use super::text::{cut_spans, selected};
use super::theme::Theme;
use crate::screen::layout::Panel;
use crate::screen::model::State;
use crate::screen::model::build::LineSort;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let lines = state.builds.lines();
    if lines.is_empty() {
        let attached = "the console is attached to this host, and neither watches nor builds\n\
                        `hotswap build PLUGIN DIR` builds, and r reloads";
        let text = match state.is_attached() {
            true => attached,
            false => "nothing was built yet\nb builds the selected plugin",
        };
        return draw_empty(frame, area, text, theme);
    }
    let height = usize::from(area.height);
    let top = state.builds.top(height);
    let style = theme.selection(state.focus == Panel::Tabs);
    for (offset, line) in lines.iter().skip(top).take(height).enumerate() {
        let width = usize::from(area.width);
        let text = match line.sort {
            LineSort::Heading => heading(&line.text, width, theme),
            LineSort::Error | LineSort::Plain => {
                Line::from(cut_spans(coloured(&line.text, theme).spans, width))
            }
        };
        let is_selected = state.builds.selected() == Some(top + offset);
        let text = if is_selected { selected(text, width, style) } else { text };
        frame.render_widget(text, row_of(area, offset));
    }
}

fn heading(text: &str, width: usize, theme: &Theme) -> Line<'static> {
    let title = super::text::cut(&format!("── {text} "), width);
    let rest = "─".repeat(width.saturating_sub(crate::format::width(&title)));
    Line::from(vec![Span::styled(title, theme.strong), Span::styled(rest, theme.border)])
}

/// The line in the colours of cargo's output.
fn coloured(text: &str, theme: &Theme) -> Line<'static> {
    let parsed = text.into_text().ok().and_then(|text| text.lines.into_iter().next());
    let Some(mut line) = parsed else { return Line::raw(text.to_owned()) };
    line.spans.insert(0, Span::raw(" "));
    if !theme.has_colours {
        for span in &mut line.spans {
            span.style = Style { fg: None, bg: None, ..span.style };
        }
    }
    line
}
