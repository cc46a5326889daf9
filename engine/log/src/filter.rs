//! A Bloom filter over the commit ids of one sealed segment, in memory: two bytes an id, and less
//! than one stranger in a thousand passes. Each id's bits lie in one cache line.

use stapes_core::ids::CommitId;

const BITS_PER_ID: usize = 16;
const WORDS_PER_BLOCK: usize = 8;
const PROBES: u32 = 7;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    words: Vec<u64>,
}

impl Filter {
    pub(crate) fn new<'a>(count: usize, ids: impl Iterator<Item = &'a CommitId>) -> Self {
        let blocks = (count * BITS_PER_ID).div_ceil(WORDS_PER_BLOCK * 64).max(1);
        let mut filter = Self { words: vec![0; blocks * WORDS_PER_BLOCK] };
        for id in ids {
            let (block, bits) = filter.place(*id);
            for (word, bit) in probes(bits) {
                filter.words[block + word] |= bit;
            }
        }
        filter
    }

    /// `false` when the id was certainly not put in.
    pub(crate) fn may_hold(&self, id: CommitId) -> bool {
        let (block, bits) = self.place(id);
        probes(bits).all(|(word, bit)| self.words[block + word] & bit != 0)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// `None` when this is no filter's size.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let whole =
            rest.is_empty() && !words.is_empty() && words.len().is_multiple_of(WORDS_PER_BLOCK);
        whole.then(|| Self { words: words.iter().map(|word| u64::from_le_bytes(*word)).collect() })
    }

    fn place(&self, id: CommitId) -> (usize, u64) {
        let (high, low) = id.0.as_u64_pair();
        let hash = mix(high ^ mix(low));
        let blocks = (self.words.len() / WORDS_PER_BLOCK) as u128;
        let block = (u128::from(hash) * blocks) >> 64;
        let block = usize::try_from(block).expect("below the number of blocks");
        (block * WORDS_PER_BLOCK, mix(hash))
    }
}

/// Nine bits of the hash for each probe.
fn probes(bits: u64) -> impl Iterator<Item = (usize, u64)> {
    (0..PROBES).map(move |probe| {
        let bit = (bits >> (9 * probe)) & 511;
        ((bit >> 6) as usize, 1 << (bit & 63))
    })
}

/// The finalizer of SplitMix64: ids that differ little are far apart.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own_and_few_strangers() {
        let id = |number: usize| CommitId::derive(&[&number.to_string()]);
        let own: Vec<_> = (0..10_000).map(id).collect();
        let filter = Filter::new(own.len(), own.iter());
        let filter = Filter::from_bytes(&filter.to_bytes()).unwrap();
        assert!(own.iter().all(|id| filter.may_hold(*id)));
        let strangers = (10_000..110_000).filter(|n| filter.may_hold(id(*n))).count();
        assert!(strangers < 300, "{strangers} of 100000 strangers passed");
    }
}
