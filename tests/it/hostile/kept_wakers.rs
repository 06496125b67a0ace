//! A waker is kept longer than its task lives, for example by the sender of a channel or by a list of waiters.
//! Waking it then has no effect.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, mpsc::channel},
    task::{Context, Poll, Waker},
};

use futures::Stream;
use hotswap_engine::{Leased, plugin::LeasedStream, protocol::VersionState::Freed};

use chat_api::{Chat as _, Session};

use crate::support::{Ear, Host, chat, in_own_process};

/// A stream whose sender keeps all wakers.
struct Never(Arc<Mutex<Vec<Waker>>>);

impl Stream for Never {
    type Item = u64;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<u64>> {
        self.0.lock().unwrap().push(context.waker().clone());
        Poll::Pending
    }
}

fn replace_polls(host: &Host) {
    host.plugins.install("polls", 2);
    host.reload();
    host.wait_for("polls", 1, Freed);
}

#[test]
fn a_waker_that_a_stream_of_the_host_has_kept_wakes_nobody_once_its_version_is_freed() {
    let end = in_own_process(|| {
        let host = Host::with(&["polls"]);
        let wakers = Arc::<Mutex<Vec<Waker>>>::default();
        for function in ["drop_polled", "keep_polled", "leak_polled", "carry_polled"] {
            let poll = host.engine.func::<fn(LeasedStream<u64>) -> ()>("polls", function).unwrap();
            poll.call(LeasedStream::new(Never(wakers.clone())).unwrap()).unwrap();
        }
        wakers.lock().unwrap().iter().for_each(Waker::wake_by_ref);
        replace_polls(&host);
        host.engine.invoke::<()>("polls", "poll_carried", &[]).unwrap();
        let wakers = std::mem::take(&mut *wakers.lock().unwrap());
        assert_eq!(wakers.len(), 5);
        wakers.iter().for_each(Waker::wake_by_ref);
        drop(wakers.clone());
        wakers.into_iter().for_each(Waker::wake);
        println!("the host continues");
    });
    assert!(end.output.contains("the host continues"), "{:?} {}", end.status, end.output);
}

#[test]
fn a_waker_that_another_plugin_has_kept_wakes_nobody_once_its_version_is_freed() {
    let end = in_own_process(|| {
        let host = Host::with(&["chats", "polls"]);
        let session = chat(&host).join(Box::new(Ear::new("Ada")));
        let poll =
            host.engine.func::<fn(Leased<dyn Session>) -> ()>("polls", "poll_lines").unwrap();
        poll.call(session.again()).unwrap();
        replace_polls(&host);
        assert_eq!(session.say("Is anybody still waiting?"), 1);
        println!("the host continues");
    });
    assert!(end.output.contains("the host continues"), "{:?} {}", end.status, end.output);
}

#[test]
fn a_thread_of_a_plugin_that_waits_for_the_host_is_woken() {
    let host = Host::with(&["polls"]);
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<u64>(1);
    let (waits, is_waiting) = channel();
    let numbers = futures::stream::poll_fn(move |context| {
        let polled = receiver.poll_recv(context);
        if polled.is_pending() {
            let _ = waits.send(());
        }
        polled
    });
    let add_up = host.engine.func::<fn(LeasedStream<u64>) -> u64>("polls", "add_up").unwrap();
    let numbers = LeasedStream::new(numbers).unwrap();
    let adding = std::thread::spawn(move || add_up.call(numbers).unwrap());
    for number in 1..=3 {
        is_waiting.recv().unwrap();
        sender.blocking_send(number).unwrap();
    }
    is_waiting.recv().unwrap();
    drop(sender);
    assert_eq!(adding.join().unwrap(), 6);
    replace_polls(&host);
}
