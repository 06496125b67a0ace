//! The plugins panel: call rates, and which changes redraw the screen.

use std::collections::BTreeMap;

use hotswap_console::host::operation::Operation;
use hotswap_console::screen::layout::{Panel, Tab};
use hotswap_console::screen::update::Effect;
use hotswap_console::session::{BuildEffect, Job, JobOutcome, Order, SessionEvent};
use hotswap_protocol::{
    DataBagEntry, ErrorKind, Event, FunctionInfo, Holder, HolderKind, HostAgent, LatencyBucket,
    Outcome, PluginInfo, Snapshot, ValueChange, VersionState, WireError,
};

use crate::support::console::Console;
use crate::support::samples;

fn with_calls(calls: u64) -> Snapshot {
    let mut snapshot = samples::snapshot(4121);
    snapshot.plugins[0].versions[0].calls = calls;
    snapshot.plugins[0].functions[0].calls = calls;
    snapshot
}

/// The sample host with plugins and functions whose long names differ at the end only.
fn with_long_names(of_plugin: &str, of_function: &str) -> Snapshot {
    let mut snapshot = samples::snapshot(4121);
    let mut plugin = snapshot.plugins[0].clone();
    let function = plugin.functions[0].clone();
    plugin.functions = ["sum", "max"]
        .map(|end| FunctionInfo { name: format!("{of_function}_{end}"), ..function.clone() })
        .to_vec();
    snapshot.plugins = ["east", "west"]
        .map(|end| PluginInfo {
            name: format!("{of_plugin}-{end}").parse().unwrap(),
            ..plugin.clone()
        })
        .to_vec();
    snapshot
}

#[test]
fn long_names_that_begin_alike_can_be_told_apart() {
    for (width, height) in [(120, 36), (80, 24)] {
        let mut console = Console::connected(width, height);
        let long = |word: &str| [word; 8].join("-");
        send_snapshot(
            &mut console,
            with_long_names(&long("region"), &long("compute").replace('-', "_")),
        );
        let screen = console.screen();
        for end in ["-east", "-west", "_sum", "_max"] {
            assert!(screen.contains(end), "{end} in:\n{screen}");
        }
    }
}

/// Sends a snapshot of the host a second after the last event. Returns whether the screen is drawn.
fn send_snapshot(console: &mut Console, snapshot: Snapshot) -> bool {
    console.now_ms += 1_000;
    let event = SessionEvent::Snapshot(Box::new(snapshot));
    console.session(event).contains(&Effect::Draw)
}

/// Like [`send_snapshot`], with the snapshot that was sent before.
fn repeat_snapshot(console: &mut Console) -> bool {
    console.now_ms += 1_000;
    console.session(SessionEvent::SameSnapshot).contains(&Effect::Draw)
}

fn row_of_world(console: &Console) -> String {
    let screen = console.screen();
    let row = screen.lines().find(|line| line.contains("● world")).unwrap();
    row.chars().take(52).collect()
}

#[test]
fn the_rate_of_calls_is_drawn_as_a_moving_sparkline() {
    let mut console = Console::connected(120, 36);
    for calls in [1_234, 1_234, 1_244, 1_274, 1_354, 1_354] {
        send_snapshot(&mut console, with_calls(calls));
    }
    assert_eq!(row_of_world(&console), "│● world  v3   ✓ same          ▃█   1.4k    – 12.1K│");
    for _ in 0..8 {
        repeat_snapshot(&mut console);
    }
    assert_eq!(row_of_world(&console), "│● world  v3   ✓ same               1.4k    – 12.1K│");
}

#[test]
fn changes_that_are_not_visible_do_not_redraw_the_screen() {
    let mut console = Console::connected(120, 36);
    send_snapshot(&mut console, with_calls(1_234));
    assert!(send_snapshot(&mut console, with_calls(1_235)), "another second changes the sparkline");
    for _ in 0..8 {
        repeat_snapshot(&mut console);
    }
    assert!(!send_snapshot(&mut console, with_calls(1_235)));
    assert!(!repeat_snapshot(&mut console));
    // The shown rate, 1.2k, is the same for both samples.
    console.now_ms += 100;
    let event = SessionEvent::Snapshot(Box::new(with_calls(1_236)));
    assert_eq!(console.session(event), []);
    console.now_ms += 100;
    let event = SessionEvent::Snapshot(Box::new(with_calls(1_300)));
    assert_eq!(console.session(event), [Effect::Draw]);
}

