//! Calls of plugin functions by name.

use hotswap_plugin::{FunctionDescription, Value, abi::Answer};
use serde::de::DeserializeOwned;

use super::{asynchronous::AsyncCall, current::Current, error::CallError, in_use::InUse};
use crate::version::{
    Version,
    face::Faced,
    lease::{Lease, LeaseKind, LeaseName},
    turnstile::{Admission, Through},
};

/// Calls a function of a leased version. If it is `async`, this thread waits for its result.
pub(crate) fn invoke(lease: &Lease, name: &str, args: &[Value]) -> Result<Value, CallError> {
    match begin(lease, name, args) {
        Begun::Ended(result) => result,
        Begun::Running(call) => call.wait(),
    }
}

/// Calls a function like `invoke`, with a lease of its own.
pub(crate) fn invoke_leased(lease: Lease, name: &str, args: &[Value]) -> Result<Value, CallError> {
    let enter = |lease: Lease| {
        let place = place_of(lease.version(), name);
        InUse::by(lease, place)
    };
    let mut in_use = enter(lease);
    loop {
        match in_use.admission() {
            Admission::Run => break,
            Admission::Refuse => return Err(CallError::inside_load(in_use.faced(), name)),
            Admission::Wait => {}
        }
        // A version that hands over waits for calls, and not for handles.
        let handle = in_use.lease(LeaseKind::Handle);
        drop(in_use);
        match handle.version().turnstile.wait() {
            Through::On(other) => in_use = enter(other),
            Through::Again => in_use = enter(handle.another(LeaseKind::Call)),
            Through::Here => {
                in_use = enter(handle.another(LeaseKind::Call));
                break;
            }
            Through::Refused => return Err(CallError::held_up(handle.faced(), name)),
        }
    }
    match run(&in_use, name, in_use.function(name), args) {
        Begun::Ended(result) => result,
        Begun::Running(call) => call.wait(),
    }
}

/// The place of a function, or the place for calls of functions that the version does not have.
fn place_of(version: &Version, name: &str) -> usize {
    place_in(version, version.function(name))
}

fn place_in(version: &Version, found: Option<(usize, &FunctionDescription)>) -> usize {
    found.map_or_else(|| version.unplaced(), |(place, _)| place)
}

/// A call that has begun.
pub(crate) enum Begun {
    /// The function has returned at once.
    Ended(Result<Value, CallError>),
    /// The function is `async`. The call is in a box, so that the result of a function that is not `async` stays
    /// small.
    Running(Box<AsyncCall>),
}

/// Begins a call of a function of a leased version.
fn begin(lease: &Lease, name: &str, args: &[Value]) -> Begun {
    // Like `try_begin`, with which the benchmark `calls` takes some 4 ns more.
    let found = lease.version().function(name);
    let in_use = InUse::of(lease, place_in(lease.version(), found));
    match in_use.admission() {
        Admission::Run => return run(&in_use, name, found, args),
        Admission::Refuse => {
            return Begun::Ended(Err(CallError::inside_load(in_use.faced(), name)));
        }
        Admission::Wait => drop(in_use),
    }
    match lease.version().turnstile.wait() {
        Through::Again => begin(lease, name, args),
        Through::On(other) => begin(&other, name, args),
        Through::Here => begin_here(lease, name, args),
        Through::Refused => Begun::Ended(Err(CallError::held_up(lease.faced(), name))),
    }
}

/// Like `begin`, without blocking the thread as long as the call is held up.
pub(crate) async fn begin_async(lease: &Lease, name: &str, args: &[Value]) -> Begun {
    let mut other = None;
    loop {
        let lease = other.as_ref().unwrap_or(lease);
        if let Some(begun) = try_begin(lease, name, args) {
            return begun;
        }
        match lease.version().turnstile.wait_async().await {
            Through::Again => {}
            Through::On(next) => other = Some(next),
            Through::Here => return begin_here(lease, name, args),
            Through::Refused => {
                return Begun::Ended(Err(CallError::held_up(lease.faced(), name)));
            }
        }
    }
}

/// Begins a call; `None` if it is held up.
fn try_begin(lease: &Lease, name: &str, args: &[Value]) -> Option<Begun> {
    let found = lease.version().function(name);
    let in_use = InUse::of(lease, place_in(lease.version(), found));
    match in_use.admission() {
        Admission::Run => Some(run(&in_use, name, found, args)),
        Admission::Refuse => Some(Begun::Ended(Err(CallError::inside_load(in_use.faced(), name)))),
        Admission::Wait => None,
    }
}

/// Begins a call without asking whether it is held up.
fn begin_here(lease: &Lease, name: &str, args: &[Value]) -> Begun {
    let found = lease.version().function(name);
    let in_use = InUse::of(lease, place_in(lease.version(), found));
    run(&in_use, name, found, args)
}

/// Calls a function of the version that serves. If it is `async`, this thread waits for its result.
pub(crate) fn invoke_serving<T: DeserializeOwned>(
    current: &Current,
    plugin: &str,
    name: &str,
    args: &[Value],
) -> Result<T, CallError> {
    let (version, place) = current.enter(name, |serving| {
        let lease = serving.find(plugin);
        let lease = lease.map_err(|error| CallError::gone(plugin, name, &error))?;
        let place = place_of(lease.version(), name);
        Ok((lease, place, place))
    })?;
    let found = version.function_at(place).map(|function| (place, function));
    let begun = run(&version, name, found, args);
    let read = |called: Faced<'_>, value: Value| {
        value.to().map_err(|error| CallError::bad_result(called, name, &error))
    };
    match begun {
        Begun::Ended(result) => read(version.faced(), result?),
        Begun::Running(call) => {
            // The call has a lease of its own.
            drop(version);
            let lease = call.lease().another(LeaseKind::Handle);
            read(lease.faced(), call.wait()?)
        }
    }
}

/// Calls a function of a version that is in use, and counts the call.
fn run(
    version: &InUse,
    name: &str,
    found: Option<(usize, &FunctionDescription)>,
    args: &[Value],
) -> Begun {
    let place = place_in(version, found);
    let begun = version.begin_call(place);
    let found = found.and_then(|(_, described)| Some((described, version.function_ref(place)?)));
    let outcome = match found {
        Some((described, function)) if described.is_async => {
            match version.image().start(function, args) {
                Answer::Ok(future) => {
                    let lease = version.lease(LeaseKind::Call);
                    let lease = lease.named(LeaseName::Function(name.into()));
                    let call = AsyncCall::new(future, name, (place, begun), lease);
                    return Begun::Running(Box::new(call));
                }
                Answer::Err(error) => Answer::Err(error),
                Answer::Panic(report) => Answer::Panic(report),
            }
        }
        Some((_, function)) => version.image().invoke(function, args),
        None => version.image().invoke_func(name, args),
    };
    version.end_call(place, begun);
    Begun::Ended(match outcome {
        Answer::Ok(value) => Ok(value),
        Answer::Err(error) => Err(CallError::failed(version.faced(), name, error)),
        Answer::Panic(report) => Err(CallError::panicked(version.faced(), name, &report)),
    })
}
