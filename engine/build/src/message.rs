//! What a build says while it runs.

use std::path::{Path, PathBuf};

use cargo_metadata::diagnostic::{Diagnostic as RustcDiagnostic, DiagnosticLevel as RustcLevel};
use serde::{Deserialize, Serialize};

/// One thing that a running build has to say.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BuildMessage {
    /// Another package is finished, or was already up to date.
    Progress {
        /// How many packages are finished.
        done: usize,
        /// How many there are at most, where that is known.
        total: Option<usize>,
        /// The name of the crate that was finished.
        package: String,
    },
    /// The compiler has something to say about the source.
    Diagnostic(Diagnostic),
    /// Any other line of output, such as cargo's `Compiling …`, without its line break.
    Output(String),
}

/// An error, warning or note of the compiler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// How serious it is.
    pub level: DiagnosticLevel,
    /// The message alone, on one line as a rule.
    pub message: String,
    /// The message with its source excerpt, as cargo shows it: many lines, with ANSI colours.
    pub rendered: String,
    /// The error code or the lint's name, such as `E0308` or `unused_variables`.
    pub code: Option<String>,
    /// The file it is about, as an absolute path.
    pub file: Option<PathBuf>,
    /// The line in that file, counted from 1.
    pub line: Option<u32>,
    /// The column in that line, counted in characters from 1.
    pub column: Option<u32>,
}

/// How serious a [`Diagnostic`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DiagnosticLevel {
    /// It does not compile.
    Error,
    /// It compiles, but something is suspicious.
    Warning,
    /// Something to know.
    Note,
    /// Something to do.
    Help,
}

impl Diagnostic {
    /// `None` for the compiler's summaries ("aborting due to …"), which cargo does not show either.
    ///
    /// The compiler names files relative to `dir`, its current directory.
    pub(crate) fn from_rustc(message: RustcDiagnostic, dir: &Path) -> Option<Self> {
        if is_summary(&message) {
            return None;
        }
        let level = match message.level {
            RustcLevel::Ice | RustcLevel::Error => DiagnosticLevel::Error,
            RustcLevel::Warning => DiagnosticLevel::Warning,
            RustcLevel::Help => DiagnosticLevel::Help,
            _ => DiagnosticLevel::Note,
        };
        let place = message.spans.iter().find(|span| span.is_primary);
        Some(Self {
            level,
            file: place.map(|span| dir.join(&span.file_name)),
            line: place.and_then(|span| u32::try_from(span.line_start).ok()),
            column: place.and_then(|span| u32::try_from(span.column_start).ok()),
            code: message.code.map(|code| code.code),
            rendered: message.rendered.unwrap_or_else(|| format!("{}\n", message.message)),
            message: message.message,
        })
    }
}

fn is_summary(message: &RustcDiagnostic) -> bool {
    let text = &message.message;
    message.spans.is_empty()
        && message.code.is_none()
        && (text.starts_with("aborting due to")
            || text.ends_with("warning emitted")
            || text.ends_with("warnings emitted"))
}
