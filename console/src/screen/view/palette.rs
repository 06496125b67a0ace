//! The palette: the typed text, and the commands and places that match it.

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::text::{Line, Span};
use tui_input::Input;

use super::overlay::draw_box;
use super::text::{cut, pad};
use super::theme::Theme;
use crate::screen::model::State;
use crate::screen::model::palette::{Choice, Palette, command_line};

const HINT_WIDTH: usize = 28;
const KEYS_WIDTH: usize = 12;
/// The maximum width. A wider box would only have more blanks.
const MOST_WIDTH: usize = 96;
/// The number of lines of the border, the margins and the input.
const LINES_AROUND: usize = 6;

pub(super) fn draw(frame: &mut Frame<'_>, palette: &Palette, state: &State, theme: &Theme) {
    let screen = frame.area();
    let width = usize::from(screen.width).saturating_sub(6).min(MOST_WIDTH);
    // The height does not depend on the matches, so that the box does not jump during typing.
    let page = usize::from(screen.height * 2 / 3).saturating_sub(LINES_AROUND).max(1);
    let input = format!("> {}", palette.input.value());
    let mut lines = vec![Line::styled(pad(&input, width), theme.strong), Line::default()];
    let commands = palette.matches();
    if commands.is_empty() {
        lines.push(Line::styled("nothing has this in its name", theme.dim));
    }
    let labels: Vec<_> = state.keymap.labels().collect();
    let top = (palette.selected + 1).saturating_sub(page);
    for (offset, choice) in commands.into_iter().skip(top).take(page).enumerate() {
        let (keys, twin) = match choice {
            Choice::Command(command) => {
                let keys = labels.iter().find(|(other, _)| other.name == command.name);
                let keys = keys.map_or_else(String::new, |(_, labels)| labels.join(" "));
                (keys, command_line(state, &command.action).unwrap_or_default())
            }
            Choice::Destination(_) => (String::new(), String::new()),
        };
        let hint = cut(&choice.hint(), HINT_WIDTH + KEYS_WIDTH);
        let lead = format!("{} {} ", pad(&hint, HINT_WIDTH), pad(&keys, KEYS_WIDTH));
        let twin = cut(&twin, width.saturating_sub(HINT_WIDTH + KEYS_WIDTH + 2));
        lines.push(if top + offset == palette.selected {
            Line::styled(pad(&(lead + &twin), width), theme.selected)
        } else {
            Line::from(vec![Span::raw(lead), Span::styled(twin, theme.dim)])
        });
    }
    lines.resize_with(page + 2, Line::default);
    let hint = if palette.input.value().is_empty() {
        "Enter does it   y copies the command line   Esc closes"
    } else {
        "Enter does it   Ctrl-Y copies the command line   Esc closes"
    };
    let area = draw_box(frame, "Commands", lines, 0, hint, theme.focused_border, theme);
    set_cursor(frame, area, &palette.input);
}

/// Puts the cursor to the place of the next letter, after `> `.
pub(super) fn set_cursor(frame: &mut Frame<'_>, area: Rect, input: &Input) {
    let column = u16::try_from(input.visual_cursor() + 2).unwrap_or(u16::MAX);
    if area.width > 0 && area.height > 0 {
        let x = area.x.saturating_add(column).min(area.right() - 1);
        frame.set_cursor_position(Position::new(x, area.y));
    }
}
