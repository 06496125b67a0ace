//! The two lowest lines: the running job or the notice, and the keys that apply now.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::text::{cut, pad_left};
use super::theme::Theme;
use crate::format;
use crate::screen::input::action::{Action, Command, Scope};
use crate::screen::layout::Panel;
use crate::screen::model::crash::CrashCard;
use crate::screen::model::form::Form;
use crate::screen::model::help;
use crate::screen::model::overlay::Overlay;
use crate::screen::model::preview::PreviewCard;
use crate::screen::model::{NoticeSort, Phase, RunningJob, SearchField, State};
use crate::session::Job;

const SPINNER: [char; 4] = ['◐', '◓', '◑', '◒'];
/// The time of one figure of the spinner, in milliseconds.
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
        let (mark, style) = notice_style(notice.sort, theme);
        let more = match state.waiting_notices.len() {
            0 => String::new(),
            count => format!("  +{count}: {}", state.key_of(&Action::Messages)),
        };
        let room = left.saturating_sub(format::width(&more));
        let text = cut(&format!("{mark} {}", format::in_one_line(&notice.text)), room) + &more;
        line.push_span(Span::styled(pad_left(&text, left + 1), style));
    }
    frame.render_widget(line, area);
}

/// The mark of a notice, and its style.
pub(super) fn notice_style(sort: NoticeSort, theme: &Theme) -> (&'static str, Style) {
    match sort {
        NoticeSort::Done => ("✔", theme.good),
        NoticeSort::Note => ("·", theme.plain),
        NoticeSort::Warning => ("▲", theme.warning),
        NoticeSort::Failure => ("✘", theme.bad),
    }
}

/// The running job: ` ◐ build cat 63 %  4.1 s  x cancels`
fn job_text(job: &RunningJob, now_ms: u64) -> String {
    let elapsed_ms = now_ms.saturating_sub(job.started_ms);
    let figure = usize::try_from(elapsed_ms / SPINNER_MS).unwrap_or(0) % SPINNER.len();
    let mut text = format!(" {} {job}", SPINNER[figure]);
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
    if matches!(job.jobs[..], [Job::BuildHost | Job::BuildPlugin(_) | Job::StartHost, ..]) {
        text.push_str("  x cancels");
    }
    text
}

/// The keys while a text is typed.
const SEARCH_KEYS: &[(&str, &str)] =
    &[("Enter", "keeps the filter"), ("Tab", "only matches / mark matches"), ("Esc", "clears it")];
const FILTER_KEYS: &[(&str, &str)] = &[("Enter", "keeps the filter"), ("Esc", "clears it")];
const LINE_KEYS: &[(&str, &str)] = &[("Enter", "stays there"), ("Esc", "clears it")];
const WRITER_KEYS: &[(&str, &str)] = &[
    ("Enter", "keeps the filter"),
    ("Tab", "completes"),
    ("-name", "leaves it out"),
    ("Esc", "clears it"),
];
const FORM_KEYS: &[(&str, &str)] = &[("Enter", "invoke"), ("Tab", "next"), ("↑", "history")];
const JSON_KEYS: &[(&str, &str)] =
    &[("Enter", "invoke"), ("Alt-Enter", "new line"), ("Tab", "next"), ("↑", "history")];

pub(super) fn draw_keys(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let mut line = Line::raw(" ");
    let mut left = usize::from(area.width).saturating_sub(1);
    let mut push = |label: &str, hint: &str, reserve: usize| {
        let needed = format::width(label) + 1 + format::width(hint) + 2;
        let fits = needed + reserve <= left;
        if fits {
            left -= needed;
            line.push_span(Span::styled(label.to_owned(), theme.key));
            line.push_span(Span::raw(format!(" {hint}  ")));
        }
        fits
    };
    if let Some(overlay) = &state.overlay {
        overlay_keys(overlay).iter().all(|(label, hint)| push(label, hint, 0));
    } else if state.searching.is_some() {
        let keys = match state.searching_in {
            SearchField::Pattern => SEARCH_KEYS,
            SearchField::Writers => WRITER_KEYS,
            SearchField::Plugins | SearchField::Functions | SearchField::Tree => FILTER_KEYS,
            SearchField::Lines => LINE_KEYS,
        };
        keys.iter().all(|(label, hint)| push(label, hint, 0));
    } else if state.form_has_keyboard() {
        if state.functions.has_running_calls() {
            push("Ctrl-C", "cancel call", 0);
        }
        let esc = "close";
        let reserve = format::width(esc) + "Esc".len() + 3;
        let is_json = state.functions.form.as_ref().is_some_and(Form::is_json);
        let keys = if is_json { JSON_KEYS } else { FORM_KEYS };
        keys.iter().all(|(label, hint)| push(label, hint, reserve));
        let of_form: Vec<(&Command, String)> = first_keys(state)
            .filter(|(command, _)| {
                command.scope == Scope::Form && help::makes_sense(state, command)
            })
            .collect();
        of_form.iter().all(|(command, label)| push(label, command.hint, reserve));
        push("Esc", esc, 0);
    } else {
        let keys: Vec<(&Command, String)> = first_keys(state).collect();
        // Room is kept for the palette and the help, which lead to all other keys.
        let (last, others): (Vec<_>, Vec<_>) = keys
            .iter()
            .partition(|(command, _)| matches!(command.action, Action::Palette | Action::Help));
        let width = |(command, label): &&(&Command, String)| {
            format::width(label) + format::width(command.hint) + 3
        };
        let reserve = last.iter().map(width).sum();
        hints(state, &others).all(|(label, hint)| push(label, hint, reserve));
        for (command, label) in last {
            push(label, command.hint, 0);
        }
    }
    frame.render_widget(line, area);
}

