//! How long builds take, and whether one whose sources changed again is worth finishing.

use std::time::Duration;

use super::Supervisor;
use crate::session::job::{Job, JobOutcome};

/// Somebody who saves all the time sees a result all the same.
const CANCELLED_IN_A_ROW: u32 = 3;

/// The builds of one plugin.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// How long the last one took that was not cancelled.
    last: Option<Duration>,
    /// How many in a row were cancelled for a newer save.
    cancelled: u32,
}

impl Supervisor {
    /// Ends a build of what was saved again, where the next one is then done earlier: it would be
    /// compiled anew from the beginning in any case. What cargo has only just begun, and nobody
    /// knows the duration of, may have compiled dependencies that would be lost.
    pub(super) fn cancel_outdated_build(&mut self, plugins: &[String]) {
        let Some(running) = &self.running else { return };
        let Job::BuildPlugin(name) = &running.job else { return };
        let Some(pace) = self.paces.get_mut(name).filter(|_| plugins.contains(name)) else {
            return;
        };
        let is_younger = pace.last.is_some_and(|last| running.started.elapsed() < last);
        if is_younger && pace.cancelled < CANCELLED_IN_A_ROW && !running.cancel.is_cancelled() {
            pace.cancelled += 1;
            running.cancel.cancel();
        }
    }

    /// Takes note of how long a build took.
    pub(super) fn note_pace(&mut self, job: &Job, outcome: &JobOutcome, elapsed: Duration) {
        if let Job::BuildPlugin(name) = job
            && *outcome != JobOutcome::Cancelled
        {
            let pace = Pace { last: Some(elapsed), cancelled: 0 };
            self.paces.insert(name.clone(), pace);
        }
    }
}
