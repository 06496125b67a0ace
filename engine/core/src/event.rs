//! The engine's events, for the host and for consoles.

use std::{
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        mpsc::{Iter, Receiver, SyncSender, TrySendError, sync_channel},
    },
};

use hotswap_protocol::Event;

use crate::lock::Lock as _;

/// The largest number of events that wait for a subscriber. A subscriber that falls further behind is
/// removed.
const QUEUE: usize = 1024;

/// Receives the events of the engine. It ends when the engine ends, and when the subscriber leaves a thousand
/// events unread.
///
/// It is a [`Receiver`], with all its methods, and can be iterated over:
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let engine = hotswap_engine::Engine::builder("plugins").build()?;
/// for event in engine.subscribe() {
///     println!("{event:?}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Events {
    receiver: Receiver<Event>,
    number: u64,
    hub: Weak<EventHub>,
}

impl Deref for Events {
    type Target = Receiver<Event>;

    fn deref(&self) -> &Receiver<Event> {
        &self.receiver
    }
}

impl Iterator for Events {
    type Item = Event;

    /// Waits for the next event; `None` at the end.
    fn next(&mut self) -> Option<Event> {
        self.receiver.recv().ok()
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = Event;
    type IntoIter = Iter<'a, Event>;

    fn into_iter(self) -> Iter<'a, Event> {
        self.receiver.iter()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // The queue is large, and the next event may be far away.
        if let Some(hub) = self.hub.upgrade() {
            hub.subscribers().senders.retain(|(number, _)| *number != self.number);
        }
    }
}

/// Sends each event to every subscriber, without waiting for any of them.
#[derive(Debug, Default)]
pub(crate) struct EventHub(Mutex<Subscribers>);

#[derive(Debug, Default)]
struct Subscribers {
    /// How many there were so far.
    count: u64,
    /// Those that are left, by number.
    senders: Vec<(u64, SyncSender<Event>)>,
}

impl EventHub {
    pub fn subscribe(self: &Arc<Self>) -> Events {
        let (sender, receiver) = sync_channel(QUEUE);
        let mut subscribers = self.subscribers();
        subscribers.count += 1;
        let number = subscribers.count;
        subscribers.senders.push((number, sender));
        Events { receiver, number, hub: Arc::downgrade(self) }
    }

    pub fn send(&self, event: Event) {
        self.subscribers().senders.retain(|(_, sender)| match sender.try_send(event.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        });
    }

    fn subscribers(&self) -> MutexGuard<'_, Subscribers> {
        self.0.locked()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_that_is_dropped_leaves_no_queue() {
        let hub = Arc::new(EventHub::default());
        let (stays, leaves) = (hub.subscribe(), hub.subscribe());
        drop(leaves);
        assert_eq!(hub.subscribers().senders.len(), 1);
        hub.send(Event::ShuttingDown { at_ms: 7 });
        drop(hub);
        assert_eq!(stays.count(), 1);
    }
}
