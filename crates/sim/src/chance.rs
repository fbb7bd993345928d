//! One generator for a seed, split by name: a draw more in one place changes nothing in the others.

/// The chance of one part of the world.
#[derive(Debug)]
pub(crate) struct Chance(fastrand::Rng);

impl Chance {
    /// The part of the seed that has this name.
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        // FNV-1a: the same on every machine.
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(fastrand::Rng::with_seed(seed.to_le_bytes().into_iter().chain(name.bytes()).fold(SEED, mix)))
    }

    /// From 0 to below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0.u64(..limit.max(1))
    }

    /// From `low` to below `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low)
    }

    /// Yes, so many times of a hundred.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

const SEED: u64 = 0xcbf2_9ce4_8422_2325;
