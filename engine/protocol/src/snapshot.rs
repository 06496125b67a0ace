//! The state of an engine, as a console shows it and `hotswap status --json` prints it: its host, its
//! plugins with their versions, and the contents of its Vault.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Ending, Failure, Holder, HostHealth, LatencyBucket, Owner, Toolchain};

/// The state of an engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The host that the engine runs in.
    pub host: HostInfo,
    /// The generation that serves; 0 before the first load.
    pub generation: u64,
    /// One entry per plugin, in load order; plugins that were removed or never loaded come last.
    pub plugins: Vec<PluginInfo>,
    /// Equals [`VaultSnapshot::changes`]. If the number has changed, so has the Vault.
    #[serde(default)]
    pub vault_changes: u64,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostInfo {
    /// The executable's name.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// When its engine was made, in milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// The directory from which it loads artifacts.
    pub plugin_dir: PathBuf,
    /// The artifact store, whose earlier builds it can roll back to; `None` if it knows of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_dir: Option<PathBuf>,
    /// The directory of the copies that it loads, one file per version.
    pub staging_dir: PathBuf,
    /// The socket that it listens on.
    pub socket: PathBuf,
    /// The memory file with its calls in flight; see [`in_flight`](crate::in_flight). A client that has it open
    /// can read it even after the host has died. `None` if the system has no such files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_file: Option<PathBuf>,
    /// The version of its hotswap-engine.
    pub engine_version: String,
    /// The compiler that it was built with, such as `rustc 1.95.0 (59807616e)`.
    pub toolchain: String,
    /// The toolchain that built it, which artifacts must match; `None` from a host that does not send it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_by: Option<Toolchain>,
    /// The shared libraries that the host trusts to keep no pointers into an image: a plugin that needs them
    /// can still be unmapped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_libraries: Vec<String>,
    /// Labels that distinguish it from other hosts of a fleet with the same toolchain.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Its health, as the host itself reports it; `None` if it reports none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HostHealth>,
    /// The agent of its fleet; `None` if none is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Box<HostAgent>>,
}

/// The agent of a fleet, which loads what the fleet declares into a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAgent {
    /// The place of the fleet: its directory, or its server and name.
    pub fleet: String,
    /// The channel whose declaration it follows.
    pub channel: String,
    /// The name of the host in the fleet.
    pub host: String,
    /// The agent's process id.
    pub pid: u32,
}

impl fmt::Display for HostAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fleet, channel, pid, .. } = self;
        write!(f, "the agent with pid {pid} for channel {channel} of the fleet in {fleet}")
    }
}

/// A plugin and its versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginInfo {
    /// Its name.
    pub name: String,
    /// Its versions, the newest first. Only the newest of the freed versions are listed.
    pub versions: Vec<VersionInfo>,
    /// The plugins that the active version imports.
    #[serde(default)]
    pub imports: Vec<String>,
    /// The functions of the active version.
    #[serde(default)]
    pub functions: Vec<FunctionInfo>,
    /// Whether a rollback keeps it at an earlier build: a reload then ignores the build from which it was
    /// rolled back.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_rolled_back: bool,
}

impl PluginInfo {
    /// The version that serves; `None` if none does.
    pub fn active(&self) -> Option<&VersionInfo> {
        self.versions.iter().find(|version| version.state == VersionState::Active)
    }
}

/// The state of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum VersionState {
    /// The steps of its load are running; it cannot be called yet.
    Loading,
    /// It serves.
    Active,
    /// It was replaced, but something still uses it.
    Retired,
    /// It was replaced and is unused, but destructors of a thread still have to run.
    Pinned,
    /// Its image is unmapped, which the engine has checked.
    Freed,
    /// It was replaced and is unused, but cannot be unmapped; the detail says why.
    Kept,
    /// Its load failed, so it never served; the detail says why.
    Failed,
}

impl VersionState {
    /// The word for a screen or a report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Pinned => "pinned",
            Self::Freed => "freed",
            Self::Kept => "kept",
            Self::Failed => "failed",
        }
    }
}

