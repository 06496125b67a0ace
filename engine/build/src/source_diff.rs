//! Compares the sources of a plugin between two commits, or between a commit and the work tree.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use git2::{
    Delta, Diff, DiffDelta, DiffFormat, DiffLineType, DiffOptions, ErrorCode, Repository, Tree,
};

use crate::BuildError;

/// The largest number of lines in a difference; further lines are only counted.
const MAX_LINES: usize = 4_000;
/// The largest number of characters in a line; the rest is cut off.
const MAX_LINE: usize = 2_000;

/// How the sources in some directories differ between an older and a newer side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceDiff {
    /// How many files differ.
    pub files: usize,
    /// How many lines only the newer side has.
    pub insertions: usize,
    /// How many lines only the older side has.
    pub deletions: usize,
    /// The difference, file by file: the first 4,000 lines.
    pub lines: Vec<SourceLine>,
    /// How many further lines the difference has.
    pub omitted: usize,
}

/// A line of a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLine {
    /// What kind of line it is.
    pub kind: SourceLineKind,
    /// Its text, without a leading `+` or `-` and without its line break; at most 2,000 characters.
    pub text: String,
    /// The file and the line number on the newer side, counted from 1; `None` for a line that the newer side
    /// does not have, and for a [`Place`](SourceLineKind::Place).
    pub place: Option<(PathBuf, u32)>,
}

/// The kind of a [`SourceLine`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceLineKind {
    /// The path of a file, before its lines: `src/lib.rs`, `src/old.rs, removed`.
    File,
    /// The position of the lines that follow: `@@ -1,4 +1,5 @@`.
    Place,
    /// A line of both sides, shown for context.
    Context,
    /// A line of the newer side only.
    Added,
    /// A line of the older side only.
    Removed,
}

/// Compares the sources in `dirs` between the commits `from` and `to`; `None` for `to` means the work
/// tree. Files that git ignores are left out.
///
/// A commit is named as for git: by its id, a branch or a tag, also `HEAD~2`. The repository is that of
/// the first directory; directories outside of it are left out.
///
/// ```no_run
/// use hotswap_build::{PluginPackage, source_diff};
///
/// # fn main() -> Result<(), hotswap_build::BuildError> {
/// let plugin = PluginPackage::open("sample-plugins/world".as_ref())?;
/// let edits = source_diff(&plugin.source_dirs, "HEAD", None)?;
/// println!("{} files, {} new lines", edits.files, edits.insertions);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Setup`](crate::BuildErrorKind::Setup) if the first directory is not in a repository, or if that
/// does not have one of the commits.
pub fn source_diff(
    dirs: &[PathBuf],
    from: &str,
    to: Option<&str>,
) -> Result<SourceDiff, BuildError> {
    let Some(first) = dirs.first() else { return Ok(SourceDiff::default()) };
    let refuse = |error: git2::Error| {
        let (dir, reason) = (first.display(), error.message());
        BuildError::setup(format!("cannot compare the sources in {dir}: {reason}")).because(error)
    };
    let repository = Repository::discover(first).map_err(refuse)?;
    let from = tree(&repository, from)?;
    let to = to.map(|to| tree(&repository, to)).transpose()?;
    let mut options = DiffOptions::new();
    options.include_untracked(true).recurse_untracked_dirs(true).show_untracked_content(true);
    options.ignore_submodules(true).disable_pathspec_match(true);
    for path in dirs.iter().filter_map(|dir| in_repository(&repository, dir)) {
        options.pathspec(path);
    }
    let diff = match &to {
        Some(to) => repository.diff_tree_to_tree(Some(&from), Some(to), Some(&mut options)),
        None => repository.diff_tree_to_workdir_with_index(Some(&from), Some(&mut options)),
    };
    let root = repository.workdir().unwrap_or(first);
    read(&diff.map_err(refuse)?, root).map_err(refuse)
}

fn tree<'a>(repository: &'a Repository, commit: &str) -> Result<Tree<'a>, BuildError> {
    let found = repository.revparse_single(commit).and_then(|object| object.peel_to_tree());
    found.map_err(|error| {
        let why = match error.code() {
            ErrorCode::NotFound => "it is not in this repository; was it rewritten?",
            _ => error.message(),
        };
        BuildError::setup(format!("commit {commit}: {why}")).because(error)
    })
}

