//! The console in a terminal, with a real host.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    sync::mpsc::{Receiver, channel},
    thread,
    time::Instant,
};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use rustix::process::{Pid, Signal};
use vt100::{Parser, Screen};

use crate::support::{
    PATIENCE, Place, PluginDir, Process, Project, Workspace, end, mapped_files, program,
};

const WORLD: &str = "sample-plugins/world/src/lib.rs";

/// A program in a terminal of its own, which ends when this is dropped.
struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    keyboard: Box<dyn Write + Send>,
    output: Receiver<Vec<u8>>,
    screen: Parser,
}

impl Terminal {
    fn start(command: &Command, (cols, rows): (u16, u16)) -> Self {
        let size = PtySize { rows, cols, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).expect("a terminal");
        let child = pair.slave.spawn_command(in_terminal(command)).expect("start the console");
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().expect("the screen");
        let (chunks, output) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if chunks.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let keyboard = pair.master.take_writer().expect("the keyboard");
        let screen = Parser::new(rows, cols, 0);
        Self { child, master: pair.master, keyboard, output, screen }
    }

    /// Reads the output until `find` finds something on the screen.
    fn wait_for<T>(&mut self, what: &str, find: impl Fn(&Screen) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = find(self.screen.screen()) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(chunk) = self.output.recv_timeout(left) else {
                panic!("{what} did not appear on the screen:\n{}", self.screen.screen().contents());
            };
            self.screen.process(&chunk);
        }
    }

    fn wait_for_text(&mut self, text: &str) {
        self.wait_for(text, |screen| screen.contents().contains(text).then_some(()));
    }

    /// Waits for a line with these words in this order.
    fn wait_for_line(&mut self, words: &[&str]) {
        self.wait_for(&words.join(" … "), |screen| {
            let has_all = |line: &str| {
                let rest = words.iter().try_fold(line, |rest, word| Some(rest.split_once(word)?.1));
                rest.is_some()
            };
            screen.contents().lines().any(has_all).then_some(())
        });
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("press keys");
        self.keyboard.flush().expect("press keys");
    }

    /// Leaves the form, and waits until it is gone: Esc followed at once by another key would be a different key.
    fn close_form(&mut self) {
        self.press("\u{1b}");
        self.wait_for("the form's end", |screen| {
            (!screen.contents().contains("── world.greet")).then_some(())
        });
    }

    fn resize(&mut self, cols: u16, rows: u16) {
        self.screen.screen_mut().set_size(rows, cols);
        let size = PtySize { rows, cols, pixel_width: 0, pixel_height: 0 };
        self.master.resize(size).expect("resize the terminal");
    }

    /// Quits with this key, and expects the terminal to be restored.
    fn quit(mut self, key: &str) {
        self.press(key);
        self.wait_for_text("Quit?");
        self.leave("y");
    }

    /// Expects that this key ends the console, and that the terminal is restored.
    fn leave(mut self, key: &str) {
        self.press(key);
        self.wait_for("the end", |screen| (!screen.alternate_screen()).then_some(()));
        while let Ok(chunk) = self.output.recv_timeout(PATIENCE) {
            self.screen.process(&chunk);
        }
        let status = self.child.wait().expect("the exit status of the console");
        assert!(status.success(), "{status:?}");
        let screen = self.screen.screen();
        assert!(!screen.hide_cursor() && !screen.bracketed_paste() && !screen.alternate_screen());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let (Ok(None), Some(pid)) = (self.child.try_wait(), self.child.process_id()) {
            end(Pid::from_raw(pid.cast_signed()).expect("a process id"));
            let _ = self.child.wait();
        }
    }
}

/// The same command for a terminal.
fn in_terminal(command: &Command) -> CommandBuilder {
    let mut builder = CommandBuilder::new(command.get_program());
    builder.args(command.get_args());
    builder.cwd(command.get_current_dir().expect("the working directory of the command"));
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => builder.env(name, value),
            None => builder.env_remove(name),
        }
    }
    builder.env("TERM", "xterm-256color");
    builder
}

/// The number after a word on the screen.
fn number_after(screen: &Screen, word: &str) -> Option<u32> {
    let contents = screen.contents();
    contents.split_once(word)?.1.split(' ').next()?.parse().ok()
}

