//! The releases and artifacts that an agent has fetched and verified, on its own disk. Later losses or changes in
//! the store do not affect them.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hotswap_fleet::{Artifact, Digest, FleetError, Id, Keys, Release, Store};

use super::{Declared, blocking};

/// A verified release.
struct Verified {
    release: Arc<Release>,
    /// The serial number of the keys that verified it; `None` if the fleet had no keys.
    serial: Option<u64>,
}

/// The fetched files of an agent.
pub(super) struct Files {
    store: Store,
    dir: Arc<Path>,
    releases: Mutex<HashMap<Id, Verified>>,
    fetched: Arc<tokio::sync::Mutex<HashSet<Digest>>>,
}

impl Files {
    pub fn new(store: &Store, state_dir: &Path) -> Result<Self, FleetError> {
        let dir = state_dir.join("blobs");
        std::fs::create_dir_all(&dir).map_err(|error| {
            FleetError::new(format!("{}: cannot be made: {error}", dir.display()))
        })?;
        Ok(Self {
            store: store.clone(),
            dir: dir.into(),
            releases: Mutex::default(),
            fetched: Arc::default(),
        })
    }

    /// A release. It is verified at the first request, and again after the keys have changed.
    pub async fn release(&self, id: &Id, keys: Option<&Keys>) -> Result<Arc<Release>, FleetError> {
        let releases = || self.releases.lock().unwrap_or_else(PoisonError::into_inner);
        let serial = keys.map(|keys| keys.serial);
        if let Some(verified) = releases().get(id).filter(|it| it.serial == serial) {
            return Ok(Arc::clone(&verified.release));
        }
        let (store, wanted, keys) = (self.store.clone(), id.clone(), keys.cloned());
        let release = Arc::new(blocking(move || store.release(&wanted, keys.as_ref())).await?);
        let verified = Verified { release: Arc::clone(&release), serial };
        releases().insert(id.clone(), verified);
        Ok(release)
    }

    /// Removes the artifacts of releases that the channel does not name any more. A host may still be loading an
    /// artifact that it got since the last call, so such artifacts stay until the next call.
    pub async fn clean(&self, declared: &Declared) {
        let channel = &declared.channel;
        let before = channel.earlier.last().and_then(Option::as_ref);
        let used = [&channel.base, &channel.candidate].into_iter().flatten();
        let used: HashSet<&Id> = used.chain(before).chain(channel.pins.values()).collect();
        let mut kept: HashSet<Digest> = HashSet::new();
        for id in &used {
            // A release that cannot be read now is fetched again later.
            let Ok(release) = self.release(id, declared.keys.as_ref()).await else { continue };
            let artifacts = release.plugins.iter().flat_map(|plugin| &plugin.artifacts);
            kept.extend(artifacts.map(|artifact| artifact.sha256.clone()));
        }
        // Nothing is fetched meanwhile.
        let mut fetched = self.fetched.lock().await;
        let names: HashSet<String> = kept.union(&fetched).map(file_name).collect();
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_none_or(|name| !names.contains(name)) {
                // A file that stays does no harm.
                let _ = std::fs::remove_file(entry.path());
            }
        }
        fetched.retain(|digest| kept.contains(digest));
        let mut releases = self.releases.lock().unwrap_or_else(PoisonError::into_inner);
        releases.retain(|id, _| used.contains(id));
    }

    /// The path of an artifact on this machine. Its hash was checked since the agent started.
    pub async fn artifact(
        &self,
        release: &Id,
        plugin: &str,
        artifact: &Artifact,
    ) -> Result<PathBuf, FleetError> {
        let path = self.dir.join(file_name(&artifact.sha256));
        let mut fetched = self.fetched.lock().await;
        if fetched.contains(&artifact.sha256) && path.exists() {
            return Ok(path);
        }
        let (store, to) = (self.store.clone(), path.clone());
        let (release, plugin, wanted) = (release.clone(), plugin.to_owned(), artifact.clone());
        blocking(move || {
            let is_here = std::fs::read(&to).is_ok_and(|bytes| Digest::of(&bytes) == wanted.sha256);
            if is_here { Ok(()) } else { store.fetch(&release, &plugin, &wanted, &to) }
        })
        .await?;
        fetched.insert(artifact.sha256.clone());
        Ok(path)
    }
}

fn file_name(digest: &Digest) -> String {
    format!("{digest}.so")
}
