//! qmqp-bench(1): a source of load for QMQP servers, and a sink for QMQP clients.
//!
//! Both are event loops over epoll(7), one per thread, with as few system calls per message as possible: a load generator
//! that is slower than the server under test measures itself.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod descriptors;
mod exit;
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

/// Generate load for a QMQP server, or receive it from QMQP clients
#[derive(Debug, Parser)]
#[command(name = "qmqp-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send messages to a server and measure how fast it accepts them; the server may deliver them
    Source(source::Arguments),
    /// Accept and discard messages, with configured replies
    Sink(sink::Arguments),
}

/// Runs the program with the arguments of the process.
#[must_use]
pub fn run() -> ExitCode {
    match crate::arguments::<Arguments>().map(|arguments| arguments.command) {
        Ok(Command::Source(arguments)) => source::run(&arguments),
        Ok(Command::Sink(arguments)) => sink::run(&arguments),
        Err(status) => status,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
