//! Keys, and the effects and states that follow from them.

use hotswap_console::host::HostExit;
use hotswap_console::host::operation::Operation;
use hotswap_console::screen::input::action::{Action, COMMANDS};
use hotswap_console::screen::layout::{Panel, Tab};
use hotswap_console::screen::model::overlay::Overlay;
use hotswap_console::screen::model::palette::command_line;
use hotswap_console::screen::model::tree::TreeTab as _;
use hotswap_console::screen::model::{NoticeSort, Phase, Program};
use hotswap_console::screen::update::{self, Effect, Input};
use hotswap_console::session::{
    BuildEffect, BuildLine, Job, JobOutcome, LogLine, Order, OutputStream, SessionEvent,
    StoredBuild, Watch,
};
use hotswap_protocol::{
    ErrorKind, Event, InvokeParams, LogLevel, Outcome, VersionState, WireError,
};
use serde_json::json;

use crate::support::console::Console;
use crate::support::samples;

fn connected() -> Console {
    Console::connected(120, 36)
}

fn lines(count: u64) -> Vec<LogLine> {
    let level = |seq| if seq % 10 == 0 { LogLevel::Error } else { LogLevel::Info };
    (1..=count)
        .map(|seq| LogLine::Log(samples::record(seq, level(seq), &format!("line {seq}"))))
        .collect()
}

fn end_effects() -> Vec<Effect> {
    vec![Effect::Order(Order::End)]
}

#[test]
fn quitting_asks_if_it_would_end_the_host() {
    let mut console = connected();
    assert_eq!(console.press("q"), []);
    assert_eq!(console.press("Esc"), []);
    assert!(!console.state.quitting);
    assert_eq!(console.press("q y"), end_effects());
    assert!(console.state.quitting);
    let effects = console.session(SessionEvent::Ended { error: None });
    assert!(effects.contains(&Effect::Exit(None)));
}

#[test]
fn a_version_that_cannot_be_called_says_why_and_which_can() {
    for (keys, words) in [
        ("j j i", "world v1 is freed and cannot be called; select v3, which serves"),
        ("G i", "dog v1 never served and cannot be called; R loads another build"),
    ] {
        let mut console = connected();
        assert_eq!(console.press(keys), []);
        assert!(console.state.functions.form.is_none());
        assert_eq!(console.state.notice.as_ref().unwrap().text, words);
    }
}

#[test]
fn quitting_does_not_ask_if_no_host_would_end() {
    let mut console = Console::new(120, 36);
    assert_eq!(console.press("q"), end_effects());
}

#[test]
fn a_signal_ends_the_session_without_a_question() {
    let mut console = connected();
    assert!(console.handle(Input::Terminate).contains(&Effect::Order(Order::End)));
}

#[test]
fn tab_moves_the_focus_through_the_panels() {
    let mut console = connected();
    assert_eq!(console.state.focus, Panel::Plugins);
    console.press("Tab");
    assert_eq!(console.state.focus, Panel::Tabs);
    console.press("BackTab BackTab");
    assert_eq!(console.state.focus, Panel::Logs);
    console.press("2 ]");
    assert_eq!(console.state.tab, Tab::Vault);
    console.press("[ [");
    assert_eq!(console.state.tab, Tab::Diff);
}

#[test]
fn keys_order_a_reload_and_a_build() {
    let mut console = connected();
    let reload = Effect::Order(Order::Operate(Operation::Reload));
    assert_eq!(console.press("r"), [reload]);
    let build = Effect::Order(Order::Build(vec!["world".into()]));
    assert_eq!(console.press("b"), [build]);
}

#[test]
fn a_save_is_reloaded_only_built_or_ignored_as_set() {
    let mut console = connected();
    let twin = command_line(&console.state, &Action::NextWatch);
    assert_eq!(twin.unwrap(), "hotswap run /src/sample-host --watch=ask");
    for (mode, shown) in [
        (Watch::Ask, "watch on, asks if breaking"),
        (Watch::Build, "watch build only"),
        (Watch::Off, "watch off"),
        (Watch::On, "watch on"),
    ] {
        assert_eq!(console.press("w"), [Effect::Order(Order::Watch(mode))]);
        console.session(SessionEvent::Watching {
            on: mode != Watch::Off,
            mode,
            error: None,
            file_system: None,
        });
        assert!(console.screen().contains(&format!("│ {shown} │")), "{}", console.screen());
    }
}

