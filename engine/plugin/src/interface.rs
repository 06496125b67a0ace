//! Trait objects that cross between images. Both sides call through shims, and each object comes with a
//! lease that keeps its image mapped.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    marker::PhantomData,
    ptr::NonNull,
    sync::Arc,
};

use crate::{Shared, TypeSchema};
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

/// A type that a method of an interface can take by reference: a [`Shared`] type, or `str`.
///
/// # Safety
/// The schema describes the layout of the type, and a value of it borrows nothing.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`&{Self}` cannot be lent to another image",
    label = "not `Shared`",
    note = "what is lent is `str`, or what may cross as it is: numbers, `String`, std's containers, \
            and types with `#[derive(Shared)]`"
)]
pub unsafe trait Lent: 'static {
    /// The schema of the type.
    fn schema() -> TypeSchema;
}

// SAFETY: the schema is the type's own; a type that is `Shared` borrows nothing.
unsafe impl<T: Shared> Lent for T {
    fn schema() -> TypeSchema {
        TypeSchema::of::<T>()
    }
}

// SAFETY: a `str` is only bytes. Its own schema differs from that of `String`, whose reference has
// another layout.
unsafe impl Lent for str {
    fn schema() -> TypeSchema {
        TypeSchema::of_str()
    }
}

// SAFETY: a slice is only its elements, which borrow nothing.
unsafe impl<T: Shared> Lent for [T] {
    fn schema() -> TypeSchema {
        TypeSchema::of_slice::<T>()
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

    /// The first difference between this shape, which was found, and the expected one, in words. `None`
    /// only if the two are equal: then objects of one can be called as objects of the other.
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
/// It implements the interface: a method of it calls the object. If the object's method panics, the other
/// image catches the panic, and the call panics with the same message here.
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
    /// Makes a typed handle of an object that the engine lends.
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

/// The parts of an interface that cross between images.
#[doc(hidden)]
pub mod raw {
    use std::{
        mem::{ManuallyDrop, MaybeUninit},
        ptr::NonNull,
    };

    use super::{Interface, InterfaceShape, Leased, ObjectOf};
    use crate::{Shared, abi::Answer, image::catch};

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
        /// The table of `T`, given its methods' shims.
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

    /// The object's side of a call: runs `f` with the arguments, and catches its panic.
    ///
    /// # Safety
    /// `object` points to a `T`, `args` to an `A` that is not used again, and `out` to room for an
    /// `Answer<R>`.
    pub unsafe fn dispatch<T, A, R>(
        object: NonNull<()>,
        args: *mut (),
        out: *mut (),
        f: impl FnOnce(&T, A) -> R,
    ) {
        // SAFETY: the caller's promise.
        let (object, args) = unsafe { (object.cast::<T>().as_ref(), args.cast::<A>().read()) };
        let answer = catch(|| Answer::Ok(f(object, args)));
        // SAFETY: the caller's promise.
        unsafe { out.cast::<Answer<R>>().write(answer) };
    }

    /// The caller's side of a call: panics if the object's side did.
    ///
    /// # Safety
    /// Method number `method` of the interface takes an `A` and returns an `R`.
    pub unsafe fn invoke_method<I: ?Sized, A, R: Shared>(
        object: &Leased<I>,
        method: usize,
        args: A,
    ) -> R {
        let mut args = ManuallyDrop::new(args);
        let mut out = MaybeUninit::<Answer<R>>::uninit();
        // SAFETY: both sides agree on the shape, so the method exists and has these types; it moves
        // `args` out and fills `out`.
        let answer = unsafe {
            (object.table.methods[method])(
                object.object,
                (&raw mut args).cast(),
                out.as_mut_ptr().cast(),
            );
            out.assume_init()
        };
        match answer {
            Answer::Ok(mut value) => {
                value.rehome();
                value
            }
            Answer::Err(error) => panic!("{error:?}"),
            Answer::Panic(report) => panic!("{} (at {})", report.message, report.location),
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
