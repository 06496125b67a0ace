//! Pinned calls: calls that are repeated in each new version of their plugin, whose outcome is compared with
//! the version before.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, MutexGuard, Weak},
    thread,
};

use hotswap_plugin::__private::end_panic;
use hotswap_protocol::{
    ErrorKind, Event, MAX_PINNED_BYTES, MAX_PINS, PinParams, PinnedAnswer, PinnedCall,
    PinnedOutcome, UnpinParams, WireError, clock::now_ms, version_label,
};
use serde_json::Value as Json;

use super::{
    calls::{self, Call},
    served::Served,
};
use crate::{LoadedPlugin, error::bounded, lock::Lock as _};

/// The pinned calls of an engine.
#[derive(Default)]
pub(crate) struct Pins(Mutex<State>);

#[derive(Default)]
struct State {
    pins: Vec<Pin>,
    next_id: u64,
    /// Whether a thread waits for reloads.
    is_watching: bool,
}

struct Pin {
    call: PinnedCall,
    /// A digest of the outcome, to compare outcomes that are too large to be kept.
    digest: u64,
    /// The call that runs.
    running: Option<Arc<Call>>,
}

/// The outcome of a call, before it is compared.
pub(crate) struct Given {
    pub answer: PinnedAnswer,
    pub digest: u64,
}

impl Pins {
    pub(super) fn list(&self) -> hotswap_protocol::Pins {
        let pins = self.lock().pins.iter().map(|pin| pin.call.clone()).collect();
        hotswap_protocol::Pins { pins }
    }

    /// Makes the call now, and again in each later version. Nothing changes if the same call is already
    /// pinned.
    pub(super) fn add(
        self: &Arc<Self>,
        engine: &Arc<dyn Served>,
        params: PinParams,
        running: &Arc<Call>,
    ) -> Result<PinnedCall, WireError> {
        if params.plugin.contains('@') {
            let message = format!(
                "`{}` names a version, but a pinned call is made in each new version; name the plugin",
                params.plugin
            );
            return Err(refusal(message));
        }
        let size = serde_json::to_string(&params.args).map_or(usize::MAX, |text| text.len());
        if size > MAX_PINNED_BYTES {
            let message = format!(
                "the arguments have {size} bytes; those of a pinned call can have at most {MAX_PINNED_BYTES}"
            );
            return Err(refusal(message));
        }
        if let Some(pin) = self.lock().find(&params) {
            return Ok(pin.call.clone());
        }
        let plugin = engine.plugin(&params.plugin).map_err(|error| error.to_wire())?;
        expect_no_effects(&plugin, &params.function)?;
        let (answer, elapsed_ns) = calls::call_once(&plugin, &params, running)?;
        if let Err(error) = &answer
            && !matches!(error.kind(), ErrorKind::PluginError | ErrorKind::Panic)
        {
            return Err(error.to_wire());
        }
        let given = Given::of_call(&plugin, (answer, elapsed_ns));
        let call = self.lock().add(plugin.name(), params, given)?;
        self.watch(engine)?;
        engine.send_event(Event::PinCalled { at_ms: now_ms(), pin: Box::new(call.clone()) });
        // A reload may have ended before the thread began to wait. Nobody reports that reload.
        self.call_anew(&Arc::downgrade(engine));
        Ok(call)
    }

    /// Stops repeating a call. If it is running, it is cancelled if possible.
    pub(super) fn remove(
        &self,
        engine: &dyn Served,
        UnpinParams { id }: &UnpinParams,
    ) -> Result<PinnedCall, WireError> {
        let mut state = self.lock();
        let Some(position) = state.pins.iter().position(|pin| pin.call.id == *id) else {
            let known = state.pins.iter().map(|pin| pin.call.id.to_string()).collect::<Vec<_>>();
            let message = match known.as_slice() {
                [] => format!("there is no pin {id}: no call is pinned"),
                known => format!("there is no pin {id}; there are {}", known.join(", ")),
            };
            return Err(refusal(message));
        };
        let pin = state.pins.remove(position);
        drop(state);
        if let Some(running) = pin.running {
            // A call of a function that is not `async` runs to its end.
            let _ = running.cancel();
        }
        engine.send_event(Event::Unpinned { at_ms: now_ms(), id: *id });
        Ok(pin.call)
    }

