//! The terminal: taking it, and giving it back.

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

/// The time in which a terminal must report its colours. After it, the colours count as unknown.
const ANSWER_TIME: Duration = Duration::from_millis(100);
/// Whether this process has taken the terminal.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// The maximum time to wait for the signal that continues this process. A shell may ignore the stop, and then no signal
/// comes.
const RESUME_PATIENCE: Duration = Duration::from_millis(200);

/// The terminal while this process has it. Dropping this gives it back.
pub struct Screen {
    terminal: OutputTerminal,
    has_mouse: bool,
    /// `None` if the system does not report what other programs write.
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

    /// Watches from now on what other programs write over the screen. Needs an async runtime.
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
            // No more reports will come.
            std::future::pending().await
        }
    }

    /// The programs that may have written over the screen.
    pub fn others(&self) -> Vec<Program> {
        self.others.as_ref().map(Others::programs).unwrap_or_default()
    }

    /// Marks everything written until now as output of this process, or of a program that had the terminal.
    fn wrote(&self) {
        self.others.iter().for_each(Others::forget);
    }

    /// The number of columns and rows.
    pub fn size(&self) -> io::Result<(u16, u16)> {
        let size = self.terminal.size()?;
        Ok((size.width, size.height))
    }

    /// Draws a frame. Fails if the terminal was given back, for example by a panic on another thread.
    pub fn draw(&mut self, render: impl FnOnce(&mut ratatui::Frame<'_>)) -> io::Result<()> {
        if !TAKEN.load(Ordering::SeqCst) {
            return Err(io::Error::other("the terminal was given back"));
        }
        self.terminal.draw(render)?;
        self.wrote();
        Ok(())
    }

    /// Puts the text into the clipboard of the person at the terminal.
    pub fn copy(&mut self, text: &str) -> io::Result<()> {
        let mut out = stdout();
        queue!(out, CopyToClipboard::to_clipboard_from(text))?;
        out.flush()?;
        self.wrote();
        Ok(())
    }

    /// Takes clicks and the wheel from the terminal, or leaves them to it. Movements are not requested, because each
    /// one would wake the console.
    pub fn capture_mouse(&mut self, on: bool) -> io::Result<()> {
        self.has_mouse = on;
        write_mouse(on)?;
        self.wrote();
        Ok(())
    }

    /// Gives the terminal back, stops this process as Ctrl-Z does, and takes the terminal again when the process is
    /// continued.
    pub async fn suspend(&mut self) -> io::Result<()> {
        let mut continued = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
        self.give_back();
        kill_current_process_group(Signal::TSTP)?;
        let _ = tokio::time::timeout(RESUME_PATIENCE, continued.recv()).await;
        self.take_again()
    }

    /// Clears the screen, so that the next frame draws all of it. Other programs may have written over it.
    pub fn forget(&mut self) -> io::Result<()> {
        execute!(stdout(), Clear(ClearType::All))?;
        self.wrote();
        self.terminal = blank_terminal()?;
        Ok(())
    }

    /// Gives the terminal back, for example to another program.
    pub fn give_back(&mut self) {
        restore();
    }

    /// Takes the terminal again, with the settings from before. The next frame draws all of it.
    pub fn take_again(&mut self) -> io::Result<()> {
        take()?;
        // `Terminal::clear` would ask the terminal for the cursor's position, and the keyboard would take the answer
        // for keys.
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

/// A terminal that assumes a blank screen, so that the first frame draws all of it.
fn blank_terminal() -> io::Result<OutputTerminal> {
    Terminal::new(CrosstermBackend::new(BufWriter::with_capacity(64 * 1024, stdout())))
}

/// Turns reports of buttons and the wheel on or off, in the mode that supports large screens.
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

/// Gives the terminal back. Further calls do nothing.
pub fn restore() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // Errors mean that the terminal is gone, and do not matter.
        let _ = write_mouse(false);
        let _ = execute!(stdout(), DisableBracketedPaste, LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

/// The look that suits the terminal's background. Call this before the keyboard is read: otherwise the answer would
/// count as keys.
pub fn look() -> Look {
    let mut options = QueryOptions::default();
    options.timeout = ANSWER_TIME;
    match theme_mode(options) {
        Ok(ThemeMode::Light) => Look::Light,
        Ok(ThemeMode::Dark) | Err(_) => Look::Dark,
    }
}

/// Makes a panic give the terminal back before its message is printed.
pub fn restore_on_panic() {
    let earlier_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        restore();
        earlier_hook(panic);
    }));
}
