//! A draft of the files, which is shown and checked as a whole before the first file is written.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use similar::TextDiff;

use super::refuse;
use crate::failure::Failure;

/// New files, and changes of existing files.
pub(super) struct Draft {
    root: PathBuf,
    /// The absolute path and the text of each file.
    new: Vec<(PathBuf, String)>,
    changed: Vec<Change>,
}

struct Change {
    path: PathBuf,
    before: String,
    after: String,
}

impl Draft {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), new: Vec::new(), changed: Vec::new() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Adds a file; a relative path is relative to the root.
    pub fn add(&mut self, path: impl AsRef<Path>, text: String) {
        self.new.push((self.root.join(path), text));
    }

    /// Changes an existing file; a second change continues from the first.
    pub fn change(
        &mut self,
        path: &Path,
        edit: impl FnOnce(&str) -> Result<String, Failure>,
    ) -> Result<(), Failure> {
        if let Some(change) = self.changed.iter_mut().find(|change| change.path == path) {
            change.after = with_line_ends_of(&change.before, edit(&change.after)?);
            return Ok(());
        }
        let before = fs::read_to_string(path).map_err(|error| failed("read", path, &error))?;
        let after = with_line_ends_of(&before, edit(&before)?);
        if before != after {
            self.changed.push(Change { path: path.to_owned(), before, after });
        }
        Ok(())
    }

    /// Fails if a new file exists already, or if its directory cannot be made.
    pub fn expect_free(&self) -> Result<(), Failure> {
        let taken: Vec<_> =
            self.new.iter().map(|(path, _)| path).filter(|it| is_taken(it)).collect();
        if taken.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = taken.iter().map(|path| path.display().to_string()).collect();
        Err(refuse(format!(
            "these files exist already, and nothing is overwritten: {}; remove them, or choose another name",
            names.join(", ")
        )))
    }

    /// The draft as text: the new files, and the changes of the others.
    pub fn shown(&self) -> String {
        let mut text = String::new();
        for path in self.new_files() {
            let _ = writeln!(text, "new      {}", self.root.join(path).display());
        }
        for change in &self.changed {
            let _ = writeln!(text, "changed  {}", change.path.display());
            let diff = TextDiff::from_lines(&change.before, &change.after);
            let _ = write!(text, "{}", diff.unified_diff().context_radius(2));
        }
        text
    }

    pub fn new_files(&self) -> Vec<PathBuf> {
        self.new.iter().map(|(path, _)| self.relative(path)).collect()
    }

    pub fn changed_files(&self) -> Vec<PathBuf> {
        self.changed.iter().map(|change| self.relative(&change.path)).collect()
    }

    /// Writes the new files first. If that fails, no existing file was changed.
    pub fn write(&self) -> Result<(), Failure> {
        for (path, text) in &self.new {
            write_new(path, text).map_err(|error| failed("write", path, &error))?;
        }
        for Change { path, after, .. } in &self.changed {
            fs::write(path, after).map_err(|error| failed("write", path, &error))?;
        }
        Ok(())
    }

    fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).unwrap_or(path).to_owned()
    }
}

/// Gives `text` the line ends of a file: an editor that writes `\r\n` writes them everywhere.
fn with_line_ends_of(file: &str, text: String) -> String {
    match file.contains("\r\n") {
        true => text.replace("\r\n", "\n").replace('\n', "\r\n"),
        false => text,
    }
}

/// Whether a path exists, including a broken link.
fn is_taken(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
    refuse(format!("cannot {what} {}: {error}", path.display()))
}
