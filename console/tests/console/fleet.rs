//! The Fleet tab.

use hotswap_console::screen::input::action::{Action, FleetAction};
use hotswap_console::screen::layout::{Panel, Tab};
use hotswap_console::screen::model::Phase;
use hotswap_console::screen::model::fleet::{FleetNews, FleetOrder, FleetSnapshot, FleetTab};
use hotswap_console::screen::model::overlay::Overlay;
use hotswap_console::screen::update::{self, Effect, Input};
use hotswap_console::session::SessionEvent;
use hotswap_fleet::{HostReport, HostState, Id, Order};
use serde_json::{Value, json};

use crate::support::console::Console;
use crate::support::samples;

const NOW_MS: u64 = samples::NOON_MS + 300_000;

fn id(name: &str) -> Id {
    name.parse().unwrap()
}

fn host(number: u32, state: &str, release: &str, arm: [u64; 3]) -> HostReport {
    let build = |release: &str| match release {
        "r2" => "3f2a91c0ffee0000",
        _ => "9bc1d033c0ffee00",
    };
    let [calls, errors, panics] = arm;
    let mut report = json!({
        "id": format!("game-{number}"),
        "channel": "main",
        "name": "game",
        "pid": number,
        "at_ms": NOW_MS - 1000,
        "stratum": "rustc 1.95.0",
        "state": state,
        "release": release,
        "builds": { "world": build(release), "cat": "1c0ffee000000000" },
        "seen": { "epoch": 1, "seq": 7 },
        "health": {
            "world": { "calls": calls, "errors": errors, "panics": panics },
            "cat": { "calls": 12, "errors": 0, "panics": 0 },
        },
    });
    if state == "refused" {
        report["problem"] = json!({
            "kind": "dry_run",
            "release": "r3",
            "plugin": "world",
            "message": "world: the host calls greet(name: String) -> String, and the new build has greet(u32)",
        });
    }
    serde_json::from_value(report).unwrap()
}

fn channel() -> Value {
    json!({
        "name": "main", "epoch": 1, "seq": 7, "base": "r2", "earlier": [null, "r1"],
        "candidate": "r3", "salt": "1", "thresholds": {}, "pins": { "game-4122": "r2" },
    })
}

fn rollout(phase: &str, reason: &Value) -> Value {
    json!({
        "channel": "main", "release": "r3", "base": "r2", "salt": "1", "by": "ada",
        "started_at_ms": NOW_MS - 52_000,
        "pace": {
            "steps": [{ "hosts": 1 }, { "percent": 5 }, { "percent": 25 }, { "percent": 100 }],
            "bake_ms": 60_000, "patience_ms": 600_000, "calls": 100, "lost_ms": 20_000,
        },
        "plugins": ["world", "cat"], "changed": ["world"], "phase": phase, "step": 0,
        "since_ms": NOW_MS - 12_000, "reason": reason,
        "resume": if phase == "paused" { json!("baking") } else { Value::Null },
        "thresholds": {}, "base_arms": {}, "calls_before": 0, "forgiven": [],
    })
}

fn seen(phase: &str, reason: &Value) -> FleetSnapshot {
    FleetSnapshot {
        fleet: id("games"),
        is_signed: true,
        channel: serde_json::from_value(channel()).unwrap(),
        rollout: Some(serde_json::from_value(rollout(phase, reason)).unwrap()),
        hosts: vec![
            host(4121, "serving", "r3", [1_204, 2, 0]),
            host(4122, "serving", "r2", [48_310, 12, 0]),
            host(4123, "refused", "r2", [51_003, 0, 0]),
            HostReport { at_ms: NOW_MS - 90_000, ..host(4124, "serving", "r2", [9, 0, 0]) },
            host(4125, "serving", "r2", [49_117, 0, 0]),
        ],
        unreadable: Vec::new(),
    }
}

fn show(console: &mut Console, seen: FleetSnapshot) {
    console.handle(Input::Fleet(Box::new(FleetNews::FleetSnapshot(Box::new(seen)))));
}

