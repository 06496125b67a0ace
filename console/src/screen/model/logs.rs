//! The host's log: a bounded ring, and an index of the lines that the filter lets through.

mod filter;
pub mod in_sight;
mod row;

use std::collections::{BTreeSet, VecDeque};

use hotswap_protocol::LogLevel;
use ratatui::layout::Rect;
use regex::Regex;

pub use row::{LogRow, Origin, Writer};

use crate::format;
use crate::screen::input::action::Motion;
use crate::session::LogLine;
use filter::{Filter, WriterFilter};
use row::Writers;

/// The number of lines that are kept.
pub const CAPACITY: usize = 100_000;
/// The number of lines that a scan with a new filter checks before the console handles the next event.
const SCAN_AT_ONCE: usize = 4096;
/// The first absolute position. Older lines that a scan finds get smaller ones.
const MIDDLE: u64 = 1 << 40;
/// The number of lines above the selected line after the filter has changed.
const LINES_ABOVE: u64 = 5;

/// The log, its filter, and the lines in sight.
pub struct Logs {
    rows: VecDeque<LogRow>,
    next_seq: u64,
    writers: Writers,
    /// The sequence numbers of the rows that pass the filter, oldest first.
    passing: VecDeque<u64>,
    /// The absolute position of the first of them. It grows when rows leave the ring, and shrinks when the scan finds
    /// older rows.
    base: u64,
    /// The scan with the present filter still has to check the rows before this one.
    unscanned: Option<u64>,
    /// The line that was selected before the filter changed. It is selected again when the scan reaches it.
    reselect: Option<u64>,
    filter: Filter,
    /// The selected line, as an absolute position; `None` while the log follows the newest line.
    cursor: Option<u64>,
    /// The first visible line while the log does not follow, as an absolute position.
    top: u64,
    /// The first visible row of the selected line, if that line has more rows than fit.
    part: usize,
    /// The line where a selection of several lines began, as a sequence number; `None` without such a selection.
    anchor: Option<u64>,
    /// The marked lines, by sequence number.
    marks: BTreeSet<u64>,
    /// Whether long lines are wrapped.
    pub wrap: bool,
    /// The number of lines that were lost before they arrived here.
    pub dropped: u64,
    /// The delay of the newest record, in milliseconds; `None` before the first record.
    pub lag_ms: Option<u64>,
    /// The time when the console began to wait for records. The delay of older records means nothing.
    awaited_since_ms: u64,
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            rows: VecDeque::new(),
            next_seq: 0,
            writers: Writers::default(),
            passing: VecDeque::new(),
            base: MIDDLE,
            unscanned: None,
            reselect: None,
            filter: Filter::default(),
            cursor: None,
            top: MIDDLE,
            part: 0,
            anchor: None,
            marks: BTreeSet::new(),
            wrap: false,
            dropped: 0,
            lag_ms: None,
            awaited_since_ms: 0,
        }
    }
}

impl Logs {
    /// Adds a line that the host wrote and that arrived at `now_ms`.
    pub fn push_line(&mut self, line: LogLine, now_ms: u64) {
        match line {
            LogLine::Log(record) => {
                let (at_ms, level) = (record.at_ms, record.level);
                if at_ms >= self.awaited_since_ms {
                    self.lag_ms = Some(now_ms.saturating_sub(at_ms));
                }
                let writer = self.writers.of(&record);
                self.push(at_ms, Origin::Record { level, writer }, row::text_of(&record), None);
            }
            LogLine::Output { stream, text } => {
                let (text, coloured) = row::output_of(&text);
                self.push(now_ms, Origin::Output(stream), text, coloured);
            }
            LogLine::Dropped { count } => self.drop_lines(now_ms, count),
        }
    }

    /// Notes that the host has begun to send its records.
    pub fn await_records(&mut self, now_ms: u64) {
        (self.awaited_since_ms, self.lag_ms) = (now_ms, None);
    }

    /// Adds a line of the console itself.
    pub fn push_marker(&mut self, at_ms: u64, text: String) {
        self.push(at_ms, Origin::Marker, text, None);
    }

    /// Notes that lines were lost. Losses without a line between them share one line.
    fn drop_lines(&mut self, now_ms: u64, count: u64) {
        self.dropped += count;
        let words = |count: u64| {
            let lines = format::counted(count, "line", "lines");
            format!("{lines} dropped: they came faster than they could be shown")
        };
        if let Some(LogRow { origin: Origin::Dropped(known), text, .. }) = self.rows.back_mut() {
            *known += count;
            *text = words(*known);
        } else {
            self.push(now_ms, Origin::Dropped(count), words(count), None);
        }
    }

