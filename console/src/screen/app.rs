//! The console on a screen: one loop takes in what happens, and does what comes of it.

use std::io;
use std::pin::pin;
use std::time::Duration;

use crossterm::event::Event as TerminalEvent;
use hotswap_protocol::{ErrorKind, WireError};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::cli::fleet::{PlaceArguments, named};
use crate::failure::Failure;
use crate::screen::config::Config;
use crate::screen::editor::{self, Editing};
use crate::screen::fleet::{Desk, next_news};
use crate::screen::keyboard::Keyboard;
use crate::screen::layout::{Panel, Tab};
use crate::screen::model::fleet::FleetTab;
use crate::screen::model::overlay::Overlay;
use crate::screen::model::{Phase, Place, State};
use crate::screen::remembered::{history, screens};
use crate::screen::terminal::{self, Screen};
use crate::screen::update::{Effect, Event, Input, update};
use crate::screen::view::{self, Themes};
use crate::screen::writer::{Files, Work};
use crate::session::{self, LogLine, Options, Order, Session, SessionEvent, Target};
use crate::signals::{Asked, Termination};
use hotswap_protocol::clock::now_ms;

/// What comes by itself is drawn at most this often; what a person does, at once.
const FRAME: Duration = Duration::from_millis(33);
/// How often the spinner turns while a job runs, and how often is looked whether what waits to be shown is.
const TICK: Duration = Duration::from_millis(200);
/// What another program writes over the screen is drawn over after this time: so its next lines come in one.
const REPAINT: Duration = Duration::from_millis(250);
/// How many log lines are taken in between two looks at the keyboard.
const LOG_BATCH: usize = 1024;

