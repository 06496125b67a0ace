//! What an agent must not forget, in files of its own: how far the channel had come, whom it believes and which
//! builds have crashed a host; and which host it has given what, which is worth nothing after the machine has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use hotswap_fleet::{Channel, FleetError, Id, Keys, read_document, write_document, write_note};
use serde::{Deserialize, Serialize};

/// What an agent must not forget.
pub(super) struct Ledger {
    path: PathBuf,
    entries: Entries,
    hosts_path: PathBuf,
    /// What hosts were given.
    hosts: BTreeMap<Id, Note>,
    _lock: File,
}

#[derive(Default, Serialize, Deserialize)]
struct Entries {
    /// Whoever may sign releases, once it was seen.
    keys: Option<Keys>,
    /// What each channel declared last.
    channels: BTreeMap<Id, Channel>,
    /// The builds that crashed a host, by build id.
    quarantined: BTreeMap<String, Crash>,
}

/// What a host was given.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Note {
    /// When it was started: another process may get its id.
    pub started_at_ms: u64,
    /// The release that it has loaded.
    pub release: Option<Id>,
    /// The one that it is being given. If its process ends before it was, that is why.
    pub applying: Option<Id>,
    /// The builds of that, by plugin.
    pub builds: BTreeMap<String, String>,
}

/// A host that crashed.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Crash {
    pub plugin: String,
    pub release: Id,
    pub host: Id,
}

impl Ledger {
    /// The ledger in a directory, which no other agent has open.
    pub fn open(dir: &Path) -> Result<Self, FleetError> {
        let wrong = |path: &Path, error: std::io::Error| {
            FleetError::new(format!("{}: cannot be made: {error}", path.display()))
        };
        std::fs::create_dir_all(dir).map_err(|error| wrong(dir, error))?;
        let path = dir.join("agent.lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(|error| wrong(&path, error))?;
        if lock.try_lock().is_err() {
            return Err(FleetError::new(format!(
                "{}: another agent serves the hosts of this user for this fleet",
                path.display()
            )));
        }
        let path = dir.join("ledger.json");
        let read = path.exists().then(|| read_document(&path)).transpose();
        let entries = read.map_err(|error| {
            FleetError::new(format!(
                "{error}; put back what was there, or remove it: then the agent believes what it sees first, and has \
                 forgotten which builds crashed a host"
            ))
        })?;
        let entries = entries.unwrap_or_else(Entries::default);
        let hosts_path = dir.join("hosts.json");
        // A machine that has ended may leave anything there.
        let hosts = read_document(&hosts_path).unwrap_or_default();
        Ok(Self { path, entries, hosts_path, hosts, _lock: lock })
    }

    fn write(&self) -> Result<(), FleetError> {
        write_document(&self.path, &self.entries)
    }

    fn write_hosts(&self) -> Result<(), FleetError> {
        write_note(&self.hosts_path, &self.hosts)
    }

    pub fn keys(&self) -> Option<&Keys> {
        self.entries.keys.as_ref()
    }

    /// What a channel declared last.
    pub fn channel(&self, channel: &Id) -> Option<&Channel> {
        self.entries.channels.get(channel)
    }

    /// From now on nothing older is believed.
    pub fn accept(&mut self, keys: Option<Keys>, channel: &Channel) -> Result<(), FleetError> {
        if self.entries.keys == keys && self.channel(&channel.name) == Some(channel) {
            return Ok(());
        }
        self.entries.keys = keys;
        self.entries.channels.insert(channel.name.clone(), channel.clone());
        self.write()
    }

    /// What a host was given.
    pub fn note(&self, host: &Id) -> Option<Note> {
        self.hosts.get(host).cloned()
    }

    /// The hosts that were given something.
    pub fn hosts(&self) -> BTreeSet<Id> {
        self.hosts.keys().cloned().collect()
    }

    pub fn set_note(&mut self, host: &Id, note: Note) -> Result<(), FleetError> {
        if self.hosts.get(host) == Some(&note) {
            return Ok(());
        }
        self.hosts.insert(host.clone(), note);
        self.write_hosts()
    }

    /// A host has ended.
    pub fn forget(&mut self, host: &Id) -> Result<(), FleetError> {
        match self.hosts.remove(host) {
            Some(_) => self.write_hosts(),
            None => Ok(()),
        }
    }

    /// Keeps the builds that a host was given from all others: that of a plugin, or all if nobody knows which.
    pub fn quarantine(
        &mut self,
        host: &Id,
        release: &Id,
        plugin: Option<&str>,
    ) -> Result<(), FleetError> {
        let Some(note) = self.note(host) else { return Ok(()) };
        let is_it = |name: &str| plugin.is_none_or(|plugin| plugin.eq_ignore_ascii_case(name));
        for (name, build) in note.builds.into_iter().filter(|(name, _)| is_it(name)) {
            let crash = Crash { plugin: name, release: release.clone(), host: host.clone() };
            self.entries.quarantined.insert(build, crash);
        }
        self.write()
    }

    /// The host that a build has crashed, if it has.
    pub fn crash(&self, build_id: &str) -> Option<&Crash> {
        self.entries.quarantined.get(build_id)
    }

    /// Lets all builds be loaded again.
    pub fn pardon(&mut self) -> Result<(), FleetError> {
        self.entries.quarantined.clear();
        self.write()
    }
}
