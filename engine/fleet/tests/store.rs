//! What holds wherever a fleet is kept: with several writers, and with what somebody else has written there. Each
//! test runs on a directory, and on a NATS server.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    thread,
};

use hotswap_fleet::{
    Artifact, AuditEntry, Channel, Digest, FleetError, HostReport, HostState, Id, Keys, Location,
    Mark, Release, ReleasePlugin, SecretKey, Store,
};
use hotswap_protocol::Toolchain;
use tempfile::TempDir;

#[cfg(feature = "nats")]
#[path = "../../../tests/it/support/nats.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod nats_server;

/// Where a fleet is kept, for whoever writes there what no program of ours would.
trait Place: Sync {
    fn location(&self) -> Location;
    /// A document as it is called in a directory.
    fn put(&self, path: &str, json: &[u8]);
    /// What is of an artifact; nothing if `None`.
    fn put_blob(&self, digest: &Digest, content: Option<&[u8]>);
    /// The text without what is another place in each run.
    fn cleaned(&self, text: &str) -> String;
}

struct InDirectory(TempDir);

impl InDirectory {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }
}

impl Place for InDirectory {
    fn location(&self) -> Location {
        Location::Directory(self.0.path().to_owned())
    }

    fn put(&self, path: &str, json: &[u8]) {
        fs::write(self.path(path), json).unwrap();
    }

    fn put_blob(&self, digest: &Digest, content: Option<&[u8]>) {
        let path = self.path(&format!("blobs/{digest}.so"));
        match content {
            Some(content) => fs::write(path, content).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
    }

    fn cleaned(&self, text: &str) -> String {
        text.replace(self.0.path().to_str().unwrap(), "PLACE")
    }
}

#[cfg(feature = "nats")]
struct OnNats(nats_server::NatsServer);

#[cfg(feature = "nats")]
impl OnNats {
    fn new() -> Self {
        Self(nats_server::NatsServer::start())
    }

    fn url(&self) -> String {
        format!("nats://{}/games", self.0.address())
    }
}

#[cfg(feature = "nats")]
impl Place for OnNats {
    fn location(&self) -> Location {
        Location::Nats(hotswap_fleet::Server::at(&self.url()).unwrap())
    }

    fn put(&self, path: &str, json: &[u8]) {
        let key = path.trim_end_matches(".json");
        let subject = match key.split_once('/') {
            None => format!("$KV.games_fleet.{key}"),
            Some(("channels", name)) => format!("$KV.games_channels.{name}"),
            Some(("hosts", name)) => format!("$KV.games_hosts.{name}"),
            Some(("releases", name)) => format!("$KV.games_fleet.release.{name}"),
            Some(_) => panic!("{path}"),
        };
        put_raw(&self.0.address(), &subject, json);
    }

    fn put_blob(&self, digest: &Digest, content: Option<&[u8]>) {
        put_raw(&self.0.address(), &format!("games.blob.{digest}.0"), content.unwrap_or_default());
    }

