//! The difference between the selected version and another one, or the working tree.

use std::collections::BTreeMap;

use hotswap_build::SourceLineKind;
use hotswap_protocol::{Source, ValueChange, ValueOutcome};

use super::State;
use super::selection::Selection;
use crate::compare::difference::{DiffRequest, DiffVersion, Difference};
use crate::compare::preview::{Line, Sort, change_lines};
use crate::format;
use crate::screen::input::action::Motion;
use crate::screen::model::Place;

/// The Diff tab.
#[derive(Default)]
pub struct Diff {
    /// The last request; `None` if it has to be made again.
    asked: Option<DiffRequest>,
    /// The answer, in lines.
    lines: Vec<Line>,
    /// The places of the lines in the newer side's sources; `None` in a file that the newer side does not have.
    places: BTreeMap<usize, Option<Place>>,
    /// The request that these lines answer.
    shown: Option<DiffRequest>,
    /// The version to compare others with, as long as its plugin is selected.
    base: Option<(String, u32)>,
    selection: Selection,
}

impl Diff {
    /// The request for the difference to show; `None` if it is shown or requested already.
    pub fn ask(state: &mut State) -> Option<DiffRequest> {
        let wanted = wanted(state)?;
        let diff = &mut state.diff;
        if diff.asked.as_ref() == Some(&wanted) {
            return None;
        }
        diff.asked = Some(wanted.clone());
        Some(wanted)
    }

    /// Notes that artifacts or sources changed, so that the lines may be outdated.
    pub fn outdate(&mut self) {
        self.asked = None;
    }

    /// Takes a difference, unless another one was requested meanwhile. It is shown with what the reload between the two
    /// versions did to the values, if that is known.
    pub fn take(state: &mut State, difference: &Difference) {
        let request = &difference.request;
        if state.diff.asked.as_ref() != Some(request) {
            return;
        }
        let to = request.to.as_ref().map(|to| to.version);
        let (plugin, from) = (&request.plugin, request.from.version);
        let reload = to.and_then(|to| state.timeline.between_versions(plugin, from, to));
        let values = reload.and_then(|reload| reload.result.as_ref().ok());
        let values = values.into_iter().flat_map(|done| &done.report.data_bag);
        let its = values.filter(|value| !state.vault.is_of_another(&value.key, plugin));
        let its: Vec<_> = its.cloned().collect();
        state.diff.show(difference, &its);
    }

    fn show(&mut self, difference: &Difference, values: &[ValueOutcome]) {
        if self.shown.as_ref() != Some(&difference.request) {
            self.selection = Selection::default();
        }
        self.lines = lines(difference, values);
        self.places = places(difference, self.lines.len());
        self.shown = Some(difference.request.clone());
    }

    /// Makes this version the base of comparisons, or removes it as the base; true if it is the base now.
    pub fn set_base(&mut self, plugin: &str, version: u32) -> bool {
        let base = Some((plugin.to_owned(), version));
        self.base = if self.base == base { None } else { base };
        self.base.is_some()
    }

    /// The lines to show; `None` while the selection is still being compared.
    pub fn lines(&self) -> Option<&[Line]> {
        let is_current = self.shown.is_some() && self.shown == self.asked;
        is_current.then_some(self.lines.as_slice())
    }

    /// The first visible line of a page of `page` lines.
    pub fn top(&self, page: usize) -> usize {
        self.selection.top(self.lines.len(), page)
    }

    /// The position of the selected line.
    pub fn selected(&self) -> usize {
        self.selection.line.min(self.lines.len().saturating_sub(1))
    }

    /// The place of the selected line in the sources; for a removed line, that of the line before it.
    pub fn place(&self) -> Option<&Place> {
        self.lines()?;
        self.places.range(..=self.selected()).next_back()?.1.as_ref()
    }

    /// Moves the selection on a page of `page` lines.
    pub fn move_by(&mut self, motion: Motion, page: usize) {
        self.selection.move_by(motion, self.lines.len(), page);
    }

    /// Scrolls like a wheel.
    pub fn scroll(&mut self, lines: usize, up: bool, page: usize) {
        self.selection.scroll(lines, up, self.lines.len(), page);
    }

    /// Selects a line.
    pub fn select(&mut self, line: usize, page: usize) {
        self.selection.select(line, self.lines.len(), page);
    }
}

/// The request for the selection: the selected version and the base, if there is one; otherwise the selected version
/// and the one that serves; for the one that serves, the working tree.
fn wanted(state: &State) -> Option<DiffRequest> {
    let row = state.plugins.selected()?;
    let plugin = row.plugin;
    let selected = DiffVersion::from(row.version);
    let request = |from, to| Some(DiffRequest { plugin: plugin.name.clone(), from, to });
    if let Some((name, version)) = &state.diff.base
        && *name == plugin.name
        && *version != selected.version
        && let Some(base) = plugin.versions.iter().find(|it| it.version == *version)
    {
        return request(DiffVersion::from(base), Some(selected));
    }
    let active = plugin.active();
    match active {
        Some(active) if active.version != selected.version => {
            request(selected, Some(DiffVersion::from(active)))
        }
        _ => request(selected, None),
    }
}

