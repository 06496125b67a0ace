//! The timeline: the events after each reload, and the holders of a version.

use hotswap_console::screen::layout::{Panel, Tab};
use hotswap_console::screen::model::timeline::Part;
use hotswap_console::screen::model::tree::TreeTab;
use hotswap_console::session::{BuildEffect, Job, JobOutcome, SessionEvent};
use hotswap_protocol::{
    DataBagEntry, Event, Outcome, PastReload, PhaseKind, PhaseTiming, ReloadEnd, ReloadReport,
    Reloads, Snapshot, Step, VersionState,
};
use serde_json::{Value, json};

use crate::support::console::Console;
use crate::support::samples;

/// A console after a reload that replaced `world v3` by v4.
fn after_a_reload() -> Console {
    let mut console = Console::connected(120, 36);
    let at_ms = console.now_ms;
    let report = samples::report();
    console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms, report }));
    console
}

/// The titles of the reloads with their results, newest first.
fn titles(console: &Console) -> Vec<(String, &str)> {
    let reloads = console.state.timeline.reloads().iter();
    let reported = reloads.map(|it| {
        let done = it.result.as_ref().map_or("", |done| done.summary.as_str());
        (it.title(), done)
    });
    reported.collect()
}

#[test]
fn a_console_that_attaches_later_lists_the_reloads_that_the_host_remembers() {
    let mut console = Console::connected(120, 36);
    console.press("2");
    console.session(SessionEvent::Reloads(samples::reloads()));
    let earlier = [
        ("reload 3".to_owned(), "world v2 → v3"),
        ("reload failed".to_owned(), ""),
        ("reload 2".to_owned(), "world v2"),
    ];
    assert_eq!(titles(&console), earlier);
    // The next reload comes after them, whether it is reported once or twice.
    let (at_ms, report) = (console.now_ms, samples::report());
    let event = Event::ReloadFinished { at_ms, report: report.clone() };
    console.session(SessionEvent::Engine(event.clone()));
    let end = ReloadEnd::Report(report);
    let mut all = samples::reloads();
    all.reloads.push(PastReload { at_ms, end });
    console.session(SessionEvent::Reloads(all.clone()));
    let now = [&[("reload 4".to_owned(), "world v3 → v4")], &earlier[..]].concat();
    assert_eq!(titles(&console), now);

    let mut late = Console::connected(120, 36);
    late.session(SessionEvent::Reloads(all));
    late.session(SessionEvent::Engine(event));
    assert_eq!(titles(&late), now);
    assert!(late.screen().contains("reloaded: world v3 → v4"), "the reload is shown as new");
}

#[test]
fn the_selected_reload_stays_selected_when_earlier_ones_arrive() {
    let mut console = after_a_reload();
    let at_ms = console.now_ms + 1000;
    let mut report = samples::report();
    (report.generation, report.plugins[0].version) = (5, Some(5));
    console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms, report }));
    console.state.timeline.select(1);
    console.session(SessionEvent::Reloads(samples::reloads()));
    assert_eq!(console.state.timeline.selected(), 1);
    assert_eq!(titles(&console)[1].0, "reload 4");
}

fn version_changed(console: &mut Console, version: u32, state: VersionState, detail: &str) {
    console.session(SessionEvent::Engine(Event::VersionChanged {
        at_ms: console.now_ms,
        plugin: "world".into(),
        version,
        state,
        detail: detail.into(),
        ending: None,
    }));
}

fn first_call(console: &mut Console, version: u32, elapsed_us: u64) {
    console.session(SessionEvent::Engine(Event::FirstCall {
        at_ms: console.now_ms,
        plugin: "world".into(),
        version,
        patch: None,
        function: "greet".into(),
        elapsed_us,
    }));
}

/// The events after the newest reload, each with its time after the reload in microseconds.
fn events_after_reload(console: &Console) -> Vec<(&Part, &str, u64)> {
    let after = console.state.timeline.reloads()[0].after.iter();
    after.map(|it| (&it.kind, it.plugin.as_deref().unwrap(), it.elapsed_us)).collect()
}

#[test]
fn the_first_call_and_the_end_of_the_old_version_belong_to_the_reload() {
    let mut console = after_a_reload();
    let freed = "freed: 4.3 MiB unmapped after 12 ms";
    console.now_ms += 1_200;
    first_call(&mut console, 4, 730);
    console.now_ms += 100;
    version_changed(&mut console, 3, VersionState::Freed, freed);
    console.now_ms += 60_000;
    version_changed(&mut console, 2, VersionState::Freed, freed);
    first_call(&mut console, 3, 99);
    assert_eq!(
        events_after_reload(&console),
        [(&Part::FirstCall, "world", 730), (&Part::Freed, "world", 1_300_000)]
    );
    console.press("2 [ [");
    assert_eq!(console.state.tab, Tab::Timeline);
    let screen = console.screen();
    assert!(screen.contains("│ first call ") && screen.contains("730 µs"), "{screen}");
    assert!(screen.contains("│ freed ") && screen.contains("1.3 s"), "{screen}");
}

