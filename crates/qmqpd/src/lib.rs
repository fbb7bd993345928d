//! A QMQP server that keeps its promises.

pub mod access;
pub mod check;
pub mod cli;
pub mod client;
mod lists;
pub mod peer;
mod program;
mod server;
pub mod session;
pub mod space;
pub mod verdict;

/// Runs the program named by the command line; see qmqpd(8).
#[must_use]
pub fn run() -> std::process::ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    daemon::address_space::be_modest(&arguments);
    survive_file_size_limits();
    cli::run(arguments)
}

/// A file that would grow beyond `ulimit -f` is an error of that one write (EFBIG) then, and does not kill the process
/// with all its sessions. Blocked, not ignored: every thread inherits that, and it takes no signal handler.
fn survive_file_size_limits() {
    use nix::sys::signal::{SigSet, Signal};
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    // It can fail only for a mask that makes no sense.
    let _ = signals.thread_block();
}
