//! A session as lines, one for each event: for CI, for screen readers, and for `hotswap run`.
//!
//! With `--json` each line is an object of [`SessionEvent`] or [`LogLine`], with its kind in `event`:
//!
//! ```text
//! {"event":"opened","name":"sample-host","plugin_dir":"…","plugins":["world","cat"],"plugin_packages":["…"]}
//! {"event":"watching","on":true,"mode":"on"}
//! {"event":"job_started","job":"build world"}
//! {"event":"build","package":"world","line":"diagnostic","level":"error","message":"…","rendered":"…","file":"…","row":12,"column":5}
//! {"event":"built","plugin":"world","build_id":"…","path":"…/world.so","warnings":0}
//! {"event":"job_finished","job":"build world","outcome":"done","summary":"…","elapsed_ms":320}
//! {"event":"host_started","pid":4121}
//! {"event":"connected","host":{"pid":4121,"socket":"…","plugin_dir":"…","staging_dir":"…",…}}
//! {"event":"sources_changed","plugins":["world"]}
//! {"event":"early_dropped","plugin":"world"}
//! {"event":"manifests_refused","error":"/w/app/Cargo.toml names the plugin `dgo`, which is …"}
//! {"event":"reload_waits","plugins":["world"]}
//! {"event":"host_outdated","plugins":[]}
//! {"event":"host_current"}
//! {"event":"host_stopped","signal":21}
//! {"event":"host_continued"}
//! {"event":"host_terminated","reason":"the host is to end"}
//! {"event":"plugins_changed","added":["dog"],"removed":[],"plugins":["world","dog"],"plugin_packages":["…"]}
//! {"event":"reload_finished","at_ms":…,"report":{"generation":2,"plugins":[…],…}}
//! {"event":"log","seq":7,"level":"info","message":"…",…}
//! {"event":"output","stream":"stdout","text":"listening on …"}
//! {"event":"host_exited","code":0,"signal":null,"expected":true}
//! {"event":"ended"}
//! ```

use std::io::{self, IsTerminal, Read, Write};
use std::time::Duration;

use hotswap_protocol::{ErrorKind, Event, WireError, version_label};
use tokio::time::timeout;

use super::{print_json, text};
use crate::failure::Failure;
use crate::format;
use crate::host::process::Stat;
use crate::host::signal_name;
use crate::session::{
    self, BuildEffect, BuildLine, Job, JobOutcome, LogLine, Options, Order, SessionEvent, Target,
    Watch,
};
use crate::signals::Termination;

/// How many changed functions, and how many other items, a line about a build names.
const SHOWN_CHANGES: usize = 5;
/// How long the host's output must be silent to count as complete.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Runs a session until a signal ends it, the host ends, or the host cannot be started.
pub async fn run(options: Options, json: bool) -> Result<(), Failure> {
    let is_attached = matches!(options.target, Target::Running(_));
    let mut session = session::start(options);
    let mut lines = Lines { json, is_attached, host_answers: false };
    if may_read_input() {
        relay_input(session.orders.clone());
    }
    let mut termination = Termination::listen()?;
    let mut outcome = Ok(());
    let mut watching = false;
    loop {
        let printed = tokio::select! {
            biased;
            _ = termination.recv() => {
                end(&session.orders);
                continue;
            }
            event = session.events.recv() => match event {
                None => break,
                Some(event) => {
                    if let SessionEvent::Watching { on, .. } = event {
                        watching = on;
                    }
                    if let Some(failure) = fatal(&event, watching) {
                        outcome = Err(failure);
                        end(&session.orders);
                    } else if matches!(event, SessionEvent::HostExited { expected: false, .. }) {
                        end(&session.orders);
                    }
                    lines.print_event(&event)
                }
            },
            Some(line) = session.logs.recv() => lines.print_log(&line),
        };
        // If the reader is gone, the session and the host end.
        if let Err(error) = printed
            && outcome.is_ok()
        {
            outcome = Err(error.into());
            end(&session.orders);
        }
    }
    // The last output of the host may still be on its way. Its children may keep the output open.
    while let Ok(Some(line)) = timeout(LAST_WORDS, session.logs.recv()).await {
        if let Err(error) = lines.print_log(&line) {
            outcome = outcome.and(Err(error.into()));
            break;
        }
    }
    outcome
}

/// Whether this process may read the standard input without being stopped: a terminal stops background processes
/// that read from it.
fn may_read_input() -> bool {
    let stat = Stat::of("self");
    let (group, foreground) = (stat.number(5), stat.number(8));
    !io::stdin().is_terminal() || (group.is_some() && group == foreground)
}

/// Passes typed input on to the host. The thread ends with the process, or at the end of the input.
fn relay_input(orders: tokio::sync::mpsc::Sender<Order>) {
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = input.read(&mut bytes) {
            if orders.blocking_send(Order::Input(bytes[..count].to_vec())).is_err() {
                return;
            }
        }
        // This fails if the session has ended.
        let _ = orders.blocking_send(Order::EndInput);
    });
}

