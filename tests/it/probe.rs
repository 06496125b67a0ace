//! Opening an artifact to see what it declares, without loading it.

use hotswap_engine::{
    probe::Contents,
    protocol::{ArtifactChange, ChangeKind},
};
use insta::assert_snapshot;

use crate::support::{self, PluginDir, renamed};

fn contents(dir: &PluginDir, plugin: &str) -> Contents {
    Contents::open(&dir.file(plugin)).unwrap_or_else(|error| panic!("{plugin}: {error}"))
}

/// The changes, one on each line, with a mark on breaking ones.
fn in_words(changes: &[ArtifactChange]) -> String {
    let line = |change: &ArtifactChange| {
        let ArtifactChange { item, name, change, detail, is_breaking, .. } = change;
        let mark = if *is_breaking { "! " } else { "" };
        let change = match change {
            ChangeKind::Added => "added",
            ChangeKind::Removed => "removed",
            ChangeKind::Changed => "changed",
        };
        format!("{mark}{} {name} {change}: {detail}", item.as_str())
    };
    changes.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_probe_reads_the_declarations_of_an_artifact() {
    let dir = PluginDir::of(&["lives", "takes"]);
    let lives = contents(&dir, "lives").info();
    let functions = lives.functions.iter().map(|function| {
        format!("{}{} live={}", function.name, function.signature, function.is_live)
    });
    assert_snapshot!(functions.collect::<Vec<_>>().join("\n"), @r"
    live_fire(fire: LiveFire) -> String live=true
    relay(rounds: u32) -> String live=false
    revision() -> u32 live=true
    task_count() -> u32 live=true
    ");
    let types: Vec<_> = lives.live_types.iter().map(|live| live.name.as_str()).collect();
    assert_eq!(types, ["LiveFire"]);

    let takes = contents(&dir, "takes").info();
    assert_snapshot!(format!("{:?}", takes.imports), @r#"[ImportInfo { plugin: "gives", interface: "sample_api::Alpha", optional: false }, ImportInfo { plugin: "gives-more", interface: "sample_api::Beta", optional: true }]"#);
}

/// A panic would end only the process that opens the artifact, and no host.
#[test]
fn an_artifact_with_another_panic_strategy_can_be_probed() {
    let dir = PluginDir::of(&["gives"]);
    let mut aborting = std::fs::read(dir.file("gives")).unwrap();
    let magic = support::find(&aborting, b"HOTSWAP-PLUGIN\r\n").unwrap();
    let strategy = magic + support::find(&aborting[magic..], b"unwind").unwrap();
    aborting[strategy..strategy + 6].copy_from_slice(b"abort\0");
    hotswap_engine::artifact::stamp(&mut aborting, None).unwrap();
    dir.write("gives", &aborting);
    assert_eq!(contents(&dir, "gives").info().plugin, "gives");
}

#[test]
fn two_artifacts_of_a_plugin_are_compared() {
    let dir = PluginDir::of(&["gives", "lives"]);
    let (gives, lives) = (contents(&dir, "gives"), contents(&dir, "lives"));
    assert_eq!(gives.changes_to(&gives), []);
    dir.write("gives", &renamed("gives-more", "gives"));
    let changes = gives.changes_to(&contents(&dir, "gives"));
    assert_snapshot!(in_words(&changes), @r"
    ! export sample_api::Beta changed: was `sample_api::Alpha`, now `sample_api::Beta`
    import in-circle added: `sample_api::Alpha`
    ");
    let sides = changes.iter().map(|change| (change.was.as_deref(), change.now.as_deref()));
    let [alpha, beta] = [Some("sample_api::Alpha"), Some("sample_api::Beta")];
    assert_eq!(sides.collect::<Vec<_>>(), [(alpha, beta), (None, alpha)]);
    dir.write("lives", &renamed("lives-more", "lives"));
    let changes = in_words(&lives.changes_to(&contents(&dir, "lives")));
    assert_snapshot!(changes, @r"
    function live_fire changed: in `fire`, `pace` was added and is optional
    ! function relay removed: (rounds: u32) -> String
    ! function revision changed: was `() -> u32`, now `() -> u64`
    ! function task_count removed: () -> u32
    live type LiveFire changed: `pace` was added and is optional
    ");
}

#[test]
fn a_file_that_is_no_artifact_is_refused_before_it_is_opened() {
    let dir = PluginDir::empty();
    dir.write("garbage", b"no library");
    let error = Contents::open(&dir.file("garbage")).unwrap_err();
    assert_snapshot!(error, @"garbage.so: inspect: not a shared library for this machine: Invalid ELF header size or alignment");
}
