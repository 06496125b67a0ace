//! The console socket with requests by hand: garbage is refused, and the host is not affected.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    thread,
};

use hotswap_engine::{ConsoleSocket, args};
use hotswap_protocol::{MAX_LINE_BYTES, MAX_REPEAT, PROTOCOL_VERSION, VersionState};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Gate, Host, PluginDir, in_own_process};

/// A host with a socket of its own.
pub struct Listening {
    pub host: Host,
    _dir: TempDir,
}

impl Listening {
    pub fn new() -> Self {
        Self::with("echo")
    }

    fn with(plugin: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = ConsoleSocket::at(dir.path().join("socket"));
        let host = Host::new(PluginDir::of(&[plugin]), |builder| builder.console(Some(socket)));
        host.reload();
        Self { host, _dir: dir }
    }

    fn connect(&self) -> Client {
        Client::connect(&self.host.engine.snapshot().host.socket)
    }

    /// A client that has said hello.
    pub fn greeted_client(&self) -> Client {
        Client::greeted(&self.host.engine.snapshot().host.socket)
    }
}

/// A client of the protocol.
pub struct Client {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Client {
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        Self { reader: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    /// A client that has said hello.
    pub fn greeted(socket: &Path) -> Self {
        let mut client = Self::connect(socket);
        let answer =
            client.ask(1, "hello", json!({"protocol": PROTOCOL_VERSION, "client": "test"}));
        assert_eq!(answer["result"]["host"]["pid"], std::process::id());
        client
    }

    fn send(&mut self, line: &str) {
        self.try_send(line).unwrap();
    }

    /// An error if the host has closed the connection already.
    fn try_send(&mut self, line: &str) -> io::Result<()> {
        self.stream.write_all(format!("{line}\n").as_bytes())
    }

    /// The next line; `None` if the host closed the connection.
    pub fn receive(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line).unwrap_or(0);
        (read > 0).then(|| serde_json::from_str(&line).unwrap())
    }

    pub fn begin(&mut self, id: u64, method: &str, params: Value) {
        self.send(
            &json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string(),
        );
    }

