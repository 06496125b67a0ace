//! `hotswap build`

use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hotswap_build::{
    BuildEffect, BuildError, BuildMessage, BuildOptions, Built, Cancel, ChangedFunction,
    ChangedItem, DeclarationKind, Declarations, HostPackage, LivePrefix, NotPatched, PluginPackage,
    SourceChanges, StaticLinks, UnreadFile, build_plugin, link_statically_with, unlink_statically,
};
use hotswap_protocol::{ErrorKind, PhaseTiming, Source, WireError};
use serde::Serialize;
use serde_json::json;

use super::args::BuildArguments;
use super::print_json;
use crate::compare::probe::Prober;
use crate::failure::Failure;
use crate::format;
use crate::session::plugin_dir;
use crate::signals::Termination;

pub(super) async fn build(arguments: BuildArguments) -> Result<(), Failure> {
    if arguments.static_linking {
        return link(&arguments);
    }
    if !arguments.cargo_build {
        return check(&arguments);
    }
    let arguments = Arc::new(arguments);
    let cancel = Cancel::default();
    let mut termination = Termination::listen()?;
    let (asked, cancelled) = (Arc::clone(&arguments), cancel.clone());
    let mut building = tokio::task::spawn_blocking(move || build_and_install(&asked, &cancelled));
    let built = loop {
        tokio::select! {
            built = &mut building => break built,
            _ = termination.recv() => cancel.cancel(),
        }
    };
    let built = built.map_err(|error| {
        WireError::new(ErrorKind::Internal, format!("the build panicked: {error}"))
    })?;
    let Finished { built, path, patch, declared } = traced(&arguments, built)?;
    if arguments.verbose {
        print_details(&built, patch.as_ref(), &path).await?;
        print_not_live(&declared)?;
    }
    if arguments.output.json {
        return Ok(print_json(&BuiltLine::of(&built, patch.as_ref(), &path))?);
    }
    Ok(writeln!(io::stdout(), "{}", path.display())?)
}

/// Prints the backtrace of an error if that was requested.
fn traced<T>(arguments: &BuildArguments, result: Result<T, BuildError>) -> Result<T, Failure> {
    if let Err(error) = &result
        && arguments.debug
    {
        writeln!(io::stderr(), "it arose here:\n{}", error.backtrace())?;
    }
    Ok(result?)
}

/// Checks the package without compiling anything, and shows what would be built.
fn check(arguments: &BuildArguments) -> Result<(), Failure> {
    let plugin = traced(arguments, open(arguments, &arguments.plugin_dir))?;
    writeln!(io::stderr(), "`{}` can be built as a plugin", plugin.name)?;
    if !arguments.verbose && !arguments.output.json {
        return Ok(());
    }
    let declared = traced(arguments, plugin.declarations(arguments.live_prefix.as_deref()))?;
    if arguments.verbose {
        print_package(&plugin, &declared)?;
    }
    if arguments.output.json {
        let line = json!({
            "plugin": plugin.name,
            "manifest": plugin.manifest_path,
            "source_dirs": plugin.source_dirs,
            "included": plugin.included_files(),
            "declared": declared.items,
            "unread": declared.unread,
        });
        print_json(&line)?;
    }
    Ok(())
}

/// Shows what the sources of a package declare.
fn print_package(plugin: &PluginPackage, declared: &Declarations) -> Result<(), Failure> {
    let mut text = format!("package    {} {}\n", plugin.name, plugin.manifest_path.display());
    for dir in &plugin.source_dirs {
        text += &format!("sources    {}\n", dir.display());
    }
    for file in plugin.included_files() {
        text += &format!("included   {}\n", file.display());
    }
    for item in declared.items.iter().filter(|item| item.kind != DeclarationKind::NotLive) {
        let kind = match item.kind {
            DeclarationKind::Plugin => "plugin",
            DeclarationKind::Function => "fn",
            DeclarationKind::LiveFunction => "live fn",
            DeclarationKind::LiveType => "live type",
            DeclarationKind::NotLive => "not live",
        };
        text += &format!("{kind:<10} {}  {}:{}\n", item.name, item.file.display(), item.line);
    }
    io::stderr().write_all(text.as_bytes())?;
    print_not_live(declared)
}

/// Shows items whose names look live although the items are not.
fn print_not_live(declared: &Declarations) -> Result<(), Failure> {
    let mut text = String::new();
    for item in declared.items.iter().filter(|item| item.kind == DeclarationKind::NotLive) {
        let (name, file, line) = (&item.name, item.file.display(), item.line);
        text += &format!("not live   {name}  {file}:{line}: put #[live] on it, or on its module\n");
    }
    for UnreadFile { file, reason } in &declared.unread {
        text += &format!("not read   {}: {reason}\n", file.display());
    }
    Ok(io::stderr().write_all(text.as_bytes())?)
}

