//! The engine's events, for the host and for consoles.

use std::sync::{
    Mutex,
    mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
};

use hotswap_protocol::Event;

use crate::lock::Lock as _;

/// How many events wait for a subscriber; one that falls further behind is let go.
const QUEUE: usize = 1024;

/// The engine's events as they happen. It ends when the engine does, and for a subscriber that
/// leaves a thousand events unread.
pub type Events = Receiver<Event>;

/// Hands each event to every subscriber, without ever waiting for one.
#[derive(Default)]
pub(crate) struct EventHub {
    subscribers: Mutex<Vec<SyncSender<Event>>>,
}

impl EventHub {
    pub fn subscribe(&self) -> Events {
        let (sender, receiver) = sync_channel(QUEUE);
        self.subscribers.locked().push(sender);
        receiver
    }

    pub fn send(&self, event: Event) {
        let mut subscribers = self.subscribers.locked();
        subscribers.retain(|subscriber| match subscriber.try_send(event.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        });
    }
}

/// The instant `duration` after `begun`, or a century after it if that is too far for an `Instant`.
pub(crate) fn after(
    begun: std::time::Instant,
    duration: std::time::Duration,
) -> std::time::Instant {
    const CENTURY: std::time::Duration = std::time::Duration::from_secs(100 * 365 * 86_400);
    begun + duration.min(CENTURY)
}
