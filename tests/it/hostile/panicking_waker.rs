//! A waker is called by another image without a shim, through its own functions. If it panics when it is woken,
//! cloned or dropped, the panic ends on its own side.

use std::{
    future::Future,
    panic::catch_unwind,
    pin::pin,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    task::{Context, Wake, Waker},
};

use hotswap_engine::{args, protocol::VersionState::Freed};

use crate::support::{Gate, Host, PluginDir, in_own_process};

/// A runtime with one worker, on which wakes also run, so a spawned task runs after them.
fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_time().build().unwrap()
}

fn host_with_wakers(runtime: &tokio::runtime::Runtime) -> Host {
    tracing_subscriber::fmt().with_ansi(false).init();
    let handle = runtime.handle().clone();
    let host = Host::new(PluginDir::of(&["bad-waker"]), |builder| builder.tokio(handle));
    host.reload();
    host
}

#[test]
fn a_plugins_waker_that_panics_when_it_is_woken_is_logged() {
    let end = in_own_process(|| {
        let (runtime, gate) = (runtime(), Gate::new());
        let host = host_with_wakers(&runtime);
        host.engine.invoke::<()>("bad-waker", "arm", args!["wake", gate.path()]).unwrap();
        gate.arrival();
        runtime.block_on(runtime.spawn(async {})).unwrap();
        host.engine.invoke::<()>("bad-waker", "disarm", args![]).unwrap();
        println!("the host continues");
    });
    assert!(end.output.contains("the host continues"), "{:?} {}", end.status, end.output);
    let logged = "a waker of the plugin panicked at ";
    assert!(end.output.contains(logged) && end.output.contains("in a waker"), "{}", end.output);
}

#[test]
fn a_plugins_waker_that_panics_when_it_is_dropped_is_logged() {
    let end = in_own_process(|| {
        let (runtime, gate) = (runtime(), Gate::new());
        let host = host_with_wakers(&runtime);
        host.engine.invoke::<()>("bad-waker", "arm", args!["drop", gate.path()]).unwrap();
        host.engine.invoke::<()>("bad-waker", "disarm", args![]).unwrap();
        gate.arrival();
        println!("the host continues");
    });
    assert!(end.output.contains("the host continues"), "{:?} {}", end.status, end.output);
    assert!(end.output.contains("in the drop of a waker"), "{}", end.output);
}

#[test]
fn a_plugins_waker_that_panics_when_it_is_cloned_fails_the_call() {
    let end = in_own_process(|| {
        let runtime = runtime();
        let host = host_with_wakers(&runtime);
        let error = host.engine.invoke::<()>("bad-waker", "arm", args!["clone", ""]);
        println!("{}", error.unwrap_err());
    });
    assert!(end.output.contains(": in the clone of a waker"), "{:?} {}", end.status, end.output);
}

/// A waker of the host that reports each use and then panics.
struct Bad(Sender<&'static str>);

impl Wake for Bad {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send("woken");
        panic!("in a waker of the host");
    }
}

impl Drop for Bad {
    fn drop(&mut self) {
        let _ = self.0.send("dropped");
        if !std::thread::panicking() {
            panic!("in the drop of a waker of the host");
        }
    }
}

/// The waker is called on a thread of a plugin.
#[test]
fn a_hosts_waker_that_panics_does_not_end_the_plugins_thread() {
    let end = in_own_process(|| {
        let host = Host::with(&["waits"]);
        let gate = Gate::new();
        let (tell, reported) = channel();
        {
            let waits = host.engine.plugin("waits").unwrap();
            let args = [gate.path().into()];
            let mut call = pin!(waits.invoke_async::<u32>("later", &args));
            let waker = Waker::from(Arc::new(Bad(tell)));
            assert!(call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            gate.arrival().release();
            assert_eq!(reported.recv().unwrap(), "woken");
            // All clones but the call's own are dropped.
            assert!(catch_unwind(std::panic::AssertUnwindSafe(|| drop(waker))).is_ok());
        }
        assert_eq!(reported.recv().unwrap(), "dropped");
        host.plugins.remove("waits");
        host.reload();
        host.wait_for("waits", 1, Freed);
        println!("the host continues");
    });
    assert!(end.output.contains("the host continues"), "{:?} {}", end.status, end.output);
}
