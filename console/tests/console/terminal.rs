//! The real program in a pseudo-terminal, which it must restore in every case.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hotswap_console::screen::terminal::{Screen, restore_on_panic};
use portable_pty::{Child, CommandBuilder, ExitStatus, MasterPty, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The longest wait; after it the test fails.
const PATIENCE: Duration = Duration::from_secs(600);

/// A host that writes one line and then waits.
const WAITING: &str = "trap 'exit 0' TERM\necho the host waits\nwhile :; do sleep 0.05; done";

const PROGRAM: &str = env!("CARGO_BIN_EXE_hotswap-console");

/// A program in a terminal of 80×24.
struct Terminal {
    _directory: TempDir,
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    keyboard: Box<dyn Write + Send>,
    output: Receiver<Vec<u8>>,
    screen: vt100::Parser,
    /// Everything that was written to the terminal.
    written: Vec<u8>,
}

impl Terminal {
    /// A console with a host that waits.
    fn start() -> Self {
        Self::with_host(WAITING)
    }

    /// A console whose host is a shell script.
    fn with_host(script: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let host = directory.path().join("waiting-host");
        std::fs::write(&host, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&host, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = CommandBuilder::new(PROGRAM);
        command.arg(&host);
        Self::run(command, directory)
    }

    fn run(mut command: CommandBuilder, directory: TempDir) -> Self {
        let size = PtySize { rows: 24, cols: 80, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        for variable in ["XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME"] {
            command.env(variable, directory.path());
        }
        command.env("TERM", "xterm-256color");
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().unwrap();
        let (chunks, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if chunks.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let keyboard = pair.master.take_writer().unwrap();
        let screen = vt100::Parser::new(24, 80, 0);
        let (master, written) = (pair.master, Vec::new());
        Self { _directory: directory, child, master, keyboard, output, screen, written }
    }

    /// Reads the console's output until the screen is as wanted.
    fn wait_until(&mut self, what: &str, wanted: impl Fn(&vt100::Screen) -> bool) {
        while !wanted(self.screen.screen()) {
            let chunk = self.output.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                panic!("{what} did not appear on the screen:\n{}", self.screen.screen().contents())
            });
            self.screen.process(&chunk);
            self.written.extend(chunk);
        }
    }

    fn wait_for_text(&mut self, text: &str) {
        self.wait_until(text, |screen| screen.contents().contains(text));
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.process_id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        kill_process(pid.unwrap(), signal).unwrap();
    }

    fn assert_ends_and_gives_the_terminal_back(self) {
        let (status, _) = self.end();
        assert!(status.success(), "{status:?}");
    }

    /// Waits for the end. Returns the exit status and the last screen; the terminal must be restored.
    fn end(mut self) -> (ExitStatus, String) {
        self.wait_until("the ordinary screen", |screen| !screen.alternate_screen());
        let status = self.child.wait().unwrap();
        while let Ok(chunk) = self.output.recv_timeout(PATIENCE) {
            self.screen.process(&chunk);
        }
        let screen = self.screen.screen();
        assert!(!screen.hide_cursor());
        assert!(!screen.bracketed_paste());
        assert!(!screen.alternate_screen());
        (status, screen.contents())
    }
}

#[test]
fn quitting_restores_the_terminal() {
    let mut terminal = Terminal::start();
    terminal.wait_for_text("the host waits");
    assert!(terminal.screen.screen().alternate_screen());
    assert!(terminal.screen.screen().bracketed_paste());
    terminal.press("q");
    terminal.wait_for_text("Quit?");
    terminal.press("y");
    terminal.assert_ends_and_gives_the_terminal_back();
}

#[test]
fn each_signal_that_ends_the_console_restores_the_terminal() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut terminal = Terminal::start();
        terminal.wait_for_text("the host waits");
        terminal.signal(signal);
        terminal.assert_ends_and_gives_the_terminal_back();
    }
}

#[test]
fn a_late_answer_of_the_terminal_is_not_taken_for_keys() {
    let mut terminal = Terminal::start();
    terminal.wait_for_text("the host waits");
    // As a key, its `:` would open the palette, and the rest would be typed there.
    terminal.press("\x1b]11;rgb:ffff/ffff/ffff\x1b\\q");
    terminal.wait_until("what is asked, or typed", |screen| {
        ["Quit?", "ffff"].iter().any(|text| screen.contents().contains(text))
    });
    assert!(!terminal.screen.screen().contents().contains("ffff"));
    terminal.press("y");
    terminal.assert_ends_and_gives_the_terminal_back();
}

#[test]
fn a_host_cannot_write_over_the_screen() {
    let writing =
        format!("(echo painted over > /dev/tty) 2>/dev/null; echo it has tried\n{WAITING}");
    let mut terminal = Terminal::with_host(&writing);
    terminal.wait_for_text("it has tried");
    assert!(!String::from_utf8_lossy(&terminal.written).contains("painted over"));
    terminal.press("q");
    terminal.wait_for_text("Quit?");
    terminal.press("y");
    terminal.assert_ends_and_gives_the_terminal_back();
}