    fn push(&mut self, at_ms: u64, origin: Origin, text: String, coloured: Option<Box<str>>) {
        let row = LogRow { seq: self.next_seq, at_ms, origin, text, coloured };
        self.next_seq += 1;
        if self.filter.passes(&row) {
            self.passing.push_back(row.seq);
        }
        self.rows.push_back(row);
        if self.rows.len() <= CAPACITY {
            return;
        }
        let Some(gone) = self.rows.pop_front() else { return };
        if self.marks.first() == Some(&gone.seq) {
            self.marks.pop_first();
        }
        if self.passing.front() == Some(&gone.seq) {
            self.passing.pop_front();
            self.base += 1;
            self.top = self.top.max(self.base);
            self.cursor = self.cursor.map(|cursor| cursor.max(self.base));
        }
    }

    /// The number of lines that are kept now.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The number of lines that pass the filter, as far as they have been checked.
    pub fn passing(&self) -> usize {
        self.passing.len()
    }

    /// The line at this position among those that pass the filter.
    pub fn row(&self, position: usize) -> Option<&LogRow> {
        self.row_of(*self.passing.get(position)?)
    }

    fn row_of(&self, seq: u64) -> Option<&LogRow> {
        let oldest = self.rows.front()?.seq;
        self.rows.get(usize::try_from(seq.checked_sub(oldest)?).ok()?)
    }

    /// The newest lines, oldest first, whether they pass the filter or not.
    pub fn newest(&self, count: usize) -> impl Iterator<Item = &LogRow> {
        self.rows.iter().skip(self.rows.len().saturating_sub(count))
    }

    /// Whether the log follows the newest line.
    pub fn follows(&self) -> bool {
        self.cursor.is_none()
    }

    /// The position of the selected line; `None` while the log follows.
    pub fn cursor(&self) -> Option<usize> {
        self.cursor.map(|cursor| self.position(cursor))
    }

    /// The position of the first visible line while the log does not follow.
    pub fn top(&self) -> usize {
        self.position(self.top)
    }

    /// The number of lines after the selected one.
    pub fn behind(&self) -> usize {
        self.cursor().map_or(0, |cursor| self.passing.len().saturating_sub(cursor + 1))
    }

    fn position(&self, absolute: u64) -> usize {
        let position = usize::try_from(absolute.saturating_sub(self.base));
        position.unwrap_or(usize::MAX).min(self.passing.len().saturating_sub(1))
    }

    /// The first visible row of the selected line, if that line has more rows than fit.
    pub fn part(&self) -> usize {
        self.part
    }

    /// Moves within the selected line if it has more rows than fit, otherwise to another line.
    pub fn move_in(&mut self, motion: Motion, inside: Rect) {
        let page = usize::from(inside.height);
        let step = match motion {
            Motion::Up | Motion::Down => 1,
            Motion::PageUp | Motion::PageDown => page.saturating_sub(1).max(1),
            _ => return self.move_by(motion, page),
        };
        let is_up = matches!(motion, Motion::Up | Motion::PageUp);
        let newest = self.passing.len().saturating_sub(1);
        let follows = self.follows();
        let position = self.cursor().unwrap_or(newest);
        if let Some(last) = in_sight::last_part(self, position, inside) {
            let part = if follows { last } else { self.part.min(last) };
            let to = if is_up { part.saturating_sub(step) } else { (part + step).min(last) };
            if to != part {
                self.select(position, page);
                self.part = to;
                return;
            }
        }
        self.move_by(motion, page);
        // A move up enters a long line at its end.
        let entered = self.cursor().and_then(|cursor| in_sight::last_part(self, cursor, inside));
        self.part = entered.filter(|_| is_up).unwrap_or(0);
    }

