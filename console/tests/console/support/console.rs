//! A console without a terminal, which tests feed with events.

use std::collections::BTreeMap;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use hotswap_console::compare::difference::DiffRequest;
use hotswap_console::screen::input::action::Action;
use hotswap_console::screen::layout::Tab;
use hotswap_console::screen::model::State;
use hotswap_console::screen::update::{self, Effect, Event, Input};
use hotswap_console::screen::view::{self, Theme};
use hotswap_console::session::{LogLine, Order, SessionEvent, Watch};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::{Buffer, Cell};
use ratatui::style::Color;

use super::samples;

/// A console whose clock is at five minutes past noon.
pub struct Console {
    pub state: State,
    pub now_ms: u64,
}

impl Console {
    pub fn new(width: u16, height: u16) -> Self {
        Self { state: State::new((width, height)), now_ms: samples::NOON_MS + 300_000 }
    }

    /// A console that has started the sample host and is connected to it.
    pub fn connected(width: u16, height: u16) -> Self {
        let mut console = Self::new(width, height);
        console.session(SessionEvent::Opened {
            name: "sample-host".into(),
            package_dir: Some("/src/sample-host".into()),
            plugin_dir: Some("/srv/plugins".into()),
            plugins: vec!["world".into(), "cat".into(), "dog".into()],
            plugin_packages: ["world", "cat", "dog"].map(|it| format!("/src/{it}").into()).into(),
        });
        console.session(SessionEvent::Watching {
            on: true,
            mode: Watch::On,
            error: None,
            file_system: None,
        });
        console.session(SessionEvent::HostStarted { pid: 4121 });
        console.session(SessionEvent::Connected { host: samples::host(4121) });
        console.session(SessionEvent::Installed {
            builds: samples::installed(),
            unusable: BTreeMap::new(),
        });
        console.session(SessionEvent::Snapshot(Box::new(samples::snapshot(4121))));
        console
    }

    pub fn handle(&mut self, input: Input) -> Vec<Effect> {
        let effects = update::update(&mut self.state, Event { at_ms: self.now_ms, input });
        // This runs until nothing is left to do, as in the program's loop.
        while self.state.logs.is_scanning() {
            update::update(&mut self.state, Event { at_ms: self.now_ms, input: Input::Scan });
        }
        effects
    }

    pub fn session(&mut self, event: SessionEvent) -> Vec<Effect> {
        self.handle(Input::Session(Box::new(event)))
    }

    pub fn logs(&mut self, lines: Vec<LogLine>) -> Vec<Effect> {
        self.handle(Input::Logs(lines))
    }

    /// Presses keys, named as people write them: `j`, `Tab`, `Esc`, `Ctrl-C`.
    pub fn press(&mut self, keys: &str) -> Vec<Effect> {
        keys.split_whitespace()
            .flat_map(|name| self.handle(Input::Key(key(name))))
            .filter(|effect| *effect != Effect::Draw)
            .collect()
    }