#[test]
fn output_of_another_program_on_the_screen_is_redrawn_and_the_program_named() {
    let directory = tempfile::tempdir().unwrap();
    let (host, go) = (directory.path().join("waiting-host"), directory.path().join("go"));
    std::fs::write(&host, format!("#!/bin/sh\n{WAITING}\n")).unwrap();
    std::fs::set_permissions(&host, std::fs::Permissions::from_mode(0o755)).unwrap();
    // The program runs in the background of the shell that starts the console, and ends with the terminal.
    let other = "(while [ ! -e \"$1\" ]; do sleep 0.05; done; echo painted over; \
                 while :; do sleep 0.05; done) & exec \"$2\" \"$3\"";
    let mut command = CommandBuilder::new("/bin/sh");
    command.args(["-c", other, "sh"]);
    command.args([&go, Path::new(PROGRAM), &host]);
    let mut terminal = Terminal::run(command, directory);
    terminal.wait_for_text("the host waits");
    std::fs::write(go, "").unwrap();
    terminal.wait_for_text("may have written over the screen");
    terminal.wait_until("all drawn anew", |screen| {
        let screen = screen.contents();
        screen.contains("1 Plugins") && !screen.contains("painted over")
    });
    assert!(String::from_utf8_lossy(&terminal.written).contains("painted over"));
    terminal.wait_for_text("sh (pid ");
    terminal.press("q");
    terminal.wait_for_text("Quit?");
    terminal.press("y");
    terminal.assert_ends_and_gives_the_terminal_back();
}

#[test]
fn the_screen_is_redrawn_after_each_resize() {
    let mut terminal = Terminal::start();
    terminal.wait_for_text("the host waits");
    for (cols, rows, text) in
        [(30, 8, "waiting-host"), (60, 15, "1 Plugins"), (120, 36, "2 [Functions]")]
    {
        terminal.screen.screen_mut().set_size(rows, cols);
        let size = PtySize { rows, cols, pixel_width: 0, pixel_height: 0 };
        terminal.master.resize(size).unwrap();
        terminal.wait_for_text(text);
    }
    terminal.press("q");
    terminal.wait_for_text("Quit?");
    terminal.press("y");
    terminal.assert_ends_and_gives_the_terminal_back();
}

#[test]
fn suspending_restores_the_terminal_until_the_console_continues() {
    let mut terminal = Terminal::start();
    terminal.wait_for_text("the host waits");
    // The signal does not stop a session leader, so the console continues by itself.
    terminal.press("\u{1a}");
    terminal.wait_until("the ordinary screen", |screen| !screen.alternate_screen());
    terminal.wait_until("the console again", |screen| screen.alternate_screen());
    terminal.press("?");
    terminal.wait_for_text("Keys");
    terminal.signal(Signal::TERM);
    terminal.assert_ends_and_gives_the_terminal_back();
}

/// Not a test by itself: the next test runs it in a terminal.
#[test]
#[ignore = "it takes the terminal, and panics"]
fn a_panic_on_the_screen() {
    restore_on_panic();
    let mut screen = Screen::take().unwrap();
    screen.draw(|frame| frame.render_widget("all is well", frame.area())).unwrap();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    panic!("what a pity");
}

#[test]
fn a_panic_restores_the_terminal_and_is_shown_on_the_ordinary_screen() {
    let mut command = CommandBuilder::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "terminal::a_panic_on_the_screen"]);
    // A backtrace would scroll the expected text off the screen.
    command.env("RUST_BACKTRACE", "0");
    let mut terminal = Terminal::run(command, tempfile::tempdir().unwrap());
    terminal.wait_until("the console's screen", |screen| screen.alternate_screen());
    terminal.wait_for_text("all is well");
    // In raw mode, only this key ends a line.
    terminal.press("\n");
    let (status, screen) = terminal.end();
    assert!(!status.success());
    assert!(screen.contains("what a pity"), "{screen}");
}

#[test]
fn a_crash_of_the_host_shows_its_card_and_leaves_the_console_usable() {
    let mut terminal = Terminal::with_host("echo nearly there\nkill -SEGV $$");
    terminal.wait_for_text("The host ended");
    terminal.wait_for_text("SIGSEGV (signal 11)");
    terminal.wait_for_text("nearly there");
    let card = |screen: &vt100::Screen| {
        let contents = screen.contents();
        contents.lines().find(|line| line.contains("ended with")).map(str::to_owned)
    };
    let first = card(terminal.screen.screen());
    terminal.press("H");
    // The cards differ in their process ids.
    terminal.wait_until("the next card", |screen| {
        let next = card(screen);
        next.is_some() && next != first
    });
    terminal.press("\u{1b}");
    terminal.wait_until("the card's end", |screen| !screen.contents().contains("The host ended"));
    terminal.press("3z");
    // The log has the lines of both processes of the host.
    terminal.wait_until("both starts", |screen| {
        screen.contents().matches("host ended: SIGSEGV").count() == 2
    });
    terminal.press("q");
    terminal.assert_ends_and_gives_the_terminal_back();
}

#[test]
fn keys_work_while_the_host_floods_its_output() {
    let flood = "trap 'exit 0' TERM\nyes a line of many | head -n 50000\necho the flood is over\n\
                 while :; do sleep 0.05; done";
    let mut terminal = Terminal::with_host(flood);
    terminal.wait_for_text("a line of many");
    terminal.press("?");
    terminal.wait_for_text("Keys");
    terminal.press("\u{1b}");
    terminal.wait_until("the help's end", |screen| !screen.contents().contains("┌ Keys"));
    terminal.press("3z");
    terminal.wait_for_text("the flood is over");
    terminal.press("/");
    terminal.press("flood");
    terminal.press("\r");
    terminal.wait_until("nothing but what matches", |screen| {
        let contents = screen.contents();
        contents.contains("the flood is over") && !contents.contains("a line of many")
    });
    terminal.press("q");
    terminal.wait_for_text("Quit?");
    terminal.press("y");
    terminal.assert_ends_and_gives_the_terminal_back();
}