#[test]
fn a_new_version_starts_its_call_rate_at_zero() {
    let mut console = Console::connected(120, 36);
    send_snapshot(&mut console, with_calls(1_234));
    let mut snapshot = with_calls(1_234);
    let mut newest = samples::version(4, VersionState::Active, "active");
    newest.calls = 5;
    snapshot.plugins[0].versions[0].state = VersionState::Retired;
    snapshot.plugins[0].versions.insert(0, newest);
    send_snapshot(&mut console, snapshot);
    assert!(row_of_world(&console).contains('█'), "{}", row_of_world(&console));
}

/// The first line of a plugin in the panel.
fn line_of(console: &Console, plugin: &str) -> String {
    let screen = console.screen();
    let lines = screen.lines().map(|line| line.chars().skip(1).take(50).collect::<String>());
    let is_its = |line: &String| line.split_whitespace().nth(1) == Some(plugin);
    lines.into_iter().find(is_its).unwrap_or_else(|| panic!("no {plugin} on\n{screen}"))
}

fn build(console: &mut Console, package: &str, outcome: JobOutcome) {
    let job = Job::BuildPlugin(package.into());
    console.session(SessionEvent::JobFinished { job, outcome, elapsed_ms: 900 });
}

#[test]
fn each_plugin_shows_whether_the_running_build_is_the_one_on_disk() {
    let mut console = Console::connected(120, 36);
    let disk =
        |console: &Console| line_of(console, "world").chars().skip(14).take(16).collect::<String>();
    assert_eq!(disk(&console).trim(), "✓ same");
    console.session(SessionEvent::SourcesChanged {
        plugins: vec!["world".into()],
        saved_at_ms: samples::NOON_MS,
    });
    assert_eq!(disk(&console).trim(), "✎ changed");
    console.session(SessionEvent::JobStarted { job: Job::BuildPlugin("world".into()) });
    assert_eq!(disk(&console).trim(), "◌ building");
    for row in [12, 14] {
        console.session(samples::mistake("world", row));
    }
    let error = WireError::new(ErrorKind::Build, "`world` does not compile");
    build(&mut console, "world", JobOutcome::Failed { error });
    assert_eq!(disk(&console).trim(), "✖ 2 errors");
    assert!(
        line_of(&console, "world").starts_with("● world  v3 "),
        "the serving version is still shown as serving"
    );

    console.session(SessionEvent::JobStarted { job: Job::BuildPlugin("world".into()) });
    console.session(samples::built(BuildEffect::NewCode));
    build(&mut console, "world", JobOutcome::Done { summary: "built".into() });
    assert_eq!(disk(&console).trim(), "▲ built 4c0f");
    console.session(SessionEvent::Installed {
        builds: samples::installed(),
        unusable: BTreeMap::new(),
    });
    assert_eq!(disk(&console).trim(), "✓ same", "the serving build was installed again");

    let mut builds = samples::installed();
    builds.remove("world");
    console.session(SessionEvent::Installed { builds: builds.clone(), unusable: BTreeMap::new() });
    assert_eq!(disk(&console).trim(), "▲ no artifact");
    let unusable = BTreeMap::from([("world".to_owned(), "it is not complete".to_owned())]);
    console.session(SessionEvent::Installed { builds, unusable });
    assert_eq!(disk(&console).trim(), "✖ bad file");
    console.press("Enter");
    let screen = console.screen();
    assert!(screen.contains("a file that cannot be loaded: it is not complete"), "{screen}");
    console.press("Esc");

    let mut snapshot = samples::snapshot(4121);
    snapshot.plugins[0].is_rolled_back = true;
    console.session(SessionEvent::Snapshot(Box::new(snapshot)));
    assert_eq!(disk(&console).trim(), "↺ rolled back");
}

