//! What a fleet does, as `hotswap fleet status` shows it.

use std::collections::BTreeMap;

use hotswap_fleet::{Arm, FleetError, HostReport, Id, Phase, Problem, Reason, Rollout, Store};
use hotswap_protocol::clock::now_ms;
use serde::Serialize;

use super::super::text;
use crate::format;

/// What a channel declares and its hosts do.
#[derive(Serialize)]
pub(super) struct Status {
    fleet: Id,
    /// Whether releases have to be signed.
    signed: bool,
    channel: Id,
    release: Option<Id>,
    candidate: Option<Id>,
    pins: BTreeMap<Id, Id>,
    rollout: Option<RolloutLine>,
    pub hosts: Vec<HostLine>,
    /// Reports that cannot be read.
    unreadable: Vec<String>,
}

/// The rollout of a channel.
#[derive(Serialize)]
struct RolloutLine {
    release: Id,
    state: Phase,
    /// The step, from 1.
    step: usize,
    steps: usize,
    /// Why it waits or went back, in words.
    reason: Option<String>,
    /// The same as data.
    cause: Option<Reason>,
    by: String,
    started_at_ms: u64,
    since_ms: u64,
}

/// A host.
#[derive(Serialize)]
pub(super) struct HostLine {
    id: Id,
    state: &'static str,
    release: Option<Id>,
    builds: BTreeMap<String, String>,
    name: String,
    pid: u32,
    at_ms: u64,
    staged: Option<Id>,
    problem: Option<Problem>,
    health: BTreeMap<String, Arm>,
}

impl Status {
    pub fn of(store: &Store, channel: &Id) -> Result<Self, FleetError> {
        let declared = store.channel(channel)?;
        let (hosts, unreadable) = store.hosts(channel)?;
        let keys = store.keys()?;
        Ok(Self {
            fleet: store.fleet().id.clone(),
            signed: keys.is_some_and(|keys| !keys.keys.is_empty()),
            channel: channel.clone(),
            release: declared.base,
            candidate: declared.candidate,
            pins: declared.pins,
            rollout: store.rollout(channel)?.map(RolloutLine::of),
            hosts: hosts.into_iter().map(HostLine::of).collect(),
            unreadable: unreadable.iter().map(FleetError::to_string).collect(),
        })
    }

    /// How the rollout goes, on one line.
    pub fn rollout_line(&self) -> String {
        let Some(rollout) = &self.rollout else { return "no rollout yet".to_owned() };
        let step = match rollout.state {
            Phase::Activating | Phase::Baking | Phase::Paused => {
                format!(" in step {} of {}", rollout.step, rollout.steps)
            }
            _ => String::new(),
        };
        let reason = rollout.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        format!(
            "rollout of {} {}{step}{reason}",
            rollout.release,
            format::rollout_phase(rollout.state)
        )
    }

    pub fn in_words(&self) -> String {
        let Self { fleet, channel, .. } = self;
        let signed = if self.signed { "signed" } else { "not signed" };
        let release = match &self.release {
            Some(release) => format!("release {release}"),
            None => "what each host's own plugin directory has".to_owned(),
        };
        let mut text = format!("fleet {fleet} ({signed}), channel {channel}: {release}\n");
        if self.rollout.is_some() {
            text += &format!("{}\n", self.rollout_line());
        }
        for (host, release) in &self.pins {
            text += &format!("{host} is pinned to {release}\n");
        }
        text += &self.hosts_in_words();
        for unreadable in &self.unreadable {
            text += &format!("{unreadable}\n");
        }
        text
    }

    pub fn hosts_in_words(&self) -> String {
        if self.hosts.is_empty() {
            return format!("{}\n", Reason::NoHosts);
        }
        let rows = self.hosts.iter().map(|host| {
            let build = |(plugin, build): (&String, &String)| {
                format!("{plugin} {}", format::short_build_id(build))
            };
            let builds: Vec<String> = host.builds.iter().map(build).collect();
            let release = host.release.as_ref().map_or("–", Id::as_str).to_owned();
            let problem = host.problem.as_ref().map(|it| it.message.clone()).unwrap_or_default();
            [host.id.to_string(), host.state.to_owned(), release, builds.join(", "), problem]
        });
        text::table(["HOST", "STATE", "RELEASE", "BUILDS", "PROBLEM"], rows)
    }
}

impl RolloutLine {
    fn of(rollout: Rollout) -> Self {
        Self {
            steps: rollout.steps(),
            release: rollout.release,
            state: rollout.phase,
            step: rollout.step + 1,
            reason: rollout.reason.as_ref().map(Reason::to_string),
            cause: rollout.reason,
            by: rollout.by,
            started_at_ms: rollout.started_at_ms,
            since_ms: rollout.since_ms,
        }
    }
}

impl HostLine {
    fn of(host: HostReport) -> Self {
        Self {
            state: if host.is_lost(now_ms()) { "lost" } else { host.state.as_str() },
            id: host.id,
            release: host.release,
            builds: host.builds,
            name: host.name,
            pid: host.pid,
            at_ms: host.at_ms,
            staged: host.staged,
            problem: host.problem,
            health: host.health,
        }
    }
}
