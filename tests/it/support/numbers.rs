//! Pseudo-random numbers that are the same in each run.

use std::hash::{DefaultHasher, Hash, Hasher};

/// A sequence of numbers.
pub struct Numbers(u64);

impl Numbers {
    /// The sequence for a name.
    pub fn seeded(name: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self(hasher.finish() | 1)
    }

    /// An endless sequence of numbers below a limit.
    pub fn below(mut self, limit: usize) -> impl Iterator<Item = usize> {
        std::iter::repeat_with(move || (self.next() % limit as u64) as usize)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
