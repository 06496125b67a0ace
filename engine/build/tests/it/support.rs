//! Packages that are made for one test.

use std::cell::RefCell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use hotswap_build::{BuildMessage, Diagnostic, IncludedFiles, PluginPackage};
use tempfile::TempDir;

/// The source of [`Workspace::real_plugin`].
pub const REAL_PLUGIN: &str = "
use hotswap_plugin::prelude::*;

#[derive(Default)]
struct Echo;

#[plugin]
impl Plugin for Echo {}

#[invoke]
fn echo(text: String) -> Result<String> {
    Ok(text)
}
";

/// A temporary workspace. Its members are all directories with a manifest directly in it.
///
/// Its `hotswap-plugin` is a stand-in, which is enough to test dependencies between packages. It has no
/// descriptor, so a library that is built with it is not an artifact.
pub struct Workspace {
    dir: TempDir,
    /// The target directory of its [real plugins](Self::real_plugin).
    shared: OnceLock<Arc<SharedTarget>>,
}

/// A target directory that outlives the run, so that the dependencies of plugins are compiled only once. It belongs to
/// one test at a time: builds of many workspaces in one directory displace each other's records.
struct SharedTarget {
    dir: PathBuf,
    lock: File,
}

/// The number of shared target directories. The dependencies are compiled in each.
const SHARED_TARGETS: usize = 3;

impl SharedTarget {
    /// The directory that this test has already; or one that no other test has, which this waits for.
    fn of_this_test() -> Arc<Self> {
        thread_local! {
            static TAKEN: RefCell<Weak<SharedTarget>> = RefCell::default();
        }
        TAKEN.with_borrow_mut(|taken| {
            taken.upgrade().unwrap_or_else(|| {
                let target = Arc::new(Self::take());
                *taken = Arc::downgrade(&target);
                target
            })
        })
    }

    fn take() -> Self {
        static WAITING: AtomicUsize = AtomicUsize::new(0);
        let open = |number: usize| {
            let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shared-{number}"));
            fs::create_dir_all(&dir).expect("a directory");
            let lock = File::create(dir.with_extension("lock")).expect("a lock");
            Self { dir, lock }
        };
        let free = (0..SHARED_TARGETS).map(open).find(|target| target.lock.try_lock().is_ok());
        free.unwrap_or_else(|| {
            let target = open(WAITING.fetch_add(1, Ordering::Relaxed) % SHARED_TARGETS);
            target.lock.lock().expect("the lock");
            target
        })
    }
}

impl Workspace {
    pub fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let workspace = Self { dir, shared: OnceLock::new() };
        workspace.write(
            "Cargo.toml",
            "[workspace]\nresolver = \"3\"\nmembers = [\"*\"]\nexclude = [\"target\"]\n",
        );
        workspace.package("hotswap-plugin", "", "");
        workspace
    }

    /// A member with an empty library.
    pub fn package(&self, name: &str, dependencies: &str, more: &str) {
        let manifest = format!(
            "[package]\nname = \"{name}\"\nedition = \"2024\"\n{more}\n[dependencies]\n{dependencies}\n"
        );
        self.write(&format!("{name}/Cargo.toml"), &manifest);
        self.write(&format!("{name}/src/lib.rs"), "");
    }

    /// A member that counts as a plugin.
    pub fn plugin(&self, name: &str, more_dependencies: &str) {
        let dependencies =
            format!("hotswap-plugin.path = \"../hotswap-plugin\"\n{more_dependencies}");
        self.package(name, &dependencies, "");
    }

    /// A member that is a real plugin. It has this repository's lock file and a [`SharedTarget`]: the same one as in
    /// other workspaces of the test.
    pub fn real_plugin(&self, name: &str) -> PluginPackage {
        let engine =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the engine's directory");
        let dependency = format!("hotswap-plugin.path = {:?}", engine.join("plugin"));
        self.package(name, &dependency, "");
        self.write(&format!("{name}/src/lib.rs"), REAL_PLUGIN);
        self.write(
            "Cargo.toml",
            &format!("[workspace]\nresolver = \"3\"\nmembers = [\"{name}\"]\n"),
        );
        let lock_file = engine.with_file_name("Cargo.lock");
        fs::copy(lock_file, self.path("Cargo.lock")).expect("a lock file");
        self.reopen(name)
    }

    /// Reads the manifest of a [`real_plugin`](Self::real_plugin) again.
    pub fn reopen(&self, name: &str) -> PluginPackage {
        let plugin = PluginPackage::open(&self.path(name)).expect("a plugin");
        let target_dir = self.shared.get_or_init(SharedTarget::of_this_test).dir.clone();
        PluginPackage { target_dir, ..plugin }
    }

    /// A member with a program and this `[package.metadata.hotswap]`.
    pub fn host(&self, name: &str, metadata: &str) {
        self.package(name, "", &format!("[package.metadata.hotswap]\n{metadata}"));
        self.write(&format!("{name}/src/main.rs"), "fn main() { println!(\"up\"); }");
    }

    pub fn write(&self, path: &str, contents: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, contents).expect("a file");
    }

    /// Waits until all written files are older than a build that begins now, by the clock of the file system too.
    /// A build cannot know whether a file that was just written still changes.
    pub fn wait_until_files_are_old(&self) {
        let probe = self.path("probe");
        let write = || {
            fs::write(&probe, "").expect("a file");
            fs::metadata(&probe).and_then(|it| it.modified()).expect("its time")
        };
        let first = write();
        while write() < first + Duration::from_millis(20) {}
        fs::remove_file(&probe).expect("the file");
    }

    pub fn path(&self, path: &str) -> PathBuf {
        fs::canonicalize(self.dir.path()).expect("the directory").join(path)
    }

    /// Opens a member whose builds stay below this workspace, even if `CARGO_TARGET_DIR` is set. Its files are
    /// old enough to be compiled only once.
    pub fn open_plugin(&self, name: &str) -> PluginPackage {
        self.wait_until_files_are_old();
        let plugin = PluginPackage::open(&self.path(name)).expect("a plugin");
        PluginPackage { target_dir: self.path("target"), ..plugin }
    }
}

/// A package for the watcher, made without cargo.
pub fn package_without_cargo(name: &str, root: &Path, source_dirs: &[&str]) -> PluginPackage {
    let source_dirs: Vec<PathBuf> = source_dirs.iter().map(|dir| root.join(dir)).collect();
    PluginPackage {
        name: name.to_owned(),
        package_id: name.to_owned(),
        dir: source_dirs[0].clone(),
        manifest_path: source_dirs[0].join("Cargo.toml"),
        workspace_root: root.to_owned(),
        target_dir: root.join("target"),
        source_dirs,
        included: IncludedFiles::default(),
        configurations: Vec::new(),
        api_path: None,
        package_count: 1,
    }
}

pub fn diagnostics(messages: &[BuildMessage]) -> Vec<&Diagnostic> {
    let diagnostics = messages.iter().filter_map(|message| match message {
        BuildMessage::Diagnostic(diagnostic) => Some(diagnostic),
        _ => None,
    });
    diagnostics.collect()
}
