//! The content of the screen at each size.

use hotswap_console::host::HostExit;
use hotswap_console::host::operation::Operation;
use hotswap_console::screen::layout::Tab;
use hotswap_console::screen::update::{Effect, Input};
use hotswap_console::screen::view::Theme;
use hotswap_console::session::{
    BuildEffect, BuildLine, Job, JobOutcome, LogLine, Order, OutputStream, SessionEvent, Watch,
};
use hotswap_protocol::{
    Cut, DataBagEntry, ErrorKind, Event, Failures, FirstFailure, GuardTrip, LogLevel, ParamInfo,
    PhaseKind, PhaseTiming, VersionState, WireError,
};
use serde_json::json;

use crate::support::console::Console;
use crate::support::samples;

/// One size for each layout.
pub const SIZES: [(u16, u16); 5] = [(120, 36), (80, 24), (60, 15), (30, 8), (200, 50)];

/// The screens of all sizes after the same events. Every theme must show the same words.
fn at_all_sizes(story: impl Fn(&mut Console)) -> String {
    let screens = SIZES.map(|(width, height)| {
        let mut console = Console::connected(width, height);
        story(&mut console);
        console.assert_readable_in_all_themes();
        format!("{width}×{height}\n{}\n", console.screen())
    });
    screens.join("\n")
}

fn some_logs() -> Vec<LogLine> {
    let mut plugin = samples::record(3, LogLevel::Warn, "velocity clamped");
    plugin.plugin = Some("world".into());
    plugin.version = Some(3);
    plugin.fields = vec![("limit".into(), "3".into())];
    vec![
        LogLine::Log(samples::record(1, LogLevel::Info, "listening")),
        LogLine::Output {
            stream: OutputStream::Stdout,
            text: "\u{1b}[32mplain\u{1b}[0m\tprint".into(),
        },
        LogLine::Log(plugin),
        LogLine::Log(samples::record(4, LogLevel::Error, "it broke")),
        LogLine::Dropped { count: 12 },
    ]
}

#[test]
fn connected() {
    insta::assert_snapshot!(at_all_sizes(|console| {
        console.logs(some_logs());
        let report = samples::report();
        let at_ms = samples::NOON_MS;
        console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms, report }));
    }));
}

#[test]
fn before_anything_runs() {
    let mut console = Console::new(120, 36);
    console.session(SessionEvent::Opened {
        name: "sample-host".into(),
        package_dir: None,
        plugin_dir: None,
        plugins: vec!["world".into()],
        plugin_packages: vec!["/src/world".into()],
    });
    console.session(SessionEvent::JobStarted { job: Job::BuildHost });
    console.session(SessionEvent::JobProgress {
        done: 63,
        total: Some(100),
        package: "axum".into(),
    });
    let text = "   Compiling axum v0.8.6".into();
    let line = BuildLine::Output { text };
    console.session(SessionEvent::Build { package: "sample-host".into(), line });
    console.now_ms += 4_100;
    console.handle(hotswap_console::screen::update::Input::Tick);
    insta::assert_snapshot!(console.screen());
}

#[test]
fn a_form_with_a_mistake_and_results() {
    insta::assert_snapshot!(at_all_sizes(|console| {
        console.press("i");
        console.write("Ada");
        console.press("Tab");
        console.write("-2");
        let operation = Operation::invoke("world".into(), "greet".into(), vec!["Ada".into()]);
        let answer = Ok(samples::greeting());
        console.session(SessionEvent::Invoked { operation: operation.clone(), answer });
        let answer = Err(WireError::new(ErrorKind::Panic, "world v3 panicked in greet: boom"));
        console.session(SessionEvent::Invoked { operation, answer });
    }));
}

/// How many lines the log has inside its border.
fn log_lines(console: &Console) -> usize {
    console.state.layout().logs.map_or(0, |logs| usize::from(logs.height).saturating_sub(2))
}

