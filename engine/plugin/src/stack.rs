//! Whether the running thread has stack left, for code that calls itself for each level of a value.

use std::{
    cell::Cell,
    ffi::{c_int, c_void},
    ops::Range,
    ptr::null_mut,
};

/// The stack in bytes that is left to code of a type (the hash of a key), and to a panic and its report.
const RESERVE: usize = 256 << 10;

/// The stack in bytes that a thread may use from the first question on, if the system does not say where its
/// stack lies.
const ASSUMED: usize = 256 << 10;

thread_local! {
    /// The addresses that the running thread leaves to others.
    static RESERVED: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

/// What is said about a value that needs more stack than there is.
pub(crate) const TOO_DEEP: &str =
    "the value is nested more deeply than the stack of this thread allows";

/// Whether the thread has stack left for one more level of a value. Without it, the stack would overflow, which ends
/// the process. On a stack that is not the thread's own, as that of a coroutine, the answer is always yes.
fn has_stack() -> bool {
    let local = 0_u8;
    let here = (&raw const local).addr();
    let (from, to) = RESERVED.get().unwrap_or_else(|| {
        let reserved = reserved(here);
        RESERVED.set(Some(reserved));
        reserved
    });
    !(from..to).contains(&here)
}

/// Refuses one more level of a value if the thread has no stack left for it, with the error that `to_error` makes of
/// the reason.
pub(crate) fn check_stack<E>(to_error: impl FnOnce(&'static str) -> E) -> Result<(), E> {
    if has_stack() { Ok(()) } else { Err(to_error(TOO_DEEP)) }
}

/// Panics if the thread has no stack left for one more level of a value.
#[doc(hidden)]
pub fn expect_stack() {
    assert!(has_stack(), "{TOO_DEEP}");
}

#[cold]
fn reserved(here: usize) -> (usize, usize) {
    match stack() {
        Some(stack) => (stack.start, stack.start + RESERVE.min(stack.len() / 2)),
        None => {
            let lowest = here.saturating_sub(ASSUMED);
            (lowest.saturating_sub(RESERVE), lowest)
        }
    }
}

/// The addresses of the running thread's stack; `None` if the system does not say where it lies, because `/proc`
/// is missing.
fn stack() -> Option<Range<usize>> {
    /// `pthread_attr_t`, which takes at most so much on all targets.
    #[repr(C, align(16))]
    struct Attributes([u64; 8]);

    unsafe extern "C" {
        safe fn pthread_self() -> usize;
        fn pthread_getattr_np(thread: usize, attributes: *mut Attributes) -> c_int;
        fn pthread_attr_getstack(
            attributes: *const Attributes,
            address: *mut *mut c_void,
            size: *mut usize,
        ) -> c_int;
        fn pthread_attr_destroy(attributes: *mut Attributes) -> c_int;
    }

    let (mut attributes, mut start, mut size) = (Attributes([0; 8]), null_mut(), 0);
    // SAFETY: the thread runs, and the attributes have room.
    if unsafe { pthread_getattr_np(pthread_self(), &raw mut attributes) } != 0 {
        return None;
    }
    // SAFETY: the attributes were set, and are destroyed once.
    let failed = unsafe {
        let failed = pthread_attr_getstack(&raw const attributes, &raw mut start, &raw mut size);
        pthread_attr_destroy(&raw mut attributes);
        failed
    };
    (failed == 0).then(|| start.addr()..start.addr().saturating_add(size))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Calls itself so often.
    fn descend(levels: usize) -> usize {
        let used = [levels; 64];
        expect_stack();
        let below = if levels == 0 { 0 } else { descend(levels - 1) };
        std::hint::black_box(below + used[0])
    }

    #[test]
    fn a_thread_panics_before_its_stack_overflows() {
        for size in [64 << 10, 512 << 10, 8 << 20] {
            let thread =
                thread::Builder::new().stack_size(size).spawn(|| descend(1_000_000)).unwrap();
            let panic = thread.join().unwrap_err();
            assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some(TOO_DEEP));
        }
    }

    #[test]
    fn the_stack_of_a_thread_contains_its_variables() {
        let local = 0_u8;
        assert!(stack().unwrap().contains(&(&raw const local).addr()));
    }
}
