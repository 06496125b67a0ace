//! The JSON-RPC envelope, requests, answers and errors.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Event, HostInfo, Latencies, LogRecord};

/// A request, as the `method` and `params` of its line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", content = "params", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Request {
    /// Opens the conversation; answered by [`HelloResult`].
    Hello(HelloParams),
    /// Asks for the state of the engine; answered by [`crate::Snapshot`].
    Snapshot,
    /// Asks for the contents of the Vault; answered by [`crate::VaultSnapshot`].
    Vault,
    /// Asks for the live functions and types; answered by [`crate::LiveSnapshot`].
    Live,
    /// Reloads what changed; answered by [`crate::ReloadReport`].
    Reload,
    /// As `reload`, also for plugins that a rollback holds.
    ReloadLatest,
    /// Asks what a reload would do, without doing it; answered by [`crate::ReloadPlan`].
    Plan(PlanParams),
    /// Loads a plugin from an earlier artifact, `name@version` or `name@build-id`; answered by
    /// [`crate::ReloadReport`].
    Rollback(TargetParams),
    /// Calls a plugin's function; answered by [`InvokeResult`].
    Invoke(InvokeParams),
    /// Cancels an `invoke` of this connection that has not been answered yet; answered by an empty
    /// object, and the `invoke` then by [`ErrorKind::Cancelled`].
    Cancel(CancelParams),
    /// Keeps a version loaded, so that it can be called when another one serves, until `release` or
    /// the end of the connection; answered by an empty object.
    Hold(TargetParams),
    /// Ends a `hold`; answered by an empty object.
    Release(TargetParams),
    /// Asks that a retired version be freed now; answered by [`crate::FreeResult`].
    Free(TargetParams),
    /// Sends events, log records or both from now on; answered by [`SubscribeResult`].
    Subscribe(SubscribeParams),
}

/// Parameters of `hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloParams {
    /// The client's [`crate::PROTOCOL_VERSION`].
    pub protocol: u32,
    /// The client's name, for the host's log.
    pub client: String,
}

/// Answer of `hello`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HelloResult {
    /// The host's [`crate::PROTOCOL_VERSION`].
    pub protocol: u32,
    /// Who answers.
    pub host: HostInfo,
}

/// Parameters of `invoke`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InvokeParams {
    /// A plugin's name, or `name@version` for a version that is still loaded.
    pub plugin: String,
    /// The function's name.
    pub function: String,
    /// The arguments in order. With `lenient`, text that stands for another type is converted.
    #[serde(default)]
    pub args: Vec<Value>,
    /// Arguments come from a command line: each is text, and becomes what its parameter wants
    /// (a `String` parameter keeps the text, also `42`; any other reads it as JSON).
    #[serde(default)]
    pub lenient: bool,
    /// How often the function is called, one call after the other, at most [`crate::MAX_REPEAT`]
    /// times; the first error ends it.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub repeat: u32,
    /// Another version to call with the same arguments: once after each call of the first, so that
    /// whatever else the machine does hits both alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<String>,
}

fn once() -> u32 {
    1
}

fn is_once(repeat: &u32) -> bool {
    *repeat == 1
}

/// Parameters of `cancel`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelParams {
    /// The id of the request to cancel.
    pub id: u64,
}

/// Answer of `invoke`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InvokeResult {
    /// What the function returned.
    pub value: Value,
    /// The plugin that answered.
    pub plugin: String,
    /// The version that answered.
    pub version: u32,
    /// How long the call took inside the host, in microseconds; the last one of several.
    pub elapsed_us: u64,
    /// The same in nanoseconds.
    #[serde(default)]
    pub elapsed_ns: u64,
    /// How long each call took, when there were several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latencies: Option<Box<Latencies>>,
    /// What became of the calls of the other version, if one was called beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Box<Beside>>,
}

/// What became of calls that were made beside others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Beside {
    /// The last of them returned this.
    Result(InvokeResult),
    /// The first that failed; no more were made after it.
    Error(WireError),
}

/// Parameters of a request about one version, `name@version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetParams {
    /// `name@version`.
    pub target: String,
}

/// Parameters of `plan`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlanParams {
    /// Plan for `reload_latest` instead of `reload`.
    #[serde(default)]
    pub latest: bool,
}

/// Parameters of `subscribe`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SubscribeParams {
    /// Send [`Notification::Event`].
    #[serde(default)]
    pub events: bool,
    /// Send [`Notification::Log`].
    #[serde(default)]
    pub logs: bool,
    /// How many earlier log records to send first.
    #[serde(default)]
    pub backlog: usize,
}

/// Answer of `subscribe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SubscribeResult {
    /// How many of the log records that follow are earlier ones.
    #[serde(default)]
    pub backlog: usize,
}

/// What a host sends without being asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", content = "params", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Notification {
    /// Something happened in the engine.
    Event(Event),
    /// A line of the host's log.
    Log(LogRecord),
    /// This many log records did not fit this client's queue since the last such message.
    Dropped {
        /// Records lost.
        count: u64,
    },
}

