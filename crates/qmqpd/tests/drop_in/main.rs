//! Ours in place of Postfix's qmqpd(8), under Postfix's master(8): the same master.cf line, main.cf, replies, log lines,
//! queue files, and the same bytes to cleanup(8).
//!
//! The differential suite runs in this house too: `QMQPD_OURS=drop-in` or `drop-in-local`.
#![cfg(test)]

mod check;
mod delivery;
mod dialogue;
mod life;
mod load;
mod mail;
mod services;
mod shared_limits;
mod trouble;

use std::process::ExitCode;

use testbed::isolation;
use testbed::trials::Trials;

fn main() -> ExitCode {
    testbed::program::set(env!("CARGO_BIN_EXE_qmqpd"), env!("CARGO_TARGET_TMPDIR"));
    isolation::enter();
    let mut trials = Trials::default();
    mail::add(&mut trials);
    dialogue::add(&mut trials);
    life::add(&mut trials);
    services::add(&mut trials);
    shared_limits::add(&mut trials);
    check::add(&mut trials);
    trouble::add(&mut trials);
    delivery::add(&mut trials);
    trials.run()
}
