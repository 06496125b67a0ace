//! What happened, for the status line: one thing at once, and each for long enough to be read.

use super::State;

/// How many notices are kept.
const KEPT: usize = 200;
/// How many wait to be shown.
const MOST_WAITING: usize = 8;
/// What takes so long to read, in milliseconds.
const READ_MS: u64 = 3_000;

/// What happened, for the status line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What sort of thing it is.
    pub sort: NoticeSort,
    /// What happened.
    pub text: String,
    /// Whether it stays until somebody is there, and does not give way to what goes well.
    pub stays: bool,
    /// Whether a key asked for it, so that somebody looks.
    pub is_answer: bool,
    /// When it happened, or when it was shown if it had to wait; in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// What sort of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeSort {
    /// Something was done.
    Done,
    /// There is something to know.
    Note,
    /// Something is to be looked after.
    Warning,
    /// Something failed, or cannot be done.
    Failure,
}

impl NoticeSort {
    fn is_serious(self) -> bool {
        matches!(self, Self::Warning | Self::Failure)
    }
}

impl Notice {
    /// How long it is shown where no key is pressed: failures until somebody has had time to look.
    fn lasts_ms(&self) -> u64 {
        if self.sort.is_serious() { 120_000 } else { 20_000 }
    }

    fn is_older_than(&self, milliseconds: u64, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.at_ms) > milliseconds
    }

    /// Whether it matters, came by itself, and nobody can have read it yet.
    fn is_unread(&self, now_ms: u64) -> bool {
        let came_by_itself = self.sort.is_serious() && !self.is_answer;
        self.stays || came_by_itself && !self.is_older_than(READ_MS, now_ms)
    }
}

impl State {
    /// Tells that something was done.
    pub(crate) fn say(&mut self, text: impl Into<String>) {
        self.notify(NoticeSort::Done, text.into(), false);
    }

    /// Tells what there is to know.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notify(NoticeSort::Note, text.into(), false);
    }

    /// Tells what failed, or cannot be done.
    pub(crate) fn complain(&mut self, text: impl Into<String>) {
        self.notify(NoticeSort::Failure, text.into(), false);
    }

    /// Tells what is to be looked after and nobody may be there to see, behind what was told so before.
    pub(crate) fn warn(&mut self, text: impl Into<String>) {
        self.notify(NoticeSort::Warning, text.into(), true);
    }

    fn notify(&mut self, sort: NoticeSort, text: String, stays: bool) {
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
                self.wait_with(notice, &before);
                before
            }
        };
        self.notice = Some(shown);
    }

    /// Shows this when what is shown has been read. Of what goes well only the last is of interest then.
    fn wait_with(&mut self, notice: Notice, shown: &Notice) {
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

    /// Takes away what has been shown for long enough, and shows what waits; true if there was something.
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

    /// A key says that somebody is there: what can have been read goes, and what nobody may have seen yet goes with
    /// the next key.
    pub(crate) fn somebody_is_there(&mut self, is_key: bool) {
        let now_ms = self.now_ms;
        match &mut self.notice {
            Some(notice) if notice.stays => notice.stays = false,
            Some(notice) if is_key && !notice.is_unread(now_ms) => self.notice = None,
            _ => {}
        }
        self.show_waiting();
    }

    /// Shows what waits where nothing is shown; true if something waited.
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

    /// Takes away all that is shown and waits to be.
    pub(crate) fn dismiss_notices(&mut self) {
        self.notice = None;
        self.waiting_notices.clear();
    }
}
