//! A conversation with a host over its socket.
//!
//! Requests may be sent at any time and are answered in any order. Notifications arrive in a bounded queue. If a
//! subscriber does not read the queue, the socket is not read either, and the host drops and counts log records.
//! Therefore log subscriptions have a connection of their own, so that answers never wait behind log records.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{SinkExt, StreamExt};
use hotswap_protocol::{
    ErrorKind, HelloParams, HelloResult, HostInfo, Line, MAX_LINE_BYTES, Notification,
    PROTOCOL_VERSION, Request, RequestLine, ResponseLine, WireError,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How many notifications may wait before the socket is not read any more.
const NOTIFICATION_QUEUE: usize = 1024;
/// How many requests wait to be written.
const REQUEST_QUEUE: usize = 64;

/// A connection to a host; clones share it, and the last one closes it.
#[derive(Clone)]
pub struct Client {
    host: HostInfo,
    is_elsewhere: bool,
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<String>,
    _closes_with_the_last_clone: Arc<DropGuard>,
}

struct Shared {
    next_id: AtomicU64,
    waiting: Mutex<Waiting>,
}

/// Requests without an answer; after the connection is lost, the reason.
enum Waiting {
    Open(HashMap<u64, oneshot::Sender<ResponseLine>>),
    Closed(String),
}

impl Client {
    /// Opens the conversation on a new connection.
    pub async fn hello(
        stream: UnixStream,
        client_name: &str,
    ) -> Result<(Self, mpsc::Receiver<Notification>), WireError> {
        let (read, write) = stream.into_split();
        let (outgoing, requests) = mpsc::channel(REQUEST_QUEUE);
        let (notify, notifications) = mpsc::channel(NOTIFICATION_QUEUE);
        let shared = Arc::new(Shared {
            next_id: AtomicU64::new(1),
            waiting: Mutex::new(Waiting::Open(HashMap::new())),
        });
        let closed = CancellationToken::new();

        let reader = read_lines(read, Arc::clone(&shared), notify);
        let token = closed.clone();
        tokio::spawn(async move { token.run_until_cancelled(reader).await });
        tokio::spawn(write_lines(write, requests));

        let guard = Arc::new(closed.drop_guard());
        let hello = HelloParams::of(client_name);
        let spoken = hello.speaks();
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        let answer = shared.request(&outgoing, id, Request::Hello(hello)).await?;
        let answer: HelloResult = decode("hello", answer)?;
        if !spoken.contains(&answer.protocol) {
            return Err(WireError::new(
                ErrorKind::Protocol,
                format!(
                    "{} (pid {}) speaks protocol {}, this console speaks {PROTOCOL_VERSION}; \
                     build both from the same release",
                    answer.host.name, answer.host.pid, answer.protocol
                ),
            ));
        }
        let client = Self {
            host: answer.host,
            is_elsewhere: false,
            shared,
            outgoing,
            _closes_with_the_last_clone: guard,
        };
        Ok((client, notifications))
    }

    /// Marks the host as one of another machine: its calls file would belong to another process here.
    pub(crate) fn of_elsewhere(mut self) -> Self {
        self.host.calls_file = None;
        self.is_elsewhere = true;
        self
    }

    /// Refuses operations on the host's files if the host is on another machine, where the same paths may be other
    /// files here.
    ///
    /// # Errors
    /// The text says what to do instead.
    pub(crate) fn expect_files(&self) -> Result<(), WireError> {
        if !self.is_elsewhere {
            return Ok(());
        }
        let HostInfo { name, pid, .. } = &self.host;
        let message = format!(
            "{name} (pid {pid}) runs on another machine, and its files are there: attach a console on \
             that machine (`hotswap-console attach {pid}`), or show there what a reload would change (`hotswap reload \
             --dry-run --host {pid}`)"
        );
        Err(WireError::new(ErrorKind::BadRequest, message))
    }

    /// Whether the host is on another machine.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.is_elsewhere
    }

    /// The host at the other end.
    pub fn host(&self) -> &HostInfo {
        &self.host
    }

    /// Sends a request and waits for the answer.
    pub async fn request(&self, request: Request) -> Result<Value, WireError> {
        self.begin(request).1.await
    }

    /// Sends a request. Returns its id, with which it can be cancelled, and the future answer.
    pub fn begin(
        &self,
        request: Request,
    ) -> (u64, impl Future<Output = Result<Value, WireError>> + use<'_>) {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        (id, self.shared.request(&self.outgoing, id, request))
    }

    /// Sends a request and parses its answer as a `T`.
    pub async fn ask<T: DeserializeOwned>(&self, request: Request) -> Result<T, WireError> {
        let method = method(&request);
        decode(&method, self.request(request).await?)
    }
}

