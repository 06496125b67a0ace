//! What the engine asks of the system, safe to call.

use std::{
    ffi::CStr,
    fs::{File, Permissions},
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _},
        unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
        },
    },
};

/// How long the system's names of threads are, in bytes.
pub(crate) const THREAD_NAME_BYTES: usize = 16;

/// The user who runs this process.
pub(crate) fn user_id() -> u32 {
    // SAFETY: the call has no precondition and cannot fail.
    unsafe { libc::getuid() }
}

/// The system's number of this thread.
pub(crate) fn thread_id() -> i32 {
    // SAFETY: the call has no precondition.
    unsafe { libc::gettid() }
}

/// This thread's name as the system has it, filled up with zeros.
pub(crate) fn thread_name() -> [u8; THREAD_NAME_BYTES] {
    let mut name = [0; THREAD_NAME_BYTES];
    // SAFETY: the system writes as many bytes at most.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name
}

/// The user of the process at the other end of a socket; `None` if the system does not say.
pub(crate) fn peer_user_id(stream: &UnixStream) -> Option<u32> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the socket is open, and the two pointers are to locals of those sizes.
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

/// Wakes the thread that accepts connections, and lets it accept none any more.
pub(crate) fn stop_accepting(socket: &UnixListener) {
    // SAFETY: the socket is open.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}

/// A file in memory of a length that nobody can change: a mapped file that somebody makes shorter kills
/// whoever uses the rest of it. Only this user can open it.
pub(crate) fn memory_file(name: &CStr, bytes: u64) -> io::Result<File> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name ends with a zero.
    let descriptor = check(unsafe { libc::memfd_create(name.as_ptr(), flags) })?;
    // SAFETY: the system has just made it, and nobody else has it.
    let file = unsafe { File::from_raw_fd(descriptor) };
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.set_len(bytes)?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: the call only restricts what can be done with the file.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
    Ok(file)
}

fn check(code: i32) -> io::Result<i32> {
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(code) }
}
