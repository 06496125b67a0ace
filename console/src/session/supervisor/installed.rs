//! What lies in the plugin directory, whoever put it there: another console and a shell do, too.

use std::collections::{BTreeMap, HashMap};
use std::env::consts::DLL_SUFFIX;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Report, Supervisor};
use crate::session::event::SessionEvent;

/// What was seen of the plugin directory last.
#[derive(Debug, Default)]
pub(super) struct Installed {
    /// None while somebody looks.
    seen: Option<Seen>,
    /// Whether somebody looks.
    is_looking: bool,
    /// What was told of it last.
    told: BTreeMap<String, String>,
}

/// The artifacts of a plugin directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    files: HashMap<PathBuf, File>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    changed_at: SystemTime,
    size: u64,
    /// The plugin and its build id; none of a file that is no artifact.
    build: Option<(String, String)>,
}

impl Seen {
    /// Looks into a directory. What has not changed since it was read is not read again.
    fn look(dir: &Path, before: &Self) -> Self {
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
        self.files.values().filter_map(|file| file.build.clone()).collect()
    }
}

/// The plugin and the build id that a file has; none of one that is no whole artifact.
fn build_of(path: &Path) -> Option<(String, String)> {
    let facts = hotswap_artifact::inspect(&fs::read(path).ok()?).ok()?;
    Some((facts.name.to_string(), facts.build_id.to_string()))
}

impl Supervisor {
    /// Looks into the plugin directory, unless somebody does.
    pub(super) fn look_into_plugin_dir(&mut self) {
        let Some(dir) = self.plugin_dir.clone() else { return };
        if std::mem::replace(&mut self.installed.is_looking, true) {
            return;
        }
        let (before, report) =
            (self.installed.seen.take().unwrap_or_default(), self.report.clone());
        tokio::task::spawn_blocking(move || {
            // The session is over when this fails.
            let _ = report.blocking_send(Report::Installed(Seen::look(&dir, &before)));
        });
    }

    /// Tells what lies in the plugin directory, if that is something else than before.
    pub(super) async fn look_what_is_installed(&mut self, seen: Seen) {
        let builds = seen.builds();
        self.installed.seen = Some(seen);
        self.installed.is_looking = false;
        if self.installed.told != builds {
            self.installed.told.clone_from(&builds);
            self.tell(SessionEvent::Installed { builds }).await;
        }
    }
}
