//! A value is read for a long time. Writers do not wait for its readers; the last reader drops the old value.

use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use hotswap_engine::{Engine, args, protocol::VersionState::Freed};
use hotswap_plugin::Shared;

use crate::support::{Host, PluginDir};

/// A thread that reads a value until it is stopped.
struct Reading {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Reading {
    fn begin<T: Shared>(engine: &Engine, key: &'static str) -> Self {
        let ((reads, is_read), (stop, stopped)): ((_, Receiver<()>), (_, Receiver<()>)) =
            (channel(), channel());
        let engine = engine.clone();
        let thread = thread::spawn(move || {
            let read = engine.vault().data_bag().read(key, |_: &T| {
                reads.send(()).unwrap();
                // This blocks until the other end is dropped.
                let _ = stopped.recv();
            });
            assert_eq!(read, Ok(Some(())));
        });
        is_read.recv().unwrap();
        Self { stop, thread }
    }

    fn end(self) {
        drop(self.stop);
        self.thread.join().unwrap();
    }
}

#[test]
fn a_value_is_set_and_removed_while_it_is_read() {
    let host = Host::with(&["puts"]);
    let vault = host.engine.vault();
    let bag = vault.data_bag();
    bag.set("text", String::from("old")).unwrap();
    let reading = Reading::begin::<String>(&host.engine, "text");
    host.engine.invoke::<()>("puts", "put", args!["text", "new"]).unwrap();
    assert_eq!(bag.get::<String>("text").unwrap().unwrap(), "new");
    let reading_too = Reading::begin::<String>(&host.engine, "text");
    assert!(bag.remove("text").unwrap());
    assert_eq!(bag.get::<String>("text").unwrap(), None);
    reading.end();
    reading_too.end();
}

#[test]
fn a_displaced_value_is_dropped_by_its_last_reader() {
    let host = Host::with(&["puts"]);
    host.engine.invoke::<()>("puts", "put", args!["text", "the plugin's"]).unwrap();
    let reading = Reading::begin::<String>(&host.engine, "text");
    host.engine.vault().data_bag().set("text", String::from("the host's")).unwrap();
    // The value belongs to its version, so the version is held until the value is dropped.
    host.plugins.install("puts", 2);
    host.reload();
    let held = host.wait_until("puts", 1, |info| !info.holders.is_empty());
    assert!(held.holders.iter().all(|holder| holder.contains("`text`")), "{held:?}");
    reading.end();
    host.wait_for("puts", 1, Freed);
}

#[test]
fn a_reload_does_not_wait_for_the_reader_of_a_value_that_it_displaces() {
    let host = Host::with(&["echo"]);
    host.engine.vault().data_bag().set("count", 5_u64).unwrap();
    let reading = Reading::begin::<u64>(&host.engine, "count");
    host.plugins.install("shares", 1);
    host.reload();
    assert_eq!(host.engine.vault().data_bag().get::<u64>("count").unwrap(), Some(0));
    reading.end();
}

#[test]
fn the_reader_of_a_value_may_reload_and_so_displace_it() {
    let host = Host::with(&["echo"]);
    host.engine.vault().data_bag().set("count", 5_u64).unwrap();
    host.plugins.install("shares", 1);
    let read = host.engine.vault().data_bag().read("count", |count: &u64| {
        host.reload();
        *count
    });
    assert_eq!(read.unwrap(), Some(5));
    assert_eq!(host.engine.vault().data_bag().get::<u64>("count").unwrap(), Some(0));
}

#[test]
fn a_drop_that_never_ends_does_not_keep_the_reload_that_displaces_the_value() {
    use crate::support::Gate;
    use std::{io::Read as _, os::unix::net::UnixStream};

    /// Waits at a gate when it is dropped.
    #[derive(Shared, serde::Serialize)]
    struct Waits(String);

    impl Drop for Waits {
        fn drop(&mut self) {
            if let Ok(mut stream) = UnixStream::connect(&self.0) {
                let _ = stream.read_to_end(&mut Vec::new());
            }
        }
    }

    let host = Host::new(PluginDir::of(&["echo"]), |b| b.step_timeout(Duration::from_secs(1)));
    host.reload();
    let gate = Gate::new();
    host.engine.vault().data_bag().set("count", Waits(gate.path().into())).unwrap();
    host.plugins.install("shares", 1);
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let engine = &host.engine;
        let is_done = &is_done;
        scope.spawn(move || {
            engine.reload().unwrap();
            is_done.store(true, Ordering::Release);
        });
        let waiting = gate.arrival();
        // This reload ends, and so do later ones, although the drop has not ended.
        while !is_done.load(Ordering::Acquire) {
            thread::yield_now();
        }
        host.plugins.install("echo", 2);
        host.reload();
        host.wait_for("echo", 1, Freed);
        waiting.release();
    });
}
