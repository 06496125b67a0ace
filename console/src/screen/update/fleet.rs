//! The fleet: its news, and the orders for it.

use hotswap_fleet::{Order, Phase, Reason};

use super::Effect;
use crate::format;
use crate::screen::input::action::{Action, FleetAction};
use crate::screen::model::State;
use crate::screen::model::fleet::{
    FleetNews, FleetOrder, HostRow, ReleaseChoice, name_of, progress,
};
use crate::screen::model::overlay::Overlay;

/// Takes news of the fleet.
pub(super) fn handle_news(state: &mut State, news: FleetNews) {
    match news {
        FleetNews::FleetSnapshot(seen) => {
            let phase = |state: &State| state.fleet.seen()?.rollout.as_ref().map(|it| it.phase);
            let (first, before) = (state.fleet.seen().is_none(), phase(state));
            state.fleet.take(*seen);
            let is_new = !first && phase(state) != before;
            let rollout = state.fleet.seen().and_then(|seen| seen.rollout.as_ref());
            let Some(rollout) = rollout.filter(|_| is_new) else { return };
            let reason = rollout.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            let text = format!("rollout: {}{reason}", progress(rollout));
            match rollout.phase {
                Phase::Done => state.notify_done(text),
                Phase::Paused | Phase::RollingBack | Phase::RolledBack => {
                    state.notify_warning(text)
                }
                _ => state.notify_info(text),
            }
        }
        FleetNews::Trouble(trouble) => state.fleet.fail(trouble),
        FleetNews::Done(text) => state.notify_done(text),
        FleetNews::Failed(text) => state.notify_failure(text),
        FleetNews::Releases(releases) => {
            let base = state.fleet.seen().and_then(|seen| seen.channel.base.clone());
            if let Some(Overlay::Releases(choice)) = &mut state.overlay {
                let is_all = choice.host.is_none();
                let new = releases.into_iter().filter(|it| !is_all || Some(it) != base.as_ref());
                choice.add(new.collect());
            }
        }
    }
}

/// Reports how to start a console that knows a fleet.
pub(super) fn note_how_to_start(state: &mut State) {
    let text = "no fleet is known: start the console with `--fleet DIR`, `--store nats://HOST:PORT` or HOTSWAP_FLEET";
    state.notify_info(text);
}

/// Carries out an action on the fleet.
pub(super) fn act(state: &mut State, action: FleetAction) -> Vec<Effect> {
    if !state.fleet.is_known() {
        note_how_to_start(state);
        return Vec::new();
    }
    if !state.fleet.can(action, state.now_ms) {
        let why = why_not(state, action);
        state.notify_info(why);
        return Vec::new();
    }
    match action {
        FleetAction::Pause => return vec![Effect::Fleet(FleetOrder::Rollout(Order::Pause))],
        FleetAction::Promote => ask_about_rollout(state, Order::Promote),
        FleetAction::Resume => ask_about_rollout(state, Order::Resume),
        FleetAction::Abort => ask_about_rollout(state, Order::Abort),
        FleetAction::RollBack => return choose(state, false),
        FleetAction::Pin => return choose(state, true),
        FleetAction::Unpin => ask_to_unpin(state),
        FleetAction::Describe => describe(state),
        FleetAction::Open => {
            let host = state.fleet.selected_host(state.now_ms);
            return host.map(|row| Effect::Attach(row.host.id.to_string())).into_iter().collect();
        }
    }
    Vec::new()
}

/// The reason why an action is not possible now.
fn why_not(state: &State, action: FleetAction) -> String {
    if state.fleet.seen().is_none() {
        return "the fleet was not seen yet".to_owned();
    }
    match (action, state.fleet.selected_host(state.now_ms)) {
        (FleetAction::Pause, _) if state.fleet.active().is_some() => {
            let key = state.key_of(&Action::Fleet(FleetAction::Resume));
            format!("the rollout is paused already; {key} lets it go on")
        }
        (FleetAction::Resume, _) if state.fleet.active().is_some() => {
            "the rollout is not paused".to_owned()
        }
        (
            FleetAction::Pause | FleetAction::Resume | FleetAction::Promote | FleetAction::Abort,
            _,
        ) => {
            let command = state.fleet.command(&["rollout", "RELEASE"]);
            format!("no rollout is under way; `{command}` begins one")
        }
        (FleetAction::Unpin, Some(row)) => format!("{} is not pinned", row.host.id),
        (FleetAction::Open, Some(row)) => {
            format!("the process of {} has ended: {}", row.host.id, row.state)
        }
        (_, _) => Reason::NoHosts.to_string(),
    }
}

fn ask(state: &mut State, question: String, lines: Vec<String>, order: FleetOrder) {
    state.overlay = Some(Overlay::FleetQuestion { question, lines, order });
}

/// The number of hosts that run a release, in words.
fn hosts_on(state: &State, release: Option<&hotswap_fleet::Id>) -> String {
    let hosts = state.fleet.seen().map(|seen| seen.hosts.as_slice()).unwrap_or_default();
    let on = hosts.iter().filter(|host| host.state.is_there() && host.release.as_ref() == release);
    format!("{} of {}", on.count(), format::counted(hosts.len() as u64, "host", "hosts"))
}

