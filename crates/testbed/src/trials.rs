//! One test as libtest-mimic sees it: a name, what it needs from the machine, and what to do.
//!
//! A test that needs what is not there is reported as ignored, under its name, with the reason on standard error. With
//! `QMQPD_PEERS=required`, which continuous integration sets, it fails instead.

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

use crate::peers::Peer;
use crate::{failure, program};

/// A list of tests.
#[derive(Default)]
pub struct Trials {
    trials: Vec<Trial>,
    missing: BTreeSet<String>,
}

impl Trials {
    /// Adds a test. A panic in `body` is its failure; it is shown with the lines of the servers' logs that matter.
    pub fn add(&mut self, name: &str, needs: &[Peer], body: impl FnOnce() + Send + 'static) {
        let missing: Vec<String> = needs.iter().filter_map(|peer| peer.missing()).collect();
        let required = std::env::var("QMQPD_PEERS").is_ok_and(|value| value == "required");
        let ignored = !missing.is_empty() && !required;
        self.missing.extend(missing.iter().cloned());
        let title = name.to_owned();
        let trial = Trial::test(name, move || {
            if !missing.is_empty() {
                return Err(Failed::from(format!("a peer is missing: {missing:?}")));
            }
            failure::begin();
            // What the body shares with other tests stays usable after a panic, or they would hang on it without this as well.
            catch_unwind(AssertUnwindSafe(body)).map_err(|panic| {
                let report = failure::report(&title, program::target());
                Failed::from(format!("{}\n{report}", words(&*panic)))
            })
        });
        self.trials.push(trial.with_ignored_flag(ignored));
    }

    /// Runs what the command line selects.
    pub fn run(self) -> ExitCode {
        for reason in &self.missing {
            eprintln!("some tests are ignored: {reason}");
        }
        failure::note_panics();
        libtest_mimic::run(&Arguments::from_args(), self.trials).exit_code()
    }
}

/// What a panic says.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}
