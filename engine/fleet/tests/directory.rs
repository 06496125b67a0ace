//! The fleet in a directory: several writers, and files that somebody else has written.

use std::{fs, os::unix::fs::symlink, path::Path, thread};

use hotswap_fleet::{
    Artifact, AuditEntry, Channel, Digest, Directory, Id, Release, ReleasePlugin, SecretKey,
};
use hotswap_protocol::Toolchain;
use tempfile::TempDir;

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

fn fleet() -> (TempDir, Directory) {
    let dir = TempDir::new().unwrap();
    let fleet = Directory::create(dir.path(), &id("games"), &id("main"), 7).unwrap();
    (dir, fleet)
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

fn release(fleet: &Directory, name: &str, content: &[u8]) -> Release {
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

/// The error's text without the directory.
fn told<T: std::fmt::Debug>(dir: &TempDir, result: Result<T, hotswap_fleet::FleetError>) -> String {
    result.unwrap_err().to_string().replace(dir.path().to_str().unwrap(), "DIR")
}

#[test]
fn a_fleet_is_made_once_and_found_again() {
    let (dir, fleet) = fleet();
    let error = told(&dir, Directory::create(dir.path(), &id("other"), &id("main"), 8));
    assert_eq!(error, "DIR/fleet.json: there is a fleet already; name another directory");
    let opened = Directory::open(dir.path()).unwrap();
    assert_eq!(opened.fleet(), fleet.fleet());
    assert_eq!(opened.channel(&id("main")).unwrap(), Channel::new(id("main"), 7));
    let empty = TempDir::new().unwrap();
    assert!(told(&empty, Directory::open(empty.path())).starts_with("DIR: there is no fleet;"));
}

#[test]
fn of_many_writers_each_write_builds_on_the_one_before() {
    let (dir, fleet) = fleet();
    let main = id("main");
    thread::scope(|scope| {
        for writer in 0..4 {
            let (fleet, main) = (&fleet, &main);
            scope.spawn(move || {
                for number in 0..25 {
                    let host = id(&format!("host-{writer}-{number}"));
                    loop {
                        let read = fleet.channel(main).unwrap();
                        let mut new = read.clone();
                        new.pins.insert(host.clone(), id("r1"));
                        new.mark.seq += 1;
                        match fleet.lock(main).unwrap().write_channel(&read, &new) {
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
    let left: Vec<_> = fs::read_dir(dir.path().join("channels")).unwrap().collect();
    assert_eq!(left.len(), 2, "the channel and its lock: {left:?}");
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

#[test]
fn a_release_is_written_once() {
    let (dir, fleet) = fleet();
    let first = release(&fleet, "r1", b"one");
    assert!(fleet.push_release(&first, None).unwrap());
    let again = Release { pushed_at_ms: 9, by: "somebody".to_owned(), ..first.clone() };
    assert!(!fleet.push_release(&again, None).unwrap());
    assert_eq!(fleet.release(&id("r1"), &[]).unwrap(), first);
    let other = release(&fleet, "r1", b"two");
    let error = told(&dir, fleet.push_release(&other, None));
    assert_eq!(
        error,
        "DIR/releases/r1.json: another release of this name is there; choose another"
    );
    assert_eq!(fleet.releases().unwrap(), [id("r1")]);
    let error = told(&dir, fleet.release(&id("r2"), &[]));
    assert!(error.starts_with("there is no release r2 in DIR;"), "{error}");
}

#[test]
fn an_artifact_that_was_altered_is_refused_by_name() {
    let (dir, fleet) = fleet();
    let release = release(&fleet, "r1", b"what was built");
    fleet.push_release(&release, None).unwrap();
    fleet.verify(&id("r1"), &[]).unwrap();
    let artifact = &release.plugins[0].artifacts[0];
    let (blob, to) = (fleet.blob_path(&artifact.sha256), dir.path().join("fetched.so"));
    let fetch = || fleet.fetch(&id("r1"), "world", artifact, &to);
    fetch().unwrap();
    assert_eq!(fs::read(&to).unwrap(), b"what was built");
    fs::remove_file(&to).unwrap();

    let altered: [(&[u8], &str); 3] = [
        (b"what was BUILT", "and it has 71"),
        (b"what was", "the release names 14 bytes, and it has less"),
        (b"what was built, and more", "the release names 14 bytes, and it has more"),
    ];
    for (content, expected) in altered {
        fs::write(&blob, content).unwrap();
        for error in [told(&dir, fleet.verify(&id("r1"), &[])), told(&dir, fetch())] {
            let begins = format!(
                "world of release r1: DIR/blobs/{}.so: the artifact was altered",
                artifact.sha256
            );
            assert!(error.starts_with(&begins), "{error}");
            assert!(error.contains(expected) || expected.starts_with("and it has 71"), "{error}");
        }
    }
    fs::remove_file(&blob).unwrap();
    assert!(told(&dir, fetch()).contains("cannot open it"));
    symlink("/dev/zero", &blob).unwrap();
    assert!(told(&dir, fetch()).contains("cannot open it"), "a link is not followed");
    assert!(!to.exists());
    // Pushed once more, it is right again.
    fs::remove_file(&blob).unwrap();
    fleet.push_blob(b"what was built").unwrap();
    fetch().unwrap();
}

#[test]
fn files_of_somebody_else_are_refused_by_name() {
    let (dir, fleet) = fleet();
    let refused = |path: &str, content: &[u8]| {
        let path = dir.path().join(path);
        let _ = fs::remove_file(&path);
        fs::write(&path, content).unwrap();
    };
    let channel = || told(&dir, fleet.channel(&id("main")));

    refused("channels/main.json", &vec![b' '; (1 << 20) + 1]);
    assert_eq!(channel(), "DIR/channels/main.json: it has more than 1048576 bytes");
    refused("channels/main.json", b"{\"name\":\"main\"}");
    assert!(
        channel().starts_with("DIR/channels/main.json: it is not what it should be: missing field")
    );
    let deep = "[".repeat(100_000);
    refused("channels/main.json", deep.as_bytes());
    assert!(channel().starts_with("DIR/channels/main.json: it is not what it should be:"));
    let other = serde_json::to_vec(&Channel::new(id("other"), 7)).unwrap();
    refused("channels/main.json", &other);
    assert_eq!(channel(), "DIR/channels/main.json: it says that it is other, and not main");
    fs::remove_file(dir.path().join("channels/main.json")).unwrap();
    fs::create_dir(dir.path().join("channels/main.json")).unwrap();
    assert_eq!(channel(), "DIR/channels/main.json: it is not a regular file");

    // What one file holds says nothing of the others.
    refused("hosts/evil.json", b"\xff\xfe");
    refused("hosts/..evil.json", b"{}");
    let (hosts, unreadable) = fleet.hosts(&id("main")).unwrap();
    assert!(hosts.is_empty());
    assert_eq!(unreadable.len(), 1);
    assert!(unreadable[0].to_string().contains("hosts/evil.json: it is not what it should be"));
    refused("audit.jsonl", b"no JSON\n{\"half\":\n");
    assert_eq!(fleet.audited().unwrap(), (Vec::new(), 2));

    let mut release = release(&fleet, "r1", b"one");
    release.fleet = id("others");
    let json = serde_json::to_string(&release).unwrap();
    refused("releases/r1.json", json.as_bytes());
    let error = told(&dir, fleet.release(&id("r1"), &[]));
    assert!(error.ends_with("it is for the fleet others, and this is the fleet games"), "{error}");
    let away = json.replace(release.plugins[0].artifacts[0].sha256.as_str(), "../../../etc/passwd");
    refused("releases/r1.json", away.as_bytes());
    let error = told(&dir, fleet.release(&id("r1"), &[]));
    assert!(error.contains("expected a SHA-256 of 64 hexadecimal digits"), "{error}");
    for name in ["", "..", "../x", ".hidden", "a/b", "a\0b", &"x".repeat(65)] {
        assert!(name.parse::<Id>().is_err(), "{name:?}");
    }
    assert_eq!(Digest::of(b"").as_str().get(..8), Some("e3b0c442"));
}

#[test]
fn what_is_not_signed_by_a_key_of_the_fleet_is_refused() {
    let (dir, fleet) = fleet();
    let key = |name: &str| SecretKey::generate(&dir.path().join(name)).unwrap();
    let ((secret, public), (other, other_public)) = (key("one.key"), key("two.key"));
    fleet.set_keys(vec![public.clone()], None).unwrap();
    let keys = fleet.keys().unwrap().unwrap();

    let refused = |name: &str, secret: Option<&SecretKey>| {
        let release = release(&fleet, name, name.as_bytes());
        fleet.push_release(&release, secret).unwrap();
        told(&dir, fleet.release(&release.id, &keys.keys))
    };
    assert!(
        refused("r1", None).starts_with("DIR/releases/r1.json.minisig: the release is not signed")
    );
    let not_by = "the signature is not by a key of the fleet for this very content";
    assert!(refused("r2", Some(&other)).ends_with(not_by));
    let signed = release(&fleet, "r3", b"three");
    fleet
        .push_release(&signed, Some(&SecretKey::read(&dir.path().join("one.key")).unwrap()))
        .unwrap();
    fleet.release(&id("r3"), &keys.keys).unwrap();
    // The signature of another release.
    let in_releases = |name: &str| dir.path().join("releases").join(name);
    fs::copy(in_releases("r3.json.minisig"), in_releases("r1.json.minisig")).unwrap();
    assert!(told(&dir, fleet.release(&id("r1"), &keys.keys)).ends_with(not_by));
    // Signed later.
    fleet.push_release(&release(&fleet, "r1", b"r1"), Some(&secret)).unwrap();
    fleet.release(&id("r1"), &keys.keys).unwrap();

    // A successor is signed by the former key, and nothing else is believed.
    let error = told(&dir, fleet.set_keys(vec![other_public.clone()], None));
    assert!(error.contains("a change of keys is signed by one that is there"), "{error}");
    let error = told(&dir, fleet.set_keys(vec![other_public.clone()], Some(&other)));
    assert!(error.ends_with(not_by), "{error}");
    let new = fleet.set_keys(vec![other_public], Some(&secret)).unwrap();
    assert_eq!(fleet.keys_after(Some(&keys)).unwrap(), Some(new.clone()));
    put(&dir.path().join("keys.json"), &keys);
    let gone_back = told(&dir, fleet.keys_after(Some(&new)));
    assert!(gone_back.contains("gone or older"), "{gone_back}");
    put(&dir.path().join("keys.json"), &hotswap_fleet::Keys { serial: 9, ..keys.clone() });
    assert!(told(&dir, fleet.keys_after(Some(&new))).ends_with(not_by));
    fs::remove_file(dir.path().join("keys.json")).unwrap();
    assert!(told(&dir, fleet.keys_after(Some(&new))).contains("gone or older"));
}

fn put(path: &Path, keys: &hotswap_fleet::Keys) {
    fs::write(path, serde_json::to_vec(keys).unwrap()).unwrap();
}
