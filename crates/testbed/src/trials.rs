//! One test as libtest-mimic sees it: a name, what it needs from the machine, and what to do.
//!
//! A test that needs what is not there is reported as ignored, under its name, with the reason on standard error. With
//! `QMQPD_PEERS=required`, which continuous integration sets, it fails instead.

use std::collections::BTreeSet;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use crate::peers::Peer;

/// A list of tests.
#[derive(Default)]
pub struct Trials {
    trials: Vec<Trial>,
    missing: BTreeSet<String>,
}

impl Trials {
    /// Adds a test. A panic in `body` is its failure.
    pub fn add(&mut self, name: &str, needs: &[Peer], body: impl FnOnce() + Send + 'static) {
        let missing: Vec<String> = needs.iter().filter_map(|peer| peer.missing()).collect();
        let required = std::env::var("QMQPD_PEERS").is_ok_and(|value| value == "required");
        let ignored = !missing.is_empty() && !required;
        self.missing.extend(missing.iter().cloned());
        let trial = Trial::test(name, move || {
            assert!(missing.is_empty(), "a peer is missing: {missing:?}");
            body();
            Ok(())
        });
        self.trials.push(trial.with_ignored_flag(ignored));
    }

    /// Runs what the command line selects.
    pub fn run(self) -> ExitCode {
        for reason in &self.missing {
            eprintln!("some tests are ignored: {reason}");
        }
        libtest_mimic::run(&Arguments::from_args(), self.trials).exit_code()
    }
}