    /// Moves the selection; `page` is the number of visible lines.
    pub fn move_by(&mut self, motion: Motion, page: usize) {
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

    /// Scrolls by `lines` like a wheel. If the selected line would leave the screen, the selection moves.
    pub fn scroll(&mut self, lines: usize, up: bool, page: usize) {
        let last_top = self.passing.len().saturating_sub(page);
        let (top, cursor) = match self.cursor() {
            Some(cursor) => (self.top().min(last_top), cursor),
            None => (last_top, self.passing.len().saturating_sub(1)),
        };
        let top = if up { top.saturating_sub(lines) } else { top + lines };
        if !up && top >= last_top || self.passing.is_empty() {
            return self.follow();
        }
        let cursor = cursor.clamp(top, top + page.saturating_sub(1));
        self.select(cursor, page);
        self.top = self.base + top as u64;
    }

    /// Follows the newest line from now on.
    pub fn follow(&mut self) {
        self.cursor = None;
        self.reselect = None;
        self.anchor = None;
    }

    /// Stops following, so that the visible lines stay.
    pub fn hold(&mut self, page: usize) {
        self.select(self.passing.len().saturating_sub(1), page);
    }

    /// Selects a line.
    pub fn select(&mut self, position: usize, page: usize) {
        if self.passing.is_empty() {
            return;
        }
        let page = page.max(1);
        let first_when_following = self.passing.len().saturating_sub(page);
        let mut top = if self.follows() { first_when_following } else { self.top() };
        top = top.clamp((position + 1).saturating_sub(page), position);
        self.top = self.base + top as u64;
        self.cursor = Some(self.base + position as u64);
        self.reselect = None;
        self.part = 0;
    }

    /// Selects the next error after the selected line, or the previous one before it; false if there is none.
    pub fn go_to_error(&mut self, forward: bool, page: usize) -> bool {
        self.go_to(forward, page, |row| row.origin.is_error())
    }

    /// Selects the next match after the selected line, or the previous one before it, and wraps around. Returns the
    /// number of the match, from 1, and the number of matches.
    pub fn go_to_match(&mut self, forward: bool, page: usize) -> Option<(usize, usize)> {
        let matches = self.matches();
        let from = self.cursor().unwrap_or(self.passing.len());
        let found = match forward {
            true => matches.iter().position(|it| *it > from).unwrap_or(0),
            false => {
                let earlier = matches.iter().rposition(|it| *it < from);
                earlier.unwrap_or(matches.len().saturating_sub(1))
            }
        };
        self.select(*matches.get(found)?, page);
        Some((found + 1, matches.len()))
    }

    /// The positions of the matches. If other lines are hidden, all lines but markers are matches.
    fn matches(&self) -> Vec<usize> {
        let is_search = self.filter.shows_others && self.filter.pattern.is_some();
        let is_match = |row: &LogRow| match is_search {
            true => self.filter.matches(row),
            false => !row.origin.is_marker(),
        };
        (0..self.passing.len()).filter(|it| self.row(*it).is_some_and(is_match)).collect()
    }

    /// Selects the next marked line; after the last, the first.
    pub fn go_to_mark(&mut self, page: usize) -> bool {
        let marks = std::mem::take(&mut self.marks);
        let is_marked = |row: &LogRow| marks.contains(&row.seq);
        let found = self.go_to(true, page, is_marked) || {
            let first = (0..self.passing.len()).find(|it| self.row(*it).is_some_and(is_marked));
            first.inspect(|position| self.select(*position, page)).is_some()
        };
        self.marks = marks;
        found
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

    /// The lowest level that is shown.
    pub fn level(&self) -> Option<LogLevel> {
        self.filter.level
    }

    /// Shows only lines of at least this level.
    pub fn set_level(&mut self, level: Option<LogLevel>) {
        self.filter.level = level;
        self.refilter();
    }

    /// Raises the lowest level that is shown; after the highest level, shows all.
    pub fn raise_level(&mut self) {
        let level = match self.filter.level {
            None => Some(LogLevel::Debug),
            Some(LogLevel::Error) => None,
            Some(level) => LogLevel::ALL.into_iter().find(|higher| *higher > level),
        };
        self.set_level(level);
    }

    /// The text of the filter by writer.
    pub fn writer_filter(&self) -> &str {
        &self.filter.writers.text
    }

    /// Shows only lines of these plugins, versions or targets: `world http -heartbeat`.
    pub fn set_writer_filter(&mut self, text: &str) {
        self.filter.writers = WriterFilter::new(text);
        self.refilter();
    }

    /// The names of all writers, sorted.
    pub fn writer_labels(&self) -> Vec<&str> {
        self.writers.labels()
    }

    /// The text of the pattern.
    pub fn pattern(&self) -> &str {
        &self.filter.text
    }

    /// The regular expression that finds the matches in a line.
    pub fn matcher(&self) -> Option<&Regex> {
        self.filter.pattern.as_ref().filter(|_| !self.filter.is_inverted)
    }

    /// Whether lines that match are hidden, and the others shown.
    pub fn is_inverted(&self) -> bool {
        self.filter.is_inverted
    }

    /// Switches between hiding the lines that do not match and hiding those that do.
    pub fn invert(&mut self) {
        self.filter.is_inverted = !self.filter.is_inverted;
        self.filter.shows_others = false;
        self.refilter();
    }

    /// Whether lines that do not match are shown too.
    pub fn shows_others(&self) -> bool {
        self.filter.shows_others
    }

    /// Sets whether lines that do not match are shown too.
    pub fn set_shows_others(&mut self, shows_others: bool) {
        if self.filter.shows_others != shows_others {
            self.filter.shows_others = shows_others;
            self.refilter();
        }
    }

    /// Shows only lines that match this regular expression, or contain this text if it is not a valid expression. Case
    /// does not matter.
    pub fn set_pattern(&mut self, text: &str) {
        self.filter.set_pattern(text);
        self.refilter();
    }

    /// Begins a new scan of all lines, newest first.
    fn refilter(&mut self) {
        let selected = self.cursor().and_then(|position| self.passing.get(position).copied());
        self.reselect = selected.or(self.reselect.filter(|_| self.cursor.is_some()));
        self.passing.clear();
        (self.base, self.top) = (MIDDLE, MIDDLE);
        self.unscanned = Some(self.next_seq);
        self.scan();
    }

    /// Whether older lines still have to be checked.
    pub fn is_scanning(&self) -> bool {
        self.unscanned.is_some()
    }

    /// Checks some more of the older lines.
    pub fn scan(&mut self) {
        let Some(until) = self.unscanned else { return };
        let oldest = self.rows.front().map_or(until, |row| row.seq);
        let until = until.max(oldest);
        let from = until.saturating_sub(SCAN_AT_ONCE as u64).max(oldest);
        for seq in (from..until).rev() {
            if self.row_of(seq).is_some_and(|row| self.filter.passes(row)) {
                self.passing.push_front(seq);
                self.base -= 1;
            }
            if self.reselect == Some(seq) {
                self.reselect_front();
            }
        }
        self.unscanned = (from > oldest).then_some(from);
        if self.unscanned.is_none() && self.reselect.is_some() {
            self.reselect_front();
        }
    }

    /// Selects the line that was selected before, or the next one that passes, once the scan has reached it.
    fn reselect_front(&mut self) {
        self.reselect = None;
        if self.passing.is_empty() {
            self.cursor = None;
        } else {
            self.cursor = Some(self.base);
            self.top = self.base.saturating_sub(LINES_ABOVE);
        }
    }

    /// Marks the selected line (or the newest one), or removes its mark; false if there is no line.
    pub fn toggle_mark(&mut self) -> bool {
        let last = self.passing.len().checked_sub(1);
        let Some(seq) = self.cursor().or(last).and_then(|it| self.passing.get(it).copied()) else {
            return false;
        };
        if !self.marks.remove(&seq) {
            self.marks.insert(seq);
        }
        true
    }

    /// Whether a line is marked.
    pub fn is_marked(&self, row: &LogRow) -> bool {
        self.marks.contains(&row.seq)
    }

    /// Begins a selection of several lines at the selected line, or ends it.
    pub fn toggle_selection(&mut self, page: usize) {
        if self.anchor.take().is_none() {
            if self.follows() {
                self.hold(page);
            }
            self.anchor = self.cursor().and_then(|position| self.passing.get(position).copied());
        }
    }

    /// Whether several lines are being selected.
    pub fn has_selection(&self) -> bool {
        self.anchor.is_some()
    }

    /// Whether a line is selected.
    pub fn is_selected(&self, row: &LogRow) -> bool {
        let Some(cursor) = self.cursor().and_then(|it| self.passing.get(it).copied()) else {
            return false;
        };
        let anchor = self.anchor.unwrap_or(cursor);
        (anchor.min(cursor)..=anchor.max(cursor)).contains(&row.seq)
    }

    /// The selected line; while the log follows, the newest one.
    pub fn selected(&self) -> Option<&LogRow> {
        self.row(self.cursor().unwrap_or(self.passing.len().checked_sub(1)?))
    }

    /// The text of the selected lines, or of the newest one, and their number.
    pub fn selected_text(&self) -> Option<(String, usize)> {
        let position = self.cursor().unwrap_or(self.passing.len().checked_sub(1)?);
        if self.anchor.is_none() {
            return self.row(position).map(|row| (row.to_text(), 1));
        }
        let rows = (0..self.passing.len()).filter_map(|position| self.row(position));
        let lines: Vec<String> =
            rows.filter(|row| self.is_selected(row)).map(LogRow::to_text).collect();
        Some((lines.join("\n"), lines.len()))
    }

    /// The text of all lines that pass the filter.
    pub fn passing_text(&self) -> String {
        let rows = (0..self.passing.len()).filter_map(|position| self.row(position));
        rows.map(LogRow::to_text).collect::<Vec<_>>().join("\n")
    }
}
