//! The rules of every store, with several writers and with foreign content in it. Each test runs with a directory
//! and with a NATS server.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, SystemTime},
};

use hotswap_fleet::{
    Arm, Artifact, AuditEntry, Channel, Digest, Distrust, FleetError, Histogram, HostReport,
    HostState, Id, Keys, Location, Mark, MoreOfHost, Pace, Phase, Pushed, Reason, Release,
    ReleasePlugin, Rollout, SecretKey, Store, turn,
};
use hotswap_protocol::{HostHealth, OfferAnswer, Toolchain};
use tempfile::TempDir;

#[cfg(feature = "nats")]
#[path = "../../../tests/it/support/nats.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod nats_server;

/// A document and its signature in one file.
fn join_signature(json: &[u8], signature: &str) -> Vec<u8> {
    [json, b"\n", signature.as_bytes()].concat()
}

fn split_signature(bytes: &[u8]) -> (Vec<u8>, Option<String>) {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    match text.split_once('\n') {
        Some((json, signature)) => (json.as_bytes().to_vec(), Some(signature.to_owned())),
        None => (bytes.to_vec(), None),
    }
}

/// Direct access to the place of a fleet, to write content that this crate would not write.
trait Place: Sync {
    fn location(&self) -> Location;
    /// Writes a document without a signature, by its path in a directory.
    fn put(&self, path: &str, json: &[u8]);
    fn put_signed(&self, path: &str, json: &[u8], signature: &str);
    /// A document with its signature.
    fn get(&self, path: &str) -> (Vec<u8>, Option<String>);
    /// Replaces the content of an artifact, or removes it.
    fn put_blob(&self, digest: &Digest, content: Option<&[u8]>);
    /// The text without the parts that differ in each run.
    fn without_place(&self, text: &str) -> String;
}

struct InDirectory(TempDir);

impl InDirectory {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// The path of a document's signatures, if they have a file of their own.
    fn signature(&self, path: &str) -> Option<PathBuf> {
        let is_one_file = path.starts_with("channels/") || path.starts_with("rollouts/");
        (!is_one_file).then(|| self.path(&format!("{path}.minisig")))
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
        if let Some(signature) = self.signature(path) {
            let _ = fs::remove_file(signature);
        }
    }

    fn put_signed(&self, path: &str, json: &[u8], signature: &str) {
        match self.signature(path) {
            Some(file) => {
                self.put(path, json);
                fs::write(file, signature).unwrap();
            }
            None => self.put(path, &join_signature(json, signature)),
        }
    }

    fn get(&self, path: &str) -> (Vec<u8>, Option<String>) {
        let bytes = fs::read(self.path(path)).unwrap();
        match self.signature(path) {
            Some(file) => (bytes, fs::read_to_string(file).ok()),
            None => split_signature(&bytes),
        }
    }

    fn put_blob(&self, digest: &Digest, content: Option<&[u8]>) {
        let path = self.path(&format!("blobs/{digest}.so"));
        match content {
            Some(content) => fs::write(path, content).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
    }

    fn without_place(&self, text: &str) -> String {
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
        put_raw(&self.0.address(), &stream_and_subject(path).1, json);
    }

    fn put_signed(&self, path: &str, json: &[u8], signature: &str) {
        self.put(path, &join_signature(json, signature));
    }

    fn get(&self, path: &str) -> (Vec<u8>, Option<String>) {
        let (stream, subject) = stream_and_subject(path);
        let question = format!("$JS.API.DIRECT.GET.{stream}.{subject}");
        split_signature(&request(&self.0.address(), &question, b""))
    }

    fn put_blob(&self, digest: &Digest, content: Option<&[u8]>) {
        put_raw(&self.0.address(), &format!("games.blob.{digest}.0"), content.unwrap_or_default());
    }

    fn without_place(&self, text: &str) -> String {
        text.replace(&self.url(), "PLACE")
    }
}

/// The stream and the subject of a document.
#[cfg(feature = "nats")]
fn stream_and_subject(path: &str) -> (String, String) {
    let key = path.trim_end_matches(".json");
    let (bucket, key) = match key.split_once('/') {
        None => ("fleet", key.to_owned()),
        Some(("channels", name)) => ("channels", name.to_owned()),
        Some(("hosts", name)) => ("hosts", name.to_owned()),
        Some(("releases", name)) => ("fleet", format!("release.{name}")),
        Some(("rollouts", name)) => ("fleet", format!("rollout.{name}")),
        Some(_) => panic!("{path}"),
    };
    (format!("KV_games_{bucket}"), format!("$KV.games_{bucket}.{key}"))
}

/// Writes content to a stream that this crate would not write.
#[cfg(feature = "nats")]
fn put_raw(address: &str, subject: &str, payload: &[u8]) {
    let answer = request(address, subject, payload);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("\"seq\""), "{answer}");
}

/// The answer of a server, without its headers.
#[cfg(feature = "nats")]
fn request(address: &str, subject: &str, payload: &[u8]) -> Vec<u8> {
    use std::{
        io::{BufRead, BufReader, Read, Write},
        net::TcpStream,
        time::Duration,
    };
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set a timeout");
    let length = payload.len();
    let ask = format!(
        "CONNECT {{\"verbose\":false,\"headers\":true}}\r\nSUB _INBOX.put 1\r\nPUB {subject} _INBOX.put \
         {length}\r\n"
    );
    stream.write_all(&[ask.as_bytes(), payload, b"\r\n"].concat()).expect("write");
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while !line.starts_with("MSG") && !line.starts_with("HMSG") {
        line.clear();
        assert_ne!(
            reader.read_line(&mut line).expect("read"),
            0,
            "the server closed the connection"
        );
    }
    let sizes: Vec<usize> = line.split_whitespace().filter_map(|it| it.parse().ok()).collect();
    let size = *sizes.last().expect("a size");
    let headers = if line.starts_with('H') { sizes[sizes.len() - 2] } else { 0 };
    let mut answer = vec![0; size];
    reader.read_exact(&mut answer).expect("read");
    answer.split_off(headers)
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
    audit_entries_that_a_killed_controller_left_are_written,
    a_release_without_an_artifact_for_some_host_goes_to_no_host,
    each_step_is_taken_by_only_one_of_two_controllers,
    a_fleet_is_made_once_and_found_again,
    a_fleet_that_was_made_again_is_another_fleet,
    the_writes_of_many_writers_build_on_one_another,
    a_release_is_written_once,
    an_artifact_of_many_pieces_is_fetched,
    an_artifact_that_was_altered_is_refused_by_name,
    documents_with_foreign_content_are_refused_by_name,
    hosts_that_have_reported_are_listed_and_not_forgotten,
    keys_are_trusted_along_a_chain_of_signed_changes,
    a_release_needs_the_required_number_of_signatures,
    an_entry_that_several_programs_append_is_in_the_audit_log_once,
    a_declaration_is_signed_for_its_channel_and_does_not_go_back,
    documents_that_no_key_of_the_fleet_signed_are_refused,
);

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

