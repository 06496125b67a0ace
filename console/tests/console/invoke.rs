//! Calls of functions: the form for every kind of value, history, two versions, repeats, cancelling.

use hotswap_console::host::operation::Operation;
use hotswap_console::screen::input::action::Action;
use hotswap_console::screen::model::NoticeSort;
use hotswap_console::screen::model::functions::Side;
use hotswap_console::screen::model::overlay::Overlay;
use hotswap_console::screen::update::{self, Effect, Input};
use hotswap_console::session::{Order, SessionEvent, StoredBuild, StoredChoice};
use hotswap_protocol::{
    Beside, ErrorKind, InvokeParams, InvokeResult, Latencies, VersionState, WireError,
};
use serde_json::{Value, json};

use crate::support::console::Console;
use crate::support::samples;

/// A console whose plugin `world` has a function `place` with these parameters.
fn with_parameters(width: u16, height: u16, parameters: Value) -> Console {
    let mut console = Console::connected(width, height);
    let mut snapshot = samples::snapshot(4121);
    let mut function = serde_json::to_value(&snapshot.plugins[0].functions[0]).unwrap();
    function["name"] = "place".into();
    function["is_async"] = true.into();
    function["params"] = parameters;
    snapshot.plugins[0].functions = vec![serde_json::from_value(function).unwrap()];
    console.session(SessionEvent::Snapshot(Box::new(snapshot)));
    console
}

/// Parameters of each kind.
fn parameters() -> Value {
    let order = json!({
        "type": "object",
        "properties": {
            "rounds": { "type": "integer", "format": "uint8", "minimum": 0, "maximum": 255 },
            "note": { "type": ["string", "null"] },
            "tags": { "type": "array", "items": { "type": "string" } },
            "target": { "$ref": "#/$defs/Target" },
        },
        "required": ["rounds", "tags", "target"],
        "$defs": {
            "Target": {
                "oneOf": [
                    { "type": "string", "enum": ["Nobody", "Everybody"] },
                    {
                        "type": "object",
                        "properties": {
                            "Point": {
                                "type": "object",
                                "properties": { "x": { "type": "number" }, "y": { "type": "number" } },
                                "required": ["x", "y"],
                            },
                        },
                        "required": ["Point"],
                    },
                ],
            },
        },
    });
    json!([
        { "name": "order", "type": "Order", "schema": order },
        { "name": "loud", "type": "bool", "schema": { "type": "boolean" } },
        { "name": "colour", "type": "Colour", "schema": { "type": "string", "enum": ["Red", "Green"] } },
    ])
}

fn call(args: Value) -> Operation {
    call_of("world", args, 1)
}

fn call_of(target: &str, args: Value, repeat: u32) -> Operation {
    Operation::Invoke(InvokeParams {
        plugin: target.into(),
        function: "place".into(),
        args: args.as_array().unwrap().clone(),
        lenient: false,
        repeat,
        beside: None,
    })
}

fn operations(effects: &[Effect]) -> Vec<&Operation> {
    let operations = effects.iter().filter_map(|effect| match effect {
        Effect::Order(Order::Operate(operation)) => Some(operation),
        _ => None,
    });
    operations.collect()
}

/// Fills in every line of the form for [`parameters`].
fn fill_in_form(console: &mut Console) {
    console.press("i Tab");
    console.write("3");
    console.press("Tab");
    console.write("quick");
    console.press("Tab Ctrl-N");
    console.write("a");
    console.press("Ctrl-N");
    console.write("b");
    console.press("Tab");
    console.write("p");
    console.press("Tab");
    console.write("1.5");
    console.press("Tab");
    console.write("-2");
    console.press("Tab Space Tab");
    console.write("g");
}

fn filled_in() -> Value {
    json!([
        {
            "rounds": 3,
            "note": "quick",
            "tags": ["a", "b"],
            "target": { "Point": { "x": 1.5, "y": -2.0 } },
        },
        true,
        "Green",
    ])
}

#[test]
fn every_kind_of_value_can_be_typed_or_chosen() {
    let mut console = with_parameters(120, 36, parameters());
    fill_in_form(&mut console);
    let effects = console.press("Enter");
    assert_eq!(operations(&effects), [&call(filled_in())]);
}

