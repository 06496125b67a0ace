//! The notes of compiler calls. `note-compilers.sh` writes them while cargo runs, and this file reads them.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use hotswap_protocol::env::NOTES_DIR;
use serde::{Deserialize, Serialize};

use crate::{atomic_file, process};

/// The variables that only apply to the noted run of cargo.
const PASSING: [&str; 4] = ["CARGO_MAKEFLAGS", "MAKEFLAGS", "RUSTC_WRAPPER", NOTES_DIR];

/// A compiler call, with everything that is needed to repeat it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Invocation {
    pub program: PathBuf,
    pub args: Vec<String>,
    pub dir: PathBuf,
    /// The variables that cargo set for this call, or removed (`None`).
    pub env: BTreeMap<String, Option<String>>,
}

/// A compiler call from the notes of a run.
#[derive(Debug)]
pub(super) struct Noted {
    pub invocation: Invocation,
    /// When the compiler began, or slightly earlier.
    pub began: SystemTime,
    /// Whether the call was held back, so that the compiler did not run.
    pub is_held: bool,
}

/// The file in a directory of notes that asks to hold back the plugin's own compiler call.
const HOLD: &str = "hold";
/// The file in it that says that the call was held back.
const HELD: &str = "held";

/// The directory for the notes of one run of cargo. It is removed when dropped, unless it should stay.
#[derive(Debug)]
pub(crate) struct Notes {
    dir: tempfile::TempDir,
    /// The [settings](super::guard::settings) of each package, by its directory, before cargo ran.
    pub(super) settings: BTreeMap<PathBuf, String>,
}

impl Notes {
    /// Makes the run of `command`, a cargo command, leave notes below `dir`, which nothing else uses. With
    /// `stay` they are kept. With `hold`, the plugin's own compiler call is noted, but not made.
    pub(super) fn attach(
        command: &mut Command,
        dir: &Path,
        settings: BTreeMap<PathBuf, String>,
        stay: bool,
        hold: bool,
    ) -> io::Result<Self> {
        let script = dir.join("note-compilers.sh");
        // Cargo compares the script's modification time, so an unchanged script is not written.
        atomic_file::write_executable(&script, include_bytes!("note-compilers.sh"))?;
        fs::set_permissions(&script, Permissions::from_mode(0o755))?;
        let mut notes = tempfile::Builder::new().prefix("notes-").tempdir_in(dir)?;
        notes.disable_cleanup(stay);
        if hold {
            fs::write(notes.path().join(HOLD), [])?;
        }
        command.env("RUSTC_WRAPPER", script).env(NOTES_DIR, notes.path());
        Ok(Self { dir: notes, settings })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Removes the note that the plugin's call was held back.
    pub(crate) fn begin_holding(&self) {
        // Usually there is none.
        let _ = fs::remove_file(self.dir().join(HELD));
    }

    /// Whether the plugin's call was held back, which ends the run of cargo.
    pub(crate) fn has_held(&self) -> bool {
        self.dir().join(HELD).exists()
    }

    /// Reads the noted calls. A note that cannot be read is skipped.
    pub(super) fn read(&self) -> Vec<Noted> {
        let entries = fs::read_dir(self.dir.path()).into_iter().flatten().flatten();
        let notes = entries.map(|entry| entry.path());
        notes
            .filter(|path| path.extension().is_some_and(|extension| extension == "args"))
            .filter_map(|path| noted(&path))
            .collect()
    }
}

/// Reads the note of a call: the file `*.args` at `path`, and the files `*.env` and `*.dir` beside it.
fn noted(path: &Path) -> Option<Noted> {
    let began = fs::metadata(path.with_extension("dir")).ok()?.modified().ok()?;
    // The first two arguments are the shell and the script.
    let mut args = texts(&fs::read(path).ok()?)?.into_iter().skip(2);
    let program = PathBuf::from(args.next()?);
    let dir = fs::read(path.with_extension("dir")).ok()?;
    let dir = OsString::from_vec(dir.strip_suffix(b"\n")?.to_vec());
    let env = variables(&fs::read(path.with_extension("env")).ok()?)?;
    let invocation =
        Invocation { program, args: args.collect(), dir: dir.into(), env: changes(env) };
    let is_held = path.with_extension("held").exists();
    Some(Noted { invocation, began, is_held })
}

/// The texts in `bytes`, each of which ends with a zero byte; `None` if one is not UTF-8.
pub(super) fn texts(bytes: &[u8]) -> Option<Vec<String>> {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    let texts = bytes.split(|byte| *byte == 0);
    texts.map(|text| String::from_utf8(text.to_vec()).ok()).collect()
}

/// The variables in `bytes`, each of which ends with a zero byte, without those that are not UTF-8 and that this process
/// passes on as they are. `None` if another one is not UTF-8.
fn variables(bytes: &[u8]) -> Option<BTreeMap<String, String>> {
    let mut texts = BTreeMap::new();
    for variable in bytes.split(|byte| *byte == 0) {
        if let Ok(text) = str::from_utf8(variable) {
            let variable = text.split_once('=');
            texts.extend(variable.map(|(name, value)| (name.to_owned(), value.to_owned())));
            continue;
        }
        let at = variable.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (OsStr::from_bytes(&variable[..at]), &variable[at + 1..]);
        if env::var_os(name)?.as_bytes() != value {
            return None;
        }
    }
    Some(texts)
}

/// The changes that turn this process's environment into `theirs`, the environment of the compiler.
fn changes(theirs: BTreeMap<String, String>) -> BTreeMap<String, Option<String>> {
    let is_ours = |(name, value): &(&String, &String)| env::var(name).ok().as_ref() == Some(value);
    let gone = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let gone = gone.filter(|name| !theirs.contains_key(name)).map(|name| (name, None));
    let mut changes: BTreeMap<_, _> = gone.collect();
    let set = theirs.iter().filter(|variable| !is_ours(variable));
    changes.extend(set.map(|(name, value)| (name.clone(), Some(value.clone()))));
    for name in PASSING {
        changes.remove(name);
    }
    changes
}

impl Invocation {
    /// The command without arguments.
    pub fn without_arguments(&self) -> Command {
        let mut command = process::command(&self.program);
        command.current_dir(&self.dir);
        for (name, value) in &self.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// The argument after `name`, an option such as `--out-dir`.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        let at = self.args.iter().position(|arg| arg == name)?;
        self.args.get(at + 1).map(String::as_str)
    }

