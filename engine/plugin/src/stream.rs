//! Streams that cross between images: one image produces values, and the other takes them at its own pace.

use std::{
    any::type_name,
    borrow::Cow,
    fmt,
    marker::PhantomData,
    mem::MaybeUninit,
    pin::Pin,
    ptr::NonNull,
    task::{Context, Poll},
};

use futures_core::Stream;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::{
    InterfaceShape, Result, SchemaBuilder, Shape, Shared,
    abi::Answer,
    future::CaughtWaker,
    image::{catch, catch_in_object, log_panic},
    interface::raw::{Lease, ObjectTable, RawObject, lease},
};

/// A stream of values from another image, with a lease that keeps that image mapped.
///
/// It is a [`Stream`]: a value is produced only when the stream is polled, so the receiver sets the pace. It
/// crosses as an argument or a result of a function with Rust types, and of a method of an interface.
///
/// ```
/// use std::{
///     pin::Pin,
///     task::{Context, Poll},
/// };
///
/// use futures_core::Stream;
/// use hotswap_plugin::{LeasedStream, prelude::*};
///
/// struct Countdown(u32);
///
/// impl Stream for Countdown {
///     type Item = u32;
///
///     fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u32>> {
///         let next = self.0.checked_sub(1);
///         self.0 = next.unwrap_or(0);
///         Poll::Ready(next)
///     }
/// }
///
/// /// Counts down.
/// #[invoke]
/// fn countdown(from: u32) -> Result<LeasedStream<u32>> {
///     LeasedStream::new(Countdown(from))
/// }
/// # fn main() {}
/// ```
///
/// If the other image's stream panics, so does the poll, with the same message, and the stream has ended.
pub struct LeasedStream<T> {
    // The lease owns the stream: the engine drops the stream with it, and unmaps its image after that.
    stream: NonNull<()>,
    table: &'static ObjectTable,
    /// `None` once it has ended.
    lease: Option<Lease>,
    waker: Option<CaughtWaker>,
    items: PhantomData<fn() -> T>,
}

// SAFETY: the stream is `Send`, as `new` asks, and it is only polled through `&mut`.
unsafe impl<T> Send for LeasedStream<T> {}
// SAFETY: nothing can be done with a `&`.
unsafe impl<T> Sync for LeasedStream<T> {}

impl<T: Shared> LeasedStream<T> {
    /// Makes a stream of this image that others can poll.
    ///
    /// It keeps the plugin's version in use until it has ended, or is dropped.
    ///
    /// # Errors
    /// If the plugin's version is ending (`on_free` has begun), and so must not give out anything any more.
    pub fn new<S: Stream<Item = T> + Send + 'static>(stream: S) -> Result<Self> {
        let stream = NonNull::from(Box::leak(Box::new(stream))).cast();
        let table = Shims::<S>::TABLE;
        let lease = lease(RawObject { data: stream, table }, &name::<T>())?;
        Ok(Self { stream, table, lease: Some(lease), waker: None, items: PhantomData })
    }
}

/// The name of a stream in the list of what keeps its version in use.
fn name<T>() -> String {
    format!("Stream<{}>", type_name::<T>())
}

/// The shims of a stream `S`.
struct Shims<S>(PhantomData<S>);

impl<S: Stream + Send + 'static> Shims<S> {
    const TABLE: &'static ObjectTable =
        &ObjectTable { drop: drop_stream::<S>, shape: shape::<S>, methods: &[poll_next::<S>] };
}

unsafe extern "C" fn drop_stream<S>(stream: NonNull<()>) -> Answer<()> {
    // SAFETY: the stream was leaked from a `Box`, and is dropped once.
    let stream = unsafe { Box::from_raw(stream.cast::<S>().as_ptr()) };
    catch(|| {
        drop(stream);
        Answer::Ok(())
    })
}

extern "C" fn shape<S: Stream>() -> Answer<InterfaceShape> {
    catch(|| Answer::Ok(InterfaceShape { name: name::<S::Item>(), methods: Vec::new() }))
}

