//! Where a host's plugins lie if nobody says it.

use std::{
    env,
    path::{Path, PathBuf},
};

/// How far above a program cargo's target directory is at most:
/// `target/x86_64-unknown-linux-gnu/debug/examples/host`.
const MAX_LEVELS: usize = 4;

/// Where an engine takes its artifacts from.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub plugin_dir: PathBuf,
    pub store_dir: Option<PathBuf>,
}

impl Places {
    /// Those of this program.
    pub fn of_this_program() -> Self {
        env::current_exe()
            .map_or_else(|_| Self::beside(Path::new("")), |program| Self::of(&program))
    }

    /// For a program in cargo's target directory, where a console builds its host's plugins; for another
    /// one, the directory `plugins` beside it.
    fn of(program: &Path) -> Self {
        let dirs = program.ancestors().skip(1).take(MAX_LEVELS);
        // Cargo marks its target directory with this file, but not one that was there before it.
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