#[test]
fn a_reload_that_would_break_something_asks_and_leaves_a_form_alone() {
    let mut console = connected();
    let waits = || SessionEvent::ReloadWaits { plugins: vec!["world".into()] };
    console.press("i");
    console.session(waits());
    assert_eq!(console.state.overlay, None, "nothing opens over a form that is being filled in");
    let text = &console.state.notice.as_ref().unwrap().text;
    assert_eq!(
        text,
        "world would break code that uses it, so the reload waits: p shows what breaks, r reloads"
    );
    console.press("Esc");
    console.session(waits());
    assert!(matches!(console.state.overlay, Some(Overlay::Preview(_))));
    assert_eq!(console.press("Esc r"), [Effect::Order(Order::Operate(Operation::Reload))]);
}

#[test]
fn a_build_that_is_not_reloaded_can_be_previewed() {
    let mut console = connected();
    let notice = |console: &Console| console.state.notice.as_ref().unwrap().text.clone();
    console.session(samples::built(BuildEffect::NewCode));
    assert_eq!(notice(&console), "world built (4c0ffee0)");

    console.session(SessionEvent::Watching {
        on: true,
        mode: Watch::Build,
        error: None,
        file_system: None,
    });
    console.session(samples::built(BuildEffect::UpToDate));
    assert_eq!(notice(&console), "world is up to date (4c0ffee0)");
    console.session(samples::built(BuildEffect::NewCode));
    assert_eq!(notice(&console), "world built (4c0ffee0); p preview, r reload");
    assert_eq!(console.press("p"), [Effect::Order(Order::Preview)]);
    // The preview shows the newest build.
    let effects = console.session(samples::built(BuildEffect::NewCode));
    assert!(effects.contains(&Effect::Order(Order::Preview)));
}

#[test]
fn a_form_sends_values_of_its_parameter_types() {
    let mut console = connected();
    console.press("i");
    console.write("42");
    console.press("Tab");
    console.write("-1");
    assert_eq!(console.press("Enter"), [], "a call with an invalid field is not sent");
    console.press("Backspace Backspace");
    console.write("2");
    let call = Operation::Invoke(InvokeParams {
        plugin: "world".into(),
        function: "greet".into(),
        args: vec![json!("42"), json!(2)],
        lenient: false,
        repeat: 1,
        beside: None,
    });
    assert_eq!(call.command_line(), "hotswap invoke world greet 42 2");
    assert_eq!(console.press("Enter")[0], Effect::Order(Order::Operate(call)));
}

#[test]
fn a_form_remembers_typed_values() {
    let mut console = connected();
    let typed = |console: &Console| console.state.functions.form.as_ref().unwrap().texts();
    for name in ["Ada", "Bob"] {
        console.press("i");
        console.write(name);
        console.press("Tab");
        console.write("1");
        console.press("Enter Esc");
    }
    console.press("i Up");
    assert_eq!(typed(&console), ["Bob", "1"]);
    console.press("Up Up");
    assert_eq!(typed(&console), ["Ada", "1"]);
    console.press("Down Down");
    assert_eq!(typed(&console), ["", ""]);
}

#[test]
fn a_form_accepts_pasted_text_and_keys_that_are_commands_elsewhere() {
    let mut console = connected();
    console.press("i");
    console.write("q r");
    console.handle(Input::Paste("two\nlines\n".into()));
    assert_eq!(console.state.functions.form.as_ref().unwrap().texts()[0], "q rtwo lines");
    assert_eq!(console.press("Ctrl-Z"), [Effect::Suspend]);
}

#[test]
fn an_earlier_version_can_be_called_by_its_number() {
    let mut console = connected();
    console.press("j i");
    assert_eq!(console.state.functions.form.as_ref().unwrap().target, "world@2");
}

#[test]
fn only_a_replaced_version_can_be_freed_after_a_confirmation() {
    let mut console = connected();
    assert_eq!(console.press("D"), []);
    assert!(console.state.notice.as_ref().unwrap().text.contains("serves"));
    assert_eq!(console.press("j D n"), []);
    let free = Order::Operate(Operation::free("world", 2));
    assert_eq!(console.press("D y"), [Effect::Order(free)]);
    console.session(SessionEvent::Held { target: "world@2".into(), answer: Ok(true) });
    assert_eq!(console.press("D"), [], "a version that this console holds cannot be freed");
    let notice = &console.state.notice.as_ref().unwrap().text;
    assert_eq!(notice, "this console keeps world v2 loaded; K lets it go");
}

fn stored_build(build_id: &str) -> StoredBuild {
    StoredBuild {
        build_id: build_id.into(),
        stored_at_ms: samples::NOON_MS,
        size_bytes: 1,
        source: None,
    }
}

