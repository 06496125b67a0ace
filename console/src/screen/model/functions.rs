//! The functions of the selected plugin, the form that calls one, and the results of calls.

use std::collections::{BTreeSet, VecDeque};

use hotswap_protocol::{Beside, InvokeResult, WireError};
use serde_json::Value;

use super::face::Face;
use super::form::Form;
use super::history::History;
use crate::host::operation::Operation;
use crate::session::StoredChoice;

/// The number of results that are kept.
const RESULTS_KEPT: usize = 50;

/// The Functions tab.
#[derive(Default)]
pub struct Functions {
    /// The index of the selected function.
    pub selected: usize,
    /// The open form.
    pub form: Option<Form>,
    /// The calls, newest first.
    pub results: VecDeque<CallResult>,
    /// The arguments of earlier calls.
    pub history: History,
    /// The versions that are kept loaded for this console, `world@3`.
    pub held: BTreeSet<String>,
    /// The stored builds of a plugin, newest first; `None` until they have been listed.
    pub stored: Option<(String, Vec<StoredChoice>)>,
    /// Whether the open form waits for this list.
    pub waits_for_stored: bool,
    /// Versions that were kept loaded until the connection was lost. The console asks for them again.
    pub let_go: BTreeSet<String>,
}

/// A call, of one version or of two.
#[derive(Debug, Clone, PartialEq)]
pub struct CallResult {
    /// The text of the call: `greet("Ada", 2)`
    pub call: String,
    /// The calls, one for each version.
    pub sides: Vec<Side>,
    /// The stored build that the second call is for. Both calls then run in processes of their own.
    pub stored: Option<StoredChoice>,
}

/// A call of one version.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// The call.
    pub operation: Operation,
    /// The version and patch that was called, as far as known.
    pub face: Option<Face>,
    /// The time of the request, in milliseconds since the Unix epoch; `None` while the call waits for that of the other
    /// version.
    pub began_ms: Option<u64>,
    /// The result; `None` while the call runs or waits.
    pub answer: Option<Result<InvokeResult, WireError>>,
}

impl Side {
    /// The target: `world`, or `world@2`
    pub fn target(&self) -> &str {
        match &self.operation {
            Operation::Invoke(params) => &params.plugin,
            _ => "",
        }
    }

    fn runs(&self) -> bool {
        self.began_ms.is_some() && self.answer.is_none()
    }

    /// The name of the code: `world v3`, or `world build 4c0ffee0` for a build that is only stored.
    pub fn name(&self) -> String {
        let (plugin, at) = self.target().split_once('@').unwrap_or((self.target(), ""));
        let answered = self.answer.as_ref().and_then(|answer| answer.as_ref().ok());
        let answered = answered.filter(|answer| answer.version > 0);
        let answered = answered.map(|it| Face { version: it.version, patch: it.patch });
        match answered.or(self.face) {
            Some(face) => format!("{plugin} {}", face.label()),
            None if at.is_empty() => plugin.to_owned(),
            None => format!("{plugin} build {at}"),
        }
    }
}

impl CallResult {
    /// Whether a call runs.
    pub fn runs(&self) -> bool {
        self.sides.iter().any(Side::runs)
    }

    /// The whole result as text.
    pub fn to_lines(&self) -> Vec<String> {
        let mut lines = vec![self.call.clone()];
        for side in &self.sides {
            lines.push(String::new());
            match &side.answer {
                None => lines.push(format!("{} has not answered yet", side.target())),
                Some(Ok(answer)) => {
                    let elapsed = crate::format::nanoseconds(answer.elapsed_ns);
                    lines.push(format!("{}, {elapsed}", side.name()));
                    if let Some(latencies) = &answer.latencies {
                        lines.push(crate::format::latencies(latencies));
                        lines.extend(crate::format::histogram(latencies, 60));
                    }
                    let value = match &answer.value {
                        Value::String(text) => text.clone(),
                        value => format!("{value:#}"),
                    };
                    lines.extend(value.lines().map(str::to_owned));
                }
                Some(Err(error)) => {
                    lines.push(format!("{} failed", side.target()));
                    lines.extend(error.to_string().lines().map(str::to_owned));
                }
            }
        }
        lines
    }
}