#[test]
fn an_open_form_takes_the_room_of_the_log_until_the_log_has_the_focus() {
    for ((width, height), kept) in [((120, 36), 3), ((80, 24), 1), ((200, 50), 3)] {
        let mut console = Console::connected(width, height);
        let mut snapshot = samples::snapshot(4121);
        let greet = &mut snapshot.plugins[0].functions[0];
        let param = greet.params[0].clone();
        let more =
            (0..40).map(|number| ParamInfo { name: format!("name{number}"), ..param.clone() });
        greet.params.extend(more);
        console.session(SessionEvent::Snapshot(Box::new(snapshot)));
        let before = log_lines(&console);
        console.press("i");
        assert_eq!(log_lines(&console), kept, "{}", console.screen());
        console.press("Esc 3");
        assert_eq!(log_lines(&console), before, "{}", console.screen());
    }
    // If there is enough room, the log keeps its size.
    let mut console = Console::connected(120, 36);
    let before = log_lines(&console);
    console.press("i");
    assert_eq!(log_lines(&console), before, "{}", console.screen());
}

#[test]
fn a_failed_build_takes_the_room_of_the_log_until_a_build_succeeds() {
    let mut console = Console::connected(120, 36);
    let before = log_lines(&console);
    let job = Job::BuildPlugin("world".into());
    console.session(SessionEvent::JobStarted { job: job.clone() });
    (1..40).for_each(|row| drop(console.session(samples::mistake("world", row))));
    let error = WireError::new(ErrorKind::Build, "`world` does not compile: 39 errors");
    let outcome = JobOutcome::Failed { error };
    console.session(SessionEvent::JobFinished { job: job.clone(), outcome, elapsed_ms: 1_700 });
    assert_eq!((console.state.tab, log_lines(&console)), (Tab::Build, 3), "{}", console.screen());
    // The lines of an error stay apart where there is room for one.
    let error =
        WireError::new(ErrorKind::Build, "`world` cannot be built:\nerror: no\n\nCaused by:\n  x");
    let outcome = JobOutcome::Failed { error };
    console.session(SessionEvent::JobStarted { job: job.clone() });
    console.session(SessionEvent::JobFinished { job: job.clone(), outcome, elapsed_ms: 1_700 });
    let screen = console.screen();
    assert!(screen.contains("failed after 1.7 s: `world` cannot be built: error: no"), "{screen}");
    console.session(SessionEvent::JobStarted { job: job.clone() });
    let outcome = JobOutcome::Done { summary: "build 4c0ffee0".into() };
    console.session(SessionEvent::JobFinished { job, outcome, elapsed_ms: 900 });
    assert_eq!(log_lines(&console), before, "{}", console.screen());
}

#[test]
fn a_build_that_failed() {
    insta::assert_snapshot!(at_all_sizes(|console| {
        let job = Job::BuildPlugin("world".into());
        console.session(SessionEvent::JobStarted { job: job.clone() });
        console.session(samples::mistake("world", 12));
        let error = WireError::new(ErrorKind::Build, "`world` does not compile: 1 error");
        let outcome = JobOutcome::Failed { error };
        console.session(SessionEvent::JobFinished { job, outcome, elapsed_ms: 1_700 });
        console.press("2");
    }));
}

#[test]
fn a_build_that_waits_to_be_reloaded() {
    insta::assert_snapshot!(at_all_sizes(|console| {
        console.session(SessionEvent::Watching {
            on: true,
            mode: Watch::Build,
            error: None,
            file_system: None,
        });
        console.session(samples::built(BuildEffect::NewCode));
    }));
}

