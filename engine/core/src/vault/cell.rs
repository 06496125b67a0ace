//! A named value behind a lock.

use std::{
    mem::{self, ManuallyDrop},
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
        atomic::{AtomicBool, AtomicU64, Ordering, fence},
    },
    thread,
    time::{Duration, Instant},
};

use hotswap_plugin::{
    __private::{
        Bounds, CarryTable, Change, Cut, Notes, Parts, Preview, RawValue, ValueCallback, Wanted,
    },
    Error, Result, TypeSchema,
    abi::Answer,
};
use hotswap_protocol::DataBagEntry;

use crate::{
    error::flatten,
    lock::Lock as _,
    version::lease::{Lease, LeaseKind, LeaseName},
    version::threads::{ValueInUse, use_value},
    version::{Owner, Version},
};

/// A value in the DataBag.
///
/// Its drop, its JSON and its rehoming are code of the image that set it. So users of the value lease its
/// owner first. The value is dropped explicitly, by [`destroy`](Self::destroy) or [`drop_when_unused`](Self::drop_when_unused),
/// while the image is mapped. A remaining reference to an empty cell is harmless.
pub(super) struct Cell {
    pub key: String,
    /// Its key, as the name of leases for it.
    label: Arc<str>,
    /// The owner, which changes when a new version takes the value over.
    owner: Mutex<Owner>,
    schema: TypeSchema,
    content: RwLock<Content>,
    /// The version that has a copy with another type; once set, this value is not changed any more.
    superseded_by: OnceLock<String>,
    /// Whether a copy with another type is published, and waits for the last changes of this value.
    is_migrating: AtomicBool,
    /// How often the value was changed.
    changes: AtomicU64,
    is_left: AtomicBool,
    /// Keeps the owner mapped until a value that its owner has left is dropped.
    left_by: Mutex<Option<Lease>>,
}

/// The content behind a cell's lock.
pub(super) struct Content {
    /// `None` after it was dropped.
    value: Option<Value>,
}

/// The value itself, which has to be destroyed explicitly.
pub(super) struct Value(RawValue);

// SAFETY: `Shared` types are `Send + Sync`, and only values of such types are stored.
unsafe impl Send for Value {}
// SAFETY: as above.
unsafe impl Sync for Value {}

/// The bounds of a preview for a console. Making it takes well below a millisecond, in which the value is
/// locked.
pub(crate) const PREVIEW_BOUNDS: Bounds =
    Bounds { bytes: 16 << 10, elements: 100, text: 1 << 10, passed_over: 10_000 };

/// A part that was left out of a value, in the console protocol.
pub(crate) fn cut_to_wire(cut: Cut) -> hotswap_protocol::Cut {
    hotswap_protocol::Cut { path: cut.path, shown: cut.shown, of: cut.of }
}

/// The pause between two attempts to lock a value that is in use.
pub(super) const RETRY: Duration = Duration::from_millis(1);

thread_local! {
    /// The cells that this thread has locked, so that it does not wait for itself.
    static LOCKED: Notes<*const Cell> = const { Notes::new() };
}

