//! One run of cargo, reported as [`BuildMessage`]s.

use std::collections::{HashSet, VecDeque};
use std::env::consts::DLL_SUFFIX;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use cargo_metadata::{Artifact, Message, PackageId, TargetKind};

use super::origins::Origins;
use crate::message::wrong_files;
use crate::replay::{self, BuildScript, Moment, Notes};
use crate::workspace::list;
use crate::{BuildError, BuildMessage, Cancel, Diagnostic, DiagnosticLevel, Program, cargo};

/// How many of cargo's last lines an error repeats if there were no diagnostics.
const REPEATED_LINES: usize = 20;

/// The compiler's code for a path that leads to nothing.
const UNRESOLVED: &str = "E0433";

/// The package that is compiled.
#[derive(Clone, Copy)]
pub(super) struct Package<'a> {
    pub name: &'a str,
    pub manifest_path: &'a Path,
    pub workspace_root: &'a Path,
    pub target_dir: &'a Path,
    pub package_count: usize,
    /// The path of `hotswap_plugin` for a plugin whose macros need it.
    pub api_path: Option<&'a str>,
}

/// The result of a run.
pub(crate) struct Run {
    manifest_path: PathBuf,
    pub artifacts: Vec<Artifact>,
    pub scripts: Vec<cargo_metadata::BuildScript>,
    /// The compiler's diagnostics, each with its package and target.
    diagnostics: Vec<(PackageId, String, Diagnostic)>,
    /// Whether cargo has compiled everything but the plugin itself, whose compiler call was held back.
    pub is_held: bool,
}

impl Run {
    pub(super) fn program(&self, program: &Program) -> Option<PathBuf> {
        let mut programs = self.own_artifacts().filter(|artifact| program.is(&artifact.target));
        programs.find_map(|artifact| artifact.executable.clone()).map(PathBuf::from)
    }

    pub(super) fn shared_library(&self) -> Option<PathBuf> {
        let mut files = self.own_artifacts().flat_map(|artifact| &artifact.filenames);
        files.find(|file| file.as_str().ends_with(DLL_SUFFIX)).map(|file| file.clone().into())
    }

    /// Whether cargo found the package itself up to date, or did not compile it.
    pub(super) fn is_fresh(&self) -> bool {
        self.own_artifacts().all(|artifact| artifact.fresh)
    }

    pub(crate) fn diagnostics_of<'a>(
        &'a self,
        artifact: &'a Artifact,
    ) -> impl Iterator<Item = &'a Diagnostic> {
        let diagnostics = self.diagnostics.iter().filter(|(package, target, _)| {
            *package == artifact.package_id && *target == artifact.target.name
        });
        diagnostics.map(|(_, _, diagnostic)| diagnostic)
    }

    fn own_artifacts(&self) -> impl Iterator<Item = &Artifact> {
        let is_own = |artifact: &&Artifact| {
            artifact.manifest_path == self.manifest_path
                && !artifact.target.kind.contains(&TargetKind::CustomBuild)
        };
        self.artifacts.iter().filter(is_own)
    }
}