fn fleet(place: &dyn Place) -> Store {
    Store::create(&place.location(), &id("games"), &id("main"), Vec::new()).unwrap()
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
fn error_text<T: std::fmt::Debug>(place: &dyn Place, result: Result<T, FleetError>) -> String {
    place.without_place(&result.unwrap_err().to_string())
}

#[track_caller]
fn assert_has(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} in {text:?}");
}

fn a_fleet_is_made_once_and_found_again(place: &dyn Place) {
    let entry = AuditEntry { what: "init".to_owned(), ..audit_entry(&id("h")) };
    let unsaid = vec![entry.clone()];
    let fleet = Store::create(&place.location(), &id("games"), &id("main"), unsaid).unwrap();
    let error =
        error_text(place, Store::create(&place.location(), &id("other"), &id("main"), Vec::new()));
    assert_has(&error, "a fleet exists here already; name another place");
    let opened = Store::open(&place.location()).unwrap();
    assert_eq!(opened.fleet(), fleet.fleet());
    // The clock of the place counts, and not that of the program.
    let made_at_ms = fleet.fleet().made_at_ms;
    let unsaid = vec![AuditEntry { at_ms: made_at_ms, ..entry }];
    let made = Channel { unsaid, ..Channel::new(id("main"), made_at_ms) };
    assert_eq!(opened.channel(&id("main")).unwrap(), made);
    assert_has(&error_text(place, opened.channel(&id("beta"))), "the fleet has no such channel");
}

fn a_fleet_that_was_made_again_is_another_fleet(place: &dyn Place) {
    let fleet = fleet(place);
    let mut other = fleet.fleet().clone();
    let made_at_ms = other.made_at_ms;
    other.made_at_ms = 8;
    place.put("fleet.json", &serde_json::to_vec(&other).unwrap());
    let error = error_text(place, fleet.channel(&id("main")));
    let replaced = format!(
        "PLACE: the fleet here is now games, made at 8, and not games, made at {made_at_ms}"
    );
    assert_has(&error, &replaced);
}

fn the_writes_of_many_writers_build_on_one_another(place: &dyn Place) {
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
                    fleet.audit(&audit_entry(&host)).unwrap();
                }
            });
        }
    });
    let channel = fleet.channel(&main).unwrap();
    assert_eq!((channel.pins.len(), channel.mark.seq), (100, 101));
    let (entries, unreadable) = fleet.audited().unwrap();
    assert_eq!((entries.len(), unreadable), (100, 0));
}

fn audit_entry(host: &Id) -> AuditEntry {
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
    assert!(fleet.push_release(&first).unwrap().is_new);
    let again = Release { pushed_at_ms: 9, by: "somebody".to_owned(), ..first.clone() };
    assert!(!fleet.push_release(&again).unwrap().is_new);
    assert_eq!(fleet.release(&id("r1"), None).unwrap(), first);
    let other = release(&fleet, "r1", b"two");
    let error = error_text(place, fleet.push_release(&other));
    assert_has(&error, "another release has this name; choose a new name");
    fleet.push_release(&release(&fleet, "r0.1-x", b"three")).unwrap();
    assert_eq!(fleet.releases().unwrap(), [id("r0.1-x"), id("r1")]);
    let error = error_text(place, fleet.release(&id("r2"), None));
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
    fleet.push_release(&release).unwrap();
    fleet.verify(&id("r1"), None).unwrap();
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
        for error in [error_text(place, fleet.verify(&id("r1"), None)), error_text(place, fetch())]
        {
            assert!(error.starts_with("world of release r1: PLACE"), "{error}");
            assert_has(&error, &format!("{}", artifact.sha256));
            assert_has(&error, ": the artifact was altered");
            assert_has(
                &error,
                "`hotswap fleet push … --id r1` with the same artifacts restores it",
            );
            assert_has(&error, expected);
        }
    }
    place.put_blob(&artifact.sha256, None);
    let error = error_text(place, fetch());
    assert!(error.starts_with("world of release r1: PLACE"), "{error}");
    assert!(!to.exists());
    // A second push repairs it.
    fleet.push_blob(b"what was built").unwrap();
    fetch().unwrap();
}

fn documents_with_foreign_content_are_refused_by_name(place: &dyn Place) {
    let fleet = fleet(place);
    let channel = || error_text(place, fleet.channel(&id("main")));
    let wrong = "it does not have the expected format:";
    place.put("channels/main.json", b"{\"name\":\"main\"}");
    assert_has(&channel(), wrong);
    assert_has(&channel(), "main");
    assert_has(&channel(), "; restore the earlier document");
    place.put("rollouts/main.json", b"{}");
    let rollout = error_text(place, fleet.rollout(&id("main")));
    assert_has(&rollout, "; restore the earlier document, or remove this one to end the rollout");
    place.put("channels/main.json", "[".repeat(100_000).as_bytes());
    assert_has(&channel(), wrong);
    let other = serde_json::to_vec(&Channel::new(id("other"), 7)).unwrap();
    place.put("channels/main.json", &other);
    assert_has(&channel(), ": it is named other inside, and not main");

    // A broken report does not affect the others.
    let mut good = report("good");
    let mut took = Histogram::default();
    took.add(447, 3);
    good.more.latencies.insert("world".to_owned(), took);
    good.more.offer = Some(OfferAnswer::Later { reason: "a match is running".to_owned() });
    good.more.own_health = Some(HostHealth::unwell("no players"));
    good.more.built_by = Some(built_by());
    fleet.report(&good).unwrap();
    place.put("hosts/evil.json", b"\xff\xfe");
    let (hosts, unreadable) = fleet.hosts(&id("main")).unwrap();
    assert_eq!(without_time(hosts), [good]);
    assert_eq!(unreadable.len(), 1);
    assert_has(&unreadable[0].to_string(), "evil");
    assert_has(&unreadable[0].to_string(), wrong);

    let mut release = release(&fleet, "r1", b"one");
    release.fleet = id("others");
    let json = serde_json::to_string(&release).unwrap();
    place.put("releases/r1.json", json.as_bytes());
    let error = error_text(place, fleet.release(&id("r1"), None));
    assert!(error.ends_with("it is for the fleet others, and this is the fleet games"), "{error}");
    let away = json.replace(release.plugins[0].artifacts[0].sha256.as_str(), "../../../etc/passwd");
    place.put("releases/r1.json", away.as_bytes());
    let error = error_text(place, fleet.release(&id("r1"), None));
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
        more: Default::default(),
    }
}

