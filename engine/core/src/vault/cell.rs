//! A named value behind a lock.

use std::{
    cell::RefCell,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard, TryLockError},
};

use hotswap_plugin::{
    __private::{CarryTable, RawValue, ValueCallback},
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
    /// What a lease for it is called.
    label: Arc<str>,
    /// Changes hands when a new version takes the value over.
    owner: Mutex<Owner>,
    schema: TypeSchema,
    content: RwLock<Content>,
    /// Set when the value is to be dropped by whoever uses it last, with a lease for that.
    left: Mutex<Option<Option<Lease>>>,
    is_left: std::sync::atomic::AtomicBool,
}

/// What is behind a cell's lock.
pub(super) struct Content {
    /// None once it was dropped.
    value: Option<Value>,
    /// The version that has a copy of another type, if so: then this one is not changed any more.
    superseded_by: Option<String>,
}

/// The value proper, to be destroyed explicitly.
pub(super) struct Value(RawValue);

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
        let schema = match flatten(unsafe { ((*value.0.table).schema)() }) {
            Ok(schema) => schema,
            Err(error) => {
                value.destroy();
                return Err(error);
            }
        };
        let content = RwLock::new(Content { value: Some(value), superseded_by: None });
        let label = format!("`{key}`").into();
        Ok(Self {
            key: key.to_owned(),
            label,
            owner: Mutex::new(owner),
            schema,
            content,
            left: Mutex::default(),
            is_left: false.into(),
        })
    }

    pub fn owner(&self) -> Owner {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn schema(&self) -> &TypeSchema {
        &self.schema
    }

    /// Drops the value now or, where somebody uses it, when they have done. The lease is of the owner.
    pub fn leave(&self, lease: Option<Lease>) {
        use std::sync::atomic::{Ordering, fence};
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease);
        self.is_left.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.destroy_if_left();
    }

    fn destroy_if_left(&self) {
        use std::sync::atomic::{Ordering, fence};
        fence(Ordering::SeqCst);
        if !self.is_left.load(Ordering::SeqCst) {
            return;
        }
        let mut content = match self.content.try_write() {
            Ok(content) => content,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let lease = self.left.lock().unwrap_or_else(PoisonError::into_inner).take();
        let value = content.value.take();
        drop(content);
        value.into_iter().for_each(Value::destroy);
        drop(lease);
    }

    /// Calls back with the value; says whether there was one.
    pub fn with(&self, by: &Owner, callback: &mut ValueCallback) -> Result<bool> {
        let done = self.with_value(by, callback);
        self.destroy_if_left();
        done
    }

    fn with_value(&self, by: &Owner, callback: &mut ValueCallback) -> Result<bool> {
        let Some(_lease) = self.lease() else { return Ok(false) };
        self.expect_type(callback)?;
        let _locked = self.lock_once()?;
        if callback.write {
            let content = self.content.write().unwrap_or_else(PoisonError::into_inner);
            self.expect_not_superseded(&content)?;
            let Some(value) = content.value.as_ref() else { return Ok(false) };
            let is_foreign = !same_owner(by, &self.owner());
            if is_foreign {
                // What is moved out must not point at statics of the owner's image.
                // SAFETY: the type was checked, and the lock is held for writing.
                let rehomed = flatten(unsafe { (callback.rehome)(value.0.data) });
                if let Err(error) = rehomed {
                    return Err(self.lose(content, error));
                }
            }
            // SAFETY: the type was checked, and the lock is held for writing.
            unsafe { (callback.run)(callback.context, value.0.data) };
            if is_foreign {
                // What another image wrote may point at statics of that image.
                // SAFETY: the owner is leased, and the lock is held for writing.
                if let Err(error) = flatten(unsafe { value.rehome() }) {
                    return Err(self.lose(content, error));
                }
            }
        } else {
            let content = self.content.read().unwrap_or_else(PoisonError::into_inner);
            let Some(value) = content.value.as_ref() else { return Ok(false) };
            // SAFETY: the type was checked, and the lock is held for reading.
            unsafe { (callback.run)(callback.context, value.0.data) };
        }
        Ok(true)
    }

    fn expect_not_superseded(&self, content: &Content) -> Result<()> {
        let Some(version) = &content.superseded_by else { return Ok(()) };
        Err(Error::msg(format_args!(
            "`{}` was superseded: {version} has taken it over with another type",
            self.key
        )))
    }

    /// Refuses a cell of which a version has a copy of another type.
    pub fn expect_current(&self) -> Result<()> {
        self.expect_not_superseded(&self.content.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Drops a value that may point into two images; the owner is leased, and the other one calls.
    fn lose(&self, mut content: RwLockWriteGuard<'_, Content>, error: Error) -> Error {
        let value = content.value.take();
        drop(content);
        value.into_iter().for_each(Value::destroy);
        error.context(format_args!("`{}` is lost", self.key))
    }

    /// Locks the cell, to be taken over; none when somebody is using it.
    pub fn try_lock(&self) -> Result<Option<LockedCell<'_>>> {
        let locked = self.lock_once()?;
        let content = match self.content.try_write() {
            Ok(content) => content,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        Ok(Some(LockedCell { cell: self, content, _locked: locked }))
    }

    /// Replaces the value by another of its type, while only its owner's load can see it.
    pub fn replace(&self, value: RawValue) {
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        let old = content.value.replace(Value(value));
        drop(content);
        old.into_iter().for_each(Value::destroy);
    }

    /// The value as another type, made in the image of `table`.
    pub fn migrated(&self, table: &CarryTable) -> Result<RawValue> {
        let changing = || Error::msg(format_args!("`{}` is being changed right now", self.key));
        let json = self.json().ok_or_else(changing)?;
        self.read_as(table, &self.told(json)?)
    }

    /// The value as JSON, which must be there to be read as another type.
    fn told(&self, json: Result<String>) -> Result<String> {
        json.map_err(|error| {
            let old = self.schema.name();
            error.context(format_args!("`{}`: the old value, a `{old}`, cannot be told", self.key))
        })
    }

    /// The value of another type that this one's JSON makes.
    pub fn read_as(&self, table: &CarryTable, json: &str) -> Result<RawValue> {
        flatten((table.from_json)(json)).map_err(|error| {
            let old = self.schema.name();
            error.context(format_args!("`{}`: the old value, a `{old}`, does not fit", self.key))
        })
    }

    /// Drops the value.
    ///
    /// The caller is the reaper, for which the owner's image is still mapped, or has a lease of it.
    pub fn destroy(&self) {
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        let value = content.value.take();
        drop(content);
        value.into_iter().for_each(Value::destroy);
    }

    /// Whether this thread is using the value, and so cannot wait until nobody does.
    pub fn expect_unlocked(&self) -> Result<()> {
        self.lock_once().map(drop)
    }

    pub fn info(&self) -> DataBagEntry {
        let json = self.json().and_then(Result::ok);
        DataBagEntry {
            key: self.key.clone(),
            type_name: self.schema.name().to_owned(),
            owner: self.owner().to_string(),
            size_bytes: json.as_ref().map(|json| json.len() as u64),
            value: json.and_then(|json| serde_json::from_str(&json).ok()),
        }
    }

    /// The value as JSON; none when somebody is writing it right now.
    fn json(&self) -> Option<Result<String>> {
        let _lease = self.lease()?;
        let _locked = self.lock_once().ok()?;
        let content = match self.content.try_read() {
            Ok(content) => content,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        // SAFETY: the owner is leased.
        Some(flatten(unsafe { content.value.as_ref()?.to_json() }))
    }

    /// Keeps the owner's image mapped; the outer option is whether it still is.
    pub fn lease(&self) -> Option<Option<Lease>> {
        match self.owner() {
            Owner::Host => Some(None),
            owner @ Owner::Version(_) => Some(Some(self.lease_of(&owner)?)),
        }
    }

    /// Keeps the image of a version mapped that owns the value, or is about to.
    pub fn lease_of(&self, owner: &Owner) -> Option<Lease> {
        let Owner::Version(version) = owner else { return None };
        let lease = Lease::try_new(&version.upgrade()?, LeaseKind::Value)?;
        Some(lease.named(self.label.clone()))
    }

    fn expect_type(&self, callback: &ValueCallback) -> Result<()> {
        if callback.fingerprint == self.schema.fingerprint() {
            return Ok(());
        }
        let expected = flatten((callback.schema)())?;
        let what = self.schema.difference(&expected).unwrap_or_default();
        let (key, owner) = (&self.key, self.owner());
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

/// A cell that nobody else uses, while it is taken over.
pub(super) struct LockedCell<'a> {
    cell: &'a Cell,
    content: RwLockWriteGuard<'a, Content>,
    _locked: Locked,
}

impl LockedCell<'_> {
    /// Takes the value out, to be put back; none when it was dropped meanwhile.
    pub fn take(&mut self) -> Option<Value> {
        self.content.value.take()
    }

    pub fn put_back(&mut self, value: Value) {
        self.content.value = Some(value);
    }

    /// Lets the old version read the value, but not change it any more.
    pub fn supersede(&mut self, by: &Owner) {
        self.content.superseded_by = Some(by.to_string());
    }

    /// Makes the value another version's, whose type has the same schema.
    pub fn hand_over(&mut self, to: &Owner, table: &'static CarryTable) {
        if let Some(value) = &mut self.content.value {
            value.0.table = &raw const table.value;
        }
        *self.cell.owner.lock().unwrap_or_else(PoisonError::into_inner) = to.clone();
    }
}

/// A note that this thread has a cell locked.
struct Locked(*const Cell);

impl Drop for Locked {
    fn drop(&mut self) {
        LOCKED.with_borrow_mut(|locked| locked.retain(|cell| *cell != self.0));
    }
}

impl Value {
    /// The value as JSON.
    ///
    /// # Safety
    /// The owner's image is mapped.
    pub unsafe fn to_json(&self) -> Outcome<String> {
        // SAFETY: as the caller says; nobody writes what is borrowed.
        unsafe { ((*self.0.table).to_json)(self.0.data) }
    }

    /// Replaces pointers into other images by such into the owner's.
    ///
    /// # Safety
    /// The owner's image is mapped, and the caller alone uses the value.
    pub unsafe fn rehome(&self) -> Outcome<()> {
        // SAFETY: as the caller says.
        unsafe { ((*self.0.table).rehome)(self.0.data) }
    }

    /// Replaces pointers into other images by such into that of `table`.
    ///
    /// # Safety
    /// The image of `table` is mapped, its type has the schema of this value's, and the caller alone
    /// uses the value.
    pub unsafe fn rehome_to(&self, table: &CarryTable) -> Outcome<()> {
        // SAFETY: as the caller says.
        unsafe { (table.value.rehome)(self.0.data) }
    }

    /// Drops the object. The image that set it is mapped, as `Cell` says.
    fn destroy(self) {
        // SAFETY: the owner's image is mapped; the object is forgotten below, and so dropped once.
        let dropped = unsafe { ((*self.0.table).drop)(self.0.data) };
        std::mem::forget(self);
        if let Outcome::Panic(report) = dropped {
            tracing::error!("dropping a value panicked at {}: {}", report.location, report.message);
        }
    }
}

impl Drop for Value {
    /// Nobody said that the owner's image is still mapped, so the object is left as it is.
    fn drop(&mut self) {
        tracing::error!("a value of the Vault was left behind by its owner, and leaks");
    }
}

pub(super) fn same_owner(a: &Owner, b: &Owner) -> bool {
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
