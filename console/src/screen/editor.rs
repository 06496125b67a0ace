//! Programs that get the terminal for a while: a person's editor, which opens a place in a file, and the console of
//! another host.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use crate::screen::model::Place;

/// The maximum number of bytes that are shown of a program's error output.
const MAX_ERROR_BYTES: u64 = 4096;
/// The exit codes of a shell for a program that it cannot run, and for one that it does not find.
const NOT_RUN: [i32; 2] = [126, 127];

/// An editor, or another console, that was started.
pub struct Editing {
    editor: String,
    child: Child,
}

/// The configured editor; without one, that of `$VISUAL`, then that of `$EDITOR`. An error says what to do.
pub fn chosen(configured: Option<&str>) -> Result<String, String> {
    let in_environment = || {
        let mut editors = ["VISUAL", "EDITOR"].into_iter().filter_map(|it| std::env::var(it).ok());
        editors.find(|editor| !editor.trim().is_empty())
    };
    let editor = configured.map(str::to_owned).or_else(in_environment);
    editor.ok_or_else(|| "no editor is set; start the console with EDITOR=nano, say".into())
}

/// Starts this editor in the terminal.
pub fn start(editor: String, place: &Place) -> Result<Editing, String> {
    // As in git, the variable may contain arguments and quoted words.
    let (command, arguments) = command_line(&editor, place);
    let child = Command::new("/bin/sh")
        .args(["-c", &command, &editor])
        .args(arguments)
        .spawn()
        .map_err(|error| format!("cannot start `{editor}`: {error}"))?;
    Ok(Editing { editor, child })
}

/// Starts the console again with these arguments. Its error output is collected here.
pub fn start_console(arguments: &[String]) -> Result<Editing, String> {
    let name = "hotswap-console".to_owned();
    let wrong = |error: io::Error| format!("cannot start `{name}`: {error}");
    let program = std::env::current_exe().map_err(wrong)?;
    let mut command = Command::new(program);
    command.args(arguments).stderr(Stdio::piped());
    let child = command.spawn().map_err(wrong)?;
    Ok(Editing { editor: name, child })
}

impl Editing {
    /// Waits until the program ends; an error describes what went wrong.
    pub async fn end(&mut self) -> Result<(), String> {
        let mut output = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            // Output that cannot be read is ignored; the exit code counts anyway.
            let _ = stderr.take(MAX_ERROR_BYTES).read_to_string(&mut output).await;
        }
        let status = self.child.wait().await;
        let judged = self.judge(status);
        match output.trim() {
            "" => judged,
            output => judged.map_err(|_| output.trim_start_matches("hotswap: ").to_owned()),
        }
    }

    /// Asks the program to end, because the console ends.
    pub fn stop(&self) {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = pid {
            // An error means that it has already ended.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    fn judge(&self, status: io::Result<ExitStatus>) -> Result<(), String> {
        let editor = &self.editor;
        match status.map(|status| (status.success(), status.code())) {
            Ok((true, _)) => Ok(()),
            Ok((_, Some(code))) if NOT_RUN.contains(&code) => {
                Err(format!("`{editor}` cannot be run; is EDITOR right?"))
            }
            Ok((_, Some(code))) => Err(format!("`{editor}` ended with exit code {code}")),
            Ok((_, None)) => Err(format!("`{editor}` was ended by a signal")),
            Err(error) => Err(format!("`{editor}`: {error}")),
        }
    }
}

/// The command for the shell, and its arguments. If the command line names their places, the arguments go there,
/// otherwise to the end.
fn command_line(editor: &str, place: &Place) -> (String, Vec<OsString>) {
    if !editor.contains("{file}") {
        return (format!("{editor} \"$@\""), arguments(editor, place));
    }
    let places = [("{file}", "\"$1\""), ("{line}", "\"$2\""), ("{column}", "\"$3\"")];
    let command = places.iter().fold(editor.to_owned(), |text, (from, to)| text.replace(from, to));
    let number = |it: Option<u32>| it.unwrap_or(1).to_string().into();
    (command, vec![place.file.clone().into(), number(place.row), number(place.column)])
}

/// The arguments for an editor whose command line does not name their places.
fn arguments(editor: &str, place: &Place) -> Vec<OsString> {
    let file = place.file.clone().into_os_string();
    let Some(row) = place.row else { return vec![file] };
    let program = editor.split_whitespace().next().map(Path::new);
    let name = program.and_then(|path| path.file_stem()?.to_str()).unwrap_or_default();
    let in_file = || {
        let mut text = file.clone();
        text.push(format!(":{row}:{}", place.column.unwrap_or(1)));
        text
    };
    match name {
        "vi" | "vim" | "nvim" | "gvim" | "view" | "nano" | "pico" | "emacs" | "emacsclient"
        | "helix" | "hx" | "kak" | "micro" | "joe" | "jed" | "mg" | "ne" => {
            vec![format!("+{row}").into(), file]
        }
        "code" | "code-insiders" | "codium" | "vscodium" | "cursor" | "windsurf" => {
            vec!["-g".into(), in_file()]
        }
        "zed" | "zeditor" | "subl" | "sublime_text" => vec![in_file()],
        // An unknown editor could take a line number for the name of another file.
        _ => vec![file],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_editor_gets_the_line_in_its_own_form() {
        let place = Place { file: "src/lib.rs".into(), row: Some(12), column: Some(5) };
        for (editor, expected) in [
            ("vim", &["+12", "src/lib.rs"][..]),
            ("/usr/bin/nvim -p", &["+12", "src/lib.rs"]),
            ("emacsclient -t", &["+12", "src/lib.rs"]),
            ("hx", &["+12", "src/lib.rs"]),
            ("code --wait", &["-g", "src/lib.rs:12:5"]),
            ("zed", &["src/lib.rs:12:5"]),
            ("ed", &["src/lib.rs"]),
        ] {
            assert_eq!(arguments(editor, &place), expected, "{editor}");
        }
        let nowhere = Place { row: None, column: None, ..place };
        assert_eq!(arguments("vim", &nowhere), ["src/lib.rs"]);
    }

    #[test]
    fn placeholders_in_an_editor_command_are_replaced() {
        let place = Place { file: "a file.rs".into(), row: Some(12), column: None };
        let run = |editor| {
            let (command, arguments) = command_line(editor, &place);
            let mut shell = std::process::Command::new("/bin/sh");
            let output = shell.args(["-c", &command, editor]).args(arguments).output();
            String::from_utf8(output.expect("run a shell").stdout).expect("text")
        };
        assert_eq!(run("printf '<%s>' -l{line} {file}"), "<-l12><a file.rs>");
        assert_eq!(run("printf '<%s>' {file}:{line}:{column} -w"), "<a file.rs:12:1><-w>");
        assert_eq!(run("printf '<%s>' -w"), "<-w><a file.rs>");
    }
}