/// Shows all details of a build.
async fn print_details(
    built: &Built,
    patch: Option<&Result<(), NotPatched>>,
    path: &Path,
) -> Result<(), Failure> {
    let contents = Prober::this_program().contents(path).await?;
    let mut text = String::new();
    let effect = match built.effect {
        BuildEffect::NewCode => "new code",
        BuildEffect::SameCode => "sources changed, but the compiled code did not",
        BuildEffect::UpToDate => "up to date",
    };
    text += &format!("build      {} ({effect})\n", built.build_id);
    if let Some(changes) = &built.changes {
        text += &changes_text(changes);
    }
    text += &match patch {
        None => String::new(),
        Some(Ok(())) => "patch      possible: only bodies of functions changed\n".to_owned(),
        Some(Err(why)) => format!("patch      not possible: {why}\n"),
    };
    text += &match &built.source {
        None => "commit     none: not in a git repository\n".to_owned(),
        Some(Source { commit, branch, dirty, .. }) => {
            let dirty = if *dirty { " + changes" } else { "" };
            format!("commit     {commit} {branch}{dirty}\n")
        }
    };
    for function in &contents.functions {
        let kind = if function.is_live { "live fn " } else { "fn " };
        text += &format!("{kind:<10} {}{}\n", function.name, function.signature);
    }
    for live_type in &contents.live_types {
        text += &format!("live type  {}\n", live_type.name);
    }
    for file in [built.artifact.as_path(), path] {
        text += &format!("file       {}\n", file.display());
    }
    for PhaseTiming { phase, elapsed_us, .. } in &built.phases {
        text += &format!("{phase:<10} {:.1} ms\n", *elapsed_us as f64 / 1e3);
    }
    Ok(io::stderr().write_all(text.as_bytes())?)
}

/// The changes of the build, one function or item on each line, with the reason if other code depends on a changed
/// body.
fn changes_text(changes: &SourceChanges) -> String {
    let mut text = String::new();
    for ChangedFunction { name, file, bound } in &changes.functions {
        let bound = bound.map(|bound| format!(": {bound}")).unwrap_or_default();
        text += &format!("body       {name}  {}{bound}\n", file.display());
    }
    for ChangedItem { item, file, change } in &changes.items {
        let item = item.as_ref().map(|item| format!("{item}  ")).unwrap_or_default();
        text += &format!("{:<10} {item}{}\n", change.as_str(), file.display());
    }
    text
}

/// Generates the crate through which a host links the plugin, or all plugins of the host, or removes them from
/// it.
fn link(arguments: &BuildArguments) -> Result<(), Failure> {
    let BuildArguments { plugin_dir, out_dir, live_prefix, .. } = arguments;
    let links = if arguments.clean {
        let plugins = plugins_in(plugin_dir);
        let mut links = traced(arguments, unlink_statically(&plugins[0], out_dir))?;
        for plugin in &plugins[1..] {
            links = traced(arguments, unlink_statically(plugin, out_dir))?;
        }
        links
    } else {
        let links = link_statically_with(plugin_dir, out_dir, live_prefix.as_deref());
        traced(arguments, links)?
    };
    if arguments.verbose {
        print_links(arguments, &plugins_in(plugin_dir), &links)?;
    }
    if arguments.output.json {
        let prefix = links.live_prefix.as_ref();
        let line = json!({
            "name": links.name,
            "dir": links.dir,
            "plugins": links.plugins,
            "live_prefix": prefix.map(|it| &it.prefix),
            "cargo_config": prefix.map(|it| &it.config),
        });
        return Ok(print_json(&line)?);
    }
    let mut stderr = io::stderr();
    // This is advice; the crate is finished even if it cannot be printed.
    let _ = if links.plugins.is_empty() {
        writeln!(stderr, "it linked no other plugin, and is gone: the host must not depend on it")
    } else {
        writeln!(
            stderr,
            "`{}` links {}\nthe host depends on it and begins with \
             `Engine::builder_static({}::plugins())`",
            links.name,
            links.plugins.join(", "),
            links.name.replace('-', "_")
        )
    };
    Ok(writeln!(io::stdout(), "{}", links.dir.display())?)
}

/// The directories of a host's plugins if the package in `dir` is a host, else `dir` itself as that of a plugin.
fn plugins_in(dir: &Path) -> Vec<PathBuf> {
    let plugins = HostPackage::open(dir).map(|host| host.plugins).unwrap_or_default();
    let dirs: Vec<_> = plugins.into_iter().map(|plugin| plugin.dir).collect();
    if dirs.is_empty() { vec![dir.to_owned()] } else { dirs }
}

