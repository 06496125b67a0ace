//! The settings and the state that a load uses.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hotswap_plugin::{
    __private::{causes_from, end_panic},
    StaticPlugin,
};

use super::{BoxError, Callback};
use crate::{
    EngineError, LoadCause, Step,
    reclaim::reaper::ReaperHandle,
    serve::{
        current::Current,
        extension::{ExtensionFactory, ExtensionObject},
        generation::Generation,
    },
    vault::VaultContents,
    version::{Services, list::VersionList, registration::Registration},
};

use super::stage::Staging;

/// The settings of all loads of an engine.
pub(crate) struct Settings {
    /// The plugins that are linked into this program; `None` if plugins are loaded from artifacts.
    pub linked: Option<Vec<&'static StaticPlugin>>,
    pub store_dir: Option<PathBuf>,
    pub only: Option<Vec<String>>,
    pub step_timeout: Duration,
    pub extension: ExtensionFactory,
    pub on_reload: Vec<OnReload>,
    /// The objects that the host provides for plugins to import.
    pub services: Vec<Arc<Registration>>,
    /// Whether a load is published although it breaks an expectation of the host's own code.
    pub publish_breaking: bool,
}

/// A callback for every load.
pub(crate) type OnReload =
    Box<dyn Fn(&Generation, &Generation) -> Result<(), BoxError> + Send + Sync>;

/// The settings and the state that one load uses.
pub(crate) struct LoadContext<'a> {
    pub settings: &'a Settings,
    pub plugin_dir: PathBuf,
    pub staging: &'a Staging,
    pub vault_contents: &'a Arc<VaultContents>,
    pub current: &'a Arc<Current>,
    pub versions: &'a VersionList,
    pub reaper: &'a ReaperHandle,
    pub services: Services,
    /// Set when the engine shuts down, even while a load runs.
    pub is_shut_down: &'a AtomicBool,
}

impl LoadContext<'_> {
    pub fn only(&self) -> Option<&[String]> {
        self.settings.only.as_deref()
    }

    pub fn store_dir(&self) -> Option<&Path> {
        self.settings.store_dir.as_deref()
    }

    pub fn is_shut_down(&self) -> bool {
        self.is_shut_down.load(Ordering::Acquire)
    }

    /// Makes the host's object for the next generation.
    pub fn make_extension(
        &self,
        previous: &Generation,
    ) -> Result<Arc<dyn ExtensionObject>, EngineError> {
        let make = || (self.settings.extension)(Some(previous.extension.as_ref()));
        end_panic(make).map_err(|panic| {
            let message = format!("the host's factory for its Extension panicked: {panic}");
            let cause = LoadCause::Panic { message: panic, location: None };
            EngineError::load_of_all(Step::Publish, message).because(cause)
        })
    }

    /// Calls the host's callbacks: the one of the engine, and the one of this reload.
    pub fn call_back(
        &self,
        new: &Generation,
        old: &Generation,
        callback: Option<&mut Callback<'_>>,
    ) -> Result<(), EngineError> {
        let both = || -> Result<(), EngineError> {
            // The error is the host's own, with the host's own text.
            let to_error = |error: BoxError| {
                let causes = causes_from(error.source());
                let refused = EngineError::load_of_all(Step::Callback, &error).with_causes(causes);
                refused.because(LoadCause::Callback(error))
            };
            let mut all = self.settings.on_reload.iter();
            all.try_for_each(|on_reload| on_reload(new, old)).map_err(to_error)?;
            callback.map_or(Ok(()), |callback| callback(new, old)).map_err(to_error)
        };
        end_panic(both).unwrap_or_else(|panic| {
            let message = format!("the host's callback panicked: {panic}");
            let cause = LoadCause::Panic { message: panic, location: None };
            Err(EngineError::load_of_all(Step::Callback, message).because(cause))
        })
    }
}
