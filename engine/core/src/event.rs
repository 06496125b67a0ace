//! The engine's events, for the host and for consoles.

use std::sync::{
    Mutex,
    mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
};

use hotswap_protocol::Event;

use crate::lock::Lock as _;

/// The largest number of events that wait for a subscriber. A subscriber that falls further behind is
/// removed.
const QUEUE: usize = 1024;

/// Receives the events of the engine. It ends when the engine ends, and when the subscriber leaves a thousand
/// events unread.
pub type Events = Receiver<Event>;

/// Sends each event to every subscriber, without waiting for any of them.
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

/// The instant `duration` after `begun`, or a century after it if that is too late for an `Instant`.
pub(crate) fn after(
    begun: std::time::Instant,
    duration: std::time::Duration,
) -> std::time::Instant {
    const CENTURY: std::time::Duration = std::time::Duration::from_secs(100 * 365 * 86_400);
    begun + duration.min(CENTURY)
}
