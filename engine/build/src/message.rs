//! The messages of a running build.

use std::path::{Component, Path, PathBuf};

use cargo_metadata::diagnostic::{
    Diagnostic as RustcDiagnostic, DiagnosticLevel as RustcLevel, DiagnosticSpan,
};
use serde::{Deserialize, Serialize};

use crate::syntax;

/// A message of a running build.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BuildMessage {
    /// Another package was compiled, or was already up to date.
    Progress {
        /// How many packages are finished so far.
        done: usize,
        /// The largest number of packages that this build may compile; `None` if it is unknown.
        total: Option<usize>,
        /// The crate name of the package that is finished.
        package: String,
    },
    /// An error, warning or note of the compiler.
    Diagnostic(Diagnostic),
    /// Any other line of output, without its line break: a line of cargo, such as `Compiling …`, or a remark of
    /// this crate.
    Output(String),
}

/// An error, warning or note of the compiler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// How serious it is.
    pub level: DiagnosticLevel,
    /// The message alone; usually one line.
    pub message: String,
    /// The message with its source excerpt, as cargo shows it: several lines with ANSI colours.
    pub rendered: String,
    /// The error code or the lint's name, such as `E0308` or `unused_variables`; `None` if the
    /// message has neither.
    pub code: Option<String>,
    /// The absolute path of the file that it is about; `None` if it is about no file.
    pub file: Option<PathBuf>,
    /// The line in that file, counted from 1.
    pub line: Option<u32>,
    /// The column in that line, counted in characters from 1.
    pub column: Option<u32>,
}

/// How serious a [`Diagnostic`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DiagnosticLevel {
    /// The code does not compile.
    Error,
    /// The code compiles, but looks wrong.
    Warning,
    /// Additional information.
    Note,
    /// A suggestion.
    Help,
}

impl Diagnostic {
    /// Translates a message of a compiler that ran in `dir`: the message's paths are relative to it.
    ///
    /// `None` for a summary ("aborting due to …"), which cargo does not show either.
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

/// The files that an error is about, given the message of a compiler that ran in `dir`: the files of its
/// locations, and the files that would be included there. A missing file is in no list of files that a
/// compiler has read.
pub(crate) fn wrong_files(message: &RustcDiagnostic, dir: &Path) -> Vec<PathBuf> {
    if !matches!(message.level, RustcLevel::Ice | RustcLevel::Error) {
        return Vec::new();
    }
    let of_span = |span: &DiagnosticSpan| {
        let file = dir.join(&span.file_name);
        let included = included_at(span).and_then(|named| Some(file.parent()?.join(named)));
        [Some(file), included]
    };
    let files = message.spans.iter().flat_map(of_span).flatten();
    files.map(|file| without_detours(&file)).collect()
}

/// The path in the `include!`, `include_str!` or `include_bytes!` at a location; `None` if there is none.
fn included_at(span: &DiagnosticSpan) -> Option<String> {
    let lines = span.text.iter().map(|line| {
        let signs = line.text.chars().skip(line.highlight_start.saturating_sub(1));
        signs.take(line.highlight_end.saturating_sub(line.highlight_start)).collect::<String>()
    });
    let code = lines.collect::<Vec<_>>().join("\n");
    let code = Some(code.trim_end_matches(';')).filter(|code| syntax::is_flat(code))?;
    let call: syn::Macro = syn::parse_str(code).ok()?;
    let name = call.path.segments.last()?.ident.to_string();
    let includes = ["include", "include_str", "include_bytes"].contains(&name.as_str());
    includes.then(|| call.parse_body::<syn::LitStr>().ok()).flatten().map(|path| path.value())
}

/// The path without `.` and `..`, resolved as text: the file and its directory may be missing.
fn without_detours(path: &Path) -> PathBuf {
    let mut short = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if short.file_name().is_some() => {
                short.pop();
            }
            part => short.push(part),
        }
    }
    short
}

/// Whether a message only summarises others. No field of the message says so; cargo, too, recognises it by
/// its text.
fn is_summary(message: &RustcDiagnostic) -> bool {
    let text = &message.message;
    message.spans.is_empty()
        && message.code.is_none()
        && (text.starts_with("aborting due to")
            || text.ends_with("warning emitted")
            || text.ends_with("warnings emitted"))
}
