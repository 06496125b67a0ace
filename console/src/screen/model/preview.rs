//! What a reload would change, shown before it is done.

use hotswap_protocol::WireError;

use crate::compare::preview::{Line, Preview, Sort};
use crate::screen::input::action::Motion;
use crate::screen::layout::boxes;

/// What a reload would change.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PreviewCard {
    /// It in lines; none while the new artifacts are being opened.
    pub lines: Option<Vec<Line>>,
    /// Whether a reload would do something, and is not known to fail.
    pub can_reload: bool,
    /// The first visible row.
    pub top: usize,
}

impl PreviewCard {
    /// Takes what was found out; with a hint at what to do where there is nothing to reload.
    pub fn take(&mut self, preview: Result<Preview, WireError>, hint: Option<&str>) {
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

    /// Its text.
    pub fn text(&self) -> String {
        let lines = self.lines.iter().flatten();
        lines.map(|line| format!("{}\n", line.text.trim_end())).collect()
    }

    /// Scrolls on a screen of this size.
    pub fn go(&mut self, motion: Motion, (width, height): (u16, u16)) {
        let lines = self.lines.iter().flatten();
        let count: usize = lines.map(|line| boxes::preview(&line.text, width).len()).sum();
        let page = boxes::page(height);
        let stops = count.saturating_sub(page) + 1;
        self.top = super::plugins::step(motion, self.top, stops, page).unwrap_or(self.top);
    }
}
