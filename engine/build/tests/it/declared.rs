//! What the sources of a plugin declare, read without compiling them.

use std::path::Path;

use hotswap_build::{Declarations, PluginPackage};

use crate::support::Workspace;

/// What a plugin with these files declares, in lines.
fn declared(files: &[(&str, &str)], live_prefix: Option<&str>) -> String {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    for (file, text) in files {
        workspace.write(&format!("world/{file}"), text);
    }
    let plugin = PluginPackage::open(&workspace.path("world")).expect("a plugin");
    format_declarations(&plugin.dir, &plugin.declarations(live_prefix).expect("declarations"))
}

fn format_declarations(dir: &Path, Declarations { items, unread }: &Declarations) -> String {
    let near = |file: &Path| file.strip_prefix(dir).unwrap_or(file).display().to_string();
    let items = items
        .iter()
        .map(|item| format!("{:?} {} {}:{}\n", item.kind, item.name, near(&item.file), item.line));
    let unread = unread.iter().map(|it| format!("unread {}: {}\n", near(&it.file), it.reason));
    items.chain(unread).collect()
}

#[test]
fn marked_items_are_found_and_unmarked_ones_with_a_live_name_are_reported() {
    let root = "
use hotswap_plugin::prelude::*;

#[derive(Default)]
struct World;

#[plugin]
impl Plugin for World {}

#[invoke]
async fn greet(name: String) -> String { name }

#[hotswap_plugin::live]
fn revision() -> u32 { 1 }

/// Forgotten.
pub fn live_forgotten() {}

fn lively() {}

#[derive(Serialize, Deserialize)]
struct LiveForgotten;

struct LiveLocal;

#[derive(Serialize, Deserialize)]
struct Lively;

#[invoke]
fn live_invoked() {}

#[live]
mod jobs {
    pub struct LiveFire { rounds: u32 }
    enum LiveWater {}
    pub fn live_fire(fire: LiveFire) {}
    fn fire() {}
    mod inner {
        fn live_inner() {}
    }
}

mod more;
mod folder;
#[path = \"elsewhere/other.rs\"]
mod other;

#[cfg(test)]
mod tests {
    fn live_in_tests() {}
    #[test]
    fn live_test() {}
}
";
    let found = declared(
        &[
            ("src/lib.rs", root),
            ("src/more.rs", "pub mod deep;\npub fn live_more() {}\n"),
            ("src/more/deep.rs", "fn live_deep() {}\n"),
            (
                "src/folder/mod.rs",
                "#[live(crate = a::b, prefix = \"job_\")]\nmod jobs {\n    fn job_one() {}\n    fn live_two() {}\n}\nmod deeper;\n",
            ),
            ("src/folder/deeper.rs", "#[live]\nstruct Job;\n"),
            ("src/elsewhere/other.rs", "fn live_other() {}\nmod beside;\n"),
            ("src/elsewhere/beside.rs", "fn live_beside() {\n"),
        ],
        None,
    );
    insta::assert_snapshot!(found, @"
    Plugin World src/lib.rs:8
    Function greet src/lib.rs:11
    LiveFunction revision src/lib.rs:14
    NotLive live_forgotten src/lib.rs:17
    NotLive LiveForgotten src/lib.rs:22
    Function live_invoked src/lib.rs:30
    LiveType LiveFire src/lib.rs:34
    LiveType LiveWater src/lib.rs:35
    LiveFunction live_fire src/lib.rs:36
    NotLive live_inner src/lib.rs:39
    NotLive live_deep src/more/deep.rs:1
    NotLive live_more src/more.rs:2
    LiveFunction job_one src/folder/mod.rs:3
    NotLive live_two src/folder/mod.rs:4
    LiveType Job src/folder/deeper.rs:2
    NotLive live_other src/elsewhere/other.rs:1
    unread src/elsewhere/beside.rs: line 1: cannot parse string into token stream
    ");
}

#[test]
fn the_build_may_choose_the_prefix() {
    let root = "
#[live]
mod jobs {
    struct JobFire;
    fn job_fire() {}
    fn live_fire() {}
}
fn job_forgotten() {}
#[derive(Serialize, Deserialize)]
struct JobForgotten;
fn live_forgotten() {}
";
    insta::assert_snapshot!(declared(&[("src/lib.rs", root)], Some("job_")), @"
    LiveType JobFire src/lib.rs:4
    LiveFunction job_fire src/lib.rs:5
    NotLive job_forgotten src/lib.rs:8
    NotLive JobForgotten src/lib.rs:10
    ");
}

#[test]
fn the_library_may_be_in_another_file() {
    let manifest = "[package]\nname = \"world\"\nedition = \"2024\"\n[lib]\npath = \"code/plugin.rs\"\n\
                    [dependencies]\nhotswap-plugin.path = \"../hotswap-plugin\"\n";
    let files = [("Cargo.toml", manifest), ("code/plugin.rs", "#[invoke]\nfn greet() {}\n")];
    insta::assert_snapshot!(declared(&files, None), @"Function greet code/plugin.rs:2");
}

#[test]
fn items_that_are_nested_too_deeply_are_reported_and_the_others_are_read() {
    let deep = format!(
        "#[cfg(any())]\nconst DEEP: u32 = {}1{};\n",
        "(".repeat(20_000),
        ")".repeat(20_000)
    );
    let root = "mod deep;\nmod chain;\n#[invoke]\nfn greet() {}\n";
    let chain = format!("#[invoke]\nfn chain() {{ a{} }}\n", ".a()".repeat(500));
    let files = [("src/lib.rs", root), ("src/deep.rs", &deep), ("src/chain.rs", &chain)];
    insta::assert_snapshot!(declared(&files, None), @"
    Function chain src/chain.rs:2
    Function greet src/lib.rs:4
    unread src/deep.rs: it is nested too deeply to be read
    ");
}
