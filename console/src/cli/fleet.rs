//! `hotswap fleet`

mod status;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use etcetera::BaseStrategy;
use hotswap_artifact as artifact;
use hotswap_fleet::{
    Artifact, AuditEntry, Channel, Digest, FleetError, Id, Location, Mark, Order, Pace, Phase,
    Reason, Release, ReleasePlugin, Rollout, SecretKey, Server, Store,
};
use hotswap_protocol::clock::now_ms;
use hotswap_protocol::{ErrorKind, Step, WireError, env};
use serde::Serialize;
use serde_json::json;

pub(crate) use super::args::PlaceArguments;
use super::args::{FleetArguments, FleetCommand, KeysArguments, PushArguments, RolloutArguments};
use super::{print_json, text};
use crate::agent::turn_now;
use crate::failure::Failure;
use crate::format;

use status::Status;

/// How often whoever follows looks.
const LOOK: Duration = Duration::from_millis(250);

/// How long a server that does not answer is waited for by whoever follows.
const SILENCE: Duration = Duration::from_secs(300);

/// A rollout is paused, or cannot be judged.
const PAUSED: u8 = 4;
/// A rollout was rolled back.
const ROLLED_BACK: u8 = 5;

/// Where programs of this user keep what is to last.
pub(super) fn states() -> Result<PathBuf, FleetError> {
    let directories = etcetera::base_strategy::Xdg::new().ok();
    let states = directories.and_then(|directories| directories.state_dir());
    states.ok_or_else(|| FleetError::new("no directory of this user is known; set XDG_STATE_HOME"))
}

fn location(place: &PlaceArguments) -> Result<Location, FleetError> {
    let named = place.fleet.clone().or_else(|| std::env::var_os(env::FLEET).map(PathBuf::from));
    let named = named.filter(|named| !named.as_os_str().is_empty());
    let is_url = |named: &&str| named.contains("://");
    let url = place.store.as_deref().or(named.as_deref().and_then(Path::to_str).filter(is_url));
    if let Some(url) = url {
        let mut server = Server::at(url)?;
        server.credentials.clone_from(&place.creds);
        server.tls_ca.clone_from(&place.tls_ca);
        return Ok(Location::Nats(server));
    }
    if place.creds.is_some() || place.tls_ca.is_some() {
        let message =
            "`--creds` and `--tls-ca` are for a fleet on a server: `--store nats://HOST:PORT`";
        return Err(FleetError::new(message));
    }
    let dir = match named {
        Some(dir) => std::path::absolute(&dir)
            .map_err(|error| FleetError::new(format!("{}: {error}", dir.display())))?,
        None => states()?.join("hotswap/fleet"),
    };
    Ok(Location::Directory(dir))
}

/// Whether somebody says which fleet is meant, or this user has one.
pub(crate) fn is_known(place: &PlaceArguments) -> bool {
    is_named(place)
        || matches!(location(place), Ok(Location::Directory(dir)) if dir.join("fleet.json").exists())
}

/// Whether somebody says which fleet is meant.
pub(crate) fn is_named(place: &PlaceArguments) -> bool {
    let in_environment = || std::env::var_os(env::FLEET).is_some_and(|named| !named.is_empty());
    place.fleet.is_some() || place.store.is_some() || in_environment()
}

/// The arguments that name the same fleet and channel to another program of this user.
pub(crate) fn named(place: &PlaceArguments) -> Vec<String> {
    let path = |path: &Option<PathBuf>| {
        let path = path.as_deref().map(|path| std::path::absolute(path).unwrap_or(path.to_owned()));
        path.map(|path| path.display().to_string())
    };
    let channel = (place.channel.as_str() != "main").then(|| place.channel.to_string());
    let flags = [
        ("--fleet", path(&place.fleet)),
        ("--store", place.store.clone()),
        ("--creds", path(&place.creds)),
        ("--tls-ca", path(&place.tls_ca)),
        ("--channel", channel),
    ];
    let given = flags.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value?]));
    given.flatten().collect()
}

/// The fleet that is meant.
pub(super) fn open(place: &PlaceArguments) -> Result<Store, FleetError> {
    Store::open(&location(place)?)
}

