//! A named value behind a lock.

use std::{
    cell::RefCell,
    ptr::NonNull,
    sync::{PoisonError, RwLock, TryLockError},
};

use hotswap_plugin::{
    __private::{RawValue, ValueCallback},
    Error, Result, TypeSchema,
    abi::Outcome,
};
use hotswap_protocol::DataBagEntry;

use crate::{
    lease::{Lease, LeaseKind},
    version::Owner,
};

/// A value in the DataBag.
///
/// Its drop, its JSON and its rehoming are code of the image that set it. So whoever uses it leases
/// its owner first; and it is dropped explicitly, by [`destroy`](Self::destroy), while the image is
/// mapped: a forgotten reference to an empty cell is harmless.
pub(super) struct Cell {
    pub key: String,
    pub owner: Owner,
    schema: TypeSchema,
    value: RwLock<Option<Value>>,
}

/// The value proper; dropping it drops the object.
struct Value(RawValue);

// SAFETY: `Shared` types are `Send + Sync`, and only such are stored.
unsafe impl Send for Value {}
// SAFETY: as above.
unsafe impl Sync for Value {}

thread_local! {
    /// The cells that this thread has locked, so that it does not wait for itself.
    static LOCKED: RefCell<Vec<*const Cell>> = const { RefCell::new(Vec::new()) };
}

impl Cell {
    /// A cell for a value that `owner`, whose image is mapped, just made.
    pub fn new(key: &str, owner: Owner, value: RawValue) -> Result<Self> {
        let value = Value(value);
        // SAFETY: the table lies in the owner's image.
        let schema = flatten(unsafe { ((*value.0.table).schema)() })?;
        Ok(Self { key: key.to_owned(), owner, schema, value: RwLock::new(Some(value)) })
    }

    /// Calls back with the value; says whether there was one.
    pub fn with(&self, by: &Owner, callback: &mut ValueCallback) -> Result<bool> {
        let Some(_lease) = self.lease() else { return Ok(false) };
        self.expect_type(callback)?;
        let _locked = self.lock_once()?;
        if callback.write {
            let guard = self.value.write().unwrap_or_else(PoisonError::into_inner);
            let Some(value) = guard.as_ref() else { return Ok(false) };
            // SAFETY: the type was checked, and the lock is held for writing.
            unsafe { (callback.run)(callback.context, value.0.data) };
            if !same_owner(by, &self.owner) {
                // What another image wrote may point at statics of that image.
                // SAFETY: the owner is leased, and the lock is held for writing.
                flatten(unsafe { ((*value.0.table).rehome)(value.0.data) })?;
            }
        } else {
            let guard = self.value.read().unwrap_or_else(PoisonError::into_inner);
            let Some(value) = guard.as_ref() else { return Ok(false) };
            // SAFETY: the type was checked, and the lock is held for reading.
            unsafe { (callback.run)(callback.context, value.0.data) };
        }
        Ok(true)
    }

    /// Drops the value.
    ///
    /// The caller is the reaper, for which the owner's image is still mapped, or has a lease of it.
    pub fn destroy(&self) {
        let value = self.value.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(value);
    }

    /// Drops the value if its owner is still there; if it is not, the reaper did.
    pub fn destroy_leased(&self) {
        if let Some(_lease) = self.lease() {
            self.destroy();
        }
    }

    /// Whether this thread is using the value, and so cannot wait until nobody does.
    pub fn expect_unlocked(&self) -> Result<()> {
        self.lock_once().map(drop)
    }

    pub fn info(&self) -> DataBagEntry {
        let json = self.json();
        DataBagEntry {
            key: self.key.clone(),
            type_name: self.schema.name().to_owned(),
            owner: self.owner.to_string(),
            size_bytes: json.as_ref().map(|json| json.len() as u64),
            value: json.and_then(|json| serde_json::from_str(&json).ok()),
        }
    }

    /// The value as JSON; none when it does not serialise, or somebody is writing it right now.
    fn json(&self) -> Option<String> {
        let _lease = self.lease()?;
        let _locked = self.lock_once().ok()?;
        let guard = match self.value.try_read() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let value = guard.as_ref()?;
        // SAFETY: the owner is leased, and the lock is held.
        flatten(unsafe { ((*value.0.table).to_json)(value.0.data) }).ok()
    }

    /// Keeps the owner's image mapped; the outer option is whether it still is.
    fn lease(&self) -> Option<Option<Lease>> {
        match &self.owner {
            Owner::Host => Some(None),
            Owner::Version(version) => {
                Lease::try_new(&version.upgrade()?, LeaseKind::Value).map(Some)
            }
        }
    }

    fn expect_type(&self, callback: &ValueCallback) -> Result<()> {
        if callback.fingerprint == self.schema.fingerprint() {
            return Ok(());
        }
        let expected = flatten((callback.schema)())?;
        let what = self.schema.difference(&expected).unwrap_or_default();
        let (key, owner) = (&self.key, &self.owner);
        Err(Error::msg(format_args!("`{key}` of {owner} has another type: {what}")))
    }

    fn lock_once(&self) -> Result<Locked> {
        let this = std::ptr::from_ref(self);
        LOCKED.with_borrow_mut(|locked| {
            if locked.contains(&this) {
                let key = &self.key;
                return Err(Error::msg(format_args!(
                    "this thread is using `{key}` already; finish that before using it again"
                )));
            }
            locked.push(this);
            Ok(Locked(this))
        })
    }
}

/// A note that this thread has a cell locked.
struct Locked(*const Cell);

impl Drop for Locked {
    fn drop(&mut self) {
        LOCKED.with_borrow_mut(|locked| locked.retain(|cell| *cell != self.0));
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: the owner's image is mapped, as `Cell` says, and the object is dropped once.
        let dropped = unsafe { ((*self.0.table).drop)(self.0.data) };
        if let Outcome::Panic(report) = dropped {
            tracing::error!("dropping a value panicked at {}: {}", report.location, report.message);
        }
        self.0.data = NonNull::dangling();
    }
}

fn same_owner(a: &Owner, b: &Owner) -> bool {
    match (a, b) {
        (Owner::Host, Owner::Host) => true,
        (Owner::Version(a), Owner::Version(b)) => a.ptr_eq(b),
        _ => false,
    }
}

/// What an image answered, its panic as an error.
pub(super) fn flatten<T>(outcome: Outcome<T>) -> Result<T> {
    match outcome {
        Outcome::Ok(value) => Ok(value),
        Outcome::Err(error) => Err(error),
        Outcome::Panic(report) => {
            let (message, location) = (report.message, report.location);
            Err(Error::msg(format_args!("panicked at {location}: {message}")))
        }
    }
}
