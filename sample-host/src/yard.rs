//! The host's own object: the yard where the animals live.

use serde::Serialize;

/// The host's own object, which consoles show. Each generation of plugins gets a new one.
#[derive(Debug, Serialize)]
pub struct Yard {
    /// Its name.
    name: &'static str,
    /// The number of generations of plugins that it has seen.
    generations: u64,
}

impl Yard {
    /// The yard of the next generation; `previous` is `None` for the first.
    pub fn next(previous: Option<&Self>) -> Self {
        Self {
            name: "the yard behind the house",
            generations: previous.map_or(0, |previous| previous.generations + 1),
        }
    }
}
