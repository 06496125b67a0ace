//! The default directories of a host's plugins and builds.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The largest number of levels between a program and cargo's target directory above it:
/// `target/x86_64-unknown-linux-gnu/debug/examples/host`.
const MAX_LEVELS: usize = 4;

/// The directories from which an engine takes its artifacts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub plugin_dir: PathBuf,
    pub store_dir: Option<PathBuf>,
}

impl Places {
    /// The directories for this program.
    pub fn of_this_program() -> Self {
        env::current_exe()
            .map_or_else(|_| Self::beside(Path::new("")), |program| Self::of(&program))
    }

    /// For a program in cargo's target directory, the directories into which a console builds the plugins of
    /// that host; for any other program, the directory `plugins` beside it.
    fn of(program: &Path) -> Self {
        let dirs = program.ancestors().skip(1).take(MAX_LEVELS);
        // Cargo marks target directories that it has created with this file.
        let is_target = |dir: &&Path| {
            dir.join("CACHEDIR.TAG").is_file() || dir.join("hotswap/plugins").is_dir()
        };
        let target = dirs.into_iter().find(is_target);
        match (target, program.file_stem()) {
            (Some(target), Some(name)) => Self {
                plugin_dir: target.join("hotswap/plugins").join(name),
                store_dir: Some(target.join("hotswap/store")),
            },
            _ => Self::beside(program.parent().unwrap_or(program)),
        }
    }

    fn beside(dir: &Path) -> Self {
        Self { plugin_dir: dir.join("plugins"), store_dir: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_directory_is_known_by_cargos_mark_or_by_the_plugins_in_it() {
        let dir = tempfile::tempdir().expect("make a directory");
        let target = dir.path().join("target");
        let program = target.join("debug/demo");
        assert_eq!(Places::of(&program), Places::beside(&target.join("debug")));
        std::fs::create_dir_all(target.join("hotswap/plugins")).expect("make a directory");
        let found = Places {
            plugin_dir: target.join("hotswap/plugins/demo"),
            store_dir: Some(target.join("hotswap/store")),
        };
        assert_eq!(Places::of(&program), found);
    }
}
