//! Random choices that can be repeated: the seed is known, and is part of every failure.

/// The seed where `QMQPD_SEED` sets no other: the same messages each time, so that a failure comes from a change of the code.
const SEED: u64 = 0x5eed_0f0e;

/// How many messages a random test sends where `QMQPD_ROUNDS` says nothing else.
const ROUNDS: usize = 250;

/// Choices that follow from a seed. What follows from it may change with the version of fastrand.
#[derive(Debug, Clone)]
pub struct Random(fastrand::Rng);

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
        Self(fastrand::Rng::with_seed(seed ^ (round as u64).wrapping_mul(0x2545_f491_4f6c_dd1d)))
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0.usize(..end)
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