    /// Uses the mouse at the place of this text on the screen.
    pub fn mouse(&mut self, kind: MouseEventKind, text: &str) -> Vec<Effect> {
        let screen = self.screen();
        let mut lines = screen.lines().enumerate();
        let found = lines.find_map(|(row, line)| Some((row, line.split_once(text)?.0)));
        let (row, before) = found.unwrap_or_else(|| panic!("no {text:?} on\n{screen}"));
        let (column, row) = (before.chars().count().try_into().unwrap(), row.try_into().unwrap());
        let event = MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE };
        self.handle(Input::Mouse(event))
    }

    /// Clicks where this text is on the screen.
    pub fn click(&mut self, text: &str) -> Vec<Effect> {
        self.mouse(MouseEventKind::Down(MouseButton::Left), text)
    }

    /// Types a text, letter by letter.
    pub fn write(&mut self, text: &str) {
        for letter in text.chars() {
            let key = KeyEvent::new(KeyCode::Char(letter), KeyModifiers::NONE);
            self.handle(Input::Key(key));
        }
    }

    /// Shows the Diff tab, and returns the comparison that it requests; `None` if there is no room for the tab.
    pub fn compare(&mut self) -> Option<DiffRequest> {
        let mut effects = update::act(&mut self.state, Action::Show(Tab::Diff));
        effects.extend(self.handle(Input::Tick));
        requested_comparison(&effects)
    }

    /// The text on the screen, without colours and without spaces at line ends.
    pub fn screen(&self) -> String {
        self.screen_in(&Theme::without_colours())
    }

    /// Whether this text is dimmed when colours are off.
    pub fn is_dim(&self, text: &str) -> bool {
        let buffer = self.drawn_in(&Theme::without_colours());
        let screen = self.screen();
        let mut lines = screen.lines().enumerate();
        let found = lines.find_map(|(row, line)| Some((row, line.split_once(text)?.0)));
        let (row, before) = found.unwrap_or_else(|| {
            panic!(
                "no {text:?} on
{screen}"
            )
        });
        let place = (before.chars().count().try_into().unwrap(), row.try_into().unwrap());
        let cell = buffer.cell(place).unwrap();
        cell.modifier.contains(ratatui::style::Modifier::DIM)
    }

    /// Expects the same words on dark backgrounds, on light ones and without colours; no colours in the last case;
    /// and only ASCII characters in ASCII mode.
    pub fn assert_readable_in_all_themes(&self) {
        let screen = self.screen();
        for theme in [Theme::with_colours(), Theme::with_dark_colours()] {
            assert_eq!(self.screen_in(&theme), screen);
        }
        let is_coloured = |cell: &Cell| (cell.fg, cell.bg) != (Color::Reset, Color::Reset);
        let plain = self.drawn_in(&Theme::without_colours());
        assert!(
            !plain.content().iter().any(is_coloured),
            "a theme without colours draws a colour:\n{screen}"
        );
        let mut ascii = Theme::without_colours();
        ascii.is_ascii = true;
        let ascii = self.screen_in(&ascii);
        assert!(ascii.is_ascii(), "{ascii}");
    }

    fn drawn_in(&self, theme: &Theme) -> Buffer {
        let (width, height) = self.state.size;
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view::draw(frame, &self.state, theme)).unwrap();
        terminal.backend().buffer().clone()
    }

    pub fn screen_in(&self, theme: &Theme) -> String {
        let lines: Vec<String> = self
            .drawn_in(theme)
            .content()
            .chunks(usize::from(self.state.size.0.max(1)))
            .map(|line| {
                let text: String = line.iter().map(|cell| cell.symbol()).collect();
                text.trim_end().to_owned()
            })
            .collect();
        lines.join("\n")
    }
}

/// The comparison that the effects request.
pub fn requested_comparison(effects: &[Effect]) -> Option<DiffRequest> {
    effects.iter().find_map(|effect| match effect {
        Effect::Order(Order::Compare(request)) => Some(request.clone()),
        _ => None,
    })
}

fn key(name: &str) -> KeyEvent {
    let (code, modifiers) = match name {
        "Tab" => (KeyCode::Tab, KeyModifiers::NONE),
        "BackTab" => (KeyCode::BackTab, KeyModifiers::SHIFT),
        "Enter" => (KeyCode::Enter, KeyModifiers::NONE),
        "Alt-Enter" => (KeyCode::Enter, KeyModifiers::ALT),
        "Esc" => (KeyCode::Esc, KeyModifiers::NONE),
        "Space" => (KeyCode::Char(' '), KeyModifiers::NONE),
        "Up" => (KeyCode::Up, KeyModifiers::NONE),
        "Down" => (KeyCode::Down, KeyModifiers::NONE),
        "PgUp" => (KeyCode::PageUp, KeyModifiers::NONE),
        "End" => (KeyCode::End, KeyModifiers::NONE),
        "Backspace" => (KeyCode::Backspace, KeyModifiers::NONE),
        "Ctrl-C" => (KeyCode::Char('c'), KeyModifiers::CONTROL),
        "F2" => (KeyCode::F(2), KeyModifiers::NONE),
        "F4" => (KeyCode::F(4), KeyModifiers::NONE),
        "F5" => (KeyCode::F(5), KeyModifiers::NONE),
        "F6" => (KeyCode::F(6), KeyModifiers::NONE),
        "Right" => (KeyCode::Right, KeyModifiers::NONE),
        "Left" => (KeyCode::Left, KeyModifiers::NONE),
        "Alt-5" => (KeyCode::Char('5'), KeyModifiers::ALT),
        "Ctrl-L" => (KeyCode::Char('l'), KeyModifiers::CONTROL),
        "Ctrl-N" => (KeyCode::Char('n'), KeyModifiers::CONTROL),
        "Ctrl-X" => (KeyCode::Char('x'), KeyModifiers::CONTROL),
        "Ctrl-Y" => (KeyCode::Char('y'), KeyModifiers::CONTROL),
        "Ctrl-Z" => (KeyCode::Char('z'), KeyModifiers::CONTROL),
        letter => {
            let mut letters = letter.chars();
            let code = KeyCode::Char(letters.next().unwrap());
            assert_eq!(letters.next(), None, "no key is called {letter}");
            (code, KeyModifiers::NONE)
        }
    };
    KeyEvent::new(code, modifiers)
}
