//! The callbacks by which a fleet asks a host.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hotswap_protocol::{HostHealth, OfferAnswer, OfferParams};

type OnOffer = Box<dyn Fn(&OfferParams) -> OfferAnswer + Send + Sync>;
type Health = Box<dyn Fn() -> HostHealth + Send + Sync>;

/// The callbacks of the host; `None` for those that it has not set.
#[derive(Default)]
pub(super) struct Hooks {
    pub on_offer: Option<OnOffer>,
    pub health: Option<Health>,
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

    /// The health of the host; `None` if it does not report any.
    pub fn health(&self) -> Option<HostHealth> {
        let health = self.health.as_ref()?;
        let asked = catch_unwind(AssertUnwindSafe(health));
        Some(asked.unwrap_or_else(|_| HostHealth::unwell("the host's `health` panicked")))
    }
}
