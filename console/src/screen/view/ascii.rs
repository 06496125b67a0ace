//! An ASCII screen, for terminals and fonts without other characters.

use ratatui::buffer::Buffer;

/// Each character with its replacement. All take one column.
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

/// Replaces the characters that the console itself draws. Other characters in texts of a host stay.
pub(super) fn replace(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        let symbol = cell.symbol();
        let replaced = REPLACEMENTS.iter().find(|(signs, _)| signs.contains(symbol));
        if let (false, Some((_, replacement))) = (symbol.is_ascii(), replaced) {
            cell.set_symbol(replacement);
        }
    }
}
