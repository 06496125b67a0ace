//! The callbacks by which a fleet asks a host.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
};

use hotswap_plugin::__private::Notes;
use hotswap_protocol::{HostHealth, OfferAnswer, OfferParams};

type OnOffer = Box<dyn Fn(&OfferParams) -> OfferAnswer + Send + Sync>;
type Health = Box<dyn Fn() -> HostHealth + Send + Sync>;

/// The callbacks of the host; `None` for those that it has not set.
#[derive(Default)]
pub(super) struct Hooks {
    pub on_offer: Option<OnOffer>,
    pub health: Option<Health>,
}

thread_local! {
    /// The hosts whose health this thread is asking for.
    static ASKED: Notes<*const Hooks> = const { Notes::new() };
}

impl Hooks {
    /// Whether a release may be loaded now. If the callback panics, the answer is "later", so that the host is
    /// not disturbed.
    pub fn offer(&self, offer: &OfferParams) -> OfferAnswer {
        let Some(on_offer) = &self.on_offer else { return OfferAnswer::Now };
        let asked = catch_unwind(AssertUnwindSafe(|| on_offer(offer)));
        asked.unwrap_or_else(|_| OfferAnswer::Later {
            reason: "the host's `on_offer` panicked".to_owned(),
        })
    }

    /// The health of the host; `None` if it does not report any. It is also `None` for the callback itself, which may
    /// ask the engine for its state.
    pub fn health(&self) -> Option<HostHealth> {
        let health = self.health.as_ref()?;
        let own = ptr::from_ref(self);
        if ASKED.with(|hosts| hosts.any(|host| *host == own)) {
            return None;
        }
        ASKED.with(|hosts| hosts.add(own));
        let asked = catch_unwind(AssertUnwindSafe(health));
        ASKED.with(|hosts| hosts.remove_last(|host| *host == own));
        Some(asked.unwrap_or_else(|_| HostHealth::unwell("the host's `health` panicked")))
    }
}
