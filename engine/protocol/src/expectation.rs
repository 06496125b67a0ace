//! The expectations of the host's own code about plugins.

use serde::{Deserialize, Serialize};

/// Something that the host's own code expects from plugins because it calls a function with Rust types or
/// uses an object of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    /// The kind of item.
    pub item: ExpectedItem,
    /// The plugin that must have the item; `None` if any plugin may have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The name of a function, or the path of an interface.
    pub name: String,
    /// The form in which the host uses it: `fn(i32) -> String`, or the methods of an interface.
    pub expected: String,
    /// A hash of its types.
    pub fingerprint: String,
}

/// The kind of item that a host expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ExpectedItem {
    /// A function of a plugin.
    Function,
    /// A live function, whichever plugin has it.
    LiveFunction,
    /// What a plugin exports.
    Export,
    /// What plugins register in the Extension.
    Registration,
    /// A kind that this program does not know.
    #[serde(other)]
    Other,
}

/// An expectation of the host that a load would break.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenExpectation {
    /// What is expected.
    #[serde(flatten)]
    pub expectation: Expectation,
    /// The plugin whose new version breaks the expectation.
    pub by: String,
    /// The difference between what is expected and what the new version has.
    pub difference: String,
}

impl std::fmt::Display for Expectation {
    /// ``the host calls `add` as `fn(i32) -> i32` ``
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { item, name, expected, .. } = self;
        match item {
            ExpectedItem::Function => write!(f, "the host calls `{name}` as `{expected}`"),
            ExpectedItem::LiveFunction => {
                write!(f, "the host calls the live function `{name}` as `{expected}`")
            }
            ExpectedItem::Export => write!(f, "the host uses its export as `{name}`"),
            ExpectedItem::Registration => write!(f, "the host uses registrations of `{name}`"),
            ExpectedItem::Other => write!(f, "the host expects `{name}` as `{expected}`"),
        }
    }
}

impl std::fmt::Display for BrokenExpectation {
    /// ``the host calls `add` as `fn(i32) -> i32`: found `u32`, expected `i32` ``
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.expectation, self.difference)
    }
}