#[test]
fn a_wrong_value_is_reported_and_nothing_is_called() {
    let mut console = with_parameters(120, 36, parameters());
    fill_in_form(&mut console);
    console.press("BackTab BackTab");
    console.write("e");
    assert_eq!(console.press("Enter"), []);
    assert_eq!(console.state.notice.as_ref().unwrap().text, "not called; y: not a number");
}

#[test]
fn the_result_of_a_call_is_shown_below_a_long_form() {
    let mut console = with_parameters(80, 24, parameters());
    fill_in_form(&mut console);
    let call = operations(&console.press("Enter"))[0].clone();
    console
        .session(SessionEvent::Invoked { operation: call, answer: Ok(answer(3, "done", 8_000)) });
    assert!(console.screen().contains("✔ place("), "{}", console.screen());
}

#[test]
fn a_function_stays_selected_when_others_come_before_it() {
    let mut console = Console::connected(120, 36);
    console.press("2 j");
    let mut snapshot = samples::snapshot(4121);
    let mut added = snapshot.plugins[0].functions[0].clone();
    added.name = "add".into();
    snapshot.plugins[0].functions.insert(0, added);
    console.session(SessionEvent::Snapshot(Box::new(snapshot)));
    console.press("i");
    assert_eq!(console.state.functions.form.as_ref().unwrap().function, "reset");
}

#[test]
fn optional_values_and_items_can_be_removed_again() {
    let mut console = with_parameters(120, 36, parameters());
    fill_in_form(&mut console);
    // The focus moves up to the second tag, and to the note.
    console.press("BackTab BackTab BackTab BackTab BackTab Ctrl-X");
    console.press("BackTab BackTab BackTab Ctrl-X");
    let mut expected = filled_in();
    expected[0]["tags"] = json!(["a"]);
    expected[0].as_object_mut().unwrap().remove("note");
    let effects = console.press("Enter");
    assert_eq!(operations(&effects), [&call(expected)]);
}

#[test]
fn adding_and_removing_items_is_offered_only_where_it_is_possible() {
    let mut console = with_parameters(120, 36, parameters());
    fill_in_form(&mut console);
    let mut offered = |keys: &str| {
        console.press(keys);
        let keys = console.screen().lines().last().unwrap().to_owned();
        update::act(&mut console.state, Action::Help);
        let help = console.screen();
        console.press("Esc");
        assert_eq!(keys.contains("add item"), help.contains("Add an item to the list."), "{help}");
        (keys.contains("add item"), help.contains("Remove the item, or the optional value."))
    };
    // The focus is on the colour, on the second tag, and on the optional note.
    assert_eq!(offered("Tab BackTab"), (false, false));
    assert_eq!(offered("BackTab BackTab BackTab BackTab BackTab"), (true, true));
    assert_eq!(offered("BackTab BackTab BackTab"), (false, true));
    assert_eq!(offered("F4"), (false, false));
}

#[test]
fn a_form_switches_between_json_and_lines() {
    let mut console = with_parameters(120, 36, parameters());
    fill_in_form(&mut console);
    console.press("F4");
    let texts = console.state.functions.form.as_ref().unwrap().texts();
    assert_eq!(serde_json::from_str::<Value>(&texts[0]).unwrap(), filled_in()[0]);
    console.press("Tab Tab");
    console.write("x");
    assert_eq!(console.press("Enter"), [], "a field that is not a boolean is not sent");
    console.press("F4");
    let notice = &console.state.notice.as_ref().unwrap().text;
    assert!(notice.starts_with("loud: "), "{notice}");
    console.press("Backspace F4");
    assert_eq!(console.state.notice, None);
    let effects = console.press("Enter");
    assert_eq!(operations(&effects), [&call(filled_in())]);
}

/// The text that is typed as JSON for the first parameter.
fn first_parameter_text(console: &Console) -> String {
    console.state.functions.form.as_ref().unwrap().texts().remove(0)
}

