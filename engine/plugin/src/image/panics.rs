//! Catches panics on the side that raised them, and reports them as text.

use std::{
    any::Any,
    backtrace::{Backtrace, BacktraceStatus},
    borrow::Cow,
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook},
    sync::{
        Arc, Once,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::{host, log};
use crate::{
    Error,
    abi::{Answer, PanicReport},
    hint::explained,
};

thread_local! {
    /// How many calls of [`catch`] are on this thread's stack.
    static CATCHING: Cell<usize> = const { Cell::new(0) };
    /// The place in the source of the panic that is unwinding.
    static LOCATION: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `f`; a panic in it becomes [`Answer::Panic`].
pub(crate) fn catch<T>(f: impl FnOnce() -> Answer<T>) -> Answer<T> {
    CATCHING.set(CATCHING.get() + 1);
    let answer = catch_in_call(f);
    CATCHING.set(CATCHING.get() - 1);
    answer
}

/// Works like [`catch`], within a call of the engine. The engine knows that the thread is in a call, so this
/// does not count it in a thread-local: in an image, accessing a thread-local takes longer than the rest of a
/// call.
#[inline(always)]
pub(crate) fn catch_in_call<T>(f: impl FnOnce() -> Answer<T>) -> Answer<T> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(answer) => answer,
        Err(payload) => Answer::Panic(report(payload)),
    }
}

#[cold]
fn report(payload: Box<dyn Any + Send>) -> PanicReport {
    let location = location();
    let message = explained(&end_payload(payload)).into_owned();
    // The drop of the payload may have panicked too. The place of that panic is forgotten, so that it is not
    // reported for the next one.
    let _ = LOCATION.try_with(|place| place.borrow_mut().clear());
    PanicReport { message, location }
}

/// Runs `f`; a panic in it becomes an error with the panic's message. For callers that do not need the place
/// of the panic.
///
/// # Errors
/// If `f` panicked.
#[doc(hidden)]
pub fn end_panic<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(end_payload)
}

/// Drops a panic's payload, and returns its message. Both can run the author's code, and panic again.
#[cold]
fn end_payload(payload: Box<dyn Any + Send>) -> String {
    let message = catch_unwind(AssertUnwindSafe(|| message_of(payload.as_ref())));
    let message = message.unwrap_or_else(|second| {
        std::mem::forget(second);
        "a panic whose message panics".into()
    });
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    message
}

/// The place of the last panic. It is not known after `resume_unwind`, which runs no hook, and at the end of a
/// thread, when the thread-local has been dropped.
fn location() -> String {
    let place = LOCATION.try_with(RefCell::take).unwrap_or_default();
    if place.is_empty() { "an unknown place".into() } else { place }
}

/// Whether [`catch`] or [`catch_in_call`] will catch a panic on this thread.
fn is_caught() -> bool {
    // SAFETY: the function only looks.
    let is_in_call = || host().is_some_and(|host| unsafe { (host.is_in_call)() });
    CATCHING.try_with(Cell::get).is_ok_and(|catching| catching > 0) || is_in_call()
}

/// Installs a panic hook for an image. It remembers the place of a panic that will be caught, and logs any
/// other panic, such as one on a thread that the plugin started.
pub(super) fn install_hook() {
    set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        if !IS_NOTED_BEFORE.load(Ordering::Relaxed) {
            note(info, is_caught());
        }
    }));
}

/// Whether [`note_before_hook`] was called.
static IS_NOTED_BEFORE: AtomicBool = AtomicBool::new(false);

/// Whether this image has said how to have backtraces.
static IS_EXPLAINED: AtomicBool = AtomicBool::new(false);

