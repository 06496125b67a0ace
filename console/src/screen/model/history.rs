//! The arguments of earlier calls, kept between runs of the console.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The number of argument lists that are kept for each function.
const CALLS_KEPT: usize = 50;
/// The number of functions whose history is kept.
const FUNCTIONS_KEPT: usize = 200;
/// The maximum size of arguments that are kept, in bytes of JSON.
const LONGEST: usize = 64 * 1024;

/// The arguments of earlier calls. Its JSON is the content of the history file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The functions, in the order of their last calls; the latest is last.
    functions: Vec<FunctionHistory>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct FunctionHistory {
    /// The key of the function: `sample-host/world/greet`
    function: String,
    /// The argument lists, newest last.
    calls: Vec<Vec<Value>>,
}

impl History {
    /// The key of a function's history. Versions of a plugin share it.
    pub fn key(host: &str, target: &str, function: &str) -> String {
        let plugin = target.split('@').next().unwrap_or_default();
        format!("{host}/{plugin}/{function}")
    }

    /// The argument lists of a function, newest last.
    pub fn of(&self, key: &str) -> &[Vec<Value>] {
        let found = self.functions.iter().find(|it| it.function == key);
        found.map_or(&[], |it| &it.calls)
    }

    /// Adds the arguments of a call.
    pub fn remember(&mut self, key: &str, args: Vec<Value>) {
        let length: usize = args.iter().map(|it| it.to_string().len()).sum();
        if args.is_empty() || length > LONGEST {
            return;
        }
        let known = self.functions.iter().position(|it| it.function == key);
        let mut entry = known.map_or_else(
            || FunctionHistory { function: key.to_owned(), calls: Vec::new() },
            |position| self.functions.remove(position),
        );
        entry.calls.retain(|earlier| *earlier != args);
        entry.calls.push(args);
        let surplus = entry.calls.len().saturating_sub(CALLS_KEPT);
        entry.calls.drain(..surplus);
        self.functions.push(entry);
        let surplus = self.functions.len().saturating_sub(FUNCTIONS_KEPT);
        self.functions.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_repeated_call_becomes_the_last_and_the_history_is_bounded() {
        let mut history = History::default();
        let key = History::key("host", "world@2", "greet");
        for number in 0..CALLS_KEPT + 5 {
            history.remember(&key, vec![json!(number)]);
        }
        history.remember(&key, vec![json!(10)]);
        let calls = history.of("host/world/greet");
        assert_eq!(calls.len(), CALLS_KEPT);
        assert_eq!((&calls[0], calls.last().unwrap()), (&vec![json!(5)], &vec![json!(10)]));
        history.remember("long", vec![json!("x".repeat(LONGEST + 1))]);
        assert_eq!(history.of("long"), &[] as &[Vec<Value>]);
        for number in 0..FUNCTIONS_KEPT {
            history.remember(&number.to_string(), vec![json!(1)]);
        }
        assert_eq!(
            history.of(&key),
            &[] as &[Vec<Value>],
            "the arguments of the oldest function are forgotten"
        );
    }
}
