//! The functions of the selected plugin, the form that calls one, and what the calls gave.

use std::collections::{HashMap, VecDeque};

use hotswap_protocol::{InvokeResult, WireError};

use super::form::Form;
use crate::operation::Operation;

/// How many results are kept.
const RESULTS_KEPT: usize = 50;
/// How many argument lists are kept for each function.
const HISTORY_KEPT: usize = 50;

/// The Functions tab.
#[derive(Default)]
pub struct Functions {
    /// Which function is selected.
    pub selected: usize,
    /// The open form.
    pub form: Option<Form>,
    /// What the calls gave, newest first.
    pub results: VecDeque<CallResult>,
    /// What was typed before, by plugin and function, newest last.
    history: HashMap<(String, String), Vec<Vec<String>>>,
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq)]
pub struct CallResult {
    /// `greet("Ada", 2)`
    pub call: String,
    /// The answer.
    pub answer: Result<InvokeResult, WireError>,
}

impl Functions {
    /// Takes the answer of a call.
    pub fn answered(&mut self, operation: &Operation, answer: Result<InvokeResult, WireError>) {
        let Operation::Invoke(params) = operation else { return };
        let args: Vec<String> = params.args.iter().map(ToString::to_string).collect();
        let call = format!("{}({})", params.function, args.join(", "));
        self.results.push_front(CallResult { call, answer });
        self.results.truncate(RESULTS_KEPT);
    }

    /// Keeps what was typed into the form.
    pub fn remember(&mut self) {
        let Some(form) = &self.form else { return };
        let entry = self.history.entry(history_key(form)).or_default();
        let texts = form.texts();
        entry.retain(|earlier| *earlier != texts);
        entry.push(texts);
        if entry.len() > HISTORY_KEPT {
            entry.remove(0);
        }
    }

    /// Shows in the form what was typed earlier, or later.
    pub fn recall(&mut self, older: bool) {
        let Some(form) = &mut self.form else { return };
        let history = self.history.get(&history_key(form)).map_or(&[][..], Vec::as_slice);
        form.recall(history, older);
    }
}

/// Versions of a plugin share their history.
fn history_key(form: &Form) -> (String, String) {
    let plugin = form.target.split('@').next().unwrap_or_default();
    (plugin.to_owned(), form.function.clone())
}
