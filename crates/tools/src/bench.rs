//! qmqp-bench(1): a source of load for QMQP servers, and a sink for QMQP clients.
//!
//! Both are event loops over epoll(7), one a thread, with as few system calls for each message as there can be: a load
//! generator that is slower than the server under test measures itself.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod descriptors;
mod interrupt;
mod part;
mod plot;
mod report;
mod request;
mod schedule;
mod sink;
mod source;
mod tally;
mod target;
mod worker;

/// Puts a measured load on a QMQP server, or takes one from QMQP clients
#[derive(Debug, Parser)]
#[command(name = "qmqp-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sends messages to a server, and says how fast it takes them
    Source(source::Arguments),
    /// Accepts messages, throws them away, and answers as it is told to
    Sink(sink::Arguments),
}

/// Runs the program with the arguments of the process.
#[must_use]
pub fn run() -> ExitCode {
    match Arguments::parse().command {
        Command::Source(arguments) => source::run(&arguments),
        Command::Sink(arguments) => sink::run(&arguments),
    }
}

/// Exit status for a load that cannot be made, or output that cannot be written.
const EXIT_TROUBLE: u8 = 2;

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
