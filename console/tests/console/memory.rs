//! The state that a console restores from an earlier console, and the choice of a host.

use hotswap_console::screen::input::action::Motion;
use hotswap_console::screen::layout::{Panel, Tab};
use hotswap_console::screen::model::Look;
use hotswap_console::screen::model::memory::Memory;
use hotswap_console::screen::model::picker::Picker;
use hotswap_console::screen::remembered::screens;
use hotswap_console::screen::view::{self, Theme};
use hotswap_console::session::SessionEvent;
use hotswap_protocol::LogLevel;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use crate::screens::SIZES;
use crate::support::console::Console;
use crate::support::samples;

fn opened_event(name: &str) -> SessionEvent {
    SessionEvent::Opened {
        name: name.into(),
        package_dir: None,
        plugin_dir: Some("/srv/plugins".into()),
        plugins: Vec::new(),
        plugin_packages: Vec::new(),
    }
}

#[test]
fn a_console_restores_its_state_for_the_same_host() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("below/screens.json");
    assert_eq!(screens::load(&file).unwrap(), Memory::default());
    let mut console = Console::connected(120, 36);
    console.press("2 ] 3 l l /");
    console.write("vel");
    console.press("Enter W z T t");
    console.write("world@3");
    console.press("Enter");
    screens::keep(&file, &console.state).unwrap();
    screens::keep(&file, &Console::new(120, 36).state).unwrap();

    let mut next = Console::new(120, 36);
    next.state.memory = screens::load(&file).unwrap();
    next.session(opened_event("another-host"));
    assert_eq!((next.state.focus, next.state.tab), (Panel::Plugins, Tab::Functions));
    next.session(opened_event("sample-host"));
    assert_eq!((next.state.focus, next.state.tab), (Panel::Logs, Tab::Vault));
    let logs = &next.state.logs;
    assert_eq!((logs.pattern(), logs.level(), logs.wrap), ("vel", Some(LogLevel::Info), true));
    assert_eq!((logs.writer_filter(), next.state.look), ("world@3", Look::Light));
    assert!(next.state.zoomed);

    let mut without_colours = Console::new(120, 36);
    without_colours.state.look = Look::Plain;
    without_colours.state.memory = screens::load(&file).unwrap();
    without_colours.session(opened_event("sample-host"));
    assert_eq!(without_colours.state.look, Look::Plain);
}

#[test]
fn the_build_tab_stays_in_front_until_the_first_build_is_done() {
    let mut console = Console::connected(120, 36);
    console.press("2 ]");
    let mut memory = Memory::default();
    memory.keep(&console.state);
    let mut next = Console::new(120, 36);
    next.state.memory = memory;
    next.session(SessionEvent::Opened {
        name: "sample-host".into(),
        package_dir: None,
        plugin_dir: Some("/srv/plugins".into()),
        plugins: vec!["world".into()],
        plugin_packages: vec!["/src/world".into()],
    });
    assert_eq!(next.state.tab, Tab::Build);
    next.session(SessionEvent::Connected { host: samples::host(4121) });
    assert_eq!(next.state.tab, Tab::Vault);
}

#[test]
fn a_console_that_builds_nothing_does_not_begin_with_the_build_tab() {
    let mut before = Console::connected(120, 36);
    before.press("2 ] ] ]");
    let mut memory = Memory::default();
    memory.keep(&before.state);
    let recalled = |plugins: Vec<String>| {
        let mut console = Console::new(120, 36);
        console.state.memory = memory.clone();
        console.session(SessionEvent::Opened {
            name: "sample-host".into(),
            package_dir: None,
            plugin_dir: Some("/srv/plugins".into()),
            plugin_packages: vec!["/src/world".into(); plugins.len()],
            plugins,
        });
        console.session(SessionEvent::Connected { host: samples::host(4121) });
        console.state.tab
    };
    assert_eq!(recalled(vec!["world".into()]), Tab::Build);
    assert_eq!(recalled(Vec::new()), Tab::Functions);
}

#[test]
fn a_broken_file_is_an_error_and_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("screens.json");
    for broken in ["", "{", "[]", "{\"a\": 1}", "\u{0}"] {
        std::fs::write(&file, broken).unwrap();
        assert!(screens::load(&file).is_err(), "{broken:?}");
        screens::keep(&file, &Console::connected(120, 36).state).unwrap();
        assert!(screens::load(&file).is_ok());
    }
}

#[test]
fn a_limited_number_of_hosts_is_remembered() {
    let mut memory = Memory::default();
    for number in 0..200 {
        let mut console = Console::new(120, 36);
        console.now_ms += number;
        console.session(opened_event(&format!("host-{number}")));
        memory.keep(&console.state);
    }
    let text = serde_json::to_string(&memory).unwrap();
    assert_eq!(text.matches("host-").count(), 50);
    assert!(text.contains("host-199 ") && !text.contains("host-149 "), "{text}");
}

#[test]
fn the_choice_of_a_host() {
    let mut picker = Picker::default();
    assert!(picker.update(vec![samples::host(4121), samples::host(812)]));
    picker.move_by(Motion::Down, 10);
    assert!(picker.update(vec![samples::host(812), samples::host(9)]));
    assert_eq!(picker.selected().unwrap().pid, 812, "the same host stays selected");
    assert!(
        !picker.update(vec![samples::host(812), samples::host(9)]),
        "the same hosts again are not a change"
    );
    let screen = |picker: &Picker, (width, height)| {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let (now_ms, theme) = (samples::NOON_MS + 300_000, Theme::without_colours());
        terminal.draw(|frame| view::draw_picker(frame, picker, now_ms, &theme)).unwrap();
        terminal.backend().to_string()
    };
    let screens = SIZES
        .map(|(width, height)| format!("{width}×{height}\n{}\n", screen(&picker, (width, height))));
    insta::assert_snapshot!(screens.join("\n"));
    picker.update(Vec::new());
    assert_eq!(picker.selected(), None);
    assert!(screen(&picker, SIZES[1]).contains("No host runs any more."));
}