/// The keys of an overlay.
fn overlay_keys(overlay: &Overlay) -> &'static [(&'static str, &'static str)] {
    match overlay {
        Overlay::Help { .. } => &[("↑ ↓", "scroll"), ("Esc", "close")],
        Overlay::Details { .. } => &[("↑ ↓", "scroll"), ("y", "copy"), ("Esc", "close")],
        Overlay::Confirm { cancels: true, .. } => {
            &[("c", "cancel the call and free"), ("y", "free when it ends"), ("Esc", "no")]
        }
        Overlay::Confirm { .. } | Overlay::FleetQuestion { .. } => &[("y", "yes"), ("Esc", "no")],
        Overlay::Releases(_) => &[("Enter", "choose"), ("↑ ↓", "go"), ("Esc", "close")],
        Overlay::Input(_) => &[("Enter", "send it"), ("Esc", "close")],
        Overlay::Palette(_) => &[
            ("Enter", "do it"),
            ("↑ ↓", "choose"),
            ("Ctrl-Y", "copy its command line"),
            ("Esc", "close"),
        ],
        Overlay::Rollback(rollback) if rollback.choices.is_empty() => &[("Esc", "close")],
        Overlay::Rollback(_) => &[("Enter", "roll back"), ("↑ ↓", "choose"), ("Esc", "close")],
        Overlay::Pins(_) => {
            &[("Enter", "both answers"), ("↑ ↓", "choose"), ("x", "unpin"), ("Esc", "close")]
        }
        Overlay::Preview(card) if card.can_replay() => &[
            ("r", "reload"),
            ("a", "pinned calls in both"),
            ("↑ ↓", "scroll"),
            ("y", "copy"),
            ("Esc", "close"),
        ],
        Overlay::Preview(PreviewCard { can_reload: true, .. }) => {
            &[("r", "reload"), ("↑ ↓", "scroll"), ("y", "copy"), ("Esc", "close")]
        }
        Overlay::Preview(_) => &[("↑ ↓", "scroll"), ("y", "copy"), ("Esc", "close")],
        Overlay::HostEnded(CrashCard { can_start: true, good: Some(_), .. }) => {
            &[("H", "start with these"), ("A", "as it was"), ("Esc", "close"), ("q", "quit")]
        }
        Overlay::HostEnded(CrashCard { can_start: true, .. }) => {
            &[("H", "start it again"), ("Esc", "close"), ("q", "quit")]
        }
        Overlay::HostEnded(_) => &[("Esc", "close"), ("q", "quit")],
    }
}

/// The commands that have keys, each with its first key.
fn first_keys(state: &State) -> impl Iterator<Item = (&'static Command, String)> {
    state
        .keymap
        .labels()
        .filter_map(|(command, labels)| Some((command, labels.into_iter().next()?)))
}

/// The keys that make sense now, narrowest scope first.
fn hints<'a>(
    state: &State,
    keys: &'a [&(&'static Command, String)],
) -> impl Iterator<Item = (&'a str, &'static str)> {
    let applies = move |command: &Command| applies(state, command);
    let in_logs = state.focus == Panel::Logs;
    let scope_of = move |command: &Command| match command.action {
        Action::Search | Action::NextMatch if in_logs => Scope::Logs,
        _ => command.scope,
    };
    let is_first = |command: &Command| is_first(state, command);
    let hint = |(command, label): &'a (&'static Command, String)| (label.as_str(), command.hint);
    let first = keys.iter().copied().filter(move |(command, _)| is_first(command)).map(hint);
    let others = state.scopes().iter().flat_map(move |scope| {
        keys.iter()
            .copied()
            .filter(move |(command, _)| scope_of(command) == *scope && applies(command))
            .map(hint)
    });
    first.chain(others)
}

/// Whether the key comes first: without a host, the restart is most important.
fn is_first(state: &State, command: &Command) -> bool {
    let has_ended = state.host.phase == Phase::Ended;
    has_ended && state.can_restart() && command.action == Action::Restart
}

/// Whether the footer shows a command now.
fn applies(state: &State, command: &Command) -> bool {
    let is_hinted = command.scope != Scope::Anywhere
        || matches!(
            command.action,
            Action::Cancel
                | Action::CancelCall
                | Action::Search
                | Action::NextMatch
                | Action::Zoom
                | Action::Quit
                | Action::FocusNext
        );
    is_hinted && help::makes_sense(state, command)
}
