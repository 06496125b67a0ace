//! A fleet on a NATS server with JetStream.
//!
//! | stream | subjects | what | written |
//! |---|---|---|---|
//! | `KV_P_fleet` | `$KV.P_fleet.fleet`, `….keys`, `….keys.N`, `….release.ID`, `….rollout.C` | the identity of the fleet, its keys (changes announced as `P.poke._keys`) and earlier keys, releases, rollouts | once, or if unchanged since it was read |
//! | `KV_P_channels` | `$KV.P_channels.C` | declarations; changes announced as `P.poke.C` | if unchanged since it was read |
//! | `KV_P_hosts` | `$KV.P_hosts.ID` | the reports of hosts, which expire after some minutes | by its agent |
//! | `P_blobs` | `P.blob.SHA256.N` | artifacts, in pieces | unconditionally |
//! | `P_audit` | `P.audit` | the audit log | appended to |
//!
//! The first three are key-value buckets, so that other tools can show them. Signatures follow the JSON on lines
//! of their own. The server counts as a cache: it may have lost data, or may have been restored from an older
//! copy. A conditional write names the sequence number that was read. If a write gets no answer, the document is
//! read again. A message that no stream keeps, such as a poke, can be lost, so whoever waits for one also polls. A
//! document in a message is as good as one that was read, because both are trusted only by their signatures.

mod attach;

use std::{
    collections::BTreeMap,
    fmt,
    hash::{BuildHasher, RandomState},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, Event, HeaderMap, Message, RequestErrorKind,
    ServerAddr, connection::State,
};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{runtime::Runtime, sync::watch, time::timeout};

use crate::{
    Digest, FleetError, Id,
    backend::{
        Attachable, Backend, Change, Clock, Content, Declaration, Document, IsAsRead, IsIt,
        LARGEST_DOCUMENT, OnChange, Report,
    },
};

/// The time to wait for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many times a piece of an artifact is requested, each time for `PATIENCE`.
const ASKED: usize = 15;
/// How many times a line of the audit log is written, until the server confirms it.
const WRITTEN: usize = 10;
/// How many times it is written again because another program wrote another line. Each time, that line is there.
const OVERTAKEN: usize = 1000;
/// By how much the clock of a machine may differ from that of the server.
const CLOCKS_DIFFER_MS: u64 = 25 * 3_600_000;
/// The longest pause before the next attempt to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The size in bytes of a piece of an artifact.
const PIECE: usize = 128 << 10;
/// The number of messages of one batch.
const BATCH: usize = 500;
/// The number of batches that are requested while other programs keep writing.
const BATCHES: usize = 200;
/// The number of lines of the audit log that are kept, and read.
const READ_OF_AUDIT: u64 = 2000;
const KEPT_OF_AUDIT: u64 = 100_000;
/// The time after which the report of a host expires.
const REPORTS_KEPT: Duration = Duration::from_secs(600);
/// The time within which hosts report again if the server has lost their reports. If a stream is younger, reports
/// may be missing.
const REPORTED_ANEW: Duration = Duration::from_secs(60);
/// The oldest server version that supports all requests of this module.
const OLDEST: (u64, u64) = (2, 11);
/// JetStream's error code for a sequence number that is not current any more.
const WRONG_SEQUENCE: u64 = 10071;
/// JetStream's error code for a stream that exists with another configuration.
const OTHER_STREAM: u64 = 10058;

/// The address of a NATS server, with credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    address: String,
    prefix: String,
    /// A file with credentials: a user's JWT and seed as `nsc` writes them, a seed of an nkey, or `USER:PASSWORD`.
    pub credentials: Option<PathBuf>,
    /// A file with CA certificates, one of which has signed the server's certificate.
    pub tls_ca: Option<PathBuf>,
}

