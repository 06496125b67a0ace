//! Watching real files. To show that a change is not reported, a test makes a second change that is reported:
//! reports come in order, so the first report decides.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, UNIX_EPOCH};

use hotswap_build::{IncludedFiles, PluginPackage, Quiet, SourceChange, Watcher};
use tempfile::TempDir;

use crate::support::package_without_cargo;

/// Two plugins, `cat` and `world`, that share the package `api`.
struct Fixture {
    dir: TempDir,
    plugins: Vec<PluginPackage>,
}

impl Fixture {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let plugins = ["cat", "world"]
            .map(|name| package_without_cargo(name, dir.path(), &[name, "api"]))
            .to_vec();
        let fixture = Self { dir, plugins };
        for package in ["cat", "world", "api"] {
            fixture.write(&format!("{package}/Cargo.toml"), "");
            fixture.write(&format!("{package}/src/lib.rs"), "");
        }
        fixture.write("Cargo.lock", "");
        fixture
    }

    fn watch(&self) -> (Watcher, Receiver<Vec<String>>) {
        self.watch_with(Quiet::default())
    }

    fn watch_with(&self, quiet: Quiet) -> (Watcher, Receiver<Vec<String>>) {
        let (sender, receiver) = channel();
        // The test may have ended and dropped the receiver when the last change is reported.
        let on_change = move |change: SourceChange| drop(sender.send(change.plugins));
        (Watcher::new(&self.plugins, quiet, on_change).unwrap(), receiver)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, contents: &str) {
        write(&self.path(path), contents);
    }
}

