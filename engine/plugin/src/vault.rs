//! The Vault as plugins and hosts use it: a handle whose functions the engine implements.

mod by_hand;
mod for_tests;
pub(crate) mod table;

use std::{marker::PhantomData, ptr::NonNull};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Data, Error, Interface, Leased, ObjectOf, Result, Shared, Value,
    abi::{Answer, VaultContext, VaultTable},
    interface::raw::RawObject,
};
use raw::{CarryTable, RawValue, ValueCallback};

/// The values, objects and live functions that plugins and host share.
///
/// The engine passes a plugin its handle in [`Plugin::on_init`](crate::Plugin::on_init), and in each
/// [`#[invoke]`](macro@crate::invoke) or [`#[live]`](macro@crate::live) function whose first parameter is a
/// `&Vault`. A host gets one from `Engine::vault`. A clone is another handle to the same Vault.
///
/// ```
/// use hotswap_plugin::prelude::*;
///
/// #[invoke]
/// fn visit(vault: &Vault, name: String) -> Result<u64> {
///     let add = |visits: &mut u64| {
///         *visits += 1;
///         *visits
///     };
///     vault.data_bag().update(&format!("visits of {name}"), || 0_u64, add)
/// }
/// # fn main() {}
/// ```
pub struct Vault {
    context: VaultContext,
    table: &'static VaultTable,
}

impl Vault {
    /// Makes a handle from the engine's context.
    ///
    /// # Safety
    /// `context` belongs to `table`, and the caller hands over one reference to it.
    #[doc(hidden)]
    pub unsafe fn from_raw(context: VaultContext, table: &'static VaultTable) -> Self {
        Self { context, table }
    }

    /// A separate Vault in memory, for tests of functions that take one.
    ///
    /// It has the DataBag and the Extension, but there is no engine. So there are no live functions, and no
    /// earlier version: [`carry`](DataBag::carry) finds the values that the test has set. To test the whole
    /// plugin, load it with `hotswap_engine::Engine::builder_static`.
    ///
    /// ```
    /// use hotswap_plugin::prelude::*;
    ///
    /// fn greet(vault: &Vault, name: String) -> Result<String> {
    ///     let count = vault.data_bag().update("greetings", || 0_u64, |count| {
    ///         *count += 1;
    ///         *count
    ///     })?;
    ///     Ok(format!("Hello, {name}, for the {count}. time"))
    /// }
    ///
    /// let vault = Vault::for_tests();
    /// vault.data_bag().set("greetings", 6_u64).unwrap();
    /// assert_eq!(greet(&vault, "Ada".into()).unwrap(), "Hello, Ada, for the 7. time");
    /// ```
    pub fn for_tests() -> Self {
        for_tests::vault()
    }

    /// The values that plugins and host share by name.
    pub fn data_bag(&self) -> DataBag<'_> {
        DataBag { vault: self }
    }

    /// The live functions and types of the newest generation.
    pub fn live(&self) -> Live<'_> {
        Live { vault: self }
    }

    /// The objects that plugins and host register by interface and name.
    pub fn extension(&self) -> Extension<'_> {
        Extension { vault: self }
    }
}

impl Clone for Vault {
    fn clone(&self) -> Self {
        // SAFETY: the context belongs to the table.
        unsafe { (self.table.retain)(self.context) };
        Self { ..*self }
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        // SAFETY: the context belongs to the table; each handle releases it once.
        unsafe { (self.table.release)(self.context) };
    }
}

// SAFETY: the engine's functions may be called on any thread.
unsafe impl Send for Vault {}
// SAFETY: as above.
unsafe impl Sync for Vault {}

