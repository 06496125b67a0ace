//! The Vault as lines of a table and of trees.

use hotswap_protocol::{VaultSnapshot, WireError};

use crate::format;

/// The Vault tab.
#[derive(Default)]
pub struct Vault {
    /// The Vault as last seen.
    pub contents: Option<Result<VaultSnapshot, WireError>>,
    /// The first visible line.
    pub top: usize,
}

/// A line of the Vault tab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultLine {
    /// What follows.
    Heading(String),
    /// The names of the columns that follow.
    Columns(Vec<String>),
    /// A row of a table.
    Cells(Vec<String>),
    /// Part of a value.
    Text(String),
    /// Nothing.
    Blank,
}

impl Vault {
    /// How many lines there are.
    pub fn line_count(&self) -> usize {
        self.lines().len()
    }

    /// All lines.
    pub fn lines(&self) -> Vec<VaultLine> {
        match &self.contents {
            None => Vec::new(),
            Some(Err(error)) => {
                error.to_string().lines().map(|line| VaultLine::Text(line.to_owned())).collect()
            }
            Some(Ok(vault)) => lines_of(vault),
        }
    }
}

fn lines_of(vault: &VaultSnapshot) -> Vec<VaultLine> {
    let mut lines = vec![VaultLine::Heading("DataBag".into())];
    if vault.data_bag.is_empty() {
        lines.push(VaultLine::Text("empty".into()));
    } else {
        let rows = vault.data_bag.iter().map(|entry| {
            vec![
                entry.key.clone(),
                entry.type_name.clone(),
                entry.owner.clone(),
                entry.size_bytes.map_or_else(|| "–".into(), format::bytes),
                entry.value.as_ref().map_or_else(|| "opaque".into(), ToString::to_string),
            ]
        });
        push_table(&mut lines, &["name", "type", "owner", "size", "value"], rows);
    }
    lines.push(VaultLine::Blank);
    let heading = match vault.extension_type.as_str() {
        "" => "Extension".to_owned(),
        type_name => format!("Extension  {type_name}"),
    };
    lines.push(VaultLine::Heading(heading));
    let value = format!("{:#}", vault.extension);
    lines.extend(value.lines().map(|line| VaultLine::Text(line.to_owned())));
    if !vault.slots.is_empty() {
        lines.push(VaultLine::Blank);
        lines.push(VaultLine::Heading("Registered in the Extension".into()));
        let rows = vault
            .slots
            .iter()
            .map(|slot| vec![slot.name.clone(), slot.interface.clone(), slot.owner.clone()]);
        push_table(&mut lines, &["name", "interface", "owner"], rows);
    }
    lines
}

/// Pads all columns but the last to the widest cell.
fn push_table(
    lines: &mut Vec<VaultLine>,
    header: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) {
    let header = header.iter().map(|name| (*name).to_owned()).collect();
    let mut table: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let column_count = table[0].len();
    for column in 0..column_count - 1 {
        let width = table.iter().map(|row| format::width(&row[column])).max().unwrap_or(0);
        for row in &mut table {
            let padding = width - format::width(&row[column]);
            row[column].push_str(&" ".repeat(padding));
        }
    }
    let mut table = table.into_iter();
    lines.extend(table.next().map(VaultLine::Columns));
    lines.extend(table.map(VaultLine::Cells));
}
