//! What of twenty ordinary edits changes bodies of functions alone, as the builds tell it.
//!
//! `cargo run --release -p hotswap-tests --example edits`

use std::{fs, io, path::Path};

use hotswap_build::{
    BuildOptions, Built, Cancel, ChangedFunction, PluginPackage, SourceChanges, build_plugin,
};

/// What somebody does to which sample plugin: texts of its source, and what they become.
type Edit = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const EDITS: [Edit; 20] = [
    ("another text in a body", "world", &[("Hello, {name}!", "Hi, {name}!")]),
    ("another condition", "world", &[("times > 1000", "times > 100")]),
    (
        "one more line in a body",
        "world",
        &[(
            "(beat, \"the world turns\");",
            "(beat, \"the world turns\");\n    tracing::trace!(\"once more\");",
        )],
    ),
    ("the body of a closure", "dog", &[("*barks += u64::from(times);", "*barks += 1;")]),
    ("another number in an expression", "dog", &[("times.min(100)", "times.min(50)")]),
    ("a live function", "guardian", &[("\"Bang!\"", "\"Boom!\"")]),
    ("a helper in a module", "guardian", &[("*count += 1;", "*count += 2;")]),
    ("an arm of a match", "cat", &[("chases {name}", "hunts {name}")]),
    ("a method of a trait", "cat", &[("the cat speaks", "the cat says")]),
    ("an async function", "cat", &[("yawns after", "wakes after")]),
    ("a step of the lifecycle", "world", &[("the world is ready", "the world is here")]),
    ("a comment", "world", &[("/// How many greetings", "// Counted.\n/// How many greetings")]),
    ("blank lines", "world", &[("/// Logs a heartbeat", "\n\n/// Logs a heartbeat")]),
    ("the documentation of a function", "world", &[("/// Says hello to", "/// Greets")]),
    ("the value of a constant", "dog", &[("= \"barks\";", "= \"woofs\";")]),
    (
        "a new function, and a call of it",
        "dog",
        &[
            ("let woofs = vec![", "let woofs = woofs("),
            ("\"woof\"; times.min(100) as usize].join(\" \");", "times);"),
            (
                "/// Logs a heartbeat",
                "fn woofs(times: u32) -> String {\n    \"woof \".repeat(times as usize)\n}\n\n/// Logs a heartbeat",
            ),
        ],
    ),
    (
        "a new field",
        "guardian",
        &[
            (
                "pub rounds: u32,",
                "pub rounds: u32,\n        #[serde(default)]\n        pub loud: bool,",
            ),
            ("LiveFire { rounds }", "LiveFire { rounds, loud: true }"),
        ],
    ),
    (
        "a new parameter",
        "world",
        &[("name: String, times: u32)", "name: String, times: u32, _loud: bool)")],
    ),
    ("a new variant", "cat", &[("    Mouse,\n", "    Mouse,\n    Bird,\n")]),
    ("a derive", "world", &[("#[derive(Default)]", "#[derive(Clone, Default)]")]),
];

fn main() {
    let copy = tempfile::tempdir().expect("make a directory");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    copy_tree(repository, copy.path()).expect("copy the repository");
    println!("| edit | plugin | bodies | what else | bodies alone |\n|---|---|---|---|---|");
    let mut alone = 0;
    for (what, name, texts) in EDITS {
        let dir = copy.path().join("sample-plugins").join(name);
        let plugin = PluginPackage::open(&dir).expect("a plugin");
        let source = dir.join("src/lib.rs");
        let before = fs::read_to_string(&source).expect("read a source");
        let after = texts.iter().fold(before.clone(), |source, (from, to)| {
            assert!(source.contains(from), "{name} has another text now than {from:?}");
            source.replacen(from, to, 1)
        });
        // The first build of a plugin has nothing to be compared with.
        build(&plugin);
        fs::write(&source, after).expect("write a source");
        let changes = build(&plugin).changes;
        fs::write(&source, before).expect("write a source");
        let is_alone = changes.as_ref().is_some_and(SourceChanges::is_bodies_only);
        alone += usize::from(is_alone);
        let changes = changes.unwrap_or_default();
        let bodies: Vec<_> = changes.functions.iter().map(body).collect();
        let items = changes.items.iter().map(|item| {
            format!("`{}` {}", item.item.as_deref().unwrap_or("the file"), item.change.as_str())
        });
        println!(
            "| {what} | {name} | {} | {} | {} |",
            bodies.join(", "),
            items.collect::<Vec<_>>().join(", "),
            if is_alone { "yes" } else { "no" }
        );
    }
    println!("\n{alone} of {} change bodies of functions alone.", EDITS.len());
}

fn body(function: &ChangedFunction) -> String {
    match function.bound {
        Some(bound) => format!("`{}` ({bound})", function.name),
        None => format!("`{}`", function.name),
    }
}

fn build(plugin: &PluginPackage) -> Built {
    let mut output = Vec::new();
    build_plugin(plugin, &BuildOptions::default(), &Cancel::default(), &mut |message| {
        output.push(message);
    })
    .unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Copies what the repository has, without what was built.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, path) = (entry.file_name(), entry.path());
        if name == "target" || name == ".git" {
            continue;
        }
        let to = to.join(&name);
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&to)?;
            copy_tree(&path, &to)?;
        } else {
            fs::copy(&path, &to)?;
        }
    }
    Ok(())
}