#[test]
fn json_is_edited_over_several_lines() {
    let mut console = with_parameters(120, 36, parameters());
    fill_in_form(&mut console);
    console.press("F4 Tab");
    let pretty = serde_json::to_string_pretty(&filled_in()[0]).unwrap();
    assert_eq!(first_parameter_text(&console), pretty);

    // Arrows move within the text; at its ends they go through the history.
    console.press("Down End Left Backspace");
    console.write("4");
    console.press("Alt-Enter");
    let edited = pretty.replace("\"rounds\": 3,", "\"rounds\": 4\n,");
    assert_eq!(first_parameter_text(&console), edited);
    let mut expected = filled_in();
    expected[0]["rounds"] = 4.into();
    assert_eq!(operations(&console.press("Enter")), [&call(expected.clone())]);
    console.press("Up Up Up");
    assert_eq!(first_parameter_text(&console), serde_json::to_string_pretty(&expected[0]).unwrap());
}

#[test]
fn enter_begins_a_new_line_while_json_is_incomplete() {
    let mut console = with_parameters(120, 36, json!([parameters()[0]]));
    console.press("i F4");
    console.write("{\"rounds\": 1,");
    assert_eq!(console.press("Enter"), []);
    console.handle(Input::Paste("\"tags\": [],\n\"target\":".into()));
    assert_eq!(console.press("Enter"), []);
    console.write(" \"Nobody\"}");
    assert_eq!(first_parameter_text(&console).lines().count(), 4);
    let order = json!({ "rounds": 1, "tags": [], "target": "Nobody" });
    assert_eq!(operations(&console.press("Enter")), [&call(json!([order]))]);
}

#[test]
fn the_screens_of_a_form_as_json() {
    let screens = [(120, 36), (80, 24), (60, 15)].map(|(width, height)| {
        let mut console = with_parameters(width, height, parameters());
        fill_in_form(&mut console);
        console.press("F4 Tab Down Down");
        console.write("x");
        format!("{width}×{height}\n{}\n", console.screen())
    });
    insta::assert_snapshot!(screens.join("\n"));
}

#[test]
fn a_click_chooses_which_json_is_typed() {
    let mut console = with_parameters(120, 36, parameters());
    fill_in_form(&mut console);
    console.press("F4 Tab");
    let focused = |console: &Console| console.state.functions.form.as_ref().unwrap().focused;
    for (text, parameter) in [("loud   ✓", 1), ("\"rounds\": 3", 0), ("colour ✓", 2)] {
        console.click(text);
        assert_eq!(focused(&console), parameter, "{text}");
    }
}

#[test]
fn while_a_line_is_wrong_nothing_is_sent_and_that_line_gets_the_focus() {
    let mut console = with_parameters(120, 36, parameters());
    fill_in_form(&mut console);
    for _ in 0..9 {
        console.press("BackTab");
    }
    console.press("Backspace");
    console.write("300");
    console.press("Tab Tab");
    assert_eq!(console.press("Enter"), []);
    assert_eq!(console.state.functions.form.as_ref().unwrap().focused, 1);
}

#[test]
fn earlier_calls_are_kept_and_offered_in_later_runs() {
    let mut console = with_parameters(120, 36, parameters());
    fill_in_form(&mut console);
    let effects = console.press("Enter");
    let args = filled_in().as_array().unwrap().clone();
    let key = "sample-host/world/place".to_owned();
    assert!(effects.contains(&Effect::Remember { key: key.clone(), args: args.clone() }));

    let mut later = with_parameters(120, 36, parameters());
    later.state.functions.history.remember(&key, args);
    later.press("i Up");
    let effects = later.press("Enter");
    assert_eq!(operations(&effects), [&call(filled_in())]);
    later.press("Esc Esc i Up Down");
    assert_eq!(later.press("Enter"), [], "Down restores the fields as they were before Up: empty");
}