/// A console with a fleet and the Fleet tab in front.
fn on_the_fleet_tab(width: u16, height: u16) -> Console {
    let mut console = Console::connected(width, height);
    console.state.fleet = FleetTab::of(vec!["--fleet".into(), "/srv/fleet".into()]);
    show(&mut console, seen("baking", &Value::Null));
    update::act(&mut console.state, Action::Show(Tab::Fleet));
    console
}

fn at_three_sizes(story: impl Fn(&mut Console)) -> String {
    let screens = [(120, 36), (80, 24), (200, 50)].map(|(width, height)| {
        let mut console = on_the_fleet_tab(width, height);
        story(&mut console);
        format!("{width}×{height}\n{}\n", console.screen())
    });
    screens.join("\n")
}

#[test]
fn a_release_that_is_judged() {
    insta::assert_snapshot!(at_three_sizes(|_| {}));
}

#[test]
fn a_rollout_that_waits_and_a_release_for_one_host() {
    insta::assert_snapshot!(at_three_sizes(|console| {
        let reason = json!({ "kind": "too_little_evidence", "calls": 3, "needed": 100 });
        show(console, seen("paused", &reason));
        console.press("K");
        let releases = ["r1", "r2", "r3"].map(id).to_vec();
        console.handle(Input::Fleet(Box::new(FleetNews::Releases(releases))));
    }));
}

#[test]
fn a_console_of_a_fleet_alone() {
    let mut console = Console::new(80, 24);
    console.state.fleet = FleetTab::of(Vec::new());
    console.state.host.phase = Phase::Absent;
    (console.state.tab, console.state.focus, console.state.zoomed) =
        (Tab::Fleet, Panel::Tabs, true);
    let trouble = "nats://127.0.0.1:4222/hotswap: cannot connect".to_owned();
    console.handle(Input::Fleet(Box::new(FleetNews::Trouble(trouble))));
    let unreached = console.screen();
    let mut rolled_back = seen(
        "rolled_back",
        &json!({ "kind": "panicked", "plugin": "world", "panics": 3, "calls": 40 }),
    );
    rolled_back.channel.candidate = None;
    rolled_back.hosts.truncate(2);
    rolled_back.hosts[0].release = Some(id("r2"));
    show(&mut console, rolled_back);
    insta::assert_snapshot!(format!("{unreached}\n\n{}", console.screen()));
}

#[test]
fn without_a_fleet_there_is_no_fleet_tab() {
    let mut console = Console::connected(120, 36);
    assert!(!console.screen().contains("Fleet"));
    for _ in Tab::ALL {
        console.press("]");
        assert_ne!(console.state.tab, Tab::Fleet);
    }
    update::act(&mut console.state, Action::Show(Tab::Fleet));
    assert_ne!(console.state.tab, Tab::Fleet);
    assert!(console.screen().contains("no fleet is known: start the console with `--fleet DIR`"));
}

/// The effects of a key, after its question was answered.
fn press_and_confirm(console: &mut Console, key: &str, question: &str) -> Vec<Effect> {
    assert_eq!(console.press(key), [], "{key} only opens a question");
    assert!(console.screen().contains(question), "{question}\n{}", console.screen());
    assert_eq!(console.press("Esc"), [], "Esc answers no");
    console.press(key);
    console.press("y")
}

#[test]
fn keys_order_changes_of_the_fleet_after_a_question() {
    let mut console = on_the_fleet_tab(120, 36);
    let rollout = |order| [Effect::Fleet(FleetOrder::Rollout(order))];
    assert_eq!(press_and_confirm(&mut console, "P", "Promote r3?"), rollout(Order::Promote));
    assert_eq!(
        press_and_confirm(&mut console, "a", "All hosts go back to r2."),
        rollout(Order::Abort)
    );
    assert_eq!(console.press("p"), rollout(Order::Pause), "a pause needs no confirmation");
    assert_eq!(console.press("r"), []);
    assert!(console.screen().contains("the rollout is not paused"));
    show(&mut console, seen("paused", &json!({ "kind": "asked", "by": "ada" })));
    assert_eq!(
        press_and_confirm(&mut console, "r", "Why: ada asked for it"),
        rollout(Order::Resume)
    );
    assert_eq!(console.press("p"), []);

    // The first choice is the release before the base. The release that all hosts run is no choice.
    assert_eq!(console.press("R"), [Effect::Fleet(FleetOrder::ListReleases)]);
    let releases = ["r0", "r1", "r2"].map(id).to_vec();
    console.handle(Input::Fleet(Box::new(FleetNews::Releases(releases))));
    assert_eq!(console.press("Enter"), []);
    assert!(console.screen().contains("Roll all hosts back to r1?"));
    assert!(console.screen().contains("It ends the rollout of r3."));
    assert_eq!(console.press("y"), [Effect::Fleet(FleetOrder::RollBack(Some(id("r1"))))]);
    console.press("R");
    let Some(Overlay::Releases(choice)) = &console.state.overlay else {
        panic!("R shows no releases to choose from")
    };
    assert!(!choice.releases.contains(&id("r2")));
    console.press("Esc");
}

