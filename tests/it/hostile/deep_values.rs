//! A value that is nested more deeply than the stack allows is an error, and does not end the process.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hostile_api::{Chain, Chains};
use hotswap_engine::{Leased, protocol::VersionState::Freed};

use crate::support::{Host, in_own_process};

/// Far more than any stack allows.
const MANY: usize = 1_000_000;

fn chains(host: &Host) -> Leased<dyn Chains> {
    host.engine.current().registered::<dyn Chains>().unwrap().remove(0).object
}

fn panic_text<T>(call: impl FnOnce() -> T) -> String {
    let Err(panic) = catch_unwind(AssertUnwindSafe(call)) else { panic!("it did not panic") };
    panic.downcast_ref::<String>().cloned().expect("a text")
}

#[test]
fn a_value_that_is_nested_too_deeply_is_an_error() {
    let end = in_own_process(|| {
        const REFUSED: &str =
            "the value is nested more deeply than the stack of this thread allows";
        let host = Host::with(&["chains"]);
        let chains = chains(&host);
        let mut short = chains.chain(500);
        assert_eq!(chains.links(Chain::of(500)), 500);
        chains.list(500).first();
        for _ in 0..2 {
            for refused in [
                panic_text(|| chains.chain(MANY)),
                panic_text(|| chains.links(Chain::of(MANY))),
                panic_text(|| chains.list(MANY)),
            ] {
                assert!(refused.contains(REFUSED), "{refused}");
            }
        }

        // Kept by its owner, it may have any depth.
        chains.keep("chain", MANY).unwrap();
        let vault = host.engine.vault();
        assert_eq!(vault.data_bag().read("chain", Chain::links).unwrap(), Some(MANY));
        assert_eq!(host.engine.vault_snapshot().data_bag.len(), 1);
        let refused = vault.data_bag().modify("chain", Chain::use_maps).unwrap_err();
        assert!(format!("{refused:?}").contains(REFUSED), "{refused:?}");

        drop(chains);
        host.plugins.install("chains", 2);
        host.reload();
        host.wait_for("chains", 1, Freed);
        short.use_maps();
        println!("the host continues");
    });
    assert!(end.output.contains("the host continues"), "{:?} {}", end.status, end.output);
}