/// A notification's line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NotificationLine {
    /// Always `"2.0"`.
    pub jsonrpc: String,
    /// What is told.
    #[serde(flatten)]
    pub notification: Notification,
}

impl Notification {
    /// Wraps a notification for the wire.
    pub fn into_line(self) -> NotificationLine {
        NotificationLine { jsonrpc: "2.0".into(), notification: self }
    }
}

/// What went wrong, for a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The line is no JSON-RPC request this host knows.
    BadRequest,
    /// The client speaks another protocol version.
    Protocol,
    /// No plugin of that name, or no such version.
    UnknownPlugin,
    /// The plugin has no function of that name.
    UnknownFunction,
    /// An argument is missing, superfluous, or of another type.
    BadArgument,
    /// The function has another signature than a typed caller expects.
    Signature,
    /// The plugin's function returned an error.
    PluginError,
    /// The plugin's function panicked.
    Panic,
    /// The caller cancelled the call.
    Cancelled,
    /// The call cannot be cancelled: it has ended, or its function is not `async`.
    NotCancellable,
    /// A reload was refused; the old generation keeps serving.
    Reload,
    /// The version is active, or was freed already.
    NotFreeable,
    /// No host was found, or it is gone. Never sent by a host.
    NoHost,
    /// Building failed. Never sent by a host.
    Build,
    /// Anything else.
    Internal,
}

/// An error answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WireError {
    /// What went wrong, for a program.
    pub kind: ErrorKind,
    /// What went wrong, for a person: which plugin, which step, expected and found, what to do.
    pub message: String,
    /// The plugin concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The step of the reload that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The causes, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<String>,
}

impl WireError {
    /// An error with nothing but its kind and message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), plugin: None, step: None, chain: Vec::new() }
    }
}

impl std::fmt::Display for WireError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        for cause in &self.chain {
            write!(f, "\n  caused by: {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for WireError {}

/// A request's line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestLine {
    /// Always `"2.0"`.
    pub jsonrpc: String,
    /// Chosen by the client; comes back in the answer.
    pub id: u64,
    /// What is asked.
    #[serde(flatten)]
    pub request: Request,
}

impl RequestLine {
    /// Wraps a request for the wire.
    pub fn new(id: u64, request: Request) -> Self {
        Self { jsonrpc: "2.0".into(), id, request }
    }
}

/// An answer's line: exactly one of `result` and `error` is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResponseLine {
    /// Always `"2.0"`.
    pub jsonrpc: String,
    /// The request's id; absent when the request could not be read.
    pub id: Option<u64>,
    /// What was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why it could not be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RpcError>,
}

/// The error object that JSON-RPC prescribes; [`WireError`] is its `data`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RpcError {
    /// JSON-RPC's number: −32700 for an unreadable line, −32600 for a bad request, −32000 else.
    pub code: i32,
    /// The message of `data`.
    pub message: String,
    /// The error proper.
    pub data: WireError,
}

impl ResponseLine {
    /// Wraps an answer for the wire.
    pub fn new(id: Option<u64>, answer: Result<Value, WireError>) -> Self {
        let (result, error) = match answer {
            Ok(value) => (Some(value), None),
            Err(data) => (
                None,
                Some(RpcError {
                    code: if data.kind == ErrorKind::BadRequest { -32600 } else { -32000 },
                    message: data.message.clone(),
                    data,
                }),
            ),
        };
        Self { jsonrpc: "2.0".into(), id, result, error }
    }

    /// Unwraps an answer from the wire.
    pub fn into_result(self) -> Result<Value, WireError> {
        match self.error {
            Some(error) => Err(error.data),
            None => Ok(self.result.unwrap_or(Value::Null)),
        }
    }
}

/// A line as a client reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// Something the host tells by itself.
    Notification(Notification),
    /// An answer.
    Response(ResponseLine),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_plain_json_rpc_object() {
        let line = RequestLine::new(
            2,
            Request::Invoke(InvokeParams {
                plugin: "world".into(),
                function: "greet".into(),
                args: vec!["Ada".into(), 2.into()],
                lenient: false,
                repeat: 1,
                beside: None,
            }),
        );
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(
            text,
            r#"{"jsonrpc":"2.0","id":2,"method":"invoke","params":{"plugin":"world","function":"greet","args":["Ada",2],"lenient":false}}"#
        );
        assert_eq!(serde_json::from_str::<RequestLine>(&text).unwrap(), line);
    }

    #[test]
    fn a_request_without_parameters_needs_none() {
        let line: RequestLine =
            serde_json::from_str(r#"{"jsonrpc":"2.0","id":1,"method":"snapshot"}"#).unwrap();
        assert_eq!(line.request, Request::Snapshot);
    }

    #[test]
    fn answers_and_notifications_are_told_apart() {
        let answer = ResponseLine::new(Some(1), Err(WireError::new(ErrorKind::Panic, "boom")));
        let text = serde_json::to_string(&answer).unwrap();
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), Line::Response(answer));

        let dropped = Notification::Dropped { count: 3 };
        let text = serde_json::to_string(&dropped).unwrap();
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), Line::Notification(dropped));
    }
}
