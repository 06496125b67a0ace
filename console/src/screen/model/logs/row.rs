//! The lines of the log.

use std::collections::HashMap;
use std::sync::Arc;

use hotswap_protocol::{LogLevel, LogRecord};

use crate::format;
use crate::screen::model::Place;
use crate::session::OutputStream;

/// The number of writers that are remembered. With more writers, a host's log only takes more memory.
const WRITERS_KEPT: usize = 4096;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// Its sequence number: all lines ever are counted, from 0.
    pub seq: u64,
    /// Its time in milliseconds since the Unix epoch; for plain output, the time when it arrived.
    pub at_ms: u64,
    /// Its origin.
    pub origin: Origin,
    /// Its text with the record's fields, without colours.
    pub text: String,
    /// Its text with colours; `None` if it has none.
    pub coloured: Option<Box<str>>,
}

/// The origin of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The host or a plugin, through the log.
    Record {
        /// Its level.
        level: LogLevel,
        /// Its writer.
        writer: Arc<Writer>,
    },
    /// The process, through stdout or stderr.
    Output(OutputStream),
    /// The console: a marker for a reload, a start or an end.
    Marker,
    /// A number of lines that were lost here.
    Dropped(u64),
}

/// A writer of records.
#[derive(Debug, PartialEq, Eq)]
pub struct Writer {
    /// Its name: `world@v3`, or the target.
    pub label: String,
    /// The module or target.
    pub target: String,
    /// The plugin and its version; `None` if no plugin wrote it.
    pub version: Option<(String, u32)>,
    /// The place in the sources that writes.
    pub place: Option<Place>,
    /// The label and the target in lower case, for the filter.
    pub(super) lowercase: (String, String),
}

/// The writers by the facts in their records. All records of one writer share one entry.
#[derive(Default)]
pub(super) struct Writers(HashMap<WriterKey, Arc<Writer>>);

#[derive(PartialEq, Eq, Hash)]
struct WriterKey {
    plugin: Option<String>,
    version: Option<u32>,
    patch: Option<u32>,
    target: String,
    file: Option<String>,
    line: Option<u32>,
}

impl Writers {
    pub fn of(&mut self, record: &LogRecord) -> Arc<Writer> {
        let key = WriterKey {
            plugin: record.plugin.clone(),
            version: record.version,
            patch: record.patch,
            target: record.target.clone(),
            file: record.file.clone(),
            line: record.line,
        };
        if let Some(writer) = self.0.get(&key) {
            return writer.clone();
        }
        let (label, target) = (format::log_origin(record), record.target.clone());
        let lowercase = (label.to_lowercase(), target.to_lowercase());
        let version = record.plugin.clone().zip(record.version);
        let place = record.file.as_ref().map(|file| Place {
            file: file.into(),
            row: record.line,
            column: None,
        });
        let writer = Arc::new(Writer { label, target, version, place, lowercase });
        if self.0.len() >= WRITERS_KEPT {
            self.0.clear();
        }
        self.0.insert(key, writer.clone());
        writer
    }

    /// The names of all writers, sorted.
    pub fn labels(&self) -> Vec<&str> {
        let mut labels: Vec<&str> = self.0.values().map(|it| it.label.as_str()).collect();
        labels.sort_unstable();
        labels.dedup();
        labels
    }
}

impl Origin {
    /// The name of the writer.
    pub fn writer(&self) -> &str {
        match self {
            Self::Record { writer, .. } => &writer.label,
            Self::Output(stream) => stream.as_str(),
            Self::Marker | Self::Dropped(_) => "",
        }
    }

    /// The place in the sources that wrote it.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Record { writer, .. } => writer.place.as_ref(),
            Self::Output(_) | Self::Marker | Self::Dropped(_) => None,
        }
    }

    pub(super) fn is_error(&self) -> bool {
        matches!(self, Self::Record { level: LogLevel::Error, .. })
    }

    /// Whether it is a marker of the console.
    pub fn is_marker(&self) -> bool {
        matches!(self, Self::Marker | Self::Dropped(_))
    }
}

impl LogRow {
    /// The line as text: `12:03:07 WARN world@v3 velocity clamped`
    pub fn to_text(&self) -> String {
        let time = format::clock(self.at_ms);
        match &self.origin {
            Origin::Record { level, writer } => {
                format!("{time} {} {} {}", level.as_str(), writer.label, self.text)
            }
            Origin::Output(stream) => format!("{time} {} {}", stream.as_str(), self.text),
            Origin::Marker | Origin::Dropped(_) => format!("{time} {}", self.text),
        }
    }
}

/// The message and the fields of a record on one line.
pub(super) fn text_of(record: &LogRecord) -> String {
    let mut text = plain(&record.message);
    for (name, value) in &record.fields {
        text.push(' ');
        text.push_str(name);
        text.push('=');
        text.push_str(&plain(value));
    }
    text
}

/// A line of plain output: without its colours, and with them if it has any.
pub(super) fn output_of(text: &str) -> (String, Option<Box<str>>) {
    let coloured = text.contains("\u{1b}[").then(|| text.trim_end().replace('\t', "    ").into());
    (plain(text), coloured)
}

/// The text on one line, without colours and other control sequences.
fn plain(text: &str) -> String {
    if !text.contains(|c: char| c.is_control()) {
        return text.to_owned();
    }
    let text = strip_ansi_escapes::strip_str(text.trim_end().replace('\t', "    "));
    text.replace('\n', " ⏎ ").chars().filter(|c| !c.is_control()).collect()
}