    pub fn ask(&mut self, id: u64, method: &str, params: Value) -> Value {
        self.begin(id, method, params);
        loop {
            let line = self.receive().expect("an answer");
            if line["id"] == id {
                return line;
            }
        }
    }
}

#[test]
fn only_this_user_can_use_the_socket() {
    let host = Listening::new();
    let path = host.host.engine.snapshot().host.socket;
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_function_is_called_through_the_socket() {
    let host = Listening::new();
    let mut client = host.greeted_client();
    let call = json!({"plugin": "echo", "function": "add", "args": ["2", "40"], "lenient": true});
    let answer = client.ask(2, "invoke", call);
    assert_eq!(answer["result"]["value"], 42);
    assert_eq!(answer["result"]["version"], 1);
    let call = json!({"plugin": "echo", "function": "add", "args": ["2", "40"]});
    let answer = client.ask(3, "invoke", call);
    assert_eq!(answer["error"]["data"]["kind"], "bad_argument");
}

#[test]
fn a_repeated_call_reports_the_time_of_each_call() {
    let host = Listening::new();
    let mut client = host.greeted_client();
    let call = |function: &str, args: Value, repeat: u32| json!({"plugin": "echo", "function": function, "args": args, "repeat": repeat});
    let answer = client.ask(2, "invoke", call("add", json!([2, 40]), 500));
    assert_eq!(answer["result"]["value"], 42);
    let latencies = &answer["result"]["latencies"];
    assert_eq!(latencies["calls"], 500);
    let buckets = latencies["buckets"].as_array().unwrap();
    assert_eq!(buckets.iter().map(|it| it["calls"].as_u64().unwrap()).sum::<u64>(), 500);
    let once = client.ask(3, "invoke", call("add", json!([2, 40]), 1));
    assert_eq!(once["result"]["latencies"], json!(null));

    let failed = client.ask(4, "invoke", call("fail", json!([]), 5));
    let message = failed["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("call 1 of 5: "), "{message}");
    for repeat in [0, MAX_REPEAT + 1] {
        let refused = client.ask(5, "invoke", call("add", json!([2, 40]), repeat));
        assert_eq!(refused["error"]["data"]["kind"], "bad_argument");
    }
}

#[test]
fn a_cancelled_call_of_an_async_function_drops_its_future() {
    let host = Listening::with("waits");
    let mut client = host.greeted_client();
    let gate = Gate::new();
    let call = json!({"plugin": "waits", "function": "later", "args": [gate.path()]});
    client.begin(2, "invoke", call);
    let waiting = gate.arrival();
    assert_eq!(
        client.ask(3, "cancel", json!({"id": 77}))["error"]["data"]["kind"],
        "not_cancellable"
    );
    client.begin(4, "cancel", json!({"id": 2}));
    let mut lines = [client.receive().unwrap(), client.receive().unwrap()];
    lines.sort_by_key(|line| line["id"].as_u64());
    assert_eq!(lines[0]["error"]["data"]["kind"], "cancelled");
    assert_eq!(lines[1]["result"], json!({}));
    // After the cancelled call, nothing holds the version.
    host.host.plugins.install("waits", 2);
    host.host.reload();
    waiting.release();
    host.host.wait_for("waits", 1, VersionState::Freed);
}

#[test]
fn a_call_that_is_not_async_runs_to_its_end() {
    let host = Listening::new();
    let mut client = host.greeted_client();
    let gate = Gate::new();
    client.begin(2, "invoke", json!({"plugin": "echo", "function": "hold", "args": [gate.path()]}));
    let waiting = gate.arrival();
    let refused = client.ask(3, "cancel", json!({"id": 2}));
    assert_eq!(refused["error"]["data"]["kind"], "not_cancellable");
    waiting.release();
    assert_eq!(client.receive().unwrap()["result"]["value"], 1);
    let refused = client.ask(4, "cancel", json!({"id": 2}));
    assert_eq!(refused["error"]["data"]["kind"], "not_cancellable");
}

#[test]
fn a_version_that_a_console_holds_can_be_called_beside_the_one_that_serves() {
    let host = Listening::new();
    let mut client = host.greeted_client();
    assert_eq!(client.ask(2, "hold", json!({"target": "echo"}))["result"], json!({}));
    host.host.plugins.install("echo", 2);
    host.host.reload();
    for (id, target, revision) in [(3, "echo@1", 1), (4, "echo@2", 2), (5, "echo", 2)] {
        let call = json!({"plugin": target, "function": "revision"});
        assert_eq!(client.ask(id, "invoke", call)["result"]["value"], revision);
    }
    let held = host.host.wait_for("echo", 1, VersionState::Retired);
    assert_eq!(held.holders, ["handle of a console"]);
    assert_eq!(client.ask(6, "release", json!({"target": "echo@1"}))["result"], json!({}));
    host.host.wait_for("echo", 1, VersionState::Freed);

    // The end of the connection also releases the version.
    client.ask(7, "hold", json!({"target": "echo@2"}));
    host.host.plugins.install("echo", 3);
    host.host.reload();
    drop(client);
    host.host.wait_for("echo", 2, VersionState::Freed);
}

#[test]
fn two_versions_are_called_in_turn() {
    let host = Listening::with("shares");
    let mut client = host.greeted_client();
    // The value belongs to the host, so both versions count in it.
    host.host.engine.vault().data_bag().set("count", 0_u64).unwrap();
    client.ask(2, "hold", json!({"target": "shares"}));
    host.host.plugins.install("shares", 2);
    host.host.reload();
    let call = json!({"plugin": "shares", "function": "count", "repeat": 10, "beside": "shares@1"});
    let answer = client.ask(3, "invoke", call)["result"].take();
    assert_eq!((&answer["version"], &answer["value"]), (&json!(2), &json!(19)));
    let other = &answer["beside"]["result"];
    assert_eq!((&other["version"], &other["value"]), (&json!(1), &json!(20)));
    assert_eq!(
        (&answer["latencies"]["calls"], &other["latencies"]["calls"]),
        (&json!(10), &json!(10))
    );

    let call = json!({"plugin": "shares", "function": "count", "beside": "shares@3"});
    assert_eq!(client.ask(4, "invoke", call)["error"]["data"]["kind"], "unknown_plugin");
}

#[test]
fn a_failure_of_the_compared_version_does_not_hide_the_result() {
    let host = Listening::new();
    host.host.plugins.install("shares", 1);
    host.host.reload();
    let mut client = host.greeted_client();
    let call = json!({"plugin": "shares", "function": "count", "repeat": 3, "beside": "echo"});
    let answer = client.ask(2, "invoke", call)["result"].take();
    assert_eq!(answer["value"], 3);
    let message = answer["beside"]["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("call 1 of 3: echo v1: no function"), "{message}");
}

#[test]
fn a_reload_through_the_socket_is_reported_to_all_subscribers() {
    let host = Listening::new();
    let (mut first, mut second) = (host.greeted_client(), host.greeted_client());
    second.ask(2, "subscribe", json!({"events": true}));
    host.host.plugins.install("echo", 2);
    let answer = first.ask(2, "reload", json!(null));
    assert_eq!(answer["result"]["plugins"][0]["outcome"], "ok");
    let mut events = Vec::new();
    while events.last().is_none_or(|event| event != "reload_finished") {
        let line = second.receive().expect("an event");
        events.push(line["params"]["event"].as_str().expect("an event's name").to_owned());
    }
    assert_eq!(events[0], "reload_started");
}

#[test]
fn the_first_request_must_be_hello() {
    let host = Listening::new();
    let mut client = host.connect();
    let answer = client.ask(1, "snapshot", json!(null));
    assert_eq!(answer["error"]["data"]["kind"], "bad_request");
    let answer = client.ask(2, "hello", json!({"protocol": 999, "client": "test"}));
    assert_eq!(answer["error"]["data"]["kind"], "protocol");
    assert_eq!(client.receive(), None, "the host closes the connection");
}

#[test]
fn a_client_that_connects_at_once_hears_where_the_calls_are_noted() {
    let end = in_own_process(|| {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..200 {
            let path = dir.path().join(format!("socket-{number}"));
            let at = path.clone();
            let client = thread::spawn(move || {
                while UnixStream::connect(&at).is_err() {
                    thread::yield_now();
                }
                let mut client = Client::connect(&at);
                client.ask(1, "hello", json!({"protocol": PROTOCOL_VERSION, "client": "test"}))
            });
            let socket = ConsoleSocket::at(&path);
            let _host =
                Host::new(PluginDir::of(&[] as &[&str]), |builder| builder.console(Some(socket)));
            let reported = client.join().unwrap()["result"]["host"].clone();
            assert_eq!(reported["socket"], json!(path), "{reported}");
            assert!(reported["calls_file"].is_string(), "{reported}");
        }
    });
    assert!(end.status.success(), "{}", end.output);
}

#[test]
fn client_and_host_use_the_newest_protocol_that_both_speak() {
    let host = Listening::new();
    let mut client = host.connect();
    let newer = json!({"protocol": 999, "oldest_protocol": PROTOCOL_VERSION, "client": "test"});
    let answer = client.ask(1, "hello", newer);
    assert_eq!(answer["result"]["protocol"], PROTOCOL_VERSION, "{answer}");
    assert!(client.ask(2, "snapshot", json!(null))["result"].is_object());

    let mut client = host.connect();
    let too_new = json!({"protocol": 999, "oldest_protocol": 998, "client": "test"});
    let answer = client.ask(1, "hello", too_new);
    let message = answer["error"]["data"]["message"].as_str().unwrap();
    assert!(message.contains("speaks protocol 998 to 999"), "{message}");
}

#[test]
fn one_agent_at_a_time_is_connected_to_a_host() {
    let host = Listening::new();
    let (mut first, mut second) = (host.greeted_client(), host.greeted_client());
    let agent = |pid: u32| json!({"fleet": "/fleet", "channel": "main", "host": "h", "pid": pid});
    assert_eq!(first.ask(2, "agent", agent(7))["result"], json!({}));
    assert_eq!(second.ask(2, "snapshot", json!(null))["result"]["host"]["agent"], agent(7));
    let refused = second.ask(3, "agent", agent(8));
    let message = refused["error"]["data"]["message"].as_str().unwrap();
    assert!(message.contains("pid 7 for channel main of the fleet in /fleet"), "{message}");
    drop(first);
    // The host may not have noticed the end of the connection yet.
    let accepted = (0..1000).any(|_| second.ask(4, "agent", agent(8))["result"].is_object());
    assert!(accepted);
}

#[test]
fn garbage_is_answered_with_an_error() {
    let host = Listening::new();
    let mut client = host.greeted_client();
    for garbage in ["", "{", "[]", "null", "{\"id\":7}", "\u{0}", r#"{"id":8,"method":"nonsense"}"#]
    {
        client.send(garbage);
        let answer = client.receive().unwrap();
        assert_eq!(answer["error"]["code"], -32600, "{garbage:?}: {answer}");
    }
    client.stream.write_all(b"\xff\xfe\n").unwrap();
    assert_eq!(client.receive().unwrap()["error"]["code"], -32600);
    assert!(client.ask(9, "snapshot", json!(null))["result"].is_object());
}

#[test]
fn a_long_error_arrives_with_its_beginning_and_its_length() {
    const LENGTH: usize = 6_000_000;
    let host = Listening::with("bombs");
    let mut client = host.greeted_client();
    client.ask(2, "subscribe", json!({"events": true}));
    let call = json!({"plugin": "bombs", "function": "throw_much", "args": [LENGTH]});
    let answer = client.ask(3, "invoke", call);
    let error = &answer["error"]["data"];
    let message = error["message"].as_str().unwrap();
    assert_eq!(error["kind"], "panic");
    assert!(message.starts_with("bombs v1: throw_much: panicked at tests/"), "{message:.90}");
    assert!(message.contains(": xxx") && message.contains("… (6000"), "{} bytes", message.len());

    // A load that the host refuses with any text.
    host.host.plugins.install("bombs", 2);
    let refused = host.host.engine.reload_with((), |_, _| Err("\u{1}".repeat(LENGTH)));
    assert!(refused.unwrap_err().to_string().len() > LENGTH);
    let failed = loop {
        let line = client.receive().unwrap();
        if line["params"]["event"] == "reload_failed" {
            break line;
        }
    };
    let message = failed["params"]["error"]["message"].as_str().unwrap();
    assert!(message.contains(": \u{1}\u{1}") && message.ends_with("bytes)"), "{message:.90}");
}

#[test]
fn an_endless_line_and_half_a_line_end_only_their_connection() {
    let host = Listening::new();
    let mut client = host.greeted_client();
    let line = vec![b'x'; MAX_LINE_BYTES + 1];
    let _ = client.stream.write_all(&line);
    let answer = client.receive();
    assert!(answer.is_none_or(|answer| answer["error"]["data"]["kind"] == "bad_request"));

    let mut client = host.greeted_client();
    client.stream.write_all(b"{\"id\":").unwrap();
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.receive(), None);
    assert!(host.greeted_client().ask(2, "snapshot", json!(null))["result"].is_object());
}

#[test]
fn a_thousand_connections_do_not_disturb_the_host() {
    let host = Listening::new();
    let connections: Vec<_> = (0..1000)
        .filter_map(|_| UnixStream::connect(host.host.engine.snapshot().host.socket).ok())
        .collect();
    let echo = host.host.engine.plugin("echo").unwrap();
    assert_eq!(echo.invoke::<i32>("add", args![1, 2]).unwrap(), 3);
    drop(connections);
    // New connections are accepted as soon as the host has noticed that the old ones have ended.
    loop {
        let mut client = host.connect();
        let params = json!({"protocol": PROTOCOL_VERSION, "client": "test"});
        let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "hello", "params": params});
        if client.try_send(&hello.to_string()).is_ok() && client.receive().is_some() {
            break;
        }
    }
}
