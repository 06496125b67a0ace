//! What cargo said in the last builds.

use std::collections::VecDeque;

use crate::action::Motion;
use crate::session::{BuildLine, Job};

/// How many lines are kept.
const CAPACITY: usize = 5_000;

/// The Build tab.
#[derive(Default)]
pub struct Builds {
    lines: VecDeque<Line>,
    /// The first visible line; none while the newest stay in sight.
    top: Option<usize>,
    /// What did not compile when it was last built.
    failed: Vec<Job>,
}

/// A line of the builds' output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its text, with the compiler's colours.
    pub text: String,
    /// What sort it is.
    pub sort: LineSort,
}

/// What sort of line it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineSort {
    /// Where a build begins or ends.
    Heading,
    /// The first line of an error.
    Error,
    /// Anything else.
    Plain,
}

impl Builds {
    /// A build begins. The errors of another one stay in sight.
    pub fn begin(&mut self, job: &Job, title: &str) {
        self.push(title, LineSort::Heading);
        if self.failed.is_empty() || self.failed.contains(job) {
            self.top = None;
        }
    }

    /// A build ended; a failed one is shown from its first error.
    pub fn end(&mut self, job: &Job, title: &str, failed: bool) {
        self.push(title, LineSort::Heading);
        self.failed.retain(|other| other != job);
        if failed {
            self.failed.push(job.clone());
            let end = self.lines.len().saturating_sub(1);
            let is = |position: usize, sort| self.lines[position].sort == sort;
            let start = (0..end).rev().find(|&it| is(it, LineSort::Heading)).unwrap_or(0);
            let error = (start..end).find(|&it| is(it, LineSort::Error));
            self.top = Some(error.unwrap_or(start));
        }
    }

    /// Whether this failed when it was last built.
    pub fn failed(&self, job: &Job) -> bool {
        self.failed.contains(job)
    }

    /// Whether all compiled when it was last built.
    pub fn all_well(&self) -> bool {
        self.failed.is_empty()
    }

    /// Cargo said something.
    pub fn push_line(&mut self, line: &BuildLine) {
        match line {
            BuildLine::Output { text } => self.push(text, LineSort::Plain),
            BuildLine::Diagnostic { level, rendered, .. } => {
                let first = match *level {
                    "error" => LineSort::Error,
                    _ => LineSort::Plain,
                };
                for (position, line) in rendered.trim_end().lines().enumerate() {
                    self.push(line, if position == 0 { first } else { LineSort::Plain });
                }
            }
        }
    }

    fn push(&mut self, text: &str, sort: LineSort) {
        self.lines.push_back(Line { text: text.replace('\t', "    "), sort });
        if self.lines.len() > CAPACITY {
            self.lines.pop_front();
            self.top = self.top.map(|top| top.saturating_sub(1));
        }
    }

    /// All lines.
    pub fn lines(&self) -> &VecDeque<Line> {
        &self.lines
    }

    /// The first visible line where `page` are visible.
    pub fn top(&self, page: usize) -> usize {
        let last_top = self.lines.len().saturating_sub(page);
        self.top.unwrap_or(last_top).min(last_top)
    }

    /// Scrolls.
    pub fn go(&mut self, motion: Motion, page: usize) {
        let from = self.top(page);
        let last_top = self.lines.len().saturating_sub(page);
        self.top =
            super::plugins::step(motion, from, last_top + 1, page).filter(|top| *top < last_top);
    }

    /// Scrolls to the next error, or the one before; false when there is none.
    pub fn go_to_error(&mut self, forward: bool, page: usize) -> bool {
        let from = self.top(page);
        let is_error = |position: &usize| self.lines[*position].sort == LineSort::Error;
        let found = if forward {
            (from + 1..self.lines.len()).find(is_error)
        } else {
            (0..from).rev().find(is_error)
        };
        self.top = found.or(self.top);
        found.is_some()
    }
}
