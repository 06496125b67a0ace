//! The declarations of an artifact, and the differences between two artifacts of a plugin.

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use crate::Expectation;
use crate::{ExpectedItem, FunctionInfo, LiveTypeInfo};

/// What an artifact declares, read from its opened image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArtifactContents {
    /// The plugin.
    pub plugin: String,
    /// The artifact's build id.
    pub build_id: String,
    /// Its functions, including live ones, sorted by name.
    pub functions: Vec<FunctionInfo>,
    /// Its live types, sorted by name.
    pub live_types: Vec<LiveTypeInfo>,
    /// What it exports; `None` if it exports nothing.
    pub export: Option<ExportInfo>,
    /// What it imports.
    pub imports: Vec<ImportInfo>,
    /// The types that can cross between images, sorted by name, without generic ones.
    pub types: Vec<TypeInfo>,
    /// The type hashes of everything that a host can use with Rust types, to compare with the host's
    /// [`Expectation`]s.
    #[serde(default)]
    pub fingerprints: Vec<Fingerprint>,
}

/// The hash of the types of one item that a host can use with Rust types.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The kind of item.
    pub item: ExpectedItem,
    /// The name of a function, or the path of an interface.
    pub name: String,
    /// The hash.
    pub fingerprint: String,
}

/// An interface that a plugin exports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportInfo {
    /// The trait's path.
    pub interface: String,
    /// Its methods, `fn meow(&self, times: u32) -> String`.
    pub methods: Vec<String>,
}

/// One import of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportInfo {
    /// The plugin that exports it.
    pub plugin: String,
    /// The interface that the export must have; empty if the plugin only has to load earlier.
    pub interface: String,
    /// Whether the importing plugin works without it.
    pub optional: bool,
}

/// A type that can cross between images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeInfo {
    /// The type's path.
    pub name: String,
    /// Its size in bytes.
    pub size_bytes: usize,
    /// Its fields, such as `z: f64`, or its variants.
    pub members: Vec<String>,
}

/// The kind of item that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChangedItem {
    /// A function.
    Function,
    /// A live type.
    LiveType,
    /// A type that can cross between images.
    Type,
    /// The export.
    Export,
    /// An import.
    Import,
}

impl ChangedItem {
    /// The word for a screen or a report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::LiveType => "live type",
            Self::Type => "type",
            Self::Export => "export",
            Self::Import => "import",
        }
    }
}

/// How an item changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// Only the newer artifact has it.
    Added,
    /// Only the older artifact has it.
    Removed,
    /// Both have it, and it differs.
    Changed,
}

/// One difference between two artifacts of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactChange {
    /// The kind of item.
    pub item: ChangedItem,
    /// The item's name.
    pub name: String,
    /// How it changed.
    pub change: ChangeKind,
    /// Both sides in words: ``was `(u32) -> f64`, now `(f32) -> f64` ``.
    pub detail: String,
    /// The older side, `(u32) -> f64`; `None` if the item is new, or the difference lies deeper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    /// The newer side; `None` if the item is gone, or the difference lies deeper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
    /// Whether code that uses the older artifact may fail with the newer one.
    pub is_breaking: bool,
}
