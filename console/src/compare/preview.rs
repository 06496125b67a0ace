//! The effects of a reload, found without doing it.
//!
//! The host answers which artifacts it would load in place of which others. Each pair is opened in a process of
//! its own and compared. Effects that only the steps of the new version could show stay unknown, and the preview
//! says so.

mod vault;
mod words;

use hotswap_protocol::{
    ArtifactChange, ArtifactContents, BrokenExpectation, CauseKind, ChangeKind, ChangedItem,
    Expectation, ExpectedItem, Fingerprint, LoadedArtifact, NewArtifact, Outcome, PlanParams,
    PlannedPlugin, ReloadPlan, Request, Snapshot, VaultSnapshot, WireError,
};
use serde::Serialize;

pub use vault::{Prospect, ValuePreview};
pub use words::{Line, Sort, change_lines};

use super::probe::Prober;
use crate::host::client::Client;

/// The effects of a reload.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preview {
    /// The generation that serves.
    pub generation: u64,
    /// Whether something that is in use may not be usable after the reload.
    pub is_breaking: bool,
    /// One entry per plugin, in load order; new plugins come last.
    pub plugins: Vec<PluginPreview>,
}

/// The effects of a reload on one plugin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PluginPreview {
    /// The plugin.
    pub name: String,
    /// What would happen to it, if nothing fails.
    pub outcome: Outcome,
    /// The artifact that serves now; `None` for a new plugin.
    pub loaded: Option<LoadedArtifact>,
    /// The artifact that would be loaded, if it is another build.
    pub new: Option<NewArtifact>,
    /// The changes of its declarations.
    pub changes: Vec<ArtifactChange>,
    /// The values in the DataBag that it owns.
    pub data_bag: Vec<ValuePreview>,
    /// The loaded plugins that import it.
    pub imported_by: Vec<String>,
    /// The expectations of the host's own code that the new version would break; the reload would be refused.
    /// Registrations of plugins are known only after a load, so expectations about these are left out.
    pub host_expects: Vec<BrokenExpectation>,
    /// Whether something that is in use may not be usable after the reload.
    pub is_breaking: bool,
    /// Why its new declarations are not known although the host would load it: the host was built by another
    /// toolchain than this program, or its files are on another machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_compared: Option<WireError>,
    /// Why its artifact could not be compared. A reload would most likely be refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WireError>,
}

impl Preview {
    /// Asks the host for its plan, and opens the artifacts that it would load if they are on this machine.
    pub async fn make(
        client: &Client,
        prober: &Prober,
        asked: PlanParams,
    ) -> Result<Self, WireError> {
        let plan: ReloadPlan = client.ask(Request::Plan(asked)).await?;
        let snapshot: Snapshot = client.ask(Request::Snapshot).await?;
        let vault: VaultSnapshot = client.ask(Request::Vault).await?;
        let files = client.expect_files();
        let mut plugins = Vec::with_capacity(plan.plugins.len());
        for planned in plan.plugins {
            let compared = match &files {
                Ok(()) => declared_changes(&planned, prober).await.map_err(Unknown::of),
                Err(away) => Err(Unknown::NotCompared(away.clone())),
            };
            plugins.push(PluginPreview::of(
                planned,
                compared,
                &plan.host_expects,
                &snapshot,
                &vault,
            ));
        }
        let is_breaking = plugins.iter().any(|plugin| plugin.is_breaking);
        Ok(Self { generation: plan.generation, is_breaking, plugins })
    }

    /// Whether a reload would do nothing.
    pub fn changes_nothing(&self) -> bool {
        self.plugins.iter().all(|plugin| !plugin.changes_something())
    }

    /// The first artifact that could not be compared.
    pub fn error(&self) -> Option<&WireError> {
        self.plugins.iter().find_map(|plugin| plugin.error.as_ref())
    }
}

impl PluginPreview {
    fn of(
        planned: PlannedPlugin,
        compared: Result<Declared, Unknown>,
        host_expects: &[Expectation],
        snapshot: &Snapshot,
        vault: &VaultSnapshot,
    ) -> Self {
        let PlannedPlugin { name, outcome, loaded, new } = planned;
        let imports_it =
            |imports: &[String]| imports.iter().any(|it| it.eq_ignore_ascii_case(&name));
        let importers = snapshot.plugins.iter().filter(|other| imports_it(&other.imports));
        let imported_by: Vec<String> = importers.map(|other| other.name.clone()).collect();
        let (declared, not_compared, error) = match compared {
            Ok(declared) => (declared, None, None),
            Err(Unknown::NotCompared(why)) => (Declared::default(), Some(why), None),
            Err(Unknown::Failed(error)) => (Declared::default(), None, Some(error)),
        };
        let data_bag = vault::of_plugin(&name, outcome, &declared, vault);
        let host_expects = declared.broken(&name, host_expects);
        let is_breaking = !host_expects.is_empty()
            || declared.changes.iter().any(|change| change.is_breaking)
            || data_bag.iter().any(|value| value.is_breaking)
            || outcome == Outcome::Removed;
        Self {
            changes: declared.changes,
            name,
            outcome,
            loaded,
            new,
            data_bag,
            imported_by,
            host_expects,
            is_breaking,
            not_compared,
            error,
        }
    }

    /// Whether a reload would change the plugin.
    pub fn changes_something(&self) -> bool {
        changes_something(self.outcome)
    }
}

