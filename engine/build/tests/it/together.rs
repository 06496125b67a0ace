//! Plugins that are built together.

use std::fs;

use hotswap_build::{
    BuildEffect, BuildError, BuildErrorKind, BuildMessage, BuildOptions, Built, Cancel,
    DiagnosticLevel, PluginPackage, build_plugins, review_plugin,
};

use crate::support::{REAL_PLUGIN, Workspace};

/// Plugins of one workspace that depend on its crate `together`.
struct Plugins {
    workspace: Workspace,
    plugins: Vec<PluginPackage>,
}

type Results = Vec<(String, Result<Built, BuildError>)>;

impl Plugins {
    fn new(names: &[&str]) -> Self {
        let workspace = Workspace::new();
        // Tests share a target directory, in which cargo would confuse crates of the same name.
        let package = format!("together-{}", names[0]);
        for name in names {
            workspace.real_plugin(name);
            let manifest = format!("{name}/Cargo.toml");
            let text = fs::read_to_string(workspace.path(&manifest)).unwrap();
            let text =
                format!("{text}together = {{ path = \"../together\", package = {package:?} }}\n");
            workspace.write(&manifest, &text);
        }
        workspace.package("together", "", "");
        let manifest = format!("[package]\nname = {package:?}\nedition = \"2024\"\n");
        workspace.write("together/Cargo.toml", &manifest);
        workspace
            .write("Cargo.toml", &format!("[workspace]\nresolver = \"3\"\nmembers = {names:?}\n"));
        let this = Self { plugins: Vec::new(), workspace };
        this.save_shared("shared-1");
        names.iter().for_each(|name| this.save(name, "own-1"));
        let plugins = names.iter().map(|name| this.workspace.reopen(name)).collect();
        Self { plugins, ..this }
    }

    fn save_shared(&self, text: &str) {
        let function = format!("pub fn text() -> String {{ \"{text}\".into() }}\n");
        self.workspace.write("together/src/lib.rs", &function);
    }

    fn save(&self, name: &str, text: &str) {
        self.workspace.write(&format!("{name}/src/lib.rs"), &Self::source(text));
    }

    fn source(text: &str) -> String {
        let body = format!("Ok(format!(\"{text} {{text}} {{}}\", together::text()))");
        REAL_PLUGIN.replace("Ok(text)", &body)
    }

    fn build(&self) -> (Results, Vec<(String, BuildMessage)>) {
        let options = BuildOptions::default();
        let builds: Vec<_> = self.plugins.iter().map(|plugin| (plugin, &options)).collect();
        let name = |position: usize| self.plugins[position].name.clone();
        let (mut results, mut messages) = (Vec::new(), Vec::new());
        build_plugins(
            &builds,
            &Cancel::default(),
            &mut |position, message| messages.push((name(position), message)),
            &mut |position, built| results.push((name(position), built)),
        );
        (results, messages)
    }
}

fn phases(built: &Built) -> Vec<&str> {
    built.phases.iter().map(|timing| timing.phase.as_str()).collect()
}

