//! The plugins that are changed: copies in workspaces of their own, each with its own target directory.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The mark in a source for the text that changes.
const MARK: &str = "@TEXT@";

/// A plugin to be changed.
pub struct Fixture {
    pub title: &'static str,
    pub name: &'static str,
    /// Its source, with the mark.
    source: String,
    /// The source as a library for hot-lib-reloader.
    pub library: String,
    /// Its dependencies besides `hotswap-plugin`.
    pub dependencies: &'static str,
    /// Path dependencies and their sources.
    pub packages: Vec<(&'static str, &'static str)>,
}

/// A plugin in a workspace of its own.
pub struct Copy {
    pub dir: PathBuf,
    pub name: &'static str,
    source: String,
}

impl Fixture {
    /// The sample plugin.
    pub fn world() -> Self {
        let path = repository().join("sample-plugins/world/src/lib.rs");
        let source = fs::read_to_string(path).expect("read a source");
        let source = source.split("#[cfg(test)]").next().expect("a source").to_owned();
        let from = "Hello, {name}!";
        assert!(source.contains(from), "the sample has another text now");
        Self {
            title: "`world`, the sample plugin",
            name: "world",
            source: source.replace(from, &format!("{MARK}, {{name}}!")),
            library: format!(
                "#[unsafe(no_mangle)]\n\
                 pub fn greet(name: String, times: u32) -> String {{\n\
                     tracing::debug!(name, times, \"greeting\");\n\
                     vec![format!(\"{MARK}, {{name}}!\"); times as usize].join(\" \")\n\
                 }}\n"
            ),
            dependencies: "tracing = { version = \"0.1\", default-features = false, \
                           features = [\"attributes\", \"std\"] }\n",
            packages: Vec::new(),
        }
    }

    /// A plugin with serde, tracing and three path dependencies.
    pub fn with_dependencies() -> Self {
        let types = "#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]\n\
                     pub struct Order { pub id: u64, pub items: Vec<Item>, pub note: Option<String> }\n\
                     #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]\n\
                     pub struct Item { pub name: String, pub count: u32, pub price: f64 }\n";
        let prices = "pub fn total(order: &types::Order) -> f64 {\n\
                      order.items.iter().map(|item| f64::from(item.count) * item.price).sum() }\n";
        let texts = "pub fn describe(order: &types::Order) -> String {\n\
                     let items: Vec<_> = order.items.iter().map(|it| format!(\"{} x {}\", it.count, it.name)).collect();\n\
                     format!(\"{}: {} = {}\", order.id, items.join(\", \"), prices::total(order)) }\n";
        let body = format!(
            "    let item = types::Item {{ name, count: times, price: 2.5 }};\n\
                 let order = types::Order {{ id: 7, items: vec![item], note: None }};\n\
                 tracing::info!(?order, \"an order\");\n\
                 let json = serde_json::to_string(&order).unwrap_or_default();\n\
                 let back: types::Order = serde_json::from_str(&json).unwrap_or(order);\n\
                 let text = format!(\"{MARK}, {{}}\", texts::describe(&back));\n"
        );
        Self {
            title: "a plugin with serde, tracing and three path dependencies",
            name: "rich",
            source: format!(
                "use hotswap_plugin::prelude::*;\n\
                 #[derive(Default)]\nstruct Rich;\n#[plugin]\nimpl Plugin for Rich {{}}\n\
                 #[invoke]\nfn greet(name: String, times: u32) -> Result<String> {{\n\
                 {body}    Ok(text)\n}}\n"
            ),
            library: format!(
                "#[unsafe(no_mangle)]\npub fn greet(name: String, times: u32) -> String {{\n\
                 {body}    text\n}}\n"
            ),
            dependencies: "serde = { version = \"1\", features = [\"derive\"] }\nserde_json = \"1\"\n\
                           tracing = { version = \"0.1\", default-features = false, \
                           features = [\"attributes\", \"std\"] }\n\
                           types = { path = \"types\" }\nprices = { path = \"prices\" }\n\
                           texts = { path = \"texts\" }\n",
            packages: vec![("types", types), ("prices", prices), ("texts", texts)],
        }
    }

    /// Writes the plugin to a workspace of its own.
    pub fn copy(&self, way: &str) -> Copy {
        let dir = workspaces_dir().join(format!("{}-{way}", self.name));
        let plugin = repository().join("engine/plugin");
        let manifest = format!(
            "[workspace]\nmembers = [\"*\"]\nexclude = [\"target\", \"src\"]\nresolver = \"3\"\n\
             [package]\nname = \"{}\"\nedition = \"2024\"\n[lib]\n[dependencies]\n\
             hotswap-plugin.path = {plugin:?}\n{}\
             [profile.dev]\ndebug = \"line-tables-only\"\n",
            self.name, self.dependencies
        );
        write(&dir.join("Cargo.toml"), &manifest);
        let lock = fs::read_to_string(repository().join("Cargo.lock")).expect("a lock file");
        if !dir.join("Cargo.lock").exists() {
            write(&dir.join("Cargo.lock"), &lock);
        }
        self.write_packages(&dir);
        let copy = Copy { dir, name: self.name, source: self.source.clone() };
        copy.write("the first text");
        copy
    }

    /// Writes the path dependencies below a directory.
    pub fn write_packages(&self, dir: &Path) {
        for (name, source) in &self.packages {
            let needs = |other: &str| source.contains(&format!("{other}::"));
            let mut dependencies = String::new();
            if needs("serde") {
                dependencies += "serde = { version = \"1\", features = [\"derive\"] }\n";
            }
            for (other, _) in self.packages.iter().filter(|(other, _)| other != name) {
                if needs(other) {
                    dependencies += &format!("{other}.path = \"../{other}\"\n");
                }
            }
            let manifest = format!(
                "[package]\nname = \"{name}\"\nedition = \"2024\"\n[dependencies]\n{dependencies}"
            );
            write(&dir.join(name).join("Cargo.toml"), &manifest);
            write(&dir.join(name).join("src/lib.rs"), source);
        }
    }
}

impl Copy {
    /// The source with this text.
    pub fn source(&self, text: &str) -> String {
        with_text(&self.source, text)
    }

    pub fn path(&self) -> PathBuf {
        self.dir.join("src/lib.rs")
    }

    fn write(&self, text: &str) {
        write(&self.path(), &self.source(text));
    }
}

pub fn with_text(source: &str, text: &str) -> String {
    source.replace(MARK, text)
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_owned()
}

/// The directory of all workspaces, which outlives a run.
pub fn workspaces_dir() -> PathBuf {
    let program = std::env::current_exe().expect("the path of this program");
    program.ancestors().nth(3).expect("a target directory").join("save-to-call")
}

/// Writes a file unless it already has this content.
pub fn write(path: &Path, content: &str) {
    if fs::read_to_string(path).ok().as_deref() != Some(content) {
        fs::create_dir_all(path.parent().expect("a parent")).expect("make a directory");
        fs::write(path, content).expect("write a file");
    }
}
