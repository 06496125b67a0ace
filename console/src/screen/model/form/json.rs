//! The parameters as JSON: a text of several lines each.

use crossterm::event::KeyEvent;
use ratatui::style::Style;
use ratatui_textarea::{CursorMove, TextArea};
use serde_json::Value;

use super::node::Node;

/// The parameters as JSON, while they are typed so.
pub(super) struct JsonTexts(Vec<TextArea<'static>>);

impl JsonTexts {
    /// What the values are now; nothing where one is blank or wrong.
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

    /// Takes a key; false when it means nothing here.
    pub fn press(&mut self, index: usize, key: KeyEvent) -> bool {
        self.0.get_mut(index).is_some_and(|editor| editor.input(key))
    }

    pub fn insert(&mut self, index: usize, text: &str) {
        if let Some(editor) = self.0.get_mut(index) {
            editor.insert_str(text);
        }
    }

    /// Whether more has to come before this is JSON.
    pub fn is_begun(&self, index: usize) -> bool {
        let text = self.0.get(index).map(text_of).unwrap_or_default();
        let parsed = serde_json::from_str::<Value>(&text);
        !text.trim().is_empty() && parsed.is_err_and(|error| error.is_eof())
    }

    /// Whether there is a line above the cursor, or below it.
    pub fn has_line(&self, index: usize, above: bool) -> bool {
        self.0.get(index).is_some_and(|editor| {
            let row = editor.cursor().0;
            if above { row > 0 } else { row + 1 < editor.lines().len() }
        })
    }

    /// How many lines a text has.
    pub fn line_count(&self, index: usize) -> usize {
        self.0.get(index).map_or(0, |editor| editor.lines().len())
    }
}

/// What was typed.
pub(super) fn text_of(editor: &TextArea<'static>) -> String {
    editor.lines().join("\n")
}

fn editor(text: &str) -> TextArea<'static> {
    let mut editor = TextArea::from(text.lines());
    // The terminal's own cursor shows where one is.
    editor.set_cursor_style(Style::default());
    editor.set_cursor_line_style(Style::default());
    editor.set_tab_length(2);
    editor.move_cursor(CursorMove::End);
    editor
}
