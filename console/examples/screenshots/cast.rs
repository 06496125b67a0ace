//! A session recorded as it is drawn, in the format asciicast v2.

use std::cell::RefCell;
use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hotswap_console::screen::model::State;
use hotswap_console::screen::view::{self, Theme};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use serde_json::json;

/// Longer than this nothing happens when it is played.
const IDLE_LIMIT: f64 = 1.5;

/// A recording under way.
pub struct Recording {
    terminal: Terminal<CrosstermBackend<Output>>,
    output: Output,
    size: (u16, u16),
    began: Instant,
    /// The time that a person would have taken, and the script does not.
    paused: Duration,
    events: Vec<String>,
}

/// What would have gone to a terminal.
#[derive(Clone, Default)]
struct Output(Rc<RefCell<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Recording {
    /// Begins to record a screen of this size.
    pub fn start(size: (u16, u16)) -> io::Result<Self> {
        let output = Output::default();
        output.clone().write_all(b"\x1b[2J\x1b[H")?;
        let viewport = Viewport::Fixed(Rect::new(0, 0, size.0, size.1));
        let backend = CrosstermBackend::new(output.clone());
        let terminal = Terminal::with_options(backend, TerminalOptions { viewport })?;
        let (began, paused) = (Instant::now(), Duration::ZERO);
        Ok(Self { terminal, output, size, began, paused, events: Vec::new() })
    }

    /// Draws the screen as it is now.
    pub fn draw(&mut self, state: &State) -> io::Result<()> {
        self.terminal.draw(|frame| view::draw(frame, state, &Theme::with_colours()))?;
        let drawn = std::mem::take(&mut *self.output.0.borrow_mut());
        if !drawn.is_empty() {
            let at = (self.began.elapsed() + self.paused).as_secs_f64();
            let text = String::from_utf8_lossy(&drawn);
            self.events.push(json!([(at * 1000.0).round() / 1000.0, "o", text]).to_string());
        }
        Ok(())
    }

    /// Lets whoever watches look for so long.
    pub fn pause(&mut self, pause: Duration) {
        self.paused += pause;
    }

    /// Writes all that was recorded.
    pub fn write_to(mut self, path: &Path) -> Result<(), Box<dyn Error>> {
        // The last screen stays for a while.
        let end = (self.began.elapsed() + self.paused).as_secs_f64() + IDLE_LIMIT;
        self.events.push(json!([end, "o", ""]).to_string());
        let at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let header = json!({
            "version": 2,
            "width": self.size.0,
            "height": self.size.1,
            "timestamp": at,
            "idle_time_limit": IDLE_LIMIT,
            "title": "hotswap-console ./sample-host",
            "env": { "TERM": "xterm-256color" },
        });
        std::fs::write(path, format!("{header}\n{}\n", self.events.join("\n")))?;
        println!("{}", path.display());
        Ok(())
    }
}
