//! Plugins with a resource that only one version may have: the old version releases it before the new one
//! takes it, and no call runs in between.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use hotswap_plugin::{__private::end_panic, abi::Answer};

use super::LoadContext;
use crate::{
    EngineError, LoadCause, Step,
    image::step_thread::StepThread,
    serve::current::Current,
    slots,
    version::{
        Version,
        lease::{Lease, LeaseKind},
    },
};

/// How often to check whether all calls have ended: there is no event for the end of a call.
const LOOK: Duration = Duration::from_micros(50);

/// A version that has handed over, or is about to, while its calls are held up. If this is dropped, the calls
/// run in that version again.
pub(super) struct HandOver {
    old: Lease,
    current: Arc<Current>,
    begun: Instant,
    /// Whether the plugin's `hand_over` was called and has returned.
    has_let_go: bool,
    /// Whether calls go on to the version that serves.
    has_passed: bool,
}

impl HandOver {
    /// Makes a version hand over, if it is one that hands over.
    pub fn begin(
        context: &LoadContext<'_>,
        old: &Lease,
        steps: &StepThread,
    ) -> Result<Option<Self>, EngineError> {
        let hands_over = steps.run(old, Step::HandOver, |image| image.hands_over())?;
        if !hands_over {
            return Ok(None);
        }
        if slots::noted_here(Arc::as_ptr(old.version())).is_some() {
            let message = "the load was requested in one of its calls, and would wait for the end of that call; \
                           request it again after the call has ended";
            let refused = EngineError::load(old.version().name(), Step::HandOver, message);
            return Err(refused.because(LoadCause::Other));
        }
        let mut this = Self {
            old: old.another(LeaseKind::Handle),
            current: context.current.clone(),
            begun: Instant::now(),
            has_let_go: false,
            has_passed: false,
        };
        this.old.version().turnstile.shut(old.version().engine());
        this.current.expect_slow_calls(true);
        let result = this.wait_for_calls(steps.timeout()).and_then(|()| {
            let answer = steps.run(old, Step::HandOver, |image| image.hand_over());
            match &answer {
                Err(error) if error.is_timed_out() => take_back_later(old, steps),
                _ => this.has_let_go = true,
            }
            answer
        });
        match result {
            Ok(()) => Ok(Some(this)),
            Err(error) => {
                this.take_back(steps);
                Err(error)
            }
        }
    }

    /// Waits until the calls that run in the version have ended.
    fn wait_for_calls(&self, patience: Duration) -> Result<(), EngineError> {
        let old = self.old.version();
        let is_called =
            || slots::is_held(Arc::as_ptr(old)) || old.leases().count(LeaseKind::Call) > 0;
        while is_called() {
            if self.begun.elapsed() > patience {
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
        Ok(())
    }

    /// Called after the load was published: the calls that were held up run in the version that serves.
    /// Returns the version that handed over, and how long calls had to wait at most.
    pub fn pass(mut self) -> (Arc<Version>, Duration) {
        let (current, name) = (Arc::downgrade(&self.current), self.old.version().name().clone());
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
            self.current.expect_slow_calls(false);
        }
    }
}
