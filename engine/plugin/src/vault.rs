//! The Vault as plugins and hosts use it. The values and locks are the engine's.

use std::{marker::PhantomData, ptr::NonNull};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Data, Error, Interface, Leased, ObjectOf, Result, Shared, Value,
    abi::{Outcome, VaultContext, VaultTable},
    interface::raw::RawObject,
};
use raw::{CarryTable, RawValue, ValueCallback};

/// What plugins and host share: named values, and the host's own object.
///
/// A clone is another handle to the same Vault.
pub struct Vault {
    context: VaultContext,
    table: &'static VaultTable,
}

impl Vault {
    /// Makes a handle of what the engine lends.
    ///
    /// # Safety
    /// `context` is one that `table` knows, and one of its owners is handed over.
    #[doc(hidden)]
    pub unsafe fn from_raw(context: VaultContext, table: &'static VaultTable) -> Self {
        Self { context, table }
    }

    /// The named values.
    pub fn data_bag(&self) -> DataBag<'_> {
        DataBag { vault: self }
    }

    /// The live functions and types of the newest generation.
    pub fn live(&self) -> Live<'_> {
        Live { vault: self }
    }

    /// The host's own object, in which plugins register theirs.
    pub fn extension(&self) -> Extension<'_> {
        Extension { vault: self }
    }
}

impl Clone for Vault {
    fn clone(&self) -> Self {
        // SAFETY: the context is one that the table knows.
        unsafe { (self.table.retain)(self.context) };
        Self { ..*self }
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        // SAFETY: the context is one that the table knows; each handle releases it once.
        unsafe { (self.table.release)(self.context) };
    }
}

// SAFETY: the engine's functions may be called on any thread.
unsafe impl Send for Vault {}
// SAFETY: as above.
unsafe impl Sync for Vault {}

/// Named values that host and plugins share.
///
/// A value belongs to who set it. When that version is replaced its values go with it; those of the
/// host and of unchanged plugins stay.
pub struct DataBag<'a> {
    vault: &'a Vault,
}

