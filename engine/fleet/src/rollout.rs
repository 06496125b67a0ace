//! A rollout takes a release from its first hosts to all hosts of a channel, or back to none.
//!
//! ```text
//! checking → staging → (activating → baking)… → promoting → done
//!     └─────────┴──────────┴──────────┴─→ paused ─→ where it was
//!     └─────────┴──────────┴──────────┴──────┴────→ rolling_back → rolled_back
//! ```
//!
//! A step neither waits nor writes nor reads a clock: the caller passes what is known now, and writes the result.
//! So any number of controllers can do this at the same time, and each can be killed at any time. The state alone
//! decides what hosts run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use hotswap_protocol::OfferAnswer;
use serde::{Deserialize, Serialize};

use crate::{
    Arm, AuditEntry, Channel, Histogram, HostReport, HostState, Id, Place, ProblemKind, Release,
    Time, Verdict, is_slower, judge, threshold,
};

/// How many hosts run the candidate in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Share {
    Hosts(usize),
    Percent(usize),
}

impl Share {
    /// The number of hosts, out of `hosts`; at least one.
    fn of(self, hosts: usize) -> usize {
        match self {
            Self::Hosts(count) => count.min(hosts),
            Self::Percent(percent) => hosts.saturating_mul(percent).div_ceil(100).min(hosts),
        }
    }

    fn is_all(self) -> bool {
        matches!(self, Self::Percent(100..))
    }
}

/// The speed of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    steps: Vec<Share>,
    /// The minimum time for which each step is observed.
    bake_ms: u64,
    /// The maximum time to wait for hosts and for calls.
    patience_ms: u64,
    /// The number of calls of changed plugins that each step needs.
    calls: u64,
    /// The time without a report after which a host is not counted.
    lost_ms: u64,
    /// Whether hosts begin to fetch at different times, and not all at once.
    #[serde(default)]
    spread: bool,
}

/// The time within which all hosts begin to fetch: `SPREAD_MS`, or `SPREAD_MS_A_HOST` for each host if that is longer.
const SPREAD_MS: u64 = 5000;
const SPREAD_MS_A_HOST: u64 = 5;

impl Pace {
    /// Four steps: one host, 5 %, 25 % and all hosts, each for at least a minute.
    pub fn usual() -> Self {
        Self {
            steps: vec![
                Share::Hosts(1),
                Share::Percent(5),
                Share::Percent(25),
                Share::Percent(100),
            ],
            bake_ms: 60_000,
            patience_ms: 600_000,
            calls: 100,
            lost_ms: 20_000,
            spread: true,
        }
    }

    /// The same steps in seconds, with three calls of evidence each: for tests, and to try rollouts out.
    pub fn fast() -> Self {
        Self { bake_ms: 1000, patience_ms: 45_000, calls: 3, spread: false, ..Self::usual() }
    }
}

/// The phase of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The release is being verified.
    Checking,
    /// All hosts fetch and verify the release, and try it without loading it.
    Staging,
    /// The chosen hosts load it.
    Activating,
    /// The release is judged.
    Baking,
    /// The release becomes the base.
    Promoting,
    /// All hosts run the release.
    Done,
    /// The rollout waits until somebody resumes, promotes or aborts it.
    Paused,
    /// The hosts go back to the base.
    RollingBack,
    /// No host runs the release.
    RolledBack,
    /// Another rollout took its place.
    Superseded,
}

impl Phase {
    /// Whether the rollout is over.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::RolledBack | Self::Superseded)
    }

    /// The word for a screen or a report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Checking => "checking",
            Self::Staging => "staging",
            Self::Activating => "activating",
            Self::Baking => "baking",
            Self::Promoting => "promoting",
            Self::Done => "done",
            Self::Paused => "paused",
            Self::RollingBack => "rolling_back",
            Self::RolledBack => "rolled_back",
            Self::Superseded => "superseded",
        }
    }
}

