//! Holds up the calls of a version while it hands over to the next one.

use std::{
    future::poll_fn,
    mem,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use hotswap_plugin::__private::end_panic;

use super::{Version, lease::Lease};
use crate::{
    image::step_thread::{EngineId, is_inside},
    lock::Lock as _,
    slots,
};

/// Finds the serving version of the plugin; `None` if there is none.
pub(crate) type Serving = Arc<dyn Fn() -> Option<Lease> + Send + Sync>;

/// Admits calls to a version, holds them up while it hands over, or passes them on to its successor.
///
/// A call first takes a hold of the version, and then checks whether the turnstile is shut. Whoever shuts it
/// then waits for the calls that have taken a hold, and for the calls that these make.
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
    awaited: Arc<AwaitedCalls>,
    /// Whether the version is handing over, or has done so. Before that, another version may call it to hand over.
    has_begun: bool,
    /// Whether calls are refused instead of held up, because a callback of the host has taken too long.
    refuses: bool,
    /// Those of the `async` calls that wait.
    wakers: Vec<Waker>,
}

impl Load {
    /// Whether the load waits for this thread.
    fn waits_for_this_thread(&self) -> bool {
        is_inside(self.engine)
    }
}

/// The calls that a load waits for before its versions hand over.
pub(crate) struct AwaitedCalls {
    /// The versions that hand over.
    versions: Vec<Address>,
    state: Mutex<Awaited>,
}

/// The address of a version, which is only compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address(usize);

impl Address {
    pub fn of(version: *const Version) -> Self {
        Self(version.addr())
    }

    /// How many calls of this thread are in the version, as far as they have slots.
    pub fn calls_here(self) -> usize {
        slots::times_noted_here(self.0)
    }
}

#[derive(Default)]
struct Awaited {
    /// Whether all of them have ended.
    are_over: bool,
    /// How many calls were admitted meanwhile.
    admitted: u64,
}

impl AwaitedCalls {
    /// The calls of these versions.
    pub fn of<'v>(versions: impl Iterator<Item = &'v Arc<Version>>) -> Arc<Self> {
        let versions = versions.map(|version| Address::of(Arc::as_ptr(version))).collect();
        Arc::new(Self { versions, state: Mutex::default() })
    }

    /// Whether a call may run because the load waits for the call that makes it. `is_inside` says whether a call of
    /// a version makes it.
    fn admit(&self, is_inside: impl Fn(Address) -> bool) -> bool {
        let mut state = self.state.locked();
        let is_admitted =
            !state.are_over && self.versions.iter().any(|version| is_inside(*version));
        state.admitted += u64::from(is_admitted);
        is_admitted
    }

    /// Notes that the calls have ended, if `runs_any` says so. Returns whether they have. From then on, no call is
    /// admitted.
    pub fn end_unless(&self, runs_any: impl FnOnce() -> bool) -> bool {
        let before = self.state.locked().admitted;
        if runs_any() {
            return false;
        }
        let mut state = self.state.locked();
        // A call that was admitted meanwhile may run in a version that was looked at before.
        state.are_over = state.admitted == before;
        state.are_over
    }
}

/// What a call does that has taken a hold of a version.
pub(crate) enum Admission {
    /// It runs.
    Run,
    /// It leaves the version, and waits.
    Wait,
    /// It is refused: the load that holds it up waits for this thread.
    Refuse,
}

/// The version in which a call runs after it was held up.
pub(crate) enum Through {
    /// In this version, whose turnstile was opened again.
    Again,
    /// In the version that serves now.
    On(Lease),
    /// In this version, although it has handed over, because there is no other.
    Here,
    /// In none, because it has waited too long.
    Refused,
}

impl Turnstile {
    /// What a call does that has taken a hold of the version. `is_inside` says whether a call of a version makes it.
    #[inline]
    pub fn admission(&self, is_inside: impl Fn(Address) -> bool) -> Admission {
        slots::light_barrier();
        if !self.is_shut.load(Ordering::Acquire) {
            return Admission::Run;
        }
        self.admission_if_shut(is_inside)
    }

    #[cold]
    fn admission_if_shut(&self, is_inside: impl Fn(Address) -> bool) -> Admission {
        match &*self.way.locked() {
            Way::Held(load) if load.waits_for_this_thread() => match load.has_begun {
                true => Admission::Refuse,
                false => Admission::Run,
            },
            Way::Held(load) if load.awaited.admit(is_inside) => Admission::Run,
            _ => Admission::Wait,
        }
    }

    /// Waits until it is known in which version the call runs.
    pub fn wait(&self) -> Through {
        let mut way = self.way.locked();
        let serving = loop {
            match &*way {
                Way::Here => return Through::Again,
                Way::On(serving) => break serving.clone(),
                Way::Held(load) if load.refuses => return Through::Refused,
                Way::Held(_) => {
                    way = self.changed.wait(way).unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        drop(way);
        serving().map_or(Through::Here, Through::On)
    }

    /// Like [`wait`](Self::wait), without blocking the thread: a call that the load waits for may need it.
    pub async fn wait_async(&self) -> Through {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&self, context: &Context<'_>) -> Poll<Through> {
        // The waker is code of the host, and so it is neither cloned nor dropped under the lock.
        let mut waker = Some(context.waker().clone());
        let serving = match &mut *self.way.locked() {
            Way::Here => return Poll::Ready(Through::Again),
            Way::On(serving) => serving.clone(),
            Way::Held(load) if load.refuses => return Poll::Ready(Through::Refused),
            Way::Held(load) => {
                if !load.wakers.iter().any(|known| known.will_wake(context.waker())) {
                    load.wakers.extend(waker.take());
                }
                return Poll::Pending;
            }
        };
        Poll::Ready(serving().map_or(Through::Here, Through::On))
    }

    /// Holds up calls from now on, for a load of an engine on this thread.
    pub fn shut(&self, engine: EngineId, awaited: &Arc<AwaitedCalls>) {
        let (awaited, wakers) = (awaited.clone(), Vec::new());
        let load = Load { engine, awaited, has_begun: false, refuses: false, wakers };
        *self.way.locked() = Way::Held(load);
        self.is_shut.store(true, Ordering::SeqCst);
    }

    /// Notes that the version begins to hand over.
    pub fn begin(&self) {
        if let Way::Held(load) = &mut *self.way.locked() {
            load.has_begun = true;
        }
    }

    /// Refuses calls instead of holding them up, those that wait included, or holds them up again.
    pub fn refuse(&self, refuses: bool) {
        let mut wakers = Vec::new();
        if let Way::Held(load) = &mut *self.way.locked() {
            load.refuses = refuses;
            wakers = mem::take(&mut load.wakers);
        }
        self.notify(wakers);
    }

    /// Admits calls again.
    pub fn open(&self) {
        self.change(Way::Here, || self.is_shut.store(false, Ordering::SeqCst));
    }

    /// Passes calls on to the version that serves.
    pub fn pass(&self, serving: Serving) {
        self.change(Way::On(serving), || ());
    }

    fn change(&self, to: Way, then: impl FnOnce()) {
        let before = mem::replace(&mut *self.way.locked(), to);
        then();
        self.notify(match before {
            Way::Held(load) => load.wakers,
            _ => Vec::new(),
        });
    }

    /// Lets calls that wait look at their way again.
    fn notify(&self, wakers: Vec<Waker>) {
        self.changed.notify_all();
        for waker in wakers {
            let _ = end_panic(|| waker.wake());
        }
    }
}
