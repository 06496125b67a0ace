//! The fleets that this user has named, in `$XDG_CONFIG_HOME/hotswap/fleets.toml`.
//!
//! ```toml
//! use = "prod"
//!
//! [fleets.prod]
//! at = "nats://nats.example:4222/games"
//! creds = "/home/me/prod.creds"
//! sign = ["/home/me/operator.key"]
//!
//! [fleets.here]
//! at = "/srv/fleet"
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use hotswap_fleet::{FleetError, Id, atomic_write};
use serde::{Deserialize, Serialize};
use toml_edit::{DocumentMut, Item, Table, Value};

/// The named fleets.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Names {
    /// The default fleet, for commands that name none.
    #[serde(rename = "use")]
    pub used: Option<Id>,
    pub fleets: BTreeMap<Id, Known>,
}

/// The place of a fleet, and how this user gets access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Known {
    /// Its directory, or the URL of its server.
    pub at: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creds: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sign: Vec<PathBuf>,
}

impl Known {
    /// A fleet with only a place.
    pub fn at(at: &Path) -> Result<Self, FleetError> {
        let mut known = Self { at: at.to_owned(), creds: None, tls_ca: None, sign: Vec::new() };
        known.make_absolute()?;
        Ok(known)
    }

    /// Makes its paths absolute.
    pub fn make_absolute(&mut self) -> Result<(), FleetError> {
        let at = Some(&mut self.at).filter(|at| !is_url(at));
        let paths = at.into_iter().chain(&mut self.creds).chain(&mut self.tls_ca);
        for path in paths.chain(&mut self.sign) {
            *path = std::path::absolute(&*path).map_err(|error| wrong(path, &error))?;
        }
        Ok(())
    }
}

/// Whether a text is a single component of a path, so it may be a name.
pub(super) fn is_plain(text: &Path) -> bool {
    text.to_str().is_some_and(|text| text.parse::<Id>().is_ok())
}

/// Whether a text is the URL of a server, and not a directory.
pub(super) fn is_url(at: &Path) -> bool {
    at.to_str().is_some_and(|at| at.contains("://"))
}

fn path() -> Option<PathBuf> {
    let directories = etcetera::base_strategy::Xdg::new().ok()?;
    Some(directories.config_dir().join("hotswap/fleets.toml"))
}

/// The text of the file; empty if there is no file.
fn read(path: &Path) -> Result<String, FleetError> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|error| wrong(path, &error)),
    }
}

fn wrong(path: &Path, problem: &impl std::fmt::Display) -> FleetError {
    FleetError::new(format!("{}: {problem}", path.display()))
}

impl Names {
    /// Reads the names of this user.
    pub fn read() -> Result<Self, FleetError> {
        let Some(path) = path() else { return Ok(Self::default()) };
        Self::parse(&path, &read(&path)?)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, FleetError> {
        let names: Self = toml::from_str(text).map_err(|error| wrong(path, &error))?;
        for (name, known) in &names.fleets {
            let paths = [Some(&known.at).filter(|at| !is_url(at)), known.creds.as_ref()];
            let paths = paths.into_iter().chain([known.tls_ca.as_ref()]).flatten();
            if let Some(relative) = paths.chain(&known.sign).find(|path| !path.is_absolute()) {
                let problem = format!(
                    "fleet {name}: `{}` is neither an absolute path nor the URL of a server",
                    relative.display()
                );
                return Err(wrong(path, &problem));
            }
        }
        if let Some(used) = names.used.as_ref().filter(|used| !names.fleets.contains_key(used)) {
            return Err(wrong(
                path,
                &format!("`use` names {used}, and there is no [fleets.{used}]"),
            ));
        }
        Ok(names)
    }

    /// The fleet with this name; `None` if no fleet has it.
    pub fn named(&self, text: &Path) -> Option<&Known> {
        self.fleets.get(&text.to_str()?.parse::<Id>().ok()?)
    }

    /// The error for a text that is neither a name nor an existing directory.
    pub fn unknown(&self, text: &Path, dir: &Path) -> FleetError {
        let known: Vec<&str> = self.fleets.keys().map(Id::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        FleetError::new(format!(
            "no fleet is named {}, and {} does not exist; named fleets: {known} (`hotswap fleet name` gives \
             one, `hotswap fleet init` makes a fleet)",
            text.display(),
            dir.display()
        ))
    }

    /// The fleet with this name.
    ///
    /// # Errors
    /// If there is none; the error lists the names.
    pub fn get(&self, name: &Id) -> Result<&Known, FleetError> {
        self.fleets.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.fleets.keys().map(Id::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            FleetError::new(format!(
                "no fleet is named {name}; `hotswap fleet name` gives a fleet a name; named fleets: {known}"
            ))
        })
    }

    /// Gives a fleet a name.
    pub fn give(name: &Id, known: &Known) -> Result<(), FleetError> {
        let text = toml::to_string(known).map_err(|error| FleetError::new(error.to_string()))?;
        let entry: DocumentMut = text
            .parse()
            .map_err(|error: toml_edit::TomlError| FleetError::new(error.to_string()))?;
        change(|document| {
            let mut outer = Table::new();
            outer.set_implicit(true);
            let fleets = document.entry("fleets").or_insert(Item::Table(outer));
            if let Some(fleets) = fleets.as_table_like_mut() {
                fleets.insert(name.as_str(), Item::Table(entry.as_table().clone()));
            }
        })
    }

    /// Removes a name.
    pub fn forget(&self, name: &Id) -> Result<(), FleetError> {
        self.get(name)?;
        let is_used = self.used.as_ref() == Some(name);
        change(|document| {
            if let Some(fleets) = document.get_mut("fleets").and_then(Item::as_table_like_mut) {
                fleets.remove(name.as_str());
            }
            if is_used {
                document.remove("use");
            }
        })
    }

    /// Chooses the default fleet; `None` for no default.
    pub fn use_by_default(&self, name: Option<&Id>) -> Result<(), FleetError> {
        if let Some(name) = name {
            self.get(name)?;
        }
        change(|document| match name {
            Some(name) => drop(document.insert("use", Item::Value(Value::from(name.as_str())))),
            None => drop(document.remove("use")),
        })
    }
}

/// Changes the file. Everything else that a person has written there stays.
fn change(change: impl FnOnce(&mut DocumentMut)) -> Result<(), FleetError> {
    let path = path().ok_or_else(|| {
        FleetError::new("no directory of this user is known; set XDG_CONFIG_HOME")
    })?;
    // If the file is a link, its target is changed and the link stays.
    let path = path.canonicalize().unwrap_or(path);
    let mut document: DocumentMut =
        read(&path)?.parse().map_err(|error: toml_edit::TomlError| wrong(&path, &error))?;
    change(&mut document);
    let text = document.to_string();
    Names::parse(&path, &text)?;
    super::make_parent(&path)?;
    atomic_write(&path, text.as_bytes())
}
