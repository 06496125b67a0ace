//! The client with correct hosts and with faulty ones.

use hotswap_console::host::client::Client;
use hotswap_console::host::socket::{self, HostChoice};
use hotswap_protocol::{
    ErrorKind, HelloResult, MAX_LINE_BYTES, Notification, PROTOCOL_VERSION, Request, RequestLine,
    ResponseLine, Snapshot, SubscribeParams, VaultSnapshot, WireError,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::support::fake_host::FakeHost;
use crate::support::samples;

/// The host's end of a connection, which the test plays.
struct HostEnd {
    lines: tokio::io::Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl HostEnd {
    fn new(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        Self { lines: BufReader::new(read).lines(), write }
    }

    async fn next_request(&mut self) -> RequestLine {
        serde_json::from_str(&self.lines.next_line().await.unwrap().unwrap()).unwrap()
    }

    async fn send(&mut self, line: &str) {
        self.write.write_all(line.as_bytes()).await.unwrap();
        self.write.write_all(b"\n").await.unwrap();
    }

    async fn answer(&mut self, id: u64, answer: Result<serde_json::Value, WireError>) {
        let line = serde_json::to_string(&ResponseLine::new(Some(id), answer)).unwrap();
        self.send(&line).await;
    }

    async fn answer_hello(&mut self, protocol: u32) {
        let id = self.next_request().await.id;
        let hello = HelloResult { protocol, host: samples::host(1) };
        self.answer(id, Ok(serde_json::to_value(hello).unwrap())).await;
    }
}

async fn connected() -> (Client, tokio::sync::mpsc::Receiver<Notification>, HostEnd) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut host = HostEnd::new(theirs);
    let (client, ()) =
        tokio::join!(Client::hello(ours, "test"), host.answer_hello(PROTOCOL_VERSION));
    let (client, notifications) = client.unwrap();
    (client, notifications, host)
}

#[tokio::test]
async fn answers_find_their_requests_in_any_order() {
    let (client, _notifications, mut host) = connected().await;
    let in_reverse = async {
        let first = host.next_request().await;
        let second = host.next_request().await;
        for line in [second, first] {
            let answer = match line.request {
                Request::Vault => serde_json::to_value(samples::vault()),
                _ => serde_json::to_value(samples::snapshot(1)),
            };
            host.answer(line.id, Ok(answer.unwrap())).await;
        }
    };
    let (snapshot, vault, ()) = tokio::join!(
        client.ask::<Snapshot>(Request::Snapshot),
        client.ask::<VaultSnapshot>(Request::Vault),
        in_reverse,
    );
    assert_eq!(snapshot.unwrap(), samples::snapshot(1));
    assert_eq!(vault.unwrap(), samples::vault());
}

#[tokio::test]
async fn a_host_of_another_protocol_is_refused_with_both_versions_named() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut host = HostEnd::new(theirs);
    let (client, ()) = tokio::join!(Client::hello(ours, "test"), host.answer_hello(99));
    let error = client.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Protocol);
    assert!(error.message.contains("protocol 99"), "{error}");
    assert!(error.message.contains(&format!("speaks {PROTOCOL_VERSION}")), "{error}");
}

#[tokio::test]
async fn a_waiting_request_fails_when_the_host_is_gone() {
    let (client, _notifications, mut host) = connected().await;
    let gone = async {
        host.next_request().await;
        drop(host);
    };
    let (answer, ()) = tokio::join!(client.request(Request::Reload), gone);
    assert_eq!(answer.unwrap_err().kind, ErrorKind::NoHost);
    let later = client.request(Request::Reload).await.unwrap_err();
    assert!(later.message.contains("lost"), "{later}");
}

#[tokio::test]
async fn a_line_that_is_no_message_ends_the_conversation() {
    let (client, mut notifications, mut host) = connected().await;
    host.send("this is no JSON").await;
    assert_eq!(notifications.recv().await, None);
    let error = client.request(Request::Snapshot).await.unwrap_err();
    assert!(error.message.contains("not a message"), "{error}");
}

#[tokio::test]
async fn an_endless_line_ends_the_conversation() {
    let (client, mut notifications, host) = connected().await;
    let HostEnd { mut write, .. } = host;
    let flood = async move {
        let chunk = vec![b'x'; 64 * 1024];
        for _ in 0..=MAX_LINE_BYTES / chunk.len() + 1 {
            // The client closes the connection before everything is written.
            if write.write_all(&chunk).await.is_err() {
                break;
            }
        }
        write
    };
    let (received, _write) = tokio::join!(notifications.recv(), flood);
    assert_eq!(received, None);
    let error = client.request(Request::Snapshot).await.unwrap_err();
    assert!(error.message.contains("max line length"), "{error}");
}

#[tokio::test]
async fn a_request_that_no_host_would_accept_is_not_sent() {
    let (client, _notifications, _host) = connected().await;
    let target = "x".repeat(MAX_LINE_BYTES);
    let request = Request::Free(hotswap_protocol::TargetParams { target });
    let error = client.request(request).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::BadRequest);
}

#[tokio::test]
async fn a_subscriber_gets_records_and_gaps() {
    let directory = tempfile::tempdir().unwrap();
    let host = FakeHost::listen(directory.path(), 7);
    let choice = HostChoice::Socket(host.socket.clone());
    let (client, mut notifications) = choice.connect("test").await.unwrap();
    let subscribe = SubscribeParams { logs: true, backlog: 10, ..Default::default() };
    client.request(Request::Subscribe(subscribe)).await.unwrap();
    assert!(matches!(notifications.recv().await, Some(Notification::Log(_))));
    assert_eq!(notifications.recv().await, Some(Notification::Dropped { count: 4 }));
}

/// The id of a process that has ended.
fn ended_process() -> u32 {
    let mut ended = std::process::Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    ended.id()
}

#[tokio::test]
async fn a_stale_socket_of_a_host_is_removed() {
    let pid = ended_process();
    let path = socket::of_process(pid);
    hotswap_protocol::RuntimeDir::of(rustix::process::getuid().as_raw()).make(None).unwrap();
    drop(tokio::net::UnixListener::bind(&path).unwrap());
    let removed = async {
        // A process that another test forks keeps the socket open until it executes another program.
        while path.exists() {
            let error = socket::connect(Some(&HostChoice::Process(pid)), "test").await.err();
            assert_eq!(error.unwrap().kind, ErrorKind::NoHost);
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(600), removed).await.unwrap();
}

#[tokio::test]
async fn a_stale_socket_that_the_user_names_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(format!("{}.sock", ended_process()));
    drop(tokio::net::UnixListener::bind(&path).unwrap());
    let choice = HostChoice::Socket(path.clone());
    let error = socket::connect(Some(&choice), "test").await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::NoHost);
    assert!(path.exists());
}