#[test]
fn a_build_that_is_cancelled_leaves_its_sources_changed() {
    let mut console = Console::connected(120, 36);
    console.session(SessionEvent::JobStarted { job: Job::BuildPlugin("cat".into()) });
    build(&mut console, "cat", JobOutcome::Cancelled);
    assert!(line_of(&console, "cat").contains("✎ changed"));
}

/// A host in which `world` v4 failed, and three versions were freed.
fn with_many_versions() -> Snapshot {
    let mut snapshot = samples::snapshot(4121);
    let versions = &mut snapshot.plugins[0].versions;
    for version in versions.iter_mut() {
        version.version += 2;
    }
    versions.insert(0, samples::version(6, VersionState::Failed, "failed in on_load: no sun"));
    versions.push(samples::version(2, VersionState::Freed, "freed"));
    versions.push(samples::version(1, VersionState::Freed, "freed"));
    snapshot
}

#[test]
fn the_serving_version_comes_first_and_freed_versions_share_one_line() {
    let mut console = Console::connected(120, 36);
    console.session(SessionEvent::Snapshot(Box::new(with_many_versions())));
    assert!(line_of(&console, "world").starts_with("● world  v5 "), "{}", console.screen());
    let fold = "└ 3 freed, 1 failed, 12.9 MiB back";
    assert!(console.screen().contains(fold), "{}", console.screen());
    console.press("j j Enter");
    assert_eq!(console.state.overlay, None);
    let screen = console.screen();
    assert!(!screen.contains(fold) && screen.contains("├ v6   failed"), "{screen}");
    assert!(screen.contains("└ v1   freed, 4.3 MiB back"), "{screen}");
    console.press("h");
    assert!(console.screen().contains(fold));
    // The plugin stays selected while more of its versions are freed.
    let mut snapshot = with_many_versions();
    snapshot.plugins[0].versions[2].state = VersionState::Freed;
    console.session(SessionEvent::Snapshot(Box::new(snapshot)));
    assert_eq!(console.state.plugins.selected_index(), Some(1));
}

#[test]
fn failures_and_long_calls_are_shown_in_the_panel() {
    let mut console = Console::connected(120, 36);
    let mut snapshot = samples::snapshot(4121);
    let world = &mut snapshot.plugins[0];
    world.versions[0].failures.panics = 12;
    world.functions[0].failures.panics = 12;
    world.functions[1].failures.errors = 3;
    let call = |since_ms| Holder {
        function: Some("greet".into()),
        thread: Some("http-7".into()),
        since_ms: Some(since_ms),
        ..Holder::unnamed(HolderKind::Call, 1)
    };
    world.versions[0].held_by = vec![call(console.now_ms - 31_400), call(console.now_ms - 9)];
    console.session(SessionEvent::Snapshot(Box::new(snapshot)));
    let screen = console.screen();
    assert!(screen.lines().next().unwrap().contains("│ ✖ 12 panics in world │"), "{screen}");
    assert!(line_of(&console, "world").contains("✖12"), "{screen}");
    assert!(
        screen.contains("2  1.2k  ✖12  7.1 µs") && screen.contains("0     0    3       –"),
        "{screen}"
    );
    let in_flight = "◌ world v3      greet                31.4 s  http-7";
    assert!(screen.contains("── in flight ──") && screen.contains(in_flight), "{screen}");
    assert!(
        !screen.contains("9 ms  http-7"),
        "a call of 9 ms ends before a user could read its row"
    );
}

fn after_a_reload() -> Console {
    let mut console = Console::connected(120, 36);
    console.session(SessionEvent::Snapshot(Box::new(samples::reloaded())));
    console
}

