//! A replay as lines of text, for a terminal and for the screen.

use super::{Answer, CallOutcome, Replay, ReplayedCall};
use crate::compare::preview::{Line, Sort};
use crate::format;

/// A remark about all results.
const WHERE: &str = "Results of the pinned calls in the serving builds and in the new builds. Each call runs in a \
                     process of its own, with an empty Vault and nothing else of the host:";

impl Replay {
    /// The replay as text.
    pub fn lines(&self) -> Vec<Line> {
        if let Some(error) = &self.error {
            let text = format!("The pinned calls were not made: {error}");
            return text.lines().map(|line| Line::new(Sort::Error, line)).collect();
        }
        if self.calls.is_empty() {
            let text = "No call is pinned, so none was made; `hotswap pin add PLUGIN FUNCTION ARGS` \
                        pins one.";
            return vec![Line::new(Sort::Note, text)];
        }
        let head = Line::new(Sort::Heading, WHERE);
        std::iter::once(head).chain(self.calls.iter().flat_map(ReplayedCall::lines)).collect()
    }
}

impl ReplayedCall {
    /// `= world greet("Ada", 2)  "Hello, Ada!"`; different results have a line each.
    fn lines(&self) -> Vec<Line> {
        let (mark, sort) = match self.is_same {
            Some(true) => ('=', Sort::Plain),
            Some(false) if self.new.is_worse_than(&self.old) => ('≠', Sort::Breaking),
            Some(false) => ('≠', Sort::Changed),
            None => ('·', Sort::Note),
        };
        let call = format!("{mark} {} {}", self.plugin, format::call(&self.function, &self.args));
        if self.is_same == Some(true) {
            return vec![Line::new(sort, format!("{call}  {}", self.new))];
        }
        let version = self.version.map_or("it is new".into(), |version| format!("v{version}"));
        let build = self.build_id.as_deref().map_or("it is removed".into(), |build| {
            format!("build {}", format::short_build_id(build))
        });
        let width = format::width(&version).max(format::width(&build));
        let answer = |of: &str, answer: &Answer| {
            let gap = " ".repeat(width - format::width(of));
            Line::new(sort, format!("      {of}{gap}  {answer}"))
        };
        vec![Line::new(sort, call), answer(&version, &self.old), answer(&build, &self.new)]
    }
}

impl Answer {
    /// Whether this call failed and the other did not.
    fn is_worse_than(&self, other: &Self) -> bool {
        let has_value =
            |it: &Self| matches!(it.outcome, CallOutcome::Value(_) | CallOutcome::LargeValue(_));
        has_value(other) && !has_value(self)
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.outcome {
            CallOutcome::Value(value) => write!(f, "{value}")?,
            CallOutcome::LargeValue(size) => write!(f, "a value of {}", format::bytes(*size))?,
            CallOutcome::Error(error) => write!(f, "failed: {}", error.message)?,
            CallOutcome::RunsOn(ms) => {
                write!(f, "had not returned after {}", format::duration(*ms))?;
            }
            CallOutcome::Ended(exit) => write!(f, "ended its process, with {exit}")?,
            CallOutcome::NotCalled(error) => write!(f, "not called: {}", error.message)?,
        }
        match self.elapsed_ns {
            Some(elapsed) => write!(f, "  {}", format::nanoseconds(elapsed)),
            None => Ok(()),
        }
    }
}
