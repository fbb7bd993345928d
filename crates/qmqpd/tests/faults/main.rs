//! System calls of the running program fail, one after the other, as a bad disk, a full table of files or a bad network
//! make them fail. Each time: the reply is right, the log says why, nothing stays open or in the queue, and the service
//! returns.
//!
//! The faults that were tried, with what came of them, are written to `target/faults.md`.
#![cfg(test)]

mod commit;
mod configuration;
mod drop_in;
mod network;
mod record;
mod replies;
mod start_up;
mod supervision;

use std::process::ExitCode;

use testbed::isolation;
use testbed::trials::Trials;

fn main() -> ExitCode {
    testbed::program::set(env!("CARGO_BIN_EXE_qmqpd"), env!("CARGO_TARGET_TMPDIR"));
    isolation::enter();
    if isolation::inside() {
        testbed::name_server::start();
    }
    let mut trials = Trials::default();
    commit::add(&mut trials);
    network::add(&mut trials);
    replies::add(&mut trials);
    supervision::add(&mut trials);
    configuration::add(&mut trials);
    drop_in::add(&mut trials);
    start_up::add(&mut trials);
    let code = trials.run();
    record::write();
    code
}
