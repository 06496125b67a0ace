//! A record is used only if it has everything that its build depends on, and it describes the last run of cargo.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use hotswap_build::{BuildEffect, BuildOptions, Cancel, Review, review_plugin};

use crate::replay::{Fixture, Maker, output};

fn with_flags(flags: &[&str]) -> BuildOptions {
    let cargo_flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    BuildOptions { cargo_flags, ..BuildOptions::default() }
}

/// Appends `text` to a file of the plugin's package.
fn append(fixture: &Fixture, path: &str, text: &str) {
    let before = fs::read_to_string(fixture.plugin.dir.join(path)).unwrap();
    fixture.write(path, &format!("{before}{text}"));
}

/// Leaves the package in `dir` out of the workspace of the plugin.
pub fn exclude(fixture: &Fixture, dir: &str) {
    let manifest = fs::read_to_string(fixture.workspace.path("Cargo.toml")).unwrap();
    fixture.workspace.write("Cargo.toml", &format!("{manifest}exclude = [{dir:?}]\n"));
}

/// A function with a text that can be found in the artifact.
fn function_returning(text: &str) -> String {
    format!("pub fn text() -> String {{ \"{text}\".into() }}\n")
}

/// A build script that reads `count`, and asks to run again only for `when`.
fn write_counting_script(fixture: &Fixture, when: &str) {
    let script = format!(
        "fn main() {{\n    println!(\"cargo::rerun-if-changed={when}\");\n    \
         let count = std::fs::read_to_string(\"../count\").unwrap();\n    \
         println!(\"cargo::rustc-env=COUNT=count-{{count}}\");\n}}\n"
    );
    fixture.write("leaf/build.rs", &script);
}

#[test]
fn an_optional_dependency_is_an_input_of_a_build_that_uses_it() {
    let fixture = Fixture::new("optional");
    append(&fixture, "leaf/Cargo.toml", "more = { path = \"../more\", optional = true }\n");
    let manifest = "[package]\nname = \"more\"\nedition = \"2024\"\n";
    fixture.write("more/Cargo.toml", manifest);
    fixture.write("more/src/lib.rs", &function_returning("more-1"));
    fixture.write(
        "leaf/src/lib.rs",
        "#[cfg(feature = \"more\")]\npub use more::text;\n\
         #[cfg(not(feature = \"more\"))]\npub fn text() -> String { \"less-1\".into() }\n",
    );
    let manifest = fs::read_to_string(fixture.plugin.dir.join("Cargo.toml")).unwrap();
    let feature = "[features]\nmore = [\"middle/more\"]\n\n[dependencies]";
    fixture.write("Cargo.toml", &manifest.replacen("[dependencies]", feature, 1));
    append(&fixture, "middle/Cargo.toml", "\n[features]\nmore = [\"leaf/more\"]\n");

    assert!(fixture.build().artifact_contains("less-1"));
    let options = with_flags(&["--features", "more"]);
    assert!(fixture.build_with(&options).artifact_contains("more-1"));
    fixture.write("more/src/lib.rs", &function_returning("more-2"));
    let edited = fixture.build_with(&options);
    assert!(edited.artifact_contains("more-2") && !edited.artifact_contains("more-1"));
    assert_eq!(edited.made_by(), Maker::Replay, "{}", output(&edited.messages));
    assert_eq!(fixture.build_with(&options).made_by(), Maker::Nobody);
}

#[test]
fn a_library_that_only_a_macro_uses_is_an_input_of_the_build() {
    let fixture = Fixture::new("macro-library");
    let manifest = |name: &str, more: &str| {
        format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n{more}")
    };
    fixture.write("helper/Cargo.toml", &manifest("helper", ""));
    fixture.write("helper/src/lib.rs", &function_returning("helped-1"));
    let kind = "[lib]\nproc-macro = true\n[dependencies]\nhelper.path = \"../helper\"\n";
    fixture.write("makes/Cargo.toml", &manifest("makes", kind));
    fixture.write(
        "makes/src/lib.rs",
        "#[proc_macro]\npub fn made(_: proc_macro::TokenStream) -> proc_macro::TokenStream {\n    \
         format!(\"{:?}\", helper::text()).parse().unwrap()\n}\n",
    );
    append(&fixture, "leaf/Cargo.toml", "makes.path = \"../makes\"\n");
    fixture.write("leaf/src/lib.rs", "pub fn text() -> String { makes::made!().into() }\n");
    assert!(fixture.build().artifact_contains("helped-1"));
    fixture.write("helper/src/lib.rs", &function_returning("helped-2"));
    let edited = fixture.build();
    assert!(edited.artifact_contains("helped-2") && !edited.artifact_contains("helped-1"));
    assert_eq!(fixture.build().made_by(), Maker::Nobody);
}

