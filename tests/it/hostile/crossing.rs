//! Objects, streams, futures and services whose code panics on the other side, or that outlive their version.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use chat_api::{Chat as _, Listener, Session};
use futures::{Stream, StreamExt as _, executor::block_on};
use hotswap_engine::{Leased, plugin::LeasedStream, protocol::VersionState};
use insta::assert_snapshot;
use sample_api::Alpha;

use crate::support::{Ear, Host, PluginDir, chat, renamed};

#[test]
fn a_panic_of_a_listener_reaches_its_caller_and_nobody_else() {
    let host = Host::with(&["chats"]);
    let ada = Ear::new("Ada");
    let session = chat(&host).join(Box::new(ada.another()));
    let panicked = catch_unwind(AssertUnwindSafe(|| session.say("bad words")));
    let text = panicked.unwrap_err().downcast::<String>().unwrap();
    assert!(text.contains("not listened to"), "{text}");
    assert_eq!(session.say("Sorry."), 1);
    assert_eq!(ada.heard(), "Ada: Sorry.");
}

/// Panics when it is dropped.
struct Bomb;

impl Listener for Bomb {
    fn hear(&self, _: String) {}
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[test]
fn a_panic_in_the_drop_of_an_object_ends_where_the_object_was_made() {
    let host = Host::with(&["chats"]);
    let bomb = host.engine.func::<fn() -> Leased<dyn Listener>>("chats", "bomb").unwrap();
    drop(bomb.call().unwrap());
    // In the other direction, the plugin drops an object of the host.
    drop(chat(&host).join(Box::new(Bomb)));
    assert_eq!(host.engine.invoke::<usize>("chats", "listening", &[]).unwrap(), 0);
    host.plugins.install("chats", 2);
    host.reload();
    host.wait_for("chats", 1, VersionState::Freed);
}

#[test]
fn a_version_that_ends_gives_out_nothing_and_releases_what_it_was_given() {
    let host = Host::with(&["chats"]);
    let keep = host.engine.func::<fn(Leased<dyn Listener>) -> ()>("chats", "keep_last").unwrap();
    let ada = Ear::new("Ada");
    keep.call(Leased::new(ada.another()).unwrap()).unwrap();
    host.plugins.install("chats", 2);
    host.reload();
    host.wait_for("chats", 1, VersionState::Freed);
    assert_snapshot!(ada.heard(), @"chats v1 is ending, and must not give out an object of `chat_api::Session` any more");
    assert_eq!(ada.alive(), 1);
}

#[test]
fn panics_of_objects_and_streams_are_counted_for_the_version_that_made_them() {
    let host = Host::with(&["chats"]);
    let session = chat(&host).join(Box::new(Ear::new("Ada")));
    catch_unwind(AssertUnwindSafe(|| block_on(session.explode("boom".into())))).unwrap_err();
    catch_unwind(AssertUnwindSafe(|| session.say("bad words"))).unwrap_err();
    let count = host.engine.func::<fn(u32, Option<u32>) -> LeasedStream<String>>("chats", "count");
    let mut numbers = count.unwrap().call(5, Some(1)).unwrap();
    catch_unwind(AssertUnwindSafe(|| block_on(numbers.next()))).unwrap_err();
    let failures = host.info("chats", 1).unwrap().failures;
    assert_eq!((failures.errors, failures.panics), (0, 3));
    let first = failures.first_failure.unwrap();
    assert_eq!(first.function, "Session::explode");
    assert!(first.message.ends_with(": boom"), "{first:?}");
}

/// A service that panics.
struct Broken;

impl Alpha for Broken {
    fn one(&self) -> u32 {
        panic!("out of order")
    }
}

#[test]
fn a_service_that_panics_fails_the_call_that_needs_it_and_no_other() {
    let host = Host::new(PluginDir::of(&["takes"]), |builder| {
        builder.provide::<dyn Alpha, _>("gives", Broken)
    });
    host.reload();
    let error = host.engine.invoke::<(u32, Option<u32>)>("takes", "taken", &[]).unwrap_err();
    assert!(error.message().contains("out of order"), "{error}");
    host.plugins.install("takes", 2);
    host.reload();
    host.wait_for("takes", 1, VersionState::Freed);
}

/// A stream that panics when it is polled, or when it is dropped.
struct Trap {
    is_polled: bool,
}

impl Stream for Trap {
    type Item = u64;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u64>> {
        if self.is_polled {
            panic!("polled");
        }
        Poll::Ready(None)
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        if !self.is_polled {
            panic!("dropped");
        }
    }
}

#[test]
fn a_stream_of_the_host_that_panics_fails_its_reader_or_nobody() {
    let host = Host::with(&["chats"]);
    let sum = host.engine.async_func::<fn(LeasedStream<u64>, u64) -> u64>("chats", "sum").unwrap();
    let polled = LeasedStream::new(Trap { is_polled: true }).unwrap();
    let error = block_on(sum.call(polled, 1)).unwrap_err();
    assert!(error.message().contains("polled"), "{error}");
    let dropped = LeasedStream::new(Trap { is_polled: false }).unwrap();
    assert_eq!(block_on(sum.call(dropped, 1)).unwrap(), 0);
    host.plugins.install("chats", 2);
    host.reload();
    host.wait_for("chats", 1, VersionState::Freed);
}

#[test]
fn a_future_and_a_stream_of_a_replaced_version_end_on_it() {
    let host = Host::with(&["chats"]);
    let session = chat(&host).join(Box::new(Ear::new("Ada")));
    let lines = session.lines(1);
    let sum = host.engine.async_func::<fn(LeasedStream<u64>, u64) -> u64>("chats", "sum").unwrap();
    let numbers = LeasedStream::new(futures::stream::iter(1..=3)).unwrap();
    let summed = sum.call(numbers, 100);
    host.plugins.install("chats", 2);
    host.reload();
    host.wait_for("chats", 1, VersionState::Retired);
    session.say("Late.");
    assert_eq!(block_on(lines), 1);
    assert_eq!(block_on(summed).unwrap(), 6);
    drop(session);
    host.wait_for("chats", 1, VersionState::Freed);
}

#[test]
fn a_migration_by_hand_that_panics_undoes_the_load() {
    let host = Host::with(&["carries"]);
    let score = || host.engine.invoke::<u64>("carries", "score", &[]).unwrap();
    while score() != 99 {}
    host.plugins.write("carries", &renamed("carries-by-hand", "carries"));
    assert_snapshot!(host.refused_reload(), @r"
    carries: on_init: `score`: the old value, a `carries::Score`, does not fit
      caused by: panicked at tests/fixtures/carries-by-hand/src/lib.rs:45:13: a panic in a migration
    ");
    assert_eq!(score(), 100);
}
