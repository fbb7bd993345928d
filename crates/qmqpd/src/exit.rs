//! How the program ends, and what it says then: the exit status numbers of sysexits(3).

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
        for line in &self.lines {
            // Values from configuration files stand in these lines: no control character reaches a terminal.
            eprintln!("qmqpd: {}", crate::log::escape(line.as_bytes(), true));
        }
        ExitCode::from(self.status)
    }
}
