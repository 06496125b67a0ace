//! Places in source files.

use std::path::PathBuf;

/// A place in a source file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub row: Option<u32>,
    /// The column, from 1.
    pub column: Option<u32>,
}
