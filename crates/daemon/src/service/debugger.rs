//! `-D`, or `MAIL_DEBUG` in the environment: a debugger, or whatever `debugger_command` runs, before the first client.

use std::process::{Command, Stdio};

use postfix::child::Arguments;
use postfix::notice::Severity;

use crate::log::{Log, Program};

/// Counts when it is there, whatever its value.
const DEBUG_VARIABLE: &str = "MAIL_DEBUG";

/// Whether this process is to be debugged.
pub(super) fn is_wanted(arguments: &Arguments) -> bool {
    arguments.debug || std::env::var_os(DEBUG_VARIABLE).is_some()
}

/// Runs the command and waits for its end, which it puts off with `&` where it is to stay. It has the privileges that this
/// process has now, the queue directory as its working directory, and no terminal.
///
/// # Errors
/// What to log before this process ends, as Postfix's do.
pub(super) fn run(command: &str, log: &Log) -> Result<(), String> {
    if command.is_empty() {
        return Err("no debugger_command variable set up".to_owned());
    }
    log.write(Program::Service, Severity::Info, &format!("running: {command}"));
    let started = Command::new("/bin/sh").arg("-c").arg(command).stdin(Stdio::null()).status();
    // The result of the command is for its author.
    started.map(drop).map_err(|error| format!("run debugger_command: {error}"))
}