/// Why a rollout is paused or rolled back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields are what the variant names")]
pub enum Reason {
    /// Somebody asked for it.
    Asked { by: String },
    /// The release cannot be read, or fails its verification.
    Unsound { message: String },
    /// No host reports.
    NoHosts,
    /// These hosts have not staged it.
    NotStaged { hosts: Vec<Id> },
    /// These hosts do not run it.
    NotActive { hosts: Vec<Id> },
    /// These hosts still run it.
    NotBack { hosts: Vec<Id> },
    /// Hosts follow a newer declaration than the stored one: an older copy of the fleet was restored.
    OlderCopy { channel: Id },
    /// The changed plugins were not called often enough for a judgement.
    TooLittleEvidence { calls: u64, needed: u64 },
    /// A host cannot stage or load the release, or rolled it back.
    Refused { host: Id, problem: ProblemKind, plugin: Option<String>, message: String },
    /// The release has no artifact for the toolchain of these hosts.
    NotCovered { toolchain: String, plugin: String, hosts: Vec<Id> },
    /// A host reported itself healthy without the release, and unhealthy with it.
    Unwell { host: Id, message: String },
    /// Timed calls take longer than in the base.
    Slower { plugin: String, p99_ns: u64, base_p99_ns: u64, calls: u64 },
    /// The process of a host ended during a call of the release.
    Crashed { host: Id, plugin: Option<String> },
    /// The processes of hosts with the release ended, and no call of it was running.
    Died {
        hosts: Vec<Id>,
        /// Further hosts with the release that do not report any more.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        silent: Vec<Id>,
    },
    /// Hosts with the release do not report any more.
    Silent { hosts: Vec<Id> },
    /// Calls of the release panic.
    Panicked { plugin: String, panics: u64, calls: u64 },
    /// Calls of the release return errors more often than in the base.
    Failed { plugin: String, errors: u64, calls: u64, base_errors: u64, base_calls: u64 },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |hosts: &[Id]| {
            let first: Vec<&str> = hosts.iter().take(3).map(Id::as_str).collect();
            let more = if hosts.len() > 3 {
                format!(" and {} more", hosts.len() - 3)
            } else {
                String::new()
            };
            first.join(", ") + &more
        };
        match self {
            Self::Asked { by } => write!(f, "{by} asked for it"),
            Self::Unsound { message } => f.write_str(message),
            Self::NoHosts => {
                write!(
                    f,
                    "no host reports; `hotswap agent` reports those of its machine that have a console socket \
                     (`HOTSWAP_CONSOLE=1`)"
                )
            }
            Self::NotStaged { hosts } => write!(f, "not staged by {}", list(hosts)),
            Self::NotActive { hosts } => write!(f, "not running on {}", list(hosts)),
            Self::NotBack { hosts } => write!(f, "still running on {}", list(hosts)),
            Self::OlderCopy { channel } => write!(
                f,
                "hosts follow a newer declaration of channel {channel} than the stored one: an older copy of the fleet \
                 was restored; `hotswap fleet rollback RELEASE` declares what hosts run from now on, `hotswap fleet \
                 resume` continues this rollout"
            ),
            Self::TooLittleEvidence { calls, needed } => {
                write!(
                    f,
                    "the changed plugins were called {calls} times, and a judgement needs {needed} calls"
                )
            }
            Self::NotCovered { toolchain, plugin, hosts } => write!(
                f,
                "the release has no artifact of {plugin} for {toolchain}, which built {}; build it with that toolchain \
                 and push both",
                list(hosts)
            ),
            Self::Unwell { host, message } => write!(f, "{host} is unhealthy with it: {message}"),
            Self::Slower { plugin, p99_ns, base_p99_ns, calls } => write!(
                f,
                "{plugin} is slower: 99 % of {calls} timed calls took at most {} µs, and {} µs before",
                p99_ns / 1000,
                base_p99_ns / 1000
            ),
            Self::Refused { host, message, .. } => write!(f, "refused by {host}: {message}"),
            Self::Crashed { host, plugin: Some(plugin) } => write!(f, "{host} crashed in {plugin}"),
            Self::Crashed { host, plugin: None } => write!(f, "{host} crashed"),
            Self::Died { hosts, silent } => {
                let hosts = list(hosts);
                write!(f, "the processes of {hosts} ended, and no call of it was running")?;
                match silent.as_slice() {
                    [] => Ok(()),
                    silent => {
                        write!(f, "; {} also ran it, and do not report any more", list(silent))
                    }
                }
            }
            Self::Silent { hosts } => {
                write!(f, "{} ran it, and do not report any more", list(hosts))
            }
            Self::Panicked { plugin, panics, calls } => {
                write!(f, "{plugin} panicked in {panics} of {calls} calls")
            }
            Self::Failed { plugin, errors, calls, base_errors, base_calls } => write!(
                f,
                "{plugin} failed in {errors} of {calls} calls, and in {base_errors} of {base_calls} before"
            ),
        }
    }
}

