//! The messages between a host and a console, and the directory in which they find each other.
//!
//! A host that asks for it listens on a Unix socket. Client and host exchange
//! [JSON-RPC 2.0](https://www.jsonrpc.org/specification) messages, one a line, each at most
//! [`MAX_LINE_BYTES`] long. A conversation:
//!
//! ```text
//! → {"jsonrpc":"2.0","id":1,"method":"hello","params":{"protocol":1,"client":"hotswap"}}
//! ← {"jsonrpc":"2.0","id":1,"result":{"protocol":1,"host":{"name":"sample-host","pid":4121,…}}}
//! → {"jsonrpc":"2.0","id":2,"method":"invoke","params":{"plugin":"world","function":"greet","args":["Ada",2]}}
//! ← {"jsonrpc":"2.0","id":2,"result":{"value":"Hello, Ada! Hello, Ada!","plugin":"world","version":1,"elapsed_us":8}}
//! → {"jsonrpc":"2.0","id":3,"method":"subscribe","params":{"events":true,"logs":true,"backlog":200}}
//! ← {"jsonrpc":"2.0","id":3,"result":{"backlog":200}}
//! ← {"jsonrpc":"2.0","method":"log","params":{"seq":7,"at_ms":…,"level":"info",…}}
//! ```
//!
//! The first request must be `hello`; a client of another protocol version is refused with both
//! versions named. Answers may come in another order than their requests: match them by `id`.
//! Log records wait in a bounded queue of their own, apart from answers and events; what did not
//! fit is counted in a `dropped` notification.

#![forbid(unsafe_code)]

pub mod clock;
mod contents;
pub mod env;
mod event;
pub mod in_flight;
mod latency;
mod message;
mod name;
mod plan;
mod runtime_dir;
mod snapshot;

pub use contents::{
    ArtifactChange, ArtifactContents, ChangeKind, ChangedItem, ExportInfo, ImportInfo, TypeInfo,
};
pub use event::{
    Event, LogLevel, LogRecord, Outcome, PhaseTiming, PluginOutcome, ReloadReport, ValueChange,
    ValueOutcome,
};
pub use in_flight::InFlightCall;
pub use latency::{Latencies, LatencyBucket};
pub use message::{
    Beside, CancelParams, ErrorKind, HelloParams, HelloResult, InvokeParams, InvokeResult, Line,
    Notification, NotificationLine, PlanParams, Request, RequestLine, ResponseLine, RpcError,
    SubscribeParams, SubscribeResult, TargetParams, WireError,
};
pub use name::{
    BuildId, InvalidBuildId, InvalidName, InvalidVersion, PluginName, VersionRef, same_plugin,
};
pub use plan::{LoadedArtifact, NewArtifact, PlannedPlugin, ReloadPlan};
pub use runtime_dir::{RuntimeDir, remove_dead_socket};
pub use snapshot::{
    Cut, DataBagEntry, ExtensionSlot, FreeResult, FunctionInfo, HostInfo, LiveFunctionInfo,
    LiveSnapshot, LiveTypeInfo, MAX_LISTED, ParamInfo, PluginInfo, Snapshot, Source, VaultSnapshot,
    VersionInfo, VersionState,
};

/// The protocol's version; both sides must have the same.
pub const PROTOCOL_VERSION: u32 = 1;

/// How often one `invoke` may call its function.
pub const MAX_REPEAT: u32 = 100_000;

/// The longest line either side accepts, in bytes, its newline included.
pub const MAX_LINE_BYTES: usize = 4 * 1024 * 1024;