fn end(orders: &tokio::sync::mpsc::Sender<Order>) {
    // This fails if the session is already ending.
    let _ = orders.try_send(Order::End);
}

/// The failure that ends the command: in a script nothing is left to do without a running host, unless the next
/// save can repair it.
fn fatal(event: &SessionEvent, watching: bool) -> Option<Failure> {
    let error = match event {
        SessionEvent::JobFinished { job: Job::BuildHost, .. } if watching => return None,
        SessionEvent::JobFinished {
            job: Job::BuildHost | Job::StartHost,
            outcome: JobOutcome::Failed { error },
            ..
        }
        | SessionEvent::Ended { error: Some(error) } => error.clone(),
        SessionEvent::HostExited { exit, expected: false, calls } => {
            let calls = calls.as_deref().unwrap_or_default();
            let culprit = format::culprit(calls);
            if exit.code == Some(0) && culprit.is_none() {
                return None;
            }
            let text = format!("{}{}", exit.in_words(), format::cause_of_end(calls));
            let plugin = culprit.map(|call| call.plugin.clone());
            WireError { plugin, ..WireError::new(ErrorKind::Internal, text) }
        }
        _ => return None,
    };
    Some(Failure::Operation(error))
}

struct Lines {
    json: bool,
    /// Whether somebody else started the host.
    is_attached: bool,
    host_answers: bool,
}

impl Lines {
    fn print_event(&mut self, event: &SessionEvent) -> io::Result<()> {
        if self.json {
            return match event {
                event if event.is_for_screens() => Ok(()),
                // JSON is not read in a terminal, so it has no colours by default.
                event => print_json(&event.shown(format::wants_colours(false))),
            };
        }
        let event = event.shown(format::wants_colours(io::stdout().is_terminal()));
        match self.in_words(&event) {
            Some(text) => writeln!(io::stdout(), "{text}"),
            None => Ok(()),
        }
    }

    fn print_log(&self, line: &LogLine) -> io::Result<()> {
        if self.json {
            return print_json(line);
        }
        match line {
            LogLine::Log(record) => {
                writeln!(io::stdout(), "{}", text::log_record(record))
            }
            LogLine::Output { stream, text } => {
                writeln!(io::stdout(), "{}: {text}", stream.as_str())
            }
            LogLine::Dropped { count } => writeln!(io::stdout(), "-- {count} lines dropped"),
        }
    }

