//! What a host is asked by a fleet.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hotswap_protocol::{HostHealth, OfferAnswer, OfferParams};

type OnOffer = Box<dyn Fn(&OfferParams) -> OfferAnswer + Send + Sync>;
type Health = Box<dyn Fn() -> HostHealth + Send + Sync>;

/// What the host has to say, where it is asked.
#[derive(Default)]
pub(super) struct Hooks {
    pub on_offer: Option<OnOffer>,
    pub health: Option<Health>,
}

impl Hooks {
    /// Whether a release may be loaded now. A host that cannot say is not to be disturbed.
    pub fn offer(&self, offer: &OfferParams) -> OfferAnswer {
        let Some(on_offer) = &self.on_offer else { return OfferAnswer::Now };
        let asked = catch_unwind(AssertUnwindSafe(|| on_offer(offer)));
        asked.unwrap_or_else(|_| OfferAnswer::Later {
            reason: "the host's `on_offer` panicked".to_owned(),
        })
    }

    /// How the host is; `None` if it does not say.
    pub fn health(&self) -> Option<HostHealth> {
        let health = self.health.as_ref()?;
        let asked = catch_unwind(AssertUnwindSafe(health));
        Some(asked.unwrap_or_else(|_| HostHealth::unwell("the host's `health` panicked")))
    }
}