impl Cell {
    /// A cell for a value that `owner`, whose image is mapped, has just made.
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
        Ok(Self {
            key: key.to_owned(),
            label: key.into(),
            owner: Mutex::new(owner),
            schema,
            content: RwLock::new(Content { value: Some(value) }),
            superseded_by: OnceLock::new(),
            is_migrating: AtomicBool::new(false),
            changes: AtomicU64::new(0),
            is_left: AtomicBool::new(false),
            left_by: Mutex::default(),
        })
    }

    pub fn owner(&self) -> Owner {
        self.owner.locked().clone()
    }

    pub fn is_owned_by(&self, version: &Version) -> bool {
        self.owner.locked().is(version)
    }

    pub fn schema(&self) -> &TypeSchema {
        &self.schema
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        super::CHANGES.fetch_add(1, Ordering::Relaxed);
    }

    /// How often the value was changed.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Calls back with the value. Returns whether there was one.
    pub fn with(&self, by: &Owner, callback: &mut ValueCallback) -> Result<bool> {
        let Some(_lease) = self.lease(by) else { return Ok(false) };
        self.expect_type(callback)?;
        let _locked = self.lock_once()?;
        if callback.write {
            self.expect_current()?;
            let content = self.write();
            self.expect_current()?;
            return self.change(content, by, callback);
        }
        let content = self.read();
        let Some(value) = content.value.as_ref() else { return Ok(false) };
        // SAFETY: the type was checked, and the lock is held for reading.
        unsafe { (callback.run)(callback.context, value.0.data) };
        Ok(true)
    }

    /// Lets code of an image change the value. The image is the owner's or another one.
    fn change(
        &self,
        mut content: Writing<'_>,
        by: &Owner,
        callback: &mut ValueCallback,
    ) -> Result<bool> {
        // The owner may have changed before the lock was taken.
        let Some(_lease) = self.lease(by) else { return Ok(false) };
        let Some(value) = content.value.as_ref() else { return Ok(false) };
        self.changed();
        let is_foreign = !same_owner(by, &self.owner());
        let mut done = Ok(());
        if is_foreign {
            // Values that the caller takes out must not point to statics of the owner's image.
            // SAFETY: the type was checked, the caller runs, and the lock is held for writing.
            done = flatten(unsafe { (callback.rehome)(value.0.data) });
        }
        if done.is_ok() {
            // SAFETY: the type was checked, and the lock is held for writing.
            unsafe { (callback.run)(callback.context, value.0.data) };
            if is_foreign {
                // Values that the caller wrote may point to statics of its image.
                // SAFETY: the owner is leased, and the lock is held for writing.
                done = flatten(unsafe { value.rehome() });
            }
        }
        let Err(error) = done else {
            // If the value was superseded meanwhile, nobody reads the change.
            return self.expect_current().map(|()| true);
        };
        // Both images are mapped now, but one may be unmapped later. So a value that is half rehomed is
        // dropped.
        let half = content.value.take();
        drop(content);
        half.into_iter().for_each(Value::destroy);
        Err(error.context(format_args!("`{}` is lost: its value points into two images", self.key)))
    }

    /// Replaces the value by the value of another cell, which has the same type and is known only to the caller.
    /// From now on the new value belongs to the owner of this cell.
    pub fn assign(&self, by: &Owner, other: &Self) -> Result<()> {
        let replaced = self.swap(by, other);
        // The other cell now has the old value, which code of its owner drops; or, if the exchange failed, it
        // still has the new one.
        other.destroy();
        replaced.map(drop)
    }

    /// Exchanges the values. Returns the lease that keeps the owner mapped.
    fn swap(&self, by: &Owner, other: &Self) -> Result<Option<Lease>> {
        let _locked = self.lock_once()?;
        let (mut content, mut other) = (self.write(), other.write());
        self.expect_current()?;
        let lease = self.lease(by).ok_or_else(|| self.is_gone())?;
        let old = content.value.as_mut().ok_or_else(|| self.is_gone())?;
        let new = other.value.as_mut().ok_or_else(|| self.is_gone())?;
        // SAFETY: both have one type, as the caller has checked; the owner is leased, or its code runs.
        flatten(unsafe { new.rehome_as(old) })?;
        new.0.table = old.0.table;
        mem::swap(new, old);
        self.changed();
        Ok(lease)
    }

    fn is_gone(&self) -> Error {
        Error::msg(format_args!("`{}` was removed meanwhile", self.key))
    }

    /// Drops the value, now or as soon as nobody uses it any more, without waiting. The lease keeps the owner
    /// mapped until then.
    pub fn drop_when_unused(&self, lease: Option<Lease>) {
        *self.left_by.locked() = lease;
        self.is_left.store(true, Ordering::Relaxed);
        self.drop_if_left();
    }

    /// Drops a value that was left, if nobody uses it.
    fn drop_if_left(&self) {
        self.take_left().into_iter().for_each(Left::drop_now);
    }

    /// Takes out a value that was left, if nobody uses it.
    ///
    /// Whoever leaves the value sets the mark and then tries the lock. Whoever uses it releases the lock and
    /// then reads the mark. Because of the fence in between, one of the two sees the other.
    fn take_left(&self) -> Option<Left> {
        fence(Ordering::SeqCst);
        if !self.is_left.load(Ordering::Relaxed) {
            return None;
        }
        let value = match self.content.try_write() {
            Ok(mut content) => content.value.take(),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().value.take(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let value = value?;
        let lease = self.left_by.locked().take();
        Some(Left { value, lease })
    }

    /// Notes that a copy of this value with another type is published, and will get its last changes. From now on,
    /// this value may be changed in place, but not displaced or removed.
    pub fn mark_migrating(&self) {
        self.is_migrating.store(true, Ordering::Release);
    }

    pub fn is_migrating(&self) -> bool {
        self.is_migrating.load(Ordering::Acquire)
    }

    /// From now on the old version can read the value, but not change it.
    fn supersede(&self, by: &Owner) {
        let _ = self.superseded_by.set(by.to_string());
    }

    /// Refuses a cell if a version has a copy of its value with another type.
    pub fn expect_current(&self) -> Result<()> {
        let Some(version) = self.superseded_by.get() else { return Ok(()) };
        let key = &self.key;
        Err(Error::msg(format_args!(
            "`{key}` was superseded: {version} has taken it over with another type"
        )))
    }

    fn read(&self) -> Reading<'_> {
        let content = self.content.read().unwrap_or_else(PoisonError::into_inner);
        Using { content: ManuallyDrop::new(content), cell: self }
    }

    fn write(&self) -> Writing<'_> {
        let content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        Using { content: ManuallyDrop::new(content), cell: self }
    }

    fn try_read(&self) -> Option<Reading<'_>> {
        let content = match self.content.try_read() {
            Ok(content) => content,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(Using { content: ManuallyDrop::new(content), cell: self })
    }

    fn try_write(&self) -> Option<Writing<'_>> {
        let content = match self.content.try_write() {
            Ok(content) => content,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(Using { content: ManuallyDrop::new(content), cell: self })
    }

    /// Locks the cell in order to take its value over; `None` if it is in use.
    pub fn try_lock(&self) -> Result<Option<LockedCell<'_>>> {
        let locked = self.lock_once()?;
        let content = self.try_write();
        Ok(content.map(|content| LockedCell {
            cell: self,
            content: ManuallyDrop::new(content),
            _locked: locked,
        }))
    }

    /// The value as JSON, from which it is read as another type.
    pub fn whole(&self) -> Result<String> {
        self.with_value(|value| {
            // SAFETY: the owner is leased, and nobody writes meanwhile.
            flatten(unsafe { value.to_json() }).map_err(|error| {
                let old = self.schema.name();
                error.context(format_args!(
                    "`{}`: the old value, a `{old}`, cannot be serialised",
                    self.key
                ))
            })
        })
    }

    /// Parts of the value; `None` if it is neither a map nor a list.
    pub fn parts(&self, wanted: &Wanted) -> Result<Option<Parts>> {
        // SAFETY: the owner is leased, and nobody writes meanwhile.
        self.with_value(|value| flatten(unsafe { value.parts(wanted) }))
    }

    /// Runs `f` with the value while nobody can change it.
    fn with_value<T>(&self, f: impl FnOnce(&Value) -> Result<T>) -> Result<T> {
        let _lease = self.lease(&Owner::Host).ok_or_else(|| self.is_gone())?;
        let _locked = self.lock_once()?;
        let content = self.read();
        f(content.value.as_ref().ok_or_else(|| self.is_gone())?)
    }

    /// Runs `f` with the value and the number of its changes, for the last time before a copy with another
    /// type replaces it. From now on the value is not changed any more.
    ///
    /// # Errors
    /// If a thread is changing it for longer than `patience`. That thread gets an error.
    pub fn with_final_value<T>(
        &self,
        by: &Owner,
        patience: Duration,
        f: impl FnOnce(&Value, u64) -> Result<T>,
    ) -> Result<T> {
        let lease = self.lease(&Owner::Host).ok_or_else(|| self.is_gone());
        let locked = self.lock_once();
        let deadline = Instant::now() + patience;
        let mut content = self.try_read();
        while content.is_none() && Instant::now() < deadline {
            thread::sleep(RETRY);
            content = self.try_read();
        }
        self.supersede(by);
        // A thread that was changing it just now has finished, or sees that the value is superseded.
        let content = content.or_else(|| self.try_read());
        let (_lease, _locked) = (lease?, locked?);
        let content = content.ok_or_else(|| {
            Error::msg(format_args!("`{}` is being changed for longer than a load waits", self.key))
        })?;
        f(content.value.as_ref().ok_or_else(|| self.is_gone())?, self.changes())
    }

    /// Changes a value that the version of `table` has made, and that is being loaded.
    pub fn put_parts(
        &self,
        table: &CarryTable,
        parts: Option<RawValue>,
        change: &Change<'_>,
    ) -> Result<()> {
        let content = self.write();
        let value = content.value.as_ref().ok_or_else(|| self.is_gone())?;
        // SAFETY: a step of the version runs, and the lock is held for writing.
        flatten(unsafe { value.change(table, parts, change) })
    }

    /// Replaces the value by another one of the same type. The same version has made both, and is being
    /// loaded.
    pub fn put_whole(&self, value: RawValue) -> Result<()> {
        let mut content = self.write();
        let value = content.value.replace(Value(value));
        drop(content);
        // A step of the version runs.
        value.map(Value::destroy).ok_or_else(|| self.is_gone())
    }

    /// Makes a value of another type from this value's JSON.
    pub fn read_as(&self, table: &CarryTable, json: &str) -> Result<RawValue> {
        flatten((table.from_json)(json)).map_err(|error| {
            let old = self.schema.name();
            error.context(format_args!("`{}`: the old value, a `{old}`, does not fit", self.key))
        })
    }

    /// Drops the value.
    ///
    /// The caller is the reaper, for which the owner's image is still mapped, or has a lease of the owner.
    pub fn destroy(&self) {
        let mut content = self.write();
        let value = content.value.take();
        drop(content);
        value.into_iter().for_each(Value::destroy);
    }

    /// Refuses to wait for the lock if this thread itself is using the value.
    pub fn expect_unlocked(&self) -> Result<()> {
        self.lock_once().map(drop)
    }

    /// The value in the form of the console protocol. If the answer is full already, the content is left out.
    pub fn info(&self, left_bytes: &mut usize) -> DataBagEntry {
        let bounds = Bounds { bytes: PREVIEW_BOUNDS.bytes.min(*left_bytes), ..PREVIEW_BOUNDS };
        let preview = self.preview(bounds).and_then(Result::ok);
        let owner = self.owner().to_wire();
        let mut entry = DataBagEntry {
            key: self.key.clone(),
            type_name: self.schema.name().to_owned(),
            owner: owner.to_string(),
            owned_by: Some(owner),
            size_bytes: None,
            value: None,
            cuts: Vec::new(),
        };
        if let Some(Preview { json, cuts }) = preview {
            *left_bytes = left_bytes.saturating_sub(json.len());
            entry.size_bytes = cuts.is_empty().then_some(json.len() as u64);
            entry.value = serde_json::from_str(&json).ok();
            entry.cuts = cuts.into_iter().map(cut_to_wire).collect();
        }
        entry
    }

    /// A preview of the value; `None` if it is being written right now.
    fn preview(&self, bounds: Bounds) -> Option<Result<Preview>> {
        let _lease = self.lease(&Owner::Host)?;
        let _locked = self.lock_once().ok()?;
        let content = self.try_read()?;
        let value = content.value.as_ref()?;
        // SAFETY: the owner is leased, and nobody writes meanwhile.
        Some(flatten(unsafe { ((*value.0.table).preview)(value.0.data, bounds) }))
    }

    /// Keeps the owner's image mapped while its value is used. The outer option is `None` if that is not
    /// possible any more. The owner's own code needs no lease, because it runs.
    fn lease(&self, by: &Owner) -> Option<Option<Lease>> {
        loop {
            let owner = self.owner();
            if matches!(owner, Owner::Host) || same_owner(by, &owner) {
                return Some(None);
            }
            if let Some(lease) = self.lease_of(&owner) {
                return Some(Some(lease));
            }
            // The owner may have changed meanwhile.
            if same_owner(&owner, &self.owner()) {
                return None;
            }
        }
    }

    /// Keeps the owner's image mapped until its value is dropped. The caller has checked that the owner has
    /// not ended. If the owner is closed, its own threads still run, and this acts like one of them.
    pub fn lease_to_drop(&self) -> Option<Lease> {
        let owner = self.owner();
        self.lease_of(&owner).or_else(|| match owner {
            Owner::Host => None,
            Owner::Version(version) => Some(Lease::of_task(&version.upgrade()?)),
        })
    }

    /// A lease of the owner; `None` for the host, and for an owner that is closed.
    pub fn lease_of_owner(&self) -> Option<Lease> {
        self.lease_of(&self.owner())
    }

    /// Keeps the image of `owner` mapped, which owns the value, or is about to own it.
    pub fn lease_of(&self, owner: &Owner) -> Option<Lease> {
        let Owner::Version(version) = owner else { return None };
        let lease = Lease::try_new(&version.upgrade()?, LeaseKind::Value)?;
        Some(lease.named(LeaseName::Value(self.label.clone())))
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
        LOCKED.with(|locked| {
            if locked.any(|cell| *cell == this) {
                let key = &self.key;
                return Err(Error::msg(format_args!(
                    "this thread is using `{key}` already; finish that use before the next one"
                )));
            }
            locked.add(this);
            Ok(Locked { cell: this, _in_use: use_value() })
        })
    }
}