#[test]
fn changed_functions_are_marked_until_they_are_selected() {
    let mut console = after_a_reload();
    let marked = |console: &Console| {
        let screen = console.screen();
        let marks = ["│ ~ greet ", "│ + wave ", "│ − reset "];
        marks.iter().filter(|mark| screen.contains(*mark)).count()
    };
    assert_eq!(marked(&console), 3, "{}", console.screen());
    let screen = console.screen();
    assert!(screen.contains("(name, ~times, +loud)"), "{screen}");
    assert!(screen.contains("− reset  is gone; v3 had it, and nothing called it"), "{screen}");
    assert!(
        screen.contains("Δ v3") && screen.contains("+100%") && screen.contains("new"),
        "{screen}"
    );
    console.press("2 j");
    assert_eq!(marked(&console), 3, "the marks stay while the panel has the focus");
    console.press("1");
    assert_eq!(marked(&console), 0, "{}", console.screen());
}

#[test]
fn a_function_with_another_body_is_marked_after_the_reload() {
    let mut console = Console::connected(120, 36);
    console.session(samples::built_with_changes());
    assert!(
        !console.screen().contains("│ ~ greet "),
        "the new code does not serve yet, so nothing is marked"
    );
    let mut snapshot = samples::snapshot(4);
    snapshot.plugins[0].versions.insert(0, samples::version(4, VersionState::Active, "active"));
    snapshot.plugins[0].versions[1].state = VersionState::Freed;
    console.session(SessionEvent::Snapshot(Box::new(snapshot)));
    let screen = console.screen();
    assert!(screen.contains("│ ~ greet ") && !screen.contains("│ ~ reset "), "{screen}");
}

#[test]
fn warnings_of_a_build_stay_until_a_build_without() {
    let mut console = Console::connected(120, 36);
    console.session(samples::built_with_warnings(2));
    let screen = console.screen();
    assert!(
        screen.contains("Build▲2") && line_of(&console, "world").contains("▲ built 4c0f ▲2"),
        "{screen}"
    );
    console.session(samples::built(BuildEffect::UpToDate));
    assert!(!console.screen().contains("▲2"), "{}", console.screen());
}

#[test]
fn a_build_says_which_functions_it_changed() {
    let mut console = Console::connected(120, 36);
    console.session(samples::built_with_changes());
    let screen = console.screen();
    let changed = "changed: greet, meet and 1 more; struct Score changed";
    assert!(screen.contains(&format!("world built (4c0ffee0; {changed})")), "{screen}");
    console.click("Build");
    let screen = console.screen();
    let changed = "changed: greet, meet and nap; struct Score changed";
    assert!(screen.contains(changed), "{screen}");
}

#[test]
fn a_reload_has_a_verdict() {
    let mut console = after_a_reload();
    let saved_at_ms = console.now_ms;
    let plugins = vec!["world".to_owned()];
    console.session(SessionEvent::SourcesChanged { plugins, saved_at_ms });
    console.session(samples::built(BuildEffect::NewCode));
    let (at_ms, report) = (saved_at_ms + 900, samples::report());
    console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms, report }));
    let screen = console.screen();
    assert!(screen.contains("reload  v3 → v4, live 0.9 s after save"), "{screen}");
    assert!(screen.contains("since   ✖ greet panics 0 → 12, R rolls back"), "{screen}");
    assert!(screen.contains("▲ greet takes 100 % longer"), "{screen}");
    assert!(screen.contains("heap 12.1K → 39.1K"), "{screen}");
}

#[test]
fn a_small_screen_has_all_plugins_beside_each_other() {
    let mut console = Console::connected(80, 24);
    let screen = console.screen();
    assert!(screen.contains("● world  v3") && screen.contains("● cat    v1"), "{screen}");
    assert!(screen.contains("✖ dog"), "{screen}");
    console.click("● cat");
    assert_eq!(console.state.plugins.selected_target().as_deref(), Some("cat"));
}

