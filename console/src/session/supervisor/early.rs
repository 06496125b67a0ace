//! A patch is brought to the host while the linker still makes the artifact that has the same code.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hotswap_artifact::layout::PATCH_EXTENSION;
use hotswap_build::{BuildError, BuildErrorKind, Built, EarlyPatch, OnPatch};
use hotswap_protocol::{ErrorKind, PatchParams, PhaseTiming, ReloadReport, Request, WireError};
use tokio::runtime::Handle;

use super::Supervisor;
use crate::host::client::Client;
use crate::session::Watch;
use crate::session::job::Job;

/// The host that gets a patch of one plugin early.
#[derive(Clone)]
pub(super) struct Early {
    plugin_dir: PathBuf,
    client: Client,
    runtime: Handle,
    /// The host serves what is being linked.
    is_ahead: Arc<AtomicBool>,
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
            is_ahead: Arc::default(),
        })
    }
}

impl Early {
    /// Gives the plugin its code as soon as there is a patch. If the host refuses, the reload after the build tells
    /// why.
    pub(super) fn on_patch(&self, plugin: &str) -> OnPatch {
        let (early, plugin) = (self.clone(), plugin.to_owned());
        OnPatch(Arc::new(move |patch| {
            let is_served = early.serve(&plugin, patch).is_ok();
            early.is_ahead.store(is_served, Ordering::Release);
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
    pub(super) fn settle(&self, plugin: &str, built: Result<&Built, &BuildError>) -> bool {
        if !self.is_ahead.swap(false, Ordering::AcqRel) {
            return false;
        }
        match built {
            Ok(Built { plugin: name, patch: Some(Ok(_)), .. }) => {
                let path = self.plugin_dir.join(name).with_extension(PATCH_EXTENSION);
                self.send(plugin, &path, Vec::new()).is_ok()
            }
            // It is no patch after all, and so loaded as a whole.
            Ok(_) => false,
            // The next build is on its way.
            Err(error) if error.kind() == BuildErrorKind::Cancelled => false,
            // What the host serves never came about.
            Err(_) => {
                let reload = self.client.ask::<ReloadReport>(Request::Reload);
                drop(self.runtime.block_on(reload));
                false
            }
        }
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
