//! Plugins with a resource that only one version may have: the old version releases it before the new one
//! takes it, and no call runs in between.

use std::{
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use hotswap_plugin::{__private::end_panic, abi::Answer};

use hotswap_protocol::PluginName;

use super::LoadContext;
use crate::{
    EngineError, LoadCause, Step,
    image::step_thread::StepThread,
    serve::current::Current,
    slots,
    version::{
        Version,
        lease::{Lease, LeaseKind},
        turnstile::AwaitedCalls,
    },
};

/// How often to check whether all calls have ended: there is no event for the end of a call.
const LOOK: Duration = Duration::from_micros(50);

/// Whether a version wants to hand over to the next one.
///
/// # Errors
/// If the calls of the version cannot end before the load.
pub(super) fn is_wanted(old: &Lease, steps: &StepThread) -> Result<bool, EngineError> {
    let is_wanted = steps.run(old, Step::HandOver, |image| image.hands_over())?;
    if is_wanted && slots::noted_here(Arc::as_ptr(old.version())).is_some() {
        let message = "the load was requested in one of its calls, and would wait for the end of that call; \
                       request it again after the call has ended";
        let refused = EngineError::load(old.version().name(), Step::HandOver, message);
        return Err(refused.because(LoadCause::Other));
    }
    Ok(is_wanted)
}

/// Holds up the calls of versions, and waits until those that run have ended. They may call each other's versions.
///
/// # Errors
/// If a call does not end within `patience`.
pub(super) fn hold_calls_up(
    context: &LoadContext<'_>,
    olds: &[&Lease],
    patience: Duration,
) -> Result<Vec<HandOver>, EngineError> {
    let awaited = AwaitedCalls::of(olds.iter().map(|old| old.version()));
    let slow_calls = Arc::new(SlowCalls(context.current.clone()));
    let begun = Instant::now();
    let hold_up = |old: &&Lease| {
        let version = old.version();
        version.turnstile.shut(version.engine(), &awaited);
        let (old, slow_calls) = (old.another(LeaseKind::Handle), slow_calls.clone());
        HandOver { old, begun, has_let_go: false, has_passed: false, slow_calls }
    };
    let all: Vec<HandOver> = olds.iter().map(hold_up).collect();
    context.current.expect_slow_calls(true);
    while !awaited.end_unless(|| all.iter().any(HandOver::is_called)) {
        if begun.elapsed() > patience
            && let Some(called) = all.iter().find(|it| it.is_called())
        {
            let old = called.old.version();
            let message = format!(
                "its calls did not end within {} s, so it cannot hand over: {}",
                patience.as_secs_f64(),
                old.holder_counts()
            );
            let refused = EngineError::load(old.name(), Step::HandOver, message);
            return Err(refused.because(LoadCause::TimedOut { after: patience }));
        }
        thread::sleep(LOOK);
    }
    Ok(all)
}

/// Runs the callbacks of the host. They may take as long as they like, and may wait for a caller whose call is held up.
/// So after `patience`, calls are refused instead of held up, until the callbacks have returned.
pub(super) fn call_back<R>(
    handed_over: &[HandOver],
    patience: Duration,
    callbacks: impl FnOnce() -> R,
) -> R {
    if handed_over.is_empty() {
        return callbacks();
    }
    let refuse = |refuses| {
        handed_over.iter().for_each(|it| it.old.version().turnstile.refuse(refuses));
    };
    let returned = thread::scope(|scope| {
        let (is_over, over) = mpsc::channel::<()>();
        // If there is no thread for this, calls are held up as long as the callbacks take.
        let _ =
            thread::Builder::new().name("hotswap-patience".to_owned()).spawn_scoped(scope, || {
                let over = over;
                if over.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                    refuse(true);
                }
            });
        let returned = callbacks();
        drop(is_over);
        returned
    });
    refuse(false);
    returned
}