#[test]
fn a_strip_that_is_too_small_shows_the_number_of_rows() {
    let mut console = Console::connected(80, 24);
    let mut snapshot = samples::snapshot(4121);
    let world = snapshot.plugins[0].clone();
    for number in 0..7 {
        snapshot.plugins.push(PluginInfo { name: format!("other{number}"), ..world.clone() });
    }
    send_snapshot(&mut console, snapshot.clone());
    let title = |console: &Console| console.screen().lines().nth(1).unwrap().to_owned();
    assert!(title(&console).contains("1 Plugins  6 of "), "{}", title(&console));
    assert!(!title(&console).contains("✖"), "{}", title(&console));
    // A failing plugin whose row is not visible is named.
    snapshot.plugins.last_mut().unwrap().versions[0].failures.panics = 1;
    let failed = |number| samples::version(number, VersionState::Failed, "failed");
    snapshot.plugins[8].versions.insert(0, failed(4));
    snapshot.plugins[7].versions.push(failed(1));
    send_snapshot(&mut console, snapshot);
    assert!(title(&console).contains("  ✖ other5, other6 "), "{}", title(&console));
    console.press("G");
    assert!(!title(&console).contains("other6"), "{}", title(&console));
}

#[test]
fn the_verdict_shows_the_outcome_of_a_plugins_values() {
    let mut console = Console::connected(120, 36);
    let mut before = samples::vault();
    before.data_bag.push(DataBagEntry { key: "scores".into(), ..before.data_bag[0].clone() });
    console.session(SessionEvent::Vault(Ok(before)));
    console.session(SessionEvent::Snapshot(Box::new(samples::reloaded())));
    let mut report = samples::report();
    report.data_bag[0].change = ValueChange::Migrated;
    let mut now = samples::vault();
    now.generation = report.generation;
    now.data_bag[0].type_name = "i64".into();
    let at_ms = console.now_ms;
    console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms, report }));
    console.session(SessionEvent::Vault(Ok(now)));
    let screen = console.screen();
    assert!(screen.contains("vault   ▲ scores is gone, greetings was u64"), "{screen}");
}

/// The host after calls of `greet` in `world v3`: `panics` of them panicked, `fast` were timed at 7 µs, and `slow`
/// at 70 µs.
fn after_calls(panics: u64, fast: u64, slow: u64, patch: Option<u32>) -> Snapshot {
    let mut snapshot = samples::snapshot(4121);
    let world = &mut snapshot.plugins[0];
    let version = &mut world.versions[0];
    version.patch = patch;
    version.patched_functions = patch.map(|_| "greet".to_owned()).into_iter().collect();
    version.failures.panics = panics;
    let greet = &mut world.functions[0];
    greet.failures.panics = panics;
    let bucket = |up_to_ns, calls| LatencyBucket { up_to_ns, calls };
    greet.latency_buckets = vec![bucket(7_167, fast), bucket(71_680, fast + slow)];
    greet.latency_us_p50 = Some(7.1);
    snapshot
}

#[test]
fn a_patch_is_judged_only_by_calls_since_it_serves() {
    let mut console = Console::connected(120, 36);
    console.session(SessionEvent::Snapshot(Box::new(after_calls(5, 60, 0, None))));
    assert!(line_of(&console, "world").starts_with("✖ world  v3 "), "{}", console.screen());
    let mut report = samples::report();
    let world = &mut report.plugins[0];
    (world.outcome, world.version, world.patch) = (Outcome::Patched, Some(3), Some(1));
    let at_ms = console.now_ms;
    console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms, report }));
    console.session(SessionEvent::Snapshot(Box::new(after_calls(5, 60, 0, Some(1)))));
    let screen = console.screen();
    assert!(
        line_of(&console, "world").starts_with("● world  v3+1 "),
        "the patched version is not marked as failing any more: {screen}"
    );
    assert!(!screen.lines().next().unwrap().contains("panic"), "{screen}");
    assert!(screen.contains("reload  v3 → v3+1"), "{screen}");
    assert!(screen.contains("since   ✔ greet panics 5 → 0"), "{screen}");
    assert!(screen.contains("patch   1, other code for greet"), "{screen}");
    assert!(screen.contains("│ ~ greet ") && screen.contains("Δ v3"), "{screen}");

    // The version's counters go on; earlier panics do not count for the patch.
    console.session(SessionEvent::Snapshot(Box::new(after_calls(7, 60, 40, Some(1)))));
    let screen = console.screen();
    assert!(line_of(&console, "world").starts_with("✖ world  v3+1 "), "{screen}");
    assert!(screen.contains("✖ 2 panics in world"), "{screen}");
    assert!(screen.contains("▲ greet panics 5 → 2"), "{screen}");
    assert!(
        screen.contains("▲ greet takes 910 % longer"),
        "only calls of the patch count: {screen}"
    );
}

