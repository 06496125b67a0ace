//! The services that consoles may request.

use std::sync::Arc;

use hotswap_protocol::{
    ApplyParams, Event, FreeResult, HostAgent, HostInfo, LiveSnapshot, OfferAnswer, OfferParams,
    PatchParams, PlanParams, PruneParams, ReloadPlan, ReloadReport, Reloads, Snapshot,
    VaultSnapshot,
};

use super::pins::Pins;
use crate::{EngineError, Events, LoadedPlugin};

/// The services that the engine provides to consoles.
pub(crate) trait Served: Send + Sync {
    fn host_info(&self) -> HostInfo;
    /// Accepts the agent that brings the host to the release that its fleet declares.
    ///
    /// # Errors
    /// The agent that the host has already.
    fn accept_agent(&self, agent: &HostAgent) -> Result<(), HostAgent>;
    /// Notes that this agent is not connected any more.
    fn end_agent(&self, agent: &HostAgent);
    fn subscribe(&self) -> Events;
    /// Sends an event to all subscribers.
    fn send_event(&self, event: Event);
    fn pins(&self) -> Arc<Pins>;
    fn snapshot(&self) -> Snapshot;
    /// The last loads.
    fn reloads(&self) -> Reloads;
    fn vault_snapshot(&self) -> VaultSnapshot;
    fn live_snapshot(&self) -> LiveSnapshot;

    /// The plugin that a target names.
    fn plugin(&self, target: &str) -> Result<LoadedPlugin, EngineError>;

    /// Loads what changed; with `latest`, including plugins that a rollback keeps back.
    fn reload(&self, latest: bool) -> Result<ReloadReport, EngineError>;
    /// Loads what changed, and retires plugins whose artifact is gone.
    fn prune(&self, prune: PruneParams) -> Result<ReloadReport, EngineError>;
    fn plan(&self, plan: PlanParams) -> Result<ReloadPlan, EngineError>;
    /// Loads exactly these artifacts.
    fn apply(&self, apply: ApplyParams) -> Result<ReloadReport, EngineError>;
    /// Patches a plugin before its artifact is linked, or says which build has that code.
    fn patch(&self, patch: PatchParams) -> Result<ReloadReport, EngineError>;
    /// Whether the host takes a release now.
    fn offer(&self, offer: &OfferParams) -> OfferAnswer;
    fn rollback(&self, target: &str) -> Result<ReloadReport, EngineError>;
    fn free(&self, target: &str) -> Result<FreeResult, EngineError>;
}
