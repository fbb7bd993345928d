//! A QMQP server that keeps its promises.

pub mod inherited;
pub mod jail;
pub mod log;
pub mod peer;

/// Runs the program named by the command line; see qmqpd(8).
pub fn run() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
