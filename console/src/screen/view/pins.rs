//! The pinned calls, below the functions and in a box.

use hotswap_protocol::PinnedCall;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::draw_rule;
use super::plugins::row_of;
use super::text::{cut, pad};
use super::theme::Theme;
use crate::format;
use crate::screen::input::action::Action;
use crate::screen::model::State;

/// The maximum number of pinned calls below the functions.
const SHOWN: usize = 4;
/// The number of characters before the first difference that are kept when two results are shortened.
const SHOWN_ALIKE: usize = 8;

/// Draws the pinned calls below a rule, and returns the area that is left.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) -> Rect {
    let pins = state.pins.in_order();
    let shown = pins.len().min(SHOWN).min(usize::from(area.height / 3));
    if shown == 0 {
        return area;
    }
    let more = match pins.len() - shown {
        0 => String::new(),
        more => format!(", and {more} more: {}", state.key_of(&Action::ListPins)),
    };
    let title = format!("pinned: called again after every reload{more}");
    draw_rule(frame, row_of(area, 0), &title, theme);
    for (offset, pin) in pins.iter().take(shown).enumerate() {
        let line = line_of(pin, area.width.into(), theme);
        frame.render_widget(line, row_of(area, offset + 1));
    }
    let height = u16::try_from(shown + 1).unwrap_or(u16::MAX);
    Rect { y: area.y + height, height: area.height - height, ..area }
}

/// The lines of the box with all pinned calls.
pub(super) fn lines_in_box(
    state: &State,
    selected: usize,
    width: usize,
    theme: &Theme,
) -> Vec<Line<'static>> {
    let pins = state.pins.in_order();
    if pins.is_empty() {
        let key = state.key_of(&Action::Pin);
        return vec![Line::raw(format!(
            "No call is pinned; {key} pins the call that was made last."
        ))];
    }
    let line = |(position, pin): (usize, &&PinnedCall)| {
        let line = line_of(pin, width, theme);
        match position == selected {
            true => Line::styled(pad(&line.to_string(), width), theme.selected),
            false => line,
        }
    };
    pins.iter().enumerate().map(line).collect()
}

/// A pinned call: ` ≠ world greet("Ada", 2)  v4 "Hello, Ada!" → v5 "HELLO, ADA!"`
fn line_of(pin: &PinnedCall, width: usize, theme: &Theme) -> Line<'static> {
    let style = style_of(pin, theme);
    let call = format!("{} {}", pin.plugin, format::call(&pin.function, &pin.args));
    let call = cut(&call, (width / 2).saturating_sub(4));
    let left = width.saturating_sub(format::width(&call) + 5);
    let answer = match &pin.before {
        Some(before) if pin.is_same == Some(false) => {
            let versions = [before.label(), pin.now.label()].map(|version| format!("{version} "));
            let taken: usize = versions.iter().map(|it| format::width(it)).sum();
            let [was, is] = [before, &pin.now].map(|it| format::pin_outcome(&it.outcome));
            let room = left.saturating_sub(taken + 3) / 2;
            let (was, is) = apart(&was, &is, room);
            format!("{}{was} → {}{is}", versions[0], versions[1])
        }
        _ => {
            let elapsed = pin.now.elapsed_ns.map(format::nanoseconds).unwrap_or_default();
            let given = format::pin_outcome(&pin.now.outcome);
            format!("{}  {elapsed}", cut(&given, left.saturating_sub(format::width(&elapsed) + 2)))
        }
    };
    Line::from(vec![
        Span::styled(format!(" {} ", format::pin_mark(pin)), style),
        Span::raw(format!("{call}  ")),
        Span::styled(answer, if pin.is_same == Some(false) { theme.strong } else { theme.dim }),
    ])
}

fn style_of(pin: &PinnedCall, theme: &Theme) -> Style {
    match pin.is_same {
        Some(false) => theme.warning,
        Some(true) => theme.good,
        None => theme.dim,
    }
}

/// Shortens two texts to `width` columns each. If the difference would be cut off, the common beginning is left out.
fn apart(a: &str, b: &str, width: usize) -> (String, String) {
    let alike = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let fits = format::width(a) <= width && format::width(b) <= width;
    if fits || alike <= SHOWN_ALIKE {
        return (cut(a, width), cut(b, width));
    }
    let from_there = |text: &str| {
        let rest: String = text.chars().skip(alike - SHOWN_ALIKE).collect();
        cut(&format!("…{rest}"), width)
    };
    (from_there(a), from_there(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_texts_are_cut_so_that_their_difference_is_visible() {
        let [a, b] = ["one", "two"].map(|end| format!("the same long beginning, {end}"));
        assert_eq!(apart(&a, &b, 14), ("…inning, one".to_owned(), "…inning, two".to_owned()));
        assert_eq!(apart("short", "shore", 14), ("short".to_owned(), "shore".to_owned()));
    }
}
