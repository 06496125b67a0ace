//! The requests that a user can make to a host, by a key in the console or by `hotswap` in a script.

use hotswap_protocol::{InvokeParams, PinParams, PruneParams, Request, TargetParams, UnpinParams};
use serde_json::Value;

/// A request of a user to a host.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Show the state of the engine.
    Status,
    /// Show the contents of the Vault.
    Vault,
    /// Show the live functions and types.
    Live,
    /// List the last reloads.
    Reloads,
    /// Reload the plugins whose artifact changed.
    Reload,
    /// The same, including plugins that a rollback keeps at an earlier build.
    ReloadLatest,
    /// Reload what changed, and unload plugins whose artifact is gone.
    Prune(PruneParams),
    /// Load an earlier version or build of a plugin, and keep the plugin there.
    Rollback(TargetParams),
    /// Call a function.
    Invoke(InvokeParams),
    /// Call a function now, and again in each new version of its plugin.
    Pin(PinParams),
    /// Stop repeating a pinned call.
    Unpin(UnpinParams),
    /// List the pinned calls.
    Pins,
    /// Free a retired version.
    Free(TargetParams),
}

impl Operation {
    /// Whether it changes the host's versions.
    pub fn loads(&self) -> bool {
        matches!(self, Self::Reload | Self::ReloadLatest | Self::Prune(_) | Self::Rollback(_))
    }

    /// A call whose arguments come from a command line.
    pub fn invoke(plugin: String, function: String, args: Vec<String>) -> Self {
        let args = args.into_iter().map(Value::String).collect();
        Self::Invoke(InvokeParams {
            plugin,
            function,
            args,
            lenient: true,
            repeat: 1,
            beside: None,
        })
    }

    /// A call that is repeated in each new version of its plugin.
    pub fn pin(plugin: String, function: String, args: Vec<String>) -> Self {
        let args = args.into_iter().map(Value::String).collect();
        Self::Pin(PinParams { plugin, function, args, lenient: true })
    }

    /// Makes a call repeat this many times; other operations stay as they are.
    pub fn repeated(mut self, times: u32) -> Self {
        if let Self::Invoke(params) = &mut self {
            params.repeat = times;
        }
        self
    }

    /// Makes a call also call another version; other operations stay as they are.
    pub fn beside(mut self, target: Option<String>) -> Self {
        if let Self::Invoke(params) = &mut self {
            params.beside = target;
        }
        self
    }

    /// Reload, and unload every plugin whose artifact is gone.
    pub fn prune() -> Self {
        Self::Prune(PruneParams { latest: false, plugins: Vec::new() })
    }

    /// Goes back to `world@1`, or to `world@<build id>`.
    pub fn rollback(target: impl Into<String>) -> Self {
        Self::Rollback(TargetParams { target: target.into() })
    }

    /// Frees `world@1`.
    pub fn free(plugin: &str, version: u32) -> Self {
        Self::Free(TargetParams { target: format!("{plugin}@{version}") })
    }

    /// The request to the host.
    pub fn request(&self) -> Request {
        match self {
            Self::Status => Request::Snapshot,
            Self::Vault => Request::Vault,
            Self::Live => Request::Live,
            Self::Reloads => Request::Reloads,
            Self::Reload => Request::Reload,
            Self::ReloadLatest => Request::ReloadLatest,
            Self::Prune(params) => Request::Prune(params.clone()),
            Self::Rollback(params) => Request::Rollback(params.clone()),
            Self::Invoke(params) => Request::Invoke(params.clone()),
            Self::Pin(params) => Request::Pin(params.clone()),
            Self::Unpin(params) => Request::Unpin(params.clone()),
            Self::Pins => Request::Pins,
            Self::Free(params) => Request::Free(params.clone()),
        }
    }

    /// The command line that does the same.
    pub fn command_line(&self) -> String {
        match self {
            Self::Status => "hotswap status".into(),
            Self::Vault => "hotswap vault".into(),
            Self::Live => "hotswap live".into(),
            Self::Reloads => "hotswap reloads".into(),
            Self::Reload => "hotswap reload".into(),
            Self::ReloadLatest => "hotswap reload --latest".into(),
            Self::Prune(params) if params.latest => "hotswap reload --latest --prune".into(),
            Self::Prune(_) => "hotswap reload --prune".into(),
            Self::Rollback(params) => format!("hotswap rollback {}", params.target),
            Self::Free(params) => format!("hotswap free {}", params.target),
            Self::Pin(params) => {
                let command = vec!["hotswap", "pin", "add"];
                call_line(command, (&params.plugin, &params.function), &params.args)
            }
            Self::Unpin(params) => format!("hotswap pin remove {}", params.id),
            Self::Pins => "hotswap pin list".into(),
            Self::Invoke(params) => {
                let mut command = vec!["hotswap", "invoke"];
                let repeat = params.repeat.to_string();
                if params.repeat > 1 {
                    command.extend(["--repeat", &repeat]);
                }
                if let Some(target) = &params.beside {
                    command.extend(["--beside", target]);
                }
                call_line(command, (&params.plugin, &params.function), &params.args)
            }
        }
    }
}

/// The command with the function and the arguments of a call.
fn call_line<'a>(
    mut command: Vec<&'a str>,
    (plugin, function): (&'a str, &'a str),
    args: &[Value],
) -> String {
    let args = args.iter().map(|argument| match argument {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    let args: Vec<String> = args.collect();
    command.extend([plugin, function]);
    // After `--`, an argument that looks like a flag is an argument.
    if args.iter().any(|it| it.starts_with("--")) {
        command.push("--");
    }
    shell_line(command.into_iter().chain(args.iter().map(String::as_str)))
}

/// The words as a command line for a shell.
pub(crate) fn shell_line<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(shell_word).collect::<Vec<_>>().join(" ")
}

/// The text as one word of a shell.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_quotes_arguments_for_the_shell() {
        let args = vec!["Ada Lovelace".into(), "2".into(), "it's".into(), String::new()];
        let operation = Operation::invoke("world".into(), "greet".into(), args);
        assert_eq!(
            operation.command_line(),
            r"hotswap invoke world greet 'Ada Lovelace' 2 'it'\''s' ''"
        );
    }
}
