//! 7: a plugin's waker that panics takes the host down.

use std::{thread, time::Duration};

use hotswap_engine::args;

use crate::support::{Host, PluginDir, in_own_process};

#[test]
fn a_waker_that_panics_does_not_end_the_host() {
    let end = in_own_process(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap();
        let handle = runtime.handle().clone();
        let host = Host::new(PluginDir::of(&["bad-waker"]), |builder| builder.tokio(handle));
        host.reload();
        host.engine.invoke::<()>("bad-waker", "arm", args![]).unwrap();
        thread::sleep(Duration::from_millis(300));
        println!("alive");
        std::process::exit(0);
    });
    assert!(end.output.contains("alive"), "{:?} {}", end.status, end.output);
}

/// The other way: a waker of the host's that panics, called on a plugin's thread.
#[test]
fn a_waker_of_the_hosts_that_panics_is_no_end_either() {
    use std::{
        future::Future,
        pin::pin,
        sync::Arc,
        task::{Context, Wake, Waker},
    };

    use crate::support::Gate;

    struct Bad;

    impl Wake for Bad {
        fn wake(self: Arc<Self>) {
            panic!("in a waker of the host's")
        }
    }

    let end = in_own_process(|| {
        let host = Host::with(&["waits"]);
        let gate = Gate::new();
        let waits = host.engine.plugin("waits").unwrap();
        let args = [gate.path().into()];
        let mut call = pin!(waits.invoke_async::<u32>("later", &args));
        let waker = Waker::from(Arc::new(Bad));
        assert!(call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        gate.arrival().release();
        thread::sleep(Duration::from_millis(300));
        println!("alive");
        std::process::exit(0);
    });
    assert!(end.output.contains("alive"), "{:?} {}", end.status, end.output);
}