#[test]
fn events_before_the_report_of_a_reload_belong_to_the_reload_too() {
    let mut console = Console::connected(120, 36);
    version_changed(&mut console, 4, VersionState::Active, "active");
    first_call(&mut console, 4, 730);
    version_changed(&mut console, 3, VersionState::Freed, "freed: 4.3 MiB unmapped after 12 ms");
    let report = samples::report();
    console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms: console.now_ms, report }));
    let mut after = events_after_reload(&console);
    after.sort_by_key(|(part, ..)| part.as_str());
    assert_eq!(after, [(&Part::FirstCall, "world", 730), (&Part::Freed, "world", 0)]);
}

/// The host, with exactly these holders of `world v2`.
fn with_holders(holders: Value) -> Snapshot {
    let mut snapshot = samples::snapshot(4121);
    let version = &mut snapshot.plugins[0].versions[1];
    version.holders.clear();
    version.held_by = serde_json::from_value(holders).unwrap();
    snapshot
}

fn holders_event(holders: Value) -> SessionEvent {
    SessionEvent::Snapshot(Box::new(with_holders(holders)))
}

#[test]
fn a_key_goes_from_a_version_to_each_of_its_holders() {
    let mut console = Console::connected(120, 36);
    console.session(holders_event(json!([
        { "kind": "call", "function": "reset", "thread": "main", "since_ms": 0, "is_at_least": true },
        { "kind": "value" },
        { "kind": "handle" },
        { "kind": "thread", "thread": "worker", "thread_id": 4130 },
    ])));
    console.press("u");
    let notice = |console: &Console| console.state.notice.as_ref().unwrap().text.clone();
    assert_eq!(notice(&console), "world v3 serves; select v2 to see what holds it");
    console.press("j u");
    assert_eq!((console.state.tab, console.state.functions.selected), (Tab::Functions, 1));
    console.press("u");
    assert_eq!(console.state.tab, Tab::Vault);
    console.press("u");
    assert_eq!(console.state.focus, Panel::Plugins);
    assert_eq!(
        console.state.plugins.selected_target().as_deref(),
        Some("cat"),
        "`cat` imports `world`, so it is selected"
    );
    console.press("u");
    assert_eq!(notice(&console), "world v2 is held by: thread \"worker\" (4130) (4 of 4)");
    assert_eq!(console.state.logs.writer_filter(), "", "a thread leads to no other panel");
    console.press("u");
    assert_eq!(
        console.state.tab,
        Tab::Functions,
        "after the last holder, the first is shown again"
    );
}

#[test]
fn a_call_leads_to_its_function_and_a_value_to_its_row_whatever_they_are_called() {
    let mut console = Console::connected(120, 36);
    let mut vault = samples::vault();
    vault.data_bag.push(DataBagEntry { key: "a handle".into(), ..vault.data_bag[0].clone() });
    console.session(SessionEvent::Vault(Ok(vault)));
    let functions = ["set_value", "handle"].map(|name| {
        let mut function = samples::snapshot(4121).plugins[0].functions[1].clone();
        function.name = name.into();
        function
    });
    let mut snapshot = with_holders(json!([
        { "kind": "call", "function": "set_value", "thread": "main", "since_ms": 0 },
        { "kind": "call", "function": "handle", "since_ms": 0 },
        { "kind": "value", "key": "a handle" },
        { "kind": "value", "key": "cat", "interface": "Greeter" },
        { "kind": "task", "task": "values and handles", "since_ms": 0 },
    ]));
    snapshot.plugins[0].functions.extend(functions);
    console.session(SessionEvent::Snapshot(Box::new(snapshot)));
    console.press("j u");
    assert_eq!((console.state.tab, console.state.functions.selected), (Tab::Functions, 2));
    console.press("u");
    assert_eq!((console.state.tab, console.state.functions.selected), (Tab::Functions, 3));
    for value in ["bag/a handle", "slots/Greeter/cat"] {
        console.press("u");
        let rows = console.state.vault.rows();
        let selected = &rows[console.state.vault.selected(&rows)];
        assert_eq!((console.state.tab, selected.path.as_str()), (Tab::Vault, value));
    }
    console.press("u");
    let notice = &console.state.notice.as_ref().unwrap().text;
    assert!(notice.contains("values and handles"), "{notice}");
}