/// Values that host and plugins share by name.
///
/// The owner of a value is whoever set it: the host, or a version of a plugin. When a version is replaced,
/// its values are dropped, unless the new version takes them over with [`carry`](Self::carry). Values of the
/// host and of unchanged plugins stay.
///
/// A type of your own needs [`#[derive(Shared)]`](derive@crate::Shared) to be in the DataBag, and `Serialize`
/// for consoles to show its values.
///
/// ```
/// use std::collections::HashMap;
///
/// use hotswap_plugin::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Default, Shared, Serialize, Deserialize)]
/// struct Scores {
///     by_player: HashMap<String, u32>,
///     #[serde(default)] // a version before this one had no such field
///     rounds: u32,
/// }
///
/// #[derive(Default)]
/// struct Game;
///
/// #[plugin]
/// impl Plugin for Game {
///     fn on_init(&self, vault: &Vault) -> Result<()> {
///         vault.data_bag().carry("scores", Scores::default)?;
///         Ok(())
///     }
/// }
///
/// #[invoke]
/// fn score(vault: &Vault, player: String, points: u32) -> Result<u32> {
///     let add = |scores: &mut Scores| {
///         let score = scores.by_player.entry(player).or_default();
///         *score += points;
///         *score
///     };
///     vault.data_bag().update("scores", Scores::default, add)
/// }
///
/// #[invoke]
/// fn players(vault: &Vault) -> Result<usize> {
///     let count = vault.data_bag().read("scores", |scores: &Scores| scores.by_player.len())?;
///     Ok(count.unwrap_or(0))
/// }
/// # fn main() {}
/// ```
///
/// # Locks
/// Each value has a lock of its own. [`read`](Self::read) lets several threads in at a time,
/// [`update`](Self::update) and [`modify`](Self::modify) only one. A closure that runs with a value may use
/// other values; if it uses its own through the DataBag, it gets an error instead of a deadlock. As with any locks, two
/// closures that use the same two values in opposite order may wait for each other for ever.
pub struct DataBag<'a> {
    vault: &'a Vault,
}

