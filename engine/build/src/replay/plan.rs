//! Decides which units have to be compiled, and whether that needs cargo.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::guard;
use super::input::Input;
use super::record::{Output, Plugin, Record, Unit, UnitId, unit_id_of};
use crate::PluginPackage;

/// What has to be done to bring a plugin up to date.
#[derive(Debug)]
pub(super) enum Plan {
    /// Do nothing: the plugin is up to date.
    Nothing,
    /// Compile these units, each after those that it depends on.
    Replay(Vec<UnitId>),
    /// Run cargo, for this reason.
    Cargo(String),
}

/// The content of the sources when plans were made.
pub(crate) type Seen = HashMap<PathBuf, Input>;

pub(super) fn plan(record: &Record, package: &PluginPackage, seen: &mut Seen) -> Plan {
    let plugin = record.plugins.get(&package.name).filter(|plugin| !plugin.is_dropped);
    let Some(plugin) = plugin else {
        return Plan::Cargo("there is no record of a build like this one".to_owned());
    };
    if let Some(reason) = plugin.always.clone().or_else(|| changed_guard(plugin)) {
        return Plan::Cargo(reason);
    }
    let mut outdated = BTreeSet::new();
    let mut units = Vec::new();
    if let Some(lost) = plugin.units.iter().find(|id| !record.units.contains_key(*id)) {
        return Plan::Cargo(format!("the record of `{lost}` is missing"));
    }
    for (id, unit) in record.in_order(plugin) {
        match is_outdated(record, unit, &outdated, seen) {
            Ok(false) => {}
            Ok(true) if unit.settings != guard::settings(package, &unit.package_dir) => {
                let name = &unit.name;
                let reason = format!("manifests or settings changed since `{name}` was compiled");
                return Plan::Cargo(reason);
            }
            Ok(true) => {
                outdated.insert(id);
                units.push(id.to_owned());
            }
            Err(reason) => return Plan::Cargo(reason),
        }
    }
    if units.is_empty() { Plan::Nothing } else { Plan::Replay(units) }
}

/// The guard that has changed, as the end of a sentence; `None` if none has.
fn changed_guard(plugin: &Plugin) -> Option<String> {
    let changed = plugin.guards.iter().find(|guard| !guard.has_same_content(&guard.reread()));
    if let Some(changed) = changed {
        return Some(format!("{} changed", changed.path.display()));
    }
    let is_same = |(name, value): &(&String, &Option<String>)| std::env::var(name).ok() == **value;
    let variable = plugin.env.iter().find(|variable| !is_same(variable));
    variable.map(|(name, _)| format!("the environment variable {name} changed"))
}

/// Whether a unit has to be compiled again. `outdated` are the units that will be compiled before it.
///
/// # Errors
/// The text says why, if a library changed that only cargo compiles.
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
        let now = seen.entry(input.path.clone()).or_insert_with(|| input.reread());
        is_outdated |= !input.has_same_content(now);
    }
    for library in &compiled.externs {
        let needed = unit_id_of(&library.path).and_then(|id| record.units.get_key_value(id));
        match needed {
            Some((id, needed)) => {
                // The own files of that unit were checked before. Here it matters whether it was compiled
                // since.
                let is_it = |output: &Output| output.is_same(library);
                is_outdated |=
                    outdated.contains(id.as_str()) || !needed.compiled.outputs.iter().any(is_it);
            }
            None if library.is_whole() => {}
            None => return Err(format!("{} changed", library.path.display())),
        }
    }
    Ok(is_outdated)
}

fn has_other_variables(unit: &Unit) -> bool {
    unit.compiled.env.iter().any(|(name, value)| unit.invocation.variable(name) != *value)
}

/// The path to which the unit of `library` was compiled last. A recorded call names the path that cargo used.
pub(super) fn resolve<'a>(record: &'a Record, library: &'a Path) -> &'a Path {
    let unit = unit_id_of(library).and_then(|id| record.units.get(id));
    let name = library.file_name().and_then(|name| name.to_str());
    let output = unit.zip(name).and_then(|(unit, name)| unit.compiled.output(name));
    output.unwrap_or(library)
}

/// The libraries that `unit` would be compiled against now.
pub(super) fn externs(record: &Record, unit: &Unit) -> Vec<Output> {
    unit.invocation.externs().map(|(_, path)| Output::of(resolve(record, path))).collect()
}
