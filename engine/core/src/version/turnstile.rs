//! Holds up the calls of a version while it hands over to the next one.

use std::{
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, ThreadId},
};

use super::lease::Lease;
use crate::{
    image::step_thread::{EngineId, runs_steps_of},
    lock::Lock as _,
    slots,
};

/// Finds the serving version of the plugin; `None` if there is none.
pub(crate) type Serving = Arc<dyn Fn() -> Option<Lease> + Send + Sync>;

/// Admits calls to a version, holds them up while it hands over, or passes them on to its successor.
///
/// A call first takes a hold of the version, and then checks whether the turnstile is shut. Whoever shuts it
/// then waits for the calls that have taken a hold.
#[derive(Default)]
pub(crate) struct Turnstile {
    is_shut: AtomicBool,
    way: Mutex<Way>,
    changed: Condvar,
}

#[derive(Default)]
enum Way {
    /// Calls run in this version.
    #[default]
    Here,
    /// Calls wait for this load.
    Held(Load),
    /// Calls run in the version that serves.
    On(Serving),
}

/// A load that holds calls up.
struct Load {
    engine: EngineId,
    /// The thread that loads, on which the host's callbacks run.
    thread: ThreadId,
}

impl Load {
    /// Whether the load waits for this thread.
    fn waits_for_this_thread(&self) -> bool {
        self.thread == thread::current().id() || runs_steps_of() == Some(self.engine)
    }
}

/// The version in which a call runs after it was held up.
pub(crate) enum Through {
    /// In this version, whose turnstile was opened again.
    Again,
    /// In the version that serves now.
    On(Lease),
    /// In this version, although it has handed over, because there is no other.
    Here,
}

impl Turnstile {
    /// Whether a call that has taken a hold of the version must leave it and [`wait`](Self::wait).
    #[inline]
    pub fn is_shut(&self) -> bool {
        slots::light_barrier();
        self.is_shut.load(Ordering::Acquire)
    }

    /// Whether calls are held up by a load that waits for this thread: a call from here would wait for itself.
    pub fn waits_for_this_thread(&self) -> bool {
        matches!(&*self.way.locked(), Way::Held(load) if load.waits_for_this_thread())
    }

    /// Waits until it is known in which version the call runs.
    pub fn wait(&self) -> Through {
        let mut way = self.way.locked();
        let serving = loop {
            match &*way {
                Way::Here => return Through::Again,
                Way::On(serving) => break serving.clone(),
                Way::Held(_) => {
                    way = self.changed.wait(way).unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        drop(way);
        serving().map_or(Through::Here, Through::On)
    }

    /// Holds up calls from now on, for a load of an engine on this thread.
    pub fn shut(&self, engine: EngineId) {
        *self.way.locked() = Way::Held(Load { engine, thread: thread::current().id() });
        self.is_shut.store(true, Ordering::SeqCst);
    }

    /// Admits calls again.
    pub fn open(&self) {
        *self.way.locked() = Way::Here;
        self.is_shut.store(false, Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// Passes calls on to the version that serves.
    pub fn pass(&self, serving: Serving) {
        *self.way.locked() = Way::On(serving);
        self.changed.notify_all();
    }
}
