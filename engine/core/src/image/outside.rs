//! The references to an image that code outside it may have. They decide whether the image may be unmapped.
//!
//! The hooks of the image report these references. Reports are never forgotten: a pointer that nobody has now may
//! have been copied before.

use std::{
    collections::HashSet,
    ffi::{CStr, CString, OsStr, c_char, c_int, c_long, c_void},
    mem::MaybeUninit,
    ops::Range,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    ptr,
    sync::{
        Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering},
    },
};

use hotswap_protocol::{KeepKind, KeepReason, OpenDescriptor};

use super::{
    descriptors::{self, OpenerId},
    left_mapped::{LeftMapped, pages},
    mapping::handled_signal,
    patch::NotMapped,
    room::Room,
};
use crate::artifact::{instead_of, is_covered, unseen};
use crate::lock::Lock as _;

/// One more than the highest number of a signal.
const SIGNALS: usize = 65;

/// The references to an image that code outside it may have.
pub(crate) struct Outside {
    /// The file from which it is mapped.
    file: OnceLock<PathBuf>,
    /// The id by which its descriptors are found.
    opener: OpenerId,
    /// The ranges at which the image has mapped its own file, or the symbols of its patches. Code that resolves
    /// backtraces does this.
    own_mapped: LeftMapped,
    /// The other ranges that the image has mapped.
    left_mapped: LeftMapped,
    /// The address range of the image; not known while its constructors run.
    mapping: OnceLock<Range<usize>>,
    /// The addresses for patches of the image; empty as long as nobody has asked for them.
    room: OnceLock<Room>,
    /// Whether the image is being unmapped. Anything that its finalisers register would be called after it is
    /// gone.
    closing: AtomicBool,
    signals: Signals,
    /// Of the functions in `artifact::unseen`, the lowest number of one that it has looked up, or whose system call
    /// it has made; `usize::MAX` if there is none.
    unseen: AtomicUsize,
    /// The first other reason to keep it.
    kept: OnceLock<KeepReason>,
    /// The libraries that the host trusts.
    trusted: Vec<String>,
    /// The results of `getenv`: C code may keep them for as long as it likes.
    variables: Mutex<HashSet<Box<CStr>>>,
}

impl Outside {
    pub fn new(trusted: Vec<String>) -> Self {
        Self {
            file: OnceLock::new(),
            opener: OpenerId::new(),
            own_mapped: LeftMapped::default(),
            left_mapped: LeftMapped::default(),
            mapping: OnceLock::new(),
            room: OnceLock::new(),
            closing: AtomicBool::new(false),
            signals: Signals::default(),
            unseen: AtomicUsize::new(usize::MAX),
            kept: OnceLock::new(),
            trusted,
            variables: Mutex::default(),
        }
    }

    /// Sets the file from which the image is about to be mapped.
    pub fn set_file(&self, file: &Path) {
        let _ = self.file.set(file.to_owned());
    }

    /// Sets the address range of the image.
    pub fn set_mapping(&self, mapping: Range<usize>) {
        let _ = self.mapping.set(mapping);
    }

    /// The room for patches beside the image. It is reserved when it is needed first.
    pub(super) fn room(&self) -> Result<&Room, NotMapped> {
        if let Some(room) = self.room.get() {
            return Ok(room);
        }
        let (image, file) = self.mapping.get().zip(self.file.get()).ok_or(NotMapped::NoBase)?;
        let made = Room::near(image, file)?;
        if let Err(second) = self.room.set(made) {
            // SAFETY: another thread was faster, and nobody knows this room.
            unsafe { second.release() };
        }
        self.room.get().ok_or(NotMapped::NoRoom)
    }

    /// Calls `callback` for each patch that exists or may come, as `dl_iterate_phdr` does for images.
    pub fn each_patch(&self, callback: impl FnMut(&libc::dl_phdr_info) -> c_int) -> c_int {
        self.room().map_or(0, |room| room.each(callback))
    }

