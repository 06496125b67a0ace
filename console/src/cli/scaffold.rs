//! `hotswap new` and `hotswap init`: a new project, another plugin, and Hotswap in an existing project.

mod draft;
mod manifest;
mod origin;
mod project;
mod template;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use hotswap_protocol::{ErrorKind, WireError};
use serde::Serialize;

use self::draft::Draft;
use self::origin::Origin;
use self::project::{Host, Project};
use super::args::{InitArguments, NewArguments, ScaffoldArguments};
use super::print_json;
use crate::failure::Failure;
use crate::host::operation::shell_line;

/// A refusal to write anything.
fn refuse(message: impl Into<String>) -> Failure {
    WireError::new(ErrorKind::Internal, message).into()
}

/// What the user has to do after the files are written.
#[derive(Serialize)]
struct NextSteps {
    /// What is left to do by hand.
    advice: Option<String>,
    /// The next commands.
    next: Vec<String>,
}

impl NextSteps {
    fn of(next: Vec<String>) -> Self {
        Self { advice: None, next }
    }
}

pub(super) fn new(arguments: NewArguments) -> Result<(), Failure> {
    let (draft, outlook) = match (&arguments.dir, &arguments.plugin) {
        (Some(dir), None) => new_project(dir, &arguments.options)?,
        (None, Some(plugin)) => {
            new_plugin(plugin, arguments.host_package.as_deref(), &arguments.options)?
        }
        // Clap ensures that one of both is given.
        _ => unreachable!("either a directory or the name of a plugin is given"),
    };
    finish(&draft, &outlook, &arguments.options)
}

/// Adds Hotswap, and a first plugin, to the package in a directory.
pub(super) fn init(arguments: InitArguments) -> Result<(), Failure> {
    let project = Project::open(&arguments.dir)?;
    let host = project.host_to_be(&arguments.dir)?;
    let name = template::checked(&arguments.plugin)?;
    let mut draft = Draft::new(project.root());
    let origin = Origin::chosen(&arguments.options)?;
    let origin =
        origin.map_or_else(|| project.origin().map_or_else(Origin::default_one, Ok), Ok)?;
    add_plugin(&mut draft, &project, &host, name, &origin)?;
    project.depend(&mut draft, &host, "hotswap-engine", &origin)?;
    project.depend(&mut draft, &host, "tracing-subscriber", &Origin::Version("0.3".into()))?;
    let (main, lines) = (project.shown(&host.main).display(), template::host_lines(name));
    let advice = format!("add these lines to {main}, except for those that it has:\n\n{lines}");
    let next = vec![console_line(&host)];
    let outlook = NextSteps { advice: Some(advice), next };
    finish(&draft, &outlook, &arguments.options)
}

/// A workspace with a host, a plugin, and a crate with the types that both use.
fn new_project(dir: &Path, options: &ScaffoldArguments) -> Result<(Draft, NextSteps), Failure> {
    let dir = std::path::absolute(dir)?;
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = template::checked(&name)?;
    let origin = Origin::chosen(options)?.map_or_else(Origin::default_one, Ok)?;
    let mut draft = Draft::new(&dir);
    for (path, text) in template::project(name, &origin, &dir) {
        draft.add(path, text);
    }
    let next = vec![
        shell_line(["cd", relative_to_current_dir(&dir).trim_start_matches("./")]),
        "hotswap-console ./host".into(),
    ];
    Ok((draft, NextSteps::of(next)))
}

/// Another plugin for a host.
fn new_plugin(
    name: &str,
    host_package: Option<&str>,
    options: &ScaffoldArguments,
) -> Result<(Draft, NextSteps), Failure> {
    let project = Project::open(Path::new("."))?;
    let host = project.host(host_package)?;
    let name = template::checked(name)?;
    let origin = Origin::chosen(options)?;
    let origin =
        origin.map_or_else(|| project.origin().map_or_else(Origin::default_one, Ok), Ok)?;
    let mut draft = Draft::new(project.root());
    add_plugin(&mut draft, &project, &host, name, &origin)?;
    Ok((draft, NextSteps::of(vec![console_line(&host)])))
}

/// The command that opens a host's console.
fn console_line(host: &Host) -> String {
    let (dir, bin) = (
        relative_to_current_dir(&host.dir),
        host.bin.iter().flat_map(|name| ["--bin", name.as_str()]),
    );
    shell_line(["hotswap-console", &dir].into_iter().chain(bin))
}

/// Adds the crate of a plugin as a member of the workspace, and names it in the host's list.
fn add_plugin(
    draft: &mut Draft,
    project: &Project,
    host: &Host,
    name: &str,
    origin: &Origin,
) -> Result<(), Failure> {
    project.expect_new(name)?;
    let dir = project.dir_for_plugin(name);
    for krate in ["hotswap-plugin", "hotswap-engine"] {
        project.depend_by_workspace(draft, krate, origin)?;
    }
    project.depend_by_workspace(draft, "serde", &Origin::serde())?;
    let apis = project.shared_by(host);
    draft.add(dir.join("Cargo.toml"), project.plugin_manifest(name, &dir, origin, &apis));
    let names: Vec<_> = apis.iter().map(|api| api.name.clone()).collect();
    draft.add(dir.join("src/lib.rs"), template::plugin(name, &names));
    draft.add(dir.join("tests/serves.rs"), template::plugin_test(name));
    project.join(draft, &dir)?;
    project.list(draft, host, name)
}

/// A directory as a user in the current directory would write it.
fn relative_to_current_dir(dir: &Path) -> String {
    let current = std::env::current_dir().ok();
    let relative = current.and_then(|current| pathdiff::diff_paths(dir, current));
    match relative.filter(|path| path.components().count() <= dir.components().count()) {
        Some(path) if path.as_os_str().is_empty() => ".".into(),
        Some(path) if path.starts_with("..") => path.display().to_string(),
        Some(path) => Path::new(".").join(path).display().to_string(),
        None => dir.display().to_string(),
    }
}

/// The output with `--json`.
#[derive(Serialize)]
struct WrittenLine<'a> {
    root: &'a Path,
    /// New files and changed files, relative to the root.
    new: Vec<PathBuf>,
    changed: Vec<PathBuf>,
    /// Whether they were written.
    written: bool,
    #[serde(flatten)]
    outlook: &'a NextSteps,
}

/// Shows the files, writes them, and says what to do next.
fn finish(draft: &Draft, outlook: &NextSteps, options: &ScaffoldArguments) -> Result<(), Failure> {
    draft.expect_free()?;
    let mut out = io::stdout().lock();
    if !options.output.json {
        write!(out, "{}", draft.shown())?;
    }
    let written = !options.dry_run && (options.yes || confirm(draft)?);
    if written {
        draft.write()?;
    }
    if options.output.json {
        let (new, changed) = (draft.new_files(), draft.changed_files());
        return Ok(print_json(&WrittenLine {
            root: draft.root(),
            new,
            changed,
            written,
            outlook,
        })?);
    }
    if !written {
        return Ok(writeln!(out, "nothing was written")?);
    }
    if let Some(advice) = &outlook.advice {
        writeln!(out, "{advice}")?;
    }
    Ok(writeln!(out, "next: {}", outlook.next.join(" && "))?)
}

/// Asks before existing files are changed, if a user is there to answer.
fn confirm(draft: &Draft) -> Result<bool, Failure> {
    if draft.changed_files().is_empty() || !io::stdin().is_terminal() || !io::stdout().is_terminal()
    {
        return Ok(true);
    }
    write!(io::stdout(), "write this? [Y/n] ")?;
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"))
}
