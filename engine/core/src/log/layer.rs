//! Keeps the newest log records, and passes them to consoles.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use hotswap_protocol::{LogLevel, LogRecord, clock::now_ms};
use tracing_core::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use super::{linked, reemit::EVENT_NAME};
use crate::lock::Lock as _;

/// The largest number of earlier records that a console can request.
const BACKLOG: usize = 2000;

/// The largest number of records that wait for one console. Further records are dropped and counted.
const QUEUE: usize = 4096;

/// The largest number of bytes in the texts of the earlier records, and of the records that wait for one console. So
/// records with long texts are dropped sooner.
const MAX_QUEUED: usize = 16 << 20;

/// The longest message or field that is kept, in bytes.
const MAX_TEXT: usize = 64 * 1024;

/// A layer of a `tracing` subscriber that lets consoles read the host's log.
///
/// ```
/// use tracing_subscriber::prelude::*;
///
/// tracing_subscriber::registry().with(hotswap_engine::console_layer()).init();
/// tracing::info!("a console sees this");
/// ```
pub fn console_layer() -> ConsoleLayer {
    ConsoleLayer(())
}

/// See [`console_layer`].
#[derive(Debug)]
pub struct ConsoleLayer(());

impl<S: Subscriber> Layer<S> for ConsoleLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut record = LogRecord {
            seq: 0,
            at_ms: now_ms(),
            level: level(metadata.level()),
            target: metadata.target().to_owned(),
            message: String::new(),
            fields: Vec::new(),
            plugin: None,
            version: None,
            patch: None,
            file: metadata.file().map(ToOwned::to_owned),
            line: metadata.line(),
        };
        let of_plugin = metadata.name() == EVENT_NAME;
        event.record(&mut Fields { record: &mut record, of_plugin });
        if !of_plugin && let Some((plugin, version)) = linked::owner_of_target(metadata.target()) {
            (record.plugin, record.version) = (Some(plugin), Some(version));
        }
        hub().add(record);
    }
}

fn level(level: &Level) -> LogLevel {
    match *level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

/// Sorts an event's fields into a record.
struct Fields<'a> {
    record: &'a mut LogRecord,
    of_plugin: bool,
}

impl Visit for Fields<'_> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "version" if self.of_plugin => self.record.version = u32::try_from(value).ok(),
            "patch" if self.of_plugin => self.record.patch = u32::try_from(value).ok(),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let mut text = value.to_owned();
        if text.len() > MAX_TEXT {
            text.truncate(text.floor_char_boundary(MAX_TEXT));
            text.push('…');
        }
        match field.name() {
            "message" => self.record.message = text,
            "plugin" if self.of_plugin => self.record.plugin = Some(text),
            name => self.record.fields.push((name.to_owned(), text)),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// The log records of the process, and the consoles that follow them.
pub(crate) fn hub() -> &'static LogHub {
    static HUB: LogHub =
        LogHub(Mutex::new(Records { newest: Queue::new(), last_seq: 0, followers: Vec::new() }));
    &HUB
}

/// Records, with the number of bytes in their texts.
#[derive(Default)]
struct Queue {
    records: VecDeque<LogRecord>,
    bytes: usize,
}

impl Queue {
    const fn new() -> Self {
        Self { records: VecDeque::new(), bytes: 0 }
    }

    /// Whether it has room for another record, with `most` records in all.
    fn has_room(&self, record: &LogRecord, most: usize) -> bool {
        self.records.len() < most && self.bytes + bytes_of(record) <= MAX_QUEUED
    }

    fn push(&mut self, record: LogRecord) {
        self.bytes += bytes_of(&record);
        self.records.push_back(record);
    }

    fn drop_first(&mut self) {
        let first = self.records.pop_front();
        self.bytes -= first.as_ref().map_or(0, bytes_of);
    }
}

/// How many bytes the texts of a record have.
fn bytes_of(record: &LogRecord) -> usize {
    let fields = record.fields.iter().map(|(name, text)| name.len() + text.len());
    record.target.len() + record.message.len() + fields.sum::<usize>()
}

