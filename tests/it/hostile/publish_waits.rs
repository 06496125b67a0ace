//! 16: a reload that is published waits, under the lock of loads, for whoever uses a displaced value.

use std::{
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use hotswap_engine::args;

use crate::support::{Host, PluginDir, in_own_process};

#[test]
fn a_reload_does_not_wait_for_the_reader_of_a_displaced_value() {
    let end = in_own_process(|| {
        let host = Host::new(PluginDir::of(&["echo"]), |b| b.step_timeout(Duration::from_secs(1)));
        host.reload();
        host.engine.vault().data_bag().set("count", 5_u64).unwrap();
        let (reads, is_read) = channel();
        let engine = host.engine.clone();
        thread::spawn(move || {
            engine.vault().data_bag().read("count", |_: &u64| {
                reads.send(()).unwrap();
                thread::sleep(Duration::from_secs(60));
            })
        });
        is_read.recv().unwrap();
        host.plugins.install("shares", 1);
        let (done, is_done) = channel();
        let engine = host.engine.clone();
        thread::spawn(move || done.send(engine.reload().map(|report| report.to_string())));
        println!("reload: {:?}", is_done.recv_timeout(Duration::from_secs(5)));
        println!("generation {}", host.engine.snapshot().generation);
        println!("shutdown: {:?}", host.engine.shutdown(Duration::from_secs(1)).held);
        std::process::exit(0);
    });
    assert!(!end.output.contains("Timeout"), "{:?} {}", end.status, end.output);
}

#[test]
fn the_reader_of_a_displaced_value_may_reload() {
    let end = in_own_process(|| {
        let host = Host::with(&["echo"]);
        host.engine.vault().data_bag().set("count", 5_u64).unwrap();
        host.plugins.install("shares", 1);
        let (done, is_done) = channel();
        let engine = host.engine.clone();
        thread::spawn(move || {
            let reloaded = engine.vault().data_bag().read("count", |_: &u64| {
                engine.reload().map(|report| report.to_string()).map_err(|e| e.to_string())
            });
            println!("{reloaded:?}");
            done.send(())
        });
        println!("done: {:?}", is_done.recv_timeout(Duration::from_secs(5)));
        println!("generation {}", host.engine.snapshot().generation);
        std::process::exit(0);
    });
    assert!(!end.output.contains("Timeout"), "{:?} {}", end.status, end.output);
}
