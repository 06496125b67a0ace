//! Keeps outlines of the sources from which units were compiled, so that the next build can tell what
//! changed.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::record::Compiled;
use crate::atomic_file;
use crate::outline::{ChangedItem, ItemChange, Outline, SourceChanges};

/// The file of the outlines, beside the record.
const OUTLINES: &str = "outlines.json";
/// The version of the format. Outlines of another version count as missing.
const FORM: u32 = 4;
/// A file larger than this has no outline, because a program has generated it.
const MOST_BYTES: u64 = 2 << 20;

/// Outlines by the hash of the file; `None` for a file that is not Rust.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Outlines {
    form: u32,
    files: BTreeMap<String, Option<Outline>>,
    /// Files that were read, and whose outlines are not made yet, by the hash.
    #[serde(skip)]
    sources: BTreeMap<String, Source>,
    /// Whether they differ from those in the file.
    #[serde(skip)]
    is_changed: bool,
}

/// A file that was read.
#[derive(Debug)]
struct Source {
    is_rust: bool,
    bytes: Vec<u8>,
}

impl Source {
    /// `None` for a file that is not Rust.
    fn outline(&self) -> Option<Outline> {
        let text = std::str::from_utf8(&self.bytes).ok().filter(|_| self.is_rust);
        text.and_then(Outline::of)
    }
}

impl Outlines {
    /// Reads the outlines of the record in `dir`; empty if they cannot be read.
    pub(super) fn load(dir: &Path) -> Self {
        let outlines = fs::read(dir.join(OUTLINES)).ok();
        let outlines = outlines.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        outlines.filter(|outlines| outlines.form == FORM).unwrap_or_default()
    }

    /// Writes them, if they have changed.
    pub(super) fn save(&mut self, dir: &Path) -> io::Result<()> {
        if !self.is_changed {
            return Ok(());
        }
        self.form = FORM;
        atomic_file::write(&dir.join(OUTLINES), &serde_json::to_vec(self)?)?;
        self.is_changed = false;
        Ok(())
    }

    /// Adds the file at `path`, if it still has the content with this `hash`.
    pub(super) fn add(&mut self, path: &Path, hash: &str) {
        self.read(path, hash);
        self.finish();
    }

    /// Reads the file at `path`, if it still has the content with this `hash`. Its outline is made when it is needed.
    pub(super) fn read(&mut self, path: &Path, hash: &str) {
        if self.files.contains_key(hash) || self.sources.contains_key(hash) {
            return;
        }
        let is_small = fs::metadata(path).is_ok_and(|it| it.len() <= MOST_BYTES);
        let Some(bytes) = fs::read(path).ok().filter(|_| is_small) else { return };
        if blake3::hash(&bytes).to_string() == hash {
            self.sources.insert(hash.to_owned(), Source { is_rust: is_rust(path), bytes });
        }
    }

    /// Makes the outlines of all files that were read.
    pub(super) fn finish(&mut self) {
        for (hash, source) in std::mem::take(&mut self.sources) {
            self.files.insert(hash, source.outline());
            self.is_changed = true;
        }
    }

    /// The outline of the file with this `hash`, which is `None` for a file that is not Rust; `None` if the file is not
    /// known.
    fn get(&self, hash: &str) -> Option<Cow<'_, Option<Outline>>> {
        let made = self.files.get(hash).map(Cow::Borrowed);
        made.or_else(|| self.sources.get(hash).map(|source| Cow::Owned(source.outline())))
    }

    /// Removes all outlines except those with these hashes.
    pub(super) fn retain(&mut self, hashes: &BTreeSet<&str>) {
        self.files.retain(|hash, _| hashes.contains(hash.as_str()));
    }

    /// The changes in the sources of a unit; `None` if they are not known.
    pub(super) fn changes(&self, before: &Compiled, now: &Compiled) -> Option<SourceChanges> {
        let (then, files) = (hashes_of(before)?, hashes_of(now)?);
        if before.env != now.env {
            return None;
        }
        let mut changes = SourceChanges::default();
        let paths: BTreeSet<_> = then.keys().chain(files.keys()).collect();
        for path in paths {
            let change = match (then.get(path), files.get(path)) {
                (Some(then), Some(now)) if then == now => continue,
                (Some(then), Some(now)) => {
                    let (then, now) = (self.get(then)?, self.get(now)?);
                    if let (Some(then), Some(now)) = (&*then, &*now) {
                        changes.add(then.changes_to(now, path));
                        continue;
                    }
                    ItemChange::Changed
                }
                (None, _) => ItemChange::Added,
                (_, None) => ItemChange::Removed,
            };
            changes.items.push(ChangedItem { item: None, file: path.to_path_buf(), change });
        }
        Some(changes)
    }
}

/// The hashes of the sources from which a unit was compiled; `None` if it was not compiled, or if a hash is
/// not known.
fn hashes_of(compiled: &Compiled) -> Option<BTreeMap<&PathBuf, &str>> {
    let hash = |input: &super::Input| !input.is_absent() && input.hash().is_none();
    if compiled.outputs.is_empty() || compiled.inputs.iter().any(hash) {
        return None;
    }
    let known = compiled.inputs.iter().filter_map(|it| Some((&it.path, it.hash()?)));
    Some(known.collect())
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}
