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

/// How many lines are kept.
pub const CAPACITY: usize = 100_000;
/// How many lines a changed filter looks at before the keyboard is looked at again.
const SCAN_AT_ONCE: usize = 4096;
/// Positions count on from here, so that older lines found later come before.
const MIDDLE: u64 = 1 << 40;
/// A selection that moved with the filter has so many lines above it.
const LINES_ABOVE: u64 = 5;

/// The log and what is seen of it.
pub struct Logs {
    rows: VecDeque<LogRow>,
    next_seq: u64,
    writers: Writers,
    /// The sequence numbers of the rows that pass the filter, oldest first.
    passing: VecDeque<u64>,
    /// The absolute position of the first of them: it moves as rows leave the ring, and as the scan
    /// finds older ones.
    base: u64,
    /// Rows before this one have still to be looked at with the present filter.
    unscanned: Option<u64>,
    /// The line that was selected before the filter changed, until the scan reaches it.
    reselect: Option<u64>,
    filter: Filter,
    /// The selected line, as an absolute position; none while following.
    cursor: Option<u64>,
    /// The first visible line while not following, counted alike.
    top: u64,
    /// The first visible row of the selected line, where that has more rows than are in sight.
    part: usize,
    /// Where a selection of several lines began, as a sequence number.
    anchor: Option<u64>,
    /// The marked lines, by sequence number.
    marks: BTreeSet<u64>,
    /// Whether long lines are wrapped.
    pub wrap: bool,
    /// Lines that were lost on the way here.
    pub dropped: u64,
    /// How long the newest record was on its way here, in milliseconds; none before one was.
    pub lag_ms: Option<u64>,
    /// Records that are older were there before anybody waited for them.
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
    /// Takes a line that the host wrote, and that arrived at `now_ms`.
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

    /// A host has begun to send its records.
    pub fn await_records(&mut self, now_ms: u64) {
        (self.awaited_since_ms, self.lag_ms) = (now_ms, None);
    }

    /// Adds a line of the console's own.
    pub fn push_marker(&mut self, at_ms: u64, text: String) {
        self.push(at_ms, Origin::Marker, text, None);
    }

    /// Lines were lost; one line tells of all that were lost at one place.
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

    /// How many lines are kept.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many lines the filter shows, as far as it has looked.
    pub fn passing(&self) -> usize {
        self.passing.len()
    }

    /// The line at this position among those that the filter shows.
    pub fn row(&self, position: usize) -> Option<&LogRow> {
        self.row_of(*self.passing.get(position)?)
    }

    fn row_of(&self, seq: u64) -> Option<&LogRow> {
        let oldest = self.rows.front()?.seq;
        self.rows.get(usize::try_from(seq.checked_sub(oldest)?).ok()?)
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
        let position = usize::try_from(absolute.saturating_sub(self.base));
        position.unwrap_or(usize::MAX).min(self.passing.len().saturating_sub(1))
    }

    /// Which row of the selected line is the first one in sight, where the line has more rows than there are.
    pub fn part(&self) -> usize {
        self.part
    }

