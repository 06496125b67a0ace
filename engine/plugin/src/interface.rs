//! Trait objects that cross between images. Both sides call through shims, and each object comes with a
//! lease that keeps its image mapped.

use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hash, Hasher},
    marker::PhantomData,
    ptr::NonNull,
    sync::Arc,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::{ObjectMethod, Result, SchemaBuilder, Shape, Shared, TypeSchema};
use raw::{Lease, ObjectTable, RawObject};

/// A trait with [`#[interface]`](macro@crate::interface), as the type `dyn Trait`. The attribute
/// implements this.
///
/// ```
/// use hotswap_plugin::{Interface, interface};
///
/// #[interface]
/// trait Cat {
///     fn meow(&self, times: u32) -> String;
/// }
///
/// let shape = <dyn Cat as Interface>::shape();
/// assert_eq!(shape.methods[0].name, "meow");
/// assert_eq!(shape.methods[0].signature, "(times: u32) -> String");
/// ```
///
/// # Safety
/// The shape describes the trait's methods as [`Leased`] calls them. Two images with equal shapes call
/// each other's objects.
pub unsafe trait Interface: 'static {
    /// The name and the methods of the trait. Two images must agree on them.
    fn shape() -> InterfaceShape;

    /// Adds the types of the methods to a schema.
    #[doc(hidden)]
    fn describe_methods(schema: &mut SchemaBuilder) -> Vec<ObjectMethod>;
}

/// The shims through which another image calls a `T` as an object of this interface. `#[interface]`
/// implements this for every `T` that implements the trait.
///
/// # Safety
/// The functions of the table take a `T`, and its methods are those of the shape, in the same order.
pub unsafe trait ObjectOf<T>: Interface {
    /// The shims of a `T`.
    const TABLE: &'static ObjectTable;
}

/// A type that a method of an interface can take by reference: a [`Shared`] type, `str`, or a slice of
/// `Shared` elements.
///
/// # Safety
/// The schema describes the layout of the type, and a value of the type borrows nothing.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`&{Self}` cannot be lent to another image",
    label = "not `Shared`",
    note = "a method can borrow `str` and `Shared` types: numbers, `String`, std's containers, and types \
            with `#[derive(Shared)]`"
)]
pub unsafe trait Lent: 'static {
    /// Adds the type to a schema, and returns its index there.
    fn describe_lent(schema: &mut SchemaBuilder) -> usize;

    /// The schema of the type.
    fn schema() -> TypeSchema {
        TypeSchema::of_lent::<Self>()
    }
}

// SAFETY: the schema is the type's own; a type that is `Shared` borrows nothing.
unsafe impl<T: Shared> Lent for T {
    fn describe_lent(schema: &mut SchemaBuilder) -> usize {
        T::describe(schema)
    }
}

// SAFETY: a `str` is only bytes. Its own schema differs from that of `String`, whose reference has
// another layout.
unsafe impl Lent for str {
    fn describe_lent(schema: &mut SchemaBuilder) -> usize {
        schema.add::<&'static str>(|_| Shape::Scalar)
    }
}

// SAFETY: a slice is only its elements, which borrow nothing.
unsafe impl<T: Shared> Lent for [T] {
    fn describe_lent(schema: &mut SchemaBuilder) -> usize {
        schema.add::<&'static [T]>(|schema| Shape::Generic(vec![T::describe(schema)]))
    }
}

/// The name and the methods of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InterfaceShape {
    /// The trait's path.
    pub name: String,
    /// The methods, in the order of the source.
    pub methods: Vec<MethodShape>,
}

/// A method of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MethodShape {
    /// The method's name.
    pub name: String,
    /// Its parameters and its result as written: `(times: u32) -> String`.
    pub signature: String,
    /// The types of its parameters and, last, of its result.
    pub types: Vec<TypeSchema>,
}

impl InterfaceShape {
    /// A hash of the shape.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// The first difference between this shape, which was found, and the expected one, as text. `None` only
    /// if the two are equal: then objects of one can be called as objects of the other.
    pub fn difference(&self, expected: &Self) -> Option<String> {
        if self == expected {
            return None;
        }
        let name = &expected.name;
        if self.name != *name {
            return Some(format!("found the interface `{}`, expected `{name}`", self.name));
        }
        Some(self.method_difference(expected).unwrap_or_else(|| format!("`{name}` differs")))
    }

