//! The output of cargo in the last builds.

use std::collections::VecDeque;
use std::sync::Arc;

use super::selection::Selection;
use crate::screen::input::action::Motion;
use crate::screen::model::Place;
use crate::session::{BuildLine, Job};

/// The number of lines that are kept.
const CAPACITY: usize = 5_000;

/// The Build tab.
#[derive(Default)]
pub struct Builds {
    lines: VecDeque<Line>,
    /// The selected line; `None` while the tab follows the newest lines.
    selection: Option<Selection>,
    /// The jobs whose last build failed.
    failed: Vec<Job>,
    /// The builds that have begun and whose headings are not shown yet, with those headings. Builds run in parallel,
    /// so a heading is shown with the first output of its build.
    waiting: Vec<(Job, String)>,
    /// The builds whose headings are shown.
    shown: Vec<Job>,
}

/// A line of the builds' output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its text, with the compiler's colours.
    pub text: String,
    /// Its kind.
    pub sort: LineSort,
    /// The diagnostic that it belongs to.
    pub diagnostic: Option<Arc<Diagnostic>>,
}

/// The kind of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineSort {
    /// The beginning or the end of a build.
    Heading,
    /// The first line of an error.
    Error,
    /// Anything else.
    Plain,
}

/// A diagnostic of the compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Its first line.
    pub message: String,
    /// The whole text, without colours.
    pub text: String,
    /// Its place in the sources.
    pub place: Option<Place>,
}

impl Builds {
    /// Notes that a build begins. The errors of other builds stay in sight.
    pub fn begin(&mut self, job: &Job, title: &str) {
        self.waiting.push((job.clone(), title.to_owned()));
        if self.shown.is_empty() {
            self.show_heading(|_| true);
        }
        if self.failed.is_empty() || self.failed.contains(job) {
            self.selection = None;
        }
    }

    /// Notes that a build ended. After a failure, its first error is selected.
    pub fn end(&mut self, job: &Job, title: &str, failed: bool) {
        self.show_heading(|waiting| waiting == job);
        self.shown.retain(|other| other != job);
        self.push(title, LineSort::Heading, None);
        self.failed.retain(|other| other != job);
        if failed {
            self.failed.push(job.clone());
            let end = self.lines.len().saturating_sub(1);
            let is = |position: usize, sort| self.lines[position].sort == sort;
            let start = (0..end).rev().find(|&it| is(it, LineSort::Heading)).unwrap_or(0);
            let error = (start..end).find(|&it| is(it, LineSort::Error));
            self.selection = Some(Selection::from(error.unwrap_or(start)));
        }
    }

    /// Shows the heading of a waiting build.
    fn show_heading(&mut self, is_it: impl Fn(&Job) -> bool) {
        if let Some(at) = self.waiting.iter().position(|(job, _)| is_it(job)) {
            let (job, title) = self.waiting.remove(at);
            self.push(&title, LineSort::Heading, None);
            self.shown.push(job);
        }
    }

    /// Whether the last build of this job failed.
    pub fn failed(&self, job: &Job) -> bool {
        self.failed.contains(job)
    }

    /// Whether no job's last build failed.
    pub fn all_well(&self) -> bool {
        self.failed.is_empty()
    }

    /// Adds cargo's output about a package.
    pub fn push_line(&mut self, package: &str, line: &BuildLine) {
        self.show_heading(|job| job.plugin().is_some_and(|plugin| plugin == package));
        match line {
            BuildLine::Output { text } => self.push(text, LineSort::Plain, None),
            BuildLine::Diagnostic { level, message, rendered, file, row, column } => {
                let place = file.clone().map(|file| Place { file, row: *row, column: *column });
                let diagnostic = Arc::new(Diagnostic {
                    message: message.clone(),
                    text: strip_ansi_escapes::strip_str(rendered.trim_end()),
                    place,
                });
                let first = match *level {
                    "error" => LineSort::Error,
                    _ => LineSort::Plain,
                };
                for (position, line) in rendered.trim_end().lines().enumerate() {
                    let sort = if position == 0 { first } else { LineSort::Plain };
                    self.push(line, sort, Some(diagnostic.clone()));
                }
            }
        }
    }

    /// Adds a line about the build of a package that cargo did not write.
    pub fn push_note(&mut self, package: &str, text: &str) {
        self.show_heading(|job| job.plugin().is_some_and(|plugin| plugin == package));
        self.push(text, LineSort::Plain, None);
    }

    fn push(&mut self, text: &str, sort: LineSort, diagnostic: Option<Arc<Diagnostic>>) {
        self.lines.push_back(Line { text: text.replace('\t', "    "), sort, diagnostic });
        if self.lines.len() > CAPACITY {
            self.lines.pop_front();
            self.selection.iter_mut().for_each(Selection::lose_first);
        }
    }

    /// All lines.
    pub fn lines(&self) -> &VecDeque<Line> {
        &self.lines
    }

    /// The position of the selected line; `None` while the tab follows the newest lines.
    pub fn selected(&self) -> Option<usize> {
        self.selection.map(|selection| selection.line)
    }

    /// The diagnostic of the selected line; without a selection, the newest diagnostic.
    pub fn diagnostic(&self) -> Option<&Arc<Diagnostic>> {
        match self.selection {
            Some(Selection { line, .. }) => self.lines.get(line)?.diagnostic.as_ref(),
            None => self.lines.iter().rev().find_map(|line| line.diagnostic.as_ref()),
        }
    }

    /// The first visible line of a page of `page` lines.
    pub fn top(&self, page: usize) -> usize {
        self.selection(page).top(self.lines.len(), page)
    }

    fn selection(&self, page: usize) -> Selection {
        self.selection.unwrap_or_else(|| Selection::last(self.lines.len(), page))
    }

    /// Moves the selection on a page of `page` lines. Beyond the last line, the tab follows the newest lines.
    pub fn move_by(&mut self, motion: Motion, page: usize) {
        let before = self.selection(page);
        let mut selection = before;
        selection.move_by(motion, self.lines.len(), page);
        let is_down = matches!(motion, Motion::Down | Motion::PageDown);
        let follows = motion == Motion::Last || is_down && selection == before;
        self.selection = Some(selection).filter(|_| !follows && !self.lines.is_empty());
    }

    /// Scrolls like a wheel.
    pub fn scroll(&mut self, lines: usize, up: bool, page: usize) {
        let mut selection = self.selection(page);
        selection.scroll(lines, up, self.lines.len(), page);
        let is_at_end = selection.top(self.lines.len(), page) + page >= self.lines.len();
        self.selection = Some(selection).filter(|_| up || !is_at_end);
    }

    /// Selects a line.
    pub fn select(&mut self, line: usize, page: usize) {
        let mut selection = self.selection(page);
        selection.select(line, self.lines.len(), page);
        self.selection = Some(selection);
    }

    /// Selects the next error, or the previous one; false if there is none.
    pub fn go_to_error(&mut self, forward: bool) -> bool {
        let from = self.selected().unwrap_or(self.lines.len());
        let is_error = |position: &usize| self.lines[*position].sort == LineSort::Error;
        let found = if forward {
            (from + 1..self.lines.len()).find(is_error)
        } else {
            (0..from).rev().find(is_error)
        };
        self.selection = found.map(Selection::from).or(self.selection);
        found.is_some()
    }
}
