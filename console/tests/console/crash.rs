//! Hosts that ended by themselves, and the actions that their card offers.

use hotswap_console::host::HostExit;
use hotswap_console::screen::model::Phase;
use hotswap_console::screen::model::overlay::Overlay;
use hotswap_console::screen::update::Effect;
use hotswap_console::session::{BuildEffect, Order, SessionEvent, StoredChoice};
use hotswap_protocol::{Activity, InFlightCall, VersionState};

use crate::support::console::Console;
use crate::support::samples;

/// A host that has served for a while, and then loaded `world v4`.
fn after_a_reload() -> Console {
    let mut console = Console::connected(120, 36);
    console.now_ms += 60_000;
    let mut snapshot = samples::snapshot(4121);
    snapshot.plugins[0].versions.insert(0, samples::version(4, VersionState::Active, "active"));
    snapshot.plugins[0].versions[1].state = VersionState::Retired;
    console.session(SessionEvent::Snapshot(Box::new(snapshot)));
    console
}

fn crash(console: &mut Console) {
    crash_with(console, Some(samples::calls()));
}

fn crash_with(console: &mut Console, calls: Option<Vec<InFlightCall>>) {
    let exit = HostExit { code: None, signal: Some(11) };
    console.session(SessionEvent::HostExited { exit, expected: false, calls });
}

#[test]
fn a_crash_after_a_reload_can_be_undone_by_the_earlier_versions() {
    let mut console = after_a_reload();
    console.now_ms += 9_000;
    crash(&mut console);
    insta::assert_snapshot!(console.screen());
    let build_id = samples::version(3, VersionState::Active, "").build_id;
    let before = StoredChoice { plugin: "world".into(), build_id };
    let effects = console.press("H");
    assert_eq!(effects, [Effect::Order(Order::RestartWith(vec![before]))]);
    assert_eq!(console.state.overlay, None);
}

#[test]
fn versions_are_named_with_their_patches() {
    let mut console = Console::connected(120, 36);
    console.now_ms += 60_000;
    let mut snapshot = samples::snapshot(4121);
    for patch in [1, 2] {
        let serving = &mut snapshot.plugins[0].versions[0];
        serving.patch = Some(patch);
        serving.build_id = format!("{patch}{}", &serving.build_id[1..]);
        console.session(SessionEvent::Snapshot(Box::new(snapshot.clone())));
        console.now_ms += 12_000;
    }
    console.now_ms -= 10_000;
    crash(&mut console);
    let screen = console.screen();
    assert!(screen.contains("world v3+2 active"), "{screen}");
    assert!(screen.contains("world v3+1 (1c0ffee0)"), "{screen}");
}

#[test]
fn running_calls_are_shown_only_if_they_are_known() {
    let shown = |calls| {
        let mut console = after_a_reload();
        crash_with(&mut console, calls);
        console.screen()
    };
    assert!(shown(Some(Vec::new())).contains("no call; async functions that wait are not noted"));
    assert!(shown(None).contains("not known: it kept no record of its calls"));
    let many = std::iter::repeat_with(samples::calls).take(4).flatten().collect();
    assert!(shown(Some(many)).contains("and 4 more"));
}

#[test]
fn a_signal_from_outside_is_not_blamed_on_the_program() {
    let mut console = after_a_reload();
    let exit = HostExit { code: None, signal: Some(9) };
    console.session(SessionEvent::HostExited { exit, expected: false, calls: None });
    let screen = console.screen();
    assert!(screen.contains("From outside the program"), "{screen}");
    assert!(
        screen.contains("a user sent it, or the system did because memory ran out"),
        "{screen}"
    );
}

#[test]
fn the_host_can_also_be_started_with_the_same_builds() {
    let mut console = after_a_reload();
    crash(&mut console);
    assert_eq!(console.press("A"), [Effect::Order(Order::Restart)]);
}

#[test]
fn a_crash_long_after_a_reload_is_not_blamed_on_it() {
    let mut console = after_a_reload();
    console.now_ms += 10_000;
    crash(&mut console);
    assert_eq!(console.press("H"), [Effect::Order(Order::Restart)]);
}

/// This holds however long the earlier versions had served.
#[test]
fn a_host_that_ended_in_a_load_is_started_without_that_build() {
    let mut console = after_a_reload();
    console.now_ms += 10_000;
    let [mut load, _] = <[InFlightCall; 2]>::try_from(samples::calls()).unwrap();
    load.version = 5;
    load.function = Some("open".into());
    load.activity = Some(Activity::Open);
    crash_with(&mut console, Some(vec![load]));
    let screen = console.screen();
    let reported = "open of world v5 (3c0ffee0); a start leaves this build out";
    assert!(screen.contains("It ended in") && screen.contains(reported), "{screen}");
    assert!(!screen.contains("It was well before"), "{screen}");
    assert_eq!(console.press("H"), [Effect::Order(Order::Restart)]);
}