impl DataBag<'_> {
    /// Sets the value of `key`, and replaces the old one, if any.
    ///
    /// # Errors
    /// - If a closure on this thread is using the old value.
    /// - If this version is about to take the old value over ([`carry`](Self::carry)), and the load is not
    ///   published yet.
    /// - If this version has ended.
    /// - If this version was replaced, the old value has another owner, and the new value has another type.
    pub fn set<T: Shared + Serialize>(&self, key: &str, value: T) -> Result<()> {
        self.put(key, RawValue::new(value), true).map(drop)
    }

    /// Sets the value of `key` to one that does not implement `Serialize`, and replaces the old one, if
    /// any. A console shows the type and the owner of the value, but not the value.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub fn set_opaque<T: Shared>(&self, key: &str, value: T) -> Result<()> {
        self.put(key, RawValue::opaque(value), true).map(drop)
    }

    /// A clone of the value of `key`; `None` if there is none.
    ///
    /// # Errors
    /// If the value is not a `T`, or a `T` with other fields; the message says what differs.
    pub fn get<T: Shared + Clone>(&self, key: &str) -> Result<Option<T>> {
        self.read(key, T::clone)
    }

    /// Runs `f` with the value of `key`, which nobody can change meanwhile; `None` if there is none.
    ///
    /// # Errors
    /// As for [`get`](Self::get), and if a closure on this thread is using the value already.
    pub fn read<T: Shared, R>(&self, key: &str, f: impl FnOnce(&T) -> R) -> Result<Option<R>> {
        // SAFETY: the engine calls back with a valid value that nobody writes meanwhile.
        self.with(key, false, |value: NonNull<T>| f(unsafe { value.as_ref() }))
    }

    /// Runs `f` with the value of `key`, which nobody else can use meanwhile, and returns what `f` returns.
    /// If there is no value, `default` makes one first.
    ///
    /// # Errors
    /// As for [`read`](Self::read). Also, before this version's load is published, for a value that the load
    /// has not set itself: a load that fails must leave nothing behind.
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
        result.ok_or_else(|| Error::msg(format_args!("`{key}` was removed during the update")))
    }

    /// Runs `f` with the value of `key`, which nobody else can use meanwhile; `None` if there is none.
    ///
    /// # Errors
    /// As for [`update`](Self::update).
    pub fn modify<T: Shared, R>(
        &self,
        key: &str,
        f: impl FnOnce(&mut T) -> R,
    ) -> Result<Option<R>> {
        // SAFETY: the engine calls back with a valid value that nobody else uses meanwhile.
        self.with(key, true, |mut value: NonNull<T>| f(unsafe { value.as_mut() }))
    }

    /// Takes over the value of `key` from the version that this one replaces; if there is none, `default`
    /// makes one. Call it in `on_init`.
    ///
    /// If the type is the same, both versions share the value until the old one has ended, so no update is
    /// lost. If the type changed, the value is migrated through serde: new fields get their
    /// `#[serde(default)]`, renamed fields are found by `#[serde(alias)]`. Until the load is published, the
    /// new version can read the value but not change it. A load that is undone leaves the value as it was.
    ///
    /// # What a migration costs
    /// A migration runs beside the calls of the old version. It reads a map, a set or a list of std in at
    /// most 64 slices of at least 256 elements each, and a call that changes the value waits for one slice at
    /// a time. Afterwards the migration reads the elements again that changed meanwhile. If nobody changes the
    /// value during this second reading, the migration is complete.
    ///
    /// Otherwise, calls that use the value wait once, when the new version begins to serve: at most 50 ms for
    /// running calls of the old version, and then while the migration makes a digest of each element to find
    /// the last changes. The time for the digests grows with the number of elements, even if few have changed.
    /// So the wait has a bound also for a value that is changed all the time. From then on, a call of the old
    /// version gets an error if it changes the value. `cargo run --release -p hotswap-tests --example
    /// large_values` measures the wait; `BENCHMARKS.md` has figures.
    ///
    /// A value of any other type, such as a struct that contains a map, is read as a whole. If it changed, it
    /// is read as a whole again when the new version begins to serve. After that, too, a call of the old
    /// version gets an error if it changes the value. So give a large collection a key of its own.
    ///
    /// # Errors
    /// If the value cannot be migrated; the message names the field. Then the load is undone. The load is
    /// also undone if code of the type (its serde, the hash of a key) does not return while the load is
    /// published. If that code was working on the value itself, the value is lost.
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

    /// Takes a value over like [`carry`](Self::carry), and migrates a value of the type `Old` by hand, where
    /// serde cannot.
    ///
    /// `Old` is a copy of the type as it was before the change, in a module for old types. Its serde must read
    /// everything that the old value has; otherwise the load is undone, so that nothing is lost silently. When
    /// no version with the old type can be running any more, change the call back to [`carry`](Self::carry).
    ///
    /// ```
    /// use hotswap_plugin::prelude::*;
    /// use serde::{Deserialize, Serialize};
    ///
    /// mod before {
    ///     # use serde::{Deserialize, Serialize};
    ///     #[derive(Serialize, Deserialize)]
    ///     pub struct Score {
    ///         pub seconds: u32,
    ///     }
    /// }
    ///
    /// #[derive(Default, Shared, Serialize, Deserialize)]
    /// struct Score {
    ///     milliseconds: u64,
    /// }
    ///
    /// impl MigrateFrom<before::Score> for Score {
    ///     fn migrate(old: before::Score) -> Result<Self> {
    ///         Ok(Self { milliseconds: u64::from(old.seconds) * 1000 })
    ///     }
    /// }
    ///
    /// fn on_init(vault: &Vault) -> Result<()> {
    ///     vault.data_bag().carry_from::<before::Score, Score>("score", Score::default)?;
    ///     Ok(())
    /// }
    /// # on_init(&Vault::for_tests()).unwrap();
    /// ```
    ///
    /// The value is read as a whole: see "What a migration costs" at `carry`.
    ///
    /// # Errors
    /// As for `carry`; also if `Old` does not read the whole old value, and if `migrate` fails.
    pub fn carry_from<Old, T>(&self, key: &str, default: impl FnOnce() -> T) -> Result<Carried>
    where
        Old: Serialize + DeserializeOwned + 'static,
        T: MigrateFrom<Old> + Serialize,
    {
        let carried = self.take_over(key, CarryTable::by_hand::<Old, T>())?;
        if carried == Carried::New {
            self.set(key, default())?;
        }
        Ok(carried)
    }

    /// Takes a value over like [`carry`](Self::carry), for a value that does not implement `Serialize` and so
    /// cannot be migrated.
    ///
    /// # Errors
    /// If the type changed. Then the load is undone.
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
        // SAFETY: the context belongs to the table.
        to_result(unsafe { (self.vault.table.bag_carry)(self.vault.context, key, table) })
    }

    /// Removes the value of `key`; returns whether there was one.
    ///
    /// # Errors
    /// - If a closure on this thread is using the value.
    /// - If this version has ended.
    /// - If this version is being loaded or was replaced, and the value has another owner.
    pub fn remove(&self, key: &str) -> Result<bool> {
        // SAFETY: the context belongs to the table.
        to_result(unsafe { (self.vault.table.bag_remove)(self.vault.context, key) })
    }

    /// The keys of all values, sorted.
    ///
    /// # Errors
    /// Only if the engine itself panics.
    pub fn keys(&self) -> Result<Vec<String>> {
        // SAFETY: the context belongs to the table.
        to_result(unsafe { (self.vault.table.bag_keys)(self.vault.context) })
    }

    fn put(&self, key: &str, value: RawValue, replace: bool) -> Result<bool> {
        // SAFETY: the context belongs to the table; the engine owns the value from here on.
        to_result(unsafe { (self.vault.table.bag_set)(self.vault.context, key, value, replace) })
    }

    fn with<T: Shared, R>(
        &self,
        key: &str,
        write: bool,
        f: impl FnOnce(NonNull<T>) -> R,
    ) -> Result<Option<R>> {
        let mut call: Call<_, T, _> = Call { f: Some(f), result: None, value: PhantomData };
        let mut callback = ValueCallback::new(&mut call, write);
        // SAFETY: the context belongs to the table; the engine calls back at most once, with a value
        // whose schema is that of `T`, before it returns.
        let found = unsafe { (self.vault.table.bag_with)(self.vault.context, key, &mut callback) };
        to_result(found)?;
        call.result.transpose().map_err(|panic| std::panic::resume_unwind(panic))
    }
}