#[test]
fn a_rollback_chooses_among_versions_and_stored_builds_and_is_confirmed() {
    let mut console = connected();
    let list = Effect::Order(Order::ListBuilds("world".into()));
    assert_eq!(console.press("R"), [list]);
    let active = samples::version(3, VersionState::Active, "").build_id;
    let builds = Ok(vec![stored_build(&active), stored_build("feedbeef")]);
    console.session(SessionEvent::StoredBuilds { plugin: "world".into(), builds });
    assert_eq!(console.press("j Enter n"), [], "`n` does not roll back");
    let rollback = |target: &str| Effect::Order(Order::Operate(Operation::rollback(target)));
    assert_eq!(console.press("R j Enter y")[1..], [rollback("world@1")]);

    console.press("R");
    let builds = Ok(vec![stored_build(&active), stored_build("feedbeef")]);
    console.session(SessionEvent::StoredBuilds { plugin: "world".into(), builds });
    let effects = console.press("G Enter y");
    assert_eq!(effects, [rollback("world@feedbeef")], "the serving build is not offered");
}

#[test]
fn a_rollback_begins_at_the_selected_version() {
    let mut console = connected();
    console.press("j j R Enter");
    let Some(Overlay::Confirm { order, .. }) = &console.state.overlay else { panic!() };
    assert_eq!(*order, Order::Operate(Operation::rollback("world@1")));
}

#[test]
fn the_palette_finds_a_command_by_a_few_letters_and_does_it() {
    let mut console = connected();
    console.press(":");
    console.write("rlod");
    assert_eq!(console.press("Enter"), [Effect::Order(Order::Operate(Operation::Reload))]);
    assert_eq!(console.state.overlay, None);
    console.press(":");
    console.write("timel");
    console.press("Enter");
    assert_eq!(console.state.tab, Tab::Timeline);
    console.press(":");
    console.write("no such thing");
    assert_eq!(console.press("Enter Esc"), []);
}

#[test]
fn the_palette_goes_to_plugins_functions_values_and_reloads() {
    let mut console = connected();
    console.session(SessionEvent::Vault(Ok(samples::vault())));
    let finished = Event::ReloadFinished { at_ms: samples::NOON_MS, report: samples::report() };
    console.session(SessionEvent::Engine(finished));
    let go = |console: &mut Console, text: &str| {
        console.press(":");
        console.write(text);
        console.press("Enter");
    };
    go(&mut console, "plugin cat");
    assert_eq!(console.state.plugins.selected_target().as_deref(), Some("cat"));
    go(&mut console, "world reset");
    assert_eq!(console.state.plugins.selected_target().as_deref(), Some("world"));
    assert_eq!((console.state.tab, console.state.functions.selected), (Tab::Functions, 1));
    let key = samples::vault().data_bag[0].key.clone();
    go(&mut console, &format!("go to Vault {key}"));
    let rows = console.state.vault.rows();
    let selected = &rows[console.state.vault.selected(&rows)];
    assert_eq!((console.state.tab, &selected.path), (Tab::Vault, &format!("bag/{key}")));
    go(&mut console, "go to reload 4");
    assert_eq!(console.state.tab, Tab::Timeline);
}

#[test]
fn a_call_of_this_console_that_holds_a_version_can_be_cancelled_before_the_free() {
    let mut console = connected();
    let mut snapshot = samples::snapshot(4121);
    snapshot.plugins[0].functions[0].is_async = true;
    console.session(SessionEvent::Snapshot(Box::new(snapshot)));
    console.press("j i");
    console.write("Ada");
    console.press("Tab");
    console.write("1");
    console.press("Enter Esc 1 D");
    assert!(console.screen().contains("This console's call of greet can be cancelled first."));
    let free = Effect::Order(Order::Operate(Operation::free("world", 2)));
    let effects = console.press("c");
    assert_eq!(effects, [Effect::Order(Order::CancelCalls), free.clone()]);
    assert_eq!(console.press("D y"), [free]);
}

#[test]
fn the_palette_copies_the_command_line_that_does_the_same() {
    let mut console = connected();
    let copy = |line: &str| vec![Effect::Copy(line.into())];
    assert_eq!(console.press(": y"), copy("hotswap build /src/world /srv/plugins"));
    assert_eq!(console.press("Down y"), copy("hotswap reload"));
    assert_eq!(console.press("Down y"), copy("hotswap reload --dry-run"));
    assert_eq!(console.press("Down y"), copy("hotswap invoke world greet NAME TIMES"));
    assert_eq!(console.press("Down Down y"), copy("hotswap rollback world@2"));
    console.write("free");
    assert_eq!(console.press("Ctrl-Y"), [], "the version that serves cannot be freed");
    assert_eq!(
        console.press("Esc j : Down Down Down Down Down Down Down Down y"),
        copy("hotswap free world@2")
    );
    console.write("display");
    let Some(Overlay::Palette(palette)) = &console.state.overlay else { panic!() };
    assert_eq!(palette.input.value(), "display", "`y` is text in the palette, not an answer");
}

