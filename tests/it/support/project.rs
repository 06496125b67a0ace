//! A small project outside the repository: a host that prints what it sees, and plugins that answer.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use tempfile::TempDir;

use super::{
    build_dir::BuildDir,
    process::{Place, Process, cargo, repository, succeed},
};

/// A workspace in a directory of its own. It shares only the target directory with others, so that the engine is
/// compiled once.
pub struct Project {
    place: Place,
    root: PathBuf,
    _dir: TempDir,
    build_dir: Arc<BuildDir>,
}

impl Project {
    /// A workspace with only the engine's lock file, so that the engine is compiled as in other projects.
    pub fn empty() -> Self {
        Self::empty_called("project")
    }

    /// Like [`empty`](Self::empty), in a directory with this name.
    fn empty_called(name: &str) -> Self {
        Self::in_build_dir(name, Arc::new(BuildDir::take("project")))
    }

    fn in_build_dir(name: &str, build_dir: Arc<BuildDir>) -> Self {
        let dir = tempfile::tempdir().expect("make a directory");
        let root = dir.path().join(name);
        let project = Self { place: Place::new(), root, _dir: dir, build_dir };
        project.copy_lock_file(".");
        project
    }

    /// Gives the workspace in a directory the versions that the repository has.
    pub fn copy_lock_file(&self, dir: &str) {
        let lock = fs::read_to_string(repository().join("Cargo.lock")).expect("a lock file");
        self.write(&format!("{dir}/Cargo.lock"), &lock);
    }

    /// A host `app` whose manifest names the plugins `listed`, and a package for each of `packages`.
    pub fn new(listed: &[&str], packages: &[&str]) -> Self {
        Self::empty().with_packages(listed, packages)
    }

    /// Like [`new`](Self::new), in a directory with this name.
    pub fn called(name: &str, listed: &[&str], packages: &[&str]) -> Self {
        Self::empty_called(name).with_packages(listed, packages)
    }

    /// Another project, which shares the target directory with this one.
    pub fn another(&self, listed: &[&str], packages: &[&str]) -> Self {
        Self::in_build_dir("another", Arc::clone(&self.build_dir)).with_packages(listed, packages)
    }

    fn with_packages(self, listed: &[&str], packages: &[&str]) -> Self {
        let project = self;
        let members: Vec<String> = packages.iter().map(|name| format!("\"{name}\"")).collect();
        let members = members.join(", ");
        project.write(
            "Cargo.toml",
            &format!("[workspace]\nresolver = \"3\"\nmembers = [\"app\", {members}]\n"),
        );
        project.write_host_manifest(listed);
        project.write("app/src/main.rs", HOST);
        for (number, name) in packages.iter().enumerate() {
            let api = repository().join("engine/plugin");
            project.write(
                &format!("{name}/Cargo.toml"),
                &manifest(name, &format!("hotswap-plugin = {{ path = {api:?} }}")),
            );
            project.write(&format!("{name}/src/lib.rs"), &plugin(number + 1));
        }
        project.build_once(packages[0]);
        project
    }

    /// Makes the first build, which may take long, before the test waits for anything.
    pub fn build_once(&self, plugin: &str) {
        let _first = self.build_dir.first_build();
        self.build_host(&[]);
        let out = tempfile::tempdir().expect("make a directory");
        let mut build = self.command("hotswap");
        build.args(["build", "--offline", plugin]).arg(out.path());
        succeed(build);
    }

    /// Builds the host with the configuration of the project.
    pub fn build_host(&self, flags: &[&str]) {
        let mut build = cargo();
        build.args(["build", "--offline", "--package", "app", "--target-dir"]);
        build.arg(self.target_dir()).args(flags).current_dir(self.root());
        succeed(build);
    }

    /// Writes the host's manifest, which names these plugins.
    pub fn write_host_manifest(&self, plugins: &[&str]) {
        let engine = repository().join("engine/core");
        let manifest = manifest("app", &format!("hotswap-engine = {{ path = {engine:?} }}"));
        let list = format!("\n[package.metadata.hotswap]\nplugins = {plugins:?}\n");
        let features = "\n[features]\nloud = []\n";
        self.write("app/Cargo.toml", &format!("{manifest}{features}{list}"));
    }

    /// The directories in which its host listens and stages.
    pub fn place(&self) -> &Place {
        &self.place
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.root().join(file);
        fs::create_dir_all(path.parent().expect("a directory")).expect("make a directory");
        fs::write(path, text).expect("write a file");
    }

    /// Replaces a text in a file, and saves it.
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.root().join(file)).expect("read a source");
        assert!(text.contains(from), "{file} has no `{from}` to edit");
        self.write(file, &text.replacen(from, to, 1));
    }

    /// `hotswap run` with the project's host, in the project's root.
    pub fn run(&self, args: &[&str]) -> Process {
        let mut command = self.command("hotswap");
        command.args(["run", "--json", "./app", "--offline"]).args(args);
        Process::start_reading(command)
    }

    /// Like [`run`](Self::run), with patches of running versions.
    pub fn run_patching(&self, args: &[&str]) -> Process {
        let mut command = self.command("hotswap");
        command.args(["run", "--json", "./app", "--offline"]).args(args);
        command.env_remove("HOTSWAP_NO_PATCH");
        Process::start_reading(command)
    }

    pub fn command(&self, name: &str) -> Command {
        let mut command = self.place.command(name);
        command.current_dir(self.root()).env("CARGO_TARGET_DIR", self.target_dir());
        command
    }

    pub fn target_dir(&self) -> PathBuf {
        self.build_dir.target_dir.clone()
    }
}

fn manifest(name: &str, dependency: &str) -> String {
    format!(
        "[package]\nname = \"{name}\"\nversion = \"1.2.3\"\nedition = \"2024\"\n\n\
         [dependencies]\n{dependency}\n"
    )
}

fn plugin(number: usize) -> String {
    format!(
        "use hotswap_plugin::prelude::*;\n\n#[derive(Default)]\nstruct It;\n\n#[plugin]\n\
         impl Plugin for It {{}}\n\n#[invoke]\nfn number() -> u32 {{\n    {number}\n}}\n"
    )
}

/// Prints its environment, its working directory and its features, and the lines that it reads.
const HOST: &str = r#"use hotswap_engine::{ConsoleSocket, Engine};

fn main() {
    let engine = Engine::builder("plugins").console(ConsoleSocket::from_env()).build();
    let engine = engine.expect("make an engine");
    for name in ["CARGO_PKG_VERSION", "CARGO_MANIFEST_DIR", "GREETING", "RUNNER", "RUSTUP_TOOLCHAIN"] {
        println!("{name}={}", std::env::var(name).unwrap_or_default());
    }
    println!("directory={}", std::env::current_dir().unwrap().display());
    println!("loud={}", cfg!(feature = "loud"));
    if let Err(error) = engine.load(()) {
        println!("not loaded: {error}");
    }
    let child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    println!("child={}", child.id());
    for line in std::io::stdin().lines() {
        println!("read {}", line.unwrap());
    }
    println!("no more to read");
    loop {
        std::thread::park();
    }
}
"#;
