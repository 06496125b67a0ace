//! Orders for the session, and the questions before them.

use hotswap_protocol::{VersionState, same_plugin};

use super::Effect;
use crate::format;
use crate::host::operation::Operation;
use crate::screen::input::action::Action;
use crate::screen::model::overlay::{HostInput, Overlay};
use crate::screen::model::plugins::PluginRow;
use crate::screen::model::rollback::Rollback;
use crate::screen::model::{Phase, State};
use crate::session::Order;

pub(super) fn quit(state: &mut State) -> Vec<Effect> {
    let ends_host = state.host.is_ours && state.host.phase != Phase::Ended;
    let mut lines = Vec::new();
    if ends_host {
        lines.push(format!("The host {} was started here and ends too.", state.host.name));
    }
    if let Some(job) = &state.job {
        lines.push(format!("The job “{job}” is cancelled."));
    }
    if lines.is_empty() || state.quitting {
        state.quitting = true;
        return vec![Effect::Order(Order::End)];
    }
    state.overlay = Some(Overlay::Confirm {
        question: "Quit?".into(),
        lines,
        order: Order::End,
        cancels: false,
    });
    Vec::new()
}

/// Builds the selected plugin, and all packages that are not loaded because they did not compile.
pub(super) fn build(state: &mut State) -> Vec<Effect> {
    if state.host.packages.is_empty() {
        state.notify_failure(no_package("build"));
        return Vec::new();
    }
    let loaded = |package: &str| {
        state.plugins.list().iter().any(|plugin| same_plugin(&plugin.name, package))
    };
    let selected = state.selected_package();
    let packages = state.host.packages.iter();
    let wanted: Vec<String> = packages
        .filter(|package| selected == Some(package.as_str()) || !loaded(package))
        .cloned()
        .collect();
    vec![Effect::Order(Order::Build(wanted))]
}

fn no_package(what: &str) -> String {
    format!("nothing to {what}: start the console with the host's package directory for that")
}

/// Asks whether to unload plugins whose artifacts are gone.
pub(super) fn ask_to_prune(state: &mut State) {
    if state.host.phase != Phase::Connected {
        return state.notify_failure("no host is connected");
    }
    let mut lines =
        vec!["Each plugin without an artifact in the plugin directory is unloaded.".to_owned()];
    let dir = state.host.plugin_dir.as_ref().map(|dir| format!("  {}", dir.display()));
    lines.extend(dir);
    lines.push("The values and objects of such a plugin are dropped with it.".to_owned());
    let question = "Unload what has no artifact?".into();
    let order = Order::Operate(Operation::prune());
    state.overlay = Some(Overlay::Confirm { question, lines, order, cancels: false });
}

/// Opens the input of a line for the host's standard input.
pub(super) fn type_line(state: &mut State) {
    if !state.host.is_ours || state.host.phase == Phase::Ended {
        let text = "the console can type only for a host that it started and that runs";
        return state.notify_failure(text);
    }
    state.overlay = Some(Overlay::Input(HostInput::default()));
}

/// Sends the typed line.
pub(super) fn send_line(state: &mut State, line: &str) -> Vec<Effect> {
    state.notify_done(format!("sent to the host: {line}"));
    vec![Effect::Order(Order::Input(format!("{line}\n").into_bytes()))]
}

pub(super) fn next_watch(state: &mut State) -> Vec<Effect> {
    if state.host.packages.is_empty() {
        state.notify_failure(no_package("watch"));
        return Vec::new();
    }
    vec![Effect::Order(Order::Watch(state.host.watch.next()))]
}

pub(super) fn toggle_patches(state: &mut State) -> Vec<Effect> {
    if state.host.packages.is_empty() {
        state.notify_failure(no_package("patch"));
        return Vec::new();
    }
    vec![Effect::Order(Order::Patch(state.host.loads_whole))]
}

pub(super) fn cancel(state: &mut State) -> Vec<Effect> {
    if state.job.is_none() {
        let key = state.key_of(&Action::CancelCall);
        state.notify_info(match state.functions.has_running_calls() {
            true => format!("no job runs; {key} cancels the call"),
            false => "no job runs".to_owned(),
        });
        return Vec::new();
    }
    vec![Effect::Order(Order::Cancel)]
}

