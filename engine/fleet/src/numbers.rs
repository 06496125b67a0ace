//! Pseudo-random numbers that are the same on every machine for the same seed. Tests of this crate use them, in
//! `tests` too.

/// SplitMix64.
pub struct Numbers(u64);

impl Numbers {
    /// The sequence that begins with this seed.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
