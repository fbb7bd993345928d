//! How the program ends, and what it says then: the exit status numbers of sysexits(3).
//!
//! What is said goes to the terminal or the program that started us: a reader that has gone, or a full disk behind standard error, is no reason to die.

use std::io::Write;
use std::process::ExitCode;

use postfix::settings::ConfigError;

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The exit status.
    pub status: u8,
    /// What to print on standard error, a line each.
    pub lines: Vec<String>,
}

impl Exit {
    /// EX_USAGE: the command line is wrong.
    pub const USAGE: u8 = 64;
    /// EX_UNAVAILABLE: something that is needed is not there, or in use.
    pub const UNAVAILABLE: u8 = 69;
    /// EX_IOERR: standard output cannot be written.
    pub const OUTPUT: u8 = 74;
    /// EX_CONFIG: the configuration is wrong.
    pub const CONFIG: u8 = 78;

    /// The configuration is wrong.
    #[must_use]
    pub fn config(errors: &[ConfigError]) -> Self {
        Self { status: Self::CONFIG, lines: errors.iter().map(ToString::to_string).collect() }
    }

    /// Something that is needed is not there, or in use.
    #[must_use]
    pub fn unavailable(line: String) -> Self {
        Self { status: Self::UNAVAILABLE, lines: vec![line] }
    }

    /// Prints why, and gives the exit status.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        self.lines.iter().for_each(|line| complain(line));
        ExitCode::from(self.status)
    }
}

/// Writes a line to standard error. Values from configuration files may stand in it: no control character reaches a
/// terminal.
pub fn complain(line: &str) {
    let line = format!("qmqpd: {}\n", crate::log::escape(line.as_bytes(), true));
    let _nobody_reads = std::io::stderr().lock().write_all(line.as_bytes());
}

/// Tells an operator what stops nothing.
pub fn remark<'t>(label: &str, texts: impl Iterator<Item = &'t String>) {
    for text in texts {
        complain(&format!("{label}: {text}"));
    }
}

/// Prints what a command that has succeeded has to say, and gives the exit status. A reader that has gone has read enough.
#[must_use]
pub fn succeed(text: &str) -> ExitCode {
    if text.is_empty() {
        return ExitCode::SUCCESS;
    }
    let mut out = std::io::stdout().lock();
    match out.write_all(format!("{text}\n").as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            complain(&format!("the command succeeded, but its output cannot be written: {error}"));
            ExitCode::from(Exit::OUTPUT)
        }
        _ => ExitCode::SUCCESS,
    }
}
