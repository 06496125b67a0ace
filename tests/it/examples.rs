//! The minimal hosts, used as their headers say: each runs unchanged, a plugin is edited and built beside it, and
//! Enter reloads.

use std::{
    fs,
    io::{BufRead as _, BufReader, Lines, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use insta::assert_snapshot;
use rustix::process::Signal;

use crate::support::{PATIENCE, Process, Workspace, repository};

/// A running example, and the directory of its plugins.
struct Example {
    workspace: Workspace,
    name: &'static str,
    plugin_dir: PathBuf,
    process: Process,
}

impl Example {
    fn start(name: &'static str, plugins: &[&str]) -> Self {
        Self::start_with(name, plugins, &[])
    }

    fn start_with(name: &'static str, plugins: &[&str], args: &[&str]) -> Self {
        let workspace = Workspace::new();
        let plugin_dir = Path::new("target/hotswap/plugins").join(name);
        workspace.remove(&plugin_dir);
        workspace.remove(&Path::new("target/hotswap").join(name).with_extension("json"));
        plugins.iter().for_each(|plugin| workspace.build_into(plugin, &plugin_dir));
        let mut command = workspace.example(name);
        command.args(args);
        let process = Process::start_reading(command);
        Self { workspace, name, plugin_dir, process }
    }

    /// Edits a plugin, and builds it by hand.
    fn edit(&self, plugin: &str, from: &str, to: &str) {
        self.workspace.edit(&format!("sample-plugins/{plugin}/src/lib.rs"), from, to);
        self.workspace.build_into(plugin, &self.plugin_dir);
    }

    /// Ends it like [`end`](Self::end), and starts it again. Also returns the output so far.
    fn restart(self) -> (Self, String) {
        let command = self.workspace.example(self.name);
        let said = finish_successfully(self.process);
        (Self { process: Process::start_reading(command), ..self }, said)
    }

    /// Ends it with Ctrl-D, and returns its whole output.
    fn end(self) -> String {
        finish_successfully(self.process)
    }
}

fn finish_successfully(process: Process) -> String {
    let answer = process.finish();
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(answer.stderr, "");
    answer.stdout
}

#[test]
fn hello_calls_a_plugin_that_is_replaced_by_enter_and_by_a_signal() {
    let mut hello = Example::start("hello", &["world"]);
    hello.process.wait_for_text("Enter or SIGUSR1");
    hello.process.wait_for_text("the world turns");
    hello.edit("world", "Hello, {name}!", "Hello again, {name}!");
    hello.process.type_line("");
    hello.process.wait_for_text("Hello again");
    hello.process.wait_for_text("the world ends");
    hello.edit("world", "Hello again, {name}!", "Goodbye, {name}!");
    hello.process.signal(Signal::USR1);
    hello.process.wait_for_text("Goodbye");
    let said = hello.end();
    // The order of heartbeats and of the ends of versions is not fixed.
    let reported = said.lines().filter(|line| !line.contains("DEBUG") && !line.contains("INFO"));
    let reported: Vec<_> = reported.map(|line| line.split(" (kill").next().unwrap()).collect();
    assert_snapshot!(reported.join("\n"), @"
    callback: from generation 0 to 1, with 0 greetings
    world: added
    Hello, Ada! Hello, Ada!
    Enter or SIGUSR1
    callback: from generation 1 to 2, with 2 greetings
    world: ok; reloads so far: 1
    Hello again, Ada! Hello again, Ada!
    Enter or SIGUSR1
    callback: from generation 2 to 3, with 4 greetings
    world: ok; reloads so far: 2
    Goodbye, Ada! Goodbye, Ada!
    Enter or SIGUSR1
    ");
    assert_eq!(said.matches("the world ends").count(), 3, "{said}");
}

#[test]
fn extension_finds_what_the_new_version_registers() {
    let mut extension = Example::start("extension", &["cat"]);
    extension.process.wait_for_text("Enter reloads");
    extension.edit("cat", "meow", "purr");
    extension.process.type_line("");
    extension.process.wait_for_text("purr");
    assert_snapshot!(extension.end(), @r"
    cat: added
    generation 1 of the house
    tom of cat v1: meow meow meow
    Enter reloads, Ctrl-D ends
    cat: ok
    generation 2 of the house
    tom of cat v2: purr purr purr
    Enter reloads, Ctrl-D ends
    ");
}

#[test]
fn livex_does_queued_jobs_with_the_newest_code() {
    let mut livex = Example::start("livex", &["guardian"]);
    livex.process.type_line("");
    livex.process.type_line("");
    livex.process.type_line("LiveRollCall {\"name\": \"Ada\"}");
    livex.process.type_line("LiveWater {}");
    livex.process.wait_for_text("no job");
    livex.edit("guardian", "Bang!", "Boom!");
    livex.process.type_line("go");
    livex.process.wait_for_text("Present.");
    assert_snapshot!(livex.end(), @r"
    guardian: added
    jobs that wait: 0; Enter queues one, `go` reloads and does them
    jobs that wait: 1; Enter queues one, `go` reloads and does them
    jobs that wait: 2; Enter queues one, `go` reloads and does them
    jobs that wait: 3; Enter queues one, `go` reloads and does them
    no job: no live type named `LiveWater`; there is LiveFire, LiveRollCall
    jobs that wait: 3; Enter queues one, `go` reloads and does them
    guardian: ok
    Boom!
    Boom! Boom!
    Ada! Present.
    jobs that wait: 0; Enter queues one, `go` reloads and does them
    ");
}

#[test]
fn livex_has_its_jobs_again_after_a_restart() {
    let mut livex = Example::start("livex", &["guardian"]);
    livex.process.type_line("");
    livex.process.type_line("LiveRollCall {\"name\": \"Ada\"}");
    livex.process.wait_for_text("jobs that wait: 2");
    let (mut livex, _) = livex.restart();
    livex.process.wait_for_text("jobs that wait: 2");
    livex.edit("guardian", "Bang!", "Boom!");
    livex.process.type_line("go");
    livex.process.wait_for_text("Present.");
    let (mut livex, said) = livex.restart();
    assert_snapshot!(said, @r"
    guardian: added
    jobs that wait: 2; Enter queues one, `go` reloads and does them
    guardian: ok
    Boom!
    Ada! Present.
    jobs that wait: 0; Enter queues one, `go` reloads and does them
    ");
    livex.process.wait_for_text("jobs that wait: 0");
}

/// The package of the examples tests the linked plugins itself.
#[test]
fn slink_can_also_load_the_plugins_that_it_links() {
    let mut slink = Example::start_with("slink", &["dog", "guardian", "world"], &["loaded"]);
    slink.process.wait_for_text("Enter reloads");
    slink.edit("guardian", "Bang!", "Boom!");
    slink.process.type_line("");
    slink.process.wait_for_text("Boom!");
    assert_snapshot!(slink.end(), @r"
    dog: added, guardian: added, world: added; statically linked: false
    Hello, Ada! Hello, Ada!
    woof woof woof (3 in all)
    Bang! Bang! Bang!
    Enter reloads, Ctrl-D ends
    dog: unchanged, guardian: ok, world: unchanged
    Hello, Ada! Hello, Ada!
    woof woof woof (6 in all)
    Boom! Boom! Boom!
    Enter reloads, Ctrl-D ends
    ");
}

#[test]
fn trine_rebinds_the_dependents_of_a_changed_plugin() {
    let mut trine = Example::start("trine", &["alpha", "beta", "gamma"]);
    trine.process.wait_for_text("Enter reloads");
    trine.edit("alpha", "        1\n", "        10\n");
    trine.process.type_line("");
    trine.process.wait_for_text("alpha + beta = 30");
    assert_snapshot!(trine.end(), @r"
    alpha: added, beta: added, gamma: added
    alpha + beta = 3
    Enter reloads, Ctrl-D ends
    alpha: ok, beta: rebound, gamma: rebound
    alpha + beta = 30
    Enter reloads, Ctrl-D ends
    ");
}

/// The commands in the header of an example, in order.
fn commands(example: &Path) -> Vec<String> {
    let text = fs::read_to_string(example).expect("read an example");
    let command = |line: &str| {
        let command = line.strip_prefix("//! `")?.strip_suffix('`')?;
        Some(command.to_owned())
    };
    text.lines().filter_map(command).collect()
}

/// The commands run exactly as written, in the repository and its own target directory.
#[test]
fn the_commands_in_the_headers_run_exactly_as_written() {
    let has_gdb = Command::new("gdb").arg("--version").stdout(Stdio::null()).status().is_ok();
    let examples = fs::read_dir(repository().join("sample-host/examples")).expect("the examples");
    let mut examples: Vec<_> = examples.map(|it| it.expect("an example").path()).collect();
    examples.sort();
    for example in examples {
        let commands = commands(&example);
        assert!(commands.len() > 1, "{} names no commands", example.display());
        for command in commands {
            if command.starts_with("gdb") && !has_gdb {
                continue;
            }
            let mut shell = Command::new("sh");
            shell.args(["-e", "-c", &command]).current_dir(repository()).stdin(Stdio::null());
            for variable in ["CARGO_TARGET_DIR", "HOTSWAP_CONSOLE", "HOTSWAP_LIVE_PREFIX"] {
                shell.env_remove(variable);
            }
            let output = shell.output().expect("run a command");
            let said = String::from_utf8_lossy(&output.stdout);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "`{command}`:\n{said}{errors}");
            let expected = match command.split(' ').next() {
                Some("gdb") if errors.contains("Operation not permitted") => "",
                Some("gdb") => "hit Breakpoint 1",
                _ if command.contains("--example") => ": added",
                _ => "",
            };
            assert!(said.contains(expected), "`{command}`:\n{said}{errors}");
        }
    }
}

#[test]
fn the_rules_of_the_game_are_replaced_while_it_runs() {
    const RULES: &str = "sample-host/game/rules/src/lib.rs";
    let workspace = Workspace::new();
    let mut short = workspace.game();
    short.args(["--frames", "3"]);
    let answer = Process::start(short).finish();
    assert!(answer.stdout.lines().last().unwrap().starts_with("3 frames: "), "{answer:?}");

    let mut game = Process::start(workspace.game());
    game.wait_for_text("the rules serve");
    workspace.edit(RULES, "const GRAVITY: f32 = 1.5;", "const GRAVITY: f32 = 15.0;");
    game.wait_for_text("rules v2: ok");
    // A mistake in the rules is shown, and the game goes on.
    workspace.edit(RULES, "const GRAVITY: f32 = 15.0;", "const GRAVITY: f32 = true;");
    game.wait_for_text("mismatched types");
    workspace.edit(RULES, "const GRAVITY: f32 = true;", "const GRAVITY: f32 = -0.5;");
    game.wait_for_text("rules v3: ok");
}

/// A client of the chat, on loopback.
struct Talker {
    stream: TcpStream,
    lines: Lines<BufReader<TcpStream>>,
}

impl Talker {
    /// Connects, and says its name.
    fn join(address: &str, name: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut talker = Self { stream, lines };
        assert_eq!(talker.receive(), "* your name?");
        talker.send(name);
        talker
    }

    fn send(&mut self, line: &str) {
        writeln!(self.stream, "{line}").unwrap();
    }

    fn receive(&mut self) -> String {
        self.lines.next().expect("the connection is open").unwrap()
    }
}

#[test]
fn the_rooms_of_the_chat_are_replaced_while_clients_stay_connected() {
    const ROOMS: &str = "sample-host/chat/rooms/src/lib.rs";
    let workspace = Workspace::new();
    let mut command = workspace.command("hotswap");
    command.args(["run", "--json", "./sample-host/chat", "--plugins"]);
    command.arg(workspace.plugin_dir.path()).args(["--", "--port", "0"]);
    let mut run = Process::start(command);
    let address = run.wait_for_host("listening on ");
    run.wait_for_event("reload_finished", |_| true);
    let mut ada = Talker::join(&address, "Ada");
    assert_eq!(ada.receive(), "* Ada is here");
    let mut bob = Talker::join(&address, "Bob");
    assert_eq!((ada.receive(), bob.receive()), ("* Bob is here".into(), "* Bob is here".into()));
    ada.send("Good day.");
    assert_eq!((ada.receive(), bob.receive()), ("Ada: Good day.".into(), "Ada: Good day.".into()));

    workspace.edit(ROOMS, "{name}: {line}", "{name} says: {line}");
    run.wait_for_event("version_changed", |it| it["version"] == 1 && it["state"] == "freed");
    bob.send("Hello, Ada.");
    assert_eq!(ada.receive(), "Bob says: Hello, Ada.");
    assert_eq!(bob.receive(), "Bob says: Hello, Ada.");
    let mut eve = Talker::join(&address, "Eve");
    let heard = [eve.receive(), eve.receive(), eve.receive()];
    assert_eq!(heard, ["Ada: Good day.", "Bob says: Hello, Ada.", "* Eve is here"]);
    bob.send("/who");
    assert_eq!(
        (bob.receive(), bob.receive()),
        ("* Eve is here".into(), "* here: Ada, Bob, Eve".into())
    );
}