/// The reports without the times that the server sets.
fn without_time(hosts: Vec<HostReport>) -> Vec<HostReport> {
    hosts.into_iter().map(|host| HostReport { at_ms: report("any").at_ms, ..host }).collect()
}

fn hosts_that_have_reported_are_listed_and_not_forgotten(place: &dyn Place) {
    let fleet = fleet(place);
    assert_eq!(fleet.hosts(&id("main")).unwrap().0, []);
    // There are more hosts than one request to a server returns.
    let names: Vec<String> = (1000..1600).map(|number| format!("game.{number}")).collect();
    for name in &names {
        fleet.report(&report(name)).unwrap();
    }
    fleet.report(&HostReport { channel: id("beta"), ..report("other") }).unwrap();
    let newer = HostReport { pid: 7, ..report("game.1000") };
    fleet.report(&newer).unwrap();
    fleet.forget(&id("game.1001")).unwrap();
    fleet.forget(&id("nobody")).unwrap();
    let (hosts, unreadable) = fleet.hosts(&id("main")).unwrap();
    assert_eq!((hosts.len(), unreadable.len()), (names.len() - 1, 0));
    assert_eq!(hosts[0].pid, newer.pid);
    assert_eq!(hosts[1].id, id("game.1002"));
}

/// Secret keys with their public parts.
fn make_keys<const COUNT: usize>() -> [(SecretKey, String); COUNT] {
    let dir = TempDir::new().unwrap();
    std::array::from_fn(|number| {
        SecretKey::generate(&dir.path().join(format!("{number}.key"))).unwrap()
    })
}

/// The fleet, opened with these keys.
fn open_with_keys(place: &dyn Place, secrets: &[&SecretKey]) -> Store {
    let store = Store::open(&place.location()).unwrap();
    store.signed_by(secrets.iter().map(|secret| (*secret).clone()).collect())
}

/// Why a document is not trusted.
#[track_caller]
fn distrust<T: std::fmt::Debug>(result: Result<T, FleetError>) -> Distrust {
    let error = result.unwrap_err();
    error.distrust().unwrap_or_else(|| panic!("{error}")).clone()
}

fn a_release_needs_the_required_number_of_signatures(place: &dyn Place) {
    let fleet = fleet(place);
    let [(one, one_key), (two, two_key), (three, three_key), (director, director_key)] =
        make_keys();
    let keys = open_with_keys(place, &[])
        .change_keys(|keys| {
            keys.keys = vec![one_key.clone(), two_key, three_key];
            keys.directors = vec![director_key.clone()];
            keys.threshold = 2;
            Ok(())
        })
        .unwrap();
    let push = |name: &str, secrets: &[&SecretKey]| {
        let release = release(&fleet, name, name.as_bytes());
        open_with_keys(place, secrets).push_release(&release).unwrap()
    };
    let read = |name: &str| fleet.release(&id(name), Some(&keys));

    assert_eq!(push("r1", &[]), Pushed { is_new: true, signed: 0, needed: 2 });
    assert_eq!(distrust(read("r1")), Distrust::Unsigned);
    assert_eq!(push("r1", &[&one]), Pushed { is_new: false, signed: 1, needed: 2 });
    assert_eq!(distrust(read("r1")), Distrust::TooFew { signed: 1, needed: 2 });
    // Two signatures with the same key count once.
    assert_eq!(
        open_with_keys(place, &[&one, &one]).sign_release(&id("r1"), None).unwrap().signed,
        1
    );
    assert_eq!(open_with_keys(place, &[&three]).sign_release(&id("r1"), None).unwrap().signed, 2);
    read("r1").unwrap();
    push("r2", &[&two, &three]);
    read("r2").unwrap();

    // A director's key can sign no release and no change of the keys.
    assert_eq!(push("r3", &[&director, &one]).signed, 1);
    assert_eq!(distrust(read("r3")), Distrust::TooFew { signed: 1, needed: 2 });
    let more = |keys: &mut Keys| {
        keys.threshold = 1;
        Ok(())
    };
    let change = |secrets: &[&SecretKey]| open_with_keys(place, secrets).change_keys(more);
    assert_eq!(distrust(change(&[&director])), Distrust::Unsigned);
    assert_eq!(distrust(change(&[&one])), Distrust::TooFew { signed: 1, needed: 2 });
    let now = change(&[&one, &two]).unwrap();
    assert_eq!((now.serial, now.threshold), (2, 1));
    fleet.release(&id("r3"), Some(&now)).unwrap();
}