fn ask_about_rollout(state: &mut State, order: Order) {
    let Some(rollout) = state.fleet.active() else { return };
    let (release, base) = (rollout.release.clone(), rollout.base.clone());
    let now = format!("{}; {} run it.", progress(rollout), hosts_on(state, Some(&release)));
    let base = name_of(base.as_ref());
    let (question, then) = match order {
        Order::Promote => (
            format!("Promote {release}?"),
            format!("All hosts run it from now on instead of {base}, whatever the evidence."),
        ),
        Order::Abort => {
            (format!("Abort the rollout of {release}?"), format!("All hosts go back to {base}."))
        }
        _ => (format!("Let the rollout of {release} go on?"), "It is judged again.".to_owned()),
    };
    let mut lines = vec![now];
    lines.extend(rollout.reason.as_ref().map(|why| format!("Why: {why}")));
    lines.push(then);
    ask(state, question, lines, FleetOrder::Rollout(order));
}

fn choose(state: &mut State, for_host: bool) -> Vec<Effect> {
    let host = state.fleet.selected_host(state.now_ms).map(|row| row.host.id.clone());
    let host = host.filter(|_| for_host);
    let Some(seen) = state.fleet.seen() else { return Vec::new() };
    let choice = ReleaseChoice::of(host, &seen.channel);
    state.overlay = Some(Overlay::Releases(choice));
    vec![Effect::Fleet(FleetOrder::ListReleases)]
}

/// Carries out a key's action in the list of releases.
pub(super) fn press(state: &mut State, mut choice: ReleaseChoice, action: Option<Action>) {
    match action {
        Some(Action::Back | Action::Quit) => return,
        Some(Action::Details | Action::Fleet(FleetAction::Open)) => {
            if let Some(release) = choice.chosen().cloned() {
                return ask_about(state, choice.host, release);
            }
        }
        Some(Action::Move(motion)) => choice.move_by(motion, state.size.1.into()),
        _ => {}
    }
    state.overlay = Some(Overlay::Releases(choice));
}

fn ask_about(state: &mut State, host: Option<hotswap_fleet::Id>, release: hotswap_fleet::Id) {
    if let Some(host) = host {
        let lines = vec![
            format!("It runs {release} from now on, whatever is declared for all,"),
            "until it is unpinned.".to_owned(),
        ];
        let question = format!("Pin {host} to {release}?");
        return ask(state, question, lines, FleetOrder::Pin(host, release));
    }
    let base = state.fleet.seen().and_then(|seen| seen.channel.base.clone());
    let mut lines =
        vec![format!("All hosts go back from {} to {release}, at once.", name_of(base.as_ref()))];
    lines.extend(state.fleet.active().map(|it| format!("It ends the rollout of {}.", it.release)));
    let question = format!("Roll all hosts back to {release}?");
    ask(state, question, lines, FleetOrder::RollBack(Some(release)));
}

fn ask_to_unpin(state: &mut State) {
    let Some(HostRow { host, pinned, .. }) = state.fleet.selected_host(state.now_ms) else {
        return;
    };
    let lines = vec![format!(
        "It is pinned to {}, and runs what is declared for all from then on.",
        name_of(pinned)
    )];
    let (question, order) = (format!("Unpin {}?", host.id), FleetOrder::Unpin(host.id.clone()));
    ask(state, question, lines, order);
}

/// Shows the details of the selected host.
fn describe(state: &mut State) {
    let Some(row) = state.fleet.selected_host(state.now_ms) else { return };
    let HostRow { host, pinned, .. } = row;
    let age = format::duration(state.now_ms.saturating_sub(host.at_ms));
    let mut lines = vec![
        format!("state     {}, told {age} ago", row.state),
        format!("release   {}", name_of(host.release.as_ref())),
    ];
    lines.extend(host.staged.iter().map(|staged| format!("staged    {staged}")));
    lines.extend(pinned.map(|pinned| format!("pinned    to {pinned}")));
    lines.push(format!("process   {} {}", host.name, host.pid));
    lines.extend(host.machine.iter().map(|machine| format!("machine   {machine}")));
    lines.extend(host.socket.iter().map(|socket| format!("console   {}", socket.display())));
    lines.push(format!("group     {}", host.stratum));
    if let Some(problem) = &host.problem {
        let release = name_of(problem.release.as_ref());
        lines.extend([String::new(), format!("Problem with {release}")]);
        lines.extend(problem.message.lines().map(|line| format!("  {line}")));
    }
    if !host.builds.is_empty() {
        lines.extend([String::new(), "Builds".to_owned()]);
    }
    for (plugin, build) in &host.builds {
        let arm = host.health.get(plugin).copied().unwrap_or_default();
        lines.push(format!(
            "  {plugin:<12} {}  {} calls, {} errors, {} panics",
            format::short_build_id(build),
            format::thousands(arm.calls),
            format::thousands(arm.errors),
            format::thousands(arm.panics)
        ));
    }
    let title = host.id.to_string();
    state.overlay = Some(Overlay::Details { title, lines, top: 0 });
}
