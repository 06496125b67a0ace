//! The two lowest lines: the running job and what happened last; the keys that apply now.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::text::{cut, pad_left};
use super::theme::Theme;
use crate::action::{Action, BINDINGS, Scope};
use crate::format;
use crate::session::Job;
use crate::state::{Phase, RunningJob, State};

const SPINNER: [char; 4] = ['◐', '◓', '◑', '◒'];
/// A turn of the spinner takes this long per figure.
const SPINNER_MS: u64 = 200;

pub(super) fn draw_job(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let width = usize::from(area.width);
    let job = match &state.job {
        Some(_) if state.quitting => " ending the host …".into(),
        Some(job) => job_text(job, state.now_ms),
        None if state.quitting => " ending the host …".into(),
        None => String::new(),
    };
    let job = cut(&job, width);
    let left = width.saturating_sub(format::width(&job) + 2);
    let mut line = Line::from(Span::raw(job));
    if let Some(notice) = &state.notice {
        let (mark, style) = if notice.is_error { ("✘", theme.bad) } else { ("✔", theme.good) };
        let text = cut(&format!("{mark} {}", notice.text), left);
        line.push_span(Span::styled(pad_left(&text, left + 1), style));
    }
    frame.render_widget(line, area);
}

/// ` ◐ build cat 63 %  4.1 s  x cancels`
fn job_text(job: &RunningJob, now_ms: u64) -> String {
    let elapsed_ms = now_ms.saturating_sub(job.started_ms);
    let figure = usize::try_from(elapsed_ms / SPINNER_MS).unwrap_or(0) % SPINNER.len();
    let mut text = format!(" {} {}", SPINNER[figure], job.job);
    match job.progress {
        Some((done, Some(total))) if total > 0 => {
            text.push_str(&format!(" {} %", (done * 100 / total).min(100)));
        }
        Some((done, _)) => text.push_str(&format!(" {done} crates")),
        None => {}
    }
    if elapsed_ms >= 1000 {
        text.push_str(&format!("  {}.{} s", elapsed_ms / 1000, elapsed_ms / 100 % 10));
    }
    if matches!(job.job, Job::BuildHost | Job::BuildPlugin(_) | Job::StartHost) {
        text.push_str("  x cancels");
    }
    text
}

pub(super) fn draw_keys(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    if state.searching.is_some() {
        let text = " type what lines must contain   Enter keeps it   Esc clears it";
        let line = Line::styled(cut(text, area.width.into()), theme.dim);
        return frame.render_widget(line, area);
    }
    let mut line = Line::default();
    let mut left = usize::from(area.width).saturating_sub(1);
    // The way to all other keys is kept free.
    const HELP: &str = "  ? help";
    for (label, hint) in hints(state) {
        let needed = 2 + format::width(label) + 1 + format::width(hint);
        if needed + HELP.len() > left {
            break;
        }
        left -= needed;
        line.push_span(Span::raw(if line.spans.is_empty() { " " } else { "  " }));
        line.push_span(Span::styled(label, theme.key));
        line.push_span(Span::raw(format!(" {hint}")));
    }
    if left >= HELP.len() {
        line.push_span(Span::raw("  "));
        line.push_span(Span::styled("?", theme.key));
        line.push_span(Span::raw(" help"));
    }
    frame.render_widget(line, area);
}

/// The keys that make sense now, the narrowest scope first.
fn hints(state: &State) -> impl Iterator<Item = (&'static str, &'static str)> {
    const SELDOM: [&str; 4] = ["cancel job", "restart host", "zoom", "quit"];
    let scopes = state.scopes();
    let (has_job, has_ended) = (state.job.is_some(), state.host.phase == Phase::Ended);
    let applies = move |action: &Action| match action {
        Action::Cancel => has_job,
        Action::Restart => has_ended,
        Action::Help | Action::Move(_) => false,
        _ => true,
    };
    scopes.iter().flat_map(move |scope| {
        BINDINGS
            .iter()
            .filter(move |binding| binding.scope == *scope && applies(&binding.action))
            .filter(|binding| binding.scope != Scope::Anywhere || SELDOM.contains(&binding.hint))
            .map(|binding| (binding.label, binding.hint))
    })
}
