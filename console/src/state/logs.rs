//! The host's log: a bounded ring, and an index of the lines that the filter lets through.

use std::collections::VecDeque;

use hotswap_protocol::{LogLevel, LogRecord};
use regex::{Regex, RegexBuilder};

use crate::action::Motion;
use crate::format;
use crate::session::{LogLine, OutputStream};

/// How many lines are kept.
pub const CAPACITY: usize = 100_000;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// Counts all lines ever, from 0.
    pub seq: u64,
    /// Milliseconds since the Unix epoch; when a plain line arrived.
    pub at_ms: u64,
    /// What wrote it.
    pub origin: Origin,
    /// What it says, its fields included, without colours.
    pub text: String,
}

/// What wrote a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The host or a plugin, through its log.
    Record {
        /// How grave it is.
        level: LogLevel,
        /// `world@v3`, or the target.
        writer: String,
    },
    /// The process, on stdout or stderr.
    Output(OutputStream),
    /// The console: a reload, a start, an end.
    Marker,
}

/// The log and what is seen of it.
#[derive(Default)]
pub struct Logs {
    rows: VecDeque<LogRow>,
    next_seq: u64,
    /// The sequence numbers of the rows that pass the filter, oldest first.
    passing: VecDeque<u64>,
    /// How many rows that passed have left the ring: what keeps positions in `passing` stable.
    passed_before: u64,
    filter: Filter,
    /// The selected line, counted over all that ever passed; none while following.
    cursor: Option<u64>,
    /// The first visible line while not following, counted alike.
    top: u64,
    /// Whether long lines are wrapped.
    pub wrap: bool,
    /// Lines that were lost on the way here.
    pub dropped: u64,
}

/// Which lines are shown.
#[derive(Default)]
struct Filter {
    level: Option<LogLevel>,
    text: String,
    pattern: Option<Regex>,
}

impl Filter {
    fn passes(&self, row: &LogRow) -> bool {
        if let (Some(least), Origin::Record { level, .. }) = (self.level, &row.origin)
            && *level < least
        {
            return false;
        }
        match &self.pattern {
            None => true,
            Some(pattern) => pattern.is_match(&row.text) || pattern.is_match(row.origin.writer()),
        }
    }
}

impl Origin {
    /// The name of what wrote it.
    pub fn writer(&self) -> &str {
        match self {
            Self::Record { writer, .. } => writer,
            Self::Output(stream) => stream.as_str(),
            Self::Marker => "",
        }
    }

    fn is_error(&self) -> bool {
        matches!(self, Self::Record { level: LogLevel::Error, .. })
    }
}

impl Logs {
    /// Takes a line that the host wrote; `now_ms` is when a plain one arrived.
    pub fn push_line(&mut self, line: LogLine, now_ms: u64) {
        match line {
            LogLine::Log(record) => {
                let writer = format::log_origin(&record);
                let (at_ms, level) = (record.at_ms, record.level);
                self.push(at_ms, Origin::Record { level, writer }, text_of(record));
            }
            LogLine::Output { stream, text } => {
                self.push(now_ms, Origin::Output(stream), plain(&text));
            }
            LogLine::Dropped { count } => self.dropped += count,
        }
    }

    /// Adds a line of the console's own.
    pub fn push_marker(&mut self, at_ms: u64, text: String) {
        self.push(at_ms, Origin::Marker, text);
    }

    fn push(&mut self, at_ms: u64, origin: Origin, text: String) {
        let row = LogRow { seq: self.next_seq, at_ms, origin, text };
        self.next_seq += 1;
        if self.filter.passes(&row) {
            self.passing.push_back(row.seq);
        }
        self.rows.push_back(row);
        if self.rows.len() > CAPACITY
            && let Some(gone) = self.rows.pop_front()
            && self.passing.front() == Some(&gone.seq)
        {
            self.passing.pop_front();
            self.passed_before += 1;
            self.top = self.top.max(self.passed_before);
            self.cursor = self.cursor.map(|cursor| cursor.max(self.passed_before));
        }
    }

    /// How many lines are kept.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many lines the filter shows.
    pub fn passing(&self) -> usize {
        self.passing.len()
    }

    /// The line at this position among those that the filter shows.
    pub fn row(&self, position: usize) -> Option<&LogRow> {
        let seq = *self.passing.get(position)?;
        let oldest = self.rows.front()?.seq;
        self.rows.get(usize::try_from(seq - oldest).ok()?)
    }

    /// The newest lines, whatever the filter, oldest first.
    pub fn newest(&self, count: usize) -> impl Iterator<Item = &LogRow> {
        self.rows.iter().skip(self.rows.len().saturating_sub(count))
    }

    /// Whether the newest line stays in sight.
    pub fn follows(&self) -> bool {
        self.cursor.is_none()
    }

    /// The position of the selected line; none while following.
    pub fn cursor(&self) -> Option<usize> {
        self.cursor.map(|cursor| self.position(cursor))
    }

    /// The position of the first visible line while not following.
    pub fn top(&self) -> usize {
        self.position(self.top)
    }

    /// How many lines came after the selected one.
    pub fn behind(&self) -> usize {
        self.cursor().map_or(0, |cursor| self.passing.len().saturating_sub(cursor + 1))
    }

    fn position(&self, absolute: u64) -> usize {
        let position = usize::try_from(absolute.saturating_sub(self.passed_before));
        position.unwrap_or(usize::MAX).min(self.passing.len().saturating_sub(1))
    }

