//! A rollout: from a release that is to be tried to one that all hosts run, or that none does.
//!
//! ```text
//! checking → staging → (activating → baking)… → promoting → done
//!     └─────────┴──────────┴──────────┴─→ paused ─→ where it was
//!     └─────────┴──────────┴──────────┴──────┴────→ rolling_back → rolled_back
//! ```
//!
//! Nothing here waits, writes or looks at a clock: whoever may write the fleet gives what is known now and writes
//! what comes out, so that any number of controllers can do so, and each can be killed at any time. What hosts are
//! to run follows from the state alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use hotswap_protocol::OfferAnswer;
use serde::{Deserialize, Serialize};

use crate::{
    Arm, AuditEntry, Channel, Histogram, HostReport, HostState, Id, Place, ProblemKind, Release,
    Verdict, is_slower, judge, threshold,
};

/// How many hosts run the candidate in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Share {
    Hosts(usize),
    Percent(usize),
}

impl Share {
    /// Of so many hosts; at least one.
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

/// How fast a rollout goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    steps: Vec<Share>,
    /// How long a step is looked at, at least.
    bake_ms: u64,
    /// How long something is waited for, at most.
    patience_ms: u64,
    /// How many calls of what changed a step needs.
    calls: u64,
    /// After how long a host that tells nothing is not counted.
    lost_ms: u64,
    /// Whether hosts begin to fetch at times of their own, and not all at once.
    #[serde(default)]
    spread: bool,
}

/// The span in which hosts begin to fetch, and what each host adds to it.
const SPREAD_MS: u64 = 5000;
const SPREAD_MS_A_HOST: u64 = 5;

impl Pace {
    /// One host, 5 %, 25 % and all, a minute each.
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

    /// The same in seconds, and with three calls a step for evidence: to try out, and for tests.
    pub fn fast() -> Self {
        Self { bake_ms: 1000, patience_ms: 45_000, calls: 3, spread: false, ..Self::usual() }
    }
}

/// Where a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The release is being verified.
    Checking,
    /// All hosts fetch, verify and try it without loading it.
    Staging,
    /// The chosen hosts load it.
    Activating,
    /// It is judged.
    Baking,
    /// It becomes the base.
    Promoting,
    /// All hosts run it.
    Done,
    /// Nothing goes on until somebody says how.
    Paused,
    /// The hosts go back to the base.
    RollingBack,
    /// No host runs it.
    RolledBack,
    /// Another rollout took its place.
    Superseded,
}

impl Phase {
    /// Whether it is over.
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

/// Why a rollout does not go on, or goes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields are what the variant names")]
pub enum Reason {
    /// Somebody asked for it.
    Asked { by: String },
    /// The release is not what it says, or cannot be read.
    Unsound { message: String },
    /// No host reports.
    NoHosts,
    /// These hosts have not staged it.
    NotStaged { hosts: Vec<Id> },
    /// These hosts do not run it.
    NotActive { hosts: Vec<Id> },
    /// These hosts still run it.
    NotBack { hosts: Vec<Id> },
    /// What changed was not called often enough to be judged.
    TooLittleEvidence { calls: u64, needed: u64 },
    /// A host cannot stage or load it, or went back from it.
    Refused { host: Id, problem: ProblemKind, plugin: Option<String>, message: String },
    /// The release has no artifact for a toolchain that these hosts have.
    NotCovered { toolchain: String, plugin: String, hosts: Vec<Id> },
    /// A host that was well before it is not well with it, by its own account.
    Unwell { host: Id, message: String },
    /// The timed calls take longer.
    Slower { plugin: String, p99_ns: u64, base_p99_ns: u64, calls: u64 },
    /// A host's process ended in a call of it.
    Crashed { host: Id, plugin: Option<String> },
    /// Hosts that ran it ended, without a call of it under way.
    Died {
        hosts: Vec<Id>,
        /// Others that ran it tell nothing any more.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        silent: Vec<Id>,
    },
    /// Hosts that ran it tell nothing any more.
    Silent { hosts: Vec<Id> },
    /// It panics.
    Panicked { plugin: String, panics: u64, calls: u64 },
    /// More of its calls return an error.
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
            Self::TooLittleEvidence { calls, needed } => {
                write!(
                    f,
                    "what changed was called {calls} times, and {needed} calls are needed to judge it"
                )
            }
            Self::NotCovered { toolchain, plugin, hosts } => write!(
                f,
                "the release has no artifact of {plugin} for {toolchain}, which built {}; build it with that toolchain \
                 and push both",
                list(hosts)
            ),
            Self::Unwell { host, message } => write!(f, "{host} is not well with it: {message}"),
            Self::Slower { plugin, p99_ns, base_p99_ns, calls } => write!(
                f,
                "{plugin} is slower: 99 % of {calls} timed calls took at most {} µs, and before {} µs",
                p99_ns / 1000,
                base_p99_ns / 1000
            ),
            Self::Refused { host, message, .. } => write!(f, "refused by {host}: {message}"),
            Self::Crashed { host, plugin: Some(plugin) } => write!(f, "{host} crashed in {plugin}"),
            Self::Crashed { host, plugin: None } => write!(f, "{host} crashed"),
            Self::Died { hosts, silent } => {
                let hosts = list(hosts);
                write!(f, "the processes of {hosts} ended, and no call of it was under way")?;
                match silent.as_slice() {
                    [] => Ok(()),
                    silent => {
                        write!(f, "; {} ran it, too, and tell nothing any more", list(silent))
                    }
                }
            }
            Self::Silent { hosts } => {
                write!(f, "{} ran it, and tell nothing any more", list(hosts))
            }
            Self::Panicked { plugin, panics, calls } => {
                write!(f, "{plugin} panicked in {panics} of {calls} calls")
            }
            Self::Failed { plugin, errors, calls, base_errors, base_calls } => write!(
                f,
                "{plugin} failed in {errors} of {calls} calls, and before in {base_errors} of {base_calls}"
            ),
        }
    }
}

