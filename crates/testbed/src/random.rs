//! Random choices that can be repeated: the seed is known, and is part of every failure.

/// The seed where `QMQPD_SEED` sets no other: the same messages each time, so that a failure comes from a change of the code.
const SEED: u64 = 0x5eed_0f0e;

/// How many messages a random test sends where `QMQPD_ROUNDS` says nothing else.
const ROUNDS: usize = 250;

/// A small generator of pseudo-random numbers (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

/// The seed of this run.
pub fn seed() -> u64 {
    number("QMQPD_SEED").unwrap_or(SEED)
}

/// The rounds of this run.
pub fn rounds() -> usize {
    number("QMQPD_ROUNDS").and_then(|rounds| usize::try_from(rounds).ok()).unwrap_or(ROUNDS)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

impl Random {
    /// The generator for one round.
    pub fn new(seed: u64, round: usize) -> Self {
        Self(seed ^ (round as u64).wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    /// One of them.
    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    /// Up to `most` of the words, one after the other.
    pub fn soup(&mut self, words: &[&[u8]], most: usize) -> Vec<u8> {
        let count = self.below(most + 1);
        (0..count).flat_map(|_| self.pick(words).to_vec()).collect()
    }
}
