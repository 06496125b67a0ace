//! A preview as lines of text, for a terminal and for the screen.

use hotswap_protocol::{ArtifactChange, ChangeKind, Outcome};

use super::{PluginPreview, Preview, Prospect};
use crate::format;

/// A change longer than this many columns shows its old and new side on lines of their own.
const LONG_LINE: usize = 70;

/// A line of a preview.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its kind.
    pub sort: Sort,
    /// Its text.
    pub text: String,
}

/// The kind of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// A heading.
    Heading,
    /// Something is new.
    Added,
    /// Something is removed, or was changed.
    Removed,
    /// Something changes in a compatible way.
    Changed,
    /// Code that used it may not work any more.
    Breaking,
    /// Why something could not be done.
    Error,
    /// Something is unchanged.
    Plain,
    /// An additional remark.
    Note,
}

impl Line {
    /// A line.
    pub fn new(sort: Sort, text: impl Into<String>) -> Self {
        Self { sort, text: text.into() }
    }
}

impl Preview {
    /// The preview as text.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for plugin in self.plugins.iter().filter(|plugin| plugin.changes_something()) {
            lines.extend(plugin.lines());
            lines.push(Line::new(Sort::Plain, ""));
        }
        if lines.is_empty() {
            lines.push(Line::new(Sort::Plain, "A reload would change nothing."));
            lines.push(Line::new(Sort::Plain, ""));
        }
        for (outcome, words) in [
            (Outcome::Unchanged, "unchanged"),
            (Outcome::Held, "held by a rollback"),
            (Outcome::Missing, "stays loaded, though its artifact is gone"),
            (Outcome::NotReloadable, "its running version does not allow a reload"),
        ] {
            let of_outcome = self.plugins.iter().filter(|plugin| plugin.outcome == outcome);
            let names: Vec<&str> = of_outcome.map(|plugin| plugin.name.as_str()).collect();
            if !names.is_empty() {
                lines.push(Line::new(Sort::Note, format!("{words}: {}", names.join(", "))));
            }
        }
        if self.plugins.iter().any(|plugin| !plugin.data_bag.is_empty()) {
            let note = "the values that the new versions take over are known only after their steps have run";
            lines.push(Line::new(Sort::Note, note));
        }
        lines
    }
}

impl PluginPreview {
    /// `world v3 → build 1f2e3d4c`, and the differences.
    fn lines(&self) -> Vec<Line> {
        let mut lines = vec![Line::new(Sort::Heading, self.heading())];
        if let Some(error) = &self.error {
            lines.extend(
                error.to_string().lines().map(|it| Line::new(Sort::Error, format!("  {it}"))),
            );
        }
        if let Some(why) = &self.not_compared {
            lines.push(Line::new(Sort::Note, format!("    {why}")));
        }
        for broken in &self.host_expects {
            lines.push(Line::new(Sort::Breaking, format!("! {}", broken.expectation)));
            lines.push(Line::new(Sort::Breaking, format!("      {}", broken.difference)));
        }
        if !self.host_expects.is_empty() {
            let text = "    so the reload would be refused; build the host again, and restart it";
            lines.push(Line::new(Sort::Note, text));
        }
        lines.extend(self.changes.iter().flat_map(change_lines));
        for value in &self.data_bag {
            let sort = match value.prospect {
                _ if value.is_breaking => Sort::Breaking,
                Prospect::Unknown => Sort::Changed,
                _ => Sort::Plain,
            };
            let mark = if value.is_breaking { '!' } else { ' ' };
            let text =
                format!("{mark}   value {}: {}, {}", value.key, value.type_name, value.detail);
            lines.push(Line::new(sort, text));
        }
        let says_nothing = lines.len() == 1 && self.outcome == Outcome::Ok;
        if says_nothing {
            lines.push(Line::new(Sort::Plain, "    declares the same; only its code differs"));
        }
        if !self.imported_by.is_empty() && self.outcome == Outcome::Ok {
            let text = format!("    imported by {}", self.imported_by.join(", "));
            lines.push(Line::new(Sort::Note, text));
        }
        lines
    }

    fn heading(&self) -> String {
        let loaded = self.loaded.as_ref();
        let version = loaded.map_or_else(String::new, |loaded| format!(" {}", loaded.label()));
        let breaking = if self.is_breaking { "  BREAKING" } else { "" };
        let what = match (self.outcome, &self.new) {
            (Outcome::Removed, _) => ": its artifact is gone, it would be removed".to_owned(),
            (Outcome::Patched, _) => ": would be patched, and keep its state".to_owned(),
            (Outcome::Rebound, _) => {
                ": loaded again, since a plugin that it imports changes".to_owned()
            }
            (Outcome::Added, Some(new)) => {
                format!(": new, build {}", format::short_build_id(&new.build_id))
            }
            (_, Some(new)) => {
                let dirty = new.source.as_ref().is_some_and(|source| source.dirty);
                let commit = new.source.as_ref().and_then(|source| source.commit.get(..8));
                let commit = commit.map_or_else(String::new, |commit| {
                    format!("  ({commit}{})", if dirty { " + changes" } else { "" })
                });
                format!(" → build {}{commit}", format::short_build_id(&new.build_id))
            }
            (outcome, None) => format!(": {outcome}"),
        };
        format!("{}{version}{what}{breaking}", self.name)
    }
}

/// `! - function reset: () -> ()`; a long change takes several lines.
pub fn change_lines(change: &ArtifactChange) -> Vec<Line> {
    let (sign, sort) = match change.change {
        ChangeKind::Added => ('+', Sort::Added),
        ChangeKind::Removed => ('-', Sort::Removed),
        ChangeKind::Changed => ('~', Sort::Changed),
    };
    let (mark, sort) = if change.is_breaking { ('!', Sort::Breaking) } else { (' ', sort) };
    let ArtifactChange { item, name, detail, was, now, .. } = change;
    let item = item.as_str();
    let lead = format!("{mark} {sign} {item} {name}");
    if detail.is_empty() {
        return vec![Line::new(sort, lead)];
    }
    if format::width(&lead) + format::width(detail) <= LONG_LINE {
        return vec![Line::new(sort, format!("{lead}: {detail}"))];
    }
    let parts = match (was, now) {
        (Some(was), Some(now)) => vec![format!("was `{was}`"), format!("now `{now}`")],
        _ => vec![detail.clone()],
    };
    let parts = parts.into_iter().map(|part| Line::new(sort, format!("      {part}")));
    std::iter::once(Line::new(sort, lead)).chain(parts).collect()
}
