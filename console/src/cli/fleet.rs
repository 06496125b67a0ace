//! `hotswap fleet`

mod names;
mod status;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use etcetera::BaseStrategy;
use hotswap_artifact as artifact;
use hotswap_fleet::{
    Artifact, AuditEntry, Before, Channel, Digest, FleetError, Id, Keys, Location, Mark, Memory,
    Order, Pace, Phase, Pushed, Reason, Release, ReleasePlugin, Rollout, SecretKey, Server, Store,
    read_document, write_document,
};
use hotswap_protocol::clock::now_ms;
use hotswap_protocol::{ErrorKind, Step, WireError, env};
use serde::Serialize;
use serde_json::json;

pub(crate) use super::args::PlaceArguments;
use super::args::{FleetArguments, FleetCommand, KeysArguments, PushArguments, RolloutArguments};
use super::{print_json, print_words, text};
use crate::agent::turn_now;
use crate::failure::Failure;
use crate::format;

use names::{Known, Names, is_plain, is_url};
use status::Status;

/// How often a followed rollout is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// How long a follower waits for a server that does not answer, or for a directory that is gone.
const SILENCE: Duration = Duration::from_secs(300);

/// How many times a change of the declaration is tried if other programs change it, too.
const ATTEMPTS: usize = 20;

/// The exit code if a rollout is paused, or cannot be judged.
const PAUSED: u8 = 4;
/// The exit code if a rollout was rolled back.
const ROLLED_BACK: u8 = 5;

/// The directory of persistent state for programs of this user.
pub(super) fn states() -> Result<PathBuf, FleetError> {
    let directories = etcetera::base_strategy::Xdg::new().ok();
    let states = directories.and_then(|directories| directories.state_dir());
    states.ok_or_else(|| FleetError::new("no directory of this user is known; set XDG_STATE_HOME"))
}

/// The fleet that the command line names, else the environment, else the default name that this user has chosen.
/// `None` if none of them names one: the fleet is then the default directory of this user.
fn known(place: &PlaceArguments) -> Result<Option<Known>, FleetError> {
    let in_environment = || std::env::var_os(env::FLEET).map(PathBuf::from);
    let text = place.store.as_ref().map(PathBuf::from).or_else(|| place.fleet.clone());
    let text = text.or_else(in_environment).filter(|text| !text.as_os_str().is_empty());
    let names = Names::read()?;
    let mut known = match (&text, &names.used) {
        (Some(text), _) => match names.named(text) {
            Some(known) => known.clone(),
            None => Known::at(text)?,
        },
        (None, Some(used)) => names.get(used)?.clone(),
        (None, None) => return Ok(None),
    };
    known.creds = place.creds.clone().or(known.creds);
    known.tls_ca = place.tls_ca.clone().or(known.tls_ca);
    if !place.sign.is_empty() {
        known.sign.clone_from(&place.sign);
    }
    Ok(Some(known))
}

/// The place of the fleet, and the files of the keys that sign there.
fn location(place: &PlaceArguments) -> Result<(Location, Vec<PathBuf>), FleetError> {
    let known = match known(place)? {
        Some(known) if is_url(&known.at) => {
            let mut server = Server::at(&known.at.to_string_lossy())?;
            (server.credentials, server.tls_ca) = (known.creds, known.tls_ca);
            return Ok((Location::Nats(server), known.sign));
        }
        known => known,
    };
    let has_more = |known: &Known| known.creds.is_some() || known.tls_ca.is_some();
    if place.creds.is_some() || place.tls_ca.is_some() || known.as_ref().is_some_and(has_more) {
        let message =
            "`--creds` and `--tls-ca` are for a fleet on a server: `--store nats://HOST:PORT`";
        return Err(FleetError::new(message));
    }
    let (dir, sign) = match known {
        Some(known) => (known.at, known.sign),
        None => (states()?.join("hotswap/fleet"), place.sign.clone()),
    };
    Ok((Location::Directory(dir), sign))
}

/// Whether a fleet is named, or this user's default fleet exists.
pub(crate) fn is_known(place: &PlaceArguments) -> bool {
    is_named(place)
        || matches!(location(place), Ok((Location::Directory(dir), _)) if dir.join("fleet.json").exists())
}

