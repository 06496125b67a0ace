//! Plugins that are built together.

use std::fs;

use hotswap_build::{
    BuildEffect, BuildError, BuildErrorKind, BuildMessage, BuildOptions, Built, Cancel,
    DiagnosticLevel, PluginPackage, build_plugins,
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
        for name in names {
            workspace.real_plugin(name);
            let manifest = format!("{name}/Cargo.toml");
            let text = fs::read_to_string(workspace.path(&manifest)).unwrap();
            let text = format!("{text}together.path = \"../together\"\n");
            workspace.write(&manifest, &text);
        }
        workspace.package("together", "", "");
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
        let body = format!("Ok(format!(\"{text} {{text}} {{}}\", together::text()))");
        let source = REAL_PLUGIN.replace("Ok(text)", &body);
        self.workspace.write(&format!("{name}/src/lib.rs"), &source);
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

fn says(built: &Built, text: &str) -> bool {
    let file = fs::read(&built.artifact).unwrap();
    file.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The plugins about which errors were told.
fn with_errors(messages: &[(String, BuildMessage)]) -> Vec<&str> {
    let is_error = |message: &BuildMessage| matches!(message, BuildMessage::Diagnostic(it) if it.level == DiagnosticLevel::Error);
    let of = messages.iter().filter(|(_, message)| is_error(message));
    of.map(|(name, _)| name.as_str()).collect()
}

#[test]
fn a_change_that_plugins_share_is_in_all_of_them() {
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
        assert!(says(built, "shared-2") && !says(built, "shared-1"), "{name}");
        assert_eq!(built.effect, BuildEffect::NewCode);
        assert!(!phases(built).contains(&"cargo"), "{name} was compiled by cargo: {built:?}");
    }
    let (third, _) = plugins.build();
    let effects = third.iter().map(|(_, built)| built.as_ref().unwrap().effect);
    assert!(effects.eq([BuildEffect::UpToDate; 3]));
}

#[test]
fn what_fails_keeps_no_other_plugin_from_being_built() {
    let plugins = Plugins::new(&["fails-a", "fails-b", "fails-c"]);
    plugins.build();
    plugins.save_shared("shared-2");
    plugins.save("fails-b", "own-2\" no rust \"");
    let (results, messages) = plugins.build();
    assert_eq!(with_errors(&messages), ["fails-b"]);
    for (name, built) in &results {
        match built {
            Ok(built) => assert!(says(built, "shared-2"), "{name}"),
            Err(error) => {
                assert_eq!((name.as_str(), error.kind()), ("fails-b", BuildErrorKind::Compile));
            }
        }
    }
    assert_eq!(results.iter().filter(|(_, built)| built.is_ok()).count(), 2);

    // An error in what they share is told once, and fails all of them.
    plugins.save("fails-b", "own-3");
    plugins.save_shared("shared-3\" no rust \"");
    let (results, messages) = plugins.build();
    assert_eq!(with_errors(&messages), ["fails-a"]);
    let errors: Vec<_> = results.iter().map(|(_, built)| built.as_ref().unwrap_err()).collect();
    assert!(errors.iter().all(|error| error.kind() == BuildErrorKind::Compile));
    insta::assert_snapshot!(errors[2].to_string(), @"`fails-c` does not compile, because `together` does not");

    plugins.save_shared("shared-4");
    let (results, _) = plugins.build();
    assert!(results.iter().all(|(_, built)| says(built.as_ref().unwrap(), "shared-4")));
    assert!(says(results[1].1.as_ref().unwrap(), "own-3"));
}