/// The title: `world v2 → v3`
pub fn title(request: &DiffRequest) -> String {
    let to = match &request.to {
        Some(version) => version.label(),
        None => "working tree".into(),
    };
    format!("{} {} → {to}", request.plugin, request.from.label())
}

fn lines(difference: &Difference, values: &[ValueOutcome]) -> Vec<Line> {
    let mut lines = vec![Line::new(Sort::Heading, title(&difference.request))];
    lines.extend(declared_lines(difference));
    // A value that was kept has nothing to do with these versions.
    let concerned = values.iter().filter(|value| value.change != ValueChange::Kept);
    lines.extend(concerned.map(|value| {
        let (sort, mark) = match value.change {
            ValueChange::Added => (Sort::Added, "  +"),
            ValueChange::Dropped => (Sort::Breaking, "! -"),
            ValueChange::Set | ValueChange::Migrated => (Sort::Changed, "  ~"),
            _ => (Sort::Plain, "   "),
        };
        let change = format::value_change(value.change);
        Line::new(sort, format!("{mark} value {} {change}", value.key))
    }));
    lines.push(Line::new(Sort::Plain, ""));
    lines.extend(source_lines(difference));
    lines
}

/// The places of the source lines. These lines are the last ones, except for a line that counts the rest.
fn places(difference: &Difference, line_count: usize) -> BTreeMap<usize, Option<Place>> {
    let Ok(diff) = &difference.source else { return BTreeMap::new() };
    let first = line_count - diff.lines.len() - usize::from(diff.omitted > 0);
    let places = diff.lines.iter().enumerate().filter_map(|(position, line)| {
        let place = line.place.clone();
        let place = place.map(|(file, row)| Place { file, row: Some(row), column: None });
        let is_file = line.kind == SourceLineKind::File;
        (is_file || place.is_some()).then_some((first + position, place))
    });
    places.collect()
}

fn declared_lines(difference: &Difference) -> Vec<Line> {
    let other = match &difference.request.to {
        Some(_) => "it is the same build",
        None => "what runs is what is on disk",
    };
    match &difference.declared {
        Ok(None) => vec![Line::new(Sort::Note, format!("  {other}"))],
        Ok(Some(declared)) => {
            let build_id = format::short_build_id(&declared.build_id);
            let breaking = declared.changes.iter().filter(|it| it.is_breaking).count();
            let what = match (declared.changes.len(), breaking) {
                (0, _) => "declares the same; only its code differs".to_owned(),
                (count, 0) => format!("{count} changed, nothing breaking"),
                (count, breaking) => format!("{count} changed, {breaking} BREAKING"),
            };
            let mut lines = vec![Line::new(Sort::Note, format!("  build {build_id}: {what}"))];
            lines.extend(declared.changes.iter().flat_map(change_lines));
            lines
        }
        Err(error) => {
            let text = error.to_string();
            text.lines().map(|line| Line::new(Sort::Error, format!("  {line}"))).collect()
        }
    }
}

fn source_lines(difference: &Difference) -> Vec<Line> {
    let request = &difference.request;
    let commit = |source: Option<&Source>| {
        source.map_or_else(String::new, |source| {
            source.commit.get(..8).unwrap_or(&source.commit).to_owned()
        })
    };
    let from = request.from.source.as_ref();
    let to = request.to.as_ref().and_then(|version| version.source.as_ref());
    let to_text = if request.to.is_some() { commit(to) } else { "working tree".into() };
    let heading = format!("source {} → {to_text}", commit(from));
    let diff = match &difference.source {
        Ok(diff) => diff,
        Err(why) => {
            let why = why.lines().map(|line| Line::new(Sort::Note, format!("  {line}")));
            return std::iter::once(Line::new(Sort::Heading, "source")).chain(why).collect();
        }
    };
    let files = format::counted(diff.files as u64, "file", "files");
    let counts = match diff.files {
        0 if from.map(|it| &it.commit) == to.map(|it| &it.commit) => "the same commit".to_owned(),
        0 => "no difference".to_owned(),
        _ => format!("{files}, +{} −{}", diff.insertions, diff.deletions),
    };
    let mut lines = vec![Line::new(Sort::Heading, format!("{heading}: {counts}"))];
    let dirty = from.is_some_and(|source| source.dirty);
    if dirty || (request.to.is_some() && to.is_some_and(|source| source.dirty)) {
        let what = "  built with changes that were not committed; only commits can be compared";
        lines.push(Line::new(Sort::Note, what));
    }
    lines.extend(diff.lines.iter().map(|line| {
        let (sort, sign) = match line.kind {
            SourceLineKind::File => (Sort::Heading, ""),
            SourceLineKind::Place => (Sort::Note, ""),
            SourceLineKind::Context => (Sort::Plain, " "),
            SourceLineKind::Added => (Sort::Added, "+"),
            SourceLineKind::Removed => (Sort::Removed, "-"),
        };
        Line::new(sort, format!("{sign}{}", line.text.replace('\t', "    ")))
    }));
    if diff.omitted > 0 {
        lines.push(Line::new(Sort::Note, format!("… {} more lines", diff.omitted)));
    }
    lines
}
