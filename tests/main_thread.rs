//! Thread-locals that a plugin leaves on the main thread are dropped there at a checkpoint, and do not disturb the
//! end of the process. No other test runs on the main thread.

#[path = "it/support/plugins.rs"]
#[allow(dead_code, reason = "this uses a part of it")]
mod plugins;

use std::time::Duration;

use hotswap_engine::{
    Engine, Events, args, checkpoint,
    protocol::{Event, VersionState},
};
use plugins::PluginDir;

fn main() {
    let dir = PluginDir::of(&["threads"]);
    let engine = Engine::builder(dir.path()).build().expect("make an engine");
    let events = engine.subscribe();
    engine.load(()).expect("load the plugin");
    use_thread(&engine);
    dir.install("threads", 2);
    engine.reload().expect("reload the plugin");
    assert_eq!(detail(&events, VersionState::Pinned), "pinned: thread-local on \"main\"");
    checkpoint();
    assert!(detail(&events, VersionState::Freed).starts_with("freed: "));

    // This version is not freed, so its thread-locals still exist when the process ends.
    use_thread(&engine);
    std::mem::forget(engine);
}

/// Leaves the thread-locals of std and tracing on this thread, and one that has a destructor.
fn use_thread(engine: &Engine) {
    engine.invoke::<String>("threads", "use_std", args![]).expect("use std");
    engine.invoke::<()>("threads", "touch", args!["/nowhere"]).expect("touch a thread-local");
}

/// Waits until the first version is in a state, and returns its detail.
fn detail(events: &Events, wanted: VersionState) -> String {
    loop {
        let event = events.recv_timeout(Duration::from_secs(600)).expect("an event in time");
        if let Event::VersionChanged { version: 1, state, detail, .. } = event
            && state == wanted
        {
            return detail;
        }
    }
}
