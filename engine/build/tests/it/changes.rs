//! The source changes that a build reports.

use std::fs;

use hotswap_build::{ChangedFunction, ItemChange, SourceChanges};

use crate::replay::Fixture;

/// The changes that the next build reports.
fn build(fixture: &Fixture) -> Option<SourceChanges> {
    fixture.workspace.wait_until_files_are_old();
    fixture.build().built.changes
}

fn names(changes: &SourceChanges) -> Vec<&str> {
    changes.functions.iter().map(|ChangedFunction { name, .. }| name.as_str()).collect()
}

fn items(changes: &SourceChanges) -> Vec<(&str, ItemChange)> {
    changes.items.iter().map(|it| (it.item.as_deref().unwrap_or("the file"), it.change)).collect()
}

#[test]
fn a_build_reports_which_functions_and_other_items_changed() {
    let fixture = Fixture::new("changes");
    assert_eq!(build(&fixture), None, "the first build has no earlier one to compare with");

    fixture.write_plugin("own-2");
    let changes = build(&fixture).expect("the build reports changes");
    assert_eq!(names(&changes), ["echo"]);
    assert!(changes.is_bodies_only(), "{changes:?}");
    assert_eq!(changes.functions[0].file, fixture.workspace.path("changes/src/lib.rs"));

    // The change is in a package that the plugin is compiled from, and then in both packages at once.
    fixture.write_leaf("leaf-2");
    assert_eq!(names(&build(&fixture).unwrap()), ["text"]);
    fixture.write_leaf("leaf-3");
    fixture.write_plugin("own-3");
    assert_eq!(names(&build(&fixture).unwrap()), ["echo", "text"]);

    let lib = fixture.workspace.path("changes/src/lib.rs");
    let text = fs::read_to_string(&lib).unwrap();
    let text = text.replace("struct Echo;", "struct Echo { echoes: u64 }");
    fixture.write("src/lib.rs", &text);
    let changes = build(&fixture).unwrap();
    assert_eq!(items(&changes), [("struct Echo", ItemChange::Changed)]);
    assert!(!changes.is_bodies_only());

    // The changes are in a file that is not Rust, and in a new module.
    fixture.write("src/text.txt", "text-1");
    fixture.write("src/deep.rs", "pub fn deep() -> &'static str { include_str!(\"text.txt\") }\n");
    fixture.write(
        "src/lib.rs",
        &format!("{text}\nmod deep;\n#[invoke]\nfn deep() -> String {{ deep::deep().into() }}\n"),
    );
    let changes = build(&fixture).unwrap();
    let added = |item| (item, ItemChange::Added);
    assert_eq!(
        items(&changes),
        [added("the file"), added("the file"), added("fn deep"), added("mod deep")]
    );
    fixture.write("src/text.txt", "text-2");
    let changes = build(&fixture).unwrap();
    assert_eq!(
        (items(&changes), names(&changes)),
        (vec![("the file", ItemChange::Changed)], vec![])
    );

    // Space and comments do not change the code. Builds by cargo are not compared.
    let text = fs::read_to_string(&lib).unwrap();
    fixture.write("src/lib.rs", &format!("// A remark.\n{text}"));
    assert_eq!(build(&fixture), Some(SourceChanges::default()));
    fixture.write_plugin("own-4");
    assert_eq!(fixture.build_by_cargo().built.changes, None);
}
