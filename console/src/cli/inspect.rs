//! `hotswap inspect`

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hotswap_artifact::{self as artifact, ArtifactError, Facts, Misfit, Toolchain, own_toolchain};
use hotswap_protocol::{
    ArtifactContents, ErrorKind, HostInfo, KeepReason, Source, Step, WireError,
};
use serde::Serialize;

use super::args::InspectArguments;
use super::{CLIENT_NAME, print_json, text};
use crate::compare::probe::Prober;
use crate::failure::Failure;
use crate::format;
use crate::host::socket::{self, HostChoice};

/// The output of `hotswap inspect --json`.
#[derive(Serialize)]
struct Inspection {
    path: PathBuf,
    size_bytes: usize,
    name: String,
    crate_version: String,
    build_id: String,
    source: Option<Source>,
    toolchain: ToolchainLine,
    /// Whether the host would accept it.
    fits: bool,
    /// The difference, if it does not fit.
    misfit: Option<String>,
    /// The toolchain that it is compared with.
    judged_by: Judge,
    /// Why its image could not be unmapped; `None` if it could.
    keep_reason: Option<String>,
    /// The same reason as data.
    kept_for: Option<KeepReason>,
    /// Remarks about opening it; left out if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remarks: Vec<String>,
    /// What it declares; only with `--open`.
    #[serde(skip_serializing_if = "Option::is_none")]
    contents: Option<ArtifactContents>,
}

/// The toolchain that an artifact has to fit: that of a host, or that of this program if no host is chosen.
#[derive(Serialize)]
struct Judge {
    host: Option<String>,
    pid: Option<u32>,
    toolchain: ToolchainLine,
    #[serde(skip)]
    built_by: Toolchain,
    /// The chosen host, if it does not report its toolchain.
    #[serde(skip)]
    silent: Option<String>,
    #[serde(skip)]
    trusted_libraries: Vec<String>,
}

#[derive(Serialize)]
struct ToolchainLine {
    rustc: String,
    target: String,
    panic_strategy: String,
    hotswap_plugin: String,
}

/// Shows all facts about an artifact; with `--open` also those that only its own code knows. Of a broken artifact
/// it shows what can be read, and fails.
pub(super) async fn inspect(
    host: Option<&HostChoice>,
    arguments: &InspectArguments,
) -> Result<(), Failure> {
    let connected = socket::connect_in_project(host, CLIENT_NAME).await?;
    let judge = Judge::of(connected.as_ref().map(|(client, _)| client.host()));
    let (mut inspection, problem) = read(&arguments.file, judge)?;
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

/// Reads the facts in a file, and what is wrong with it.
fn read(path: &Path, judge: Judge) -> Result<(Inspection, Option<WireError>), WireError> {
    let wrong = |reason: String| WireError {
        step: Some(Step::Inspect),
        ..WireError::new(ErrorKind::Build, format!("{}: {reason}", path.display()))
    };
    let file = artifact::read(path).map_err(|error| wrong(error.to_string()))?;
    let (facts, problem) = match artifact::inspect(&file) {
        Ok(facts) => (facts, None),
        // If its ABI is another one, this program can read nothing else.
        Err(ArtifactError::Toolchain(Misfit { part, found, expected })) => {
            return Err(wrong(format!(
                "this program cannot read it: its {} is {found}, and that of this program {expected}; \
                 inspect it with the `hotswap` of its version of Hotswap",
                part.as_str()
            )));
        }
        Err(error) => {
            let error = wrong(error.to_string());
            (artifact::claims(&file).ok_or_else(|| error.clone())?, Some(error))
        }
    };
    Ok((Inspection::of(path, file.len(), facts, judge), problem))
}

impl Inspection {
    fn of(path: &Path, size_bytes: usize, facts: Facts, judge: Judge) -> Self {
        let remarks = remarks(&facts);
        let misfit = facts.toolchain.misfit(&judge.built_by).map(|misfit| misfit.to_string());
        let kept_for = facts.keep_reason_trusting(&judge.trusted_libraries);
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
            judged_by: judge,
            remarks,
            keep_reason: kept_for.as_ref().map(ToString::to_string),
            kept_for,
            contents: None,
        }
    }
}

impl Judge {
    /// The host, if one is chosen and reports its toolchain; otherwise this program.
    fn of(host: Option<&HostInfo>) -> Self {
        let silent = host.filter(|host| host.built_by.is_none()).map(|host| host.name.clone());
        let of_host = host.and_then(|host| Some((host, host.built_by.clone()?)));
        let (host, built_by) = of_host
            .map_or_else(|| (None, own_toolchain()), |(host, built_by)| (Some(host), built_by));
        Self {
            host: host.map(|host| host.name.clone()),
            pid: host.map(|host| host.pid),
            toolchain: ToolchainLine::of(&built_by),
            built_by,
            silent,
            trusted_libraries: host.map(|host| host.trusted_libraries.clone()).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.pid, &self.silent) {
            (Some(host), Some(pid), _) => write!(f, "{host} (pid {pid})"),
            (_, _, Some(host)) => {
                write!(f, "this program, since {host} does not report its toolchain")
            }
            _ => f.write_str("this program, since no host was chosen; `--host` chooses one"),
        }
    }
}

/// Remarks about opening the file.
fn remarks(facts: &Facts) -> Vec<String> {
    let mut remarks = Vec::new();
    if facts.has_static_tls {
        remarks.push(
            "it has thread-locals in the static TLS area, as C code compiled with \
             `-ftls-model=initial-exec` has them: a process has room for only a few loads of such \
             code, including versions that were freed; compile that code with `-ftls-model=global-dynamic`"
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
        None => "yes, it has the toolchain of the host".into(),
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
         built by  {built_by}\nfits      {fits}\njudged by {}\nunmaps    {unmaps}\n{remarks}{contents}",
        inspection.name,
        inspection.crate_version,
        inspection.build_id,
        format::bytes(size),
        inspection.judged_by,
    )
}
