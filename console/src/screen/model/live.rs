//! The live functions and types of the newest generation, which are found by name alone.

use hotswap_protocol::{LiveFunctionInfo, LiveSnapshot, LiveTypeInfo, WireError};

use super::tree::{Mark, Tree, TreeRow, TreeTab};
use crate::format;
use crate::host::schema;

/// The columns of the Live tab.
pub const COLUMNS: [&str; 5] = ["name", "signature", "plugin", "version", "calls"];

/// The Live tab.
#[derive(Default)]
pub struct Live {
    contents: Option<Result<LiveSnapshot, WireError>>,
    tree: Tree,
}

/// The subject of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LiveItem<'a> {
    /// A function.
    Function(&'a LiveFunctionInfo),
    /// A type.
    Type(&'a LiveTypeInfo),
}

impl TreeTab for Live {
    fn rows(&self) -> Vec<TreeRow> {
        let Some(Ok(live)) = &self.contents else { return Vec::new() };
        let mut rows = Vec::new();
        if self.push_heading(&mut rows, "Functions", live.functions.len()) {
            rows.extend(live.functions.iter().map(|it| {
                row(
                    format!("Functions/{}", it.function.name),
                    vec![
                        it.function.name.clone(),
                        it.function.signature.clone(),
                        it.plugin.clone(),
                        format!("v{}", it.version),
                        format::count(it.function.calls),
                    ],
                )
            }));
        }
        if self.push_heading(&mut rows, "Types", live.types.len()) {
            rows.extend(live.types.iter().map(|it| {
                row(
                    format!("Types/{}", it.name),
                    vec![
                        it.name.clone(),
                        schema::summary(&it.schema),
                        it.plugin.clone(),
                        format!("v{}", it.version),
                        String::new(),
                    ],
                )
            }));
        }
        self.tree.filtered(rows)
    }

    fn tree(&self) -> &Tree {
        &self.tree
    }

    fn tree_mut(&mut self) -> &mut Tree {
        &mut self.tree
    }
}

impl Live {
    /// Takes the host's tables; true if they changed.
    pub fn update(&mut self, contents: Result<LiveSnapshot, WireError>) -> bool {
        let changed = self.contents.as_ref() != Some(&contents);
        self.contents = Some(contents);
        changed
    }

    /// Forgets the tables of a host that has ended.
    pub fn clear(&mut self) {
        self.contents = None;
    }

    /// The reason why the tables cannot be shown.
    pub fn error(&self) -> Option<&WireError> {
        self.contents.as_ref()?.as_ref().err()
    }

    fn push_heading(&self, rows: &mut Vec<TreeRow>, name: &str, count: usize) -> bool {
        let open = self.tree.is_open(name, 0);
        let note = if count == 0 { "none" } else { "" };
        rows.push(TreeRow {
            path: name.into(),
            depth: 0,
            is_open: (count > 0).then_some(open),
            cells: vec![name.into(), note.into(), String::new(), String::new(), String::new()],
            mark: Mark::Unchanged,
        });
        open
    }

    /// The subject of the selected row; `None` for a heading.
    pub fn selected_item(&self) -> Option<LiveItem<'_>> {
        let rows = self.rows();
        let path = &rows.get(self.tree.selected(&rows))?.path;
        let Some(Ok(live)) = &self.contents else { return None };
        if let Some(name) = path.strip_prefix("Functions/") {
            return live
                .functions
                .iter()
                .find(|it| it.function.name == name)
                .map(LiveItem::Function);
        }
        let name = path.strip_prefix("Types/")?;
        live.types.iter().find(|it| it.name == name).map(LiveItem::Type)
    }

    /// The details of the selected row: a title and lines.
    pub fn details(&self) -> Option<(String, Vec<String>)> {
        let (title, plugin, version, doc, mut rest) = match self.selected_item()? {
            LiveItem::Function(live) => {
                let function = &live.function;
                let mut lines = vec![
                    format!("signature {}", function.signature),
                    format!("calls     {}", function.calls),
                ];
                if function.is_async {
                    lines.push("async     its call can be cancelled".into());
                }
                (
                    format!("live function {}", function.name),
                    &live.plugin,
                    live.version,
                    &function.doc,
                    lines,
                )
            }
            LiveItem::Type(live) => {
                let schema = format!("{:#}", live.schema);
                let lines = schema.lines().map(str::to_owned).collect();
                (format!("live type {}", live.name), &live.plugin, live.version, &live.doc, lines)
            }
        };
        let mut lines = vec![format!("of        {plugin} v{version}")];
        lines.append(&mut rest);
        if !doc.is_empty() {
            lines.push(String::new());
            lines.extend(doc.lines().map(str::to_owned));
        }
        Some((title, lines))
    }
}

fn row(path: String, cells: Vec<String>) -> TreeRow {
    TreeRow { path, depth: 1, is_open: None, cells, mark: Mark::Unchanged }
}
