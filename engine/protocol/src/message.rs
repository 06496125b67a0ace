//! The lines of a conversation: requests and their parameters, answers, notifications and errors.

use std::{ops::RangeInclusive, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    BrokenExpectation, CauseKind, Event, HostAgent, HostInfo, Latencies, LogRecord,
    OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION, PhaseTiming, PinParams, Step, UnpinParams,
};

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
    /// Does what `reload` does, and also reloads plugins that a rollback keeps at an earlier artifact.
    ReloadLatest,
    /// Does what `reload` does, and also retires plugins whose artifact is gone; answered by
    /// [`crate::ReloadReport`].
    Prune(PruneParams),
    /// Asks for the plan of a reload, without doing it; answered by [`crate::ReloadPlan`].
    Plan(PlanParams),
    /// Loads a plugin from an earlier artifact, `name@version` or `name@build-id`; answered by
    /// [`crate::ReloadReport`].
    Rollback(TargetParams),
    /// Loads exactly these artifacts as one transaction, and retires all other plugins. The files in the
    /// plugin directory stay, so a restarted host loads those. Answered by [`crate::ReloadReport`].
    Apply(ApplyParams),
    /// Loads a patch, whose artifact is still being linked, into the version that serves. When the same request
    /// comes again with the path of a linked build, nothing is loaded: the host only notes which build has the
    /// code that serves. Answered by [`crate::ReloadReport`].
    Patch(PatchParams),
    /// Asks the host whether it accepts a release now, before it has to load it; answered by [`OfferAnswer`].
    Offer(OfferParams),
    /// Makes the client the agent of this host: it loads what its fleet declares, until the connection ends.
    /// [`crate::HostInfo::agent`] then names it. The answer is an empty object. The host refuses this while it has
    /// another agent.
    Agent(HostAgent),
    /// Calls a plugin's function; answered by [`InvokeResult`].
    Invoke(InvokeParams),
    /// Cancels an `invoke` of this connection that has not been answered yet. The answer is an empty object,
    /// and the `invoke` is answered by [`ErrorKind::Cancelled`].
    Cancel(CancelParams),
    /// Keeps a version loaded until `release` or the end of the connection, so that it can still be called
    /// after it was replaced; answered by an empty object.
    Hold(TargetParams),
    /// Ends a `hold`; answered by an empty object.
    Release(TargetParams),
    /// Calls a function now, and again in each new version of its plugin; answered by [`crate::PinnedCall`].
    Pin(PinParams),
    /// Ends a `pin`; answered by the [`crate::PinnedCall`] that was removed.
    Unpin(UnpinParams),
    /// Asks for the pinned calls; answered by [`crate::Pins`].
    Pins,
    /// Asks for the last reloads; answered by [`crate::Reloads`].
    Reloads,
    /// Asks the host to free a retired version now; answered by [`crate::FreeResult`].
    Free(TargetParams),
    /// Asks the host to send events, log records or both from now on; answered by
    /// [`SubscribeResult`].
    Subscribe(SubscribeParams),
}

/// Parameters of `hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloParams {
    /// The client's [`crate::PROTOCOL_VERSION`].
    pub protocol: u32,
    /// The client's [`crate::OLDEST_PROTOCOL_VERSION`]; `None` if it speaks no other version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_protocol: Option<u32>,
    /// The client's name, for the host's log.
    pub client: String,
}

impl HelloParams {
    /// The parameters of a client that speaks the versions of this crate.
    pub fn of(client: &str) -> Self {
        Self {
            protocol: PROTOCOL_VERSION,
            oldest_protocol: Some(OLDEST_PROTOCOL_VERSION),
            client: client.to_owned(),
        }
    }

    /// The versions of the protocol that the client speaks.
    pub fn speaks(&self) -> RangeInclusive<u32> {
        self.oldest_protocol.unwrap_or(self.protocol)..=self.protocol
    }
}

/// Answer of `hello`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HelloResult {
    /// The protocol version of this conversation.
    pub protocol: u32,
    /// The host that answers.
    pub host: HostInfo,
}