/// Runs the console until a person leaves it; a problem of the configuration is shown first.
pub async fn run(
    options: Options,
    fleet: Option<PlaceArguments>,
    config: Config,
    problem: Option<String>,
) -> Result<(), Failure> {
    let termination = Termination::listen()?;
    // The terminal is asked before its keys are read, or its answer would be taken for some.
    let look = config.themes.start().unwrap_or_else(terminal::look);
    let mut screen = Screen::take()?;
    screen.watch_others();
    let mut state = State::new(screen.size()?);
    state.look = look;
    state.keymap = config.keymap;
    state.overlay = problem.map(Overlay::bad_configuration);
    let themes = config.themes;
    if let Some(path) = history::path() {
        match history::load(&path) {
            Ok(history) => state.functions.history = history,
            Err(error) => state.complain(format!("{}: {error}", path.display())),
        }
    }
    if let Some(path) = screens::path() {
        match screens::load(&path) {
            Ok(memory) => state.memory = memory,
            Err(error) => state.complain(format!("{}: {error}", path.display())),
        }
    }
    let named = fleet.as_ref().map(named).unwrap_or_default();
    if fleet.is_some() {
        state.fleet = FleetTab::of(named.clone());
    }
    if options.target == Target::Nothing {
        state.host.phase = Phase::Absent;
        (state.tab, state.focus, state.zoomed) = (Tab::Fleet, Panel::Tabs, true);
    }
    let Session { orders, events, logs } = session::start(options);
    let mut app = App {
        screen,
        state,
        themes,
        editor: config.editor,
        orders,
        files: Files::start(),
        fleet: fleet.map(Desk::start),
        named,
        draw_at: None,
        last_draw: None,
        repaint_at: None,
        is_visible: true,
        keyboard: Some(Keyboard::read()),
        editing: None,
        pending: Vec::new(),
    };
    app.draw();
    let outcome = app.live(events, logs, termination).await;
    if let Some(path) = screens::path() {
        // The next console looks as the first did when this is not kept.
        let _ = screens::keep(&path, &app.state);
    }
    // What is told of the error belongs on the ordinary screen.
    drop(app);
    match outcome {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

struct App {
    screen: Screen,
    state: State,
    themes: Themes,
    /// The editor's command line, where it is configured.
    editor: Option<String>,
    orders: mpsc::Sender<Order>,
    files: Files,
    /// What looks at the fleet, where one is known.
    fleet: Option<Desk>,
    /// The arguments that name the fleet on a command line.
    named: Vec<String>,
    /// When the next frame is due; none when nothing changed.
    draw_at: Option<Instant>,
    last_draw: Option<Instant>,
    /// When all is drawn anew, since another program has written over it.
    repaint_at: Option<Instant>,
    /// False once the terminal is gone; then the session is only brought to its end.
    is_visible: bool,
    /// None while another program has the terminal: what reads the keyboard would take its keys.
    keyboard: Option<Keyboard>,
    /// The editor, or another console, while it has the terminal.
    editing: Option<Editing>,
    /// What is to be taken in before anything else.
    pending: Vec<Input>,
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
        mut events: mpsc::Receiver<SessionEvent>,
        mut logs: mpsc::Receiver<LogLine>,
        mut termination: Termination,
    ) -> Option<WireError> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(LOG_BATCH);
        let mut logs_are_open = true;
        loop {
            if let Some(input) = self.pending.pop() {
                match self.take_in(input).await {
                    Next::GoOn => continue,
                    Next::Leave(error) => return error,
                }
            }
            let (frame, repaint) = (pin!(at(self.draw_at)), pin!(at(self.repaint_at)));
            // In the order of what must not wait for what.
            let input = tokio::select! {
                biased;
                Some(event) = next_of(&mut self.keyboard) => match event {
                    Some(Ok(event)) => match terminal_input(event) {
                        Some(input) => input,
                        None => continue,
                    },
                    // Without a keyboard nobody could ever leave.
                    Some(Err(_)) | None => {
                        self.keyboard = None;
                        Input::Terminate
                    }
                },
                Some(outcome) = end_of(&mut self.editing) => {
                    self.close_editor(outcome);
                    continue;
                }
                asked = termination.recv() => match &self.editing {
                    Some(_) if asked == Asked::Interrupt => continue,
                    editing => {
                        editing.iter().for_each(Editing::stop);
                        Input::Terminate
                    }
                },
                () = frame => {
                    self.draw();
                    continue;
                }
                () = self.screen.written_over(), if self.editing.is_none() => {
                    self.repaint_at.get_or_insert_with(|| Instant::now() + REPAINT);
                    continue;
                }
                () = repaint => {
                    self.repaint_at = None;
                    Input::WrittenOver(self.screen.others())
                }
                told = self.files.told() => Input::Told(told),
                Some(news) = next_news(&mut self.fleet) => Input::Fleet(Box::new(news)),
                event = events.recv() => match event {
                    Some(event) => Input::Session(Box::new(event)),
                    None => return Some(WireError::new(
                        ErrorKind::Internal,
                        "the session stopped unexpectedly",
                    )),
                },
                count = logs.recv_many(&mut batch, LOG_BATCH), if logs_are_open => {
                    logs_are_open = count > 0;
                    Input::Logs(std::mem::replace(&mut batch, Vec::with_capacity(LOG_BATCH)))
                }
                _ = tick.tick(), if self.state.changes_by_itself() => Input::Tick,
                // Whatever else there is to do goes first.
                () = std::future::ready(()), if self.state.logs.is_scanning() => Input::Scan,
            };
            if let Next::Leave(error) = self.take_in(input).await {
                return error;
            }
        }
    }

    async fn take_in(&mut self, input: Input) -> Next {
        let at_once =
            matches!(input, Input::Key(_) | Input::Mouse(_) | Input::Paste(_) | Input::Resize(..));
        for effect in update(&mut self.state, Event { at_ms: now_ms(), input }) {
            match effect {
                Effect::Draw if at_once => self.draw_at = Some(Instant::now()),
                Effect::Draw => self.draw_soon(),
                Effect::Order(order) => {
                    if self.orders.try_send(order).is_err() {
                        self.state.complain("the session is busy; try again");
                    }
                }
                Effect::Fleet(order) => {
                    if !self.fleet.as_ref().is_some_and(|fleet| fleet.ask(order)) {
                        self.state.complain("the fleet is busy; try again");
                    }
                }
                Effect::Attach(host) => self.attach(&host),
                Effect::Export { name, text } => self.write(Work::Export { name, text }),
                Effect::CaptureMouse(on) => {
                    if let Err(error) = self.screen.capture_mouse(on) {
                        self.state.complain(format!("no mouse: {error}"));
                    }
                }
                Effect::Remember { key, args } => self.write(Work::Remember { key, args }),
                Effect::Copy(text) => {
                    if let Err(error) = self.screen.copy(&text) {
                        self.state.complain(format!("cannot copy: {error}"));
                    }
                }
                Effect::Redraw => {
                    let redrawn = self.screen.forget();
                    self.is_back(redrawn);
                }
                Effect::Suspend => {
                    let resumed = self.screen.suspend().await;
                    self.is_back(resumed);
                }
                Effect::Edit(place) => self.edit(&place),
                Effect::Exit(error) => return Next::Leave(error),
            }
        }
        if at_once && self.draw_at.is_some() && self.pending.is_empty() {
            self.draw();
        }
        Next::GoOn
    }

    /// Gives the terminal to the editor.
    fn edit(&mut self, place: &Place) {
        let editor = match editor::chosen(self.editor.as_deref()) {
            Ok(editor) => editor,
            Err(problem) => return self.state.complain(problem),
        };
        let place = self.found(place);
        self.give_terminal(|| editor::start(editor, &place));
    }

    /// Gives the terminal to the console of a host of the fleet.
    fn attach(&mut self, host: &str) {
        let arguments = ["attach", host].map(str::to_owned);
        let arguments: Vec<String> = arguments.into_iter().chain(self.named.clone()).collect();
        self.give_terminal(|| editor::start_console(&arguments));
    }

    fn give_terminal(&mut self, start: impl FnOnce() -> Result<Editing, String>) {
        self.keyboard = None;
        self.screen.give_back();
        match start() {
            Ok(editing) => self.editing = Some(editing),
            Err(problem) => self.close_editor(Err(problem)),
        }
    }

    /// The place, in the first directory that has its file: of a member of a workspace, the compiler knows a
    /// file by its path from the workspace's root.
    fn found(&self, place: &Place) -> Place {
        let host = &self.state.host;
        let here = std::env::current_dir().ok();
        let dirs = host.dir.iter().chain(&host.package_dirs).chain(&here);
        let mut files = dirs.flat_map(|dir| dir.ancestors()).map(|dir| dir.join(&place.file));
        let file = files.find(|file| file.is_file()).unwrap_or_else(|| place.file.clone());
        Place { file, ..place.clone() }
    }

    /// Takes the terminal again from an editor that has ended.
    fn close_editor(&mut self, outcome: Result<(), String>) {
        self.editing = None;
        self.keyboard = Some(Keyboard::read());
        let taken = self.screen.take_again();
        self.is_back(taken);
        self.pending.extend(outcome.err().map(|problem| Input::Told(Err(problem))));
    }

    /// The terminal was another program's, and may have been resized meanwhile.
    fn is_back(&mut self, taken: io::Result<()>) {
        match taken.and_then(|()| self.screen.size()) {
            Ok((width, height)) => self.pending.push(Input::Resize(width, height)),
            Err(_) => self.lose_screen(),
        }
    }

    fn write(&mut self, work: Work) {
        if !self.files.ask(work) {
            self.state.complain("the disk is too slow: something was not written");
        }
    }

    fn draw_soon(&mut self) {
        if self.draw_at.is_none() {
            let now = Instant::now();
            self.draw_at = Some(self.last_draw.map_or(now, |last| now.max(last + FRAME)));
        }
    }

    fn draw(&mut self) {
        self.draw_at = None;
        if !self.is_visible || self.editing.is_some() {
            return;
        }
        let (state, theme) = (&self.state, self.themes.of(self.state.look));
        if self.screen.draw(|frame| view::draw(frame, state, theme)).is_err() {
            self.lose_screen();
        }
        self.last_draw = Some(Instant::now());
    }

    /// Without a screen there is nothing to live for.
    fn lose_screen(&mut self) {
        self.is_visible = false;
        let orders = self.orders.clone();
        // There may be no room for another order at the moment.
        tokio::spawn(async move { orders.send(Order::End).await });
    }
}

/// Waits until then; forever where that is not known.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// The next event of the terminal; none while nobody reads it.
async fn next_of(keyboard: &mut Option<Keyboard>) -> Option<Option<io::Result<TerminalEvent>>> {
    Some(keyboard.as_mut()?.next().await)
}

/// How the editor ended; none while there is none.
async fn end_of(editing: &mut Option<Editing>) -> Option<Result<(), String>> {
    Some(editing.as_mut()?.end().await)
}

/// What the terminal tells; none for what does not matter.
fn terminal_input(event: TerminalEvent) -> Option<Input> {
    match event {
        TerminalEvent::Key(key) => Some(Input::Key(key)),
        TerminalEvent::Mouse(event) => Some(Input::Mouse(event)),
        TerminalEvent::Paste(text) => Some(Input::Paste(text)),
        TerminalEvent::Resize(width, height) => Some(Input::Resize(width, height)),
        _ => None,
    }
}