#[test]
fn the_timeline() {
    let built = |console: &mut Console| {
        let phase = |phase: PhaseKind, elapsed_us| PhaseTiming { phase, plugin: None, elapsed_us };
        console.session(SessionEvent::Built {
            plugin: "world".into(),
            build_id: "4c0ffee0000000000000000000000004".into(),
            path: "/srv/plugins/world.so".into(),
            warnings: 0,
            effect: BuildEffect::NewCode,
            changes: None,
            patchable: None,
            not_patched: None,
            is_served: false,
            phases: vec![
                phase(PhaseKind::Notice, 7_000),
                phase(PhaseKind::Compile, 90_000),
                phase(PhaseKind::Link, 41_000),
            ],
        });
    };
    insta::assert_snapshot!(at_all_sizes(|console| {
        built(console);
        let report = samples::report();
        let at_ms = console.now_ms;
        console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms, report }));
        console.session(SessionEvent::Engine(Event::VersionChanged {
            at_ms,
            plugin: "world".into(),
            version: 4,
            state: VersionState::Active,
            ending: None,
            detail: "active".into(),
        }));
        console.now_ms += 100_000;
        let at_ms = console.now_ms;
        let error = samples::refusal();
        console.session(SessionEvent::Engine(Event::ReloadFailed { at_ms, error }));
        console.press("2 [ [ j");
    }));
}

#[test]
fn a_failing_version_is_not_shown_as_healthy() {
    insta::assert_snapshot!(at_all_sizes(|console| {
        let at_ms = samples::NOON_MS;
        let mut snapshot = samples::snapshot(4121);
        let failure = FirstFailure {
            function: "greet".into(),
            message: "panicked at src/lib.rs:94:5: no name".into(),
            at_ms,
            patch: None,
        };
        let failures = Failures { errors: 2, panics: 10, first_failure: Some(failure.clone()) };
        snapshot.plugins[0].versions[0].failures = failures.clone();
        snapshot.plugins[0].functions[0].failures = failures;
        snapshot.plugins[1].versions[0].failures.errors = 3;
        console.session(SessionEvent::Snapshot(Box::new(snapshot)));
        let plugin = || "world".to_owned();
        let first =
            Event::FirstFailure { at_ms, plugin: plugin(), version: 3, patch: None, failure };
        console.session(SessionEvent::Engine(first));
        console.session(SessionEvent::Engine(Event::GuardTripped(GuardTrip {
            at_ms,
            plugin: plugin(),
            version: 3,
            patch: None,
            failures: 10,
            within_ms: 5000,
            back_to: Some(2),
        })));
    }));
}

#[test]
fn a_wide_screen_shows_the_previous_tab_beside_the_current_one() {
    let mut console = Console::connected(170, 40);
    let (at_ms, report) = (console.now_ms, samples::report());
    console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms, report }));
    console.press("2 ]");
    let first = console.screen();
    console.press("Alt-5");
    insta::assert_snapshot!(format!("{first}\n{}", console.screen()));
}

#[test]
fn a_second_tab_is_kept_up_to_date_and_becomes_current_by_a_click() {
    let mut console = Console::connected(170, 40);
    assert_eq!(
        console.state.second_tab(),
        Some(Tab::Build),
        "the second tab is the one that showed the start"
    );
    console.press("2 ]");
    assert_eq!((console.state.tab, console.state.second_tab()), (Tab::Vault, Some(Tab::Functions)));
    console.press("[");
    assert_eq!(console.state.second_tab(), Some(Tab::Vault));
    let asked = console.session(SessionEvent::Snapshot(Box::new(samples::reloaded())));
    let vault = Effect::Order(Order::Operate(Operation::Vault));
    assert!(asked.contains(&vault), "a visible Vault is kept up to date: {asked:?}");
    console.click("the host has not shown");
    assert_eq!((console.state.tab, console.state.second_tab()), (Tab::Vault, Some(Tab::Functions)));
    console.handle(Input::Resize(150, 40));
    assert_eq!(console.state.second_tab(), None);
}

#[test]
fn what_a_reload_has_changed() {
    insta::assert_snapshot!(at_all_sizes(|console| {
        console.session(SessionEvent::Snapshot(Box::new(samples::reloaded())));
        let (at_ms, report) = (console.now_ms, samples::report());
        console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms, report }));
        console.session(samples::built_with_warnings(2));
    }));
}

#[test]
fn the_reloads_before_the_console_attached() {
    insta::assert_snapshot!(at_all_sizes(|console| {
        console.press("2");
        console.session(SessionEvent::Reloads(samples::reloads()));
        console.state.tab = Tab::Timeline;
    }));
}