#[test]
fn from_the_start_through_a_call_and_a_reload_to_the_old_version_freed() {
    let workspace = Workspace::new();
    let console = workspace.command_with_host("hotswap-console", &[], &["--port", "0"]);
    let mut terminal = Terminal::start(&console, (120, 36));
    terminal.wait_for_text("sample-host ●");
    terminal.wait_for_line(&["● world", "v1"]);
    terminal.wait_for_text("watch on");
    let host = terminal.wait_for("the host's pid", |screen| number_after(screen, "sample-host ● "));
    let staging = workspace.place().json(&["status"])["host"]["staging_dir"].clone();
    let staging = Path::new(staging.as_str().expect("a path")).to_owned();
    let worlds = || {
        let files = mapped_files(Path::new(&format!("/proc/{host}/maps")), &staging);
        files.into_iter().filter(|file| file.starts_with("world-")).collect::<Vec<_>>()
    };

    // The plugins have the focus at first; `world` is the last of them.
    terminal.press("Gi");
    terminal.wait_for_text("── world.greet");
    terminal.press("Ada\t2");
    terminal.wait_for_text("$ hotswap invoke world greet Ada 2");
    terminal.press("\r");
    terminal.wait_for_text("Hello, Ada! Hello, Ada!");
    terminal.wait_for_line(&["greet", "world v1"]);
    terminal.close_form();

    terminal.press("1w");
    terminal.wait_for_text("watch on, asks if breaking");
    terminal.press("w");
    terminal.wait_for_text("watch build only");
    workspace.edit(WORLD, "Hello, {name}!", "Hello again, {name}!");
    terminal.wait_for_text("world built (");
    terminal.wait_for_text("p preview, r reload");
    assert!(worlds()[0].starts_with("world-v1-"), "{:?}", worlds());
    terminal.press("p");
    terminal.wait_for_text("world v1 → build ");
    terminal.press("r");
    terminal.wait_for_text("reloaded: world v1 → v2");
    terminal.wait_for_line(&["● world", "v2"]);
    terminal.wait_for_line(&["└", "v1", "freed"]);
    assert!(worlds().len() == 1 && worlds()[0].starts_with("world-v2-"), "{:?}", worlds());

    terminal.press("i");
    terminal.wait_for_text("── world.greet");
    terminal.press("Ada\t1\r");
    terminal.wait_for_text("Hello again, Ada!");
    terminal.close_form();
    terminal.quit("q");
    assert!(!Path::new(&format!("/proc/{host}")).exists());
    assert!(!staging.exists());
}

#[test]
fn a_mistake_is_corrected_in_the_editor_and_reloaded() {
    let workspace = Workspace::new();
    let mut console = workspace.command_with_host("hotswap-console", &[], &["--port", "0"]);
    let editors = tempfile::tempdir().expect("make a directory");
    let editor = editors.path().join("vim");
    let script = "#!/bin/sh\necho editing \"$@\"\nread answer\n\
                  sed -i 's/Hullo, {nam}!/Hello again, {name}!/' \"$2\"\n";
    fs::write(&editor, script).expect("write an editor");
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).expect("write an editor");
    console.env_remove("VISUAL").env("EDITOR", &editor);
    let mut terminal = Terminal::start(&console, (120, 36));
    terminal.wait_for_line(&["● world", "v1"]);

    workspace.edit(WORLD, "Hello, {name}!", "Hullo, {nam}!");
    terminal.wait_for_text("build world failed");
    terminal.press("2");
    terminal.wait_for_text("o edit the source");
    terminal.press("o");
    let row = 1 + workspace.read(WORLD).lines().position(|it| it.contains("{nam}")).expect("it");
    terminal.wait_for_line(&[&format!("editing +{row} "), "world/src/lib.rs"]);
    let screen = terminal.screen.screen();
    assert!(!screen.alternate_screen() && !screen.bracketed_paste());

    // Resizes and events during the edit are shown afterwards. Keys that the editor gets have no effect in the
    // console.
    terminal.resize(110, 34);
    terminal.press("q\n");
    terminal.wait_for("the console again", |screen| screen.alternate_screen().then_some(()));
    terminal.wait_for_line(&["● world", "v2"]);
    assert!(terminal.screen.screen().bracketed_paste());
    assert!(!terminal.screen.screen().contents().contains("Quit?"));
    terminal.quit("q");
}

#[test]
fn a_host_that_is_restarted_has_the_builds_that_served_last() {
    let workspace = Workspace::new();
    let console = workspace.command_with_host("hotswap-console", &[], &["--port", "0"]);
    let mut terminal = Terminal::start(&console, (160, 40));
    terminal.wait_for_line(&["● world", "v1"]);
    // The log is filtered, since other lines could scroll the expected one out of sight.
    terminal.press("3/was refused|not a shared library|reload failed\r");
    let restart = |terminal: &mut Terminal| {
        let before = terminal.wait_for("its pid", |screen| number_after(screen, "sample-host ● "));
        terminal.press("Hy");
        terminal.wait_for("another pid", |screen| {
            number_after(screen, "sample-host ● ").filter(|pid| *pid != before)
        });
    };

    // A reload refuses the build that fails to load, but the file stays in the plugin directory.
    workspace.edit(WORLD, "tracing::info!(\"the world is ready\")", "panic!(\"no luck\")");
    terminal.wait_for_text("reload failed in on_init");
    restart(&mut terminal);
    terminal.wait_for_line(&["the artifact of world was refused", "is there instead"]);
    // The whole load failed, and all plugins are loaded again.
    terminal.wait_for_line(&["● alpha", "v2"]);

    fs::write(workspace.plugin_dir.path().join("world.so"), "no artifact")
        .expect("overwrite the artifact");
    restart(&mut terminal);
    terminal.wait_for_line(&["not a shared library for this machine"]);
    // The failing sources are built again, so the builds that served last are loaded once more.
    terminal.wait_for_line(&["● alpha", "v2"]);
    terminal.quit("q");
}