/// A rollout of a release in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// The channel.
    pub channel: Id,
    /// The release under trial.
    pub release: Id,
    /// The release to which hosts go back; `None` for the builds of their own plugin directories.
    pub base: Option<Id>,
    /// A text that goes into the hash of hosts, so that this rollout chooses other hosts than the one before.
    pub salt: String,
    /// The person or program that began it.
    pub by: String,
    /// When it began, in milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// Its speed.
    pub pace: Pace,
    /// The plugins of the release.
    pub plugins: Vec<String>,
    /// The plugins whose builds differ from those of the base. Calls of these give the evidence.
    pub changed: Vec<String>,
    /// Its phase.
    pub phase: Phase,
    /// The index of its step, from 0.
    pub step: usize,
    /// The time of the last change of the phase, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Why it is paused or went back.
    pub reason: Option<Reason>,
    /// The phase in which it continues after a pause.
    pub resume: Option<Phase>,
    /// The threshold of each stratum: hosts up to it run the release.
    pub thresholds: BTreeMap<String, Place>,
    /// The last known results of calls of the base, by plugin.
    pub base_arms: BTreeMap<String, Arm>,
    /// How often the changed plugins had been called when the step began to bake.
    pub calls_before: u64,
    /// Hosts that ended while they ran the release, and whose end somebody has accepted by resuming.
    pub forgiven: BTreeSet<Id>,
    /// Further facts.
    #[serde(default)]
    pub memory: Memory,
    /// The number of writes of rollouts of this channel. The store counts them.
    #[serde(default)]
    pub writes: u64,
}

/// What a rollout remembers about hosts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// The hosts that were seen, with their strata. A host counts even if a server has lost its report.
    pub known: BTreeMap<Id, String>,
    /// The last known durations of calls of the base, by plugin.
    pub base_latencies: BTreeMap<String, Histogram>,
    /// The hosts that were unhealthy without the release.
    pub unwell: BTreeSet<Id>,
    /// The audit entries of the last write, as in [`Channel::unsaid`].
    #[serde(default)]
    pub unsaid: Vec<AuditEntry>,
    /// The rollout before this one: a program that follows it may not have seen its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
}

/// The end of the rollout before another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// Its salt, which no other rollout has.
    pub salt: String,
    /// The phase in which it ended.
    pub phase: Phase,
}

/// What a channel should declare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    base: Option<Id>,
    candidate: Option<Id>,
    /// `None` leaves the salt unchanged.
    salt: Option<String>,
    thresholds: BTreeMap<String, Place>,
    spread: bool,
}

impl Desired {
    /// Whether a channel already declares this.
    pub fn is_declared(&self, channel: &Channel) -> bool {
        channel.base == self.base
            && channel.candidate == self.candidate
            && self.salt.as_ref().is_none_or(|salt| channel.salt == *salt)
            && (self.candidate.is_none() || channel.thresholds == self.thresholds)
    }

    /// Changes the declaration of a channel with these hosts.
    pub fn declare(self, channel: &mut Channel, hosts: &[HostReport]) {
        channel.set_base(self.base);
        channel.candidate = self.candidate;
        channel.salt = self.salt.unwrap_or_default();
        channel.thresholds = self.thresholds;
        let count = u64::try_from(hosts.len()).unwrap_or(u64::MAX);
        let spread_ms = SPREAD_MS.max(count.saturating_mul(SPREAD_MS_A_HOST));
        channel.spread_ms = if self.spread { spread_ms } else { 0 };
        channel.raise_mark(hosts);
    }
}

/// An order to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Pause the rollout.
    Pause,
    /// Continue after a pause.
    Resume,
    /// Make the release the base, whatever the evidence says.
    Promote,
    /// Go back to the base.
    Abort,
    /// End, because another rollout begins.
    Supersede,
}

/// The facts that a step uses.
pub struct Input<'a> {
    /// The time.
    pub time: Time,
    /// The reports of the hosts.
    pub hosts: &'a [HostReport],
    /// The declaration of the channel.
    pub channel: &'a Channel,
    /// The result of the release's verification for these hosts; `None` if nobody has verified it in this step.
    pub sound: Option<Result<(), Reason>>,
    /// An order, and who gave it.
    pub order: Option<(Order, &'a str)>,
}

/// An action that follows from a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Change the declaration of the channel to this.
    Declare(Desired),
    /// Append this to the audit log.
    Audit {
        /// The phase that begins.
        phase: Phase,
        /// Why.
        reason: Option<Reason>,
    },
}

