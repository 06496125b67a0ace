//! The terminal. Without one, only texts are printed.

use std::{
    io::{self, Stdout, Write as _, stdout},
    time::Duration,
};

use crossterm::{
    cursor::{Hide, MoveTo, Show},
    event::{self, Event, KeyCode, KeyModifiers},
    execute, queue,
    style::Print,
    terminal::{self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen},
};

/// The lines below the game: the result of the last reload, and the times of frames.
const LINES_BELOW: u16 = 2;

/// The screen of the game. Dropping it restores the terminal.
pub struct Screen {
    /// `None` without a terminal: then only texts are printed.
    terminal: Option<Stdout>,
    /// The text of [`show_status`](Self::show_status), below the picture.
    status: String,
}

impl Screen {
    /// Takes the terminal.
    pub fn open() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        let screen = Self { terminal: Some(stdout()), status: String::new() };
        execute!(stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }

    /// Prints texts and draws nothing.
    pub fn without_terminal() -> Self {
        Self { terminal: None, status: String::new() }
    }

    /// Whether somebody has pressed a key that ends the game.
    pub fn should_quit(&self) -> io::Result<bool> {
        while self.terminal.is_some() && event::poll(Duration::ZERO)? {
            if let Event::Key(key) = event::read()? {
                let is_interrupt = key.modifiers.contains(KeyModifiers::CONTROL);
                match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(true),
                    KeyCode::Char('c') if is_interrupt => return Ok(true),
                    _ => {}
                }
            }
        }
        Ok(false)
    }

    /// Shows a text below the picture until the next call.
    pub fn show_status(&mut self, text: &str) -> io::Result<()> {
        text.lines().next().unwrap_or_default().clone_into(&mut self.status);
        match self.terminal {
            Some(_) => Ok(()),
            None => writeln!(stdout(), "{text}"),
        }
    }

    /// Draws characters at their places, from (0, 0) to (1, 1), and a line below.
    pub fn draw(&mut self, objects: &[(f32, f32, char)], below: &str) -> io::Result<()> {
        let Some(out) = &mut self.terminal else { return Ok(()) };
        let (width, height) = terminal::size()?;
        let rows = height.saturating_sub(LINES_BELOW);
        // Truncation is correct: it gives the cell that contains the object's place.
        let cell = |place: f32, cells: u16| (place * f32::from(cells.saturating_sub(1))) as u16;
        queue!(out, Clear(ClearType::All))?;
        for (x, y, look) in objects {
            queue!(out, MoveTo(cell(*x, width), cell(*y, rows)), Print(look))?;
        }
        let status: String = self.status.chars().take(width.into()).collect();
        let below: String = below.chars().take(width.into()).collect();
        queue!(out, MoveTo(0, rows), Print(status), MoveTo(0, rows + 1), Print(below))?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.terminal.is_some() {
            let _ = execute!(stdout(), Show, LeaveAlternateScreen);
            let _ = terminal::disable_raw_mode();
        }
    }
}