impl DataBag<'_> {
    /// Sets a value, replacing any that is there.
    ///
    /// # Errors
    /// When the value that is there is in use by this very thread.
    pub fn set<T: Shared + Serialize>(&self, key: &str, value: T) -> Result<()> {
        self.put(key, RawValue::new(value), true).map(drop)
    }

    /// Sets a value that does not serialise, replacing any that is there. A console shows its type and
    /// its owner, and not the value.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub fn set_opaque<T: Shared>(&self, key: &str, value: T) -> Result<()> {
        self.put(key, RawValue::opaque(value), true).map(drop)
    }

    /// A copy of a value; `None` when there is none.
    ///
    /// # Errors
    /// When the value has another type; the message says what differs.
    pub fn get<T: Shared + Clone>(&self, key: &str) -> Result<Option<T>> {
        self.read(key, T::clone)
    }

    /// Runs `f` with a value, while nobody may change it; `None` when there is none.
    ///
    /// # Errors
    /// As for [`get`](Self::get), and when this thread is changing the value already.
    pub fn read<T: Shared, R>(&self, key: &str, f: impl FnOnce(&T) -> R) -> Result<Option<R>> {
        // SAFETY: the engine calls back with a valid value that nobody writes meanwhile.
        self.with(key, false, |value: NonNull<T>| f(unsafe { value.as_ref() }))
    }

    /// Runs `f` with a value, while nobody else may use it; where there is none, `default` is set
    /// first.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn update<T: Shared + Serialize, R>(
        &self,
        key: &str,
        default: impl FnOnce() -> T,
        f: impl FnOnce(&mut T) -> R,
    ) -> Result<R> {
        let mut f = Some(f);
        // SAFETY: the engine calls back with a valid value that nobody else uses meanwhile.
        let mut run = |mut value: NonNull<T>| f.take().map(|f| f(unsafe { value.as_mut() }));
        if let Some(Some(result)) = self.with(key, true, &mut run)? {
            return Ok(result);
        }
        self.put(key, RawValue::new(default()), false)?;
        let result = self.with(key, true, &mut run)?.flatten();
        result.ok_or_else(|| Error::msg(format_args!("`{key}` was removed meanwhile")))
    }

    /// Runs `f` with a value, while nobody else may use it; `None` when there is none.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn modify<T: Shared, R>(
        &self,
        key: &str,
        f: impl FnOnce(&mut T) -> R,
    ) -> Result<Option<R>> {
        // SAFETY: the engine calls back with a valid value that nobody else uses meanwhile.
        self.with(key, true, |mut value: NonNull<T>| f(unsafe { value.as_mut() }))
    }

    /// Takes over a value that the version which this one replaces has set; where there is none,
    /// `default` is set. To be called in `on_init`.
    ///
    /// Where the type is the same, both versions share the value until the old one has ended, so no
    /// update is lost. Where it changed, the value is migrated through serde: new fields come from
    /// `#[serde(default)]`, renamed ones from `#[serde(alias)]`. Until the publish the value can be read
    /// and not changed, and a load that is undone leaves it as it was.
    ///
    /// # What a migration costs
    /// It runs beside the calls of the old version. A map, a set or a list of std is read in at most
    /// 64 slices (of 256 elements at least), and whoever changes the value waits for one slice at a
    /// time. What changed meanwhile is read again. When the new version serves, its calls that use the
    /// value wait once: at most 50 ms for calls of the old version that are under way, and then until
    /// the last changes are found by a digest of each element. For 64,000 entries in a map and as many in a
    /// list the longest call took 0.33 s, in a debug build on a busy machine with two cores
    /// (2026-11-28, `cargo run -p hotswap-tests --example large_values`).
    ///
    /// A value of any other type, such as a struct that has a map in it, is read as a whole, and once more
    /// in that moment if it changed. So give what is large a key of its own. If a call of the old version
    /// is still under way after that, its changes of the value are errors to it.
    ///
    /// # Errors
    /// When the value cannot be migrated; the message names the field. That undoes the load; so does
    /// code of the type (its serde, the hash of a key) that does not return when the load is published,
    /// and where that was working on the value itself, the value is lost.
    pub fn carry<T>(&self, key: &str, default: impl FnOnce() -> T) -> Result<Carried>
    where
        T: Shared + Serialize + DeserializeOwned,
    {
        let carried = self.take_over(key, CarryTable::of::<T>())?;
        if carried == Carried::New {
            self.set(key, default())?;
        }
        Ok(carried)
    }

    /// As [`carry`](Self::carry), for a value that does not serialise, and so cannot be migrated.
    ///
    /// # Errors
    /// When the type changed. That undoes the load.
    pub fn carry_opaque<T: Shared>(
        &self,
        key: &str,
        default: impl FnOnce() -> T,
    ) -> Result<Carried> {
        let carried = self.take_over(key, CarryTable::opaque::<T>())?;
        if carried == Carried::New {
            self.set_opaque(key, default())?;
        }
        Ok(carried)
    }

    fn take_over(&self, key: &str, table: &'static CarryTable) -> Result<Carried> {
        // SAFETY: the context is one that the table knows.
        outcome(unsafe { (self.vault.table.bag_carry)(self.vault.context, key, table) })
    }

    /// Removes a value; says whether there was one.
    ///
    /// # Errors
    /// When this thread is using the value.
    pub fn remove(&self, key: &str) -> Result<bool> {
        // SAFETY: the context is one that the table knows.
        outcome(unsafe { (self.vault.table.bag_remove)(self.vault.context, key) })
    }

    /// The keys, sorted.
    ///
    /// # Errors
    /// Only when the engine itself fails.
    pub fn keys(&self) -> Result<Vec<String>> {
        // SAFETY: the context is one that the table knows.
        outcome(unsafe { (self.vault.table.bag_keys)(self.vault.context) })
    }

    fn put(&self, key: &str, value: RawValue, replace: bool) -> Result<bool> {
        // SAFETY: the context is one that the table knows; the value's owner passes to the engine.
        outcome(unsafe { (self.vault.table.bag_set)(self.vault.context, key, value, replace) })
    }

    fn with<T: Shared, R>(
        &self,
        key: &str,
        write: bool,
        f: impl FnOnce(NonNull<T>) -> R,
    ) -> Result<Option<R>> {
        let mut call: Call<_, T, _> = Call { f: Some(f), result: None, value: PhantomData };
        let mut callback = ValueCallback::new(&mut call, write);
        // SAFETY: the context is one that the table knows; the engine calls back at most once, with
        // a value whose schema is that of `T`, before it returns.
        let found = unsafe { (self.vault.table.bag_with)(self.vault.context, key, &mut callback) };
        outcome(found)?;
        call.result.transpose().map_err(|panic| std::panic::resume_unwind(panic))
    }
}

/// A closure on its way through the engine, and what came of it.
struct Call<F, T, R> {
    f: Option<F>,
    result: Option<std::thread::Result<R>>,
    value: PhantomData<fn(NonNull<T>)>,
}