/// Whether a fleet is named.
pub(crate) fn is_named(place: &PlaceArguments) -> bool {
    known(place).is_ok_and(|known| known.is_some())
}

/// The arguments that name the same fleet and channel to another program of this user.
pub(crate) fn arguments_for_program(place: &PlaceArguments) -> Vec<String> {
    let path = |path: &Option<PathBuf>| {
        let path = path.as_deref().map(|path| std::path::absolute(path).unwrap_or(path.to_owned()));
        path.map(|path| path.display().to_string())
    };
    let is_name = |text: &PathBuf| Names::read().is_ok_and(|names| names.named(text).is_some());
    let fleet = match &place.fleet {
        Some(name) if is_name(name) => Some(name.display().to_string()),
        _ => path(&place.fleet),
    };
    let channel = (place.channel.as_str() != "main").then(|| place.channel.to_string());
    let flags = [
        ("--fleet", fleet),
        ("--store", place.store.clone()),
        ("--creds", path(&place.creds)),
        ("--tls-ca", path(&place.tls_ca)),
        ("--channel", channel),
    ];
    let given = flags.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value?]));
    given.flatten().collect()
}

/// Opens the fleet. The keys that this user saw first are trusted, and other keys if a chain of signed changes
/// leads to them.
pub(super) fn open(place: &PlaceArguments) -> Result<Store, FleetError> {
    let (location, sign) = location(place)?;
    let store = match (Store::open(&location), &place.fleet, location) {
        (Err(_), Some(text), Location::Directory(dir)) if !dir.exists() && is_plain(text) => {
            return Err(Names::read()?.unknown(text, &dir));
        }
        (opened, _, _) => opened?,
    };
    let store = signed_by(store, &sign)?;
    let Ok(states) = states() else { return Ok(store) };
    let path = beside_keys(&states, &store, "json");
    let known = path.exists().then(|| read_document::<Keys>(&path)).transpose()?;
    if let Some(known) = known.clone() {
        store.believe(known);
    }
    let keys = store.keys()?;
    if let Some(keys) = keys.filter(|keys| Some(keys) != known.as_ref()) {
        make_parent(&path)?;
        write_document(&path, &keys)?;
    }
    Ok(store)
}

/// The path of a file about the keys of a fleet: the trusted keys, or the secret key that was made with the fleet.
fn beside_keys(states: &Path, store: &Store, extension: &str) -> PathBuf {
    let hotswap_fleet::Fleet { id, made_at_ms, .. } = store.fleet();
    states.join(format!("hotswap/keys/{id}-{made_at_ms}.{extension}"))
}

fn make_parent(path: &Path) -> Result<(), FleetError> {
    let dir = path.parent().unwrap_or(path);
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(dir);
    made.map_err(|error| FleetError::new(format!("{}: cannot be made: {error}", dir.display())))
}

/// The store, signing with the named keys, or else with the key that was made with the fleet.
fn signed_by(store: Store, named: &[PathBuf]) -> Result<Store, FleetError> {
    let made = states().map(|states| beside_keys(&states, &store, "key"));
    let made: Vec<PathBuf> = made.ok().filter(|made| made.exists()).into_iter().collect();
    let files = if named.is_empty() { &made } else { named };
    Ok(store.signed_by(secret_keys(files)?))
}

fn secret_keys(files: &[PathBuf]) -> Result<Vec<SecretKey>, FleetError> {
    let read = |file: &PathBuf| {
        SecretKey::read(file).map_err(|error| {
            FleetError::new(format!(
                "{error}; `--sign` takes the file of a secret key, such as `hotswap fleet keys --new FILE` makes"
            ))
        })
    };
    files.iter().map(read).collect()
}

