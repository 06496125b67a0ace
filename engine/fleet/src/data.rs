//! The documents that declare what a fleet runs, and the reports of its hosts.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr};

use hotswap_protocol::{HostHealth, OfferAnswer, PluginName, Toolchain};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Arm, FleetError, Histogram, Place};

/// The name of a release, a channel or a host. It is also part of a file name: 1 to 64 ASCII letters, digits, `-`,
/// `_` and `.`, beginning with a letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

impl Id {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a host in a fleet: made of its own name, of the name of its machine if the fleet has hosts of many
    /// machines, and of its process id.
    pub fn of_host(name: &str, machine: Option<&str>, pid: u32) -> Self {
        match machine {
            Some(machine) => {
                let machine = shortened(machine, 30);
                Self::made_of(&format!("{name:.20}-{machine}-{pid}"))
            }
            None => Self::made_of(&format!("{name:.50}-{pid}")),
        }
    }

    /// Makes a name from a text: each character that a name may not have becomes `-`.
    pub fn made_of(text: &str) -> Self {
        let allowed = |c: char| if is_part(c) { c } else { '-' };
        let name: String = text.chars().map(allowed).take(64).collect();
        let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
        Self(if name.is_empty() { "x".to_owned() } else { name.to_owned() })
    }
}

/// A text of at most `longest` characters. A longer text is cut and ends with a hash of the whole, because names of
/// machines often differ only at their ends.
fn shortened(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    let hash = &Digest::of(text.as_bytes()).0[..8];
    let kept: String = text.chars().take(longest - hash.len() - 1).collect();
    format!("{kept}-{hash}")
}

fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

impl FromStr for Id {
    type Err = FleetError;

    fn from_str(text: &str) -> Result<Self, FleetError> {
        let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if begins && text.len() <= 64 && text.chars().all(is_part) {
            return Ok(Self(text.to_owned()));
        }
        let shown: String = text.chars().take(80).collect();
        Err(FleetError::new(format!(
            "{shown:?} is not a name: expected 1 to 64 letters, digits, `-`, `_` and `.`, the first of them \
             a letter or a digit"
        )))
    }
}

impl TryFrom<String> for Id {
    type Error = FleetError;

    fn try_from(text: String) -> Result<Self, FleetError> {
        text.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The SHA-256 of a whole file, written as 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::finish(Sha256::new_with_prefix(bytes))
    }

    pub(crate) fn finish(hasher: Sha256) -> Self {
        Self(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The digits as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Digest {
    type Error = FleetError;

    fn try_from(text: String) -> Result<Self, FleetError> {
        let is_digit = |c: char| c.is_ascii_digit() || matches!(c, 'a'..='f');
        if text.len() == 64 && text.chars().all(is_digit) {
            return Ok(Self(text));
        }
        Err(FleetError::new("expected a SHA-256 of 64 hexadecimal digits in lower case"))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of a fleet, written once when the fleet is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// The format of the fleet's documents: 1.
    pub format: u32,
    /// The fleet's unique name. Each release names the fleet that it is for.
    pub id: Id,
    /// When it was made, in milliseconds since the Unix epoch.
    pub made_at_ms: u64,
}

/// A release: the whole set of plugins that a host is to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its name.
    pub id: Id,
    /// The fleet that it is for.
    pub fleet: Id,
    /// When it was pushed, in milliseconds since the Unix epoch.
    pub pushed_at_ms: u64,
    /// Who pushed it.
    pub by: String,
    /// Its plugins, sorted by name.
    pub plugins: Vec<ReleasePlugin>,
}

/// A plugin in a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasePlugin {
    /// Its name.
    pub name: String,
    /// Its artifacts, one for each toolchain that the hosts have.
    pub artifacts: Vec<Artifact>,
}

/// An artifact in a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The toolchain that built it. Only a host built by the same toolchain can load it.
    pub built_by: Toolchain,
    /// Its build id.
    pub build_id: String,
    /// The plugin crate's version.
    pub crate_version: String,
    /// The SHA-256 of the file.
    pub sha256: Digest,
    /// The size of the file in bytes.
    pub size_bytes: u64,
}

/// The largest number of plugins of a release, and of artifacts of a plugin.
const MOST: usize = 1000;
/// The largest artifact in bytes.
const LARGEST: u64 = 1 << 30;

impl Release {
    /// Checks the release.
    ///
    /// # Errors
    /// The first rule that the release breaks.
    pub fn check(&self) -> Result<(), FleetError> {
        let refuse =
            |message: String| Err(FleetError::new(format!("release {}: {message}", self.id)));
        if self.plugins.is_empty() {
            return refuse("it has no plugin".to_owned());
        }
        if self.plugins.len() > MOST {
            return refuse(format!("it has {} plugins, and may have {MOST}", self.plugins.len()));
        }
        let mut names: Vec<PluginName> = Vec::new();
        for plugin in &self.plugins {
            let name = plugin.name.parse::<PluginName>();
            let name =
                name.map_err(|error| FleetError::new(format!("release {}: {error}", self.id)))?;
            if names.contains(&name) {
                return refuse(format!("it has {name} twice"));
            }
            let artifacts = &plugin.artifacts;
            if artifacts.is_empty() || artifacts.len() > MOST {
                return refuse(format!(
                    "{name} has {} artifacts, and may have 1 to {MOST}",
                    artifacts.len()
                ));
            }
            if artifacts.iter().any(|artifact| artifact.size_bytes > LARGEST) {
                return refuse(format!("{name} has an artifact of more than {LARGEST} bytes"));
            }
            let twin =
                |at: usize| artifacts[..at].iter().any(|it| it.built_by == artifacts[at].built_by);
            if (0..artifacts.len()).any(twin) {
                return refuse(format!("{name} has two artifacts for one toolchain"));
            }
            names.push(name);
        }
        Ok(())
    }

