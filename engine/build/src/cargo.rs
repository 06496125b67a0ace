//! Runs cargo, and reads all its output while it runs, so that cargo never waits because a pipe is full.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use cargo_metadata::Message;

use crate::Cancel;
use crate::process::{self, Running};

/// The environment variables that name directories of cargo.
const DIRECTORIES: [&str; 4] =
    ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", "CARGO_BUILD_BUILD_DIR", "CARGO_HOME"];

/// The environment variables that name a compiler.
const COMPILERS: [&str; 2] = ["RUSTC", "CARGO_BUILD_RUSTC"];

/// The settings of cargo that name a compiler wrapper: the key in the table `build`, the variable that comes before all
/// settings, and the variable of the setting.
pub(crate) const WRAPPERS: [(&str, &str, &str); 2] = [
    ("rustc-wrapper", "RUSTC_WRAPPER", "CARGO_BUILD_RUSTC_WRAPPER"),
    ("rustc-workspace-wrapper", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER"),
];

/// How many lines of output are queued for a busy caller before cargo has to wait.
const QUEUED_LINES: usize = 256;

/// The cargo that runs this program, if there is one, so that both use the same toolchain. Otherwise the
/// cargo on the `PATH`.
pub(crate) fn command() -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = process::command(cargo);
    command.envs(absolute_paths());
    command
}

/// The variables that name a directory or a program relative to the directory of this process, with the absolute path.
/// Cargo runs in another directory.
pub(crate) fn absolute_paths() -> impl Iterator<Item = (&'static str, PathBuf)> {
    let given =
        |name| Some((name, PathBuf::from(env::var_os(name).filter(|value| !value.is_empty())?)));
    let wrappers = WRAPPERS.into_iter().flat_map(|(_, first, last)| [first, last]);
    // A name without a directory is looked up on the `PATH`.
    let has_dir = |(_, program): &(_, PathBuf)| program.components().count() > 1;
    let programs = COMPILERS.into_iter().chain(wrappers).filter_map(given).filter(has_dir);
    let given = DIRECTORIES.into_iter().filter_map(given).chain(programs);
    given.filter(|(_, path)| path.is_relative()).map(|(name, path)| (name, absolute(&path)))
}

/// The absolute path of `path`, which is relative to the directory in which this process was started.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Flags of cargo whose values may be paths, with absolute paths instead of those relative to `dir`. Cargo runs in
/// another directory.
pub(crate) fn with_absolute_paths(flags: &[String], dir: &Path) -> Vec<String> {
    let absolute = |name: &str, value: &str| {
        let path = dir.join(value);
        let is_path = name == "--target-dir" || (name == "--config" && names_file(value, &path));
        path.to_str().filter(|_| is_path).map_or_else(|| value.to_owned(), str::to_owned)
    };
    let mut name = "";
    let made_absolute = flags.iter().map(|flag| {
        let value_of = std::mem::take(&mut name);
        match flag.split_once('=') {
            _ if !value_of.is_empty() => absolute(value_of, flag),
            Some((name, value)) => format!("{name}={}", absolute(name, value)),
            None => {
                name = if matches!(flag.as_str(), "--config" | "--target-dir") { flag } else { "" };
                flag.clone()
            }
        }
    });
    made_absolute.collect()
}

/// Whether the value of the option `--config` is the path of a file, by cargo's rule; or of a missing one, because a
/// setting has the form `key=value`.
fn names_file(value: &str, path: &Path) -> bool {
    !value.contains('=') || path.is_file()
}

/// The flags, with absolute paths instead of paths relative to the current directory of this process.
pub(crate) fn with_paths_from_current_dir(flags: &[String]) -> Vec<String> {
    with_absolute_paths(flags, &absolute(Path::new(".")))
}

/// The values of the option `--config` in arguments of cargo: settings, and paths of files.
pub(crate) fn given_configurations<'a>(args: &[&'a str]) -> impl Iterator<Item = &'a str> {
    let apart = args.windows(2).filter(|pair| pair[0] == "--config").map(|pair| pair[1]);
    apart.chain(args.iter().filter_map(|arg| arg.strip_prefix("--config=")))
}

/// The files that the option `--config` names in `flags`, including missing ones. In `flags`, paths are relative to
/// the directory of this process.
pub(crate) fn given_files(flags: &[String]) -> Vec<PathBuf> {
    let flags = with_paths_from_current_dir(flags);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let files = given_configurations(&flags).filter(|value| names_file(value, Path::new(value)));
    files.map(PathBuf::from).collect()
}

/// Runs `command` to its end, and calls `on_message` with its messages in the order in which they
/// arrive.
///
/// A line of stdout that is not a message, and each line of stderr, is a [`Message::TextLine`].
pub(crate) fn run(
    command: &mut Command,
    cancel: &Cancel,
    on_message: &mut dyn FnMut(Message),
) -> io::Result<ExitStatus> {
    let mut running = Running::start(command, cancel)?;
    for message in messages(&mut running)? {
        on_message(message);
    }
    running.finish()
}

/// Receives the messages of both streams. The receiver ends when both streams are closed, that is, when all
/// processes that write to them have ended.
fn messages(running: &mut Running<'_>) -> io::Result<Receiver<Message>> {
    let (sender, receiver) = sync_channel(QUEUED_LINES);
    if let Some(stdout) = running.take_stdout() {
        let sender = sender.clone();
        thread::Builder::new()
            .name("cargo stdout".to_owned())
            .spawn(move || forward_messages(stdout, &sender))?;
    }
    if let Some(stderr) = running.take_stderr() {
        thread::Builder::new()
            .name("cargo stderr".to_owned())
            .spawn(move || forward_lines(stderr, &sender))?;
    }
    Ok(receiver)
}

fn forward_messages(stdout: impl Read, sender: &SyncSender<Message>) {
    for message in Message::parse_stream(BufReader::new(stdout)) {
        match message {
            Ok(message) => {
                if sender.send(message).is_err() {
                    return;
                }
            }
            // Cargo writes no lines that are not UTF-8; a later line may be readable again.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            Err(_) => return,
        }
    }
}

fn forward_lines(stderr: impl Read, sender: &SyncSender<Message>) {
    for line in BufReader::new(stderr).split(b'\n') {
        let Ok(line) = line else { return };
        let text = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
        if sender.send(Message::TextLine(text)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_flags_are_made_absolute() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("build.jobs=2"), "").unwrap();
        let flags = "--config a.toml --config=b/c.toml --config build.jobs=1 --config build.jobs=2 \
                     --target-dir out --target-dir=/out --features a.toml";
        let flags: Vec<_> = flags.split_whitespace().map(str::to_owned).collect();
        let absolute = with_absolute_paths(&flags, dir.path()).join(" ");
        let expected = "--config DIR/a.toml --config=DIR/b/c.toml --config build.jobs=1 \
                        --config DIR/build.jobs=2 --target-dir DIR/out --target-dir=/out --features a.toml";
        assert_eq!(absolute, expected.replace("DIR", dir.path().to_str().unwrap()));
    }
}