#[test]
fn a_build_says_whether_it_is_a_patch_and_why_not() {
    let mut console = Console::connected(120, 36);
    console.click("Build");
    let built = |can: bool, why: Option<&str>| {
        let mut event = samples::built_with_changes();
        if let SessionEvent::Built { patchable, not_patched, .. } = &mut event {
            (*patchable, *not_patched) = (Some(can), why.map(str::to_owned));
        }
        event
    };
    console.session(built(true, None));
    let screen = console.screen();
    assert!(screen.contains("changed: greet, meet and nap"), "{screen}");
    assert!(screen.contains("patchable: the running version gets the new code"), "{screen}");
    console.session(built(false, Some("`Score` was changed (lib.rs)")));
    let screen = console.screen();
    assert!(screen.contains("not patchable: `Score` was changed (lib.rs)"), "{screen}");
}

#[test]
fn a_key_turns_patches_off_and_on() {
    let mut console = Console::connected(120, 36);
    let header = |console: &Console| console.screen().lines().next().unwrap().to_owned();
    console.session(SessionEvent::Patching { on: true });
    assert_eq!(console.state.notice, None, "patches are on by default, so this needs no notice");
    assert_eq!(console.press("B"), [Effect::Order(Order::Patch(false))]);
    console.session(SessionEvent::Patching { on: false });
    let notice = &console.state.notice.as_ref().unwrap().text;
    assert_eq!(notice, "patches off: each build is loaded as a whole");
    assert!(header(&console).contains("watch on, no patches"), "{}", header(&console));
    assert_eq!(console.press("B"), [Effect::Order(Order::Patch(true))]);
    console.session(SessionEvent::Patching { on: true });
    assert!(!header(&console).contains("no patches"), "{}", header(&console));
    // The palette and the help list the command.
    console.press("?");
    assert!(console.screen().contains("Patch versions that run, or load"), "{}", console.screen());
}

#[test]
fn a_patched_version_can_be_rolled_back_to_its_original_code() {
    let mut console = Console::connected(120, 36);
    let mut snapshot = after_calls(0, 60, 0, Some(2));
    let version = &mut snapshot.plugins[0].versions[0];
    version.base_build_id = Some(std::mem::replace(&mut version.build_id, "f".repeat(32)));
    console.session(SessionEvent::Snapshot(Box::new(snapshot)));
    console.press("R");
    assert!(console.screen().contains("v3   no patch 3c0ffee0"), "{}", console.screen());
    console.press("Enter");
    let reported = "world v3+2 gets the code of v3 again, and keeps its state.";
    assert!(console.screen().contains(reported), "{}", console.screen());
    let order = Order::Operate(Operation::rollback("world@3"));
    assert_eq!(console.press("y"), [Effect::Order(order)]);
}

/// The last line but one.
fn notice(console: &Console) -> String {
    console.state.notice.as_ref().map_or_else(String::new, |notice| notice.text.clone())
}

#[test]
fn a_key_goes_through_the_functions_that_the_last_reload_changed() {
    let mut console = Console::connected(120, 36);
    console.press("d");
    assert_eq!(notice(&console), "no reload has changed anything since this console started");
    let mut console = after_a_reload();
    console.press("G 3 d");
    assert_eq!(notice(&console), "greet of world has another signature than in v3 (1 of 3)");
    assert_eq!((console.state.tab, console.state.focus), (Tab::Functions, Panel::Tabs));
    assert_eq!(console.state.plugins.selected_target().as_deref(), Some("world"));
    assert_eq!(console.state.functions.selected, 0);
    console.press("d");
    assert_eq!(notice(&console), "wave of world is new since v3 (2 of 3)");
    assert_eq!(console.state.functions.selected, 1);
    console.press("d");
    assert_eq!(notice(&console), "reset of world is gone; v3 had it (3 of 3)");
    console.press("d");
    assert_eq!(notice(&console), "greet of world has another signature than in v3 (1 of 3)");
    console.press("1");
    assert!(
        !console.screen().contains("│ ~ greet "),
        "the mark is removed after the user has looked at the function"
    );
    console.press("d");
    assert!(notice(&console).contains("(2 of 3)"), "the next difference follows the selected one");
    assert!(console.screen().contains("│ ~ greet "), "the function is marked again");
    assert!(console.press("?").is_empty());
    assert!(
        console.screen().contains("Go to what the last reload changed"),
        "{}",
        console.screen()
    );
}

