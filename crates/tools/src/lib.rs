//! Tools around qmqpd: each program is one function here, and its file in `bin` calls it.
#![forbid(unsafe_code)]

pub mod bench;
pub mod config;
mod json;
pub mod queue;
pub mod send;

/// Exit status for a mistake in the command line, as sysexits(3) has it, in all programs.
pub const EXIT_USAGE: u8 = 64;

/// Parses the command line. Help, or the mistake in it, is printed, and the exit status returned.
///
/// # Errors
/// The exit status: 0 after help or version, [`EXIT_USAGE`] after a mistake.
pub fn arguments<T: clap::Parser>() -> Result<T, std::process::ExitCode> {
    parsed(T::try_parse())
}

fn parsed<T>(arguments: Result<T, clap::Error>) -> Result<T, std::process::ExitCode> {
    arguments.map_err(|error| {
        // A stream that is gone has no reader.
        let _ = error.print();
        std::process::ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 })
    })
}

/// One line of qmqpctl on standard error.
fn complain(what: &dyn std::fmt::Display) {
    use std::io::Write;
    // A standard error that is gone has no reader.
    let _ = writeln!(std::io::stderr(), "qmqpctl: {what}");
}