#[test]
fn a_key_that_completes_no_combination_keeps_its_own_meaning() {
    let mut console = connected();
    console.press("G g 2");
    assert_eq!(console.state.focus, Panel::Tabs);
    console.press("1 g g");
    assert_eq!(console.state.plugins.selected_index(), Some(0));
}

#[test]
fn a_reload_names_both_versions_even_if_the_snapshot_comes_first() {
    let mut console = connected();
    let mut snapshot = samples::snapshot(4121);
    snapshot.plugins[0].versions.insert(0, samples::version(4, VersionState::Active, "active"));
    snapshot.plugins[0].versions[1].state = VersionState::Retired;
    console.session(SessionEvent::Snapshot(Box::new(snapshot)));
    let finished = Event::ReloadFinished { at_ms: samples::NOON_MS, report: samples::report() };
    console.session(SessionEvent::Engine(finished));
    assert_eq!(console.state.notice.as_ref().unwrap().text, "reloaded: world v3 → v4");
    assert_eq!(console.state.timeline.reloads().len(), 1);
}

#[test]
fn a_reload_that_changes_nothing_is_reported_but_not_listed() {
    let mut console = connected();
    let mut report = samples::report();
    report.plugins[0].outcome = Outcome::Held;
    let finished = Event::ReloadFinished { at_ms: samples::NOON_MS, report };
    console.session(SessionEvent::Engine(finished));
    let notice = &console.state.notice.as_ref().unwrap().text;
    assert_eq!(notice, "world stays rolled back, L lets go");
    assert!(console.state.timeline.reloads().is_empty());
}

#[test]
fn the_selection_follows_the_version_that_serves() {
    let mut console = connected();
    let mut snapshot = samples::snapshot(4121);
    snapshot.plugins[0].versions.insert(0, samples::version(4, VersionState::Active, "active"));
    snapshot.plugins[0].versions[1].state = VersionState::Retired;
    console.session(SessionEvent::Snapshot(Box::new(snapshot)));
    assert_eq!(console.state.plugins.selected_target().as_deref(), Some("world"));
}

#[test]
fn a_snapshot_that_changes_nothing_is_not_drawn() {
    let mut console = connected();
    let same = || SessionEvent::Snapshot(Box::new(samples::snapshot(4121)));
    assert_eq!(console.session(same()), []);
    assert_eq!(console.session(SessionEvent::SameSnapshot), []);
    // Only the uptime in minutes changes.
    console.now_ms += 60_000;
    assert_eq!(console.session(same()), [Effect::Draw]);
    assert_eq!(console.handle(Input::Tick), []);
}

#[test]
fn the_vault_is_requested_only_while_it_is_visible() {
    let mut console = connected();
    let ask = Effect::Order(Order::Operate(Operation::Vault));
    assert_eq!(console.press("2 ]"), std::slice::from_ref(&ask));
    let snapshot = || SessionEvent::Snapshot(Box::new(samples::snapshot(4121)));
    assert_eq!(console.session(snapshot()), [ask]);
    let ask = Effect::Order(Order::Operate(Operation::Live));
    assert_eq!(console.press("]"), std::slice::from_ref(&ask));
    assert_eq!(console.session(snapshot()), std::slice::from_ref(&ask));
    assert_eq!(console.session(SessionEvent::SameSnapshot), [ask]);
    console.press("]");
    assert_eq!(console.session(snapshot()), []);
}

#[test]
fn scrolling_up_stops_following_and_the_end_resumes_it() {
    let mut console = connected();
    console.logs(lines(100));
    console.press("3 k k");
    let selected = console.state.logs.selected_text().unwrap();
    assert!(!console.state.logs.follows());
    console.logs(lines(50));
    assert_eq!(
        console.state.logs.selected_text().unwrap(),
        selected,
        "the selection stays on its line"
    );
    console.press("G");
    assert!(console.state.logs.follows());
    console.press("g g");
    assert_eq!(console.state.logs.cursor(), Some(0));
    console.press("f");
    assert!(console.state.logs.follows());
    console.press("Space");
    assert!(!console.state.logs.follows());
}

#[test]
fn the_filter_takes_effect_as_it_is_typed_and_esc_clears_it() {
    let mut console = connected();
    console.logs(lines(100));
    let all = console.state.logs.passing();
    console.press("3 /");
    console.write("line 4");
    assert_eq!(console.state.logs.passing(), 11);
    console.logs(lines(4));
    assert_eq!(console.state.logs.passing(), 12, "the filter also applies to new lines");
    console.press("Esc");
    assert_eq!(console.state.logs.passing(), all + 4);
    console.press("3 /");
    console.write("[1");
    assert_eq!(
        console.state.logs.passing(),
        0,
        "an invalid regular expression is searched as plain text"
    );
}