/// Parameters of `invoke`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InvokeParams {
    /// A plugin's name, or `name@version` for a version that is still loaded.
    pub plugin: String,
    /// The function's name.
    pub function: String,
    /// The arguments in the order of the parameters.
    #[serde(default)]
    pub args: Vec<Value>,
    /// Whether the arguments are text from a command line. If so, each is converted to the type of its
    /// parameter: a `String` parameter takes the text, even if it is `42`; for any other type the text is
    /// read as JSON.
    #[serde(default)]
    pub lenient: bool,
    /// How often the function is called, at most [`crate::MAX_REPEAT`] times. Each call waits for the
    /// one before it, and the first error ends the calls.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub repeat: u32,
    /// Another version to call with the same arguments, to compare both. It is called once after each
    /// call of the first, so that both have the same load on the machine.
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
    /// The number of its patch that served; `None` if it was as it was loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<u32>,
    /// How long the last call took inside the host, in microseconds.
    pub elapsed_us: u64,
    /// The same time in nanoseconds.
    #[serde(default)]
    pub elapsed_ns: u64,
    /// The latencies of all calls; `None` if there was one call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latencies: Option<Box<Latencies>>,
    /// The outcome of the calls of the other version; `None` if [`InvokeParams::beside`] was `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Box<Beside>>,
}

/// The outcome of the calls of a second version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Beside {
    /// All calls succeeded; the last returned this.
    Result(InvokeResult),
    /// A call failed; no more were made after it.
    Error(WireError),
}

/// Parameters of a request about one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetParams {
    /// The target, `name@version`: see [`VersionRef`](crate::VersionRef).
    pub target: String,
}

/// Parameters of `prune`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PruneParams {
    /// Whether to also load plugins that a rollback keeps at an earlier artifact.
    #[serde(default)]
    pub latest: bool,
    /// The plugins to retire if their artifact is gone; if empty, all plugins.
    #[serde(default)]
    pub plugins: Vec<String>,
}

/// Parameters of `apply`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ApplyParams {
    /// The absolute paths of the artifacts.
    pub artifacts: Vec<PathBuf>,
}

/// Parameters of `patch`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PatchParams {
    /// The plugin's name.
    pub plugin: String,
    /// The absolute path of the patch. If the artifact is linked already, it lies beside the patch.
    pub patch: PathBuf,
    /// The duration of each phase of its build, for the report.
    #[serde(default)]
    pub build_phases: Vec<PhaseTiming>,
}

/// Parameters of `offer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferParams {
    /// The name of the release.
    pub release: String,
    /// The plugins whose builds differ from those that serve.
    #[serde(default)]
    pub plugins: Vec<String>,
}

/// The answer of a host to an offered release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
#[non_exhaustive]
pub enum OfferAnswer {
    /// The release may be loaded now.
    Now,
    /// The release should be offered again later.
    Later {
        /// Why, for people: "a match is running".
        reason: String,
    },
    /// The release should not be loaded in this host.
    No {
        /// Why, for people.
        reason: String,
    },
}

/// The health of a host, as the host itself reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostHealth {
    /// Whether the host works as it should.
    pub is_well: bool,
    /// What is wrong, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl HostHealth {
    /// A healthy host.
    pub fn well() -> Self {
        Self { is_well: true, reason: None }
    }

    /// An unhealthy host, and the reason.
    pub fn unwell(reason: impl Into<String>) -> Self {
        Self { is_well: false, reason: Some(reason.into()) }
    }
}

/// Parameters of `plan`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlanParams {
    /// Plan for `reload_latest` instead of `reload`.
    #[serde(default)]
    pub latest: bool,
    /// Plan for `prune` of all plugins.
    #[serde(default)]
    pub prune: bool,
    /// Plan for `apply` with these artifacts. A host that does not know `apply` plans a reload instead; the
    /// builds in its answer show this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apply: Option<ApplyParams>,
}

