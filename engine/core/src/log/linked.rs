//! The plugin to which an event belongs, if plugins are linked into the host and so log through the host's
//! `tracing`.

use std::sync::{Arc, PoisonError, RwLock, Weak};

use hotswap_plugin::StaticPlugin;

use crate::version::Version;

/// The linked plugins, by the name of their crate. The targets of their events begin with that name.
static LINKED: RwLock<Vec<(&'static str, Weak<Version>)>> = RwLock::new(Vec::new());

/// Attributes the events of a plugin's crate to this version from now on.
pub(crate) fn plugin_is_linked(plugin: &StaticPlugin, version: &Arc<Version>) {
    let name = plugin.crate_name();
    let mut linked = LINKED.write().unwrap_or_else(PoisonError::into_inner);
    linked.retain(|(other, _)| *other != name);
    linked.push((name, Arc::downgrade(version)));
}

/// The plugin and version to which an event with this target belongs.
pub(super) fn owner_of_target(target: &str) -> Option<(String, u32)> {
    let krate = target.split("::").next().unwrap_or(target);
    let linked = LINKED.read().unwrap_or_else(PoisonError::into_inner);
    let version = linked.iter().find(|(name, _)| *name == krate)?.1.upgrade()?;
    Some((version.name().to_string(), version.ordinal))
}
