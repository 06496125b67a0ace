//! Decides whether a build is worth finishing after its sources have changed again, from how long builds take.

use std::time::Duration;

use super::Supervisor;
use crate::session::job::{Job, JobOutcome};

/// How many builds in a row may be cancelled, so that a user who saves all the time still sees a result.
pub(super) const CANCELLED_IN_A_ROW: u32 = 3;

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
    fn should_cancel(&self, elapsed: Duration) -> bool {
        self.last.is_some_and(|last| elapsed < last) && self.cancelled < CANCELLED_IN_A_ROW
    }
}

impl Supervisor {
    /// Cancels the build of a plugin that was saved again, if that saves time. Plugins that are built beside it
    /// are then built again, too. Returns whether the build goes on because as many builds in a row were cancelled as may
    /// be; then it is to be loaded before the next build.
    pub(super) fn cancel_outdated_build(&mut self, plugins: &[String]) -> bool {
        let Some(running) = &self.running else { return false };
        let mut names = running.jobs.iter().filter_map(Job::plugin);
        let Some(name) = names.find(|name| plugins.contains(name)) else { return false };
        let Some(pace) = self.paces.get_mut(name) else { return false };
        if running.cancel.is_cancelled() {
            return false;
        }
        if !pace.should_cancel(running.started.elapsed()) {
            return pace.cancelled >= CANCELLED_IN_A_ROW;
        }
        pace.cancelled += 1;
        running.cancel.cancel();
        for job in running.jobs.iter().rev() {
            if !self.queue.contains(job) {
                self.queue.push_front(job.clone());
            }
        }
        false
    }

    /// Records how long a build took.
    pub(super) fn record_build_time(&mut self, job: &Job, outcome: &JobOutcome, elapsed: Duration) {
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
    fn a_newer_save_cancels_a_build_that_has_not_yet_run_as_long_as_the_last_one() {
        let millis = Duration::from_millis;
        assert!(
            !Pace::default().should_cancel(millis(0)),
            "the duration of a build is not known yet"
        );
        let mut pace = Pace { last: Some(millis(200)), cancelled: 0 };
        assert!(pace.should_cancel(millis(199)));
        assert!(
            !pace.should_cancel(millis(200)),
            "a build takes 200 ms, so this one is about to end"
        );
        pace.cancelled = CANCELLED_IN_A_ROW;
        assert!(!pace.should_cancel(millis(1)), "as many builds in a row were cancelled as may be");
    }
}