#[test]
fn a_build_script_that_appears_is_run() {
    let fixture = Fixture::new("script-appears");
    fixture.write(
        "leaf/src/lib.rs",
        "pub fn text() -> String { option_env!(\"MADE\").unwrap_or(\"unmade\").into() }\n",
    );
    assert!(fixture.build().artifact_contains("unmade"));
    fixture.write("leaf/build.rs", "fn main() { println!(\"cargo::rustc-env=MADE=made-1\"); }\n");
    assert!(fixture.build().artifact_contains("made-1"));
    assert_eq!(fixture.build().made_by(), Maker::Nobody);
    fs::remove_file(fixture.plugin.dir.join("leaf/build.rs")).unwrap();
    assert!(!fixture.build().artifact_contains("made-1"));
}

/// Cargo always runs a script that asks for a missing file.
#[test]
fn a_workspace_that_a_manifest_names_is_an_input() {
    let fixture = Fixture::new("named-workspace");
    let root = |lint: &str| {
        format!(
            "[workspace]\nresolver = \"3\"\nmembers = [\"../member\"]\n\
             [workspace.lints.rust]\nunused_variables = \"{lint}\"\n"
        )
    };
    exclude(&fixture, "member");
    fixture.workspace.write("elsewhere/Cargo.toml", &root("allow"));
    fixture.workspace.write(
        "member/Cargo.toml",
        "[package]\nname = \"member\"\nedition = \"2024\"\nworkspace = \"../elsewhere\"\n\
         [lints]\nworkspace = true\n",
    );
    fixture.workspace.write("member/src/lib.rs", "pub fn it() {\n    let unused = 1;\n}\n");
    append(&fixture, "leaf/Cargo.toml", "member.path = \"../../member\"\n");
    assert_eq!(fixture.build().built.warnings, 0);
    fixture.workspace.write("elsewhere/Cargo.toml", &root("warn"));
    let warned = fixture.build();
    assert_eq!(warned.built.warnings, 1, "{}", output(&warned.messages));
}

#[test]
fn a_script_that_waits_for_a_file_that_never_comes_runs_each_time() {
    let fixture = Fixture::new("runs-always");
    fixture.write("count", "1");
    write_counting_script(&fixture, ".never");
    fixture.write("leaf/src/lib.rs", "pub fn text() -> String { env!(\"COUNT\").into() }\n");
    assert!(fixture.build().artifact_contains("count-1"));
    for count in ["2", "3"] {
        fixture.write("count", count);
        let made = fixture.build();
        assert!(made.artifact_contains(&format!("count-{count}")));
        let runs = output(&made.messages).matches("Compiling leaf").count();
        assert_eq!(runs, 1, "cargo compiles `leaf` once");
    }
}

#[test]
fn a_build_by_cargo_alone_replaces_the_record() {
    let fixture = Fixture::new("replaced-record");
    fixture.write("count", "1");
    fixture.write("leaf/when", "");
    write_counting_script(&fixture, "when");
    let source = "pub fn text() -> String { env!(\"COUNT\").into() }\n";
    fixture.write("leaf/src/lib.rs", source);
    assert!(fixture.build().artifact_contains("count-1"));
    fixture.write("leaf/src/lib.rs", &format!("{source}pub fn more() {{}}\n"));
    assert_eq!(fixture.build().made_by(), Maker::Replay);

    fixture.write("count", "2");
    let when = fixture.plugin.dir.join("leaf/when");
    File::options().write(true).open(when).unwrap().set_modified(SystemTime::now()).unwrap();
    let by_cargo = fixture.build_by_cargo();
    assert!(by_cargo.artifact_contains("count-2"));
    let plain = fixture.build();
    assert!(plain.artifact_contains("count-2"), "{}", output(&plain.messages));
    assert_eq!(plain.built.effect, BuildEffect::UpToDate);
    assert_eq!(plain.built.build_id, by_cargo.built.build_id);
    assert_eq!(fixture.build().made_by(), Maker::Nobody);
    fixture.write_plugin("own-2");
    let edited = fixture.build();
    assert_eq!(edited.made_by(), Maker::Replay, "{}", output(&edited.messages));
    assert!(edited.artifact_contains("own-2") && edited.artifact_contains("count-2"));
}