    /// The artifacts for a host that this toolchain built, each with the name of its plugin.
    ///
    /// # Errors
    /// Names the first plugin that has no artifact for the toolchain.
    pub fn for_host(&self, built_by: &Toolchain) -> Result<Vec<(&str, &Artifact)>, FleetError> {
        let fitting = self.plugins.iter().map(|plugin| {
            let artifact = plugin.artifacts.iter().find(|artifact| artifact.built_by == *built_by);
            artifact.map(|artifact| (plugin.name.as_str(), artifact)).ok_or_else(|| {
                FleetError::new(format!(
                    "release {} has no artifact of {} for {built_by}; build it with that toolchain and push \
                     both",
                    self.id, plugin.name
                ))
            })
        });
        fitting.collect()
    }

    /// The names of its plugins.
    pub fn names(&self) -> Vec<String> {
        self.plugins.iter().map(|plugin| plugin.name.clone()).collect()
    }

    /// The plugins whose builds differ from those of `base`.
    pub fn changed_from(&self, base: &Self) -> Vec<String> {
        let is_same = |plugin: &&ReleasePlugin| {
            let same = base.plugins.iter().find(|other| other.name == plugin.name);
            same.is_some_and(|same| {
                let is_there = |it: &Artifact| {
                    same.artifacts.iter().any(|other| other.build_id == it.build_id)
                };
                plugin.artifacts.iter().all(is_there)
            })
        };
        let changed = self.plugins.iter().filter(|plugin| !is_same(plugin));
        changed.map(|plugin| plugin.name.clone()).collect()
    }
}

/// The stratum of a host: hosts with the same toolchain and the same labels form one. Each stratum tries a release
/// on hosts of its own first.
pub fn stratum(built_by: &str, labels: &BTreeMap<String, String>) -> String {
    let labels = labels.iter().map(|(key, value)| format!(" {key}={value}"));
    built_by.to_owned() + &labels.collect::<String>()
}

/// The version of a channel's declaration. It only grows, even if the store loses data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Mark {
    /// When the channel was made, in milliseconds since the Unix epoch. A channel that is made again gets a larger
    /// value.
    pub epoch: u64,
    /// The number of changes since then.
    pub seq: u64,
}

