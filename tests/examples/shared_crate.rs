//! A change in a crate that many plugins share: benchmark 7d.
//!
//! `cargo run --release -p hotswap-tests --example shared_crate [PLUGINS] [ROUNDS]`
//!
//! A crate on which all plugins depend is saved. For ours the clock stops when each plugin has answered
//! with the new code: noticed, debounced, built side by side, stored, installed, published as one
//! reload, called. Beside it `cargo build` builds the same shared libraries, with the same profile, and
//! does nothing else. Both have a warm target directory of their own, and take turns.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use hotswap_build::{
    BuildMessage, BuildOptions, Cancel, DEFAULT_PROFILE, PluginPackage, Quiet, SourceChange,
    Watcher, build_plugins,
};
use hotswap_engine::{Engine, args};

/// The first rounds are not counted: caches and incremental state are made there.
const WARM_UP: usize = 1;

/// How long the slowest change may take before the benchmark gives up.
const PATIENCE: Duration = Duration::from_secs(1800);

const PLUGIN: &str = "use hotswap_plugin::prelude::*;\n\n#[derive(Default)]\nstruct It;\n\n\
    #[plugin]\nimpl Plugin for It {}\n\n#[invoke]\nfn text(name: String) -> String {\n    \
    shared::text(&name)\n}\n";

fn main() {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse().expect("a number"));
    let (plugins, rounds) = (numbers.next().unwrap_or(60), numbers.next().unwrap_or(5));
    let (ours, cargos) =
        (Workspace::new("ours", plugins, "lib"), Workspace::new("cargo", plugins, "cdylib"));
    let ours = Ours::new(ours);
    cargos.build();
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..rounds + WARM_UP {
        let text = format!("answer {round}");
        let took = [ours.change(&text), cargos.change(&text)];
        if round >= WARM_UP {
            times.iter_mut().zip(took).for_each(|(times, took)| times.push(took));
        }
    }
    let [ours, cargo] = times.each_ref().map(|times| quantiles(times));
    println!("{plugins} plugins, {rounds} rounds\n");
    println!("| way | median | quartiles | to `cargo build` |\n|---|---|---|---|");
    for (name, it) in [("hotswap, until all serve", &ours), ("`cargo build` alone", &cargo)] {
        let ratio = it[1] / cargo[1];
        println!("| {name} | {:.2} s | {:.2} – {:.2} s | {ratio:.2} |", it[1], it[0], it[2]);
    }
}

/// A crate and plugins that depend on it.
struct Workspace {
    dir: PathBuf,
    plugins: usize,
}

impl Workspace {
    fn new(way: &str, plugins: usize, crate_type: &str) -> Self {
        let program = std::env::current_exe().expect("the path of this program");
        let parent = program.ancestors().nth(3).expect("a target directory");
        let workspace = Self { dir: parent.join("shared-crate").join(way), plugins };
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
        let lock = fs::read_to_string(repository.join("Cargo.lock")).expect("a lock file");
        workspace.write("Cargo.lock", &lock);
        let members: Vec<_> = (0..plugins).map(|number| format!("p{number}")).collect();
        let members = format!("[workspace]\nresolver = \"3\"\nmembers = {members:?}\n");
        workspace.write("Cargo.toml", &members);
        workspace.write("shared/Cargo.toml", &manifest("shared", ""));
        workspace.write("shared/src/lib.rs", &shared("the first text"));
        let api = repository.join("engine/plugin");
        let more = format!(
            "[lib]\ncrate-type = [\"{crate_type}\"]\n[dependencies]\n\
             hotswap-plugin.path = {api:?}\nshared.path = \"../shared\"\n"
        );
        for number in 0..plugins {
            let name = format!("p{number}");
            workspace.write(&format!("{name}/Cargo.toml"), &manifest(&name, &more));
            workspace.write(&format!("{name}/src/lib.rs"), PLUGIN);
        }
        workspace
    }