/// Live functions and types: found by name, in the newest generation at the time of the call.
///
/// So a job that was queued before a reload, as the name of a function and the [`Data`] for it, is
/// handled by the code after it.
pub struct Live<'a> {
    vault: &'a Vault,
}

impl Live<'_> {
    /// Calls a live function.
    ///
    /// # Errors
    /// When there is none of that name, an argument does not fit, or it fails or panics.
    pub fn call(&self, name: &str, args: &[Value]) -> Result<Value> {
        // SAFETY: the context is one that the table knows; the arguments live through the call.
        outcome(unsafe {
            (self.vault.table.live_call)(self.vault.context, name, args.as_ptr(), args.len())
        })
    }

    /// Reads data as the newest live type of its name, and writes it anew: fields that the type has
    /// gained are filled in.
    ///
    /// # Errors
    /// When there is no such type, or the data does not fit it; the message names the field.
    pub fn renew(&self, data: &Data) -> Result<Data> {
        // SAFETY: the context is one that the table knows.
        outcome(unsafe { (self.vault.table.live_renew)(self.vault.context, data) })
    }
}

/// What [`DataBag::carry`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// There was no value; the default was set.
    New,
    /// The value belongs to the host or to a plugin that stays, and stays theirs.
    Kept,
    /// The value has the same type, and is shared with the version that is replaced.
    Shared,
    /// The value has another type, and is migrated when the load is published.
    Migrated,
}

/// The host's own object.
pub struct Extension<'a> {
    vault: &'a Vault,
}

impl Extension<'_> {
    /// Registers an object of an interface under a name; the host and other plugins find it there.
    ///
    /// `vault.extension().register::<dyn Cat, _>("tom", Tom)`. The registration ends when this
    /// version is replaced.
    ///
    /// # Errors
    /// When the name is taken for this interface; the message names who has it.
    pub fn register<I, T>(&self, name: &str, object: T) -> Result<()>
    where
        I: ObjectOf<T> + ?Sized,
        T: Send + Sync + 'static,
    {
        let object = RawObject::new::<I, T>(object);
        // SAFETY: the context is one that the table knows; the object's owner passes to the engine.
        outcome(unsafe { (self.vault.table.register)(self.vault.context, name, object) })
    }

    /// The object that is registered under a name for an interface, by the host or by a plugin; `None`
    /// when there is none.
    ///
    /// It keeps the version that registered it in use, so let it go when the work is done: what is to
    /// be kept is imported.
    ///
    /// # Errors
    /// When the interface is another where it was registered; the message says what differs.
    pub fn find<I: Interface + ?Sized>(&self, name: &str) -> Result<Option<Leased<I>>> {
        let shape = I::shape();
        // SAFETY: the context is one that the table knows.
        let found = outcome(unsafe { (self.vault.table.find)(self.vault.context, &shape, name) })?;
        // SAFETY: the engine answers with an object of the shape that was asked for.
        Ok(found.map(|found| unsafe { found.into_leased_unchecked() }))
    }

    /// The names that are registered for an interface, sorted.
    ///
    /// # Errors
    /// Only when the engine itself fails.
    pub fn names<I: Interface + ?Sized>(&self) -> Result<Vec<String>> {
        let shape = I::shape();
        // SAFETY: the context is one that the table knows.
        outcome(unsafe { (self.vault.table.names)(self.vault.context, &shape.name) })
    }
}

fn outcome<T>(outcome: Outcome<T>) -> Result<T> {
    match outcome {
        Outcome::Ok(value) => Ok(value),
        Outcome::Err(error) => Err(error),
        Outcome::Panic(report) => Err(Error::msg(format_args!(
            "the engine panicked at {}: {}",
            report.location, report.message
        ))),
    }
}

