//! The callbacks by which a fleet asks a host.

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use hotswap_plugin::__private::end_panic;
use hotswap_protocol::{HostHealth, OfferAnswer, OfferParams};

use crate::lock::Lock;

/// How long the engine waits for the answer of a callback. Printing a panic with its backtrace can take a second.
const PATIENCE: Duration = Duration::from_secs(3);
/// If `health` returns within this time after that, the health before it counts: the machine may be busy.
const DELAY_OF_HEALTH: Duration = Duration::from_secs(10);

/// The callbacks of the host; `None` for those that it has not set.
#[derive(Default)]
pub(super) struct Hooks {
    pub on_offer: Option<Callback<OfferParams, OfferAnswer>>,
    pub health: Option<Callback<(), HostHealth>>,
    last_health: Mutex<Option<HostHealth>>,
    /// Locked by whoever asks for the health.
    asking: Mutex<()>,
}

impl Hooks {
    /// Whether a release may be loaded now. If the callback panics or does not return, the answer is "later", so that
    /// the host is not disturbed.
    pub fn offer(&self, offer: &OfferParams) -> OfferAnswer {
        let Some(on_offer) = &self.on_offer else { return OfferAnswer::Now };
        let later =
            |why: &str| OfferAnswer::Later { reason: format!("the host's `on_offer` {why}") };
        on_offer.ask(offer.clone()).unwrap_or_else(|silence| match silence {
            Silence::Panicked => later("panicked"),
            Silence::Late { .. } => later("does not return"),
        })
    }

    /// The health of the host; `None` if it does not report any. Whoever asks while somebody else does gets the health
    /// before: the callback itself may ask the engine for its state.
    pub fn health(&self) -> Option<HostHealth> {
        let callback = self.health.as_ref()?;
        let Ok(_asking) = self.asking.try_lock() else { return self.last_health.locked().clone() };
        let asked = callback.ask(());
        let health = match asked {
            Ok(health) => health,
            Err(Silence::Late { since }) if since.elapsed() < DELAY_OF_HEALTH => {
                return self.last_health.locked().clone();
            }
            Err(Silence::Late { .. }) => HostHealth::unwell("the host's `health` does not return"),
            Err(Silence::Panicked) => HostHealth::unwell("the host's `health` panicked"),
        };
        *self.last_health.locked() = Some(health.clone());
        Some(health)
    }
}

/// A callback of the host. It runs on a thread of its own: if it waits for a lock that code of a plugin never
/// releases, the host must still be reachable, so that a fleet can replace that code.
pub(super) struct Callback<Q, A> {
    ask: Arc<dyn Fn(&Q) -> A + Send + Sync>,
    /// Since when a call has not returned in time. It is not called again before that.
    late_since: Arc<Mutex<Option<Instant>>>,
}

/// Why a callback has given no answer.
enum Silence {
    Panicked,
    Late { since: Instant },
}

impl<Q: Send + 'static, A: Send + 'static> Callback<Q, A> {
    pub fn new(ask: impl Fn(&Q) -> A + Send + Sync + 'static) -> Self {
        Self { ask: Arc::new(ask), late_since: Arc::default() }
    }

    fn ask(&self, question: Q) -> Result<A, Silence> {
        if let Some(since) = *self.late_since.locked() {
            return Err(Silence::Late { since });
        }
        let since = Instant::now();
        let (sender, answer) = mpsc::sync_channel(1);
        let (ask, late_since) = (Arc::clone(&self.ask), Arc::clone(&self.late_since));
        let call = move || {
            let answer = end_panic(|| ask(&question));
            // An error means that nobody waits for the answer any more.
            let _ = sender.send(answer);
            *late_since.locked() = None;
        };
        let thread = thread::Builder::new().name("hotswap-callback".into()).spawn(call);
        if thread.is_err() {
            return Err(Silence::Late { since });
        }
        let answer = answer.recv_timeout(PATIENCE).or_else(|_| {
            // The thread sends its answer before it takes this lock.
            let mut late_since = self.late_since.locked();
            answer.try_recv().inspect_err(|_| *late_since = Some(since))
        });
        match answer {
            Ok(answer) => answer.map_err(|_| Silence::Panicked),
            Err(_) => Err(Silence::Late { since }),
        }
    }
}