#[test]
fn the_history_file_is_bounded_and_private_and_broken_lines_are_skipped() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state/history.json");
    assert!(hotswap_console::screen::remembered::history::load(&path).unwrap().of("f").is_empty());
    hotswap_console::screen::remembered::history::remember(&path, "f", vec![json!(1)]).unwrap();
    hotswap_console::screen::remembered::history::remember(&path, "f", vec![json!(2)]).unwrap();
    let history = hotswap_console::screen::remembered::history::load(&path).unwrap();
    assert_eq!(history.of("f"), [vec![json!(1)], vec![json!(2)]]);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::write(&path, "{ broken").unwrap();
    assert!(hotswap_console::screen::remembered::history::load(&path).is_err());
    hotswap_console::screen::remembered::history::remember(&path, "f", vec![json!(3)]).unwrap();
    assert_eq!(
        hotswap_console::screen::remembered::history::load(&path).unwrap().of("f"),
        [vec![json!(3)]]
    );
}

fn answer(version: u32, value: &str, elapsed_ns: u64) -> InvokeResult {
    InvokeResult {
        value: value.into(),
        plugin: "world".into(),
        version,
        patch: None,
        elapsed_us: elapsed_ns / 1000,
        elapsed_ns,
        latencies: None,
        beside: None,
    }
}

#[test]
fn two_versions_are_called_in_turn_with_the_same_arguments() {
    let mut console = with_parameters(120, 36, json!([]));
    console.press("i F5 F6");
    let both = call_of("world", json!([]), 10).beside(Some("world@2".into()));
    assert_eq!(both.command_line(), "hotswap invoke --repeat 10 --beside world@2 world place");
    assert_eq!(
        operations(&console.press("Enter")),
        [&both],
        "the host alternates between the two versions"
    );
    let mut new = answer(3, "new", 8_000);
    new.beside = Some(Box::new(Beside::Result(answer(2, "old", 12_000))));
    let effects = console.session(SessionEvent::Invoked { operation: both, answer: Ok(new) });
    assert_eq!(operations(&effects), [] as [&Operation; 0]);
    assert_eq!(console.state.functions.results[0].sides.len(), 2);
    let screen = console.screen();
    assert!(
        screen.contains("results differ") && !screen.contains("as long"),
        "one call of each version is not enough to compare their times: {screen}"
    );
    assert!(screen.contains("world v3  12:05:00  8.0 µs"), "{screen}");
    let list = Effect::Order(Order::ListBuilds("world".into()));
    assert_eq!(console.press("F5"), [list], "F5 also offers stored builds");
    console.session(SessionEvent::StoredBuilds { plugin: "world".into(), builds: Ok(Vec::new()) });
    assert_eq!(console.state.functions.form.as_ref().unwrap().compared, None);
}

fn stored_build(build_id: &str) -> StoredBuild {
    let build_id = build_id.into();
    StoredBuild { build_id, stored_at_ms: samples::NOON_MS, size_bytes: 1, source: None }
}

/// Compares a call with a build that is only stored, and answers it.
fn compare_with_stored(console: &mut Console) {
    console.press("i F5 F5");
    let loaded = samples::version(3, VersionState::Active, "").build_id;
    let builds = Ok(vec![stored_build(&loaded), stored_build("feedbeef01")]);
    console.session(SessionEvent::StoredBuilds { plugin: "world".into(), builds });
    let compared = console.state.functions.form.as_ref().unwrap().compared.clone();
    assert_eq!(
        compared.as_deref(),
        Some("world@feedbeef"),
        "the loaded build is not offered again as a stored one"
    );
    assert!(
        !console.screen().contains("--beside"),
        "`hotswap invoke` cannot call a stored build, so no command is shown"
    );
    let call = call_of("world", json!([]), 1);
    let Operation::Invoke(params) = &call else { unreachable!() };
    let build = StoredChoice { plugin: "world".into(), build_id: "feedbeef01".into() };
    let order = Effect::Order(Order::InvokeInBoth(params.clone(), build));
    assert!(console.press("Enter").contains(&order));
    let answers = Box::new([Ok(answer(3, "new", 8_000)), Ok(answer(0, "old", 12_000))]);
    console.session(SessionEvent::InvokedInBoth { operation: call, answers });
    console.press("Esc");
    // The next call is made in the same way.
    assert_eq!(console.press("."), [order]);
    assert!(console.state.functions.results[0].runs());
}

