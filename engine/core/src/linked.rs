//! Plugins that are linked into the host instead of being loaded from artifacts.

use hotswap_plugin::StaticPlugin;

use crate::{
    EngineError, Step,
    artifact::{BuildId, Facts, Toolchain},
    manager::same_name,
};

/// A plugin of this very program, and what it is known by.
pub(crate) struct Linked {
    pub plugin: &'static StaticPlugin,
    pub facts: Facts,
}

impl Linked {
    pub fn new(plugin: &'static StaticPlugin) -> Self {
        let facts = Facts {
            name: plugin.name().to_owned(),
            crate_version: plugin.crate_version().to_owned(),
            // No artifact, and so none of its own.
            build_id: BuildId::from_bytes([0; 16]),
            source: None,
            toolchain: Toolchain::of_host(),
            keep_reason: Some("it is linked into this program".into()),
            foreign_libraries: Vec::new(),
            unique_symbol: None,
            own_keep_reason: Some("it is linked into this program".into()),
            host: 0..0,
        };
        Self { plugin, facts }
    }
}

/// The linked plugins that the host asks for, sorted by name.
pub(crate) fn select(
    plugins: &[&'static StaticPlugin],
    only: Option<&[String]>,
) -> Result<Vec<Linked>, EngineError> {
    let missing = only.into_iter().flatten().find(|name| {
        let is_it = |plugin: &&&StaticPlugin| same_name(plugin.name(), name);
        plugins.iter().find(is_it).is_none()
    });
    if let Some(name) = missing {
        let there: Vec<_> = plugins.iter().map(|plugin| plugin.name()).collect();
        let message = format!(
            "the host asks for it, but linked into this program are only: {}",
            there.join(", ")
        );
        return Err(EngineError::load(name, Step::Find, message));
    }
    let wanted = |name: &str| only.is_none_or(|only| only.iter().any(|n| same_name(n, name)));
    let mut plugins: Vec<_> =
        plugins.iter().copied().filter(|plugin| wanted(plugin.name())).collect();
    plugins.sort_by_key(|plugin| plugin.name().to_lowercase());
    if let Some(twins) = plugins.windows(2).find(|pair| same_name(pair[0].name(), pair[1].name())) {
        let message = "two plugins of this name are linked into this program; name one";
        return Err(EngineError::load(twins[0].name(), Step::Find, message));
    }
    Ok(plugins.into_iter().map(Linked::new).collect())
}
