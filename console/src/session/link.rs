//! The connection to the host, which is made again as long as its process runs.

use std::collections::VecDeque;
use std::time::Duration;

use hotswap_protocol::{
    ErrorKind, Event, MAX_RELOADS, Notification, PastReload, Reloads, Request, Snapshot,
    SubscribeParams, WireError,
};
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::event::LogLine;
use crate::host::client::{Client, decode};
use crate::host::socket::HostChoice;

/// After how long without a first answer a host is reported as silent.
pub(super) const FIRST_ANSWER: Duration = Duration::from_secs(30);
/// For how long connections to a starting host are tried without growing pauses: its first load takes some
/// milliseconds.
const EAGER: Duration = Duration::from_secs(2);
/// The first and the longest pause between further attempts to connect.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));
/// How often the state of the engine is read if no event announces a change.
const POLL: Duration = Duration::from_secs(1);
/// How many earlier log records are requested.
const LOG_BACKLOG: usize = 2000;

/// An event of the connection.
pub(super) enum LinkEvent {
    Connected(Client),
    Snapshot(Snapshot),
    /// The host answered as the last time.
    SameSnapshot,
    Engine(Event),
    /// The reloads before the connection; some of them may be sent as events, too.
    Reloads(Reloads),
    Lost(String),
    /// The process runs, but has not answered for this long. The attempts continue, and this event comes once.
    Silent(Duration),
    /// The host refuses the conversation, or the process is gone. There are no further attempts.
    GaveUp(WireError),
}

/// Keeps a connection to the host with this process id until it is gone or this is dropped. For a host that was
/// just started, missing log records are reported as dropped, and all reloads are sent as events, including those
/// that ended before the connection.
pub(super) async fn maintain(
    choice: HostChoice,
    pid: u32,
    client_name: &'static str,
    is_new: bool,
    patience: Duration,
    report: mpsc::Sender<LinkEvent>,
    logs: mpsc::Sender<LogLine>,
) {
    let mut records = Records { last: is_new.then_some(0), dropped: 0 };
    let mut sent = SentReloads::of(is_new);
    let mut silence = Some(Silence { patience, report: report.clone() });
    loop {
        let (client, notifications) =
            match connect_patiently(&choice, pid, client_name, silence.take()).await {
                Ok(connected) => connected,
                Err(error) => return drop(report.send(LinkEvent::GaveUp(error)).await),
            };
        if report.send(LinkEvent::Connected(client.clone())).await.is_err() {
            return;
        }
        let changed = Notify::new();
        let lost = tokio::select! {
            reason = forward_events(&client, notifications, &report, &changed, &mut sent) => reason,
            reason = poll(&client, &report, &changed) => reason,
            reason = forward_logs(&choice, client_name, &logs, &mut records) => reason,
        };
        if report.send(LinkEvent::Lost(lost)).await.is_err() {
            return;
        }
    }
}

/// The log records of a host, which are numbered from 1.
struct Records {
    /// The number of the last record; `None` before the first record of a host that was already running.
    last: Option<u64>,
    /// How many later records the host has reported as dropped.
    dropped: u64,
}

impl Records {
    /// What to show for a notification: missing records, then the record itself, but no record twice.
    fn take(&mut self, notification: Notification) -> impl Iterator<Item = LogLine> + use<> {
        let (missing, record) = match notification {
            // A new connection begins with records that the last connection has already received.
            Notification::Log(record) if self.last.is_some_and(|last| record.seq <= last) => {
                (0, None)
            }
            Notification::Log(record) => {
                // Without a connection, nobody counted the records that the host does not keep any more.
                let gap = self.last.map_or(0, |last| record.seq - last - 1);
                let missing = gap.saturating_sub(self.dropped);
                (self.last, self.dropped) = (Some(record.seq), 0);
                (missing, Some(record))
            }
            Notification::Dropped { count } => {
                self.dropped += count;
                (count, None)
            }
            _ => (0, None),
        };
        let missing = (missing > 0).then_some(LogLine::Dropped { count: missing });
        missing.into_iter().chain(record.map(LogLine::Log))
    }
}

/// The reloads of a host that were sent as events.
struct SentReloads {
    /// The reloads that were sent, or that had ended before the first connection; `None` until it is known what a
    /// host that was already running has done.
    known: Option<VecDeque<Event>>,
    /// The reloads that were read from the host because their events were missing. Their events may still arrive.
    read_later: Vec<Event>,
}