/// The declaration of what the hosts of a channel run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Its name.
    pub name: Id,
    /// The version of this declaration.
    #[serde(flatten)]
    pub mark: Mark,
    /// The release of each host that has neither a pin nor the candidate; `None` means the builds of the host's
    /// own plugin directory.
    pub base: Option<Id>,
    /// The bases before it, the newest last.
    #[serde(default)]
    pub earlier: Vec<Option<Id>>,
    /// The release under trial. All hosts stage it.
    pub candidate: Option<Id>,
    /// A text that goes into the hash of hosts, so that each rollout chooses other hosts first.
    pub salt: String,
    /// The threshold of each stratum: hosts up to it run the candidate. In a stratum without a threshold, no host
    /// does.
    pub thresholds: BTreeMap<String, Place>,
    /// Releases that single hosts run, whatever else is declared.
    pub pins: BTreeMap<Id, Id>,
    /// The span, in milliseconds, within which hosts begin to fetch the candidate. Each host has a delay of its
    /// own in it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub spread_ms: u64,
    /// The audit entries of the write that made this declaration, and those of earlier writes that the audit log could
    /// not take: see [`Store::say`](crate::Store::say).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsaid: Vec<AuditEntry>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The number of earlier bases that a channel remembers.
const EARLIER: usize = 20;

impl Channel {
    /// A channel that declares nothing yet.
    pub fn new(name: Id, epoch: u64) -> Self {
        Self {
            name,
            mark: Mark { epoch, seq: 1 },
            base: None,
            earlier: Vec::new(),
            candidate: None,
            salt: String::new(),
            thresholds: BTreeMap::new(),
            pins: BTreeMap::new(),
            spread_ms: 0,
            unsaid: Vec::new(),
        }
    }

    /// The release that a host should run; `None` means the builds of its own plugin directory.
    pub fn wants(&self, host: &Id, stratum: &str) -> Option<&Id> {
        if let Some(pinned) = self.pins.get(host) {
            return Some(pinned);
        }
        let is_chosen = |threshold: &Place| Place::of(&self.salt, host) <= *threshold;
        match &self.candidate {
            Some(candidate) if self.thresholds.get(stratum).is_some_and(is_chosen) => {
                Some(candidate)
            }
            _ => self.base.as_ref(),
        }
    }

    /// Whether this declares the same, whatever audit entries are beside it: earlier versions do not keep these.
    pub fn declares_like(&self, other: &Self) -> bool {
        Self { unsaid: Vec::new(), ..self.clone() } == Self { unsaid: Vec::new(), ..other.clone() }
    }

    /// Whether hosts follow a newer declaration than this one: the store was restored from an older copy. The reports
    /// of the hosts have to be read before the declaration, which may change in between.
    pub fn is_older_copy(&self, hosts: &[HostReport]) -> bool {
        let is_newer =
            |host: &HostReport| host.seen.epoch == self.mark.epoch && host.seen.seq > self.mark.seq;
        hosts.iter().any(is_newer)
    }

    /// Gives this declaration a mark above its own and above the mark of every host: the store may have been
    /// restored from an older copy.
    pub fn raise_mark(&mut self, hosts: &[HostReport]) {
        let seen = hosts.iter().map(|host| host.seen).filter(|seen| seen.epoch == self.mark.epoch);
        let seen = seen.map(|seen| seen.seq).max().unwrap_or_default();
        // A holder of a key that was retired since may have declared the largest possible number.
        self.mark = match self.mark.seq.max(seen).checked_add(1) {
            Some(seq) => Mark { seq, ..self.mark },
            None => Mark { epoch: self.mark.epoch.saturating_add(1), seq: 1 },
        };
    }

    /// Declares another base, and remembers the one before it.
    pub fn set_base(&mut self, base: Option<Id>) {
        if self.base != base {
            self.earlier.push(std::mem::replace(&mut self.base, base));
            self.earlier.drain(..self.earlier.len().saturating_sub(EARLIER));
        }
    }
}

/// What a host is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// The host runs its declared release.
    Serving,
    /// The host is changing to its declared release.
    Applying,
    /// The host cannot run its declared release, or cannot stage the candidate.
    Refused,
    /// The process of the host ended during a call of the release.
    Crashed,
    /// The process of the host was killed or ended, and no call of the release was running.
    Died,
}

impl HostState {
    /// Whether the process of the host is running.
    pub fn is_there(self) -> bool {
        !matches!(self, Self::Crashed | Self::Died)
    }

