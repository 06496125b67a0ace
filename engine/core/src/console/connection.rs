//! One console's connection: a thread that reads requests, one that writes, one for the log.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use hotswap_protocol::{
    ErrorKind, HelloResult, MAX_LINE_BYTES, Notification, PROTOCOL_VERSION, Request, RequestLine,
    ResponseLine, SubscribeParams, WireError,
};
use serde::Serialize;

use super::request;
use crate::{engine::Inner, log};

/// How many lines wait to be written. A console that does not read this many answers is let go.
const OUTGOING: usize = 256;

/// How many requests of one console may be worked on at once.
const MAX_IN_FLIGHT: usize = 16;

/// How long a write may take before the console counts as gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The open connections, so that they can be ended with the engine.
#[derive(Default)]
pub(crate) struct Connections(Mutex<Vec<Weak<UnixStream>>>);

impl Connections {
    fn add(&self, stream: &Arc<UnixStream>) {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Arc::downgrade(stream));
    }

    pub fn close_all(&self) {
        let streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in streams.iter().filter_map(Weak::upgrade) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Serves one console until it leaves.
pub(super) fn serve(engine: &Weak<Inner>, stream: UnixStream, connections: &Connections) {
    let stream = Arc::new(stream);
    connections.add(&stream);
    let _ = stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let (outgoing, lines) = sync_channel(OUTGOING);
    let console = Console {
        engine: engine.clone(),
        stream: stream.clone(),
        outgoing: outgoing.clone(),
        in_flight: Arc::default(),
        greeted: false,
        following: None,
    };
    let writer = {
        let stream = stream.clone();
        spawn(move || write_lines(&stream, &lines))
    };
    if let Err(error) = console.read_requests() {
        tracing::debug!("a console's connection ended: {error}");
    }
    // What was queued is written first, such as why the console is let go.
    if outgoing.send(Outgoing::Close).is_ok() {
        let _ = writer.map(thread::JoinHandle::join);
    }
    let _ = stream.shutdown(Shutdown::Both);
}

/// What waits to be written.
enum Outgoing {
    Line(String),
    Close,
}

struct Console {
    engine: Weak<Inner>,
    stream: Arc<UnixStream>,
    outgoing: SyncSender<Outgoing>,
    in_flight: Arc<AtomicUsize>,
    greeted: bool,
    following: Option<Following>,
}

/// The log that a console follows; dropping it ends that.
struct Following(Arc<log::LogQueue>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Console {
    fn read_requests(mut self) -> io::Result<()> {
        let stream = self.stream.clone();
        let mut reader = BufReader::new(&*stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            let limit = MAX_LINE_BYTES as u64 + 1;
            let read = reader.by_ref().take(limit).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(());
            }
            if line.len() > MAX_LINE_BYTES {
                self.refuse(None, format!("a line has {MAX_LINE_BYTES} bytes at most"));
                return Ok(());
            }
            if line.last() != Some(&b'\n') {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if !self.take(&line) {
                return Ok(());
            }
        }
    }

    /// Takes a request; says whether to go on.
    fn take(&mut self, line: &[u8]) -> bool {
        let RequestLine { id, request, .. } = match serde_json::from_slice(line) {
            Ok(request) => request,
            Err(error) => {
                let id = serde_json::from_slice::<serde_json::Value>(line);
                let id = id.ok().and_then(|line| line.get("id")?.as_u64());
                self.refuse(id, format!("not a request of this protocol: {error}"));
                return true;
            }
        };
        let Some(engine) = self.engine.upgrade() else { return false };
        match request {
            Request::Hello(hello) if hello.protocol == PROTOCOL_VERSION => {
                self.greeted = true;
                let host = engine.host_info();
                self.answer(id, &HelloResult { protocol: PROTOCOL_VERSION, host });
                true
            }
            Request::Hello(hello) => {
                let message = format!(
                    "the console speaks protocol {}, this host {PROTOCOL_VERSION}; use the console \
                     of the host's version",
                    hello.protocol
                );
                self.fail(id, WireError::new(ErrorKind::Protocol, message));
                false
            }
            _ if !self.greeted => {
                self.refuse(Some(id), "the first request must be `hello`".into());
                true
            }
            Request::Subscribe(what) => {
                self.answer(id, &serde_json::json!({}));
                self.subscribe(&engine, &what);
                true
            }
            request => {
                self.work(engine, id, request);
                true
            }
        }
    }

    /// Works on a request on a thread of its own, so that a long call holds up nothing else.
    fn work(&self, engine: Arc<Inner>, id: u64, request: Request) {
        if self.in_flight.fetch_add(1, Ordering::AcqRel) >= MAX_IN_FLIGHT {
            self.in_flight.fetch_sub(1, Ordering::AcqRel);
            let message = format!("{MAX_IN_FLIGHT} requests are being worked on; wait for one");
            self.fail(id, WireError::new(ErrorKind::Internal, message));
            return;
        }
        let (outgoing, in_flight) = (self.outgoing.clone(), self.in_flight.clone());
        let stream = self.stream.clone();
        let started = spawn(move || {
            let answer = request::answer(&engine, request);
            in_flight.fetch_sub(1, Ordering::AcqRel);
            send(&outgoing, &stream, &ResponseLine::new(Some(id), answer));
        });
        if started.is_none() {
            self.in_flight.fetch_sub(1, Ordering::AcqRel);
            self.fail(id, WireError::new(ErrorKind::Internal, "the host has no thread left"));
        }
    }

    fn subscribe(&mut self, engine: &Inner, what: &SubscribeParams) {
        if what.events {
            let events = engine.events().subscribe();
            let (outgoing, stream) = (self.outgoing.clone(), self.stream.clone());
            spawn(move || {
                while let Some(event) = next_event(&events, &stream) {
                    let Some(event) = event else { continue };
                    if !send(&outgoing, &stream, &Notification::Event(event).into_line()) {
                        return;
                    }
                }
            });
        }
        if what.logs {
            let queue = log::hub().follow(what.backlog);
            self.following = Some(Following(queue.clone()));
            let outgoing = self.outgoing.clone();
            spawn(move || forward_log(&queue, &outgoing));
        }
    }

    fn answer<T: Serialize>(&self, id: u64, value: &T) {
        let value = serde_json::to_value(value)
            .map_err(|error| WireError::new(ErrorKind::Internal, error.to_string()));
        send(&self.outgoing, &self.stream, &ResponseLine::new(Some(id), value));
    }

    fn fail(&self, id: u64, error: WireError) {
        send(&self.outgoing, &self.stream, &ResponseLine::new(Some(id), Err(error)));
    }

    fn refuse(&self, id: Option<u64>, why: String) {
        let error = WireError::new(ErrorKind::BadRequest, why);
        send(&self.outgoing, &self.stream, &ResponseLine::new(id, Err(error)));
    }
}

/// How often a thread that waits for events looks whether its console is still there.
const EVENT_WAIT: Duration = Duration::from_secs(5);

/// The next event; the outer none when there will be no more, the inner when there was none yet.
fn next_event(
    events: &crate::Events,
    stream: &UnixStream,
) -> Option<Option<hotswap_protocol::Event>> {
    match events.recv_timeout(EVENT_WAIT) {
        Ok(event) => Some(Some(event)),
        // A closed socket has no peer any more.
        Err(RecvTimeoutError::Timeout) => stream.peer_addr().is_ok().then_some(None),
        Err(RecvTimeoutError::Disconnected) => None,
    }
}

/// Sends log records as the console takes them. They wait in a queue of their own, so the one for
/// answers and events has room; a slow console makes this thread wait, nobody else.
fn forward_log(queue: &log::LogQueue, outgoing: &SyncSender<Outgoing>) {
    while let Some((records, dropped)) = queue.take() {
        for record in records {
            let Some(line) = line(&Notification::Log(record).into_line()) else { continue };
            if outgoing.send(Outgoing::Line(line)).is_err() {
                return;
            }
        }
        if dropped > 0 {
            let Some(line) = line(&Notification::Dropped { count: dropped }.into_line()) else {
                continue;
            };
            if outgoing.send(Outgoing::Line(line)).is_err() {
                return;
            }
        }
    }
}

/// Queues a line; a console that does not read is let go. Says whether it is still there.
fn send<T: Serialize>(outgoing: &SyncSender<Outgoing>, stream: &UnixStream, message: &T) -> bool {
    let Some(line) = line(message) else { return true };
    if outgoing.send(Outgoing::Line(line)).is_ok() {
        return true;
    }
    let _ = stream.shutdown(Shutdown::Both);
    false
}

/// A message as a line, unless it is longer than a line may be.
fn line<T: Serialize>(message: &T) -> Option<String> {
    let mut line = serde_json::to_string(message).ok()?;
    line.push('\n');
    if line.len() > MAX_LINE_BYTES {
        tracing::warn!("a message of {} bytes is too long for a console", line.len());
        return None;
    }
    Some(line)
}

fn write_lines(mut stream: &UnixStream, lines: &Receiver<Outgoing>) {
    while let Ok(Outgoing::Line(line)) = lines.recv() {
        if stream.write_all(line.as_bytes()).is_err() {
            // Ends the reader too; what is still sent goes nowhere, as the channel closes.
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

fn spawn(f: impl FnOnce() + Send + 'static) -> Option<thread::JoinHandle<()>> {
    thread::Builder::new().name("hotswap-console".into()).spawn(f).ok()
}