    fn method_difference(&self, expected: &Self) -> Option<String> {
        let name = &expected.name;
        if self.methods.len() != expected.methods.len() {
            let (found, wanted) = (self.methods.len(), expected.methods.len());
            return Some(format!("`{name}` differs: found {found} methods, expected {wanted}"));
        }
        self.methods.iter().zip(&expected.methods).find_map(|(found, wanted)| {
            if (&found.name, &found.signature) != (&wanted.name, &wanted.signature) {
                return Some(format!(
                    "`{name}` differs: found `fn {}{}`, expected `fn {}{}`",
                    found.name, found.signature, wanted.name, wanted.signature
                ));
            }
            let types = found.types.iter().zip(&wanted.types);
            let what = types.into_iter().find_map(|(found, wanted)| found.difference(wanted))?;
            Some(format!("`{name}::{}` differs: {what}", wanted.name))
        })
    }
}

/// An object of another image, with a lease that keeps that image mapped.
///
/// It implements the interface: calling a method on it calls the object. If the object's method panics, the
/// other image catches the panic, and the call panics here with the same message.
///
/// A clone refers to the same object. The object's version stays in use until the last clone is dropped.
///
/// ```
/// use hotswap_plugin::{Leased, interface};
///
/// #[interface]
/// trait Cat {
///     fn meow(&self, times: u32) -> String;
/// }
///
/// fn twice(cat: &Leased<dyn Cat>) -> String {
///     cat.meow(2)
/// }
/// ```
pub struct Leased<I: ?Sized> {
    // The lease owns the object: the engine drops the object after the last lease, and unmaps its image
    // after that.
    object: NonNull<()>,
    table: &'static ObjectTable,
    lease: Lease,
    interface: PhantomData<Arc<I>>,
}

impl<I: Interface + ?Sized> Leased<I> {
    /// Makes a handle to an object of this image, to pass or return it to other images.
    ///
    /// The handle keeps the plugin's version in use. The object is dropped with the last handle. So a plugin
    /// that should be freed must not keep a handle to its own object: it can keep what the object refers to.
    ///
    /// ```
    /// use hotswap_plugin::prelude::*;
    ///
    /// #[interface]
    /// trait Session {
    ///     fn say(&self, line: String);
    /// }
    ///
    /// struct Prints;
    ///
    /// impl Session for Prints {
    ///     fn say(&self, line: String) {
    ///         println!("{line}");
    ///     }
    /// }
    ///
    /// fn open() -> Result<Leased<dyn Session>> {
    ///     Leased::new(Prints)
    /// }
    /// # open().unwrap().say("Hello!".into());
    /// ```
    ///
    /// # Errors
    /// If the plugin's version is ending (`on_free` has begun), and so must not give out anything any more.
    pub fn new<T>(object: T) -> Result<Self>
    where
        I: ObjectOf<T>,
        T: Send + Sync + 'static,
    {
        let raw = RawObject::new::<I, T>(object);
        let (object, table) = (raw.data, raw.table);
        let lease = raw::lease(raw, &I::shape().name)?;
        // SAFETY: the object was made for this interface, by this image, and the lease keeps it.
        Ok(unsafe { Self::from_raw(RawObject { data: object, table }, lease) })
    }

    /// Makes a typed handle to an object that the engine lends.
    ///
    /// # Safety
    /// `object` has the interface `I`, with the same shape in both images, and lives as long as `lease`.
    pub(crate) unsafe fn from_raw(object: RawObject, lease: Lease) -> Self {
        // SAFETY: the table lies in the object's image, which the lease keeps mapped; the reference does
        // not leave `Leased`.
        let table = unsafe { &*object.table };
        Self { object: object.data, table, lease, interface: PhantomData }
    }
}

impl<I: ?Sized> Clone for Leased<I> {
    fn clone(&self) -> Self {
        Self {
            object: self.object,
            table: self.table,
            lease: self.lease.clone(),
            interface: PhantomData,
        }
    }
}

// SAFETY: an object is made of a `T: Send + Sync`, and the lease counts atomically.
unsafe impl<I: ?Sized> Send for Leased<I> {}
// SAFETY: as above.
unsafe impl<I: ?Sized> Sync for Leased<I> {}

// SAFETY: an object is called through its own image's shims, and its lease keeps it and that image: neither
// points to the image that has the handle. The schema has the whole interface.
unsafe impl<I: Interface + ?Sized> Shared for Leased<I> {
    const MAY_POINT_HOME: bool = false;