    /// Waits for reloads, on a thread that ends with the engine.
    fn watch(self: &Arc<Self>, engine: &Arc<dyn Served>) -> Result<(), WireError> {
        if std::mem::replace(&mut self.lock().is_watching, true) {
            return Ok(());
        }
        let (events, pins, engine) = (engine.subscribe(), self.clone(), Arc::downgrade(engine));
        let watch = move || {
            let is_published = |event: &Event| matches!(event, Event::ReloadFinished { .. });
            for _ in events.iter().filter(is_published) {
                pins.call_anew(&engine);
            }
            // The engine has ended, or this thread fell too far behind.
            pins.lock().is_watching = false;
        };
        let thread = thread::Builder::new().name("hotswap pins".into()).spawn(watch);
        thread.map(drop).map_err(|error| {
            self.lock().is_watching = false;
            WireError::new(
                ErrorKind::Internal,
                format!("the host cannot start another thread: {error}"),
            )
        })
    }

    /// Makes the calls for whose plugin another version serves now. The calls of each plugin have a thread, since a
    /// call may never return.
    fn call_anew(self: &Arc<Self>, engine: &Weak<dyn Served>) {
        let mut by_plugin: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for pin in &self.lock().pins {
            by_plugin.entry(pin.call.plugin.clone()).or_default().push(pin.call.id);
        }
        for ids in by_plugin.into_values() {
            let (pins, engine) = (self.clone(), engine.clone());
            let call = move || {
                for id in ids {
                    let Some(engine) = engine.upgrade() else { return };
                    pins.call_one(&*engine, id);
                }
            };
            if let Err(error) = thread::Builder::new().name("hotswap pins".into()).spawn(call) {
                tracing::warn!(
                    "the pinned calls were not made again, since no thread could be started: {error}"
                );
            }
        }
    }

    /// Calls the version that serves. If another version serves afterwards, it is called as well, because its
    /// reload found this call running.
    fn call_one(&self, engine: &dyn Served, id: u64) {
        loop {
            let running = Arc::new(Call::default());
            let Some((params, plugin)) = self.begin(engine, id, &running) else { return };
            let given = Given::by_calling(&plugin, &params, &running);
            drop(plugin);
            let called = self.lock().end(id, given);
            if let Some(pin) = called {
                engine.send_event(Event::PinCalled { at_ms: now_ms(), pin: Box::new(pin) });
            }
        }
    }

    /// The call to make; `None` if the version that serves was called already, or is being called right now.
    fn begin(
        &self,
        engine: &dyn Served,
        id: u64,
        running: &Arc<Call>,
    ) -> Option<(PinParams, LoadedPlugin)> {
        let plugin = self.lock().pin(id)?.call.plugin.clone();
        let plugin = engine.plugin(&plugin).ok()?;
        let mut state = self.lock();
        let pin = state.pin(id)?;
        if pin.running.is_some() || is_of(&pin.call.now, &plugin) {
            return None;
        }
        pin.running = Some(running.clone());
        Some((pin.call.params(), plugin))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.locked()
    }
}

impl State {
    fn pin(&mut self, id: u64) -> Option<&mut Pin> {
        self.pins.iter_mut().find(|pin| pin.call.id == id)
    }

    fn find(&self, params: &PinParams) -> Option<&Pin> {
        self.pins.iter().find(|pin| pin.call.params() == *params)
    }