    /// The value of a `-C` option, such as `metadata`.
    pub(super) fn codegen_option(&self, name: &str) -> Option<&str> {
        let values = self.args.windows(2).filter(|pair| pair[0] == "-C").map(|pair| &pair[1]);
        values.filter_map(|value| value.strip_prefix(name)?.strip_prefix('=')).next_back()
    }

    /// Whether the compiler optimises.
    pub(super) fn is_optimised(&self) -> bool {
        let levels =
            self.args.iter().filter_map(|arg| arg.rsplit_once("opt-level=")).map(|it| it.1);
        let mut levels = levels.chain(self.args.iter().filter(|arg| *arg == "-O").map(|_| "2"));
        levels.any(|level| level != "0")
    }

    /// The crates that the call names with `--extern`, and the paths of their libraries.
    pub(super) fn externs(&self) -> impl Iterator<Item = (&str, &Path)> {
        let named = self.args.windows(2).filter(|pair| pair[0] == "--extern");
        named.filter_map(|pair| {
            let (name, path) = pair[1].split_once('=')?;
            Some((name, Path::new(path)))
        })
    }

    /// The value that the variable `name` has for this compiler.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        match self.env.get(name) {
            Some(value) => value.clone(),
            None => env::var(name).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invocation(args: &[&str]) -> Invocation {
        Invocation {
            program: "rustc".into(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            dir: "/".into(),
            env: BTreeMap::new(),
        }
    }

    #[test]
    fn options_are_found() {
        let invocation = invocation(&[
            "--out-dir",
            "/out",
            "-C",
            "metadata=1",
            "-C",
            "debuginfo=0",
            "--extern",
            "a=/d/liba.rmeta",
            "--extern",
            "proc_macro",
        ]);
        assert_eq!(invocation.option("--out-dir"), Some("/out"));
        assert_eq!(invocation.option("--crate-name"), None);
        assert_eq!(invocation.codegen_option("metadata"), Some("1"));
        assert_eq!(invocation.codegen_option("meta"), None);
        let externs: Vec<_> = invocation.externs().collect();
        assert_eq!(externs, [("a", Path::new("/d/liba.rmeta"))]);
    }

    #[test]
    fn the_shell_script_records_its_arguments_and_environment() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(dir.path().join("note-compilers.sh"));
        let notes = Notes::attach(&mut command, dir.path(), BTreeMap::new(), false, false).unwrap();
        command.args(["/bin/echo", "two words", "", "$HOME 'quoted'\nline"]);
        command.env("CARGO_CRATE_NAME", "world").env("TEXT", "two\nlines").env_remove("PATH");
        command.env("PATH", "/usr/bin:/bin").current_dir("/");
        let output = command.output().unwrap();
        assert_eq!(output.stdout, b"two words  $HOME 'quoted'\nline\n");
        let noted = notes.read();
        assert_eq!(noted.len(), 1, "{noted:?}");
        let Invocation { program, args, dir, env } = &noted[0].invocation;
        assert_eq!(program, Path::new("/bin/echo"));
        assert_eq!(args, &["two words", "", "$HOME 'quoted'\nline"]);
        assert_eq!(dir, Path::new("/"));
        assert_eq!(env["TEXT"].as_deref(), Some("two\nlines"));
        assert!(!env.contains_key(NOTES_DIR) && !env.contains_key("RUSTC_WRAPPER"), "{env:?}");
    }
}
