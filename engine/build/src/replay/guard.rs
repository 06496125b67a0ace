//! Guards: everything besides sources that decides how cargo calls the compiler. While no guard changes, the
//! recorded calls are those that cargo would make.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::PluginPackage;
use crate::cargo::{WRAPPERS, given_configurations};

/// The prefixes of variables that never change what is built: cargo sets them for the programs that it runs,
/// or they concern output only.
const MEANINGLESS: [&str; 9] = [
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "CARGO_BIN_",
    "CARGO_CRATE_NAME",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_MAKEFLAGS",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "RUST_RECURSION_COUNT",
];

/// The files that become targets of a package because they exist.
const FOUND_BY_NAME: [&str; 3] = ["build.rs", "src/lib.rs", "src/main.rs"];

/// The environment variables that can affect any run of cargo or the compiler.
pub(super) fn cargo_variables() -> BTreeMap<String, String> {
    let texts = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let concerns = |name: &str| {
        (name.starts_with("CARGO") || name.starts_with("RUST"))
            && !MEANINGLESS.iter().any(|prefix| name.starts_with(prefix))
    };
    texts.filter(|(name, _)| concerns(name)).collect()
}

/// Why builds of `plugin` with the command `cargo` cannot be recorded; `None` if they can. To note compiler calls,
/// Hotswap itself has to be the compiler's wrapper.
pub(super) fn unrecordable(plugin: &PluginPackage, cargo: &Command) -> Option<String> {
    let Configurations { of_flags, of_files } = Configurations::of(plugin, cargo);
    WRAPPERS.into_iter().find_map(|(key, first, last)| {
        let in_variable = |name: &str| Some((env::var_os(name)?, format!("{name} is set")));
        let in_table = |table: &toml::Table, place: &str| {
            Some((wrapper_in(table, key)?.into(), format!("{place} sets `build.{key}`")))
        };
        let in_flags = of_flags.iter().filter_map(|table| in_table(table, "`--config`"));
        let in_files = of_files
            .iter()
            .filter_map(|(path, table)| in_table(table, &path.display().to_string()));
        let variables = [first, last].map(in_variable);
        let [first, last] = variables.map(Option::into_iter);
        // The first place that names a wrapper counts. An empty name turns the wrapper of later places off.
        let (wrapper, reason) = first.chain(in_flags).chain(last).chain(in_files).next()?;
        (!wrapper.is_empty()).then_some(reason)
    })
}

/// The compiler wrapper that a cargo configuration names with this key.
fn wrapper_in<'a>(config: &'a toml::Table, key: &str) -> Option<&'a str> {
    config.get("build")?.get(key)?.as_str()
}

/// The configurations of cargo for a plugin. A file that takes precedence comes before others.
struct Configurations {
    of_flags: Vec<toml::Table>,
    of_files: Vec<(PathBuf, toml::Table)>,
}

impl Configurations {
    fn of(plugin: &PluginPackage, cargo: &Command) -> Self {
        let args: Vec<&str> = cargo.get_args().filter_map(OsStr::to_str).collect();
        let of_flags = given_configurations(&args).filter_map(parsed).collect();
        let files = configuration_files(&plugin.dir, &plugin.configurations).into_iter();
        let of_files = files.filter_map(|path| {
            let table = parsed(&fs::read_to_string(&path).ok()?)?;
            Some((path, table))
        });
        Self { of_flags, of_files: of_files.collect() }
    }
}

/// A configuration of cargo; `None` for a text that is not TOML, which cargo reports.
fn parsed(config: &str) -> Option<toml::Table> {
    config.parse().ok()
}

/// The variables that `[env]` in cargo's configuration sets for compilers. Whether cargo sets them also depends on the
/// values that they have in this process.
pub(super) fn configured_variables(plugin: &PluginPackage, cargo: &Command) -> BTreeSet<String> {
    let Configurations { of_flags, of_files } = Configurations::of(plugin, cargo);
    let tables = of_flags.iter().chain(of_files.iter().map(|(_, table)| table));
    let variables = tables.filter_map(|table| table.get("env")?.as_table());
    variables.flat_map(toml::Table::keys).cloned().collect()
}

/// The files that decide what cargo does with the packages in `dirs`, including files that do not exist.
pub(super) fn files(
    plugin: &PluginPackage,
    dirs: &BTreeSet<PathBuf>,
    compiler: &Path,
    cargo: &Command,
) -> BTreeSet<PathBuf> {
    let configurations = configuration_files(&plugin.dir, &plugin.configurations);
    let mut files: BTreeSet<PathBuf> = configurations.into_iter().collect();
    for dir in dirs.iter().chain([&plugin.workspace_root]) {
        files.extend(manifests(dir));
    }
    // Cargo finds these by their names. If such a file exists, it is a source, or does not count.
    let found = dirs.iter().flat_map(|dir| FOUND_BY_NAME.map(|name| dir.join(name)));
    files.extend(found.filter(|path| !path.exists()));
    files.insert(plugin.workspace_root.join("Cargo.lock"));
    files.extend(toolchain_files(&plugin.dir));
    files.extend(home("RUSTUP_HOME", ".rustup").map(|dir| dir.join("settings.toml")));
    files.insert(compiler.to_owned());
    files.extend(find_program(cargo.get_program()));
    files
}

