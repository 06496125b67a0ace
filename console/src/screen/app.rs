//! The application: one loop receives inputs, updates the state, and carries out the effects.

use std::io;
use std::pin::pin;
use std::time::Duration;

use crossterm::event::Event as TerminalEvent;
use hotswap_protocol::{ErrorKind, WireError};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::cli::fleet::{PlaceArguments, arguments_for_program};
use crate::failure::Failure;
use crate::screen::config::Config;
use crate::screen::editor::{self, Editing};
use crate::screen::fleet::{FleetThread, next_news};
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

/// The minimum time between two frames. A person's input is drawn at once.
const FRAME: Duration = Duration::from_millis(33);
/// The time between two ticks: the spinner turns while a job runs, and waiting notices are shown.
const TICK: Duration = Duration::from_millis(200);
/// The time from another program's output to the repaint. One repaint covers all lines of that time.
const REPAINT: Duration = Duration::from_millis(250);
/// The maximum number of log lines that are taken before the keyboard is checked again.
const LOG_BATCH: usize = 1024;

/// Runs the console until a person leaves it. A problem of the configuration is shown first.
pub async fn run(
    options: Options,
    fleet: Option<PlaceArguments>,
    config: Config,
    problem: Option<String>,
) -> Result<(), Failure> {
    let termination = Termination::listen()?;
    // The terminal is asked before the keyboard is read: otherwise its answer would count as keys.
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
            Err(error) => state.notify_failure(format!("{}: {error}", path.display())),
        }
    }
    if let Some(path) = screens::path() {
        match screens::load(&path) {
            Ok(memory) => state.memory = memory,
            Err(error) => state.notify_failure(format!("{}: {error}", path.display())),
        }
    }
    let named = fleet.as_ref().map(arguments_for_program).unwrap_or_default();
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
        fleet: fleet.map(FleetThread::start),
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
    let outcome = app.handle_inputs(events, logs, termination).await;
    if let Some(path) = screens::path() {
        // If this fails, the next console starts with the look that this one started with.
        let _ = screens::keep(&path, &app.state);
    }
    // The error must be printed on the ordinary screen.
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
    /// The command line of the editor; `None` if none is configured.
    editor: Option<String>,
    orders: mpsc::Sender<Order>,
    files: Files,
    /// The connection to the fleet; `None` if no fleet is known.
    fleet: Option<FleetThread>,
    /// The arguments that name the fleet on a command line.
    named: Vec<String>,
    /// The time when the next frame is due; `None` if nothing changed.
    draw_at: Option<Instant>,
    last_draw: Option<Instant>,
    /// The time to repaint the screen, because another program has written over it.
    repaint_at: Option<Instant>,
    /// False once the terminal is gone. Then only the session has to end.
    is_visible: bool,
    /// `None` while another program has the terminal, because reading would take that program's keys.
    keyboard: Option<Keyboard>,
    /// The editor, or another console, while it has the terminal.
    editing: Option<Editing>,
    /// The inputs to handle before anything else.
    pending: Vec<Input>,
}

/// Whether the loop goes on.
enum Next {
    GoOn,
    Leave(Option<WireError>),
}

