//! The functions of libc and of the unwinder that keep pointers unseen by the hooks.
//!
//! The list was made by going through everything that glibc 2.36 and libgcc export. It has the functions that
//! make them keep a pointer beyond the call, to code or to data that may lie in the image: nobody can tell
//! when such an image may be unmapped. The list leaves out:
//! - the functions that are hooked, or whose effects the hooks check (`hotswap_plugin`'s hooks);
//! - the functions whose pointers libc itself drops when it closes the image: `atexit`, `pthread_atfork`;
//! - the functions that keep a pointer only in an object of the caller, such as `regcomp`, `qsort_r`,
//!   `fts_open`;
//! - the functions with an effect that C asks its callers to end first, as for any object on the stack: an
//!   open `DIR`, a lock.

use hotswap_protocol::{KeepKind, KeepReason};

/// Functions with the same effect.
struct Way {
    names: &'static [&'static str],
    /// The effect of a call, as the end of a sentence.
    leaves: &'static str,
    /// What to do instead.
    instead: &'static str,
}

const WAYS: [Way; 9] = [
    Way {
        names: &["thrd_create", "clone", "__clone"],
        leaves: "starts a thread that the engine cannot see",
        instead: "start it with `std::thread` or `pthread_create`",
    },
    Way {
        names: &["tss_create"],
        leaves: "leaves destructors on threads that the engine cannot see",
        instead: "use `thread_local!` or `pthread_key_create`",
    },
    Way {
        names: &[
            "timer_create",
            "mq_notify",
            "getaddrinfo_a",
            "aio_read",
            "aio_read64",
            "aio_write",
            "aio_write64",
            "aio_fsync",
            "aio_fsync64",
            "lio_listio",
            "lio_listio64",
        ],
        leaves: "lets a thread of libc call into it, or write to it, later",
        instead: "wait on a thread or in a task of the plugin's own",
    },
    Way {
        names: &["on_exit", "at_quick_exit", "__cxa_at_quick_exit"],
        leaves: "has it called when the process ends",
        instead: "do in `on_free` what has to be done at the end",
    },
    Way {
        names: &["sigset", "sigvec", "sysv_signal", "__sysv_signal"],
        leaves: "sets signal handlers that the engine cannot see",
        instead: "set them with `sigaction`",
    },
    Way {
        names: &[
            "register_printf_function",
            "register_printf_specifier",
            "register_printf_modifier",
            "register_printf_type",
            "fopencookie",
            "svc_register",
            "registerrpc",
            "xprt_register",
            "mcheck",
            "mcheck_pedantic",
            "obstack_alloc_failed_handler",
            "error_print_progname",
            "argp_program_version_hook",
            "__malloc_hook",
            "__realloc_hook",
            "__free_hook",
            "__memalign_hook",
            "__malloc_initialize_hook",
            "__after_morecore_hook",
            "__morecore",
            "_IO_link_in",
        ],
        leaves: "registers one of its functions with libc for as long as the process lives",
        instead: "avoid it, or call it in the host",
    },
    Way {
        names: &[
            "openlog",
            "addseverity",
            "hsearch",
            "initstate",
            "setstate",
            "argp_program_version",
            "argp_program_bug_address",
        ],
        leaves: "gives libc a text or a table to keep, which may lie in it",
        instead: "avoid it, or call it in the host",
    },
    Way {
        names: &["fmemopen", "open_memstream", "open_wmemstream", "profil", "sprofil"],
        leaves: "gives libc memory to write to, which may lie in it",
        instead: "avoid it, or call it in the host",
    },
    Way {
        names: &[
            "__register_frame",
            "__register_frame_info",
            "__register_frame_info_bases",
            "__register_frame_table",
            "__register_frame_info_table",
            "__register_frame_info_table_bases",
        ],
        leaves: "gives the unwinder tables to keep, which may lie in it",
        instead: "avoid it",
    },
];

/// The position of a function in the list; `None` if it is not there. An image that uses several of them
/// reports the lowest position, so each version of a plugin gives the same reason.
pub fn number(name: &str) -> Option<usize> {
    all().position(|(known, _)| known == name)
}

/// Why an image that uses the function at position `number` is kept.
pub fn reason(number: usize) -> Option<KeepReason> {
    let (name, way) = all().nth(number)?;
    let why = format!("it uses `{name}`, which {}; {}", way.leaves, way.instead);
    Some(KeepReason::new(KeepKind::UnseenFunction, why).symbol(name))
}

fn all() -> impl Iterator<Item = (&'static str, &'static Way)> {
    WAYS.iter().flat_map(|way| way.names.iter().map(move |name| (*name, way)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unseen_function_is_listed_once_and_has_advice() {
        let mut names: Vec<_> = all().map(|(name, _)| name).collect();
        assert_eq!(number("thrd_create"), Some(0));
        let reason = reason(number("timer_create").unwrap()).unwrap();
        assert_eq!(reason.symbol.as_deref(), Some("timer_create"));
        assert!(reason.message.starts_with("it uses `timer_create`, which lets"), "{reason}");
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(number("pthread_create"), None);
    }

    #[test]
    fn nothing_is_both_hooked_and_unseen() {
        let hooked = hotswap_plugin::__private::hooks::NAMES;
        assert!(all().all(|(name, _)| !hooked.contains(&name)));
    }
}