impl Rollout {
    /// Takes one step: returns the next state and the actions that follow from it. The caller writes the state
    /// first, on the condition that nobody has changed it in the meantime, and then does the actions.
    #[must_use]
    pub fn step(mut self, input: &Input<'_>) -> (Self, Vec<Effect>) {
        let is_old = input.channel.is_older_copy(input.hosts);
        let phase = self.phase;
        let desired = match input.order {
            _ if phase.is_over() => self.left_behind(input.channel).filter(|_| !is_old),
            None | Some((Order::Pause, _)) if is_old => {
                // A declaration that follows from an older copy would take hosts back. Somebody has to ask for it.
                if phase != Phase::Paused {
                    let reason = Reason::OlderCopy { channel: self.channel.clone() };
                    self.pause(reason, input.time.now_ms);
                }
                None
            }
            _ => {
                self.advance(input);
                // Hosts ignore an older copy, so it is declared again even if it is what it should be.
                let desired = self.desired();
                desired.filter(|desired| is_old || !desired.is_declared(input.channel))
            }
        };
        let mut effects = Vec::new();
        if self.phase != phase {
            effects.push(Effect::Audit { phase: self.phase, reason: self.reason.clone() });
        }
        effects.extend(desired.map(Effect::Declare));
        (self, effects)
    }

    /// What a channel should declare instead of the candidate that this rollout has left there: the program that
    /// superseded it may have been killed before it declared something else.
    fn left_behind(&self, channel: &Channel) -> Option<Desired> {
        let is_left = self.phase == Phase::Superseded
            && channel.candidate.as_ref() == Some(&self.release)
            && channel.salt == self.salt;
        is_left.then(|| self.without_candidate(self.base.as_ref()))
    }

    /// The hosts of the rollout for whose toolchain the release has no artifact, for the first such toolchain.
    pub fn uncovered(&self, release: &Release, input: &Input<'_>) -> Option<Reason> {
        let there = || input.hosts.iter().filter(|host| self.counts(host, input));
        there().find_map(|host| {
            let built_by = host.more.built_by.as_ref()?;
            let lacks = |plugin: &&crate::ReleasePlugin| {
                !plugin.artifacts.iter().any(|artifact| artifact.built_by == *built_by)
            };
            let plugin = release.plugins.iter().find(lacks)?;
            let hosts = there().filter(|host| host.more.built_by.as_ref() == Some(built_by));
            Some(Reason::NotCovered {
                toolchain: built_by.to_string(),
                plugin: plugin.name.clone(),
                hosts: hosts.map(|host| host.id.clone()).collect(),
            })
        })
    }

    /// The number of steps.
    pub fn steps(&self) -> usize {
        self.pace.steps.len()
    }

    /// What the channel should declare; `None` if the rollout does not decide that any more.
    fn desired(&self) -> Option<Desired> {
        match self.current_phase() {
            Phase::Checking => {
                Some(Desired { salt: None, ..self.without_candidate(self.base.as_ref()) })
            }
            Phase::RollingBack => Some(self.without_candidate(self.base.as_ref())),
            Phase::Staging | Phase::Activating | Phase::Baking => Some(Desired {
                base: self.base.clone(),
                candidate: Some(self.release.clone()),
                salt: Some(self.salt.clone()),
                thresholds: self.thresholds.clone(),
                spread: self.pace.spread,
            }),
            Phase::Promoting => Some(self.without_candidate(Some(&self.release))),
            Phase::Paused | Phase::Done | Phase::RolledBack | Phase::Superseded => None,
        }
    }

    /// A base and no candidate. The new salt changes the channel before the rollout ends. A controller that is late,
    /// and wants to declare something else, then sees that the channel has changed since it read it.
    fn without_candidate(&self, base: Option<&Id>) -> Desired {
        Desired {
            base: base.cloned(),
            candidate: None,
            salt: Some(format!("{}-{}", self.salt, self.since_ms)),
            thresholds: BTreeMap::new(),
            spread: false,
        }
    }

    /// The phase, or during a pause the phase in which the rollout continues.
    fn current_phase(&self) -> Phase {
        self.resume.unwrap_or(self.phase)
    }

    /// Begins the phase anew if the clock was set. Otherwise, it would last until a clock that was set back has caught
    /// up, or end before its time with a clock that was set forward. No evidence may look older than the rollout.
    fn follow_clock(&mut self, time: Time) {
        self.since_ms = time.latest(self.since_ms);
        self.started_at_ms = self.started_at_ms.min(time.now_ms);
    }

