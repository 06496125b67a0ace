//! Cargo's information about a workspace, requested once for all plugins that are built together.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::guard;
use super::input::{Input, Moment};
use crate::PluginPackage;
use crate::workspace::Workspace;

#[derive(Debug)]
pub(super) struct WorkspaceInfo {
    workspace: Workspace,
    /// The files from which cargo gets the information.
    files: Vec<Input>,
    /// The configurations that were in force.
    configurations: Vec<PathBuf>,
}

impl WorkspaceInfo {
    /// Asks cargo about the workspace of `plugin`, as a build with the arguments `args` sees it.
    ///
    /// # Errors
    /// The text of cargo.
    pub(super) fn load(plugin: &PluginPackage, args: &[&str]) -> Result<Self, String> {
        let began = Moment::now();
        let workspace = Workspace::load_for(&plugin.manifest_path, args)
            .map_err(|error| format!("cargo does not return its metadata: {error}"))?;
        let dirs = workspace.local_dirs();
        let paths: BTreeSet<_> =
            dirs.iter().flat_map(|dir| guard::setting_files(plugin, dir)).collect();
        let files = paths.iter().map(|path| Input::read_since(path, began.at(), None)).collect();
        Ok(Self { workspace, files, configurations: configurations(plugin) })
    }

    /// Whether cargo would give the same information now, for a build of `plugin` with the arguments `args`.
    pub(super) fn is_for(&self, plugin: &PluginPackage, args: &[&str]) -> bool {
        self.workspace.root() == plugin.workspace_root
            && self.workspace.is_for_all_members(args)
            && self.configurations == configurations(plugin)
            && self.files.iter().all(|file| file.has_same_content(&file.reread()))
    }

    pub(super) fn workspace(&self) -> &Workspace {
        &self.workspace
    }
}

fn configurations(plugin: &PluginPackage) -> Vec<PathBuf> {
    let files = guard::configuration_files(&plugin.dir, &plugin.configurations);
    files.into_iter().filter(|file| file.exists()).collect()
}