/// Who runs this program, for the audit.
pub(super) fn user() -> String {
    let uid = rustix::process::getuid().as_raw();
    std::env::var("USER")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| format!("user {uid}"))
}

pub(super) async fn fleet(arguments: FleetArguments) -> Result<(), Failure> {
    let FleetArguments { place, output, command } = arguments;
    let json = output.json;
    if let FleetCommand::Init = command {
        return init(&place, json);
    }
    let fleet = Fleet { store: open(&place)?, channel: place.channel, json };
    match command {
        FleetCommand::Init => Ok(()),
        FleetCommand::Keys(keys) => fleet.keys(&keys),
        FleetCommand::Push(push) => fleet.push(&push),
        FleetCommand::Releases => fleet.releases(),
        FleetCommand::Rollout(rollout) => fleet.rollout(rollout).await,
        FleetCommand::Status(status) if status.watch => fleet.watch().await,
        FleetCommand::Status(_) => fleet.status(),
        FleetCommand::Promote => fleet.order(Order::Promote).await,
        FleetCommand::Pause => fleet.order(Order::Pause).await,
        FleetCommand::Resume => fleet.order(Order::Resume).await,
        FleetCommand::Abort => fleet.order(Order::Abort).await,
        FleetCommand::Rollback { release } => fleet.roll_back(release).await,
        FleetCommand::Pin { host, release } => fleet.pin(&host, Some(release)),
        FleetCommand::Unpin { host } => fleet.pin(&host, None),
        FleetCommand::Hosts => fleet.hosts(),
        FleetCommand::Verify { release } => fleet.verify(&release),
        FleetCommand::Audit => fleet.audit(),
        FleetCommand::Controller => fleet.control().await,
    }
}

fn init(place: &PlaceArguments, json: bool) -> Result<(), Failure> {
    let location = location(place)?;
    let store = Store::create(&location, &location.name(), &place.channel, now_ms())?;
    let fleet = Fleet { store, channel: place.channel.clone(), json };
    fleet.audited("init", None, None)?;
    fleet.status()
}

/// A fleet, one of its channels, and how to tell of it.
pub(crate) struct Fleet {
    pub(crate) store: Store,
    pub(crate) channel: Id,
    json: bool,
}

/// A release as `hotswap fleet releases --json` lists it.
#[derive(Serialize)]
struct ReleaseLine {
    id: Id,
    pushed_at_ms: Option<u64>,
    by: Option<String>,
    plugins: Vec<String>,
    /// Why it cannot be rolled out.
    problem: Option<String>,
}

impl Fleet {
    /// The fleet that is meant, for a program that prints nothing of it.
    pub(crate) fn at(place: &PlaceArguments) -> Result<Self, FleetError> {
        Ok(Self { store: open(place)?, channel: place.channel.clone(), json: false })
    }

    /// Its directory, where it is in one.
    pub(crate) fn directory(place: &PlaceArguments) -> Option<PathBuf> {
        match location(place) {
            Ok(Location::Directory(dir)) => Some(dir),
            _ => None,
        }
    }

    fn audited(
        &self,
        what: &str,
        release: Option<&Id>,
        host: Option<&Id>,
    ) -> Result<(), FleetError> {
        self.store.audit(&AuditEntry {
            at_ms: now_ms(),
            by: user(),
            what: what.to_owned(),
            channel: Some(self.channel.clone()),
            release: release.cloned(),
            host: host.cloned(),
            reason: None,
        })
    }

    fn trusted(&self) -> Result<Vec<String>, FleetError> {
        Ok(self.store.keys()?.map(|keys| keys.keys).unwrap_or_default())
    }

    fn say(&self, value: &impl Serialize, words: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.json {
            return Ok(print_json(value)?);
        }
        // Whoever writes into a fleet must not write to the terminal.
        let is_told = |c: char| c == '\n' || !c.is_control();
        let words = words().replace(|c| !is_told(c), "\u{fffd}");
        Ok(write!(io::stdout(), "{words}")?)
    }

