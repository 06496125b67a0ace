//! Futures that cross between images: polled through a shim that catches panics.

use std::{
    pin::Pin,
    ptr::NonNull,
    task::{Context, Poll, Waker},
};

use crate::{Value, abi::Outcome, function::CallFuture, image::catch};

/// A future of one image that another one polls.
///
/// The waker that is handed in is the poller's: cloning and dropping it runs the poller's code.
#[repr(C)]
pub struct RawFuture {
    /// The future, on the heap.
    pub data: NonNull<()>,
    /// Its image's shims.
    pub table: *const FutureTable,
}

/// The shims of a future's image.
#[repr(C)]
pub struct FutureTable {
    /// Polls once.
    pub poll: unsafe extern "C" fn(NonNull<()>, waker: &Waker) -> Progress,
    /// Drops the future.
    pub drop: unsafe extern "C" fn(NonNull<()>) -> Outcome<()>,
}

/// What came of polling.
#[repr(C)]
pub enum Progress {
    /// Nothing yet.
    Pending,
    /// It ended; it is not polled again.
    Ready(Outcome<Value>),
}

impl RawFuture {
    /// Moves a future to the heap and pairs it with its shims.
    pub fn new(future: CallFuture) -> Self {
        let data = NonNull::from(Box::leak(Box::new(future))).cast();
        Self { data, table: &raw const TABLE }
    }
}

static TABLE: FutureTable = FutureTable { poll, drop: drop_future };

unsafe extern "C" fn poll(future: NonNull<()>, waker: &Waker) -> Progress {
    // SAFETY: the poller has the only reference, and drops the future after its last poll.
    let future = unsafe { future.cast::<CallFuture>().as_mut() };
    let mut is_pending = false;
    let outcome = catch(|| match Pin::new(future).poll(&mut Context::from_waker(waker)) {
        Poll::Pending => {
            is_pending = true;
            Outcome::Ok(Value::Null)
        }
        Poll::Ready(result) => Outcome::from_result(result),
    });
    if is_pending { Progress::Pending } else { Progress::Ready(outcome) }
}

unsafe extern "C" fn drop_future(future: NonNull<()>) -> Outcome<()> {
    // SAFETY: the future was leaked from a box, and is dropped once.
    let future = unsafe { Box::from_raw(future.cast::<CallFuture>().as_ptr()) };
    catch(|| {
        drop(future);
        Outcome::Ok(())
    })
}
