//! Builds without cargo must always have the same result as builds with cargo.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;

use hotswap_build::{
    BuildEffect, BuildError, BuildErrorKind, BuildMessage, BuildOptions, Built, Cancel, Diagnostic,
    IncludedFiles, PluginPackage, build_plugin, build_plugins,
};

use crate::support::{REAL_PLUGIN, Workspace, diagnostics};

/// How the library was made.
#[derive(Debug, PartialEq, Eq)]
pub enum Maker {
    Cargo,
    Replay,
    Nobody,
}

/// A plugin whose artifact contains a text of its own, and a text of the package `leaf`, on which it depends
/// through the package `middle`.
pub struct Fixture {
    pub workspace: Workspace,
    pub plugin: PluginPackage,
}

impl Fixture {
    pub fn new(name: &str) -> Self {
        let workspace = Workspace::new();
        workspace.real_plugin(name);
        workspace.package(&format!("{name}/middle"), "leaf.path = \"../leaf\"", "");
        workspace.package(&format!("{name}/leaf"), "", "");
        for package in ["middle", "leaf"] {
            let manifest = format!("{name}/{package}/Cargo.toml");
            let text = fs::read_to_string(workspace.path(&manifest)).unwrap();
            workspace.write(&manifest, &text.replace(&format!("{name}/"), ""));
        }
        workspace.write(
            &format!("{name}/middle/src/lib.rs"),
            "pub fn text() -> String { format!(\"middle-1 {}\", leaf::text()) }\n",
        );
        let manifest = format!("{name}/Cargo.toml");
        let text = fs::read_to_string(workspace.path(&manifest)).unwrap();
        workspace.write(&manifest, &format!("{text}middle.path = \"middle\"\n"));
        let fixture = Self { plugin: workspace.reopen(name), workspace };
        fixture.write_leaf("leaf-1");
        fixture.write_plugin("own-1");
        fixture
    }

    pub fn write(&self, path: &str, contents: &str) {
        self.workspace.write(&format!("{}/{path}", self.plugin.name), contents);
    }

    pub fn write_plugin(&self, text: &str) {
        let body = format!("Ok(format!(\"{text} {{text}} {{}}\", middle::text()))");
        self.write("src/lib.rs", &REAL_PLUGIN.replace("Ok(text)", &body));
    }

    pub fn write_leaf(&self, text: &str) {
        self.write(
            "leaf/src/lib.rs",
            &format!("pub fn text() -> String {{ \"{text}\".into() }}\n"),
        );
    }

    pub fn build(&self) -> Made {
        self.build_with(&BuildOptions::default())
    }

    pub fn build_by_cargo(&self) -> Made {
        self.build_with(&BuildOptions { no_replay: true, ..BuildOptions::default() })
    }

    pub fn build_with(&self, options: &BuildOptions) -> Made {
        let (built, messages) = self.try_build(options, &mut |_| ());
        match built {
            Ok(built) => Made { built, messages },
            Err(error) => panic!("{error}: {messages:?}"),
        }
    }

    pub fn try_build(
        &self,
        options: &BuildOptions,
        watch: &mut dyn FnMut(&BuildMessage),
    ) -> (Result<Built, BuildError>, Vec<BuildMessage>) {
        let mut messages = Vec::new();
        let built = build_plugin(&self.plugin, options, &Cancel::default(), &mut |message| {
            watch(&message);
            messages.push(message);
        });
        (built, messages)
    }
}

pub struct Made {
    pub built: Built,
    pub messages: Vec<BuildMessage>,
}

impl Made {
    pub fn made_by(&self) -> Maker {
        let has = |name: &str| self.built.phases.iter().any(|timing| timing.phase.as_str() == name);
        match (has("cargo"), has("compile")) {
            (true, _) => Maker::Cargo,
            (false, true) => Maker::Replay,
            (false, false) => Maker::Nobody,
        }
    }

    pub fn artifact_contains(&self, text: &str) -> bool {
        contains(&self.built.artifact, text)
    }

    fn diagnostics(&self) -> Vec<Diagnostic> {
        diagnostics(&self.messages).into_iter().cloned().collect()
    }
}

