//! Dependencies between modules and crates: the floors of the crates, as tables, and the tests that compare the
//! sources with them.
//!
//! A floor may import the floors that its row lists, which must come before it in the table. So no floors can form
//! a circle; modules within a floor may. Each module needs a floor.

mod crates;
mod floors;
mod scan;

use insta::assert_snapshot;

use crate::support::repository;
use crates::{
    Crate, dependency_complaints, missing_forbids, unsafe_complaints, version_complaints,
    with_features,
};
use floors::{ALL_BELOW, Floor, House, ROOT, SourceFile, complaints, sources};

const ENGINE: House = House {
    root: "engine/core/src",
    floors: &[
        Floor::of("error", &[]),
        Floor::of("lock", &[]),
        Floor::of("event", &["lock"]),
        Floor::of("os", &[]),
        Floor::of("runtime_dir", &["error", "os"]),
        Floor::of("sync", &[]),
        Floor::of("slots", &["lock", "os", "sync"]),
        Floor::of("image", &["lock", "os", "error", "slots"]),
        Floor::of("version", &["lock", "os", "error", "event", "slots", "image"]),
        Floor::of("log", &["lock", "version"]),
        Floor::of("vault", &["lock", "error", "event", "slots", "image", "version"]),
        Floor::of("reclaim", &["lock", "slots", "image", "version", "vault"]),
        Floor::of("serve", &["lock", "error", "slots", "image", "version", "vault", "reclaim"]),
        Floor::of(
            "load",
            &[
                "lock",
                "os",
                "error",
                "runtime_dir",
                "slots",
                "image",
                "version",
                "log",
                "vault",
                "reclaim",
                "serve",
            ],
        ),
        Floor::of("server", &["lock", "os", "error", "event", "runtime_dir", "log", "serve"]),
        Floor::of("engine", &[ALL_BELOW]),
        Floor::of("probe", &["error", "image", "version", "load", "server", "engine"]),
    ],
};

const CONSOLE: House = House {
    root: "console/src",
    floors: &[
        Floor::of("failure", &[]),
        Floor::of("format", &[]),
        Floor::of("signals", &[]),
        Floor::of("host", &[]),
        Floor::of("compare", &["format", "host"]),
        Floor::of("session", &["format", "host", "compare"]),
        Floor::of("agent", &["host", "compare"]),
        Floor::of("cli", &["failure", "format", "signals", "host", "compare", "session", "agent"]),
        Floor::of("screen::layout", &["format"]),
        Floor::of("screen::input", &["host", "screen::layout"]),
        Floor::of(
            "screen::model",
            &["format", "host", "compare", "session", "screen::layout", "screen::input"],
        ),
        Floor::of(
            "screen::update",
            &["format", "host", "session", "screen::layout", "screen::input", "screen::model"],
        ),
        Floor::of(
            "screen::view",
            &["format", "compare", "session", "screen::layout", "screen::input", "screen::model"],
        ),
        Floor::of("screen::config", &["screen::input", "screen::model", "screen::view"]),
        Floor::of("screen::editor", &["screen::model"]),
        Floor::of("screen::keyboard", &[]),
        Floor::of("screen::remembered", &["screen::model"]),
        Floor::of("screen::others", &["host", "screen::model"]),
        Floor::of("screen::terminal", &["screen::model", "screen::others"]),
        Floor::of("screen::writer", &["screen::remembered"]),
        Floor::of("screen::fleet", &["agent", "cli", "host", "screen::model"]),
        Floor::of("screen::app", &[ALL_BELOW]),
        Floor::of("screen::picker", &[ALL_BELOW]),
        Floor::of("screen::start", &[ALL_BELOW]),
        Floor::of("screen", &[ALL_BELOW]),
    ],
};

const HOUSES: &[House] = &[ENGINE, CONSOLE];

