//! The end of a version.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::OpenDescriptor;

/// How a version ended. As text, it is the part of a report after the version's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ending {
    /// It has served, and its image is unmapped.
    Freed(Freed),
    /// It never served, and its image is unmapped or was never mapped. The version's failure says why.
    Failed,
    /// Its image stays mapped.
    Kept(KeepReason),
    /// An end that this program does not know.
    #[serde(other)]
    Other,
}

/// The facts about a version at the moment when it was freed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freed {
    /// How many bytes were unmapped: the size of its file.
    pub unmapped_bytes: u64,
    /// How long after its replacement it was freed, in microseconds.
    pub after_us: u64,
    /// How many bytes that its code allocated are still on the heap. 0 if the host does not count them, or if the
    /// rest is no larger than the rest that every version leaves.
    #[serde(default)]
    pub heap_bytes: u64,
    /// How many bytes that its code had mapped were still mapped, and in memory.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mapped_bytes: u64,
    /// The descriptors that its code had opened and that were still open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub descriptors: Vec<OpenDescriptor>,
}

pub(crate) fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Why an image stays mapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepReason {
    /// What kind of reason it is.
    pub kind: KeepKind,
    /// The function or the static that the reason is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// The shared library that the reason is about, by its file name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub library: Option<String>,
    /// The signal that the reason is about: `SIGWINCH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// The reason in words, with what to do about it.
    pub message: String,
}

/// What kind of reason keeps an image mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KeepKind {
    /// On this platform nothing is unmapped.
    Platform,
    /// The plugin is linked into the host.
    Linked,
    /// The file is broken.
    Broken,
    /// The file is marked so that the loader keeps it.
    NoDelete,
    /// It has a symbol that all images share, as C++ code does.
    UniqueSymbol,
    /// It uses a symbol of a library that it does not declare as needed.
    UnnamedLibrary,
    /// It needs a library that may have pointers into it.
    NeedsLibrary,
    /// It opened a library that may have pointers into it.
    OpenedLibrary,
    /// It opened itself once more.
    OpenedItself,
    /// It looked up a symbol in a library that may have pointers into it.
    FoundSymbol,
    /// It uses a function of libc that may keep a pointer into it unseen by the hooks.
    UnseenFunction,
    /// It gave libc memory of its own to keep.
    GaveMemory,
    /// A signal handler of the image is installed.
    HandlesSignal,
    /// Its signal handler was replaced by another one, which may still call it.
    ChainedSignal,
    /// The system's loader did not unmap it.
    Loader,
    /// A reason that this program does not know.
    #[serde(other)]
    Other,
}

impl KeepReason {
    /// A reason that is not about a symbol, a library or a signal.
    pub fn new(kind: KeepKind, message: impl Into<String>) -> Self {
        Self { kind, symbol: None, library: None, signal: None, message: message.into() }
    }

    /// Adds the symbol that the reason is about.
    #[must_use]
    pub fn symbol(self, symbol: impl Into<String>) -> Self {
        Self { symbol: Some(symbol.into()), ..self }
    }

    /// Adds the library that the reason is about.
    #[must_use]
    pub fn library(self, library: impl Into<String>) -> Self {
        Self { library: Some(library.into()), ..self }
    }

    /// Adds the signal that the reason is about.
    #[must_use]
    pub fn signal(self, signal: impl Into<String>) -> Self {
        Self { signal: Some(signal.into()), ..self }
    }
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Freed(freed) => freed.fmt(f),
            Self::Kept(why) => why.fmt(f),
            Self::Failed | Self::Other => Ok(()),
        }
    }
}

/// How many descriptors are named in words.
const NAMED: usize = 3;

impl fmt::Display for Freed {
    /// `4.3 MiB unmapped after 12 ms, 1 KiB left on the heap, left 1 descriptor: tcp 127.0.0.1:4567`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = duration_text(Duration::from_micros(self.after_us));
        write!(f, "{} unmapped after {after}", size_text(self.unmapped_bytes))?;
        if self.heap_bytes > 0 {
            write!(f, ", {} left on the heap", size_text(self.heap_bytes))?;
        }
        if self.mapped_bytes > 0 {
            write!(f, ", {} left mapped", size_text(self.mapped_bytes))?;
        }
        let count = self.descriptors.len();
        if count == 0 {
            return Ok(());
        }
        let descriptors = if count == 1 { "descriptor" } else { "descriptors" };
        let mut named: Vec<_> =
            self.descriptors.iter().take(NAMED).map(ToString::to_string).collect();
        if count > NAMED {
            named.push("…".to_owned());
        }
        write!(f, ", left {count} {descriptors}: {}", named.join(", "))
    }
}

/// A size in the form `4.3 MiB`.
fn size_text(bytes: u64) -> String {
    const KIB: f64 = 1024.0;
    let bytes = bytes as f64;
    if bytes < KIB {
        format!("{bytes} bytes")
    } else if bytes < KIB * KIB {
        format!("{:.0} KiB", bytes / KIB)
    } else {
        format!("{:.1} MiB", bytes / KIB / KIB)
    }
}

/// A duration in the form `12 ms` or `3.4 s`.
pub(crate) fn duration_text(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms < 1000 { format!("{ms} ms") } else { format!("{:.1} s", duration.as_secs_f64()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_version_is_data_and_words() {
        let socket =
            OpenDescriptor { number: 9, kind: "tcp".into(), name: "127.0.0.1:4567".into() };
        let freed = |heap_bytes, open: usize| {
            let descriptors = vec![socket.clone(); open];
            let (unmapped_bytes, after_us) = (4_508_876, 12_000);
            let mapped_bytes = heap_bytes * 2;
            Ending::Freed(Freed { unmapped_bytes, after_us, heap_bytes, mapped_bytes, descriptors })
        };
        assert_eq!(freed(0, 0).to_string(), "4.3 MiB unmapped after 12 ms");
        let left = "4.3 MiB unmapped after 12 ms, 1 KiB left on the heap, 2 KiB left mapped, left 1 descriptor: tcp 127.0.0.1:4567";
        assert_eq!(freed(1024, 1).to_string(), left);
        assert!(freed(0, 4).to_string().ends_with("127.0.0.1:4567, …"), "{}", freed(0, 4));
        let kept = KeepReason::new(KeepKind::NeedsLibrary, "it needs libz.so").library("libz.so");
        let kept = Ending::Kept(kept);
        assert_eq!(kept.to_string(), "it needs libz.so");
        let json = r#"{"how":"kept","kind":"needs_library","library":"libz.so","message":"it needs libz.so"}"#;
        assert_eq!(serde_json::to_string(&kept).unwrap(), json);
        for ending in [kept, freed(1024, 2), Ending::Failed] {
            let json = serde_json::to_value(&ending).unwrap();
            assert_eq!(serde_json::from_value::<Ending>(json).unwrap(), ending);
        }
    }

    #[test]
    fn an_end_and_a_reason_of_a_newer_host_are_read_as_others() {
        let newer = r#"{"how":"suspended","until":"noon"}"#;
        assert_eq!(serde_json::from_str::<Ending>(newer).unwrap(), Ending::Other);
        let newer = r#"{"kind":"gpu","message":"the device has it"}"#;
        let reason: KeepReason = serde_json::from_str(newer).unwrap();
        assert_eq!((reason.kind, reason.message.as_str()), (KeepKind::Other, "the device has it"));
    }
}