impl Server {
    /// Parses `nats://HOST:PORT/PREFIX` or `tls://HOST:PORT/PREFIX`. Fleets on the same server have different
    /// prefixes; the default is `hotswap`.
    ///
    /// # Errors
    /// If `url` does not have one of these forms.
    pub fn at(url: &str) -> Result<Self, FleetError> {
        let refuse = |why: &str| {
            let message = "expected nats://HOST:PORT, tls://HOST:PORT, or one of them with /PREFIX";
            FleetError::at(format_args!("{url:?}"), format_args!("{why}; {message}"))
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| refuse("it has no scheme"))?;
        if !matches!(scheme, "nats" | "tls") {
            return Err(refuse("its scheme is neither `nats` nor `tls`"));
        }
        let (host, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if host.is_empty() {
            return Err(refuse("it names no host"));
        }
        if host.contains('@') {
            return Err(refuse("it contains credentials; give them in a file: `--creds FILE`"));
        }
        let prefix = if prefix.is_empty() { "hotswap" } else { prefix };
        if prefix.parse::<Id>().is_err() || prefix.contains('.') {
            return Err(refuse("the prefix may have only letters, digits, `-` and `_`"));
        }
        let address = format!("{scheme}://{host}");
        address.parse::<ServerAddr>().map_err(|error| refuse(&error.to_string()))?;
        Ok(Self { address, prefix: prefix.to_owned(), credentials: None, tls_ca: None })
    }

    /// The prefix of the names of its streams.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn options(&self) -> Result<ConnectOptions, FleetError> {
        let options = ConnectOptions::new()
            .name("hotswap")
            .connection_timeout(PATIENCE)
            .request_timeout(Some(PATIENCE))
            .reconnect_delay_callback(|attempts| {
                let doubled = Duration::from_millis(50 << attempts.min(6));
                jittered(doubled.min(LONGEST_PAUSE))
            });
        let options = match &self.tls_ca {
            Some(file) => options.add_root_certificates(file.clone()).require_tls(true),
            None => options,
        };
        match &self.credentials {
            Some(file) => with_credentials(options, file),
            None => Ok(options),
        }
    }
}

fn with_credentials(options: ConnectOptions, file: &Path) -> Result<ConnectOptions, FleetError> {
    let wrong = |error: &dyn fmt::Display| FleetError::at(file.display(), format_args!("{error}"));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    if text.contains("BEGIN NATS USER JWT") {
        return options.credentials(&text).map_err(|error| wrong(&error));
    }
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    match lines.collect::<Vec<_>>()[..] {
        [line] => Ok(match line.split_once(':') {
            Some((user, password)) => {
                options.user_and_password(user.to_owned(), password.to_owned())
            }
            None => options.nkey(line.to_owned()),
        }),
        _ => Err(wrong(
            &"it has no credentials: expected a file of `nsc`, the seed of an nkey, or USER:PASSWORD",
        )),
    }
}

/// A random duration between half of `time` and `time`.
fn jittered(time: Duration) -> Duration {
    let dice = RandomState::new().hash_one(0_u8) % 1024;
    time / 2 + time / 2 * u32::try_from(dice).unwrap_or_default() / 1024
}

/// A fleet on a server.
pub(crate) struct Nats {
    link: Link,
    /// The number of connections so far.
    connected: watch::Receiver<u64>,
    prepares: Arc<AtomicBool>,
    runtime: Background,
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats").field("place", &self.link.place).finish_non_exhaustive()
    }
}

/// The runtime of the client, in the background.
struct Background(Option<Runtime>);

impl Background {
    fn start() -> std::io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("hotswap-nats").enable_all().build()?;
        Ok(Self(Some(runtime)))
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(work);
        }
    }

    /// Runs a future to its end and returns its value, inside or outside a runtime; `None` if the future panicked.
    fn wait_for<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.spawn(async move {
            // An error means that the caller does not wait any more.
            let _ = sender.send(work.await);
        });
        receiver.recv().ok()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // The last owner may be dropped inside a runtime, where blocking is not allowed.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The connection, with what requests need.
#[derive(Clone)]
struct Link {
    client: Client,
    place: Arc<str>,
    prefix: Arc<str>,
}

/// JetStream's answer to a published message or to a request about a stream.
#[derive(Deserialize)]
struct Answer {
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct ApiError {
    err_code: u64,
    description: String,
}

/// A message that a stream stores.
struct Kept {
    subject: String,
    sequence: u64,
    /// The server's time when it was stored.
    at_ms: Option<u64>,
    payload: Vec<u8>,
}

/// JetStream's description of a stream.
#[derive(Deserialize)]
struct StreamInfo {
    /// When the stream was made.
    created: String,
    /// The server's time now.
    ts: String,
}

/// Parses a time of the server, into milliseconds since the Unix epoch.
fn at_ms(text: &str) -> Option<u64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
}

/// Writes a time, in milliseconds since the Unix epoch, as the server expects it.
fn rfc3339(at_ms: u64) -> String {
    // A time that the calendar does not have is no reason to read less.
    let time = OffsetDateTime::from_unix_timestamp((at_ms / 1000).cast_signed());
    let time = time.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", u8::from(month))
}