/// The parts of a Vault that cross between images.
#[doc(hidden)]
pub mod raw {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        ptr::NonNull,
    };

    use serde::{Serialize, de::DeserializeOwned};

    use super::Call;
    use crate::{
        Shared, TypeSchema,
        abi::Outcome,
        image::catch,
        parts::{Change, Kind, Parts, Wanted},
        preview::{Bounds, Preview},
        shared::schema_of,
    };

    /// A value and the functions of its image.
    #[repr(C)]
    pub struct RawValue {
        pub data: NonNull<()>,
        pub table: *const ValueTable,
    }

    /// The functions of a value's type; lies in the image that set the value.
    #[repr(C)]
    pub struct ValueTable {
        pub drop: unsafe extern "C" fn(NonNull<()>) -> Outcome<()>,
        pub schema: extern "C" fn() -> Outcome<TypeSchema>,
        pub to_json: unsafe extern "C" fn(NonNull<()>) -> Outcome<String>,
        /// A bounded part of the value.
        pub preview: unsafe extern "C" fn(NonNull<()>, Bounds) -> Outcome<Preview>,
        /// Parts of the value; `None` if it is no map and no list.
        pub parts: unsafe extern "C" fn(NonNull<()>, &Wanted) -> Outcome<Option<Parts>>,
        pub rehome: unsafe extern "C" fn(NonNull<()>) -> Outcome<()>,
    }

    impl RawValue {
        /// Moves `value` to the heap and pairs it with its functions.
        pub fn new<T: Shared + Serialize>(value: T) -> Self {
            Self::with(value, TypeTable::<T>::TABLE)
        }

        /// As `new`, of a value that does not serialise.
        pub fn opaque<T: Shared>(value: T) -> Self {
            Self::with(value, TypeTable::<T>::OPAQUE)
        }

        fn with<T: Shared>(value: T, table: &'static ValueTable) -> Self {
            let data = NonNull::from(Box::leak(Box::new(value))).cast();
            Self { data, table }
        }
    }

    /// Makes the functions of a value's type; the last three tell the value, what a person sees of it, and
    /// parts of it.
    macro_rules! value_table {
        ($ty:ty, $to_json:expr, $preview:expr, $parts:expr) => {
            ValueTable {
                drop: drop_value::<$ty>,
                schema: schema::<$ty>,
                to_json: $to_json,
                preview: $preview,
                parts: $parts,
                rehome: rehome::<$ty>,
            }
        };
    }

    struct TypeTable<T>(T);

    impl<T: Shared + Serialize> TypeTable<T> {
        const TABLE: &'static ValueTable = &value_table!(T, to_json::<T>, preview::<T>, parts::<T>);
    }

    impl<T: Shared> TypeTable<T> {
        const OPAQUE: &'static ValueTable = &value_table!(T, no_json, no_preview, no_parts);
    }

    /// What taking a value over needs of its new type; lies in the image that takes it over.
    #[repr(C)]
    pub struct CarryTable {
        pub value: ValueTable,
        pub from_json: extern "C" fn(&str) -> Outcome<RawValue>,
        /// How parts of a value are told apart, if it has any.
        pub kind: extern "C" fn() -> Outcome<Option<Kind>>,
        /// Changes a value of a type that has parts; these are values of the type, too.
        pub change:
            unsafe extern "C" fn(NonNull<()>, parts: Option<RawValue>, &Change<'_>) -> Outcome<()>,
    }

    /// Makes the functions of a type that takes values over.
    macro_rules! carry_table {
        ($ty:ty, $value:expr, $from_json:expr) => {
            CarryTable {
                value: $value,
                from_json: $from_json,
                kind: kind::<$ty>,
                change: change::<$ty>,
            }
        };
    }

    struct CarryType<T>(T);

    impl<T: Shared + Serialize + DeserializeOwned> CarryType<T> {
        const TABLE: &'static CarryTable = &carry_table!(
            T,
            value_table!(T, to_json::<T>, preview::<T>, parts::<T>),
            from_json::<T>
        );
    }

    impl<T: Shared> CarryType<T> {
        const OPAQUE: &'static CarryTable =
            &carry_table!(T, value_table!(T, no_json, no_preview, no_parts), not_from_json);
    }

    impl CarryTable {
        pub(super) fn of<T: Shared + Serialize + DeserializeOwned>() -> &'static Self {
            CarryType::<T>::TABLE
        }

        pub(super) fn opaque<T: Shared>() -> &'static Self {
            CarryType::<T>::OPAQUE
        }
    }

    extern "C" fn from_json<T: Shared + Serialize + DeserializeOwned>(
        json: &str,
    ) -> Outcome<RawValue> {
        catch(|| {
            let value = serde_json::from_str::<T>(json).map_err(|error| {
                // The text's line and column mean nothing to whoever reads this.
                let text = error.to_string();
                crate::Error::msg(text.split(" at line ").next().unwrap_or(&text))
            });
            Outcome::from_result(value.map(RawValue::new))
        })
    }

    extern "C" fn kind<T: Shared>() -> Outcome<Option<Kind>> {
        catch(|| Outcome::Ok(T::patch().map(|patch| patch.kind())))
    }

    unsafe extern "C" fn change<T: Shared>(
        value: NonNull<()>,
        parts: Option<RawValue>,
        change: &Change<'_>,
    ) -> Outcome<()> {
        // SAFETY: the engine has the value for itself.
        let value = unsafe { value.cast::<T>().as_mut() };
        // SAFETY: the engine passes a value that `from_json` of this type made, and forgets it.
        let parts = parts.map(|parts| unsafe { Box::from_raw(parts.data.cast::<T>().as_ptr()) });
        catch(|| {
            if let Some(patch) = T::patch() {
                patch.apply(value, parts.map(|parts| *parts), change);
            }
            Outcome::Ok(())
        })
    }

    /// A closure that the engine calls with a value.
    #[repr(C)]
    pub struct ValueCallback {
        pub fingerprint: u64,
        pub schema: extern "C" fn() -> Outcome<TypeSchema>,
        pub write: bool,
        /// Replaces pointers into other images by such into the one that calls.
        pub rehome: unsafe extern "C" fn(NonNull<()>) -> Outcome<()>,
        pub run: unsafe extern "C" fn(context: *mut (), value: NonNull<()>),
        pub context: *mut (),
    }

    impl ValueCallback {
        pub(super) fn new<F, T, R>(call: &mut Call<F, T, R>, write: bool) -> Self
        where
            F: FnOnce(NonNull<T>) -> R,
            T: Shared,
        {
            Self {
                fingerprint: schema_of::<T>().fingerprint(),
                schema: schema::<T>,
                write,
                rehome: rehome::<T>,
                run: run::<F, T, R>,
                context: std::ptr::from_mut(call).cast(),
            }
        }
    }

    unsafe extern "C" fn drop_value<T>(value: NonNull<()>) -> Outcome<()> {
        // SAFETY: the value was leaked from a `Box<T>`, and the engine drops it once.
        let value = unsafe { Box::from_raw(value.cast::<T>().as_ptr()) };
        catch(|| {
            drop(value);
            Outcome::Ok(())
        })
    }

    pub extern "C" fn schema<T: Shared>() -> Outcome<TypeSchema> {
        catch(|| Outcome::Ok(TypeSchema::clone(&schema_of::<T>())))
    }

    unsafe extern "C" fn to_json<T: Serialize>(value: NonNull<()>) -> Outcome<String> {
        // SAFETY: the engine holds the value's lock.
        let value = unsafe { value.cast::<T>().as_ref() };
        catch(|| Outcome::from_result(serde_json::to_string(value).map_err(Into::into)))
    }

    unsafe extern "C" fn preview<T: Serialize>(
        value: NonNull<()>,
        bounds: Bounds,
    ) -> Outcome<Preview> {
        // SAFETY: the engine holds the value's lock.
        let value = unsafe { value.cast::<T>().as_ref() };
        catch(|| Outcome::from_result(Preview::of(value, bounds).map_err(crate::Error::msg)))
    }

    unsafe extern "C" fn no_preview(_: NonNull<()>, _: Bounds) -> Outcome<Preview> {
        Outcome::Err(crate::Error::msg("it is opaque"))
    }

    unsafe extern "C" fn parts<T: Serialize>(
        value: NonNull<()>,
        wanted: &Wanted,
    ) -> Outcome<Option<Parts>> {
        // SAFETY: the engine holds the value's lock.
        let value = unsafe { value.cast::<T>().as_ref() };
        catch(|| Outcome::from_result(Parts::of(value, wanted).map_err(crate::Error::msg)))
    }

    unsafe extern "C" fn no_parts(_: NonNull<()>, _: &Wanted) -> Outcome<Option<Parts>> {
        Outcome::Ok(None)
    }

    unsafe extern "C" fn no_json(_: NonNull<()>) -> Outcome<String> {
        Outcome::Err(crate::Error::msg(
            "it is opaque: it was set as a value that does not serialise",
        ))
    }

    extern "C" fn not_from_json(_: &str) -> Outcome<RawValue> {
        let message = "its new type is opaque: it is taken over as a value that does not serialise";
        Outcome::Err(crate::Error::msg(message))
    }

    unsafe extern "C" fn rehome<T: Shared>(value: NonNull<()>) -> Outcome<()> {
        // SAFETY: the engine holds the value's lock for writing.
        let value = unsafe { value.cast::<T>().as_mut() };
        catch(|| {
            value.rehome();
            Outcome::Ok(())
        })
    }

    pub unsafe extern "C" fn run<F: FnOnce(NonNull<T>) -> R, T, R>(
        context: *mut (),
        value: NonNull<()>,
    ) {
        // SAFETY: `DataBag::with` passes its own `Call`, and waits.
        let call = unsafe { &mut *context.cast::<Call<F, T, R>>() };
        if let Some(f) = call.f.take() {
            call.result = Some(catch_unwind(AssertUnwindSafe(|| f(value.cast()))));
        }
    }
}
