//! Panics end on the side that raised them, and are told as text.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook},
    sync::Once,
    thread,
};

use super::{host, log};
use crate::abi::{Outcome, PanicReport};

thread_local! {
    /// How many [`catch`] are on this thread's stack.
    static CATCHING: Cell<usize> = const { Cell::new(0) };
    /// Where the panic that is unwinding was raised.
    static LOCATION: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `f`; a panic in it becomes a report.
pub(crate) fn catch<T>(f: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    CATCHING.set(CATCHING.get() + 1);
    let outcome = catch_in_call(f);
    CATCHING.set(CATCHING.get() - 1);
    outcome
}

/// As [`catch`], within a call that the engine makes: the engine knows that the thread is in one, and
/// so the thread need not, whose variables cost an image more than all the rest of a call.
#[inline(always)]
pub(crate) fn catch_in_call<T>(f: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(outcome) => outcome,
        Err(payload) => Outcome::Panic(report(payload)),
    }
}

#[cold]
fn report(payload: Box<dyn Any + Send>) -> PanicReport {
    PanicReport { message: end_payload(payload), location: location() }
}

/// Runs `f`; a panic in it becomes its message. For a side that has no report to give.
///
/// # Errors
/// When `f` panicked.
#[doc(hidden)]
pub fn end_panic<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(end_payload)
}

/// Drops a panic's payload, and tells its message. Dropping it can run the author's code, and that can
/// panic once more.
#[cold]
fn end_payload(payload: Box<dyn Any + Send>) -> String {
    let message = message_of(payload.as_ref());
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    message
}

/// Where the last panic was raised; unknown at a thread's end, when the note is gone.
fn location() -> String {
    LOCATION.try_with(RefCell::take).unwrap_or_default()
}

/// Whether a panic on this thread is one that will end in a [`catch`].
fn is_caught() -> bool {
    // SAFETY: the function only looks.
    let is_in_call = || host().is_some_and(|host| unsafe { (host.is_in_call)() });
    CATCHING.try_with(Cell::get).is_ok_and(|catching| catching > 0) || is_in_call()
}

/// Remembers where a panic was raised, and logs one that nobody will catch: that of a thread which
/// the plugin started.
pub(super) fn install_hook() {
    set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        if is_caught() {
            let _ = LOCATION.try_with(|place| place.replace(location));
        } else if let Some(host) = host() {
            let thread = thread::current();
            let name = thread.name().unwrap_or("unnamed");
            let message = message_of(info.payload());
            log::error(host, format!("thread `{name}` panicked at {location}: {message}"));
        }
    }));
}

/// Remembers where a panic was raised that a linked plugin's [`catch`] will end; any other goes to the
/// host's own hook.
pub(super) fn note_locations() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let of_host = take_hook();
        set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            if !is_caught() {
                return of_host(info);
            }
            let location = info.location().map(ToString::to_string).unwrap_or_default();
            let _ = LOCATION.try_with(|place| place.replace(location));
        }));
    });
}

/// The message of a panic's payload, which by convention is a string.
fn message_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic whose payload is no text".into())
}
