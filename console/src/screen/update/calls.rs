//! Calls of functions: the form, and the results.

use hotswap_protocol::{InvokeResult, VersionState, WireError};

use super::Effect;
use crate::host::operation::Operation;
use crate::screen::input::action::Action;
use crate::screen::layout::{Panel, Tab};
use crate::screen::model::State;
use crate::screen::model::form::Form;
use crate::screen::model::functions::stored_target;
use crate::screen::model::history::History;
use crate::screen::model::overlay::Overlay;
use crate::session::{Order, StoredBuild, StoredChoice};

pub(super) fn open_form(state: &mut State) -> Vec<Effect> {
    if state.focus == Panel::Tabs && state.tab == Tab::Live {
        return open_live_form(state);
    }
    match form_of_selected(state) {
        Ok(form) => {
            state.functions.form = Some(form);
            // The list must include builds that were stored meanwhile.
            state.functions.stored = None;
        }
        Err(problem) => {
            state.notify_failure(problem);
            return Vec::new();
        }
    }
    state.focus = Panel::Tabs;
    super::show_tab(state, Tab::Functions)
}

/// The form of the selected function; an error says why there is none, and what to do.
fn form_of_selected(state: &State) -> Result<Form, String> {
    let row = state.plugins.selected().ok_or("no plugin is selected")?;
    let (plugin, version) = (&row.plugin.name, row.version);
    if !is_callable(version.state) {
        let serving = state.plugins.version_of(plugin);
        let instead = match serving {
            Some(serving) => format!("select v{serving}, which serves"),
            None => format!("{} loads another build", state.key_of(&Action::RollBack)),
        };
        let target = format!("{plugin} v{}", version.version);
        let is = match version.state {
            VersionState::Failed => "never served".into(),
            state => format!("is {state}"),
        };
        return Err(format!("{target} {is} and cannot be called; {instead}"));
    }
    let functions = state.plugins.functions();
    let function = functions.get(state.functions.selected).or(functions.first());
    let function = function.ok_or_else(|| format!("{plugin} has no function to call"))?;
    let target = state.plugins.selected_target().ok_or("no plugin is selected")?;
    Ok(Form::new(target, function))
}

fn is_callable(state: VersionState) -> bool {
    matches!(state, VersionState::Active | VersionState::Retired)
}

/// Opens the form of the selected live function, in the Functions tab of its plugin.
fn open_live_form(state: &mut State) -> Vec<Effect> {
    let Some(crate::screen::model::live::LiveItem::Function(live)) = state.live.selected_item()
    else {
        state.notify_failure("no live function is selected");
        return Vec::new();
    };
    let (plugin, name) = (live.plugin.clone(), live.function.name.clone());
    let form = Form::new(plugin.clone(), &live.function);
    state.plugins.select(&plugin);
    let position = state.plugins.functions().iter().position(|it| it.name == name);
    state.functions.selected = position.unwrap_or(0);
    state.functions.form = Some(form);
    super::show_tab(state, Tab::Functions)
}

/// Makes the call that the form describes.
pub(super) fn submit_form(state: &mut State) -> Vec<Effect> {
    let Some(form) = &mut state.functions.form else { return Vec::new() };
    let args = match form.arguments() {
        Ok(args) => args,
        Err(position) => {
            form.focused = position;
            let row = form.rows().into_iter().nth(position);
            let wrong = row.and_then(|row| Some((row.node.name.clone(), Form::problem(&row)?)));
            if let Some((name, wrong)) = wrong {
                state.notify_failure(format!("not called; {name}: {wrong}"));
            }
            return Vec::new();
        }
    };
    let first = form.call_of(&form.target, args.clone()).beside(form.compared.clone());
    // If the first call fails, the other version is called in an operation of its own.
    let other = form.compared.as_ref().map(|target| form.call_of(target, args.clone()));
    let key = History::key(&state.host.name, &form.target, &form.function);
    let compared = form.compared.clone();
    let stored = compared.and_then(|target| state.functions.stored_of(&target).cloned());
    // The host cannot call a build that is only stored.
    let first = if stored.is_some() { first.beside(None) } else { first };
    let calls: Vec<Operation> = std::iter::once(first).chain(other).collect();
    let mut effects: Vec<Effect> = begin(state, calls.into_iter(), stored).into_iter().collect();
    if !args.is_empty() {
        state.functions.history.remember(&key, args.clone());
        effects.push(Effect::Remember { key, args });
    }
    effects
}

