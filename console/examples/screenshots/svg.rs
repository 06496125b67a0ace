//! A screen as a picture. Lines and bars are drawn as shapes, so that they join whatever the font.

use std::fmt::Write;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

const CELL_WIDTH: f32 = 8.4;
const CELL_HEIGHT: f32 = 18.0;
const FONT_SIZE: f32 = 14.0;
/// From the top of a cell to the line that letters stand on.
const BASELINE: f32 = 13.5;
const MARGIN: f32 = 12.0;

const BACKGROUND: &str = "#0d1117";
const FOREGROUND: &str = "#c9d1d9";
/// The sixteen colours that a terminal chooses by itself.
const NAMED: [&str; 16] = [
    "#484f58", "#ff7b72", "#3fb950", "#d29922", "#58a6ff", "#bc8cff", "#39c5cf", "#b1bac4",
    "#6e7681", "#ffa198", "#56d364", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#ffffff",
];

/// The picture of a whole screen.
pub fn picture(buffer: &Buffer) -> String {
    let width = f32::from(buffer.area.width) * CELL_WIDTH + 2.0 * MARGIN;
    let height = f32::from(buffer.area.height) * CELL_HEIGHT + 2.0 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.1} {height:.1}\" \
         font-family=\"ui-monospace, SFMono-Regular, Menlo, 'DejaVu Sans Mono', monospace\" \
         font-size=\"{FONT_SIZE}\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n"
    );
    let columns = usize::from(buffer.area.width.max(1));
    for (row, cells) in buffer.content().chunks(columns).enumerate() {
        let y = MARGIN + row as f32 * CELL_HEIGHT;
        for run in runs(cells) {
            draw_run(&mut svg, &run, y);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Cells beside each other that are drawn as one.
struct Run<'a> {
    column: usize,
    cells: &'a [Cell],
}

fn runs(cells: &[Cell]) -> Vec<Run<'_>> {
    let mut column = 0;
    let joins = |a: &Cell, b: &Cell| {
        let is_text = |cell: &Cell| shape(cell.symbol()).is_none();
        let same_shape = a.symbol() == b.symbol() && !is_text(a) && a.symbol() != "│";
        // Columns stay apart, so that they are aligned in fonts of other widths too.
        let same_text = is_text(a) && is_text(b) && (a.symbol() == " ") == (b.symbol() == " ");
        a.style() == b.style() && (same_shape || same_text)
    };
    cells
        .chunk_by(joins)
        .map(|cells| {
            column += cells.len();
            Run { column: column - cells.len(), cells }
        })
        .collect()
}

fn draw_run(svg: &mut String, run: &Run<'_>, y: f32) {
    let x = MARGIN + run.column as f32 * CELL_WIDTH;
    let width = run.cells.len() as f32 * CELL_WIDTH;
    let cell = &run.cells[0];
    let reversed = cell.modifier.contains(Modifier::REVERSED);
    let (mut foreground, mut background) = (colour(cell.fg), colour(cell.bg));
    if reversed {
        (foreground, background) =
            (background.or(Some(BACKGROUND.into())), foreground.or(Some(FOREGROUND.into())));
    }
    // Writing to a string does not fail.
    if let Some(background) = background {
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{CELL_HEIGHT}\" \
             fill=\"{background}\"/>"
        );
    }
    let foreground = foreground.unwrap_or_else(|| FOREGROUND.into());
    if let Some(shape) = shape(cell.symbol()) {
        draw_shape(svg, shape, (x, y, width), &foreground);
        return;
    }
    let text: String = run.cells.iter().map(Cell::symbol).collect();
    let blank = text.trim_end().is_empty();
    if blank && !cell.modifier.contains(Modifier::UNDERLINED) {
        return;
    }
    let mut attributes = String::new();
    if cell.modifier.contains(Modifier::BOLD) {
        attributes.push_str(" font-weight=\"bold\"");
    }
    if cell.modifier.contains(Modifier::UNDERLINED) {
        attributes.push_str(" text-decoration=\"underline\"");
    }
    if cell.modifier.contains(Modifier::DIM) {
        attributes.push_str(" opacity=\"0.6\"");
    }
    let baseline = y + BASELINE;
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{baseline:.1}\" textLength=\"{width:.1}\" fill=\"{foreground}\" \
         xml:space=\"preserve\"{attributes}>{}</text>",
        escaped(&text)
    );
}