    /// The word for a screen or a report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Applying => "applying",
            Self::Refused => "refused",
            Self::Crashed => "crashed",
            Self::Died => "died",
        }
    }
}

/// The kind of a problem at a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The release could not be read, or lacks the signatures that the fleet requires.
    Release,
    /// An artifact is missing, or is not the one that the release names.
    Artifact,
    /// The release has no artifact for the toolchain of the host.
    Toolchain,
    /// A build of the release has crashed a host of this machine before.
    Quarantined,
    /// The dry run says that the host would refuse the load.
    DryRun,
    /// The host refused the load.
    Load,
    /// The host rolled the release back by itself, or somebody loaded another version.
    TakenBack,
    /// The process ended during a call of the release.
    Crash,
}

/// A problem at a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Its kind.
    pub kind: ProblemKind,
    /// The release with the problem; `None` for the host's own plugin directory.
    pub release: Option<Id>,
    /// The plugin with the problem; `None` if it is not about one plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The message for people.
    pub message: String,
}

/// The report of a host, written by the agent of its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// The host's name in the fleet.
    pub id: Id,
    /// The channel that it follows.
    pub channel: Id,
    /// The host's own name.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// The name of its machine, if the fleet has hosts of several machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// The path of its console socket, on its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// When the report was written, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The stratum of the host: see `stratum`.
    pub stratum: String,
    /// What the host is doing.
    pub state: HostState,
    /// The release that serves; `None` for the builds of its own plugin directory.
    pub release: Option<Id>,
    /// The build ids that serve, by plugin.
    pub builds: BTreeMap<String, String>,
    /// The staged release, to which the host can switch at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<Id>,
    /// The last problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// The mark of the declaration that the host follows.
    pub seen: Mark,
    /// The results of calls since the serving versions began, by plugin.
    pub health: BTreeMap<String, Arm>,
    /// Further facts.
    #[serde(flatten)]
    pub more: MoreOfHost,
}

/// Further facts about a host. Older agents do not report all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MoreOfHost {
    /// The toolchain that built the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_by: Option<Toolchain>,
    /// Its labels, which together with the toolchain decide its stratum.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The host's answer to an offer of its declared release, while it does not accept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<OfferAnswer>,
    /// The health that the host itself reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_health: Option<HostHealth>,
    /// The durations of timed calls since the serving versions began, by plugin.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub latencies: BTreeMap<String, Histogram>,
}

/// After this many milliseconds without a report, a host counts as lost.
const LOST_MS: u64 = 20_000;

impl HostReport {
    /// Whether the host has not reported for so long that it counts as lost. `now_ms` is in milliseconds since the
    /// Unix epoch.
    pub fn is_lost(&self, now_ms: u64) -> bool {
        self.state.is_there() && now_ms.saturating_sub(self.at_ms) > LOST_MS
    }
}

/// An entry of the audit log: an action on the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Who acted.
    pub by: String,
    /// The action: `init`, `push`, `rollout`, …
    pub what: String,
    /// The channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<Id>,
    /// The release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Id>,
    /// The host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Id>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<crate::Reason>,
}

impl AuditEntry {
    /// The entry of a push. It follows from the release, so it can be made again if its writer was killed.
    pub fn of_push(release: &Release, channel: &Id) -> Self {
        Self {
            at_ms: release.pushed_at_ms,
            by: release.by.clone(),
            what: PUSH.to_owned(),
            channel: Some(channel.clone()),
            release: Some(release.id.clone()),
            host: None,
            reason: None,
        }
    }

    /// Whether another entry is about the same action. That of a push is made again with the channel of another program,
    /// and earlier versions wrote a later time into it.
    pub fn is_about_action_of(&self, other: &Self) -> bool {
        let is_push = self.what == PUSH && other.what == PUSH && self.release == other.release;
        self == other || is_push && other.at_ms >= self.at_ms
    }

    /// Adds this entry to the entries of a document. An equal entry there is about another action of the same
    /// millisecond.
    pub fn add_to(mut self, unsaid: &mut Vec<Self>) {
        while unsaid.contains(&self) {
            self.at_ms += 1;
        }
        unsaid.push(self);
    }
}

/// The action of an entry about a release that was pushed.
const PUSH: &str = "push";
