//! A patch is brought to the host while the linker still makes the artifact that has the same code.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hotswap_artifact::layout::PATCH_EXTENSION;
use hotswap_build::{Built, EarlyPatch, OnPatch};
use hotswap_protocol::{ErrorKind, PatchParams, PhaseTiming, ReloadReport, Request, WireError};
use tokio::runtime::Handle;

use super::Supervisor;
use crate::host::client::Client;
use crate::session::Watch;
use crate::session::event::SessionEvent;
use crate::session::job::{Job, JobOutcome};

/// The host that gets a patch of one plugin early.
#[derive(Clone)]
pub(super) struct Early {
    plugin_dir: PathBuf,
    client: Client,
    runtime: Handle,
    ahead: Ahead,
}

/// The plugins, by package, of which a host serves code that is not in the plugin directory yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Ahead(Arc<Mutex<BTreeSet<String>>>);

impl Ahead {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Supervisor {
    /// Where the plugin that is built gets its code early: it is the only one, and a reload would follow that has
    /// nothing else to load.
    pub(super) fn early(&self) -> Option<Early> {
        let is_alone = self.running.as_ref().is_some_and(|running| running.jobs.len() == 1);
        let is_served = self.queue.front() == Some(&Job::ReloadIfBuilt) && self.watch == Watch::On;
        let (client, plugin_dir) = (self.client.clone()?, self.plugin_dir.clone()?);
        (is_alone && is_served && !self.built_since_reload).then(|| Early {
            plugin_dir,
            client,
            runtime: Handle::current(),
            ahead: self.ahead.clone(),
        })
    }

    /// Lets the host go back to the artifact of a plugin whose code it got early, if the build ended without an
    /// artifact that has this code.
    pub(super) async fn go_back_from_early(&mut self, build: &Job, outcome: &JobOutcome) {
        let Some(plugin) = build.plugin() else { return };
        // The next build of it is on its way, and says what becomes of it.
        if self.queue.contains(build) || !self.ahead.lock().remove(plugin) {
            return;
        }
        if !matches!(outcome, JobOutcome::Done { .. }) {
            self.tell(SessionEvent::EarlyDropped { plugin: plugin.clone() }).await;
        }
        self.built_since_reload = true;
        if !self.queue.contains(&Job::ReloadIfBuilt) {
            self.queue.push_back(Job::ReloadIfBuilt);
        }
    }
}

impl Early {
    /// Gives the plugin its code as soon as there is a patch. If the host refuses, the reload after the build tells
    /// why.
    pub(super) fn on_patch(&self, plugin: &str) -> OnPatch {
        let (early, plugin) = (self.clone(), plugin.to_owned());
        OnPatch(Arc::new(move |patch| {
            if early.serve(&plugin, patch).is_ok() {
                early.ahead.lock().insert(plugin.clone());
            }
        }))
    }

    fn serve(&self, plugin: &str, early: EarlyPatch) -> Result<(), WireError> {
        let internal =
            |error: &dyn ToString| WireError::new(ErrorKind::Internal, error.to_string());
        let EarlyPatch { patch, phases } = early;
        let bytes = patch.to_bytes().map_err(|error| internal(&error))?;
        // Hidden, so that nobody takes it for the patch of an artifact.
        let file = tempfile::Builder::new().prefix(".").tempfile_in(&self.plugin_dir);
        let mut file = file.map_err(|error| internal(&error))?;
        file.write_all(&bytes).map_err(|error| internal(&error))?;
        self.send(plugin, file.path(), phases)
    }

    /// Tells the host which build has the code that it serves already; `true` if no reload is needed any more.
    pub(super) fn settle(&self, plugin: &str, built: &Built) -> bool {
        if !self.ahead.lock().contains(plugin) {
            return false;
        }
        let Built { plugin: name, patch: Some(Ok(_)), .. } = built else { return false };
        let path = self.plugin_dir.join(name).with_extension(PATCH_EXTENSION);
        let is_settled = self.send(plugin, &path, Vec::new()).is_ok();
        if is_settled {
            self.ahead.lock().remove(plugin);
        }
        is_settled
    }

    fn send(
        &self,
        plugin: &str,
        patch: &Path,
        build_phases: Vec<PhaseTiming>,
    ) -> Result<(), WireError> {
        let (plugin, patch) = (plugin.to_owned(), patch.to_owned());
        let request = Request::Patch(PatchParams { plugin, patch, build_phases });
        self.runtime.block_on(self.client.ask::<ReloadReport>(request)).map(drop)
    }
}
