//! Which plugin an event is of, where plugins are linked into the host and log as it does.

use std::sync::{Arc, PoisonError, RwLock, Weak};

use hotswap_plugin::StaticPlugin;

use crate::version::Version;

/// The linked plugins: the name of the crate, which is how the targets of its events begin.
static LINKED: RwLock<Vec<(&'static str, Weak<Version>)>> = RwLock::new(Vec::new());

/// Takes the events of a plugin's crate for those of this version from now on.
pub(crate) fn plugin_is_linked(plugin: &StaticPlugin, version: &Arc<Version>) {
    let name = plugin.crate_name();
    let mut linked = LINKED.write().unwrap_or_else(PoisonError::into_inner);
    linked.retain(|(other, _)| *other != name);
    linked.push((name, Arc::downgrade(version)));
}

/// The plugin and version that an event with this target is of.
pub(super) fn whose(target: &str) -> Option<(String, u32)> {
    let krate = target.split("::").next().unwrap_or(target);
    let linked = LINKED.read().unwrap_or_else(PoisonError::into_inner);
    let version = linked.iter().find(|(name, _)| *name == krate)?.1.upgrade()?;
    Some((version.name().to_string(), version.ordinal))
}