#[test]
fn a_key_goes_to_the_longest_running_call_and_then_to_the_slowest_functions() {
    let mut console = Console::connected(120, 36);
    let mut snapshot = samples::snapshot(4121);
    let slow = |up_to_ns, calls| LatencyBucket { up_to_ns, calls };
    let world = &mut snapshot.plugins[0];
    world.versions[1].held_by = vec![Holder {
        function: Some("reset".into()),
        since_ms: Some(console.now_ms - 31_400),
        ..Holder::unnamed(HolderKind::Call, 1)
    }];
    world.functions[0].latency_buckets = vec![slow(2_047, 980), slow(41_000_000, 1_000)];
    world.functions[0].latency_us_p99 = Some(41_000.0);
    let mut nap = world.functions[1].clone();
    nap.name = "nap".into();
    nap.latency_buckets = vec![slow(6_000_000_000, 3)];
    snapshot.plugins[1].functions.push(nap);
    console.session(SessionEvent::Snapshot(Box::new(snapshot)));
    let screen = console.screen();
    assert!(screen.lines().next().unwrap().contains("│ ◌ reset of world 31s │"), "{screen}");
    console.press("s");
    assert_eq!(notice(&console), "reset of world v2 has run for 31.4 s (1 of 3)");
    assert_eq!((console.state.tab, console.state.functions.selected), (Tab::Functions, 1));
    console.press("s");
    assert_eq!(notice(&console), "nap of cat, 3 timed calls: none above 6.0 s (2 of 3)");
    assert_eq!(console.state.plugins.selected_target().as_deref(), Some("cat"));
    console.press("s");
    let slowest =
        "greet of world, 1,000 timed calls: p50 7.1 µs, p99 41 ms, none above 41 ms (3 of 3)";
    assert_eq!(notice(&console), slowest);
    assert_eq!(console.state.plugins.selected_target().as_deref(), Some("world"));
    console.press("s");
    assert!(notice(&console).ends_with("(1 of 3)"), "{}", notice(&console));
    console.press("3 s");
    assert!(console.state.searching.is_some(), "in the log, `s` opens a search");
}

#[test]
fn the_99th_percentile_has_a_column_if_no_signature_is_cut_for_it() {
    let mut snapshot = samples::snapshot(4121);
    let greet = &mut snapshot.plugins[0].functions[0];
    greet.latency_buckets = vec![LatencyBucket { up_to_ns: 8_191, calls: 1_000 }];
    for (width, is_shown) in [(120, true), (80, false), (200, false)] {
        let mut console = Console::connected(width, 36);
        console.session(SessionEvent::Snapshot(Box::new(snapshot.clone())));
        let screen = console.screen();
        assert_eq!(screen.contains("p50     p99"), is_shown, "{screen}");
        assert_eq!(screen.contains("7.1 µs  8.1 µs"), is_shown, "{screen}");
    }
}