pub(crate) struct LogHub(Mutex<Records>);

struct Records {
    newest: Queue,
    last_seq: u64,
    followers: Vec<Weak<LogQueue>>,
}

impl LogHub {
    fn add(&self, mut record: LogRecord) {
        let mut records = self.lock();
        records.last_seq += 1;
        record.seq = records.last_seq;
        records.followers.retain(|follower| match follower.upgrade() {
            Some(queue) => {
                queue.push(record.clone());
                true
            }
            None => false,
        });
        while !records.newest.records.is_empty() && !records.newest.has_room(&record, BACKLOG) {
            records.newest.drop_first();
        }
        records.newest.push(record);
    }

    /// Follows the log, beginning with up to `backlog` earlier records. Returns their number.
    pub fn follow(&self, backlog: usize) -> (Arc<LogQueue>, usize) {
        let mut records = self.lock();
        let newest = &records.newest.records;
        let earlier = newest.len().min(backlog);
        let mut waiting = Queue::new();
        newest.iter().skip(newest.len() - earlier).for_each(|record| waiting.push(record.clone()));
        let queue = Arc::new(LogQueue::new(waiting));
        records.followers.push(Arc::downgrade(&queue));
        (queue, earlier)
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.0.locked()
    }
}

/// The records that wait for one console.
pub(crate) struct LogQueue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    dropped: AtomicU64,
}

struct Waiting {
    queue: Queue,
    closed: bool,
}

impl LogQueue {
    fn new(queue: Queue) -> Self {
        Self {
            waiting: Mutex::new(Waiting { queue, closed: false }),
            changed: Condvar::new(),
            dropped: AtomicU64::new(0),
        }
    }

    /// Adds a record, or counts it as dropped if there is no room: a slow console never slows the host down.
    fn push(&self, record: LogRecord) {
        let mut waiting = self.lock();
        if !waiting.queue.has_room(&record, QUEUE) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.queue.push(record);
        self.changed.notify_one();
    }

    /// Waits for records, and returns them with the number of records that were dropped since the last call;
    /// `None` if the queue was closed.
    pub fn take(&self) -> Option<(VecDeque<LogRecord>, u64)> {
        let mut waiting = self.lock();
        while waiting.queue.records.is_empty() && !waiting.closed {
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        if waiting.closed {
            return None;
        }
        let Queue { records, .. } = std::mem::take(&mut waiting.queue);
        Some((records, self.dropped.swap(0, Ordering::Relaxed)))
    }

    /// Ends the wait in [`take`](Self::take).
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.locked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_with_long_texts_are_dropped_sooner() {
        let hub = LogHub(Mutex::new(Records {
            newest: Queue::new(),
            last_seq: 0,
            followers: Vec::new(),
        }));
        let (queue, _) = hub.follow(0);
        for _ in 0..300 {
            hub.add(LogRecord {
                seq: 0,
                at_ms: 0,
                level: LogLevel::Info,
                target: "dump".into(),
                message: "x".repeat(MAX_TEXT),
                fields: vec![("more".into(), "y".repeat(MAX_TEXT))],
                plugin: None,
                version: None,
                patch: None,
                file: None,
                line: None,
            });
        }
        let bytes = |records: &VecDeque<LogRecord>| records.iter().map(bytes_of).sum::<usize>();
        // The console has not read: it gets the first records, and the number of the others.
        let (waiting, dropped) = queue.take().unwrap();
        assert!(bytes(&waiting) <= MAX_QUEUED && waiting[0].seq == 1);
        assert!(dropped > 0 && waiting.len() as u64 + dropped == 300);
        // Another console gets the last records.
        let (queue, earlier) = hub.follow(BACKLOG);
        let (backlog, _) = queue.take().unwrap();
        assert!(bytes(&backlog) <= MAX_QUEUED && earlier < 300);
        assert_eq!(backlog[earlier - 1].seq, 300);
    }
}