/// A rollout of a release in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// The channel.
    pub channel: Id,
    /// The release that is tried.
    pub release: Id,
    /// What hosts go back to; `None` for what their own plugin directories have.
    pub base: Option<Id>,
    /// What makes it choose other hosts than the one before.
    pub salt: String,
    /// Who began it.
    pub by: String,
    /// When, in milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// How fast it goes.
    pub pace: Pace,
    /// The plugins of the release.
    pub plugins: Vec<String>,
    /// Those of them that are other builds than in the base: these have to be called.
    pub changed: Vec<String>,
    /// Where it is.
    pub phase: Phase,
    /// In which step.
    pub step: usize,
    /// Since when it is in this phase, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Why it does not go on, or went back.
    pub reason: Option<Reason>,
    /// Where it goes on after a pause.
    pub resume: Option<Phase>,
    /// Up to which place hosts run it, by stratum.
    pub thresholds: BTreeMap<String, Place>,
    /// What came of calls of the base, as last seen, by plugin.
    pub base_arms: BTreeMap<String, Arm>,
    /// How often what changed had been called when the step began to bake.
    pub calls_before: u64,
    /// The hosts that ended while they ran it, and were put up with.
    pub forgiven: BTreeSet<Id>,
    /// What else it has seen.
    #[serde(default)]
    pub memory: Memory,
    /// Counts how often the rollouts of the channel were written; the store does.
    #[serde(default)]
    pub writes: u64,
}

/// What a rollout has seen of hosts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// The hosts that were there, with their strata: a server that has lost their reports does not make them gone.
    pub known: BTreeMap<Id, String>,
    /// How long calls of the base took, as last seen, by plugin.
    pub base_latencies: BTreeMap<String, Histogram>,
    /// The hosts that were not well without the release.
    pub unwell: BTreeSet<Id>,
    /// What is to be in the audit, and may not be: whoever wrote it here may have been killed before.
    #[serde(default)]
    pub unsaid: Vec<AuditEntry>,
}

/// What a channel is to declare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    base: Option<Id>,
    candidate: Option<Id>,
    /// `None` for whatever it is.
    salt: Option<String>,
    thresholds: BTreeMap<String, Place>,
    spread: bool,
}

impl Desired {
    /// Whether a channel declares it.
    pub fn is_declared(&self, channel: &Channel) -> bool {
        channel.base == self.base
            && channel.candidate == self.candidate
            && self.salt.as_ref().is_none_or(|salt| channel.salt == *salt)
            && (self.candidate.is_none() || channel.thresholds == self.thresholds)
    }

