//! The host's own object, the Extension: where animals live.

use serde::Serialize;

/// What plugins and consoles see of the host. Each generation of plugins gets a new one.
#[derive(Debug, Serialize)]
pub struct Yard {
    /// Its name.
    name: &'static str,
    /// How many generations of plugins it has seen.
    generations: u64,
}

impl Yard {
    /// The next generation's yard.
    pub fn next(previous: Option<&Self>) -> Self {
        Self {
            name: "the yard behind the house",
            generations: previous.map_or(0, |previous| previous.generations + 1),
        }
    }
}