/// Parameters of `subscribe`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SubscribeParams {
    /// Whether to send [`Notification::Event`].
    #[serde(default)]
    pub events: bool,
    /// Whether to send [`Notification::Log`].
    #[serde(default)]
    pub logs: bool,
    /// The largest number of earlier log records to send first.
    #[serde(default)]
    pub backlog: usize,
}

/// Answer of `subscribe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SubscribeResult {
    /// How many of the log records that follow are older than this answer.
    #[serde(default)]
    pub backlog: usize,
}

/// What a host sends to subscribers without being asked each time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", content = "params", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Notification {
    /// Something happened in the engine.
    Event(Event),
    /// A line of the host's log.
    Log(LogRecord),
    /// Log records were lost since the last such message, because this client's queue was full.
    Dropped {
        /// How many records were lost.
        count: u64,
    },
}

/// A notification's line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NotificationLine {
    /// Always `"2.0"`.
    pub jsonrpc: String,
    /// Its `method` and `params`.
    #[serde(flatten)]
    pub notification: Notification,
}

impl Notification {
    /// Wraps a notification for the wire.
    pub fn into_line(self) -> NotificationLine {
        NotificationLine { jsonrpc: "2.0".into(), notification: self }
    }
}

/// The kind of an error, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The line is not a JSON-RPC request that this host knows.
    BadRequest,
    /// The client speaks another protocol version.
    Protocol,
    /// There is no plugin of that name, or it has no such version.
    UnknownPlugin,
    /// The plugin has no function of that name.
    UnknownFunction,
    /// An argument is missing, of a wrong type, or one too many.
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
    /// A reload was refused, since it would break what the host's own code expects.
    HostExpects,
    /// The call cannot be pinned, or there is no such pin.
    Pin,
    /// The version is active, or was freed already.
    NotFreeable,
    /// No host was found, or it is gone. Never sent by a host.
    NoHost,
    /// Building failed. Never sent by a host.
    Build,
    /// A fleet cannot be read or changed. Never sent by a host.
    Fleet,
    /// Anything else.
    Internal,
}

/// An error as an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WireError {
    /// The kind of the error.
    pub kind: ErrorKind,
    /// The error as text for people: which plugin and step, what was expected and what was found, and what to do.
    pub message: String,
    /// The plugin that the error is about; `None` if it is not about one plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The step of the reload that failed; `None` if the error is not about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// The cause of a failed reload; `None` if the error is not about a reload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<CauseKind>,
    /// The causes of the error, the outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<String>,
    /// The expectations of the host's own code that the reload would have broken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<BrokenExpectation>,
}

impl WireError {
    /// An error with only a kind and a message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            plugin: None,
            step: None,
            cause: None,
            chain: Vec::new(),
            broken: Vec::new(),
        }
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
    /// A number that the client chooses; the answer has the same one.
    pub id: u64,
    /// Its `method` and `params`.
    #[serde(flatten)]
    pub request: Request,
}

impl RequestLine {
    /// Wraps a request for the wire.
    pub fn new(id: u64, request: Request) -> Self {
        Self { jsonrpc: "2.0".into(), id, request }
    }
}

/// An answer's line. It has either `result` or `error`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResponseLine {
    /// Always `"2.0"`.
    pub jsonrpc: String,
    /// The request's id; `None` if the request could not be read.
    pub id: Option<u64>,
    /// The result, of the type that the request's documentation names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why there is no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RpcError>,
}

/// The error object that JSON-RPC prescribes; [`WireError`] is its `data`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RpcError {
    /// The error number of JSON-RPC: −32700 for an unreadable line, −32600 for a bad request, and −32000 for
    /// any other error.
    pub code: i32,
    /// The message of `data`.
    pub message: String,
    /// The error itself.
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

/// A line that a client reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// Something that the client has subscribed to.
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
    fn answers_and_notifications_are_distinguished() {
        let answer = ResponseLine::new(Some(1), Err(WireError::new(ErrorKind::Panic, "boom")));
        let text = serde_json::to_string(&answer).unwrap();
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), Line::Response(answer));

        let dropped = Notification::Dropped { count: 3 };
        let text = serde_json::to_string(&dropped).unwrap();
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), Line::Notification(dropped));
    }
}
