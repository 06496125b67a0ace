//! A process has one environment, but each image has a lock of its own for it, in its copy of `std`.

use std::{
    cell::RefCell,
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use hotswap_engine::{args, protocol::VersionState::Freed};

use crate::support::{Host, in_own_process};

/// Calls `again` repeatedly on another thread while `meanwhile` runs.
fn repeat_during(again: impl Fn() + Send + 'static, meanwhile: impl FnOnce()) {
    let ended = Arc::new(AtomicBool::new(false));
    let thread = {
        let ended = ended.clone();
        thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                again();
            }
        })
    };
    meanwhile();
    ended.store(true, Ordering::Relaxed);
    thread.join().unwrap();
}

#[test]
fn a_plugin_may_set_variables_while_its_host_reads_them() {
    let end = in_own_process(|| {
        let host = Host::with(&["variables"]);
        let read = || drop(env::vars_os().collect::<Vec<_>>());
        repeat_during(read, || host.engine.invoke("variables", "set", args![4000_u32]).unwrap());
        println!("{}", env::var("VARIABLES_3999").unwrap().len());
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
    assert!(end.output.contains("64"), "{}", end.output);
}

#[test]
fn a_plugin_may_read_variables_while_its_host_sets_them() {
    let end = in_own_process(|| {
        let host = Host::with(&["variables"]);
        let garbage = RefCell::new(Vec::new());
        let set = move || {
            let count = garbage.borrow().len() % 2000;
            // SAFETY: all code that reads the environment meanwhile holds the lock of `std`.
            unsafe { env::set_var(format!("OF_HOST_{count}"), "y") };
            // Other data takes the memory of the old list of variables.
            garbage.borrow_mut().push(vec![0x41_usize; env::vars_os().count()]);
            if count == 1999 {
                garbage.borrow_mut().clear();
                // SAFETY: as above.
                (0..2000).for_each(|count| unsafe { env::remove_var(format!("OF_HOST_{count}")) });
            }
        };
        repeat_during(set, || {
            // The search for a missing variable reads the whole list.
            let read = args!["VARIABLES", 50_000_u32];
            println!("{} found", host.engine.invoke::<u32>("variables", "read", read).unwrap());
        });
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
    assert!(end.output.contains("0 found"), "{}", end.output);
}

#[test]
fn a_result_of_getenv_stays_valid_as_long_as_the_image() {
    let end = in_own_process(|| {
        let host = Host::with(&["variables"]);
        // SAFETY: nobody else reads the environment meanwhile.
        unsafe { env::set_var("VARIABLES", "at first") };
        host.engine.invoke::<()>("variables", "keep", args!["VARIABLES"]).unwrap();
        for number in 0..1000 {
            // SAFETY: as above.
            unsafe { env::set_var("VARIABLES", format!("later {number}")) };
        }
        println!("{}", host.engine.invoke::<String>("variables", "kept", args![]).unwrap());
        host.plugins.install("variables", 2);
        host.reload();
        host.wait_for("variables", 1, Freed);
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
    assert!(end.output.contains("at first"), "{}", end.output);
}

#[test]
fn the_functions_of_c_do_what_libc_does() {
    let end = in_own_process(|| {
        let host = Host::with(&["variables"]);
        let call = |function: &str, text: &str| {
            host.engine.invoke::<i32>("variables", function, args![text]).unwrap()
        };
        assert_eq!(call("put", "VARIABLES=put=twice"), 0);
        assert_eq!(env::var("VARIABLES").as_deref(), Ok("put=twice"));
        assert_eq!(call("put", "VARIABLES"), 0);
        assert!(env::var_os("VARIABLES").is_none());
        for wrong in ["", "A=B"] {
            let refuses = host.engine.invoke::<bool>("variables", "refuses", args![wrong]).unwrap();
            assert!(refuses, "{wrong}");
        }
        assert_eq!(host.engine.invoke::<i32>("variables", "clear", args![]).unwrap(), 0);
        println!("{} left", env::vars_os().count());
    });
    assert!(end.status.success(), "{:?} {}", end.status, end.output);
    assert!(end.output.contains("0 left"), "{}", end.output);
    assert!(!end.output.contains("panicked"), "{}", end.output);
}
