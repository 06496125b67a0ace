//! The time of a change in a crate that many plugins share: benchmark 7d.
//!
//! `cargo run --release -p hotswap-tests --example shared_crate [PLUGINS] [ROUNDS] [manifest]`
//!
//! A crate on which all plugins depend is saved. With `manifest`, its manifest is saved with another version, so
//! that builds need cargo. For Hotswap, the clock stops when each plugin has answered with the new code. This
//! includes noticing and debouncing the save, building side by side, storing, installing, one reload, and the calls.
//! For comparison, `cargo build` builds the same shared libraries with the same profile, and does nothing else. Both
//! have a warm target directory of their own, and take turns.

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
use hotswap_engine::{Engine, args, protocol::quantile};

/// The number of first rounds that are not counted, because they fill caches and incremental state.
const WARM_UP: usize = 1;

/// The longest wait for a change; after it the benchmark fails.
const PATIENCE: Duration = Duration::from_secs(1800);

const PLUGIN: &str = "use hotswap_plugin::prelude::*;\n\n#[derive(Default)]\nstruct It;\n\n\
    #[plugin]\nimpl Plugin for It {}\n\n#[invoke]\nfn text(name: String) -> String {\n    \
    shared::text(&name)\n}\n";

fn main() {
    let mut arguments: Vec<_> = std::env::args().skip(1).collect();
    let of_manifest = arguments.pop_if(|argument| argument == "manifest").is_some();
    let mut numbers = arguments.iter().map(|number| number.parse().expect("a number"));
    let (plugins, rounds) = (numbers.next().unwrap_or(60), numbers.next().unwrap_or(5));
    let (ours, cargos) =
        (Workspace::new("ours", plugins, "lib"), Workspace::new("cargo", plugins, "cdylib"));
    let began = Instant::now();
    let ours = Ours::new(ours);
    let ours_began = began.elapsed();
    cargos.build();
    println!("the first build: {ours_began:.1?}, cargo's {:.1?}", began.elapsed() - ours_began);
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..rounds + WARM_UP {
        let change = match of_manifest {
            true => Shared { version: round + 1, ..Shared::default() },
            false => Shared { text: round + 1, ..Shared::default() },
        };
        let took = [ours.time_change(&change), cargos.time_change(&change)];
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
        workspace.write("shared/Cargo.toml", &Shared::default().manifest());
        workspace.write("shared/src/lib.rs", &Shared::default().source());
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

    /// Saves the crate as editors do: as new files that are renamed into place. Unchanged files are not written.
    fn save(&self, shared: &Shared) {
        for (file, content) in [("src/lib.rs", shared.source()), ("Cargo.toml", shared.manifest())]
        {
            let path = self.dir.join("shared").join(file);
            if fs::read_to_string(&path).expect("read a file") != content {
                self.write("shared/.new", &content);
                fs::rename(self.dir.join("shared/.new"), path).expect("rename a file");
            }
        }
    }

    fn time_change(&self, shared: &Shared) -> Duration {
        let began = Instant::now();
        self.save(shared);
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

/// The content of the crate that all plugins share.
#[derive(Clone, Copy, Default)]
struct Shared {
    text: usize,
    version: usize,
}

impl Shared {
    fn source(&self) -> String {
        let text = format!("answer {} of {{version}} to {{name}}", self.text);
        format!(
            "pub fn text(name: &str) -> String {{\n    let version = env!(\"CARGO_PKG_VERSION\");\n    \
             format!(\"{text}\")\n}}\n"
        )
    }

    fn manifest(&self) -> String {
        manifest("shared", "")
            .replace("edition", &format!("version = \"0.0.{}\"\nedition", self.version))
    }

    fn expected_answer(&self, name: &str) -> String {
        format!("answer {} of 0.0.{} to {name}", self.text, self.version)
    }
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

    fn time_change(&self, shared: &Shared) -> Duration {
        let began = Instant::now();
        self.workspace.save(shared);
        let expected: Vec<_> = (0..self.workspace.plugins)
            .map(|number| shared.expected_answer(&format!("p{number}")))
            .collect();
        // Cargo writes the lock file for the new version, which may cause one more build.
        while self.answers.recv_timeout(PATIENCE).expect("answers") != expected {}
        began.elapsed()
    }
}

fn build(plugins: &[PluginPackage], plugin_dir: &Path, noticed: Option<Instant>) {
    let install_to = Some(plugin_dir.to_owned());
    let options = BuildOptions { noticed, install_to, ..BuildOptions::default() };
    let builds: Vec<_> = plugins.iter().map(|plugin| (plugin, &options)).collect();
    let mut said = String::new();
    let mut keep = |_, message| match message {
        BuildMessage::Diagnostic(diagnostic) => said += &diagnostic.rendered,
        BuildMessage::Output(line) => said += &format!("{line}\n"),
        _ => {}
    };
    let mut errors = Vec::new();
    build_plugins(&builds, &Cancel::default(), &mut keep, &mut |_, built| {
        errors.extend(built.err());
    });
    assert!(errors.is_empty(), "{errors:?}\n{said}");
}

/// The quartiles and the median between them, in seconds.
fn quantiles(times: &[Duration]) -> [f64; 3] {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = |per_mille| quantile(&times, per_mille).expect("a round was timed");
    [250, 500, 750].map(|per_mille| at(per_mille).as_secs_f64())
}
