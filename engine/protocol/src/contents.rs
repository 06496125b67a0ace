//! What an artifact declares, and how two artifacts of a plugin differ.

use serde::{Deserialize, Serialize};

use crate::{FunctionInfo, LiveTypeInfo};

/// What an artifact declares, as its opened image tells it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArtifactContents {
    /// The plugin.
    pub plugin: String,
    /// The artifact's build id.
    pub build_id: String,
    /// Its functions, live ones among them, sorted by name.
    pub functions: Vec<FunctionInfo>,
    /// Its live types, sorted by name.
    pub live_types: Vec<LiveTypeInfo>,
    /// What it exports; none when that is nothing.
    pub export: Option<ExportInfo>,
    /// What it imports.
    pub imports: Vec<ImportInfo>,
    /// The types that may cross between images, but for those with parameters, sorted by name.
    pub types: Vec<TypeInfo>,
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
    /// The trait's path.
    pub interface: String,
    /// Whether the plugin can do without.
    pub optional: bool,
}

/// A type that may cross between images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeInfo {
    /// The type's path.
    pub name: String,
    /// Its size in bytes.
    pub size_bytes: usize,
    /// Its fields, `z: f64`, or its variants.
    pub members: Vec<String>,
}

/// What a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChangedItem {
    /// A function.
    Function,
    /// A live type.
    LiveType,
    /// A type that may cross.
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

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is another.
    Changed,
}

/// One difference between two artifacts of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactChange {
    /// What it is about.
    pub item: ChangedItem,
    /// Its name.
    pub name: String,
    /// What became of it.
    pub change: ChangeKind,
    /// Both sides in words: `(u32) -> f64`, now `(f32) -> f64`.
    pub detail: String,
    /// Whether something that used the old one may not be able to use the new one.
    pub is_breaking: bool,
}