#[test]
fn the_text_of_an_older_host_about_a_holder_is_shown_but_not_parsed() {
    let mut console = Console::connected(120, 36);
    let mut snapshot = with_holders(json!([]));
    snapshot.plugins[0].versions[1].holders = vec!["value `greetings`".into()];
    console.session(SessionEvent::Snapshot(Box::new(snapshot)));
    console.press("j u");
    let notice = &console.state.notice.as_ref().unwrap().text;
    assert_eq!(notice, "world v2 is held by: value `greetings`");
}

#[test]
fn a_version_without_holders_leads_nowhere() {
    let mut console = Console::connected(120, 36);
    console.session(holders_event(json!([])));
    for (keys, expected) in [
        ("u", "world v3 serves; no other version of it is held"),
        ("j u", "nothing is known to hold world v2"),
        ("j u", "world v1 is freed: nothing held it any more"),
    ] {
        console.press(keys);
        assert_eq!(console.state.notice.as_ref().unwrap().text, expected);
    }
}

#[test]
fn a_freed_version_stays_freed_if_late_events_arrive() {
    let mut console = Console::connected(120, 36);
    let at_ms = console.now_ms;
    console.session(SessionEvent::Engine(Event::VersionChanged {
        at_ms,
        plugin: "world".into(),
        version: 2,
        state: VersionState::Freed,
        detail: "freed: 4.3 MiB unmapped".into(),
        ending: None,
    }));
    console.session(SessionEvent::Snapshot(Box::new(samples::snapshot(4121))));
    let mut lives = console.state.timeline.lives();
    let life = lives.find(|life| (life.plugin.as_str(), life.version) == ("world", 2)).unwrap();
    assert_eq!(
        (life.state(), life.detail.as_str()),
        (VersionState::Freed, "freed: 4.3 MiB unmapped")
    );
}

#[test]
fn the_log_reports_a_failed_load_once() {
    let mut console = Console::connected(120, 36);
    let error = samples::refusal();
    let failed = "failed: world: on_init: no sun";
    let outcome = JobOutcome::Failed { error: error.clone() };
    console.session(SessionEvent::JobFinished { job: Job::Reload, outcome, elapsed_ms: 9 });
    version_changed(&mut console, 4, VersionState::Failed, failed);
    let at_ms = console.now_ms;
    console.session(SessionEvent::Engine(Event::ReloadFailed { at_ms, error: error.clone() }));
    version_changed(&mut console, 4, VersionState::Failed, failed);
    let rows = console.state.logs.newest(100).map(|row| row.text.clone());
    let reported: Vec<String> = rows.collect();
    let count = |text: &str| reported.iter().filter(|line| line.contains(text)).count();
    assert_eq!(count("no sun"), 1, "{reported:#?}");
    assert_eq!(count(&error.message), 1, "{reported:#?}");
}

/// `world` is saved, built and reloaded, this long after the save.
fn save_and_reload(console: &mut Console, live_ms: u64) {
    console.now_ms += 5_000;
    let saved_at_ms = console.now_ms;
    let plugins = vec!["world".to_owned()];
    console.session(SessionEvent::SourcesChanged { plugins, saved_at_ms });
    console.session(samples::built(BuildEffect::NewCode));
    console.now_ms += live_ms;
    let report = samples::report();
    console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms: console.now_ms, report }));
}

#[test]
fn the_time_from_a_save_until_it_is_live_is_shown_everywhere() {
    let mut console = Console::connected(120, 36);
    for live_ms in [900, 400, 1_300] {
        save_and_reload(&mut console, live_ms);
    }
    let marker = console.state.logs.newest(1).next().unwrap().text.clone();
    assert!(marker.starts_with("reload 4  world v4  live 1.3 s after save"), "{marker}");
    console.press("2 [ [");
    let screen = console.screen();
    assert!(screen.lines().next().unwrap().contains("│ live 1.3 s after save ▆▃█ │"), "{screen}");
    assert!(
        screen.contains("reload 4  live 1.3 s after save; the last 3 ▆▃█, median 0.9 s"),
        "{screen}"
    );
    assert!(screen.contains("live 0.4 s"), "{screen}");
}

