//! The descriptors that the code of an image opened: which of them are still open, and what kind of
//! descriptor each is.

use std::{
    collections::HashMap,
    ffi::{c_int, c_long},
    fs,
    mem::{ManuallyDrop, MaybeUninit},
    net::TcpListener,
    os::{fd::FromRawFd as _, unix::net::UnixListener},
    process,
    sync::{
        Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use hotswap_protocol::OpenDescriptor;

use crate::lock::Lock as _;

/// Identifies the image that opened a descriptor. No two images have the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OpenerId(u64);

impl OpenerId {
    /// A new id.
    pub fn new() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        HOST.store(process::id(), Ordering::Relaxed);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

/// The process of the host. A plugin's `Command` opens descriptors in a child between fork and exec, where
/// nothing may be allocated.
static HOST: AtomicU32 = AtomicU32::new(0);

/// The descriptors that images opened, by number. An entry of a closed descriptor stays until an image uses
/// its number again. If other code uses the number, the file ids differ.
static OPENED: Mutex<Option<HashMap<c_int, Opened>>> = Mutex::new(None);

struct Opened {
    by: OpenerId,
    file: FileId,
}

/// The device and the inode of a file.
type FileId = (u64, u64);

/// Makes a system call that opens descriptors, and remembers what it opened.
///
/// # Safety
/// The arguments are those of the call.
pub(super) unsafe fn open(by: OpenerId, number: c_long, arguments: [c_long; 4]) -> c_long {
    let [first, second, third, fourth] = arguments;
    // SAFETY: the caller's promise.
    let result = unsafe { libc::syscall(number, first, second, third, fourth) };
    if result < 0 {
        return result;
    }
    let pair = match number {
        libc::SYS_socketpair => Some(fourth),
        libc::SYS_pipe2 => Some(first),
        _ => None,
    };
    if let Some(pair) = pair {
        let pair = std::ptr::with_exposed_provenance::<[c_int; 2]>(pair as usize);
        // SAFETY: the call succeeded, and so has written two numbers there.
        unsafe { pair.read_unaligned() }.into_iter().for_each(|opened| remember(by, opened));
    } else if number != libc::SYS_fcntl || is_duplicating(second) {
        remember(by, result as c_int);
    }
    result
}

/// Whether a command of `fcntl` opens a descriptor.
fn is_duplicating(command: c_long) -> bool {
    [c_long::from(libc::F_DUPFD), c_long::from(libc::F_DUPFD_CLOEXEC)].contains(&command)
}

/// Notes that the image has opened a descriptor.
pub(super) fn remember(by: OpenerId, descriptor: c_int) {
    /// How often to check whether the lock is free. A handler of a signal may open a descriptor while its
    /// thread holds it.
    const LOOKS: usize = 10_000;

    if HOST.load(Ordering::Relaxed) != process::id() {
        return;
    }
    let Some(file) = file_of(descriptor) else { return };
    for _ in 0..LOOKS {
        if let Ok(mut all) = OPENED.try_lock() {
            all.get_or_insert_default().insert(descriptor, Opened { by, file });
            return;
        }
        std::thread::yield_now();
    }
}

/// The device and the inode of the file that a descriptor refers to; `None` if it is not open.
pub(super) fn file_of(descriptor: c_int) -> Option<FileId> {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the system writes to the place that the pointer leads to.
    let code = unsafe { libc::fstat(descriptor, status.as_mut_ptr()) };
    // SAFETY: if the call succeeds, it has filled the whole place.
    (code == 0)
        .then(|| unsafe { status.assume_init() })
        .map(|status| (status.st_dev, status.st_ino))
}

/// The descriptors that the image opened and that are still open, sorted by number.
pub(super) fn still_open(by: OpenerId) -> Vec<OpenDescriptor> {
    let mut own: Vec<c_int> = {
        let mut opened = OPENED.locked();
        let opened = opened.get_or_insert_default();
        opened.retain(|number, opened| opened.by != by || file_of(*number) == Some(opened.file));
        let own = opened.iter().filter(|(_, opened)| opened.by == by);
        own.map(|(number, _)| *number).collect()
    };
    own.sort_unstable();
    own.into_iter().map(described).collect()
}

/// What a descriptor refers to, as far as the system says.
fn described(number: c_int) -> OpenDescriptor {
    let link = fs::read_link(format!("/proc/self/fd/{number}")).unwrap_or_default();
    let link = link.to_string_lossy();
    let (kind, name) = if link.starts_with("socket:") {
        socket(number)
    } else if let Some(kind) = link.strip_prefix("anon_inode:") {
        (kind.trim_matches(['[', ']']).to_owned(), String::new())
    } else if link.starts_with("pipe:") {
        ("pipe".to_owned(), String::new())
    } else if let Some(name) = link.strip_prefix("/memfd:") {
        ("memory file".to_owned(), name.trim_end_matches(" (deleted)").to_owned())
    } else if link.is_empty() {
        ("descriptor".to_owned(), number.to_string())
    } else {
        ("file".to_owned(), link.into_owned())
    };
    OpenDescriptor { number, kind, name }
}

/// The kind and the address of a socket.
fn socket(number: c_int) -> (String, String) {
    // SAFETY: the descriptor is not closed here. Asking a socket of another kind for its address returns an
    // error.
    let inet = ManuallyDrop::new(unsafe { TcpListener::from_raw_fd(number) });
    if let Ok(address) = inet.local_addr() {
        let kind = if is_stream(number) { "tcp" } else { "udp" };
        return (kind.to_owned(), address.to_string());
    }
    // SAFETY: as above.
    let unix = ManuallyDrop::new(unsafe { UnixListener::from_raw_fd(number) });
    let Ok(address) = unix.local_addr() else { return ("socket".to_owned(), String::new()) };
    let path = address.as_pathname().map(|path| path.display().to_string());
    ("unix".to_owned(), path.unwrap_or_default())
}

fn is_stream(number: c_int) -> bool {
    let mut kind: c_int = 0;
    let mut size = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: both pointers lead to locals of these sizes.
    let code = unsafe {
        libc::getsockopt(
            number,
            libc::SOL_SOCKET,
            libc::SO_TYPE,
            (&raw mut kind).cast(),
            &raw mut size,
        )
    };
    code == 0 && kind == libc::SOCK_STREAM
}
