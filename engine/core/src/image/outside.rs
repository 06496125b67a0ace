//! What an image has given others outside of it, and what so decides whether it may be unmapped.
//!
//! The image's hooks report it. What they report is remembered for good: a pointer that nobody has now may
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
    mapping::handled_signal,
    patch::MAX_PATCHES,
};
use crate::artifact::{instead_of, is_covered, unseen};
use crate::lock::Lock as _;

/// One more than the highest number of a signal.
const SIGNALS: usize = 65;

/// What others may have of an image.
pub(crate) struct Outside {
    /// The file that it is mapped from.
    file: OnceLock<PathBuf>,
    /// What its descriptors are found by.
    opener: OpenerId,
    /// Where it has mapped its own file, as what resolves a backtrace does, and how long that is.
    own_mappings: Mutex<Vec<(usize, usize)>>,
    /// Where the image lies; not known while its constructors run.
    mapping: OnceLock<Range<usize>>,
    /// Where the patches of the image lie.
    patches: [OnceLock<Range<usize>>; MAX_PATCHES],
    /// The image is being unmapped: what its finalisers leave would be called when it is gone.
    closing: AtomicBool,
    signals: Signals,
    /// The lowest number of an unseen function that it has looked up; `usize::MAX` where none.
    unseen: AtomicUsize,
    /// The first thing besides, as a reason.
    kept: OnceLock<KeepReason>,
    /// The libraries that the host vouches for.
    trusted: Vec<String>,
    /// What `getenv` has answered: C code may keep that for as long as it likes.
    variables: Mutex<HashSet<Box<CStr>>>,
}

impl Outside {
    pub fn new(trusted: Vec<String>) -> Self {
        Self {
            file: OnceLock::new(),
            opener: OpenerId::new(),
            own_mappings: Mutex::default(),
            mapping: OnceLock::new(),
            patches: [const { OnceLock::new() }; MAX_PATCHES],
            closing: AtomicBool::new(false),
            signals: Signals::default(),
            unseen: AtomicUsize::new(usize::MAX),
            kept: OnceLock::new(),
            trusted,
            variables: Mutex::default(),
        }
    }

    /// Says what the image is about to be mapped from.
    pub fn set_file(&self, file: &Path) {
        let _ = self.file.set(file.to_owned());
    }

    /// Says where the image lies.
    pub fn set_mapping(&self, mapping: Range<usize>) {
        let _ = self.mapping.set(mapping);
    }

    /// Says where a patch of the image lies.
    pub fn add_patch(&self, mapping: Range<usize>) {
        let mut free = self.patches.iter().filter(|place| place.get().is_none());
        free.next().into_iter().for_each(|place| drop(place.set(mapping.clone())));
    }

    /// Whether a pointer leads into the image or a patch of it, as far as is known.
    fn may_be_inside(&self, address: usize) -> bool {
        self.mapping.get().is_none() || self.mappings().any(|mapping| mapping.contains(&address))
    }

    /// Where the image and its patches lie.
    fn mappings(&self) -> impl Iterator<Item = &Range<usize>> {
        self.mapping.get().into_iter().chain(self.patches.iter().map_while(OnceLock::get))
    }