impl SentReloads {
    fn of(is_new: bool) -> Self {
        Self { known: is_new.then(VecDeque::new), read_later: Vec::new() }
    }

    /// The reloads that the host remembers and that were not sent as events. Those before the first connection do
    /// not count.
    fn missing(&mut self, remembered: &[PastReload]) -> Vec<Event> {
        let remembered: VecDeque<Event> = remembered.iter().cloned().map(Event::from).collect();
        let known = self.known.replace(remembered.clone());
        let is_missing = |event: &Event| known.as_ref().is_some_and(|known| !known.contains(event));
        self.read_later = remembered.into_iter().filter(is_missing).collect();
        self.read_later.clone()
    }

    /// Whether an event is new, and was not already sent as a missing one.
    fn is_new(&mut self, event: &Event) -> bool {
        let is_end = matches!(event, Event::ReloadFinished { .. } | Event::ReloadFailed { .. });
        if !is_end {
            return true;
        }
        let known = self.known.get_or_insert_default();
        known.push_back(event.clone());
        let surplus = known.len().saturating_sub(MAX_RELOADS);
        known.drain(..surplus);
        !self.read_later.contains(event)
    }
}

/// Reports that a host has not answered for a while.
struct Silence {
    patience: Duration,
    report: mpsc::Sender<LinkEvent>,
}

async fn connect_patiently(
    choice: &HostChoice,
    pid: u32,
    client_name: &str,
    mut silence: Option<Silence>,
) -> Result<crate::host::socket::Connected, WireError> {
    let began = Instant::now();
    let mut pause = RETRY_PAUSES.0;
    loop {
        let error = match choice.connect(client_name).await {
            Ok(connected) => return Ok(connected),
            Err(error) if error.kind != ErrorKind::NoHost => return Err(error),
            Err(error) => error,
        };
        if !choice.may_live(pid) {
            return Err(error);
        }
        if let Some(silence) = silence.take_if(|silence| began.elapsed() >= silence.patience) {
            // If nobody receives this, the connection is not needed any more.
            let _ = silence.report.send(LinkEvent::Silent(silence.patience)).await;
        }
        sleep(pause).await;
        if began.elapsed() > EAGER {
            pause = (pause * 2).min(RETRY_PAUSES.1);
        }
    }
}

async fn forward_events(
    client: &Client,
    mut notifications: mpsc::Receiver<Notification>,
    report: &mpsc::Sender<LinkEvent>,
    changed: &Notify,
    sent: &mut SentReloads,
) -> String {
    let subscribe = SubscribeParams { events: true, ..Default::default() };
    if let Err(error) = client.request(Request::Subscribe(subscribe)).await {
        return error.message;
    }
    // An older host does not remember reloads.
    let reloads: Reloads = client.ask(Request::Reloads).await.unwrap_or_default();
    // The builds that serve must be known before anybody acts on these reloads.
    let serving = match client.ask(Request::Snapshot).await {
        Ok(snapshot) => LinkEvent::Snapshot(snapshot),
        Err(error) => return error.message,
    };
    let missing = sent.missing(&reloads.reloads).into_iter().map(LinkEvent::Engine);
    for event in [serving].into_iter().chain(missing).chain([LinkEvent::Reloads(reloads)]) {
        if report.send(event).await.is_err() {
            return "the session is over".into();
        }
    }
    while let Some(notification) = notifications.recv().await {
        if let Notification::Event(event) = notification
            && sent.is_new(&event)
        {
            if report.send(LinkEvent::Engine(event)).await.is_err() {
                break;
            }
            changed.notify_one();
        }
    }
    "the host closed it".into()
}

async fn poll(client: &Client, report: &mpsc::Sender<LinkEvent>, changed: &Notify) -> String {
    // The first state is requested together with what was missed.
    let mut tick = interval_at(Instant::now() + POLL, POLL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Value::Null;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = changed.notified() => tick.reset(),
        }
        let event = match client.request(Request::Snapshot).await {
            Ok(answer) if answer == last => LinkEvent::SameSnapshot,
            Ok(answer) => {
                last = answer.clone();
                match decode("snapshot", answer) {
                    Ok(snapshot) => LinkEvent::Snapshot(snapshot),
                    Err(error) => return error.message,
                }
            }
            Err(error) => return error.message,
        };
        if report.send(event).await.is_err() {
            return "the session is over".into();
        }
    }
}

