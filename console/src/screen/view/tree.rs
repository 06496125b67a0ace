//! Trees of rows that open and close, in columns.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::plugins::row_of;
use super::text::{cut, pad, pad_name};
use super::theme::Theme;
use crate::format;
use crate::screen::layout;
use crate::screen::model::tree::{Mark, TreeRow};

/// The maximum width of a column, except for the last one.
const WIDEST: usize = 30;
/// The minimum width of the last column. Other columns are left out for it.
const LEAST_LAST: usize = 12;

/// Draws a line of titles and the rows. Narrow screens leave out the columns in `dropped_first`, in this order; the
/// column `stretched` takes the room that is left.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    (titles, dropped_first, stretched): (&[&str], &[usize], usize),
    (rows, selected): (&[TreeRow], usize),
    has_focus: bool,
    theme: &Theme,
) {
    let width = usize::from(area.width).saturating_sub(1);
    let columns = widths(titles, rows, dropped_first, stretched, width);
    let mut titles: Vec<String> = titles.iter().map(|it| (*it).to_owned()).collect();
    titles[0].insert_str(0, "  ");
    let header = format!("  {}", joined(&titles, &columns));
    frame.render_widget(Line::styled(cut(&header, width), theme.dim), row_of(area, 0));
    let page = usize::from(area.height).saturating_sub(1);
    let top = layout::first_visible(selected, page);
    for (offset, row) in rows.iter().skip(top).take(page).enumerate() {
        let style = match (top + offset == selected, has_focus) {
            (true, true) => Some(theme.selected),
            (true, false) => Some(theme.selected_elsewhere),
            (false, _) => None,
        };
        frame.render_widget(line(row, &columns, width, style, theme), row_of(area, offset + 1));
    }
}

fn line(
    row: &TreeRow,
    columns: &[usize],
    width: usize,
    selected: Option<Style>,
    theme: &Theme,
) -> Line<'static> {
    let (sign, mark_style) = match row.mark {
        Mark::Unchanged => (' ', theme.plain),
        Mark::New => ('+', theme.good),
        Mark::Changed => ('~', theme.warning),
        Mark::Gone => ('-', theme.bad),
    };
    let style = match row.mark {
        _ if row.depth == 0 => theme.strong,
        Mark::Gone => theme.dim,
        _ => theme.plain,
    };
    let mut cells = row.cells.clone();
    if let Some(name) = cells.first_mut() {
        *name = name_cell(row);
    }
    let text = pad(&joined(&cells, columns), width.saturating_sub(2));
    match selected {
        Some(selected) => Line::styled(format!("{sign} {text} "), selected),
        None => Line::from(vec![
            Span::styled(format!("{sign} "), mark_style),
            Span::styled(text, style),
        ]),
    }
}

/// The cell of the name: `  ▸ name`
fn name_cell(row: &TreeRow) -> String {
    let branch = match row.is_open {
        Some(true) => '▾',
        Some(false) => '▸',
        None => ' ',
    };
    let name = row.cells.first().map_or("", String::as_str);
    format!("{}{branch} {name}", "  ".repeat(row.depth))
}

fn joined(cells: &[String], columns: &[usize]) -> String {
    let shown = cells.iter().zip(columns).filter(|(_, width)| **width > 0);
    let cells: Vec<String> = shown
        .enumerate()
        .map(|(place, (cell, width))| match place {
            0 => pad_name(cell, *width),
            _ => pad(cell, *width),
        })
        .collect();
    cells.join("  ")
}

/// The width of each column; 0 for a column that is left out.
fn widths(
    titles: &[&str],
    rows: &[TreeRow],
    dropped_first: &[usize],
    stretched: usize,
    width: usize,
) -> Vec<usize> {
    let mut columns: Vec<usize> = (0..titles.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| match column {
                0 => Some(format::width(&name_cell(row))),
                _ => row.cells.get(column).map(|cell| format::width(cell)),
            });
            cells.chain([format::width(titles[column])]).max().unwrap_or(0).min(WIDEST)
        })
        .collect();
    let used = |columns: &[usize]| -> usize {
        let others = columns.iter().enumerate().filter(|(column, _)| *column != stretched);
        others.map(|(_, width)| if *width == 0 { 0 } else { width + 2 }).sum::<usize>() + 2
    };
    for column in dropped_first {
        if used(&columns) + LEAST_LAST > width {
            columns[*column] = 0;
        }
    }
    columns[stretched] = width.saturating_sub(used(&columns));
    columns
}
