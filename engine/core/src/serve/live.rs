//! Live functions and types, which are found by name in the newest generation.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
};

use hotswap_plugin::{Data, Error, ErrorKind, Result, Value, abi::Answer};
use hotswap_protocol::{self as protocol, LiveFunctionInfo, LiveSnapshot, LiveTypeInfo};
use rustc_hash::FxBuildHasher;

use super::by_name;
use crate::{
    EngineError, Step,
    vault::LiveCalls,
    version::{
        MAX_DESCRIBED, Version,
        face::FaceNumber,
        has_room,
        lease::{Lease, LeaseKind, LeaseName},
    },
};

/// The live functions and types of one generation, by name.
#[derive(Default)]
pub(crate) struct LiveTable {
    functions: HashMap<String, LiveFunction, FxBuildHasher>,
    types: BTreeMap<String, Weak<Version>>,
}

/// The place of a live function.
struct LiveFunction {
    version: Weak<Version>,
    face: FaceNumber,
    /// The index of the version in the generation.
    at: usize,
    /// The index of the function in the version.
    place: usize,
}

impl LiveTable {
    /// The table of a generation with these versions, in load order, each with its face in that generation.
    ///
    /// # Errors
    /// If two plugins have a live function, or a live type, of the same name.
    pub fn of(
        versions: &[Arc<Version>],
        face_of: impl Fn(&Version) -> FaceNumber,
    ) -> std::result::Result<Self, EngineError> {
        let mut table = Self::default();
        for (at, version) in versions.iter().enumerate() {
            for (place, function) in version.live_places() {
                let face = face_of(version);
                let entry = LiveFunction { version: Arc::downgrade(version), face, at, place };
                if let Some(other) = table.functions.insert(function.name.clone(), entry) {
                    return Err(taken(version, "function", &function.name, &other.version));
                }
            }
            for live in version.live_types() {
                let entry = Arc::downgrade(version);
                if let Some(other) = table.types.insert(live.name.clone(), entry) {
                    return Err(taken(version, "type", &live.name, &other));
                }
            }
        }
        Ok(table)
    }

    /// The place of a function: the index of its version in the generation, and its index in that version.
    pub fn place(&self, name: &str) -> Option<(usize, usize)> {
        self.functions.get(name).map(|function| (function.at, function.place))
    }

    /// The names of the functions, sorted.
    pub fn function_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.functions.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// The table in the form of the console protocol.
    pub fn snapshot(&self, generation: u64) -> LiveSnapshot {
        let mut left = MAX_DESCRIBED;
        let functions = self.function_names().into_iter().filter_map(|name| {
            let LiveFunction { version, place, .. } = self.functions.get(name)?;
            let version = version.upgrade()?;
            let function = version.function_info(*place, &mut left)?;
            let plugin = version.name().to_string();
            Some(LiveFunctionInfo { plugin, version: version.ordinal, function })
        });
        let functions = functions.collect();
        let types = self.types.iter().filter_map(|(name, version)| {
            let version = version.upgrade()?;
            let live = version.live_types().iter().find(|live| live.name == *name)?.clone();
            let is_cut = !has_room(&mut left, [&live.doc, &live.schema].into_iter());
            let schema = (!is_cut).then(|| serde_json::from_str(&live.schema).unwrap_or_default());
            Some(LiveTypeInfo {
                plugin: version.name().to_string(),
                version: version.ordinal,
                name: live.name,
                doc: if is_cut { String::new() } else { live.doc },
                schema: schema.unwrap_or(serde_json::Value::Bool(true)),
                is_cut,
            })
        });
        LiveSnapshot { generation, functions, types: types.collect() }
    }
}

impl LiveCalls for LiveTable {
    fn call(&self, name: &str, args: &[Value]) -> Option<Result<Value>> {
        let Some(function) = self.functions.get(name) else {
            return Some(Err(unknown("function", name, &self.function_names())));
        };
        let lease = lease(&function.version, name)?;
        let called = by_name::invoke_leased(lease.facing(function.face), name, args);
        Some(called.map_err(|error| {
            let kind = match error.kind() {
                protocol::ErrorKind::BadArgument => ErrorKind::BadArgument,
                _ => ErrorKind::Failed,
            };
            Error::new(kind, error)
        }))
    }

    fn renew(&self, data: &Data) -> Option<Result<Data>> {
        let name = data.live_name();
        let Some(version) = self.types.get(name) else {
            let known: Vec<_> = self.types.keys().map(String::as_str).collect();
            return Some(Err(unknown("type", name, &known)));
        };
        Some(renew(&lease(version, name)?, name, data))
    }
}

/// Reads data as the live type of a version, and serialises it again.
fn renew(lease: &Lease, name: &str, data: &Data) -> Result<Data> {
    let version = lease.version();
    let live = version.live_types().iter().find(|live| live.name == name);
    let live = live.ok_or_else(|| Error::msg(format_args!("{version} has no `{name}`")))?;
    match lease.image().renew(live.index, data.value()) {
        Answer::Ok(value) => Ok(Data::with_schema(name, &live.schema, value)),
        Answer::Err(error) => {
            Err(data.misfit(error, &format!("`{name}` of {version}"), &live.schema))
        }
        Answer::Panic(report) => {
            let (message, location) = (report.message, report.location);
            Err(Error::msg(format_args!("`{name}` of {version} panicked at {location}: {message}")))
        }
    }
}

/// Leases a version for a call; `None` if it was replaced just now.
fn lease(version: &Weak<Version>, name: &str) -> Option<Lease> {
    let lease = Lease::try_new(&version.upgrade()?, LeaseKind::Call)?;
    Some(lease.named(LeaseName::Function(name.into())))
}

fn unknown(what: &str, name: &str, known: &[&str]) -> Error {
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let message = format!("no live {what} named `{name}`; there is {known}");
    Error::new(ErrorKind::UnknownFunction, message)
}

fn taken(version: &Version, what: &str, name: &str, other: &Weak<Version>) -> EngineError {
    let other = other.upgrade().map(|other| other.to_string()).unwrap_or_default();
    let message = format!(
        "the live {what} `{name}` is also in {other}; in a generation, only one plugin may have a live name"
    );
    EngineError::load(version.name(), Step::Live, message)
}