    fn keys(&self, keys: &KeysArguments) -> Result<(), Failure> {
        let secret = keys.sign.as_deref().map(SecretKey::read).transpose()?;
        let mut all = self.trusted()?;
        if let Some(removed) = &keys.remove {
            let before = all.len();
            all.retain(|key| key != removed);
            if all.len() == before {
                return Err(FleetError::new(format!("{removed} is no key of the fleet")).into());
            }
            if all.is_empty() && keys.new.is_none() {
                let message =
                    "it is the last key of the fleet; make another with `--new FILE` at once";
                return Err(FleetError::new(message).into());
            }
        }
        if !all.is_empty() && secret.is_none() && (keys.new.is_some() || keys.remove.is_some()) {
            let message = "a change of keys is signed by one that is there: `--sign SECRET-KEY`";
            return Err(FleetError::new(message).into());
        }
        if let Some(path) = &keys.new {
            all.push(SecretKey::generate(path)?.1);
        }
        if keys.new.is_some() || keys.remove.is_some() {
            self.store.set_keys(all, secret.as_ref())?;
            self.audited("keys", None, None)?;
        }
        let keys = self.store.keys()?;
        let (serial, keys) = keys.map(|keys| (keys.serial, keys.keys)).unwrap_or_default();
        self.say(&json!({ "serial": serial, "keys": keys }), || match keys.as_slice() {
            [] => "no keys: releases are not signed, and whoever may write the fleet decides what runs\n"
                .to_owned(),
            keys => keys.iter().map(|key| format!("{key}\n")).collect(),
        })
    }

