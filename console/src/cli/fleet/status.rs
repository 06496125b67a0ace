//! The state of a fleet, as `hotswap fleet status` shows it.

use std::{collections::BTreeMap, io};

use hotswap_fleet::{
    Arm, FleetError, HostReport, Id, Phase, Problem, Reason, Rollout, Store, Time,
};
use hotswap_protocol::{HostHealth, OfferAnswer};
use serde::Serialize;

use super::super::text;
use crate::format;

/// The declaration of a channel, and the state of its hosts.
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
    /// Whether hosts follow a newer declaration than the stored one, which then is an older copy.
    outdated: bool,
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
    /// Why it is paused or went back, as text.
    reason: Option<String>,
    /// The same reason as data.
    cause: Option<Reason>,
    by: String,
    started_at_ms: u64,
    since_ms: u64,
    #[serde(skip)]
    salt: String,
}

/// A host.
#[derive(Serialize)]
pub(super) struct HostLine {
    pub id: Id,
    state: &'static str,
    release: Option<Id>,
    builds: BTreeMap<String, String>,
    name: String,
    pid: u32,
    at_ms: u64,
    staged: Option<Id>,
    problem: Option<Problem>,
    health: BTreeMap<String, Arm>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    /// The host's answer to the offer of its declared release, until it accepts.
    #[serde(skip_serializing_if = "Option::is_none")]
    offer: Option<OfferAnswer>,
    /// The health that the host itself reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    own_health: Option<HostHealth>,
}

impl Status {
    pub fn of(store: &Store, channel: &Id) -> Result<Self, FleetError> {
        let (hosts, unreadable) = store.hosts(channel)?;
        let declared = store.channel(channel)?;
        let outdated = declared.is_older_copy(&hosts);
        let keys = store.keys()?;
        let Time { now_ms, may_have_lost, .. } = store.time()?;
        let rollout = store.rollout(channel)?;
        // A lost report says nothing about the host.
        let known = rollout.iter().flat_map(|rollout| rollout.memory.known.keys());
        let is_unknown = |id: &&Id| !hosts.iter().any(|host| host.id == **id);
        let unknown: Vec<HostLine> = match may_have_lost {
            true => known.filter(is_unknown).map(HostLine::unknown).collect(),
            false => Vec::new(),
        };
        Ok(Self {
            fleet: store.fleet().id.clone(),
            signed: keys.is_some_and(|keys| !keys.keys.is_empty()),
            channel: channel.clone(),
            release: declared.base,
            candidate: declared.candidate,
            pins: declared.pins,
            rollout: rollout.map(RolloutLine::of),
            outdated,
            hosts: hosts
                .into_iter()
                .map(|host| HostLine::of(host, now_ms))
                .chain(unknown)
                .collect(),
            unreadable: unreadable.iter().map(FleetError::to_string).collect(),
        })
    }

    /// Whether it shows this rollout.
    pub fn is_about(&self, rollout: &Rollout) -> bool {
        let line = self.rollout.as_ref();
        line.is_some_and(|line| line.salt == rollout.salt)
    }

    /// The state of the rollout, on one line.
    pub fn rollout_line(&self) -> String {
        let Some(rollout) = &self.rollout else { return "no rollout yet".to_owned() };
        let step = match rollout.state {
            Phase::Activating | Phase::Baking | Phase::Paused => {
                format!(" in step {} of {}", rollout.step, rollout.steps)
            }
            _ => String::new(),
        };
        let reason = rollout.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let phase = format::rollout_phase(rollout.state);
        let later = self.declared_after(rollout);
        format!("rollout of {} {phase}{step}{reason}{later}", rollout.release)
    }

    /// The part of the line that says what was declared after a finished rollout, for example by a rollback.
    fn declared_after(&self, rollout: &RolloutLine) -> String {
        match &self.release {
            _ if rollout.state != Phase::Done => String::new(),
            Some(release) if *release == rollout.release => String::new(),
            Some(release) => format!("; {release} was declared afterwards"),
            None => "; no release is declared any more".to_owned(),
        }
    }

