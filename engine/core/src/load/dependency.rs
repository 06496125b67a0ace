//! Who imports whom: whether it can be satisfied, and in which order plugins load.

use std::sync::Arc;

use hotswap_protocol::PluginName;

use crate::{EngineError, LoadCause, Step, version::Version};

/// Checks every import, and returns the versions ordered so that dependencies come first; beyond
/// that, by name.
pub(crate) fn resolve(versions: &[Arc<Version>]) -> Result<Vec<Arc<Version>>, EngineError> {
    let mut by_name = versions.to_vec();
    by_name.sort_by(|a, b| a.name().cmp(b.name()));
    for version in &by_name {
        expect_imports(version, &by_name)?;
    }
    let mut order = Order { versions: &by_name, path: Vec::new(), done: Vec::new() };
    for version in &by_name {
        order.visit(version)?;
    }
    Ok(order.done)
}

/// The version that an import of this name takes.
pub(crate) fn provider<'a>(versions: &'a [Arc<Version>], name: &str) -> Option<&'a Arc<Version>> {
    versions.iter().find(|version| version.name().is(name))
}

/// The names of the running plugins that import one of these, also by way of others.
pub(crate) fn dependents(running: &[Arc<Version>], changed: &[PluginName]) -> Vec<PluginName> {
    let mut affected = changed.to_vec();
    let mut dependents = Vec::new();
    while let Some(next) = running.iter().find(|version| {
        let imports = version.imports();
        let concerned = |name: &PluginName| imports.iter().any(|import| name.is(&import.plugin));
        !affected.contains(version.name()) && affected.iter().any(concerned)
    }) {
        affected.push(next.name().clone());
        dependents.push(next.name().clone());
    }
    dependents
}

fn expect_imports(version: &Version, all: &[Arc<Version>]) -> Result<(), EngineError> {
    let importer = version.name();
    for import in version.imports() {
        let name = &import.plugin;
        let refuse = |message: String| {
            let refused = EngineError::load(importer, Step::Import, message);
            Err(refused.because(LoadCause::Import { from: name.clone() }))
        };
        let Some(provider) = provider(all, name) else {
            if import.optional {
                continue;
            }
            let there: Vec<_> = all.iter().map(|version| version.name().as_str()).collect();
            return refuse(format!(
                "it imports `{name}`, and there is no such plugin; there are {}",
                there.join(", ")
            ));
        };
        let Some(export) = provider.export() else {
            return refuse(format!(
                "it imports `{}` of {provider}, which exports nothing",
                import.shape.name
            ));
        };
        if export.shape.name != import.shape.name {
            return refuse(format!(
                "it imports `{}` of {provider}, which exports `{}`",
                import.shape.name, export.shape.name
            ));
        }
        if let Some(what) = export.shape.difference(&import.shape) {
            return refuse(format!(
                "the export of {provider} does not fit: {what}; build both against the same source"
            ));
        }
        if !version.is_reloadable() && provider.is_reloadable() {
            return refuse(format!(
                "it is not reloadable, but imports {provider}, which is; a reload of that would \
                 leave it with the old one"
            ));
        }
    }
    Ok(())
}

/// A walk from each version to what it imports.
struct Order<'a> {
    versions: &'a [Arc<Version>],
    path: Vec<&'a Arc<Version>>,
    done: Vec<Arc<Version>>,
}

impl<'a> Order<'a> {
    fn visit(&mut self, version: &'a Arc<Version>) -> Result<(), EngineError> {
        if self.done.iter().any(|done| Arc::ptr_eq(done, version)) {
            return Ok(());
        }
        if let Some(at) = self.path.iter().position(|open| Arc::ptr_eq(open, version)) {
            let cycle =
                self.path[at..].iter().chain([&version]).map(|version| version.name().as_str());
            let cycle = cycle.collect::<Vec<_>>().join(" → ");
            let message = format!("these plugins import one another in a circle: {cycle}");
            let refused = EngineError::load(version.name(), Step::Import, message);
            return Err(refused.because(LoadCause::Import { from: version.name().to_string() }));
        }
        self.path.push(version);
        for import in version.imports() {
            if let Some(provider) = provider(self.versions, &import.plugin) {
                self.visit(provider)?;
            }
        }
        self.path.pop();
        self.done.push(version.clone());
        Ok(())
    }
}
