//! A crate that allows no warning and no unsafe code, and in which everything is deprecated. This only has to
//! compile.

#![deny(warnings, missing_docs, unsafe_code, unused, rust_2018_idioms, unused_qualifications)]

use hotswap_plugin::prelude::*;
use serde::{Deserialize, Serialize};

/// A plugin.
#[derive(Default)]
pub struct World;

#[plugin]
impl Plugin for World {}

/// A type.
#[deprecated]
#[derive(Shared)]
pub struct Old {
    /// A field.
    #[deprecated]
    pub field: u32,
}

/// An enum.
#[deprecated]
#[derive(Shared)]
#[repr(u8)]
pub enum Event {
    /// A variant.
    #[deprecated]
    Won(u32),
    /// Another one.
    Ended,
}

/// A live type.
#[live]
#[derive(Serialize, Deserialize)]
pub struct Job {
    /// A field.
    pub field: u32,
}

/// An interface.
#[deprecated]
#[interface]
pub trait Cat {
    /// A method.
    #[deprecated]
    fn meow(&self, times: u32) -> String;
    /// Another one.
    #[deprecated]
    #[must_use]
    fn lives(&self) -> u32 {
        9
    }
    /// An async one.
    #[deprecated]
    async fn sleep(&self);
}

/// A function.
#[deprecated]
#[invoke]
pub fn greet(_world: &World, name: String) -> Result<String> {
    Ok(name)
}

/// An async function.
#[invoke]
#[deprecated]
#[must_use]
pub async fn wait(hours: u32) -> u32 {
    hours
}
