//! The console without a terminal, driven by a script.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use hotswap_console::compare::probe::Prober;
use hotswap_console::screen::input::action::Action;
use hotswap_console::screen::layout::Panel;
use hotswap_console::screen::model::State;
use hotswap_console::screen::update::{self, Effect, Input};
use hotswap_console::screen::view::{self, Theme};
use hotswap_console::session::{self, Options, Order, Session, SessionEvent, Target, Watch};
use hotswap_protocol::Event;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use crate::cast::Recording;
use crate::svg;

/// How long a person takes from key to key.
const KEY: Duration = Duration::from_millis(110);
/// How long a person looks at something new.
const LOOK: Duration = Duration::from_millis(1_400);

/// The console without a terminal.
pub struct Console {
    pub state: State,
    session: Session,
    recording: Option<Recording>,
}

impl Console {
    pub fn start(host: &Path, size: (u16, u16)) -> Self {
        let session = session::start(Options {
            target: Target::Package(host.to_owned()),
            plugin_dir: None,
            host_arguments: vec!["--port".into(), "0".into()],
            // A build of its own would take the place of the one that is to be reloaded.
            cargo_flags: Vec::new(),
            poll: None,
            patch: true,
            watch: Watch::Off,
            client_name: "screenshots",
            prober: Prober::this_program(),
            has_screen: false,
        });
        Self { state: State::new(size), session, recording: None }
    }

    /// Records what is on the screen from now on.
    pub fn record(&mut self) -> Result<(), Box<dyn Error>> {
        self.recording = Some(Recording::start(self.state.size)?);
        self.draw()
    }

    /// Ends the recording.
    pub fn recorded(&mut self) -> Option<Recording> {
        self.recording.take()
    }

    fn draw(&mut self) -> Result<(), Box<dyn Error>> {
        if let Some(recording) = &mut self.recording {
            recording.draw(&self.state)?;
        }
        Ok(())
    }

    fn pause(&mut self, pause: Duration) {
        if let Some(recording) = &mut self.recording {
            recording.pause(pause);
        }
    }

    /// Lets whoever watches look.
    pub fn look(&mut self) {
        self.pause(LOOK);
    }

    /// Takes in what happens until the state is as wanted.
    pub async fn until(
        &mut self,
        what: &str,
        wanted: impl Fn(&State) -> bool,
    ) -> Result<(), Box<dyn Error>> {
        while !wanted(&self.state) {
            let input = tokio::select! {
                event = self.session.events.recv() => match event {
                    Some(SessionEvent::Ended { error }) => {
                        return Err(format!("the session ended before {what}: {error:?}").into());
                    }
                    Some(SessionEvent::Engine(Event::ReloadFailed { error, .. })) => {
                        return Err(error.into());
                    }
                    Some(event) => Input::Session(Box::new(event)),
                    None => return Err(format!("the session stopped before {what}").into()),
                },
                Some(line) = self.session.logs.recv() => Input::Logs(vec![line]),
            };
            self.take_in(input)?;
        }
        Ok(())
    }

    pub fn take_in(&mut self, input: Input) -> Result<(), Box<dyn Error>> {
        let effects = update::update(&mut self.state, update::Event { at_ms: now_ms(), input });
        self.obey(effects);
        self.draw()
    }

    pub fn act(&mut self, action: Action) -> Result<(), Box<dyn Error>> {
        let effects = update::act(&mut self.state, action);
        self.obey(effects);
        // What follows from an action by itself is asked for with the next event.
        self.take_in(Input::Tick)
    }

    fn obey(&self, effects: Vec<Effect>) {
        for effect in effects {
            if let Effect::Order(order) = effect {
                self.order(order);
            }
        }
    }

    fn order(&self, order: Order) {
        // Only a session that is over takes none, and then nothing that is waited for comes.
        let _ = self.session.orders.try_send(order);
    }

    pub fn press(&mut self, code: KeyCode) -> Result<(), Box<dyn Error>> {
        self.pause(KEY);
        self.take_in(Input::Key(KeyEvent::new(code, KeyModifiers::NONE)))
    }

    /// Types these texts into the fields of the form.
    pub fn fill_in(&mut self, texts: &[&str]) -> Result<(), Box<dyn Error>> {
        self.state.focus = Panel::Tabs;
        for text in texts {
            let clear = KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL);
            self.take_in(Input::Key(clear))?;
            for letter in text.chars() {
                self.press(KeyCode::Char(letter))?;
            }
            self.press(KeyCode::Tab)?;
        }
        Ok(())
    }

    /// Calls what the form says, and waits for the answer.
    pub async fn submit(&mut self) -> Result<(), Box<dyn Error>> {
        self.press(KeyCode::Enter)?;
        self.until("an answer", |state| !state.functions.has_running_calls()).await
    }

    /// Draws the screen as a picture of this size.
    pub fn draw_to(&self, path: &Path, (width, height): (u16, u16)) -> Result<(), Box<dyn Error>> {
        let mut terminal = Terminal::new(TestBackend::new(width, height))?;
        terminal.draw(|frame| view::draw(frame, &self.state, &Theme::with_colours()))?;
        std::fs::write(path, svg::picture(terminal.backend().buffer()))?;
        println!("{}", path.display());
        Ok(())
    }

    pub async fn end(mut self) -> Result<(), Box<dyn Error>> {
        self.order(Order::End);
        while let Some(event) = self.session.events.recv().await {
            if let SessionEvent::Ended { error: Some(error) } = event {
                return Err(error.into());
            }
        }
        Ok(())
    }
}

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