/// Cargo's flags, including those after `--`.
fn cargo_flags(arguments: &BuildArguments) -> Vec<String> {
    [arguments.cargo.flags(), arguments.cargo_flags.clone()].concat()
}

fn open(arguments: &BuildArguments, dir: &Path) -> Result<PluginPackage, BuildError> {
    let mut plugin = PluginPackage::open_with(dir, &cargo_flags(arguments))?;
    plugin.included = plugin.included.and(&arguments.include, &arguments.exclude)?;
    Ok(plugin)
}

/// Shows all details of the linked plugins and of the crate.
fn print_links(
    arguments: &BuildArguments,
    plugins: &[PathBuf],
    links: &StaticLinks,
) -> Result<(), Failure> {
    let prefix = links.live_prefix.as_ref();
    for dir in plugins.iter().filter(|_| !arguments.clean) {
        let plugin = traced(arguments, open(arguments, dir))?;
        let prefix = prefix.map(|it| it.prefix.as_str());
        print_package(&plugin, &traced(arguments, plugin.declarations(prefix))?)?;
    }
    let mut text = String::new();
    if let Some(LivePrefix { prefix, config }) = prefix {
        text += &format!("prefix     {prefix}  {}\n", config.display());
    }
    if !links.plugins.is_empty() {
        for file in ["Cargo.toml", "src/lib.rs"] {
            text += &format!("file       {}\n", links.dir.join(file).display());
        }
    }
    Ok(io::stderr().write_all(text.as_bytes())?)
}

/// A finished build with its details.
struct Finished {
    built: Built,
    /// The path of the artifact.
    path: PathBuf,
    /// Whether the build could be a patch for the build that was installed before; `None` if there was none, or if
    /// this is not shown.
    patch: Option<Result<(), NotPatched>>,
    /// The declarations of the sources, if all details are shown.
    declared: Declarations,
}

fn build_and_install(arguments: &BuildArguments, cancel: &Cancel) -> Result<Finished, BuildError> {
    let mut plugin = open(arguments, &arguments.plugin_dir)?;
    let mut cargo = arguments.cargo.clone();
    if let Some(target_dir) = cargo.take_target_dir() {
        plugin.target_dir = target_dir;
    }
    let options = BuildOptions {
        cargo_flags: [cargo.flags(), arguments.cargo_flags.clone()].concat(),
        no_replay: arguments.no_replay,
        live_prefix: arguments.live_prefix.clone(),
        leave_temps: arguments.leave_temps,
        patch_base: (arguments.verbose || arguments.output.json)
            .then(|| plugin_dir::base(&arguments.out_dir, &plugin.name))
            .flatten(),
        ..BuildOptions::default()
    };
    let in_colours = format::wants_colours(io::stderr().is_terminal());
    let mut show = |message| {
        let mut stderr = io::stderr();
        // The build is worth finishing even if its messages cannot be printed.
        let _ = match message {
            BuildMessage::Diagnostic(diagnostic) => {
                let rendered = format::in_colours(&diagnostic.rendered, in_colours);
                writeln!(stderr, "{}", rendered.trim_end())
            }
            BuildMessage::Output(text) => {
                writeln!(stderr, "{}", format::in_colours(&text, in_colours))
            }
            _ => Ok(()),
        };
    };
    let mut built = build_plugin(&plugin, &options, cancel, &mut show)?;
    // Only whether a patch is possible is shown: this command installs whole builds.
    let patch = built.patch.take().map(|patch| patch.map(drop));
    let path = built.install(&arguments.out_dir)?;
    let declared = match arguments.verbose {
        true => plugin.declarations(arguments.live_prefix.as_deref())?,
        false => Declarations::default(),
    };
    Ok(Finished { built, path, patch, declared })
}

/// The output of `hotswap build --json`.
#[derive(Serialize)]
struct BuiltLine<'a> {
    plugin: &'a str,
    build_id: String,
    path: &'a Path,
    stored: &'a Path,
    source: Option<&'a Source>,
    warnings: usize,
    effect: BuildEffect,
    changes: Option<&'a SourceChanges>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patchable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_patched: Option<String>,
    phases: &'a [PhaseTiming],
}

impl<'a> BuiltLine<'a> {
    fn of(built: &'a Built, patch: Option<&Result<(), NotPatched>>, path: &'a Path) -> Self {
        Self {
            plugin: &built.plugin,
            build_id: built.build_id.to_string(),
            path,
            stored: &built.artifact,
            source: built.source.as_ref(),
            warnings: built.warnings,
            effect: built.effect,
            changes: built.changes.as_ref(),
            patchable: patch.map(Result::is_ok),
            not_patched: patch.and_then(|it| it.as_ref().err()).map(ToString::to_string),
            phases: &built.phases,
        }
    }
}