    fn describe(schema: &mut SchemaBuilder) -> usize {
        schema.add::<Self>(|schema| Shape::Object(I::describe_methods(schema)))
    }
}

impl<I: Interface + ?Sized> Serialize for Leased<I> {
    /// Always returns an error.
    fn serialize<S: Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
        Err(ser::Error::custom(no_json::<I>()))
    }
}

impl<'de, I: Interface + ?Sized> Deserialize<'de> for Leased<I> {
    /// Always returns an error.
    fn deserialize<D: Deserializer<'de>>(_: D) -> std::result::Result<Self, D::Error> {
        Err(de::Error::custom(no_json::<I>()))
    }
}

impl<I: Interface + ?Sized> JsonSchema for Leased<I> {
    fn schema_name() -> Cow<'static, str> {
        I::shape().name.into()
    }

    /// A schema that no value matches.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": no_json::<I>(), "not": {} })
    }
}

fn no_json<I: Interface + ?Sized>() -> String {
    let name = I::shape().name;
    format!(
        "an object of `{name}` crosses only where it is called with Rust types, and not as JSON"
    )
}

/// The parts of an interface that cross between images.
#[doc(hidden)]
pub mod raw {
    use std::{
        mem::{ManuallyDrop, MaybeUninit},
        pin::Pin,
        ptr::NonNull,
        sync::Arc,
        task::{Context, Poll},
    };

    use super::{Interface, InterfaceShape, Leased, ObjectOf};
    use crate::{
        Error, Result, Shared,
        abi::Answer,
        future::{ForeignFuture, Progress, RawFuture},
        image::{catch, catch_in_object, end_panic, image_host, log_panic},
    };

    /// An object and the shims of its image.
    #[repr(C)]
    pub struct RawObject {
        pub data: NonNull<()>,
        pub table: *const ObjectTable,
    }