/// The path of `dir` relative to the root of the work tree; `None` for the root itself, and for a directory
/// outside it.
fn in_repository(repository: &Repository, dir: &Path) -> Option<PathBuf> {
    let root = repository.workdir()?.canonicalize().ok()?;
    let dir = dir.canonicalize().ok()?;
    let path = dir.strip_prefix(root).ok()?.to_owned();
    // For the whole work tree, git expects no path, instead of an empty one.
    (!path.as_os_str().is_empty()).then_some(path)
}

fn read(diff: &Diff<'_>, root: &Path) -> Result<SourceDiff, git2::Error> {
    let stats = diff.stats()?;
    let result = RefCell::new(SourceDiff {
        files: stats.files_changed(),
        insertions: stats.insertions(),
        deletions: stats.deletions(),
        ..SourceDiff::default()
    });
    diff.print(DiffFormat::Patch, |delta, _, line| {
        let text = String::from_utf8_lossy(line.content());
        let (kind, text) = match line.origin_value() {
            DiffLineType::FileHeader => (SourceLineKind::File, file(&delta)),
            DiffLineType::HunkHeader => (SourceLineKind::Place, text.into_owned()),
            DiffLineType::Context => (SourceLineKind::Context, text.into_owned()),
            DiffLineType::Addition => (SourceLineKind::Added, text.into_owned()),
            DiffLineType::Deletion => (SourceLineKind::Removed, text.into_owned()),
            DiffLineType::Binary => (SourceLineKind::Context, "binary file".to_owned()),
            _ => return true,
        };
        let mut result = result.borrow_mut();
        if result.lines.len() < MAX_LINES {
            let text = text.trim_end().chars().take(MAX_LINE).collect();
            let place = place(root, &delta, kind, line.new_lineno());
            result.lines.push(SourceLine { kind, text, place });
        } else {
            result.omitted += 1;
        }
        true
    })?;
    Ok(result.into_inner())
}

/// The file and line number of a line on the newer side; for a file's path, its first line.
fn place(
    root: &Path,
    delta: &DiffDelta<'_>,
    kind: SourceLineKind,
    row: Option<u32>,
) -> Option<(PathBuf, u32)> {
    let row = match kind {
        SourceLineKind::File if delta.status() != Delta::Deleted => 1,
        SourceLineKind::Context | SourceLineKind::Added => row?,
        _ => return None,
    };
    Some((root.join(delta.new_file().path()?), row))
}