fn contains(file: &Path, text: &str) -> bool {
    let file = fs::read(file).unwrap();
    file.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn the_kept_files_of_a_build_are_reported_whether_or_not_cargo_compiles() {
    let fixture = Fixture::new("leaves-temps");
    let options = BuildOptions { leave_temps: true, ..BuildOptions::default() };
    let said = |made: &Made, text: &str| {
        let mut lines = made.messages.iter().filter_map(|message| match message {
            BuildMessage::Output(line) => line.strip_prefix(text).map(str::to_owned),
            _ => None,
        });
        lines.next().unwrap_or_else(|| panic!("{text}: {:?}", made.messages))
    };
    let files = |dir: &str| {
        let names = fs::read_dir(dir).unwrap();
        names.map(|file| file.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let by_cargo = |made: &Made| {
        assert_eq!(made.made_by(), Maker::Cargo, "{}", output(&made.messages));
        let notes = said(made, "the notes of compiler calls are in ");
        assert!(files(&notes).iter().any(|name| name.starts_with("leaves_temps")), "{notes}");
        fs::remove_dir_all(notes).unwrap();
    };
    by_cargo(&fixture.build_with(&options));

    fixture.write_plugin("own-2");
    let replayed = fixture.build_with(&options);
    assert_eq!(replayed.made_by(), Maker::Replay, "{}", output(&replayed.messages));
    let calls = said(&replayed, "the compiler calls of this build are in ");
    let names = files(&calls);
    assert!(names.len() == 1 && names[0].starts_with("leaves_temps"), "{names:?}");
    let call = fs::read_to_string(Path::new(&calls).join(&names[0])).unwrap();
    assert!(call.contains("--crate-name\" \"leaves_temps"), "{call}");
    fs::remove_dir_all(calls).unwrap();

    let nobody = fixture.build_with(&options);
    assert_eq!(nobody.made_by(), Maker::Nobody, "{}", output(&nobody.messages));
    assert_eq!(said(&nobody, "nothing was compiled, so there is nothing to keep"), "");

    fixture.write_plugin("own-3");
    by_cargo(&fixture.build_with(&BuildOptions { no_replay: true, ..options.clone() }));
    fixture.write(".cargo/config.toml", "[build]\nrustc-wrapper = \"/usr/bin/env\"\n");
    for no_replay in [false, true] {
        let unnoted = fixture.build_with(&BuildOptions { no_replay, ..options.clone() });
        assert_eq!(unnoted.made_by(), Maker::Cargo, "{}", output(&unnoted.messages));
        let why = said(&unnoted, "nothing is kept of this build, because ");
        assert!(why.ends_with("sets `build.rustc-wrapper`"), "{why}");
    }
}

#[test]
fn if_only_sources_change_cargo_does_not_run() {
    let fixture = Fixture::new("only-sources");
    let first = fixture.build();
    assert_eq!((first.made_by(), first.built.effect), (Maker::Cargo, BuildEffect::NewCode));
    assert!(first.artifact_contains("own-1"));

    let again = fixture.build();
    assert_eq!((again.made_by(), again.built.effect), (Maker::Nobody, BuildEffect::UpToDate));
    assert_eq!(again.built.build_id, first.built.build_id);

    fixture.write_plugin("own-2");
    let edited = fixture.build();
    assert_eq!((edited.made_by(), edited.built.effect), (Maker::Replay, BuildEffect::NewCode));
    assert!(edited.artifact_contains("own-2") && !edited.artifact_contains("own-1"));
    assert_eq!(fixture.build_by_cargo().built.build_id, edited.built.build_id);

    fixture.write_plugin("own-1");
    let reverted = fixture.build();
    assert_eq!((reverted.made_by(), reverted.built.effect), (Maker::Replay, BuildEffect::NewCode));
    assert_eq!(reverted.built.build_id, first.built.build_id);
}

#[test]
fn edits_that_do_not_change_the_artifact_are_recognised() {
    let fixture = Fixture::new("no-effect");
    let first = fixture.build();
    let source = fixture.plugin.dir.join("src/lib.rs");
    let text = fs::read_to_string(&source).unwrap();
    fs::write(&source, format!("{text}// the end\n")).unwrap();
    let commented = fixture.build();
    assert_eq!(
        (commented.made_by(), commented.built.effect),
        (Maker::Replay, BuildEffect::SameCode)
    );
    assert_eq!(commented.built.build_id, first.built.build_id);

    fixture.write("src/nobody_names_me.rs", "fn nothing() {}\n");
    assert_eq!(fixture.build().built.effect, BuildEffect::UpToDate);
    File::options()
        .write(true)
        .open(source)
        .unwrap()
        .set_modified(std::time::SystemTime::now())
        .unwrap();
    assert_eq!(
        fixture.build().made_by(),
        Maker::Nobody,
        "a new modification time alone is not a change"
    );
}

#[test]
fn dependencies_are_compiled_in_their_order() {
    let fixture = Fixture::new("in-order");
    fixture.build();
    fixture.write_leaf("leaf-2");
    let leaf = fixture.build();
    assert_eq!(leaf.made_by(), Maker::Replay, "{}", output(&leaf.messages));
    assert!(
        leaf.artifact_contains("leaf-2")
            && leaf.artifact_contains("middle-1")
            && leaf.artifact_contains("own-1")
    );

    let middle = "pub fn text() -> String { format!(\"middle-2 {}\", leaf::text()) }\n";
    fixture.write("middle/src/lib.rs", middle);
    let middle = fixture.build();
    assert_eq!(middle.made_by(), Maker::Replay, "{}", output(&middle.messages));
    assert!(
        middle.artifact_contains("leaf-2")
            && middle.artifact_contains("middle-2")
            && !middle.artifact_contains("middle-1")
    );

    // Code that one crate takes from the other changes with that crate.
    fixture.write("leaf/src/lib.rs", "pub fn text() -> &'static str { \"leaf-3\" }\n");
    let signature = fixture.build();
    assert_eq!(signature.made_by(), Maker::Replay, "{}", output(&signature.messages));
    assert!(signature.artifact_contains("leaf-3") && signature.artifact_contains("middle-2"));
    assert_eq!(fixture.build_by_cargo().built.build_id, signature.built.build_id);
}

#[test]
fn a_plugin_is_linked_when_the_libraries_that_only_its_libraries_name_are_whole() {
    let fixture = Fixture::new("linked-late");
    fixture.build();
    // Its metadata exists long before its code.
    let function = |n| format!("pub fn f{n}(x: u64) -> String {{ format!(\"{{x:?}} {n}\") }}\n");
    let long: String = (0..3000).map(function).collect();
    fixture.write(
        "leaf/src/lib.rs",
        &format!("pub fn text() -> String {{ \"leaf-2\".into() }}\n{long}"),
    );
    let made = fixture.build();
    assert_eq!(made.made_by(), Maker::Replay, "{}", output(&made.messages));
    assert!(made.artifact_contains("leaf-2"));
}

#[test]
fn alternating_between_cargo_and_replay_never_gives_a_stale_artifact() {
    let fixture = Fixture::new("in-turn");
    fixture.build();
    for round in 1..=3 {
        let (own, leaf) = (format!("own-a{round}"), format!("leaf-a{round}"));
        fixture.write_leaf(&leaf);
        let replayed = fixture.build();
        assert_eq!(replayed.made_by(), Maker::Replay, "{}", output(&replayed.messages));
        assert!(replayed.artifact_contains(&leaf));
        fixture.write_plugin(&own);
        let by_cargo = fixture.build_by_cargo();
        assert!(by_cargo.artifact_contains(&own) && by_cargo.artifact_contains(&leaf));
        let replayed = fixture.build();
        assert!(replayed.artifact_contains(&own) && replayed.artifact_contains(&leaf));
        assert_eq!(replayed.built.build_id, by_cargo.built.build_id);
        fixture.write_leaf(&format!("leaf-b{round}"));
        let by_cargo = fixture.build_by_cargo();
        assert!(
            by_cargo.artifact_contains(&format!("leaf-b{round}"))
                && by_cargo.artifact_contains(&own)
        );
        // Back to the source that a replay built before cargo built another one.
        fixture.write_leaf(&leaf);
        assert_eq!(fixture.build().built.build_id, replayed.built.build_id);
    }
}

#[test]
fn a_source_that_comes_back_with_its_old_time_is_noticed() {
    let fixture = Fixture::new("old-time");
    let source = fixture.plugin.dir.join("leaf/src/lib.rs");
    let first = fixture.build();
    let kept = source.with_file_name("kept");
    fs::rename(&source, &kept).unwrap();
    fixture.write_leaf("leaf-2");
    assert!(fixture.build().artifact_contains("leaf-2"));
    fs::rename(&kept, &source).unwrap();
    let back = fixture.build();
    assert!(back.artifact_contains("leaf-1") && !back.artifact_contains("leaf-2"));
    assert_eq!(back.built.build_id, first.built.build_id);
}

#[test]
fn a_change_of_cargos_inputs_makes_cargo_run() {
    let fixture = Fixture::new("guards");
    fixture.build();
    let maker_after = |path: &str, contents: &str| {
        fixture.write(path, contents);
        let made = fixture.build();
        assert_eq!(
            fixture.build().made_by(),
            Maker::Nobody,
            "the record of the build includes {path}"
        );
        made
    };
    let manifest = fs::read_to_string(fixture.plugin.manifest_path.clone()).unwrap();
    let manifest = format!("{manifest}\n[lints.rust]\nunused = \"allow\"\n");
    assert_eq!(maker_after("Cargo.toml", &manifest).made_by(), Maker::Cargo);
    let manifest = "[package]\nname = \"leaf\"\nedition = \"2021\"\n";
    assert_eq!(maker_after("leaf/Cargo.toml", manifest).made_by(), Maker::Cargo);
    let config = "# include = \"nothing\", nor a rustc-wrapper\n[env]\nMOOD = \"good\"\n";
    assert_eq!(maker_after(".cargo/config.toml", config).made_by(), Maker::Cargo);
    let source = "pub fn text() -> String {\n\
                  format!(\"{:?}\", Some(concat!(\"mood-\", env!(\"MOOD\")))) }\n";
    let made = maker_after("leaf/src/lib.rs", source);
    assert_eq!(made.made_by(), Maker::Cargo, "no build with this value of MOOD was recorded");
    assert!(made.artifact_contains("mood-good"));
    let made = maker_after("leaf/src/lib.rs", &source.replace("mood-", "the-mood-"));
    assert_eq!(made.made_by(), Maker::Replay, "{}", output(&made.messages));
    assert!(made.artifact_contains("the-mood-good"));
    let made = maker_after(".cargo/config.toml", "[env]\nMOOD = \"bad\"\n");
    assert_eq!(made.made_by(), Maker::Cargo, "{}", output(&made.messages));
    assert!(made.artifact_contains("the-mood-bad"));
    // A file that the configuration includes is one of cargo's inputs, too.
    fixture.write("more/mood.toml", "[env]\nMOOD = \"better\"\n");
    let made = maker_after(".cargo/config.toml", "include = [\"../more/mood.toml\"]\n");
    assert_eq!(made.made_by(), Maker::Cargo);
    let made = maker_after("more/mood.toml", "[env]\nMOOD = \"best\"\n");
    assert_eq!(made.made_by(), Maker::Cargo);
    assert!(made.artifact_contains("the-mood-best"));
    let made = maker_after(".cargo/config.toml", "[env]\nMOOD = \"bad\"\n");
    assert!(made.artifact_contains("the-mood-bad"));
    // Builds with other flags are separate: a return to the earlier flags gives the earlier build.
    let flags = ["--config", "profile.dev.package.leaf.overflow-checks=false"];
    let flags = flags.map(str::to_owned).to_vec();
    let options = BuildOptions { cargo_flags: flags, ..BuildOptions::default() };
    assert_eq!(fixture.build_with(&options).made_by(), Maker::Cargo);
    assert_eq!(fixture.build().built.build_id, made.built.build_id);
    // Cargo alone does not notice a source that came back with its old time.
    let source = fixture.plugin.dir.join("leaf/src/lib.rs");
    let kept = source.with_file_name("kept");
    fs::rename(&source, &kept).unwrap();
    fixture.write_leaf("leaf-2");
    assert!(fixture.build().artifact_contains("leaf-2"));
    fs::rename(&kept, &source).unwrap();
    let back = maker_after(".cargo/config.toml", "[env]\nMOOD = \"bad\"\nMORE = \"\"\n");
    assert!(back.artifact_contains("the-mood-bad") && !back.artifact_contains("leaf-2"));
}

#[test]
fn builds_that_no_record_can_describe_make_cargo_run_each_time() {
    let fixture = Fixture::new("unrecorded");
    let reason = |made: &Made| {
        let text = output(&made.messages);
        let line = text.lines().find(|line| line.starts_with("every build runs cargo, because"));
        line.expect("a reason").to_owned()
    };
    fixture.write(".cargo/config.toml", "[build]\nrustc-wrapper = \"/usr/bin/env\"\n");
    for _ in 0..2 {
        let made = fixture.build();
        assert_eq!(made.made_by(), Maker::Cargo, "{}", output(&made.messages));
        let reason = reason(&made);
        assert!(reason.ends_with("/.cargo/config.toml sets `build.rustc-wrapper`"), "{reason}");
    }
    // A nearer file turns the wrapper off.
    let of_workspace = "[build]\nrustc-wrapper = \"/usr/bin/env\"\n";
    fixture.workspace.write(".cargo/config.toml", of_workspace);
    fixture.write(".cargo/config.toml", "[build]\nrustc-wrapper = \"\"\n");
    fixture.build();
    fixture.write_plugin("own-2");
    let made = fixture.build();
    assert_eq!(made.made_by(), Maker::Replay, "{}", output(&made.messages));
    assert!(made.artifact_contains("own-2"));
}

#[test]
fn a_save_just_after_a_build_by_cargo_is_compared_with_that_build() {
    let fixture = Fixture::new("saved-at-once");
    let mut first = None;
    let plugins = [(&fixture.plugin, &BuildOptions::default())];
    build_plugins(&plugins, &Cancel::default(), &mut |_, _| (), &mut |_, built| {
        fixture.write_plugin("own-2");
        first = Some(built.expect("a build").build_id);
    });
    let options = BuildOptions { patch_base: first, ..BuildOptions::default() };
    let made = fixture.build_with(&options);
    assert_eq!(made.made_by(), Maker::Replay, "{}", output(&made.messages));
    assert!(made.built.changes.is_some(), "{:?}", made.built);
    assert!(matches!(made.built.patch, Some(Ok(_))), "{:?}", made.built.patch);
}

#[test]
fn a_change_of_a_build_scripts_inputs_makes_cargo_run() {
    let fixture = Fixture::new("generates");
    fixture.write(
        "leaf/build.rs",
        "fn main() {\n\
             println!(\"cargo::rerun-if-changed=text\");\n\
             println!(\"cargo::rerun-if-changed=texts\");\n\
             let text = std::fs::read_to_string(\"text\").unwrap();\n\
             let text = text + &std::fs::read_to_string(\"texts/.more\").unwrap_or_default();\n\
             let out = std::env::var(\"OUT_DIR\").unwrap();\n\
             std::fs::write(out + \"/text.rs\", format!(\"{text:?}\")).unwrap();\n\
         }\n",
    );
    fixture.write("leaf/text", "generated-1");
    fixture.write("leaf/texts/other", "");
    let source = |more: &str| {
        format!(
            "pub fn text() -> String {{ include_str!(concat!(env!(\"OUT_DIR\"), \"/text.rs\")).into() }}\n{more}"
        )
    };
    fixture.write("leaf/src/lib.rs", &source(""));
    assert!(fixture.build().artifact_contains("generated-1"));
    fixture.write("leaf/src/lib.rs", &source("pub fn more() {}\n"));
    let edited = fixture.build();
    assert_eq!(edited.made_by(), Maker::Replay, "{}", output(&edited.messages));
    assert!(edited.artifact_contains("generated-1"));
    fixture.write("leaf/text", "generated-2");
    let generated = fixture.build();
    assert_eq!(generated.made_by(), Maker::Cargo, "{}", output(&generated.messages));
    assert!(generated.artifact_contains("generated-2"));
    // A hidden file counts, and a file that an editor makes beside it does not.
    fixture.write("leaf/texts/.#other", "me@here");
    assert_eq!(fixture.build().made_by(), Maker::Nobody);
    fixture.write("leaf/texts/.more", " hidden-1");
    assert!(fixture.build().artifact_contains("hidden-1"));
    // So do files behind links, and links that lead around or to nothing do no harm.
    let texts = fixture.plugin.dir.join("leaf/texts");
    fs::rename(&texts, fixture.plugin.dir.join("leaf/kept")).unwrap();
    fs::create_dir(&texts).unwrap();
    for (target, link) in [("../kept", "linked"), (".", "around"), ("nothing", "broken")] {
        symlink(target, texts.join(link)).unwrap();
    }
    let script = fs::read_to_string(fixture.plugin.dir.join("leaf/build.rs")).unwrap();
    let script = script.replace("texts/.more", "texts/linked/.more");
    fixture.write("leaf/build.rs", &script);
    assert!(fixture.build().artifact_contains("hidden-1"));
    fixture.write("leaf/kept/.more", " hidden-2");
    assert!(fixture.build().artifact_contains("hidden-2"));
    assert_eq!(fixture.build().made_by(), Maker::Nobody);
    fixture.write("leaf/build.rs", &script.replace("{text:?}", "scripted-{text:?}"));
    let scripted = fixture.build();
    assert_eq!(scripted.made_by(), Maker::Cargo, "{}", output(&scripted.messages));
    assert!(scripted.artifact_contains("scripted-"));
    // A file that a source includes needs no run of cargo.
    fixture.write("src/note.txt", "note-1");
    let include = "\npub static NOTE: &str = include_str!(\"note.txt\");\n\
                   #[invoke]\nfn note() -> Result<String> { Ok(NOTE.into()) }\n";
    fixture.write("src/lib.rs", &format!("{REAL_PLUGIN}{include}"));
    assert!(fixture.build().artifact_contains("note-1"));
    fixture.write("src/note.txt", "note-2");
    let noted = fixture.build();
    assert_eq!(noted.made_by(), Maker::Replay, "{}", output(&noted.messages));
    assert!(noted.artifact_contains("note-2"));
}

#[test]
fn a_variable_that_a_build_script_set_for_another_build_is_not_missed() {
    check_directive_of_other_build(
        "told-variable",
        |word| format!("cargo::rustc-env=WORD={word}"),
        "pub fn text() -> String { env!(\"WORD\").into() }\n",
    );
}

#[test]
fn a_cfg_that_a_build_script_set_for_another_build_is_not_missed() {
    check_directive_of_other_build(
        "told-cfg",
        |word| format!("cargo::rustc-cfg=word=\\\"{word}\\\""),
        "#![allow(unexpected_cfgs)]\npub fn text() -> String {\n    \
         (if cfg!(word = \"told-1\") { \"told-1\" } else { \"told-2\" }).into()\n}\n",
    );
}

/// Makes a build script print another `directive` for the compiler, while only another build in the target
/// directory runs the script.
fn check_directive_of_other_build(name: &str, directive: fn(&str) -> String, leaf: &str) {
    let fixture = Fixture::new(name);
    let script = |word: &str| {
        let directive = directive(word);
        format!(
            "fn main() {{\n    println!(\"cargo::rerun-if-changed=build.rs\");\n    \
             println!(\"{directive}\");\n}}\n"
        )
    };
    fixture.write("leaf/build.rs", &script("told-1"));
    fixture.write("leaf/src/lib.rs", leaf);
    let other =
        BuildOptions { cargo_flags: vec!["--keep-going".into()], ..BuildOptions::default() };
    for build in [BuildOptions::default(), other.clone(), BuildOptions::default()] {
        assert!(fixture.build_with(&build).artifact_contains("told-1"));
    }
    // Cargo runs the script for the other build, and finds the crate up to date for this one.
    fixture.write("leaf/build.rs", &script("told-2"));
    for build in [other, BuildOptions::default()] {
        assert!(fixture.build_with(&build).artifact_contains("told-2"));
    }
    fixture.write("leaf/src/lib.rs", &format!("{leaf}// More.\n"));
    assert!(fixture.build().artifact_contains("told-2"));
    fixture.write("leaf/src/lib.rs", &format!("{leaf}// Still more.\n"));
    fixture.write_plugin("own-2");
    let edited = fixture.build();
    assert!(edited.artifact_contains("told-2") && edited.artifact_contains("own-2"));
    assert_eq!(edited.made_by(), Maker::Replay, "{}", output(&edited.messages));
}

#[test]
fn the_crate_of_another_checkout_is_not_used() {
    let (one, two) = (Fixture::new("checkouts"), Fixture::new("checkouts"));
    for (checkout, text) in [(&one, "leaf-of-one"), (&two, "leaf-of-two")] {
        let leaf = format!("pub fn text() -> String {{ \"{text}\".into() }}\n");
        checkout.write("leaf/src/lib.rs", &leaf);
    }
    // Libraries that cargo compiles for one checkout are newer than the sources of the other.
    for (checkout, text) in [(&one, "leaf-of-one"), (&two, "leaf-of-two"), (&one, "leaf-of-one")] {
        assert!(checkout.build().artifact_contains(text), "{text}");
        checkout.write_plugin("own-2");
        let edited = checkout.build();
        assert!(edited.artifact_contains(text) && edited.artifact_contains("own-2"), "{text}");
        checkout.write_plugin("own-1");
    }
    assert!(two.build().artifact_contains("leaf-of-two"));
}

#[test]
fn the_compiler_reports_the_same_with_and_without_cargo() {
    let fixture = Fixture::new("says-the-same");
    fixture.write("middle/src/lib.rs", "pub fn text() -> String { leaf::text() }\nfn idle() {}\n");
    fixture.build();
    let source = fixture.plugin.dir.join("src/lib.rs");
    let text = fs::read_to_string(&source).unwrap();
    fs::write(&source, format!("{text}\nfn idle_too() {{}}\n")).unwrap();
    let replayed = fixture.build();
    assert_eq!(replayed.made_by(), Maker::Replay, "{}", output(&replayed.messages));
    assert_eq!((replayed.built.warnings, replayed.diagnostics().len()), (2, 2));
    let sorted = |made: &Made| {
        let mut diagnostics = made.diagnostics();
        diagnostics.sort_by(|a, b| a.rendered.cmp(&b.rendered));
        diagnostics
    };
    let by_cargo = fixture.build_by_cargo();
    assert_eq!(sorted(&replayed), sorted(&by_cargo));
    let again = fixture.build();
    assert_eq!((again.made_by(), again.built.warnings), (Maker::Nobody, 2));
    assert_eq!(sorted(&again), sorted(&by_cargo));
}

#[test]
fn errors_are_those_of_cargo() {
    let fixture = Fixture::new("does-not-compile");
    fixture.build();
    fixture.write_plugin("own-2");
    let source = fixture.plugin.dir.join("src/lib.rs");
    let right = fs::read_to_string(&source).unwrap();
    fs::write(&source, right.replace("Ok(format!", "Ok(fromat!")).unwrap();
    let told = |options: &BuildOptions| {
        let (built, messages) = fixture.try_build(options, &mut |_| ());
        let error = built.unwrap_err();
        assert_eq!(error.kind(), BuildErrorKind::Compile);
        let diagnostics: Vec<_> = diagnostics(&messages).into_iter().cloned().collect();
        (error.to_string(), diagnostics)
    };
    let (error, diagnostics) = told(&BuildOptions::default());
    assert!(error.ends_with("does not compile: 1 error"), "{error}");
    assert_eq!(diagnostics.len(), 1, "{diagnostics:?}");
    let by_cargo = told(&BuildOptions { no_replay: true, ..BuildOptions::default() });
    assert_eq!((error, diagnostics), by_cargo);
    fs::write(&source, right).unwrap();
    let repaired = fixture.build();
    assert_eq!(repaired.made_by(), Maker::Replay, "{}", output(&repaired.messages));
    assert!(repaired.artifact_contains("own-2"));
}

#[test]
fn an_edit_during_a_build_is_in_its_artifact() {
    let fixture = Fixture::new("edited-meanwhile");
    let mut edits = 0;
    let (built, messages) = fixture.try_build(&BuildOptions::default(), &mut |message| {
        if matches!(message, BuildMessage::Progress { package, .. } if package == "leaf") {
            edits += 1;
            fixture.write_leaf(&format!("leaf-{}", edits + 1));
        }
    });
    let made = Made { built: built.unwrap(), messages };
    assert!(edits >= 1);
    assert!(
        made.artifact_contains(&format!("leaf-{}", edits + 1)) && !made.artifact_contains("leaf-1")
    );
    assert_eq!(fixture.build().made_by(), Maker::Nobody);
}

#[test]
fn two_builders_at_once_make_the_same_artifact() {
    let fixture = Fixture::new("two-builders");
    fixture.build();
    for round in 1..=3 {
        let text = format!("own-at-once-{round}");
        fixture.write_plugin(&text);
        fixture.write_leaf(&format!("leaf-{round}"));
        let (one, other) = thread::scope(|scope| {
            let other = scope.spawn(|| fixture.build_by_cargo());
            (fixture.build(), other.join().unwrap())
        });
        assert!(one.artifact_contains(&text) && other.artifact_contains(&text));
        assert_eq!(one.built.build_id, other.built.build_id);
    }
}

#[test]
fn a_record_that_cannot_be_read_is_ignored() {
    let fixture = Fixture::new("lost-record");
    let first = fixture.build();
    for way in fs::read_dir(fixture.plugin.target_dir.join("hotswap/replay")).unwrap() {
        let record = way.unwrap().path().join("record.json");
        // Records of other tests are left alone, because those tests read them while they build.
        let text = fs::read_to_string(&record).unwrap_or_default();
        if text.contains("lost-record") {
            fs::write(record, &text[..text.len() / 2]).unwrap();
        }
    }
    let second = fixture.build();
    assert_eq!(second.made_by(), Maker::Cargo, "{}", output(&second.messages));
    assert_eq!(second.built.build_id, first.built.build_id);
    fixture.write_plugin("own-2");
    assert_eq!(fixture.build().made_by(), Maker::Replay);
}

#[test]
fn included_files_are_inputs_of_a_build() {
    let mut fixture = Fixture::new("includes");
    let plain = fixture.build();
    fixture.plugin.included = IncludedFiles::new(&["^assets/".to_owned()], &[]).unwrap();
    fs::create_dir(fixture.plugin.dir.join("elsewhere")).unwrap();
    symlink("elsewhere", fixture.plugin.dir.join("assets")).unwrap();
    fixture.write("assets/text", "one");
    let one = fixture.build();
    assert_ne!(one.built.build_id, plain.built.build_id);
    fixture.write_plugin("own-2");
    assert_eq!(fixture.build().made_by(), Maker::Replay);
    fixture.write_plugin("own-1");
    fixture.write("assets/text", "two");
    let two = fixture.build();
    assert_eq!((two.made_by(), two.built.effect), (Maker::Cargo, BuildEffect::NewCode));
    fixture.write("assets/text", "one");
    assert_eq!(fixture.build().built.build_id, one.built.build_id);
    fixture.write("other", "");
    assert_eq!(fixture.build().made_by(), Maker::Nobody);
    fixture.plugin.included = IncludedFiles::default();
    assert_eq!(fixture.build().built.build_id, plain.built.build_id);
}

#[test]
fn a_build_may_choose_the_prefix_of_live_names() {
    let fixture = Fixture::new("prefixed");
    let jobs = "\n#[live]\nmod jobs {\n    use super::*;\n    /// Reports for duty.\n    \
                fn duty_call(name: String) -> Result<String> { Ok(name) }\n}\n";
    fixture.write("src/lib.rs", &format!("{REAL_PLUGIN}{jobs}"));
    assert!(!fixture.build().artifact_contains("Reports for duty."));
    let live_prefix = Some("duty_".to_owned());
    let options = BuildOptions { live_prefix, ..BuildOptions::default() };
    assert!(fixture.build_with(&options).artifact_contains("Reports for duty."));
    let again = fixture.build_with(&options);
    assert_eq!(again.made_by(), Maker::Nobody, "{}", output(&again.messages));
    assert!(!fixture.build().artifact_contains("Reports for duty."));
}

/// The size, the inode, the times and the name stay the same.
#[test]
fn a_library_that_something_else_changed_is_built_again() {
    const TEXT: &[u8] = b"said behind-2";
    let fixture = Fixture::new("changed-behind");
    fixture.build();
    fixture.write_plugin(&String::from_utf8_lossy(TEXT));
    let made = fixture.build();
    assert_eq!(made.made_by(), Maker::Replay, "{}", output(&made.messages));

    let says = |bytes: &[u8]| bytes.windows(TEXT.len()).position(|part| part == TEXT);
    let libraries = shared_libraries(&fixture.plugin.target_dir.join("hotswap/replay")).into_iter();
    // Other tests build in the same directory, and may have removed theirs meanwhile.
    let mut found = libraries.filter_map(|path| Some((fs::read(&path).ok()?, path)));
    let (mut bytes, library) = found.find(|(bytes, _)| says(bytes).is_some()).unwrap();
    let at = says(&bytes).unwrap();
    bytes[at + TEXT.len() - 1] = b'3';
    let modified = fs::metadata(&library).unwrap().modified().unwrap();
    fs::write(&library, bytes).unwrap();
    File::options().write(true).open(&library).unwrap().set_modified(modified).unwrap();

    let again = fixture.build();
    assert_eq!(again.built.build_id, made.built.build_id);
    let text = output(&again.messages);
    assert!(
        text.contains("changed after it was compiled; building `changed-behind` again"),
        "{text}"
    );
    assert_eq!(fixture.build().built.effect, BuildEffect::UpToDate);
}

pub fn output(messages: &[BuildMessage]) -> String {
    let lines = messages.iter().filter_map(|message| match message {
        BuildMessage::Output(text) => Some(text.as_str()),
        _ => None,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The shared libraries below a directory.
fn shared_libraries(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let (dirs, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let is_library = |path: &PathBuf| path.extension().is_some_and(|it| it == "so");
    let files = files.into_iter().filter(is_library);
    files.chain(dirs.iter().flat_map(|dir| shared_libraries(dir))).collect()
}
