//! What is declared of a fleet, and what its hosts report.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr};

use hotswap_protocol::{HostHealth, OfferAnswer, PluginName, Toolchain};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Arm, FleetError, Histogram, Place};

/// The name of a release, a channel or a host, which is also a part of a file's name: 1 to 64 letters,
/// digits, `-`, `_` and `.` of ASCII, the first of them a letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

impl Id {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name that is made of a text: what is not allowed in one becomes `-`.
    pub fn made_of(text: &str) -> Self {
        let allowed = |c: char| if is_part(c) { c } else { '-' };
        let name: String = text.chars().map(allowed).take(64).collect();
        let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
        Self(if name.is_empty() { "x".to_owned() } else { name.to_owned() })
    }
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
            "{shown:?} is no name: expected 1 to 64 letters, digits, `-`, `_` and `.`, the first of them \
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
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::finish(Sha256::new_with_prefix(bytes))
    }

    pub(crate) fn finish(hasher: Sha256) -> Self {
        Self(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The digits.
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

/// What a fleet is: written once, when it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// The layout of its files: 1.
    pub format: u32,
    /// What distinguishes it from others; a release says which fleet it is for.
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
    /// What it was built to: an artifact for each toolchain that hosts have.
    pub artifacts: Vec<Artifact>,
}

/// An artifact in a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// What built it. Only a host that the same built can load it.
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

/// The most plugins of a release, and the most artifacts of one.
const MOST: usize = 1000;
/// The largest artifact in bytes.
const LARGEST: u64 = 1 << 30;

impl Release {
    /// Refuses what no release may say.
    ///
    /// # Errors
    /// What is wrong with it.
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

    /// The artifacts for a host that was built so, with the plugins they are of.
    ///
    /// # Errors
    /// The first plugin that has none.
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

    /// The plugins that it has in another build than this release does.
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

/// The hosts that one toolchain has built and that have the same labels: each of these groups has hosts of its own
/// that try a release first.
pub fn stratum(built_by: &str, labels: &BTreeMap<String, String>) -> String {
    let labels = labels.iter().map(|(key, value)| format!(" {key}={value}"));
    built_by.to_owned() + &labels.collect::<String>()
}

/// How far a channel has come. It only grows, whatever its store forgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Mark {
    /// Which life of the channel: when it was made, in milliseconds since the Unix epoch.
    pub epoch: u64,
    /// Counts the changes.
    pub seq: u64,
}

/// What the hosts of a channel are to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Its name.
    pub name: Id,
    /// How far it has come.
    #[serde(flatten)]
    pub mark: Mark,
    /// What hosts run that nothing else is said for; `None` for what each host's own plugin directory has.
    pub base: Option<Id>,
    /// The bases before it, the newest last.
    #[serde(default)]
    pub earlier: Vec<Option<Id>>,
    /// What is tried, and staged by all.
    pub candidate: Option<Id>,
    /// What makes each rollout choose other hosts.
    pub salt: String,
    /// Up to which place hosts run the candidate, for each stratum; nobody does where none is said.
    pub thresholds: BTreeMap<String, Place>,
    /// Hosts that run a release of their own.
    pub pins: BTreeMap<Id, Id>,
    /// In which span hosts begin to fetch the candidate, in milliseconds: each at a time of its own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub spread_ms: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How many earlier bases a channel knows.
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
        }
    }

    /// What a host is to run; `None` for what its own plugin directory has.
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

    /// Makes it a newer declaration than this one, and than any that a host has seen: the store may have been put
    /// back to an older copy.
    pub fn go_on(&mut self, hosts: &[HostReport]) {
        let seen = hosts.iter().map(|host| host.seen).filter(|seen| seen.epoch == self.mark.epoch);
        let seen = seen.map(|seen| seen.seq).max().unwrap_or_default();
        // Whoever had a key that was retired since may have declared the last of all.
        self.mark = match self.mark.seq.max(seen).checked_add(1) {
            Some(seq) => Mark { seq, ..self.mark },
            None => Mark { epoch: self.mark.epoch.saturating_add(1), seq: 1 },
        };
    }

    /// Declares another base.
    pub fn set_base(&mut self, base: Option<Id>) {
        if self.base != base {
            self.earlier.push(std::mem::replace(&mut self.base, base));
            self.earlier.drain(..self.earlier.len().saturating_sub(EARLIER));
        }
    }
}

/// What a host does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// It runs what it is to run.
    Serving,
    /// It is being brought to what it is to run.
    Applying,
    /// It cannot run what it is to run, or stage what is tried.
    Refused,
    /// Its process has ended while it ran code of the release.
    Crashed,
    /// Its process was killed or has ended otherwise, without a call of the release under way.
    Died,
}

impl HostState {
    /// Whether its process is there.
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

/// What kind of thing went wrong at a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The release could not be read, or is not signed as the fleet wants it.
    Release,
    /// An artifact is missing, or not the one that the release names.
    Artifact,
    /// The release has no artifact for the toolchain of the host.
    Toolchain,
    /// A build of it has crashed a host of this machine.
    Quarantined,
    /// The dry run says that the load would be refused.
    DryRun,
    /// The load was refused.
    Load,
    /// The host went back from it by itself, or somebody has loaded something else.
    TakenBack,
    /// The process ended in a call of it.
    Crash,
}

/// What went wrong at a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What kind of thing.
    pub kind: ProblemKind,
    /// The release that it is about; `None` for the host's own plugin directory.
    pub release: Option<Id>,
    /// The plugin; `None` if it is about no single one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// What went wrong, for people.
    pub message: String,
}

/// What is known of a host, by the agent of its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// The host.
    pub id: Id,
    /// The channel that it follows.
    pub channel: Id,
    /// What it is called.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// What its machine is called, where hosts of several report; `None` where all are on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Its console socket, on its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// When this was written, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The group in which hosts are chosen.
    pub stratum: String,
    /// What it does.
    pub state: HostState,
    /// The release that serves; `None` for what its own plugin directory has.
    pub release: Option<Id>,
    /// The builds that serve, by plugin.
    pub builds: BTreeMap<String, String>,
    /// The release that it could switch to at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<Id>,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// The declaration that it goes by.
    pub seen: Mark,
    /// What came of calls since the versions that serve began, by plugin.
    pub health: BTreeMap<String, Arm>,
    /// What more there is to say of it.
    #[serde(flatten)]
    pub more: MoreOfHost,
}

/// What else is known of a host, some of it only of newer ones.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MoreOfHost {
    /// What built it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_by: Option<Toolchain>,
    /// What distinguishes it from others, besides that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What it says to the release that it is to run, while it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<OfferAnswer>,
    /// How it is, by its own account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_health: Option<HostHealth>,
    /// How long the timed calls took since the versions that serve began, by plugin.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub latencies: BTreeMap<String, Histogram>,
}

/// After how many milliseconds a host of which nothing is heard counts as lost.
const LOST_MS: u64 = 20_000;

impl HostReport {
    /// Whether nothing was heard of it for so long that it may be gone; `now_ms` is in milliseconds since the Unix
    /// epoch.
    pub fn is_lost(&self, now_ms: u64) -> bool {
        self.state.is_there() && now_ms.saturating_sub(self.at_ms) > LOST_MS
    }
}

/// Something that was done to a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Who did it.
    pub by: String,
    /// What: `init`, `push`, `rollout`, …
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
