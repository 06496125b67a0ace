//! The files besides Rust sources from which a plugin is built.

use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::Package;
use regex::RegexSet;
use serde::Deserialize;
use walkdir::{DirEntry, WalkDir};

use crate::BuildError;

/// Which files in a plugin's package count as its sources, besides Rust sources. A [`Watcher`] reports when
/// they change, and their content is part of the build id.
///
/// A plugin names them in its manifest; flags of `hotswap build` add more. Each entry is a [regular
/// expression](regex). It matches if it is found in a file's path relative to the package, such as
/// `assets/texts/de.txt`.
///
/// ```toml
/// [package.metadata.hotswap]
/// include = ["^assets/"]
/// exclude = ["\\.bak$"]
/// ```
///
/// ```no_run
/// use hotswap_build::PluginPackage;
///
/// # fn main() -> Result<(), hotswap_build::BuildError> {
/// let mut plugin = PluginPackage::open("sample-plugins/world".as_ref())?;
/// plugin.included = plugin.included.and(&["^texts/".to_owned()], &["~$".to_owned()])?;
/// # Ok(())
/// # }
/// ```
///
/// [`Watcher`]: crate::Watcher
#[derive(Clone, Debug, Default)]
pub struct IncludedFiles {
    include: RegexSet,
    exclude: RegexSet,
}

impl PartialEq for IncludedFiles {
    fn eq(&self, other: &Self) -> bool {
        let patterns = |it: &Self| [it.include.patterns().to_vec(), it.exclude.patterns().to_vec()];
        patterns(self) == patterns(other)
    }
}

impl Eq for IncludedFiles {}

#[derive(Default, Deserialize)]
struct Table {
    #[serde(default)]
    include: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
}

impl IncludedFiles {
    /// The files whose path matches one expression of `include` and none of `exclude`.
    ///
    /// # Errors
    /// [`Setup`](crate::BuildErrorKind::Setup) if one is not a regular expression; the text names it.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, BuildError> {
        let set = |expressions: &[String]| {
            RegexSet::new(expressions).map_err(|error| {
                BuildError::setup(format!("an expression for included files is invalid: {error}"))
                    .because(error)
            })
        };
        Ok(Self { include: set(include)?, exclude: set(exclude)? })
    }

    /// # Errors
    /// As for [`new`](Self::new).
    pub fn and(&self, include: &[String], exclude: &[String]) -> Result<Self, BuildError> {
        let both = |own: &RegexSet, more: &[String]| [own.patterns(), more].concat();
        Self::new(&both(&self.include, include), &both(&self.exclude, exclude))
    }

    pub(crate) fn of(package: &Package) -> Result<Self, BuildError> {
        let Some(table) = package.metadata.get("hotswap") else { return Ok(Self::default()) };
        let manifest = &package.manifest_path;
        let table = Table::deserialize(table).map_err(|error| {
            BuildError::setup(format!("{manifest}: [package.metadata.hotswap]: {error}"))
                .because(error)
        })?;
        Self::new(&table.include, &table.exclude)
            .map_err(|error| BuildError::setup(format!("{manifest}: {error}")).because(error))
    }

    /// Whether `file` is included; its path is relative to the package.
    pub(crate) fn has(&self, file: &Path) -> bool {
        let text = file.to_string_lossy();
        self.include.is_match(&text) && !self.exclude.is_match(&text)
    }

    /// A hash of the names and contents of the included files; `None` if there is no expression to
    /// include any.
    pub(crate) fn hash(&self, package_dir: &Path) -> Option<String> {
        if self.include.is_empty() {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        for file in self.files(package_dir) {
            hasher.update(file.as_os_str().as_encoded_bytes());
            // A file that was removed just now counts as empty; the watcher reports its removal.
            let content = fs::read(package_dir.join(&file)).unwrap_or_default();
            hasher.update(blake3::hash(&content).as_bytes());
        }
        Some(hasher.finalize().to_hex()[..32].to_owned())
    }

    /// The included files, sorted, with paths relative to the package.
    pub(crate) fn files(&self, package_dir: &Path) -> Vec<PathBuf> {
        // A link to a directory around it is an error, which is skipped.
        let entries = WalkDir::new(package_dir).follow_links(true).into_iter();
        let entries = entries.filter_entry(is_entered).flatten();
        let files = entries.filter(|entry| entry.path().is_file());
        let files =
            files.filter_map(|entry| Some(entry.path().strip_prefix(package_dir).ok()?.to_owned()));
        let mut files: Vec<PathBuf> = files.filter(|file| self.has(file)).collect();
        files.sort_unstable();
        files
    }
}

/// Whether a directory is searched: the package's own directory, and all directories in it that are not
/// hidden, not those of cargo, and not other packages.
fn is_entered(entry: &DirEntry) -> bool {
    let dir = entry.path();
    let is_hidden = || entry.file_name().as_encoded_bytes().starts_with(b".");
    let is_foreign = || dir.join("CACHEDIR.TAG").exists() || dir.join("Cargo.toml").exists();
    entry.depth() == 0 || !entry.file_type().is_dir() || !(is_hidden() || is_foreign())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn excluded_files_are_not_included() {
        let files = IncludedFiles::new(&texts(&["^assets/"]), &texts(&["secret"])).unwrap();
        assert!(files.has(Path::new("assets/deep/text")));
        assert!(
            !files.has(Path::new("assets/secret")) && !files.has(Path::new("more/assets/text"))
        );
        let more = files.and(&texts(&["^more/"]), &[]).unwrap();
        assert!(more.has(Path::new("more/assets/text")) && !more.has(Path::new("assets/secret")));
        assert!(!IncludedFiles::default().has(Path::new("text")));
    }

    #[test]
    fn a_wrong_expression_is_named() {
        let error = IncludedFiles::new(&texts(&["(assets"]), &[]).unwrap_err().to_string();
        assert!(error.contains("(assets"), "{error}");
    }

    #[test]
    fn the_hash_follows_names_and_contents() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let files = IncludedFiles::new(&texts(&["txt$"]), &[]).unwrap();
        let mut hashes = vec![files.hash(dir.path()).unwrap()];
        write("a.txt", "one");
        hashes.push(files.hash(dir.path()).unwrap());
        write("a.txt", "two");
        hashes.push(files.hash(dir.path()).unwrap());
        fs::rename(dir.path().join("a.txt"), dir.path().join("b.txt")).unwrap();
        hashes.push(files.hash(dir.path()).unwrap());
        write("other", "");
        assert_eq!(files.hash(dir.path()).as_ref(), hashes.last());
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 4);
        assert_eq!(IncludedFiles::default().hash(dir.path()), None);
    }
}
