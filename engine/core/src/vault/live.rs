//! The live functions and types, as the Vault uses them.

use hotswap_plugin::{Data, Result, Value};

/// The live functions and types of one generation.
pub(crate) trait LiveCalls: Send + Sync {
    /// Calls a live function; `None` if its version was replaced just now, so that another table has to be
    /// asked.
    fn call(&self, name: &str, args: &[Value]) -> Option<Result<Value>>;

    /// Reads data as the live type with its name, and serialises it again; `None` in the same case.
    fn renew(&self, data: &Data) -> Option<Result<Data>>;
}

/// Asks again until the answer does not come from a version that was replaced in that moment.
pub(super) fn newest<T>(ask: impl Fn() -> Option<T>) -> T {
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::yield_now();
    }
}