#[test]
fn levels_and_errors_are_found() {
    let mut console = connected();
    console.logs(lines(100));
    console.press("3 E");
    assert!(console.state.logs.selected_text().unwrap().0.ends_with("line 100"));
    console.press("E");
    assert!(console.state.logs.selected_text().unwrap().0.ends_with("line 90"));
    console.press("e e");
    assert!(console.state.notice.as_ref().unwrap().text.contains("no later error"));
    console.press("l l l l");
    assert_eq!(console.state.logs.level(), Some(LogLevel::Error));
    // The marker of the start is shown at each level.
    assert_eq!(console.state.logs.passing(), 11);
}

#[test]
fn copied_text_has_no_borders_and_no_colours() {
    let mut console = connected();
    let text = "\u{1b}[31mred\u{1b}[0m".into();
    console.logs(vec![LogLine::Output { stream: OutputStream::Stderr, text }]);
    assert_eq!(console.press("3 y"), [Effect::Copy("12:05:00 stderr red".into())]);
}

#[test]
fn the_ring_keeps_a_bounded_number_of_lines() {
    let mut console = connected();
    console.press("3");
    console.logs(lines(10));
    console.press("g g");
    let capacity = hotswap_console::screen::model::logs::CAPACITY as u64;
    console.logs(lines(capacity + 5_000));
    assert_eq!(console.state.logs.len() as u64, capacity);
    assert_eq!(console.state.logs.passing() as u64, capacity);
    // The selected line is gone, and the oldest line is selected instead.
    assert!(console.state.logs.selected_text().unwrap().0.ends_with("line 5001"));
}

#[test]
fn a_failed_build_comes_to_the_front_until_a_build_succeeds() {
    let mut console = connected();
    let job = Job::BuildPlugin("world".into());
    let build = |console: &mut Console, outcome| {
        console.session(SessionEvent::JobStarted { job: job.clone() });
        console.session(SessionEvent::JobFinished { job: job.clone(), outcome, elapsed_ms: 90 });
    };
    let error = WireError::new(ErrorKind::Build, "`world` does not compile");
    build(&mut console, JobOutcome::Failed { error });
    assert_eq!(console.state.tab, Tab::Build);
    assert!(console.state.notice.as_ref().unwrap().sort == NoticeSort::Failure);
    assert_eq!(
        console.state.plugins.list().len(),
        3,
        "a failed build does not change the loaded plugins"
    );
    build(&mut console, JobOutcome::Done { summary: String::new() });
    assert_eq!(console.state.tab, Tab::Functions);
}

#[test]
fn unloading_plugins_without_an_artifact_needs_a_confirmation() {
    let mut console = connected();
    assert_eq!(console.press("P"), []);
    let Some(Overlay::Confirm { question, .. }) = &console.state.overlay else {
        panic!("{:?}", console.state.overlay)
    };
    assert_eq!(question, "Unload what has no artifact?");
    assert_eq!(console.press("n"), [], "nothing is unloaded after the answer no");
    assert_eq!(console.press("P y"), [Effect::Order(Order::Operate(Operation::prune()))]);
}

#[test]
fn a_line_is_typed_for_the_host() {
    let mut console = connected();
    console.state.host.is_ours = true;
    assert_eq!(console.press("> h i"), []);
    console.handle(Input::Paste(" there".into()));
    assert!(console.screen().contains("> hi there"));
    assert_eq!(console.press("Enter"), [Effect::Order(Order::Input(b"hi there\n".to_vec()))]);
    assert_eq!(console.press("> x Esc"), [], "Esc discards the typed text");
    console.state.host.is_ours = false;
    assert_eq!(console.press(">"), []);
    assert_eq!(console.state.overlay, None);
}

#[test]
fn builds_that_run_side_by_side_are_shown_one_after_the_other() {
    let mut console = Console::connected(120, 36);
    let job = |name: &str| Job::BuildPlugin(name.into());
    for name in ["world", "cat", "dog"] {
        console.session(SessionEvent::JobStarted { job: job(name) });
    }
    assert!(console.screen().contains("build world and 2 more"));
    let line = |package: &str| SessionEvent::Build {
        package: package.into(),
        line: BuildLine::Output { text: format!("said of {package}") },
    };
    let done = |name: &str| SessionEvent::JobFinished {
        job: job(name),
        outcome: JobOutcome::Done { summary: String::new() },
        elapsed_ms: 20,
    };
    console.session(line("world"));
    console.session(done("world"));
    console.session(line("cat"));
    console.session(done("cat"));
    assert!(console.screen().contains("build dog"));
    console.session(done("dog"));
    assert_eq!(console.state.job, None);
    let lines: Vec<&str> =
        console.state.builds.lines().iter().map(|line| line.text.as_str()).collect();
    assert_eq!(
        lines[lines.len() - 8..],
        [
            "build world",
            "said of world",
            "build world: done in 20 ms",
            "build cat",
            "said of cat",
            "build cat: done in 20 ms",
            "build dog",
            "build dog: done in 20 ms"
        ]
    );
}

