//! The minimal hosts, with what their headers say to try: each runs as it is, a plugin is edited and
//! built beside it, and Enter reloads.

use std::path::{Path, PathBuf};

use insta::assert_snapshot;

use crate::support::{Process, Workspace};

/// An example that runs, over a directory with its plugins.
struct Example {
    workspace: Workspace,
    plugin_dir: PathBuf,
    process: Process,
}

impl Example {
    fn start(name: &str, plugins: &[&str]) -> Self {
        let workspace = Workspace::new();
        let plugin_dir = Path::new("target/hotswap/plugins").join(name);
        workspace.remove(&plugin_dir);
        plugins.iter().for_each(|plugin| workspace.build_into(plugin, &plugin_dir));
        let process = Process::start_reading(workspace.example(name));
        Self { workspace, plugin_dir, process }
    }

    /// Edits a plugin, and builds it by hand.
    fn edit(&self, plugin: &str, from: &str, to: &str) {
        self.workspace.edit(&format!("sample-plugins/{plugin}/src/lib.rs"), from, to);
        self.workspace.build_into(plugin, &self.plugin_dir);
    }

    /// Ends it with Ctrl-D; returns all that it said.
    fn end(self) -> String {
        let answer = self.process.finish();
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert_eq!(answer.stderr, "");
        answer.stdout
    }
}

#[test]
fn hello_calls_a_plugin_that_is_replaced() {
    let mut hello = Example::start("hello", &["world"]);
    hello.process.wait_for_text("Enter reloads");
    hello.edit("world", "Hello, {name}!", "Hello again, {name}!");
    hello.process.type_line("");
    hello.process.wait_for_text("Hello again");
    assert_snapshot!(hello.end(), @r"
    world: added
    Hello, Ada! Hello, Ada!
    Enter reloads, Ctrl-D ends
    world: ok
    Hello again, Ada! Hello again, Ada!
    Enter reloads, Ctrl-D ends
    ");
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
fn trine_rebinds_what_depends_on_the_changed_one() {
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