    /// Moves within the selected line where it has more rows than are in sight, and else to another line.
    pub fn go_in(&mut self, motion: Motion, inside: Rect) {
        let page = usize::from(inside.height);
        let step = match motion {
            Motion::Up | Motion::Down => 1,
            Motion::PageUp | Motion::PageDown => page.saturating_sub(1).max(1),
            _ => return self.go(motion, page),
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
        self.go(motion, page);
        // One is entered at the end that is nearer.
        let entered = self.cursor().and_then(|cursor| in_sight::last_part(self, cursor, inside));
        self.part = entered.filter(|_| is_up).unwrap_or(0);
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

    /// Scrolls by some lines, as a wheel does; the selected line stays in sight.
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

    /// Keeps the newest line in sight.
    pub fn follow(&mut self) {
        self.cursor = None;
        self.reselect = None;
        self.anchor = None;
    }

    /// Keeps the present lines in sight.
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

    /// Goes to the next error after the selected line, or the one before it.
    pub fn go_to_error(&mut self, forward: bool, page: usize) -> bool {
        self.go_to(forward, page, |row| row.origin.is_error())
    }

    /// Goes to the next match after the selected line, or the one before it, and around the end; gives which of
    /// the matches it is, from 1, and how many there are.
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

    /// The places of the lines that match: where the others are hidden, of all that are no markers.
    fn matches(&self) -> Vec<usize> {
        let is_search = self.filter.shows_others && self.filter.pattern.is_some();
        let is_match = |row: &LogRow| match is_search {
            true => self.filter.matches(row),
            false => !row.origin.is_marker(),
        };
        (0..self.passing.len()).filter(|it| self.row(*it).is_some_and(is_match)).collect()
    }

    /// Goes to the next marked line after the selected one; after the last, to the first.
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
        let level = match self.filter.level {
            None => Some(LogLevel::Debug),
            Some(LogLevel::Error) => None,
            Some(level) => LogLevel::ALL.into_iter().find(|higher| *higher > level),
        };
        self.set_level(level);
    }

    /// Whose lines are shown.
    pub fn writer_filter(&self) -> &str {
        &self.filter.writers.text
    }

    /// Shows only lines of these plugins, versions or targets: `world http -heartbeat`.
    pub fn set_writer_filter(&mut self, text: &str) {
        self.filter.writers = WriterFilter::new(text);
        self.refilter();
    }

    /// Who has written, sorted by name.
    pub fn writer_labels(&self) -> Vec<&str> {
        self.writers.labels()
    }

    /// What the lines must contain.
    pub fn pattern(&self) -> &str {
        &self.filter.text
    }

    /// What matched in a line is found with this.
    pub fn matcher(&self) -> Option<&Regex> {
        self.filter.pattern.as_ref().filter(|_| !self.filter.is_inverted)
    }

    /// Whether the lines that match are hidden instead of the others.
    pub fn is_inverted(&self) -> bool {
        self.filter.is_inverted
    }

    /// Hides the lines that match instead of the others, or the other way round.
    pub fn invert(&mut self) {
        self.filter.is_inverted = !self.filter.is_inverted;
        self.filter.shows_others = false;
        self.refilter();
    }

    /// Whether lines that do not match stay in sight.
    pub fn shows_others(&self) -> bool {
        self.filter.shows_others
    }

    /// Keeps lines that do not match in sight, or hides them.
    pub fn set_shows_others(&mut self, shows_others: bool) {
        if self.filter.shows_others != shows_others {
            self.filter.shows_others = shows_others;
            self.refilter();
        }
    }

    /// Shows only lines that contain this: a regular expression, or plain text where it is none;
    /// without regard to case.
    pub fn set_pattern(&mut self, text: &str) {
        self.filter.set_pattern(text);
        self.refilter();
    }

    /// Begins to look at all lines anew, the newest first.
    fn refilter(&mut self) {
        let selected = self.cursor().and_then(|position| self.passing.get(position).copied());
        self.reselect = selected.or(self.reselect.filter(|_| self.cursor.is_some()));
        self.passing.clear();
        (self.base, self.top) = (MIDDLE, MIDDLE);
        self.unscanned = Some(self.next_seq);
        self.scan();
    }

    /// Whether older lines have still to be looked at.
    pub fn is_scanning(&self) -> bool {
        self.unscanned.is_some()
    }

    /// Looks at some more of the older lines.
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

    /// The line that was selected has been looked at: it, or the next one, is selected again.
    fn reselect_front(&mut self) {
        self.reselect = None;
        if self.passing.is_empty() {
            self.cursor = None;
        } else {
            self.cursor = Some(self.base);
            self.top = self.base.saturating_sub(LINES_ABOVE);
        }
    }

    /// Marks the selected line, or the newest, or takes its mark away; false when there is none.
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

    /// Begins a selection of several lines at the selected one, or ends it.
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

    /// Whether a line is among the selected ones.
    pub fn is_selected(&self, row: &LogRow) -> bool {
        let Some(cursor) = self.cursor().and_then(|it| self.passing.get(it).copied()) else {
            return false;
        };
        let anchor = self.anchor.unwrap_or(cursor);
        (anchor.min(cursor)..=anchor.max(cursor)).contains(&row.seq)
    }

    /// The selected line; while following, the newest.
    pub fn selected(&self) -> Option<&LogRow> {
        self.row(self.cursor().unwrap_or(self.passing.len().checked_sub(1)?))
    }

    /// The selected lines, or the newest, as text; and how many they are.
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

    /// All lines that the filter shows, as text.
    pub fn passing_text(&self) -> String {
        let rows = (0..self.passing.len()).filter_map(|position| self.row(position));
        rows.map(LogRow::to_text).collect::<Vec<_>>().join("\n")
    }
}
