//! The directory of this user's where hosts and consoles meet, and where artifacts are staged.

use std::path::PathBuf;

use hotswap_protocol::RuntimeDir;

use crate::{EngineError, os};

/// A directory of this user's, which nobody else can enter.
pub(crate) fn runtime_dir(within: Option<&str>) -> Result<PathBuf, EngineError> {
    let dir = RuntimeDir::of(os::user_id());
    if let Some(why) = dir.passed_over() {
        tracing::warn!("{why}; {} is used instead", dir.path().display());
    }
    dir.make(within).map_err(|error| EngineError::Setup {
        what: "cannot use the runtime directory".into(),
        path: dir.path().to_owned(),
        error,
    })
}