    fn advance(&mut self, input: &Input<'_>) {
        self.follow_clock(input.time);
        if let Some((order, by)) = input.order {
            return self.apply_order(order, by, input.time.now_ms);
        }
        let there: Vec<&HostReport> =
            input.hosts.iter().filter(|host| self.counts(host, input)).collect();
        self.remember(&there, input);
        if matches!(self.current_phase(), Phase::Staging | Phase::Activating | Phase::Baking) {
            self.measure_base(&there);
            if let Some(reason) = self.evidence(input.hosts, &there) {
                return self.enter(Phase::RollingBack, Some(reason), input.time.now_ms);
            }
            if self.phase != Phase::Paused
                && let Some(reason) = self.evidence_in_ends(input)
            {
                return self.pause(reason, input.time.now_ms);
            }
        }
        match self.phase {
            Phase::Checking => self.check(input),
            Phase::Staging => self.stage(&there, input),
            Phase::Activating => self.activate(&there, input),
            Phase::Baking => self.bake(&there, input),
            Phase::Promoting => self.promote(&there, input),
            Phase::RollingBack => self.roll_back(&there, input),
            Phase::Paused | Phase::Done | Phase::RolledBack | Phase::Superseded => {}
        }
    }

    fn apply_order(&mut self, order: Order, by: &str, now_ms: u64) {
        let asked = Some(Reason::Asked { by: by.to_owned() });
        match order {
            Order::Pause if self.phase != Phase::Paused => {
                self.pause(Reason::Asked { by: by.to_owned() }, now_ms);
            }
            Order::Resume if self.phase == Phase::Paused => {
                let resume = self.resume.unwrap_or(Phase::Checking);
                self.enter(resume, None, now_ms);
            }
            Order::Pause | Order::Resume => {}
            Order::Promote => self.enter(Phase::Promoting, asked, now_ms),
            Order::Abort => self.enter(Phase::RollingBack, asked, now_ms),
            Order::Supersede => self.enter(Phase::Superseded, asked, now_ms),
        }
    }

    fn enter(&mut self, phase: Phase, reason: Option<Reason>, now_ms: u64) {
        self.phase = phase;
        self.resume = None;
        self.since_ms = now_ms;
        self.reason = reason;
    }

    fn pause(&mut self, reason: Reason, now_ms: u64) {
        let resume = self.current_phase();
        self.enter(Phase::Paused, Some(reason), now_ms);
        self.resume = Some(resume);
    }

    /// Whether a host counts for the rollout: its process runs, it has reported recently, it has no pin, and it
    /// does not refuse the release.
    fn counts(&self, host: &HostReport, input: &Input<'_>) -> bool {
        let says_no = matches!(host.more.offer, Some(OfferAnswer::No { .. }));
        host.state.is_there()
            && !self.is_silent(host, input)
            && !input.channel.pins.contains_key(&host.id)
            && (!says_no || self.runs(host))
    }

    /// Remembers the hosts that are there, and keeps a host whose report the store may have lost.
    fn remember(&mut self, there: &[&HostReport], input: &Input<'_>) {
        let known = std::mem::take(&mut self.memory.known);
        let is_reported = |id: &Id| input.hosts.iter().any(|host| host.id == *id);
        let is_unknown = |id: &Id| {
            input.time.may_have_lost && !is_reported(id) && !input.channel.pins.contains_key(id)
        };
        self.memory.known = known.into_iter().filter(|(id, _)| is_unknown(id)).collect();
        let there = there.iter().map(|host| (host.id.clone(), host.stratum.clone()));
        self.memory.known.extend(there);
    }

