//! The build that was stored last is the newest, whatever the clock says.

use std::{
    fs::File,
    path::Path,
    time::{Duration, SystemTime},
};

use hotswap_build::{Store, StoreLimits};

use crate::support::revision;

fn set_modified_time(path: &Path, at: SystemTime) {
    File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
}

fn tomorrow() -> SystemTime {
    SystemTime::now() + Duration::from_secs(86_400)
}

#[test]
fn the_build_that_was_just_stored_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for number in 1..=20 {
        set_modified_time(&store.put(&revision("echo", number)).unwrap().path, tomorrow());
    }
    let new = store.put(&revision("echo", 21)).unwrap().facts.build_id;
    assert_eq!(store.list("echo").unwrap()[0].build_id, new);
    let removed = store.prune("echo", StoreLimits::default()).unwrap();
    assert!(removed.len() == 1 && removed[0].build_id != new);
    assert!(store.get("echo", new).unwrap().is_some());
}

#[test]
fn builds_keep_the_order_in_which_they_were_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let put = |number| store.put(&revision("echo", number)).unwrap();
    set_modified_time(&put(1).path, tomorrow());
    let stored: Vec<_> = [2, 3, 4, 2].map(|number| put(number).facts.build_id).to_vec();
    let listed = store.list("echo").unwrap().into_iter().map(|file| file.build_id);
    assert_eq!(listed.take(3).collect::<Vec<_>>(), [stored[3], stored[2], stored[1]]);
}

/// The file is stored even if there is no later time.
#[test]
fn a_date_at_the_end_of_time_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(i64::MAX as u64);
    let first = store.put(&revision("echo", 1)).unwrap().path;
    let _ = File::options().write(true).open(first).unwrap().set_modified(end);
    store.put(&revision("echo", 2)).unwrap();
}
