//! The git facts of a plugin's source: its commit and branch, and whether files differ from it.

use std::path::Path;

use git2::{ErrorCode, Repository, StatusOptions};
use hotswap_artifact::Source;

/// The state of the work tree that contains `dir`; `None` outside a repository, and in a repository
/// without commits.
///
/// The work tree is dirty if a tracked file differs from the commit, or if there is a file that is
/// neither tracked nor ignored. All of the work tree counts, since a plugin may depend on any file
/// in it.
pub(crate) fn source(dir: &Path) -> Result<Option<Source>, git2::Error> {
    let repository = match Repository::discover(dir) {
        Ok(repository) => repository,
        Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let head = match repository.head() {
        Ok(head) => head,
        Err(error) if matches!(error.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let commit = head.peel_to_commit()?;
    let mut options = StatusOptions::new();
    options.include_untracked(true).include_ignored(false).exclude_submodules(true);
    Ok(Some(Source {
        commit: commit.id().to_string(),
        commit_time: commit.time().seconds(),
        branch: String::from_utf8_lossy(head.shorthand_bytes()).into_owned(),
        dirty: !repository.statuses(Some(&mut options))?.is_empty(),
    }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use git2::{IndexAddOption, RepositoryInitOptions, Signature, Time};
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn outside_a_repository_there_are_no_facts() {
        let dir = TempDir::new().unwrap();
        assert_eq!(source(dir.path()).unwrap(), None);
    }

    #[test]
    fn a_repository_without_commits_has_no_facts() {
        let dir = TempDir::new().unwrap();
        Repository::init(dir.path()).unwrap();
        assert_eq!(source(dir.path()).unwrap(), None);
    }

    #[test]
    fn a_clean_work_tree_is_its_commit() {
        let (dir, commit) = repository();
        let plugin_dir = dir.path().join("plugins/cat");
        fs::create_dir_all(&plugin_dir).unwrap();
        let expected = Source {
            commit,
            commit_time: 1_700_000_000,
            branch: "feature/tails".to_owned(),
            dirty: false,
        };
        assert_eq!(source(&plugin_dir).unwrap(), Some(expected));
    }

    #[test]
    fn changed_and_untracked_files_make_it_dirty_and_ignored_ones_do_not() {
        let (dir, _) = repository();
        let is_dirty = || source(dir.path()).unwrap().unwrap().dirty;
        fs::write(dir.path().join("ignored"), "").unwrap();
        assert!(!is_dirty());
        fs::write(dir.path().join("untracked"), "").unwrap();
        assert!(is_dirty());
        fs::remove_file(dir.path().join("untracked")).unwrap();
        assert!(!is_dirty());
        fs::write(dir.path().join(".gitignore"), "ignored\nmore\n").unwrap();
        assert!(is_dirty());
    }

    #[test]
    fn without_a_branch_the_head_is_named() {
        let (dir, commit) = repository();
        let repository = Repository::open(dir.path()).unwrap();
        repository.set_head_detached(commit.parse().unwrap()).unwrap();
        assert_eq!(source(dir.path()).unwrap().unwrap().branch, "HEAD");
    }

    /// A repository with one commit, which has the file `.gitignore`, and the id of that.
    fn repository() -> (TempDir, String) {
        let dir = TempDir::new().unwrap();
        let mut options = RepositoryInitOptions::new();
        let repository =
            Repository::init_opts(dir.path(), options.initial_head("feature/tails")).unwrap();
        fs::write(dir.path().join(".gitignore"), "ignored\n").unwrap();
        let mut index = repository.index().unwrap();
        index.add_all(["."], IndexAddOption::DEFAULT, None).unwrap();
        index.write().unwrap();
        let tree = repository.find_tree(index.write_tree().unwrap()).unwrap();
        let author =
            Signature::new("Ada", "ada@example.org", &Time::new(1_700_000_000, 0)).unwrap();
        let commit =
            repository.commit(Some("HEAD"), &author, &author, "First", &tree, &[]).unwrap();
        (dir, commit.to_string())
    }
}
