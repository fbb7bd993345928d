//! A QMQP server that keeps its promises.

pub mod access;
pub mod date;
pub mod inherited;
pub mod jail;
pub mod log;
pub mod peer;
pub mod service;
pub mod session;
pub mod submit;
pub mod verdict;

/// Runs the program named by the command line; see qmqpd(8).
pub fn run() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
