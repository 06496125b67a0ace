//! Watches the sources of plugins, and reports which plugins changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use notify::event::{AccessKind, AccessMode, MetadataKind, ModifyKind, RenameMode};
use notify::{Config, Event, EventKind, PollWatcher};
use parking_lot::{Condvar, Mutex};

use crate::watch::sources::Sources;
use crate::watch::tree::{Rewatch, Touched, Tree};
use crate::{BuildError, PluginPackage, reads, real_path};

mod silent;
mod sources;
mod tree;

/// How long the sources must stay unchanged before a change is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// If all changed files were saved: closed by the program that wrote them, or renamed to their place.
    pub after_saves: Duration,
    /// If a file is still open for writing or missing, as in the middle of an editor's save.
    pub within_saves: Duration,
}

impl Default for Quiet {
    /// 5 ms after saves, 50 ms within one.
    ///
    /// This joins the files that one command saves, and is too short for a user to notice. By measurement,
    /// files of one command follow each other within 0.3 ms (`git checkout`), 2.5 ms (`sed -i`) or 4 ms
    /// (vim's `:wa`), and vim takes 2 ms to write a file. A later save counts as another change.
    fn default() -> Self {
        Self { after_saves: Duration::from_millis(5), within_saves: Duration::from_millis(50) }
    }
}

/// How long no list of read files must have been written before the lists are read. Plugins that are built
/// together write their lists one after the other.
const WITHIN_LISTS: Duration = Duration::from_millis(20);

/// How long after its save a change may be noticed. If the file system says that it was longer, its clock is another
/// one.
const LONGEST_NOTICE: Duration = Duration::from_secs(10);

/// A burst of changes that is reported at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceChange {
    /// The package names of the plugins whose sources changed.
    pub plugins: Vec<String>,
    /// When the last change of the burst was noticed.
    pub noticed: Instant,
    /// When the last of the changed files was saved, by the clock of the file system; when it was noticed, if that
    /// is not known. On a busy machine, a change is noticed long after it was saved.
    pub saved: SystemTime,
}