#[test]
fn a_host_stays_selected_when_rows_move_and_can_be_pinned_and_opened() {
    let mut console = on_the_fleet_tab(120, 36);
    let selected =
        |console: &Console| console.state.fleet.selected_host(NOW_MS).unwrap().host.id.to_string();
    assert_eq!(selected(&console), "game-4123", "the host in the worst state is the first row");
    console.press("j j j");
    let host = selected(&console);
    assert_eq!(console.press("Enter"), [Effect::Attach(host.clone())]);
    // Now this host is in the worst state.
    let mut worse = seen("baking", &Value::Null);
    let crashed = worse.hosts.iter_mut().find(|it| it.id.as_str() == host).unwrap();
    crashed.state = HostState::Crashed;
    show(&mut console, worse);
    assert_eq!(selected(&console), host);
    assert_eq!(console.press("Enter"), [], "a host that has ended has no console");
    assert!(console.screen().contains(&format!("the process of {host} has ended: crashed")));

    show(&mut console, seen("baking", &Value::Null));
    console.press("K j Enter");
    assert!(console.screen().contains(&format!("Pin {host} to r2?")), "{}", console.screen());
    assert_eq!(console.press("y"), [Effect::Fleet(FleetOrder::Pin(id(&host), id("r2")))]);
    let pinned = |console: &Console| console.state.fleet.can(FleetAction::Unpin, NOW_MS);
    console.press("g g");
    while !pinned(&console) {
        console.press("j");
    }
    assert_eq!(selected(&console), "game-4122");
    let unpin = [Effect::Fleet(FleetOrder::Unpin(id("game-4122")))];
    assert_eq!(press_and_confirm(&mut console, "U", "It is pinned to r2"), unpin);
    console.press("i");
    assert!(console.screen().contains("pinned    to r2"));
}

#[test]
fn the_result_of_a_rollout_is_reported_even_if_another_tab_is_in_front() {
    let mut console = on_the_fleet_tab(120, 36);
    update::act(&mut console.state, Action::Show(Tab::Vault));
    assert!(!console.screen().contains("Fleet !"));
    let reason = json!({ "kind": "crashed", "host": "game-4121", "plugin": "world" });
    show(&mut console, seen("rolling_back", &reason));
    let screen = console.screen();
    assert!(screen.contains("Fleet !"), "{screen}");
    assert!(screen.contains("r3 is being rolled back: game-4121 crashed in world"), "{screen}");
    let reloaded = SessionEvent::HostContinued;
    console.session(reloaded);
    assert!(
        console.screen().contains("crashed in world"),
        "the notice stays until a key is pressed"
    );
}

#[test]
fn the_palette_has_the_commands_and_their_command_lines() {
    let mut console = on_the_fleet_tab(120, 36);
    console.press(":");
    console.write("fleet-abort");
    let copied = console.press("Ctrl-Y");
    assert_eq!(copied, [Effect::Copy("hotswap fleet abort --fleet /srv/fleet".into())]);
    console.press("Enter");
    assert!(console.screen().contains("Abort the rollout of r3?"));
    console.press("Esc");
    // The search finds a text among the hosts.
    console.press("/");
    console.write("4125");
    console.press("Enter");
    assert_eq!(console.state.fleet.selected_host(NOW_MS).unwrap().host.pid, 4125);
}
