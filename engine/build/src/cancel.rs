//! Ending a build from elsewhere.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};

/// Ends the builds it was given to, from any thread; its clones are the same `Cancel`.
///
/// Cancelling is final: a build started afterwards with the same `Cancel` ends at once.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    cancelled: bool,
    /// The process groups of the running builds. None of their leaders has been reaped, so no
    /// id in here can belong to a stranger.
    groups: Vec<Pid>,
}

impl Cancel {
    /// Kills the process group of each build that runs with this `Cancel`, compilers included.
    pub fn cancel(&self) {
        let mut state = self.lock();
        state.cancelled = true;
        for group in &state.groups {
            kill(*group);
        }
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.lock().cancelled
    }

    /// From here on cancelling kills this group, at once where that has happened already.
    pub(crate) fn add_group(&self, group: Pid) {
        let mut state = self.lock();
        state.groups.push(group);
        if state.cancelled {
            kill(group);
        }
    }

    /// To be called before the group's leader is reaped.
    pub(crate) fn remove_group(&self, group: Pid) {
        self.lock().groups.retain(|other| *other != group);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The only way this fails is that the group has ended already, which is what is wanted.
pub(crate) fn kill(group: Pid) {
    let _ = kill_process_group(group, Signal::KILL);
}
