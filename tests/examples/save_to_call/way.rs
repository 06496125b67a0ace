//! The compared ways from a saved source to an answer of the new code.

use std::{
    cell::RefCell,
    env::consts::DLL_SUFFIX,
    fs,
    io::{BufRead, BufReader},
    mem,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

use hotswap_build::{
    BuildMessage, BuildOptions, Built, Cancel, DEFAULT_PROFILE, EarlyPatch, OnPatch, PluginPackage,
    Quiet, SourceChange, Watcher, build_plugins,
};
use hotswap_engine::{
    Engine, args,
    protocol::{PatchParams, PhaseTiming},
};

use crate::fixture::{Copy, Fixture, with_text, workspaces_dir, write};

/// The longest wait for a change; after it the benchmark fails.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// A way from a saved source to an answer of the new code.
pub trait Way {
    fn name(&self) -> &'static str;
    /// Makes the next source.
    fn prepare(&mut self, text: &str);
    /// Saves it.
    fn save(&mut self, now: Instant);
    /// Waits for an answer with the text.
    fn wait_for(&mut self, text: &str);
    /// Waits until the work that continues after the answer is done.
    fn wait_for_rest(&mut self) {}
    /// The time of each phase in each round, without the first `skipped` rounds.
    fn phases(&self, _skipped: usize) -> Vec<(String, Vec<Duration>)> {
        Vec::new()
    }
}

/// A source that is saved as editors do: as a new file that is renamed into place.
pub struct Source {
    path: PathBuf,
    pub next: String,
}

impl Source {
    pub fn new(path: PathBuf) -> Self {
        Self { path, next: String::new() }
    }

    pub fn save(&self) {
        let temporary = self.path.with_file_name(".lib.rs.new");
        fs::write(&temporary, &self.next).expect("write a source");
        fs::rename(temporary, &self.path).expect("rename a source");
    }
}

type Phases = Vec<(String, Duration)>;

fn add(phases: &mut Phases, more: impl Iterator<Item = PhaseTiming>) {
    for phase in more {
        let elapsed = Duration::from_micros(phase.elapsed_us);
        match phases.iter_mut().find(|(name, _)| *name == phase.phase.as_str()) {
            Some((_, sum)) => *sum += elapsed,
            None => phases.push((phase.phase.to_string(), elapsed)),
        }
    }
}

/// How the new code of a changed plugin is loaded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reloading {
    /// The serving version is patched.
    Patch,
    /// A new version is loaded.
    Whole,
    /// A new version that cargo built is loaded.
    NoReplay,
}

/// Watched, built, installed, reloaded and called by the engine's own parts.
pub struct Ours {
    copy: Copy,
    source: Source,
    reloading: Reloading,
    saved: Arc<Mutex<Instant>>,
    answers: Receiver<(String, Phases)>,
    rest: Receiver<()>,
    rounds: Vec<Phases>,
    _watcher: Watcher,
}

