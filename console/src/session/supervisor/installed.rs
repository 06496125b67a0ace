//! The content of the plugin directory, into which other consoles and shells may also put artifacts.

use std::collections::{BTreeMap, HashMap};
use std::env::consts::DLL_SUFFIX;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hotswap_protocol::{PluginInfo, Snapshot};

use super::{Report, Supervisor};
use crate::session::event::SessionEvent;
use crate::session::job::Job;

/// The last known content of the plugin directory.
#[derive(Debug, Default)]
pub(super) struct Installed {
    /// `None` while the directory is being read.
    content: Option<DirContent>,
    /// Whether the directory is being read.
    is_reading: bool,
    /// Whether this session has installed something since that read began.
    is_stale: bool,
    /// The plugins that served at the last snapshot.
    serving: Vec<PluginInfo>,
    /// The builds that the last event `Installed` reported.
    reported: BTreeMap<String, String>,
    /// The files that this event reported.
    reported_unusable: BTreeMap<String, String>,
    /// The build of each plugin that was reloaded last, or is about to be.
    tried: BTreeMap<String, String>,
}

/// The artifacts of a plugin directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DirContent {
    files: HashMap<PathBuf, File>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    changed_at: SystemTime,
    size: u64,
    /// The plugin and its build id, or why the file is not a complete artifact.
    build: Result<(String, String), String>,
}

impl DirContent {
    /// Reads a directory. Files that have not changed are not read again.
    fn read(dir: &Path, before: &Self) -> Self {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        let is_library = |path: &PathBuf| path.to_string_lossy().ends_with(DLL_SUFFIX);
        let files = paths.filter(is_library).filter_map(|path| {
            let metadata = path.metadata().ok()?;
            let (changed_at, size) = (metadata.modified().ok()?, metadata.len());
            let known = before.files.get(&path);
            let known = known.filter(|it| (it.changed_at, it.size) == (changed_at, size));
            let build = match known {
                Some(known) => known.build.clone(),
                None => build_of(&path),
            };
            Some((path, File { changed_at, size, build }))
        });
        Self { files: files.collect() }
    }

    fn builds(&self) -> BTreeMap<String, String> {
        self.files.values().filter_map(|file| file.build.clone().ok()).collect()
    }

    /// The files that are no complete artifacts, by name without suffix, and why.
    fn unusable(&self) -> BTreeMap<String, String> {
        let reason = |(path, file): (&PathBuf, &File)| {
            let name = path.file_name()?.to_str()?.strip_suffix(DLL_SUFFIX)?;
            Some((name.to_owned(), file.build.clone().err()?))
        };
        self.files.iter().filter_map(reason).collect()
    }
}

/// The builds that another program has installed and that do not serve, by plugin. Plugins that a rollback keeps
/// back are left out, and so are builds that were tried.
fn foreign(
    installed: &BTreeMap<String, String>,
    plugins: &[PluginInfo],
    tried: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let is_current = |plugin: &&PluginInfo| !plugin.is_rolled_back;
    let foreign = plugins.iter().filter(is_current).filter_map(|plugin| {
        let active = plugin.active()?;
        let build_id = installed.get(&plugin.name).filter(|it| **it != active.build_id)?;
        let is_tried = tried.get(&plugin.name) == Some(build_id);
        (!is_tried).then(|| (plugin.name.clone(), build_id.clone()))
    });
    foreign.collect()
}

/// The plugin and the build id of a file, or why it is not a complete artifact.
fn build_of(path: &Path) -> Result<(String, String), String> {
    let file = hotswap_artifact::read(path).map_err(|error| error.to_string())?;
    let facts = hotswap_artifact::inspect(&file).map_err(|error| error.to_string())?;
    Ok((facts.name.to_string(), facts.build_id.to_string()))
}

impl Supervisor {
    /// Compares the serving builds with the plugin directory, once the directory was read.
    pub(super) fn check_plugin_dir(&mut self, snapshot: &Snapshot) {
        self.installed.serving.clone_from(&snapshot.plugins);
        self.read_plugin_dir();
    }

