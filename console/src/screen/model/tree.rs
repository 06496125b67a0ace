//! Rows that open and close, as the Vault and the Live tab have them.

use std::collections::{HashMap, HashSet};

use hotswap_protocol::Cut;
use serde_json::Value;

use super::plugins::contains;
use crate::format;
use crate::screen::input::action::Motion;

/// Of a list or an object at most this many children are shown.
const CHILDREN_SHOWN: usize = 500;

/// A visible row of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TreeRow {
    /// What it is, among all rows; stays the same when the contents change.
    pub path: String,
    /// How deep it lies.
    pub depth: usize,
    /// Whether its children are shown; none when it has no children.
    pub is_open: Option<bool>,
    /// Its name and the other columns.
    pub cells: Vec<String>,
    /// What the last reload did to it.
    pub mark: Mark,
}

/// What the last reload did to something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mark {
    /// Nothing.
    #[default]
    Unchanged,
    /// It is new.
    New,
    /// It is another.
    Changed,
    /// It is gone.
    Gone,
}

/// A tab that is a tree: rows that are made of its contents, and which of them are open.
pub trait TreeTab {
    /// The visible rows.
    fn rows(&self) -> Vec<TreeRow>;

    /// Which are open, and which is selected.
    fn tree(&self) -> &Tree;

    /// The same, to change it.
    fn tree_mut(&mut self) -> &mut Tree;

    /// Which of its rows is selected.
    fn selected(&self, rows: &[TreeRow]) -> usize {
        self.tree().selected(rows)
    }

    /// Selects a row.
    fn select(&mut self, index: usize) {
        let rows = self.rows();
        self.tree_mut().select(&rows, index);
    }

    /// Moves the selection, opens and closes.
    fn go(&mut self, motion: Motion, page: usize) {
        let rows = self.rows();
        self.tree_mut().go(&rows, motion, page);
    }

    /// Opens or closes the selected row; false when it has nothing to open.
    fn toggle(&mut self) -> bool {
        let rows = self.rows();
        self.tree_mut().toggle(&rows)
    }
}

/// Which rows are open, and which is selected.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// Rows that are not as they are by default: at the top open, below closed.
    toggled: HashSet<String>,
    /// By path, so that the selection stays where it is when rows come and go.
    selected: Option<String>,
    /// Where the selection was, should its row be gone.
    last_index: usize,
    /// The rows are shown whose names contain this, with all that is above them or in them.
    pub filter: String,
}

impl Tree {
    /// The rows that are shown.
    pub fn filtered(&self, rows: Vec<TreeRow>) -> Vec<TreeRow> {
        if self.filter.is_empty() {
            return rows;
        }
        let is_match =
            |row: &TreeRow| contains(row.cells.first().map_or("", |name| name), &self.filter);
        // What lies in a match is shown, and so is what a match lies in.
        let mut inside: Option<usize> = None;
        let kept: Vec<bool> = rows
            .iter()
            .map(|row| {
                inside = inside.filter(|depth| row.depth > *depth);
                if inside.is_none() && is_match(row) {
                    inside = Some(row.depth);
                }
                inside.is_some()
            })
            .collect();
        let mut above = 0;
        let mut shown: Vec<TreeRow> = Vec::new();
        for (row, is_kept) in rows.into_iter().zip(kept).rev() {
            if is_kept || row.depth < above {
                above = row.depth;
                shown.push(row);
            }
        }
        shown.reverse();
        shown
    }

    /// Whether the children of this row are shown.
    pub fn is_open(&self, path: &str, depth: usize) -> bool {
        (depth == 0) != self.toggled.contains(path)
    }

    /// Which of these rows is selected.
    pub fn selected(&self, rows: &[TreeRow]) -> usize {
        let chosen = self.selected.as_deref();
        let found = chosen.and_then(|path| rows.iter().position(|row| row.path == path));
        let fallback = if chosen.is_some() { self.last_index } else { 0 };
        found.unwrap_or(fallback).min(rows.len().saturating_sub(1))
    }

    /// Selects one of these rows.
    pub fn select(&mut self, rows: &[TreeRow], index: usize) {
        if let Some(row) = rows.get(index) {
            self.selected = Some(row.path.clone());
            self.last_index = index;
        }
    }

    /// Moves the selection; left closes a row or goes to its parent, right opens it.
    pub fn go(&mut self, rows: &[TreeRow], motion: Motion, page: usize) {
        let from = self.selected(rows);
        let Some(row) = rows.get(from) else { return };
        match (motion, row.is_open) {
            (Motion::Left, Some(true)) | (Motion::Right, Some(false)) => {
                self.toggle(rows);
            }
            (Motion::Left, _) => {
                let parent = rows[..from].iter().rposition(|above| above.depth < row.depth);
                self.select(rows, parent.unwrap_or(from));
            }
            (motion, _) => {
                if let Some(to) = super::plugins::step(motion, from, rows.len(), page) {
                    self.select(rows, to);
                }
            }
        }
    }