#[test]
fn a_host_that_ended_can_be_started_again() {
    let mut console = connected();
    let exit = HostExit { code: Some(101), signal: None };
    console.session(SessionEvent::HostExited { exit, expected: false, calls: None });
    assert_eq!(console.state.host.phase, Phase::Ended);
    assert_eq!(console.press("H"), [Effect::Order(Order::Restart)]);
    console.session(SessionEvent::HostStarted { pid: 4122 });
    assert_eq!(console.state.overlay, None);
    assert_eq!(console.press("H"), [], "a host that runs is not ended without a question");
    assert_eq!(console.press("y"), [Effect::Order(Order::Restart)]);
}

#[test]
fn the_smallest_screen_shows_what_has_the_focus() {
    let mut console = Console::connected(30, 8);
    let mut shows = |keys: &str, text: &str, expected: &str| {
        console.press(keys);
        console.write(text);
        let screen = console.screen();
        assert!(screen.contains(expected), "{keys}: {screen}");
    };
    shows("?", "", "help, Esc closes");
    shows("Esc 3 /", "vel", "/vel");
    shows("Esc 1 i", "Ada", "greet name: Ada");
    shows("Esc :", "zoo", ":zoo → zoom");
    shows("Esc q", "", "Quit? y/n");
    shows("Esc", "", "sample-host ● gen 3");
}

#[test]
fn a_rollback_is_reported_with_what_it_holds_back_and_one_key_releases_it() {
    let mut console = connected();
    let mut report = samples::report();
    report.rolled_back = Some("world".into());
    let at_ms = samples::NOON_MS;
    console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms, report }));
    let notice = |console: &Console| console.state.notice.as_ref().unwrap().text.clone();
    assert_eq!(notice(&console), "rolled back: world v3 → v4, L lets go");
    let marker = console.state.logs.newest(1).next().unwrap().text.clone();
    assert!(marker.starts_with("reload 4  rolled back  world v3 → v4"), "{marker}");

    let mut snapshot = samples::snapshot(4121);
    let world = &mut snapshot.plugins[0];
    let mut serving = samples::version(4, VersionState::Active, "active");
    serving.build_id = world.versions[2].build_id.clone();
    world.versions[0].state = VersionState::Freed;
    world.versions.insert(0, serving);
    world.is_rolled_back = true;
    console.session(SessionEvent::Snapshot(Box::new(snapshot)));
    let screen = console.screen();
    assert!(screen.contains("rolled  back to v1's build; L lets go"), "{screen}");
    let mut report = samples::report();
    report.plugins[0].outcome = Outcome::Held;
    console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms, report }));
    assert_eq!(notice(&console), "world stays rolled back to v1's build, L lets go");
    assert_eq!(console.press("L"), [Effect::Order(Order::Operate(Operation::ReloadLatest))]);
}

#[test]
fn a_notice_ends_by_itself_or_with_a_key_and_can_be_read_again() {
    let mut console = connected();
    console.press("T");
    assert!(console.screen().contains("· theme: light"), "{}", console.screen());
    console.press("j");
    assert_eq!(console.state.notice, None);
    console.session(samples::built(BuildEffect::UpToDate));
    assert!(console.screen().contains("✔ world is up to date"), "{}", console.screen());
    console.now_ms += 21_000;
    let same = SessionEvent::Snapshot(Box::new(samples::snapshot(4121)));
    assert!(console.session(same).contains(&Effect::Draw));
    assert_eq!(console.state.notice, None);
    console.press("M");
    let screen = console.screen();
    assert!(screen.contains("Messages") && screen.contains("theme: light"), "{screen}");
}

#[test]
fn keys_for_errors_are_offered_only_if_there_are_errors() {
    let mut console = connected();
    console.press("2 ] ] ]");
    assert!(!console.screen().contains("next error"), "{}", console.screen());
    console.session(SessionEvent::JobStarted { job: Job::BuildPlugin("world".into()) });
    console.session(samples::mistake("world", 12));
    let screen = console.screen();
    assert!(screen.contains(" o edit the source  e next error  E previous error"), "{screen}");
}

