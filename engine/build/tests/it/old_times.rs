//! Cargo compares times. A file that a tool puts in place with an old time (`mv`, `cp -p`, `rsync -t`, `tar`) changes
//! what is built all the same.

use std::fs;
use std::path::Path;
use std::process::Command;

use hotswap_build::{BuildOptions, Cancel, HostPackage, build_host, review_plugin};

use crate::replay::{Fixture, Maker, output};
use crate::support::Workspace;

/// Replaces the file at `path` by a file with this text that is older than the last build.
fn replace_with_old_time(path: &Path, text: &str) {
    let kept = path.with_extension("kept");
    fs::write(&kept, text).unwrap();
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    fs::File::options().write(true).open(&kept).unwrap().set_modified(long_ago).unwrap();
    fs::rename(&kept, path).unwrap();
}

#[test]
fn a_host_is_built_from_sources_with_old_times() {
    let workspace = Workspace::new();
    workspace.plugin("world", "");
    workspace.package("shared", "", "");
    workspace.host("sample", "plugins = [\"world\"]");
    let manifest = fs::read_to_string(workspace.path("sample/Cargo.toml")).unwrap();
    workspace.write("sample/Cargo.toml", &format!("{manifest}shared.path = \"../shared\"\n"));
    workspace.write("shared/src/lib.rs", "pub const TEXT: &str = \"shared-1\";\n");
    workspace.write("sample/mood.txt", "mood-1");
    let script = |version: u32| {
        format!(
            "fn main() {{\n    println!(\"cargo::rerun-if-changed=mood.txt\");\n    \
             println!(\"cargo::rustc-env=SCRIPT=script-{version}\");\n    \
             println!(\"cargo::rustc-env=MOOD={{}}\", std::fs::read_to_string(\"mood.txt\").unwrap());\n}}\n"
        )
    };
    workspace.write("sample/build.rs", &script(1));
    let main = |version: u32| {
        format!(
            "fn main() {{ println!(\"main-{version} {{}} {{}} {{}}\", shared::TEXT, env!(\"MOOD\"), \
             env!(\"SCRIPT\")); }}\n"
        )
    };
    workspace.write("sample/src/main.rs", &main(1));
    let host = HostPackage::open(&workspace.path("sample")).unwrap();
    let host = HostPackage { target_dir: workspace.path("target"), ..host };
    let prints = || {
        let options = BuildOptions::default();
        let program = build_host(&host, &options, &Cancel::default(), &mut |_| ()).unwrap();
        String::from_utf8(Command::new(program).output().unwrap().stdout).unwrap()
    };
    workspace.wait_until_files_are_old();
    assert_eq!(prints(), "main-1 shared-1 mood-1 script-1\n");
    replace_with_old_time(&workspace.path("sample/src/main.rs"), &main(2));
    assert_eq!(prints(), "main-2 shared-1 mood-1 script-1\n");
    let shared = "pub const TEXT: &str = \"shared-2\";\n";
    replace_with_old_time(&workspace.path("shared/src/lib.rs"), shared);
    assert_eq!(prints(), "main-2 shared-2 mood-1 script-1\n");
    replace_with_old_time(&workspace.path("sample/mood.txt"), "mood-2");
    assert_eq!(prints(), "main-2 shared-2 mood-2 script-1\n");
    replace_with_old_time(&workspace.path("sample/build.rs"), &script(2));
    assert_eq!(prints(), "main-2 shared-2 mood-2 script-2\n");
}

#[test]
fn a_review_does_not_bring_back_what_cargo_takes_for_up_to_date() {
    let fixture = Fixture::new("old-time-reviewed");
    fixture.workspace.wait_until_files_are_old();
    assert!(fixture.build().artifact_contains("leaf-1"));
    let leaf = fixture.plugin.dir.join("leaf/src/lib.rs");
    replace_with_old_time(&leaf, "pub fn text() -> String { \"leaf-2\".into() }\n");
    let edited = fixture.build();
    assert!(edited.artifact_contains("leaf-2"));
    let review =
        review_plugin(&fixture.plugin, &BuildOptions::default(), &Cancel::default(), &mut |_| ());
    let review = review.unwrap().expect("a build to review");
    assert!(review.disagreement.is_none(), "{:?}", review.disagreement);
    assert_eq!(review.built.build_id, edited.built.build_id);
    assert_eq!(fixture.build().made_by(), Maker::Nobody);
}

#[test]
fn what_only_cargo_compiles_is_built_from_sources_with_old_times() {
    let fixture = Fixture::new("old-time-macro");
    let manifest = "[package]\nname = \"makes\"\nedition = \"2024\"\n[lib]\nproc-macro = true\n";
    fixture.write("makes/Cargo.toml", manifest);
    let makes = |text: &str| {
        format!(
            "#[proc_macro]\npub fn made(_: proc_macro::TokenStream) -> proc_macro::TokenStream {{\n    \
             \"\\\"{text}\\\"\".parse().unwrap()\n}}\n"
        )
    };
    fixture.write("makes/src/lib.rs", &makes("macro-1"));
    let leaf = fs::read_to_string(fixture.plugin.dir.join("leaf/Cargo.toml")).unwrap();
    fixture.write("leaf/Cargo.toml", &format!("{leaf}makes.path = \"../makes\"\n"));
    fixture.write("leaf/src/lib.rs", "pub fn text() -> String { makes::made!().into() }\n");
    fixture.workspace.wait_until_files_are_old();
    assert!(fixture.build().artifact_contains("macro-1"));
    replace_with_old_time(&fixture.plugin.dir.join("makes/src/lib.rs"), &makes("macro-2"));
    let made = fixture.build();
    assert!(
        made.artifact_contains("macro-2") && !made.artifact_contains("macro-1"),
        "{}",
        output(&made.messages)
    );
    assert_eq!(fixture.build().made_by(), Maker::Nobody);

    // With a compiler wrapper, cargo compiles everything.
    fixture.write(".cargo/config.toml", "[build]\nrustc-wrapper = \"/usr/bin/env\"\n");
    fixture.workspace.wait_until_files_are_old();
    assert!(fixture.build().artifact_contains("own-1"));
    let leaf = fixture.plugin.dir.join("leaf/src/lib.rs");
    replace_with_old_time(&leaf, "pub fn text() -> String { \"leaf-2\".into() }\n");
    let made = fixture.build();
    assert!(made.artifact_contains("leaf-2"), "{}", output(&made.messages));
}
