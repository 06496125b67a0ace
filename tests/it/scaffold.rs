//! The output of `hotswap new` and `hotswap init` compiles, passes its tests, runs and reloads.

use std::{fs, process::Command};

use insta::assert_snapshot;
use serde_json::json;

use crate::support::{Process, Project, cargo, repository, succeed};

impl Project {
    /// The command `hotswap` in a directory of the project, with a cargo that uses no network.
    fn hotswap_in(&self, dir: &str, args: &[&str]) -> Command {
        let mut command = self.command("hotswap");
        command.current_dir(self.root().join(dir)).env("CARGO_NET_OFFLINE", "true").args(args);
        command
    }

    /// Runs the project's tests, which must pass without warnings.
    fn run_tests_in(&self, dir: &str) {
        let mut command = cargo();
        command.current_dir(self.root().join(dir)).args(["test", "--workspace", "--offline"]);
        command.env("CARGO_TARGET_DIR", self.target_dir());
        let output = command.output().expect("run cargo");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("warning:"), "{said}");
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.root().join(file)).expect("read a file")
    }
}

/// The argument that names the repository.
fn checkout() -> String {
    repository().display().to_string()
}

#[test]
fn a_new_project_passes_its_test_and_serves_what_is_edited() {
    let project = Project::empty();
    let answer =
        Process::start(project.hotswap_in(".", &["new", "demo", "--path", &checkout()])).finish();
    assert_eq!(answer.stdout.lines().last(), Some("next: cd demo && hotswap-console ./host"));
    project.copy_lock_file("demo");
    project.run_tests_in("demo");

    // Slow builds end before the test waits for events.
    let plugins = project.root().join("artifacts").display().to_string();
    succeed(project.hotswap_in("demo", &["build", "plugins/greeter", &plugins]));
    let mut run = Process::start(project.hotswap_in("demo", &["run", "--json", "./host"]));
    run.wait_for_text("Hello, Ada!");
    project.edit("demo/plugins/greeter/src/lib.rs", "Hello, {name}", "Hello again, {name}");
    run.wait_for_text("Hello again, Ada!");

    // A new plugin is loaded while the program runs.
    let second = project.hotswap_in("demo", &["new", "--plugin", "tower-defence", "--json"]);
    let answer = Process::start(second).finish().json();
    assert_eq!(
        (&answer["new"], &answer["changed"], &answer["written"]),
        (
            &json!([
                "plugins/tower-defence/Cargo.toml",
                "plugins/tower-defence/src/lib.rs",
                "plugins/tower-defence/tests/serves.rs"
            ]),
            &json!(["host/Cargo.toml"]),
            &json!(true)
        )
    );
    run.wait_for_event("version_changed", |it| {
        it["plugin"] == "tower-defence" && it["state"] == "active"
    });
    let greeting = project.place().json(&["invoke", "tower-defence", "greet", "Bob"]);
    assert_eq!(greeting["value"], "Hello, Bob!");
    // Like the first plugin, it uses the shared types and has tests.
    assert_snapshot!(project.read("demo/plugins/tower-defence/Cargo.toml"), @r#"
    [package]
    name = "tower-defence"
    version.workspace = true
    edition.workspace = true

    [dependencies]
    demo-api.workspace = true
    hotswap-plugin.workspace = true
    serde = { workspace = true, features = ["derive"] }

    [dev-dependencies]
    hotswap-engine.workspace = true
    "#);
    assert!(project.read("demo/plugins/tower-defence/src/lib.rs").contains("use demo_api as _;"));
    project.run_tests_in("demo");
}

#[test]
fn nothing_is_overwritten() {
    let project = Project::empty();
    project.write("demo/host/Cargo.toml", "mine");
    let again = project.hotswap_in(".", &["new", "demo", "--path", &checkout(), "--json"]);
    let answer = Process::start(again).finish();
    assert_eq!(answer.code, Some(1));
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    let root = fs::canonicalize(project.root()).unwrap();
    let message = message.replace(&root.display().to_string(), "ROOT");
    assert_snapshot!(message, @"these files exist already, and nothing is overwritten: ROOT/demo/host/Cargo.toml; remove them, or choose another name");
    assert_eq!(project.read("demo/host/Cargo.toml"), "mine");
    assert!(!project.root().join("demo/Cargo.toml").exists());

    for (name, why) in
        [("-x", "unexpected argument"), ("1st", "begins with a letter"), ("fn", "reserved")]
    {
        let answer = Process::start(project.hotswap_in(".", &["new", name])).finish();
        assert!(answer.stderr.contains(why), "{answer:?}");
    }
    let answer = Process::start(project.hotswap_in(".", &["new", "x", "--path", "demo"])).finish();
    assert_snapshot!(answer.stderr, @"hotswap: --path demo: not a checkout of Hotswap: it has no engine/plugin/Cargo.toml");
}

#[test]
fn a_command_for_the_wrong_place_or_with_a_taken_name_says_what_to_do() {
    let project = Project::empty();
    succeed(project.hotswap_in(".", &["new", "demo", "--path", &checkout()]));
    let refused = |dir: &str, args: &[&str]| {
        let answer = Process::start(project.hotswap_in(dir, args)).finish();
        assert_eq!(answer.code, Some(1), "{answer:?}");
        let root = fs::canonicalize(project.root()).unwrap();
        answer.stderr.replace(&root.display().to_string(), "ROOT")
    };
    assert_snapshot!(refused("demo", &["new", "--plugin", "Greeter"]), @"hotswap: the workspace has a package `greeter` already, in ROOT/demo/plugins/greeter/Cargo.toml: give the plugin another name with `--plugin`");
    assert_snapshot!(refused("demo", &["new", "--plugin", "serde"]), @"hotswap: a package cannot be named `serde`: the name is reserved");
    assert_snapshot!(refused("demo", &["init"]), @"hotswap: here is a host already, `demo`: `hotswap new --plugin NAME` adds a plugin");
    assert_snapshot!(refused("demo", &["init", "nowhere"]), @"hotswap: there is no directory nowhere; `hotswap new DIR` makes a project of its own");

    project
        .write("demo/plugins/tool/Cargo.toml", "[package]\nname = \"tool\"\nedition = \"2024\"\n");
    project.write("demo/plugins/tool/src/main.rs", "fn main() {}\n");
    assert_snapshot!(refused("demo", &["init"]), @"hotswap: ROOT/demo is not a package with a program: give the directory of one: ROOT/demo/plugins/tool (`tool`)");
}

/// An editor for Windows ends lines otherwise.
#[test]
fn a_manifest_keeps_its_line_ends() {
    let project = Project::empty();
    let manifest = "[package]\r\nname = \"app\"\r\nversion = \"1.0.0\"\r\n";
    project.write("app/Cargo.toml", manifest);
    project.write("app/src/main.rs", "fn main() {}\n");
    succeed(project.hotswap_in("app", &["init", "--path", &checkout()]));
    let changed = project.read("app/Cargo.toml");
    assert!(changed.starts_with(manifest) && changed.contains("plugins = ["), "{changed}");
    assert_eq!(changed.matches('\n').count(), changed.matches("\r\n").count(), "{changed:?}");
}

#[test]
fn a_workspace_keeps_its_own_style() {
    let project = Project::empty();
    project.write(
        "Cargo.toml",
        "# Ours.\n[workspace]\nresolver = \"3\"\nmembers = [\n    \"crates/app\", # the program\n]\n\n\
         [workspace.package]\nedition = \"2024\"\nlicense = \"MIT\"\n\n[workspace.lints.rust]\n\
         unsafe_code = \"warn\"\n\n[workspace.dependencies]\nlog = \"0.4\"\n",
    );
    project.write(
        "crates/app/Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"1.0.0\"\nedition.workspace = true\n\n[dependencies]\n",
    );
    project.write("crates/app/src/main.rs", "fn main() {}\n");
    let init = ["init", "crates/app", "--plugin", "rules", "--path", &checkout()];

    let answer = Process::start(project.hotswap_in(".", &[&init[..], &["--dry-run"]].concat()));
    let root = fs::canonicalize(project.root()).unwrap();
    let shown = answer.finish().stdout.replace(&root.display().to_string(), "ROOT");
    assert_snapshot!(shown.replace(&checkout(), "CHECKOUT"), @r#"
    new      ROOT/rules/Cargo.toml
    new      ROOT/rules/src/lib.rs
    new      ROOT/rules/tests/serves.rs
    changed  ROOT/Cargo.toml
    @@ -4,4 +4,5 @@
     members = [
         "crates/app", # the program
    +    "rules",
     ]
     
    @@ -15,2 +16,6 @@
     [workspace.dependencies]
     log = "0.4"
    +hotswap-plugin = { path = "CHECKOUT/engine/plugin" }
    +hotswap-engine = { path = "CHECKOUT/engine/core" }
    +serde = { version = "1", features = ["derive"] }
    +tracing-subscriber = "0.3"
    changed  ROOT/crates/app/Cargo.toml
    @@ -4,3 +4,8 @@
     edition.workspace = true
     
    +[package.metadata.hotswap]
    +plugins = ["rules"]
    +
     [dependencies]
    +hotswap-engine.workspace = true
    +tracing-subscriber.workspace = true
    nothing was written
    "#);
    assert!(!project.root().join("rules").exists());

    // A checkout in the project is written relative to the project, however it was given.
    project.write("vendor/hotswap/engine/plugin/Cargo.toml", "");
    let beside = root.join("vendor/hotswap").display().to_string();
    let init_beside = ["init", "crates/app", "--plugin", "rules", "--path", &beside, "--dry-run"];
    let shown = Process::start(project.hotswap_in(".", &init_beside)).finish().stdout;
    assert!(
        shown.contains("\n+hotswap-engine = { path = \"vendor/hotswap/engine/core\" }"),
        "{shown}"
    );

    let written = Process::start(project.hotswap_in(".", &[&init[..], &["--json"]].concat()));
    let written = written.finish().json();
    let (_, main) = written["advice"].as_str().unwrap().split_once("\n\n").unwrap();
    project.write("crates/app/src/main.rs", main);
    project.run_tests_in(".");
    let host_ends = |said: &str| {
        let mut run = Process::start(project.hotswap_in(".", &["run", "--json", "./crates/app"]));
        run.wait_for_text(said);
        let ended = run.wait_for_event("host_exited", |_| true);
        assert_eq!(ended["code"], 0, "{ended}");
    };
    host_ends("Hello, Ada!");
    // A plugin that fails at the start does not end the program.
    let failing = "impl Plugin for Rules {\n    fn on_init(&self, _: &Vault) -> Result<()> {\n        \
                   Err(Error::msg(\"no rules\"))\n    }\n}";
    project.edit("rules/src/lib.rs", "impl Plugin for Rules {}", failing);
    host_ends("no rules");
    let out = project.root().join("artifacts").display().to_string();
    succeed(project.hotswap_in(".", &["build", "rules", &out]));
    assert_snapshot!(project.read("rules/Cargo.toml"), @r#"
    [package]
    name = "rules"
    version = "0.1.0"
    edition.workspace = true
    license.workspace = true

    [lints]
    workspace = true

    [dependencies]
    hotswap-plugin.workspace = true
    serde = { workspace = true, features = ["derive"] }

    [dev-dependencies]
    hotswap-engine.workspace = true
    "#);
    // The second plugin uses the same sources of crates as the first one.
    succeed(project.hotswap_in(".", &["new", "--plugin", "more"]));
    assert!(project.read("crates/app/Cargo.toml").contains("plugins = [\"rules\", \"more\"]"));
}

#[test]
fn what_is_to_be_done_names_the_program_that_there_is() {
    let project = Project::empty();
    project.write("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"app\"]\n");
    project.write(
        "app/Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"1.0.0\"\nedition = \"2024\"\n",
    );
    project.write("app/src/bin/first.rs", "fn main() {}\n");
    project.write("app/src/bin/second.rs", "fn main() {}\n");
    let init = ["init", "app", "--path", &checkout()];
    let written = Process::start(project.hotswap_in(".", &init)).finish().stdout;
    assert!(written.contains("\nadd these lines to app/src/bin/first.rs"), "{written}");
    assert!(written.ends_with("\nnext: hotswap-console ./app --bin first\n"), "{written}");
    let nowhere = tempfile::tempdir().unwrap();
    let reported = Process::start(project.hotswap_in(nowhere.path().to_str().unwrap(), &["init"]))
        .finish()
        .stderr;
    let reported =
        reported.replace(nowhere.path().canonicalize().unwrap().to_str().unwrap(), "NOWHERE");
    assert_snapshot!(reported, @"hotswap: .: could not find `Cargo.toml` in `NOWHERE` or any parent directory; `hotswap new DIR` makes a project of its own");
}

#[test]
fn the_macros_find_the_crate_under_another_name() {
    let project = Project::empty();
    let (plugin, name) = (repository().join("engine/plugin"), "facade");
    project.write(
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"facade\", \"behind\", \"renamed\"]\n",
    );
    project.write(
        "facade/Cargo.toml",
        &format!(
            "[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2024\"\n\n[dependencies]\n\
             hotswap-plugin = {{ path = {plugin:?} }}\n"
        ),
    );
    project.write("facade/src/lib.rs", "pub use hotswap_plugin;\n");
    let manifest = |name: &str, dependency: &str| {
        format!(
            "[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2024\"\n\n[dependencies]\n\
             serde = \"1\"\n{dependency}\n"
        )
    };
    project.write("behind/Cargo.toml", &manifest("behind", "facade = { path = \"../facade\" }"));
    project.write("behind/src/lib.rs", &plugin_with_all_macros("facade::hotswap_plugin"));
    let renamed = format!("hp = {{ package = \"hotswap-plugin\", path = {plugin:?} }}");
    project.write("renamed/Cargo.toml", &manifest("renamed", &renamed));
    project.write("renamed/src/lib.rs", &plugin_with_all_macros("hp"));

    let out = project.root().join("artifacts");
    for name in ["behind", "renamed"] {
        succeed(project.hotswap_in(".", &["build", name, &out.display().to_string()]));
        let artifact = out.join(format!("{name}.so")).display().to_string();
        let inspected = project.place().json(&["inspect", "--open", &artifact]);
        let functions = inspected["contents"]["functions"].as_array().unwrap();
        let names: Vec<_> = functions.iter().map(|it| it["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["live_fire", "move_to"]);
        assert_eq!(inspected["contents"]["live_types"][0]["name"], "LiveFire");
    }
}

/// A plugin that uses each macro, with `hotswap_plugin` reached by a path.
fn plugin_with_all_macros(path: &str) -> String {
    format!(
        r#"use {path}::prelude::*;

#[derive(Default)]
struct It;

#[plugin(crate = {path})]
impl Plugin for It {{}}

#[derive(Shared, serde::Serialize, serde::Deserialize, JsonSchema)]
#[shared(crate = {path})]
pub struct Point {{
    x: u32,
}}

#[interface(crate = "{path}")]
pub trait Shelf {{
    fn get(&self, key: &str) -> Option<Point>;
}}

#[derive(Imports)]
#[import(crate = {path})]
pub struct Parts {{
    #[import("shelf")]
    pub shelf: Option<Leased<dyn Shelf>>,
}}

#[invoke(crate = {path})]
fn move_to(point: Point) -> u32 {{
    point.x
}}

#[live(prefix = "live_", crate = {path})]
mod jobs {{
    use {path}::prelude::*;

    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct LiveFire {{
        rounds: u32,
    }}

    pub fn live_fire(fire: LiveFire) -> u32 {{
        fire.rounds
    }}
}}
"#
    )
}
