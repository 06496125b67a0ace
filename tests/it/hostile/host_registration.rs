//! 23: what the host registers is never dropped.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use sample_api::Animal;

use crate::support::{Host, in_own_process};

struct Bear(Arc<AtomicBool>);

impl Animal for Bear {
    fn speak(&self, _: u32) -> String {
        String::new()
    }
}

impl Drop for Bear {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_the_host_registered_is_dropped_with_the_engine() {
    let end = in_own_process(|| {
        tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).init();
        let dropped = Arc::new(AtomicBool::new(false));
        let host = Host::with(&["echo"]);
        let bear = Bear(dropped.clone());
        host.engine.vault().extension().register::<dyn Animal, _>("bear", bear).unwrap();
        println!("{:?}", host.engine.shutdown(std::time::Duration::from_secs(5)).held);
        drop(host);
        std::thread::sleep(std::time::Duration::from_millis(200));
        println!("dropped: {}", dropped.load(Ordering::Relaxed));
    });
    assert!(end.output.contains("dropped: true"), "{:?} {}", end.status, end.output);
    assert!(!end.output.contains("ERROR"), "{}", end.output);
}
