//! Objects that cross: sessions that a plugin gives away, and listeners of the host that it calls back.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use chat_api::{Chat as _, Listener, Session};
use futures::{StreamExt as _, executor::block_on, stream};
use hotswap_engine::{Leased, args, plugin::LeasedStream, protocol::VersionState};
use insta::assert_snapshot;

use crate::support::{Ear, Host, chat, held_by, renamed};

type Join = fn(Leased<dyn Listener>) -> Leased<dyn Session>;

/// Listens without a name.
struct Anonymous;

impl Listener for Anonymous {
    fn hear(&self, _: String) {}
}

#[test]
fn objects_cross_as_arguments_and_as_results_in_both_directions() {
    let host = Host::with(&["chats"]);
    let join = host.engine.func::<Join>("chats", "join").unwrap();
    let ada = Ear::new("Ada");
    let session = join.call(Leased::new(ada.another()).unwrap()).unwrap();
    let by_export = chat(&host).join(Box::new(Anonymous));
    assert_eq!((session.say("Good day."), by_export.say("Hm.")), (2, 2));
    assert_eq!(
        ada.heard(),
        "Ada: Good day., nobody: Hm.",
        "a default method calls the methods of the object"
    );

    // References to objects, generic helpers, and handles that plugins pass on.
    let greet = host.engine.func::<fn(Leased<dyn Listener>) -> String>("chats", "greet").unwrap();
    assert_eq!(chat(&host).greet(&Anonymous), "greeted nobody");
    assert_eq!(greet.call(Leased::new(ada.another()).unwrap()).unwrap(), "greeted Ada");
    assert_eq!(session.tell(format_args!("{} words", 2)), 2);
    let say_for = host.engine.func::<fn(Leased<dyn Session>, String) -> usize>("chats", "say_for");
    assert_eq!(say_for.unwrap().call(session.again(), "Yes".into()).unwrap(), 2);
    assert!(ada.heard().ends_with("Ada: 2 words, Ada: Yes!"), "{}", ada.heard());

    let listening = || host.engine.invoke::<usize>("chats", "listening", &[]).unwrap();
    assert_eq!(listening(), 2);
    drop(by_export);
    assert_eq!(listening(), 1, "the plugin that made the session dropped it");
    drop(session);
    assert_eq!(
        (listening(), ada.alive()),
        (0, 1),
        "the listener is dropped together with the session"
    );
}

#[test]
fn an_object_keeps_its_version_until_its_last_handle_is_gone() {
    let host = Host::with(&["chats"]);
    let session = chat(&host).join(Box::new(Anonymous));
    let again = session.again();
    host.plugins.install("chats", 2);
    host.reload();
    let old = host.wait_for("chats", 1, VersionState::Retired);
    assert!(
        held_by(&old.holders, &["value `object` of `chat_api::Session`"; 2]),
        "{:?}",
        old.holders
    );
    drop(session);
    assert_eq!(again.say("Still here."), 1);
    let joined = thread::spawn(move || drop(again)).join();
    joined.unwrap();
    host.wait_for("chats", 1, VersionState::Freed);
}