#[test]
fn only_a_reload_that_a_save_caused_has_a_time_after_the_save() {
    let mut console = after_a_reload();
    assert_eq!(
        console.state.timeline.last_live_ms(),
        None,
        "a user requested this reload, so it has no save"
    );
    // A save that changes no code causes no reload.
    console.now_ms += 1_000;
    let saved_at_ms = console.now_ms;
    let plugins = vec!["world".to_owned()];
    console.session(SessionEvent::SourcesChanged { plugins, saved_at_ms });
    console.session(serving_newest_build());
    console.session(samples::built(BuildEffect::SameCode));
    let (at_ms, mut report) = (console.now_ms + 80_000, samples::report());
    (report.plugins[0].outcome, report.plugins[0].version) = (Outcome::Rebound, Some(5));
    console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms, report }));
    let (at_ms, mut report) = (console.now_ms + 90_000, samples::report());
    report.plugins[0].build_id = Some("5c0ffee0".to_owned());
    console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms, report }));
    assert_eq!(console.state.timeline.last_live_ms(), None);
    save_and_reload(&mut console, 700);
    assert_eq!(console.state.timeline.live_times(9), [Some(700)]);
}

#[test]
fn the_bars_of_a_build_and_of_a_reload_have_a_scale_each() {
    let mut console = Console::connected(120, 50);
    let (at_ms, report) = (console.now_ms, samples::report());
    console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms, report }));
    console.press("2 Alt-5");
    let screen = console.screen();
    let scales: Vec<&str> = screen.lines().filter(|line| line.contains('┼')).collect();
    assert_eq!(scales.len(), 2, "{screen}");
    assert!(scales[0].contains(" build ") && scales[0].contains(" ms"), "{screen}");
    assert!(scales[1].contains(" reload ") && scales[1].contains(" ms"), "{screen}");
}

fn serving_newest_build() -> SessionEvent {
    let mut snapshot = samples::reloaded();
    snapshot.plugins[0].versions[0].build_id = "4c0ffee0".into();
    SessionEvent::Snapshot(Box::new(snapshot))
}

#[test]
fn a_save_that_another_console_built_has_a_time_until_it_is_live() {
    let saved = |console: &mut Console| {
        let (plugins, saved_at_ms) = (vec!["world".to_owned()], console.now_ms);
        console.session(SessionEvent::SourcesChanged { plugins, saved_at_ms });
    };
    let reloaded = |console: &mut Console, after_ms: u64| {
        console.now_ms += after_ms;
        let (at_ms, report) = (console.now_ms, samples::report());
        console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms, report }));
    };
    // The save is built, and then reloaded. This console may have compiled it as well.
    for effect in [BuildEffect::UpToDate, BuildEffect::SameCode] {
        let mut console = Console::connected(120, 36);
        saved(&mut console);
        console.session(samples::built(effect));
        let marker = console.state.logs.newest(1).next().unwrap().text.clone();
        assert!(!marker.contains("nothing to reload"), "{marker}");
        reloaded(&mut console, 800);
        assert_eq!(console.state.timeline.last_live_ms(), Some(800));
        let marker = console.state.logs.newest(1).next().unwrap().text.clone();
        assert!(marker.contains("live 0.8 s after save"), "{marker}");
    }

    // The host's state with the build arrives before its report of the reload.
    let mut console = Console::connected(120, 36);
    saved(&mut console);
    console.session(samples::built(BuildEffect::UpToDate));
    console.session(serving_newest_build());
    reloaded(&mut console, 700);
    assert_eq!(console.state.timeline.last_live_ms(), Some(700));

    // On a busy machine, the save is noticed last.
    let mut console = Console::connected(120, 36);
    let (plugins, saved_at_ms) = (vec!["world".to_owned()], console.now_ms);
    reloaded(&mut console, 500);
    console.session(serving_newest_build());
    console.session(SessionEvent::SourcesChanged { plugins, saved_at_ms });
    console.session(samples::built(BuildEffect::UpToDate));
    assert_eq!(console.state.timeline.last_live_ms(), Some(500));

    // The reload is only in the list of reloads that the host remembers.
    let mut console = Console::connected(120, 36);
    saved(&mut console);
    console.session(samples::built(BuildEffect::UpToDate));
    let (at_ms, end) = (console.now_ms + 400, ReloadEnd::Report(samples::report()));
    console.session(SessionEvent::Reloads(Reloads { reloads: vec![PastReload { at_ms, end }] }));
    assert_eq!(console.state.timeline.last_live_ms(), Some(400));

    // The reload came before this console built the save.
    let mut console = Console::connected(120, 36);
    saved(&mut console);
    reloaded(&mut console, 600);
    console.session(serving_newest_build());
    console.session(samples::built(BuildEffect::UpToDate));
    assert_eq!(console.state.timeline.last_live_ms(), Some(600));
    assert!(console.screen().lines().next().unwrap().contains("live 0.6 s after save"));
    // Saving the same content again causes no reload.
    console.now_ms += 5_000;
    saved(&mut console);
    console.session(samples::built(BuildEffect::UpToDate));
    console.session(serving_newest_build());
    assert_eq!(console.state.timeline.live_times(9), [Some(600)]);
}

