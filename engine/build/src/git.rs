//! The git facts of a plugin's source: its commit and branch, and whether files differ from it.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use git2::{ErrorCode, Repository, StatusOptions};
use hotswap_artifact::Source;
use parking_lot::Mutex;

/// How long a build waits for git after it has compiled.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it waits after git once took too long, since somebody waits for each build.
const LITTLE_PATIENCE: Duration = Duration::from_millis(100);
/// Whether git once took longer than a build waits for it.
static IS_SLOW: AtomicBool = AtomicBool::new(false);
/// The query of git that took too long, while it still runs. No other query is started meanwhile.
static STILL_RUNNING: Mutex<Weak<()>> = Mutex::new(Weak::new());

/// The running query for the state of work trees.
pub(crate) struct Query {
    answer: Receiver<Sources>,
    count: usize,
    /// Alive as long as the query runs.
    running: Weak<()>,
}

/// The state of the work tree of each directory.
///
/// # Errors
/// The text says why the state is not known.
pub(crate) type Sources = Vec<Result<Option<Source>, String>>;

/// Begins to query the state of the work trees that contain these directories.
pub(crate) fn query(dirs: Vec<PathBuf>) -> Query {
    let (sender, answer) = channel();
    let count = dirs.len();
    let here = Arc::new(());
    let running = Arc::downgrade(&here);
    if STILL_RUNNING.lock().strong_count() == 0 {
        // If the build has given up waiting, nobody receives the result.
        let run = move || {
            drop(sender.send(sources(&dirs)));
            drop(here);
        };
        // If the thread cannot be started there is no result, which `wait` reports.
        let _ = thread::Builder::new().name("hotswap git".to_owned()).spawn(run);
    }
    Query { answer, count, running }
}

impl Query {
    /// Waits for the result, for at most [`PATIENCE`], since the state of a large work tree may take long.
    pub(crate) fn wait(self) -> Sources {
        let is_slow = IS_SLOW.load(Relaxed);
        let patience = if is_slow { LITTLE_PATIENCE } else { PATIENCE };
        self.answer.recv_timeout(patience).unwrap_or_else(|_| {
            IS_SLOW.store(true, Relaxed);
            if self.running.strong_count() > 0 {
                *STILL_RUNNING.lock() = self.running;
            }
            vec![Err("git takes too long".to_owned()); self.count]
        })
    }
}

/// Notes that a reason is reported. Returns whether this is the first time: each save begins a build, which should
/// not repeat the reason.
pub(crate) fn is_first_report(plugin: &str, reason: &str) -> bool {
    static REPORTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    REPORTED.lock().insert(format!("{plugin}: {reason}"))
}

/// The state of the work trees that contain these directories, in the same order. Each work tree is queried
/// once.
fn sources(dirs: &[PathBuf]) -> Sources {
    let mut known: HashMap<PathBuf, Result<Option<Source>, String>> = HashMap::new();
    let of_dir = |dir: &PathBuf| match Repository::discover(dir) {
        Ok(repository) => {
            let state = || state(&repository).map_err(|error| in_words(&error));
            known.entry(repository.path().to_owned()).or_insert_with(state).clone()
        }
        Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
        Err(error) => Err(in_words(&error)),
    };
    dirs.iter().map(of_dir).collect()
}

fn in_words(error: &git2::Error) -> String {
    let message = error.message();
    match error.code() {
        ErrorCode::Owner => format!(
            "{message}; if you trust its owner, run \
             `git config --global --add safe.directory PATH`"
        ),
        _ => message.to_owned(),
    }
}

/// The state of a work tree; `None` in a repository without commits.
///
/// The work tree is dirty if a tracked file differs from the commit, or if there is a file that is neither
/// tracked nor ignored. The whole work tree counts, since a plugin may depend on any file in it.
fn state(repository: &Repository) -> Result<Option<Source>, git2::Error> {
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
    use std::ffi::CString;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    use git2::{IndexAddOption, RepositoryInitOptions, Signature, Time};
    use tempfile::TempDir;

    use super::*;

    fn source(dir: &Path) -> Result<Option<Source>, String> {
        sources(&[dir.to_owned()]).remove(0)
    }

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
    fn each_plugin_has_the_facts_of_the_repository_that_it_lies_in() {
        let (host, _) = repository();
        let (elsewhere, _) = repository();
        let beside = host.path().join("plugins/cat");
        let inside = host.path().join("ignored/dog");
        for dir in [&beside, &inside] {
            fs::create_dir_all(dir).unwrap();
        }
        Repository::init(&inside).unwrap();
        fs::write(elsewhere.path().join("untracked"), "").unwrap();
        let dirs = [beside, inside, elsewhere.path().to_owned()];
        let is_dirty = |source: Result<Option<Source>, String>| source.unwrap().map(|it| it.dirty);
        let found: Vec<_> = sources(&dirs).into_iter().map(is_dirty).collect();
        assert_eq!(found, [Some(false), None, Some(true)]);
    }

    #[test]
    fn a_slow_query_of_git_continues_and_no_second_one_starts() {
        let (dir, commit) = repository();
        let config = dir.path().join(".git/config");
        let contents = fs::read(&config).unwrap();
        fs::remove_file(&config).unwrap();
        let path = CString::new(config.as_os_str().as_bytes()).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
        let start = || query(vec![dir.path().to_owned()]);
        // The reader waits until somebody opens the pipe for writing. A second query would wait as well.
        let first = start();
        assert_eq!(first.wait(), [Err("git takes too long".to_owned())]);
        assert_eq!(start().wait(), [Err("git takes too long".to_owned())]);
        let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = threads.filter_map(|it| fs::read_to_string(it.path().join("comm")).ok());
        assert_eq!(names.filter(|name| name.trim() == "hotswap git").count(), 1);
        drop(fs::File::options().write(true).open(&config).unwrap());
        fs::remove_file(&config).unwrap();
        fs::write(&config, contents).unwrap();
        while STILL_RUNNING.lock().strong_count() > 0 {
            thread::yield_now();
        }
        let found = start().answer.recv().unwrap().remove(0).unwrap().unwrap();
        assert_eq!(found.commit, commit);
    }

    #[test]
    fn the_error_for_a_foreign_owner_says_what_to_do() {
        let (dir, _) = repository();
        let nobody = Some(65534);
        // Only root may do this.
        if std::os::unix::fs::chown(dir.path(), nobody, nobody).is_err() {
            return;
        }
        let _ = std::os::unix::fs::chown(dir.path().join(".git"), nobody, nobody);
        let reason = source(dir.path()).unwrap_err();
        assert!(reason.contains("safe.directory"), "{reason}");
    }

    #[test]
    fn without_a_branch_the_head_is_named() {
        let (dir, commit) = repository();
        let repository = Repository::open(dir.path()).unwrap();
        repository.set_head_detached(commit.parse().unwrap()).unwrap();
        assert_eq!(source(dir.path()).unwrap().unwrap().branch, "HEAD");
    }

    /// A repository with one commit, which contains the file `.gitignore`, and the id of that commit.
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