#[test]
fn a_stored_build_is_called_beside_the_serving_version() {
    let mut console = with_parameters(120, 36, json!([]));
    compare_with_stored(&mut console);
    let result = &console.state.functions.results[1];
    let names: Vec<String> = result.sides.iter().map(Side::name).collect();
    assert_eq!(names, ["world v3", "world build feedbeef"]);
    let text = result.to_lines().join("\n");
    assert!(text.contains("world build feedbeef, 12 µs\nold"), "{text}");
}

#[test]
fn the_screens_of_a_call_of_a_stored_build() {
    let screens = [(120, 36), (80, 24)].map(|(width, height)| {
        let mut console = with_parameters(width, height, json!([]));
        compare_with_stored(&mut console);
        format!("{width}×{height}\n{}\n", console.screen())
    });
    insta::assert_snapshot!(screens.join("\n"));
}

#[test]
fn if_one_version_fails_the_other_is_called_alone() {
    let mut console = with_parameters(120, 36, json!([]));
    console.press("i F5");
    let both = call_of("world", json!([]), 1).beside(Some("world@2".into()));
    assert_eq!(operations(&console.press("Enter")), [&both]);
    let error = Err(WireError::new(ErrorKind::PluginError, "no bang left"));
    let effects = console.session(SessionEvent::Invoked { operation: both, answer: error });
    let other = call_of("world@2", json!([]), 1);
    assert_eq!(operations(&effects), [&other]);
    console.session(SessionEvent::Invoked { operation: other, answer: Ok(answer(2, "old", 100)) });
    let screen = console.screen();
    assert!(screen.contains("no bang left") && screen.contains("old"), "{screen}");
}

#[test]
fn without_another_version_the_way_to_keep_one_is_named() {
    let mut console = Console::connected(120, 36);
    let mut snapshot = samples::snapshot(4121);
    snapshot.plugins[0].versions.truncate(1);
    console.session(SessionEvent::Snapshot(Box::new(snapshot)));
    console.press("i F5");
    console.session(SessionEvent::StoredBuilds { plugin: "world".into(), builds: Ok(Vec::new()) });
    let notice = &console.state.notice.as_ref().unwrap().text;
    let reported = "no other version of world is loaded, and no other build is stored; K keeps";
    assert!(notice.contains(reported), "{notice}");
}

#[test]
fn a_version_can_be_kept_loaded_and_released() {
    let mut console = Console::connected(120, 36);
    assert_eq!(console.press("K"), [Effect::Order(Order::Hold("world@3".into()))]);
    console.session(SessionEvent::Held { target: "world@3".into(), answer: Ok(true) });
    assert_eq!(console.press("K"), [Effect::Order(Order::Release("world@3".into()))]);
    console.session(SessionEvent::Held { target: "world@3".into(), answer: Ok(false) });
    assert!(console.state.functions.held.is_empty());
    assert_eq!(console.press("j j K"), [], "a version that is freed cannot be kept");
    assert!(console.state.notice.as_ref().unwrap().sort == NoticeSort::Failure);
}

#[test]
fn versions_are_kept_loaded_again_after_a_reconnect_to_the_same_host() {
    let mut console = Console::connected(120, 36);
    for target in ["world@2", "world@3"] {
        console.session(SessionEvent::Held { target: target.into(), answer: Ok(true) });
    }
    console.session(SessionEvent::Disconnected { reason: "it was too slow".into() });
    assert!(
        console.state.functions.held.is_empty(),
        "the host releases the versions when the connection ends"
    );
    let effects = console.session(SessionEvent::Connected { host: samples::host(4121) });
    let holds = ["world@2", "world@3"].map(|it| Effect::Order(Order::Hold(it.into())));
    assert!(holds.iter().all(|hold| effects.contains(hold)), "{effects:?}");

    let gone = WireError::new(ErrorKind::UnknownPlugin, "no plugin `world@2`; loaded: world@3");
    console.now_ms += 3001;
    console.session(SessionEvent::Held { target: "world@2".into(), answer: Err(gone) });
    let notice = &console.state.notice.as_ref().unwrap().text;
    assert_eq!(notice, "world@2 is not kept loaded: no plugin `world@2`; loaded: world@3");
    console.session(SessionEvent::Held { target: "world@3".into(), answer: Ok(true) });
    assert_eq!(console.press("K"), [Effect::Order(Order::Release("world@3".into()))]);

    // A new process gets no requests for versions of the earlier process.
    console.session(SessionEvent::Disconnected { reason: "it ended".into() });
    console.session(SessionEvent::HostStarted { pid: 4200 });
    let effects = console.session(SessionEvent::Connected { host: samples::host(4200) });
    assert!(!effects.iter().any(|it| matches!(it, Effect::Order(Order::Hold(_)))), "{effects:?}");
}

