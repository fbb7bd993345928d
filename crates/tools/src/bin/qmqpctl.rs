//! See qmqpctl(1).

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Show the configuration of a QMQP server, and show and change its queue
#[derive(Debug, Parser)]
#[command(version, name = "qmqpctl")]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print parameters of main.cf: values, defaults, explanations
    Config(tools::config::Args),
    /// List, print, hold, release, delete and requeue the messages in a queue directory
    Queue(tools::queue::Args),
}

fn main() -> ExitCode {
    match tools::arguments::<Program>().map(|program| program.command) {
        Ok(Command::Config(args)) => tools::config::run(&args),
        Ok(Command::Queue(args)) => tools::queue::run(&args),
        Err(status) => status,
    }
}
