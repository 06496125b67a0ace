//! Decides whether a build is worth finishing after its sources have changed again, from how long builds take.

use std::time::Duration;

use super::Supervisor;
use crate::session::job::{Job, JobOutcome};

/// How many builds in a row may be cancelled, so that a user who saves all the time still sees a result.
const CANCELLED_IN_A_ROW: u32 = 3;

/// The builds of one plugin.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// How long the last build took that was not cancelled.
    last: Option<Duration>,
    /// How many builds in a row were cancelled for a newer save.
    cancelled: u32,
}

impl Pace {
    /// Whether to cancel a build that has run this long for a newer save. The next build is then done earlier, and
    /// would compile the same code again in any case. A build whose duration is not known is not cancelled at its
    /// beginning, because compiled dependencies could be lost.
    fn is_better_ended(&self, after: Duration) -> bool {
        self.last.is_some_and(|last| after < last) && self.cancelled < CANCELLED_IN_A_ROW
    }
}

impl Supervisor {
    /// Cancels the build of a plugin that was saved again, if that saves time. Plugins that are built beside it
    /// are then built again, too.
    pub(super) fn cancel_outdated_build(&mut self, plugins: &[String]) {
        let Some(running) = &self.running else { return };
        let mut names = running.jobs.iter().filter_map(Job::plugin);
        let Some(name) = names.find(|name| plugins.contains(name)) else { return };
        let Some(pace) = self.paces.get_mut(name) else { return };
        let is_ending = running.cancel.is_cancelled();
        if is_ending || !pace.is_better_ended(running.started.elapsed()) {
            return;
        }
        pace.cancelled += 1;
        running.cancel.cancel();
        for job in running.jobs.iter().rev() {
            if !self.queue.contains(job) {
                self.queue.push_front(job.clone());
            }
        }
    }

    /// Records how long a build took.
    pub(super) fn note_pace(&mut self, job: &Job, outcome: &JobOutcome, elapsed: Duration) {
        if let Job::BuildPlugin(name) = job
            && *outcome != JobOutcome::Cancelled
        {
            let pace = Pace { last: Some(elapsed), cancelled: 0 };
            self.paces.insert(name.clone(), pace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_ended_for_a_newer_save_while_it_is_younger_than_the_last_one_was_old() {
        let millis = Duration::from_millis;
        assert!(!Pace::default().is_better_ended(millis(0)), "nobody knows how long it takes");
        let mut pace = Pace { last: Some(millis(200)), cancelled: 0 };
        assert!(pace.is_better_ended(millis(199)));
        assert!(!pace.is_better_ended(millis(200)), "it is about to end by itself");
        pace.cancelled = CANCELLED_IN_A_ROW;
        assert!(!pace.is_better_ended(millis(1)), "somebody who saves all the time sees a result");
    }
}