    /// Opens the selected row or closes it; false when it has nothing to open.
    pub fn toggle(&mut self, rows: &[TreeRow]) -> bool {
        let index = self.selected(rows);
        let Some(row) = rows.get(index).filter(|row| row.is_open.is_some()) else { return false };
        if !self.toggled.remove(&row.path) {
            self.toggled.insert(row.path.clone());
        }
        self.select(rows, index);
        true
    }

    /// Adds the rows inside a JSON value; `cells` makes the columns of a name and of what a value is in a
    /// few words.
    pub fn push_json(
        &self,
        rows: &mut Vec<TreeRow>,
        (path, depth): (&str, usize),
        (value, cuts): (&Value, &Cuts),
        mark: &impl Fn(&str) -> Mark,
        cells: &impl Fn(&str, String) -> Vec<String>,
    ) {
        let children: Vec<(String, &Value)> = match value {
            Value::Object(fields) => {
                fields.iter().map(|(name, value)| (name.clone(), value)).collect()
            }
            Value::Array(items) => {
                items.iter().enumerate().map(|(index, item)| (format!("[{index}]"), item)).collect()
            }
            _ => return,
        };
        let count = children.len();
        let left_out = cuts.left_out(path, count);
        for (name, child) in children.into_iter().take(CHILDREN_SHOWN) {
            let child_path = format!("{path}/{name}");
            let is_open = has_children(child).then(|| self.is_open(&child_path, depth));
            rows.push(TreeRow {
                mark: mark(&child_path),
                path: child_path.clone(),
                depth,
                is_open,
                cells: cells(&name, brief(child, cuts.at(&child_path))),
            });
            if is_open == Some(true) {
                self.push_json(rows, (&child_path, depth + 1), (child, cuts), mark, cells);
            }
        }
        if let Some(left_out) = left_out {
            rows.push(TreeRow {
                path: format!("{path}/…"),
                depth,
                cells: vec![format!("… {left_out} more")],
                ..TreeRow::default()
            });
        }
    }
}

/// What the host left out of a value, by the paths of the rows that show it.
#[derive(Debug, Clone, Default)]
pub struct Cuts(HashMap<String, Cut>);

impl Cuts {
    /// What is left out of a value whose row has this path.
    pub fn of(path: &str, value: &Value, cuts: &[Cut]) -> Self {
        let by_path = |cut: &Cut| Some((row_path(path, value, &cut.path)?, cut.clone()));
        Self(cuts.iter().filter_map(by_path).collect())
    }

    /// What is left out of the value of a row.
    pub fn at(&self, path: &str) -> Option<&Cut> {
        self.0.get(path)
    }

    /// How many children of a row are not shown, if any.
    fn left_out(&self, path: &str, count: usize) -> Option<String> {
        let unseen = count.saturating_sub(CHILDREN_SHOWN);
        match self.at(path).map(|cut| cut.of) {
            Some(Some(of)) => {
                Some(format::thousands(of.saturating_sub(count as u64) + unseen as u64))
            }
            Some(None) => Some("many".into()),
            None => (unseen > 0).then(|| unseen.to_string()),
        }
    }
}

/// The path of the row that shows what a JSON pointer leads to.
fn row_path(root: &str, value: &Value, pointer: &str) -> Option<String> {
    let mut path = root.to_owned();
    let mut at = Some(value);
    for step in pointer.split('/').skip(1) {
        let name = step.replace("~1", "/").replace("~0", "~");
        match at? {
            Value::Array(items) => {
                path.push_str(&format!("/[{name}]"));
                at = name.parse::<usize>().ok().and_then(|index| items.get(index));
            }
            Value::Object(fields) => {
                path.push_str(&format!("/{name}"));
                at = fields.get(&name);
            }
            _ => return None,
        }
    }
    Some(path)
}

/// Whether there is something to open in a value.
pub fn has_children(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

/// A value in a few words: itself, unless it has children or is cut.
pub fn brief(value: &Value, cut: Option<&Cut>) -> String {
    let len = |there: usize| cut.map_or(Some(there as u64), |cut| cut.of);
    match value {
        Value::Object(fields) if !fields.is_empty() || cut.is_some() => {
            format!("{{{}}}", counted(len(fields.len()), "field", "fields"))
        }
        Value::Array(items) if !items.is_empty() || cut.is_some() => {
            format!("[{}]", counted(len(items.len()), "item", "items"))
        }
        other => match cut.map(|cut| cut.of) {
            None => other.to_string(),
            Some(of) => format!("{other} … of {}", counted(of, "byte", "bytes")),
        },
    }
}

fn counted(count: Option<u64>, one: &str, several: &str) -> String {
    match count {
        Some(count) => format::counted(count, one, several),
        None => format!("many {several}"),
    }
}