fn write(path: &Path, contents: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

#[test]
fn a_watcher_can_poll_if_the_system_sends_no_events() {
    let fixture = Fixture::new();
    let (sender, receiver) = channel();
    let on_change = move |change: SourceChange| drop(sender.send(change.plugins));
    let every = Duration::from_millis(20);
    let _watcher = Watcher::polling(&fixture.plugins, Quiet::default(), every, on_change).unwrap();
    fixture.write("world/src/lib.rs", "// saved");
    assert_eq!(receiver.recv().unwrap(), ["world"]);
    fixture.write("api/src/deep/er.rs", "// new");
    assert_eq!(receiver.recv().unwrap(), ["cat", "world"]);
    fs::remove_file(fixture.path("cat/src/lib.rs")).unwrap();
    assert_eq!(receiver.recv().unwrap(), ["cat"]);
}

#[test]
fn a_file_that_leaves_an_old_directory_is_noticed_by_polling() {
    let fixture = Fixture::new();
    // Only whole seconds of the directory's time are compared.
    let dir = fs::File::open(fixture.path("cat/src")).unwrap();
    dir.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    let (sender, receiver) = channel();
    let on_change = move |change: SourceChange| drop(sender.send(change.plugins));
    let every = Duration::from_millis(20);
    let _watcher = Watcher::polling(&fixture.plugins, Quiet::default(), every, on_change).unwrap();
    fs::remove_file(fixture.path("cat/src/lib.rs")).unwrap();
    assert_eq!(receiver.recv_timeout(Duration::from_secs(600)).unwrap(), ["cat"]);
}

#[test]
fn a_save_is_reported_for_its_plugin() {
    let fixture = Fixture::new();
    let (_watcher, changes) = fixture.watch();
    fixture.write("cat/src/lib.rs", "// new");
    assert_eq!(changes.recv().unwrap(), ["cat"]);
}

#[test]
fn a_save_of_a_shared_package_is_reported_for_all_its_plugins() {
    let fixture = Fixture::new();
    let (_watcher, changes) = fixture.watch();
    fixture.write("api/src/lib.rs", "// new");
    assert_eq!(changes.recv().unwrap(), ["cat", "world"]);
}

#[test]
fn a_change_of_the_lock_file_is_reported_for_all_plugins() {
    let fixture = Fixture::new();
    let (_watcher, changes) = fixture.watch();
    fixture.write("Cargo.lock", "version = 4");
    assert_eq!(changes.recv().unwrap(), ["cat", "world"]);
}

#[test]
fn a_file_renamed_into_place_is_a_save() {
    let fixture = Fixture::new();
    let (_watcher, changes) = fixture.watch();
    fixture.write("cat/src/.lib.rs.tmp", "// new");
    fs::rename(fixture.path("cat/src/.lib.rs.tmp"), fixture.path("cat/src/lib.rs")).unwrap();
    assert_eq!(changes.recv().unwrap(), ["cat"]);
}

#[test]
fn a_removed_file_is_a_change() {
    let fixture = Fixture::new();
    let (_watcher, changes) = fixture.watch();
    fs::remove_file(fixture.path("cat/src/lib.rs")).unwrap();
    assert_eq!(changes.recv().unwrap(), ["cat"]);
}

#[test]
fn a_burst_of_saves_is_reported_once() {
    let fixture = Fixture::new();
    let (_watcher, changes) = fixture.watch_with(Quiet {
        after_saves: Duration::from_millis(400),
        within_saves: Duration::from_millis(400),
    });
    for n in 0..50 {
        fixture.write("cat/src/lib.rs", &format!("// {n}"));
        fixture.write("world/src/lib.rs", &format!("// {n}"));
    }
    assert_eq!(changes.recv().unwrap(), ["cat", "world"]);
    fixture.write("cat/src/lib.rs", "// last");
    assert_eq!(changes.recv().unwrap(), ["cat"]);
}

#[test]
fn the_watcher_waits_for_a_file_that_is_being_written() {
    let fixture = Fixture::new();
    let hour = Duration::from_secs(3600);
    let quiet = Quiet { within_saves: hour, ..Quiet::default() };
    let (_watcher, changes) = fixture.watch_with(quiet);
    let mut file = fs::File::create(fixture.path("cat/src/lib.rs")).unwrap();
    file.write_all(b"// half").unwrap();
    fixture.write("world/src/lib.rs", "// whole");
    file.write_all(b" and half").unwrap();
    drop(file);
    assert_eq!(changes.recv().unwrap(), ["cat", "world"]);
}

#[test]
fn the_watcher_waits_for_a_file_that_was_moved_away() {
    let fixture = Fixture::new();
    let hour = Duration::from_secs(3600);
    let quiet = Quiet { within_saves: hour, ..Quiet::default() };
    let (_watcher, changes) = fixture.watch_with(quiet);
    let path = fixture.path("cat/src/lib.rs");
    fs::rename(&path, fixture.path("cat/src/lib.rs~")).unwrap();
    fixture.write("world/src/lib.rs", "// new");
    fs::write(path, "// new").unwrap();
    assert_eq!(changes.recv().unwrap(), ["cat", "world"]);
}

#[test]
fn files_that_are_no_sources_are_not_reported() {
    let fixture = Fixture::new();
    for path in ["cat/target/debug/build.rs", "cat/.git/lib.rs", "cat/out/CACHEDIR.TAG"] {
        fixture.write(path, "");
    }
    fixture.write("cat/nested/Cargo.toml", "");
    let (_watcher, changes) = fixture.watch();
    for path in [
        "cat/src/lib.rs~",
        "cat/src/.#lib.rs",
        "cat/src/4913",
        "cat/src/.lib.rs.swp",
        "cat/README.md",
        "cat/target/debug/build.rs",
        "cat/.git/lib.rs",
        "cat/out/lib.rs",
        "cat/nested/src/lib.rs",
        "elsewhere/lib.rs",
        "target/lib.rs",
    ] {
        fixture.write(path, "// new");
    }
    fs::read(fixture.path("cat/src/lib.rs")).unwrap();
    fixture.write("world/src/lib.rs", "// new");
    assert_eq!(changes.recv().unwrap(), ["world"]);
}

#[test]
fn included_files_are_watched() {
    let mut fixture = Fixture::new();
    fixture.plugins[0].included =
        IncludedFiles::new(&["^assets/".to_owned()], &["draft".to_owned()]).unwrap();
    fixture.write("cat/assets/text", "");
    fixture.write("world/assets/text", "");
    let (_watcher, changes) = fixture.watch();
    fixture.write("cat/assets/draft", "one");
    fixture.write("world/assets/text", "one");
    fixture.write("cat/assets/text", "one");
    assert_eq!(changes.recv().unwrap(), ["cat"]);
}

#[test]
fn a_module_may_be_called_target() {
    let fixture = Fixture::new();
    fixture.write("cat/src/target/mod.rs", "");
    let (_watcher, changes) = fixture.watch();
    fixture.write("cat/src/target/mod.rs", "// new");
    assert_eq!(changes.recv().unwrap(), ["cat"]);
}

#[test]
fn a_new_directory_is_watched_with_its_files() {
    let fixture = Fixture::new();
    let (_watcher, changes) = fixture.watch();
    // The directory appears with a source in it, so there is no event for the source.
    fixture.write("outside/deep/er.rs", "");
    fs::rename(fixture.path("outside"), fixture.path("cat/src/inside")).unwrap();
    assert_eq!(changes.recv().unwrap(), ["cat"]);
    fixture.write("cat/src/inside/deep/er.rs", "// new");
    assert_eq!(changes.recv().unwrap(), ["cat"]);
}

#[test]
fn a_package_that_disappears_and_returns_is_reported_both_times() {
    let fixture = Fixture::new();
    let (_watcher, changes) = fixture.watch();
    fs::rename(fixture.path("cat"), fixture.path("away")).unwrap();
    assert_eq!(changes.recv().unwrap(), ["cat"]);
    fixture.write("away/src/lib.rs", "// nobody's");
    fs::rename(fixture.path("away"), fixture.path("cat")).unwrap();
    assert_eq!(changes.recv().unwrap(), ["cat"]);
    fixture.write("cat/src/lib.rs", "// new");
    assert_eq!(changes.recv().unwrap(), ["cat"]);
}

#[test]
fn a_directory_that_links_to_itself_is_watched_once() {
    let fixture = Fixture::new();
    std::os::unix::fs::symlink(fixture.path("cat/src"), fixture.path("cat/src/again")).unwrap();
    let (_watcher, changes) = fixture.watch();
    fixture.write("cat/src/lib.rs", "// new");
    assert_eq!(changes.recv().unwrap(), ["cat"]);
}

#[test]
fn a_dropped_watcher_ends() {
    let fixture = Fixture::new();
    let (watcher, changes) = fixture.watch();
    drop(watcher);
    assert!(changes.recv().is_err(), "its callback still exists");
}

/// Builds and formatters write files without changing them.
#[test]
fn the_same_bytes_again_are_no_change() {
    let fixture = Fixture::new();
    fixture.write("cat/src/lib.rs", "// one");
    let (_watcher, changes) = fixture.watch();
    let path = fixture.path("cat/src/lib.rs");
    fixture.write("cat/src/lib.rs", "// one");
    let now = std::time::SystemTime::now();
    fs::File::options().write(true).open(&path).unwrap().set_modified(now).unwrap();
    fixture.write("cat/src/.lib.rs.tmp", "// one");
    fs::rename(fixture.path("cat/src/.lib.rs.tmp"), &path).unwrap();
    fixture.write("Cargo.lock", "");
    fixture.write("world/src/lib.rs", "// new");
    assert_eq!(changes.recv().unwrap(), ["world"]);
    fixture.write("cat/src/lib.rs", "// two");
    assert_eq!(changes.recv().unwrap(), ["cat"]);
    fixture.write("cat/src/lib.rs", "// one");
    assert_eq!(changes.recv().unwrap(), ["cat"]);
}

#[test]
fn a_package_behind_a_link_is_watched() {
    let mut fixture = Fixture::new();
    fixture.write("elsewhere/linked/src/lib.rs", "");
    std::os::unix::fs::symlink(fixture.path("elsewhere/linked"), fixture.path("linked")).unwrap();
    let linked = fixture.path("linked");
    fixture.plugins[0].source_dirs.push(linked);
    let (_watcher, changes) = fixture.watch();
    fixture.write("elsewhere/linked/src/lib.rs", "// new");
    assert_eq!(changes.recv().unwrap(), ["cat"]);
    fixture.write("linked/src/lib.rs", "// newer");
    assert_eq!(changes.recv().unwrap(), ["cat"]);
}

#[test]
fn other_packages_may_be_watched_from_now_on() {
    let fixture = Fixture::new();
    fixture.write("dog/src/lib.rs", "");
    // Long enough that the packages are replaced before the change below is reported.
    let long = Duration::from_secs(2);
    let (watcher, changes) = fixture.watch_with(Quiet { after_saves: long, within_saves: long });
    fixture.write("world/src/lib.rs", "// changed");
    let names = [("cat", "cat"), ("welt", "world"), ("dog", "dog")];
    let others =
        names.map(|(name, dir)| package_without_cargo(name, fixture.dir.path(), &[dir, "api"]));
    watcher.watch(&others).unwrap();
    assert_eq!(changes.recv().unwrap(), ["welt"]);
    fixture.write("dog/src/lib.rs", "// changed");
    assert_eq!(changes.recv().unwrap(), ["dog"]);
}
