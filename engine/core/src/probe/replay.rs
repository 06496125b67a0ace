//! Calls of functions in artifacts, without a host that serves them.

use std::{path::PathBuf, sync::Arc};

use hotswap_protocol::{InvokeParams, InvokeResult, PinParams, PinnedOutcome, WireError};

use crate::{
    Engine, EngineError,
    load::Request,
    server::{self, Call, Given},
};

/// Artifacts that are loaded in this process as a host would load them, to call their functions.
///
/// All steps of a load run, but nothing of a host is there except an empty Vault. The process should end
/// without dropping this: an `on_free` would undo things that were never done in a host.
#[derive(Debug)]
pub struct Replay {
    engine: Engine,
}

/// The outcome of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Replayed {
    /// How long the call took, in nanoseconds; `None` if it failed, or was not made.
    pub elapsed_ns: Option<u64>,
    /// The outcome.
    pub outcome: PinnedOutcome,
    /// A digest of the outcome. Outcomes of two builds of this crate's version are equal if their digests
    /// are, even if they are too large to be kept.
    pub digest: u64,
}

impl Replay {
    /// Loads these artifacts.
    ///
    /// # Errors
    /// As for [`Engine::load`]. Also if a plugin needs something that only its host has.
    pub fn load(artifacts: Vec<PathBuf>) -> Result<Self, EngineError> {
        let engine = Engine::builder("").build()?;
        engine.inner().load_as(Request::Exactly(artifacts), None, None)?;
        Ok(Self { engine })
    }

    /// Calls a function as often as requested, in the way in which consoles call functions.
    ///
    /// # Errors
    /// If there is no such function, or the call fails.
    pub fn invoke(&self, call: &InvokeParams) -> Result<InvokeResult, WireError> {
        server::invoke(self.engine.inner(), call, &Arc::new(Call::default()))
    }

    /// Makes a call, unless its function is marked with `effects`.
    pub fn call(&self, call: &PinParams) -> Result<Replayed, EngineError> {
        let plugin = self.engine.plugin(&call.plugin)?;
        let Given { answer, digest } = Given::by_calling(&plugin, call, &Arc::new(Call::default()));
        Ok(Replayed { elapsed_ns: answer.elapsed_ns, outcome: answer.outcome, digest })
    }
}