fn documents_that_no_key_of_the_fleet_signed_are_refused(place: &dyn Place) {
    let fleet = fleet(place);
    let [(one, one_key), (two, two_key), (other, _)] = make_keys();
    let set = |store: Store, keys: &[&String]| {
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        store.change_keys(|new| {
            new.keys = keys;
            Ok(())
        })
    };
    let first = set(open_with_keys(place, &[]), &[&one_key]).unwrap();
    let push = |name: &str, secrets: &[&SecretKey]| {
        let release = release(&fleet, name, name.as_bytes());
        open_with_keys(place, secrets).push_release(&release).unwrap();
    };
    let read = |name: &str, keys: &Keys| fleet.release(&id(name), Some(keys));
    push("r1", &[&other]);
    assert_eq!(distrust(read("r1", &first)), Distrust::Unsigned);
    push("r2", &[&one]);
    read("r2", &first).unwrap();

    // The signature of a release is not valid for another release or for an altered one.
    let altered = |name: &str, from: &str| {
        let (json, signature) = place.get(&format!("releases/{from}.json"));
        let json =
            String::from_utf8(json).unwrap().replace(&format!("{from:?}"), &format!("{name:?}"));
        place.put_signed(&format!("releases/{name}.json"), json.as_bytes(), &signature.unwrap());
    };
    altered("r9", "r2");
    assert_eq!(distrust(read("r9", &first)), Distrust::Altered { key: one_key.clone() });
    place.put_signed("releases/r9.json", &place.get("releases/r2.json").0, "no signature");
    assert!(read("r9", &first).is_err());
    let (json, signature) = place.get("releases/r2.json");
    let cut = signature.unwrap().replace("==\n", "\n");
    place.put_signed("releases/r2.json", &json, &cut);
    assert_eq!(distrust(read("r2", &first)), Distrust::Unknown);
    open_with_keys(place, &[&one]).sign_release(&id("r2"), None).unwrap();
    read("r2", &first).unwrap();

    // A retired key can sign nothing any more, and cannot come back.
    set(open_with_keys(place, &[&one]), &[&one_key, &two_key]).unwrap();
    let retired = open_with_keys(place, &[&two]).change_keys(|keys| keys.retire(&one_key)).unwrap();
    assert_eq!(distrust(read("r2", &retired)), Distrust::Retired { key: one_key.clone() });
    let back = set(open_with_keys(place, &[&two]), &[&one_key, &two_key]);
    assert_has(&error_text(place, back), "was retired, and cannot come back");
    // A change that only a foreign key has signed is refused.
    assert_eq!(distrust(set(open_with_keys(place, &[&other]), &[&two_key])), Distrust::Unsigned);
}

fn keys_are_trusted_along_a_chain_of_signed_changes(place: &dyn Place) {
    let _fleet = fleet(place);
    let [(one, one_key), (two, two_key), (three, three_key), (_, evil)] = make_keys();
    let add = |secrets: &[&SecretKey], key: &String| {
        open_with_keys(place, secrets)
            .change_keys(|keys| {
                keys.keys.push(key.clone());
                Ok(())
            })
            .unwrap()
    };
    let first = add(&[], &one_key);
    let pinned = |keys: &Keys| {
        let store = open_with_keys(place, &[]);
        store.believe(keys.clone());
        store
    };
    let (early, late) = (pinned(&first), pinned(&first));
    let second = add(&[&one], &two_key);
    assert_eq!(early.keys().unwrap(), Some(second.clone()));
    open_with_keys(place, &[&two]).change_keys(|keys| keys.retire(&one_key)).unwrap();
    let fourth = add(&[&two], &three_key);
    // A reader that missed all changes follows them one by one.
    for store in [&early, &late, &pinned(&second)] {
        assert_eq!(store.keys().unwrap(), Some(fourth.clone()));
    }

    // Older keys, other keys of the same age, and newer keys without a valid signature are refused.
    let (json, signature) = place.get("keys.json");
    let signature = signature.unwrap();
    let put = |keys: &Keys| place.put("keys.json", &serde_json::to_vec(keys).unwrap());
    put(&second);
    let mark = |seq| Mark { epoch: 0, seq };
    let went_back = Distrust::WentBack { from: mark(4), to: mark(2) };
    assert_eq!(distrust(early.keys()), went_back);
    let mut evil_keys = Keys { keys: vec![evil.clone()], ..fourth.clone() };
    put(&evil_keys);
    assert_eq!(distrust(early.keys()), Distrust::WentBack { from: mark(4), to: mark(4) });
    evil_keys.serial = 5;
    place.put_signed("keys.json", &serde_json::to_vec(&evil_keys).unwrap(), &signature);
    assert!(matches!(distrust(early.keys()), Distrust::Altered { .. } | Distrust::Unknown));
    // The change is signed by a key that was retired before.
    let document = serde_json::to_vec(&evil_keys).unwrap();
    let by_retired = one.sign(&document, "hotswap fleet games keys").unwrap();
    place.put_signed("keys.json", &document, &by_retired);
    assert_eq!(distrust(early.keys()), Distrust::Retired { key: one_key });
    let for_another = three.sign(&document, "hotswap fleet other keys").unwrap();
    place.put_signed("keys.json", &document, &for_another);
    assert!(matches!(distrust(early.keys()), Distrust::OfAnother { .. }));

    // One of the changes in between was replaced.
    let (document, by) = place.get("keys.3.json");
    place.put_signed("keys.json", &json, &signature);
    place.put_signed("keys.2.json", &document, &by.unwrap());
    assert_eq!(distrust(pinned(&first).keys()), Distrust::Gap { serial: 2 });
    // A reader that has seen it before does not read it again.
    early.keys().unwrap();
}

