//! `hotswap inspect`

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hotswap_artifact::{self as artifact, Facts, Toolchain};
use hotswap_protocol::{ArtifactContents, ErrorKind, Source, Step, WireError};
use serde::Serialize;

use super::args::InspectArguments;
use super::{print_json, text};
use crate::compare::probe::Prober;
use crate::failure::Failure;
use crate::format;

/// What `hotswap inspect --json` prints of an artifact.
#[derive(Serialize)]
struct Inspection {
    path: PathBuf,
    size_bytes: usize,
    name: String,
    crate_version: String,
    build_id: String,
    source: Option<Source>,
    toolchain: ToolchainLine,
    /// Whether a host that was built by the toolchain of this program would take it.
    fits: bool,
    /// What differs where it does not.
    misfit: Option<String>,
    /// Why its image could not be unmapped again; none when it can.
    keep_reason: Option<String>,
    /// What opening it needs or does besides; told where there is something.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remarks: Vec<String>,
    /// What it declares; told with `--open`.
    #[serde(skip_serializing_if = "Option::is_none")]
    contents: Option<ArtifactContents>,
}

#[derive(Serialize)]
struct ToolchainLine {
    rustc: String,
    target: String,
    panic_strategy: String,
    hotswap_plugin: String,
}

/// Tells everything about an artifact; with `--open` also what only its own code can tell. Of a broken
/// one it tells what it says of itself, and fails.
pub(super) async fn inspect(arguments: &InspectArguments) -> Result<(), Failure> {
    let (mut inspection, problem) = read(&arguments.file)?;
    if let Some(problem) = problem {
        if !arguments.output.json {
            write!(io::stdout(), "{}", in_words(&inspection))?;
        }
        return Err(problem.into());
    }
    if arguments.open {
        inspection.contents = Some(Prober::this_program().contents(&arguments.file).await?);
    }
    if arguments.output.json {
        return Ok(print_json(&inspection)?);
    }
    Ok(write!(io::stdout(), "{}", in_words(&inspection))?)
}

/// What a file says of itself, and what is wrong with it.
fn read(path: &Path) -> Result<(Inspection, Option<WireError>), WireError> {
    let wrong = |reason: String| WireError {
        step: Some(Step::Inspect),
        ..WireError::new(ErrorKind::Build, format!("{}: {reason}", path.display()))
    };
    let file = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let (facts, problem) = match artifact::inspect(&file) {
        Ok(facts) => (facts, None),
        Err(error) => {
            let error = wrong(error.to_string());
            (artifact::claims(&file).ok_or_else(|| error.clone())?, Some(error))
        }
    };
    Ok((Inspection::of(path, file.len(), facts), problem))
}

impl Inspection {
    fn of(path: &Path, size_bytes: usize, facts: Facts) -> Self {
        let remarks = remarks(&facts);
        let misfit = facts.toolchain.expect_host().err().map(|error| error.to_string());
        Self {
            path: path.to_owned(),
            size_bytes,
            name: facts.name.to_string(),
            crate_version: facts.crate_version,
            build_id: facts.build_id.to_string(),
            source: facts.source,
            toolchain: ToolchainLine::of(&facts.toolchain),
            fits: misfit.is_none(),
            misfit,
            remarks,
            keep_reason: facts.keep_reason,
            contents: None,
        }
    }
}

/// What opening a file needs or does besides.
fn remarks(facts: &Facts) -> Vec<String> {
    let mut remarks = Vec::new();
    if facts.has_static_tls {
        remarks.push(
            "it has thread-locals in the static area, as C code compiled with \
             `-ftls-model=initial-exec` has them: a process has room for few loads of it, also where \
             earlier ones were freed; compile that code with `-ftls-model=global-dynamic`"
                .to_owned(),
        );
    }
    if facts.may_harm_by_opening() {
        remarks.push(
            "opening it runs constructors of its own or of other libraries: a host opens it in a process \
             of its own first"
                .to_owned(),
        );
    }
    remarks
}

impl ToolchainLine {
    fn of(toolchain: &Toolchain) -> Self {
        Self {
            rustc: toolchain.rustc(),
            target: toolchain.target.clone(),
            panic_strategy: toolchain.panic_strategy.clone(),
            hotswap_plugin: toolchain.plugin_crate_version.clone(),
        }
    }
}

fn in_words(inspection: &Inspection) -> String {
    let Inspection { toolchain, .. } = inspection;
    let commit = match &inspection.source {
        None => "none: not built in a git repository".into(),
        Some(source) => {
            let branch = if source.branch.is_empty() { "detached" } else { &source.branch };
            let dirty = if source.dirty { " + changes" } else { "" };
            let at_ms = u64::try_from(source.commit_time).unwrap_or_default() * 1000;
            format!("{} {branch}{dirty}, committed {}", source.commit, format::date(at_ms))
        }
    };
    let fits = match &inspection.misfit {
        None => "yes, it was built by the same toolchain".into(),
        Some(misfit) => format!("no: {misfit}"),
    };
    let unmaps = match &inspection.keep_reason {
        None => "yes".into(),
        Some(reason) => format!("no: {reason}"),
    };
    let remark = |remark: &String| format!("note      {remark}\n");
    let remarks: String = inspection.remarks.iter().map(remark).collect();
    let size = u64::try_from(inspection.size_bytes).unwrap_or(u64::MAX);
    let built_by = format!(
        "{}, {}, panic={}, hotswap-plugin {}",
        toolchain.rustc, toolchain.target, toolchain.panic_strategy, toolchain.hotswap_plugin
    );
    let contents = inspection.contents.as_ref().map(text::contents).unwrap_or_default();
    format!(
        "plugin    {} {}\nbuild     {}\ncommit    {commit}\nsize      {}\n\
         built by  {built_by}\nfits      {fits}\nunmaps    {unmaps}\n{remarks}{contents}",
        inspection.name,
        inspection.crate_version,
        inspection.build_id,
        format::bytes(size),
    )
}
