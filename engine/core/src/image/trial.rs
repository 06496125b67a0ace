//! Opens a file first in a process of its own, which may end by it.
//!
//! A constructor that crashes, a library that aborts, or one that never returns would take the host with it,
//! or its loader's lock. The process is a fork of the host, since the file needs the host around it; it runs
//! nothing but the loader.

use std::{
    ffi::{CString, c_int},
    io::{PipeReader, Read as _, pipe},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::{ffi::OsStrExt as _, process::ExitStatusExt as _},
    },
    path::Path,
    process::ExitStatus,
    time::Duration,
};

use crate::os;

/// What came of a trial.
pub(super) enum Trial {
    /// The file was opened, or refused by the loader, which then says why; or the system has no process
    /// to try it in.
    Harmless,
    /// The process ended; how.
    Ended(String),
    /// The process did not come back in time.
    RunsOn,
}

/// Tries to open a file, for at most so long.
///
/// A lock that another thread of the host holds at the moment of the fork is held for ever in the child. So a
/// child that does not come back is no proof, and there is a second one.
pub(super) fn open(path: &Path, patience: Duration) -> Trial {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return Trial::Harmless };
    match open_once(&path, patience / 2) {
        Trial::RunsOn => open_once(&path, patience / 2),
        answer => answer,
    }
}

fn open_once(path: &CString, patience: Duration) -> Trial {
    let Ok((reader, writer)) = pipe() else { return Trial::Harmless };
    // SAFETY: the child calls only what may be called in the child of a process with several threads, and
    // the loader, whose lock and allocator the system makes fit for that.
    match unsafe { libc::fork() } {
        -1 => Trial::Harmless,
        // SAFETY: this is the child.
        0 => unsafe { try_and_exit(path, writer.as_raw_fd()) },
        child => {
            drop(writer);
            watch(child, reader, patience)
        }
    }
}

/// What the child does.
///
/// # Safety
/// The process is a child that nobody else uses.
unsafe fn try_and_exit(path: &CString, writer: c_int) -> ! {
    const CRASHES: [c_int; 5] =
        [libc::SIGABRT, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGSEGV];
    // SAFETY: the pointers are to locals, and the path ends with a zero.
    unsafe {
        // What the host does when it crashes is not to be done here.
        for signal in CRASHES {
            libc::signal(signal, libc::SIG_DFL);
        }
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        libc::write(writer, (&raw const path).cast(), 1);
        libc::_exit(0);
    }
}

/// Waits for the child.
fn watch(child: libc::pid_t, mut reader: PipeReader, patience: Duration) -> Trial {
    let is_in_time = os::wait_to_read(reader.as_fd(), patience);
    if !is_in_time {
        // SAFETY: the child was not waited for, so the number is its own.
        unsafe { libc::kill(child, libc::SIGKILL) };
    }
    let has_opened = is_in_time && reader.read(&mut [0]).is_ok_and(|read| read == 1);
    let mut status = 0;
    // SAFETY: the pointer is to a local.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    match (has_opened, is_in_time) {
        (true, _) => Trial::Harmless,
        (false, false) => Trial::RunsOn,
        (false, true) if waited == child => Trial::Ended(how_ended(ExitStatus::from_raw(status))),
        (false, true) => Trial::Ended("ended".to_owned()),
    }
}

fn how_ended(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => {
            let signal = super::outside::signal_name(usize::try_from(signal).unwrap_or(0));
            format!("ended with {signal}")
        }
        (None, Some(code)) => format!("exited with status {code}"),
        (None, None) => "ended".to_owned(),
    }
}
