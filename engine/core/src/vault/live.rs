//! The live functions and types, as the Vault reaches them.

use hotswap_plugin::{Data, Result, Value};

/// The live functions and types of one generation.
pub(crate) trait LiveCalls: Send + Sync {
    /// Calls a live function; `None` if its version was replaced just now, and another table knows more.
    fn call(&self, name: &str, args: &[Value]) -> Option<Result<Value>>;

    /// Reads data as the live type of its name, and writes it anew; `None` as above.
    fn renew(&self, data: &Data) -> Option<Result<Data>>;
}

/// Asks until the answer is not of a version that was replaced in that moment.
pub(super) fn newest<T>(ask: impl Fn() -> Option<T>) -> T {
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::yield_now();
    }
}