impl std::fmt::Display for VersionState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One load of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionInfo {
    /// Its number: the loads of this plugin in this host, counted from 1.
    pub version: u32,
    /// Its state.
    pub state: VersionState,
    /// The state as text: `retired: 2 calls, 1 value`.
    pub detail: String,
    /// The text after the state in `detail`, such as `2 calls, 1 value`. It is empty if there is none, and
    /// `None` from a host that sends `detail` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
    /// Why it never served; `None` if it did, or may still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// How it ended; `None` if it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
    /// The build id of the artifact whose code it runs. If it is patched, this is the id of the patched build.
    pub build_id: String,
    /// Whether that build is still being linked. If so, `build_id` identifies only its code.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_early: bool,
    /// The build id of the artifact that was loaded, if a patch has changed its code since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_build_id: Option<String>,
    /// The number of the patch that serves, or served last: `v3+2` is version 3 with patch 2. `None` if it
    /// serves as it was loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<u32>,
    /// The functions whose code the patch replaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patched_functions: Vec<String>,
    /// The plugin crate's version.
    pub crate_version: String,
    /// The source that it was built from; `None` outside a git repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// When it was loaded, in milliseconds since the Unix epoch.
    pub loaded_at_ms: u64,
    /// The size of its file in bytes.
    pub size_bytes: u64,
    /// How many bytes that its code allocated are still on the heap, even after it was freed. `None` if the host
    /// does not count them, or if the rest of a freed version is no larger than the rest that every version
    /// leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heap_bytes: Option<u64>,
    /// The descriptors that its code opened and that are still open, even after it was freed. It may have passed
    /// some of them to other versions or to the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub descriptors: Vec<OpenDescriptor>,
    /// How many calls it has answered.
    pub calls: u64,
    /// How many of these failed.
    #[serde(flatten)]
    pub failures: Failures,
    /// Its holders, as text.
    #[serde(default)]
    pub holders: Vec<String>,
    /// The same holders as data, in the same order.
    #[serde(default)]
    pub held_by: Vec<Holder>,
}

impl VersionInfo {
    /// The version's name with its patch: `v3`, or `v3+2` with its second patch.
    pub fn label(&self) -> String {
        version_label(self.version, self.patch)
    }
}

/// The name of a version with its patch, if it has one: `v3`, `v3+2`.
pub fn version_label(version: u32, patch: Option<u32>) -> String {
    let patch = patch.map_or_else(String::new, |number| format!("+{number}"));
    format!("v{version}{patch}")
}

/// Counts of failed calls of functions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// How many returned an error. An error that says that the call itself was wrong does not count.
    #[serde(default)]
    pub errors: u64,
    /// How many panicked.
    #[serde(default)]
    pub panics: u64,
    /// The first failed call. If a patch serves, the first one in the newest patch with a failed call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_failure: Option<FirstFailure>,
}

/// The first call of a function that failed in a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstFailure {
    /// The function.
    pub function: String,
    /// The error, or the message and the place of the panic.
    pub message: String,
    /// When it failed, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The patch in whose code the call failed; `None` for the version as it was loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<u32>,
}

/// An open descriptor: a file, a socket or the like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenDescriptor {
    /// Its number in the process.
    pub number: i32,
    /// What kind of thing is open: `tcp`, `udp`, `unix`, `file`, `pipe`, `eventpoll`, `eventfd`, …
    pub kind: String,
    /// The address or the path; empty if it has none.
    #[serde(default)]
    pub name: String,
}

impl std::fmt::Display for OpenDescriptor {
    /// `tcp 127.0.0.1:4567`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.kind)?;
        if self.name.is_empty() { Ok(()) } else { write!(f, " {}", self.name) }
    }
}

/// The git facts of a build: the state of the work tree when it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The full commit id.
    pub commit: String,
    /// When it was committed, in seconds since the Unix epoch.
    pub commit_time: i64,
    /// The branch; empty if none was checked out.
    pub branch: String,
    /// Whether the work tree differed from the commit.
    pub dirty: bool,
}

/// A function that a console can call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FunctionInfo {
    /// Its name.
    pub name: String,
    /// Its parameters and result, such as `(name: String, times: u32) -> String`.
    pub signature: String,
    /// Its doc comment.
    #[serde(default)]
    pub doc: String,
    /// Its parameters in order.
    pub params: Vec<ParamInfo>,
    /// The JSON Schema of what it returns.
    pub returns: Value,
    /// Whether its doc comment and its schemas were left out, because those of all functions are too long for one
    /// answer. The schemas are `true` then, which describes any value.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_cut: bool,
    /// Whether it is live: a host can find it by its name alone, in the newest generation.
    #[serde(default)]
    pub is_live: bool,
    /// Whether it is `async`.
    #[serde(default)]
    pub is_async: bool,
    /// Whether its author says that a call has effects, such as sending a message, and must not be repeated
    /// automatically. Such a function cannot be pinned.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_effects: bool,
    /// How often it was called in the active version.
    #[serde(default)]
    pub calls: u64,
    /// How many of these calls failed.
    #[serde(flatten)]
    pub failures: Failures,
    /// The median latency of the timed calls, in microseconds; `None` if no call was timed. Each thread times
    /// its first calls of a function, and after that one call in 1,024.
    #[serde(default)]
    pub latency_us_p50: Option<f64>,
    /// The 99th percentile of the same latencies, in microseconds.
    #[serde(default)]
    pub latency_us_p99: Option<f64>,
    /// The cumulative histogram of the same latencies: the number of calls that took at most as long as each
    /// bound. Buckets without further calls are left out. Possible bounds are at most
    /// 25 % apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latency_buckets: Vec<LatencyBucket>,
}

