//! Opens an artifact to read what it declares, without loading it as a plugin.
//!
//! The bytes of an inspected file are checked, but opening the file runs its code: its constructors, and the
//! plugin's `Default`, `export` and `import`. If the artifact is not known to be good, do this in another
//! process. A host never needs to do it.
//!
//! ```no_run
//! use hotswap_engine::probe::Contents;
//!
//! # fn main() -> Result<(), hotswap_engine::EngineError> {
//! let loaded = Contents::open("store/world/7f3a.so".as_ref())?;
//! let built = Contents::open("plugins/world.so".as_ref())?;
//! for change in loaded.changes_to(&built) {
//!     println!("{} {}: {}", change.item.as_str(), change.name, change.detail);
//! }
//! # Ok(())
//! # }
//! ```

mod compare;
mod replay;

use std::{path::Path, time::Duration};

pub use replay::{Replay, Replayed};

use hotswap_plugin::{
    FunctionDescription, ImportRequest, InterfaceShape, LiveTypeDescription, TypeSchema,
};
use hotswap_protocol::{
    ArtifactContents, ExpectedItem, ExportInfo, Fingerprint, FunctionInfo, ImportInfo,
    LiveTypeInfo, TypeInfo,
};

use crate::{
    Engine, EngineError, Step,
    artifact::BuildId,
    image::step_thread::StepThread,
    load::{Phases, find::Found, keep_export, open_version},
    version::{
        expectations::{fingerprint_of_function, fingerprint_of_interface},
        function_info,
        lease::Lease,
    },
};

/// The longest time that the artifact's code may take to answer one question.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// What an artifact declares.
#[derive(Debug, Clone)]
pub struct Contents {
    plugin: String,
    build_id: BuildId,
    functions: Vec<FunctionDescription>,
    live_types: Vec<LiveTypeDescription>,
    export: Option<InterfaceShape>,
    imports: Vec<ImportRequest>,
    types: Vec<TypeSchema>,
}

impl Contents {
    /// Opens an artifact in this process, reads its declarations, and closes it.
    ///
    /// # Errors
    /// If the file is not an artifact of this program's toolchain (the panic strategy may differ), or if its
    /// code fails or panics.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let engine = Engine::builder(path).build()?;
        let context = engine.inner().load_context();
        let inspected = context.staging.stage(Found::at(path)?)?.inspect_for_reading()?;
        let steps = StepThread::start(STEP_TIMEOUT, context.services.loads.clone())?;
        let opened = (&steps, &mut Phases::default());
        Self::read(&open_version(&context, &inspected, 1, opened)?, &steps)
    }

    fn read(lease: &Lease, steps: &StepThread) -> Result<Self, EngineError> {
        steps.run(lease, Step::Create, |image| image.create())?;
        let mut types = steps.run(lease, Step::Create, |image| image.describe_shared())?;
        types.sort_by(|a, b| a.name().cmp(b.name()));
        types.dedup();
        let functions = steps.run(lease, Step::Create, |image| image.describe())?;
        let version = lease.version();
        let exporter = version.clone();
        steps.run(lease, Step::Export, move |image| keep_export(image, &exporter))?;
        Ok(Self {
            plugin: version.name().to_string(),
            build_id: version.facts.build_id,
            functions: functions.into_iter().map(|it| it.description).collect(),
            live_types: steps.run(lease, Step::Create, |image| image.describe_types())?,
            export: version.export().map(|export| export.shape.clone()),
            imports: steps.run(lease, Step::Import, |image| image.requests())?,
            types,
        })
    }

    /// The contents in the form of the console protocol.
    pub fn info(&self) -> ArtifactContents {
        ArtifactContents {
            plugin: self.plugin.clone(),
            build_id: self.build_id.to_string(),
            functions: self.functions.iter().map(whole_function_info).collect(),
            live_types: self.live_types.iter().map(|live| self.live_type_info(live)).collect(),
            export: self.export.as_ref().map(export_info),
            imports: self.imports.iter().map(import_info).collect(),
            types: self.types.iter().map(type_info).collect(),
            fingerprints: self.fingerprints(),
        }
    }

    fn fingerprints(&self) -> Vec<Fingerprint> {
        let functions = self.functions.iter().filter_map(|function| {
            let item = match function.is_live {
                true => ExpectedItem::LiveFunction,
                false => ExpectedItem::Function,
            };
            let fingerprint = fingerprint_of_function(function.types.as_ref()?, function.is_async);
            Some(Fingerprint { item, name: function.name.clone(), fingerprint })
        });
        let export = self.export.iter().map(|shape| Fingerprint {
            item: ExpectedItem::Export,
            name: shape.name.clone(),
            fingerprint: fingerprint_of_interface(shape),
        });
        functions.chain(export).collect()
    }

    fn live_type_info(&self, live: &LiveTypeDescription) -> LiveTypeInfo {
        LiveTypeInfo {
            plugin: self.plugin.clone(),
            version: 0,
            name: live.name.clone(),
            doc: live.doc.clone(),
            schema: serde_json::from_str(&live.schema).unwrap_or_default(),
            is_cut: false,
        }
    }
}

fn whole_function_info(function: &FunctionDescription) -> FunctionInfo {
    let mut left = usize::MAX;
    function_info(function, &mut left)
}

fn export_info(shape: &InterfaceShape) -> ExportInfo {
    let methods = shape.methods.iter();
    let methods = methods.map(|method| format!("fn {}{}", method.name, method.signature));
    ExportInfo { interface: shape.name.clone(), methods: methods.collect() }
}

fn import_info(import: &ImportRequest) -> ImportInfo {
    ImportInfo {
        plugin: import.plugin.clone(),
        interface: import.shape.as_ref().map(|shape| shape.name.clone()).unwrap_or_default(),
        optional: import.optional,
    }
}

fn type_info(schema: &TypeSchema) -> TypeInfo {
    TypeInfo {
        name: schema.name().to_owned(),
        size_bytes: schema.size(),
        members: schema.members(),
    }
}