/// A version whose calls are held up, and that has handed over or is about to. If this is dropped, the calls run in
/// that version again.
pub(super) struct HandOver {
    old: Lease,
    begun: Instant,
    /// Whether the plugin's `hand_over` was called and has returned.
    has_let_go: bool,
    /// Whether calls go on to the version that serves.
    has_passed: bool,
    // Dropped last, after the turnstile is open.
    slow_calls: Arc<SlowCalls>,
}

/// Makes calls look for their version, as long as the calls of some version are held up.
struct SlowCalls(Arc<Current>);

impl Drop for SlowCalls {
    fn drop(&mut self) {
        self.0.expect_slow_calls(false);
    }
}

impl HandOver {
    /// The plugin.
    pub fn plugin(&self) -> &PluginName {
        self.old.version().name()
    }

    fn is_called(&self) -> bool {
        let old = self.old.version();
        slots::is_held(Arc::as_ptr(old)) || old.leases().count(LeaseKind::Call) > 0
    }

    /// Makes the version hand over.
    pub fn let_go(mut self, steps: &StepThread) -> Result<Self, EngineError> {
        self.old.version().turnstile.begin();
        match steps.run(&self.old, Step::HandOver, |image| image.hand_over()) {
            Ok(()) => {
                self.has_let_go = true;
                Ok(self)
            }
            Err(error) => {
                match error.is_timed_out() {
                    true => take_back_later(&self.old, steps),
                    false => self.has_let_go = true,
                }
                self.take_back(steps);
                Err(error)
            }
        }
    }

    /// Called after the load was published: the calls that were held up run in the version that serves.
    /// Returns the version that handed over, and how long calls had to wait at most.
    pub fn pass(mut self) -> (Arc<Version>, Duration) {
        let (current, name) = (Arc::downgrade(&self.slow_calls.0), self.plugin().clone());
        let serving = move || {
            let current = current.upgrade()?;
            let lease = current.load().lease(&name)?.another(LeaseKind::Handle);
            Some(lease)
        };
        let old = self.old.version().clone();
        old.turnstile.pass(Arc::new(serving));
        self.has_passed = true;
        (old, self.begun.elapsed())
    }

    /// Called after the load and the versions `failed` have failed: waits until the new version has released
    /// everything, and lets the old one take back what it released.
    pub fn undo(self, failed: &[Arc<Version>], steps: &StepThread) {
        let begun = Instant::now();
        let name = self.old.version().name();
        for new in failed.iter().filter(|new| new.name() == name) {
            while !new.has_dropped_instance() && begun.elapsed() < steps.timeout() {
                thread::sleep(LOOK);
            }
        }
        self.take_back(steps);
    }

    fn take_back(self, steps: &StepThread) {
        let version = self.old.version();
        if self.has_let_go {
            // The thread of the load may be in a step that does not return.
            let taken = steps
                .another()
                .and_then(|steps| steps.run(&self.old, Step::TakeBack, |image| image.take_back()));
            if let Err(error) = taken {
                log_lost(version, &error);
            }
        }
    }
}

/// Lets a version take back what it releases in a `hand_over` that has not returned yet: the next step on the
/// thread in which it runs. Until then, no other load makes the version hand over.
fn take_back_later(old: &Lease, steps: &StepThread) {
    let version = old.version().clone();
    let begun = steps.begin(old, Step::TakeBack, move |image| {
        let taken = image.take_back();
        let taken = EngineError::of_answer(version.name(), Step::TakeBack, taken);
        if let Err(error) = taken {
            log_lost(&version, &error);
        }
        Answer::Ok(())
    });
    if let Err(error) = begun {
        log_lost(old.version(), &error);
    }
}

/// Logs that a version is without its resource.
fn log_lost(version: &Arc<Version>, error: &EngineError) {
    let _ = end_panic(|| tracing::error!("{version} could not take back: {error}"));
}

impl Drop for HandOver {
    fn drop(&mut self) {
        if !self.has_passed {
            self.old.version().turnstile.open();
        }
    }
}
