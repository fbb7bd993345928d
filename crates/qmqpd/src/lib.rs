//! A QMQP server that keeps its promises.

pub mod access;
pub mod check;
pub mod cli;
pub mod client;
pub mod config;
pub mod control;
pub mod date;
pub mod exit;
pub mod inherited;
pub mod jail;
pub mod log;
pub mod master;
pub mod peer;
pub mod service;
pub mod session;
pub mod submit;
pub mod verdict;

/// Runs the program named by the command line; see qmqpd(8).
#[must_use]
pub fn run() -> std::process::ExitCode {
    cli::run(std::env::args_os().collect())
}
