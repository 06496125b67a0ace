//! Live functions and types: found by name in the newest generation.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use hotswap_plugin::{Data, Error, ErrorKind, Result, Value, abi::Outcome};
use hotswap_protocol::{LiveFunctionInfo, LiveSnapshot, LiveTypeInfo};

use crate::{
    CallError, EngineError, Step, call,
    lease::{Lease, LeaseKind},
    version::Version,
};

/// Who has what, by name.
#[derive(Default)]
pub(crate) struct LiveTable {
    functions: BTreeMap<String, Weak<Version>>,
    types: BTreeMap<String, Weak<Version>>,
}

impl LiveTable {
    /// The table of a generation.
    ///
    /// # Errors
    /// When two plugins have a function, or a type, of one name.
    pub fn of(versions: &[Arc<Version>]) -> std::result::Result<Self, EngineError> {
        let mut table = Self::default();
        for version in versions {
            let functions = version.live_functions().map(|function| &function.name);
            add(&mut table.functions, "function", functions, version)?;
            let types = version.live_types().iter().map(|live| &live.name);
            add(&mut table.types, "type", types, version)?;
        }
        Ok(table)
    }

    /// The version that has a function, in use; none when it was just replaced.
    fn function(&self, name: &str) -> Option<Result<Lease>> {
        lease(&self.functions, "function", name)
    }

    fn live_type(&self, name: &str) -> Option<Result<Lease>> {
        lease(&self.types, "type", name)
    }

    /// The table as a console shows it.
    pub fn snapshot(&self, generation: u64) -> LiveSnapshot {
        let functions = self.functions.iter().filter_map(|(name, version)| {
            let version = version.upgrade()?;
            let all = version.function_infos().into_iter();
            let function = all.into_iter().find(|function| function.name == *name)?;
            let plugin = version.name().to_owned();
            Some(LiveFunctionInfo { plugin, version: version.ordinal, function })
        });
        let types = self.types.iter().filter_map(|(name, version)| {
            let version = version.upgrade()?;
            let live = version.live_types().iter().find(|live| live.name == *name)?.clone();
            Some(LiveTypeInfo {
                plugin: version.name().to_owned(),
                version: version.ordinal,
                name: live.name,
                doc: live.doc,
                schema: serde_json::from_str(&live.schema).unwrap_or_default(),
            })
        });
        LiveSnapshot { generation, functions: functions.collect(), types: types.collect() }
    }
}

/// Calls a live function; `table` gives the newest table each time it is asked.
pub(crate) fn call(
    table: impl Fn() -> Arc<LiveTable>,
    name: &str,
    args: &[Value],
) -> Result<std::result::Result<Value, CallError>> {
    let lease = newest(|| table().function(name))?;
    Ok(call::invoke_leased(lease, name, args))
}

/// Reads data as the newest type of its name, and writes it anew.
pub(crate) fn renew(table: impl Fn() -> Arc<LiveTable>, data: &Data) -> Result<Data> {
    let name = data.live_name();
    let lease = newest(|| table().live_type(name))?;
    let version = lease.version();
    let live = version.live_types().iter().find(|live| live.name == name);
    let live = live.ok_or_else(|| Error::msg(format_args!("{version} has no `{name}`")))?;
    match lease.image().renew(live.index, data.value()) {
        Outcome::Ok(value) => Ok(Data::with_schema(name, &live.schema, value)),
        Outcome::Err(error) => {
            Err(data.misfit(error, &format!("`{name}` of {version}"), &live.schema))
        }
        Outcome::Panic(report) => {
            let (message, location) = (report.message, report.location);
            Err(Error::msg(format_args!("`{name}` of {version} panicked at {location}: {message}")))
        }
    }
}

/// Asks until the answer is not of a version that was replaced in that moment.
fn newest(ask: impl Fn() -> Option<Result<Lease>>) -> Result<Lease> {
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::yield_now();
    }
}

fn lease(table: &BTreeMap<String, Weak<Version>>, what: &str, name: &str) -> Option<Result<Lease>> {
    let Some(version) = table.get(name) else {
        let known: Vec<_> = table.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let message = format!("no live {what} named `{name}`; there is {known}");
        return Some(Err(Error::new(ErrorKind::UnknownFunction, message)));
    };
    Lease::try_new(&version.upgrade()?, LeaseKind::Call).map(|lease| Ok(lease.named(name)))
}

fn add<'a>(
    table: &mut BTreeMap<String, Weak<Version>>,
    what: &str,
    names: impl Iterator<Item = &'a String>,
    version: &Arc<Version>,
) -> std::result::Result<(), EngineError> {
    for name in names {
        if let Some(other) = table.insert(name.clone(), Arc::downgrade(version)) {
            let other = other.upgrade().map(|other| other.to_string()).unwrap_or_default();
            let message = format!(
                "the live {what} `{name}` is also in {other}; live names are the only ones of their \
                 kind in a generation"
            );
            return Err(EngineError::load(version.name(), Step::Live, message));
        }
    }
    Ok(())
}
