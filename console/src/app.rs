//! The console on a screen: one loop takes in what happens, and does what comes of it.

use std::io;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossterm::event::{Event as TerminalEvent, EventStream};
use futures::StreamExt;
use hotswap_protocol::{ErrorKind, WireError};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::cli::Failure;
use crate::session::{self, LogLine, Options, Order, Session};
use crate::signals::Termination;
use crate::state::State;
use crate::terminal::Screen;
use crate::update::{Effect, Event, Input, update};
use crate::view::{self, Theme};

/// What comes by itself is drawn at most this often; what a person does, at once.
const FRAME: Duration = Duration::from_millis(33);
/// How often the spinner turns while a job runs.
const TICK: Duration = Duration::from_millis(200);
/// How many log lines are taken in between two looks at the keyboard.
const LOG_BATCH: usize = 1024;

/// Runs the console until a person leaves it.
pub async fn run(options: Options, theme: Theme) -> Result<(), Failure> {
    let termination = Termination::listen()?;
    let screen = Screen::take()?;
    let state = State::new(screen.size()?);
    let mut app = App { screen, state, theme, draw_at: None, last_draw: None, is_visible: true };
    app.draw();
    let session = session::start(options);
    let outcome = app.live(session, termination).await;
    drop(app);
    match outcome {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

struct App {
    screen: Screen,
    state: State,
    theme: Theme,
    /// When the next frame is due; none when nothing changed.
    draw_at: Option<Instant>,
    last_draw: Option<Instant>,
    /// False once the terminal is gone; then the session is only brought to its end.
    is_visible: bool,
}

/// How the loop goes on.
enum Next {
    GoOn,
    Leave(Option<WireError>),
}

impl App {
    /// Takes in what happens until the session is over; its error, if it has one.
    async fn live(
        &mut self,
        mut session: Session,
        mut termination: Termination,
    ) -> Option<WireError> {
        let mut keyboard = EventStream::new();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut logs = Vec::with_capacity(LOG_BATCH);
        let mut logs_are_open = true;
        loop {
            let draw_at = self.draw_at;
            let frame = pin!(async move {
                match draw_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            });
            // In the order of what must not wait for what.
            let input = tokio::select! {
                biased;
                event = keyboard.next(), if self.is_visible => match terminal_input(event) {
                    Some(input) => input,
                    None => continue,
                },
                () = termination.recv() => Input::Terminate,
                () = frame => {
                    self.draw();
                    continue;
                }
                event = session.events.recv() => match event {
                    Some(event) => Input::Session(event),
                    None => return Some(WireError::new(
                        ErrorKind::Internal,
                        "the session stopped unexpectedly",
                    )),
                },
                count = session.logs.recv_many(&mut logs, LOG_BATCH), if logs_are_open => {
                    logs_are_open = count > 0;
                    Input::Logs(take_batch(&mut logs))
                }
                _ = tick.tick(), if self.state.job.is_some() => Input::Tick,
            };
            if let Next::Leave(error) = self.take_in(input, &session).await {
                return error;
            }
        }
    }

    async fn take_in(&mut self, input: Input, session: &Session) -> Next {
        let at_once = matches!(input, Input::Key(_) | Input::Paste(_) | Input::Resize(..));
        for effect in update(&mut self.state, Event { at_ms: now_ms(), input }) {
            match effect {
                Effect::Draw if at_once => self.draw_at = Some(Instant::now()),
                Effect::Draw => self.draw_soon(),
                Effect::Order(order) => {
                    if session.orders.try_send(order).is_err() {
                        self.state.complain("the session is busy; try again");
                    }
                }
                Effect::Copy(text) => {
                    if let Err(error) = self.screen.copy(&text) {
                        self.state.complain(format!("cannot copy: {error}"));
                    }
                }
                Effect::Suspend => {
                    if let Err(error) = self.screen.suspend().await {
                        self.lose_screen(session, &error);
                    }
                }
                Effect::Exit(error) => return Next::Leave(error),
            }
        }
        if at_once && self.draw_at.is_some() {
            self.draw();
        }
        if !self.is_visible {
            // Said again each time: the queue of orders may have been full.
            let _ = session.orders.try_send(Order::End);
        }
        Next::GoOn
    }

    fn draw_soon(&mut self) {
        if self.draw_at.is_none() {
            let now = Instant::now();
            self.draw_at = Some(self.last_draw.map_or(now, |last| now.max(last + FRAME)));
        }
    }

    fn draw(&mut self) {
        self.draw_at = None;
        if !self.is_visible {
            return;
        }
        let (state, theme) = (&self.state, &self.theme);
        if self.screen.draw(|frame| view::draw(frame, state, theme)).is_err() {
            self.is_visible = false;
        }
        self.last_draw = Some(Instant::now());
    }

    fn lose_screen(&mut self, session: &Session, error: &io::Error) {
        self.is_visible = false;
        self.state.complain(error.to_string());
        let _ = session.orders.try_send(Order::End);
    }
}

fn take_batch(logs: &mut Vec<LogLine>) -> Vec<LogLine> {
    std::mem::replace(logs, Vec::with_capacity(LOG_BATCH))
}

/// What the terminal tells; none for what does not matter.
fn terminal_input(event: Option<io::Result<TerminalEvent>>) -> Option<Input> {
    match event {
        Some(Ok(TerminalEvent::Key(key))) => Some(Input::Key(key)),
        Some(Ok(TerminalEvent::Paste(text))) => Some(Input::Paste(text)),
        Some(Ok(TerminalEvent::Resize(width, height))) => Some(Input::Resize(width, height)),
        Some(Ok(_)) => None,
        // Without a keyboard nobody could ever leave.
        Some(Err(_)) | None => Some(Input::Terminate),
    }
}

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