/// The content of a cell while its lock is held.
struct Using<'a, G> {
    content: ManuallyDrop<G>,
    cell: &'a Cell,
}

type Reading<'a> = Using<'a, RwLockReadGuard<'a, Content>>;
type Writing<'a> = Using<'a, RwLockWriteGuard<'a, Content>>;

impl<G: Deref<Target = Content>> Deref for Using<'_, G> {
    type Target = Content;

    fn deref(&self) -> &Content {
        &self.content
    }
}

impl<G: DerefMut<Target = Content>> DerefMut for Using<'_, G> {
    fn deref_mut(&mut self) -> &mut Content {
        &mut self.content
    }
}

impl<G> Drop for Using<'_, G> {
    fn drop(&mut self) {
        // SAFETY: it is dropped only here.
        unsafe { ManuallyDrop::drop(&mut self.content) };
        self.cell.drop_if_left();
    }
}

/// A value that was left, and that nobody uses any more.
struct Left {
    value: Value,
    lease: Option<Lease>,
}

impl Left {
    fn drop_now(self) {
        let Self { value, lease } = self;
        value.destroy();
        drop(lease);
    }
}

/// A cell that is locked while its value is taken over.
pub(super) struct LockedCell<'a> {
    cell: &'a Cell,
    content: ManuallyDrop<Writing<'a>>,
    _locked: Locked,
}