/// The crates except those of the tests, each with the other crates that it may depend on.
const CRATES: &[Crate] = &[
    Crate { directory: "engine/protocol", may_depend_on: &[] },
    Crate { directory: "engine/macros", may_depend_on: &[] },
    Crate { directory: "engine/plugin", may_depend_on: &["hotswap-macros"] },
    Crate { directory: "engine/artifact", may_depend_on: &["hotswap-plugin", "hotswap-protocol"] },
    Crate {
        directory: "engine/core",
        may_depend_on: &["hotswap-artifact", "hotswap-plugin", "hotswap-protocol"],
    },
    Crate { directory: "engine/fleet", may_depend_on: &["hotswap-protocol"] },
    Crate { directory: "engine/build", may_depend_on: &["hotswap-artifact", "hotswap-protocol"] },
    Crate {
        directory: "console",
        may_depend_on: &[
            "hotswap-artifact",
            "hotswap-build",
            "hotswap-engine",
            "hotswap-fleet",
            "hotswap-protocol",
        ],
    },
    Crate { directory: "sample-host", may_depend_on: &["hotswap-engine", "sample-api"] },
    Crate { directory: "sample-host/chat", may_depend_on: &["hotswap-engine", "sample-api"] },
    Crate { directory: "sample-host/chat/rooms", may_depend_on: SAMPLE },
    Crate {
        directory: "sample-host/game",
        may_depend_on: &["hotswap-build", "hotswap-engine", "sample-api"],
    },
    Crate { directory: "sample-host/game/rules", may_depend_on: SAMPLE },
    Crate { directory: "sample-plugins/api", may_depend_on: &["hotswap-plugin"] },
    Crate { directory: "sample-plugins/alpha", may_depend_on: SAMPLE },
    Crate { directory: "sample-plugins/beta", may_depend_on: SAMPLE },
    Crate { directory: "sample-plugins/cat", may_depend_on: SAMPLE },
    Crate { directory: "sample-plugins/dog", may_depend_on: SAMPLE },
    Crate { directory: "sample-plugins/gamma", may_depend_on: SAMPLE },
    Crate { directory: "sample-plugins/guardian", may_depend_on: SAMPLE },
    Crate { directory: "sample-plugins/world", may_depend_on: SAMPLE },
];
const SAMPLE: &[&str] = &["hotswap-plugin", "sample-api"];

/// The crates, folders and files that may contain `unsafe`. In the macros, it is only a word in the code that they
/// generate.
const UNSAFE: &[&str] = &[
    "engine/plugin",
    "engine/macros",
    // Calls to and from the system, the loader and the image.
    "engine/core/src/os.rs",
    "engine/core/src/sync.rs",
    "engine/core/src/image.rs",
    "engine/core/src/image",
    "engine/core/src/load/stage.rs",
    // Code that keeps a version in use and releases it.
    "engine/core/src/slots.rs",
    "engine/core/src/slots/file.rs",
    "engine/core/src/version.rs",
    "engine/core/src/version/counts.rs",
    "engine/core/src/version/lease.rs",
    "engine/core/src/version/registration.rs",
    "engine/core/src/version/tasks.rs",
    "engine/core/src/version/threads.rs",
    "engine/core/src/version/wakers.rs",
    "engine/core/src/reclaim/ending.rs",
    // Values that lie in images.
    "engine/core/src/vault",
    // Calls.
    "engine/core/src/serve",
];
/// The crates that forbid `unsafe`.
const WITHOUT_UNSAFE: &[&str] = &[
    "engine/protocol",
    "engine/artifact",
    "engine/fleet",
    "engine/macros",
    "engine/build",
    "console",
];

#[test]
fn modules_import_only_lower_floors() {
    for house in HOUSES {
        let files = sources(repository(), house.root);
        assert_none(complaints(house, &files));
    }
}

#[test]
fn crates_depend_only_on_lower_crates() {
    assert_none(dependency_complaints(repository(), CRATES));
}

#[test]
fn the_lowest_versions_that_manifests_allow_are_tested() {
    assert_none(version_complaints(repository()));
}

/// Everybody who clones the repository builds both. See "Keep features equal" in CONTRIBUTING.md.
#[test]
fn dependencies_of_the_console_and_the_sample_host_are_compiled_once() {
    let repository = repository();
    let [console, host] = ["hotswap-console", "sample-host"].map(|package| {
        with_features(repository, &["--edges", "normal,build", "--package", package])
    });
    let is_shared = |package: &str| console.iter().any(|(other, _)| other == package);
    let twice = host.difference(&console).filter(|(package, _)| is_shared(package));
    let twice: Vec<_> = twice.filter_map(|(package, _)| package.split(' ').next()).collect();
    assert_snapshot!(twice.join(" "), @"");
}

#[test]
fn programs_have_the_same_features_in_the_build_of_all_tests() {
    let repository = repository();
    let all = with_features(repository, &["--edges", "normal,build,dev", "--workspace"]);
    let programs = ["--package", "hotswap-console", "--package", "sample-host"];
    let programs =
        with_features(repository, &[&["--edges", "normal,build"], &programs[..]].concat());
    let twice = programs.difference(&all).map(|(package, features)| {
        format!(
            "{package} has only the features {features} in the build of the programs: let the fixture or test that \
             asks for more ask for less; see \"Keep features equal\" in CONTRIBUTING.md"
        )
    });
    assert_none(twice.collect());
}

#[test]
fn unsafe_stands_only_in_allowed_places() {
    assert_none(unsafe_complaints(repository(), UNSAFE));
    assert_none(missing_forbids(repository(), WITHOUT_UNSAFE));
}