    /// Moves the selected line; `page` is how many are visible.
    pub fn go(&mut self, motion: Motion, page: usize) {
        let last = self.passing.len().saturating_sub(1);
        let from = self.cursor().unwrap_or(last);
        let page_step = page.saturating_sub(1).max(1);
        let to = match motion {
            Motion::Up => from.saturating_sub(1),
            Motion::Down => from + 1,
            Motion::PageUp => from.saturating_sub(page_step),
            Motion::PageDown => from + page_step,
            Motion::First => 0,
            Motion::Last => return self.follow(),
            Motion::Left | Motion::Right => return,
        };
        let forward = matches!(motion, Motion::Down | Motion::PageDown);
        if forward && (self.follows() || to > last) {
            return self.follow();
        }
        self.select(to.min(last), page);
    }

    /// Keeps the newest line in sight.
    pub fn follow(&mut self) {
        self.cursor = None;
    }

    /// Keeps the present lines in sight.
    pub fn hold(&mut self, page: usize) {
        self.select(self.passing.len().saturating_sub(1), page);
    }

    fn select(&mut self, position: usize, page: usize) {
        if self.passing.is_empty() {
            return;
        }
        let page = page.max(1);
        let first_when_following = self.passing.len().saturating_sub(page);
        let mut top = if self.follows() { first_when_following } else { self.top() };
        top = top.clamp((position + 1).saturating_sub(page), position);
        self.top = self.passed_before + top as u64;
        self.cursor = Some(self.passed_before + position as u64);
    }

    /// Goes to the next error after the selected line, or the one before it.
    pub fn go_to_error(&mut self, forward: bool, page: usize) -> bool {
        self.go_to(forward, page, |row| row.origin.is_error())
    }

    /// Goes to the next match after the selected line, or the one before it.
    pub fn go_to_match(&mut self, forward: bool, page: usize) -> bool {
        self.go_to(forward, page, |row| row.origin != Origin::Marker)
    }

    fn go_to(&mut self, forward: bool, page: usize, wanted: impl Fn(&LogRow) -> bool) -> bool {
        let is_wanted = |position: &usize| self.row(*position).is_some_and(&wanted);
        let from = self.cursor().unwrap_or(self.passing.len());
        let found = if forward {
            (from + 1..self.passing.len()).find(is_wanted)
        } else {
            (0..from).rev().find(is_wanted)
        };
        match found {
            Some(position) => self.select(position, page),
            None => return false,
        }
        true
    }

    /// The least level that is shown.
    pub fn level(&self) -> Option<LogLevel> {
        self.filter.level
    }

    /// Shows lines of this level and graver ones only.
    pub fn set_level(&mut self, level: Option<LogLevel>) {
        self.filter.level = level;
        self.refilter();
    }

    /// Raises the least level; after the highest all are shown.
    pub fn raise_level(&mut self) {
        self.filter.level = match self.filter.level {
            None => Some(LogLevel::Debug),
            Some(LogLevel::Error) => None,
            Some(level) => LogLevel::ALL.into_iter().find(|higher| *higher > level),
        };
        self.refilter();
    }

    /// What the lines must contain.
    pub fn pattern(&self) -> &str {
        &self.filter.text
    }

    /// What matched in a line is found with this.
    pub fn matcher(&self) -> Option<&Regex> {
        self.filter.pattern.as_ref()
    }

    /// Shows only lines that contain this: a regular expression, or plain text where it is none;
    /// without regard to case.
    pub fn set_pattern(&mut self, text: &str) {
        let compile = |pattern: &str| {
            RegexBuilder::new(pattern).case_insensitive(true).size_limit(1 << 20).build().ok()
        };
        text.clone_into(&mut self.filter.text);
        self.filter.pattern = match text {
            "" => None,
            text => compile(text).or_else(|| compile(&regex::escape(text))),
        };
        self.refilter();
    }

    fn refilter(&mut self) {
        let filter = &self.filter;
        self.passing = self.rows.iter().filter(|row| filter.passes(row)).map(|it| it.seq).collect();
        self.passed_before = 0;
        self.top = 0;
        self.cursor = None;
    }

    /// The selected line, or the newest, as text.
    pub fn selected_text(&self) -> Option<String> {
        let position = self.cursor().unwrap_or(self.passing.len().checked_sub(1)?);
        self.row(position).map(LogRow::to_text)
    }

    /// All lines that the filter shows, as text.
    pub fn passing_text(&self) -> String {
        let rows = (0..self.passing.len()).filter_map(|position| self.row(position));
        rows.map(LogRow::to_text).collect::<Vec<_>>().join("\n")
    }
}

impl LogRow {
    /// `12:03:07 WARN world@v3 velocity clamped`
    pub fn to_text(&self) -> String {
        let time = format::clock(self.at_ms);
        match &self.origin {
            Origin::Record { level, writer } => {
                format!("{time} {} {writer} {}", level.as_str(), self.text)
            }
            Origin::Output(stream) => format!("{time} {} {}", stream.as_str(), self.text),
            Origin::Marker => format!("{time} {}", self.text),
        }
    }
}

fn text_of(record: LogRecord) -> String {
    let mut text = plain(&record.message);
    for (name, value) in &record.fields {
        text.push_str(&format!(" {name}={}", plain(value)));
    }
    text
}

/// The text on one line, without colours and other control sequences.
fn plain(text: &str) -> String {
    if !text.contains(|c: char| c.is_control()) {
        return text.to_owned();
    }
    let text = strip_ansi_escapes::strip_str(text.trim_end().replace('\t', "    "));
    text.replace('\n', " ⏎ ").chars().filter(|c| !c.is_control()).collect()
}
