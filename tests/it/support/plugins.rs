//! The fixture plugins: built once per run, and copied with changes.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use hotswap_build::{BuildMessage, BuildOptions, Cancel, PluginPackage, build_plugin};
use hotswap_engine::artifact;
use tempfile::TempDir;

/// A plugin directory for an engine.
pub struct PluginDir {
    dir: TempDir,
    /// Whether a plugin was taken out since the last question.
    is_pruned: AtomicBool,
}

impl PluginDir {
    pub fn empty() -> Self {
        let dir = tempfile::tempdir().expect("make a directory");
        Self { dir, is_pruned: AtomicBool::new(false) }
    }

    /// A directory with the first revision of these plugins.
    pub fn of(plugins: &[&str]) -> Self {
        let dir = Self::empty();
        plugins.iter().for_each(|plugin| dir.install(plugin, 1));
        dir
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Installs a revision of a plugin in one step, as a build does.
    pub fn install(&self, plugin: &str, number: u32) {
        self.write(plugin, &revision(plugin, number));
    }

    /// Writes a file under a plugin's name.
    pub fn write(&self, plugin: &str, content: &[u8]) {
        let temporary = self.path().join(format!(".{plugin}.new"));
        fs::write(&temporary, content).expect("write a plugin");
        fs::rename(temporary, self.file(plugin)).expect("rename a plugin");
    }

    /// Takes a plugin out. The host's next [`reload`](super::Host::reload) unloads it.
    pub fn remove(&self, plugin: &str) {
        self.remove_file_of(plugin);
        self.is_pruned.store(true, Ordering::Relaxed);
    }

    /// Removes a plugin's file without a request to unload the plugin, unlike `remove`.
    pub fn remove_file_of(&self, plugin: &str) {
        fs::remove_file(self.file(plugin)).expect("remove a plugin");
    }

    /// Whether a plugin was taken out since the last call.
    pub fn take_prune_request(&self) -> bool {
        self.is_pruned.swap(false, Ordering::Relaxed)
    }

    pub fn file(&self, plugin: &str) -> PathBuf {
        self.path().join(format!("{plugin}.so"))
    }
}

/// The artifact of a plugin, which the first test that needs it builds. Tests that need other artifacts do not
/// wait.
pub fn artifact(plugin: &str) -> Vec<u8> {
    static BUILT: Mutex<BTreeMap<String, Arc<OnceLock<Vec<u8>>>>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let file = built.entry(plugin.to_owned()).or_default().clone();
    drop(built);
    file.get_or_init(|| shared_artifact(plugin)).clone()
}

/// Like `artifact`, and shared with the processes that a test starts from itself.
fn shared_artifact(plugin: &str) -> Vec<u8> {
    let path = shared_dir().join(plugin);
    fs::read(&path).unwrap_or_else(|_| {
        let file = build(plugin);
        let new = path.with_extension(process::id().to_string());
        let kept = fs::write(&new, &file).and_then(|()| fs::rename(new, path));
        kept.expect("keep an artifact");
        file
    })
}

/// The directory in which all processes of a run share the artifacts that it has built.
pub fn shared_dir() -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| env::var_os(KEPT).map_or_else(make_shared_dir, PathBuf::from)).clone()
}

/// The variable that names this directory for the tests' own processes.
pub const KEPT: &str = "HOTSWAP_TEST_ARTIFACTS";

/// Makes the directory for this run, and removes the directories of runs that have ended.
fn make_shared_dir() -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    let all = test.ancestors().nth(2).expect("a directory of the profile").join("artifacts");
    for run in fs::read_dir(&all).into_iter().flatten().flatten() {
        if !Path::new("/proc").join(run.file_name()).exists() {
            let _ = fs::remove_dir_all(run.path());
        }
    }
    let own = all.join(process::id().to_string());
    // A directory of an earlier process with the same id does not belong to this run.
    let _ = fs::remove_dir_all(&own);
    fs::create_dir_all(&own).expect("make a directory");
    own
}

fn build(plugin: &str) -> Vec<u8> {
    built_with(plugin, Vec::new())
}

/// A plugin's artifact, built with these flags of cargo.
pub fn built_with(plugin: &str, cargo_flags: Vec<String>) -> Vec<u8> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let fixtures = above.map(|dir| dir.join("fixtures")).find(|dir| dir.is_dir());
    let package = fixtures.expect("the fixtures").join(plugin);
    let package = PluginPackage::open(&package).expect("a fixture's package");
    // The profile is that of this test program.
    let release = !cfg!(debug_assertions);
    let options = BuildOptions { release, cargo_flags, ..BuildOptions::default() };
    let mut output = String::new();
    let mut collect = |message| match message {
        BuildMessage::Diagnostic(diagnostic) => output.push_str(&diagnostic.rendered),
        BuildMessage::Output(line) => output.push_str(&line),
        _ => {}
    };
    let built = build_plugin(&package, &options, &Cancel::default(), &mut collect);
    let built = built.unwrap_or_else(|error| panic!("{plugin} does not build: {error}\n{output}"));
    fs::read(built.artifact).expect("read an artifact")
}

/// A plugin's artifact with another revision number: its bytes differ, so it is another build.
pub fn revision(plugin: &str, number: u32) -> Vec<u8> {
    let file = artifact(plugin);
    if number == 1 { file } else { with_revision(file, number) }
}

/// An artifact of a first revision, with another revision number.
pub fn with_revision(mut file: Vec<u8>, number: u32) -> Vec<u8> {
    const MARK: &[u8] = b"REVISION0001";
    let at = find(&file, MARK).expect("a revision to change");
    file[at..at + MARK.len()].copy_from_slice(format!("REVISION{number:04}").as_bytes());
    artifact::stamp(&mut file, None).expect("stamp a revision");
    file
}

/// A plugin's artifact under another, shorter name, as if it were a later commit of that plugin.
pub fn renamed(plugin: &str, name: &str) -> Vec<u8> {
    const MAGIC: &[u8] = b"HOTSWAP-PLUGIN";
    let mut file = artifact(plugin);
    let descriptor = find(&file, MAGIC).expect("a plugin");
    let from = find(&file[descriptor..], plugin.as_bytes());
    let at = descriptor + from.expect("its name");
    let mut text = name.as_bytes().to_vec();
    text.resize(plugin.len(), 0);
    file[at..at + plugin.len()].copy_from_slice(&text);
    artifact::stamp(&mut file, None).expect("stamp a renamed artifact");
    file
}

/// The offset of a text in a file. A plain loop over an artifact takes a tenth of a second without optimisation.
pub fn find(file: &[u8], text: &[u8]) -> Option<usize> {
    memchr::memmem::find(file, text)
}
