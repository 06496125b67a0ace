//! Which errors of an agent have been announced. Each one is announced when it begins and when it is over, and not
//! at each attempt.

use std::collections::HashMap;
use std::path::PathBuf;

use hotswap_fleet::FleetError;

use super::AgentEvent;

/// What an error prevents.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Task {
    /// The agent does not know what the fleet declares.
    Read,
    /// The fleet does not know what the hosts run.
    Report,
    /// The declaration, the blamed builds or the notes about hosts are not on the disk of this machine.
    Remember,
    /// The host at this socket is not served.
    Serve(PathBuf),
}

/// The errors that last.
#[derive(Default)]
pub(super) struct Troubles(HashMap<Task, FleetError>);

impl Troubles {
    /// Whether the agent fails to read or to report.
    pub fn is_cut_off(&self) -> bool {
        self.0.keys().any(|task| matches!(task, Task::Read | Task::Report))
    }

    /// Whether another fleet is at the place of this one, or none.
    pub fn is_replaced(&self) -> bool {
        self.0.get(&Task::Read).is_some_and(FleetError::is_replaced)
    }

    /// Notes the result of a task. Returns what has to be announced.
    pub fn note(&mut self, task: Task, result: Result<(), FleetError>) -> Option<AgentEvent> {
        let before = self.0.get(&task);
        match result {
            Ok(()) => self.0.remove(&task).map(AgentEvent::Recovered),
            // Whoever cannot read the fleet usually cannot report to it either.
            Err(_) if task == Task::Report && self.0.contains_key(&Task::Read) => None,
            Err(error) if before.is_some_and(|before| is_same(&task, before, &error)) => None,
            Err(error) => {
                self.0.insert(task, error.clone());
                Some(AgentEvent::Trouble(error))
            }
        }
    }

    /// Forgets the errors of a host that has ended.
    pub fn forget(&mut self, socket: PathBuf) {
        self.0.remove(&Task::Serve(socket));
    }
}

fn is_same(task: &Task, before: &FleetError, now: &FleetError) -> bool {
    // Several reports, or the files of the ledger, fail for one cause.
    let has_several_files = matches!(task, Task::Report | Task::Remember);
    now.has_cause_of(before) && (has_several_files || now.place() == before.place())
}
