//! Seeds of the simulated world: `make simulate`. A failure prints the seed, and `make simulate SEED=N` its story.
#![cfg(test)]
#![cfg(shuttle)]

use sim::{Run, run};

/// Same seed, same run, byte for byte.
#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in 1..6 {
        let (first, second) = (run(&Run::new(seed)), run(&Run::new(seed)));
        assert!(first.story.len() > 10, "seed {seed}: nothing happens");
        assert_eq!(first, second, "seed {seed}");
    }
}