    /// Reads the plugin directory, unless it is already being read.
    pub(super) fn read_plugin_dir(&mut self) {
        let Some(dir) = self.plugin_dir.clone() else { return };
        if std::mem::replace(&mut self.installed.is_reading, true) {
            return;
        }
        self.installed.is_stale = false;
        let (before, report) =
            (self.installed.content.take().unwrap_or_default(), self.report.clone());
        tokio::task::spawn_blocking(move || {
            // The session is over when this fails.
            let _ = report.blocking_send(Report::Installed(DirContent::read(&dir, &before)));
        });
    }

    /// Records that the session has built this itself, and will reload it.
    pub(super) fn note_own_build(&mut self, plugin: String, build_id: String) {
        self.installed.tried.insert(plugin, build_id);
        self.installed.is_stale = true;
    }

    /// Reloads builds of other programs if the session reloads saves, so that every save is served.
    fn reload_foreign_builds(&mut self) {
        let is_idle = self.running.is_none() && self.queue.is_empty();
        if !self.watch.reloads() || self.client.is_none() || !is_idle {
            return;
        }
        let Installed { reported, serving, tried, .. } = &self.installed;
        let foreign = foreign(reported, serving, tried);
        if !foreign.is_empty() {
            self.installed.tried.extend(foreign);
            self.built_since_reload = true;
            self.queue.push_back(Job::ReloadIfBuilt);
        }
    }

    /// Sends an event if the content of the plugin directory has changed.
    pub(super) async fn handle_dir_content(&mut self, content: DirContent) {
        let (builds, unusable) = (content.builds(), content.unusable());
        let installed = &mut self.installed;
        installed.content = Some(content);
        installed.is_reading = false;
        if (&installed.reported, &installed.reported_unusable) != (&builds, &unusable) {
            installed.reported.clone_from(&builds);
            installed.reported_unusable.clone_from(&unusable);
            self.send_event(SessionEvent::Installed { builds, unusable }).await;
        }
        // The content from before a build of this session must not be compared with what serves now.
        match self.installed.is_stale {
            true => self.read_plugin_dir(),
            false => self.reload_foreign_builds(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plugin(is_rolled_back: bool) -> PluginInfo {
        let version = json!({
            "version": 1, "state": "active", "detail": "active", "build_id": "old",
            "crate_version": "0.1.0", "loaded_at_ms": 0, "size_bytes": 0, "calls": 0,
        });
        let plugin =
            json!({ "name": "world", "versions": [version], "is_rolled_back": is_rolled_back });
        serde_json::from_value(plugin).unwrap()
    }

    fn builds(build_id: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("world".to_owned(), build_id.to_owned())])
    }

    #[test]
    fn a_build_of_another_console_is_reloaded_once() {
        let serving = [plugin(false)];
        let none = BTreeMap::new();
        assert_eq!(foreign(&builds("new"), &serving, &none), builds("new"));
        assert_eq!(foreign(&builds("new"), &serving, &builds("older")), builds("new"));
        assert_eq!(foreign(&builds("new"), &serving, &builds("new")), none, "this build was tried");
        assert_eq!(foreign(&builds("old"), &serving, &none), none, "this build serves");
        assert_eq!(
            foreign(&builds("new"), &[plugin(true)], &none),
            none,
            "the plugin is rolled back"
        );
        assert_eq!(foreign(&none, &serving, &none), none, "there is no artifact");
    }

    #[test]
    fn a_directory_has_only_whole_artifacts() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(format!("world{DLL_SUFFIX}")), "no artifact").unwrap();
        let content = DirContent::read(dir.path(), &DirContent::default());
        assert_eq!((content.files.len(), content.builds()), (1, BTreeMap::new()));
        assert_eq!(DirContent::read(dir.path(), &content), content);
        assert_eq!(DirContent::read(Path::new("/nowhere"), &content), DirContent::default());
    }
}
