//! Thread-local destructors, keys and threads of images, which the engine keeps.
//!
//! The hooks of an image (see `hotswap_plugin`) register its thread-locals here instead of in libc. Each
//! thread has one record, with an entry for every version that has left something on the thread. The
//! destructors in an entry run on that thread: at its end, or, once the version is draining, when the thread
//! passes a checkpoint. The process needs one key of libc for this, however many versions there are.

use std::{
    cell::{Cell, RefCell},
    ffi::{c_int, c_void},
    marker::PhantomData,
    ptr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use hotswap_plugin::abi::{ThreadDestructor, ThreadStart};

use super::{
    Version,
    lease::{Lease, LeaseName},
    steps::{Running, running},
};
use crate::{
    image::ThreadServices,
    lock::Lock as _,
    os,
    slots::{
        self, Claim,
        waiters::{self, ThreadDuties},
    },
};

/// The number of rounds of key destructors. POSIX asks for at least four. A destructor that sets its key
/// again in every round is given up, as in libc.
const KEY_ROUNDS: usize = 8;

/// The largest number of keys that a version may make; libc has the same limit.
const MAX_KEYS: usize = 1024;

/// What threads have of one version.
#[derive(Default)]
pub(crate) struct VersionThreads {
    draining: AtomicBool,
    keys: Mutex<Vec<Option<Key>>>,
    keys_made: AtomicU64,
    pinned: Mutex<Vec<(i32, String)>>,
}

/// A key for a value per thread.
#[derive(Clone, Copy)]
struct Key {
    dtor: Option<ThreadDestructor>,
    /// Distinguishes the key from an earlier one with the same number, whose values do not belong to it.
    made: u64,
}

/// A thread's value of a key.
#[derive(Clone, Copy)]
struct KeyValue {
    value: *mut c_void,
    /// The `made` of the key for which it was set.
    made: u64,
}

impl KeyValue {
    const NONE: Self = Self { value: ptr::null_mut(), made: 0 };
}

impl VersionThreads {
    /// Allows the destructors to run, each on its thread: nobody can enter the version any more.
    pub fn begin_drain(&self) {
        if !self.draining.swap(true, Ordering::AcqRel) {
            slots::request_checkpoints();
        }
    }

    /// The threads that have destructors of the version to run, with their ids and names.
    pub fn pinned(&self) -> Vec<(i32, String)> {
        self.lock_pinned().clone()
    }

    pub fn is_pinned(&self) -> bool {
        !self.lock_pinned().is_empty()
    }

    /// Runs `ask` while no thread has destructors to run, and none can get any; `None` if a thread has some.
    pub fn while_unpinned<T>(&self, ask: impl FnOnce() -> T) -> Option<T> {
        let pinned = self.lock_pinned();
        pinned.is_empty().then(ask)
    }

    fn lock_pinned(&self) -> std::sync::MutexGuard<'_, Vec<(i32, String)>> {
        self.pinned.locked()
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, Vec<Option<Key>>> {
        self.keys.locked()
    }

    fn key(&self, key: u32) -> Option<Key> {
        self.keys().get(key as usize).copied().flatten()
    }

    /// Makes a key. The first one is 1, since std takes 0 for "none yet".
    fn create_key(&self, dtor: Option<ThreadDestructor>) -> Option<u32> {
        let mut keys = self.keys();
        if keys.is_empty() {
            keys.push(None);
        }
        let free = keys.iter().skip(1).position(Option::is_none).map(|at| at + 1);
        let at = free.unwrap_or(keys.len());
        if at > MAX_KEYS {
            return None;
        }
        if at == keys.len() {
            keys.push(None);
        }
        let made = self.keys_made.fetch_add(1, Ordering::Relaxed) + 1;
        keys[at] = Some(Key { dtor, made });
        u32::try_from(at).ok()
    }

    /// Forgets a key. Returns whether it existed.
    pub fn delete_key(&self, key: u32) -> bool {
        self.keys().get_mut(key as usize).is_some_and(|key| key.take().is_some())
    }
}

impl ThreadServices for Version {
    /// Makes a key; `None` if there are too many, or the image is being unmapped.
    fn create_key(&self, dtor: Option<ThreadDestructor>) -> Option<u32> {
        if self.outside().is_closing() { None } else { self.threads.create_key(dtor) }
    }

    /// Keeps a destructor that this thread runs later. It is refused if the image is being unmapped.
    fn at_thread_exit(self: &Arc<Self>, dtor: ThreadDestructor, object: *mut c_void) -> bool {
        if self.outside().is_closing() {
            return false;
        }
        with_entry(self, |entry| entry.dtors.push((dtor, object)));
        true
    }

    /// Sets this thread's value of a key. Returns whether the key exists.
    fn set_key(self: &Arc<Self>, key: u32, value: *mut c_void) -> bool {
        let Some(Key { made, .. }) = self.threads.key(key) else { return false };
        if value.is_null() && self.key_value(key).is_null() {
            return true;
        }
        if self.outside().is_closing() {
            return false;
        }
        with_entry(self, |entry| {
            let at = key as usize;
            if entry.values.len() <= at {
                entry.values.resize(at + 1, KeyValue::NONE);
            }
            entry.values[at] = KeyValue { value, made };
        });
        true
    }

    /// This thread's value of a key; null if there is none.
    fn key_value(self: &Arc<Self>, key: u32) -> *mut c_void {
        let Some(record) = Record::existing() else { return ptr::null_mut() };
        let entries = record.entries.borrow();
        let entry = entries.iter().find(|entry| Arc::ptr_eq(&entry.version, self));
        let value = entry.and_then(|entry| entry.values.get(key as usize).copied());
        let made = self.threads.key(key).map(|key| key.made);
        let current = value.filter(|value| Some(value.made) == made);
        current.unwrap_or(KeyValue::NONE).value
    }

    /// Starts a thread for the image, with a lease for the thread's whole life.
    ///
    /// # Safety
    /// The pointers are valid arguments of `pthread_create`.
    unsafe fn start_thread(
        self: &Arc<Self>,
        native: *mut c_void,
        attributes: *const c_void,
        start: ThreadStart,
        argument: *mut c_void,
    ) -> c_int {
        if self.outside().is_closing() {
            return libc::EAGAIN;
        }
        let lease = Lease::of_thread(self).facing(self.face_here());
        let launch = Box::into_raw(Box::new(Launch { lease, start, argument }));
        // SAFETY: the caller's promise. The trampoline takes ownership of the launch.
        unsafe {
            let code = pthread_create(native, attributes, trampoline, launch.cast());
            if code != 0 {
                drop(Box::from_raw(launch));
            }
            code
        }
    }

    fn delete_key(&self, key: u32) -> bool {
        self.threads.delete_key(key)
    }
}

impl Version {
    /// Runs this thread's destructors of this version.
    pub fn run_destructors(self: &Arc<Self>) {
        if let Some(record) = Record::existing() {
            record.finish(self);
        }
    }
}

unsafe extern "C" {
    // Declared as in libc, except for the first function, out of which `pthread_exit` may unwind.
    fn pthread_create(
        native: *mut c_void,
        attributes: *const c_void,
        start: ThreadStart,
        argument: *mut c_void,
    ) -> c_int;
}

/// What a thread of an image begins with.
struct Launch {
    lease: Lease,
    start: ThreadStart,
    argument: *mut c_void,
}

/// The first function of an image's thread. It belongs to the host, so that the thread ends outside the
/// image.
///
/// The thread may end in `pthread_exit`, which leaves this function without dropping anything. So the
/// function owns nothing meanwhile: everything of the thread is in its record, which `end_thread` drops.
unsafe extern "C-unwind" fn trampoline(launch: *mut c_void) -> *mut c_void {
    // SAFETY: `start_thread` passes a launch and gives up its ownership.
    let (start, argument) = unsafe { begin_thread(launch.cast()) };
    // SAFETY: the image requested this call, and the record's lease keeps it mapped.
    let result = unsafe { start(argument) };
    leave_thread();
    result
}

/// Puts the lease of an image's thread into the thread's record. Returns the function and argument of the
/// thread.
///
/// # Safety
/// The launch is a box, and the caller gives up its ownership.
unsafe fn begin_thread(launch: *mut Launch) -> (ThreadStart, *mut c_void) {
    // SAFETY: the caller's promise.
    let Launch { lease, start, argument } = *unsafe { Box::from_raw(launch) };
    let lease = lease.named(LeaseName::Thread(os::thread_id()));
    let note = running(&lease);
    Record::get().of_thread.replace(Some(OfThread { lease, _note: note }));
    (start, argument)
}

/// Ends what an image's thread has of its image, while the thread-locals of the host still exist.
fn leave_thread() {
    let record = Record::get();
    let version = record.of_thread.borrow().as_ref().map(|it| it.lease.version().clone());
    version.into_iter().for_each(|version| version.run_destructors());
    drop(record.of_thread.take());
}

/// Lets this thread run the destructors of versions that wait for it.
///
/// A version that was replaced and is unused is unmapped only after every thread with thread-locals of it has
/// run their destructors. A thread runs them at its end, and in this function. The engine calls it whenever a
/// thread calls a plugin. A thread that lives long and seldom calls a plugin should call it now and then. It
/// costs a few nanoseconds if nothing waits.
///
/// ```
/// hotswap_engine::checkpoint();
/// ```
#[inline]
pub fn checkpoint() {
    match slots::is_checkpoint_requested() {
        Some(false) => {}
        Some(true) => pass_checkpoint(),
        // Without slots, the thread receives no request for a checkpoint. So it always looks for destructors.
        None => run_waiting_destructors(),
    }
}

#[cold]
fn pass_checkpoint() {
    if slots::take_checkpoint_request() {
        run_waiting_destructors();
    }
}

/// Tells the slots about the duties of threads.
pub(crate) fn register_duties() {
    waiters::set_thread_duties(ThreadDuties { claim_slots: claim_record, checkpoint });
}

/// Gives this thread a record, and so slots for its calls, until its end.
fn claim_record() {
    Record::get();
}

thread_local! {
    /// How many values this thread uses.
    static VALUES_IN_USE: Cell<usize> = const { Cell::new(0) };
    /// Whether this thread has reached a checkpoint while it used a value, and has to pass it afterwards.
    static IS_POSTPONED: Cell<bool> = const { Cell::new(false) };
}

/// Postpones the checkpoints of this thread until the result is dropped. The thread uses a value of the DataBag, and
/// a destructor may need the same value, or another value whose user waits for this one.
pub(crate) fn use_value() -> ValueInUse {
    VALUES_IN_USE.set(VALUES_IN_USE.get() + 1);
    ValueInUse(PhantomData)
}

/// A use of a value by this thread. It ends on the same thread.
pub(crate) struct ValueInUse(PhantomData<*const ()>);

impl Drop for ValueInUse {
    fn drop(&mut self) {
        let others = VALUES_IN_USE.get() - 1;
        VALUES_IN_USE.set(others);
        if others == 0 && IS_POSTPONED.replace(false) {
            run_waiting_destructors();
        }
    }
}

fn run_waiting_destructors() {
    if VALUES_IN_USE.get() > 0 {
        IS_POSTPONED.set(true);
        return;
    }
    let Some(record) = Record::existing() else { return };
    let draining: Vec<_> = {
        let entries = record.entries.borrow();
        let versions = entries.iter().map(|entry| &entry.version);
        versions
            .filter(|version| version.threads.draining.load(Ordering::Acquire))
            .cloned()
            .collect()
    };
    for version in &draining {
        record.finish(version);
    }
}

/// What one thread has of all versions.
struct Record {
    entries: RefCell<Vec<Entry>>,
    /// What an image's thread has until its end. It is dropped after the entries, whose destructors belong to
    /// the image.
    of_thread: RefCell<Option<OfThread>>,
    /// The slots for its calls.
    _slots: Claim,
}

/// What a thread has that an image has started.
struct OfThread {
    lease: Lease,
    _note: Running,
}

/// What one thread has of one version.
struct Entry {
    version: Arc<Version>,
    thread: i32,
    dtors: Vec<(ThreadDestructor, *mut c_void)>,
    /// The values of keys, by key.
    values: Vec<KeyValue>,
    /// Whether a destructor is running. A checkpoint inside it leaves the entry alone.
    finishing: bool,
}

thread_local! {
    /// This thread's record. It is not dropped with the other thread-locals, because their destructors may
    /// still call plugins: `end_thread` frees it after them.
    static RECORD: Cell<*mut Record> = const { Cell::new(ptr::null_mut()) };
}

impl Record {
    /// This thread's record; `None` if it has none.
    fn existing<'a>() -> Option<&'a Self> {
        // SAFETY: the pointer is null or leads to a live box: `end_thread` clears it before it frees the box,
        // on this thread, and no reference outlives a call of a function here.
        unsafe { RECORD.get().as_ref() }
    }

    /// This thread's record, which is made now if there is none.
    fn get<'a>() -> &'a Self {
        if let Some(record) = Self::existing() {
            return record;
        }
        let record = Self {
            entries: RefCell::default(),
            of_thread: RefCell::default(),
            _slots: Claim::new(),
        };
        let record = Box::into_raw(Box::new(record));
        RECORD.set(record);
        // SAFETY: the key belongs to libc, and the record stays until its destructor frees it.
        unsafe {
            libc::pthread_setspecific(thread_end_key(), record.cast());
            &*record
        }
    }

    /// Runs the destructors of a version, and removes its entry.
    fn finish(&self, version: &Arc<Version>) {
        if self.begin(version) {
            slots::outside_calls(|| self.run_destructors(version));
            self.remove(version);
        }
    }

    fn run_destructors(&self, version: &Arc<Version>) {
        for _ in 0..KEY_ROUNDS {
            // Each destructor may register another one. Nothing is borrowed while one runs.
            while let Some((dtor, object)) = self.with(version, |entry| entry.dtors.pop()).flatten()
            {
                // SAFETY: the image registered the destructor with this object on this thread, and is mapped
                // because of this entry.
                unsafe { dtor(object) };
            }
            let values = self.with(version, Entry::take_values).unwrap_or_default();
            if values.is_empty() {
                break;
            }
            for (dtor, value) in values {
                // SAFETY: as above. The destructor of the key takes this thread's value.
                unsafe { dtor(value) };
            }
        }
    }

    fn begin(&self, version: &Arc<Version>) -> bool {
        let was = self.with(version, |entry| std::mem::replace(&mut entry.finishing, true));
        was == Some(false)
    }

    fn with<T>(&self, version: &Arc<Version>, f: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let mut entries = self.entries.borrow_mut();
        entries.iter_mut().find(|entry| Arc::ptr_eq(&entry.version, version)).map(f)
    }

    fn remove(&self, version: &Arc<Version>) {
        let removed = {
            let mut entries = self.entries.borrow_mut();
            let at = entries.iter().position(|entry| Arc::ptr_eq(&entry.version, version));
            at.map(|at| entries.swap_remove(at))
        };
        let Some(entry) = removed else { return };
        let last = {
            let mut pinned = version.threads.lock_pinned();
            pinned.retain(|(thread, _)| *thread != entry.thread);
            pinned.is_empty()
        };
        if last && version.threads.draining.load(Ordering::Acquire) {
            version.notify_reaper();
        }
    }
}

impl Entry {
    fn new(version: &Arc<Version>) -> Self {
        let (thread, name) = thread_name();
        version.threads.lock_pinned().push((thread, name));
        Self {
            version: version.clone(),
            thread,
            dtors: Vec::new(),
            values: Vec::new(),
            finishing: false,
        }
    }

    /// Takes the values whose keys have destructors, and pairs them.
    fn take_values(&mut self) -> Vec<(ThreadDestructor, *mut c_void)> {
        let keys = self.version.threads.keys();
        let values = self.values.iter_mut().enumerate();
        let taken = values.filter_map(|(at, value)| {
            let KeyValue { value, made } = std::mem::replace(value, KeyValue::NONE);
            let key = keys.get(at).copied().flatten().filter(|key| key.made == made)?;
            Some((key.dtor?, value)).filter(|_| !value.is_null())
        });
        taken.collect()
    }
}

fn with_entry(version: &Arc<Version>, f: impl FnOnce(&mut Entry)) {
    let record = Record::get();
    let mut entries = record.entries.borrow_mut();
    let at = entries.iter().position(|entry| Arc::ptr_eq(&entry.version, version));
    let at = at.unwrap_or_else(|| {
        entries.push(Entry::new(version));
        if version.threads.draining.load(Ordering::Acquire) {
            // The next checkpoint runs them even if no other version begins to drain.
            slots::request_checkpoint_here();
        }
        entries.len() - 1
    });
    f(&mut entries[at]);
}

/// The key whose destructor runs at a thread's end, after the thread-locals of the host.
fn thread_end_key() -> libc::pthread_key_t {
    static KEY: OnceLock<libc::pthread_key_t> = OnceLock::new();
    *KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: the key is written before it is read; the destructor belongs to the host.
        let code = unsafe { libc::pthread_key_create(&raw mut key, Some(end_thread)) };
        assert_eq!(code, 0, "the process has no thread-local key left, but the engine needs one");
        key
    })
}

/// Runs the remaining destructors of a thread that ends, and frees its record.
extern "C" fn end_thread(record: *mut c_void) {
    let record = record.cast::<Record>();
    // Destructors may look for the record, so it stays in place until they have run.
    RECORD.set(record);
    // SAFETY: `Record::get` gave this pointer to libc, which returns it once, on the same thread.
    let entries = unsafe { &(*record).entries };
    let next = || entries.borrow().first().map(|entry| entry.version.clone());
    while let Some(version) = next() {
        // SAFETY: as above.
        unsafe { (*record).finish(&version) };
    }
    RECORD.set(ptr::null_mut());
    // SAFETY: `Record::get` leaked the box, and nobody can find it any more.
    drop(unsafe { Box::from_raw(record) });
}

/// This thread's id and its name in the system; the first thread is `main`.
fn thread_name() -> (i32, String) {
    let thread = os::thread_id();
    if u32::try_from(thread) == Ok(std::process::id()) {
        return (thread, "main".into());
    }
    let name = os::thread_name();
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    (thread, String::from_utf8_lossy(name).into_owned())
}