    impl RawObject {
        /// Moves `object` to the heap and pairs it with its shims.
        pub fn new<I: ObjectOf<T> + ?Sized, T: Send + Sync + 'static>(object: T) -> Self {
            let data = NonNull::from(Box::leak(Box::new(object))).cast();
            Self { data, table: I::TABLE }
        }
    }

    /// The shims of one type for one interface; lies in the object's image.
    #[repr(C)]
    pub struct ObjectTable {
        pub drop: unsafe extern "C" fn(NonNull<()>) -> Answer<()>,
        pub shape: extern "C" fn() -> Answer<InterfaceShape>,
        pub methods: &'static [Method],
    }

    impl ObjectTable {
        /// The table of a `T`, with the shims of its methods.
        pub const fn new<I: Interface + ?Sized, T>(methods: &'static [Method]) -> Self {
            Self { drop: drop_object::<T>, shape: shape::<I>, methods }
        }
    }

    /// A method's shim: moves the arguments, a tuple, out of `args`, and writes an `Answer` to `out`.
    pub type Method = unsafe extern "C" fn(object: NonNull<()>, args: *mut (), out: *mut ());

    unsafe extern "C" fn drop_object<T>(object: NonNull<()>) -> Answer<()> {
        // SAFETY: the object was leaked from a `Box<T>`, and its owner drops it once.
        let object = unsafe { Box::from_raw(object.cast::<T>().as_ptr()) };
        catch(|| {
            drop(object);
            Answer::Ok(())
        })
    }

    extern "C" fn shape<I: Interface + ?Sized>() -> Answer<InterfaceShape> {
        catch(|| Answer::Ok(I::shape()))
    }

    /// The future of an `async` method.
    pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

    /// The object's side of a call of `method`: runs `f` with the arguments, and catches its panic.
    ///
    /// # Safety
    /// `object` points to a `T`, `args` to an `A` that is not used again, and `out` to room for an
    /// `Answer<R>`.
    pub unsafe fn dispatch<T, A, R>(
        object: NonNull<()>,
        args: *mut (),
        out: *mut (),
        method: &str,
        f: impl FnOnce(&T, A) -> Result<R>,
    ) {
        // SAFETY: the caller's promise.
        let (object, args) = unsafe { (object.cast::<T>().as_ref(), args.cast::<A>().read()) };
        let answer = catch_in_object(|| method.to_owned(), || Answer::from_result(f(object, args)));
        // SAFETY: the caller's promise.
        unsafe { out.cast::<Answer<R>>().write(answer) };
    }

    /// Works like `dispatch`, for an `async` method: the answer is its future.
    ///
    /// # Safety
    /// As for `dispatch`, with room for an `Answer<RawFuture<R>>`; and the object lives until the future is
    /// dropped.
    pub unsafe fn dispatch_async<T: 'static, A, R: 'static>(
        object: NonNull<()>,
        args: *mut (),
        out: *mut (),
        method: &'static str,
        f: impl FnOnce(&'static T, A) -> BoxFuture<'static, R>,
    ) {
        // SAFETY: the caller's promise.
        let (object, args) = unsafe { (object.cast::<T>().as_ref(), args.cast::<A>().read()) };
        let answer = catch_in_object(
            || method.to_owned(),
            || {
                let future = f(object, args);
                Answer::Ok(RawFuture::new(MethodFuture { future, method }))
            },
        );
        // SAFETY: the caller's promise.
        unsafe { out.cast::<Answer<RawFuture<R>>>().write(answer) };
    }

    /// The future of an `async` method, on the object's side.
    struct MethodFuture<R> {
        future: BoxFuture<'static, R>,
        method: &'static str,
    }

    impl<R> Future for MethodFuture<R> {
        type Output = Result<R>;

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<R>> {
            let method = self.method;
            let future = self.future.as_mut();
            match catch_in_object(|| method.to_owned(), || Answer::Ok(future.poll(context))) {
                Answer::Ok(progress) => progress.map(Ok),
                Answer::Err(error) => Poll::Ready(Err(error)),
                Answer::Panic(report) => Poll::Ready(Err(Error::msg(report))),
            }
        }
    }

    /// The caller's side of a call of an `async` method. The future panics if the object's side panicked.
    ///
    /// # Safety
    /// Method number `method` of the interface takes an `A` and is `async`, with the result `R`.
    pub unsafe fn invoke_async<'a, I: Interface + ?Sized, A, R: Shared>(
        object: &'a Leased<I>,
        method: usize,
        args: A,
    ) -> BoxFuture<'a, R> {
        // SAFETY: the caller's promise; the method answers with a future.
        let answer = unsafe { call::<I, A, RawFuture<R>>(object, method, args) };
        let report = |panic: &_| log_panic("a waker", panic);
        match answer {
            Answer::Ok(future) => {
                // SAFETY: the handle keeps the object and its image until the future is dropped.
                let future = unsafe { ForeignFuture::new(future, report) };
                Box::pin(ObjectFuture { future, _object: object.clone() })
            }
            Answer::Err(error) => panic!("{error:?}"),
            Answer::Panic(report) => panic!("{report}"),
        }
    }

    /// The future of an `async` method, together with the handle to its object.
    struct ObjectFuture<I: ?Sized, R> {
        // Dropped first: afterwards the handle may let the image be unmapped.
        future: ForeignFuture<R>,
        _object: Leased<I>,
    }

    impl<I: ?Sized, R> Unpin for ObjectFuture<I, R> {}

    impl<I: ?Sized, R: Shared> Future for ObjectFuture<I, R> {
        type Output = R;

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<R> {
            match self.future.poll(context) {
                Progress::Pending => Poll::Pending,
                Progress::Ready(Answer::Ok(mut value)) => {
                    value.rehome();
                    Poll::Ready(value)
                }
                Progress::Ready(Answer::Err(error)) => panic!("{error:?}"),
                Progress::Ready(Answer::Panic(report)) => {
                    panic!("{report}")
                }
            }
        }
    }

    /// Makes a handle to an owned object of an interface.
    ///
    /// # Panics
    /// If this image must not give out anything any more: see [`Leased::new`].
    pub fn lent<I: ObjectOf<T> + ?Sized, T: Send + Sync + 'static>(object: T) -> Leased<I> {
        Leased::new(object).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Calls `f` with a handle to a borrowed object. The handle is valid only during the call.
    pub fn borrowed<I, R>(object: &'static I, f: impl FnOnce(&Leased<I>) -> R) -> R
    where
        I: ObjectOf<&'static I> + ?Sized,
        &'static I: Send + Sync,
    {
        unsafe extern "C" fn nothing(_: *const ()) {}
        let raw = RawObject { data: NonNull::from(&object).cast(), table: I::TABLE };
        // SAFETY: there is nothing to count.
        let lease = unsafe { Lease::new(std::ptr::null(), nothing, nothing) };
        // SAFETY: the table is that of a `&'static I`, to which the data points meanwhile.
        let handle = unsafe { Leased::<I>::from_raw(raw, lease) };
        f(&handle)
    }

    /// A lease that owns an object of this image.
    pub(crate) fn lease(object: RawObject, interface: &str) -> Result<Lease> {
        let Some(host) = image_host() else { return Ok(Local::lease(object)) };
        // SAFETY: the context is the host's own, which owns the object from here on.
        match unsafe { (host.lend)(host.context, object, interface) } {
            Answer::Ok(lease) => Ok(lease),
            Answer::Err(error) => Err(error),
            Answer::Panic(report) => Err(Error::msg(report.message)),
        }
    }

    /// An object that lives in this program, whose code is never unmapped.
    struct Local(RawObject);

    // SAFETY: objects are made of `T: Send + Sync`.
    unsafe impl Send for Local {}
    // SAFETY: as above.
    unsafe impl Sync for Local {}

    impl Local {
        /// A lease that owns the object.
        fn lease(object: RawObject) -> Lease {
            unsafe extern "C" fn retain(local: *const ()) {
                // SAFETY: the pointer came from `Arc::into_raw` below.
                unsafe { Arc::increment_strong_count(local.cast::<Local>()) };
            }
            unsafe extern "C" fn release(local: *const ()) {
                // SAFETY: as above; each lease is released once.
                let release = || unsafe { Arc::decrement_strong_count(local.cast::<Local>()) };
                // The drop of the object reports its own panic.
                let _ = end_panic(release);
            }
            let local = Arc::into_raw(Arc::new(Self(object)));
            // SAFETY: both functions count references to the `Arc` from which the pointer was made.
            unsafe { Lease::new(local.cast(), retain, release) }
        }
    }

    impl Drop for Local {
        fn drop(&mut self) {
            // SAFETY: this program made the object, which is dropped once. The shim catches its panic.
            if let Answer::Panic(report) = unsafe { ((*self.0.table).drop)(self.0.data) } {
                log_panic("an object", &report);
            }
        }
    }

    /// Calls the shim of a method.
    ///
    /// # Safety
    /// Method number `method` of the interface takes an `A` and answers with an `R`.
    unsafe fn call<I: ?Sized, A, R>(object: &Leased<I>, method: usize, args: A) -> Answer<R> {
        let mut args = ManuallyDrop::new(args);
        let mut out = MaybeUninit::<Answer<R>>::uninit();
        // SAFETY: both sides agree on the shape, so the method exists and has these types; it moves
        // `args` out and fills `out`.
        unsafe {
            (object.table.methods[method])(
                object.object,
                (&raw mut args).cast(),
                out.as_mut_ptr().cast(),
            );
            out.assume_init()
        }
    }

    /// The caller's side of a call. It panics if the object's side panicked.
    ///
    /// # Safety
    /// Method number `method` of the interface takes an `A` and returns an `R`.
    pub unsafe fn invoke_method<I: ?Sized, A, R: Shared>(
        object: &Leased<I>,
        method: usize,
        args: A,
    ) -> R {
        // SAFETY: the caller's promise.
        let answer = unsafe { call::<I, A, R>(object, method, args) };
        match answer {
            Answer::Ok(mut value) => {
                value.rehome();
                value
            }
            Answer::Err(error) => panic!("{error:?}"),
            Answer::Panic(report) => panic!("{report}"),
        }
    }

    /// A counted reference to something of the engine that keeps an object alive.
    #[repr(C)]
    pub struct Lease {
        context: *const (),
        retain: unsafe extern "C" fn(*const ()),
        release: unsafe extern "C" fn(*const ()),
    }

    impl Lease {
        /// Takes over one reference to `context`.
        ///
        /// # Safety
        /// `retain` adds a reference to `context` and `release` removes one, on any thread. Neither
        /// panics, and both live as long as the process.
        pub unsafe fn new(
            context: *const (),
            retain: unsafe extern "C" fn(*const ()),
            release: unsafe extern "C" fn(*const ()),
        ) -> Self {
            Self { context, retain, release }
        }
    }

    impl Clone for Lease {
        fn clone(&self) -> Self {
            // SAFETY: the functions are the engine's, and live as long as the process.
            unsafe { (self.retain)(self.context) };
            Self { ..*self }
        }
    }

    impl Drop for Lease {
        fn drop(&mut self) {
            // SAFETY: as for `clone`; each lease is released once.
            unsafe { (self.release)(self.context) };
        }
    }
}
