//! A screen of nothing but ASCII, for terminals and fonts that have no more.

use ratatui::buffer::Buffer;

/// What is drawn instead of what; all take one column.
const REPLACEMENTS: &[(&str, &str)] = &[
    ("─", "-"),
    ("│", "|"),
    ("┌┐└┘├┤┼", "+"),
    ("●◐◓◑◒◆", "*"),
    ("○◌", "o"),
    ("✖✘✗", "x"),
    ("✔✓", "+"),
    ("▲", "!"),
    ("✎", "*"),
    ("↺", "<"),
    ("▸", ">"),
    ("▾", "v"),
    ("→", ">"),
    ("←", "<"),
    ("↑", "^"),
    ("↓", "v"),
    ("…", "~"),
    ("█▉▊▋▌▇▆", "#"),
    ("▍▎▏", "|"),
    ("▅▄▃", "+"),
    ("▂▁", "_"),
    ("▒", "="),
    ("·", "."),
    ("–−", "-"),
    ("Δ", "d"),
    ("≥", ">"),
    ("≠", "!"),
    ("µ", "u"),
    ("⏎", "/"),
    ("“”", "\""),
    ("‹", "<"),
    ("›", ">"),
    ("×", "x"),
    ("≤", "<"),
];

/// Replaces what the console itself draws; what a host writes in its own words it may.
pub(super) fn replace(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        let symbol = cell.symbol();
        let replaced = REPLACEMENTS.iter().find(|(signs, _)| signs.contains(symbol));
        if let (false, Some((_, replacement))) = (symbol.is_ascii(), replaced) {
            cell.set_symbol(replacement);
        }
    }
}
