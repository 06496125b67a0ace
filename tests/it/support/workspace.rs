//! A copy of the sample host and its plugins that a test may edit.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::{
    build_dir::BuildDir,
    process::{Place, cargo, program, repository, succeed},
};

/// The sample host and its plugins as a workspace of their own, with the repository's engine.
///
/// It is one of a few fixed directories, so that code which an edit does not affect is compiled only once and not
/// in each run. A test uses it alone, and begins with the sources of the repository.
pub struct Workspace {
    place: Place,
    /// The plugin directory of this test's host.
    pub plugin_dir: TempDir,
    root: PathBuf,
    build_dir: BuildDir,
}

impl Workspace {
    pub fn new() -> Self {
        let build_dir = BuildDir::take("workspace");
        let plugin_dir = tempfile::tempdir().expect("make a directory");
        let root = build_dir.dir.join("workspace");
        let workspace = Self { place: Place::new(), plugin_dir, root, build_dir };
        workspace.restore();
        workspace.build_once();
        workspace
    }

    /// The directories of its host, for sockets and staging.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// A program in this workspace's root.
    pub fn command(&self, name: &str) -> Command {
        let mut command = self.place.command(name);
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", self.target_dir());
        command
    }

    /// `hotswap run`, or the console, with the sample host's package.
    pub fn command_with_host(&self, name: &str, args: &[&str], host_args: &[&str]) -> Command {
        let mut command = self.command(name);
        command.args(args).arg("./sample-host").arg("--plugins").arg(self.plugin_dir.path());
        command.arg("--").args(host_args);
        command
    }

    /// The present text of a source.
    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.root.join(file)).expect("read a source")
    }

    /// Replaces a text in a file, and saves it.
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let text = self.read(file);
        assert!(text.contains(from), "{file} has no `{from}` to edit");
        fs::write(self.root.join(file), text.replacen(from, to, 1)).expect("write a source");
    }

    /// Builds a plugin into the plugin directory, as a user does by hand.
    pub fn build(&self, plugin: &str) {
        self.build_into(plugin, self.plugin_dir.path());
    }

    /// Builds a plugin into a directory; a relative path is relative to the workspace.
    pub fn build_into(&self, plugin: &str, dir: &Path) {
        let mut build = self.command("hotswap");
        build.args(["build", &format!("sample-plugins/{plugin}")]).arg(dir);
        succeed(build);
    }

    /// One of the sample host's examples, in this workspace's root.
    pub fn example(&self, name: &str) -> Command {
        self.build_program(
            &["--package", "sample-host", "--example", name],
            &format!("examples/{name}"),
        )
    }

    /// The game, in this workspace's root.
    pub fn game(&self) -> Command {
        self.build_program(&["--package", "game"], "game")
    }

    fn build_program(&self, args: &[&str], program: &str) -> Command {
        let mut build = cargo();
        build.arg("build").args(args).arg("--target-dir").arg(self.target_dir());
        build.current_dir(&self.root);
        succeed(build);
        self.command(&self.target_dir().join("debug").join(program).display().to_string())
    }

    /// Removes a file or a directory that an earlier run left in the workspace.
    pub fn remove(&self, path: &Path) {
        let path = self.root.join(path);
        if path.exists() {
            remove(&path).expect("remove what an earlier run left");
        }
    }

    fn target_dir(&self) -> PathBuf {
        self.build_dir.target_dir.clone()
    }

    /// Restores the sources of the repository. Unchanged files are not written, so they are not compiled again.
    fn restore(&self) {
        for dir in ["sample-host", "sample-plugins"] {
            mirror(&repository().join(dir), &self.root.join(dir));
        }
        let manifest = fs::read_to_string(repository().join("Cargo.toml")).expect("a manifest");
        let mut manifest: toml::Table = manifest.parse().expect("a manifest in TOML");
        let workspace = manifest["workspace"].as_table_mut().expect("a workspace");
        workspace.remove("default-members");
        workspace["members"] = toml::Value::from(vec![
            "sample-host",
            "sample-host/chat",
            "sample-host/chat/rooms",
            "sample-host/game",
            "sample-host/game/rules",
            "sample-plugins/*",
        ]);
        let dependencies =
            workspace["dependencies"].as_table_mut().expect("the dependencies of the workspace");
        for dependency in dependencies.iter_mut().filter_map(|(_, it)| it.as_table_mut()) {
            if let Some(toml::Value::String(path)) = dependency.get_mut("path")
                && path.starts_with("engine/")
            {
                *path = repository().join(&*path).display().to_string();
            }
        }
        write(&self.root.join("Cargo.toml"), manifest.to_string().as_bytes());
        let lock_file = fs::read(repository().join("Cargo.lock")).expect("a lock file");
        write(&self.root.join("Cargo.lock"), &lock_file);
    }

    /// Makes the first build, which may take long, before the test waits for anything.
    fn build_once(&self) {
        if let Some(_first) = self.build_dir.first_build() {
            self.build_all();
        }
    }

    fn build_all(&self) {
        program("hotswap");
        let mut build = cargo();
        build.args(["build", "--package", "sample-host", "--target-dir"]).arg(self.target_dir());
        build.current_dir(&self.root);
        succeed(build);
        let out = tempfile::tempdir().expect("make a directory");
        for plugin in fs::read_dir(self.root.join("sample-plugins")).expect("the plugins") {
            let plugin = plugin.expect("a plugin").path();
            if !plugin.ends_with("api") {
                let mut build = self.command("hotswap");
                build.arg("build").arg(plugin).arg(out.path());
                succeed(build);
            }
        }
    }
}

/// Makes a directory have the same files as another one.
fn mirror(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("make a directory");
    for entry in fs::read_dir(from).expect("read a directory") {
        let entry = entry.expect("an entry");
        let copy = to.join(entry.file_name());
        match entry.file_type().expect("a file type").is_dir() {
            true => mirror(&entry.path(), &copy),
            false => write(&copy, &fs::read(entry.path()).expect("read a source")),
        }
    }
    for entry in fs::read_dir(to).expect("read a directory") {
        let extra = entry.expect("an entry");
        if !from.join(extra.file_name()).exists() {
            remove(&extra.path()).expect("remove a file that the repository does not have");
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Writes a file unless it already has this content.
fn write(path: &Path, content: &[u8]) {
    if fs::read(path).ok().as_deref() != Some(content) {
        fs::write(path, content).expect("write a file");
    }
}