#[test]
fn a_call_is_repeated_and_its_histogram_shown() {
    let mut console = with_parameters(120, 36, json!([]));
    console.press("i F6 F6");
    let operation = call_of("world", json!([]), 100);
    assert_eq!(operation.command_line(), "hotswap invoke --repeat 100 world place");
    let effects = console.press("Enter");
    assert_eq!(operations(&effects), [&operation]);
    let mut answer = answer(3, "done", 1_500);
    answer.latencies = Latencies::of((1..=100).map(|it| it * 100).collect()).map(Box::new);
    console.session(SessionEvent::Invoked { operation, answer: Ok(answer) });
    let screen = console.screen();
    assert!(screen.contains("100 calls: p50 5.0 µs, p90 9.0 µs, p99 9.9 µs"), "{screen}");
    console.press("F6 F6 F6 F6");
    assert_eq!(
        console.state.functions.form.as_ref().unwrap().repeat,
        1,
        "after the largest count, F6 goes back to one call"
    );
}

#[test]
fn a_form_can_be_left_while_its_call_runs_and_a_key_cancels_the_call() {
    let mut console = with_parameters(120, 36, json!([]));
    console.press("i Enter");
    assert!(console.state.is_working());
    assert!(console.screen().contains("Ctrl-C cancel call"), "{}", console.screen());
    assert_eq!(console.press("Ctrl-C"), [Effect::Order(Order::CancelCalls)]);
    let reason = "the function is not `async`".to_owned();
    console.session(SessionEvent::CallGoesOn { reason });
    assert!(console.state.notice.as_ref().unwrap().text.starts_with("not cancelled: "));
    assert_eq!(console.press("Esc"), [], "the form closes, and the call goes on");
    assert!(console.state.functions.form.is_none());
    assert_eq!(console.state.notice.as_ref().unwrap().text, "the call goes on; C cancels it");
    assert_eq!(console.press("x"), [], "`x` cancels jobs, not calls");
    assert_eq!(console.press("C"), [Effect::Order(Order::CancelCalls)]);
    let error = WireError::new(ErrorKind::Cancelled, "the call was cancelled");
    console.session(SessionEvent::Invoked { operation: call(json!([])), answer: Err(error) });
    assert!(!console.state.is_working());
    assert_eq!(console.press("C"), []);
}

#[test]
fn the_newest_result_is_shown_in_full_and_copied() {
    let mut console = with_parameters(120, 36, json!([]));
    console.press("i Enter");
    let answer = Ok(answer(3, "first line\nsecond line", 800));
    console.session(SessionEvent::Invoked { operation: call(json!([])), answer });
    console.press("Esc o");
    assert!(
        matches!(&console.state.overlay, Some(Overlay::Details { title, .. }) if title == "place()")
    );
    let copied = "world v3, 800 ns\nfirst line\nsecond line";
    assert_eq!(console.press("y"), [Effect::Copy(copied.into())]);
}

#[test]
fn a_result_of_one_long_line_is_wrapped_between_words_and_scrolls_to_its_end() {
    let mut console = Console::connected(80, 24);
    let text: Vec<String> = (0..400).map(|number| format!("word{number:03}")).collect();
    let text = text.join(" ");
    let call = call_of("world", json!([]), 1);
    let answer = Ok(answer(3, &text, 8_000));
    console.session(SessionEvent::Invoked { operation: call, answer });
    console.press("o G");
    assert!(console.screen().contains(" word399"), "{}", console.screen());
    let words = |console: &Console| console.screen().matches(" word").count();
    let before = words(&console);
    console.press("k");
    assert!(words(&console) >= before && !console.screen().contains("word399"));
}