/// Reports which plugins' sources changed, until it is dropped.
///
/// Sources are the `*.rs` files and the manifests in the [source
/// directories](PluginPackage::source_dirs), the [included files](PluginPackage::included),
/// `Cargo.toml` and `Cargo.lock` of the workspace, and whatever the last build has read: files that a
/// source includes, and files and directories for which a build script asks. Of the source directories,
/// target directories, hidden directories and nested packages are left out.
///
/// A source has changed if its content has: writing the same bytes again reports nothing.
///
/// ```no_run
/// use hotswap_build::{HostPackage, Quiet, Watcher};
/// use std::sync::mpsc;
///
/// # fn main() -> Result<(), hotswap_build::BuildError> {
/// let host = HostPackage::open("sample-host".as_ref())?;
/// let (sender, changes) = mpsc::channel();
/// let _watcher = Watcher::new(&host.plugins, Quiet::default(), move |change| {
///     // Fails only if nobody listens any more.
///     let _ = sender.send(change);
/// })?;
/// for change in changes {
///     println!("build again: {}", change.plugins.join(", "));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Watcher {
    inbox: Arc<Inbox>,
    /// Locked for moments only: never while changes are reported or waited for.
    tree: Arc<Mutex<Tree>>,
    worker: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Begins to watch. When sources of `plugins` have changed, and then stayed unchanged for as long
    /// as `quiet` says, `on_change` is called on a thread of the watcher.
    ///
    /// Every change after this function has returned is noticed. Changes while `on_change` runs are
    /// reported by its next call.
    ///
    /// # Errors
    /// [`Setup`](crate::BuildErrorKind::Setup) if the system cannot watch the directories; the text
    /// names the limit to raise, if there is one.
    pub fn new(
        plugins: &[PluginPackage],
        quiet: Quiet,
        on_change: impl FnMut(SourceChange) + Send + 'static,
    ) -> Result<Self, BuildError> {
        let inbox = Arc::new(Inbox::default());
        let events = Arc::clone(&inbox);
        let watcher = notify::recommended_watcher(move |event| events.deliver(event));
        let watcher = Box::new(watcher.map_err(not_watchable)?);
        Self::with((watcher, Rewatch::Always), inbox, plugins, quiet, on_change)
    }

    /// Watches like [`new`](Self::new), but scans the sources at intervals of `every`: for file systems that
    /// do not report changes ([`silent_file_system`](Self::silent_file_system)).
    ///
    /// # Errors
    /// [`Setup`](crate::BuildErrorKind::Setup) if the directories cannot be read.
    pub fn polling(
        plugins: &[PluginPackage],
        quiet: Quiet,
        every: Duration,
        on_change: impl FnMut(SourceChange) + Send + 'static,
    ) -> Result<Self, BuildError> {
        let inbox = Arc::new(Inbox::default());
        let events = Arc::clone(&inbox);
        // If only times were compared, of which only whole seconds count, a second save would go unnoticed.
        let pause = Config::default().with_poll_interval(every).with_compare_contents(true);
        let watcher = PollWatcher::new(move |event| events.deliver(event), pause);
        let watcher = Box::new(watcher.map_err(not_watchable)?);
        Self::with((watcher, Rewatch::Never), inbox, plugins, quiet, on_change)
    }

    /// The type of the file system of `plugins`' sources, such as `nfs4` or `vboxsf`, if it may not report
    /// all changes; `None` if it reports all.
    pub fn silent_file_system(plugins: &[PluginPackage]) -> Option<String> {
        let mounts = fs::read("/proc/self/mountinfo").ok()?;
        let mut dirs = plugins.iter().flat_map(|plugin| &plugin.source_dirs);
        dirs.find_map(|dir| silent::silent_file_system(&real_path::real(dir), &mounts))
    }

    /// Watches the sources of `plugins` from now on, instead of those of the plugins before. No change is missed
    /// meanwhile; a change that was noticed and not reported yet is reported with the names that these plugins have.
    ///
    /// # Errors
    /// [`Setup`](crate::BuildErrorKind::Setup) as for [`new`](Self::new). Then not all sources are watched.
    pub fn watch(&self, plugins: &[PluginPackage]) -> Result<(), BuildError> {
        let mut tree = self.tree.lock();
        tree.replace_sources(sources_of(plugins));
        tree.watch_all().map_err(not_watchable)
    }

    fn with(
        (watcher, rewatch): (Box<dyn notify::Watcher + Send>, Rewatch),
        inbox: Arc<Inbox>,
        plugins: &[PluginPackage],
        quiet: Quiet,
        on_change: impl FnMut(SourceChange) + Send + 'static,
    ) -> Result<Self, BuildError> {
        let mut tree = Tree::new(watcher, rewatch, sources_of(plugins));
        tree.watch_all().map_err(not_watchable)?;
        let tree = Arc::new(Mutex::new(tree));
        let worker =
            Worker { inbox: Arc::clone(&inbox), tree: Arc::clone(&tree), quiet, on_change };
        let worker = thread::Builder::new()
            .name("hotswap watcher".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| not_watchable(error.into()))?;
        Ok(Self { inbox, tree, worker: Some(worker) })
    }
}

fn sources_of(plugins: &[PluginPackage]) -> Sources {
    for plugin in plugins {
        // Where there can be no list, the packages' own sources are watched.
        let _ = fs::create_dir_all(reads::dir(plugin));
    }
    Sources::of(plugins)
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.inbox.update(|state| state.stopped = true);
        // If `on_change` itself drops the watcher, the drop cannot wait for `on_change` to return.
        let worker =
            self.worker.take().filter(|worker| worker.thread().id() != thread::current().id());
        if let Some(worker) = worker {
            // Only `on_change` can have panicked, and the panic hook has reported that.
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
        .because(error)
}

/// Inotify reports "too many open files" if there are too many instances of it.
fn is_out_of_instances(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error())
}

/// The changes since the worker last looked.
///
/// The thread that delivers events must never wait for the worker, because the worker waits for that thread
/// when it adds a watch. So this is not a bounded channel but a map, which the number of paths bounds.
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
    /// The changed paths, and whether each was saved; `false` if it is probably still being changed.
    paths: BTreeMap<PathBuf, bool>,
    /// Whether events were lost, so that anything may have changed.
    overflow: bool,
    latest: Option<Instant>,
}

