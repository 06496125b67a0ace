//! The files of a new project.

use std::path::{Path, PathBuf};

use super::origin::Origin;
use super::refuse;
use crate::failure::Failure;

/// The files of a new project, relative to its root.
const PROJECT: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("../../../templates/workspace/Cargo.toml.in")),
    (".gitignore", include_str!("../../../templates/workspace/gitignore.in")),
    ("README.md", include_str!("../../../templates/workspace/README.md.in")),
    ("api/Cargo.toml", include_str!("../../../templates/api/Cargo.toml.in")),
    ("api/src/lib.rs", include_str!("../../../templates/api/src/lib.rs.in")),
    ("host/Cargo.toml", include_str!("../../../templates/host/Cargo.toml.in")),
    ("host/src/main.rs", include_str!("../../../templates/host/src/main.rs.in")),
    ("plugins/greeter/Cargo.toml", include_str!("../../../templates/greeter/Cargo.toml.in")),
    ("plugins/greeter/src/lib.rs", include_str!("../../../templates/greeter/src/lib.rs.in")),
    ("plugins/greeter/tests/serves.rs", PLUGIN_TEST),
];

/// The test of a plugin in a host.
const PLUGIN_TEST: &str = include_str!("../../../templates/plugin/tests/serves.rs.in");

/// The source of another plugin.
const PLUGIN: &str = include_str!("../../../templates/plugin/src/lib.rs.in");

const HOST_LINES: &str = include_str!("../../../templates/host-lines.in");

/// Names that cargo refuses, or that have another meaning in a manifest or a source.
const TAKEN: &[&str] = &[
    "abstract",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "const",
    "continue",
    "core",
    "crate",
    "deps",
    "do",
    "dyn",
    "else",
    "enum",
    "examples",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "hotswap-engine",
    "hotswap-plugin",
    "if",
    "impl",
    "in",
    "incremental",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "serde",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

/// The name, if a package can have it.
pub(super) fn checked(name: &str) -> Result<&str, Failure> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(is_part) {
        return Err(refuse(format!(
            "a package cannot be named `{name}`: it needs a name of ASCII letters, digits, `-` and `_` that \
             begins with a letter"
        )));
    }
    if TAKEN.contains(&name) {
        return Err(refuse(format!("a package cannot be named `{name}`: the name is reserved")));
    }
    Ok(name)
}

/// The files of a new project in a directory.
pub(super) fn project<'a>(
    name: &'a str,
    origin: &'a Origin,
    root: &'a Path,
) -> impl Iterator<Item = (PathBuf, String)> + 'a {
    PROJECT.iter().map(move |(path, text)| {
        let mut text = for_plugin(text, "greeter").replace("{{name}}", name);
        text = text.replace("{{api}}", &format!("{}_api", name.replace('-', "_")));
        for krate in ["hotswap-engine", "hotswap-plugin"] {
            let dependency = origin.dependency(krate, root).to_string();
            text = text.replace(&format!("{{{{{krate}}}}}"), &dependency);
        }
        (PathBuf::from(path), text)
    })
}

/// The source of a program that hosts a plugin.
pub(super) fn host_lines(plugin: &str) -> String {
    for_plugin(HOST_LINES, plugin)
}

/// The source of a plugin, which may use the types of some crates.
pub(super) fn plugin(name: &str, apis: &[String]) -> String {
    let mut uses = String::new();
    for api in apis {
        let api = api.replace('-', "_");
        uses += &format!(
            "\n// The types that the host and its plugins share: `use {api}::…`.\nuse {api} as _;\n"
        );
    }
    for_plugin(PLUGIN, name).replace("{{api}}\n", &format!("{uses}\n"))
}

/// The test of a plugin in a host.
pub(super) fn plugin_test(name: &str) -> String {
    for_plugin(PLUGIN_TEST, name)
}

fn for_plugin(text: &str, name: &str) -> String {
    text.replace("{{plugin}}", name)
        .replace("{{plugin_crate}}", &name.replace('-', "_"))
        .replace("{{Plugin}}", &in_camel_case(name))
}

/// `tower-defence` as the name of a type: `TowerDefence`.
fn in_camel_case(name: &str) -> String {
    let words = name.split(['-', '_']).filter(|word| !word.is_empty());
    words.map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}
