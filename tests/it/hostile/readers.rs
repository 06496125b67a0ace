//! 28 (new, of the kind of 16): who sets or removes a value waits for its readers for ever; and what
//! a step waits for so counts as the step's.

use std::{sync::mpsc::channel, thread, time::Duration};

use hotswap_engine::args;

use crate::support::{Host, in_own_process};

#[test]
fn who_sets_a_value_does_not_wait_for_its_reader() {
    let end = in_own_process(|| {
        let host = Host::with(&["puts"]);
        host.engine.vault().data_bag().set("text", String::from("old")).unwrap();
        let (reads, is_read) = channel();
        let engine = host.engine.clone();
        thread::spawn(move || {
            engine.vault().data_bag().read("text", |_: &String| {
                reads.send(()).unwrap();
                thread::sleep(Duration::from_secs(60));
            })
        });
        is_read.recv().unwrap();
        let (done, is_done) = channel();
        let engine = host.engine.clone();
        thread::spawn(move || {
            done.send(engine.invoke::<()>("puts", "put", args!["text", "new"]).is_ok())
        });
        println!("set: {:?}", is_done.recv_timeout(Duration::from_secs(3)));
        let now = host.engine.vault().data_bag().get::<String>("text");
        println!("meanwhile: {now:?}");
        std::process::exit(0);
    });
    assert!(end.output.contains("set: Ok(true)"), "{:?} {}", end.status, end.output);
}