/// What is drawn as lines or as an area.
#[derive(Clone, Copy)]
enum Shape {
    /// From the middle of the cell to these of its sides: up, right, down, left.
    Lines([bool; 4]),
    /// So much of the cell's width, from the left, with this opacity.
    Bar(f32, f32),
}

fn shape(symbol: &str) -> Option<Shape> {
    let lines = |up, right, down, left| Some(Shape::Lines([up, right, down, left]));
    match symbol {
        "─" => lines(false, true, false, true),
        "│" => lines(true, false, true, false),
        "┌" => lines(false, true, true, false),
        "┐" => lines(false, false, true, true),
        "└" => lines(true, true, false, false),
        "┘" => lines(true, false, false, true),
        "├" => lines(true, true, true, false),
        "▒" => Some(Shape::Bar(1.0, 0.4)),
        _ => {
            let eighths = "▏▎▍▌▋▊▉█".chars().position(|it| symbol.starts_with(it))?;
            Some(Shape::Bar((eighths + 1) as f32 / 8.0, 1.0))
        }
    }
}

fn draw_shape(svg: &mut String, shape: Shape, (x, y, width): (f32, f32, f32), colour: &str) {
    match shape {
        Shape::Lines(sides) => {
            let (middle_x, middle_y) = (x + width / 2.0, y + CELL_HEIGHT / 2.0);
            let ends =
                [(middle_x, y), (x + width, middle_y), (middle_x, y + CELL_HEIGHT), (x, middle_y)];
            let mut path = String::new();
            for (end_x, end_y) in ends.iter().zip(sides).filter_map(|(end, is)| is.then_some(end)) {
                let _ = write!(path, "M{middle_x:.1} {middle_y:.1}L{end_x:.1} {end_y:.1}");
            }
            let _ = writeln!(svg, "<path d=\"{path}\" stroke=\"{colour}\" fill=\"none\"/>");
        }
        Shape::Bar(part, opacity) => {
            // A part of a cell never stands beside its like.
            let width = width * part;
            let (top, height) = (y + 3.0, CELL_HEIGHT - 6.0);
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height}\" \
                 fill=\"{colour}\" opacity=\"{opacity}\"/>"
            );
        }
    }
}

/// None for the terminal's own colour.
fn colour(colour: Color) -> Option<String> {
    let named = |index: usize| Some(NAMED[index].to_owned());
    match colour {
        Color::Reset => None,
        Color::Black => named(0),
        Color::Red => named(1),
        Color::Green => named(2),
        Color::Yellow => named(3),
        Color::Blue => named(4),
        Color::Magenta => named(5),
        Color::Cyan => named(6),
        Color::Gray => named(7),
        Color::DarkGray => named(8),
        Color::LightRed => named(9),
        Color::LightGreen => named(10),
        Color::LightYellow => named(11),
        Color::LightBlue => named(12),
        Color::LightMagenta => named(13),
        Color::LightCyan => named(14),
        Color::White => named(15),
        Color::Rgb(red, green, blue) => Some(format!("#{red:02x}{green:02x}{blue:02x}")),
        Color::Indexed(index @ 0..16) => named(index.into()),
        // A cube of six steps a side.
        Color::Indexed(index @ 16..232) => {
            let step = |it: u8| if it == 0 { 0 } else { 55 + 40 * it };
            let index = index - 16;
            let (red, green, blue) = (step(index / 36), step(index / 6 % 6), step(index % 6));
            Some(format!("#{red:02x}{green:02x}{blue:02x}"))
        }
        Color::Indexed(index) => {
            let grey = 8 + 10 * (index - 232);
            Some(format!("#{grey:02x}{grey:02x}{grey:02x}"))
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
