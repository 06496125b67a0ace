//! The mouse and the themes.

use crossterm::event::{KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use hotswap_console::screen::config::Config;
use hotswap_console::screen::layout::{Panel, Tab};
use hotswap_console::screen::model::Look;
use hotswap_console::screen::model::Place;
use hotswap_console::screen::model::overlay::Overlay;
use hotswap_console::screen::update::{Effect, Input};
use hotswap_console::session::{LogLine, OutputStream, SessionEvent};
use hotswap_protocol::Event;

use crate::support::console::Console;
use crate::support::samples;

#[test]
fn the_mouse_can_be_left_to_the_terminal() {
    let mut console = Console::connected(120, 36);
    assert_eq!(console.press("F2"), [Effect::CaptureMouse(true)]);
    assert_eq!(console.press("F2"), [Effect::CaptureMouse(false)]);
}

#[test]
fn a_click_moves_the_focus_selects_and_opens() {
    let mut console = Console::connected(120, 36);
    console.click("v2   retired");
    assert_eq!(console.state.plugins.selected_target().as_deref(), Some("world@2"));
    console.click("v2   retired");
    assert!(matches!(&console.state.overlay, Some(Overlay::Details { .. })));
    console.press("Esc");
    console.click("3 Logs");
    assert_eq!(console.state.focus, Panel::Logs);
    console.click("reset ");
    assert_eq!((console.state.focus, console.state.functions.selected), (Panel::Tabs, 1));
    console.click("greet    (name");
    console.click("greet    (name");
    console.click("times ");
    assert_eq!(console.state.functions.form.as_ref().unwrap().focused, 1);
    let effects = console.click("Vault");
    assert_eq!(console.state.tab, Tab::Vault);
    assert_eq!(effects.len(), 2, "the Vault is requested, and the screen is drawn: {effects:?}");
    console.session(SessionEvent::Vault(Ok(samples::vault())));
    console.click("Extension");
    console.click("Extension");
    assert!(!console.screen().contains("heartbeats"), "a second click closes the folder");
    console.click("Timeline");
    assert_eq!(console.state.tab, Tab::Timeline);
}

#[test]
fn the_wheel_scrolls_the_panel_under_it_without_moving_the_focus() {
    let mut console = Console::connected(120, 36);
    let line =
        |number| LogLine::Output { stream: OutputStream::Stdout, text: format!("line {number}") };
    console.logs((0..100).map(line).collect());
    console.mouse(MouseEventKind::ScrollUp, "line 99");
    assert!(!console.state.logs.follows());
    assert!(console.state.logs.selected_text().unwrap().0.ends_with("line 96"));
    assert_eq!(console.state.focus, Panel::Plugins);
    assert!(!console.screen().contains("line 97"), "{}", console.screen());
    console.mouse(MouseEventKind::ScrollDown, "line 96");
    assert!(console.state.logs.follows());
    console.click("line 95");
    assert!(console.state.logs.selected_text().unwrap().0.ends_with("line 95"));
    console.press("?");
    console.mouse(MouseEventKind::ScrollDown, "Keys");
    assert!(matches!(&console.state.overlay, Some(Overlay::Help { top: 3 })));
}

#[test]
fn the_wheel_keeps_the_typed_values_of_a_form() {
    let mut console = Console::connected(120, 36);
    console.press("i");
    console.write("Ada");
    console.mouse(MouseEventKind::ScrollDown, "v2   retired");
    assert_eq!(console.state.functions.form.as_ref().unwrap().texts()[0], "Ada");
}

#[test]
fn a_click_on_any_row_of_a_wrapped_line_selects_the_line() {
    let mut console = Console::connected(120, 36);
    let long = format!("{} the end of it", "word ".repeat(30));
    let text = |text: &str| LogLine::Output { stream: OutputStream::Stdout, text: text.into() };
    console.logs(vec![text("before"), text(&long), text("after")]);
    console.press("3 W");
    console.click("the end of it");
    assert!(console.state.logs.selected_text().unwrap().0.ends_with("the end of it"));
    console.click("before");
    assert!(console.state.logs.selected_text().unwrap().0.ends_with("before"));
    console.click("before");
    assert!(matches!(&console.state.overlay, Some(Overlay::Details { .. })));
}

#[test]
fn a_click_selects_a_reload_and_opens_it() {
    let mut console = Console::connected(120, 36);
    for generation in [4, 5] {
        let mut report = samples::report();
        report.generation = generation;
        let at_ms = samples::NOON_MS;
        console.session(SessionEvent::Engine(Event::ReloadFinished { at_ms, report }));
    }
    console.click("Timeline");
    console.click("reload 4 ");
    assert_eq!(console.state.timeline.selected(), 1);
    console.click("reload 5 ");
    assert_eq!(console.state.timeline.selected(), 0);
    assert_eq!(console.state.overlay, None);
    console.click("reload 5 ");
    assert!(matches!(&console.state.overlay, Some(Overlay::Details { .. })));
}

#[test]
fn a_click_selects_a_diagnostic_and_opens_it() {
    let mut console = Console::connected(120, 36);
    console.session(samples::mistake("world", 12));
    console.session(samples::mistake("cat", 40));
    console.click("Build");
    console.click("--> world/src/lib.rs:12:5");
    let place = samples::place("world", 12);
    assert_eq!(console.press("o"), [Effect::Edit(place)]);
    console.click("--> world/src/lib.rs:12:5");
    assert!(matches!(&console.state.overlay, Some(Overlay::Details { .. })));
    console.press("Esc");
    for _ in 0..100 {
        console.session(samples::mistake("dog", 7));
    }
    console.mouse(MouseEventKind::ScrollUp, "--> world/src/lib.rs:12:5");
    assert_eq!(console.state.builds.selected(), Some(1));
    for _ in 0..200 {
        console.mouse(MouseEventKind::ScrollDown, "2  Functions");
    }
    assert_eq!(
        console.state.builds.selected(),
        None,
        "at the end, no row is selected, so that the newest rows are shown"
    );
}

#[test]
fn a_click_selects_a_line_of_a_difference() {
    let mut console = Console::connected(120, 36);
    let request = console.compare().unwrap();
    console.session(SessionEvent::Difference(Box::new(samples::difference(request))));
    console.click("+    Ok(format!(\"Good day");
    let place = Place { column: None, ..samples::place("world", 5) };
    assert_eq!(console.press("o"), [Effect::Edit(place.clone())]);
    console.click("│  }");
    assert_eq!(
        console.press("o"),
        [Effect::Edit(place)],
        "a removed line is opened at the place of the line before it"
    );
    console.click("function wave");
    assert_eq!(console.press("o"), []);
    assert!(console.screen().contains("no line of a source file is selected"));
}

#[test]
fn a_click_at_any_place_is_harmless() {
    for (width, height) in [(120, 36), (80, 24), (60, 15), (30, 8)] {
        for tab in 0..6 {
            let mut console = Console::connected(width, height);
            for _ in 0..tab {
                console.press("]");
            }
            for (column, row) in
                (0..width).step_by(7).flat_map(|x| (0..height).map(move |y| (x, y)))
            {
                for kind in [
                    MouseEventKind::Down(MouseButton::Left),
                    MouseEventKind::ScrollUp,
                    MouseEventKind::ScrollDown,
                    MouseEventKind::Moved,
                ] {
                    let modifiers = KeyModifiers::NONE;
                    console.handle(Input::Mouse(MouseEvent { kind, column, row, modifiers }));
                }
                console.press("Esc");
            }
            console.screen();
        }
    }
}

#[test]
fn themes_go_round_and_the_configuration_chooses_the_first() {
    let mut console = Console::connected(120, 36);
    let mut looks = Vec::new();
    for _ in 0..3 {
        console.press("T");
        looks.push(console.state.look);
    }
    assert_eq!(looks, [Look::Light, Look::Plain, Look::Dark]);
    for (word, look) in [("dark", Look::Dark), ("light", Look::Light), ("never", Look::Plain)] {
        let config: Config = format!("[theme]\ncolours = \"{word}\"").parse().unwrap();
        assert_eq!(config.themes.start(), Some(look));
    }
}