impl Drop for LockedCell<'_> {
    fn drop(&mut self) {
        // SAFETY: it is released only here, and the guard around it is never dropped itself.
        unsafe { ManuallyDrop::drop(&mut self.content.content) };
        if let Some(left) = self.cell.take_left() {
            // A load has the cell, and must not wait for the owner's code.
            let thread = thread::Builder::new().name("hotswap-drop".into());
            // If no thread can be started, the value stays, which is safe.
            let _ = thread.spawn(move || left.drop_now());
        }
    }
}

impl LockedCell<'_> {
    /// Whether the value is still there.
    pub fn has_value(&self) -> bool {
        self.content.value.is_some()
    }

    /// Takes the value out, to put it back later; `None` if it was dropped meanwhile.
    pub fn take(&mut self) -> Option<Value> {
        self.content.value.take()
    }

    pub fn put_back(&mut self, value: Value) {
        self.content.value = Some(value);
    }

    /// Gives the value to another version, whose type has the same schema.
    pub fn hand_over(&mut self, to: &Owner, table: &'static CarryTable) {
        if let Some(value) = &mut self.content.value {
            value.0.table = &raw const table.value;
        }
        *self.cell.owner.locked() = to.clone();
    }
}

/// Notes that this thread has a cell locked. It is dropped after the lock.
struct Locked {
    cell: *const Cell,
    _in_use: ValueInUse,
}

