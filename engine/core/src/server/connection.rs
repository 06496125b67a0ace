//! The connection of one console: one thread reads requests, one writes answers, and each request has a
//! thread.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::Shutdown,
    ops::RangeInclusive,
    os::unix::net::UnixStream,
    sync::{Arc, Condvar, Mutex, PoisonError, Weak, mpsc::RecvTimeoutError},
    thread,
    time::Duration,
};

use hotswap_plugin::__private::end_panic;
use hotswap_protocol::{
    ErrorKind, HelloParams, HelloResult, HostAgent, MAX_LINE_BYTES, Notification,
    OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION, Request, RequestLine, ResponseLine, SubscribeParams,
    SubscribeResult, WireError, common_protocol,
};
use serde::Serialize;
use serde_json::Value as Json;

use super::{calls::Calls, held::Held, outbox::Outbox, request, served::Served};
use crate::{Events, lock::Lock as _, log};

/// The largest number of requests of one console that are handled at the same time.
const MAX_IN_FLIGHT: usize = 16;

/// How long a write may take before the console is considered gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a thread that waits for events checks whether its console is still there.
const EVENT_WAIT: Duration = Duration::from_secs(1);

/// The open connections, so that they can be ended with the engine.
#[derive(Default)]
pub(crate) struct Connections(Mutex<Vec<Weak<UnixStream>>>);