    fn write(&self, file: &str, content: &str) {
        let path = self.dir.join(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("make a directory");
        fs::write(path, content).expect("write a file");
    }

    /// Saves the crate as an editor does: as a new file, renamed into place.
    fn save(&self, text: &str) {
        self.write("shared/src/.lib.rs.new", &shared(text));
        let new = self.dir.join("shared/src/.lib.rs.new");
        fs::rename(new, self.dir.join("shared/src/lib.rs")).expect("rename a file");
    }

    fn change(&self, text: &str) -> Duration {
        let began = Instant::now();
        self.save(text);
        self.build();
        began.elapsed()
    }

    fn build(&self) {
        let mut command = Command::new("cargo");
        for variable in ["CARGO", "CARGO_TARGET_DIR", "LD_LIBRARY_PATH"] {
            command.env_remove(variable);
        }
        command.args(["build", "--workspace", "--target-dir", "target"]).args(DEFAULT_PROFILE);
        command.env("RUSTFLAGS", "--cfg hotswap_cdylib").current_dir(&self.dir);
        let output = command.stdin(Stdio::null()).output().expect("run cargo");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn manifest(name: &str, more: &str) -> String {
    format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n{more}")
}

fn shared(text: &str) -> String {
    format!("pub fn text(name: &str) -> String {{\n    format!(\"{text}, {{name}}\")\n}}\n")
}

/// Watched, built, installed, reloaded and called by the engine's own parts.
struct Ours {
    workspace: Workspace,
    answers: Receiver<Vec<String>>,
    _watcher: Watcher,
}

impl Ours {
    fn new(workspace: Workspace) -> Self {
        let open = |number| {
            let plugin = PluginPackage::open(&workspace.dir.join(format!("p{number}")));
            let target_dir = workspace.dir.join("target");
            PluginPackage { target_dir, ..plugin.expect("a plugin") }
        };
        let plugins: Vec<_> = (0..workspace.plugins).map(open).collect();
        let plugin_dir = workspace.dir.join("target/plugins");
        build(&plugins, &plugin_dir, None);
        let engine = Engine::builder(&plugin_dir).build().expect("an engine");
        engine.load(()).expect("load the plugins");
        let (answer, answers) = channel();
        let watched = plugins.clone();
        let on_change = move |change: SourceChange| {
            build(&plugins, &plugin_dir, Some(change.noticed));
            engine.reload().expect("reload");
            let call = |plugin: &PluginPackage| -> String {
                let loaded = engine.plugin(&plugin.name).expect("the plugin is there");
                loaded.invoke("text", args![plugin.name.clone()]).expect("an answer")
            };
            drop(answer.send(plugins.iter().map(call).collect()));
        };
        let watcher = Watcher::new(&watched, Quiet::default(), on_change).expect("watch");
        Self { workspace, answers, _watcher: watcher }
    }

    fn change(&self, text: &str) -> Duration {
        let began = Instant::now();
        self.workspace.save(text);
        let answers = self.answers.recv_timeout(PATIENCE).expect("answers");
        let took = began.elapsed();
        assert!(answers.iter().all(|answer| answer.starts_with(text)), "{answers:?}");
        took
    }
}

fn build(plugins: &[PluginPackage], plugin_dir: &Path, noticed: Option<Instant>) {
    let options = BuildOptions { noticed, ..BuildOptions::default() };
    let builds: Vec<_> = plugins.iter().map(|plugin| (plugin, &options)).collect();
    let mut said = String::new();
    let mut keep = |_, message| match message {
        BuildMessage::Diagnostic(diagnostic) => said += &diagnostic.rendered,
        BuildMessage::Output(line) => said += &format!("{line}\n"),
        _ => {}
    };
    let mut errors = Vec::new();
    build_plugins(&builds, &Cancel::default(), &mut keep, &mut |_, built| {
        let installed = built.and_then(|mut built| built.install(plugin_dir));
        errors.extend(installed.err());
    });
    assert!(errors.is_empty(), "{errors:?}\n{said}");
}

/// The quartiles and the median between them, in seconds.
fn quantiles(times: &[Duration]) -> [f64; 3] {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    [0.25, 0.5, 0.75].map(|share| at(share).as_secs_f64())
}