    /// Unmaps the patches, and the room for others.
    ///
    /// # Safety
    /// The image is gone, no code runs in a patch, and no pointer leads into one.
    pub unsafe fn release_room(&self) {
        if let Some(room) = self.room.get() {
            // SAFETY: the caller's promise.
            unsafe { room.release() };
        }
    }

    /// Whether a pointer may lead into the image or a patch of it. Also true as long as the range of the
    /// image is not known.
    fn may_be_inside(&self, address: usize) -> bool {
        self.mapping.get().is_none() || self.mappings().any(|range| range.contains(&address))
    }

    /// The address ranges of the image and its patches.
    fn mappings(&self) -> impl Iterator<Item = Range<usize>> {
        self.mapping.get().cloned().into_iter().chain(self.room.get().map(Room::range))
    }

    /// From now on, nothing that the image registers is accepted: its finalisers run.
    pub fn begin_close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// The image was not unmapped after all, and may run on.
    pub fn end_close(&self) {
        self.closing.store(false, Ordering::Release);
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Why the image must stay mapped; `None` if it may be unmapped.
    pub fn keep_reason(&self) -> Option<KeepReason> {
        let unseen = unseen::reason(self.unseen.load(Ordering::Acquire));
        let kept = unseen.or_else(|| self.kept.get().cloned());
        kept.or_else(|| self.signals.keep_reason(self.mappings()))
    }

    /// Remembers a reason to stay mapped. Returns false if the image is being unmapped, when no new reason
    /// may come up.
    fn keep(&self, why: impl FnOnce() -> KeepReason) -> bool {
        if self.is_closing() {
            return false;
        }
        self.kept.get_or_init(why);
        true
    }

    /// Notes that the image has opened a library. Returns whether it may use the library.
    pub fn library_opened(&self, file: &CStr) -> bool {
        let path = Path::new(OsStr::from_bytes(file.to_bytes()));
        if self.is_own(path) {
            return self.keep(|| {
                let why = "it has opened itself once more, so the loader keeps it; some libraries do this to stay \
                           loaded, and can be built without it";
                KeepReason::new(KeepKind::OpenedItself, why)
            });
        }
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        is_covered(&name) || self.trusts(&name) || self.keep(|| has_opened(&name))
    }

    /// Notes that the image uses the function at this position in `artifact::unseen`. Returns whether it may.
    fn uses_unseen(&self, number: usize) -> bool {
        if self.is_closing() {
            return false;
        }
        self.unseen.fetch_min(number, Ordering::AcqRel);
        true
    }

    /// Notes that the image has looked up a symbol. `file` is the file with the symbol; `None` if no file has
    /// it in its code or data. Returns whether the image may use the symbol.
    pub fn symbol_found(&self, name: &CStr, file: Option<&CStr>) -> bool {
        let symbol = name.to_string_lossy();
        if let Some(number) = unseen::number(&symbol) {
            return self.uses_unseen(number);
        }
        let Some(file) = file else { return true };
        let file = Path::new(OsStr::from_bytes(file.to_bytes()));
        let library = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
        // The library of the kernel (vDSO) has no file; its functions keep nothing.
        let is_kernels = library.starts_with("linux-vdso");
        self.is_own(file)
            || is_covered(&library)
            || is_kernels
            || self.trusts(&library)
            || self.keep(|| {
                let why = format!(
                    "it has looked up `{symbol}` in {library}, which may have pointers into it that \
                     nobody sees; {}",
                    instead_of(&library)
                );
                let reason = KeepReason::new(KeepKind::FoundSymbol, why);
                reason.symbol(symbol.as_ref()).library(library.as_ref())
            })
    }

    /// Notes that the image gives libc a pointer to keep. Returns whether it may.
    pub fn pointer_given(&self, function: &str, pointer: *const c_void) -> bool {
        if pointer.is_null() || !self.may_be_inside(pointer.addr()) {
            return true;
        }
        self.keep(|| {
            let why = format!(
                "it has given libc memory of its own with `{function}`, which libc keeps; give libc \
                 memory from the heap"
            );
            KeepReason::new(KeepKind::GaveMemory, why).symbol(function)
        })
    }

    fn is_own(&self, file: &Path) -> bool {
        self.file.get().is_some_and(|own| own == file)
    }

    fn trusts(&self, library: &str) -> bool {
        self.trusted.iter().any(|trusted| trusted == library)
    }

    /// Sets the action of a signal for the image.
    ///
    /// # Safety
    /// As POSIX says of `sigaction`.
    pub unsafe fn set_signal(
        &self,
        signal: c_int,
        action: *const libc::sigaction,
        old: *mut libc::sigaction,
    ) -> c_int {
        // SAFETY: the pointer is null or valid, as the caller says.
        let handler = unsafe { action.as_ref() }.map(|action| action.sa_sigaction);
        let own = handler.filter(|handler| {
            !matches!(*handler, libc::SIG_DFL | libc::SIG_IGN) && self.may_be_inside(*handler)
        });
        if own.is_some() && self.is_closing() {
            // SAFETY: the place is this thread's own.
            unsafe { *libc::__errno_location() = libc::EINVAL };
            return -1;
        }
        // SAFETY: the caller's promise.
        unsafe { self.signals.set(signal, action, own.unwrap_or(0), old) }
    }

    /// Makes a system call for the image, and notes what it leaves.
    ///
    /// # Safety
    /// The arguments are those of the call.
    pub unsafe fn system_call(&self, number: c_long, arguments: [c_long; 6]) -> c_long {
        let [first, second, third, fourth, fifth, sixth] = arguments;
        let address = ptr::with_exposed_provenance_mut::<c_void>(first as usize);
        let (size, flags) = (second as usize, fourth as c_int);
        // SAFETY: the caller's promise; the error is this thread's own.
        unsafe {
            if !self.may_make_system_call(number, arguments) {
                *libc::__errno_location() = libc::EPERM;
                return -1;
            }
            match number {
                libc::SYS_mmap => {
                    let access = (third as c_int, flags);
                    self.map(address, size, access, fifth as c_int, sixth).expose_provenance()
                        as c_long
                }
                libc::SYS_munmap => c_long::from(self.unmap(address, size)),
                libc::SYS_mremap => {
                    let to = ptr::with_exposed_provenance_mut(fifth as usize);
                    self.remap((address, size), third as usize, flags, to).expose_provenance()
                        as c_long
                }
                _ => descriptors::call(self.opener, number, arguments),
            }
        }
    }

    /// Notes what a system call makes the system keep. Returns whether the image may make the call.
    ///
    /// # Safety
    /// The arguments are those of the call.
    unsafe fn may_make_system_call(&self, number: c_long, arguments: [c_long; 6]) -> bool {
        let [first, second, ..] = arguments;
        /// The first word of a record; `None` if the pointer is null.
        unsafe fn first_word(record: c_long) -> Option<u64> {
            // SAFETY: the caller's promise.
            unsafe { ptr::with_exposed_provenance::<u64>(record as usize).as_ref().copied() }
        }
        // SAFETY: these calls take a pointer to a record there.
        let (flags, handler) = unsafe {
            match number {
                libc::SYS_clone => (Some(first as u64), None),
                libc::SYS_clone3 => (first_word(first), None),
                libc::SYS_rt_sigaction => (None, first_word(second)),
                _ => return true,
            }
        };
        if flags.is_some_and(starts_thread) {
            return unseen::number("clone").is_none_or(|clone| self.uses_unseen(clone));
        }
        let is_own = |handler: &u64| *handler > 1 && self.may_be_inside(*handler as usize);
        let Some(_) = handler.filter(is_own) else { return true };
        self.keep(|| {
            let signal = signal_name(first as usize);
            let why = format!(
                "it has set a handler of {signal} with a system call, so the engine cannot restore the one before; \
                 set handlers with `sigaction`"
            );
            KeepReason::new(KeepKind::HandlesSignal, why).signal(signal)
        })
    }

    /// Notes that a function of libc has opened a descriptor for the image.
    pub fn descriptor_opened(&self, descriptor: c_int) {
        descriptors::remember(self.opener, descriptor);
    }

    /// The descriptors that the image opened and that are still open.
    pub fn descriptors(&self) -> Vec<OpenDescriptor> {
        descriptors::still_open(self.opener)
    }

    /// `mmap` for the image.
    ///
    /// # Safety
    /// As POSIX says of its arguments.
    pub unsafe fn map(
        &self,
        address: *mut c_void,
        size: usize,
        (protection, flags): (c_int, c_int),
        descriptor: c_int,
        offset: i64,
    ) -> *mut c_void {
        // SAFETY: the caller's promise.
        let mapped = unsafe { libc::mmap(address, size, protection, flags, descriptor, offset) };
        let own = || {
            let file = std::fs::metadata(self.file.get()?).ok()?;
            Some((file.dev(), file.ino()))
        };
        let is_own = |file| {
            own() == Some(file) || self.room.get().is_some_and(|room| room.has_symbols_in(file))
        };
        if mapped == libc::MAP_FAILED {
            return mapped;
        }
        let range = pages(mapped.expose_provenance(), size);
        self.note_mapped(
            range,
            descriptor >= 0 && descriptors::file_of(descriptor).is_some_and(is_own),
        );
        mapped
    }

    /// `munmap` for the image.
    ///
    /// # Safety
    /// As POSIX says of its arguments.
    pub unsafe fn unmap(&self, address: *mut c_void, size: usize) -> c_int {
        self.note_unmapped(&pages(address.addr(), size));
        // SAFETY: the caller's promise.
        unsafe { libc::munmap(address, size) }
    }

    /// `mremap` for the image.
    ///
    /// # Safety
    /// As Linux says of its arguments.
    pub unsafe fn remap(
        &self,
        (address, size): (*mut c_void, usize),
        new_size: usize,
        flags: c_int,
        new_address: *mut c_void,
    ) -> *mut c_void {
        let is_own = self.own_mapped.has(address.addr());
        // SAFETY: the caller's promise.
        let mapped = unsafe { libc::mremap(address, size, new_size, flags, new_address) };
        if mapped == libc::MAP_FAILED {
            return mapped;
        }
        if flags & libc::MREMAP_DONTUNMAP == 0 {
            self.note_unmapped(&pages(address.addr(), size));
        }
        self.note_mapped(pages(mapped.expose_provenance(), new_size), is_own);
        mapped
    }

    /// Notes that the image has mapped a range, which replaces its earlier mappings there.
    fn note_mapped(&self, range: Range<usize>, is_own: bool) {
        self.note_unmapped(&range);
        if is_own { self.own_mapped.add(range) } else { self.left_mapped.add(range) }
    }

    fn note_unmapped(&self, range: &Range<usize>) {
        self.own_mapped.remove(range);
        self.left_mapped.remove(range);
    }

    /// Unmaps the image's mappings of its own file and of its patches' symbols. The image is gone, and so is all
    /// code that could read them.
    pub fn unmap_own_file(&self) {
        for range in self.own_mapped.take() {
            // SAFETY: the image made the mapping for itself, and is gone.
            unsafe { libc::munmap(ptr::with_exposed_provenance_mut(range.start), range.len()) };
        }
    }

    /// How many bytes that the image has mapped are still mapped, and in memory; its own file is not counted.
    pub fn mapped_bytes(&self) -> u64 {
        self.left_mapped.bytes()
    }

    /// Takes the name of a signal that the image has begun to handle and that was not reported yet.
    pub fn take_newly_handled(&self) -> Option<String> {
        match self.signals.news.swap(0, Ordering::Relaxed) {
            0 => None,
            signal => Some(signal_name(signal)),
        }
    }

    /// Gives the signals that the image handles back to the host. The image has ended or is about to.
    pub fn put_signals_back(&self) {
        self.signals.put_back();
    }

    /// Keeps the value of an environment variable for as long as the image may read it. Equal values are kept
    /// once.
    pub fn keep_variable(&self, value: CString) -> *const c_char {
        let mut variables = self.variables();
        if let Some(kept) = variables.get(value.as_c_str()) {
            return kept.as_ptr();
        }
        let value = value.into_boxed_c_str();
        let text = value.as_ptr();
        variables.insert(value);
        text
    }

    fn variables(&self) -> MutexGuard<'_, HashSet<Box<CStr>>> {
        self.variables.locked()
    }
}