#[test]
fn a_live_function_is_called_from_its_row() {
    let mut console = Console::connected(120, 36);
    let mut snapshot = samples::snapshot(4121);
    let mut guardian = snapshot.plugins[1].clone();
    guardian.name = "guardian".into();
    guardian.versions = vec![samples::version(2, VersionState::Active, "active")];
    guardian.functions = vec![samples::live().functions[0].function.clone()];
    snapshot.plugins.push(guardian);
    console.session(SessionEvent::Snapshot(Box::new(snapshot)));
    console.press("2 ] ]");
    console.session(SessionEvent::Live(Ok(samples::live())));
    console.press("j i Tab");
    console.write("2");
    let effects = console.press("Enter");
    let operation = Operation::Invoke(InvokeParams {
        plugin: "guardian".into(),
        function: "live_fire".into(),
        args: vec![json!({ "rounds": 2 })],
        lenient: false,
        repeat: 1,
        beside: None,
    });
    assert_eq!(operations(&effects), [&operation]);
}

#[test]
fn the_screens_of_a_form_and_of_two_results() {
    let screens = [(120, 36), (80, 24), (60, 15)].map(|(width, height)| {
        let mut console = with_parameters(width, height, parameters());
        fill_in_form(&mut console);
        console.press("Tab F5 F6");
        let form = console.screen();
        console.press("Enter");
        let args = filled_in();
        let mut new = answer(3, "Bang! Bang! Bang!", 8_000);
        new.latencies = Latencies::of((1..=10).map(|it| it * 900).collect()).map(Box::new);
        let mut old = answer(2, "Bang!", 12_000);
        old.latencies = Latencies::of((1..=10).map(|it| it * 1_400).collect()).map(Box::new);
        new.beside = Some(Box::new(Beside::Result(old)));
        let operation = call_of("world", args, 10).beside(Some("world@2".into()));
        console.session(SessionEvent::Invoked { operation, answer: Ok(new) });
        console.press("Esc");
        format!("{width}×{height}\n{form}\n\n{}\n", console.screen())
    });
    insta::assert_snapshot!(screens.join("\n"));
}

#[test]
fn only_times_of_many_calls_are_compared() {
    let timed = |version, typical_ns| {
        let mut answer = answer(version, "same", typical_ns);
        answer.latencies = Latencies::of(vec![typical_ns; 20]).map(Box::new);
        answer
    };
    for (other_ns, verdict) in
        [(8_100, "same result, same speed"), (12_000, "world v2 1.5 × as long")]
    {
        let mut console = with_parameters(120, 36, json!([]));
        console.press("i F5 F6");
        let both = call_of("world", json!([]), 10).beside(Some("world@2".into()));
        console.press("Enter");
        let mut new = timed(3, 8_000);
        new.beside = Some(Box::new(Beside::Result(timed(2, other_ns))));
        console.session(SessionEvent::Invoked { operation: both, answer: Ok(new) });
        assert!(console.screen().contains(verdict), "{}", console.screen());
    }
}

#[test]
fn a_failed_call_names_its_version_and_time() {
    let mut console = with_parameters(120, 36, json!([]));
    console.press("i Enter");
    let error = WireError::new(ErrorKind::Panic, "world v3 panicked in place: boom");
    let operation = call_of("world", json!([]), 1);
    console.session(SessionEvent::Invoked { operation, answer: Err(error) });
    assert!(console.screen().contains("place()  world v3  12:05:00"), "{}", console.screen());
}

#[test]
fn results_name_the_patch_that_ran() {
    let mut console = with_parameters(120, 36, json!([]));
    console.press("i F5");
    let call = call_of("world", json!([]), 1).beside(Some("world@2".into()));
    assert_eq!(operations(&console.press("Enter")), [&call]);
    let mut new = InvokeResult { patch: Some(1), ..answer(3, "new", 8_000) };
    new.beside = Some(Box::new(Beside::Result(answer(2, "old", 12_000))));
    console.session(SessionEvent::Invoked { operation: call, answer: Ok(new) });
    let screen = console.screen();
    assert!(screen.contains("world v3+1  ") && screen.contains("world v2  "), "{screen}");
}
