//! A Vault in memory, without an engine, for tests of functions that take one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use super::{
    Carried, Vault,
    raw::{CarryTable, RawValue, ValueCallback},
    table::VaultServices,
    to_result,
};
use crate::{
    BoundObject, Data, Error, InterfaceShape, Result, TypeSchema, Value,
    image::end_panic,
    interface::raw::{Lease, RawObject},
    notes::Notes,
};

/// The error of live functions, which belong to a generation of an engine.
const NOTHING_LIVE: &str = "a Vault for tests has no live functions and types; to call them, load the plugin \
                            with `hotswap_engine::Engine::builder_static`";

/// Makes a separate Vault.
pub(super) fn vault() -> Vault {
    Vault::over(Arc::new(Contents::default()))
}

#[derive(Default)]
struct Contents {
    values: Mutex<BTreeMap<String, Arc<Entry>>>,
    objects: Mutex<Vec<Arc<Object>>>,
}

/// A value. Its lock is held while a closure runs with it.
struct Entry {
    value: RawValue,
    lock: RwLock<()>,
}

/// An object that is registered.
struct Object {
    name: String,
    shape: InterfaceShape,
    object: Owned,
}

/// An object that is dropped with this value.
struct Owned(RawObject);

// SAFETY: the value is `Shared`, which is `Send` and `Sync`, and each user holds the lock.
unsafe impl Send for Entry {}
// SAFETY: as above.
unsafe impl Sync for Entry {}
// SAFETY: `RawObject::new` takes only what is `Send` and `Sync`.
unsafe impl Send for Object {}
// SAFETY: as above.
unsafe impl Sync for Object {}

impl Drop for Entry {
    fn drop(&mut self) {
        // SAFETY: the value is dropped once, and nobody uses it any more. Its table lies in this program.
        let _ = unsafe { ((*self.value.table).drop)(self.value.data) };
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: as for `Entry`.
        let _ = unsafe { ((*self.0.table).drop)(self.0.data) };
    }
}

thread_local! {
    /// The values that closures on this thread are running with.
    static IN_USE: Notes<*const Entry> = const { Notes::new() };
}

/// Marks a value as used by a closure on this thread.
struct Use(*const Entry);

impl Use {
    fn of(entry: &Entry, key: &str) -> Result<Self> {
        let entry = std::ptr::from_ref(entry);
        IN_USE.with(|used| {
            if used.any(|one| *one == entry) {
                let message = format!("`{key}` is being used by a closure on this thread");
                return Err(Error::msg(message));
            }
            used.add(entry);
            Ok(Self(entry))
        })
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        IN_USE.with(|used| used.remove_last(|entry| *entry == self.0));
    }
}

impl Entry {
    fn schema(&self) -> Result<TypeSchema> {
        // SAFETY: the table lies in this program.
        to_result(unsafe { ((*self.value.table).schema)() })
    }

    /// Refuses a value of another type than the expected one.
    fn expect(&self, key: &str, fingerprint: u64, expected: &TypeSchema) -> Result<()> {
        let found = self.schema()?;
        if found.fingerprint() == fingerprint {
            return Ok(());
        }
        let what = found.difference(expected).unwrap_or_else(|| "it differs".into());
        Err(Error::msg(format_args!("`{key}` has another type: {what}")))
    }
}

impl Contents {
    fn values(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Entry>>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn objects(&self) -> MutexGuard<'_, Vec<Arc<Object>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, key: &str) -> Option<Arc<Entry>> {
        self.values().get(key).cloned()
    }

    /// Refuses to take out or replace a value while a closure on this thread runs with it.
    fn expect_unused(&self, key: &str) -> Result<()> {
        self.entry(key).map_or(Ok(()), |entry| Use::of(&entry, key).map(drop))
    }
}

impl VaultServices for Contents {
    fn set(&self, key: &str, value: RawValue, replace: bool) -> Result<bool> {
        let entry = Arc::new(Entry { value, lock: RwLock::new(()) });
        self.expect_unused(key)?;
        let displaced = {
            let mut values = self.values();
            if !replace && values.contains_key(key) {
                return Ok(false);
            }
            values.insert(key.to_owned(), entry)
        };
        // The lock is released, since the author's drop may use the Vault.
        drop(displaced);
        Ok(true)
    }