#[test]
fn the_console_waits_for_a_host_that_it_did_not_start() {
    let mut console = Console::new(120, 36);
    console.session(SessionEvent::Opened {
        name: "sample-host".into(),
        package_dir: None,
        plugin_dir: Some("/srv/plugins".into()),
        plugins: Vec::new(),
        plugin_packages: Vec::new(),
    });
    console.session(SessionEvent::Connected { host: samples::host(4121) });
    console.session(SessionEvent::Snapshot(Box::new(samples::snapshot(4121))));
    let exit = HostExit { code: None, signal: None };
    console.session(SessionEvent::HostExited { exit, expected: false, calls: None });
    let screen = console.screen();
    assert!(screen.contains("When it comes back the console attaches again."), "{screen}");
    assert!(!screen.contains("H starts"), "{screen}");
    console.now_ms += 3001;
    console.session(SessionEvent::Connected { host: samples::host(4200) });
    assert_eq!(console.state.overlay, None);
    assert_eq!(console.state.host.phase, Phase::Connected);
    assert!(
        console.state.plugins.list().is_empty(),
        "the versions of the dead host are not shown for the new one"
    );
    assert!(matches!(&console.state.notice, Some(it) if it.text.contains("4200")));
}

#[test]
fn the_log_can_be_read_behind_the_card() {
    let mut console = after_a_reload();
    crash(&mut console);
    assert!(matches!(console.state.overlay, Some(Overlay::HostEnded(_))));
    console.press("3");
    assert_eq!(console.state.overlay, None);
}

#[test]
fn the_notice_of_a_restart_stays_until_a_key_is_pressed() {
    let mut console = Console::connected(120, 36);
    for plugin in ["cat", "world"] {
        console.session(SessionEvent::ArtifactRefused {
            plugin: plugin.into(),
            reason: "v1 failed".into(),
            instead: Some("3c0ffee0".into()),
        });
    }
    console.session(samples::built(BuildEffect::NewCode));
    let reported = |console: &Console| console.state.notice.as_ref().unwrap().text.clone();
    assert_eq!(
        reported(&console),
        "the artifact of cat was refused; build 3c0ffee0 is there instead; \
         the artifact of world was refused; build 3c0ffee0 is there instead",
    );
    console.press("j");
    console.now_ms += 3001;
    console.session(samples::built(BuildEffect::NewCode));
    assert!(reported(&console).starts_with("world built"));
}

#[test]
fn a_dead_host_looks_dead_behind_its_card() {
    let mut console = Console::connected(120, 36);
    let exit = HostExit { code: None, signal: Some(11) };
    console.session(SessionEvent::HostExited { exit, expected: false, calls: None });
    console.press("Esc");
    let screen = console.screen();
    let keys = screen.lines().last().unwrap();
    assert!(keys.starts_with(" H restart host"), "{keys}");
    assert!(!keys.contains("reload") && !keys.contains("invoke"), "{keys}");
    assert!(screen.contains("○ world  –") && !screen.contains("retired"), "{screen}");
    console.press("2 [ [");
    assert!(!console.screen().contains("active"), "{}", console.screen());
}

#[test]
fn a_host_that_the_console_did_not_start_is_not_offered_for_a_restart() {
    let mut console = Console::new(120, 36);
    console.session(SessionEvent::Connected { host: samples::host(4121) });
    console.session(SessionEvent::Snapshot(Box::new(samples::snapshot(4121))));
    let screen = console.screen();
    let keys = screen.lines().last().unwrap();
    assert!(
        keys.starts_with(" r reload") && !keys.contains("build") && !keys.contains("watch"),
        "{keys}"
    );
}

#[test]
fn hidden_rows_of_a_dead_host_are_not_selected() {
    let mut console = Console::connected(120, 36);
    let exit = HostExit { code: None, signal: Some(11) };
    console.session(SessionEvent::HostExited { exit, expected: false, calls: None });
    console.press("Esc j");
    assert_eq!(console.state.plugins.selected_target().as_deref(), Some("cat"));
    console.press("k");
    console.click("cat ");
    assert_eq!(console.state.plugins.selected_target().as_deref(), Some("cat"));
}
