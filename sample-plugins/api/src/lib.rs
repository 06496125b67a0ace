//! The interfaces and types that the sample hosts and their plugins share.

use hotswap_plugin::{Data, JsonSchema, Shared, interface, schemars};
use serde::{Deserialize, Serialize};

/// A ball of the game, on a screen that is 1 wide and 1 high.
#[derive(Debug, Clone, PartialEq, Shared, Serialize, Deserialize, JsonSchema)]
pub struct Ball {
    /// From the left edge.
    pub x: f32,
    /// From the upper edge.
    pub y: f32,
    /// To the right, each second.
    pub speed_x: f32,
    /// Downwards, each second.
    pub speed_y: f32,
}

/// An animal that lives in the host's yard.
#[interface]
pub trait Animal {
    /// Makes its sound `times` times.
    fn speak(&self, times: u32) -> String;
}

/// The interface of the object that the plugin `alpha` exports.
#[interface]
pub trait Alpha {
    /// The first number.
    fn one(&self) -> u32;
}

/// The interface of the object that the plugin `beta` exports.
#[interface]
pub trait Beta {
    /// The second number, which depends on the first.
    fn two(&self) -> u32;
}

/// A client of the chat, which the host implements.
#[interface]
pub trait Client {
    /// Shows a line.
    fn show(&self, line: String);
}

/// A client's seat in the chat, which the plugin implements. Dropping it leaves the chat.
#[interface]
pub trait Seat {
    /// Says a line.
    fn say(&self, line: String);
}

/// What the plugin `rooms` exports.
#[interface]
pub trait Rooms {
    /// Takes a seat. A client that `is_back`, after a reload, is not announced.
    fn enter(&self, name: String, client: Box<dyn Client>, is_back: bool) -> Box<dyn Seat>;
}

/// A host's queue of jobs, which it registers in the Extension as `jobs`.
#[interface]
pub trait JobQueue {
    /// Adds a job. The live function that is [named after its type](function_for) does it.
    fn add(&self, job: Data);
}

/// The name of the live function that does jobs of a live type: `live_fire` does a `LiveFire`.
pub fn function_for(type_name: &str) -> String {
    let mut name = String::new();
    for letter in type_name.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name
}
