//! What a service process can no longer do: each thing is tried, in a process of this program that went into the same jail
//! and sandbox as a service process does; and what /proc says about the real ones.
#![cfg(test)]

mod missing;
mod probe;
mod service;

use std::process::ExitCode;

use testbed::isolation;
use testbed::trials::Trials;

fn main() -> ExitCode {
    testbed::program::set(env!("CARGO_BIN_EXE_qmqpd"), env!("CARGO_TARGET_TMPDIR"));
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some(probe::MARK) => return probe::main(&arguments[2]),
        Some(missing::MARK) => return missing::main(&arguments[2], &arguments[3..]),
        _ => {}
    }
    isolation::enter();
    let mut trials = Trials::default();
    probe::add(&mut trials);
    service::add(&mut trials);
    missing::add(&mut trials);
    trials.run()
}