impl App {
    /// Handles inputs until the session is over, and returns its error.
    async fn handle_inputs(
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
                match self.handle(input).await {
                    Next::GoOn => continue,
                    Next::Leave(error) => return error,
                }
            }
            let (frame, repaint) =
                (pin!(wait_until(self.draw_at)), pin!(wait_until(self.repaint_at)));
            // The order is that of urgency.
            let input = tokio::select! {
                biased;
                Some(event) = next_of(&mut self.keyboard) => match event {
                    Some(Ok(event)) => match terminal_input(event) {
                        Some(input) => input,
                        None => continue,
                    },
                    // Without a keyboard, nobody could leave the console.
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
                result = self.files.next_result() => Input::FileResult(result),
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
                // Everything else goes first.
                () = std::future::ready(()), if self.state.logs.is_scanning() => Input::Scan,
            };
            if let Next::Leave(error) = self.handle(input).await {
                return error;
            }
        }
    }

    async fn handle(&mut self, input: Input) -> Next {
        let at_once =
            matches!(input, Input::Key(_) | Input::Mouse(_) | Input::Paste(_) | Input::Resize(..));
        for effect in update(&mut self.state, Event { at_ms: now_ms(), input }) {
            match effect {
                Effect::Draw if at_once => self.draw_at = Some(Instant::now()),
                Effect::Draw => self.draw_soon(),
                Effect::Order(order) => {
                    if self.orders.try_send(order).is_err() {
                        self.state.notify_failure("the session is busy; try again");
                    }
                }
                Effect::Fleet(order) => {
                    if !self.fleet.as_ref().is_some_and(|fleet| fleet.send(order)) {
                        self.state.notify_failure("the fleet is busy; try again");
                    }
                }
                Effect::Attach(host) => self.attach(&host),
                Effect::Export { name, text } => self.write(Work::Export { name, text }),
                Effect::CaptureMouse(on) => {
                    if let Err(error) = self.screen.capture_mouse(on) {
                        self.state.notify_failure(format!("no mouse: {error}"));
                    }
                }
                Effect::Remember { key, args } => self.write(Work::Remember { key, args }),
                Effect::Copy(text) => {
                    if let Err(error) = self.screen.copy(&text) {
                        self.state.notify_failure(format!("cannot copy: {error}"));
                    }
                }
                Effect::Redraw => {
                    let redrawn = self.screen.forget();
                    self.resume_terminal(redrawn);
                }
                Effect::Suspend => {
                    let resumed = self.screen.suspend().await;
                    self.resume_terminal(resumed);
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
            Err(problem) => return self.state.notify_failure(problem),
        };
        let place = self.locate(place);
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

    /// The place, with its file in the first directory that has it. For a member of a workspace, the compiler gives
    /// paths from the root of the workspace.
    fn locate(&self, place: &Place) -> Place {
        let host = &self.state.host;
        let here = std::env::current_dir().ok();
        let dirs = host.dir.iter().chain(&host.package_dirs).chain(&here);
        let mut files = dirs.flat_map(|dir| dir.ancestors()).map(|dir| dir.join(&place.file));
        let file = files.find(|file| file.is_file()).unwrap_or_else(|| place.file.clone());
        Place { file, ..place.clone() }
    }

    /// Takes the terminal back from an editor that has ended.
    fn close_editor(&mut self, outcome: Result<(), String>) {
        self.editing = None;
        self.keyboard = Some(Keyboard::read());
        let taken = self.screen.take_again();
        self.resume_terminal(taken);
        self.pending.extend(outcome.err().map(|problem| Input::FileResult(Err(problem))));
    }

    /// Continues after another program had the terminal, which may have been resized meanwhile.
    fn resume_terminal(&mut self, taken: io::Result<()>) {
        match taken.and_then(|()| self.screen.size()) {
            Ok((width, height)) => self.pending.push(Input::Resize(width, height)),
            Err(_) => self.lose_screen(),
        }
    }

    fn write(&mut self, work: Work) {
        if !self.files.send(work) {
            self.state.notify_failure("the disk is too slow: something was not written");
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

    /// Ends the session, because the screen is lost.
    fn lose_screen(&mut self) {
        self.is_visible = false;
        let orders = self.orders.clone();
        // The queue of orders may be full now.
        tokio::spawn(async move { orders.send(Order::End).await });
    }
}

/// Waits until this time; forever if there is none.
async fn wait_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// The next event of the terminal; `None` while the keyboard is not read.
async fn next_of(keyboard: &mut Option<Keyboard>) -> Option<Option<io::Result<TerminalEvent>>> {
    Some(keyboard.as_mut()?.next().await)
}

/// The result of the editor; `None` while there is no editor.
async fn end_of(editing: &mut Option<Editing>) -> Option<Result<(), String>> {
    Some(editing.as_mut()?.end().await)
}

/// The input for an event of the terminal; `None` if the event does not matter.
fn terminal_input(event: TerminalEvent) -> Option<Input> {
    match event {
        TerminalEvent::Key(key) => Some(Input::Key(key)),
        TerminalEvent::Mouse(event) => Some(Input::Mouse(event)),
        TerminalEvent::Paste(text) => Some(Input::Paste(text)),
        TerminalEvent::Resize(width, height) => Some(Input::Resize(width, height)),
        _ => None,
    }
}