/// The user of this program, for the audit log.
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
    match &command {
        FleetCommand::Init { at: None } => return init(&place, json),
        FleetCommand::Init { at: Some(at) } => {
            // No name is looked up: the new fleet has none yet.
            let at = Known::at(at)?.at;
            return init(&PlaceArguments { fleet: Some(at), ..place }, json);
        }
        FleetCommand::Names
        | FleetCommand::Name { .. }
        | FleetCommand::Use { .. }
        | FleetCommand::Forget { .. } => {
            return name(&place, &command, json);
        }
        // Making a key does not need a fleet.
        FleetCommand::Keys(KeysArguments { generate: Some(path), .. }) => {
            let (_, key) = SecretKey::generate(path)?;
            return print_answer(json, &json!({ "key": key }), || format!("{key}\n"));
        }
        _ => {}
    }
    let fleet = Fleet { store: open(&place)?, channel: place.channel, json };
    match command {
        FleetCommand::Init { .. }
        | FleetCommand::Names
        | FleetCommand::Name { .. }
        | FleetCommand::Use { .. }
        | FleetCommand::Forget { .. } => Ok(()),
        FleetCommand::Keys(keys) => fleet.keys(&keys),
        FleetCommand::Sign { release } => fleet.sign(release.as_ref()),
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

/// Adds, removes or chooses a name, or lists the names.
fn name(place: &PlaceArguments, command: &FleetCommand, json: bool) -> Result<(), Failure> {
    let names = Names::read()?;
    match command {
        FleetCommand::Name { name } => {
            let mut known = match known(place)? {
                Some(known) => known,
                None => Known::at(&states()?.join("hotswap/fleet"))?,
            };
            known.make_absolute()?;
            Names::give(name, &known)?;
        }
        FleetCommand::Use { name } => names.use_by_default(name.as_ref())?,
        FleetCommand::Forget { name } => names.forget(name)?,
        _ => {}
    }
    let names = Names::read()?;
    print_answer(json, &names, || {
        if names.fleets.is_empty() {
            return "no fleet has a name; `hotswap fleet name NAME --fleet DIR` gives one\n"
                .to_owned();
        }
        let rows = names.fleets.iter().map(|(name, known)| {
            let is_used = names.used.as_ref() == Some(name);
            [
                if is_used { "*" } else { "" }.to_owned(),
                name.to_string(),
                known.at.display().to_string(),
            ]
        });
        text::table(["", "NAME", "AT"], rows)
    })
}

fn init(place: &PlaceArguments, json: bool) -> Result<(), Failure> {
    let (location, sign) = location(place)?;
    let named = secret_keys(&sign)?;
    let entry = audit_entry("init", &place.channel);
    let store = Store::create(&location, &location.name(), &place.channel, vec![entry])?;
    let signers = match named.is_empty() && store.is_of_many_machines() {
        true => {
            let path = beside_keys(&states()?, &store, "key");
            make_parent(&path)?;
            let (secret, _) = SecretKey::generate(&path)?;
            // This goes to stderr, because scripts read the answer on stdout.
            let _ = writeln!(
                io::stderr(),
                "hotswap: {} is the secret key of this fleet: keep a copy of it",
                path.display()
            );
            vec![secret]
        }
        false => named,
    };
    let keys: Vec<String> = signers.iter().map(SecretKey::public).collect::<Result<_, _>>()?;
    let fleet = Fleet { store: store.signed_by(signers), channel: place.channel.clone(), json };
    if !keys.is_empty() {
        fleet.change_keys(|new| {
            new.keys = keys;
            Ok(())
        })?;
    }
    fleet.store.say_missing(&fleet.channel)?;
    fleet.status()
}

/// An entry of the audit log about what this program does now.
fn audit_entry(what: &str, channel: &Id) -> AuditEntry {
    AuditEntry {
        at_ms: now_ms(),
        by: user(),
        what: what.to_owned(),
        channel: Some(channel.clone()),
        release: None,
        host: None,
        reason: None,
    }
}

/// A fleet and one of its channels, with the form of the output.
pub(crate) struct Fleet {
    pub(crate) store: Store,
    pub(crate) channel: Id,
    json: bool,
}

fn print_answer(
    json: bool,
    value: &impl Serialize,
    words: impl FnOnce() -> String,
) -> Result<(), Failure> {
    if json {
        return Ok(print_json(value)?);
    }
    Ok(print_words(&words())?)
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
    /// The fleet, for a program that prints nothing about it.
    pub(crate) fn at(place: &PlaceArguments) -> Result<Self, FleetError> {
        Ok(Self { store: open(place)?, channel: place.channel.clone(), json: false })
    }

    /// The directory of the fleet, if it is in one.
    pub(crate) fn directory(place: &PlaceArguments) -> Option<PathBuf> {
        match location(place) {
            Ok((Location::Directory(dir), _)) => Some(dir),
            _ => None,
        }
    }

    /// An entry of the audit log, with the time of the store.
    fn audit_entry(&self, what: &str) -> Result<AuditEntry, FleetError> {
        Ok(AuditEntry { at_ms: self.store.now_ms()?, ..audit_entry(what, &self.channel) })
    }

    fn print(&self, value: &impl Serialize, words: impl FnOnce() -> String) -> Result<(), Failure> {
        print_answer(self.json, value, words)
    }

    fn keys(&self, arguments: &KeysArguments) -> Result<(), Failure> {
        let KeysArguments { new, new_director, add, add_director, remove, threshold, .. } =
            arguments;
        let is_changed = new.is_some() || new_director.is_some() || threshold.is_some();
        if is_changed || [add, add_director, remove].into_iter().any(|them| !them.is_empty()) {
            if self.store.keys()?.is_some() && !self.store.has_signers() {
                let message = "a change of keys has to be signed by the present keys: use `--sign SECRET-KEY`";
                return Err(FleetError::new(message).into());
            }
            let entry = self.audit_entry("keys")?;
            self.change_keys(|keys| {
                entry.add_to(&mut keys.unsaid);
                for key in remove {
                    keys.retire(key)?;
                }
                keys.keys.extend(add.iter().cloned());
                keys.directors.extend(add_director.iter().cloned());
                keys.threshold = threshold.unwrap_or(keys.threshold);
                if keys.keys.is_empty() && new.is_none() {
                    return Err(FleetError::new(match remove.is_empty() {
                        true => "the fleet has no release key yet; make one with `--new FILE` at once",
                        false => "it is the last key of the fleet; make another with `--new FILE` at once",
                    }));
                }
                if let Some(path) = new {
                    keys.keys.push(SecretKey::generate(path)?.1);
                }
                if let Some(path) = new_director {
                    keys.directors.push(SecretKey::generate(path)?.1);
                }
                Ok(())
            })?;
            self.store.say_missing(&self.channel)?;
        }
        let keys = self.store.keys()?;
        let keys = keys.unwrap_or_else(|| Keys::none(self.store.fleet().id.clone()));
        let Keys { serial, keys, threshold, directors, retired, .. } = keys;
        let value = json!({
            "serial": serial,
            "keys": keys,
            "threshold": threshold,
            "directors": directors,
            "retired": retired,
        });
        self.print(&value, || {
            if keys.is_empty() {
                return "no keys: releases are not signed, and everybody with write access decides what runs\n"
                    .to_owned();
            }
            let mut text: String = keys.iter().map(|key| format!("{key}\n")).collect();
            text += &directors.iter().map(|key| format!("{key} director\n")).collect::<String>();
            text += &retired.iter().map(|key| format!("{key} retired\n")).collect::<String>();
            if keys.len() > 1 {
                text += &format!("{threshold} of {} have to sign a release\n", keys.len());
            }
            if directors.is_empty() && !self.store.is_of_many_machines() {
                text += "declarations are not signed: everybody with write access chooses among the signed releases\n";
            }
            text
        })
    }

    /// Changes the keys, and signs the declaration with one of the keys that may do so afterwards.
    fn change_keys(
        &self,
        change: impl FnOnce(&mut Keys) -> Result<(), FleetError>,
    ) -> Result<(), FleetError> {
        // Only a declaration that was trusted until now is signed again.
        let read = self.store.channel(&self.channel);
        let read = read.and_then(|channel| Ok((channel, self.store.rollout(&self.channel)?)));
        self.store.change_keys(change)?;
        match read {
            Ok((channel, rollout))
                if self.store.may_declare()? && self.store.channel(&self.channel).is_err() =>
            {
                self.store.sign_declarations(&channel, &channel, rollout.as_ref())
            }
            _ => Ok(()),
        }
    }

    fn sign(&self, release: Option<&Id>) -> Result<(), Failure> {
        if !self.store.has_signers() {
            return Err(FleetError::new("no key to sign with: use `--sign SECRET-KEY`").into());
        }
        let Some(release) = release else {
            let (channel, rollout) = self.store.unverified(&self.channel)?;
            let mut signed = channel.clone();
            self.audit_entry("sign")?.add_to(&mut signed.unsaid);
            self.store.sign_declarations(&channel, &signed, rollout.as_ref())?;
            self.store.say_missing(&self.channel)?;
            return self.status();
        };
        let entry = AuditEntry { release: Some(release.clone()), ..self.audit_entry("sign")? };
        let Pushed { signed, needed, .. } = self.store.sign_release(release, Some(&entry))?;
        self.store.say(&[entry])?;
        let value = json!({ "release": release, "signatures": signed, "needed": needed });
        self.print(&value, || {
            format!("{release} is signed by {signed} of {needed} required keys\n")
        })
    }

    fn push(&self, push: &PushArguments) -> Result<(), Failure> {
        if self.store.keys()?.is_some() && !self.store.has_signers() {
            let message = "releases of this fleet have to be signed: use `--sign SECRET-KEY`";
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
        let pushed_at_ms = self.store.now_ms()?;
        let release = Release { id, fleet, pushed_at_ms, by: user(), plugins };
        let Pushed { is_new, signed, needed } = self.store.push_release(&release)?;
        if signed >= needed {
            self.store.release(&release.id, self.store.keys()?.as_ref())?;
        } else {
            // The last line of the answer is the release's name.
            writeln!(
                io::stderr(),
                "hotswap: {} is signed by {signed} of {needed} required keys; `hotswap fleet sign {}` adds \
                 another",
                release.id,
                release.id
            )?;
        }
        if is_new {
            self.store.say(&[AuditEntry::of_push(&release, &self.channel)])?;
        }
        #[derive(Serialize)]
        struct Answer<'a> {
            #[serde(flatten)]
            release: &'a Release,
            new: bool,
            signatures: usize,
            needed: usize,
        }
        let answer = Answer { release: &release, new: is_new, signatures: signed, needed };
        self.print(&answer, || format!("{}\n", release.id))
    }

    fn push_artifact(&self, path: &Path) -> Result<(String, Artifact), Failure> {
        let wrong = |reason: String| WireError {
            step: Some(Step::Inspect),
            ..WireError::new(ErrorKind::Fleet, format!("{}: {reason}", path.display()))
        };
        let file = artifact::read(path).map_err(|error| wrong(error.to_string()))?;
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
        let keys = self.store.keys()?;
        let line = |id: Id| match self.store.release(&id, keys.as_ref()) {
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
        self.print(&lines, || {
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
        let keys = self.store.keys()?;
        let release = self.store.verify(release, keys.as_ref())?;
        self.print(&release, || {
            let signed = match &keys {
                None => "not signed".to_owned(),
                Some(keys) if keys.threshold == 1 => "signed by a key of the fleet".to_owned(),
                Some(keys) => format!("signed by {} keys of the fleet", keys.threshold),
            };
            let count = release.plugins.iter().map(|plugin| plugin.artifacts.len()).sum::<usize>();
            let artifacts = format::counted(count as u64, "artifact", "artifacts");
            format!("{} is unchanged since it was pushed: {artifacts}, {signed}\n", release.id)
        })
    }

    async fn rollout(&self, arguments: RolloutArguments) -> Result<(), Failure> {
        let RolloutArguments { release, follow, fast, supersede, queue } = arguments;
        self.store.prepare()?;
        let checked = self.store.verify(&release, self.store.keys()?.as_ref())?;
        let begun = loop {
            if queue {
                self.wait_for_active_rollout().await?;
            }
            if let Some(begun) = self.begin(&checked, fast, supersede).await? {
                break begun;
            }
        };
        if follow { self.follow(&begun).await } else { self.status() }
    }

    /// Waits until no rollout is under way. Takes the steps of the present one meanwhile.
    async fn wait_for_active_rollout(&self) -> Result<(), Failure> {
        let mut watched = Watched::default();
        loop {
            match self.advance(&mut watched, None).await? {
                Some(Some(rollout)) if !rollout.phase.is_over() => {}
                None => {}
                Some(_) => return Ok(()),
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Begins a rollout if none is under way. Returns `None` if another program has changed the fleet in the
    /// meantime, for example by an entry about the last rollout.
    async fn begin(
        &self,
        release: &Release,
        fast: bool,
        supersede: bool,
    ) -> Result<Option<Rollout>, Failure> {
        let mut last = self.store.rollout(&self.channel)?;
        // Everything that can be refused comes before the end of another rollout.
        let (mut declared, mut changed) = self.difference(release)?;
        if let Some(active) = last.as_ref().filter(|active| !active.phase.is_over()) {
            if !supersede {
                return Err(FleetError::new(format!(
                    "a rollout of {} is under way, which {} began {} ago: it is {}. `--queue` waits for \
                     its end, `--supersede` takes its place, `hotswap fleet abort` ends it",
                    active.release,
                    active.by,
                    format::duration(self.store.now_ms()?.saturating_sub(active.started_at_ms)),
                    active.phase.as_str()
                ))
                .into());
            }
            last = turn_now(&self.store, &self.channel, Some(Order::Supersede), &user()).await?;
            (declared, changed) = self.difference(release)?;
        }
        let Mark { epoch, seq } = declared.mark;
        let now_ms = self.store.now_ms()?;
        let Memory { known, mut unsaid, .. } =
            last.as_ref().map(|last| last.memory.clone()).unwrap_or_default();
        // If this program is killed before it writes the audit log, another one does.
        let entry = audit_entry("rollout", &self.channel);
        AuditEntry { at_ms: now_ms, release: Some(release.id.clone()), ..entry }
            .add_to(&mut unsaid);
        let before =
            last.as_ref().map(|last| Before { salt: last.salt.clone(), phase: last.phase });
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
            memory: Memory { known, unsaid, before, ..Memory::default() },
            writes: 0,
        };
        match self.store.write_rollout(last.as_ref(), &new) {
            Err(error) if error.is_changed() => return Ok(None),
            written => written?,
        }
        self.store.say(&new.memory.unsaid)?;
        Ok(Some(new))
    }

    /// The declaration of the channel, and the plugins of a release that differ from those of its base.
    fn difference(&self, release: &Release) -> Result<(Channel, Vec<String>), FleetError> {
        let (hosts, _) = self.store.hosts(&self.channel)?;
        let declared = self.store.channel(&self.channel)?;
        if declared.is_older_copy(&hosts) {
            return Err(FleetError::new(format!(
                "channel {}: hosts follow a newer declaration than the stored one, because an older copy of the fleet \
                 was restored; first declare what they run now: `hotswap fleet rollback RELEASE`",
                self.channel
            )));
        }
        if declared.base.as_ref() == Some(&release.id) {
            let message =
                format!("{} is what channel {} declares already", release.id, self.channel);
            return Err(FleetError::new(message));
        }
        let keys = self.store.keys()?;
        let base = declared.base.as_ref().map(|base| self.store.release(base, keys.as_ref()));
        let changed = match base.transpose()? {
            Some(base) => release.changed_from(&base),
            None => Vec::new(),
        };
        // Without a base, all plugins count as changed.
        let changed = if changed.is_empty() { release.names() } else { changed };
        Ok((declared, changed))
    }

    /// Shows the progress of a rollout until it is over or paused, and takes its steps.
    async fn follow(&self, followed: &Rollout) -> Result<(), Failure> {
        let mut watched = Watched::default();
        loop {
            if let Some(rollout) = self.advance(&mut watched, Some(followed)).await? {
                let Some(rollout) = rollout else {
                    let message =
                        format!("{}: the rollout is not there any more", self.store.place());
                    return Err(FleetError::new(message).into());
                };
                let phase = match rollout.memory.before {
                    _ if rollout.salt == followed.salt => rollout.phase,
                    Some(before) if before.salt == followed.salt => before.phase,
                    _ => Phase::Superseded,
                };
                match phase {
                    Phase::Done => return Ok(()),
                    Phase::Paused => return Err(Failure::Ended(PAUSED)),
                    Phase::RolledBack => return Err(Failure::Ended(ROLLED_BACK)),
                    Phase::Superseded if rollout.salt == followed.salt => {
                        return Err(Failure::Reported);
                    }
                    Phase::Superseded => {
                        let message = format!(
                            "the rollout of {} was superseded, and now there is one of {}, which {} began; see \
                             `hotswap fleet audit`",
                            followed.release, rollout.release, rollout.by
                        );
                        return Err(FleetError::new(message).into());
                    }
                    _ => {}
                }
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Takes the steps of the channel's rollouts as long as this program runs.
    async fn control(&self) -> Result<(), Failure> {
        self.store.prepare()?;
        let mut watched = Watched::default();
        loop {
            self.advance(&mut watched, None).await?;
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Takes the steps that the rollout can take now, shows its state, and returns it: the inner `None` if there is no
    /// rollout, the outer `None` if the server does not answer now. If one is `followed`, no other is shown.
    async fn advance(
        &self,
        watched: &mut Watched,
        followed: Option<&Rollout>,
    ) -> Result<Option<Option<Rollout>>, Failure> {
        let turned = turn_now(&self.store, &self.channel, None, &user()).await;
        let turned = turned.and_then(|rollout| Ok((rollout, self.status_now()?)));
        let Some((rollout, status)) = watched.tolerate_silence(turned)? else { return Ok(None) };
        let now = status.rollout_line();
        let is_meant = followed.is_none_or(|followed| status.is_about(followed));
        if is_meant && watched.shown.as_ref() != Some(&now) {
            self.print(&status, || format!("{now}\n"))?;
            watched.shown = Some(now);
        }
        Ok(Some(rollout))
    }

    fn status_now(&self) -> Result<Status, FleetError> {
        Status::of(&self.store, &self.channel)
    }

    fn status(&self) -> Result<(), Failure> {
        let status = self.status_now()?;
        self.print(&status, || status.in_words())
    }

    async fn watch(&self) -> Result<(), Failure> {
        let mut watched = Watched::default();
        loop {
            if let Some(status) = watched.tolerate_silence(self.status_now())? {
                let now = if self.json { status.facts()? } else { status.in_words() };
                if watched.shown.as_ref() != Some(&now) {
                    self.print(&status, || format!("{now}\n"))?;
                    watched.shown = Some(now);
                }
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Gives the rollout an order.
    async fn order(&self, order: Order) -> Result<(), Failure> {
        self.give_order(order).await?;
        self.status()
    }

    pub(crate) async fn give_order(&self, order: Order) -> Result<(), FleetError> {
        // A channel that does not exist is the fault, and not that it has no rollout.
        self.store.channel(&self.channel)?;
        let active = self.store.rollout(&self.channel)?;
        if active.is_none_or(|active| active.phase.is_over()) {
            let message = format!(
                "no rollout is under way in channel {}; `hotswap fleet rollout RELEASE` begins one",
                self.channel
            );
            return Err(FleetError::new(message));
        }
        turn_now(&self.store, &self.channel, Some(order), &user()).await?;
        Ok(())
    }

    async fn roll_back(&self, release: Option<Id>) -> Result<(), Failure> {
        self.declare_rollback(release).await?;
        self.status()
    }

    pub(crate) async fn declare_rollback(&self, release: Option<Id>) -> Result<(), FleetError> {
        if let Some(release) = &release {
            self.store.release(release, self.store.keys()?.as_ref())?;
        }
        let active = self.store.rollout(&self.channel)?;
        if active.is_some_and(|active| !active.phase.is_over()) {
            let order = if release.is_some() { Order::Supersede } else { Order::Abort };
            turn_now(&self.store, &self.channel, Some(order), &user()).await?;
            if release.is_none() {
                return Ok(());
            }
        }
        let mut from = None;
        self.declare("rollback", |channel, entry| {
            // Two users who go back at the same time mean the same release, and not two steps.
            if *from.get_or_insert_with(|| channel.base.clone()) != channel.base {
                let message = format!(
                    "somebody else has changed channel {} meanwhile: see `hotswap fleet status`, and try again",
                    channel.name
                );
                return Err(FleetError::new(message));
            }
            let base = match &release {
                Some(release) => Some(release.clone()),
                None => channel.earlier.pop().ok_or_else(|| {
                    FleetError::new(format!(
                        "channel {} has no earlier release; `hotswap fleet rollback RELEASE` goes back to a certain release",
                        channel.name
                    ))
                })?,
            };
            entry.release.clone_from(&base);
            match &release {
                Some(_) => channel.set_base(base),
                // The bad release must not become something to go back to.
                None => channel.base = base,
            }
            channel.candidate = None;
            channel.thresholds.clear();
            Ok(())
        })
    }

    fn pin(&self, host: &Id, release: Option<Id>) -> Result<(), Failure> {
        let is_pinned = release.is_some();
        self.declare_pin(host, release)?;
        let status = self.status_now()?;
        if is_pinned && status.hosts.iter().all(|it| it.id != *host) {
            // This goes to stderr, because scripts read the answer on stdout.
            let _ = writeln!(
                io::stderr(),
                "hotswap: no host {host} reports; it runs the release once it does (`hotswap fleet hosts` lists those \
                 that do)"
            );
        }
        self.print(&status, || status.in_words())
    }

    pub(crate) fn declare_pin(&self, host: &Id, release: Option<Id>) -> Result<(), FleetError> {
        if let Some(release) = &release {
            self.store.verify(release, self.store.keys()?.as_ref())?;
        }
        let what = if release.is_some() { "pin" } else { "unpin" };
        self.declare(what, |channel, entry| {
            (entry.release, entry.host) = (release.clone(), Some(host.clone()));
            let before = match &release {
                Some(release) => {
                    channel.pins.insert(host.clone(), release.clone());
                    return Ok(());
                }
                None => channel.pins.remove(host),
            };
            match before {
                Some(_) => Ok(()),
                None => {
                    let pinned: Vec<&str> = channel.pins.keys().map(Id::as_str).collect();
                    let pinned =
                        if pinned.is_empty() { "none".to_owned() } else { pinned.join(", ") };
                    let message = format!("{host} is not pinned; hosts that are: {pinned}");
                    Err(FleetError::new(message))
                }
            }
        })
    }

    /// Changes the declaration of the channel, with an entry for the audit log, which the change completes. If another
    /// program changes the declaration in the meantime, such as the controller of a rollout, the change is made again.
    fn declare(
        &self,
        what: &str,
        mut change: impl FnMut(&mut Channel, &mut AuditEntry) -> Result<(), FleetError>,
    ) -> Result<(), FleetError> {
        let mut attempts = 1..ATTEMPTS;
        loop {
            let read = self.store.channel(&self.channel)?;
            let (mut new, mut entry) = (read.clone(), self.audit_entry(what)?);
            change(&mut new, &mut entry)?;
            entry.add_to(&mut new.unsaid);
            new.raise_mark(&self.store.hosts(&self.channel)?.0);
            match self.store.write_channel(&read, &new) {
                Err(error) if error.is_changed() && attempts.next().is_some() => {}
                written => return written.and_then(|()| self.store.say(&new.unsaid)),
            }
        }
    }

    fn hosts(&self) -> Result<(), Failure> {
        let status = self.status_now()?;
        self.print(&status.hosts, || status.hosts_in_words())
    }

    fn audit(&self) -> Result<(), Failure> {
        let said = self.store.say_missing(&self.channel);
        if let Err(error) = said.and_then(|()| self.store.say_missing_of_releases(&self.channel)) {
            writeln!(io::stderr(), "hotswap: {error}")?;
        }
        let (entries, unreadable) = self.store.audited()?;
        if unreadable > 0 {
            let lines = format::counted(unreadable as u64, "line", "lines");
            writeln!(io::stderr(), "hotswap: {lines} of the audit cannot be read")?;
        }
        self.print(&entries, || {
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

/// The last state that was shown to a watching user.
#[derive(Default)]
struct Watched {
    shown: Option<String>,
    /// Since when the server has not answered, or the directory is gone.
    silent_since: Option<Instant>,
}

impl Watched {
    /// Tolerates a server that does not answer, or a directory that is gone, for a while.
    fn tolerate_silence<T>(
        &mut self,
        asked: Result<T, FleetError>,
    ) -> Result<Option<T>, FleetError> {
        match asked {
            Ok(answer) => {
                if self.silent_since.take().is_some() {
                    // The user sees that it is back.
                    self.shown = None;
                }
                Ok(Some(answer))
            }
            Err(error) if error.is_unreachable() || error.is_gone() => {
                if self.silent_since.is_none() {
                    // The output may be closed, and the watch continues.
                    let _ = writeln!(io::stderr(), "hotswap: {error}");
                }
                let since = *self.silent_since.get_or_insert_with(Instant::now);
                if since.elapsed() < SILENCE { Ok(None) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }
}

/// The artifacts at these paths and in these directories.
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
            return Err(FleetError::new(format!(
                "{}: there is no artifact in it; `hotswap build PLUGIN DIR` puts one there",
                path.display()
            )));
        }
    }
    files.sort();
    Ok(files)
}