    /// From now on nothing is kept of the image: its finalisers run.
    pub fn begin_close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// It was not unmapped after all, and may run on.
    pub fn end_close(&self) {
        self.closing.store(false, Ordering::Release);
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Why the image must stay mapped, if so.
    pub fn keep_reason(&self) -> Option<KeepReason> {
        let unseen = unseen::reason(self.unseen.load(Ordering::Acquire));
        let kept = unseen.or_else(|| self.kept.get().cloned());
        kept.or_else(|| self.signals.keep_reason(self.mappings()))
    }

    /// Remembers a reason to stay mapped; says whether there may be one still.
    fn keep(&self, why: impl FnOnce() -> KeepReason) -> bool {
        if self.is_closing() {
            return false;
        }
        self.kept.get_or_init(why);
        true
    }

    /// The image has opened a library; says whether it may.
    pub fn library_opened(&self, file: &CStr) -> bool {
        let path = Path::new(OsStr::from_bytes(file.to_bytes()));
        if self.is_own(path) {
            return self.keep(|| {
                let why = "it has opened itself once more, so the loader keeps it; as some libraries do to \
                           stay, which can be built without that";
                KeepReason::new(KeepKind::OpenedItself, why)
            });
        }
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        is_covered(&name) || self.trusts(&name) || self.keep(|| has_opened(&name))
    }

    /// The image has looked a symbol up, and found it in a file (`None` if it is in no file's code or
    /// data); says whether it may.
    pub fn symbol_found(&self, name: &CStr, file: Option<&CStr>) -> bool {
        let symbol = name.to_string_lossy();
        if let Some(number) = unseen::number(&symbol) {
            if self.is_closing() {
                return false;
            }
            self.unseen.fetch_min(number, Ordering::AcqRel);
            return true;
        }
        let Some(file) = file else { return true };
        let file = Path::new(OsStr::from_bytes(file.to_bytes()));
        let library = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
        // The kernel's own has no file; its functions keep nothing.
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

    /// The image gives libc a pointer to keep; says whether it may.
    pub fn pointer_given(&self, function: &str, pointer: *const c_void) -> bool {
        if pointer.is_null() || !self.may_be_inside(pointer.addr()) {
            return true;
        }
        self.keep(|| {
            let why = format!(
                "it has given libc memory of its own with `{function}`, which libc keeps; give it \
                 memory of the heap"
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

    /// Sets an action for the image.
    ///
    /// # Safety
    /// As POSIX says of `sigaction`.
    pub unsafe fn set_signal(
        &self,
        signal: c_int,
        action: *const libc::sigaction,
        old: *mut libc::sigaction,
    ) -> c_int {
        // SAFETY: null, or valid as the caller says.
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

    /// Makes a system call that opens descriptors for the image.
    ///
    /// # Safety
    /// The arguments are those of the call.
    pub unsafe fn open_descriptor(&self, number: c_long, arguments: [c_long; 4]) -> c_long {
        // SAFETY: the caller's promise.
        unsafe { descriptors::open(self.opener, number, arguments) }
    }

    /// The descriptors that the image opened and that are open still.
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
        if mapped != libc::MAP_FAILED
            && descriptor >= 0
            && own().is_some_and(|own| descriptors::file_of(descriptor) == Some(own))
        {
            self.own_mappings.locked().push((mapped.expose_provenance(), size));
        }
        mapped
    }

    /// `munmap` for the image.
    ///
    /// # Safety
    /// As POSIX says of its arguments.
    pub unsafe fn unmap(&self, address: *mut c_void, size: usize) -> c_int {
        self.own_mappings.locked().retain(|(start, _)| *start != address.addr());
        // SAFETY: the caller's promise.
        unsafe { libc::munmap(address, size) }
    }

    /// Unmaps what the image has mapped of its own file: it is gone, and so is whoever could look at that.
    pub fn unmap_own_file(&self) {
        for (start, size) in std::mem::take(&mut *self.own_mappings.locked()) {
            // SAFETY: the mapping was made by the image for itself, which is gone.
            unsafe { libc::munmap(ptr::with_exposed_provenance_mut(start), size) };
        }
    }

    /// The name of a signal that the image has begun to handle, and of which nothing was said yet.
    pub fn take_newly_handled(&self) -> Option<String> {
        match self.signals.news.swap(0, Ordering::Relaxed) {
            0 => None,
            signal => Some(signal_name(signal)),
        }
    }

    /// Lets the host handle again what the image, which has ended or is about to, handles.
    pub fn put_signals_back(&self) {
        self.signals.put_back();
    }

    /// Keeps what a variable of the environment is, for as long as the image may look at it. The same
    /// text is kept once.
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

fn has_opened(library: &str) -> KeepReason {
    let why = format!(
        "it has opened {library} itself, which may have pointers into it that nobody sees (threads, \
         callbacks, keys); {}",
        instead_of(library)
    );
    KeepReason::new(KeepKind::OpenedLibrary, why).library(library)
}

/// The signals that an image handles. Also set in a handler, and in a process between fork and exec:
/// no lock is taken.
struct Signals {
    /// The handler of its own that the image has set last, by signal; 0 where it has set none, or put
    /// back what was there.
    handlers: [AtomicUsize; SIGNALS],
    /// Somebody else has set one since, and may call the image's: handlers form chains.
    chained: [AtomicBool; SIGNALS],
    /// What the image found when it set a handler of its own.
    found: [FoundAction; SIGNALS],
    /// The signal whose handler the image has set last, and of which nothing was said yet; 0 if there is
    /// none.
    news: AtomicUsize,
}

/// An action that an image found, in parts, since no lock may be taken. Of the mask, it has the signals
/// that there are.
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
        // SAFETY: a set of signals is longer than one word, which has the signals that there are.
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

/// The handlers of images that have ended, by signal, and what each of these has found.
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
    /// Sets an action whose handler is the image's `own`, or another (0).
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

    /// Puts back what the image has found, where its handler is still set. What it has found may be the
    /// handler of an image that has ended since: then it is what that one has found.
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
            if code == 0 && unsafe { now.assume_init() }.sa_sigaction == own {
                // SAFETY: the action was set before.
                unsafe { libc::sigaction(signal, &raw const found, ptr::null_mut()) };
            }
        }
    }

    /// Why an image must stay mapped for its signals; also where it has set a handler past its hooks.
    fn keep_reason<'a>(
        &self,
        mut mappings: impl Iterator<Item = &'a Range<usize>>,
    ) -> Option<KeepReason> {
        let find = |is_it: &dyn Fn(usize) -> bool| (1..SIGNALS).find(|at| is_it(*at));
        if let Some(at) = find(&|at| self.chained[at].load(Ordering::Acquire)) {
            let signal = signal_name(at);
            let why = format!(
                "somebody has set a handler of {signal} after its own, and may still call that one; a \
                 plugin leaves signals to its host"
            );
            return Some(KeepReason::new(KeepKind::ChainedSignal, why).signal(signal));
        }
        let set = find(&|at| self.handlers[at].load(Ordering::Acquire) != 0);
        let set = set.or_else(|| usize::try_from(mappings.find_map(handled_signal)?).ok())?;
        let signal = signal_name(set);
        let why = format!(
            "the handler of {signal} lies in it; a plugin that sets one puts back in `on_free` what was \
             there"
        );
        Some(KeepReason::new(KeepKind::HandlesSignal, why).signal(signal))
    }
}

/// `SIGWINCH`, or by number where there is no name.
pub(super) fn signal_name(signal: usize) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let name = signal.checked_sub(1).and_then(|at| NAMES.get(at));
    name.map_or_else(|| format!("signal {signal}"), |name| format!("SIG{name}"))
}