pub(super) fn answered(
    state: &mut State,
    operation: Operation,
    answer: Result<InvokeResult, WireError>,
) -> Option<Effect> {
    let next = state.functions.answered(state.now_ms, operation, answer)?;
    Some(Effect::Order(Order::Operate(next)))
}

/// Closes the form. A running call goes on.
pub(super) fn leave_form(state: &mut State) {
    state.functions.form = None;
    if state.functions.has_running_calls() {
        let key = state.key_of(&Action::CancelCall);
        state.notify_info(format!("the call goes on; {key} cancels it"));
    }
}

/// Repeats the last call with the same arguments.
pub(super) fn again(state: &mut State) -> Vec<Effect> {
    let Some(result) = state.functions.results.front() else {
        let key = state.key_of(&Action::Invoke);
        state.notify_info(format!("nothing was called yet; {key} opens the form"));
        return Vec::new();
    };
    let operations: Vec<Operation> = result.sides.iter().map(|it| it.operation.clone()).collect();
    let stored = result.stored.clone();
    begin(state, operations.into_iter(), stored).into_iter().collect()
}

/// Takes the list of stored builds for the open form.
pub(super) fn stored_builds(
    state: &mut State,
    plugin: String,
    builds: &Result<Vec<StoredBuild>, String>,
) {
    let is_waited_for = std::mem::take(&mut state.functions.waits_for_stored);
    let is_of_form = state.functions.form.as_ref().is_some_and(|it| it.target == plugin);
    if !is_waited_for || !is_of_form {
        return;
    }
    let loaded = |build_id: &str| {
        let found = state.plugins.list().iter().find(|it| it.name == plugin);
        let versions = found.iter().flat_map(|plugin| &plugin.versions);
        versions.into_iter().any(|it| is_callable(it.state) && it.build_id == build_id)
    };
    let builds = builds.iter().flatten().filter(|build| !loaded(&build.build_id));
    let builds = builds
        .map(|build| StoredChoice { plugin: plugin.clone(), build_id: build.build_id.clone() });
    state.functions.stored = Some((plugin.clone(), builds.collect()));
    // The effects are empty now, because the list is known.
    compare(state);
}

/// Begins a call of one version or of two.
fn begin(
    state: &mut State,
    calls: impl Iterator<Item = Operation>,
    stored: Option<StoredChoice>,
) -> Option<Effect> {
    let calls = calls.map(|call| {
        let face = match &call {
            Operation::Invoke(params) => state.plugins.face_of(&params.plugin),
            _ => None,
        };
        (call, face)
    });
    let calls = calls.collect();
    let first = state.functions.begin(state.now_ms, calls)?;
    if let (Some(build), Some(result)) = (&stored, state.functions.results.front_mut()) {
        result.stored = Some(build.clone());
    }
    Some(Effect::Order(match (stored, first) {
        (Some(build), Operation::Invoke(call)) => Order::InvokeInBoth(call, build),
        (_, first) => Order::Operate(first),
    }))
}

/// Cancels the running calls of this console.
pub(super) fn cancel(state: &mut State) -> Vec<Effect> {
    if !state.functions.has_running_calls() {
        state.notify_info("no call of this console runs");
        return Vec::new();
    }
    vec![Effect::Order(Order::CancelCalls)]
}