    /// Declares it to these hosts.
    pub fn declare(self, channel: &mut Channel, hosts: &[HostReport]) {
        channel.set_base(self.base);
        channel.candidate = self.candidate;
        channel.salt = self.salt.unwrap_or_default();
        channel.thresholds = self.thresholds;
        let count = u64::try_from(hosts.len()).unwrap_or(u64::MAX);
        let spread_ms = SPREAD_MS.max(count.saturating_mul(SPREAD_MS_A_HOST));
        channel.spread_ms = if self.spread { spread_ms } else { 0 };
        channel.go_on(hosts);
    }
}

/// What somebody asks of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Wait.
    Pause,
    /// Go on.
    Resume,
    /// Make it the base, whatever is known.
    Promote,
    /// Go back to the base.
    Abort,
    /// Another rollout takes its place.
    Supersede,
}

/// What is known now.
pub struct Input<'a> {
    /// The time, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// What hosts report.
    pub hosts: &'a [HostReport],
    /// What the channel declares.
    pub channel: &'a Channel,
    /// Whether the release is sound and for all hosts, or what is wrong with it; `None` if nobody looked.
    pub sound: Option<Result<(), Reason>>,
    /// Whether the store may have lost what hosts reported, and not all have reported anew since.
    pub may_have_lost: bool,
    /// What somebody asks for, and who.
    pub order: Option<(Order, &'a str)>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The channel is to declare this.
    Declare(Desired),
    /// This is to be written down.
    Audit {
        /// The phase that begins.
        phase: Phase,
        /// Why.
        reason: Option<Reason>,
    },
}

impl Rollout {
    /// One step: the state that follows, and what is to be done. It is to be written before anything is done,
    /// and only if nobody has written another state meanwhile.
    #[must_use]
    pub fn step(mut self, input: &Input<'_>) -> (Self, Vec<Effect>) {
        let mut effects = Vec::new();
        if self.phase.is_over() {
            return (self, effects);
        }
        let phase = self.phase;
        self.advance(input);
        if self.phase != phase {
            effects.push(Effect::Audit { phase: self.phase, reason: self.reason.clone() });
        }
        let desired = self.desired();
        effects.extend(
            desired.filter(|desired| !desired.is_declared(input.channel)).map(Effect::Declare),
        );
        (self, effects)
    }

    /// The hosts that it goes to and that the release has nothing for: the first toolchain of them.
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

    /// How many steps it has.
    pub fn steps(&self) -> usize {
        self.pace.steps.len()
    }

    /// What the channel is to declare; `None` if that is none of this rollout's business any more.
    fn desired(&self) -> Option<Desired> {
        let none = |base: Option<&Id>, salt| Desired {
            base: base.cloned(),
            candidate: None,
            salt,
            thresholds: BTreeMap::new(),
            spread: false,
        };
        // It ends only after a channel was written that nobody can have read before: whoever is late to declare
        // something else finds another channel than the one that it has read.
        let end = || Some(format!("{}-{}", self.salt, self.since_ms));
        match self.at() {
            Phase::Checking => Some(none(self.base.as_ref(), None)),
            Phase::RollingBack => Some(none(self.base.as_ref(), end())),
            Phase::Staging | Phase::Activating | Phase::Baking => Some(Desired {
                base: self.base.clone(),
                candidate: Some(self.release.clone()),
                salt: Some(self.salt.clone()),
                thresholds: self.thresholds.clone(),
                spread: self.pace.spread,
            }),
            Phase::Promoting => Some(none(Some(&self.release), end())),
            Phase::Paused | Phase::Done | Phase::RolledBack | Phase::Superseded => None,
        }
    }

    /// Where it is, and while it is paused, where it goes on.
    fn at(&self) -> Phase {
        self.resume.unwrap_or(self.phase)
    }

