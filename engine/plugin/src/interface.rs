//! Trait objects that cross between images: shims on both sides, a lease with each object.

use std::{marker::PhantomData, ptr::NonNull, sync::Arc};

use crate::{Shared, TypeSchema};
use raw::{Lease, ObjectTable, RawObject};

/// A trait with `#[interface]`, as the type `dyn Trait`; the attribute writes this.
///
/// # Safety
/// The shape tells the trait's methods as [`Leased`] calls them: two images whose shapes are equal
/// call each other's objects by it.
pub unsafe trait Interface: 'static {
    /// The trait's name and methods; two images must agree on it.
    fn shape() -> InterfaceShape;
}

/// Says how a `T` serves as an object of this interface. `#[interface]` writes it for every `T`
/// that implements the trait.
///
/// # Safety
/// The table's functions take a `T`, and its methods are those of the shape, in order.
pub unsafe trait ObjectOf<T>: Interface {
    /// The shims through which another image calls a `T`.
    const TABLE: &'static ObjectTable;
}

/// What a method of an interface may be lent for the length of its call: a [`Shared`] type, or `str`.
///
/// # Safety
/// The schema tells the layout of what is referred to, and nothing in it refers to anything that ends
/// with a call.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`&{Self}` cannot be lent to another image",
    label = "not `Shared`",
    note = "what is lent is `str`, or what may cross as it is: numbers, `String`, std's containers, \
            and types with `#[derive(Shared)]`"
)]
pub unsafe trait Lent: 'static {
    /// The schema of what is lent.
    fn schema() -> TypeSchema;
}

// SAFETY: the schema is the type's own; a type that is `Shared` borrows nothing.
unsafe impl<T: Shared> Lent for T {
    fn schema() -> TypeSchema {
        TypeSchema::of::<T>()
    }
}

// SAFETY: the bytes of a text are all there is; a schema of its own keeps `&str` from `&String`.
unsafe impl Lent for str {
    fn schema() -> TypeSchema {
        TypeSchema::of_str()
    }
}

/// The structure of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceShape {
    /// The trait's path.
    pub name: String,
    /// Its methods in order.
    pub methods: Vec<MethodShape>,
}

/// The structure of a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodShape {
    /// Its name.
    pub name: String,
    /// Its signature as written.
    pub signature: String,
    /// The types of its parameters and, last, of its result.
    pub types: Vec<TypeSchema>,
}

impl InterfaceShape {
    /// The first difference between what is there and what is expected, in words; `None` only if the
    /// two are equal, and objects of the one may be called as the other.
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

/// An object of another image, and the lease that keeps its image mapped.
///
/// It implements the interface itself, so `cat.meow(2)` calls the other image. A panic over there
/// is caught there and raised anew here.
pub struct Leased<I: ?Sized> {
    // Dropped after `Drop::drop` below; the lease drops the object, and then its image may go.
    object: NonNull<()>,
    table: &'static ObjectTable,
    lease: Lease,
    interface: PhantomData<Arc<I>>,
}

impl<I: Interface + ?Sized> Leased<I> {
    /// Makes a typed handle of what the engine lends.
    ///
    /// # Safety
    /// `object` is of interface `I`, whose shape both images agree on, and lives as long as `lease`.
    pub(crate) unsafe fn from_raw(object: RawObject, lease: Lease) -> Self {
        // SAFETY: the table lies in the object's image, which the lease keeps mapped; nothing hands
        // the reference out for longer than that.
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
    use crate::{Shared, abi::Outcome, image::catch};

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
        pub drop: unsafe extern "C" fn(NonNull<()>) -> Outcome<()>,
        pub shape: extern "C" fn() -> Outcome<InterfaceShape>,
        pub methods: &'static [Method],
    }

    impl ObjectTable {
        /// The table of `T`, given its methods' shims.
        pub const fn new<I: Interface + ?Sized, T>(methods: &'static [Method]) -> Self {
            Self { drop: drop_object::<T>, shape: shape::<I>, methods }
        }
    }

    /// A method's shim: takes the arguments as a tuple out of `args` and writes an `Outcome` to
    /// `out`.
    pub type Method = unsafe extern "C" fn(object: NonNull<()>, args: *mut (), out: *mut ());

    unsafe extern "C" fn drop_object<T>(object: NonNull<()>) -> Outcome<()> {
        // SAFETY: the object was leaked from a `Box<T>`, and its owner drops it once.
        let object = unsafe { Box::from_raw(object.cast::<T>().as_ptr()) };
        catch(|| {
            drop(object);
            Outcome::Ok(())
        })
    }

    extern "C" fn shape<I: Interface + ?Sized>() -> Outcome<InterfaceShape> {
        catch(|| Outcome::Ok(I::shape()))
    }

    /// The object's side of a call: runs `f` with the arguments, catching its panic.
    ///
    /// # Safety
    /// `object` is a `T`; `args` holds an `A` that is not used again; `out` takes an `Outcome<R>`.
    pub unsafe fn dispatch<T, A, R>(
        object: NonNull<()>,
        args: *mut (),
        out: *mut (),
        f: impl FnOnce(&T, A) -> R,
    ) {
        // SAFETY: the caller's promise.
        let (object, args) = unsafe { (object.cast::<T>().as_ref(), args.cast::<A>().read()) };
        let outcome = catch(|| Outcome::Ok(f(object, args)));
        // SAFETY: the caller's promise.
        unsafe { out.cast::<Outcome<R>>().write(outcome) };
    }

    /// The caller's side of a call: raises anew what panicked over there.
    ///
    /// # Safety
    /// Method number `method` of the interface takes an `A` and returns an `R`.
    pub unsafe fn invoke_method<I: ?Sized, A, R: Shared>(
        object: &Leased<I>,
        method: usize,
        args: A,
    ) -> R {
        let mut args = ManuallyDrop::new(args);
        let mut out = MaybeUninit::<Outcome<R>>::uninit();
        // SAFETY: the shape, which both sides agree on, says that the method is there and has these
        // types; it takes `args` over and fills `out`.
        let outcome = unsafe {
            (object.table.methods[method])(
                object.object,
                (&raw mut args).cast(),
                out.as_mut_ptr().cast(),
            );
            out.assume_init()
        };
        match outcome {
            Outcome::Ok(mut value) => {
                value.rehome();
                value
            }
            Outcome::Err(error) => panic!("{error:?}"),
            Outcome::Panic(report) => panic!("{} (at {})", report.message, report.location),
        }
    }

    /// A counted reference to what keeps an object alive, kept by the engine.
    #[repr(C)]
    pub struct Lease {
        context: *const (),
        retain: unsafe extern "C" fn(*const ()),
        release: unsafe extern "C" fn(*const ()),
    }

    impl Lease {
        /// Hands over one reference to `context`.
        ///
        /// # Safety
        /// `retain` adds a reference to it and `release` takes one away, on any thread, neither
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