fn a_declaration_is_signed_for_its_channel_and_does_not_go_back(place: &dyn Place) {
    let fleet = fleet(place);
    let [(release_key, public), (director, director_public), (other, _)] = make_keys();
    let read = fleet.channel(&id("main")).unwrap();
    open_with_keys(place, &[])
        .change_keys(|keys| {
            (keys.keys, keys.directors) = (vec![public.clone()], vec![director_public.clone()]);
            Ok(())
        })
        .unwrap();
    // A declaration from before the keys is not trusted until a holder of a key has signed it.
    let agent = open_with_keys(place, &[]);
    assert_eq!(distrust(agent.channel(&id("main"))), Distrust::Unsigned);
    assert!(!agent.may_declare().unwrap());
    assert!(agent.sign_declarations(&read, &read, None).is_err());
    assert!(open_with_keys(place, &[&other]).sign_declarations(&read, &read, None).is_err());
    let directing = open_with_keys(place, &[&director]);
    assert!(directing.may_declare().unwrap());
    directing.sign_declarations(&read, &read, None).unwrap();
    let first = agent.channel(&id("main")).unwrap();
    let older = place.get("channels/main.json");

    let declare = |store: &Store, base: &str| {
        let read = store.channel(&id("main")).unwrap();
        let mut new = read.clone();
        new.set_base(Some(id(base)));
        new.raise_mark(&[]);
        store.write_channel(&read, &new)
    };
    declare(&directing, "r1").unwrap();
    assert_eq!(agent.channel(&id("main")).unwrap().base, Some(id("r1")));
    assert!(error_text(place, declare(&agent, "r2")).contains("`--sign SECRET-KEY`"));
    declare(&open_with_keys(place, &[&release_key]), "r2").unwrap();
    let newest = agent.channel(&id("main")).unwrap();

    // An older, signed declaration is refused.
    let put = |(json, signature): &(Vec<u8>, Option<String>)| {
        place.put_signed("channels/main.json", json, signature.as_deref().unwrap());
    };
    let kept = place.get("channels/main.json");
    put(&older);
    let went_back = Distrust::WentBack { from: newest.mark, to: first.mark };
    assert_eq!(distrust(agent.channel(&id("main"))), went_back);
    // An altered declaration with the old signature is refused.
    let altered = String::from_utf8(kept.0.clone()).unwrap().replace("r2", "r1");
    put(&(altered.into_bytes(), kept.1.clone()));
    assert!(matches!(distrust(agent.channel(&id("main"))), Distrust::Altered { .. }));
    // The declarations of another fleet and of another channel, signed by the same key, are refused.
    for purpose in ["hotswap fleet other channel main", "hotswap fleet games channel beta"] {
        let signature = director.sign(&kept.0, purpose).unwrap();
        put(&(kept.0.clone(), Some(signature)));
        let expected = "hotswap fleet games channel main".to_owned();
        let signed = purpose.to_owned();
        assert_eq!(distrust(agent.channel(&id("main"))), Distrust::OfAnother { signed, expected });
    }
    // Declarations with a foreign signature or without one are refused.
    put(&(kept.0.clone(), Some(other.sign(&kept.0, "hotswap fleet games channel main").unwrap())));
    assert_eq!(distrust(agent.channel(&id("main"))), Distrust::Unknown);
    place.put("channels/main.json", &kept.0);
    assert_eq!(distrust(agent.channel(&id("main"))), Distrust::Unsigned);
    // A declaration by a retired director is refused.
    put(&kept);
    directing.channel(&id("main")).unwrap();
    open_with_keys(place, &[&release_key])
        .change_keys(|keys| {
            keys.directors.push(make_keys::<1>()[0].1.clone());
            keys.retire(&director_public)
        })
        .unwrap();
    put(&older);
    assert_eq!(distrust(agent.channel(&id("main"))), Distrust::Retired { key: director_public });
}

/// A rollout of a release that was pushed.
fn rollout(release: &str, now_ms: u64) -> Rollout {
    let json = serde_json::json!({
        "channel": "main", "release": release, "base": null, "salt": "1-1", "by": "test",
        "started_at_ms": now_ms, "pace": Pace::fast(), "plugins": ["world"], "changed": ["world"],
        "phase": "checking", "step": 0, "since_ms": now_ms, "reason": null, "resume": null, "thresholds": {},
        "base_arms": {}, "calls_before": 0, "forgiven": [],
    });
    serde_json::from_value(json).unwrap()
}

fn audit_entries_that_a_killed_controller_left_are_written(place: &dyn Place) {
    let fleet = fleet(place);
    let now_ms = fleet.now_ms().unwrap();
    let mut left = rollout("r1", now_ms);
    left.phase = Phase::Paused;
    left.resume = Some(Phase::Baking);
    let entry =
        |what: &str, at_ms| AuditEntry { what: what.to_owned(), at_ms, ..audit_entry(&id("h")) };
    let (old, said, new) = (
        entry("baking", now_ms - 60_000),
        entry("staging", now_ms - 90_000),
        entry("paused", now_ms),
    );
    fleet.audit(&said).unwrap();
    left.memory.unsaid = vec![said.clone(), old.clone(), new.clone()];
    fleet.write_rollout(None, &left).unwrap();
    for _ in 0..2 {
        turn(&fleet, &id("main"), None, "test").unwrap().unwrap();
        assert_eq!(fleet.audited().unwrap().0, [said.clone(), old.clone(), new.clone()]);
    }
}

fn an_entry_that_several_programs_append_is_in_the_audit_log_once(place: &dyn Place) {
    let fleet = fleet(place);
    let entries: Vec<AuditEntry> =
        (0..10).map(|number| audit_entry(&id(&format!("host-{number}")))).collect();
    let read = fleet.channel(&id("main")).unwrap();
    let mut declared = read.clone();
    declared.mark.seq += 1;
    declared.unsaid.clone_from(&entries);
    fleet.write_channel(&read, &declared).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                Store::open(&place.location()).unwrap().say_missing(&id("main")).unwrap();
            });
        }
    });
    assert_eq!(fleet.audited().unwrap().0, entries);
    // What the log has leaves the document with the next write.
    let mut next = declared.clone();
    next.mark.seq += 1;
    audit_entry(&id("host-0")).add_to(&mut next.unsaid);
    fleet.write_channel(&declared, &next).unwrap();
    let left = fleet.channel(&id("main")).unwrap().unsaid;
    let expected = AuditEntry { at_ms: 2, ..audit_entry(&id("host-0")) };
    assert_eq!(left, [expected]);

    // An earlier version that read the declaration and the keys kept them without the entries.
    assert!(next.declares_like(&Channel { unsaid: Vec::new(), ..next.clone() }));
    let [(_, public)] = make_keys();
    let keys = fleet.change_keys(|keys| {
        keys.keys.push(public);
        audit_entry(&id("h")).add_to(&mut keys.unsaid);
        Ok(())
    });
    let later = Store::open(&place.location()).unwrap();
    later.believe(Keys { unsaid: Vec::new(), ..keys.unwrap() });
    assert_eq!(later.keys().unwrap().unwrap().unsaid, [audit_entry(&id("h"))]);
}

/// Three hosts that follow the declaration, with the reports of an agent. A report that the server does not accept
/// is sent later.
fn hosts_follow(fleet: &Store, calls: u64) -> Result<(), FleetError> {
    let channel = fleet.channel(&id("main"))?;
    for name in ["one", "two", "three"] {
        let host = id(name);
        fleet.report(&HostReport {
            at_ms: fleet.now_ms()?,
            release: channel.wants(&host, "toolchain").cloned(),
            staged: channel.candidate.clone(),
            seen: channel.mark,
            health: [("world".to_owned(), Arm { calls, errors: 0, panics: 0 })].into(),
            more: MoreOfHost { built_by: Some(built_by()), ..MoreOfHost::default() },
            ..report(name)
        })?;
    }
    Ok(())
}