    fn advance(&mut self, input: &Input<'_>) {
        if let Some((order, by)) = input.order {
            return self.obey(order, by, input.now_ms);
        }
        let there: Vec<&HostReport> =
            input.hosts.iter().filter(|host| self.counts(host, input)).collect();
        self.remember(&there, input);
        if matches!(self.at(), Phase::Staging | Phase::Activating | Phase::Baking) {
            self.look_at_base(&there);
            if let Some(reason) = self.found(input.hosts, &there) {
                return self.go(Phase::RollingBack, Some(reason), input.now_ms);
            }
            if self.phase != Phase::Paused
                && let Some(reason) = self.ended(input)
            {
                return self.pause(reason, input.now_ms);
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

    fn obey(&mut self, order: Order, by: &str, now_ms: u64) {
        let asked = Some(Reason::Asked { by: by.to_owned() });
        match order {
            Order::Pause if self.phase != Phase::Paused => {
                self.pause(Reason::Asked { by: by.to_owned() }, now_ms);
            }
            Order::Resume if self.phase == Phase::Paused => {
                let resume = self.resume.unwrap_or(Phase::Checking);
                self.go(resume, None, now_ms);
            }
            Order::Pause | Order::Resume => {}
            Order::Promote => self.go(Phase::Promoting, asked, now_ms),
            Order::Abort => self.go(Phase::RollingBack, asked, now_ms),
            Order::Supersede => self.go(Phase::Superseded, asked, now_ms),
        }
    }

    fn go(&mut self, phase: Phase, reason: Option<Reason>, now_ms: u64) {
        self.phase = phase;
        self.resume = None;
        self.since_ms = now_ms;
        self.reason = reason;
    }

    fn pause(&mut self, reason: Reason, now_ms: u64) {
        let resume = self.at();
        self.go(Phase::Paused, Some(reason), now_ms);
        self.resume = Some(resume);
    }

    /// Whether a host counts: it is there, has told so lately, is not pinned, and does not say no to the release.
    fn counts(&self, host: &HostReport, input: &Input<'_>) -> bool {
        let says_no = matches!(host.more.offer, Some(OfferAnswer::No { .. }));
        host.state.is_there()
            && !self.is_silent(host, input)
            && !input.channel.pins.contains_key(&host.id)
            && (!says_no || self.runs(host))
    }

    /// Keeps in mind which hosts there are, those that count and those of which the store may have lost the reports.
    fn remember(&mut self, there: &[&HostReport], input: &Input<'_>) {
        let known = std::mem::take(&mut self.memory.known);
        let is_reported = |id: &Id| input.hosts.iter().any(|host| host.id == *id);
        let is_unknown = |id: &Id| {
            input.may_have_lost && !is_reported(id) && !input.channel.pins.contains_key(id)
        };
        self.memory.known = known.into_iter().filter(|(id, _)| is_unknown(id)).collect();
        let there = there.iter().map(|host| (host.id.clone(), host.stratum.clone()));
        self.memory.known.extend(there);
    }

    /// The hosts of which nothing is known, because the store has lost it.
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

    /// What came of calls of a plugin in these hosts.
    fn arm<'a>(plugin: &str, hosts: impl Iterator<Item = &'a HostReport>) -> Arm {
        let arms = hosts.filter_map(|host| host.health.get(plugin).copied());
        arms.fold(Arm::default(), Arm::and)
    }

    fn look_at_base(&mut self, there: &[&HostReport]) {
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

    /// How long calls of a plugin took in these hosts.
    fn latencies<'a>(plugin: &str, hosts: impl Iterator<Item = &'a HostReport>) -> Histogram {
        let mut all = Histogram::default();
        hosts.filter_map(|host| host.more.latencies.get(plugin)).for_each(|it| all.add_all(it));
        all
    }

    /// What speaks against the release.
    fn found(&self, all: &[HostReport], there: &[&HostReport]) -> Option<Reason> {
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
            let is_asked = self.at() == Phase::Staging || self.is_chosen(host);
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
        unwell.or_else(|| self.found_in_calls(there)).or_else(|| self.found_in_latencies(there))
    }

    /// Whether calls take longer.
    fn found_in_latencies(&self, there: &[&HostReport]) -> Option<Reason> {
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

    /// Whether calls panic or fail.
    fn found_in_calls(&self, there: &[&HostReport]) -> Option<Reason> {
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

    /// Whether hosts have ended, or tell nothing any more, while they ran it: one may be an accident, two are not.
    fn ended(&mut self, input: &Input<'_>) -> Option<Reason> {
        let ran = input.hosts.iter().filter(|host| {
            host.at_ms >= self.started_at_ms
                && self.runs(host)
                && !input.channel.pins.contains_key(&host.id)
                && !self.forgiven.contains(&host.id)
        });
        let is_silent = |host: &HostReport| !input.may_have_lost && self.is_silent(host, input);
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

    /// Whether a host has told nothing for so long that it counts as lost.
    fn is_silent(&self, host: &HostReport, input: &Input<'_>) -> bool {
        input.now_ms.saturating_sub(host.at_ms) > self.pace.lost_ms
    }

    fn is_out_of_patience(&self, input: &Input<'_>) -> bool {
        input.now_ms.saturating_sub(self.since_ms) >= self.pace.patience_ms
    }

    fn check(&mut self, input: &Input<'_>) {
        match &input.sound {
            Some(Ok(())) => self.go(Phase::Staging, None, input.now_ms),
            Some(Err(reason)) => {
                self.go(Phase::RollingBack, Some(reason.clone()), input.now_ms);
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
            self.go(Phase::Activating, None, input.now_ms);
        } else if self.is_out_of_patience(input) {
            let reason = match there {
                [] => Reason::NoHosts,
                _ => Reason::NotStaged { hosts: waiting },
            };
            self.pause(reason, input.now_ms);
        }
    }

    /// How many hosts of a stratum run it in this step.
    fn share(&self) -> Share {
        self.pace.steps.get(self.step).copied().unwrap_or(Share::Percent(100))
    }

    /// Chooses the hosts of this step among those that are there; those that were chosen stay.
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

    /// The hosts that are there, those among them of which the store has lost what they reported.
    fn by_stratum(&self, there: &[&HostReport]) -> BTreeMap<String, Vec<Id>> {
        let mut strata: BTreeMap<String, Vec<Id>> = BTreeMap::new();
        let there_now = there.iter().map(|host| (&host.id, host.stratum.as_str()));
        for (id, stratum) in there_now.chain(self.unknown(there)) {
            strata.entry(stratum.to_owned()).or_default().push(id.clone());
        }
        strata
    }

    /// Whether fewer hosts are chosen than the step is to have: some have gone.
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
            self.go(Phase::Baking, None, input.now_ms);
        } else if self.is_out_of_patience(input) {
            let reason =
                if is_empty { Reason::NoHosts } else { Reason::NotActive { hosts: waiting } };
            self.pause(reason, input.now_ms);
        }
    }

    /// How often what changed was called in the hosts that run it.
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
            return self.go(Phase::Activating, None, input.now_ms);
        }
        // A host that has gone takes its calls along.
        let calls = self.calls(there);
        self.calls_before = self.calls_before.min(calls);
        let calls = calls - self.calls_before;
        let for_ms = input.now_ms.saturating_sub(self.since_ms);
        if for_ms >= self.pace.bake_ms && calls >= self.pace.calls && !there.is_empty() {
            self.next_step(there, input.now_ms);
        } else if for_ms >= self.pace.bake_ms.saturating_add(self.pace.patience_ms) {
            let reason = match there {
                [] => Reason::NoHosts,
                _ => Reason::TooLittleEvidence { calls, needed: self.pace.calls },
            };
            self.pause(reason, input.now_ms);
        }
    }

    /// Goes on to the next step in which further hosts run it.
    fn next_step(&mut self, there: &[&HostReport], now_ms: u64) {
        while there.iter().any(|host| !self.is_chosen(host))
            && self.step + 1 < self.pace.steps.len()
        {
            self.step += 1;
            let before = self.thresholds.clone();
            self.choose(there);
            if self.thresholds != before {
                return self.go(Phase::Activating, None, now_ms);
            }
        }
        self.go(Phase::Promoting, None, now_ms);
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
            self.go(Phase::Done, reason, input.now_ms);
        } else if self.is_out_of_patience(input) {
            self.go(Phase::Done, Some(Reason::NotActive { hosts: waiting }), input.now_ms);
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
            self.go(Phase::RolledBack, reason, input.now_ms);
        } else if self.is_out_of_patience(input) {
            self.pause(Reason::NotBack { hosts: waiting }, input.now_ms);
        }
    }
}

/// Why a host is not well, by its own account; `None` if it is, or does not say.
fn is_unwell(host: &HostReport) -> Option<String> {
    let health = host.more.own_health.as_ref().filter(|health| !health.is_well)?;
    Some(health.reason.clone().unwrap_or_else(|| "it does not say why".to_owned()))
}