/// Runs the cargo command `command`, which builds `package`. If cargo takes compiled files for up to date that are not,
/// these are removed and cargo runs once more. With `holding`, the run may end before the package itself is compiled.
/// `on_wrong` gets the files that errors are or may be about, including missing ones.
pub(super) fn compile(
    package: Package<'_>,
    mut command: Command,
    holding: Option<&Notes>,
    cancel: &Cancel,
    on_message: &mut dyn FnMut(BuildMessage),
    on_wrong: &mut dyn FnMut(PathBuf),
) -> Result<Run, BuildError> {
    let mut origins = Origins::open(package.target_dir, package.workspace_root);
    let mut settle = |run: &Run, began| {
        origins.settle(run, began).map_err(|error| {
            let (name, dir) = (package.name, package.target_dir.display());
            BuildError::setup(format!(
                "`{name}`: the origins of the files in {dir} cannot be noted: {error}"
            ))
            .because(error)
        })
    };
    let began = Moment::now();
    let run = run_cargo(package, &mut command, holding, cancel, on_message, on_wrong)?;
    let mistaken = settle(&run, began)?;
    if mistaken.is_empty() {
        return Ok(run);
    }
    if !mistaken.changed.is_empty() {
        on_message(BuildMessage::Output(format!(
            "running cargo again: files of {} changed, and have times from before the last build",
            list(mistaken.changed.iter().map(String::as_str))
        )));
    }
    mistaken.remove(&run);
    let began = Moment::now();
    let run = run_cargo(package, &mut command, holding, cancel, on_message, on_wrong)?;
    let of_others = settle(&run, began)?.of_others;
    if of_others.is_empty() {
        return Ok(run);
    }
    Err(BuildError::setup(format!(
        "`{}`: cargo takes files of {} in {} for up to date that another workspace compiled; give this \
         workspace a target directory of its own",
        package.name,
        list(of_others.iter().map(String::as_str)),
        package.target_dir.display(),
    )))
}

/// An error if the directory of a package is gone. Nothing must be written to it then: a directory that was made for the
/// build would be in the way when it is moved back.
pub(super) fn expect_dir(package: &str, dir: &Path) -> Result<(), BuildError> {
    if dir.is_dir() {
        return Ok(());
    }
    Err(BuildError::setup(format!(
        "`{package}` cannot be built: its directory {} is gone; bring it back, or change the path in the manifest \
         that names it",
        dir.display()
    )))
}

fn run_cargo(
    package: Package<'_>,
    command: &mut Command,
    holding: Option<&Notes>,
    cancel: &Cancel,
    on_message: &mut dyn FnMut(BuildMessage),
    on_wrong: &mut dyn FnMut(PathBuf),
) -> Result<Run, BuildError> {
    if cancel.is_cancelled() {
        return Err(BuildError::cancelled(package.name));
    }
    let mut translator = Translator::new(package);
    if let Some(notes) = holding {
        notes.begin_holding();
    }
    let mut failed_script = FailedScript::default();
    let has_held = || holding.is_some_and(Notes::has_held);
    let status = cargo::run(command, cancel, &mut |message| {
        if let Message::CompilerMessage(message) = &message {
            wrong_files(&message.message, package.workspace_root)
                .into_iter()
                .for_each(&mut *on_wrong);
        }
        if let Message::TextLine(line) = &message {
            failed_script.read(line).into_iter().for_each(&mut *on_wrong);
        }
        // After a call was held back, cargo reports that it failed.
        if matches!(message, Message::TextLine(_)) && has_held() {
            return;
        }
        if let Some(message) = translator.translate(message) {
            on_message(message);
        }
    });
    if cancel.is_cancelled() {
        return Err(BuildError::cancelled(package.name));
    }
    let status = status.map_err(|error| {
        // The system says the same of a missing directory as of a missing program.
        if let Some(Err(gone)) =
            command.get_current_dir().map(|dir| expect_dir(package.name, dir))
        {
            return gone;
        }
        BuildError::setup(format!(
            "`{}` cannot be built, because cargo could not be run: {error}; is Rust installed, with \
             `cargo` on the PATH?",
            package.name
        ))
        .because(error)
    })?;
    translator.run.is_held = !status.success() && has_held();
    if !status.success() && !translator.run.is_held {
        // An error may be in what a build script has made of these files.
        replay::asked_by_scripts(&translator.run).for_each(on_wrong);
        return Err(translator.failure(status));
    }
    Ok(translator.run)
}

/// Finds the files that a build script which failed may have read, in cargo's report of the failure.
#[derive(Default)]
struct FailedScript {
    package_dir: Option<PathBuf>,
}

