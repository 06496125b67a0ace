//! Differences between versions, and the effects of a reload, requested by keys.

use hotswap_console::compare::difference::DiffVersion;
use hotswap_console::compare::replay::Replay;
use hotswap_console::host::operation::Operation;
use hotswap_console::screen::model::overlay::Overlay;
use hotswap_console::screen::update::Effect;
use hotswap_console::session::{BuildEffect, Order, SessionEvent};
use hotswap_protocol::{Event, Outcome, Owner, ValueOutcome, VersionState, WireError};

use crate::support::console::{Console, requested_comparison};
use crate::support::samples;

fn card(console: &Console) -> String {
    match &console.state.overlay {
        Some(Overlay::Preview(card)) => card.text(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_preview_is_asked_for_shown_and_can_be_carried_out() {
    let mut console = Console::connected(120, 36);
    assert_eq!(console.press("p"), [Effect::Order(Order::Preview)]);
    assert_eq!(
        console.press("r y"),
        [],
        "before the preview arrives, there is nothing to reload or to copy"
    );
    console.session(SessionEvent::Preview(Ok(samples::preview())));
    let text = card(&console);
    assert!(
        text.starts_with("world v3 → build 4c0ffee0  BREAKING\n! the host calls `greet` as `fn("),
        "{text}"
    );
    assert!(text.contains("\n! ~ function greet\n      was"), "{text}");
    assert!(
        text.contains("\ndog v1: its artifact is gone, it would be removed  BREAKING\n"),
        "{text}"
    );
    assert_eq!(console.press("y"), [Effect::Copy(text)]);
    let reload = Effect::Order(Order::Operate(Operation::Reload));
    assert_eq!(console.press("r"), [reload]);
    assert_eq!(console.state.overlay, None);
}

#[test]
fn a_preview_of_a_reload_without_effect_or_refused_cannot_be_carried_out() {
    let mut console = Console::connected(120, 36);
    let mut nothing = samples::preview();
    nothing.plugins.iter_mut().for_each(|plugin| plugin.outcome = Outcome::Unchanged);
    let mut crashing = samples::preview();
    crashing.plugins[0].error = Some(samples::refusal());
    let refused: Result<_, WireError> = Err(samples::refusal());
    for (preview, text) in [
        (Ok(nothing), "A reload would change nothing.\n\nunchanged: world, dog, cat\n"),
        (Ok(crashing), "  caused by: nothing else was tried"),
        (refused, "A reload would be refused."),
    ] {
        console.press("p");
        console.session(SessionEvent::Preview(preview));
        assert!(card(&console).contains(text), "{}", card(&console));
        assert_eq!(console.press("r"), []);
        console.press("Esc");
        assert_eq!(console.state.overlay, None);
    }
}

#[test]
fn pinned_calls_are_made_in_the_previewed_builds_on_request() {
    let mut console = Console::connected(120, 36);
    console.press("p");
    assert_eq!(console.press("a"), [], "before the preview arrives, no call can be repeated");
    console.session(SessionEvent::Replayed(Ok(samples::replay())));
    console.session(SessionEvent::Preview(Ok(samples::preview())));
    assert!(!card(&console).contains("pinned"), "an answer that was not requested is not shown");
    assert_eq!(console.press("a"), [Effect::Order(Order::Replay)]);
    assert!(card(&console).contains("The pinned calls are made in both builds"));
    assert_eq!(console.press("a"), [], "the calls are already being made");
    console.session(SessionEvent::Replayed(Ok(samples::replay())));
    let text = card(&console);
    assert!(
        text.contains("\n≠ world greet(\"Ada\")\n      v3              \"Hello, Ada!\"  48 µs\n")
    );
    assert!(text.contains("\n      build 4c0ffee0  ended its process, with SIGSEGV (signal 11)\n"));
    assert!(text.contains("\n= world meet(\"Ada\")  \"Hi\"  48 µs\n"), "{text}");
    assert!(text.contains("an empty Vault"), "{text}");

    // Another build gets a new preview, with calls of its own.
    console.session(SessionEvent::Preview(Ok(samples::preview())));
    assert!(!card(&console).contains("≠"));
    assert_eq!(console.press("a"), [Effect::Order(Order::Replay)]);
    let none = Replay { calls: Vec::new(), error: None };
    console.session(SessionEvent::Replayed(Ok(none)));
    assert!(card(&console).contains("No call is pinned"), "{}", card(&console));
}

#[test]
fn an_answer_that_is_no_longer_awaited_is_not_shown() {
    let mut console = Console::connected(120, 36);
    console.press("p Esc");
    console.session(SessionEvent::Preview(Ok(samples::preview())));
    assert_eq!(console.state.overlay, None);
}

#[test]
fn the_serving_version_is_compared_with_the_work_tree_and_others_with_the_serving_one() {
    let mut console = Console::connected(120, 36);
    let request = console.compare().unwrap();
    assert_eq!((request.plugin.as_str(), request.from.version, &request.to), ("world", 3, &None));
    console.session(SessionEvent::Difference(Box::new(samples::difference(request))));
    assert!(console.screen().contains("world v3 → working tree"));

    let request = requested_comparison(&console.press("1 j")).unwrap();
    let active = samples::version(3, VersionState::Active, "active");
    assert_eq!((request.from.version, request.to.clone()), (2, Some(DiffVersion::from(&active))));
    assert!(
        console.screen().contains("comparing …"),
        "the earlier comparison is of another version"
    );
    assert_eq!(console.press("l"), [], "the comparison is already requested");

    console.press("k");
    console.session(SessionEvent::Difference(Box::new(samples::difference(request))));
    assert!(console.screen().contains("world v3 → working tree"));
}

#[test]
fn any_two_versions_of_a_plugin_are_compared() {
    let mut console = Console::connected(120, 36);
    console.compare();
    let effects = console.press("1 j j c k");
    let request = requested_comparison(&effects[effects.len() - 1..]).unwrap();
    let to = request.to.map(|to| to.version);
    assert_eq!((request.from.version, to), (1, Some(2)));
    let request = requested_comparison(&console.press("j c")).unwrap();
    assert_eq!((request.from.version, request.to.map(|to| to.version)), (1, Some(3)));
}

#[test]
fn a_new_build_is_compared_anew() {
    let mut console = Console::connected(120, 36);
    let request = console.compare().unwrap();
    let changed = SessionEvent::SourcesChanged { plugins: vec!["world".into()], saved_at_ms: 5 };
    assert_eq!(requested_comparison(&console.session(changed)), Some(request.clone()));
    let built = samples::built(BuildEffect::NewCode);
    assert_eq!(requested_comparison(&console.session(built)), Some(request));
}

#[test]
fn a_comparison_lists_the_values_that_the_reload_took_over() {
    let mut console = Console::connected(120, 36);
    let mut vault = samples::vault();
    let mut of_another = vault.data_bag[0].clone();
    of_another.key = "barks".into();
    of_another.owned_by = Some(Owner::Version { plugin: "dog".into(), version: 1 });
    vault.data_bag.push(of_another);
    console.session(SessionEvent::Vault(Ok(vault)));
    let mut report = samples::report();
    report.data_bag.push(ValueOutcome { key: "barks".into(), ..report.data_bag[0].clone() });
    let finished = Event::ReloadFinished { at_ms: console.now_ms, report };
    console.session(SessionEvent::Engine(finished));
    let mut snapshot = samples::snapshot(4121);
    snapshot.plugins[0].versions.insert(0, samples::version(4, VersionState::Active, "active"));
    snapshot.plugins[0].versions[1].state = VersionState::Retired;
    console.session(SessionEvent::Snapshot(Box::new(snapshot)));
    console.press("j");
    let request = console.compare().unwrap();
    assert_eq!((request.from.version, request.to.as_ref().map(|to| to.version)), (3, Some(4)));
    console.session(SessionEvent::Difference(Box::new(samples::difference(request))));
    let screen = console.screen();
    assert!(screen.contains("value greetings was taken over unchanged"), "{screen}");
    assert!(!screen.contains("barks"), "`barks` belongs to another plugin\n{screen}");
}