/// Whether a timer of the process is running that sends the signal.
fn is_sent_by_timer(signal: c_int) -> bool {
    let timer = match signal {
        libc::SIGALRM => libc::ITIMER_REAL,
        libc::SIGVTALRM => libc::ITIMER_VIRTUAL,
        libc::SIGPROF => libc::ITIMER_PROF,
        _ => return false,
    };
    let mut left = MaybeUninit::<libc::itimerval>::uninit();
    // SAFETY: the call only writes the timer; if it succeeds, it has written all of it.
    let left = unsafe {
        if libc::getitimer(timer, left.as_mut_ptr()) != 0 {
            return false;
        }
        left.assume_init().it_value
    };
    (left.tv_sec, left.tv_usec) != (0, 0)
}

/// Whether these flags of `clone` start a thread. A child that shares the memory until it executes another program,
/// as after `vfork`, is none.
fn starts_thread(flags: u64) -> bool {
    flags & libc::CLONE_VM as u64 != 0 && flags & libc::CLONE_VFORK as u64 == 0
}

fn has_opened(library: &str) -> KeepReason {
    let why = format!(
        "it has opened {library} itself, which may keep pointers into it that the engine cannot see (threads, \
         callbacks, keys); {}",
        instead_of(library)
    );
    KeepReason::new(KeepKind::OpenedLibrary, why).library(library)
}