impl Shared {
    async fn request(
        &self,
        outgoing: &mpsc::Sender<String>,
        id: u64,
        request: Request,
    ) -> Result<Value, WireError> {
        let line = serde_json::to_string(&RequestLine::new(id, request))
            .map_err(|error| WireError::new(ErrorKind::Internal, error.to_string()))?;
        if line.len() >= MAX_LINE_BYTES {
            return Err(WireError::new(
                ErrorKind::BadRequest,
                format!(
                    "the request has {} bytes; a host accepts at most {MAX_LINE_BYTES}",
                    line.len()
                ),
            ));
        }
        let (answer, answered) = oneshot::channel();
        match &mut *self.lock() {
            Waiting::Open(waiting) => drop(waiting.insert(id, answer)),
            Waiting::Closed(reason) => return Err(lost(reason)),
        }
        // If this fails, the reader fails too, and reports a better reason.
        let _ = outgoing.send(line).await;
        match answered.await {
            Ok(response) => response.into_result(),
            Err(_) => Err(match &*self.lock() {
                Waiting::Closed(reason) => lost(reason),
                Waiting::Open(_) => lost("the connection was dropped"),
            }),
        }
    }

    fn answer(&self, response: ResponseLine) {
        let Some(id) = response.id else { return };
        let waiting = match &mut *self.lock() {
            Waiting::Open(waiting) => waiting.remove(&id),
            Waiting::Closed(_) => None,
        };
        if let Some(waiting) = waiting {
            // The caller may have stopped waiting.
            let _ = waiting.send(response);
        }
    }

    fn close(&self, reason: String) {
        *self.lock() = Waiting::Closed(reason);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lost(reason: &str) -> WireError {
    WireError::new(ErrorKind::NoHost, format!("the connection to the host is lost: {reason}"))
}

/// The request's name on the wire, for messages.
fn method(request: &Request) -> String {
    match serde_json::to_value(request) {
        Ok(value) => value["method"].as_str().unwrap_or("request").to_owned(),
        Err(_) => "request".to_owned(),
    }
}

pub(crate) fn decode<T: DeserializeOwned>(method: &str, answer: Value) -> Result<T, WireError> {
    serde_json::from_value(answer).map_err(|error| {
        WireError::new(
            ErrorKind::Protocol,
            format!("the host's answer to `{method}` cannot be read: {error}"),
        )
    })
}

async fn read_lines(read: OwnedReadHalf, shared: Arc<Shared>, notify: mpsc::Sender<Notification>) {
    let mut lines = FramedRead::new(read, LinesCodec::new_with_max_length(MAX_LINE_BYTES));
    let reason = loop {
        let line = match lines.next().await {
            Some(Ok(line)) => line,
            Some(Err(error)) => break error.to_string(),
            None => break "the host closed it".to_owned(),
        };
        match serde_json::from_str(&line) {
            Ok(Line::Response(response)) => shared.answer(response),
            // Notifications without a subscriber are dropped.
            Ok(Line::Notification(notification)) => drop(notify.send(notification).await),
            Err(error) => break format!("the host sent a line that is not a message ({error})"),
        }
    };
    shared.close(reason);
}

async fn write_lines(write: OwnedWriteHalf, mut requests: mpsc::Receiver<String>) {
    let mut lines = FramedWrite::new(write, LinesCodec::new());
    while let Some(line) = requests.recv().await {
        if lines.send(line).await.is_err() {
            return;
        }
    }
}