/// The text of a [`SourceLineKind::File`].
fn file(delta: &DiffDelta<'_>) -> String {
    let path = |file: git2::DiffFile<'_>| {
        file.path().map(|path| path.display().to_string()).unwrap_or_default()
    };
    let what = match delta.status() {
        Delta::Added | Delta::Untracked => ", new",
        Delta::Deleted => ", removed",
        _ => "",
    };
    match delta.status() {
        Delta::Deleted => path(delta.old_file()) + what,
        _ => path(delta.new_file()) + what,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use git2::{IndexAddOption, Signature};
    use tempfile::TempDir;

    use super::*;

    struct Work {
        dir: TempDir,
        repository: Repository,
    }

    impl Work {
        fn new() -> Self {
            let dir = TempDir::new().unwrap();
            let repository = Repository::init(dir.path()).unwrap();
            Self { dir, repository }
        }

        fn write(&self, file: &str, text: &str) {
            let path = self.dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn commit(&self) -> String {
            let mut index = self.repository.index().unwrap();
            index.add_all(["."], IndexAddOption::DEFAULT, None).unwrap();
            index.write().unwrap();
            let tree = self.repository.find_tree(index.write_tree().unwrap()).unwrap();
            let author = Signature::now("Ada", "ada@example.org").unwrap();
            let parent = self.repository.head().ok().and_then(|head| head.peel_to_commit().ok());
            let parents: Vec<_> = parent.iter().collect();
            let commit =
                self.repository.commit(Some("HEAD"), &author, &author, "-", &tree, &parents);
            commit.unwrap().to_string()
        }

        fn diff(&self, dir: &str, from: &str, to: Option<&str>) -> SourceDiff {
            source_diff(&[self.dir.path().join(dir)], from, to).unwrap()
        }
    }

    fn in_words(diff: &SourceDiff) -> Vec<String> {
        let sign = |kind| match kind {
            SourceLineKind::File => "file ",
            SourceLineKind::Place => "@ ",
            SourceLineKind::Context => " ",
            SourceLineKind::Added => "+",
            SourceLineKind::Removed => "-",
        };
        let lines = diff.lines.iter().filter(|line| line.kind != SourceLineKind::Place);
        lines.map(|line| format!("{}{}", sign(line.kind), line.text)).collect()
    }

    #[test]
    fn edited_added_and_removed_files_of_the_directory_are_in_the_difference() {
        let work = Work::new();
        work.write(".gitignore", "target\n");
        work.write("cat/src/lib.rs", "one\ntwo\n");
        work.write("cat/src/old.rs", "old\n");
        work.write("dog/src/lib.rs", "dog\n");
        let commit = work.commit();
        assert_eq!(work.diff("cat", &commit, None), SourceDiff::default());

        work.write("cat/src/lib.rs", "one\nthree\n");
        work.write("cat/src/new.rs", "new\n");
        work.write("cat/target/debug", "built\n");
        work.write("dog/src/lib.rs", "another dog\n");
        fs::remove_file(work.dir.path().join("cat/src/old.rs")).unwrap();
        let diff = work.diff("cat", &commit, None);
        assert_eq!((diff.files, diff.insertions, diff.deletions), (3, 2, 2));
        let lines = [
            "file cat/src/lib.rs",
            " one",
            "-two",
            "+three",
            "file cat/src/new.rs, new",
            "+new",
            "file cat/src/old.rs, removed",
            "-old",
        ];
        assert_eq!(in_words(&diff), lines);
        let place =
            |text: &str| diff.lines.iter().find(|it| it.text == text).unwrap().place.clone();
        let root = work.dir.path().canonicalize().unwrap();
        assert_eq!(place("three"), Some((root.join("cat/src/lib.rs"), 2)));
        assert_eq!(place("cat/src/new.rs, new"), Some((root.join("cat/src/new.rs"), 1)));
        assert_eq!((place("two"), place("cat/src/old.rs, removed")), (None, None));
    }

    #[test]
    fn two_commits_are_compared_whatever_the_work_tree_is() {
        let work = Work::new();
        work.write("lib.rs", "one\n");
        let first = work.commit();
        work.write("lib.rs", "two\n");
        let second = work.commit();
        work.write("lib.rs", "three\n");
        let diff = work.diff(".", &first, Some(&second));
        assert_eq!(in_words(&diff), ["file lib.rs", "-one", "+two"]);
        assert_eq!(
            in_words(&work.diff(".", &second, Some(&first))),
            ["file lib.rs", "-two", "+one"]
        );
    }

    #[test]
    fn a_comparison_that_fails_says_why() {
        let work = Work::new();
        work.write("lib.rs", "one\n");
        work.commit();
        let gone = "b135eab0c0ffee00000000000000000000000000";
        let error = source_diff(&[work.dir.path().to_owned()], gone, None).unwrap_err();
        assert!(error.to_string().contains("was it rewritten?"), "{error}");
        let outside = TempDir::new().unwrap();
        let error = source_diff(&[outside.path().to_owned()], gone, None).unwrap_err();
        assert!(error.to_string().contains(outside.path().to_str().unwrap()), "{error}");
    }

    #[test]
    fn a_huge_difference_is_cut_and_the_rest_counted() {
        let work = Work::new();
        work.write("lib.rs", "");
        let commit = work.commit();
        work.write("lib.rs", &"line\n".repeat(MAX_LINES));
        let diff = work.diff(".", &commit, None);
        assert_eq!((diff.lines.len(), diff.omitted), (MAX_LINES, 2));
    }
}