/// Polls once. `args` is a reference to the waker, and `out` has room for an `Answer<Next<T>>`.
unsafe extern "C" fn poll_next<S: Stream>(stream: NonNull<()>, args: *mut (), out: *mut ()) {
    // SAFETY: the poller has the only handle, and the stream stays where it is on the heap.
    let stream = unsafe { Pin::new_unchecked(stream.cast::<S>().as_mut()) };
    // SAFETY: the handle passes a waker that lives through the call.
    let waker = unsafe { &**args.cast::<*const CaughtWaker>() };
    let answer = catch_in_object(name::<S::Item>, || {
        Answer::Ok(match stream.poll_next(&mut Context::from_waker(waker.waker())) {
            Poll::Pending => Next::Pending,
            Poll::Ready(item) => Next::Ready(item),
        })
    });
    // SAFETY: as above.
    unsafe { out.cast::<Answer<Next<S::Item>>>().write(answer) };
}

/// The result of a poll.
#[repr(C)]
enum Next<T> {
    Pending,
    /// The next item; `None` at the end.
    Ready(Option<T>),
}

impl<T: Shared> Stream for LeasedStream<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let this = &mut *self;
        if this.lease.is_none() {
            return Poll::Ready(None);
        }
        let report = |panic: &_| log_panic("a waker", panic);
        let mut waker = &raw const *CaughtWaker::renew(&mut this.waker, context.waker(), report);
        let mut out = MaybeUninit::<Answer<Next<T>>>::uninit();
        // SAFETY: the lease keeps the stream and its image; its items are `T`, as both sides have agreed.
        let answer = unsafe {
            (this.table.methods[0])(this.stream, (&raw mut waker).cast(), out.as_mut_ptr().cast());
            out.assume_init()
        };
        let item = match answer {
            Answer::Ok(Next::Pending) => return Poll::Pending,
            Answer::Ok(Next::Ready(item)) => item,
            Answer::Err(error) => this.end_with(format_args!("{error:?}")),
            Answer::Panic(report) => this.end_with(format_args!("{report}")),
        };
        match item {
            Some(mut item) => {
                item.rehome();
                Poll::Ready(Some(item))
            }
            None => {
                this.end();
                Poll::Ready(None)
            }
        }
    }
}

impl<T> LeasedStream<T> {
    /// Ends the stream: it is not polled again, and no longer keeps its version in use.
    fn end(&mut self) {
        (self.waker, self.lease) = (None, None);
    }

    fn end_with(&mut self, panic: fmt::Arguments<'_>) -> ! {
        self.end();
        panic!("{panic}")
    }
}

impl<T> fmt::Debug for LeasedStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeasedStream({})", name::<T>())
    }
}

// SAFETY: a stream is polled through its own image's shims, and its lease keeps it and that image. The schema
// has the type of its items.
unsafe impl<T: Shared> Shared for LeasedStream<T> {
    fn describe(schema: &mut SchemaBuilder) -> usize {
        schema.add::<Self>(|schema| Shape::Generic(vec![schema.part::<T>()]))
    }

    /// Drops the waker of the image that polled it last.
    fn rehome(&mut self) {
        self.waker = None;
    }
}

impl<T: Shared> Serialize for LeasedStream<T> {
    /// Always returns an error.
    fn serialize<S: Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
        Err(ser::Error::custom(no_json::<T>()))
    }
}

impl<'de, T: Shared> Deserialize<'de> for LeasedStream<T> {
    /// Always returns an error.
    fn deserialize<D: Deserializer<'de>>(_: D) -> std::result::Result<Self, D::Error> {
        Err(de::Error::custom(no_json::<T>()))
    }
}

impl<T: Shared> JsonSchema for LeasedStream<T> {
    fn schema_name() -> Cow<'static, str> {
        name::<T>().into()
    }

    /// A schema that no value matches.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": no_json::<T>(), "not": {} })
    }
}

fn no_json<T>() -> String {
    let name = name::<T>();
    format!("a `{name}` crosses only where it is called with Rust types, and not as JSON")
}