    fn add(
        &mut self,
        plugin: &str,
        params: PinParams,
        given: Given,
    ) -> Result<PinnedCall, WireError> {
        if let Some(pin) = self.find(&params) {
            return Ok(pin.call.clone());
        }
        if self.pins.len() >= MAX_PINS {
            let message = format!("{MAX_PINS} calls are pinned; remove one first");
            return Err(refusal(message));
        }
        self.next_id += 1;
        let call = PinnedCall {
            id: self.next_id,
            plugin: plugin.to_owned(),
            function: params.function,
            args: params.args,
            lenient: params.lenient,
            now: given.answer,
            before: None,
            is_same: None,
        };
        let pin = Pin { call: call.clone(), digest: given.digest, running: None };
        self.pins.push(pin);
        Ok(call)
    }

    /// Stores the outcome of a call; `None` if the call was unpinned meanwhile.
    fn end(&mut self, id: u64, given: Given) -> Option<PinnedCall> {
        let pin = self.pin(id)?;
        pin.running = None;
        pin.call.is_same = Some(pin.digest == given.digest);
        pin.digest = given.digest;
        pin.call.before = Some(std::mem::replace(&mut pin.call.now, given.answer));
        Some(pin.call.clone())
    }
}

impl Given {
    /// Makes the call, unless the function has effects.
    pub fn by_calling(plugin: &LoadedPlugin, params: &PinParams, running: &Arc<Call>) -> Self {
        let given = end_panic(|| {
            expect_no_effects(plugin, &params.function)?;
            calls::call_once(plugin, params, running)
        });
        let given = given.unwrap_or_else(|panic| {
            let message = format!("the host panicked while it made the call: {panic}");
            Err(WireError::new(ErrorKind::Internal, message))
        });
        match given {
            Ok(answer) => Self::of_call(plugin, answer),
            Err(error) => Self::of(plugin, Err(error)),
        }
    }

    /// The outcome of a call. The text of a failure does not contain the version, so that the outcomes of two
    /// versions can be compared.
    fn of_call(plugin: &LoadedPlugin, (answer, elapsed_ns): calls::Answer) -> Self {
        let answer = answer.map(|value| (value, elapsed_ns)).map_err(|error| {
            let mut wire = WireError::new(error.kind(), error.message());
            wire.chain = error.causes().to_vec();
            wire
        });
        Self::of(plugin, answer)
    }

    /// The outcome of a version, and how long the call took.
    fn of(plugin: &LoadedPlugin, answer: Result<(Json, u64), WireError>) -> Self {
        let mut hasher = DefaultHasher::new();
        let (outcome, elapsed_ns) = match answer {
            Ok((value, elapsed_ns)) => {
                let text = value.to_string();
                text.hash(&mut hasher);
                let outcome = match text.len() {
                    size if size > MAX_PINNED_BYTES => PinnedOutcome::LargeValue(size as u64),
                    _ => PinnedOutcome::Value(value),
                };
                (outcome, Some(elapsed_ns))
            }
            Err(error) => {
                let error = bounded(error, MAX_PINNED_BYTES);
                (error.kind, &error.message, &error.chain).hash(&mut hasher);
                (PinnedOutcome::Error(error), None)
            }
        };
        let (version, patch) = (plugin.version(), plugin.patch());
        let answer = PinnedAnswer { version, patch, at_ms: now_ms(), elapsed_ns, outcome };
        Self { answer, digest: hasher.finish() }
    }
}

/// Whether the answer comes from the code that serves.
fn is_of(answer: &PinnedAnswer, plugin: &LoadedPlugin) -> bool {
    (answer.version, answer.patch) == (plugin.version(), plugin.patch())
}

/// Refuses a function that its author marked with `effects`.
fn expect_no_effects(plugin: &LoadedPlugin, function: &str) -> Result<(), WireError> {
    let function = plugin.inner().function(function).map(|(_, function)| function);
    let Some(function) = function.filter(|function| function.has_effects) else { return Ok(()) };
    Err(refusal(format!(
        "{} {} says that `{}` has effects, so the call must not be repeated automatically",
        plugin.name(),
        version_label(plugin.version(), plugin.patch()),
        function.name
    )))
}

fn refusal(message: String) -> WireError {
    WireError::new(ErrorKind::Pin, message)
}
