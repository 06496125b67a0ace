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

/// The descriptors that images opened, by number. An entry of a descriptor that other code has closed stays until
/// an image uses its number again. If other code uses the number, the file ids differ.
static OPENED: Mutex<Option<HashMap<c_int, Opened>>> = Mutex::new(None);

struct Opened {
    by: OpenerId,
    file: FileId,
}

/// The device and the inode of a file.
type FileId = (u64, u64);

/// Makes a system call. Remembers the descriptors that it opened or received, and forgets one that it closed.
///
/// # Safety
/// The arguments are those of the call.
pub(super) unsafe fn call(by: OpenerId, number: c_long, arguments: [c_long; 6]) -> c_long {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    if number == libc::SYS_close {
        forget(first as c_int);
    }
    // SAFETY: the caller's promise.
    let result = unsafe { libc::syscall(number, first, second, third, fourth, fifth, sixth) };
    if result < 0 {
        return result;
    }
    // SAFETY: the call succeeded, so the records that it writes have been written.
    unsafe {
        match number {
            libc::SYS_socketpair => remember_pair(by, fourth),
            libc::SYS_pipe2 => remember_pair(by, first),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_pipe => remember_pair(by, first),
            libc::SYS_recvmsg => remember_received(by, at(second)),
            libc::SYS_recvmmsg => {
                let messages =
                    std::slice::from_raw_parts(at::<libc::mmsghdr>(second), result as usize);
                messages
                    .iter()
                    .for_each(|message| remember_received(by, &raw const message.msg_hdr));
            }
            libc::SYS_fcntl if !is_duplicating(second) => {}
            _ if opens_descriptor(number) => remember(by, result as c_int),
            _ => {}
        }
    }
    result
}

/// The record to which an argument of a system call points.
fn at<T>(argument: c_long) -> *const T {
    std::ptr::with_exposed_provenance(argument as usize)
}

/// Whether a system call returns a descriptor that it has opened.
fn opens_descriptor(number: c_long) -> bool {
    #[cfg(target_arch = "x86_64")]
    let is_older = matches!(
        number,
        libc::SYS_open
            | libc::SYS_creat
            | libc::SYS_dup2
            | libc::SYS_eventfd
            | libc::SYS_epoll_create
            | libc::SYS_signalfd
            | libc::SYS_inotify_init
    );
    #[cfg(not(target_arch = "x86_64"))]
    let is_older = false;
    is_older
        || matches!(
            number,
            libc::SYS_openat
                | libc::SYS_openat2
                | libc::SYS_socket
                | libc::SYS_accept
                | libc::SYS_accept4
                | libc::SYS_dup
                | libc::SYS_dup3
                | libc::SYS_fcntl
                | libc::SYS_eventfd2
                | libc::SYS_epoll_create1
                | libc::SYS_memfd_create
                | libc::SYS_memfd_secret
                | libc::SYS_timerfd_create
                | libc::SYS_inotify_init1
                | libc::SYS_signalfd4
                | libc::SYS_fanotify_init
                | libc::SYS_open_by_handle_at
                | libc::SYS_pidfd_open
                | libc::SYS_pidfd_getfd
                | libc::SYS_mq_open
                | libc::SYS_userfaultfd
                | libc::SYS_perf_event_open
                | libc::SYS_io_uring_setup
                | libc::SYS_open_tree
                | libc::SYS_fsopen
                | libc::SYS_fsmount
                | libc::SYS_fspick
        )
}

/// Remembers the two descriptors to which an argument points.
///
/// # Safety
/// Two numbers are there.
unsafe fn remember_pair(by: OpenerId, pair: c_long) {
    // SAFETY: the caller's promise.
    let pair = unsafe { at::<[c_int; 2]>(pair).read_unaligned() };
    pair.into_iter().for_each(|opened| remember(by, opened));
}

/// Remembers the descriptors that have arrived with a message.
///
/// # Safety
/// The system has written the message.
unsafe fn remember_received(by: OpenerId, message: *const libc::msghdr) {
    // SAFETY: the caller's promise; the system has written as many parts as the message says.
    unsafe {
        let mut part = libc::CMSG_FIRSTHDR(message);
        while let Some(header) = part.as_ref() {
            if (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let bytes = header.cmsg_len - libc::CMSG_LEN(0) as usize;
                let numbers = libc::CMSG_DATA(part).cast::<c_int>();
                for index in 0..bytes / size_of::<c_int>() {
                    remember(by, numbers.add(index).read_unaligned());
                }
            }
            part = libc::CMSG_NXTHDR(message, part);
        }
    }
}

/// Whether a command of `fcntl` opens a descriptor.
fn is_duplicating(command: c_long) -> bool {
    [c_long::from(libc::F_DUPFD), c_long::from(libc::F_DUPFD_CLOEXEC)].contains(&command)
}

/// Notes that the image has opened a descriptor.
pub(super) fn remember(by: OpenerId, descriptor: c_int) {
    if !is_host() {
        return;
    }
    let Some(file) = file_of(descriptor) else { return };
    change(|all| {
        all.insert(descriptor, Opened { by, file });
    });
}

/// Notes that an image is about to close a descriptor. Other code may get its number, even for the same file or,
/// like all event counters, for a file with the same id.
fn forget(descriptor: c_int) {
    if is_host() {
        change(|all| {
            all.remove(&descriptor);
        });
    }
}

/// Whether this process is the host, and not a child of it.
fn is_host() -> bool {
    HOST.load(Ordering::Relaxed) == process::id()
}

/// Changes the descriptors that images opened, if the lock becomes free. A handler of a signal may open or close a
/// descriptor while its thread holds the lock.
fn change(change: impl FnOnce(&mut HashMap<c_int, Opened>)) {
    /// How often to check whether the lock is free.
    const ATTEMPTS: usize = 10_000;

    for _ in 0..ATTEMPTS {
        if let Ok(mut all) = OPENED.try_lock() {
            return change(all.get_or_insert_default());
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