#[test]
fn a_failure_is_shown_long_enough_to_be_read() {
    let mut console = connected();
    let failed = |console: &mut Console| {
        let (at_ms, error) = (console.now_ms, samples::refusal());
        console.session(SessionEvent::Engine(Event::ReloadFailed { at_ms, error }));
    };
    let sorts = |console: &Console| console.state.notice.as_ref().map(|notice| notice.sort);
    failed(&mut console);
    // All these events come before the failure is drawn.
    failed(&mut console);
    console.session(samples::built(BuildEffect::UpToDate));
    console.session(samples::built(BuildEffect::NewCode));
    console.press("j");
    assert_eq!(sorts(&console), Some(NoticeSort::Failure));
    assert!(console.screen().contains("  +1: M"), "{}", console.screen());
    assert!(console.state.changes_by_itself());
    // The answer to a key is shown at once, and then the failure again.
    console.press("T");
    assert_eq!(sorts(&console), Some(NoticeSort::Note));
    console.now_ms += 3001;
    console.handle(Input::Tick);
    assert_eq!(sorts(&console), Some(NoticeSort::Failure));
    console.now_ms += 3001;
    assert!(console.handle(Input::Tick).contains(&Effect::Draw));
    let screen = console.screen();
    assert!(screen.contains("✔ world built (") && !screen.contains(": M"), "{screen}");
    assert!(!console.state.changes_by_itself());
    // A success replaces the failure that it resolves.
    failed(&mut console);
    console.now_ms += 3001;
    console.session(samples::built(BuildEffect::UpToDate));
    assert_eq!(sorts(&console), Some(NoticeSort::Done));
}

#[test]
fn each_program_that_writes_over_the_screen_is_reported_once_and_the_screen_is_redrawn() {
    let mut console = connected();
    let written_over = |console: &mut Console, names: &[&str]| {
        let programs = names.iter().map(|name| Program { name: (*name).into(), pid: 4711 });
        let effects = console.handle(Input::WrittenOver(programs.collect()));
        assert!(effects.contains(&Effect::Redraw));
        console.state.notices.back().map(|notice| notice.text.clone())
    };
    let text = "make (pid 4711) may have written over the screen: it is drawn again";
    assert_eq!(written_over(&mut console, &["make"]).as_deref(), Some(text));
    assert!(console.screen().contains(text), "{}", console.screen());
    console.state.notices.clear();
    assert_eq!(written_over(&mut console, &["make"]), None);
    let reported = written_over(&mut console, &["make", "wall"]).unwrap();
    assert!(
        reported.starts_with("make (pid 4711), wall (pid 4711) may have written over"),
        "{reported}"
    );
    let reported = written_over(&mut console, &[]).unwrap();
    assert!(reported.starts_with("a program that has ended wrote over"), "{reported}");
}

#[test]
fn keys_choose_tabs_repeat_the_last_call_and_redraw_the_screen() {
    let mut console = connected();
    console.press("Alt-5");
    assert_eq!((console.state.tab, console.state.focus), (Tab::Timeline, Panel::Tabs));
    assert_eq!(console.press("Ctrl-L"), [Effect::Redraw]);
    assert_eq!(console.press("."), []);
    let notice = &console.state.notice.as_ref().unwrap().text;
    assert_eq!(notice, "nothing was called yet; i opens the form");
    console.press("1 j j j 1 g g 2");
    console.press("i");
    console.write("Ada");
    console.press("Tab");
    console.write("2");
    let call = console.press("Enter")[0].clone();
    console.press("Esc");
    assert_eq!(console.press("."), [call]);
    assert_eq!(console.state.functions.results.len(), 2);
}

#[test]
fn the_help_lists_the_currently_possible_commands_in_sentences() {
    let help = |console: &mut Console, keys: &str| {
        console.press(keys);
        let screen = console.screen();
        console.press("Esc");
        screen
    };
    let mut console = Console::new(120, 36);
    let screen = help(&mut console, "?");
    assert!(!screen.contains("Reload every plugin"), "the key needs a connected host\n{screen}");
    assert!(!console.screen().contains("r reload"), "{}", console.screen());
    assert!(!console.screen().contains("0 plugins"), "{}", console.screen());
    let mut console = Console::connected(120, 80);
    let screen = help(&mut console, "?");
    assert!(screen.contains("Reload every plugin whose artifact has"), "{screen}");
    assert!(
        !screen.contains("Make the last call again."),
        "no call was made that could be repeated\n{screen}"
    );
    let screen = help(&mut console, "3 ?");
    let places = ["The log", "Everywhere"].map(|heading| screen.find(heading).unwrap());
    assert!(places[0] < places[1], "{screen}");
    assert!(COMMANDS.iter().all(|command| command.help.ends_with('.')));
}

