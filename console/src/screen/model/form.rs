//! The form that calls a function: one line for each value, checked while it is typed.

mod json;
mod node;

use crossterm::event::KeyEvent;
use hotswap_protocol::{FunctionInfo, InvokeParams, MAX_REPEAT};
use ratatui_textarea::TextArea;
use serde_json::Value;

pub use node::{Look, Node};

use crate::host::operation::Operation;
use crate::host::schema::Schema;
use json::{JsonTexts, text_of};

/// The number of lines of JSON that are shown for a parameter that is not edited, if it has so many.
const LEAST_JSON_LINES: usize = 3;

/// The form of one function.
pub struct Form {
    /// The target: `world`, or `world@2`
    pub target: String,
    /// The function.
    pub function: String,
    /// Whether its calls can be cancelled.
    pub is_async: bool,
    /// The values, one for each parameter.
    parameters: Vec<Node>,
    /// The parameters as JSON texts, while they are edited as JSON.
    json: Option<JsonTexts>,
    /// The index of the line that has the keyboard.
    pub focused: usize,
    /// The number of calls to make.
    pub repeat: u32,
    /// The version to call as well: `world@2`
    pub compared: Option<String>,
    /// The history entry that is shown, counted from the newest; `None` for the values that were typed.
    recalled: Option<usize>,
    /// The values that were typed before a history entry was shown.
    draft: Option<Vec<Node>>,
}

/// A line of the form.
#[derive(Debug, Clone)]
pub struct FormRow<'a> {
    /// The nesting depth of its value.
    pub depth: usize,
    /// Its value.
    pub node: &'a Node,
    /// The text editor of its JSON; `None` if it is not edited as JSON.
    pub json: Option<&'a TextArea<'static>>,
}

impl Form {
    /// An empty form.
    pub fn new(target: String, function: &FunctionInfo) -> Self {
        Self {
            target,
            function: function.name.clone(),
            is_async: function.is_async,
            parameters: blank(function),
            json: None,
            focused: 0,
            repeat: 1,
            compared: None,
            recalled: None,
            draft: None,
        }
    }

