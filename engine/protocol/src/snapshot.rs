//! The state of an engine, as a console shows it and `hotswap status --json` prints it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The state of an engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Who answers.
    pub host: HostInfo,
    /// The generation that serves; 0 before the first load.
    pub generation: u64,
    /// One entry a plugin, in load order; plugins that were removed or never loaded come last.
    pub plugins: Vec<PluginInfo>,
    /// As [`VaultSnapshot::changes`]: tells whether it is worth while to ask for the Vault.
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
    /// Where it looks for artifacts.
    pub plugin_dir: PathBuf,
    /// Where earlier builds of its plugins are kept, if it knows; what it can be rolled back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_dir: Option<PathBuf>,
    /// Where it keeps the copies that it loads, one file a version.
    pub staging_dir: PathBuf,
    /// The socket it listens on.
    pub socket: PathBuf,
    /// Where its calls can be read, also after it has died by whoever opened it before; see
    /// [`in_flight`](crate::in_flight). None when the system has no such files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_file: Option<PathBuf>,
    /// The version of hotswap-engine in it.
    pub engine_version: String,
    /// The compiler it was built with, `rustc 1.95.0 (59807616e)`.
    pub toolchain: String,
}

/// A plugin and its versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginInfo {
    /// Its name.
    pub name: String,
    /// Its versions, newest first. Freed versions stay listed, the newest of them.
    pub versions: Vec<VersionInfo>,
    /// The plugins that the active version imports.
    #[serde(default)]
    pub imports: Vec<String>,
    /// The functions of the active version.
    #[serde(default)]
    pub functions: Vec<FunctionInfo>,
}

/// What a version is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum VersionState {
    /// Its steps are running; nobody can call it yet.
    Loading,
    /// It serves.
    Active,
    /// Replaced, but something still uses it.
    Retired,
    /// Replaced and unused, but a thread's destructors have still to run.
    Pinned,
    /// Unmapped, and checked to be.
    Freed,
    /// Replaced and unused, but it cannot be unmapped; the detail says why.
    Kept,
    /// It never served; the detail says why.
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
    /// Counts the loads of this plugin in this host, from 1.
    pub version: u32,
    /// What it is in.
    pub state: VersionState,
    /// The state in words: `retired: 2 calls, 1 value (cat on "yard")`.
    pub detail: String,
    /// The artifact's build id.
    pub build_id: String,
    /// The plugin crate's version.
    pub crate_version: String,
    /// The source it was built from; none outside a git repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// When it was loaded, in milliseconds since the Unix epoch.
    pub loaded_at_ms: u64,
    /// The size of its file in bytes.
    pub size_bytes: u64,
    /// How much of what its code has allocated is on the heap, in bytes: also after the version was
    /// freed. None where the host does not count that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heap_bytes: Option<u64>,
    /// How many calls it has answered.
    pub calls: u64,
    /// What keeps it in use, by name.
    #[serde(default)]
    pub holders: Vec<String>,
}

/// The git facts of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The full commit id.
    pub commit: String,
    /// When it was committed, in seconds since the Unix epoch.
    pub commit_time: i64,
    /// The branch; empty when detached.
    pub branch: String,
    /// Whether the work tree differed from the commit.
    pub dirty: bool,
}

/// A function that a console can call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FunctionInfo {
    /// Its name.
    pub name: String,
    /// `(name: String, times: u32) -> String`
    pub signature: String,
    /// Its doc comment.
    #[serde(default)]
    pub doc: String,
    /// Its parameters in order.
    pub params: Vec<ParamInfo>,
    /// The JSON Schema of what it returns.
    pub returns: Value,
    /// Whether it is found by name alone, in the newest generation.
    #[serde(default)]
    pub is_live: bool,
    /// Whether it is `async`.
    #[serde(default)]
    pub is_async: bool,
    /// How often the active version has been asked for it.
    #[serde(default)]
    pub calls: u64,
    /// Half of the timed calls took no longer, in microseconds. Each thread times its first calls of
    /// a function, and then one in 1,024; none when none was timed.
    #[serde(default)]
    pub latency_us_p50: Option<f64>,
    /// 99 of 100 timed calls took no longer, in microseconds.
    #[serde(default)]
    pub latency_us_p99: Option<f64>,
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

/// The contents of a Vault.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct VaultSnapshot {
    /// The generation it belongs to.
    pub generation: u64,
    /// Counts the changes to the DataBag and to the Extension's registrations: while it stays as it is,
    /// so do they.
    #[serde(default)]
    pub changes: u64,
    /// Named values, sorted by name: the first [`MAX_LISTED`].
    pub data_bag: Vec<DataBagEntry>,
    /// How many named values there are.
    #[serde(default)]
    pub data_bag_len: u64,
    /// The host's own object, as JSON.
    pub extension: Value,
    /// What is left out of it.
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

/// How many named values, and how many registrations, one answer lists at most.
pub const MAX_LISTED: usize = 1000;

/// A list, a map or a text of which an answer has only the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Where it lies in the value, as a JSON pointer (RFC 6901).
    pub path: String,
    /// How many elements, or bytes of a text, are there.
    pub shown: u64,
    /// How many it has; none where that is not known.
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
    /// `host`, or `world v3`.
    pub owner: String,
    /// Its size when serialised, in bytes; none when it cannot be, or is not known since only a part was
    /// looked at.
    pub size_bytes: Option<u64>,
    /// Its value as JSON, of a large one the beginning; none when it cannot be serialised, or somebody is
    /// changing it right now.
    pub value: Option<Value>,
    /// What is left out of its value.
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
    /// `cat v2`
    pub owner: String,
}

/// Answer of `free`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreeResult {
    /// The plugin.
    pub plugin: String,
    /// The version.
    pub version: u32,
    /// What it is in now.
    pub state: VersionState,
    /// The state in words.
    pub detail: String,
    /// What keeps it in use, by name.
    pub holders: Vec<String>,
}

/// What is found by name alone in the newest generation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LiveSnapshot {
    /// The generation it belongs to.
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
}