    fn with(&self, key: &str, callback: &mut ValueCallback) -> Result<bool> {
        let Some(entry) = self.entry(key) else { return Ok(false) };
        let expected = to_result((callback.schema)())?;
        entry.expect(key, callback.fingerprint, &expected)?;
        let _use = Use::of(&entry, key)?;
        let run = || {
            // SAFETY: the value is of the callback's type, and the lock keeps others from it.
            unsafe { (callback.run)(callback.context, entry.value.data) };
        };
        if callback.write {
            let _lock = entry.lock.write().unwrap_or_else(PoisonError::into_inner);
            run();
        } else {
            let _lock = entry.lock.read().unwrap_or_else(PoisonError::into_inner);
            run();
        }
        Ok(true)
    }

    /// There is no earlier version, so the test has set any value that is there.
    fn carry(&self, key: &str, table: &'static CarryTable) -> Result<Carried> {
        let Some(entry) = self.entry(key) else { return Ok(Carried::New) };
        let expected = to_result((table.value.schema)())?;
        entry.expect(key, expected.fingerprint(), &expected)?;
        Ok(Carried::Kept)
    }

    fn remove(&self, key: &str) -> Result<bool> {
        self.expect_unused(key)?;
        let removed = self.values().remove(key);
        Ok(removed.is_some())
    }

    fn register(&self, name: &str, object: RawObject, replace: bool) -> Result<()> {
        let object = Owned(object);
        // SAFETY: the table lies in this program.
        let shape = to_result(unsafe { ((*object.0.table).shape)() })?;
        let new = Arc::new(Object { name: name.to_owned(), shape, object });
        let mut objects = self.objects();
        let is_same = |old: &Arc<Object>| old.name == new.name && old.shape.name == new.shape.name;
        let Some(place) = objects.iter().position(is_same) else {
            objects.push(new);
            return Ok(());
        };
        if !replace {
            let interface = &new.shape.name;
            let message = format!("an object of `{interface}` is already registered as `{name}`");
            return Err(Error::msg(message));
        }
        let displaced = std::mem::replace(&mut objects[place], new);
        drop(objects);
        drop(displaced);
        Ok(())
    }

    fn unregister(&self, interface: &str, name: &str) -> Result<bool> {
        let mut objects = self.objects();
        let is_it = |it: &Arc<Object>| it.name == name && it.shape.name == interface;
        let removed = objects.iter().position(is_it).map(|place| objects.remove(place));
        drop(objects);
        Ok(removed.is_some())
    }

    fn find(&self, shape: &InterfaceShape, name: &str) -> Result<Option<BoundObject>> {
        let is_it = |it: &&Arc<Object>| it.name == name && it.shape.name == shape.name;
        let Some(found) = self.objects().iter().find(is_it).cloned() else { return Ok(None) };
        if let Some(what) = found.shape.difference(shape) {
            return Err(Error::msg(format_args!("the object `{name}`: {what}")));
        }
        let object = RawObject { data: found.object.0.data, table: found.object.0.table };
        // SAFETY: the lease is a reference to the object, which lives as long as the lease.
        Ok(Some(unsafe {
            let lease = Lease::new(Arc::into_raw(found).cast(), retain_object, release_object);
            BoundObject::new(object, lease)
        }))
    }

    fn names(&self, interface: &str) -> Vec<String> {
        let objects = self.objects();
        let of_interface = objects.iter().filter(|it| it.shape.name == interface);
        let mut names: Vec<_> = of_interface.map(|it| it.name.clone()).collect();
        names.sort();
        names
    }

    fn keys(&self) -> Vec<String> {
        self.values().keys().cloned().collect()
    }

    fn live_call(&self, _: &str, _: &[Value]) -> Result<Value> {
        Err(Error::msg(NOTHING_LIVE))
    }

    fn live_renew(&self, _: &Data) -> Result<Data> {
        Err(Error::msg(NOTHING_LIVE))
    }
}

unsafe extern "C" fn retain_object(object: *const ()) {
    // SAFETY: the lease is a reference to an `Object`.
    unsafe { Arc::increment_strong_count(object.cast::<Object>()) };
}

unsafe extern "C" fn release_object(object: *const ()) {
    // SAFETY: as above; each lease releases its own reference once.
    let _ = end_panic(|| unsafe { Arc::decrement_strong_count(object.cast::<Object>()) });
}