    /// The lines of the form.
    pub fn rows(&self) -> Vec<FormRow<'_>> {
        if let Some(texts) = &self.json {
            let rows = self.parameters.iter().zip(texts.iter());
            return rows.map(|(node, json)| FormRow { depth: 0, node, json: Some(json) }).collect();
        }
        let mut rows = Vec::new();
        for parameter in &self.parameters {
            push_rows(&mut rows, parameter, 0);
        }
        rows
    }

    /// Whether the parameters are edited as JSON.
    pub fn is_json(&self) -> bool {
        self.json.is_some()
    }

    /// The problem of a line; `None` if its value is valid.
    pub fn problem(row: &FormRow<'_>) -> Option<String> {
        match row.json {
            None => row.node.problem(),
            Some(editor) => from_json(row.node, &text_of(editor)).err(),
        }
    }

    /// The number of lines that the whole form takes.
    pub fn line_count(&self) -> usize {
        match &self.json {
            Some(texts) => {
                (0..self.parameters.len()).map(|index| 1 + texts.line_count(index)).sum()
            }
            None => self.rows().len(),
        }
    }

    /// The parameters that are visible as JSON on `page` lines: the index of each, and the number of lines of its text
    /// below its name. The parameter that has the keyboard is always among them.
    pub fn json_in_sight(&self, page: usize) -> Vec<(usize, usize)> {
        let Some(texts) = &self.json else { return Vec::new() };
        let (focused, count) = (self.focused, self.parameters.len());
        // The edited parameter gets most of the room; of the others at least the names stay.
        let most = page.saturating_sub(count).max(LEAST_JSON_LINES);
        let lines = |index: usize| {
            texts.line_count(index).min(if index == focused { most } else { LEAST_JSON_LINES })
        };
        let fits = |top: &usize| (*top..=focused).map(|it| 1 + lines(it)).sum::<usize>() <= page;
        let top = (0..focused).find(fits).unwrap_or(focused);
        let mut left = page;
        let rows = (top..count).map_while(|index| {
            let room = left.checked_sub(1)?;
            let names_below = if index < focused { 0 } else { count - index - 1 };
            let least = usize::from(index == focused).min(room);
            let lines = lines(index).min(room.saturating_sub(names_below).max(least));
            left = room - lines;
            Some((index, lines))
        });
        rows.collect()
    }

    /// Whether Enter begins a new line of JSON, because the text is incomplete.
    pub fn is_begun(&self) -> bool {
        self.json.as_ref().is_some_and(|texts| texts.is_begun(self.focused))
    }

    /// Whether there is a line of JSON above the cursor (or below it).
    pub fn has_line(&self, above: bool) -> bool {
        self.json.as_ref().is_some_and(|texts| texts.has_line(self.focused, above))
    }

    /// Inserts a line break, if JSON is edited.
    pub fn break_line(&mut self) {
        if let Some(texts) = &mut self.json {
            texts.insert(self.focused, "\n");
        }
    }

    /// Handles a key; false if the key has no meaning here.
    pub fn press(&mut self, key: KeyEvent) -> bool {
        self.recalled = None;
        if let Some(texts) = &mut self.json {
            return texts.press(self.focused, key);
        }
        let path = self.path(self.focused);
        path.and_then(|path| self.node_mut(&path)).is_some_and(|node| node.press(key))
    }

    /// Inserts pasted text. JSON keeps its line breaks.
    pub fn paste(&mut self, text: &str) {
        if let Some(texts) = &mut self.json {
            return texts.insert(self.focused, text);
        }
        let path = self.path(self.focused);
        let Some(node) = path.and_then(|path| self.node_mut(&path)) else { return };
        node.appear();
        if let Some(input) = node.input_mut() {
            for c in one_line(text).chars() {
                input.handle(tui_input::InputRequest::InsertChar(c));
            }
        }
    }

    /// Gives the keyboard to the next line, or to the previous one.
    pub fn focus(&mut self, forward: bool) {
        let count = self.rows().len().max(1);
        let step = if forward { 1 } else { count - 1 };
        self.focused = (self.focused + step) % count;
    }

    /// Whether the line with the keyboard is in a list that items can be added to.
    pub fn can_add_item(&self) -> bool {
        self.nodes_to_line().any(Node::takes_items)
    }

    /// Whether the line with the keyboard is in an item or an optional value that can be removed.
    pub fn can_remove_item(&self) -> bool {
        let in_list = self.nodes_to_line().zip(self.nodes_to_line().skip(1));
        in_list.into_iter().any(|(list, _)| list.takes_items())
            || self.nodes_to_line().any(Node::can_vanish)
    }

    /// The values from the outermost one to that of the line with the keyboard.
    fn nodes_to_line(&self) -> impl Iterator<Item = &Node> {
        let path = if self.is_json() { None } else { self.path(self.focused) };
        let mut nodes = self.parameters.as_slice();
        path.unwrap_or_default().into_iter().map_while(move |index| {
            let node = nodes.get(index)?;
            nodes = node.children();
            Some(node)
        })
    }

    /// Adds an item to the list that has the keyboard, or to the innermost list around it; false if there is none.
    pub fn add_item(&mut self) -> bool {
        let Some(mut path) = self.path(self.focused) else { return false };
        while !path.is_empty() {
            let Some(node) = self.node_mut(&path) else { return false };
            let index = node.children().len();
            if node.add_item() {
                path.push(index);
                self.focused = self.row_at(&path).unwrap_or(self.focused);
                return true;
            }
            path.pop();
        }
        false
    }

    /// Removes the item or the optional value that has the keyboard, or the innermost one around it; false if there is
    /// none.
    pub fn remove_item(&mut self) -> bool {
        let Some(mut path) = self.path(self.focused) else { return false };
        while let Some(index) = path.last().copied() {
            if self.node_mut(&path).is_some_and(Node::vanish) {
                self.focused = self.row_at(&path).unwrap_or(0);
                return true;
            }
            path.pop();
            if self.node_mut(&path).is_some_and(|node| node.remove_item(index)) {
                let count = self.rows().len();
                self.focused = self.focused.min(count.saturating_sub(1));
                return true;
            }
        }
        false
    }

    /// Switches between lines and JSON; an error says why the text is not valid.
    pub fn toggle_json(&mut self) -> Result<(), String> {
        match &self.json {
            None => {
                let path = self.path(self.focused);
                self.json = Some(JsonTexts::of(&self.parameters));
                self.focused = path.and_then(|path| path.first().copied()).unwrap_or(0);
            }
            Some(texts) => {
                let mut filled = Vec::with_capacity(self.parameters.len());
                let texts = self.parameters.iter().zip(texts.texts());
                for (position, (node, text)) in texts.enumerate() {
                    let parsed = match text.as_str() {
                        "" => Ok(node.clone()),
                        text => from_json(node, text).map(|(filled, _)| filled),
                    };
                    match parsed {
                        Ok(node) => filled.push(node),
                        Err(wrong) => {
                            self.focused = position;
                            return Err(format!("{}: {wrong}", node.name));
                        }
                    }
                }
                self.parameters = filled;
                self.json = None;
                self.focused = self.row_at(&[self.focused]).unwrap_or(0);
            }
        }
        Ok(())
    }

    /// Multiplies the number of calls by ten, up to the maximum; after that, one call again.
    pub fn raise_repeat(&mut self) {
        self.repeat = if self.repeat >= MAX_REPEAT { 1 } else { self.repeat * 10 };
    }

    /// The typed text of each parameter.
    pub fn texts(&self) -> Vec<String> {
        match &self.json {
            Some(texts) => texts.texts().collect(),
            None => self.parameters.iter().map(typed_into).collect(),
        }
    }

    /// Shows an older entry of the history (whose newest entry is last), or a newer one.
    pub fn recall(&mut self, history: &[Vec<Value>], older: bool) {
        let Some(last) = history.len().checked_sub(1) else { return };
        let to = match (self.recalled, older) {
            (None, true) => Some(0),
            (Some(position), true) => Some((position + 1).min(last)),
            (Some(position), false) => position.checked_sub(1),
            (None, false) => return,
        };
        if self.recalled.is_none() {
            self.draft = Some(self.parameters.clone());
        }
        self.recalled = to;
        match to {
            None => self.parameters = self.draft.take().unwrap_or_default(),
            Some(position) => {
                for (node, value) in self.parameters.iter_mut().zip(&history[last - position]) {
                    // A value that the function no longer accepts leaves its line unchanged.
                    let _ = node.clone().fill(value).map(|filled| *node = filled);
                }
            }
        }
        if self.json.take().is_some() {
            // Switching from lines to JSON cannot fail.
            let _ = self.toggle_json();
        }
        self.focused = self.focused.min(self.rows().len().saturating_sub(1));
    }

    /// The arguments; if one is invalid, the position of the first line that is.
    pub fn arguments(&self) -> Result<Vec<Value>, usize> {
        if let Some(texts) = &self.json {
            let values = self.parameters.iter().zip(texts.texts()).enumerate();
            return values
                .map(|(position, (node, text))| {
                    from_json(node, &text).map(|(_, value)| value).map_err(|_| position)
                })
                .collect();
        }
        let values: Result<Vec<Value>, String> = self.parameters.iter().map(Node::value).collect();
        values.map_err(|_| {
            let wrong = |row: &FormRow<'_>| row.node.problem().is_some();
            self.rows().iter().position(wrong).unwrap_or(0)
        })
    }

    /// The call; if an argument is invalid, the position of the first line that is.
    pub fn call(&self) -> Result<Operation, usize> {
        let call = self.call_of(&self.target, self.arguments()?);
        Ok(call.beside(self.compared.clone()))
    }

    /// The call of this target with these arguments.
    pub fn call_of(&self, target: &str, args: Vec<Value>) -> Operation {
        Operation::Invoke(InvokeParams {
            plugin: target.to_owned(),
            function: self.function.clone(),
            args,
            lenient: false,
            repeat: self.repeat,
            beside: None,
        })
    }

    /// The path to the value of a line: an index for each nesting level.
    fn path(&self, row: usize) -> Option<Vec<usize>> {
        if self.json.is_some() {
            return Some(vec![row]);
        }
        let mut left = row;
        let paths = self.parameters.iter().enumerate();
        paths.into_iter().find_map(|(index, node)| path_to(node, vec![index], &mut left))
    }

    /// The line of the value at this path.
    fn row_at(&self, path: &[usize]) -> Option<usize> {
        (0..self.rows().len()).find(|row| self.path(*row).as_deref() == Some(path))
    }

    fn node_mut(&mut self, path: &[usize]) -> Option<&mut Node> {
        node_in(&mut self.parameters, path)
    }
}