impl Inbox {
    fn deliver(&self, event: notify::Result<Event>) {
        // An error means that an event was lost.
        let overflow = event.as_ref().map_or(true, Event::need_rescan);
        let (paths, is_saved) = match event {
            Ok(mut event) => match Change::of(&event.kind) {
                Some(change) => {
                    // A scan reports a directory as changed for each entry that is added or removed, which is
                    // also reported by itself.
                    let is_by_time = event.kind
                        == EventKind::Modify(ModifyKind::Metadata(MetadataKind::WriteTime));
                    event.paths.retain(|path| !(is_by_time && path.is_dir()));
                    (event.paths, change == Change::Saved)
                }
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
        change(&mut self.state.lock());
        self.changed.notify_one();
    }

    /// Waits for changes; `None` if the watcher was dropped.
    fn wait(&self) -> Option<Changes> {
        let idle = |state: &mut State| !state.stopped && state.changes.latest.is_none();
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, idle);
        Self::take_changes(&mut state)
    }

    /// Waits for more changes, at most until `until`; `None` if the watcher was dropped.
    fn wait_until(&self, until: Instant) -> Option<Changes> {
        let idle = |state: &mut State| !state.stopped && state.changes.latest.is_none();
        let mut state = self.state.lock();
        self.changed.wait_while_until(&mut state, idle, until);
        Self::take_changes(&mut state)
    }

    fn take_changes(state: &mut State) -> Option<Changes> {
        (!state.stopped).then(|| std::mem::take(&mut state.changes))
    }
}

/// The state in which an event leaves a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// It is there with its final content.
    Saved,
    /// It is being written, or it is missing.
    Open,
}

impl Change {
    /// `None` for an event that changes nothing, such as reading a file, which builds do all the time.
    /// Whether the content differs is checked when the sources stay unchanged.
    fn of(kind: &EventKind) -> Option<Self> {
        match kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Self::Saved),
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Some(Self::Saved),
            // Two events before this one have already reported the rename.
            EventKind::Modify(ModifyKind::Name(RenameMode::Both) | ModifyKind::Other) => None,
            EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(_) => Some(Self::Open),
            EventKind::Any | EventKind::Access(_) | EventKind::Other => None,
        }
    }
}

/// When a file got its content or its name; `None` if there is no file. Unlike the time of the last write, it cannot be
/// set.
pub fn last_change(path: &Path) -> Option<SystemTime> {
    let found = fs::metadata(path).ok()?;
    let seconds = Duration::from_secs(u64::try_from(found.ctime()).ok()?);
    let rest = Duration::from_nanos(u64::try_from(found.ctime_nsec()).ok()?);
    Some(UNIX_EPOCH + seconds + rest)
}

struct Worker<F> {
    inbox: Arc<Inbox>,
    tree: Arc<Mutex<Tree>>,
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

    /// Collects one burst of changes; `None` if the watcher was dropped meanwhile. Only changes of sources
    /// prolong the burst, not the files that a build writes beside them.
    fn until_quiet(&mut self, first: Changes) -> Option<SourceChange> {
        let mut touched = Touched::default();
        // The sources whose save is not finished.
        let mut open = BTreeSet::new();
        let mut noticed = Instant::now();
        let mut quiet_at = noticed;
        let mut changes = first;
        loop {
            let latest = changes.latest;
            let mut tree = self.tree.lock();
            let more = tree.apply(changes.paths, changes.overflow, &mut open);
            if let Some(latest) = latest.filter(|_| !more.is_empty()) {
                noticed = latest;
                let Quiet { after_saves, within_saves } = self.quiet;
                quiet_at = latest + if open.is_empty() { after_saves } else { within_saves };
            }
            touched.extend(more);
            if let Some(latest) = latest.filter(|_| tree.has_new_lists()) {
                quiet_at = quiet_at.max(latest + WITHIN_LISTS);
            }
            if Instant::now() >= quiet_at {
                if tree.has_new_lists() {
                    touched.extend(tree.reread_lists());
                }
                let (plugins, saved) = changed(&mut tree, touched);
                let was_noticed = SystemTime::now() - noticed.elapsed();
                let is_likely = |saved: &SystemTime| {
                    was_noticed.duration_since(*saved).is_ok_and(|it| it <= LONGEST_NOTICE)
                };
                let saved = saved.filter(is_likely).unwrap_or(was_noticed);
                return Some(SourceChange { plugins, noticed, saved });
            }
            drop(tree);
            changes = self.inbox.wait_until(quiet_at)?;
        }
    }
}

/// The plugins for which something has changed, and when the last of the changed files was saved.
fn changed(tree: &mut Tree, touched: Touched) -> (Vec<String>, Option<SystemTime>) {
    let Touched { mut owners, files } = touched;
    let mut saved = None;
    for (path, owners_of_file) in files {
        if tree.has_changed(&path) {
            saved = saved.max(last_change(&path));
            owners.extend(owners_of_file);
            owners.extend(tree.owners_of(&path));
        }
    }
    // Other plugins may be watched since the change was noticed.
    owners.retain(|name| tree.is_watched_for(name));
    (owners.into_iter().collect(), saved)
}
