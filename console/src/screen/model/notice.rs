//! Notices in the status line: one at a time, each for long enough to be read.

use super::State;

/// The number of notices that are kept.
const KEPT: usize = 200;
/// The maximum number of notices that wait to be shown.
const MOST_WAITING: usize = 8;
/// The time that a notice takes to read, in milliseconds.
const READ_MS: u64 = 3_000;

/// A notice for the status line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Its kind.
    pub sort: NoticeSort,
    /// Its text.
    pub text: String,
    /// Whether it stays until a person uses a key or the mouse, and is not replaced by notices of success.
    pub stays: bool,
    /// Whether it answers a person's request, so that somebody is looking.
    pub is_answer: bool,
    /// The time when it was made or, if it had to wait, shown; in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// The kind of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeSort {
    /// Something succeeded.
    Done,
    /// A piece of information.
    Note,
    /// Something needs attention.
    Warning,
    /// Something failed or is not possible.
    Failure,
}

impl NoticeSort {
    fn is_serious(self) -> bool {
        matches!(self, Self::Warning | Self::Failure)
    }
}

impl Notice {
    /// The time after which it ends without a key, in milliseconds; failures stay longer.
    fn lasts_ms(&self) -> u64 {
        if self.sort.is_serious() { 120_000 } else { 20_000 }
    }

    fn is_older_than(&self, milliseconds: u64, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.at_ms) > milliseconds
    }

    /// Whether nobody can have read it yet: it stays, or it is serious, came by itself, and is new.
    fn is_unread(&self, now_ms: u64) -> bool {
        let came_by_itself = self.sort.is_serious() && !self.is_answer;
        self.stays || came_by_itself && !self.is_older_than(READ_MS, now_ms)
    }
}

impl State {
    /// Reports that something succeeded.
    pub(crate) fn notify_done(&mut self, text: impl Into<String>) {
        self.add_notice(NoticeSort::Done, text.into(), false);
    }

    /// Reports a piece of information.
    pub(crate) fn notify_info(&mut self, text: impl Into<String>) {
        self.add_notice(NoticeSort::Note, text.into(), false);
    }

    /// Reports that something failed or is not possible.
    pub(crate) fn notify_failure(&mut self, text: impl Into<String>) {
        self.add_notice(NoticeSort::Failure, text.into(), false);
    }

    /// Reports something that needs attention, and stays until somebody sees it. Joins an earlier notice that stays.
    pub(crate) fn notify_warning(&mut self, text: impl Into<String>) {
        self.add_notice(NoticeSort::Warning, text.into(), true);
    }

    fn add_notice(&mut self, sort: NoticeSort, text: String, stays: bool) {
        let (is_answer, at_ms) = (self.is_answering, self.now_ms);
        let notice = Notice { sort, text, stays, is_answer, at_ms };
        self.notices.push_back(notice.clone());
        if self.notices.len() > KEPT {
            self.notices.pop_front();
        }
        let Some(before) = self.notice.take_if(|before| before.is_unread(at_ms)) else {
            self.notice = Some(notice);
            return;
        };
        let shown = match sort {
            _ if is_answer => {
                self.waiting_notices.push_front(before);
                notice
            }
            NoticeSort::Done | NoticeSort::Note if before.stays => before,
            NoticeSort::Warning if before.stays => {
                Notice { text: format!("{}; {}", before.text, notice.text), ..notice }
            }
            NoticeSort::Failure if before.stays => {
                let text = format!("{}; {}", notice.text, before.text);
                Notice { text, stays: true, ..notice }
            }
            _ => {
                self.queue_notice(notice, &before);
                before
            }
        };
        self.notice = Some(shown);
    }

    /// Queues a notice behind the one that is shown. Only the latest notice of success is kept in the queue.
    fn queue_notice(&mut self, notice: Notice, shown: &Notice) {
        self.waiting_notices.retain(|waiting| waiting.sort.is_serious());
        let is_same = |other: &Notice| (other.sort, &other.text) == (notice.sort, &notice.text);
        if is_same(shown) || self.waiting_notices.iter().any(is_same) {
            return;
        }
        self.waiting_notices.push_back(notice);
        if self.waiting_notices.len() > MOST_WAITING {
            self.waiting_notices.pop_front();
        }
    }

    /// Removes the notice if it has been shown for long enough, and shows the next one; true if something changed.
    pub(crate) fn end_notice(&mut self) -> bool {
        let now_ms = self.now_ms;
        let waits = !self.waiting_notices.is_empty();
        let is_over = |notice: &Notice| {
            let for_ms = if waits { READ_MS } else { notice.lasts_ms() };
            !notice.stays && notice.is_older_than(for_ms, now_ms)
        };
        let ended = self.notice.take_if(|notice| is_over(notice));
        ended.is_some() | self.show_waiting()
    }

    /// Reacts to a sign that somebody is there. A key removes a notice that has been read. A notice that stayed until
    /// now no longer does, so that the next key removes it.
    pub(crate) fn record_user_activity(&mut self, is_key: bool) {
        let now_ms = self.now_ms;
        match &mut self.notice {
            Some(notice) if notice.stays => notice.stays = false,
            Some(notice) if is_key && !notice.is_unread(now_ms) => self.notice = None,
            _ => {}
        }
        self.show_waiting();
    }

    /// Shows the next waiting notice if none is shown; true if there was one.
    fn show_waiting(&mut self) -> bool {
        let now_ms = self.now_ms;
        self.waiting_notices.retain(|notice| !notice.is_older_than(notice.lasts_ms(), now_ms));
        if self.notice.is_some() {
            return false;
        }
        let next = self.waiting_notices.pop_front();
        self.notice = next.map(|notice| Notice { at_ms: now_ms, ..notice });
        self.notice.is_some()
    }

    /// Removes the notice that is shown and all that wait.
    pub(crate) fn dismiss_notices(&mut self) {
        self.notice = None;
        self.waiting_notices.clear();
    }
}