#[test]
fn what_a_reload_would_change() {
    insta::assert_snapshot!(at_all_sizes(|console| {
        console.press("p");
        console.session(SessionEvent::Preview(Ok(samples::preview())));
    }));
}

#[test]
fn the_results_of_pinned_calls_in_a_preview() {
    insta::assert_snapshot!(at_all_sizes(|console| {
        console.press("p");
        console.session(SessionEvent::Preview(Ok(samples::preview())));
        console.press("a");
        console.session(SessionEvent::Replayed(Ok(samples::replay())));
        console.press("G");
    }));
}

#[test]
fn the_differences() {
    insta::assert_snapshot!(at_all_sizes(|console| {
        if let Some(request) = console.compare() {
            console.session(SessionEvent::Difference(Box::new(samples::difference(request))));
        }
    }));
}

#[test]
fn a_reload_in_full() {
    insta::assert_snapshot!(at_all_sizes(|console| {
        let at_ms = console.now_ms;
        let report = samples::report();
        console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms, report }));
        console.press("2 [ [ Enter");
    }));
}

#[test]
fn a_reload_that_failed() {
    insta::assert_snapshot!(at_all_sizes(|console| {
        let (at_ms, error) = (console.now_ms, samples::refusal());
        console.session(SessionEvent::Engine(Event::ReloadFailed { at_ms, error }));
        console.press("2 [ [");
    }));
}

#[test]
fn the_vault() {
    insta::assert_snapshot!(at_all_sizes(|console| {
        console.press("2 ]");
        let mut before = samples::vault();
        before.generation = 2;
        before.data_bag[0].type_name = "u32".into();
        before.data_bag.push(DataBagEntry {
            key: "the old world's map".into(),
            type_name: "Map".into(),
            owner: "world v2".into(),
            owned_by: Some(samples::owner("world", 2)),
            size_bytes: None,
            value: None,
            cuts: Vec::new(),
        });
        console.session(SessionEvent::Vault(Ok(before)));
        let mut vault = samples::vault();
        vault.data_bag.push(DataBagEntry {
            key: "seats".into(),
            type_name: "Seats".into(),
            owner: "cat v1".into(),
            owned_by: Some(samples::owner("cat", 1)),
            size_bytes: Some(40),
            value: Some(json!({ "rows": [[1, 2], [3]], "free": true })),
            cuts: Vec::new(),
        });
        vault.data_bag.push(DataBagEntry {
            key: "scores".into(),
            type_name: "HashMap<String, u64>".into(),
            owner: "world v3".into(),
            owned_by: Some(samples::owner("world", 3)),
            size_bytes: None,
            value: Some(json!({ "ada": 7, "bob": 9 })),
            cuts: vec![Cut { path: String::new(), shown: 2, of: Some(100_000) }],
        });
        vault.data_bag_len = 1_234;
        vault.extension["served"] = 8.into();
        let mut report = samples::report();
        report.generation = 3;
        report.data_bag = serde_json::from_value(json!([
            { "key": "greetings", "change": "migrated" },
            { "key": "seats", "change": "added" },
            { "key": "the old world's map", "change": "dropped" },
        ]))
        .unwrap();
        let at_ms = samples::NOON_MS;
        console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms, report }));
        console.session(SessionEvent::Vault(Ok(vault)));
        console.press("j j l j l");
    }));
}

#[test]
fn a_value_of_the_vault_in_full() {
    insta::assert_snapshot!(at_all_sizes(|console| {
        console.press("2 ]");
        console.session(SessionEvent::Vault(Ok(samples::vault())));
        console.press("j Enter");
    }));
}

#[test]
fn the_live_tables() {
    insta::assert_snapshot!(at_all_sizes(|console| {
        console.press("2 ] ]");
        console.session(SessionEvent::Live(Ok(samples::live())));
        console.press("j");
    }));
}

#[test]
fn a_question_with_the_holders_named() {
    insta::assert_snapshot!(at_all_sizes(|console| drop(console.press("j D"))));
}