    /// The known hosts whose reports the store has lost.
    fn unknown<'a>(
        &'a self,
        there: &'a [&HostReport],
    ) -> impl Iterator<Item = (&'a Id, &'a str)> + 'a {
        let is_there = |id: &Id| there.iter().any(|host| host.id == *id);
        let unknown = self.memory.known.iter().filter(move |(id, _)| !is_there(id));
        unknown.map(|(id, stratum)| (id, stratum.as_str()))
    }

    fn is_chosen(&self, host: &HostReport) -> bool {
        self.has_chosen(&host.id, &host.stratum)
    }

    fn has_chosen(&self, host: &Id, stratum: &str) -> bool {
        let threshold = self.thresholds.get(stratum);
        threshold.is_some_and(|threshold| Place::of(&self.salt, host) <= *threshold)
    }

    fn runs(&self, host: &HostReport) -> bool {
        host.release.as_ref() == Some(&self.release)
    }

    /// The results of calls of a plugin in these hosts.
    fn arm<'a>(plugin: &str, hosts: impl Iterator<Item = &'a HostReport>) -> Arm {
        let arms = hosts.filter_map(|host| host.health.get(plugin).copied());
        arms.fold(Arm::default(), Arm::and)
    }

    fn measure_base(&mut self, there: &[&HostReport]) {
        for plugin in &self.plugins {
            let base = there.iter().copied().filter(|host| !self.runs(host));
            let arm = Self::arm(plugin, base);
            if arm.calls > 0 {
                self.base_arms.insert(plugin.clone(), arm);
            }
            let base = there.iter().copied().filter(|host| !self.runs(host));
            let latencies = Self::latencies(plugin, base);
            if latencies.calls() > 0 {
                self.memory.base_latencies.insert(plugin.clone(), latencies);
            }
        }
        for host in there.iter().filter(|host| host.release.as_ref() != Some(&self.release)) {
            match is_unwell(host) {
                Some(_) => self.memory.unwell.insert(host.id.clone()),
                None => self.memory.unwell.remove(&host.id),
            };
        }
    }

    /// The durations of calls of a plugin in these hosts.
    fn latencies<'a>(plugin: &str, hosts: impl Iterator<Item = &'a HostReport>) -> Histogram {
        let mut all = Histogram::default();
        hosts.filter_map(|host| host.more.latencies.get(plugin)).for_each(|it| all.add_all(it));
        all
    }

    /// The evidence against the release, if there is any.
    fn evidence(&self, all: &[HostReport], there: &[&HostReport]) -> Option<Reason> {
        let is_about = |host: &HostReport| {
            let problem = host.problem.as_ref();
            problem.is_some_and(|problem| problem.release.as_ref() == Some(&self.release))
        };
        let crashed = all.iter().find(|host| {
            host.state == HostState::Crashed && host.at_ms >= self.started_at_ms && is_about(host)
        });
        if let Some(host) = crashed {
            let plugin = host.problem.as_ref().and_then(|problem| problem.plugin.clone());
            return Some(Reason::Crashed { host: host.id.clone(), plugin });
        }
        let refuses = |host: &&&HostReport| {
            let is_asked = self.current_phase() == Phase::Staging || self.is_chosen(host);
            host.state == HostState::Refused && is_asked && is_about(host)
        };
        if let Some(host) = there.iter().find(refuses) {
            let problem = host.problem.clone()?;
            return Some(Reason::Refused {
                host: host.id.clone(),
                problem: problem.kind,
                plugin: problem.plugin,
                message: problem.message,
            });
        }
        let unwell = there.iter().filter(|host| self.runs(host)).find_map(|host| {
            let message = is_unwell(host).filter(|_| !self.memory.unwell.contains(&host.id))?;
            Some(Reason::Unwell { host: host.id.clone(), message })
        });
        unwell
            .or_else(|| self.evidence_in_calls(there))
            .or_else(|| self.evidence_in_latencies(there))
    }

    /// Compares the durations of calls with those in the base.
    fn evidence_in_latencies(&self, there: &[&HostReport]) -> Option<Reason> {
        self.plugins.iter().find_map(|plugin| {
            let runs = there.iter().copied().filter(|host| self.runs(host));
            let (new, base) =
                (Self::latencies(plugin, runs), self.memory.base_latencies.get(plugin)?);
            let (p99_ns, base_p99_ns) = (new.p99_ns()?, base.p99_ns()?);
            is_slower(&new, base).then(|| Reason::Slower {
                plugin: plugin.clone(),
                p99_ns,
                base_p99_ns,
                calls: new.calls(),
            })
        })
    }

    /// Compares panics and errors with those in the base.
    fn evidence_in_calls(&self, there: &[&HostReport]) -> Option<Reason> {
        self.plugins.iter().find_map(|plugin| {
            let arm = Self::arm(plugin, there.iter().copied().filter(|host| self.runs(host)));
            let base = self.base_arms.get(plugin).copied().unwrap_or_default();
            let plugin = plugin.clone();
            match judge(&arm, &base) {
                Verdict::Good => None,
                Verdict::Panics => {
                    Some(Reason::Panicked { plugin, panics: arm.panics, calls: arm.calls })
                }
                Verdict::MoreErrors => Some(Reason::Failed {
                    plugin,
                    errors: arm.errors,
                    calls: arm.calls,
                    base_errors: base.errors,
                    base_calls: base.calls,
                }),
            }
        })
    }

    /// Whether hosts ended or stopped reporting while they ran the release. One such host may be an accident, two
    /// are evidence.
    fn evidence_in_ends(&mut self, input: &Input<'_>) -> Option<Reason> {
        let ran = input.hosts.iter().filter(|host| {
            host.at_ms >= self.started_at_ms
                && self.runs(host)
                && !input.channel.pins.contains_key(&host.id)
                && !self.forgiven.contains(&host.id)
        });
        let is_silent =
            |host: &HostReport| !input.time.may_have_lost && self.is_silent(host, input);
        let (died, rest): (Vec<_>, Vec<_>) = ran.partition(|host| host.state == HostState::Died);
        let silent = rest.into_iter().filter(|host| host.state.is_there() && is_silent(host));
        let silent: Vec<Id> = silent.map(|host| host.id.clone()).collect();
        let died: Vec<Id> = died.into_iter().map(|host| host.id.clone()).collect();
        if died.len() + silent.len() < 2 {
            return None;
        }
        self.forgiven.extend(died.iter().chain(&silent).cloned());
        Some(match died.is_empty() {
            true => Reason::Silent { hosts: silent },
            false => Reason::Died { hosts: died, silent },
        })
    }

    /// Whether a host has not reported for so long that it counts as lost.
    fn is_silent(&self, host: &HostReport, input: &Input<'_>) -> bool {
        input.time.now_ms.saturating_sub(input.time.latest(host.at_ms)) > self.pace.lost_ms
    }

    fn is_out_of_patience(&self, input: &Input<'_>) -> bool {
        input.time.now_ms.saturating_sub(self.since_ms) >= self.pace.patience_ms
    }

    fn check(&mut self, input: &Input<'_>) {
        match &input.sound {
            Some(Ok(())) => self.enter(Phase::Staging, None, input.time.now_ms),
            Some(Err(reason)) => {
                self.enter(Phase::RollingBack, Some(reason.clone()), input.time.now_ms);
            }
            None => {}
        }
    }

    fn stage(&mut self, there: &[&HostReport], input: &Input<'_>) {
        let is_staged =
            |host: &&&HostReport| host.staged.as_ref() == Some(&self.release) || self.runs(host);
        let waiting = there.iter().filter(|host| !is_staged(host)).map(|host| &host.id);
        let waiting: Vec<Id> =
            waiting.chain(self.unknown(there).map(|(id, _)| id)).cloned().collect();
        if !there.is_empty() && waiting.is_empty() {
            self.step = 0;
            self.choose(there);
            self.enter(Phase::Activating, None, input.time.now_ms);
        } else if self.is_out_of_patience(input) {
            let reason = match there {
                [] => Reason::NoHosts,
                _ => Reason::NotStaged { hosts: waiting },
            };
            self.pause(reason, input.time.now_ms);
        }
    }

    /// The share of each stratum that runs the release in this step.
    fn share(&self) -> Share {
        self.pace.steps.get(self.step).copied().unwrap_or(Share::Percent(100))
    }

    /// Chooses the hosts of this step among those that are there. Hosts that were chosen before stay chosen.
    fn choose(&mut self, there: &[&HostReport]) {
        let share = self.share();
        for (stratum, hosts) in self.by_stratum(there) {
            let count = share.of(hosts.len());
            let new = match share.is_all() {
                true => Some(Place::LAST),
                false => threshold(&self.salt, hosts.iter(), count),
            };
            let before = self.thresholds.get(&stratum).copied();
            if let Some(new) = new.max(before) {
                self.thresholds.insert(stratum, new);
            }
        }
    }

    /// The hosts by stratum: those that are there, and those whose reports the store has lost.
    fn by_stratum(&self, there: &[&HostReport]) -> BTreeMap<String, Vec<Id>> {
        let mut strata: BTreeMap<String, Vec<Id>> = BTreeMap::new();
        let there_now = there.iter().map(|host| (&host.id, host.stratum.as_str()));
        for (id, stratum) in there_now.chain(self.unknown(there)) {
            strata.entry(stratum.to_owned()).or_default().push(id.clone());
        }
        strata
    }

    /// Whether fewer hosts are chosen than the step needs, because some have gone.
    fn misses_hosts(&self, there: &[&HostReport]) -> bool {
        self.by_stratum(there).iter().any(|(stratum, hosts)| {
            let chosen = hosts.iter().filter(|host| self.has_chosen(host, stratum)).count();
            chosen < self.share().of(hosts.len())
        })
    }

    fn activate(&mut self, there: &[&HostReport], input: &Input<'_>) {
        if self.misses_hosts(there) {
            self.choose(there);
            return;
        }
        let mut chosen = there.iter().copied().filter(|host| self.is_chosen(host)).peekable();
        let is_empty = chosen.peek().is_none();
        let is_active = |host: &&HostReport| self.runs(host) && host.state == HostState::Serving;
        let unknown = self.unknown(there).filter(|(id, stratum)| self.has_chosen(id, stratum));
        let waiting = chosen.filter(|host| !is_active(host)).map(|host| &host.id);
        let waiting: Vec<Id> = waiting.chain(unknown.map(|(id, _)| id)).cloned().collect();
        if !is_empty && waiting.is_empty() {
            self.calls_before = self.calls(there);
            self.enter(Phase::Baking, None, input.time.now_ms);
        } else if self.is_out_of_patience(input) {
            let reason =
                if is_empty { Reason::NoHosts } else { Reason::NotActive { hosts: waiting } };
            self.pause(reason, input.time.now_ms);
        }
    }

    /// How often the changed plugins were called in the hosts that run the release.
    fn calls(&self, there: &[&HostReport]) -> u64 {
        let runs = || there.iter().copied().filter(|host| self.runs(host));
        self.changed
            .iter()
            .map(|plugin| Self::arm(plugin, runs()).calls)
            .fold(0, u64::saturating_add)
    }

    fn bake(&mut self, there: &[&HostReport], input: &Input<'_>) {
        if self.misses_hosts(there) {
            self.choose(there);
            return self.enter(Phase::Activating, None, input.time.now_ms);
        }
        // The calls of a host that has gone are not counted any more.
        let calls = self.calls(there);
        self.calls_before = self.calls_before.min(calls);
        let calls = calls - self.calls_before;
        let for_ms = input.time.now_ms.saturating_sub(self.since_ms);
        if for_ms >= self.pace.bake_ms && calls >= self.pace.calls && !there.is_empty() {
            self.next_step(there, input.time.now_ms);
        } else if for_ms >= self.pace.bake_ms.saturating_add(self.pace.patience_ms) {
            let reason = match there {
                [] => Reason::NoHosts,
                _ => Reason::TooLittleEvidence { calls, needed: self.pace.calls },
            };
            self.pause(reason, input.time.now_ms);
        }
    }

    /// Continues with the next step that adds hosts.
    fn next_step(&mut self, there: &[&HostReport], now_ms: u64) {
        while there.iter().any(|host| !self.is_chosen(host))
            && self.step + 1 < self.pace.steps.len()
        {
            self.step += 1;
            let before = self.thresholds.clone();
            self.choose(there);
            if self.thresholds != before {
                return self.enter(Phase::Activating, None, now_ms);
            }
        }
        self.enter(Phase::Promoting, None, now_ms);
    }

    fn is_declared(&self, input: &Input<'_>) -> bool {
        self.desired().is_none_or(|desired| desired.is_declared(input.channel))
    }

    fn promote(&mut self, there: &[&HostReport], input: &Input<'_>) {
        let waiting = there.iter().filter(|host| !self.runs(host)).map(|host| &host.id);
        let waiting: Vec<Id> =
            waiting.chain(self.unknown(there).map(|(id, _)| id)).cloned().collect();
        if !self.is_declared(input) {
            return;
        }
        if waiting.is_empty() {
            let reason = self.reason.take();
            self.enter(Phase::Done, reason, input.time.now_ms);
        } else if self.is_out_of_patience(input) {
            self.enter(Phase::Done, Some(Reason::NotActive { hosts: waiting }), input.time.now_ms);
        }
    }

    fn roll_back(&mut self, there: &[&HostReport], input: &Input<'_>) {
        let waiting = there.iter().filter(|host| self.runs(host)).map(|host| &host.id);
        let waiting: Vec<Id> =
            waiting.chain(self.unknown(there).map(|(id, _)| id)).cloned().collect();
        if !self.is_declared(input) {
            return;
        }
        if waiting.is_empty() {
            let reason = self.reason.take();
            self.enter(Phase::RolledBack, reason, input.time.now_ms);
        } else if self.is_out_of_patience(input) {
            self.pause(Reason::NotBack { hosts: waiting }, input.time.now_ms);
        }
    }
}

/// Why a host reports itself unhealthy; `None` if it does not.
fn is_unwell(host: &HostReport) -> Option<String> {
    let health = host.more.own_health.as_ref().filter(|health| !health.is_well)?;
    Some(health.reason.clone().unwrap_or_else(|| "it does not say why".to_owned()))
}