#[test]
fn the_panel_with_the_focus_is_filtered() {
    let mut console = connected();
    console.press("/");
    console.write("CA");
    assert_eq!(console.state.plugins.selected_target().as_deref(), Some("cat"));
    let screen = console.screen();
    assert!(screen.contains("1 Plugins /CA") && !screen.contains("world  v3"), "{screen}");
    console.press("Enter Esc");
    assert!(console.screen().contains("world  v3"), "Esc removes the filter");
    console.press("1 g g 2 /");
    console.write("res");
    console.press("Enter i");
    let form = console.state.functions.form.as_ref().unwrap();
    assert_eq!(form.function, "reset", "the call is of the function that the filter shows");
    console.press("Esc Esc");
    assert_eq!(console.state.plugins.functions().len(), 2);

    console.session(SessionEvent::Vault(Ok(samples::vault())));
    update::act(&mut console.state, Action::Show(Tab::Vault));
    console.press("/");
    console.write("greetings");
    let names: Vec<String> =
        console.state.vault.rows().iter().map(|it| it.cells[0].clone()).collect();
    assert!(names.contains(&"greetings".to_owned()) && names.len() == 2, "{names:?}");
    console.press("Esc");
    assert!(console.state.vault.rows().len() > 2);
    assert_eq!(console.state.logs.pattern(), "", "the filter does not apply to the log");
}

#[test]
fn a_slash_in_a_tab_of_lines_searches_it_and_n_finds_the_next() {
    let mut console = connected();
    console.press("2");
    for (generation, version) in [(4, 4), (5, 5), (6, 6)] {
        let mut report = samples::report();
        (report.generation, report.plugins[0].version) = (generation, Some(version));
        let at_ms = console.now_ms + generation;
        console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms, report }));
    }
    console.press("Alt-5 /");
    console.write("V4");
    // `v4` is in `v3 → v4` and in `v4 → v5`. The newest is selected, and the next match is below it.
    assert_eq!(console.state.timeline.selected(), 1);
    assert!(console.screen().contains("[Timeline]") && console.screen().contains("/V4"));
    assert_eq!(console.state.logs.pattern(), "", "the filter does not apply to the log");
    console.press("Enter");
    console.press("n");
    assert_eq!(console.state.timeline.selected(), 2);
    assert!(console.screen().contains("2 of 2"), "{}", console.screen());
    console.press("n");
    assert_eq!(
        console.state.timeline.selected(),
        1,
        "after the last match, the search continues at the first"
    );
    console.press("N");
    assert_eq!(console.state.timeline.selected(), 2);
    console.press("Esc");
    assert!(console.state.sought.is_empty());

    update::act(&mut console.state, Action::Show(Tab::Build));
    for text in ["one error", "two", "another error"] {
        let line = BuildLine::Output { text: text.into() };
        console.session(SessionEvent::Build { package: "world".into(), line });
    }
    console.press("g /");
    console.write("error");
    let selected = |console: &Console| {
        let at = console.state.builds.selected().unwrap();
        console.state.builds.lines()[at].text.clone()
    };
    assert_eq!(selected(&console), "one error");
    console.press("Enter n");
    assert_eq!(selected(&console), "another error");
    console.press("/ Esc");
    console.press("/");
    console.write("nowhere");
    assert!(console.state.notice.as_ref().unwrap().text.contains("no line contains"));
}

#[test]
fn the_first_start_says_what_to_edit_and_selects_a_plugin_with_functions() {
    let mut console = Console::connected(120, 36);
    let mut snapshot = samples::snapshot(4121);
    snapshot.generation = 1;
    snapshot.plugins.rotate_left(1);
    console.session(SessionEvent::Snapshot(Box::new(snapshot)));
    assert_eq!(console.state.plugins.selected_target().as_deref(), Some("world"));
    let screen = console.screen();
    assert!(screen.contains("Edit world/src/lib.rs and save: world is built and"), "{screen}");
    assert!(screen.contains("i calls the selected function."), "{screen}");
    console.press("w");
    let watch = |mode| SessionEvent::Watching { on: true, mode, error: None, file_system: None };
    console.session(watch(Watch::Build));
    assert!(console.screen().contains("world is built. p shows what"), "{}", console.screen());
    // After the first call, the hints are not shown again.
    let operation = Operation::invoke("world".into(), "greet".into(), vec!["Ada".into()]);
    let answer = Ok(samples::greeting());
    console.session(SessionEvent::Invoked { operation, answer });
    assert!(!console.screen().contains("Edit world"), "{}", console.screen());
}