/// The signals that an image handles. An image can set them in a handler, and in a process between fork and exec,
/// so no lock is taken.
struct Signals {
    /// The last handler of its own that the image has set for each signal; 0 if it has set none, or has
    /// restored the previous one.
    handlers: [AtomicUsize; SIGNALS],
    /// Whether other code has set a handler since then, which may call the handler of the image: handlers
    /// form chains.
    chained: [AtomicBool; SIGNALS],
    /// The action that the image found when it set a handler of its own.
    found: [FoundAction; SIGNALS],
    /// The last signal for which the image has set a handler and that was not reported yet; 0 if there is
    /// none.
    news: AtomicUsize,
}

/// An action that an image found, in separate parts, since no lock may be taken. Of its mask, it has only the
/// signals that exist.
#[derive(Default)]
struct FoundAction {
    handler: AtomicUsize,
    flags: AtomicI32,
    mask: AtomicU64,
}

impl FoundAction {
    fn set(&self, action: &libc::sigaction) {
        self.handler.store(action.sa_sigaction, Ordering::Relaxed);
        self.flags.store(action.sa_flags, Ordering::Relaxed);
        // SAFETY: a set of signals has more than one word, and its first word has all signals that exist.
        let mask = unsafe { (&raw const action.sa_mask).cast::<u64>().read_unaligned() };
        self.mask.store(mask, Ordering::Relaxed);
    }

