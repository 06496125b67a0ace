//! Loads a patch into the host while the linker still makes the artifact with the same code.

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

/// The host that gets an early patch of one plugin.
#[derive(Clone)]
pub(super) struct EarlyLoader {
    plugin_dir: PathBuf,
    client: Client,
    runtime: Handle,
    served_early: ServedEarly,
}

/// The plugins, by package, whose serving code is not in the plugin directory yet.
#[derive(Clone, Debug, Default)]
pub(super) struct ServedEarly(Arc<Mutex<BTreeSet<String>>>);

impl ServedEarly {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Supervisor {
    /// The host for an early patch, if a single plugin is built and the reload that follows would load nothing
    /// else.
    pub(super) fn early_loader(&self) -> Option<EarlyLoader> {
        let is_alone = self.running.as_ref().is_some_and(|running| running.jobs.len() == 1);
        let is_served = self.queue.front() == Some(&Job::ReloadIfBuilt) && self.watch == Watch::On;
        let (client, plugin_dir) = (self.client.clone()?, self.plugin_dir.clone()?);
        (is_alone && is_served && !self.built_since_reload).then(|| EarlyLoader {
            plugin_dir,
            client,
            runtime: Handle::current(),
            served_early: self.served_early.clone(),
        })
    }

    /// Makes the host go back to the artifact of a plugin if it got its code early, and the build ended without an
    /// artifact with this code.
    pub(super) async fn undo_early_patch(&mut self, build: &Job, outcome: &JobOutcome) {
        let Some(plugin) = build.plugin() else { return };
        // The next build of the plugin is already queued, and will decide.
        if self.queue.contains(build) || !self.served_early.lock().remove(plugin) {
            return;
        }
        if !matches!(outcome, JobOutcome::Done { .. }) {
            self.send_event(SessionEvent::EarlyDropped { plugin: plugin.clone() }).await;
        }
        self.built_since_reload = true;
        if !self.queue.contains(&Job::ReloadIfBuilt) {
            self.queue.push_back(Job::ReloadIfBuilt);
        }
    }
}

impl EarlyLoader {
    /// Loads a patch into the host as soon as it is made. If the host refuses it, the reload after the build
    /// reports why.
    pub(super) fn on_patch(&self, plugin: &str) -> OnPatch {
        let (early, plugin) = (self.clone(), plugin.to_owned());
        OnPatch(Arc::new(move |patch| {
            if early.load(&plugin, patch).is_ok() {
                early.served_early.lock().insert(plugin.clone());
            }
        }))
    }

    fn load(&self, plugin: &str, early: EarlyPatch) -> Result<(), WireError> {
        let internal =
            |error: &dyn ToString| WireError::new(ErrorKind::Internal, error.to_string());
        let EarlyPatch { patch, phases } = early;
        let bytes = patch.to_bytes().map_err(|error| internal(&error))?;
        // The file is hidden, so that it is not taken for the patch of an artifact.
        let file = tempfile::Builder::new().prefix(".").tempfile_in(&self.plugin_dir);
        let mut file = file.map_err(|error| internal(&error))?;
        file.write_all(&bytes).map_err(|error| internal(&error))?;
        self.send(plugin, file.path(), phases)
    }

    /// Notifies the host which build has the code that it already serves; `true` if no reload is needed any more.
    pub(super) fn confirm_build(&self, plugin: &str, built: &Built) -> bool {
        if !self.served_early.lock().contains(plugin) {
            return false;
        }
        let Built { plugin: name, patch: Some(Ok(_)), .. } = built else { return false };
        let path = self.plugin_dir.join(name).with_extension(PATCH_EXTENSION);
        let is_confirmed = self.send(plugin, &path, Vec::new()).is_ok();
        if is_confirmed {
            self.served_early.lock().remove(plugin);
        }
        is_confirmed
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
