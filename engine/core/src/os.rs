//! Calls of the operating system, as safe functions.

use std::{
    ffi::{CStr, CString, c_int},
    fs::{File, Permissions},
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _},
        unix::{
            ffi::OsStrExt as _,
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    path::{self, Path, PathBuf},
    time::Duration,
};

/// The size of a thread's name in the system, in bytes.
pub(crate) const THREAD_NAME_BYTES: usize = 16;

/// The path, which stays the same if the working directory changes.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The user who runs this process.
pub(crate) fn user_id() -> u32 {
    // SAFETY: the call has no precondition and cannot fail.
    unsafe { libc::getuid() }
}

/// The system's id of this thread.
pub(crate) fn thread_id() -> i32 {
    // SAFETY: the call has no precondition.
    unsafe { libc::gettid() }
}

/// This thread's name in the system, padded with zeros.
pub(crate) fn thread_name() -> [u8; THREAD_NAME_BYTES] {
    let mut name = [0; THREAD_NAME_BYTES];
    // SAFETY: the system writes at most this many bytes.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name
}

/// The user of the process at the other end of a socket; `None` if the system does not say.
pub(crate) fn peer_user_id(stream: &UnixStream) -> Option<u32> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the socket is open, and both pointers lead to locals of these sizes.
    let code = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut size,
        )
    };
    (code == 0).then_some(peer.uid)
}

/// Wakes the thread that accepts connections, and makes it accept no more.
pub(crate) fn stop_accepting(socket: &UnixListener) {
    // SAFETY: the socket is open.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}

/// A memory file whose length nobody can change: a process that uses a mapped file crashes if somebody makes
/// the file shorter. Only this user can open it.
pub(crate) fn memory_file(name: &CStr, bytes: u64) -> io::Result<File> {
    let file = new_memory_file(name, 0)?;
    file.set_len(bytes)?;
    seal(&file, libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL)?;
    Ok(file)
}

/// An empty memory file from which code can be mapped. Only this user can open it.
pub(crate) fn code_file(name: &CStr) -> io::Result<File> {
    /// The flag exists since Linux 6.3. Without it, the system's settings decide whether code can be mapped.
    const MFD_EXEC: libc::c_uint = 0x10;
    new_memory_file(name, MFD_EXEC).or_else(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => new_memory_file(name, 0),
        _ => Err(error),
    })
}

/// Seals the length of a memory file.
pub(crate) fn keep_length(file: &File) -> io::Result<()> {
    seal(file, libc::F_SEAL_SHRINK | libc::F_SEAL_GROW)
}

/// Seals the content of a memory file.
pub(crate) fn keep_content(file: &File) -> io::Result<()> {
    seal(file, libc::F_SEAL_WRITE | libc::F_SEAL_SEAL)
}

fn new_memory_file(name: &CStr, flags: libc::c_uint) -> io::Result<File> {
    let flags = flags | libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name ends with a zero.
    let descriptor = check(unsafe { libc::memfd_create(name.as_ptr(), flags) })?;
    // SAFETY: the system has just made the descriptor, and nobody else has it.
    let file = unsafe { File::from_raw_fd(descriptor) };
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

fn seal(file: &File, seals: c_int) -> io::Result<()> {
    // SAFETY: the call only restricts what can be done with the file.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) }).map(drop)
}

/// Whether the directory is mounted such that code from its files cannot be mapped.
pub(crate) fn is_noexec(dir: &Path) -> bool {
    let Ok(dir) = CString::new(dir.as_os_str().as_bytes()) else { return false };
    let mut system = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with a zero, and the system writes to the place that the pointer leads to.
    let code = unsafe { libc::statvfs(dir.as_ptr(), system.as_mut_ptr()) };
    // SAFETY: if the call succeeds, it has filled the whole place.
    code == 0 && unsafe { system.assume_init() }.f_flag & libc::ST_NOEXEC != 0
}

/// Waits until a socket has a client, or a stream has data or has ended. Returns false if nothing happened
/// within `patience`.
pub(crate) fn wait_to_read(descriptor: BorrowedFd<'_>, patience: Duration) -> bool {
    let mut poll = libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let patience_ms = c_int::try_from(patience.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: the pointer leads to one record.
    unsafe { libc::poll(&raw mut poll, 1, patience_ms) > 0 }
}

fn check(code: i32) -> io::Result<i32> {
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(code) }
}