fn assert_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The complaints about a crate with these files, in which `high` is divided into floors.
fn complaints_of(files: &[(&str, &str)]) -> String {
    const HOUSE: House = House {
        root: "src",
        floors: &[
            Floor::of("low", &[ROOT]),
            Floor::of("high::left", &["low"]),
            Floor::of("high::right", &["low"]),
            Floor::of("high", &[ALL_BELOW]),
        ],
    };
    let others = [("low", ""), ("high::left", ""), ("high::right", ""), ("high", "")];
    let others = others.iter().filter(|(module, _)| files.iter().all(|(it, _)| it != module));
    let files = files.iter().chain(others).map(|(module, text)| SourceFile {
        path: format!("src/{}.rs", module.replace("::", "/")),
        module: module.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        text: (*text).to_owned(),
    });
    complaints(&HOUSE, &files.collect::<Vec<_>>()).join("\n")
}

#[test]
fn every_kind_of_import_of_a_higher_floor_is_found() {
    let found = complaints_of(&[
        ("", "mod high; mod low; pub use high::Both; pub fn of_root() {}"),
        ("high", "mod left; mod right; use right::Right; pub struct Both;"),
        ("low::one", "use crate::{high::{left::{self, Left}, right::Right as It}, low::two};"),
        ("low::two", "fn f() {\n    crate::high::left::run();\n    <crate::Both>::new();\n}"),
        (
            "low::three",
            "use super::super::high::right;\nmod tests { use super::super::super::high; }",
        ),
        ("high::left", "use super::right::Right;\nuse super::Right as It;\nuse crate::high as up;"),
        ("low::four", "#[path = \"../high/left.rs\"]\nmod left;\ninclude!(\"high.rs\");"),
        ("high::right::deep", "#[serde(default = \"super::super::left::f\")]"),
    ]);
    assert_snapshot!(found, @r"
    src/high/left.rs:1 imports `crate::high::right::Right`: `high::left` may import only `low`; move what both need down, or pass it in
    src/high/left.rs:2 imports `crate::high::Right`: `high::left` may import only `low`; move what both need down, or pass it in
    src/high/left.rs:3 imports `crate::high`: `high::left` may import only `low`; move what both need down, or pass it in
    src/high/right/deep.rs:1 imports `crate::high::left::f`: `high::right` may import only `low`; move what both need down, or pass it in
    src/low/four.rs:1 takes code from another file, past the table
    src/low/four.rs:3 takes code from another file, past the table
    src/low/one.rs:1 imports `crate::high::left::Left`: `low` may import only `crate`; move what both need down, or pass it in
    src/low/one.rs:1 imports `crate::high::left`: `low` may import only `crate`; move what both need down, or pass it in
    src/low/one.rs:1 imports `crate::high::right::Right`: `low` may import only `crate`; move what both need down, or pass it in
    src/low/three.rs:1 imports `crate::high::right`: `low` may import only `crate`; move what both need down, or pass it in
    src/low/three.rs:2 imports `crate::high`: `low` may import only `crate`; move what both need down, or pass it in
    src/low/two.rs:2 imports `crate::high::left::run`: `low` may import only `crate`; move what both need down, or pass it in
    src/low/two.rs:3 imports `crate::Both`: `low` may import only `crate`; move what both need down, or pass it in
    ");
}

#[test]
fn imports_of_lower_floors_and_other_crates_are_allowed() {
    let found = complaints_of(&[
        ("", "pub use other_crate as other;"),
        ("low", "use crate::other::Thing; use crate::of_root; use ::high::left; use std::fmt;"),
        (
            "low::one",
            "// crate::high\n/* crate::high /* */ */ \"see crate::high\"; r#\"see \"crate::high\"\"#;",
        ),
        ("low::two", "const BRACE: char = '{'; fn f<'a>(it: &'a str) -> impl Sized + use<'a> {}"),
        (
            "high::left",
            "use crate::low::{self, *}; use crate::high::left::one; use super::super::low;",
        ),
        (
            "high::left::one",
            "pub(in crate::high) mod inner { use super::super::two; } use super::f;",
        ),
        ("high", "pub use left::Left; use self::right::Right; use crate::low;"),
    ]);
    assert_snapshot!(found, @"");
}

#[test]
fn a_table_that_does_not_match_the_crate_is_found() {
    const HOUSE: House = House {
        root: "src",
        floors: &[Floor::of("gone", &[]), Floor::of("low", &["high"]), Floor::of("high", &[])],
    };
    let file = |module: &str| SourceFile {
        path: format!("src/{module}.rs"),
        module: vec![module.to_owned()],
        text: String::new(),
    };
    let found = complaints(&HOUSE, &["low", "high", "fresh"].map(file));
    assert_snapshot!(found.join("\n"), @r"
    src/fresh.rs is the module `fresh`, which the table of src does not name: say there what it may import
    the table of src lets `low` import `high`, which does not stand below it: a floor looks down only
    the table of src names `gone`, which is not there
    ");
    assert_snapshot!(
        complaints_of(&[("high::middle", "")]),
        @"src/high/middle.rs is the module `high::middle`, which the table of src does not name: say there what it may import"
    );
}
