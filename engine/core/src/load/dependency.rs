//! The imports between plugins: whether each can be satisfied, and the order in which plugins load.

use std::sync::Arc;

use hotswap_plugin::{BoundObject, ImportRequest};
use hotswap_protocol::{PluginName, same_plugin};

use crate::{
    EngineError, LoadCause, Step,
    version::{Version, registration::Registration},
};

/// Checks every import, and returns the versions in an order in which dependencies come first. Otherwise the
/// order is by name.
pub(crate) fn resolve(
    versions: &[Arc<Version>],
    services: &[Arc<Registration>],
) -> Result<Vec<Arc<Version>>, EngineError> {
    let mut by_name = versions.to_vec();
    by_name.sort_by(|a, b| a.name().cmp(b.name()));
    for version in &by_name {
        if service(services, version.name().as_str()).is_some() {
            let message = "the host provides a service of this name; rename one of the two";
            return Err(EngineError::load(version.name(), Step::Import, message));
        }
        expect_imports(version, &by_name, services)?;
    }
    let mut order = Order { versions: &by_name, path: Vec::new(), done: Vec::new() };
    for version in &by_name {
        order.visit(version)?;
    }
    Ok(order.done)
}

/// The version that an import names.
fn provider<'a>(versions: &'a [Arc<Version>], name: &str) -> Option<&'a Arc<Version>> {
    versions.iter().find(|version| version.name().is(name))
}

/// The object that the host provides under this name.
fn service<'a>(services: &'a [Arc<Registration>], name: &str) -> Option<&'a Arc<Registration>> {
    services.iter().find(|service| same_plugin(&service.name, name))
}

/// The object for an import; `None` if it takes no object.
pub(crate) fn object_for(
    versions: &[Arc<Version>],
    services: &[Arc<Registration>],
    import: &ImportRequest,
) -> Option<BoundObject> {
    import.shape.as_ref()?;
    match service(services, &import.plugin) {
        Some(service) => service.lend_raw(),
        None => provider(versions, &import.plugin)?.export()?.lend_raw(),
    }
}

/// The names of the running plugins that import an object of a changed plugin, directly or through other
/// plugins.
pub(crate) fn dependents(running: &[Arc<Version>], changed: &[PluginName]) -> Vec<PluginName> {
    let mut affected = changed.to_vec();
    let mut dependents = Vec::new();
    while let Some(next) = running.iter().find(|version| {
        let imports = version.imports();
        let takes = |import: &ImportRequest, name: &PluginName| {
            import.shape.is_some() && name.is(&import.plugin)
        };
        let concerned = |name: &PluginName| imports.iter().any(|import| takes(import, name));
        !affected.contains(version.name()) && affected.iter().any(concerned)
    }) {
        affected.push(next.name().clone());
        dependents.push(next.name().clone());
    }
    dependents
}

fn expect_imports(
    version: &Version,
    all: &[Arc<Version>],
    services: &[Arc<Registration>],
) -> Result<(), EngineError> {
    let importer = version.name();
    for import in version.imports() {
        let name = &import.plugin;
        let refuse = |message: String| {
            let refused = EngineError::load(importer, Step::Import, message);
            Err(refused.because(LoadCause::Import { from: name.clone() }))
        };
        if let Some(service) = service(services, name) {
            let difference = import.shape.as_ref().and_then(|it| service.shape.difference(it));
            if let Some(what) = difference {
                let advice = version.advice();
                return refuse(format!("`{name}` of the host does not fit: {what}; {advice}"));
            }
            continue;
        }
        let Some(provider) = provider(all, name) else {
            if import.optional {
                continue;
            }
            let there = all.iter().map(|version| version.name().as_str());
            let there: Vec<_> = there.chain(services.iter().map(|it| it.name.as_str())).collect();
            let asks = if import.shape.is_some() { "imports" } else { "loads after" };
            return refuse(format!(
                "it {asks} `{name}`, but there is no such plugin; there are {}",
                there.join(", ")
            ));
        };
        // If only the order matters, the other plugin need not export anything, nor stay.
        let Some(shape) = &import.shape else { continue };
        let Some(export) = provider.export() else {
            return refuse(format!(
                "it imports `{}` of {provider}, which exports nothing",
                shape.name
            ));
        };
        if export.shape.name != shape.name {
            return refuse(format!(
                "it imports `{}` of {provider}, which exports `{}`",
                shape.name, export.shape.name
            ));
        }
        if let Some(what) = export.shape.difference(shape) {
            return refuse(format!(
                "the export of {provider} does not fit: {what}; build both against the same source"
            ));
        }
        if !version.is_reloadable() && provider.is_reloadable() {
            return refuse(format!(
                "it is not reloadable, but imports {provider}, which is; a reload of {provider} would \
                 leave it with the old version"
            ));
        }
    }
    Ok(())
}

/// A walk from each version to the versions that it imports.
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
