//! The terminal, taken and given back.

use std::io::{self, BufWriter, Stdout, Write, stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossterm::clipboard::CopyToClipboard;
use crossterm::cursor::Show;
use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{execute, queue};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use rustix::process::{Signal, kill_current_process_group};
use terminal_colorsaurus::{QueryOptions, ThemeMode, theme_mode};
use tokio::signal::unix::{SignalKind, signal};

use crate::screen::model::{Look, Program};
use crate::screen::others::Others;

/// A terminal that does not tell its colours in this time does not tell them.
const ANSWER_TIME: Duration = Duration::from_millis(100);
/// Whether the terminal is ours at the moment.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// A shell may ignore the stop, and then nothing continues us; so the wait for that is bounded.
const RESUME_PATIENCE: Duration = Duration::from_millis(200);

/// The terminal while it is ours; dropping this gives it back.
pub struct Screen {
    terminal: OutputTerminal,
    has_mouse: bool,
    /// None where the system does not tell what others write on the terminal.
    others: Option<Others>,
}

type OutputTerminal = Terminal<CrosstermBackend<BufWriter<Stdout>>>;

impl Screen {
    /// Takes the terminal: raw mode, the alternate screen, bracketed paste.
    pub fn take() -> io::Result<Self> {
        take()?;
        let terminal = blank_terminal().inspect_err(|_| restore())?;
        Ok(Self { terminal, has_mouse: false, others: None })
    }

    /// Notices from now on what other programs write over the screen. Needs an async runtime.
    pub fn watch_others(&mut self) {
        self.others = Others::watch().ok();
    }

    /// Waits until another program has written over the screen.
    pub async fn written_over(&self) {
        let wrote = match &self.others {
            Some(others) => others.wrote().await,
            None => std::future::pending().await,
        };
        if wrote.is_err() {
            // Nothing is told any more.
            std::future::pending().await
        }
    }

    /// The programs that can have done that.
    pub fn others(&self) -> Vec<Program> {
        self.others.as_ref().map(Others::programs).unwrap_or_default()
    }

    /// What was written on the terminal until now, this process has written, or another that had the terminal.
    fn wrote(&self) {
        self.others.iter().for_each(Others::forget);
    }

    /// Columns and rows.
    pub fn size(&self) -> io::Result<(u16, u16)> {
        let size = self.terminal.size()?;
        Ok((size.width, size.height))
    }

    /// Draws a frame. Fails when the terminal is no longer ours, as after a panic elsewhere.
    pub fn draw(&mut self, render: impl FnOnce(&mut ratatui::Frame<'_>)) -> io::Result<()> {
        if !TAKEN.load(Ordering::SeqCst) {
            return Err(io::Error::other("the terminal was given back"));
        }
        self.terminal.draw(render)?;
        self.wrote();
        Ok(())
    }

    /// Puts the text into the clipboard of whoever looks at the terminal.
    pub fn copy(&mut self, text: &str) -> io::Result<()> {
        let mut out = stdout();
        queue!(out, CopyToClipboard::to_clipboard_from(text))?;
        out.flush()?;
        self.wrote();
        Ok(())
    }

    /// Takes clicks and the wheel from the terminal, or leaves them to it. Movements are not asked
    /// for: each would wake the console.
    pub fn capture_mouse(&mut self, on: bool) -> io::Result<()> {
        self.has_mouse = on;
        write_mouse(on)?;
        self.wrote();
        Ok(())
    }

    /// Gives the terminal back, stops this process as Ctrl-Z does, and takes the terminal again
    /// once it is continued.
    pub async fn suspend(&mut self) -> io::Result<()> {
        let mut continued = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
        self.give_back();
        kill_current_process_group(Signal::TSTP)?;
        let _ = tokio::time::timeout(RESUME_PATIENCE, continued.recv()).await;
        self.take_again()
    }

    /// Forgets what is on the screen, so that all of it is drawn: others may have written over it.
    pub fn forget(&mut self) -> io::Result<()> {
        execute!(stdout(), Clear(ClearType::All))?;
        self.wrote();
        self.terminal = blank_terminal()?;
        Ok(())
    }

    /// Gives the terminal back, to another program say.
    pub fn give_back(&mut self) {
        restore();
    }

    /// Takes the terminal again, as it was before it was given back; all of it has to be drawn.
    pub fn take_again(&mut self) -> io::Result<()> {
        take()?;
        // `Terminal::clear` would ask the terminal where its cursor is, and the keyboard's reader
        // would take the answer for keys.
        self.terminal = blank_terminal()?;
        if self.has_mouse {
            write_mouse(true)?;
        }
        self.wrote();
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// A terminal that takes the screen to be blank, and so draws all of it.
fn blank_terminal() -> io::Result<OutputTerminal> {
    Terminal::new(CrosstermBackend::new(BufWriter::with_capacity(64 * 1024, stdout())))
}

/// Buttons and the wheel, told in the way that knows of large screens.
fn write_mouse(on: bool) -> io::Result<()> {
    let mode = if on { 'h' } else { 'l' };
    let mut out = stdout();
    write!(out, "\x1b[?1000{mode}\x1b[?1006{mode}")?;
    out.flush()
}

fn take() -> io::Result<()> {
    enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste).inspect_err(|_| restore())
}

/// Gives the terminal back, once, however often it is called.
pub fn restore() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // A terminal that is gone needs nothing.
        let _ = write_mouse(false);
        let _ = execute!(stdout(), DisableBracketedPaste, LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

/// The look that suits the terminal's background. It is asked before its keys are read, or its answer
/// would be taken for some.
pub fn look() -> Look {
    let mut options = QueryOptions::default();
    options.timeout = ANSWER_TIME;
    match theme_mode(options) {
        Ok(ThemeMode::Light) => Look::Light,
        Ok(ThemeMode::Dark) | Err(_) => Look::Dark,
    }
}

/// Makes a panic give the terminal back before it is told of.
pub fn restore_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        restore();
        tell(panic);
    }));
}
