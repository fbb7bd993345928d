//! Crashes of the real program: `kill -9` of the whole process group under load, and a power cut below a real ext4. Behind
//! each there is an account: every message that was answered `K` is there, whole; none is there that nobody sent.
//!
//! `QMQPD_CRASHES` says how many power cuts are tried; a failure prints QMQPD_SEED.
#![cfg(test)]

mod account;
mod kill;
mod power_cut;
mod recorder;
mod remount;

use std::process::ExitCode;
use std::sync::RwLock;

use testbed::isolation;
use testbed::trials::Trials;

/// A mount namespace that a test makes holds copies of all mounts: a file system that another test unmounts meanwhile stays
/// mounted there, and is not the fresh one that this test needs. To write: who unmounts. To read: who makes namespaces.
static MOUNTS: RwLock<()> = RwLock::new(());

fn main() -> ExitCode {
    testbed::program::set(env!("CARGO_BIN_EXE_qmqpd"), env!("CARGO_TARGET_TMPDIR"));
    isolation::enter();
    let mut trials = Trials::default();
    kill::add(&mut trials);
    power_cut::add(&mut trials);
    remount::add(&mut trials);
    trials.run()
}