#[test]
fn the_details_of_a_version() {
    insta::assert_snapshot!(at_all_sizes(|console| drop(console.press("Enter"))));
}

#[test]
fn the_choice_of_a_rollback() {
    insta::assert_snapshot!(at_all_sizes(|console| {
        console.press("R");
        let problem = "the artifact store cannot be read".into();
        let plugin = "world".into();
        console.session(SessionEvent::StoredBuilds { plugin, builds: Err(problem) });
    }));
}

#[test]
fn a_host_without_an_extension_has_none() {
    let mut console = Console::connected(120, 36);
    console.press("2 ]");
    let mut vault = samples::vault();
    (vault.extension, vault.extension_type) = (json!(null), "()".to_owned());
    console.session(SessionEvent::Vault(Ok(vault)));
    let screen = console.screen();
    let extension = screen.lines().find(|line| line.contains("Extension")).unwrap();
    assert!(extension.contains("none") && !extension.contains("()"), "{extension}");
}

#[test]
fn a_question_is_shown_in_full() {
    insta::assert_snapshot!(at_all_sizes(|console| drop(console.press("j j R Enter"))));
}

#[test]
fn the_palette() {
    insta::assert_snapshot!(at_all_sizes(|console| {
        console.press(":");
        console.write("re");
        console.press("Down");
    }));
}

#[test]
fn the_help() {
    insta::assert_snapshot!(at_all_sizes(|console| drop(console.press("?"))));
}

#[test]
fn a_host_that_crashed() {
    insta::assert_snapshot!(at_all_sizes(|console| {
        console.logs(some_logs());
        let exit = HostExit { code: None, signal: Some(11) };
        console.session(SessionEvent::HostExited { exit, expected: false, calls: None });
    }));
}

#[test]
fn a_log_that_is_filtered_and_paused() {
    insta::assert_snapshot!(at_all_sizes(|console| {
        console.logs(some_logs());
        console.press("3 l l /");
        console.write("e");
        console.press("Enter Up");
    }));
}

#[test]
fn every_size_of_the_screen_can_be_drawn() {
    for width in [1, 2, 3, 5, 8, 13, 21, 34, 39, 40, 41, 60, 79, 80, 99, 100, 300] {
        for height in [1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 15, 19, 20, 21, 27, 28, 100] {
            let mut console = Console::connected(width, height);
            console.logs(some_logs());
            console.screen_in(&Theme::with_colours());
            // This draws each panel, zoomed or not, with each tab, a form, and each overlay.
            for keys in [
                "2", "]", "]", "]", "]", "]", "]", "i", "Esc", "z", "3", "W Up", "z", "1", "?",
                "Esc", "Enter", "Esc", "j D", "Esc", "R", "Esc", "p", "Esc", ":", "Esc", "q",
            ] {
                console.press(keys);
                console.screen();
            }
            let exit = HostExit { code: Some(1), signal: None };
            console.session(SessionEvent::HostExited { exit, expected: false, calls: None });
            console.screen();
        }
    }
}

#[test]
fn differences_between_versions_are_shown_in_ascii_too() {
    let mut theme = Theme::without_colours();
    theme.is_ascii = true;
    for (width, height) in SIZES {
        let mut console = Console::connected(width, height);
        let at_ms = console.now_ms;
        let report = samples::report();
        console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms, report }));
        let assert_ascii = |console: &Console| {
            let screen = console.screen_in(&theme);
            assert!(screen.is_ascii(), "{screen}");
        };
        if let Some(request) = console.compare() {
            console.session(SessionEvent::Difference(Box::new(samples::difference(request))));
        }
        assert_ascii(&console);
        console.press("2 [");
        assert_ascii(&console);
        console.press("1 p");
        console.session(SessionEvent::Preview(Ok(samples::preview())));
        assert_ascii(&console);
        console.press("a");
        console.session(SessionEvent::Replayed(Ok(samples::replay())));
        assert_ascii(&console);
        let exit = HostExit { code: None, signal: Some(11) };
        console.session(SessionEvent::HostExited { exit, expected: false, calls: None });
        assert_ascii(&console);
    }
}
