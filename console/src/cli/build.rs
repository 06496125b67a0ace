//! `hotswap build`

use std::io::{self, Write};
use std::path::Path;

use hotswap_build::{
    BuildEffect, BuildMessage, BuildOptions, Built, Cancel, PluginPackage, build_plugin,
    link_statically, unlink_statically,
};
use hotswap_protocol::{ErrorKind, PhaseTiming, Source, WireError};
use serde::Serialize;
use serde_json::json;

use super::args::BuildArguments;
use super::{Failure, print_json};
use crate::signals::Termination;

pub(super) async fn build(arguments: BuildArguments) -> Result<(), Failure> {
    if arguments.static_linking {
        return link(&arguments);
    }
    let cancel = Cancel::default();
    let mut termination = Termination::listen()?;
    let cancelled = cancel.clone();
    let mut building =
        tokio::task::spawn_blocking(move || build_and_install(arguments, &cancelled));
    let built = loop {
        tokio::select! {
            built = &mut building => break built,
            () = termination.recv() => cancel.cancel(),
        }
    };
    built.unwrap_or_else(|error| {
        Err(WireError::new(ErrorKind::Internal, format!("the build panicked: {error}")).into())
    })
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

fn build_and_install(arguments: BuildArguments, cancel: &Cancel) -> Result<(), Failure> {
    let plugin = PluginPackage::open(&arguments.plugin_dir)?;
    let options = BuildOptions {
        release: arguments.release,
        cargo_flags: arguments.cargo_flags,
        no_replay: arguments.no_replay,
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
    let built = build_plugin(&plugin, &options, cancel, &mut show)?;
    let path = built.install(&arguments.out_dir)?;
    if arguments.verbose {
        for (phase, elapsed) in &built.phases {
            writeln!(io::stderr(), "{phase:>10} {:8.1} ms", elapsed.as_secs_f64() * 1e3)?;
        }
        writeln!(io::stderr(), "{:?} {}", built.effect, built.build_id)?;
    }
    if arguments.output.json {
        return Ok(print_json(&BuiltLine::of(&built, &path))?);
    }
    Ok(writeln!(io::stdout(), "{}", path.display())?)
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
    phases: Vec<PhaseTiming>,
}

impl<'a> BuiltLine<'a> {
    fn of(built: &'a Built, path: &'a Path) -> Self {
        let phases = built.phases.iter().map(|(phase, elapsed)| PhaseTiming {
            phase: (*phase).to_owned(),
            plugin: None,
            elapsed_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
        });
        Self {
            plugin: &built.plugin,
            build_id: built.build_id.to_string(),
            path,
            stored: &built.artifact,
            source: built.source.as_ref(),
            warnings: built.warnings,
            effect: built.effect,
            phases: phases.collect(),
        }
    }
}
