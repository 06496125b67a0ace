//! Tries twenty ordinary edits of the sample plugins, and twenty of a public crate that a plugin uses. Prints which
//! edits can be loaded into a running version as a patch, and the builds' reasons why the others cannot.
//!
//! `cargo run --release -p hotswap-tests --example edits [OPT_LEVEL]`

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use hotswap_build::{BuildId, BuildOptions, Built, Cancel, PluginPackage, build_plugin};

/// An edit of a sample plugin, or of a source of the crate: texts of the source and their replacements.
type Edit = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The crate, in the version whose texts are edited.
const CRATE: (&str, &str) = ("humantime", "2.3.0");

/// A plugin that uses the crate.
const USES: &str = r#"use std::time::UNIX_EPOCH;

use hotswap_plugin::prelude::*;

#[derive(Default)]
struct Clock;

#[plugin]
impl Plugin for Clock {}

#[invoke]
fn seconds(text: String) -> Result<u64> {
    Ok(humantime::parse_duration(&text)?.as_secs())
}

#[invoke]
fn written(text: String) -> Result<String> {
    let long: humantime::Duration = text.parse()?;
    Ok(humantime::format_duration(*long).to_string())
}

#[invoke]
fn stamp(text: String) -> Result<String> {
    let at = humantime::parse_rfc3339(&text)?;
    let since = at.duration_since(UNIX_EPOCH)?;
    Ok(humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string())
}
"#;

/// The edits of the crate.
const EDITS_OF_CRATE: [Edit; 20] = [
    ("another condition", "date", &[("hour > 23", "hour > 24")]),
    ("another number", "duration", &[("n.mul(2_630_016)?, 0)", "n.mul(2_629_746)?, 0)")]),
    ("a name in a match", "duration", &[("| \"wks\" |", "| \"wks\" | \"wke\" |")]),
    (
        "the body of a closure",
        "duration",
        &[("x.checked_add(c as u64 - '0' as u64)", "x.checked_add(c as u64 - 47)")],
    ),
    (
        "a small function",
        "date",
        &[("(y % 100 != 0 || y % 400 == 0)", "y % 100 != 0 || y % 400 == 0")],
    ),
    (
        "a method of a private type",
        "duration",
        &[(
            "c if c.is_whitespace() => continue,",
            "c if c.is_whitespace() || c == '_' => continue,",
        )],
    ),
    (
        "an early return",
        "duration",
        &[(
            "    if s == \"0\" {",
            "    if s.len() > 1000 {\n        return Err(Error::NumberOverflow);\n    }\n    if s == \"0\" {",
        )],
    ),
    ("a helper that formats", "duration", &[("f.write_str(\"s\")?;", "f.write_str(\"s,\")?;")]),
    ("what `Display` writes", "duration", &[("f.write_str(\"0s\")?;", "f.write_str(\"0 s\")?;")]),
    (
        "the text of an error",
        "duration",
        &[("\"expected number at {}\"", "\"a number is expected at {}\"")],
    ),
    (
        "a function inside a function",
        "date",
        &[("Some((a * 10 + b) as u64)", "Some(u64::from(a * 10 + b))")],
    ),
    (
        "a constant inside a function",
        "date",
        &[("const LEAPOCH: i64 = 11017;", "const LEAPOCH: i64 = 11018;")],
    ),
    (
        "one more call into `std`",
        "date",
        &[("    parse_rfc3339_weak(s)\n}", "    parse_rfc3339_weak(s.trim_matches(' '))\n}")],
    ),
    ("a comment", "duration", &[("fn add_current", "// The sum.\nfn add_current")]),
    (
        "a function moves",
        "duration",
        &[("/// Parse duration object", "\n\n\n/// Parse duration object")],
    ),
    (
        "the documentation of a function",
        "duration",
        &[("/// Parse duration object", "/// Parses the duration object")],
    ),
    ("the value of a constant", "date", &[("253_402_300_800 - 1;", "253_402_300_800 - 2;")]),
    (
        "a new function, and a call of it",
        "date",
        &[
            ("    if year < 1970 ||", "    if is_before_epoch(year) ||"),
            (
                "fn is_leap_year",
                "fn is_before_epoch(y: u64) -> bool {\n    y < 1970\n}\n\nfn is_leap_year",
            ),
        ],
    ),
    (
        "a new variant",
        "date",
        &[
            (
                "    /// Other formatting errors\n",
                "    /// Nothing is there\n    Empty,\n    /// Other formatting errors\n",
            ),
            (
                "            Error::OutOfRange =>",
                "            Error::Empty => write!(f, \"empty\"),\n            Error::OutOfRange =>",
            ),
        ],
    ),
    (
        "a derive",
        "duration",
        &[(
            "#[derive(Debug, Clone)]\npub struct FormattedDuration",
            "#[derive(Debug, Clone, PartialEq)]\npub struct FormattedDuration",
        )],
    ),
];