fn node_in<'a>(parameters: &'a mut [Node], path: &[usize]) -> Option<&'a mut Node> {
    let (first, rest) = path.split_first()?;
    let first = parameters.get_mut(*first)?;
    rest.iter().try_fold(first, |node, index| node.child_mut(*index))
}

fn blank(function: &FunctionInfo) -> Vec<Node> {
    let budget = &mut node::Budget::default();
    let parameters = function.params.iter();
    let node = |it: &hotswap_protocol::ParamInfo, budget: &mut node::Budget| {
        Node::parameter(&it.name, &it.type_name, Schema::new(&it.schema), budget)
    };
    parameters.map(|it| node(it, budget)).collect()
}

fn push_rows<'a>(rows: &mut Vec<FormRow<'a>>, node: &'a Node, depth: usize) {
    rows.push(FormRow { depth, node, json: None });
    for child in node.children() {
        push_rows(rows, child, depth + 1);
    }
}

fn path_to(node: &Node, path: Vec<usize>, left: &mut usize) -> Option<Vec<usize>> {
    if *left == 0 {
        return Some(path);
    }
    *left -= 1;
    node.children().iter().enumerate().find_map(|(index, child)| {
        let mut path = path.clone();
        path.push(index);
        path_to(child, path, left)
    })
}

/// Parses a JSON text, and returns the node with that value and the value.
fn from_json(node: &Node, text: &str) -> Result<(Node, Value), String> {
    let value: Value = serde_json::from_str(text).map_err(|error| match text.trim() {
        "" => "expected JSON".to_owned(),
        _ => format!("not JSON: {error}"),
    })?;
    let filled = node.clone().fill(&value)?;
    Ok((filled, value))
}

/// Prepares a text for an input field that has one line.
pub fn one_line(text: &str) -> String {
    text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn typed_into(node: &Node) -> String {
    match node.look() {
        Look::Text(input) => input.value().to_owned(),
        Look::Choice(chosen) if node.children().is_empty() => chosen,
        _ => node.value().map_or_else(|_| String::new(), |value| value.to_string()),
    }
}
