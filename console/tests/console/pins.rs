//! Pinned calls: pinning by a key, comparing after each reload, and pinning again in a new process.

use hotswap_console::host::HostExit;
use hotswap_console::host::operation::Operation;
use hotswap_console::screen::config::Config;
use hotswap_console::screen::update::Effect;
use hotswap_console::session::{Order, SessionEvent};
use hotswap_protocol::{Event, InvokeResult, PinParams, PinnedCall, UnpinParams};
use serde_json::json;

use crate::support::console::Console;
use crate::support::samples;

fn operations(effects: &[Effect]) -> Vec<&Operation> {
    let operations = effects.iter().filter_map(|effect| match effect {
        Effect::Order(Order::Operate(operation)) => Some(operation),
        _ => None,
    });
    operations.collect()
}

fn report_pin_call(console: &mut Console, pin: PinnedCall) {
    let at_ms = samples::NOON_MS;
    console.session(SessionEvent::Engine(Event::PinCalled { at_ms, pin: Box::new(pin) }));
}

fn pin_operation(plugin: &str) -> Operation {
    Operation::Pin(PinParams {
        plugin: plugin.into(),
        function: "greet".into(),
        args: vec![json!("Ada"), json!(1)],
        lenient: false,
    })
}

/// Calls `greet("Ada", 1)`.
fn call(console: &mut Console) {
    console.press("i");
    console.write("Ada");
    console.press("Tab");
    console.write("1");
    let effects = console.press("Enter");
    let operation = operations(&effects)[0].clone();
    console.press("Esc");
    let answer: Result<InvokeResult, _> = Ok(samples::greeting());
    console.session(SessionEvent::Invoked { operation, answer });
}

#[test]
fn one_key_pins_and_unpins_the_last_call() {
    let mut console = Console::connected(120, 36);
    assert_eq!(console.press("a"), []);
    assert!(console.screen().contains("there is no call to pin yet"));
    call(&mut console);
    assert_eq!(operations(&console.press("a")), [&pin_operation("world")]);
    report_pin_call(&mut console, samples::pin(1, "Hi", "Hi"));
    assert!(console.screen().contains("= world greet(\"Ada\", 1)  \"Hi\""));
    let unpin = Operation::Unpin(UnpinParams { id: 1 });
    assert_eq!(operations(&console.press("a")), [&unpin]);
    console.session(SessionEvent::Engine(Event::Unpinned { at_ms: samples::NOON_MS, id: 1 }));
    assert!(!console.screen().contains("pinned: called again"));
    assert_eq!(pin_operation("world").command_line(), "hotswap pin add world greet Ada 1");
}

#[test]
fn pinned_calls_with_another_result_come_first_and_are_reported() {
    let mut console = Console::connected(120, 36);
    report_pin_call(&mut console, samples::pin(1, "Hi", "Hi"));
    report_pin_call(&mut console, samples::pin(2, "Hello, Ada!", "HELLO, ADA!"));
    let screen = console.screen();
    assert!(
        screen.contains("pinned world greet(\"Ada\", 2) gives something else in v3"),
        "{screen}"
    );
    console.press("j k");
    let mut screens = String::new();
    for (width, height) in [(120, 36), (80, 24)] {
        console.state.size = (width, height);
        screens += &format!("{width}×{height}\n{}\n", console.screen());
    }
    console.press("A");
    let config: Config = "[theme]\nborders = \"ascii\"\ncolours = \"never\"".parse().unwrap();
    screens += &console.screen_in(config.themes.of(config.themes.start().unwrap()));
    insta::assert_snapshot!(screens);

    console.press("Enter");
    let screen = console.screen();
    assert!(screen.contains("\"Hello, Ada!\"") && screen.contains("\"HELLO, ADA!\""), "{screen}");
    console.press("Esc A j");
    let unpin = Operation::Unpin(UnpinParams { id: 1 });
    assert_eq!(operations(&console.press("x")), [&unpin]);
}

#[test]
fn calls_are_pinned_again_in_a_new_process_when_their_plugin_serves() {
    let mut console = Console::connected(120, 36);
    report_pin_call(&mut console, samples::pin(1, "Hi", "Hi"));
    let exit = HostExit { code: Some(0), signal: None };
    console.session(SessionEvent::HostExited { exit, expected: true, calls: None });
    console.session(SessionEvent::HostStarted { pid: 77 });
    assert!(!console.screen().contains("pinned: called again"));
    let effects = console.session(SessionEvent::Connected { host: samples::host(77) });
    assert_eq!(operations(&effects), [&Operation::Pins]);
    let effects = console.session(SessionEvent::Snapshot(Box::new(samples::snapshot(77))));
    assert!(operations(&effects).contains(&&pin_operation("world")), "{effects:?}");
    let effects = console.session(SessionEvent::Snapshot(Box::new(samples::snapshot(77))));
    assert!(
        !operations(&effects).contains(&&pin_operation("world")),
        "a call is pinned in the new host only once"
    );
}