impl Ours {
    pub fn new(copy: Copy, reloading: Reloading) -> Self {
        let plugin = PluginPackage::open(&copy.dir).expect("a plugin");
        let plugin = PluginPackage { target_dir: copy.dir.join("target"), ..plugin };
        let plugin_dir = copy.dir.join("target/plugins");
        let no_replay = reloading == Reloading::NoReplay;
        // As in a session, a build is reported as soon as its artifact is installed.
        let build = move |noticed, patch_base, on_early_patch, on_built: &mut dyn FnMut(Built)| {
            let options = BuildOptions {
                noticed,
                no_replay,
                patch_base,
                on_early_patch,
                keep_compiler: true,
                install_to: Some(plugin_dir.clone()),
                ..BuildOptions::default()
            };
            let said = RefCell::new(String::new());
            let mut keep = |_, message| match message {
                BuildMessage::Diagnostic(diagnostic) => *said.borrow_mut() += &diagnostic.rendered,
                BuildMessage::Output(line) => *said.borrow_mut() += &format!("{line}\n"),
                _ => {}
            };
            build_plugins(
                &[(&plugin, &options)],
                &Cancel::default(),
                &mut keep,
                &mut |_, built| {
                    on_built(built.unwrap_or_else(|error| panic!("{error}\n{}", said.borrow())));
                },
            );
        };
        let mut base = None;
        build(None, None, None, &mut |built| base = Some(built.build_id));
        let engine = Engine::builder(copy.dir.join("target/plugins")).build().expect("an engine");
        engine.load(()).expect("load the plugin");

        let plugin = PluginPackage::open(&copy.dir).expect("a plugin");
        let saved = Arc::new(Mutex::new(Instant::now()));
        let (answer, answers) = channel();
        let (done, rest) = channel();
        let name = copy.name;
        let (early_dir, engine_after) = (copy.dir.join("target"), engine.clone());
        let call = move |engine: &Engine, phases: &mut Phases| -> String {
            let began = Instant::now();
            let plugin = engine.plugin(name).expect("the plugin is there");
            let text = plugin.invoke("greet", args!["Ada", 1]).expect("an answer");
            phases.push(("first call".to_owned(), began.elapsed()));
            text
        };
        let save = Arc::clone(&saved);
        let on_change = move |change: SourceChange| {
            let saved = *save.lock().expect("the time of the save");
            let mut phases =
                vec![("save".to_owned(), change.noticed.saturating_duration_since(saved))];
            if reloading != Reloading::Patch {
                build(Some(change.noticed), None, None, &mut |built| {
                    let report = engine.reload().expect("reload");
                    add(&mut phases, built.phases.into_iter().chain(report.phases));
                    let text = call(&engine, &mut phases);
                    drop(answer.send((text, mem::take(&mut phases))));
                });
                _ = done.send(());
                return;
            }
            let (engine, answer, dir) = (engine.clone(), answer.clone(), early_dir.clone());
            let on_early_patch = OnPatch(Arc::new(move |early: EarlyPatch| {
                let mut phases = phases.clone();
                let path = dir.join(".early.patch");
                let bytes = early.patch.to_bytes().expect("a patch");
                fs::write(&path, bytes).expect("write a patch");
                let (plugin, build_phases) = (name.to_owned(), early.phases);
                let params = PatchParams { plugin, patch: path, build_phases };
                let report = engine.patch(params).expect("patch");
                add(&mut phases, report.build_phases.into_iter().chain(report.phases));
                let text = call(&engine, &mut phases);
                drop(answer.send((text, phases)));
            }));
            build(Some(change.noticed), base, Some(on_early_patch), &mut drop);
            engine_after.reload().expect("reload");
            _ = done.send(());
        };
        let watcher = Watcher::new(&[plugin], Quiet::default(), on_change).expect("watch");
        let source = Source::new(copy.path());
        let rounds = Vec::new();
        Self { copy, source, reloading, saved, answers, rest, rounds, _watcher: watcher }
    }
}

impl Way for Ours {
    fn name(&self) -> &'static str {
        match self.reloading {
            Reloading::Patch => "hotswap, patched",
            Reloading::Whole => "hotswap, a new version",
            Reloading::NoReplay => "hotswap, replay off",
        }
    }

    fn prepare(&mut self, text: &str) {
        self.source.next = self.copy.source(text);
    }

    fn save(&mut self, now: Instant) {
        *self.saved.lock().expect("the time of the save") = now;
        self.source.save();
    }

    fn wait_for(&mut self, text: &str) {
        let (answer, phases) = self.answers.recv_timeout(PATIENCE).expect("an answer");
        assert!(answer.contains(text), "{answer:?} instead of {text:?}");
        self.rounds.push(phases);
    }

    fn wait_for_rest(&mut self) {
        self.rest.recv_timeout(PATIENCE).expect("the end of the build");
    }

    fn phases(&self, skipped: usize) -> Vec<(String, Vec<Duration>)> {
        let mut phases: Vec<(String, Vec<Duration>)> = Vec::new();
        for (name, time) in self.rounds.iter().skip(skipped).flatten() {
            match phases.iter_mut().find(|(other, _)| other == name) {
                Some((_, times)) => times.push(*time),
                None => phases.push((name.clone(), vec![*time])),
            }
        }
        phases
    }
}

/// Only the same command of cargo, without watching, loading and calling.
pub struct Cargo {
    copy: Copy,
    source: Source,
    /// The settings of cargo that differ from builds of plugins.
    settings: &'static [&'static str],
}

impl Cargo {
    pub fn new(copy: Copy, settings: &'static [&'static str]) -> Self {
        let source = Source::new(copy.path());
        let way = Self { copy, source, settings };
        way.build();
        way
    }

    /// The size of the built library.
    pub fn size_bytes(&self) -> u64 {
        let name = format!("target/alone/hotswap/lib{}{DLL_SUFFIX}", self.copy.name);
        fs::metadata(self.copy.dir.join(name)).expect("a library").len()
    }

    fn build(&self) {
        let mut command = cargo();
        command.args(["rustc", "--package", self.copy.name, "--lib", "--crate-type", "cdylib"]);
        command.args(["--message-format", "json-diagnostic-rendered-ansi"]);
        command.args(DEFAULT_PROFILE);
        for setting in self.settings {
            command.arg("--config").arg(setting);
        }
        command.args(["--target-dir", "target/alone", "--", "--cfg", "hotswap_cdylib"]);
        succeed(command.current_dir(&self.copy.dir));
    }
}

