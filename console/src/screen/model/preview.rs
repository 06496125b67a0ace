//! The preview of a reload.

use hotswap_protocol::WireError;

use crate::compare::preview::{Line, Preview, Sort};
use crate::compare::replay::Replay;
use crate::screen::input::action::Motion;
use crate::screen::layout::boxes;

/// The preview of a reload.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PreviewCard {
    /// The changes in lines; `None` while the new artifacts are being opened.
    pub lines: Option<Vec<Line>>,
    /// Whether a reload would change something, and is not known to fail.
    pub can_reload: bool,
    /// The pinned calls in both builds.
    pub replay: Replaying,
    /// The first visible row.
    pub top: usize,
}

/// The progress of making the pinned calls in both builds.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Replaying {
    /// They were not requested.
    #[default]
    No,
    /// They are being made.
    Runs,
    /// The results, in lines.
    Done(Vec<Line>),
}

impl PreviewCard {
    /// Takes the preview. If there is nothing to reload, `hint` says what to do.
    pub fn take(&mut self, preview: Result<Preview, WireError>, hint: Option<&str>) {
        // An earlier replay was of other builds.
        self.replay = Replaying::No;
        self.lines = Some(match preview {
            Ok(preview) => {
                self.can_reload = preview.error().is_none() && !preview.changes_nothing();
                let hint = hint.filter(|_| preview.changes_nothing());
                let hint = hint.map(|hint| Line::new(Sort::Note, hint));
                preview.lines().into_iter().chain(hint).collect()
            }
            Err(error) => {
                let mut lines = vec![Line::new(Sort::Heading, "A reload would be refused.")];
                let text = error.to_string();
                lines.extend(text.lines().map(|line| Line::new(Sort::Error, format!("  {line}"))));
                lines
            }
        });
    }

    /// Takes the results of the pinned calls.
    pub fn take_replay(&mut self, replay: Result<Replay, WireError>) {
        if self.replay != Replaying::Runs {
            return;
        }
        self.replay = Replaying::Done(match replay {
            Ok(replay) => replay.lines(),
            Err(error) => {
                let text = format!("The pinned calls were not made: {error}");
                text.lines().map(|line| Line::new(Sort::Error, line)).collect()
            }
        });
    }

    /// Whether the pinned calls can be made in both builds.
    pub fn can_replay(&self) -> bool {
        self.can_reload && self.replay == Replaying::No
    }

    /// All lines: the changes, and below them the results of the pinned calls.
    pub fn all_lines(&self) -> Vec<Line> {
        let runs = "The pinned calls are made in both builds, each in a process of its own …";
        let replay = match &self.replay {
            Replaying::No => Vec::new(),
            Replaying::Runs => vec![Line::new(Sort::Note, runs)],
            Replaying::Done(lines) => lines.clone(),
        };
        let gap = (!replay.is_empty()).then(|| Line::new(Sort::Plain, ""));
        self.lines.iter().flatten().cloned().chain(gap).chain(replay).collect()
    }

    /// Its text.
    pub fn text(&self) -> String {
        self.all_lines().iter().map(|line| format!("{}\n", line.text.trim_end())).collect()
    }

    /// Scrolls on a screen of this width and height.
    pub fn move_by(&mut self, motion: Motion, (width, height): (u16, u16)) {
        let lines = self.all_lines();
        let count: usize = lines.iter().map(|line| boxes::preview(&line.text, width).len()).sum();
        let page = boxes::page(height);
        let stops = count.saturating_sub(page) + 1;
        self.top = super::plugins::step(motion, self.top, stops, page).unwrap_or(self.top);
    }
}