/// Chooses the next version or stored build to call as well; after the last one, none.
pub(super) fn compare(state: &mut State) -> Vec<Effect> {
    let Some(form) = &state.functions.form else { return Vec::new() };
    let plugin = form.target.split('@').next().unwrap_or_default();
    let found = state.plugins.list().iter().find(|it| it.name == plugin);
    let own = state.plugins.version_of(&form.target);
    let others: Vec<String> = found
        .iter()
        .flat_map(|plugin| &plugin.versions)
        .filter(|it| is_callable(it.state) && Some(it.version) != own)
        .map(|it| format!("{plugin}@{}", it.version))
        .collect();
    // A stored build is compared only with the version that serves.
    let serves = form.target == plugin;
    let stored = state.functions.stored.as_ref().filter(|(of, _)| of == plugin && serves);
    let is_at_end = others.last() == form.compared.as_ref() || others.is_empty();
    if is_at_end && serves && stored.is_none() {
        // The choice continues when the stored builds have been listed.
        state.functions.waits_for_stored = true;
        return vec![Effect::Order(Order::ListBuilds(plugin.to_owned()))];
    }
    let others: Vec<String> = others
        .into_iter()
        .chain(stored.iter().flat_map(|(_, builds)| builds).map(stored_target))
        .collect();
    if others.is_empty() {
        let keep = state.key_of(&Action::ToggleHold);
        state.notify_failure(format!(
            "no other version of {plugin} is loaded, and no other build is stored; {keep} keeps a version loaded \
             when it is replaced"
        ));
        return Vec::new();
    }
    let next = match &form.compared {
        None => others.first(),
        Some(compared) => {
            let position = others.iter().position(|it| it == compared);
            position.and_then(|position| others.get(position + 1))
        }
    };
    let next = next.cloned();
    if let Some(form) = &mut state.functions.form {
        form.compared = next;
    }
    Vec::new()
}

/// Carries out an action of the form.
pub(super) fn change_form(state: &mut State, action: &Action) {
    let Some(form) = &mut state.functions.form else {
        return state.notify_failure("no form is open");
    };
    let problem = match action {
        Action::Repeat => {
            form.raise_repeat();
            None
        }
        Action::ToggleJson => form.toggle_json().err(),
        Action::AddItem if !form.add_item() => Some("nothing can be added here".into()),
        Action::RemoveItem if !form.remove_item() => Some("nothing can be removed here".into()),
        _ => None,
    };
    match problem {
        Some(problem) => state.notify_failure(problem),
        None => state.notice = None,
    }
}

pub(super) fn show_result(state: &mut State) {
    let Some(result) = state.functions.results.front() else {
        return state.notify_info("nothing was called yet");
    };
    let title = result.call.clone();
    let lines = result.to_lines().split_off(2);
    state.overlay = Some(Overlay::Details { title, lines, top: 0 });
}

/// Keeps the selected version loaded, or lets it go.
pub(super) fn toggle_hold(state: &mut State) -> Vec<Effect> {
    let Some(row) = state.plugins.selected() else {
        state.notify_failure("no version is selected");
        return Vec::new();
    };
    let target = format!("{}@{}", row.plugin.name, row.version.version);
    if !is_callable(row.version.state) {
        let state_word = row.version.state;
        state.notify_failure(format!(
            "{target} is {state_word}; only what can be called can be kept"
        ));
        return Vec::new();
    }
    let order = match state.functions.held.contains(&target) {
        true => Order::Release(target),
        false => Order::Hold(target),
    };
    vec![Effect::Order(order)]
}

pub(super) fn held(state: &mut State, target: String, answer: Result<bool, WireError>) {
    match answer {
        Ok(true) => {
            state.notify_done(format!(
                "{target} is kept by this console, until you let it go or the console ends"
            ));
            state.functions.held.insert(target);
        }
        Ok(false) => {
            state.notify_done(format!("{target} is let go"));
            state.functions.held.remove(&target);
        }
        Err(error) => {
            state.notify_failure(format!("{target} is not kept loaded: {}", error.message))
        }
    }
}