    fn get(&self) -> libc::sigaction {
        // SAFETY: zeros are an action.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        action.sa_sigaction = self.handler.load(Ordering::Relaxed);
        action.sa_flags = self.flags.load(Ordering::Relaxed);
        let mask = self.mask.load(Ordering::Relaxed);
        // SAFETY: as in `set`.
        unsafe { (&raw mut action.sa_mask).cast::<u64>().write_unaligned(mask) };
        action
    }
}

/// The handlers of images that have ended: the signal, the handler, and the action that the image found.
static ENDED: Mutex<Vec<(usize, usize, libc::sigaction)>> = Mutex::new(Vec::new());

impl Default for Signals {
    fn default() -> Self {
        Self {
            handlers: std::array::from_fn(|_| AtomicUsize::new(0)),
            chained: std::array::from_fn(|_| AtomicBool::new(false)),
            found: std::array::from_fn(|_| FoundAction::default()),
            news: AtomicUsize::new(0),
        }
    }
}

impl Signals {
    /// Sets an action. `own` is its handler if that belongs to the image, and 0 otherwise.
    ///
    /// # Safety
    /// As POSIX says of `sigaction`.
    unsafe fn set(
        &self,
        signal: c_int,
        action: *const libc::sigaction,
        own: usize,
        old: *mut libc::sigaction,
    ) -> c_int {
        let mut before = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: the caller's promise.
        let code = unsafe { libc::sigaction(signal, action, before.as_mut_ptr()) };
        if code != 0 {
            return code;
        }
        // SAFETY: it succeeded, and so has written the action.
        let before = unsafe { before.assume_init() };
        let at = usize::try_from(signal).ok().filter(|at| *at < SIGNALS && !action.is_null());
        if let Some(at) = at {
            let was = self.handlers[at].swap(own, Ordering::AcqRel);
            if was == 0 && own != 0 {
                self.found[at].set(&before);
                self.news.store(at, Ordering::Relaxed);
            }
            if was != 0 && was != before.sa_sigaction {
                self.chained[at].store(true, Ordering::Release);
            }
        }
        if !old.is_null() {
            // SAFETY: the caller's promise.
            unsafe { old.write(before) };
        }
        code
    }