/// A constructor that does nothing in the process that tries the artifact, and ends the host.
const DEADLY: &str = r#"
extern "C" fn construct() {
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads > 1 {
        std::process::abort();
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCT: extern "C" fn() = construct;

"#;

#[test]
fn a_build_that_ended_the_host_as_it_was_loaded_is_not_loaded_again() {
    let workspace = Workspace::new();
    let console = workspace.command_with_host("hotswap-console", &[], &["--port", "0"]);
    let mut terminal = Terminal::start(&console, (160, 40));
    terminal.wait_for_line(&["● world", "v1"]);
    terminal.press("3/was refused\r");
    let before = terminal.wait_for("its pid", |screen| number_after(screen, "sample-host ● "));
    let marked = "/// Says hello";
    workspace.edit(WORLD, marked, &format!("{DEADLY}{marked}"));
    terminal.wait_for_text("The host ended");
    terminal.wait_for_line(&["open of world v2", "a start leaves this build out"]);
    terminal.press("H");
    terminal.wait_for("another pid", |screen| {
        number_after(screen, "sample-host ● ").filter(|pid| *pid != before)
    });
    terminal.wait_for_line(&["the artifact of world was refused", "is there instead"]);
    terminal.wait_for_line(&["● world", "v1"]);
    // A corrected source makes another build.
    workspace.edit(WORLD, DEADLY, "");
    terminal.quit("q");
}

#[test]
fn a_tiny_terminal_shows_the_state_and_loses_nothing() {
    let (place, plugins) = (Place::new(), PluginDir::of(&["echo"]));
    let mut console = place.command("hotswap-console");
    console.arg(program("sample-host")).arg("--plugins").arg(plugins.path());
    let mut terminal = Terminal::start(&console, (30, 8));
    terminal.wait_for_text("sample-host ● gen 1");
    plugins.install("echo", 2);
    terminal.press("r");
    terminal.wait_for_text("sample-host ● gen 2");
    terminal.press("??zz]][[\t\t\tGgg3/x\rfWl1i");
    terminal.resize(1, 1);
    terminal.resize(120, 36);
    terminal.wait_for_line(&["● echo", "v2"]);
    terminal.wait_for_line(&["└", "v1", "freed"]);
    terminal.wait_for_text("── echo.");
    // The form has the focus, so the one line shows the form.
    terminal.resize(30, 8);
    terminal.wait_for_text("add a:");
    terminal.press("\u{1b}");
    terminal.wait_for("the status line alone", |screen| {
        let contents = screen.contents();
        (contents.starts_with("sample-host ●") && contents.lines().count() == 1).then_some(())
    });
    terminal.quit("\u{3}");
}

/// The sample host, started by another program than a console.
fn host(place: &Place, plugins: &PluginDir) -> Process {
    let mut command = place.command("sample-host");
    command.args(["--port", "0"]).arg("--plugins").arg(plugins.path());
    command.env("HOTSWAP_CONSOLE", "1");
    let mut host = Process::start(command);
    host.wait_for_text("listening on");
    host
}

#[test]
fn two_consoles_share_a_host_and_find_it_again_when_it_comes_back() {
    let (place, plugins) = (Place::new(), PluginDir::of(&["echo"]));
    let first_host = host(&place, &plugins);
    let attach = |args: &[&str]| {
        let mut console = place.command("hotswap-console");
        console.arg("attach").args(args);
        Terminal::start(&console, (120, 36))
    };
    // Without a choice, the console attaches to the only host.
    let mut one = attach(&[]);
    let mut other = attach(&[&first_host.pid().to_string()]);
    for console in [&mut one, &mut other] {
        console.wait_for_line(&["● echo", "v1"]);
    }
    plugins.install("echo", 2);
    one.press("p");
    one.wait_for_text("echo v1 → build");
    one.press("r");
    for console in [&mut one, &mut other] {
        console.wait_for_text("reloaded: echo v1 → v2");
        console.wait_for_line(&["└", "v1", "freed"]);
    }
    one.leave("q");
    assert_eq!(
        place.json(&["status"])["generation"],
        2,
        "the host still runs after its console has ended"
    );

    first_host.signal(Signal::KILL);
    other.wait_for_text("The host ended");
    other.wait_for_line(&["Calls in flight"]);
    other.wait_for_line(&["  no call; "]);
    let second_host = host(&place, &plugins);
    other.wait_for_text(&format!("came back, pid {}", second_host.pid()));
    other.wait_for_line(&["● echo", "v1"]);
    other.leave("q");
}

#[test]
fn one_of_several_hosts_can_be_picked() {
    let (place, plugins) = (Place::new(), PluginDir::of(&["echo"]));
    let hosts = [host(&place, &plugins), host(&place, &plugins)];
    let mut attach = place.command("hotswap-console");
    attach.arg("attach");
    let mut terminal = Terminal::start(&attach, (80, 24));
    terminal.wait_for_text("Attach to");
    for host in &hosts {
        terminal.wait_for_text(&format!("pid {}", host.pid()));
    }
    terminal.press("j\r");
    let second = hosts.iter().map(Process::pid).max().expect("two hosts");
    terminal.wait_for_text(&format!("● {second}"));
    terminal.leave("q");
}

#[test]
fn every_save_is_served_by_all_hosts_whichever_console_built_it() {
    let project = Project::new(&["one"], &["one"]);
    let console = || {
        let mut console = project.command("hotswap-console");
        console.args(["./app", "--offline"]);
        Terminal::start(&console, (120, 36))
    };
    // Both consoles notice each save, and one of them builds it first. The third one never reads the sources.
    let mut consoles = [console(), console()];
    let mut blind = project.run(&["--poll", "3600"]);
    let opened = blind.wait_for_event("opened", |_| true);
    let plugin_dir = opened["plugin_dir"].as_str().expect("a path").to_owned();
    let answers = blind.wait_for_event("connected", |_| true);
    let mut hosts = vec![answers["host"]["pid"].as_u64().expect("a pid").to_string()];
    for console in &mut consoles {
        console.wait_for_line(&["● one", "v1", "✓ same"]);
        let pid = console.wait_for("its pid", |screen| number_after(screen, "app ● "));
        hosts.push(pid.to_string());
    }
    for host in &hosts {
        project.place().json(&["pin", "add", "--host", host, "one", "number"]);
    }
    let mut number = "    1\n".to_owned();
    let mut save = |project: &Project, next: u32| {
        let before = std::mem::replace(&mut number, format!("    {next}\n"));
        project.edit("one/src/lib.rs", &before, &number);
    };
    let mut expect_served = |consoles: &mut [Terminal], number: u32| {
        for console in consoles {
            console.wait_for_line(&["number()", "→", &format!(" {number}")]);
        }
        blind.wait_for_event("pin_called", |it| it["pin"]["now"]["value"] == number);
    };
    save(&project, 1_234);
    expect_served(&mut consoles, 1_234);
    for console in &mut consoles {
        // A console that did not build it also knows the time of the save.
        console.wait_for_line(&["app ●", "│ live ", " s after save"]);
    }
    // A build in a shell may come first.
    save(&project, 2_345);
    let mut build = project.command("hotswap");
    build.args(["build", "--offline", "one", &plugin_dir]);
    let built = Process::start(build).finish();
    assert_eq!(built.code, Some(0), "{built:?}");
    expect_served(&mut consoles, 2_345);
    // Later saves work in the same way.
    save(&project, 3_456);
    expect_served(&mut consoles, 3_456);
    for host in &hosts {
        let answer = project.place().json(&["invoke", "--host", host, "one", "number"]);
        assert_eq!(answer["value"], 3_456, "{answer}");
    }
    consoles.into_iter().for_each(|console| console.quit("q"));
}

#[test]
fn a_key_switches_between_whole_builds_and_patches() {
    let project = Project::new(&["one"], &["one"]);
    let mut console = project.command("hotswap-console");
    console.args(["./app", "--offline"]).env_remove("HOTSWAP_NO_PATCH");
    let mut terminal = Terminal::start(&console, (120, 36));
    terminal.wait_for_line(&["● one", "v1", "✓ same"]);
    let save = |from: &str, to: &str| project.edit("one/src/lib.rs", from, to);
    save("    1\n", "    10\n");
    terminal.wait_for_text("one v1+1 (patched: number)");
    terminal.wait_for_line(&["● one", "v1+1", "✓ same"]);
    terminal.press("B");
    terminal.wait_for_text("watch on, no patches");
    save("    10\n", "    11\n");
    terminal.wait_for_line(&["reload", "v1+1 → v2"]);
    terminal.wait_for_line(&["● one", "v2", "✓ same"]);
    terminal.press("B");
    terminal.wait_for_text("patches on");
    save("    11\n", "    12\n");
    terminal.wait_for_text("one v2+1 (patched: number)");
    terminal.quit("q");
}