#[test]
fn the_build_of_a_patch_that_serves_already_changes_nothing_in_the_next_reload() {
    let mut console = Console::connected(120, 36);
    let mut patched = samples::snapshot(4121);
    patched.plugins[0].versions[0].patch = Some(1);
    patched.plugins[0].versions[0].patched_functions = vec!["greet".into()];
    console.session(SessionEvent::Snapshot(Box::new(patched)));
    assert!(console.screen().contains("│ ~ greet "), "{}", console.screen());
    let SessionEvent::Built { plugin, build_id, path, changes, phases, .. } =
        samples::built_with_changes()
    else {
        panic!("the sample is a build");
    };
    console.session(SessionEvent::Built {
        plugin,
        build_id,
        path,
        warnings: 0,
        effect: BuildEffect::NewCode,
        changes,
        patchable: Some(true),
        not_patched: None,
        is_served: true,
        phases,
    });
    let mut snapshot = samples::snapshot(4121);
    snapshot.plugins[0].versions.insert(0, samples::version(4, VersionState::Active, "active"));
    snapshot.plugins[0].versions[1].state = VersionState::Freed;
    console.session(SessionEvent::Snapshot(Box::new(snapshot)));
    assert!(!console.screen().contains("│ ~ greet "), "{}", console.screen());
}

#[test]
fn a_narrow_header_shortens_its_texts_before_it_omits_any() {
    for (width, reported) in [
        (60, "✖ 12 panics │ watch on │ ◌ greet 4s"),
        (50, "✖ 12 panics │ watch on"),
        (120, "✖ 12 panics in world │ watch on │ ◌ greet of world 4s │ main* │ 3 plugins │ gen 3"),
    ] {
        let mut console = Console::connected(width, 24);
        console.session(SessionEvent::Snapshot(Box::new(samples::reloaded())));
        let screen = console.screen();
        let header = screen.lines().next().unwrap();
        assert_eq!(header.split_once(" │ ").unwrap().1, reported, "{header}");
    }
}

#[test]
fn the_header_says_that_the_host_is_older_than_its_sources_until_it_is_not() {
    let header = |console: &Console| console.screen().lines().next().unwrap().to_owned();
    let mark = "│ ▲ host outdated: H restarts it │";
    let ways_to_end = [SessionEvent::HostCurrent, SessionEvent::HostStarted { pid: 77 }];
    for end in ways_to_end {
        let mut console = Console::connected(120, 36);
        assert!(!header(&console).contains("outdated"));
        console.session(SessionEvent::HostOutdated { plugins: Vec::new() });
        console.press("x");
        assert!(header(&console).contains(mark), "{}", header(&console));
        console.session(end);
        assert!(!header(&console).contains("outdated"), "{}", header(&console));
    }
    let mut narrow = Console::connected(60, 24);
    narrow.session(SessionEvent::HostOutdated { plugins: Vec::new() });
    assert!(header(&narrow).contains("│ ▲ host outdated"), "{}", header(&narrow));
}

#[test]
fn the_header_names_the_agent_of_the_host() {
    let mut snapshot = samples::snapshot(4121);
    snapshot.host.agent = Some(Box::new(HostAgent {
        fleet: "nats://127.0.0.1:4222/games".to_owned(),
        channel: "main".to_owned(),
        host: "sample-host-4121".to_owned(),
        pid: 7,
    }));
    let mut without = snapshot.clone();
    without.host.agent = None;
    let header = |console: &Console| console.screen().lines().next().unwrap().to_owned();
    for (width, reported) in
        [(120, " │ agent of games, channel main │ "), (70, " │ agent of games"), (50, " │ agent")]
    {
        let mut console = Console::connected(width, 24);
        console.session(SessionEvent::Snapshot(Box::new(snapshot.clone())));
        assert!(header(&console).contains(reported), "{}", header(&console));
        console.session(SessionEvent::Snapshot(Box::new(without.clone())));
        assert!(!header(&console).contains("agent"), "{}", header(&console));
    }
}

#[test]
fn the_details_shrink_for_a_longer_tree() {
    let mut console = Console::connected(100, 30);
    let mut snapshot = samples::snapshot(4121);
    let one = snapshot.plugins.pop().unwrap();
    snapshot.plugins = (1..=7)
        .map(|number| PluginInfo { name: format!("plugin-{number}"), ..one.clone() })
        .collect();
    console.session(SessionEvent::Snapshot(Box::new(snapshot)));
    let screen = console.screen();
    assert!((1..=7).all(|number| screen.contains(&format!("plugin-{number} "))), "{screen}");
    assert!(screen.contains("build "), "{screen}");
}