    /// The output of `--json` without the times of the reports, which always differ.
    pub fn facts(&self) -> io::Result<String> {
        let mut facts = serde_json::to_value(self)?;
        for host in facts["hosts"].as_array_mut().into_iter().flatten() {
            host["at_ms"].take();
        }
        Ok(facts.to_string())
    }

    pub fn in_words(&self) -> String {
        let Self { fleet, channel, .. } = self;
        let signed = if self.signed { "signed" } else { "not signed" };
        let release = match &self.release {
            Some(release) => format!("release {release}"),
            None => "the builds of each host's own plugin directory".to_owned(),
        };
        let mut text = format!("fleet {fleet} ({signed}), channel {channel}: {release}\n");
        if self.outdated {
            text += "this declaration is older than the one that hosts follow: an earlier copy was restored; hosts keep \
                     following the newer one until there is a newer declaration\n";
        }
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
            let offer = host.offer.as_ref().and_then(|offer| match offer {
                OfferAnswer::Later { reason } => Some(format!("wants to wait: {reason}")),
                OfferAnswer::No { reason } => Some(format!("does not want it: {reason}")),
                _ => None,
            });
            let unwell = host.own_health.as_ref().filter(|health| !health.is_well);
            let unwell = unwell.map(|health| match &health.reason {
                Some(reason) => format!("not well: {reason}"),
                None => "not well".to_owned(),
            });
            let problem = host.problem.as_ref().map(|it| it.message.clone());
            let problem =
                [problem, offer, unwell].into_iter().flatten().collect::<Vec<_>>().join("; ");
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
            salt: rollout.salt,
        }
    }
}

impl HostLine {
    /// A host whose report the server has lost.
    fn unknown(id: &Id) -> Self {
        Self {
            id: id.clone(),
            state: "unknown",
            release: None,
            builds: BTreeMap::new(),
            name: String::new(),
            pid: 0,
            at_ms: 0,
            staged: None,
            problem: None,
            health: BTreeMap::new(),
            labels: BTreeMap::new(),
            offer: None,
            own_health: None,
        }
    }

    fn of(host: HostReport, now_ms: u64) -> Self {
        Self {
            state: if host.is_lost(now_ms) { "lost" } else { host.state.as_str() },
            id: host.id,
            release: host.release,
            builds: host.builds,
            name: host.name,
            pid: host.pid,
            at_ms: host.at_ms,
            staged: host.staged,
            problem: host.problem,
            health: host.health,
            labels: host.more.labels,
            offer: host.more.offer,
            own_health: host.more.own_health,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line of a finished rollout of `r3` in a channel that declares this release.
    fn line_of_done(declared: Option<&str>) -> String {
        let id = |name: &str| name.parse::<Id>().unwrap();
        let rollout = RolloutLine {
            release: id("r3"),
            state: Phase::Done,
            step: 1,
            steps: 1,
            reason: None,
            cause: None,
            by: "ada".to_owned(),
            started_at_ms: 0,
            since_ms: 0,
            salt: String::new(),
        };
        let status = Status {
            fleet: id("game"),
            signed: false,
            channel: id("main"),
            release: declared.map(id),
            candidate: None,
            pins: BTreeMap::new(),
            rollout: Some(rollout),
            outdated: false,
            hosts: Vec::new(),
            unreadable: Vec::new(),
        };
        status.rollout_line()
    }

    #[test]
    fn a_rollback_after_a_rollout_is_part_of_its_line() {
        assert_eq!(line_of_done(Some("r3")), "rollout of r3 is done");
        let after = "rollout of r3 is done; r2 was declared afterwards";
        assert_eq!(line_of_done(Some("r2")), after);
        let none = "rollout of r3 is done; no release is declared any more";
        assert_eq!(line_of_done(None), none);
    }
}