pub(super) fn restart(state: &mut State) -> Vec<Effect> {
    if state.host.phase == Phase::Absent {
        return Vec::new();
    }
    let was_attached = !state.host.is_ours && state.host.packages.is_empty();
    if was_attached && state.host.phase != Phase::Preparing {
        let text = "this host was not started here; when it comes back, the console attaches again";
        state.notify_failure(text);
        return Vec::new();
    }
    if matches!(state.host.phase, Phase::Ended | Phase::Preparing) {
        return vec![Effect::Order(Order::Restart)];
    }
    let lines = vec![format!("{} ends, is built, and starts again.", state.host.name)];
    let question = "Restart the host?".into();
    state.overlay =
        Some(Overlay::Confirm { question, lines, order: Order::Restart, cancels: false });
    Vec::new()
}

pub(super) fn ask_to_free(state: &mut State) {
    let Some(PluginRow { plugin, version, .. }) = state.plugins.selected() else {
        return state.notify_failure("no version is selected");
    };
    let name = format!("{} v{}", plugin.name, version.version);
    match version.state {
        VersionState::Active | VersionState::Loading => {
            let keys = [Action::Operate(Operation::Reload), Action::RollBack];
            let [reload, roll_back] = keys.map(|action| state.key_of(&action));
            state.notify_failure(format!(
                "{name} serves; only a replaced version can be freed: {reload} reloads, \
                 {roll_back} rolls back"
            ));
        }
        VersionState::Freed => state.notify_info(format!("{name} is freed already")),
        VersionState::Failed => {
            state.notify_info(format!("{name} never served; nothing is left of it"))
        }
        _ if state.functions.held.contains(&format!("{}@{}", plugin.name, version.version)) => {
            let key = state.key_of(&Action::ToggleHold);
            state.notify_failure(format!("this console keeps {name} loaded; {key} lets it go"));
        }
        _ => {
            let order = Order::Operate(Operation::free(&plugin.name, version.version));
            let mut lines = vec![version.detail.clone(), String::new()];
            let holders = format::holders(&version.held_by, &version.holders, state.now_ms);
            if holders.is_empty() {
                lines.push("Nothing is known to hold it.".into());
            } else {
                lines.push("Held by".into());
                lines.extend(holders.iter().map(|holder| format!("  {holder}")));
                lines.extend(format::advice(&version.held_by).iter().map(ToString::to_string));
            }
            let own = state.functions.running_in(&plugin.name, version.version);
            let is_async =
                |name: &&str| plugin.functions.iter().any(|it| it.name == **name && it.is_async);
            let (can_end, must_end): (Vec<&str>, Vec<&str>) = own.into_iter().partition(is_async);
            if !must_end.is_empty() {
                let names = must_end.join(", ");
                lines.push(format!(
                    "This console's call of {names} runs to its end: it is not async."
                ));
            }
            if !can_end.is_empty() {
                let names = can_end.join(", ");
                lines.push(format!("This console's call of {names} can be cancelled first."));
            }
            if !holders.is_empty() {
                lines.push("It is freed once nothing holds it any more.".into());
            }
            let cancels = !can_end.is_empty();
            let question = format!("Free {name}?");
            state.overlay = Some(Overlay::Confirm { question, lines, order, cancels });
        }
    }
}

/// Shows the versions and builds to roll the selected plugin back to.
pub(super) fn choose_rollback(state: &mut State) -> Vec<Effect> {
    if state.host.phase != Phase::Connected {
        state.notify_failure("no host is connected");
        return Vec::new();
    }
    let Some(PluginRow { plugin, version, .. }) = state.plugins.selected() else {
        state.notify_failure("no plugin is selected");
        return Vec::new();
    };
    let list = Order::ListBuilds(plugin.name.clone());
    let rollback = Rollback::beginning_at(plugin, version);
    state.overlay = Some(Overlay::Rollback(Box::new(rollback)));
    vec![Effect::Order(list)]
}

pub(super) fn ask_to_roll_back(state: &mut State, rollback: &Rollback) {
    let Some(target) = rollback.target() else { return };
    state.overlay = Some(Overlay::Confirm {
        question: format!("Roll {} back?", rollback.plugin),
        lines: rollback.consequences(&state.key_of(&Action::LET_GO)),
        order: Order::Operate(Operation::rollback(target)),
        cancels: false,
    });
}
