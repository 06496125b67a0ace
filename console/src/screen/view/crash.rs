//! The report on a host that ended by itself.

use hotswap_protocol::InFlightCall;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::text::{cut, wrap_words};
use super::theme::Theme;
use crate::screen::model::State;
use crate::screen::model::crash::CrashCard;

/// The maximum number of the host's last log lines in the report.
const LAST_LINES: usize = 8;
/// The number of lines of the report's frame.
const FRAME: usize = 5;
/// The maximum number of calls in the report.
const CALLS: usize = 4;

/// The keys of the report.
pub(super) fn hint(card: &CrashCard) -> &'static str {
    match (card.can_start, &card.good) {
        (true, Some(_)) => "H starts it with these   A as it was   Esc closes   q quits",
        (true, None) => "H starts it again   Esc closes   q quits",
        (false, _) => "Esc closes   q quits",
    }
}

fn calls(calls: Option<&[InFlightCall]>, width: usize) -> Vec<String> {
    let Some(calls) = calls else {
        return vec!["not known: it kept no record of its calls".into()];
    };
    if calls.is_empty() {
        return vec!["no call; async functions that wait are not noted".into()];
    }
    let shown = calls.iter().take(CALLS).map(|call| cut(&call.to_string(), width));
    let more = calls.len().saturating_sub(CALLS);
    let more = (more > 0).then(|| format!("and {more} more"));
    shown.chain(more).collect()
}

pub(super) fn lines(
    card: &CrashCard,
    state: &State,
    screen: Rect,
    theme: &Theme,
) -> Vec<Line<'static>> {
    let width = usize::from(screen.width).saturating_sub(10).clamp(1, 100);
    let who = card.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
    let mut lines = vec![Line::from(vec![
        Span::raw(format!("{}{who} ended with ", state.host.name)),
        Span::styled(card.exit.to_string(), theme.bad),
    ])];
    let mut part = |title: &str, text: Vec<String>| {
        lines.push(Line::default());
        lines.push(Line::styled(title.to_owned(), theme.dim));
        lines.extend(text.into_iter().map(|text| Line::raw(format!("  {text}"))));
    };
    if let Some(sender) = card.exit.sender() {
        part("From outside the program", wrap_words(sender, width));
    }
    let loaded = if card.loaded.is_empty() { "nothing".to_owned() } else { card.loaded.join(", ") };
    part("Versions", wrap_words(&loaded, width));
    part("Calls in flight", calls(card.calls.as_deref(), width));
    if !card.loads.is_empty() {
        let what_next = match card.leaves_out {
            true => "; a start leaves this build out",
            false => "",
        };
        let text = format!("{}{what_next}", card.loads.join(", "));
        part("It ended in", wrap_words(&text, width));
    }
    if let Some(good) = &card.good {
        part("It was well before the last reload, with", wrap_words(&good.text, width));
    }
    if !card.can_start {
        let text = "It was not started here. When it comes back the console attaches again.";
        part("To start it again", wrap_words(text, width));
    }
    let room = usize::from(screen.height).saturating_sub(lines.len() + FRAME + 2);
    let last = state.logs.newest(LAST_LINES.min(room));
    let last: Vec<String> = last.map(|row| cut(&row.to_text(), width)).collect();
    if !last.is_empty() {
        lines.push(Line::default());
        lines.push(Line::styled("Its last lines", theme.dim));
        lines.extend(last.into_iter().map(|text| Line::raw(format!("  {text}"))));
    }
    lines
}
