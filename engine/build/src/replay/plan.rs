//! What has to be compiled, and by whom.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::guard;
use super::input::Input;
use super::record::{Output, Plugin, Record, Unit, UnitId, unit_id_of};
use crate::PluginPackage;

/// What it takes to bring a plugin up to date.
#[derive(Debug)]
pub(super) enum Plan {
    /// It is up to date.
    Nothing,
    /// These units, each after those that it needs.
    Replay(Vec<UnitId>, Seen),
    /// Only cargo knows; why, in words.
    Cargo(String),
}

/// What was in the sources when the plan was made.
pub(super) type Seen = HashMap<PathBuf, Input>;

pub(super) fn plan(record: &Record, package: &PluginPackage) -> Plan {
    let Some(plugin) = record.plugins.get(&package.name) else {
        return Plan::Cargo("it was never built this way".to_owned());
    };
    if let Some(reason) = changed_guard(plugin) {
        return Plan::Cargo(reason);
    }
    let mut seen = Seen::new();
    let mut outdated = BTreeSet::new();
    let mut units = Vec::new();
    if let Some(lost) = plugin.units.iter().find(|id| !record.units.contains_key(*id)) {
        return Plan::Cargo(format!("the record of `{lost}` is lost"));
    }
    for (id, unit) in record.in_order(plugin) {
        match is_outdated(record, unit, &outdated, &mut seen) {
            Ok(false) => {}
            Ok(true) if unit.settings != guard::settings(package, &unit.package_dir) => {
                let name = &unit.name;
                let reason = format!("settings changed since `{name}` was compiled");
                return Plan::Cargo(reason);
            }
            Ok(true) => {
                outdated.insert(id);
                units.push(id.to_owned());
            }
            Err(reason) => return Plan::Cargo(reason),
        }
    }
    if units.is_empty() { Plan::Nothing } else { Plan::Replay(units, seen) }
}

fn changed_guard(plugin: &Plugin) -> Option<String> {
    let changed = plugin.guards.iter().find(|guard| !guard.has_same_content(&guard.look_again()));
    if let Some(changed) = changed {
        return Some(format!("{} changed", changed.path.display()));
    }
    let is_same = |(name, value): &(&String, &Option<String>)| std::env::var(name).ok() == **value;
    let variable = plugin.env.iter().find(|variable| !is_same(variable));
    variable.map(|(name, _)| format!("the environment variable {name} changed"))
}

/// An error where something changed that only cargo can make anew.
fn is_outdated(
    record: &Record,
    unit: &Unit,
    outdated: &BTreeSet<&str>,
    seen: &mut Seen,
) -> Result<bool, String> {
    let compiled = &unit.compiled;
    let mut is_outdated = compiled.outputs.is_empty()
        || !compiled.outputs.iter().all(Output::is_whole)
        || has_other_variables(unit);
    for input in &compiled.inputs {
        let now = seen.entry(input.path.clone()).or_insert_with(|| input.look_again());
        is_outdated |= !input.has_same_content(now);
    }
    for library in &compiled.externs {
        let needed = unit_id_of(&library.path).and_then(|id| record.units.get_key_value(id));
        match needed {
            Some((id, needed)) => {
                // Its own files are looked at in its turn; here counts whether it was compiled
                // anew since.
                let is_it = |output: &Output| output.is_same(library);
                is_outdated |=
                    outdated.contains(id.as_str()) || !needed.compiled.outputs.iter().any(is_it);
            }
            None if library.is_whole() => {}
            None => return Err(format!("{} was built anew", library.path.display())),
        }
    }
    Ok(is_outdated)
}

fn has_other_variables(unit: &Unit) -> bool {
    unit.compiled.env.iter().any(|(name, value)| unit.invocation.variable(name) != *value)
}

/// Where the library is that a unit's command names: where its unit has last been compiled to.
pub(super) fn resolve<'a>(record: &'a Record, library: &'a Path) -> &'a Path {
    let unit = unit_id_of(library).and_then(|id| record.units.get(id));
    let name = library.file_name().and_then(|name| name.to_str());
    let output = unit.zip(name).and_then(|(unit, name)| unit.compiled.output(name));
    output.unwrap_or(library)
}

/// The libraries that a unit is compiled against now.
pub(super) fn externs(record: &Record, unit: &Unit) -> Vec<Output> {
    unit.invocation.externs().map(|(_, path)| Output::of(resolve(record, path))).collect()
}