/// A hash of the files that decide with which arguments and variables cargo compiles the package in
/// `package_dir`. A change of these files need not make cargo compile anything at once.
pub(super) fn settings(plugin: &PluginPackage, package_dir: &Path) -> String {
    let files = setting_files(plugin, package_dir);
    let mut hasher = blake3::Hasher::new();
    for file in files {
        if let Ok(content) = fs::read(&file) {
            hasher.update(file.as_os_str().as_encoded_bytes());
            hasher.update(blake3::hash(&content).as_bytes());
        }
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// The files whose hash [`settings`] is, including files that do not exist.
pub(super) fn setting_files(plugin: &PluginPackage, package_dir: &Path) -> Vec<PathBuf> {
    let mut files = configuration_files(&plugin.dir, &plugin.configurations);
    files.extend(manifests(package_dir));
    files.push(plugin.workspace_root.join("Cargo.lock"));
    files
}

/// The manifests that may concern the package in `dir`, including files that do not exist: its own, that of a
/// workspace around it, or that of the workspace that its own names.
fn manifests(dir: &Path) -> Vec<PathBuf> {
    let dirs = dir.ancestors().map(Path::to_owned).chain(named_workspace(dir));
    dirs.map(|dir| dir.join("Cargo.toml")).collect()
}

/// The root of the workspace that the manifest in `dir` names; `None` if it names none.
pub(super) fn named_workspace(dir: &Path) -> Option<PathBuf> {
    let manifest: toml::Table = fs::read_to_string(dir.join("Cargo.toml")).ok()?.parse().ok()?;
    Some(dir.join(manifest.get("package")?.get("workspace")?.as_str()?))
}

/// The files that may name the toolchain for a package in `dir`, including files that do not exist: the nearest first.
pub fn toolchain_files(dir: &Path) -> impl Iterator<Item = PathBuf> {
    dir.ancestors()
        .flat_map(|dir| ["rust-toolchain", "rust-toolchain.toml"].map(|name| dir.join(name)))
}

/// The configuration files of cargo for a package in `dir`, in the order of their precedence: the files `given` by the
/// option `--config`, the files that cargo finds by their names, and after each of them the files that it includes.
/// Files that do not exist are included.
pub(crate) fn configuration_files(dir: &Path, given: &[PathBuf]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    // The last one takes precedence.
    for file in given.iter().rev().cloned().chain(found_configuration_files(dir)) {
        add_with_included(file, &mut files);
    }
    files
}

/// The configuration files that cargo finds by their names.
fn found_configuration_files(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let dirs = dir.ancestors().map(|dir| dir.join(".cargo"));
    let dirs = dirs.chain(home("CARGO_HOME", ".cargo"));
    dirs.flat_map(|dir| ["config", "config.toml"].map(|name| dir.join(name)))
}

fn add_with_included(file: PathBuf, files: &mut Vec<PathBuf>) {
    // Files may include each other, which cargo reports.
    if files.contains(&file) {
        return;
    }
    let included = included_files(&file);
    files.push(file);
    // The last one takes precedence.
    included.into_iter().rev().for_each(|file| add_with_included(file, files));
}

/// The files that the configuration file at `path` includes; none if it cannot be read, which cargo reports.
fn included_files(path: &Path) -> Vec<PathBuf> {
    let config = fs::read_to_string(path).ok().and_then(|text| text.parse::<toml::Table>().ok());
    let entries = config.as_ref().and_then(|config| config.get("include")?.as_array());
    let path_in = |entry: &toml::Value| {
        let file = entry.as_str().or_else(|| entry.get("path")?.as_str())?;
        Some(path.parent()?.join(file))
    };
    entries.into_iter().flatten().filter_map(path_in).collect()
}

/// The configuration files that have their names from a flag or another file.
fn named_configuration_files(plugin: &PluginPackage) -> BTreeSet<PathBuf> {
    let found: BTreeSet<PathBuf> = found_configuration_files(&plugin.dir).collect();
    let files = configuration_files(&plugin.dir, &plugin.configurations);
    files.into_iter().filter(|file| !found.contains(file)).collect()
}

/// Tells whether a file that may decide about builds of `plugin` is worth watching. Above the workspace are directories
/// such as the home directory, in which files appear all the time; but named configuration files are watched wherever
/// they are.
pub(super) fn worth_watching(plugin: &PluginPackage) -> impl Fn(&Path) -> bool {
    let named = named_configuration_files(plugin);
    move |path| {
        path.starts_with(&plugin.workspace_root)
            || (is_of_ancestor(plugin, path) && path.exists())
            || named.contains(path)
    }
}

/// Whether the file at `path` decides about builds of `plugin` because of the directory that it is in: the plugin's
/// own, or one around it.
fn is_of_ancestor(plugin: &PluginPackage, path: &Path) -> bool {
    let dir = path
        .parent()
        .and_then(|dir| if dir.ends_with(".cargo") { dir.parent() } else { Some(dir) });
    dir.is_some_and(|dir| plugin.dir.starts_with(dir))
}

/// Whether the file at `path` belongs to a package that cargo has downloaded from a registry or a repository.
pub(crate) fn is_downloaded(path: &Path) -> bool {
    home("CARGO_HOME", ".cargo")
        .is_some_and(|dir| ["registry", "git"].iter().any(|name| path.starts_with(dir.join(name))))
}

fn home(variable: &str, name: &str) -> Option<PathBuf> {
    let named = env::var_os(variable).map(PathBuf::from);
    named.or_else(|| env::home_dir().map(|home| home.join(name)))
}

fn find_program(program: &OsStr) -> Option<PathBuf> {
    let path = Path::new(program);
    if path.components().count() > 1 {
        return Some(path.to_owned());
    }
    let dirs = env::var_os("PATH")?;
    env::split_paths(&dirs).map(|dir| dir.join(path)).find(|path| path.is_file())
}

/// The files and variables for which a build script asks to be run again when they change. Cargo's messages
/// do not contain them, so they are read from the script's output.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct BuildScript {
    pub paths: Vec<PathBuf>,
    pub variables: Vec<String>,
}

impl BuildScript {
    /// Parses the output of a build script that ran in `dir`.
    ///
    /// A script that asks for nothing is run again for every change in its package. `package_dir` is the
    /// directory of that package if the author can edit it.
    pub(super) fn parse(output: &str, dir: &Path, package_dir: Option<&Path>) -> Self {
        let mut asked = Self::default();
        let mut asks = false;
        for line in output.lines() {
            let Some((name, value)) = Self::directive(line) else { continue };
            match name {
                "rerun-if-changed" => asked.paths.push(dir.join(value)),
                "rerun-if-env-changed" => asked.variables.push(value.to_owned()),
                _ => continue,
            }
            asks = true;
        }
        if !asks {
            asked.paths.extend(package_dir.map(Path::to_owned));
        }
        asked
    }

    /// The path in a line that asks to run the script again when a file changes.
    pub(crate) fn asked_path(line: &str) -> Option<&str> {
        Self::directive(line).filter(|(name, _)| *name == "rerun-if-changed").map(|it| it.1)
    }

    fn directive(line: &str) -> Option<(&str, &str)> {
        let directive = line.strip_prefix("cargo::").or_else(|| line.strip_prefix("cargo:"));
        directive?.split_once('=')
    }

    /// Why cargo runs the script for every build: it asks for a file that does not exist. `None` if all of
    /// its files exist.
    pub(super) fn missing(&self) -> Option<String> {
        let missing = self.paths.iter().find(|path| !path.exists())?;
        Some(format!(
            "a build script asks to run again for {}, which does not exist",
            missing.display()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_wrapper_is_found_in_a_configuration() {
        for (config, wrapper) in [
            ("# include = [\"more.toml\"]\n[env]\nTEXT = \"rustc-wrapper include\"\n", None),
            ("[source.include]\ndirectory = \"include\"\n", None),
            ("[build]\nrustc-wrapper = \"sccache\"\n", Some("sccache")),
            ("build = { rustc-wrapper = \"sccache\" }\n", Some("sccache")),
            ("build.rustc-wrapper = \"\"\n", Some("")),
            ("build.rustc-workspace-wrapper = \"w\"\n", None),
            ("include = [\n", None),
        ] {
            let table = parsed(config).unwrap_or_default();
            assert_eq!(wrapper_in(&table, "rustc-wrapper"), wrapper, "{config}");
        }
    }

    #[test]
    fn the_inputs_that_a_build_script_declares_are_found() {
        let output = "cargo:rerun-if-changed=build.rs\ncargo::rerun-if-env-changed=CC\n\
                      cargo:rustc-cfg=fast\nchatter\ncargo::rerun-if-changed=/usr/lib\n";
        let asked = BuildScript::parse(output, Path::new("/w/api"), Some(Path::new("/w/api")));
        let paths = vec!["/w/api/build.rs".into(), "/usr/lib".into()];
        assert_eq!(asked, BuildScript { paths, variables: vec!["CC".into()] });
    }

    #[test]
    fn a_build_script_that_asks_for_nothing_depends_on_its_package() {
        let parse = |dir| BuildScript::parse("cargo:rustc-cfg=fast\n", Path::new("/w/api"), dir);
        assert_eq!(parse(Some(Path::new("/w/api"))).paths, [Path::new("/w/api")]);
        assert_eq!(parse(None), BuildScript::default());
    }
}