#[test]
fn the_reason_for_a_whole_load_comes_after_the_outcome_of_the_reload() {
    let mut console = Console::connected(120, 36);
    let mut report = samples::report();
    let why =
        "more than sources changed: a manifest, a procedural macro, a build script, or a flag";
    for plugin in &mut report.plugins {
        (plugin.outcome, plugin.version) = (Outcome::Ok, Some(4));
        plugin.not_patched = Some(why.into());
    }
    console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms: console.now_ms, report }));
    let screen = console.screen();
    assert!(screen.contains("reload 4  world v3 → v4, cat v1 → v4  41 ms  ("), "{screen}");
    assert!(screen.contains("✔ reloaded: world v3 → v4, cat v1 → v4; world as a wh"), "{screen}");
    let reported = &console.state.notice.as_ref().unwrap().text;
    assert!(reported.ends_with(&format!("; cat as a whole: {why}")), "{reported}");
}

#[test]
fn a_restart_separates_the_reloads_of_two_processes() {
    let mut console = after_a_reload();
    console.press("2 Alt-5");
    assert!(
        !console.screen().contains("host started at"),
        "the reloads of one process are not separated"
    );
    console.now_ms += 60_000;
    console.session(SessionEvent::HostStarted { pid: 5000 });
    console.session(SessionEvent::Connected { host: samples::host(5000) });
    let lines = |console: &Console| {
        let screen = console.screen();
        let is_of_list = |line: &&str| line.contains("reload 4 ") || line.contains("host started");
        let lines = screen.lines().filter(|line| line.contains("│ ") || line.contains("│─"));
        let reported: Vec<String> = lines.filter(is_of_list).map(str::to_owned).collect();
        reported
    };
    let divider = "── host started at 12:06:00, pid 5000 ──";
    assert!(lines(&console)[0].contains(divider), "{}", console.screen());
    let (at_ms, report) = (console.now_ms + 1_000, samples::report());
    console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms, report }));
    let reported = lines(&console);
    assert!(
        reported[0].contains("12:06:01") && reported[1].contains(divider),
        "{}",
        console.screen()
    );
    assert!(reported[2].contains("12:05:00"), "{}", console.screen());
    // The restart is no reload: the selection skips it, and a click on it selects nothing.
    console.press("j");
    assert_eq!(console.state.timeline.selected(), 1);
    console.click("host started at");
    assert_eq!(console.state.timeline.selected(), 1);
    console.click("12:06:01");
    assert_eq!(console.state.timeline.selected(), 0);
}

/// `world v3` was patched: `greet` has other code.
fn patch_report() -> ReloadReport {
    let mut report = samples::report();
    let world = &mut report.plugins[0];
    (world.outcome, world.version, world.patch) = (Outcome::Patched, Some(3), Some(1));
    world.patched_functions = vec!["greet".into()];
    let phase = |phase, elapsed_us| PhaseTiming { phase, plugin: None, elapsed_us };
    report.build_phases.push(phase(PhaseKind::Patch, 900));
    report.phases = vec![phase(Step::Find.into(), 300), phase(Step::Open.into(), 400)];
    report
}

#[test]
fn a_patch_has_its_phases() {
    let mut console = Console::connected(120, 50);
    let (at_ms, report) = (console.now_ms, patch_report());
    console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms, report }));
    console.press("2 Alt-5");
    let screen = console.screen();
    assert!(screen.contains("world v3+1 (patched: greet)"), "{screen}");
    let groups: Vec<&str> = screen.lines().filter(|line| line.contains('┼')).collect();
    assert!(groups[0].contains(" build ") && groups[1].contains(" patch "), "{screen}");
    let is_bar = |line: &&str| line.contains(" patch ") && line.contains("900 µs");
    assert!(screen.lines().any(|line| is_bar(&line)), "even a phase of 900 µs has a bar: {screen}");
    console.press("Enter");
    assert!(console.screen().contains("other code: greet"), "{}", console.screen());
}

#[test]
fn the_log_of_the_host_counts_the_plugins_that_stay_as_they_are() {
    let mut report = samples::report();
    assert_eq!(report.summary(), "world: ok, 1 unchanged");
    report.plugins.remove(0);
    assert_eq!(report.summary(), "1 unchanged");
    report.plugins.clear();
    assert_eq!(report.summary(), "no plugins");
}