fn a_release_without_an_artifact_for_some_host_goes_to_no_host(place: &dyn Place) {
    let fleet = fleet(place);
    fleet.push_release(&release(&fleet, "r1", b"one")).unwrap();
    let other = Toolchain { rustc_release: "1.96.0".to_owned(), ..built_by() };
    hosts_follow(&fleet, 0).unwrap();
    let more = MoreOfHost { built_by: Some(other.clone()), ..MoreOfHost::default() };
    let now_ms = fleet.now_ms().unwrap();
    fleet.report(&HostReport { at_ms: now_ms, more, ..report("newer") }).unwrap();
    fleet.write_rollout(None, &rollout("r1", now_ms)).unwrap();
    let turned = turn(&fleet, &id("main"), None, "test").unwrap().unwrap();
    assert!(matches!(turned.phase, Phase::RollingBack | Phase::RolledBack), "{turned:?}");
    let expected = Reason::NotCovered {
        toolchain: other.to_string(),
        plugin: "world".to_owned(),
        hosts: vec![id("newer")],
    };
    assert_eq!(turned.reason, Some(expected));
    assert_eq!(fleet.channel(&id("main")).unwrap().candidate, None);
}

fn each_step_is_taken_by_only_one_of_two_controllers(place: &dyn Place) {
    let fleet = fleet(place);
    fleet.push_release(&release(&fleet, "r1", b"one")).unwrap();
    hosts_follow(&fleet, 0).unwrap();
    fleet.write_rollout(None, &rollout("r1", fleet.now_ms().unwrap())).unwrap();
    let main = id("main");
    thread::scope(|scope| {
        let control = |by: &'static str| {
            let (main, fleet) = (&main, Store::open(&place.location()).unwrap());
            move || {
                loop {
                    match turn(&fleet, main, None, by) {
                        Ok(Some(rollout)) if rollout.phase.is_over() => break rollout.phase,
                        Ok(_) => {}
                        Err(error) => assert!(error.is_changed(), "{error}"),
                    }
                }
            }
        };
        let controllers = ["a", "b"].map(|by| scope.spawn(control(by)));
        let mut calls = 0;
        while controllers.iter().any(|controller| !controller.is_finished()) {
            calls += 10;
            hosts_follow(&fleet, calls).unwrap();
        }
        for controller in controllers {
            assert_eq!(controller.join().unwrap(), Phase::Done);
        }
    });
    let channel = fleet.channel(&main).unwrap();
    assert_eq!((channel.base, channel.candidate), (Some(id("r1")), None));
    let (audited, _) = fleet.audited().unwrap();
    let mut said: Vec<&str> = audited.iter().map(|entry| entry.what.as_str()).collect();
    // Entries that are written at the same time may be in either order.
    said.sort_unstable();
    let step = ["activating", "baking"];
    let mut expected = [&["staging", "promoting", "done"][..], &step, &step].concat();
    expected.sort_unstable();
    assert_eq!(said, expected);
}

#[cfg(feature = "nats")]
#[test]
#[ignore = "needs a NATS server; `.ci/run` has one"]
fn a_nats_server_that_is_killed_in_each_phase_ends_no_rollout() {
    let mut place = OnNats::new();
    let fleet = fleet(&place);
    let main = id("main");
    fleet.push_release(&release(&fleet, "r1", b"one")).unwrap();
    hosts_follow(&fleet, 0).unwrap();
    fleet.write_rollout(None, &rollout("r1", fleet.now_ms().unwrap())).unwrap();
    let (mut killed, mut calls) = (Vec::new(), 0);
    loop {
        calls += 10;
        let turned = turn(&fleet, &main, None, "test");
        match turned.and_then(|turned| hosts_follow(&fleet, calls).map(|()| turned.unwrap())) {
            Ok(rollout) if rollout.phase.is_over() => {
                assert_eq!(rollout.phase, Phase::Done, "{rollout:?}");
                break;
            }
            Ok(rollout) if !killed.contains(&(rollout.phase, rollout.step)) => {
                killed.push((rollout.phase, rollout.step));
                place.0.kill();
                let unreachable = fleet.rollout(&main).unwrap_err();
                assert!(unreachable.is_unreachable(), "{unreachable}");
                place.0.start_again();
            }
            Ok(_) => {}
            Err(error) => assert!(error.is_unreachable(), "{error}"),
        }
    }
    assert!(killed.len() >= 4, "{killed:?}");
    assert_eq!(fleet.channel(&main).unwrap().base, Some(id("r1")));
}

#[cfg(feature = "nats")]
#[test]
#[ignore = "needs a NATS server; `.ci/run` has one"]
fn on_a_nats_server_only_the_clock_of_the_server_counts() {
    let place = OnNats::new();
    let fleet = fleet(&place);
    let now_ms = fleet.now_ms().unwrap();
    for (name, at_ms) in [("yesterday", now_ms - 86_400_000), ("tomorrow", now_ms + 86_400_000)] {
        fleet.report(&HostReport { at_ms, ..report(name) }).unwrap();
    }
    let (hosts, _) = fleet.hosts(&id("main")).unwrap();
    let after_ms = fleet.now_ms().unwrap();
    assert!(hosts.iter().all(|host| (now_ms..=after_ms).contains(&host.at_ms)), "{hosts:?}");
    assert!(
        fleet.time().unwrap().may_have_lost,
        "a server that has just started may have lost reports"
    );
}

/// The changes that a server announces, one after the other.
#[cfg(feature = "nats")]
fn watch_changes(fleet: &Store) -> impl Fn() -> hotswap_fleet::Change {
    let (tell, reported) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let note = move |change| tell.lock().unwrap().send(change).unwrap();
    assert!(fleet.watch(&id("main"), Box::new(note)).unwrap());
    move || reported.recv_timeout(std::time::Duration::from_secs(60)).unwrap()
}

