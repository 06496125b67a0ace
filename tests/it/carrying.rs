//! Values that a new version takes over from the one that it replaces.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use hotswap_engine::{
    args,
    protocol::{ErrorKind, ValueChange, VersionState},
};
use insta::assert_snapshot;
use serde_json::json;
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
};

use crate::support::{Host, PluginDir, renamed, with_revision};

fn score(host: &Host) -> u64 {
    host.engine.plugin("carries").unwrap().invoke("score", args![]).unwrap()
}

/// The score as a console sees it.
fn score_and_owner(host: &Host) -> (serde_json::Value, String) {
    let bag = host.engine.vault_snapshot().data_bag;
    let entry = bag.into_iter().find(|entry| entry.key == "score").unwrap();
    (entry.value.unwrap(), entry.owner)
}

/// A host that runs `carries`, with a score of two.
fn host_with_score() -> Host {
    let host = Host::new(PluginDir::of(&["carries"]), |builder| builder);
    host.reload();
    score(&host);
    score(&host);
    host
}

#[test]
fn a_value_of_the_same_type_is_shared_by_both_versions() {
    let host = host_with_score();
    let old = host.engine.plugin("carries").unwrap();
    host.plugins.install("carries", 2);
    let report = host.reload();
    let changes: Vec<_> =
        report.data_bag.iter().map(|value| (value.key.as_str(), value.change)).collect();
    assert_eq!(changes, [("note", ValueChange::Added), ("score", ValueChange::Shared)]);
    assert_eq!(score(&host), 3);
    assert_eq!(
        old.invoke::<u64>("score", args![]).unwrap(),
        4,
        "a handle can still call the old version"
    );
    assert_eq!(score(&host), 5);
    assert_eq!(score_and_owner(&host).1, "carries v2");
    drop(old);
    host.wait_for("carries", 1, VersionState::Freed);
    assert_eq!(score(&host), 6);
}

#[test]
fn until_the_publish_a_carried_value_can_only_be_read() {
    let host = host_with_score();
    host.plugins.install("carries", 2);
    host.reload();
    let note: Option<String> = host.engine.current().vault().data_bag().get("note").unwrap();
    assert_snapshot!(note.unwrap(), @"`score` still belongs to carries v1; until the load is published it can only be read");
}

#[test]
fn no_update_is_lost_through_a_hundred_reloads() {
    let host = host_with_score();
    let engine = &host.engine;
    let stop = AtomicBool::new(false);
    let calls = AtomicU64::new(2);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let carries = engine.plugin("carries").unwrap();
                    carries.invoke::<u64>("score", args![]).unwrap();
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for number in 2..=101 {
            host.plugins.install("carries", number);
            host.reload();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(score_and_owner(&host).0["points"], calls.load(Ordering::Relaxed));
}

#[test]
fn a_value_of_another_type_is_migrated() {
    let host = host_with_score();
    let old = host.engine.plugin("carries").unwrap();
    host.plugins.write("carries", &renamed("carries-more", "carries"));
    let report = host.reload();
    let score_change = report.data_bag.iter().find(|value| value.key == "score").unwrap();
    assert_eq!(score_change.change, ValueChange::Migrated);
    assert_eq!(score_and_owner(&host), (json!({"total": 2, "level": 0}), "carries v2".into()));
    assert_eq!(score(&host), 3);

    let error = old.invoke::<u64>("score", args![]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PluginError);
    assert_snapshot!(error, @"carries v1: score: `score` was superseded: carries v2 has taken it over with another type");
    drop(old);
    host.wait_for("carries", 1, VersionState::Freed);
    assert_eq!(score_and_owner(&host).0, json!({"total": 3, "level": 1}));
}

#[test]
fn a_migration_that_fails_undoes_the_reload() {
    let host = host_with_score();
    host.plugins.write("carries", &renamed("carries-wrongly", "carries"));
    assert_snapshot!(host.refused_reload(), @r"
    carries: on_init: `score`: the old value, a `carries::Score`, does not fit
      caused by: missing field `player`
    ");
    assert_eq!(score_and_owner(&host), (json!({"points": 2, "gone": ""}), "carries v1".into()));
    assert_eq!(score(&host), 3);
    host.wait_for("carries", 2, VersionState::Failed);
    assert_eq!(score(&host), 4);
}

#[test]
fn a_value_is_migrated_by_hand_if_all_of_it_is_read() {
    let host = host_with_score();
    let by_hand = renamed("carries-by-hand", "carries");
    host.plugins.write("carries", &with_revision(by_hand.clone(), 2));
    assert_snapshot!(host.refused_reload(), @r"
    carries: on_init: `score`: the old value, a `carries::Score`, does not fit
      caused by: `carries_by_hand::before::Forgets` does not match the old value: it has no `gone`
    ");
    assert_eq!(score(&host), 3);
    host.plugins.write("carries", &by_hand);
    let report = host.reload();
    assert_eq!(report.data_bag.last().unwrap().change, ValueChange::Migrated);
    assert_eq!(score_and_owner(&host).0, json!({"half_points": 6}));
    assert_eq!(score(&host), 7);
    // A value that already has the new type is shared.
    host.plugins.write("carries", &with_revision(by_hand, 3));
    assert_eq!(host.reload().data_bag.last().unwrap().change, ValueChange::Shared);
    assert_eq!(score(&host), 8);
}

#[test]
fn a_migration_by_hand_may_return_an_error() {
    let host = host_with_score();
    for _ in 2..13 {
        score(&host);
    }
    host.plugins.write("carries", &renamed("carries-by-hand", "carries"));
    assert_snapshot!(host.refused_reload(), @r"
    carries: on_init: `score`: the old value, a `carries::Score`, does not fit
      caused by: no luck
    ");
    assert_eq!(score(&host), 14);
}

/// Counts the errors in the log.
#[derive(Clone, Default)]
struct Errors(Arc<AtomicU64>);

impl<S: tracing::Subscriber> Layer<S> for Errors {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let is_error = *event.metadata().level() == tracing::Level::ERROR;
        self.0.fetch_add(is_error.into(), Ordering::Relaxed);
    }
}

#[test]
fn a_value_that_is_replaced_during_the_load_undoes_it() {
    let host = host_with_score();
    host.plugins.install("carries", 2);
    let errors = Errors::default();
    let log = tracing_subscriber::registry().with(errors.clone());
    let error = tracing::subscriber::with_default(log, || {
        host.engine.reload_with((), |_, old| {
            // The old version serves until the publish.
            old.plugin("carries").unwrap().invoke::<()>("reset", args![])
        })
    });
    assert_eq!(errors.0.load(Ordering::Relaxed), 1, "only the load itself is logged as failed");
    assert_snapshot!(error.unwrap_err(), @"publish: `score` was replaced or removed while the load that takes it over was running; reload again");
    host.reload();
    assert_eq!(score(&host), 1);
}

#[test]
fn two_values_used_at_once_do_not_stop_the_publish() {
    let host = host_with_score();
    let engine = &host.engine;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let bag = engine.vault();
            let bag = bag.data_bag();
            bag.set("host text", String::new()).unwrap();
            while !stop.load(Ordering::Relaxed) {
                let nested =
                    bag.update("host text", String::new, |_| bag.get::<String>("note").map(drop));
                nested.unwrap().unwrap();
            }
        });
        for number in 2..=30 {
            host.plugins.install("carries", number);
            host.reload();
        }
        stop.store(true, Ordering::Relaxed);
    });
}