/// A type whose values can be made from values of an older type: see [`DataBag::carry_from`].
pub trait MigrateFrom<Old>: Shared {
    /// Makes a value from the old one.
    ///
    /// # Errors
    /// If the old value has no counterpart. Then the load is undone.
    fn migrate(old: Old) -> Result<Self>;
}

/// A closure that the engine calls back, and its result.
struct Call<F, T, R> {
    f: Option<F>,
    result: Option<std::thread::Result<R>>,
    value: PhantomData<fn(NonNull<T>)>,
}

/// The functions and types that are declared with [`#[live]`](macro@crate::live), found by name in the
/// generation that serves at the time of the call.
///
/// With live functions, jobs can wait in a queue, each as the name of a function and the [`Data`] for it.
/// When a job's turn comes, the newest code does it.
///
/// ```
/// use hotswap_plugin::prelude::*;
///
/// /// Does a job that was queued, perhaps by an earlier version.
/// fn work(vault: &Vault, function: &str, data: &Data) -> Result<Value> {
///     vault.live().call(function, &[data.value().clone()])
/// }
/// ```
pub struct Live<'a> {
    vault: &'a Vault,
}

impl Live<'_> {
    /// Calls the live function named `name`.
    ///
    /// # Errors
    /// If no live function has that name, an argument does not fit its parameter, or the function fails
    /// or panics.
    pub fn call(&self, name: &str, args: &[Value]) -> Result<Value> {
        // SAFETY: the context is one that the table knows; the arguments live through the call.
        to_result(unsafe {
            (self.vault.table.live_call)(self.vault.context, name, args.as_ptr(), args.len())
        })
    }

    /// Converts data to the current form of the live type with its name ([`Data::live_name`]): fields that
    /// the type has gained get their `#[serde(default)]`, and fields that it has lost are dropped.
    ///
    /// # Errors
    /// If no live type has that name, or the data does not fit it. The message names the field.
    pub fn renew(&self, data: &Data) -> Result<Data> {
        // SAFETY: the context belongs to the table.
        to_result(unsafe { (self.vault.table.live_renew)(self.vault.context, data) })
    }
}

/// What [`DataBag::carry`] did.
///
/// ```
/// use hotswap_plugin::{Carried, Result, Vault};
///
/// fn prepare(vault: &Vault) -> Result<()> {
///     let bag = vault.data_bag();
///     if bag.carry("games", || 0_u64)? == Carried::New {
///         bag.set("first game", String::from("chess"))?;
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// There was no value; `default` made one.
    New,
    /// The value belongs to the host or to a version that is not replaced, and keeps that owner.
    Kept,
    /// The type is the same: this version shares the value with the version that it replaces.
    Shared,
    /// The type changed: the value is migrated, and this version has it when the load is published.
    Migrated,
}