impl Nats {
    pub fn connect(server: &Server) -> Result<Self, FleetError> {
        let place = format!("{}/{}", server.address, server.prefix);
        let wrong = |error: &dyn fmt::Display| FleetError::unreachable(&place, error);
        let runtime = Background::start().map_err(|error| wrong(&error))?;
        let (sender, connected) = watch::channel(0);
        let options = server.options()?.event_callback(move |event| {
            if let Event::Connected = event {
                sender.send_modify(|times| *times += 1);
            }
            std::future::ready(())
        });
        let address = server.address.clone();
        let client = runtime
            .wait_for(async move { options.connect(address).await })
            .ok_or_else(|| wrong(&"the runtime has ended"))?
            .map_err(|error| {
                let causes = causes(&error);
                let advice = match error.kind() {
                    ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                        "give the credentials of a user of this server with `--creds FILE`"
                    }
                    _ => "start the server, or name another with `--store`",
                };
                wrong(&format_args!("cannot connect: {error}{causes}; {advice}"))
            })?;
        let info = client.server_info();
        let version = version(&info.version);
        if version < OLDEST || !info.headers {
            let found = &info.version;
            let message = format!(
                "the server is nats-server {found}, and a fleet needs {}.{} or a newer one",
                OLDEST.0, OLDEST.1
            );
            return Err(FleetError::at(&place, message));
        }
        let link = Link { client, place: place.into(), prefix: server.prefix.as_str().into() };
        let prepares = Arc::new(AtomicBool::new(false));
        runtime.spawn(prepare_again(link.clone(), connected.clone(), Arc::clone(&prepares)));
        Ok(Self { link, connected, prepares, runtime })
    }

    /// Runs a future on the client's runtime and waits for it, inside or outside a runtime.
    fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, FleetError>> + Send + 'static,
    ) -> Result<T, FleetError> {
        let done = self.runtime.wait_for(work);
        if matches!(&done, Some(Err(error)) if error.is_lost())
            && self.prepares.load(Ordering::Relaxed)
        {
            let link = self.link.clone();
            // The next read or write reports the error.
            let _ = self.runtime.wait_for(async move { link.prepare().await });
        }
        done.unwrap_or_else(|| Err(FleetError::at(&self.link.place, "the client has failed")))
    }

    /// The last message of a subject.
    fn last(&self, stream: String, subject: String) -> Result<Option<Kept>, FleetError> {
        let link = self.link.clone();
        self.run(async move { link.last(&stream, &subject).await })
    }

    fn publish(
        &self,
        stream: &str,
        subject: String,
        expected: Option<u64>,
        payload: &[u8],
    ) -> Result<(), Refusal> {
        let (link, stream, payload) = (self.link.clone(), stream.to_owned(), payload.to_vec());
        let mut headers = HeaderMap::new();
        if let Some(expected) = expected {
            headers.insert("Nats-Expected-Last-Subject-Sequence", expected.to_string());
        }
        self.run(async move {
            let published = link.publish(&stream, subject.clone(), headers, payload).await;
            Ok(match published {
                // A server that answers the next question does not lack time or a connection.
                Err(Refusal::Other(error)) if error.is_unreachable() => {
                    let is_answered = link.last(&stream, &subject).await.is_ok();
                    Err(Refusal::Other(if is_answered { link.not_stored(&subject) } else { error }))
                }
                published => published,
            })
        })?
    }

    /// Writes a document if `sequence` is still the sequence number of the stored one. If the server does not
    /// answer, it reads the document again, because the write may have succeeded.
    fn write_at(
        &self,
        document: Document<'_>,
        expected: u64,
        new: &Content,
    ) -> Result<bool, FleetError> {
        let (stream, subject) = self.link.place_of(document);
        let payload = new.to_bytes();
        match self.publish(&stream, subject.clone(), Some(expected), &payload) {
            Ok(()) => Ok(true),
            Err(Refusal::WrongSequence) => Ok(false),
            Err(Refusal::Other(error)) if error.is_unreachable() => {
                match self.last(stream, subject)? {
                    Some(found) if found.sequence > expected && found.payload == payload => {
                        Ok(true)
                    }
                    Some(found) if found.sequence != expected => Ok(false),
                    _ => Err(error),
                }
            }
            Err(Refusal::Other(error)) => Err(error),
        }
    }

    fn kept(&self, document: Document<'_>) -> Result<Option<(u64, Content)>, FleetError> {
        let (stream, subject) = self.link.place_of(document);
        let Some(kept) = self.last(stream, subject)? else { return Ok(None) };
        if kept.payload.len() > LARGEST_DOCUMENT {
            let message = format_args!("it has more than {LARGEST_DOCUMENT} bytes");
            return Err(FleetError::at(self.at(document), message));
        }
        Ok(Some((kept.sequence, Content::of_bytes(&kept.payload))))
    }
}