    fn cleaned(&self, text: &str) -> String {
        text.replace(&self.url(), "PLACE")
    }
}

/// Writes to a stream what no program of ours would.
#[cfg(feature = "nats")]
fn put_raw(address: &str, subject: &str, payload: &[u8]) {
    use std::{
        io::{BufRead, BufReader, Write},
        net::TcpStream,
        time::Duration,
    };
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set a timeout");
    let length = payload.len();
    let ask = format!(
        "CONNECT {{\"verbose\":false}}\r\nSUB _INBOX.put 1\r\nPUB {subject} _INBOX.put {length}\r\n"
    );
    stream.write_all(&[ask.as_bytes(), payload, b"\r\n"].concat()).expect("write");
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while !line.starts_with("MSG") {
        line.clear();
        assert_ne!(reader.read_line(&mut line).expect("read"), 0, "it has hung up");
    }
    line.clear();
    reader.read_line(&mut line).expect("read");
    assert!(line.contains("\"seq\""), "{line}");
}

macro_rules! on_each_store {
    ($($test:ident),* $(,)?) => {
        mod directory {
            $(#[test] fn $test() { super::$test(&super::InDirectory::new()); })*
        }

        #[cfg(feature = "nats")]
        mod nats {
            $(
                #[test]
                #[ignore = "needs a NATS server; `.ci/run` has one"]
                fn $test() { super::$test(&super::OnNats::new()); }
            )*
        }
    };
}

on_each_store!(
    a_fleet_is_made_once_and_found_again,
    a_fleet_that_was_made_anew_is_another_one,
    of_many_writers_each_write_builds_on_the_one_before,
    a_release_is_written_once,
    an_artifact_of_many_pieces_is_fetched,
    an_artifact_that_was_altered_is_refused_by_name,
    documents_of_somebody_else_are_refused_by_name,
    hosts_are_those_that_report_and_are_not_forgotten,
    what_is_not_signed_by_a_key_of_the_fleet_is_refused,
);

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

fn fleet(place: &dyn Place) -> Store {
    Store::create(&place.location(), &id("games"), &id("main"), 7).unwrap()
}

fn built_by() -> Toolchain {
    Toolchain {
        rustc_release: "1.95.0".to_owned(),
        rustc_commit: "59807616e".to_owned(),
        target: "x86_64-unknown-linux-gnu".to_owned(),
        panic_strategy: "unwind".to_owned(),
        plugin_crate_version: "0.1.0".to_owned(),
        abi_version: 6,
    }
}

fn release(fleet: &Store, name: &str, content: &[u8]) -> Release {
    let artifact = Artifact {
        built_by: built_by(),
        build_id: "00".repeat(16),
        crate_version: "1.0.0".to_owned(),
        sha256: fleet.push_blob(content).unwrap(),
        size_bytes: content.len() as u64,
    };
    Release {
        id: id(name),
        fleet: fleet.fleet().id.clone(),
        pushed_at_ms: 1,
        by: "test".to_owned(),
        plugins: vec![ReleasePlugin { name: "world".to_owned(), artifacts: vec![artifact] }],
    }
}

/// The error's text without the place.
fn told<T: std::fmt::Debug>(place: &dyn Place, result: Result<T, FleetError>) -> String {
    place.cleaned(&result.unwrap_err().to_string())
}

#[track_caller]
fn assert_has(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} in {text:?}");
}

fn a_fleet_is_made_once_and_found_again(place: &dyn Place) {
    let fleet = fleet(place);
    let error = told(place, Store::create(&place.location(), &id("other"), &id("main"), 8));
    assert_has(&error, "there is a fleet already; name another place");
    let opened = Store::open(&place.location()).unwrap();
    assert_eq!(opened.fleet(), fleet.fleet());
    assert_eq!(opened.channel(&id("main")).unwrap(), Channel::new(id("main"), 7));
    assert_has(&told(place, opened.channel(&id("beta"))), "there is no such channel in the fleet");
}

fn a_fleet_that_was_made_anew_is_another_one(place: &dyn Place) {
    let fleet = fleet(place);
    let mut other = fleet.fleet().clone();
    other.made_at_ms = 8;
    place.put("fleet.json", &serde_json::to_vec(&other).unwrap());
    let error = told(place, fleet.channel(&id("main")));
    assert_has(&error, "PLACE: the fleet here is games of 8 now, and not games of 7");
}

fn of_many_writers_each_write_builds_on_the_one_before(place: &dyn Place) {
    let fleet = fleet(place);
    let main = id("main");
    thread::scope(|scope| {
        for writer in 0..4 {
            let main = &main;
            scope.spawn(move || {
                let fleet = Store::open(&place.location()).unwrap();
                for number in 0..25 {
                    let host = id(&format!("host-{writer}-{number}"));
                    loop {
                        let read = fleet.channel(main).unwrap();
                        let mut new = read.clone();
                        new.pins.insert(host.clone(), id("r1"));
                        new.mark.seq += 1;
                        match fleet.write_channel(&read, &new) {
                            Ok(()) => break,
                            Err(error) => assert!(error.is_changed(), "{error}"),
                        }
                    }
                    fleet.audit(&audited(&host)).unwrap();
                }
            });
        }
    });
    let channel = fleet.channel(&main).unwrap();
    assert_eq!((channel.pins.len(), channel.mark.seq), (100, 101));
    let (entries, unreadable) = fleet.audited().unwrap();
    assert_eq!((entries.len(), unreadable), (100, 0));
}

fn audited(host: &Id) -> AuditEntry {
    AuditEntry {
        at_ms: 1,
        by: "test".to_owned(),
        what: "pin".to_owned(),
        channel: Some(id("main")),
        release: None,
        host: Some(host.clone()),
        reason: None,
    }
}

fn a_release_is_written_once(place: &dyn Place) {
    let fleet = fleet(place);
    let first = release(&fleet, "r1", b"one");
    assert!(fleet.push_release(&first, None).unwrap());
    let again = Release { pushed_at_ms: 9, by: "somebody".to_owned(), ..first.clone() };
    assert!(!fleet.push_release(&again, None).unwrap());
    assert_eq!(fleet.release(&id("r1"), &[]).unwrap(), first);
    let other = release(&fleet, "r1", b"two");
    let error = told(place, fleet.push_release(&other, None));
    assert_has(&error, "another release of this name is there; choose another");
    fleet.push_release(&release(&fleet, "r0.1-x", b"three"), None).unwrap();
    assert_eq!(fleet.releases().unwrap(), [id("r0.1-x"), id("r1")]);
    let error = told(place, fleet.release(&id("r2"), &[]));
    assert!(error.starts_with("there is no release r2 in PLACE;"), "{error}");
}

fn an_artifact_of_many_pieces_is_fetched(place: &dyn Place) {
    let fleet = fleet(place);
    let dir = TempDir::new().unwrap();
    for size in [1, (128 << 10) - 1, 128 << 10, (128 << 10) + 1, 3 << 20] {
        let content: Vec<u8> = (0..size).map(|at: usize| (at % 251) as u8).collect();
        let release = release(&fleet, &format!("r{size}"), &content);
        let to = dir.path().join("fetched.so");
        fleet.fetch(&release.id, "world", &release.plugins[0].artifacts[0], &to).unwrap();
        assert!(fs::read(&to).unwrap() == content, "{size} bytes");
    }
}

fn an_artifact_that_was_altered_is_refused_by_name(place: &dyn Place) {
    let fleet = fleet(place);
    let release = release(&fleet, "r1", b"what was built");
    fleet.push_release(&release, None).unwrap();
    fleet.verify(&id("r1"), &[]).unwrap();
    let artifact = &release.plugins[0].artifacts[0];
    let dir = TempDir::new().unwrap();
    let to = dir.path().join("fetched.so");
    let fetch = || fleet.fetch(&id("r1"), "world", artifact, &to);
    fetch().unwrap();
    assert_eq!(fs::read(&to).unwrap(), b"what was built");
    fs::remove_file(&to).unwrap();

    let altered: [(&[u8], &str); 3] = [
        (b"what was BUILT", "the release names SHA-256"),
        (b"what was", "the release names 14 bytes, and it has less"),
        (b"what was built, and more", "the release names 14 bytes, and it has more"),
    ];
    for (content, expected) in altered {
        place.put_blob(&artifact.sha256, Some(content));
        for error in [told(place, fleet.verify(&id("r1"), &[])), told(place, fetch())] {
            assert!(error.starts_with("world of release r1: PLACE"), "{error}");
            assert_has(&error, &format!("{}", artifact.sha256));
            assert_has(&error, ": the artifact was altered");
            assert_has(&error, expected);
        }
    }
    place.put_blob(&artifact.sha256, None);
    let error = told(place, fetch());
    assert!(error.starts_with("world of release r1: PLACE"), "{error}");
    assert!(!to.exists());
    // Pushed once more, it is right again.
    fleet.push_blob(b"what was built").unwrap();
    fetch().unwrap();
}

fn documents_of_somebody_else_are_refused_by_name(place: &dyn Place) {
    let fleet = fleet(place);
    let channel = || told(place, fleet.channel(&id("main")));
    let wrong = "it is not what it should be:";
    place.put("channels/main.json", b"{\"name\":\"main\"}");
    assert_has(&channel(), wrong);
    assert_has(&channel(), "main");
    place.put("channels/main.json", "[".repeat(100_000).as_bytes());
    assert_has(&channel(), wrong);
    let other = serde_json::to_vec(&Channel::new(id("other"), 7)).unwrap();
    place.put("channels/main.json", &other);
    assert_has(&channel(), ": it says that it is other, and not main");

    // What one report holds says nothing of the others.
    fleet.report(&report("good")).unwrap();
    place.put("hosts/evil.json", b"\xff\xfe");
    let (hosts, unreadable) = fleet.hosts(&id("main")).unwrap();
    assert_eq!(hosts, [report("good")]);
    assert_eq!(unreadable.len(), 1);
    assert_has(&unreadable[0].to_string(), "evil");
    assert_has(&unreadable[0].to_string(), wrong);

    let mut release = release(&fleet, "r1", b"one");
    release.fleet = id("others");
    let json = serde_json::to_string(&release).unwrap();
    place.put("releases/r1.json", json.as_bytes());
    let error = told(place, fleet.release(&id("r1"), &[]));
    assert!(error.ends_with("it is for the fleet others, and this is the fleet games"), "{error}");
    let away = json.replace(release.plugins[0].artifacts[0].sha256.as_str(), "../../../etc/passwd");
    place.put("releases/r1.json", away.as_bytes());
    let error = told(place, fleet.release(&id("r1"), &[]));
    assert_has(&error, "expected a SHA-256 of 64 hexadecimal digits");
}

fn report(name: &str) -> HostReport {
    HostReport {
        id: id(name),
        channel: id("main"),
        name: name.to_owned(),
        pid: 1,
        machine: None,
        socket: None,
        at_ms: 5,
        stratum: "toolchain".to_owned(),
        state: HostState::Serving,
        release: None,
        builds: Default::default(),
        staged: None,
        problem: None,
        seen: Mark::default(),
        health: Default::default(),
    }
}

fn hosts_are_those_that_report_and_are_not_forgotten(place: &dyn Place) {
    let fleet = fleet(place);
    assert_eq!(fleet.hosts(&id("main")).unwrap().0, []);
    // More than what one question to a server brings.
    let names: Vec<String> = (1000..1600).map(|number| format!("game.{number}")).collect();
    for name in &names {
        fleet.report(&report(name)).unwrap();
    }
    fleet.report(&HostReport { channel: id("beta"), ..report("other") }).unwrap();
    let newer = HostReport { at_ms: 6, ..report("game.1000") };
    fleet.report(&newer).unwrap();
    fleet.forget(&id("game.1001")).unwrap();
    fleet.forget(&id("nobody")).unwrap();
    let (hosts, unreadable) = fleet.hosts(&id("main")).unwrap();
    assert_eq!((hosts.len(), unreadable.len()), (names.len() - 1, 0));
    assert_eq!(hosts[0], newer);
    assert_eq!(hosts[1].id, id("game.1002"));
}

fn what_is_not_signed_by_a_key_of_the_fleet_is_refused(place: &dyn Place) {
    let fleet = fleet(place);
    let dir = TempDir::new().unwrap();
    let key = |name: &str| SecretKey::generate(&dir.path().join(name)).unwrap();
    let ((secret, public), (other, other_public)) = (key("one.key"), key("two.key"));
    fleet.set_keys(vec![public.clone()], None).unwrap();
    let keys = fleet.keys().unwrap().unwrap();

    let refused = |name: &str, secret: Option<&SecretKey>| {
        let release = release(&fleet, name, name.as_bytes());
        fleet.push_release(&release, secret).unwrap();
        told(place, fleet.release(&release.id, &keys.keys))
    };
    assert_has(&refused("r1", None), ": the release is not signed");
    let not_by = "the signature is not by a key of the fleet for this very content";
    assert!(refused("r2", Some(&other)).ends_with(not_by));
    let signed = release(&fleet, "r3", b"three");
    fleet
        .push_release(&signed, Some(&SecretKey::read(&dir.path().join("one.key")).unwrap()))
        .unwrap();
    fleet.release(&id("r3"), &keys.keys).unwrap();
    // Signed later.
    fleet.push_release(&release(&fleet, "r1", b"r1"), Some(&secret)).unwrap();
    fleet.release(&id("r1"), &keys.keys).unwrap();

    // A successor is signed by the former key, and nothing else is believed.
    let error = told(place, fleet.set_keys(vec![other_public.clone()], None));
    assert_has(&error, "a change of keys is signed by one that is there");
    let error = told(place, fleet.set_keys(vec![other_public.clone()], Some(&other)));
    assert!(error.ends_with(not_by), "{error}");
    let new = fleet.set_keys(vec![other_public], Some(&secret)).unwrap();
    assert_eq!(fleet.keys_after(Some(&keys)).unwrap(), Some(new.clone()));
    let put = |keys: &Keys| place.put("keys.json", &serde_json::to_vec(keys).unwrap());
    put(&keys);
    assert_has(&told(place, fleet.keys_after(Some(&new))), "gone or older");
    put(&Keys { serial: 9, ..keys.clone() });
    assert_has(&told(place, fleet.keys_after(Some(&new))), "signature");
}

#[cfg(feature = "nats")]
#[test]
#[ignore = "needs a NATS server; `.ci/run` has one"]
fn a_nats_server_that_comes_back_is_told_of_and_so_is_what_it_has_lost() {
    use hotswap_fleet::Change;
    let mut place = OnNats::new();
    let fleet = fleet(&place);
    let main = id("main");
    let (tell, told_changes) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let note = move |change| tell.lock().unwrap().send(change).unwrap();
    assert!(fleet.watch(&main, Box::new(note)).unwrap());
    let next = || told_changes.recv_timeout(std::time::Duration::from_secs(60)).unwrap();

    let read = fleet.channel(&main).unwrap();
    let mut new = read.clone();
    new.go_on(&[]);
    fleet.write_channel(&read, &new).unwrap();
    assert_eq!(next(), Change::Declared);

    place.0.kill();
    let error = fleet.write_channel(&new, &read).unwrap_err();
    assert!(error.is_unreachable() && !error.is_changed(), "{error}");
    place.0.start_again();
    assert_eq!(next(), Change::Connected);
    assert_eq!(fleet.channel(&main).unwrap(), new);

    place.0.kill();
    fs::remove_dir_all(place.0.store_dir()).unwrap();
    place.0.start_again();
    assert_eq!(next(), Change::Connected);
    // Whoever has made the streams makes them again.
    let error = loop {
        let error = fleet.channel(&main).unwrap_err();
        if !error.is_unreachable() {
            break error;
        }
    };
    let error = place.cleaned(&error.to_string());
    assert_has(&error, "PLACE: there is no fleet any more, and not games of 7");
}

#[cfg(feature = "nats")]
#[test]
fn where_there_is_no_server_it_is_said() {
    use hotswap_fleet::Server;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let server = Server::at(&format!("nats://{address}/games")).unwrap();
    // Whoever asks may be where nothing may be waited for.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let opened = runtime.block_on(async { Store::open(&Location::Nats(server)) });
    let error = opened.unwrap_err().to_string();
    assert!(error.starts_with(&format!("nats://{address}/games: cannot connect: ")), "{error}");
    assert_eq!(Server::at("nats://games.example:4222").unwrap().prefix(), "hotswap");
    for (url, why) in [
        ("games.example", "it has no scheme"),
        ("http://games.example", "its scheme is another one"),
        ("nats://me:secret@games.example", "credentials are in a file"),
        ("nats://games.example/a.b", "the prefix is letters"),
        ("nats://games.example/a/b", "the prefix is letters"),
        ("nats:///games", "it names no host"),
    ] {
        assert_has(&Server::at(url).unwrap_err().to_string(), why);
    }
}

#[test]
fn in_a_directory_nothing_but_files_of_a_size_is_read() {
    let place = InDirectory::new();
    let fleet = fleet(&place);
    let channel = || told(&place, fleet.channel(&id("main")));
    place.put("channels/main.json", &vec![b' '; (1 << 20) + 1]);
    assert_eq!(channel(), "PLACE/channels/main.json: it has more than 1048576 bytes");
    fs::remove_file(place.path("channels/main.json")).unwrap();
    fs::create_dir(place.path("channels/main.json")).unwrap();
    assert_eq!(channel(), "PLACE/channels/main.json: it is not a regular file");

    let release = release(&fleet, "r1", b"what was built");
    fleet.push_release(&release, None).unwrap();
    let artifact = &release.plugins[0].artifacts[0];
    let blob = place.path(&format!("blobs/{}.so", artifact.sha256));
    fs::remove_file(&blob).unwrap();
    symlink("/dev/zero", &blob).unwrap();
    let error = told(&place, fleet.fetch(&id("r1"), "world", artifact, &place.path("fetched.so")));
    assert_has(&error, "cannot open it");

    place.put("hosts/..evil.json", b"{}");
    assert_eq!(fleet.hosts(&id("main")).unwrap(), (Vec::new(), Vec::new()));
    place.put("audit.jsonl", b"no JSON\n{\"half\":\n");
    assert_eq!(fleet.audited().unwrap(), (Vec::new(), 2));

    // The signature of another release.
    let (secret, public) = SecretKey::generate(&place.path("one.key")).unwrap();
    fleet.push_release(&self::release(&fleet, "r2", b"two"), Some(&secret)).unwrap();
    let in_releases = |name: &str| place.path("releases").join(name);
    fs::copy(in_releases("r2.json.minisig"), in_releases("r1.json.minisig")).unwrap();
    let error = told(&place, fleet.release(&id("r1"), &[public]));
    assert!(error.ends_with("not by a key of the fleet for this very content"), "{error}");
    let left: Vec<_> = fs::read_dir(place.path("releases")).unwrap().collect();
    assert_eq!(left.len(), 4, "nothing that is half written: {left:?}");
    let empty = InDirectory::new();
    assert!(told(&empty, Store::open(&empty.location())).starts_with("PLACE: there is no fleet;"));
}

#[test]
fn names_are_no_paths() {
    for name in ["", "..", "../x", ".hidden", "a/b", "a\0b", &"x".repeat(65)] {
        assert!(name.parse::<Id>().is_err(), "{name:?}");
    }
    assert_eq!(Digest::of(b"").as_str().get(..8), Some("e3b0c442"));
    assert_eq!(Location::Directory(Path::new("/srv/games").to_owned()).name(), id("games"));
}

#[cfg(feature = "nats")]
#[test]
#[ignore = "needs a NATS server; `.ci/run` has one"]
fn through_a_nats_server_a_host_is_reached_with_all_that_is_said() {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};