impl Way for Cargo {
    fn name(&self) -> &'static str {
        "`cargo rustc` alone"
    }

    fn prepare(&mut self, text: &str) {
        self.source.next = self.copy.source(text);
    }

    fn save(&mut self, _now: Instant) {
        self.source.save();
    }

    fn wait_for(&mut self, _text: &str) {
        self.build();
    }
}

/// hot-lib-reloader as its README sets it up, with its own watcher of the library. In its README,
/// `cargo watch` starts the build; here the build starts at the save, as if watching took no time.
pub struct HotLibReloader {
    dir: PathBuf,
    library: String,
    source: Source,
    program: Child,
    answers: Receiver<String>,
}

impl HotLibReloader {
    pub fn new(fixture: &Fixture) -> Self {
        let dir = workspaces_dir().join(format!("{}-hot-lib-reloader", fixture.name));
        write(
            &dir.join("Cargo.toml"),
            "[workspace]\nresolver = \"3\"\nmembers = [\"lib\"]\n\
             [package]\nname = \"bin\"\nedition = \"2024\"\n\
             [dependencies]\nhot-lib-reloader = \"=0.8.2\"\nlib = { path = \"lib\" }\n\
             [profile.dev]\ndebug = \"line-tables-only\"\n",
        );
        write(
            &dir.join("src/main.rs"),
            "#[hot_lib_reloader::hot_module(dylib = \"lib\")]\n\
             mod hot_lib {\n    hot_functions_from_file!(\"lib/src/lib.rs\");\n}\n\
             fn main() {\n\
                 let mut last = String::new();\n\
                 loop {\n\
                     let text = hot_lib::greet(\"Ada\".to_owned(), 1);\n\
                     if text != last {\n        println!(\"{text}\");\n        last = text;\n    }\n\
                     std::thread::sleep(std::time::Duration::from_millis(1));\n\
                 }\n\
             }\n",
        );
        let manifest = format!(
            "[package]\nname = \"lib\"\nedition = \"2024\"\n\
             [lib]\ncrate-type = [\"rlib\", \"dylib\"]\n[dependencies]\n{}",
            fixture.dependencies
        );
        let lib = dir.join("lib");
        write(&lib.join("Cargo.toml"), &manifest);
        fixture.write_packages(&lib);
        let path = lib.join("src/lib.rs");
        write(&path, &with_text(&fixture.library, "the first text"));
        succeed(cargo().arg("build").current_dir(&dir));
        // On Unix cargo becomes the program that it runs.
        let mut program = cargo()
            .args(["run", "--quiet"])
            .current_dir(&dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("run hot-lib-reloader");
        let lines = BufReader::new(program.stdout.take().expect("its output")).lines();
        let (answer, answers) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                drop(answer.send(line));
            }
        });
        let source = Source::new(path);
        let mut way = Self { dir, library: fixture.library.clone(), source, program, answers };
        way.wait_for_answer("the first text");
        way
    }

    fn wait_for_answer(&mut self, text: &str) {
        while !self.answers.recv_timeout(PATIENCE).expect("an answer").contains(text) {}
    }
}

impl Way for HotLibReloader {
    fn name(&self) -> &'static str {
        "hot-lib-reloader 0.8.2"
    }

    fn prepare(&mut self, text: &str) {
        self.source.next = with_text(&self.library, text);
    }

    fn save(&mut self, _now: Instant) {
        self.source.save();
    }

    fn wait_for(&mut self, text: &str) {
        succeed(cargo().args(["build", "-p", "lib"]).current_dir(&self.dir));
        self.wait_for_answer(text);
    }
}

impl Drop for HotLibReloader {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn cargo() -> Command {
    program("cargo")
}

/// A program with the environment of a user's shell, however this program was started.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    for variable in ["CARGO", "CARGO_TARGET_DIR", "LD_LIBRARY_PATH"] {
        command.env_remove(variable);
    }
    command
}

fn succeed(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("run cargo");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?} in {:?}:\n{said}",
        command.get_current_dir().map(Path::to_owned)
    );
}