/// Objects that plugins and host register by interface and name, so that other plugins and the host can find
/// and call them.
///
/// ```
/// use hotswap_plugin::prelude::*;
///
/// #[interface]
/// pub trait Cat {
///     fn meow(&self, times: u32) -> String;
/// }
///
/// struct Tom;
///
/// impl Cat for Tom {
///     fn meow(&self, times: u32) -> String {
///         vec!["meow"; times as usize].join(" ")
///     }
/// }
///
/// #[derive(Default)]
/// struct House;
///
/// #[plugin]
/// impl Plugin for House {
///     fn on_init(&self, vault: &Vault) -> Result<()> {
///         vault.extension().register::<dyn Cat, _>("tom", Tom)
///     }
/// }
///
/// #[invoke]
/// fn call_tom(vault: &Vault) -> Result<Option<String>> {
///     Ok(vault.extension().find::<dyn Cat>("tom")?.map(|tom| tom.meow(2)))
/// }
/// # fn main() {}
/// ```
pub struct Extension<'a> {
    vault: &'a Vault,
}

impl Extension<'_> {
    /// Registers an object of interface `I` under a name. The registration ends when this version is
    /// replaced.
    ///
    /// # Errors
    /// If an object of this interface is already registered under the name; the message names its owner.
    pub fn register<I, T>(&self, name: &str, object: T) -> Result<()>
    where
        I: ObjectOf<T> + ?Sized,
        T: Send + Sync + 'static,
    {
        self.put::<I, T>(name, object, false)
    }

    /// Registers an object of the host under a name, and replaces the host's earlier one, if any. Whoever has
    /// found the earlier object can still use it; it is dropped with the last handle.
    ///
    /// # Errors
    /// If a plugin has registered an object under the name, or if a plugin calls this: a plugin's
    /// registrations end with its version.
    pub fn replace<I, T>(&self, name: &str, object: T) -> Result<()>
    where
        I: ObjectOf<T> + ?Sized,
        T: Send + Sync + 'static,
    {
        self.put::<I, T>(name, object, true)
    }

    fn put<I, T>(&self, name: &str, object: T, replace: bool) -> Result<()>
    where
        I: ObjectOf<T> + ?Sized,
        T: Send + Sync + 'static,
    {
        let object = RawObject::new::<I, T>(object);
        // SAFETY: the context belongs to the table; the engine owns the object from here on.
        to_result(unsafe { (self.vault.table.register)(self.vault.context, name, object, replace) })
    }

    /// Ends the registration of an object of the host; returns whether there was one. Whoever has found the
    /// object can still use it; it is dropped with the last handle.
    ///
    /// # Errors
    /// As for [`replace`](Self::replace). In a callback, also if this load did not register the object.
    pub fn unregister<I: Interface + ?Sized>(&self, name: &str) -> Result<bool> {
        let shape = I::shape();
        // SAFETY: the context belongs to the table.
        to_result(unsafe { (self.vault.table.unregister)(self.vault.context, &shape.name, name) })
    }

    /// The object of interface `I` that the host or a plugin has registered under a name; `None` if there is
    /// none.
    ///
    /// The handle keeps the version that registered the object in use, so drop it when the work is done. To
    /// keep an object of another plugin, import it: see [`ImportSet`](crate::ImportSet).
    ///
    /// # Errors
    /// If the object's owner was built with another version of the interface. The message says what differs.
    pub fn find<I: Interface + ?Sized>(&self, name: &str) -> Result<Option<Leased<I>>> {
        let shape = I::shape();
        // SAFETY: the context belongs to the table.
        let found =
            to_result(unsafe { (self.vault.table.find)(self.vault.context, &shape, name) })?;
        // SAFETY: the engine returns an object of the shape that was asked for.
        Ok(found.map(|found| unsafe { found.into_leased_unchecked() }))
    }

    /// The names under which objects of interface `I` are registered, sorted.
    ///
    /// # Errors
    /// Only if the engine itself panics.
    pub fn names<I: Interface + ?Sized>(&self) -> Result<Vec<String>> {
        let shape = I::shape();
        // SAFETY: the context belongs to the table.
        to_result(unsafe { (self.vault.table.names)(self.vault.context, &shape.name) })
    }
}

