//! Plugins that are linked into the host instead of being loaded from artifacts.

use hotswap_plugin::StaticPlugin;
use hotswap_protocol::{InvalidName, PluginName};

use super::candidate::{missing, names_in_error};
use crate::{
    EngineError, Step,
    artifact::{BuildId, Facts, own_toolchain},
    image::Image,
};

/// A plugin of this program, and its facts.
pub(crate) struct Linked {
    pub plugin: &'static StaticPlugin,
    pub facts: Facts,
}

impl Linked {
    fn new(plugin: &'static StaticPlugin, name: PluginName) -> Self {
        let facts = Facts {
            name,
            crate_version: plugin.crate_version().to_owned(),
            // There is no artifact, so the build id is zero.
            build_id: BuildId::from_bytes([0; 16]),
            source: None,
            toolchain: own_toolchain(),
            keep_reason: Some(Image::linked_reason()),
            foreign_libraries: Vec::new(),
            unique_symbol: None,
            own_keep_reason: Some(Image::linked_reason()),
            host: 0..0,
            has_constructors: false,
            has_static_tls: false,
        };
        Self { plugin, facts }
    }
}

/// The linked plugins that the host asks for, sorted by name.
pub(crate) fn select(
    plugins: &[&'static StaticPlugin],
    only: Option<&[String]>,
) -> Result<Vec<Linked>, EngineError> {
    let mut linked = Vec::new();
    for plugin in plugins {
        let name: PluginName = plugin.name().parse().map_err(|error: InvalidName| {
            let message = format!("a plugin that is linked into this program: {error}");
            EngineError::load_of_all(Step::Find, message)
        })?;
        linked.push(Linked::new(plugin, name));
    }
    let names = linked.iter().map(|linked| &linked.facts.name);
    let missing = missing(only.unwrap_or_default(), names);
    if let Some(first) = missing.first() {
        let there: Vec<_> = linked.iter().map(|linked| linked.facts.name.as_str()).collect();
        let message = format!(
            "the host asks for {}; this program has only these plugins linked in: {}",
            names_in_error(&missing),
            there.join(", ")
        );
        return Err(EngineError::load(first, Step::Find, message));
    }
    let is_wanted = |name: &PluginName| only.is_none_or(|only| only.iter().any(|it| name.is(it)));
    linked.retain(|linked| is_wanted(&linked.facts.name));
    linked.sort_by(|a, b| a.facts.name.cmp(&b.facts.name));
    let twins = linked.windows(2).find(|pair| pair[0].facts.name == pair[1].facts.name);
    if let Some([twin, _]) = twins {
        let message = "two plugins of this name are linked into this program; rename one, or list it only once";
        return Err(EngineError::load(&twin.facts.name, Step::Find, message));
    }
    Ok(linked)
}
