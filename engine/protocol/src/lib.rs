//! What hosts and consoles must agree on: the messages between them, the directory in which they find
//! each other, and the environment variables of a host that a console starts.
//!
//! A host listens on a Unix socket if it was asked to. The host and its client, a console, exchange [JSON-RPC
//! 2.0](https://www.jsonrpc.org/specification) messages. Each message is one line of at most
//! [`MAX_LINE_BYTES`]. A conversation:
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
//! - The first request must be `hello`. It has the newest and the oldest protocol version that the client speaks, and the
//!   answer has the newest version that both speak. If there is none, the host's error names the versions of both.
//! - Answers can arrive in another order than their requests: match them by `id`.
//! - Log records wait in a bounded queue of their own, apart from answers and events. If records do not fit,
//!   a `dropped` notification says how many were lost.
//! - Within a protocol version, messages only gain fields. Each side ignores fields that it does not know,
//!   and has a default for fields that are missing.
//!
//! [`RequestLine`] is a line that a client writes, and [`Line`] is one that it reads:
//!
//! ```
//! use hotswap_protocol::{Line, Notification, Request, RequestLine};
//!
//! let asked = serde_json::to_string(&RequestLine::new(1, Request::Snapshot))?;
//! assert_eq!(asked, r#"{"jsonrpc":"2.0","id":1,"method":"snapshot"}"#);
//!
//! let read = r#"{"jsonrpc":"2.0","method":"dropped","params":{"count":3}}"#;
//! match serde_json::from_str(read)? {
//!     Line::Response(answer) => println!("{:?}", answer.into_result()),
//!     Line::Notification(Notification::Dropped { count }) => assert_eq!(count, 3),
//!     Line::Notification(other) => println!("{other:?}"),
//! }
//! # Ok::<(), serde_json::Error>(())
//! ```

#![forbid(unsafe_code)]

use std::ops::RangeInclusive;

// Names, paths and rules that both sides must agree on.
pub mod clock;
pub mod env;
mod name;
mod runtime_dir;
mod socket;
// Messages: the envelope (`message`), and its contents.
mod contents;
mod ending;
mod event;
mod expectation;
mod failure;
mod holder;
mod latency;
mod message;
mod owner;
mod pin;
mod plan;
mod snapshot;
mod step;
mod toolchain;
// The file that a console reads when its host has died.
pub mod in_flight;

pub use contents::{
    ArtifactChange, ArtifactContents, ChangeKind, ChangedItem, ExportInfo, Fingerprint, ImportInfo,
    TypeInfo,
};
pub use ending::{Ending, Freed, KeepKind, KeepReason};
pub use event::{
    Event, GuardTrip, LogLevel, LogRecord, MAX_RELOADS, Outcome, PastReload, PhaseKind,
    PhaseTiming, PluginOutcome, ReloadEnd, ReloadReport, Reloads, ValueChange, ValueOutcome,
};
pub use expectation::{BrokenExpectation, Expectation, ExpectedItem};
pub use failure::{CauseKind, Failure};
pub use holder::{Holder, HolderKind};
pub use in_flight::InFlightCall;
pub use latency::{CALLS_OF_A_SAMPLE, Latencies, LatencyBucket, quantile};
pub use message::{
    ApplyParams, Beside, CancelParams, ErrorKind, HelloParams, HelloResult, HostHealth,
    InvokeParams, InvokeResult, Line, Notification, NotificationLine, OfferAnswer, OfferParams,
    PatchParams, PlanParams, PruneParams, Request, RequestLine, ResponseLine, RpcError,
    SubscribeParams, SubscribeResult, TargetParams, WireError,
};
pub use name::{
    BuildId, InvalidBuildId, InvalidName, InvalidVersion, PluginName, VersionRef, same_plugin,
};
pub use owner::Owner;
pub use pin::{
    MAX_PINNED_BYTES, MAX_PINS, PinParams, PinnedAnswer, PinnedCall, PinnedOutcome, Pins,
    UnpinParams,
};
pub use plan::{LoadedArtifact, NewArtifact, PlannedPlugin, ReloadPlan};
pub use runtime_dir::{RuntimeDir, remove_dead_socket};
pub use snapshot::{
    Cut, DataBagEntry, ExtensionSlot, Failures, FirstFailure, FreeResult, FunctionInfo, HostAgent,
    HostInfo, LiveFunctionInfo, LiveSnapshot, LiveTypeInfo, MAX_LISTED, OpenDescriptor, ParamInfo,
    PluginInfo, Snapshot, Source, VaultSnapshot, VersionInfo, VersionState, version_label,
};
pub use socket::SocketPath;
pub use step::{Activity, Step};
pub use toolchain::{Misfit, Toolchain, ToolchainPart};

/// The newest version of the protocol that this crate speaks.
pub const PROTOCOL_VERSION: u32 = 1;
/// The oldest version of the protocol that this crate speaks. Client and host use the newest version that both
/// speak.
pub const OLDEST_PROTOCOL_VERSION: u32 = 1;

/// The newest version of the protocol that a client and a host both speak, from the oldest and the newest version of
/// each; `None` if there is none.
pub fn common_protocol(client: RangeInclusive<u32>, host: RangeInclusive<u32>) -> Option<u32> {
    let newest = *client.end().min(host.end());
    (client.contains(&newest) && host.contains(&newest)).then_some(newest)
}

/// The largest number of calls that one `invoke` can ask for.
pub const MAX_REPEAT: u32 = 100_000;

/// The longest line that either side accepts, in bytes, including its line break.
pub const MAX_LINE_BYTES: usize = 4 * 1024 * 1024;