impl Drop for Locked {
    fn drop(&mut self) {
        LOCKED.with(|locked| locked.remove_last(|cell| *cell == self.cell));
    }
}

impl Value {
    /// The value as JSON.
    ///
    /// # Safety
    /// The owner's image is mapped.
    pub unsafe fn to_json(&self) -> Answer<String> {
        // SAFETY: the caller's promise; nobody writes the borrowed data.
        unsafe { ((*self.0.table).to_json)(self.0.data) }
    }

    /// Parts of the value; `None` if it is neither a map nor a list.
    ///
    /// # Safety
    /// The owner's image is mapped, and nobody writes meanwhile.
    pub unsafe fn parts(&self, wanted: &Wanted) -> Answer<Option<Parts>> {
        // SAFETY: the caller's promise.
        unsafe { ((*self.0.table).parts)(self.0.data, wanted) }
    }

    /// Changes the value.
    ///
    /// # Safety
    /// The version of `table` made the value and is mapped, and only the caller uses the value.
    pub unsafe fn change(
        &self,
        table: &CarryTable,
        parts: Option<RawValue>,
        change: &Change<'_>,
    ) -> Answer<()> {
        // SAFETY: the caller's promise.
        unsafe { (table.change)(self.0.data, parts, change) }
    }

    /// Replaces the value by another one that the same version made, and drops the old one.
    pub fn replace(&mut self, by: RawValue) {
        mem::replace(self, Self(by)).destroy();
    }