    fn push(&self, push: &PushArguments) -> Result<(), Failure> {
        let secret = push.sign.as_deref().map(SecretKey::read).transpose()?;
        let keys = self.trusted()?;
        if !keys.is_empty() && secret.is_none() {
            let message = "releases of this fleet are signed: `--sign SECRET-KEY`";
            return Err(FleetError::new(message).into());
        }
        let mut plugins: BTreeMap<String, ReleasePlugin> = BTreeMap::new();
        for path in files(&push.paths)? {
            let (name, artifact) = self.push_artifact(&path)?;
            let plugin = plugins.entry(name.to_lowercase());
            let plugin = plugin.or_insert_with(|| ReleasePlugin { name, artifacts: Vec::new() });
            if !plugin.artifacts.contains(&artifact) {
                plugin.artifacts.push(artifact);
            }
        }
        let plugins: Vec<ReleasePlugin> = plugins.into_values().collect();
        let id = match &push.id {
            Some(id) => id.clone(),
            None => {
                let digests = plugins.iter().flat_map(|plugin| &plugin.artifacts);
                let digests: String = digests.map(|artifact| artifact.sha256.as_str()).collect();
                Id::made_of(&format!("r-{}", &Digest::of(digests.as_bytes()).as_str()[..12]))
            }
        };
        let fleet = self.store.fleet().id.clone();
        let release = Release { id, fleet, pushed_at_ms: now_ms(), by: user(), plugins };
        let is_new = self.store.push_release(&release, secret.as_ref())?;
        let release = self.store.release(&release.id, &keys)?;
        if is_new {
            self.audited("push", Some(&release.id), None)?;
        }
        #[derive(Serialize)]
        struct Pushed<'a> {
            #[serde(flatten)]
            release: &'a Release,
            new: bool,
        }
        self.say(&Pushed { release: &release, new: is_new }, || format!("{}\n", release.id))
    }

    fn push_artifact(&self, path: &Path) -> Result<(String, Artifact), Failure> {
        let wrong = |reason: String| WireError {
            step: Some(Step::Inspect),
            ..WireError::new(ErrorKind::Fleet, format!("{}: {reason}", path.display()))
        };
        let file = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let facts = artifact::inspect(&file).map_err(|error| wrong(error.to_string()))?;
        let artifact = Artifact {
            built_by: facts.toolchain,
            build_id: facts.build_id.to_string(),
            crate_version: facts.crate_version,
            sha256: self.store.push_blob(&file)?,
            size_bytes: file.len() as u64,
        };
        Ok((facts.name.to_string(), artifact))
    }

    fn releases(&self) -> Result<(), Failure> {
        let keys = self.trusted()?;
        let line = |id: Id| match self.store.release(&id, &keys) {
            Ok(release) => ReleaseLine {
                pushed_at_ms: Some(release.pushed_at_ms),
                plugins: release.names(),
                by: Some(release.by),
                problem: None,
                id,
            },
            Err(error) => ReleaseLine {
                id,
                pushed_at_ms: None,
                by: None,
                plugins: Vec::new(),
                problem: Some(error.to_string()),
            },
        };
        let mut lines: Vec<ReleaseLine> = self.store.releases()?.into_iter().map(line).collect();
        lines.sort_by_key(|line| line.pushed_at_ms);
        self.say(&lines, || {
            let rows = lines.iter().map(|line| {
                [
                    line.id.to_string(),
                    line.pushed_at_ms.map(format::date).unwrap_or_default(),
                    line.by.clone().unwrap_or_default(),
                    line.problem.clone().unwrap_or_else(|| line.plugins.join(", ")),
                ]
            });
            text::table(["RELEASE", "PUSHED", "BY", "PLUGINS"], rows)
        })
    }

    fn verify(&self, release: &Id) -> Result<(), Failure> {
        let keys = self.trusted()?;
        let release = self.store.verify(release, &keys)?;
        self.say(&release, || {
            let signed =
                if keys.is_empty() { "not signed" } else { "signed by a key of the fleet" };
            let count = release.plugins.iter().map(|plugin| plugin.artifacts.len()).sum::<usize>();
            let artifacts = format::counted(count as u64, "artifact", "artifacts");
            format!("{} is as it was pushed: {artifacts}, {signed}\n", release.id)
        })
    }

    async fn rollout(&self, arguments: RolloutArguments) -> Result<(), Failure> {
        let RolloutArguments { release, follow, fast, supersede } = arguments;
        self.store.prepare()?;
        let checked = self.store.verify(&release, &self.trusted()?)?;
        self.begin(&checked, fast, supersede).await?;
        if follow { self.follow().await } else { self.status() }
    }

    /// Begins a rollout, where none is under way.
    async fn begin(&self, release: &Release, fast: bool, supersede: bool) -> Result<(), Failure> {
        let mut last = self.store.rollout(&self.channel)?;
        if let Some(active) = last.as_ref().filter(|active| !active.phase.is_over()) {
            if !supersede {
                return Err(FleetError::new(format!(
                    "a rollout of {} is under way, which {} began {} ago: it is {}. `--supersede` takes its \
                     place, `hotswap fleet abort` ends it",
                    active.release,
                    active.by,
                    format::duration(now_ms().saturating_sub(active.started_at_ms)),
                    active.phase.as_str()
                ))
                .into());
            }
            last = turn_now(&self.store, &self.channel, Some(Order::Supersede), &user()).await?;
        }
        let declared = self.store.channel(&self.channel)?;
        if declared.base.as_ref() == Some(&release.id) {
            let message =
                format!("{} is what channel {} declares already", release.id, self.channel);
            return Err(FleetError::new(message).into());
        }
        let keys = self.trusted()?;
        let base = declared.base.as_ref().map(|base| self.store.release(base, &keys));
        let changed = match base.transpose()? {
            Some(base) => release.changed_from(&base),
            None => Vec::new(),
        };
        // Where there is nothing to compare with, all is new.
        let changed = if changed.is_empty() { release.names() } else { changed };
        let Mark { epoch, seq } = declared.mark;
        let now_ms = now_ms();
        let new = Rollout {
            channel: self.channel.clone(),
            release: release.id.clone(),
            base: declared.base.clone(),
            salt: format!("{epoch}-{seq}-{now_ms}"),
            by: user(),
            started_at_ms: now_ms,
            pace: if fast { Pace::fast() } else { Pace::usual() },
            plugins: release.names(),
            changed,
            phase: Phase::Checking,
            step: 0,
            since_ms: now_ms,
            reason: None,
            resume: None,
            thresholds: BTreeMap::new(),
            base_arms: BTreeMap::new(),
            calls_before: 0,
            forgiven: Default::default(),
        };
        self.store.write_rollout(last.as_ref(), &new)?;
        self.audited("rollout", Some(&release.id), None)?;
        Ok(())
    }

    /// Tells how the rollout goes until it is over or paused; whoever follows it brings it on, too.
    async fn follow(&self) -> Result<(), Failure> {
        let mut watched = Watched::default();
        loop {
            if let Some(phase) = self.bring_on(&mut watched).await? {
                match phase {
                    Some(Phase::Done) => return Ok(()),
                    Some(Phase::Paused) => return Err(Failure::Ended(PAUSED)),
                    Some(Phase::RolledBack) => return Err(Failure::Ended(ROLLED_BACK)),
                    Some(Phase::Superseded) => return Err(Failure::Told),
                    Some(_) => {}
                    None => {
                        let message =
                            format!("{}: the rollout is not there any more", self.store.place());
                        return Err(FleetError::new(message).into());
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Brings the rollouts of the channel on, for as long as this program runs.
    async fn control(&self) -> Result<(), Failure> {
        self.store.prepare()?;
        let mut watched = Watched::default();
        loop {
            self.bring_on(&mut watched).await?;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Takes the steps that the rollout can take now, tells where it is then, and returns that: within, `None` if
    /// there is no rollout. `None` if the server does not answer: it may again.
    async fn bring_on(&self, watched: &mut Watched) -> Result<Option<Option<Phase>>, Failure> {
        let turned = turn_now(&self.store, &self.channel, None, &user()).await;
        let turned = turned.and_then(|rollout| Ok((rollout, self.status_now()?)));
        let Some((rollout, status)) = watched.through_silence(turned)? else { return Ok(None) };
        let now = status.rollout_line();
        if watched.told.as_ref() != Some(&now) {
            self.say(&status, || format!("{now}\n"))?;
            watched.told = Some(now);
        }
        Ok(Some(rollout.map(|rollout| rollout.phase)))
    }

    fn status_now(&self) -> Result<Status, FleetError> {
        Status::of(&self.store, &self.channel)
    }

    fn status(&self) -> Result<(), Failure> {
        let status = self.status_now()?;
        self.say(&status, || status.in_words())
    }

    async fn watch(&self) -> Result<(), Failure> {
        let mut watched = Watched::default();
        loop {
            if let Some(status) = watched.through_silence(self.status_now())? {
                let now = status.in_words();
                if watched.told.as_ref() != Some(&now) {
                    self.say(&status, || format!("{now}\n"))?;
                    watched.told = Some(now);
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks something of the rollout that is under way.
    async fn order(&self, order: Order) -> Result<(), Failure> {
        self.ordered(order).await?;
        self.status()
    }

    pub(crate) async fn ordered(&self, order: Order) -> Result<(), FleetError> {
        let active = self.store.rollout(&self.channel)?;
        if active.is_none_or(|active| active.phase.is_over()) {
            let message = format!("no rollout is under way in channel {}", self.channel);
            return Err(FleetError::new(message));
        }
        turn_now(&self.store, &self.channel, Some(order), &user()).await?;
        Ok(())
    }

    async fn roll_back(&self, release: Option<Id>) -> Result<(), Failure> {
        self.rolled_back(release).await?;
        self.status()
    }

    pub(crate) async fn rolled_back(&self, release: Option<Id>) -> Result<(), FleetError> {
        let keys = self.trusted()?;
        if let Some(release) = &release {
            self.store.release(release, &keys)?;
        }
        let active = self.store.rollout(&self.channel)?;
        if active.is_some_and(|active| !active.phase.is_over()) {
            let order = if release.is_some() { Order::Supersede } else { Order::Abort };
            turn_now(&self.store, &self.channel, Some(order), &user()).await?;
            if release.is_none() {
                return Ok(());
            }
        }
        let mut to = None;
        self.declare(|channel| {
            let base = match &release {
                Some(release) => Some(release.clone()),
                None => channel.earlier.pop().ok_or_else(|| {
                    FleetError::new(format!("channel {} has declared nothing before", channel.name))
                })?,
            };
            to.clone_from(&base);
            match release {
                Some(_) => channel.set_base(base),
                // The one that was bad is nothing to go back to.
                None => channel.base = base,
            }
            channel.candidate = None;
            channel.thresholds.clear();
            Ok(())
        })?;
        self.audited("rollback", to.as_ref(), None)
    }

    fn pin(&self, host: &Id, release: Option<Id>) -> Result<(), Failure> {
        self.pinned(host, release)?;
        self.status()
    }

    pub(crate) fn pinned(&self, host: &Id, release: Option<Id>) -> Result<(), FleetError> {
        if let Some(release) = &release {
            self.store.verify(release, &self.trusted()?)?;
        }
        self.declare(|channel| {
            let before = match &release {
                Some(release) => {
                    channel.pins.insert(host.clone(), release.clone());
                    return Ok(());
                }
                None => channel.pins.remove(host),
            };
            match before {
                Some(_) => Ok(()),
                None => Err(FleetError::new(format!("{host} is not pinned"))),
            }
        })?;
        let what = if release.is_some() { "pin" } else { "unpin" };
        self.audited(what, release.as_ref(), Some(host))
    }

    /// Changes what the channel declares.
    fn declare(
        &self,
        mut change: impl FnMut(&mut Channel) -> Result<(), FleetError>,
    ) -> Result<(), FleetError> {
        let read = self.store.channel(&self.channel)?;
        let mut new = read.clone();
        change(&mut new)?;
        new.go_on(&self.store.hosts(&self.channel)?.0);
        self.store.write_channel(&read, &new)
    }

    fn hosts(&self) -> Result<(), Failure> {
        let status = self.status_now()?;
        self.say(&status.hosts, || status.hosts_in_words())
    }

    fn audit(&self) -> Result<(), Failure> {
        let (entries, unreadable) = self.store.audited()?;
        if unreadable > 0 {
            writeln!(io::stderr(), "hotswap: {unreadable} lines of the audit cannot be read")?;
        }
        self.say(&entries, || {
            let text = |id: &Option<Id>| id.as_ref().map(Id::to_string).unwrap_or_default();
            let rows = entries.iter().map(|entry| {
                [
                    format::date(entry.at_ms),
                    entry.by.clone(),
                    entry.what.clone(),
                    text(&entry.channel),
                    text(&entry.release),
                    text(&entry.host),
                    entry.reason.as_ref().map(Reason::to_string).unwrap_or_default(),
                ]
            });
            text::table(["AT", "BY", "WHAT", "CHANNEL", "RELEASE", "HOST", "REASON"], rows)
        })
    }
}

/// What somebody who watches has been told.
#[derive(Default)]
struct Watched {
    told: Option<String>,
    /// Since when the server does not answer.
    silent_since: Option<Instant>,
}

impl Watched {
    /// Waits for a server that does not answer, for a while.
    fn through_silence<T>(
        &mut self,
        asked: Result<T, FleetError>,
    ) -> Result<Option<T>, FleetError> {
        match asked {
            Ok(answer) => {
                self.silent_since = None;
                Ok(Some(answer))
            }
            Err(error) if error.is_unreachable() => {
                if self.silent_since.is_none() {
                    // Nobody may listen there any more, and what is watched goes on.
                    let _ = writeln!(io::stderr(), "hotswap: {error}");
                }
                let since = *self.silent_since.get_or_insert_with(Instant::now);
                if since.elapsed() < SILENCE { Ok(None) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }
}

/// The artifacts at these paths, and in these directories.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, FleetError> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let wrong = |error: io::Error| FleetError::new(format!("{}: {error}", path.display()));
        let before = files.len();
        for entry in std::fs::read_dir(path).map_err(wrong)? {
            let file = entry.map_err(wrong)?.path();
            let is_hidden =
                file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if !is_hidden
                && file.extension().is_some_and(|it| it == std::env::consts::DLL_EXTENSION)
            {
                files.push(file);
            }
        }
        if files.len() == before {
            return Err(FleetError::new(format!("{}: there is no artifact in it", path.display())));
        }
    }
    files.sort();
    Ok(files)
}