/// Why a document was not written.
enum Refusal {
    WrongSequence,
    Other(FleetError),
}

impl From<FleetError> for Refusal {
    fn from(error: FleetError) -> Self {
        Self::Other(error)
    }
}

impl From<Refusal> for FleetError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::WrongSequence => Self::new("it was changed meanwhile"),
            Refusal::Other(error) => error,
        }
    }
}

/// Creates missing streams after each new connection, if this program has created them before.
async fn prepare_again(link: Link, mut connected: watch::Receiver<u64>, prepares: Arc<AtomicBool>) {
    while connected.changed().await.is_ok() {
        if prepares.load(Ordering::Relaxed) {
            // The next read or write reports the error.
            let _ = link.prepare().await;
        }
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    let text = error.to_string();
    let causes = causes.map(ToString::to_string).filter(|cause| !text.contains(cause));
    causes.map(|cause| format!(": {cause}")).collect()
}

fn version(text: &str) -> (u64, u64) {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or_default());
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// A name as one token of a subject. Dots separate tokens, so a name's dots are replaced.
fn token(name: &Id) -> String {
    name.as_str().replace('.', "=")
}

fn name_of(token: &str) -> Option<Id> {
    token.replace('=', ".").parse().ok()
}

impl Link {
    fn fleet(&self) -> String {
        format!("{}_fleet", self.prefix)
    }

    fn hosts(&self) -> String {
        format!("{}_hosts", self.prefix)
    }

    fn blobs(&self) -> String {
        format!("{}_blobs", self.prefix)
    }

    fn audit(&self) -> String {
        format!("{}_audit", self.prefix)
    }

    /// The bucket and the key of a document.
    fn key(&self, document: Document<'_>) -> (String, String) {
        match document {
            Document::Fleet => (self.fleet(), "fleet".to_owned()),
            Document::Keys => (self.fleet(), "keys".to_owned()),
            Document::EarlierKeys(serial) => (self.fleet(), format!("keys.{serial}")),
            Document::Release(name) => (self.fleet(), format!("release.{}", token(name))),
            Document::Rollout(name) => (self.fleet(), format!("rollout.{}", token(name))),
            Document::Channel(name) => (format!("{}_channels", self.prefix), token(name)),
            Document::Host(name) => (self.hosts(), token(name)),
        }
    }

    /// The stream and the subject of a document.
    fn place_of(&self, document: Document<'_>) -> (String, String) {
        let (bucket, key) = self.key(document);
        (format!("KV_{bucket}"), format!("$KV.{bucket}.{key}"))
    }

    /// The subject that announces changed keys. No channel's name begins with `_`.
    fn keys_poke(&self) -> String {
        format!("{}.poke._keys", self.prefix)
    }

    fn blob_subject(&self, digest: &Digest, number: u64) -> String {
        format!("{}.blob.{digest}.{number}", self.prefix)
    }

    /// Sends a request and waits for the answer.
    async fn request(
        &self,
        what: &str,
        subject: String,
        headers: HeaderMap,
        payload: Vec<u8>,
    ) -> Result<Message, FleetError> {
        // Without a connection, the client would queue the request and send it much later.
        if self.client.connection_state() != State::Connected {
            return Err(FleetError::unreachable(&self.place, "the server is not reached"));
        }
        let asked = self.client.request_with_headers(subject, headers, payload.into()).await;
        let at = || format!("{}: {what}", self.place);
        asked.map_err(|error| match error.kind() {
            RequestErrorKind::TimedOut => FleetError::unreachable(
                at(),
                format_args!(
                    "the server has not answered within {} s: it is stopped or busy, the stream is missing, or this user has no permission",
                    PATIENCE.as_secs()
                ),
            ),
            RequestErrorKind::NoResponders => FleetError::lost(at(), NO_STREAM),
            RequestErrorKind::MaxPayloadExceeded => FleetError::at(
                at(),
                format_args!("it is larger than the server's limit of {} bytes", self.client.max_payload()),
            ),
            _ => FleetError::unreachable(at(), format_args!("{error}{}", causes(&error))),
        })
    }

    async fn api(
        &self,
        what: &str,
        subject: String,
        headers: HeaderMap,
        payload: Vec<u8>,
    ) -> Result<(), Refusal> {
        let answer = self.request(what, subject, headers, payload).await?;
        let parsed: Result<Answer, _> = serde_json::from_slice(&answer.payload);
        match parsed {
            Ok(Answer { error: None }) => Ok(()),
            Ok(Answer { error: Some(error) }) if error.err_code == WRONG_SEQUENCE => {
                Err(Refusal::WrongSequence)
            }
            Ok(Answer { error: Some(error) }) => {
                let at = format!("{}: {what}", self.place);
                let ApiError { err_code, description } = error;
                let message = format!("JetStream refuses it: {description} ({err_code})");
                Err(Refusal::Other(FleetError::at(at, message)))
            }
            Err(error) => {
                let at = format!("{}: {what}", self.place);
                let message = format!("the answer does not have the expected format: {error}");
                Err(Refusal::Other(FleetError::at(at, message)))
            }
        }
    }

    async fn publish(
        &self,
        stream: &str,
        subject: String,
        mut headers: HeaderMap,
        payload: Vec<u8>,
    ) -> Result<(), Refusal> {
        headers.insert("Nats-Expected-Stream", stream);
        self.api(&subject.clone(), subject, headers, payload).await
    }

    /// The error that the server answers questions, and has not confirmed that it stores a message.
    fn not_stored(&self, subject: &str) -> FleetError {
        let message = format_args!(
            "the server answers, and has not confirmed within {} s that it stores this: this user has no permission, or its \
             disk is full or cannot be written (its log says so; make room, and start the server again: until then it \
             stores nothing)",
            PATIENCE.as_secs()
        );
        FleetError::unreachable(format_args!("{}: {subject}", self.place), message)
    }

    /// The last message that a stream stores for a subject.
    async fn last(&self, stream: &str, subject: &str) -> Result<Option<Kept>, FleetError> {
        let question = format!("$JS.API.DIRECT.GET.{stream}.{subject}");
        let answer = self.request(subject, question, HeaderMap::new(), Vec::new()).await?;
        self.kept(subject, answer)
    }

    /// The message in an answer; `None` if the stream stores none.
    fn kept(&self, what: &str, answer: Message) -> Result<Option<Kept>, FleetError> {
        let wrong = |message: &dyn fmt::Display| {
            FleetError::unreachable(format_args!("{}: {what}", self.place), message)
        };
        match answer.status.map(|status| status.as_u16()) {
            Some(404) => return Ok(None),
            Some(503) => {
                let at = format_args!("{}: {what}", self.place);
                return Err(FleetError::lost(at, NO_STREAM));
            }
            Some(status) => {
                let description = answer.description.unwrap_or_default();
                return Err(wrong(&format_args!("the server answers {status} {description}")));
            }
            None => {}
        }
        let header = |name: &str| {
            let headers = answer.headers.as_ref();
            headers.and_then(|headers| headers.get(name)).map(ToString::to_string)
        };
        if header("KV-Operation").is_some() {
            return Ok(None);
        }
        let sequence = header("Nats-Sequence").and_then(|sequence| sequence.parse().ok());
        let sequence = sequence.ok_or_else(|| wrong(&"the answer has no sequence number"))?;
        let subject = header("Nats-Subject").unwrap_or_default();
        let at_ms = header("Nats-Time-Stamp").and_then(|time| at_ms(&time));
        Ok(Some(Kept { subject, sequence, at_ms, payload: answer.payload.to_vec() }))
    }

    /// The messages of these subjects from a start on: `{"seq": NUMBER}` or `{"start_time": TIME}`.
    async fn all(
        &self,
        stream: &str,
        subjects: &str,
        mut start: Value,
    ) -> Result<Vec<Kept>, FleetError> {
        let at = format!("{}: {subjects}", self.place);
        let wrong = |message: &str| FleetError::unreachable(&at, message);
        if self.client.connection_state() != State::Connected {
            return Err(FleetError::unreachable(&self.place, "the server is not reached"));
        }
        let (mut all, mut next) = (Vec::new(), 1);
        for _ in 0..BATCHES {
            let inbox = self.client.new_inbox();
            let mut answers = self
                .client
                .subscribe(inbox.clone())
                .await
                .map_err(|_| wrong("the client has ended"))?;
            start["batch"] = json!(BATCH);
            start["next_by_subj"] = json!(subjects);
            let subject = format!("$JS.API.DIRECT.GET.{stream}");
            self.client
                .publish_with_reply(subject, inbox, start.to_string().into())
                .await
                .map_err(|_| wrong("the client has ended"))?;
            let mut found = 0;
            loop {
                let answer = timeout(PATIENCE, answers.next()).await;
                let answer =
                    answer.ok().flatten().ok_or_else(|| wrong("the server has not answered"))?;
                // The end of the batch.
                if answer.status.is_some_and(|status| status.as_u16() == 204) {
                    break;
                }
                let is_empty = answer.status.is_some_and(|status| status.as_u16() == 404);
                let sequence = answer.headers.as_ref().and_then(|headers| {
                    headers.get("Nats-Sequence").and_then(|it| it.as_str().parse::<u64>().ok())
                });
                let kept = self.kept(subjects, answer)?;
                if is_empty {
                    break;
                }
                next = sequence.map_or(next, |sequence| next.max(sequence + 1));
                found += 1;
                all.extend(kept);
            }
            if found < BATCH {
                return Ok(all);
            }
            start = json!({ "seq": next });
        }
        Ok(all)
    }

    async fn prepare(&self) -> Result<(), FleetError> {
        let prefix = &*self.prefix;
        let bucket = |name: String| {
            json!({
                "name": format!("KV_{name}"),
                "subjects": [format!("$KV.{name}.>")],
                "max_msgs_per_subject": 1,
                "allow_rollup_hdrs": true,
                "deny_delete": true,
                "discard": "new",
            })
        };
        let (channels, mut hosts) = (format!("{prefix}_channels"), bucket(self.hosts()));
        let mut declared = bucket(channels.clone());
        declared["republish"] = json!({
            "src": format!("$KV.{channels}.>"),
            "dest": format!("{prefix}.poke.>"),
        });
        let mut fleet = bucket(self.fleet());
        fleet["republish"] = json!({
            "src": self.place_of(Document::Keys).1,
            "dest": self.keys_poke(),
        });
        hosts["max_age"] = json!(u64::try_from(REPORTS_KEPT.as_nanos()).unwrap_or_default());
        let blobs = json!({
            "name": self.blobs(),
            "subjects": [format!("{prefix}.blob.>")],
            "max_msgs_per_subject": 1,
        });
        let audit = json!({
            "name": self.audit(),
            "subjects": [format!("{prefix}.audit")],
            "max_msgs": KEPT_OF_AUDIT,
        });
        for mut stream in [fleet, declared, hosts, blobs, audit] {
            stream["allow_direct"] = json!(true);
            stream["retention"] = json!("limits");
            stream["storage"] = json!("file");
            stream["num_replicas"] = json!(1);
            let name = stream["name"].as_str().unwrap_or_default();
            let subject = format!("$JS.API.STREAM.CREATE.{name}");
            let what = format!("stream {name}");
            let made = self.request(&what, subject, HeaderMap::new(), stream.to_string().into());
            let answer: Result<Answer, _> = serde_json::from_slice(&made.await?.payload);
            match answer.ok().and_then(|answer| answer.error) {
                // An administrator may have configured the stream differently.
                Some(error) if error.err_code != OTHER_STREAM => {
                    let message = format!("it cannot be made: {}", error.description);
                    return Err(FleetError::at(format_args!("{}: {what}", self.place), message));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads a piece of an artifact. If the server does not answer, it asks again for a while.
    async fn piece(&self, digest: &Digest, number: u64) -> Result<Option<Kept>, FleetError> {
        let mut asked = 0;
        loop {
            asked += 1;
            let subject = self.blob_subject(digest, number);
            match self.last(&self.blobs(), &subject).await {
                Err(error) if error.is_unreachable() && asked < ASKED => {
                    tokio::time::sleep(jittered(PATIENCE)).await;
                }
                answer => return answer,
            }
        }
    }
}

const NO_STREAM: &str = "the server has nothing of it: no fleet was made there (`hotswap fleet init`), its JetStream \
     is not enabled, or it has lost what it had";

impl Backend for Nats {
    fn place(&self) -> String {
        self.link.place.to_string()
    }

    fn at(&self, document: Document<'_>) -> String {
        let (bucket, key) = self.link.key(document);
        format!("{}: {key} in bucket {bucket}", self.link.place)
    }

    fn blob_at(&self, digest: &Digest) -> String {
        format!("{}: artifact {digest}", self.link.place)
    }

    fn prepare(&self) -> Result<(), FleetError> {
        let link = self.link.clone();
        self.run(async move { link.prepare().await })?;
        self.prepares.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn read(&self, document: Document<'_>) -> Result<Option<Content>, FleetError> {
        Ok(self.kept(document)?.map(|(_, content)| content))
    }

    fn create(&self, document: Document<'_>, new: &Content) -> Result<bool, FleetError> {
        self.write_at(document, 0, new)
    }

    fn replace(
        &self,
        document: Document<'_>,
        is_as_read: IsAsRead<'_>,
        new: &Content,
    ) -> Result<(), FleetError> {
        let found = self.kept(document)?;
        let (sequence, found) = found.map_or((0, None), |(at, found)| (at, Some(found)));
        if is_as_read(found.as_ref())? && self.write_at(document, sequence, new)? {
            return Ok(());
        }
        Err(FleetError::changed(self.at(document)))
    }

    fn write(&self, document: Document<'_>, json: &[u8]) -> Result<(), FleetError> {
        let (stream, subject) = self.link.place_of(document);
        Ok(self.publish(&stream, subject, None, json)?)
    }

    fn remove(&self, document: Document<'_>) -> Result<(), FleetError> {
        let (link, (stream, subject)) = (self.link.clone(), self.link.place_of(document));
        let mut headers = HeaderMap::new();
        headers.insert("KV-Operation", "DEL");
        self.run(async move { Ok(link.publish(&stream, subject, headers, Vec::new()).await?) })
    }

    fn releases(&self) -> Result<Vec<Id>, FleetError> {
        let (link, bucket) = (self.link.clone(), self.link.fleet());
        let all = self.run(async move {
            let releases = format!("$KV.{bucket}.release.*");
            link.all(&format!("KV_{bucket}"), &releases, json!({ "seq": 1 })).await
        })?;
        let names = all.iter().filter_map(|kept| name_of(kept.subject.rsplit('.').next()?));
        let mut names: Vec<Id> = names.collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn hosts(&self) -> Result<Vec<Report>, FleetError> {
        let (link, bucket) = (self.link.clone(), self.link.hosts());
        let all = self.run(async move {
            let hosts = format!("$KV.{bucket}.*");
            link.all(&format!("KV_{bucket}"), &hosts, json!({ "seq": 1 })).await
        })?;
        let mut hosts = BTreeMap::new();
        for kept in all {
            let Some(name) = kept.subject.rsplit('.').next().and_then(name_of) else { continue };
            let read = if kept.payload.len() > LARGEST_DOCUMENT {
                let message = format_args!("it has more than {LARGEST_DOCUMENT} bytes");
                Err(FleetError::at(self.at(Document::Host(&name)), message))
            } else {
                Ok(kept.payload)
            };
            // A report that was written during the listing comes twice, and the newer one comes later.
            hosts.insert(name, (read, kept.at_ms));
        }
        let report = |(host, (json, kept_at_ms))| Report { host, json, kept_at_ms };
        Ok(hosts.into_iter().map(report).collect())
    }

    fn clock(&self) -> Result<Clock, FleetError> {
        let (link, stream) = (self.link.clone(), format!("KV_{}", self.link.hosts()));
        self.run(async move {
            let what = format!("stream {stream}");
            let subject = format!("$JS.API.STREAM.INFO.{stream}");
            let answer = link.request(&what, subject, HeaderMap::new(), Vec::new()).await?;
            let info: Option<StreamInfo> = serde_json::from_slice(&answer.payload).ok();
            let times = info.and_then(|info| Some((at_ms(&info.created)?, at_ms(&info.ts)?)));
            // An answer without times means that the stream does not exist.
            let (created_ms, now_ms) = times.ok_or_else(|| {
                FleetError::lost(format_args!("{}: {what}", link.place), NO_STREAM)
            })?;
            let reported_anew_ms = u64::try_from(REPORTED_ANEW.as_millis()).unwrap_or(u64::MAX);
            Ok(Clock {
                now_ms,
                may_have_lost: now_ms.saturating_sub(created_ms) < reported_anew_ms,
            })
        })
    }

    fn push_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), FleetError> {
        for (number, piece) in (0..).zip(bytes.chunks(PIECE)) {
            let subject = self.link.blob_subject(digest, number);
            self.publish(&self.link.blobs(), subject, None, piece)?;
        }
        Ok(())
    }

    fn copy_blob(
        &self,
        digest: &Digest,
        size_bytes: u64,
        to: &mut dyn FnMut(&[u8]) -> Result<(), FleetError>,
    ) -> Result<(), FleetError> {
        let mut copied = 0;
        for number in 0.. {
            if copied >= size_bytes {
                break;
            }
            let (link, wanted) = (self.link.clone(), digest.clone());
            match self.run(async move { link.piece(&wanted, number).await })? {
                Some(piece) if !piece.payload.is_empty() => {
                    copied += piece.payload.len() as u64;
                    to(&piece.payload)?;
                }
                _ if number == 0 => {
                    return Err(FleetError::missing(
                        self.blob_at(digest),
                        "there is no such artifact",
                    ));
                }
                _ => break,
            }
        }
        Ok(())
    }

    fn audit(&self, line: &[u8], since_ms: u64, is_it: IsIt<'_>) -> Result<(), FleetError> {
        let (stream, subject) = (self.link.audit(), format!("{}.audit", self.link.prefix));
        let mut start = json!({ "start_time": rfc3339(since_ms.saturating_sub(CLOCKS_DIFFER_MS)) });
        let mut failure = FleetError::changed(format_args!("{}: {subject}", self.link.place));
        let mut failures = 0;
        for _ in 0..OVERTAKEN {
            let last = self.last(stream.clone(), subject.clone())?.map_or(0, |it| it.sequence);
            let link = self.link.clone();
            let (of, from) = (stream.clone(), subject.clone());
            let lines = self.run(async move { link.all(&of, &from, start).await })?;
            if lines.iter().any(|kept| is_it(&kept.payload)) {
                return Ok(());
            }
            // The lines up to the last one were read.
            start = json!({ "seq": last + 1 });
            // If another program has written meanwhile, or the server does not answer, the line may be there.
            match self.publish(&stream, subject.clone(), Some(last), line) {
                Ok(()) => return Ok(()),
                Err(Refusal::WrongSequence) => {}
                Err(Refusal::Other(error)) if error.is_unreachable() => {
                    failure = error;
                    failures += 1;
                    if failures == WRITTEN {
                        break;
                    }
                }
                Err(Refusal::Other(error)) => return Err(error),
            }
        }
        Err(failure)
    }

    fn audited(&self) -> Result<Vec<Vec<u8>>, FleetError> {
        let link = self.link.clone();
        let all = self.run(async move {
            let (stream, subject) = (link.audit(), format!("{}.audit", link.prefix));
            let last = link.last(&stream, &subject).await?.map_or(0, |last| last.sequence);
            let from = last.saturating_sub(READ_OF_AUDIT - 1).max(1);
            link.all(&stream, &subject, json!({ "seq": from })).await
        })?;
        Ok(all.into_iter().map(|kept| kept.payload).collect())
    }

    fn watch(&self, channel: &Id, on_change: OnChange) -> Result<bool, FleetError> {
        let (link, mut connected) = (self.link.clone(), self.connected.clone());
        let subject = format!("{}.poke.{}", link.prefix, token(channel));
        self.run(async move {
            let wrong = |error| FleetError::at(&link.place, error);
            let mut declared = link.client.subscribe(subject).await.map_err(wrong)?;
            let mut keys = link.client.subscribe(link.keys_poke()).await.map_err(wrong)?;
            connected.mark_unchanged();
            tokio::spawn(async move {
                loop {
                    let change = tokio::select! {
                        poke = declared.next() => poke.map(|poke| {
                            let is_too_large = poke.payload.len() > LARGEST_DOCUMENT;
                            // The receiver reports what is wrong with it.
                            let payload = if is_too_large { &[] } else { &poke.payload[..] };
                            Change::Declared(Declaration(Content::of_bytes(payload)))
                        }),
                        poke = keys.next() => poke.map(|_| Change::Keys),
                        connected = connected.changed() => connected.ok().map(|()| Change::Connected),
                    };
                    match change {
                        Some(change) => on_change(change),
                        None => return,
                    }
                }
            });
            Ok(true)
        })
    }

    fn allow_attach(&self, host: &Id, socket: PathBuf) -> Option<Attachable> {
        Some(Box::new(attach::serve(self, host, socket)))
    }

    fn attach(&self, host: &Id, stream: UnixStream) -> Result<(), FleetError> {
        attach::open(self, host, stream)
    }

    fn is_of_many_machines(&self) -> bool {
        true
    }
}