    /// Replaces pointers into other images by pointers into the owner's image.
    ///
    /// # Safety
    /// The owner's image is mapped, and only the caller uses the value.
    pub unsafe fn rehome(&self) -> Answer<()> {
        // SAFETY: the caller's promise.
        unsafe { ((*self.0.table).rehome)(self.0.data) }
    }

    /// Replaces pointers into other images by pointers into the image of another value's owner.
    ///
    /// # Safety
    /// Both values have one type, the other's owner is mapped, and only the caller uses the value.
    unsafe fn rehome_as(&self, other: &Self) -> Answer<()> {
        // SAFETY: the caller's promise.
        unsafe { ((*other.0.table).rehome)(self.0.data) }
    }

    /// Replaces pointers into other images by pointers into the image of `table`.
    ///
    /// # Safety
    /// The image of `table` is mapped, its type has the schema of this value, and only the caller uses the
    /// value.
    pub unsafe fn rehome_to(&self, table: &CarryTable) -> Answer<()> {
        // SAFETY: the caller's promise.
        unsafe { (table.value.rehome)(self.0.data) }
    }

    /// Drops the object. The image that set it is mapped; see `Cell`.
    fn destroy(self) {
        // SAFETY: the owner's image is mapped; the object is forgotten below, and so dropped once.
        let dropped = unsafe { ((*self.0.table).drop)(self.0.data) };
        mem::forget(self);
        if let Answer::Panic(report) = dropped {
            tracing::error!("dropping a value panicked at {}: {}", report.location, report.message);
        }
    }
}

impl Drop for Value {
    /// Leaks the object, because the owner's image may not be mapped any more.
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
