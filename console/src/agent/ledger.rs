//! The persistent state of an agent: the last declaration of each channel, the trusted keys, and the builds that
//! crashed a host. A second file, which is meaningless after a restart of the machine, records what was loaded
//! into each host.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use hotswap_fleet::{Channel, FleetError, Id, Keys, read_document, write_document, write_note};
use serde::{Deserialize, Serialize};

/// The persistent state of an agent.
pub(super) struct Ledger {
    path: PathBuf,
    entries: Entries,
    hosts_path: PathBuf,
    /// What was loaded into each host.
    hosts: BTreeMap<Id, Note>,
    /// The files that have all of this.
    stored: Stored,
    _lock: File,
}

#[derive(Default, Serialize, Deserialize)]
struct Entries {
    /// The keys that may sign releases, once they were read.
    keys: Option<Keys>,
    /// The last declaration of each channel.
    channels: BTreeMap<Id, Channel>,
    /// The builds that crashed a host, by build id.
    quarantined: BTreeMap<String, Crash>,
    /// The ids of builds whose load has ended with its host once, which may have been an accident.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    suspected: BTreeSet<String>,
}

/// Whether the last write of each file has succeeded.
struct Stored {
    entries: bool,
    hosts: bool,
}

/// What was loaded into a host.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Note {
    /// When the host was started, since another process may get its process id.
    pub started_at_ms: u64,
    /// The release that it has loaded.
    pub release: Option<Id>,
    /// The release that is being loaded. If the process ends during the load, the release is blamed.
    pub applying: Option<Id>,
    /// The builds of that release, by plugin.
    pub builds: BTreeMap<String, String>,
    /// Whether it ran plugins of its own before it loaded the first release.
    #[serde(default = "unknown_counts_as_own")]
    pub had_plugins: bool,
}

fn unknown_counts_as_own() -> bool {
    true
}

/// A host that crashed.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Crash {
    pub plugin: String,
    pub release: Id,
    pub host: Id,
}

impl Ledger {
    /// Opens the ledger in a directory. Only one agent can have it open.
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
                "{error}; restore the earlier file, or remove it: the agent then trusts the first keys that it reads, and has \
                 forgotten which builds crashed a host"
            ))
        })?;
        let entries = entries.unwrap_or_else(Entries::default);
        let hosts_path = dir.join("hosts.json");
        // After a crash of the machine, this file may contain anything.
        let hosts = read_document(&hosts_path).unwrap_or_default();
        let stored = Stored { entries: true, hosts: true };
        Ok(Self { path, entries, hosts_path, hosts, stored, _lock: lock })
    }

    fn write(&mut self) -> Result<(), FleetError> {
        let written = write_document(&self.path, &self.entries);
        self.stored.entries = written.is_ok();
        written
    }

    fn write_hosts(&mut self) -> Result<(), FleetError> {
        let written = write_note(&self.hosts_path, &self.hosts);
        self.stored.hosts = written.is_ok();
        written
    }

    /// Whether everything is on the disk.
    pub fn is_stored(&self) -> bool {
        self.stored.entries && self.stored.hosts
    }

    pub fn keys(&self) -> Option<&Keys> {
        self.entries.keys.as_ref()
    }

    /// The last declaration of a channel.
    pub fn channel(&self, channel: &Id) -> Option<&Channel> {
        self.entries.channels.get(channel)
    }

    /// Accepts keys and a declaration. Nothing older is trusted from now on, also if they cannot be stored; the next
    /// call then tries to store them again.
    pub fn accept(&mut self, keys: Option<Keys>, channel: &Channel) -> Result<(), FleetError> {
        let is_known = self.entries.keys == keys && self.channel(&channel.name) == Some(channel);
        if is_known && self.stored.entries {
            return if self.stored.hosts { Ok(()) } else { self.write_hosts() };
        }
        self.entries.keys = keys;
        self.entries.channels.insert(channel.name.clone(), channel.clone());
        self.write()
    }

    /// What was loaded into a host.
    pub fn note(&self, host: &Id) -> Option<Note> {
        self.hosts.get(host).cloned()
    }

    /// The hosts into which something was loaded.
    pub fn hosts(&self) -> BTreeSet<Id> {
        self.hosts.keys().cloned().collect()
    }

    pub fn set_note(&mut self, host: &Id, note: Note) -> Result<(), FleetError> {
        if self.hosts.get(host) == Some(&note) && self.stored.hosts {
            return Ok(());
        }
        self.hosts.insert(host.clone(), note);
        self.write_hosts()
    }

    /// Removes a host that has ended.
    pub fn forget(&mut self, host: &Id) -> Result<(), FleetError> {
        match self.hosts.remove(host) {
            Some(_) => self.write_hosts(),
            None => Ok(()),
        }
    }

    /// Notes that a host has ended while it loaded builds, without other evidence against them. Returns whether this
    /// counts as an accident, because it is the first such end with these builds.
    pub fn note_unexplained_end(&mut self, host: &Id) -> bool {
        let builds = self.note(host).map(|note| note.builds).unwrap_or_default();
        let mut is_accident = true;
        for build in builds.into_values() {
            is_accident &= self.entries.suspected.insert(build);
        }
        // If this fails, the next `accept` stores it.
        let _ = self.write();
        is_accident
    }

    /// Notes that builds were loaded without an accident.
    pub fn clear_suspected(&mut self, builds: &BTreeMap<String, String>) -> Result<(), FleetError> {
        let before = self.entries.suspected.len();
        self.entries.suspected.retain(|build| !builds.values().any(|it| it == build));
        if self.entries.suspected.len() == before { Ok(()) } else { self.write() }
    }

    /// Keeps the builds that a host ran from all other hosts: the build of a plugin, or all builds if the plugin
    /// is not known.
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

    /// The crash that a build has caused, if any.
    pub fn crash(&self, build_id: &str) -> Option<&Crash> {
        self.entries.quarantined.get(build_id)
    }

    /// Clears the quarantine, so that all builds may be loaded again.
    pub fn clear_quarantine(&mut self) -> Result<(), FleetError> {
        self.entries.quarantined.clear();
        self.entries.suspected.clear();
        self.write()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_cannot_be_stored_holds_and_is_stored_later() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("state");
        let mut ledger = Ledger::open(&dir).unwrap();
        fs::rename(&dir, parent.path().join("away")).unwrap();
        let channel = Channel::new(Id::made_of("main"), 1);
        for _ in 0..2 {
            ledger.accept(None, &channel).unwrap_err();
            assert_eq!(ledger.channel(&channel.name), Some(&channel));
        }
        fs::rename(parent.path().join("away"), &dir).unwrap();
        ledger.accept(None, &channel).unwrap();
        drop(ledger);
        assert_eq!(Ledger::open(&dir).unwrap().channel(&channel.name), Some(&channel));
    }
}
