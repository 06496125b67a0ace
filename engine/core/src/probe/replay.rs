//! Calls made in artifacts that no host serves from.

use std::{path::PathBuf, sync::Arc};

use hotswap_protocol::{InvokeParams, InvokeResult, PinParams, PinnedOutcome, WireError};

use crate::{
    Engine, EngineError,
    load::Request,
    server::{self, Call, Given},
};

/// Artifacts that are loaded in this process as a host loads them, to make calls in them.
///
/// All steps of a load run, and nothing of a host is there but an empty Vault. The process is to end without
/// letting go of them: what `on_free` would undo was never the host's.
#[derive(Debug)]
pub struct Replay {
    engine: Engine,
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Replayed {
    /// How long it took, in nanoseconds; `None` if it failed, or was not made.
    pub elapsed_ns: Option<u64>,
    /// What it gave.
    pub outcome: PinnedOutcome,
    /// Equal where two builds of this crate's version gave the same, also where that is too large to be kept.
    pub digest: u64,
}

impl Replay {
    /// Loads these artifacts.
    ///
    /// # Errors
    /// As [`Engine::load`]: also where a plugin needs something that only its host has.
    pub fn load(artifacts: Vec<PathBuf>) -> Result<Self, EngineError> {
        let engine = Engine::builder("").build()?;
        engine.inner().load_as(Request::Exactly(artifacts), None, None)?;
        Ok(Self { engine })
    }

    /// Calls a function as often as asked, as a console has it called.
    ///
    /// # Errors
    /// When there is no such function, or the call fails.
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