/// Reads the log on a connection of its own, so that records never delay an answer.
async fn forward_logs(
    choice: &HostChoice,
    client_name: &str,
    logs: &mpsc::Sender<LogLine>,
    records: &mut Records,
) -> String {
    let (client, mut notifications) = match choice.connect(client_name).await {
        Ok(connected) => connected,
        Err(error) => return error.message,
    };
    let subscribe = SubscribeParams { logs: true, backlog: LOG_BACKLOG, ..Default::default() };
    let subscribed = client.request(Request::Subscribe(subscribe));
    let forwarding = async {
        while let Some(notification) = notifications.recv().await {
            for line in records.take(notification) {
                if logs.send(line).await.is_err() {
                    return;
                }
            }
        }
    };
    match tokio::join!(subscribed, forwarding) {
        (Err(error), ()) => error.message,
        (Ok(_), ()) => "the host closed it".into(),
    }
}

#[cfg(test)]
mod tests {
    use hotswap_protocol::{LogLevel, LogRecord, ReloadEnd};
    use tokio::net::UnixListener;

    use super::*;

    fn record(seq: u64) -> Notification {
        Notification::Log(LogRecord {
            seq,
            at_ms: 0,
            level: LogLevel::Info,
            target: String::new(),
            message: String::new(),
            fields: Vec::new(),
            plugin: None,
            version: None,
            patch: None,
            file: None,
            line: None,
        })
    }

    /// The numbers of the shown records, and the counts of missing ones between them.
    fn shown(last: Option<u64>, notifications: Vec<Notification>) -> Vec<Result<u64, u64>> {
        let mut records = Records { last, dropped: 0 };
        let lines = notifications.into_iter().flat_map(|it| records.take(it));
        let lines = lines.map(|line| match line {
            LogLine::Log(record) => Ok(record.seq),
            LogLine::Dropped { count } => Err(count),
            LogLine::Output { .. } => unreachable!(),
        });
        lines.collect()
    }

    #[test]
    fn each_record_is_shown_once_or_counted_as_dropped_once() {
        let dropped = |count| Notification::Dropped { count };
        let story = || vec![record(3), dropped(2), record(6), record(5), record(6), record(9)];
        let after = [Ok(3), Err(2), Ok(6), Err(2), Ok(9)];
        assert_eq!(shown(Some(0), story()), [&[Err(2)], &after[..]].concat());
        assert_eq!(shown(None, story()), after, "what was before the console came is not missed");
    }

    #[test]
    fn each_reload_of_a_new_host_is_reported_once() {
        let failed = |at_ms| PastReload {
            at_ms,
            end: ReloadEnd::Error(WireError::new(ErrorKind::Reload, "no such plugin")),
        };
        let event = |at_ms| Event::ReloadFailed {
            at_ms,
            error: WireError::new(ErrorKind::Reload, "no such plugin"),
        };
        let mut sent = SentReloads::of(true);
        assert_eq!(sent.missing(&[failed(3), failed(5)]), [event(3), event(5)]);
        assert!(!sent.is_new(&event(5)), "its event arrived after the reloads were read");
        assert!(sent.is_new(&event(6)));
        // The connection was lost and made again.
        assert_eq!(sent.missing(&[failed(5), failed(6), failed(8)]), [event(8)]);
        assert!(!sent.is_new(&event(8)) && sent.is_new(&event(9)));

        let mut sent = SentReloads::of(false);
        assert_eq!(
            sent.missing(&[failed(3)]),
            [],
            "a reload that ended before the connection is not sent"
        );
        assert!(sent.is_new(&event(3)), "unless its event arrives after the connection");
        assert_eq!(sent.missing(&[failed(3), failed(5)]), [event(5)]);
    }

    #[tokio::test]
    async fn a_slow_host_is_reported_once_and_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let (report, mut events) = mpsc::channel(8);
        let (logs, _lines) = mpsc::channel(8);
        let choice = HostChoice::Socket(socket.clone());
        let pid = std::process::id();
        let link = maintain(choice, pid, "test", true, Duration::ZERO, report, logs);
        let link = tokio::spawn(link);
        assert!(matches!(events.recv().await, Some(LinkEvent::Silent(_))));
        let listener = UnixListener::bind(&socket).unwrap();
        listener.accept().await.unwrap();
        assert!(events.try_recv().is_err(), "the silence is reported once");
        link.abort();
    }
}
