//! Reads dep-info: the `.d` file beside a compiler's output, which lists the files that the compiler read.

use std::fs;
use std::path::{Path, PathBuf};

/// The files and environment variables from which a crate was compiled.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct DepInfo {
    pub files: Vec<PathBuf>,
    /// Each variable with its value; `None` if it was not set.
    pub env: Vec<(String, Option<String>)>,
}

impl DepInfo {
    /// Parses the dep-info of a compiler that ran in `dir`.
    ///
    /// Besides the rules of the makefile, each file has a line of its own, as a target without
    /// prerequisites. Only these lines are read.
    pub(super) fn parse(text: &str, dir: &Path) -> Self {
        let mut info = Self::default();
        for line in text.lines() {
            if let Some(variable) = line.strip_prefix("# env-dep:") {
                info.env.push(match variable.split_once('=') {
                    Some((name, value)) => (unescape(name), Some(unescape(value))),
                    None => (unescape(variable), None),
                });
            } else if let Some(path) = line.strip_suffix(':')
                && !path.starts_with('#')
            {
                info.files.push(dir.join(path.replace("\\ ", " ")));
            }
        }
        info
    }
}

/// The files from which cargo has made the program at `executable`, as the list that cargo keeps beside it names them:
/// the sources of the program and of all path dependencies, and the files for which build scripts ask. Empty if there is
/// no list.
pub fn program_sources(executable: &Path) -> Vec<PathBuf> {
    let rule = fs::read_to_string(executable.with_extension("d")).unwrap_or_default();
    prerequisites(&rule)
}

/// The files after the first colon of a makefile rule, in which a `\` marks a space within a name.
fn prerequisites(rule: &str) -> Vec<PathBuf> {
    let line = rule.lines().next().unwrap_or_default();
    let Some((_, files)) = line.split_once(": ") else { return Vec::new() };
    let mut names = vec![String::new()];
    let mut signs = files.chars();
    while let Some(sign) = signs.next() {
        match (sign, names.last_mut()) {
            (' ', _) => names.push(String::new()),
            ('\\', Some(name)) => name.extend(signs.next()),
            (sign, Some(name)) => name.push(sign),
            (_, None) => {}
        }
    }
    names.into_iter().filter(|name| !name.is_empty()).map(PathBuf::from).collect()
}

/// Resolves the escapes of names and values: `\n`, `\r` and `\\`.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        plain.push(match c {
            '\\' => match rest.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            },
            c => c,
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_lists_files_with_any_name() {
        let rule = "/t/debug/host: /w/src/main.rs /w/with\\ space/größe.rs\n\n/w/src/main.rs:\n";
        assert_eq!(
            prerequisites(rule),
            [Path::new("/w/src/main.rs"), Path::new("/w/with space/größe.rs")]
        );
        assert!(prerequisites("").is_empty());
    }

    #[test]
    fn files_and_variables_are_found() {
        let text = "/t/libworld.so: world/src/lib.rs /data/a\\ b.txt\n\n\
                    /t/world.d: world/src/lib.rs\n\n\
                    world/src/lib.rs:\n/data/a\\ b.txt:\n\n\
                    # env-dep:CARGO_PKG_NAME=world\n# env-dep:TEXT=two\\nlines\\\\\n# env-dep:UNSET\n";
        let variable = |name: &str, value: Option<&str>| (name.into(), value.map(str::to_owned));
        let expected = DepInfo {
            files: vec!["/w/world/src/lib.rs".into(), "/data/a b.txt".into()],
            env: vec![
                variable("CARGO_PKG_NAME", Some("world")),
                variable("TEXT", Some("two\nlines\\")),
                variable("UNSET", None),
            ],
        };
        assert_eq!(DepInfo::parse(text, Path::new("/w")), expected);
    }
}