#[cfg(feature = "nats")]
#[test]
#[ignore = "needs a NATS server; `.ci/run` has one"]
fn announcements_of_a_nats_server_are_verified_like_read_documents() {
    use hotswap_fleet::{Change, Declaration};
    let place = OnNats::new();
    let dir = TempDir::new().unwrap();
    let key = |name: &str| SecretKey::generate(&dir.path().join(name)).unwrap();
    let ((one, one_public), (two, two_public)) = (key("one"), key("two"));
    let fleet = fleet(&place).signed_by(vec![one, two]);
    let (main, agent) = (id("main"), Store::open(&place.location()).unwrap());
    let next = watch_changes(&agent);
    let declared = || match next() {
        Change::Declared(declaration) => declaration,
        other => panic!("{other:?}"),
    };
    let add = |public: String| {
        let added = fleet.change_keys(|keys| {
            keys.keys.push(public);
            Ok(())
        });
        added.unwrap();
        assert_eq!(next(), Change::Keys);
    };
    let refused = |announced: &Declaration| {
        place.without_place(&agent.verify_announced(&main, announced).unwrap_err().to_string())
    };
    let declare = |base: &str| {
        let read = fleet.unverified(&main).unwrap().0;
        let mut new = read.clone();
        new.set_base(Some(id(base)));
        new.raise_mark(&[]);
        fleet.write_channel(&read, &new).unwrap();
        (new, declared())
    };

    let (_, unsigned) = declare("r0");
    assert_has(&refused(&unsigned), "the fleet has no keys");
    add(one_public.clone());
    let (first, first_announced) = declare("r1");
    assert_has(&refused(&first_announced), "the fleet has no keys");
    // It has to read the keys that it trusts.
    agent.keys().unwrap();
    assert_has(&refused(&unsigned), "it is not signed");
    assert_eq!(agent.verify_announced(&main, &first_announced).unwrap(), first);
    let (second, second_announced) = declare("r2");
    assert_eq!(agent.verify_announced(&main, &second_announced).unwrap(), second);
    assert_has(&refused(&first_announced), "it went back from 4 to 3 changes");
    assert_eq!(agent.verify_announced(&main, &second_announced).unwrap(), second);
    assert_eq!(agent.channel(&main).unwrap(), second);

    // One key has not been read yet, and one was retired.
    add(two_public);
    let retired = fleet.change_keys(|keys| keys.retire(&one_public));
    retired.unwrap();
    assert_eq!(next(), Change::Keys);
    let (third, third_announced) = declare("r3");
    assert_has(&refused(&third_announced), "not by a key of the fleet");
    agent.keys().unwrap();
    assert_eq!(agent.verify_announced(&main, &third_announced).unwrap(), third);
    assert_has(&refused(&second_announced), "which was retired");
}

#[cfg(feature = "nats")]
#[test]
#[ignore = "needs a NATS server; `.ci/run` has one"]
fn the_return_of_a_nats_server_and_its_lost_data_are_reported() {
    use hotswap_fleet::Change;
    let mut place = OnNats::new();
    let fleet = fleet(&place);
    let main = id("main");
    let next = watch_changes(&fleet);

    let read = fleet.channel(&main).unwrap();
    let mut new = read.clone();
    new.raise_mark(&[]);
    fleet.write_channel(&read, &new).unwrap();
    assert!(matches!(next(), Change::Declared(_)));

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
    // The operator who made the streams makes them again.
    let error = loop {
        let error = fleet.channel(&main).unwrap_err();
        if !error.is_unreachable() {
            break error;
        }
    };
    let error = place.without_place(&error.to_string());
    let gone =
        format!("PLACE: the fleet is gone; restore games, made at {}", fleet.fleet().made_at_ms);
    assert_has(&error, &gone);
}

#[cfg(feature = "nats")]
#[test]
fn a_missing_server_is_an_error_that_says_so() {
    use hotswap_fleet::Server;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let server = Server::at(&format!("nats://{address}/games")).unwrap();
    // The caller may be in an asynchronous context, where blocking is not allowed.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let opened = runtime.block_on(async { Store::open(&Location::Nats(server)) });
    let error = opened.unwrap_err().to_string();
    assert!(error.starts_with(&format!("nats://{address}/games: cannot connect: ")), "{error}");
    assert_eq!(Server::at("nats://games.example:4222").unwrap().prefix(), "hotswap");
    for (url, why) in [
        ("games.example", "it has no scheme"),
        ("http://games.example", "its scheme is neither `nats` nor `tls`"),
        ("nats://me:secret@games.example", "give them in a file"),
        ("nats://games.example/a.b", "the prefix may have only letters"),
        ("nats://games.example/a/b", "the prefix may have only letters"),
        ("nats:///games", "it names no host"),
    ] {
        assert_has(&Server::at(url).unwrap_err().to_string(), why);
    }
}

#[test]
fn a_fleet_that_was_made_only_in_part_can_be_made_again() {
    let place = InDirectory::new();
    fs::create_dir_all(place.path("channels/main.json")).unwrap();
    let made = || Store::create(&place.location(), &id("games"), &id("main"), Vec::new());
    assert_has(&error_text(&place, made()), "PLACE/channels/main.json: cannot write it");
    fs::remove_dir(place.path("channels/main.json")).unwrap();
    let fleet = made().unwrap();
    let whole = Channel::new(id("main"), fleet.fleet().made_at_ms);
    assert_eq!(fleet.channel(&id("main")).unwrap(), whole);
}