impl FailedScript {
    /// Reads the next line of cargo's output. Returns the directory of the script's package, and each file for which
    /// the script has asked.
    fn read(&mut self, line: &str) -> Option<PathBuf> {
        const HEAD: &str = "error: failed to run custom build command for `";
        if let Some(package) = line.strip_prefix(HEAD) {
            // A package of the author is shown with its path: `leaf v0.1.0 (/home/me/leaf)`.
            let path = package.split_once(" (").and_then(|(_, rest)| rest.strip_suffix(")`"));
            self.package_dir = path.map(PathBuf::from).filter(|dir| dir.is_absolute());
            return self.package_dir.clone();
        }
        let asked = BuildScript::asked_path(line.trim_start())?;
        Some(self.package_dir.as_ref()?.join(asked))
    }
}

/// Translates cargo's messages into [`BuildMessage`]s, and collects the [`Run`].
struct Translator<'a> {
    package: Package<'a>,
    done: HashSet<PackageId>,
    run: Run,
    errors: usize,
    last_lines: VecDeque<String>,
}

impl<'a> Translator<'a> {
    fn new(package: Package<'a>) -> Self {
        let run = Run {
            manifest_path: package.manifest_path.to_owned(),
            artifacts: Vec::new(),
            scripts: Vec::new(),
            diagnostics: Vec::new(),
            is_held: false,
        };
        Self { package, done: HashSet::new(), run, errors: 0, last_lines: VecDeque::new() }
    }

    fn translate(&mut self, message: Message) -> Option<BuildMessage> {
        match message {
            Message::CompilerArtifact(artifact) => self.progress(artifact),
            Message::CompilerMessage(message) => {
                let root = self.package.workspace_root;
                let diagnostic = Diagnostic::from_rustc(message.message, root)?;
                if diagnostic.level == DiagnosticLevel::Error {
                    self.errors += 1;
                }
                let entry = (message.package_id, message.target.name, diagnostic.clone());
                self.run.diagnostics.push(entry);
                Some(BuildMessage::Diagnostic(diagnostic))
            }
            Message::BuildScriptExecuted(script) => {
                self.run.scripts.push(script);
                None
            }
            Message::TextLine(line) => {
                if self.last_lines.len() == REPEATED_LINES {
                    self.last_lines.pop_front();
                }
                self.last_lines.push_back(line.clone());
                Some(BuildMessage::Output(line))
            }
            _ => None,
        }
    }

    /// The progress when a package is finished. A package is finished with its library or program, and not
    /// with its build script.
    fn progress(&mut self, artifact: Artifact) -> Option<BuildMessage> {
        if artifact.target.kind.contains(&TargetKind::CustomBuild) {
            self.run.artifacts.push(artifact);
            return None;
        }
        let is_first = self.done.insert(artifact.package_id.clone());
        let done = self.done.len();
        // Features may add packages to those that were counted.
        let total = Some(self.package.package_count.max(done));
        let package = artifact.target.name.clone();
        self.run.artifacts.push(artifact);
        is_first.then_some(BuildMessage::Progress { done, total, package })
    }

    fn failure(self, status: ExitStatus) -> BuildError {
        let name = self.package.name;
        match self.errors {
            0 => {
                let lines: Vec<_> = self.last_lines.into();
                let output = lines.join("\n");
                BuildError::setup(format!("`{name}` cannot be built ({status}):\n{output}"))
            }
            errors => {
                let (noun, advice) = (if errors == 1 { "error" } else { "errors" }, self.advice());
                BuildError::compile(format!("`{name}` does not compile: {errors} {noun}{advice}"))
            }
        }
    }

    /// What to do if the compiler may not have found the crate for which macros look.
    fn advice(&self) -> String {
        let is_unresolved =
            |(_, _, it): &(_, _, Diagnostic)| it.code.as_deref() == Some(UNRESOLVED);
        match self.package.api_path {
            Some(path) if self.run.diagnostics.iter().any(is_unresolved) => format!(
                "; its code does not reach `hotswap-plugin` by that name, so its macros need the path: \
                 `#[plugin(crate = {path})]`, and in the same way `#[invoke]` and all others"
            ),
            _ => String::new(),
        }
    }
}