    let place = OnNats::new();
    let (agent, operator) = (fleet(&place), Store::open(&place.location()).unwrap());
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let host = id("game.1000");
    let (ours, theirs) = UnixStream::pair().unwrap();
    let error = operator.attach(&host, theirs).unwrap_err().to_string();
    assert_has(&error, "nobody answers");
    drop(ours);

    let kept = agent.let_attach(&host, socket).unwrap();
    // Asked before the server knows that somebody listens, it says that nobody does.
    let reached = || {
        for _ in 0..100 {
            let (ours, theirs) = UnixStream::pair().unwrap();
            if operator.attach(&host, theirs).is_ok() {
                return ours;
            }
            thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("nobody lets it in");
    };
    let mut ours = reached();
    let (mut there, _) = listener.accept().unwrap();
    // More than one side may send before the other has taken it, both ways at once.
    let sent: Vec<u8> = (0..5_000_000_u32).map(|number| (number % 251) as u8).collect();
    let (up, down) = (sent.clone(), sent.clone());
    let (mut ours_too, mut there_too) = (ours.try_clone().unwrap(), there.try_clone().unwrap());
    let senders = [
        thread::spawn(move || ours_too.write_all(&up).unwrap()),
        thread::spawn(move || there_too.write_all(&down).unwrap()),
    ];
    let length = sent.len();
    let received = thread::spawn(move || {
        let mut received = vec![0; length];
        there.read_exact(&mut received).unwrap();
        (received, there)
    });
    let mut answer = vec![0; length];
    ours.read_exact(&mut answer).unwrap();
    assert!(answer == sent, "what came down is something else");
    let (received, there) = received.join().unwrap();
    assert!(received == sent, "what came up is something else");
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    // Whoever goes is seen to go.
    drop(there);
    assert_eq!(ours.read(&mut [0; 1]).unwrap(), 0);
    drop(kept);
}