#[test]
fn an_async_method_is_awaited_and_cancelled_by_dropping_it() {
    let host = Host::with(&["chats"]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let (first, second) = runtime.block_on(async {
        let first = chat(&host).join_later(Box::new(Anonymous)).await;
        let second: Arc<dyn Session> =
            chat(&host).join_later(Box::new(Ear::new("Ada"))).await.into();
        (first, second)
    });
    let waiting = runtime.spawn({
        let second = second.clone();
        async move { second.lines(2).await }
    });
    first.say("One.");
    first.say("Two.");
    assert_eq!(runtime.block_on(waiting).unwrap(), 2);

    let panicked = runtime.spawn({
        let second = second.clone();
        async move { second.explode("boom".into()).await }
    });
    assert!(runtime.block_on(panicked).unwrap_err().is_panic());

    let never = runtime.spawn({
        let second = second.clone();
        async move { second.lines(1000).await }
    });
    drop((first, second));
    host.plugins.install("chats", 2);
    host.reload();
    host.wait_for("chats", 1, VersionState::Retired);
    never.abort();
    assert!(runtime.block_on(never).unwrap_err().is_cancelled());
    drop(runtime);
    host.wait_for("chats", 1, VersionState::Freed);
}

#[test]
fn an_object_in_the_data_bag_keeps_working_and_has_no_json() {
    let host = Host::with(&["chats"]);
    let keep = host.engine.func::<fn(Leased<dyn Session>) -> ()>("chats", "keep").unwrap();
    keep.call(Leased::<dyn Session>::new(chat(&host).join(Box::new(Anonymous))).unwrap()).unwrap();
    let vault = host.engine.vault();
    let said = vault.data_bag().read("session", |session: &Leased<dyn Session>| session.say("Hi."));
    assert_eq!(said.unwrap(), Some(1));
    assert_eq!(
        host.engine.vault_snapshot().data_bag[0].value,
        None,
        "an object has no JSON to show"
    );
}

#[test]
fn a_function_that_takes_an_object_cannot_be_called_by_name() {
    let host = Host::with(&["chats"]);
    let error = host.engine.invoke::<()>("chats", "join", args!["me"]).unwrap_err();
    assert_snapshot!(error, @"chats v1: join: argument 1 (`listener`): an object of `chat_api::Listener` crosses only where it is called with Rust types, and not as JSON");
    let functions = host.engine.snapshot().plugins.remove(0).functions;
    let join = functions.iter().find(|function| function.name == "join").unwrap();
    assert_snapshot!(join.signature, @"(listener: Leased<dyn Listener>) -> Leased<dyn Session>");
}

#[test]
fn an_interface_is_compared_where_its_objects_cross() {
    let host = Host::with(&["chats", "shapes"]);
    let error = host.engine.func::<fn(Leased<dyn Session>) -> Leased<dyn Session>>("chats", "join");
    assert_snapshot!(error.unwrap_err(), @"chats v1: join: its signature is `(listener: Leased<dyn Listener>) -> Leased<dyn Session>`, but `fn(hotswap_plugin::interface::Leased<dyn chat_api::Session>) -> hotswap_plugin::interface::Leased<dyn chat_api::Session>` is expected: found `(hotswap_plugin::interface::Leased<dyn chat_api::Listener>,)`, expected `(hotswap_plugin::interface::Leased<dyn chat_api::Session>,)`");
    let _join = host.engine.func::<Join>("chats", "join").unwrap();
    host.plugins.write("chats", &renamed("by-hand", "chats"));
    assert_snapshot!(host.refused_reload(), @"chats: host_expects: the host calls `join` as `fn(Leased<dyn chat_api::Listener>) -> Leased<dyn chat_api::Session>`: there is no such function, and no other; rebuild and restart the host, or undo the change");
}

#[test]
fn a_stream_of_a_plugin_produces_values_only_when_it_is_read() {
    type Count = fn(u32, Option<u32>) -> LeasedStream<String>;
    let host = Host::with(&["chats"]);
    let count = host.engine.func::<Count>("chats", "count").unwrap();
    let counted = || host.engine.invoke::<u32>("chats", "counted", &[]).unwrap();
    let mut numbers = count.call(1000, None).unwrap();
    assert_eq!(counted(), 0, "a stream makes no item before it is polled");
    let first: Vec<String> = block_on(numbers.by_ref().take(3).collect());
    assert_eq!((first.join(" ").as_str(), counted()), ("1 2 3", 3));
    let all: Vec<String> = block_on(count.call(2, None).unwrap().collect());
    assert_eq!(all, ["1", "2"]);

    host.plugins.install("chats", 2);
    host.reload();
    let old = host.wait_for("chats", 1, VersionState::Retired);
    let held = ["value `object` of `Stream<alloc::string::String>`"];
    assert!(held_by(&old.holders, &held), "{:?}", old.holders);
    assert_eq!(block_on(numbers.next()).as_deref(), Some("4"));
    drop(numbers);
    host.wait_for("chats", 1, VersionState::Freed);

    // A stream that has ended or panicked no longer holds its version.
    let mut ends = count.call(0, None).unwrap();
    let mut panics = count.call(5, Some(1)).unwrap();
    assert_eq!(block_on(ends.next()), None);
    let panicked = catch_unwind(AssertUnwindSafe(|| block_on(panics.next()))).unwrap_err();
    assert!(panicked.downcast::<String>().unwrap().contains("the stream panics"));
    assert_eq!((block_on(ends.next()), block_on(panics.next())), (None, None));
    host.plugins.install("chats", 3);
    host.reload();
    host.wait_for("chats", 2, VersionState::Freed);
}

#[test]
fn a_stream_of_the_host_is_read_by_a_plugin() {
    let host = Host::with(&["chats"]);
    let sum = host.engine.async_func::<fn(LeasedStream<u64>, u64) -> u64>("chats", "sum").unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let numbers = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|number| (number, receiver))
    });
    let summed = runtime.spawn(sum.call(LeasedStream::new(numbers).unwrap(), 10));
    let sent = runtime.block_on(async {
        let mut sent = 0_u64;
        while sender.send(sent).await.is_ok() {
            sent += 1;
        }
        sent
    });
    assert_eq!(runtime.block_on(summed).unwrap().unwrap(), 10);
    assert!(sent < 10, "only the items that the reader wants are taken: {sent}");
    let finite = LeasedStream::new(stream::iter(1..=3)).unwrap();
    assert_eq!(runtime.block_on(sum.call(finite, 1000)).unwrap(), 6);
}