    /// Restores the actions that the image found, for all signals whose handler is still the image's. If the
    /// found handler belongs to an image that has ended since, the action is restored that the ended image had
    /// found.
    fn put_back(&self) {
        let mut ended = ENDED.locked();
        for at in 1..SIGNALS {
            let own = self.handlers[at].load(Ordering::Acquire);
            if own == 0 {
                continue;
            }
            let mut found = self.found[at].get();
            if !ended.iter().any(|(signal, other, _)| (*signal, *other) == (at, own)) {
                ended.push((at, own, found));
            }
            let next =
                |handler| ended.iter().find(|(signal, own, _)| (*signal, *own) == (at, handler));
            for _ in 0..ended.len() {
                match next(found.sa_sigaction) {
                    Some((.., before)) => found = *before,
                    None => break,
                }
            }
            let signal = at as c_int;
            let mut now = MaybeUninit::<libc::sigaction>::uninit();
            // SAFETY: without a new action, the call only writes the present one.
            let code = unsafe { libc::sigaction(signal, ptr::null(), now.as_mut_ptr()) };
            // SAFETY: if it succeeds, it has written the action.
            let is_own = code == 0 && unsafe { now.assume_init() }.sa_sigaction == own;
            // The default action of these signals ends the process.
            if is_own && !(found.sa_sigaction == libc::SIG_DFL && is_sent_by_timer(signal)) {
                // SAFETY: the action was set before.
                unsafe { libc::sigaction(signal, &raw const found, ptr::null_mut()) };
            }
        }
    }

    /// Why an image must stay mapped because of its signals, including handlers that it set without its
    /// hooks.
    fn keep_reason(&self, mut mappings: impl Iterator<Item = Range<usize>>) -> Option<KeepReason> {
        let find = |is_it: &dyn Fn(usize) -> bool| (1..SIGNALS).find(|at| is_it(*at));
        if let Some(at) = find(&|at| self.chained[at].load(Ordering::Acquire)) {
            let signal = signal_name(at);
            let why = format!(
                "other code has replaced its handler of {signal}, and may still call it; a plugin should leave \
                 signals to its host"
            );
            return Some(KeepReason::new(KeepKind::ChainedSignal, why).signal(signal));
        }
        let set = find(&|at| self.handlers[at].load(Ordering::Acquire) != 0);
        let set = set
            .or_else(|| usize::try_from(mappings.find_map(|range| handled_signal(&range))?).ok())?;
        let signal = signal_name(set);
        let why = format!(
            "the handler of {signal} lies in it; a plugin that sets a handler must restore the previous one in \
             `on_free`"
        );
        Some(KeepReason::new(KeepKind::HandlesSignal, why).signal(signal))
    }
}

/// The name of a signal, such as `SIGWINCH`, or its number if it has no name.
pub(super) fn signal_name(signal: usize) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let name = signal.checked_sub(1).and_then(|at| NAMES.get(at));
    name.map_or_else(|| format!("signal {signal}"), |name| format!("SIG{name}"))
}