fn artifact_contains(built: &Built, text: &str) -> bool {
    let file = fs::read(&built.artifact).unwrap();
    file.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The plugins with reported errors.
fn plugins_with_errors(messages: &[(String, BuildMessage)]) -> Vec<&str> {
    let is_error = |message: &BuildMessage| matches!(message, BuildMessage::Diagnostic(it) if it.level == DiagnosticLevel::Error);
    let of = messages.iter().filter(|(_, message)| is_error(message));
    of.map(|(name, _)| name.as_str()).collect()
}

#[test]
fn a_change_in_a_shared_crate_reaches_all_its_plugins() {
    let plugins = Plugins::new(&["side-a", "side-b", "side-c"]);
    let (first, _) = plugins.build();
    assert!(first.iter().all(|(_, built)| built.is_ok()), "{first:?}");

    plugins.save_shared("shared-2");
    let (second, _) = plugins.build();
    assert_eq!(
        second.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        ["side-a", "side-b", "side-c"]
    );
    for (name, built) in &second {
        let built = built.as_ref().unwrap();
        assert!(
            artifact_contains(built, "shared-2") && !artifact_contains(built, "shared-1"),
            "{name}"
        );
        assert_eq!(built.effect, BuildEffect::NewCode);
        assert!(!phases(built).contains(&"cargo"), "{name} was compiled by cargo: {built:?}");
    }
    let (third, _) = plugins.build();
    let effects = third.iter().map(|(_, built)| built.as_ref().unwrap().effect);
    assert!(effects.eq([BuildEffect::UpToDate; 3]));
}

#[test]
fn builds_that_need_cargo_are_compiled_side_by_side_too() {
    let plugins = Plugins::new(&["cargo-a", "cargo-b", "cargo-c"]);
    plugins.workspace.write(
        "cargo-b/src/lib.rs",
        &Plugins::source("own-1").replace("Ok(format!", "let unused = 1;\n    Ok(format!"),
    );
    let (first, messages) = plugins.build();
    let by = |built: &Result<Built, BuildError>| phases(built.as_ref().unwrap()).join(" ");
    for (name, built) in &first {
        let phases = by(built);
        assert!(
            phases.contains("cargo compile link"),
            "the compiler was run separately for {name}: {phases}"
        );
        assert!(artifact_contains(built.as_ref().unwrap(), "shared-1"), "{name}");
    }
    let warnings: Vec<_> =
        first.iter().map(|(_, built)| built.as_ref().unwrap().warnings).collect();
    assert_eq!(warnings, [0, 1, 0]);
    let of_cargo = |text: &str| {
        let mut lines = messages.iter().filter_map(|(_, message)| match message {
            BuildMessage::Output(line) => Some(line),
            _ => None,
        });
        lines.any(|line| line.contains(text))
    };
    assert!(
        !of_cargo("error"),
        "a crate that another plugin compiled was reported as an error: {messages:?}"
    );
    let (again, _) = plugins.build();
    assert!(again.iter().all(|(_, built)| built.as_ref().unwrap().effect == BuildEffect::UpToDate));

    // The manifest changes without effect: cargo checks it, and nothing is compiled.
    let manifest = fs::read_to_string(plugins.workspace.path("Cargo.toml")).unwrap();
    plugins.workspace.write("Cargo.toml", &format!("{manifest}# a comment\n"));
    let (same, _) = plugins.build();
    for (name, built) in &same {
        assert_eq!(by(built), "check cargo stamp store", "{name}");
        assert_eq!(built.as_ref().unwrap().effect, BuildEffect::UpToDate);
    }

    // Cargo's review gives the same code for all of them.
    for (plugin, (name, built)) in plugins.plugins.iter().zip(&first) {
        let review =
            review_plugin(plugin, &BuildOptions::default(), &Cancel::default(), &mut |_| ());
        let review = review.unwrap().expect("a build without cargo can be reviewed");
        assert!(review.disagreement.is_none(), "{name}: {review:?}");
        assert_eq!(review.built.build_id, built.as_ref().unwrap().build_id, "{name}");
    }
    plugins.workspace.write("Cargo.toml", &format!("{manifest}# another comment\n"));
    let (after, _) = plugins.build();
    assert!(after.iter().all(|(_, built)| by(built) == "check cargo stamp store"), "{after:?}");

    // An error is reported once, and fails no other plugin.
    plugins.workspace.write("Cargo.toml", &format!("{manifest}# one more comment\n"));
    plugins.save_shared("shared-2");
    plugins.save("cargo-b", "own-2\" no rust \"");
    let (failed, messages) = plugins.build();
    assert_eq!(plugins_with_errors(&messages), ["cargo-b"]);
    let kinds = failed.iter().map(|(_, built)| built.as_ref().err().map(BuildError::kind));
    assert!(kinds.eq([None, Some(BuildErrorKind::Compile), None]));
    assert!(artifact_contains(failed[2].1.as_ref().unwrap(), "shared-2"));
}

#[test]
fn a_plugin_that_fails_does_not_stop_the_other_builds() {
    let plugins = Plugins::new(&["fails-a", "fails-b", "fails-c"]);
    plugins.build();
    plugins.save_shared("shared-2");
    plugins.save("fails-b", "own-2\" no rust \"");
    let (results, messages) = plugins.build();
    assert_eq!(plugins_with_errors(&messages), ["fails-b"]);
    for (name, built) in &results {
        match built {
            Ok(built) => assert!(artifact_contains(built, "shared-2"), "{name}"),
            Err(error) => {
                assert_eq!((name.as_str(), error.kind()), ("fails-b", BuildErrorKind::Compile));
            }
        }
    }
    assert_eq!(results.iter().filter(|(_, built)| built.is_ok()).count(), 2);

    // An error in the shared crate is reported once, and fails all its plugins.
    plugins.save("fails-b", "own-3");
    plugins.save_shared("shared-3\" no rust \"");
    let (results, messages) = plugins.build();
    assert_eq!(plugins_with_errors(&messages), ["fails-a"]);
    let errors: Vec<_> = results.iter().map(|(_, built)| built.as_ref().unwrap_err()).collect();
    assert!(errors.iter().all(|error| error.kind() == BuildErrorKind::Compile));
    insta::assert_snapshot!(errors[2].to_string(), @"`fails-c` does not compile, because `together_fails_a` does not");

    plugins.save_shared("shared-4");
    let (results, _) = plugins.build();
    assert!(
        results.iter().all(|(_, built)| artifact_contains(built.as_ref().unwrap(), "shared-4"))
    );
    assert!(artifact_contains(results[1].1.as_ref().unwrap(), "own-3"));
}
