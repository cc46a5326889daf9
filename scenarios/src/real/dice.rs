//! Chance that can be had again: a sequence of numbers from a seed.

use std::ops::Range;

/// SplitMix64: small, and good enough to choose what to try next.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed of a run: `STAPES_SEED`, to have a run again, or another one each time.
    #[must_use]
    pub fn seed() -> u64 {
        let wanted = std::env::var("STAPES_SEED").ok().and_then(|text| text.parse().ok());
        wanted.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of the range, which must not be empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.number() % (range.end - range.start)
    }

    /// One of them; there must be one.
    pub fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        let count = u64::try_from(choices.len()).expect("a slice is not that long");
        &choices[usize::try_from(self.within(0..count)).expect("an index")]
    }
}
