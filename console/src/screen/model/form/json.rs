//! The parameters as JSON: one text of several lines for each.

use crossterm::event::KeyEvent;
use ratatui::style::Style;
use ratatui_textarea::{CursorMove, TextArea};
use serde_json::Value;

use super::node::Node;

/// The parameters as JSON texts, while they are edited as JSON.
pub(super) struct JsonTexts(Vec<TextArea<'static>>);

impl JsonTexts {
    /// The texts of the present values; empty for a value that is blank or invalid.
    pub fn of(parameters: &[Node]) -> Self {
        let text = |node: &Node| match node.value() {
            Ok(value) if !node.is_blank() => {
                serde_json::to_string_pretty(&value).unwrap_or_default()
            }
            _ => String::new(),
        };
        Self(parameters.iter().map(|node| editor(&text(node))).collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = &TextArea<'static>> {
        self.0.iter()
    }

    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(text_of)
    }

    /// Handles a key; false if the key has no meaning here.
    pub fn press(&mut self, index: usize, key: KeyEvent) -> bool {
        self.0.get_mut(index).is_some_and(|editor| editor.input(key))
    }

    pub fn insert(&mut self, index: usize, text: &str) {
        if let Some(editor) = self.0.get_mut(index) {
            editor.insert_str(text);
        }
    }

    /// Whether the text is the beginning of JSON, but incomplete.
    pub fn is_begun(&self, index: usize) -> bool {
        let text = self.0.get(index).map(text_of).unwrap_or_default();
        let parsed = serde_json::from_str::<Value>(&text);
        !text.trim().is_empty() && parsed.is_err_and(|error| error.is_eof())
    }

    /// Whether there is a line above the cursor (or below it).
    pub fn has_line(&self, index: usize, above: bool) -> bool {
        self.0.get(index).is_some_and(|editor| {
            let row = editor.cursor().0;
            if above { row > 0 } else { row + 1 < editor.lines().len() }
        })
    }

    /// The number of lines of a text.
    pub fn line_count(&self, index: usize) -> usize {
        self.0.get(index).map_or(0, |editor| editor.lines().len())
    }
}

/// The text of an editor.
pub(super) fn text_of(editor: &TextArea<'static>) -> String {
    editor.lines().join("\n")
}

fn editor(text: &str) -> TextArea<'static> {
    let mut editor = TextArea::from(text.lines());
    // The terminal's own cursor shows the position.
    editor.set_cursor_style(Style::default());
    editor.set_cursor_line_style(Style::default());
    editor.set_tab_length(2);
    editor.move_cursor(CursorMove::End);
    editor
}
