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

impl Pace {
    /// Whether a build that has run so long is better ended for a newer save: the next one is then done
    /// earlier, and would be compiled anew from the beginning in any case. What cargo has only just
    /// begun, and nobody knows the duration of, may have compiled dependencies that would be lost.
    fn is_better_ended(&self, after: Duration) -> bool {
        self.last.is_some_and(|last| after < last) && self.cancelled < CANCELLED_IN_A_ROW
    }
}

impl Supervisor {
    /// Ends a build of what was saved again, where that is worth it. What was built side by side with it
    /// is built again as well.
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