/// Whether this outcome replaces or removes the version of a plugin.
fn changes_something(outcome: Outcome) -> bool {
    !matches!(
        outcome,
        Outcome::Unchanged | Outcome::Held | Outcome::NotReloadable | Outcome::Missing
    )
}

/// Why the declarations of artifacts are not known.
enum Unknown {
    /// They cannot be opened here. The plan of the host still holds.
    NotCompared(WireError),
    /// They could not be opened.
    Failed(WireError),
}

impl Unknown {
    fn of(error: WireError) -> Self {
        match error.cause {
            // The host has compared the toolchain for its plan.
            Some(CauseKind::Toolchain) => Self::NotCompared(error),
            _ => Self::Failed(error),
        }
    }
}

/// The declarations of the artifacts of a plugin, if they were opened.
#[derive(Default)]
struct Declared {
    old: Option<ArtifactContents>,
    new: Option<ArtifactContents>,
    changes: Vec<ArtifactChange>,
}

impl Declared {
    /// The expectations of the host that the old artifact of a plugin meets and the new one does not.
    fn broken(&self, plugin: &str, host_expects: &[Expectation]) -> Vec<BrokenExpectation> {
        let (Some(old), Some(new)) = (&self.old, &self.new) else { return Vec::new() };
        let is_broken = |expected: &&Expectation| {
            let is_of_plugin =
                expected.plugin.as_deref().is_none_or(|it| it.eq_ignore_ascii_case(plugin));
            let has = |contents: &ArtifactContents| {
                contents
                    .fingerprints
                    .iter()
                    .any(|it| it.fingerprint == expected.fingerprint && is_item(it, expected))
            };
            // Live functions may be removed.
            let is_gone = || {
                expected.item == ExpectedItem::LiveFunction
                    && !new.functions.iter().any(|it| it.is_live && it.name == expected.name)
            };
            is_of_plugin && has(old) && !has(new) && !is_gone()
        };
        let broken = host_expects.iter().filter(is_broken).map(|expected| BrokenExpectation {
            expectation: expected.clone(),
            by: plugin.to_owned(),
            difference: self.difference_of(expected),
        });
        broken.collect()
    }

    /// The difference between an expectation and the new declarations.
    fn difference_of(&self, expected: &Expectation) -> String {
        let item = match expected.item {
            ExpectedItem::Export => ChangedItem::Export,
            _ => ChangedItem::Function,
        };
        let mut changes = self.changes.iter();
        let change = changes.find(|it| {
            it.item == item && (it.name == expected.name || item == ChangedItem::Export)
        });
        match change {
            Some(change) if change.change == ChangeKind::Removed => {
                "it would be removed".to_owned()
            }
            Some(change) if !change.detail.is_empty() => change.detail.clone(),
            _ => "it would have other types".to_owned(),
        }
    }
}

/// Whether a fingerprint belongs to an expected item. A function that is expected may be live or not.
fn is_item(fingerprint: &Fingerprint, expected: &Expectation) -> bool {
    let is_kind = match expected.item {
        ExpectedItem::Function => {
            matches!(fingerprint.item, ExpectedItem::Function | ExpectedItem::LiveFunction)
        }
        item => fingerprint.item == item,
    };
    is_kind && fingerprint.name == expected.name
}

async fn declared_changes(planned: &PlannedPlugin, prober: &Prober) -> Result<Declared, WireError> {
    let of_plugin = |error| WireError { plugin: Some(planned.name.clone()), ..error };
    let declared = match (&planned.loaded, &planned.new) {
        (_, None) => return Ok(Declared::default()),
        (Some(LoadedArtifact { path: Some(old), .. }), Some(new)) => {
            let compared = prober.compare(old, &new.path).await.map_err(of_plugin)?;
            Declared { old: Some(compared.old), new: Some(compared.new), changes: compared.changes }
        }
        (_, Some(new)) => {
            let contents = prober.contents(&new.path).await.map_err(of_plugin)?;
            Declared { changes: all_added(&contents), old: None, new: Some(contents) }
        }
    };
    let opened = declared.new.as_ref().map(|contents| contents.build_id.as_str());
    match &planned.new {
        Some(new) if opened != Some(new.build_id.as_str()) => {
            let message = format!("{} was replaced in the meantime; try again", new.path.display());
            Err(of_plugin(WireError::new(hotswap_protocol::ErrorKind::Build, message)))
        }
        _ => Ok(declared),
    }
}

/// All declarations of a new plugin.
fn all_added(contents: &ArtifactContents) -> Vec<ArtifactChange> {
    let added = |item, name: &str, detail: String| ArtifactChange {
        item,
        name: name.to_owned(),
        change: ChangeKind::Added,
        now: (!detail.is_empty()).then(|| detail.clone()),
        was: None,
        detail,
        is_breaking: false,
    };
    let functions = contents.functions.iter();
    let functions =
        functions.map(|it| added(ChangedItem::Function, &it.name, it.signature.clone()));
    let types = contents.live_types.iter();
    let types = types.map(|it| added(ChangedItem::LiveType, &it.name, String::new()));
    let exports = contents.export.iter();
    let exports =
        exports.map(|it| added(ChangedItem::Export, &it.interface, it.methods.join(", ")));
    let imports = contents.imports.iter();
    let imports = imports.map(|it| added(ChangedItem::Import, &it.plugin, it.interface.clone()));
    // Only the text puts the interface in backticks.
    let imports = imports.map(|it| ArtifactChange { detail: format!("`{}`", it.detail), ..it });
    functions.chain(types).chain(exports).chain(imports).collect()
}