#[test]
fn a_restored_target_directory_is_used() {
    let mut fixture = Fixture::new("restored");
    // The directory belongs to this test, because the test removes it meanwhile. It outlives the run, so that the
    // dependencies are compiled only once.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("restored");
    fs::create_dir_all(&target).unwrap();
    let lock = File::create(target.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    fixture.plugin.target_dir = target.clone();
    let kept = fixture.workspace.path("kept");
    let copy = |from: &Path, to: &Path| {
        assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    };
    let first = fixture.build();
    copy(&target, &kept);
    fixture.write_plugin("own-2");
    assert!(fixture.build().artifact_contains("own-2"));
    fixture.write_plugin("own-1");
    fs::remove_dir_all(&target).unwrap();
    copy(&kept, &target);
    let restored = fixture.build();
    assert_eq!(restored.built.build_id, first.built.build_id);
    let text = output(&restored.messages);
    assert!(!text.contains("was changed after it was compiled"), "{text}");
    fixture.write_leaf("leaf-2");
    let edited = fixture.build();
    assert!(edited.artifact_contains("leaf-2") && !edited.artifact_contains("leaf-1"));
    fixture.write_leaf("leaf-3");
    let edited = fixture.build();
    assert_eq!(edited.made_by(), Maker::Replay, "{}", output(&edited.messages));
    assert!(edited.artifact_contains("leaf-3"));
}

fn review(fixture: &Fixture) -> Option<Review> {
    let (options, cancel) = (BuildOptions::default(), Cancel::default());
    review_plugin(&fixture.plugin, &options, &cancel, &mut |_| ()).unwrap()
}

#[test]
fn a_review_by_cargo_finds_what_the_record_missed() {
    let fixture = Fixture::new("reviewed");
    fixture.write("count", "1");
    fixture.write("leaf/when", "");
    write_counting_script(&fixture, "when");
    fixture.write("leaf/src/lib.rs", "pub fn text() -> String { env!(\"COUNT\").into() }\n");
    assert!(review(&fixture).is_none(), "before the first build, there is nothing to review");
    fixture.build();
    fixture.write_plugin("own-2");
    assert!(review(&fixture).is_none(), "sources that changed after the build are not reviewed");
    let replayed = fixture.build();
    assert_eq!(replayed.made_by(), Maker::Replay, "{}", output(&replayed.messages));
    let agreed = review(&fixture).unwrap();
    assert!(agreed.disagreement.is_none(), "{:?}", agreed.disagreement);
    assert_eq!(agreed.built.build_id, replayed.built.build_id);

    fixture.write("count", "2");
    let when = fixture.plugin.dir.join("leaf/when");
    File::options().write(true).open(when).unwrap().set_modified(SystemTime::now()).unwrap();
    assert!(fixture.build().artifact_contains("count-1"));
    let healed = review(&fixture).unwrap();
    let disagreement = healed.disagreement.unwrap();
    assert_eq!(disagreement.replayed, replayed.built.build_id.to_string());
    assert_eq!(disagreement.missed, ["leaf", "middle"]);
    let plain = fixture.build();
    assert!(plain.artifact_contains("count-2") && plain.artifact_contains("own-2"));
    assert_eq!(plain.built.build_id, healed.built.build_id);
    assert!(fixture.build().artifact_contains("count-2"));

    // Sources that cargo cannot build are not up to date either.
    fs::remove_file(fixture.plugin.dir.join("count")).unwrap();
    let when = fixture.plugin.dir.join("leaf/when");
    File::options().write(true).open(when).unwrap().set_modified(SystemTime::now()).unwrap();
    assert_eq!(fixture.build().made_by(), Maker::Nobody);
    let mut ignore = |_| ();
    review_plugin(&fixture.plugin, &BuildOptions::default(), &Cancel::default(), &mut ignore)
        .expect_err("the build script fails");
    let (built, _) = fixture.try_build(&BuildOptions::default(), &mut |_| ());
    built.expect_err("cargo tells that the build script fails");
}

/// The library has the same name for each set of flags, so cargo takes the library of other flags for its own.
#[test]
fn a_library_of_another_way_to_build_is_not_used() {
    let fixture = Fixture::new("two-ways");
    let first = fixture.build();
    let flags = ["--config", "profile.dev.package.leaf.overflow-checks=false"];
    let other = BuildOptions { no_replay: true, ..with_flags(&flags) };
    fixture.build_with(&other);
    fixture.build_by_cargo();
    let back = fixture.build();
    assert_eq!(back.built.build_id, first.built.build_id);
    fixture.write_leaf("leaf-2");
    let edited = fixture.build();
    assert_eq!(edited.made_by(), Maker::Replay, "{}", output(&edited.messages));
    assert!(edited.artifact_contains("leaf-2"));
}