/// Wraps the current panic hook, once, so that panics are noted before it sees them. A plugin may have set a
/// hook of its own in `on_init`, as `color_eyre` does: that hook then sees only panics that are not caught.
pub(super) fn note_before_hook() {
    if IS_NOTED_BEFORE.swap(true, Ordering::Relaxed) {
        return;
    }
    let hook = take_hook();
    set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        let is_caught = is_caught();
        note(info, is_caught);
        if !is_caught {
            hook(info);
        }
    }));
}

/// Remembers the place of a panic if it will be caught, and logs the panic otherwise. Also logs the backtrace of
/// the panic if the environment asks for one, and otherwise, once, how to have one.
fn note(info: &PanicHookInfo<'_>, is_caught: bool) {
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    // It is captured only if the environment asks for it: std's symboliser never frees what it allocates to
    // resolve a backtrace.
    let backtrace = Backtrace::capture();
    if let Some(host) = host() {
        if backtrace.status() == BacktraceStatus::Captured {
            let backtrace = without_callers(&backtrace.to_string());
            let message = format!("backtrace of the panic at {location}:\n{backtrace}");
            log::error(host, message, info.location());
        } else if !IS_EXPLAINED.swap(true, Ordering::Relaxed) {
            let message = format!(
                "for a backtrace of a panic such as the one at {location}, start the host with `RUST_BACKTRACE=1`: \
                 it is then in this log"
            );
            log::info(host, message, info.location());
        }
    }
    if is_caught {
        let _ = LOCATION.try_with(|place| place.replace(location));
    } else if let Some(host) = host() {
        let thread = thread::current();
        let name = thread.name().unwrap_or("unnamed");
        let message = text_of(info.payload()).unwrap_or_else(|| NOT_TEXT.into());
        let message = explained(&message);
        let message = format!("thread `{name}` panicked at {location}: {message}");
        log::error(host, message, info.location());
    }
}

/// The backtrace with the number of the last frames in their place if these have no names: they are the callers of
/// this image, mostly the host, whose names the image does not know.
fn without_callers(backtrace: &str) -> String {
    let lines: Vec<&str> = backtrace.lines().collect();
    let is_named = |line: &&str| !line.ends_with("<unknown>");
    match lines.iter().rposition(is_named) {
        Some(last) if last + 1 < lines.len() => {
            let (named, callers) = lines.split_at(last + 1);
            let (named, count) = (named.join("\n"), callers.len());
            let frames = if count == 1 { "frame" } else { "frames" };
            format!("{named}\n(and {count} {frames} outside of the plugin)")
        }
        _ => backtrace.to_owned(),
    }
}

/// Installs a panic hook for linked plugins, once. It remembers the place of a panic that [`catch`] will
/// catch, and passes any other panic to the host's own hook.
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

/// The message of a panic whose payload has no text.
const NOT_TEXT: &str = "a panic whose payload is not text";

/// The message of a panic. By convention its payload is a string, but `panic_any` accepts anything; errors
/// have a message too, which is made by code of their author.
fn message_of(payload: &(dyn Any + Send)) -> String {
    text_of(payload)
        .or_else(|| text::<Box<dyn std::error::Error + Send + Sync>>(payload))
        .or_else(|| text::<Box<dyn std::error::Error + Send>>(payload))
        .or_else(|| text::<std::io::Error>(payload))
        .unwrap_or_else(|| NOT_TEXT.into())
}

/// The message of a panic whose payload is a text. No code of the author runs: if it panicked in a panic
/// hook, that would end the process.
fn text_of(payload: &(dyn Any + Send)) -> Option<String> {
    text::<&str>(payload)
        .or_else(|| text::<String>(payload))
        .or_else(|| text::<Error>(payload))
        .or_else(|| text::<Box<str>>(payload))
        .or_else(|| text::<Arc<str>>(payload))
        .or_else(|| text::<Cow<'static, str>>(payload))
}

/// The payload's text, if it is a `T`.
fn text<T: Any + ToString>(payload: &(dyn Any + Send)) -> Option<String> {
    payload.downcast_ref::<T>().map(ToString::to_string)
}
