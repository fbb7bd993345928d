//! See qmqpctl(1).

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Look at the configuration and the queue of a QMQP server
#[derive(Debug, Parser)]
#[command(version, name = "qmqpctl")]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print parameters of main.cf: their values, their defaults, what they mean
    Config(tools::config::Args),
    /// List and print the messages in a queue directory
    Queue(tools::queue::Args),
}

fn main() -> ExitCode {
    match Program::parse().command {
        Command::Config(args) => tools::config::run(&args),
        Command::Queue(args) => tools::queue::run(&args),
    }
}