/// A parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParamInfo {
    /// Its name.
    pub name: String,
    /// Its Rust type, as written.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Its JSON Schema.
    pub schema: Value,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// The contents of a Vault.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct VaultSnapshot {
    /// The generation that the contents belong to.
    pub generation: u64,
    /// How many changes the DataBag and the registrations of the Extension have had. As long as the number stays
    /// the same, so do the contents.
    #[serde(default)]
    pub changes: u64,
    /// Named values, sorted by name: the first [`MAX_LISTED`].
    pub data_bag: Vec<DataBagEntry>,
    /// How many named values there are.
    #[serde(default)]
    pub data_bag_len: u64,
    /// The host's own object, as JSON.
    pub extension: Value,
    /// The parts of the host's object that were left out because it is large.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extension_cuts: Vec<Cut>,
    /// The Rust type of the host's own object.
    pub extension_type: String,
    /// What plugins registered in the Extension, sorted by interface and name: the first
    /// [`MAX_LISTED`].
    pub slots: Vec<ExtensionSlot>,
    /// How many registrations there are.
    #[serde(default)]
    pub slots_len: u64,
}

impl VaultSnapshot {
    /// Whether the host has set an object of its own. Without one, the object is Rust's empty tuple.
    pub fn has_extension(&self) -> bool {
        self.extension_type != "()"
    }
}

/// The largest number of named values, and of registrations, that one answer lists.
pub const MAX_LISTED: usize = 1000;

/// A list, a map or a text of which an answer has only the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Its place in the value, as a JSON pointer (RFC 6901).
    pub path: String,
    /// How many elements of the list or map, or how many bytes of the text, the answer has.
    pub shown: u64,
    /// How many there are in all; `None` if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
}

/// A named value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataBagEntry {
    /// Its name.
    pub key: String,
    /// Its Rust type.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Its owner as text: `host`, or `world v3`.
    pub owner: String,
    /// Its owner as data; `None` from a host that only sends `owner`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owned_by: Option<Owner>,
    /// Its size when serialised, in bytes; `None` if it cannot be serialised, or if only a part of it was
    /// read.
    pub size_bytes: Option<u64>,
    /// Its value as JSON, or the beginning of a large value. `None` if it cannot be serialised, or if it is being
    /// changed right now.
    pub value: Option<Value>,
    /// The parts of its value that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cuts: Vec<Cut>,
}

/// A registration in the Extension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionSlot {
    /// The interface's name.
    pub interface: String,
    /// The registration's name.
    pub name: String,
    /// Its owner as text: `cat v2`.
    pub owner: String,
    /// Its owner as data; `None` from a host that only sends `owner`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owned_by: Option<Owner>,
}

/// Answer of `free`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreeResult {
    /// The plugin.
    pub plugin: String,
    /// The version.
    pub version: u32,
    /// Its state now.
    pub state: VersionState,
    /// The state as text.
    pub detail: String,
    /// The holders, as text.
    pub holders: Vec<String>,
    /// The same holders as data, in the same order.
    #[serde(default)]
    pub held_by: Vec<Holder>,
}

/// The live functions and types: hosts find them by their names alone, in the newest generation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LiveSnapshot {
    /// The generation that they belong to.
    pub generation: u64,
    /// Functions, sorted by name.
    pub functions: Vec<LiveFunctionInfo>,
    /// Types, sorted by name.
    pub types: Vec<LiveTypeInfo>,
}

/// A live function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveFunctionInfo {
    /// The plugin that has it.
    pub plugin: String,
    /// The version that has it.
    pub version: u32,
    /// The function.
    #[serde(flatten)]
    pub function: FunctionInfo,
}

/// A live type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveTypeInfo {
    /// The plugin that has it.
    pub plugin: String,
    /// The version that has it.
    pub version: u32,
    /// Its name.
    pub name: String,
    /// Its doc comment.
    #[serde(default)]
    pub doc: String,
    /// Its JSON Schema.
    pub schema: Value,
    /// Whether its doc comment and its schema were left out, as for a [`FunctionInfo`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_cut: bool,
}
