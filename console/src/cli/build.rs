//! `hotswap build`

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hotswap_build::{
    BuildEffect, BuildError, BuildMessage, BuildOptions, Built, Cancel, PluginPackage,
    build_plugin, link_statically, unlink_statically,
};
use hotswap_protocol::{ErrorKind, PhaseTiming, Source, WireError};
use serde::Serialize;
use serde_json::json;

use super::args::BuildArguments;
use super::print_json;
use crate::compare::probe::Prober;
use crate::failure::Failure;
use crate::signals::Termination;

pub(super) async fn build(arguments: BuildArguments) -> Result<(), Failure> {
    if arguments.static_linking {
        return link(&arguments);
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
    if let Err(error) = &built
        && arguments.debug
    {
        writeln!(io::stderr(), "it arose here:\n{}", error.backtrace())?;
    }
    let Some((built, path)) = built? else { return Ok(()) };
    if arguments.verbose {
        tell(&built, &path).await?;
    }
    if arguments.output.json {
        return Ok(print_json(&BuiltLine::of(&built, &path))?);
    }
    Ok(writeln!(io::stdout(), "{}", path.display())?)
}

/// Tells everything about what was built.
async fn tell(built: &Built, path: &Path) -> Result<(), Failure> {
    let contents = Prober::this_program().contents(path).await?;
    let mut text = String::new();
    let effect = match built.effect {
        BuildEffect::NewCode => "new code",
        BuildEffect::SameCode => "sources changed, but not the code that they make",
        BuildEffect::UpToDate => "up to date",
    };
    text += &format!("build      {} ({effect})\n", built.build_id);
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

/// Generates the crate through which a host links the plugin, or removes the plugin from it.
fn link(arguments: &BuildArguments) -> Result<(), Failure> {
    let change = if arguments.clean { unlink_statically } else { link_statically };
    let links = change(&arguments.plugin_dir, &arguments.out_dir)?;
    if arguments.output.json {
        let line = json!({ "name": links.name, "dir": links.dir, "plugins": links.plugins });
        return Ok(print_json(&line)?);
    }
    let mut stderr = io::stderr();
    // Advice; where nobody reads it the crate is there all the same.
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

/// Nothing where nothing was to be compiled.
fn build_and_install(
    arguments: &BuildArguments,
    cancel: &Cancel,
) -> Result<Option<(Built, PathBuf)>, BuildError> {
    let mut plugin = PluginPackage::open(&arguments.plugin_dir)?;
    plugin.included = plugin.included.and(&arguments.include, &arguments.exclude)?;
    if !arguments.cargo_build {
        // Whoever reads this knows what it was asked for.
        let _ = writeln!(io::stderr(), "`{}` can be built as a plugin", plugin.name);
        return Ok(None);
    }
    let mut cargo = arguments.cargo.clone();
    if let Some(target_dir) = cargo.take_target_dir() {
        plugin.target_dir = target_dir;
    }
    let cargo_flags = [cargo.flags(), arguments.cargo_flags.clone()].concat();
    let options = BuildOptions {
        cargo_flags,
        no_replay: arguments.no_replay,
        live_prefix: arguments.live_prefix.clone(),
        leave_temps: arguments.leave_temps,
        ..BuildOptions::default()
    };
    let mut show = |message| {
        let mut stderr = io::stderr();
        // A build is worth finishing also when nobody reads along.
        let _ = match message {
            BuildMessage::Diagnostic(diagnostic) => {
                writeln!(stderr, "{}", diagnostic.rendered.trim_end())
            }
            BuildMessage::Output(text) => writeln!(stderr, "{text}"),
            _ => Ok(()),
        };
    };
    let mut built = build_plugin(&plugin, &options, cancel, &mut show)?;
    let path = built.install(&arguments.out_dir)?;
    Ok(Some((built, path)))
}

/// What `hotswap build --json` prints.
#[derive(Serialize)]
struct BuiltLine<'a> {
    plugin: &'a str,
    build_id: String,
    path: &'a Path,
    stored: &'a Path,
    source: Option<&'a Source>,
    warnings: usize,
    effect: BuildEffect,
    phases: &'a [PhaseTiming],
}

impl<'a> BuiltLine<'a> {
    fn of(built: &'a Built, path: &'a Path) -> Self {
        Self {
            plugin: &built.plugin,
            build_id: built.build_id.to_string(),
            path,
            stored: &built.artifact,
            source: built.source.as_ref(),
            warnings: built.warnings,
            effect: built.effect,
            phases: &built.phases,
        }
    }
}
