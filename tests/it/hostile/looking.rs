//! A console reads a large Vault: the answer is bounded, and says how much there is.

use std::collections::HashMap;

use chat_api::Chat as _;
use hotswap_engine::protocol::{
    Cut, DataBagEntry, MAX_LINE_BYTES, MAX_LISTED, ValueChange, VersionState,
};
use serde_json::Value;

use crate::support::{Ear, Host, chat};

fn entry(host: &Host, key: &str) -> DataBagEntry {
    let vault = host.engine.vault_snapshot();
    vault.data_bag.into_iter().find(|entry| entry.key == key).expect("the value")
}

/// The size of the answer to a console.
fn answer_bytes(host: &Host) -> usize {
    serde_json::to_string(&host.engine.vault_snapshot()).expect("an answer").len()
}

#[test]
fn a_large_map_is_shown_by_its_beginning() {
    let host = Host::with(&[]);
    let scores: HashMap<String, u64> = (0..100_000).map(|n| (format!("player {n}"), n)).collect();
    host.engine.vault().data_bag().set("scores", scores).unwrap();
    let DataBagEntry { value, cuts, size_bytes, .. } = entry(&host, "scores");
    assert_eq!(cuts, [Cut { path: String::new(), shown: 100, of: Some(100_000) }]);
    assert_eq!(value.unwrap().as_object().unwrap().len(), 100);
    assert_eq!(size_bytes, None);
}

#[test]
fn a_large_list_and_a_large_text_are_shown_by_their_beginnings() {
    let host = Host::with(&[]);
    let bag = host.engine.vault();
    let bag = bag.data_bag();
    bag.set("image", vec![7_u8; 50_000_000]).unwrap();
    bag.set("text", "ä".repeat(1_000_000)).unwrap();
    bag.set("small", vec![1_u8, 2]).unwrap();
    let image = entry(&host, "image");
    assert_eq!(image.cuts, [Cut { path: String::new(), shown: 100, of: Some(50_000_000) }]);
    let text = entry(&host, "text");
    assert_eq!(text.cuts, [Cut { path: String::new(), shown: 1024, of: Some(2_000_000) }]);
    let small = entry(&host, "small");
    assert_eq!((small.size_bytes, small.cuts.len()), (Some(5), 0));
    assert!(answer_bytes(&host) < 10_000);
}

#[test]
fn many_values_are_listed_up_to_a_bound() {
    let host = Host::with(&["shares"]);
    for number in 0..5_000 {
        let key = format!("key {number:04}");
        host.engine.vault().data_bag().set(&key, "x".repeat(900)).unwrap();
    }
    let vault = host.engine.vault_snapshot();
    let own = vault.data_bag_len - 5_000;
    assert_eq!((vault.data_bag.len(), own > 0), (MAX_LISTED, true));
    assert!(answer_bytes(&host) < 1 << 20, "{} bytes", answer_bytes(&host));
    // Values that exceed the bound are listed without their content, with a note.
    let last = vault.data_bag.last().unwrap();
    assert!(last.value.is_none() || !last.cuts.is_empty(), "{last:?}");
    // The report of a reload has all values that changed, and some of the others.
    host.plugins.install("shares", 2);
    let report = host.reload();
    let listed = report.data_bag.iter().filter(|it| it.change != ValueChange::Kept).count() as u64;
    assert_eq!((listed, report.data_bag.is_sorted_by_key(|it| &it.key)), (own, true));
    assert_eq!(report.data_bag.len() as u64 + report.data_bag_omitted, vault.data_bag_len);
    let bytes = serde_json::to_string(&report).unwrap().len();
    assert!(bytes < 64 << 10, "{bytes} bytes");
}

#[test]
fn of_long_schemas_only_those_are_shown_that_fit_into_an_answer() {
    let host = Host::with(&["own-schemas"]);
    let snapshot = host.engine.snapshot();
    let bytes = serde_json::to_string(&snapshot).expect("an answer").len();
    assert!(bytes < MAX_LINE_BYTES, "{bytes} bytes");
    let functions = snapshot.plugins[0].functions.iter();
    let shown: Vec<_> = functions.map(|it| (&*it.name, it.is_cut, it.doc.is_empty())).collect();
    assert_eq!(
        shown,
        [
            ("a_vast_value", false, false),
            ("two_vast_values", true, true),
            ("with_a_number", false, false)
        ]
    );
    let cut = &snapshot.plugins[0].functions[1];
    assert_eq!(cut.signature, "(_one: Vast, _other: Vast) -> ()");
    assert!(cut.params.iter().all(|param| param.schema == Value::Bool(true)));
}

#[test]
fn of_many_holders_of_a_version_only_some_are_listed() {
    const SESSIONS: u64 = 300;
    let host = Host::with(&["chats"]);
    let chat = chat(&host);
    let sessions = (0..SESSIONS).map(|_| chat.join(Box::new(Ear::new("Ada"))));
    let sessions: Vec<_> = sessions.collect();
    drop(chat);
    host.plugins.install("chats", 2);
    host.reload();
    let held_by = |expected: u64| {
        host.wait_until("chats", 1, |version| {
            version.held_by.iter().map(|holder| holder.count).sum::<u64>() == expected
        });
        host.info("chats", 1).unwrap().held_by
    };
    let reported = held_by(SESSIONS);
    assert_eq!(reported.len(), 101, "{reported:?}");
    assert!(
        reported[0].interface.as_deref().is_some_and(|it| it.ends_with("Session")),
        "{reported:?}"
    );
    assert_eq!((reported[100].count, &reported[100].interface), (SESSIONS - 100, &None));
    drop(sessions);
    host.wait_for("chats", 1, VersionState::Freed);
}

#[test]
fn changes_of_the_vault_are_counted_so_that_consoles_read_it_only_after_a_change() {
    let host = Host::with(&["shares"]);
    let changes = || host.engine.vault_snapshot().changes;
    // The other tests of this process change Vaults too, so each count is one between two others.
    let first = changes();
    let reported = host.engine.snapshot().vault_changes;
    let before = changes();
    assert!((first..=before).contains(&reported), "{reported} is not in {first}..={before}");
    let bag = host.engine.vault();
    bag.data_bag().modify("count", |count: &mut u64| *count += 1).unwrap();
    assert!(changes() > before);
}