impl Functions {
    /// Adds a call, of one version after the other, and returns the first operation.
    pub fn begin(
        &mut self,
        now_ms: u64,
        calls: Vec<(Operation, Option<Face>)>,
    ) -> Option<Operation> {
        let first = calls.first()?.0.clone();
        let call = call_text(&first);
        let sides = calls.into_iter().enumerate().map(|(position, (operation, face))| Side {
            operation,
            face,
            began_ms: (position == 0).then_some(now_ms),
            answer: None,
        });
        self.results.push_front(CallResult { call, sides: sides.collect(), stored: None });
        self.results.truncate(RESULTS_KEPT);
        Some(first)
    }

    /// Takes the results of a call that ran both in the version that serves and in a stored build.
    pub fn answered_in_both(
        &mut self,
        operation: &Operation,
        answers: [Result<InvokeResult, WireError>; 2],
    ) {
        let waits = |it: &&mut CallResult| {
            it.stored.is_some() && it.sides[0].runs() && it.sides[0].operation == *operation
        };
        let Some(result) = self.results.iter_mut().rev().find(waits) else { return };
        let began_ms = result.sides[0].began_ms;
        for (side, answer) in result.sides.iter_mut().zip(answers) {
            side.began_ms = began_ms;
            side.answer = Some(answer);
        }
    }

    /// Takes the result of a call, and returns the call of the other version if that comes next.
    pub fn answered(
        &mut self,
        now_ms: u64,
        operation: Operation,
        mut answer: Result<InvokeResult, WireError>,
    ) -> Option<Operation> {
        let waits = |it: &Side| it.runs() && it.operation == operation;
        let in_host = self.results.iter_mut().rev().filter(|it| it.stored.is_none());
        // Of equal calls, the oldest gets the answer.
        let waiting = in_host.into_iter().find_map(|result| {
            let position = result.sides.iter().position(waits)?;
            Some((result, position))
        });
        let Some((result, position)) = waiting else {
            let call = call_text(&operation);
            let side = Side { operation, face: None, began_ms: Some(now_ms), answer: Some(answer) };
            self.results.push_front(CallResult { call, sides: vec![side], stored: None });
            self.results.truncate(RESULTS_KEPT);
            return None;
        };
        let beside = match &mut answer {
            Ok(answer) => answer.beside.take(),
            Err(_) => None,
        };
        result.sides[position].answer = Some(answer);
        let next = result.sides.get_mut(position + 1)?;
        next.began_ms = Some(now_ms);
        if let Some(beside) = beside {
            next.answer = Some(match *beside {
                Beside::Result(answer) => Ok(answer),
                Beside::Error(error) => Err(error),
            });
            return None;
        }
        Some(next.operation.clone())
    }

    /// The functions of this version that calls of this console are running.
    pub fn running_in(&self, plugin: &str, version: u32) -> Vec<&str> {
        let sides = self.results.iter().flat_map(|result| &result.sides);
        let is_of = |side: &Side| side.face.is_some_and(|face| face.version == version);
        let runs = sides.filter(|side| side.runs() && is_of(side));
        let called = runs.filter_map(|side| match &side.operation {
            Operation::Invoke(call) => Some(call),
            _ => None,
        });
        let of_plugin = called.filter(|call| call.plugin.split('@').next() == Some(plugin));
        of_plugin.map(|call| call.function.as_str()).collect()
    }

    /// The stored build of a target such as `world@4c0ffee0`.
    pub fn stored_of(&self, target: &str) -> Option<&StoredChoice> {
        let (_, stored) = self.stored.as_ref()?;
        stored.iter().find(|it| stored_target(it) == target)
    }

    /// Whether a call runs.
    pub fn has_running_calls(&self) -> bool {
        self.results.iter().any(CallResult::runs)
    }

    /// Shows an older history entry in the form, or a newer one.
    pub fn recall(&mut self, host: &str, older: bool) {
        let Some(form) = &mut self.form else { return };
        let key = History::key(host, &form.target, &form.function);
        form.recall(self.history.of(&key), older);
    }
}

/// The target of a stored build: `world@4c0ffee0`
pub fn stored_target(build: &StoredChoice) -> String {
    format!("{}@{}", build.plugin, crate::format::short_build_id(&build.build_id))
}

/// The text of a call, and the number of repetitions: `greet("Ada", 2) × 100`
fn call_text(operation: &Operation) -> String {
    let Operation::Invoke(params) = operation else { return String::new() };
    let times = match params.repeat {
        0 | 1 => String::new(),
        times => format!(" × {}", crate::format::thousands(u64::from(times))),
    };
    format!("{}{times}", crate::format::call(&params.function, &params.args))
}
