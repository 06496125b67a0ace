//! Ends builds from another thread.

use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};

/// Ends the builds to which it was passed, from any thread. All clones of a `Cancel` are the same one.
///
/// Cancelling is final: a build that is started later with the same `Cancel` ends at once.
///
/// ```
/// use hotswap_build::Cancel;
///
/// let cancel = Cancel::default();
/// let for_the_user = cancel.clone();
/// // When the user asks to end the build that was given `cancel`:
/// for_the_user.cancel();
/// assert!(cancel.is_cancelled());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    cancelled: bool,
    /// The process groups of the running builds. None of their leaders has been reaped, so no id here can
    /// belong to another process.
    groups: Vec<Pid>,
}

impl Cancel {
    /// Kills the processes of all builds that run with this `Cancel`, cargo and compilers. Such a
    /// build fails with [`BuildErrorKind::Cancelled`](crate::BuildErrorKind::Cancelled).
    pub fn cancel(&self) {
        let mut state = self.state.lock();
        state.cancelled = true;
        for group in &state.groups {
            kill(*group);
        }
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.state.lock().cancelled
    }

    /// From now on cancelling kills `group`. If that has happened already, it is killed at once.
    pub(crate) fn add_group(&self, group: Pid) {
        let mut state = self.state.lock();
        state.groups.push(group);
        if state.cancelled {
            kill(group);
        }
    }

    /// Must be called before the leader of `group` is reaped.
    pub(crate) fn remove_group(&self, group: Pid) {
        self.state.lock().groups.retain(|other| *other != group);
    }
}

/// Kills a process group. This fails only if the group has already ended, which is fine.
pub(crate) fn kill(group: Pid) {
    let _ = kill_process_group(group, Signal::KILL);
}
