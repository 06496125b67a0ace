//! Watching the sources of plugins.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind};

use crate::watch::sources::Sources;
use crate::watch::tree::Tree;
use crate::{BuildError, PluginPackage};

mod sources;
mod tree;

/// How long nothing more may change until a change is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// After files that were saved: closed by whoever wrote them, or renamed into place.
    pub after_saves: Duration,
    /// While a file is being written, or is gone: what an editor does in the middle of a save.
    pub within_saves: Duration,
}

impl Default for Quiet {
    /// Long enough to join what is saved at once, by measurement, and not to be felt: files that one
    /// command writes follow each other within 0.3 ms (`git checkout`), 2.5 ms (`sed -i`) or 4 ms (vim's
    /// `:wa`), and vim writes a file for 2 ms. A save that comes a moment later begins a build anew.
    fn default() -> Self {
        Self { after_saves: Duration::from_millis(5), within_saves: Duration::from_millis(50) }
    }
}

/// A burst of changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceChange {
    /// The package names of the plugins whose sources changed.
    pub plugins: Vec<String>,
    /// When the last change of the burst was noticed.
    pub noticed: Instant,
}

/// Tells which plugins' sources changed, until it is dropped.
///
/// Sources are the `*.rs` files and the manifests in the [source
/// directories](PluginPackage::source_dirs), and `Cargo.toml` and `Cargo.lock` of the workspace;
/// not what lies in target directories, hidden directories and nested packages. A directory that
/// several plugins share is watched once.
#[derive(Debug)]
pub struct Watcher {
    inbox: Arc<Inbox>,
    worker: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Calls `on_change`, from a thread of its own, with the plugins whose sources changed, once no
    /// further change came for as long as `quiet` says.
    ///
    /// Whatever changes after this has returned is noticed. What changes while `on_change` runs
    /// is told afterwards.
    pub fn new(
        plugins: &[PluginPackage],
        quiet: Quiet,
        on_change: impl FnMut(SourceChange) + Send + 'static,
    ) -> Result<Self, BuildError> {
        let inbox = Arc::new(Inbox::default());
        let events = Arc::clone(&inbox);
        let watcher = notify::recommended_watcher(move |event| events.deliver(event))
            .map_err(not_watchable)?;
        let mut tree = Tree::new(watcher, Sources::of(plugins));
        tree.watch_all().map_err(not_watchable)?;
        let worker = Worker { inbox: Arc::clone(&inbox), tree, quiet, on_change };
        let worker = thread::Builder::new()
            .name("hotswap watcher".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| not_watchable(error.into()))?;
        Ok(Self { inbox, worker: Some(worker) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.inbox.update(|state| state.stopped = true);
        // A watcher that is dropped by its own `on_change` cannot wait for that to return.
        let worker =
            self.worker.take().filter(|worker| worker.thread().id() != thread::current().id());
        if let Some(worker) = worker {
            // It can only have panicked in `on_change`, and the panic hook has told of that.
            let _ = worker.join();
        }
    }
}

fn not_watchable(error: notify::Error) -> BuildError {
    let advice = match &error.kind {
        notify::ErrorKind::MaxFilesWatch => "; raise the limit fs.inotify.max_user_watches",
        notify::ErrorKind::Io(error) if is_out_of_instances(error) => {
            "; raise the limit fs.inotify.max_user_instances"
        }
        _ => "",
    };
    BuildError::setup(format!("the plugins' sources cannot be watched: {error}{advice}"))
}

/// That is how inotify says it, and it is not about open files.
fn is_out_of_instances(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error())
}

/// What happened since the worker last looked.
///
/// The thread that delivers must never wait for the worker, which waits for it when it adds a
/// watch; so this is no bounded channel but a set, bounded by the number of paths.
#[derive(Debug, Default)]
struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    changes: Changes,
}

#[derive(Debug, Default)]
struct Changes {
    /// What changed, and whether it was saved: as far as one can see, nobody is about to change it
    /// further.
    paths: BTreeMap<PathBuf, bool>,
    /// Events were lost: anything may have changed.
    overflow: bool,
    latest: Option<Instant>,
}

impl Inbox {
    fn deliver(&self, event: notify::Result<Event>) {
        // An error means that something was not told.
        let overflow = event.as_ref().map_or(true, Event::need_rescan);
        let (paths, is_saved) = match event {
            Ok(event) => match Change::of(&event.kind) {
                Some(change) => (event.paths, change == Change::Saved),
                None => (Vec::new(), false),
            },
            Err(_) => (Vec::new(), false),
        };
        if overflow || !paths.is_empty() {
            self.update(|state| {
                state.changes.overflow |= overflow;
                state.changes.paths.extend(paths.into_iter().map(|path| (path, is_saved)));
                state.changes.latest = Some(Instant::now());
            });
        }
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }

    /// Waits for changes; `None` when the watcher was dropped.
    fn wait(&self) -> Option<Changes> {
        let idle = |state: &mut State| !state.stopped && state.changes.latest.is_none();
        let waited = self.changed.wait_while(self.lock(), idle);
        Self::take(&mut waited.unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for more changes, but not after `until`.
    fn wait_until(&self, until: Instant) -> Option<Changes> {
        let idle = |state: &mut State| !state.stopped && state.changes.latest.is_none();
        let timeout = until.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(self.lock(), timeout, idle);
        Self::take(&mut waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    fn take(state: &mut State) -> Option<Changes> {
        (!state.stopped).then(|| std::mem::take(&mut state.changes))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an event says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// It is there, with what it is to hold.
    Saved,
    /// It is being written, or is gone.
    Open,
}

impl Change {
    /// Reading a file, which builds do all the time, is an event too. Times count as content:
    /// somebody who touches a file means something by it.
    fn of(kind: &EventKind) -> Option<Self> {
        match kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Self::Saved),
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Some(Self::Saved),
            // It was told in two events before.
            EventKind::Modify(ModifyKind::Name(RenameMode::Both) | ModifyKind::Other) => None,
            EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(_) => Some(Self::Open),
            EventKind::Any | EventKind::Access(_) | EventKind::Other => None,
        }
    }
}

struct Worker<F> {
    inbox: Arc<Inbox>,
    tree: Tree,
    quiet: Quiet,
    on_change: F,
}

impl<F: FnMut(SourceChange)> Worker<F> {
    fn run(mut self) {
        while let Some(changes) = self.inbox.wait() {
            let Some(change) = self.until_quiet(changes) else { return };
            if !change.plugins.is_empty() {
                (self.on_change)(change);
            }
        }
    }

    /// What changed in one burst: `None` when the watcher was dropped meanwhile. Only changes of
    /// sources prolong it; a build beside them does not.
    fn until_quiet(&mut self, first: Changes) -> Option<SourceChange> {
        let mut plugins = BTreeSet::new();
        // The sources that are in the middle of a save.
        let mut open = BTreeSet::new();
        let mut noticed = Instant::now();
        let mut quiet_at = noticed;
        let mut changes = first;
        loop {
            let latest = changes.latest;
            let changed = self.tree.absorb(changes.paths, changes.overflow, &mut open);
            if let Some(latest) = latest.filter(|_| !changed.is_empty()) {
                noticed = latest;
                let Quiet { after_saves, within_saves } = self.quiet;
                quiet_at = latest + if open.is_empty() { after_saves } else { within_saves };
            }
            plugins.extend(changed);
            if Instant::now() >= quiet_at {
                return Some(SourceChange { plugins: plugins.into_iter().collect(), noticed });
            }
            changes = self.inbox.wait_until(quiet_at)?;
        }
    }
}
