//! 24: after the clock was set back, the build that was just stored is pruned.

use std::{
    fs::File,
    time::{Duration, SystemTime},
};

use hotswap_build::{Store, StoreLimits};
use hotswap_engine::artifact;

use crate::support::revision;

#[test]
fn the_build_that_was_just_stored_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for number in 1..=20 {
        let stored = store.put(&revision("echo", number)).unwrap();
        let file = File::options().write(true).open(stored.path).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(86_400)).unwrap();
    }
    let new = store.put(&revision("echo", 21)).unwrap();
    let removed = store.prune("echo", StoreLimits::default()).unwrap();
    println!(
        "removed the new one: {:?}",
        removed.iter().map(|f| f.build_id == new.facts.build_id).collect::<Vec<_>>()
    );
    assert!(store.get("echo", new.facts.build_id).unwrap().is_some());
    let _ = artifact::inspect;
}