impl Connections {
    fn add(&self, stream: &Arc<UnixStream>) {
        let mut streams = self.0.locked();
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Arc::downgrade(stream));
    }

    pub fn close_all(&self) {
        let streams = self.0.locked();
        for stream in streams.iter().filter_map(Weak::upgrade) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Serves one console until it leaves.
pub(super) fn serve(engine: &Weak<dyn Served>, stream: UnixStream, connections: &Connections) {
    let stream = Arc::new(stream);
    connections.add(&stream);
    let _ = stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let outbox = Arc::new(Outbox::default());
    let writer = {
        let (stream, outbox) = (stream.clone(), outbox.clone());
        spawn(move || write_lines(&stream, &outbox))
    };
    let mut console = Console {
        engine: engine.clone(),
        outbox: outbox.clone(),
        in_flight: Arc::default(),
        calls: Arc::default(),
        held: Held::default(),
        greeted: false,
        has_events: false,
        following: None,
        agent: None,
    };
    if let Err(error) = console.read_requests(&stream) {
        tracing::debug!("a console's connection ended: {error}");
    }
    // This comes before its requests have ended, so that the next agent need not wait for them.
    console.end_agent();
    // A client may close its side for writing and still wait for answers.
    console.in_flight.wait_until_none(&outbox);
    drop(console);
    outbox.end();
    if let Some(writer) = writer {
        let _ = writer.join();
    }
    outbox.close();
    let _ = stream.shutdown(Shutdown::Both);
}

struct Console {
    engine: Weak<dyn Served>,
    outbox: Arc<Outbox>,
    in_flight: Arc<InFlight>,
    calls: Arc<Calls>,
    held: Held,
    greeted: bool,
    has_events: bool,
    following: Option<Following>,
    /// The agent, if the client is one.
    agent: Option<HostAgent>,
}

/// The log that a console follows. Dropping this stops it.
struct Following(Arc<log::LogQueue>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Counts the requests that are being handled.
#[derive(Default)]
struct InFlight {
    count: Mutex<usize>,
    changed: Condvar,
}

impl InFlight {
    /// Counts one more request; `None` if there are too many. Dropping the ticket counts one less.
    fn begin(self: &Arc<Self>) -> Option<Ticket> {
        let mut count = self.count.locked();
        if *count >= MAX_IN_FLIGHT {
            return None;
        }
        *count += 1;
        Some(Ticket(self.clone()))
    }

    /// Waits until all requests are answered, or the console is gone.
    fn wait_until_none(&self, outbox: &Outbox) {
        let mut count = self.count.locked();
        while *count > 0 && !outbox.has_ended() {
            let waited = self.changed.wait_timeout(count, EVENT_WAIT);
            count = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

struct Ticket(Arc<InFlight>);

impl Drop for Ticket {
    fn drop(&mut self) {
        *self.0.count.locked() -= 1;
        self.0.changed.notify_all();
    }
}

/// The versions of the protocol that this host speaks.
const OURS: RangeInclusive<u32> = OLDEST_PROTOCOL_VERSION..=PROTOCOL_VERSION;

fn in_words(versions: &RangeInclusive<u32>) -> String {
    let (oldest, newest) = (versions.start(), versions.end());
    if oldest == newest { newest.to_string() } else { format!("{oldest} to {newest}") }
}

impl Console {
    fn end_agent(&mut self) {
        if let (Some(agent), Some(engine)) = (self.agent.take(), self.engine.upgrade()) {
            engine.end_agent(&agent);
        }
    }

    fn read_requests(&mut self, stream: &UnixStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            let limit = MAX_LINE_BYTES as u64 + 1;
            let read = reader.by_ref().take(limit).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(());
            }
            if line.len() > MAX_LINE_BYTES {
                self.refuse(None, format!("a line can have at most {MAX_LINE_BYTES} bytes"));
                return Ok(());
            }
            if line.last() != Some(&b'\n') {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if !self.handle_line(&line) {
                return Ok(());
            }
        }
    }

    /// Handles a request. Returns whether to read another one.
    fn handle_line(&mut self, line: &[u8]) -> bool {
        let RequestLine { id, request, .. } = match serde_json::from_slice(line) {
            Ok(request) => request,
            Err(error) => {
                let id = serde_json::from_slice::<Json>(line);
                let id = id.ok().and_then(|line| line.get("id")?.as_u64());
                self.refuse(id, format!("not a request of this protocol: {error}"));
                return true;
            }
        };
        let Some(engine) = self.engine.upgrade() else { return false };
        match request {
            Request::Hello(hello) => self.greet(&*engine, id, &hello),
            _ if !self.greeted => {
                self.refuse(Some(id), "the first request must be `hello`".into());
                true
            }
            Request::Subscribe(what) => {
                let subscribed = serde_json::to_value(self.subscribe(&*engine, &what));
                self.answer(id, subscribed.map_err(|error| internal(&error)));
                true
            }
            Request::Cancel(what) => {
                self.answer(id, self.calls.cancel(what.id).map(|()| serde_json::json!({})));
                true
            }
            Request::Agent(agent) => {
                let accepted = engine.accept_agent(&agent);
                if accepted.is_ok() {
                    self.agent = Some(agent);
                }
                let accepted = accepted.map_err(|other| {
                    let message = format!("this host has an agent already: {other}");
                    WireError::new(ErrorKind::Fleet, message)
                });
                self.answer(id, accepted.map(|()| serde_json::json!({})));
                true
            }
            Request::Hold(what) => {
                let held = self.held.hold(&*engine, &what.target);
                self.answer(id, held.map(|()| serde_json::json!({})));
                true
            }
            Request::Release(what) => {
                let released = self.held.release(&*engine, &what.target);
                self.answer(id, released.map(|()| serde_json::json!({})));
                true
            }
            request => {
                self.work(engine, id, request);
                true
            }
        }
    }

    /// Answers `hello`. Returns whether to read another request: only if both sides speak a common protocol.
    fn greet(&mut self, engine: &dyn Served, id: u64, hello: &HelloParams) -> bool {
        let Some(protocol) = common_protocol(hello.speaks(), OURS) else {
            let message = format!(
                "the console speaks protocol {}, but this host speaks protocol {}; use the console that belongs to the \
                 host's version",
                in_words(&hello.speaks()),
                in_words(&OURS)
            );
            self.answer(id, Err(WireError::new(ErrorKind::Protocol, message)));
            return false;
        };
        self.greeted = true;
        let hello = serde_json::to_value(HelloResult { protocol, host: engine.host_info() });
        self.answer(id, hello.map_err(|error| internal(&error)));
        true
    }

    /// Handles a request on a thread of its own, so that a long call delays nothing else.
    fn work(&self, engine: Arc<dyn Served>, id: u64, request: Request) {
        let Some(ticket) = self.in_flight.begin() else {
            let message = format!(
                "{MAX_IN_FLIGHT} requests of this console are being handled; wait until one is answered"
            );
            self.answer(id, Err(WireError::new(ErrorKind::Internal, message)));
            return;
        };
        let (outbox, calls) = (self.outbox.clone(), self.calls.clone());
        let call = match &request {
            Request::Invoke(_) | Request::Pin(_) => calls.begin(id),
            _ => Arc::default(),
        };
        let started = spawn(move || {
            // Code of the host may run in here: the subscriber of its log, and its Extension.
            let answer = end_panic(|| request::answer(&engine, request, &call));
            calls.end(id, &call);
            drop(engine);
            let answer = answer.unwrap_or_else(|panic| {
                let message = format!("the host panicked while it handled the request: {panic}");
                Err(WireError::new(ErrorKind::Internal, message))
            });
            send_answer(&outbox, Some(id), answer);
            drop(ticket);
        });
        if started.is_none() {
            self.calls.forget(id);
            let error = WireError::new(ErrorKind::Internal, "the host cannot start another thread");
            self.answer(id, Err(error));
        }
    }

    fn subscribe(&mut self, engine: &dyn Served, what: &SubscribeParams) -> SubscribeResult {
        let mut result = SubscribeResult::default();
        if what.events && !self.has_events {
            self.has_events = true;
            let (events, outbox) = (engine.subscribe(), self.outbox.clone());
            spawn(move || forward_events(&events, &outbox));
        }
        if what.logs {
            let (queue, backlog) = log::hub().follow(what.backlog);
            result.backlog = backlog;
            self.following = Some(Following(queue.clone()));
            let outbox = self.outbox.clone();
            spawn(move || forward_log(&queue, &outbox));
        }
        result
    }

    fn answer(&self, id: u64, answer: Result<Json, WireError>) {
        send_answer(&self.outbox, Some(id), answer);
    }

    fn refuse(&self, id: Option<u64>, why: String) {
        send_answer(&self.outbox, id, Err(WireError::new(ErrorKind::BadRequest, why)));
    }
}

/// Queues an answer. If it is too long for a line, an error is sent instead.
fn send_answer(outbox: &Outbox, id: Option<u64>, answer: Result<Json, WireError>) {
    let line = line(&ResponseLine::new(id, answer)).or_else(|bytes| {
        let message = format!(
            "the answer has {bytes} bytes, but a console can get at most {MAX_LINE_BYTES}; ask for less, or use it in \
             the host"
        );
        line(&ResponseLine::new(id, Err(WireError::new(ErrorKind::Internal, message))))
    });
    if let Ok(line) = line {
        outbox.send(line);
    }
}

/// Sends events until the console is gone. If a console has fallen so far behind that it missed events, the
/// connection is closed, so that the console notices.
fn forward_events(events: &Events, outbox: &Outbox) {
    loop {
        match events.recv_timeout(EVENT_WAIT) {
            Ok(event) => {
                let Ok(line) = line(&Notification::Event(event).into_line()) else { continue };
                if !outbox.send(line) {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) if !outbox.has_ended() => {}
            Err(RecvTimeoutError::Timeout) => return,
            Err(RecvTimeoutError::Disconnected) => return outbox.end(),
        }
    }
}

/// Sends log records as fast as the console reads them. A slow console delays only this thread.
fn forward_log(queue: &log::LogQueue, outbox: &Outbox) {
    while let Some((records, count)) = queue.take() {
        let dropped = (count > 0).then_some(Notification::Dropped { count });
        let notifications = records.into_iter().map(Notification::Log).chain(dropped);
        for notification in notifications {
            let Ok(line) = line(&notification.into_line()) else { continue };
            if !outbox.send_log(line) {
                return;
            }
        }
    }
}

/// A message as a line; if the line would be too long, its length.
fn line<T: Serialize>(message: &T) -> Result<String, usize> {
    let mut line = serde_json::to_string(message).map_err(|_| 0_usize)?;
    line.push('\n');
    if line.len() > MAX_LINE_BYTES { Err(line.len()) } else { Ok(line) }
}

fn write_lines(mut stream: &UnixStream, outbox: &Outbox) {
    while let Some(line) = outbox.next() {
        if stream.write_all(line.as_bytes()).is_err() {
            break;
        }
    }
    // This ends the reader, too.
    outbox.close();
    let _ = stream.shutdown(Shutdown::Both);
}

fn internal(error: &serde_json::Error) -> WireError {
    WireError::new(ErrorKind::Internal, error.to_string())
}

fn spawn(f: impl FnOnce() + Send + 'static) -> Option<thread::JoinHandle<()>> {
    thread::Builder::new().name("hotswap-console".into()).spawn(f).ok()
}
