//! Other programs that use the same terminal and write over the screen: background jobs of a shell, or processes that
//! an editor has left behind.
//!
//! The system reports each write to the terminal's device. The terminal is not asked for its cursor's position, because
//! answers come among the keys. A program that opens `/dev/tty` writes to another device, and is not noticed.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use tokio::net::unix::pipe::Receiver;

use crate::host::process::Stat;
use crate::screen::model::Program;

/// The link to this process's standard output, which is the terminal.
const OUTPUT: &str = "/proc/self/fd/1";
/// The size of the buffer for events, in bytes. Several events fit; the system merges equal ones that follow each
/// other.
const EVENTS: usize = 1024;

/// Positions of fields in `/proc/PID/stat`.
const PARENT: usize = 4;
const GROUP: usize = 5;

/// A watcher of writes to the terminal.
pub struct Others {
    /// The inotify descriptor. It is not a pipe, but is waited for and read like one.
    writes: Receiver,
    terminal: PathBuf,
}

impl Others {
    /// Watches the terminal that is the standard output of this process.
    pub fn watch() -> io::Result<Self> {
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        add_watch(&inotify, OUTPUT, WatchFlags::MODIFY)?;
        let writes = Receiver::from_owned_fd_unchecked(inotify)?;
        Ok(Self { writes, terminal: fs::read_link(OUTPUT)? })
    }

    /// Ignores all writes until now: this process made them, or a program that had the terminal.
    pub fn forget(&self) {
        // The runtime may not know yet that the descriptor is readable.
        while rustix::io::read(self.writes.as_fd(), &mut [0; EVENTS]).is_ok() {}
    }

    /// Waits for a write that is not ignored in time.
    pub async fn wrote(&self) -> io::Result<()> {
        loop {
            self.writes.readable().await?;
            match self.writes.try_read(&mut [0; EVENTS]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read.map(drop),
            }
        }
    }

    /// The programs that may have written: those that have the terminal open, one for each job of a shell. Programs
    /// that wait for this one to end are left out.
    pub fn programs(&self) -> Vec<Program> {
        let waiting = with_ancestors(std::process::id());
        let mut programs = BTreeMap::new();
        for pid in processes().filter(|pid| !waiting.contains(pid) && self.is_open_in(*pid)) {
            let leader = Stat::of(pid).number(GROUP).and_then(|group| u32::try_from(group).ok());
            let leads = |leader: &u32| !waiting.contains(leader) && self.is_open_in(*leader);
            let pid = leader.filter(leads).unwrap_or(pid);
            // A process that has ended meanwhile has no name.
            if let Ok(name) = fs::read_to_string(format!("/proc/{pid}/comm")) {
                programs.insert(pid, name.trim_end().to_owned());
            }
        }
        programs.into_iter().map(|(pid, name)| Program { name, pid }).collect()
    }

    /// Whether a process has the terminal open; false if it belongs to another user, because that is not visible.
    fn is_open_in(&self, pid: u32) -> bool {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.filter_map(|file| fs::read_link(file.path()).ok()).any(|it| it == self.terminal)
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(Path::new("/proc")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// A process and its ancestors.
fn with_ancestors(pid: u32) -> Vec<u32> {
    let parent = |pid: &u32| {
        let parent = Stat::of(pid).number(PARENT)?;
        u32::try_from(parent).ok().filter(|parent| *parent > 0)
    };
    std::iter::successors(Some(pid), parent).collect()
}
