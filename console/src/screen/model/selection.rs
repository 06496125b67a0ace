//! The selected line of a text that scrolls.

use super::plugins::step;
use crate::screen::input::action::Motion;

/// The selected line of a text, and the visible part of the text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Selection {
    /// The selected line.
    pub line: usize,
    /// The first visible line, if the text is long enough.
    top: usize,
}

impl Selection {
    /// The selection of the last of `length` lines, where `page` are visible.
    pub fn last(length: usize, page: usize) -> Self {
        Self { line: length.saturating_sub(1), top: length.saturating_sub(page) }
    }

    /// The selection of this line, which is the first visible one.
    pub fn from(line: usize) -> Self {
        Self { line, top: line }
    }

    /// The first visible line of `length`, where `page` are visible.
    pub fn top(&self, length: usize, page: usize) -> usize {
        self.top.min(length.saturating_sub(page))
    }

    /// Selects a line, and scrolls only as far as necessary.
    pub fn select(&mut self, line: usize, length: usize, page: usize) {
        let least = (line + 1).saturating_sub(page.max(1));
        self.top = self.top(length, page).clamp(least, line);
        self.line = line;
    }

    /// Moves the selected line.
    pub fn move_by(&mut self, motion: Motion, length: usize, page: usize) {
        if let Some(to) = step(motion, self.line, length, page) {
            self.select(to, length, page);
        }
    }

    /// Scrolls like a wheel. The selection moves if its line would leave the screen.
    pub fn scroll(&mut self, lines: usize, up: bool, length: usize, page: usize) {
        let top = self.top(length, page);
        let top = if up { top.saturating_sub(lines) } else { top + lines };
        self.top = top.min(length.saturating_sub(page));
        self.line = self.line.clamp(self.top, self.top + page.saturating_sub(1));
        self.line = self.line.min(length.saturating_sub(1));
    }

    /// Shifts the selection when the first line of the text is removed.
    pub fn lose_first(&mut self) {
        self.line = self.line.saturating_sub(1);
        self.top = self.top.saturating_sub(1);
    }
}