#[test]
fn in_a_directory_only_regular_files_of_limited_size_are_read() {
    let place = InDirectory::new();
    let fleet = fleet(&place);
    let channel = || error_text(&place, fleet.channel(&id("main")));
    place.put("channels/main.json", &vec![b' '; (1 << 20) + 1]);
    assert_eq!(channel(), "PLACE/channels/main.json: it has more than 1048576 bytes");
    fs::remove_file(place.path("channels/main.json")).unwrap();
    fs::create_dir(place.path("channels/main.json")).unwrap();
    let not_regular =
        "PLACE/channels/main.json: it is not a regular file; put the file itself there";
    assert_eq!(channel(), not_regular);
    fs::remove_dir(place.path("channels/main.json")).unwrap();
    symlink("nowhere", place.path("channels/main.json")).unwrap();
    assert_eq!(channel(), not_regular);

    let release = release(&fleet, "r1", b"what was built");
    fleet.push_release(&release).unwrap();
    let artifact = &release.plugins[0].artifacts[0];
    let blob = place.path(&format!("blobs/{}.so", artifact.sha256));
    fs::remove_file(&blob).unwrap();
    symlink("/dev/zero", &blob).unwrap();
    let error =
        error_text(&place, fleet.fetch(&id("r1"), "world", artifact, &place.path("fetched.so")));
    assert_has(&error, "it is not a regular file");

    // What killed programs have left behind is removed later.
    for (name, age) in [(".main.json.7.0", 7200), (".main.json.7.1", 60)] {
        place.put(&format!("channels/{name}"), b"half");
        let file = fs::File::open(place.path(&format!("channels/{name}"))).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }
    fleet.prepare().unwrap();
    assert!(!place.path("channels/.main.json.7.0").exists());
    assert!(place.path("channels/.main.json.7.1").exists());

    place.put("hosts/..evil.json", b"{}");
    assert_eq!(fleet.hosts(&id("main")).unwrap(), (Vec::new(), Vec::new()));
    place.put("audit.jsonl", b"no JSON\n{\"half\":");
    assert_eq!(fleet.audited().unwrap(), (Vec::new(), 2));
    // The next entry is not lost in an incomplete line.
    let entry = audit_entry(&id("h"));
    fleet.audit(&entry).unwrap();
    assert_eq!(fleet.audited().unwrap(), (vec![entry.clone()], 2));
    // A pipe or a link would take the entry away.
    fs::remove_file(place.path("audit.jsonl")).unwrap();
    symlink("/dev/null", place.path("audit.jsonl")).unwrap();
    let refused = error_text(&place, fleet.audit(&audit_entry(&id("other"))));
    assert_eq!(refused, "PLACE/audit.jsonl: it is not a regular file; put the file itself there");
    // An artifact replaces a pipe, which nobody reads or writes.
    let pipe = place.path(&format!("blobs/{}.so", Digest::of(b"small")));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (tell, pushed) = mpsc::channel();
    let store = fleet.clone();
    thread::spawn(move || tell.send(store.push_blob(b"small")));
    pushed.recv_timeout(Duration::from_secs(60)).expect("the pipe is not opened").unwrap();
    assert_eq!(fs::read(&pipe).unwrap(), b"small");

    // The document has the signature of another release.
    let [(secret, public)] = make_keys();
    let fleet = fleet.signed_by(vec![secret]);
    fleet.push_release(&self::release(&fleet, "r2", b"two")).unwrap();
    let in_releases = |name: &str| place.path("releases").join(name);
    fs::copy(in_releases("r2.json.minisig"), in_releases("r1.json.minisig")).unwrap();
    let keys = Keys { keys: vec![public.clone()], ..Keys::none(id("games")) };
    let found = distrust(fleet.release(&id("r1"), Some(&keys)));
    assert_eq!(found, Distrust::Altered { key: public });
    let left: Vec<_> = fs::read_dir(place.path("releases")).unwrap().collect();
    assert_eq!(left.len(), 4, "no incomplete file is left: {left:?}");
    let empty = InDirectory::new();
    assert!(
        error_text(&empty, Store::open(&empty.location())).starts_with("PLACE: there is no fleet;")
    );
}

#[test]
fn names_are_no_paths() {
    for name in ["", "..", "../x", ".hidden", "a/b", "a\0b", &"x".repeat(65)] {
        assert!(name.parse::<Id>().is_err(), "{name:?}");
    }
    assert_eq!(Digest::of(b"").as_str().get(..8), Some("e3b0c442"));
    assert_eq!(Location::Directory(Path::new("/srv/games").to_owned()).name(), id("games"));
}

#[test]
fn hosts_with_long_names_have_different_names_in_a_fleet() {
    let long = "game-server-of-region-europe-west-with-some-more-words-in-its-name";
    assert_ne!(Id::of_host(long, None, 1000), Id::of_host(long, None, 1001));
    // Names of machines, as of pods, may differ only at their ends. In containers, process ids are alike.
    let machines = [
        "deployment-of-game-servers-7d9f8b6c5-x2x4z",
        "deployment-of-game-servers-7d9f8b6c5-q8k2m",
    ];
    let [one, two] = machines.map(|machine| Id::of_host(long, Some(machine), 4_194_304));
    assert_ne!(one, two);
    for name in [one, two] {
        assert!(name.as_str().ends_with("-4194304"), "{name}");
        assert_eq!(name.as_str().parse::<Id>().unwrap(), name);
    }
    assert_eq!(Id::of_host("game", Some("box-1"), 7), id("game-box-1-7"));
}

#[cfg(feature = "nats")]
#[test]
#[ignore = "needs a NATS server; `.ci/run` has one"]
fn a_stream_that_was_deleted_is_made_again_by_programs_that_declare() {
    let place = OnNats::new();
    let (operator, viewer) = (fleet(&place), Store::open(&place.location()).unwrap());
    let delete = "$JS.API.STREAM.DELETE.KV_games_hosts";
    let answer = request(&place.0.address(), delete, b"");
    assert_has(&String::from_utf8_lossy(&answer), "\"success\":true");
    for _ in 0..2 {
        assert!(viewer.hosts(&id("main")).unwrap_err().is_unreachable());
    }
    let error = error_text(&place, operator.hosts(&id("main")));
    assert_has(&error, "the server has nothing of it");
    assert_eq!(operator.hosts(&id("main")).unwrap().0, []);
    assert!(viewer.time().unwrap().may_have_lost);
}

#[cfg(feature = "nats")]
#[test]
#[ignore = "needs a NATS server; `.ci/run` has one"]
fn a_nats_server_forwards_all_bytes_between_a_console_and_a_host() {
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
    assert_has(&error, "no agent answers");
    drop(ours);

    let kept = agent.allow_attach(&host, socket).unwrap();
    // A request that comes before the server knows the listener is answered with "no responders".
    let reached = || {
        for _ in 0..100 {
            let (ours, theirs) = UnixStream::pair().unwrap();
            if operator.attach(&host, theirs).is_ok() {
                return ours;
            }
            thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("the agent does not accept the connection");
    };
    let mut ours = reached();
    let (mut there, _) = listener.accept().unwrap();
    // Both sides send more at once than the other side takes without reading.
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
    assert!(answer == sent, "the console received other bytes than the host sent");
    let (received, there) = received.join().unwrap();
    assert!(received == sent, "the host received other bytes than the console sent");
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    // The end of one side is noticed by the other.
    drop(there);
    assert_eq!(ours.read(&mut [0; 1]).unwrap(), 0);
    drop(kept);
}