    fn in_words(&mut self, event: &SessionEvent) -> Option<String> {
        Some(match event {
            SessionEvent::Opened { name, plugin_dir, plugins, .. } => {
                let plugins = match plugins.as_slice() {
                    [] => "plugins".to_owned(),
                    plugins => format!("plugins {}", plugins.join(", ")),
                };
                match plugin_dir {
                    Some(dir) if self.is_attached => format!(
                        "== {name}: {plugins} in {}; this session neither watches nor builds",
                        dir.display()
                    ),
                    Some(dir) => format!("== {name}: {plugins} in {}", dir.display()),
                    None => format!("== {name}"),
                }
            }
            SessionEvent::JobStarted { job } => format!("== {job} …"),
            SessionEvent::JobFinished { job, outcome, elapsed_ms } => match outcome {
                JobOutcome::Done { summary } => {
                    let elapsed = format::microseconds(elapsed_ms * 1000);
                    format!("== {job}: done in {elapsed} ({summary})")
                }
                JobOutcome::Failed { error } => format!("!! {job} failed: {error}"),
                JobOutcome::Cancelled => format!("!! {job} cancelled"),
            },
            SessionEvent::Build { line: BuildLine::Diagnostic { rendered, .. }, .. } => {
                rendered.trim_end().to_owned()
            }
            SessionEvent::Build { line: BuildLine::Output { text }, .. } => text.clone(),
            SessionEvent::Built { plugin, effect: BuildEffect::UpToDate, .. } => {
                format!("== {plugin} is up to date")
            }
            SessionEvent::Built { plugin, effect: BuildEffect::SameCode, .. } => {
                format!("== {plugin}: saved, same machine code as in the last build")
            }
            SessionEvent::Built {
                plugin, path, warnings, changes, patchable, not_patched, ..
            } => {
                let warnings = format::counted(*warnings as u64, "warning", "warnings");
                let changes =
                    changes.iter().map(|changes| format::source_changes(changes, SHOWN_CHANGES));
                let changes = changes.filter(|changes| !changes.is_empty());
                let changes: String =
                    changes.map(|changes| format!("; changed: {changes}")).collect();
                let patch = format::patchable(*patchable, not_patched.as_deref());
                let patch = patch.map_or_else(String::new, |patch| format!("; {patch}"));
                format!("== built {plugin} as {} ({warnings}{changes}{patch})", path.display())
            }
            SessionEvent::HostStarted { pid } => format!("== host started (pid {pid})"),
            SessionEvent::Connected { host } => {
                let again = if self.host_answers { " again" } else { "" };
                self.host_answers = true;
                format!("== {} (pid {}) answers{again}", host.name, host.pid)
            }
            SessionEvent::Disconnected { reason } => format!("!! connection lost: {reason}"),
            SessionEvent::HostExited { exit, calls, .. } => {
                let calls = calls.iter().flatten().map(|call| format!("\n== under way: {call}"));
                format!("== host ended: {exit}{}", calls.collect::<String>())
            }
            SessionEvent::SourcesChanged { plugins, .. } => {
                format!("== sources of {} changed", plugins.join(", "))
            }
            SessionEvent::HostSilent { waited_ms } => {
                format!("!! {}", format::silent_host(*waited_ms))
            }
            SessionEvent::HostStopped { signal } => {
                format!("!! {} stopped the host", signal_name(*signal))
            }
            SessionEvent::HostContinued => "== the host continues".to_owned(),
            SessionEvent::HostTerminated { reason } => format!("== {reason}: SIGTERM"),
            SessionEvent::HostKilled { reason } => format!("!! {reason}: SIGKILL"),
            SessionEvent::HostOutdated { plugins } => {
                let shared = match plugins.as_slice() {
                    [] => String::new(),
                    plugins => format!(", and {} with it", plugins.join(", ")),
                };
                format!(
                    "!! the host's sources changed{shared}: what runs is older than what is on disk; end \
                     this and run it again"
                )
            }
            SessionEvent::HostCurrent => format!("== {}", format::HOST_CURRENT),
            SessionEvent::ReplayDisagreed { plugin, missed, .. } => {
                format!("!! {}", format::disagreement(plugin, missed))
            }
            SessionEvent::EarlyDropped { plugin } => {
                format!("!! {}", format::early_dropped(plugin))
            }
            SessionEvent::PluginsChanged { added, removed, .. } => {
                let changes = [("added", added), ("taken off", removed)];
                let changes = changes.iter().filter(|(_, plugins)| !plugins.is_empty());
                let changes =
                    changes.map(|(what, plugins)| format!("{} {what}", plugins.join(", ")));
                format!(
                    "== the list of plugins changed: {}",
                    changes.collect::<Vec<_>>().join("; ")
                )
            }
            SessionEvent::ManifestsRefused { error } => {
                format!("!! {}", format::manifests_refused(error))
            }
            SessionEvent::Watching { error: Some(error), .. } => format!("!! {error}"),
            SessionEvent::Watching { file_system: Some(kind), .. } => {
                format!("!! watching the sources; {}", format::silent_file_system(kind))
            }
            SessionEvent::Watching { mode: Watch::On, .. } => "== watching the sources".into(),
            SessionEvent::Watching { mode: Watch::Ask, .. } => {
                "== watching the sources; builds that break nothing are reloaded".into()
            }
            SessionEvent::ReloadWaits { plugins } => format!(
                "!! {} would break code that uses it, so the reload waits: `hotswap reload --dry-run` shows what breaks, \
                 `hotswap reload` reloads",
                plugins.join(", ")
            ),
            SessionEvent::Patching { on: false } => {
                "== builds are loaded as a whole, without patches".into()
            }
            SessionEvent::Watching { mode: Watch::Build, .. } => {
                "== watching the sources; changes are built, but not reloaded".into()
            }
            SessionEvent::Engine(event) => return engine_event(event),
            _ => return None,
        })
    }
}

/// The engine's event as text; `None` if another line already says it.
pub(crate) fn engine_event(event: &Event) -> Option<String> {
    match event {
        Event::ReloadFinished { report, .. } => Some(format!(
            "== generation {} after {}: {report}",
            report.generation,
            format::microseconds(report.elapsed_us)
        )),
        Event::ReloadFailed { error, .. } => Some(format!("!! reload failed: {error}")),
        Event::VersionChanged { plugin, version, state, detail, .. } => {
            // The detail begins with the state, unless the host has nothing to add.
            let words = if detail.is_empty() { state.as_str() } else { detail };
            Some(format!("== {plugin} v{version} {words}"))
        }
        Event::FirstCall { plugin, version, patch, function, elapsed_us, .. } => Some(format!(
            "== {plugin} {} answered its first call, {function}, {} after it was loaded",
            version_label(*version, *patch),
            format::microseconds(*elapsed_us)
        )),
        Event::FirstFailure { plugin, version, patch, failure, .. } => Some(format!(
            "!! {plugin} {} failed for the first time, in {}: {}",
            version_label(*version, *patch),
            failure.function,
            failure.message
        )),
        Event::PinCalled { pin, .. } => {
            Some(format!("== pinned {}", text::pinned(pin).trim_end().replace('\n', "\n   ")))
        }
        Event::GuardTripped(trip) => Some(format!("!! {}", format::guard_trip(trip))),
        Event::ShuttingDown { .. } => Some("== the engine shuts down".into()),
        _ => None,
    }
}
