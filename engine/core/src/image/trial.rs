//! Opens a file in another process first, in case opening it ends the process.
//!
//! A constructor that crashes, or a library that aborts, would end the host. A constructor that never returns
//! would keep the loader's lock. The other process is a fork of the host, since the file needs the host
//! around it. It runs only the loader.

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

/// The result of a trial.
pub(super) enum Trial {
    /// The file was opened, or the loader refused it, which the host will see as well; or the system could
    /// not start a process.
    Harmless,
    /// The process ended; the text says how.
    Ended(String),
    /// The process did not end in time.
    RunsOn,
}

/// Tries to open a file, for at most `patience`.
///
/// A lock that another thread of the host holds at the moment of the fork is never released in the child. So
/// a child that does not end proves nothing, and a second one is started.
pub(super) fn open(path: &Path, patience: Duration) -> Trial {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return Trial::Harmless };
    match open_once(&path, patience / 2) {
        Trial::RunsOn => open_once(&path, patience / 2),
        answer => answer,
    }
}

fn open_once(path: &CString, patience: Duration) -> Trial {
    let Ok((reader, writer)) = pipe() else { return Trial::Harmless };
    let host = std::process::id().cast_signed();
    // SAFETY: the child only calls functions that are allowed in a fork of a process with several threads,
    // and the loader, whose lock and allocator the system makes usable in the child.
    match unsafe { libc::fork() } {
        -1 => Trial::Harmless,
        // SAFETY: this is the child.
        0 => unsafe { try_and_exit(path, writer.as_raw_fd(), host) },
        child => {
            drop(writer);
            watch(child, reader, patience)
        }
    }
}

/// The code of the child.
///
/// # Safety
/// The process is a fork that runs no other code.
unsafe fn try_and_exit(path: &CString, writer: c_int, host: libc::pid_t) -> ! {
    const CRASHES: [c_int; 5] =
        [libc::SIGABRT, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGSEGV];
    // SAFETY: the pointers lead to locals, and the path ends with a zero.
    unsafe {
        // If the host is killed, this process must not keep the host's sockets open.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() != host {
            libc::_exit(0);
        }
        // The host's own crash handlers must not run here.
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
        // SAFETY: nobody has waited for the child yet, so the number is still its own.
        unsafe { libc::kill(child, libc::SIGKILL) };
    }
    let has_opened = is_in_time && reader.read(&mut [0]).is_ok_and(|read| read == 1);
    let mut status = 0;
    // SAFETY: the pointer leads to a local.
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