fn to_result<T>(answer: Answer<T>) -> Result<T> {
    match answer {
        Answer::Ok(value) => Ok(value),
        Answer::Err(error) => Err(error),
        Answer::Panic(report) => Err(Error::msg(format_args!(
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

    use super::{Call, MigrateFrom, by_hand};
    use crate::{
        Shared, TypeSchema,
        abi::Answer,
        image::catch,
        parts::{Change, Kind, Parts, Wanted},
        preview::{Bounds, Preview},
        shared::{own_schema_of, schema_of},
    };

    /// A value, and the functions for its type in the image that set it.
    #[repr(C)]
    pub struct RawValue {
        pub data: NonNull<()>,
        pub table: *const ValueTable,
    }

    /// The functions for a value's type. The table lies in the image that set the value.
    #[repr(C)]
    pub struct ValueTable {
        pub drop: unsafe extern "C" fn(NonNull<()>) -> Answer<()>,
        pub schema: extern "C" fn() -> Answer<TypeSchema>,
        pub to_json: unsafe extern "C" fn(NonNull<()>) -> Answer<String>,
        /// Makes a preview of the value, of bounded size.
        pub preview: unsafe extern "C" fn(NonNull<()>, Bounds) -> Answer<Preview>,
        /// Reads parts of the value; `None` if it is neither a map nor a list.
        pub parts: unsafe extern "C" fn(NonNull<()>, &Wanted) -> Answer<Option<Parts>>,
        pub rehome: unsafe extern "C" fn(NonNull<()>) -> Answer<()>,
    }

    impl RawValue {
        /// Moves `value` to the heap and pairs it with its functions.
        pub fn new<T: Shared + Serialize>(value: T) -> Self {
            Self::with(value, TypeTable::<T>::TABLE)
        }

        /// Makes one like `new`, for a value that does not implement `Serialize`.
        pub fn opaque<T: Shared>(value: T) -> Self {
            Self::with(value, TypeTable::<T>::OPAQUE)
        }

        fn with<T: Shared>(value: T, table: &'static ValueTable) -> Self {
            let data = NonNull::from(Box::leak(Box::new(value))).cast();
            Self { data, table }
        }
    }

    /// Makes the table of functions for a value's type from the functions that depend on whether it is
    /// opaque.
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

    /// The functions for the new type of a value that is taken over. The table lies in the image that takes
    /// the value over.
    #[repr(C)]
    pub struct CarryTable {
        pub value: ValueTable,
        pub from_json: extern "C" fn(&str) -> Answer<RawValue>,
        /// How parts of a value are identified; `None` if the type has no parts.
        pub kind: extern "C" fn() -> Answer<Option<Kind>>,
        /// Changes parts of a value. `parts`, the new parts, is a value of the same type.
        pub change:
            unsafe extern "C" fn(NonNull<()>, parts: Option<RawValue>, &Change<'_>) -> Answer<()>,
    }

    /// Makes the table of functions for a type to which values are migrated.
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

    /// A migration by hand from the first type to the second.
    struct ByHand<Old, T>(Old, T);

    impl<Old, T> ByHand<Old, T>
    where
        Old: Serialize + DeserializeOwned + 'static,
        T: MigrateFrom<Old> + Serialize,
    {
        const TABLE: &'static CarryTable = &CarryTable {
            kind: no_kind,
            ..carry_table!(
                T,
                value_table!(T, to_json::<T>, preview::<T>, parts::<T>),
                migrated::<Old, T>
            )
        };
    }

    /// Parts of an `Old` cannot be read as an `Old`.
    extern "C" fn no_kind() -> Answer<Option<Kind>> {
        Answer::Ok(None)
    }

    extern "C" fn migrated<Old, T>(json: &str) -> Answer<RawValue>
    where
        Old: Serialize + DeserializeOwned,
        T: MigrateFrom<Old> + Serialize,
    {
        catch(|| Answer::from_result(by_hand::migrate::<Old, T>(json).map(RawValue::new)))
    }

    impl<T: Shared> CarryType<T> {
        const OPAQUE: &'static CarryTable =
            &carry_table!(T, value_table!(T, no_json, no_preview, no_parts), not_from_json);
    }

    impl CarryTable {
        pub(crate) fn of<T: Shared + Serialize + DeserializeOwned>() -> &'static Self {
            CarryType::<T>::TABLE
        }

        pub(super) fn by_hand<Old, T>() -> &'static Self
        where
            Old: Serialize + DeserializeOwned + 'static,
            T: MigrateFrom<Old> + Serialize,
        {
            ByHand::<Old, T>::TABLE
        }

        pub(super) fn opaque<T: Shared>() -> &'static Self {
            CarryType::<T>::OPAQUE
        }
    }

    extern "C" fn from_json<T: Shared + Serialize + DeserializeOwned>(
        json: &str,
    ) -> Answer<RawValue> {
        catch(|| Answer::from_result(crate::value::read_json::<T>(json).map(RawValue::new)))
    }

    extern "C" fn kind<T: Shared>() -> Answer<Option<Kind>> {
        catch(|| Answer::Ok(T::patch().map(|patch| patch.kind())))
    }

    unsafe extern "C" fn change<T: Shared>(
        value: NonNull<()>,
        parts: Option<RawValue>,
        change: &Change<'_>,
    ) -> Answer<()> {
        // SAFETY: nobody else uses the value meanwhile.
        let value = unsafe { value.cast::<T>().as_mut() };
        // SAFETY: the engine passes a value that `from_json` of this type made, and does not use it again.
        let parts = parts.map(|parts| unsafe { Box::from_raw(parts.data.cast::<T>().as_ptr()) });
        catch(|| {
            if let Some(patch) = T::patch() {
                patch.apply(value, parts.map(|parts| *parts), change);
            }
            Answer::Ok(())
        })
    }

    /// A closure that the engine calls with a value.
    #[repr(C)]
    pub struct ValueCallback {
        pub fingerprint: u64,
        pub schema: extern "C" fn() -> Answer<TypeSchema>,
        pub write: bool,
        /// Replaces pointers into other images by pointers into the calling one.
        pub rehome: unsafe extern "C" fn(NonNull<()>) -> Answer<()>,
        pub run: unsafe extern "C" fn(context: *mut (), value: NonNull<()>),
        pub context: *mut (),
    }

    impl ValueCallback {
        // Builds of patches know by this function's name that `run` is only lent, also if they are optimised.
        #[inline(never)]
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

    unsafe extern "C" fn drop_value<T>(value: NonNull<()>) -> Answer<()> {
        // SAFETY: the value was leaked from a `Box<T>`, and the engine drops it once.
        let value = unsafe { Box::from_raw(value.cast::<T>().as_ptr()) };
        catch(|| {
            drop(value);
            Answer::Ok(())
        })
    }

    pub extern "C" fn schema<T: Shared>() -> Answer<TypeSchema> {
        catch(|| Answer::Ok(own_schema_of::<T>()))
    }

    unsafe extern "C" fn to_json<T: Serialize>(value: NonNull<()>) -> Answer<String> {
        // SAFETY: the engine has locked the value for reading.
        let value = unsafe { value.cast::<T>().as_ref() };
        catch(|| Answer::from_result(crate::value::to_json(value).map_err(Into::into)))
    }

    unsafe extern "C" fn preview<T: Serialize>(
        value: NonNull<()>,
        bounds: Bounds,
    ) -> Answer<Preview> {
        // SAFETY: the engine has locked the value for reading.
        let value = unsafe { value.cast::<T>().as_ref() };
        catch(|| Answer::from_result(Preview::of(value, bounds).map_err(crate::Error::msg)))
    }

    unsafe extern "C" fn no_preview(_: NonNull<()>, _: Bounds) -> Answer<Preview> {
        Answer::Err(crate::Error::msg("the value is opaque: it does not implement `Serialize`"))
    }

    unsafe extern "C" fn parts<T: Serialize>(
        value: NonNull<()>,
        wanted: &Wanted,
    ) -> Answer<Option<Parts>> {
        // SAFETY: the engine has locked the value for reading.
        let value = unsafe { value.cast::<T>().as_ref() };
        catch(|| Answer::from_result(Parts::of(value, wanted).map_err(crate::Error::msg)))
    }

    unsafe extern "C" fn no_parts(_: NonNull<()>, _: &Wanted) -> Answer<Option<Parts>> {
        Answer::Ok(None)
    }

    unsafe extern "C" fn no_json(_: NonNull<()>) -> Answer<String> {
        Answer::Err(crate::Error::msg("the value is opaque: it does not implement `Serialize`"))
    }

    extern "C" fn not_from_json(_: &str) -> Answer<RawValue> {
        let message =
            "the new version takes the value over with `carry_opaque`, which cannot migrate it";
        Answer::Err(crate::Error::msg(message))
    }

    unsafe extern "C" fn rehome<T: Shared>(value: NonNull<()>) -> Answer<()> {
        // SAFETY: the engine has locked the value for writing.
        let value = unsafe { value.cast::<T>().as_mut() };
        catch(|| {
            value.rehome();
            Answer::Ok(())
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