/// The edits of the sample plugins.
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
    let level = env::args().nth(1).unwrap_or_else(|| "0".to_owned());
    let cargo_flags = vec!["--config".to_owned(), format!("profile.hotswap.opt-level={level}")];
    let options = BuildOptions { cargo_flags, ..BuildOptions::default() };
    let copy = tempfile::tempdir().expect("make a directory");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    copy_tree(repository, copy.path()).expect("copy the repository");
    let plugins = copy.path().join("sample-plugins");
    print_results(&options, &EDITS, "plugin", |name| {
        let dir = plugins.join(name);
        (dir.join("src/lib.rs"), dir)
    });
    let dir = add_crate(copy.path());
    print_results(&options, &EDITS_OF_CRATE, "source", |name| {
        let source = format!("{}/src/{name}.rs", CRATE.0);
        (copy.path().join(source), dir.clone())
    });
}

/// Makes each edit by itself, and prints the result of the build. `place` gives the edited source and the plugin
/// that is built.
fn print_results(
    options: &BuildOptions,
    edits: &[Edit],
    of: &str,
    place: impl Fn(&str) -> (PathBuf, PathBuf),
) {
    println!("| edit | {of} | bodies | a patch |\n|---|---|---|---|");
    let mut patches = 0;
    for (what, name, texts) in edits {
        let (source, dir) = place(name);
        let plugin = PluginPackage::open(&dir).expect("a plugin");
        let before = fs::read_to_string(&source).expect("read a source");
        let after = texts.iter().fold(before.clone(), |source, (from, to)| {
            assert!(source.contains(from), "{name} has another text now than {from:?}");
            source.replacen(from, to, 1)
        });
        let base = build(&plugin, options, None).build_id;
        fs::write(&source, after).expect("write a source");
        let built = build(&plugin, options, Some(base));
        fs::write(&source, before).expect("write a source");
        let bodies = built.changes.iter().flat_map(|changes| &changes.functions);
        let bodies: Vec<_> = bodies.map(|function| format!("`{}`", function.name)).collect();
        let patch = match &built.patch {
            None => "yes, the code is the same".to_owned(),
            Some(Ok(patch)) => format!("yes, {} bytes", patch.content.len()),
            // The path of the file, in parentheses, is left out.
            Some(Err(why)) => format!("no: {}", why.to_string().split(" (").next().unwrap_or("")),
        };
        patches += usize::from(!patch.starts_with("no"));
        println!("| {what} | {name} | {} | {patch} |", bodies.join(", "));
    }
    println!("\n{patches} of {} are patches.\n", edits.len());
}

/// Adds the crate's sources to the workspace, and a plugin that uses them. Returns the plugin's directory.
fn add_crate(workspace: &Path) -> PathBuf {
    let (name, version) = CRATE;
    let plugin = workspace.join("sample-plugins/clock");
    fs::create_dir_all(plugin.join("src")).expect("make a directory");
    fs::write(plugin.join("src/lib.rs"), USES).expect("write a source");
    let write_manifest = |dependency: &str| {
        let manifest = format!(
            "[package]\nname = \"clock\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
             [dependencies]\nhotswap-plugin.workspace = true\n{name} = {dependency}\n"
        );
        fs::write(plugin.join("Cargo.toml"), manifest).expect("write a manifest");
    };
    let root = workspace.join("Cargo.toml");
    let members = fs::read_to_string(&root).expect("read a manifest");
    let members = members.replacen("members = [", "members = [\"sample-plugins/clock\",", 1);
    let members = members.replacen("exclude = [", &format!("exclude = [\"{name}\","), 1);
    fs::write(root, members).expect("write a manifest");
    write_manifest(&format!("\"={version}\""));
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1"]).current_dir(&plugin);
    let output = cargo.output().expect("run cargo");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("metadata");
    let packages = metadata["packages"].as_array().expect("packages");
    let package = packages.iter().find(|it| it["name"] == name && it["version"] == version);
    let manifest = package.and_then(|it| it["manifest_path"].as_str()).expect("the crate");
    let (from, to) = (Path::new(manifest).parent().expect("a directory"), workspace.join(name));
    copy_tree(from, &to).expect("copy the crate");
    write_manifest(&format!("{{ path = \"../../{name}\" }}"));
    plugin
}

fn build(plugin: &PluginPackage, options: &BuildOptions, patch_base: Option<BuildId>) -> Built {
    let mut output = Vec::new();
    let options = BuildOptions { patch_base, ..options.clone() };
    build_plugin(plugin, &options, &Cancel::default(), &mut |message| output.push(message))
        .unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Copies the repository without build output.
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
