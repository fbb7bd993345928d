//! A process with one task: it settles the journals of service processes that are gone, and ends. Our master starts it when it
//! finds such a journal; no client reaches it, so that a process that talks to strangers need not see the queues behind
//! `incoming`.

use std::process::ExitCode;

use postfix::child::Arguments;

use super::prepare::PrepareError;
use super::program::Settles;
use super::start::{fatal, provisional_log};
use crate::config::ServiceConfig;
use crate::jail::{self, Calls, Sandbox};
use crate::log::Log;

/// Settles what there is to settle. The exit status tells whether something was left for another try.
pub(super) fn run<S: Settles>(config: &ServiceConfig, arguments: &Arguments, program: &str) -> ExitCode {
    match settle::<S>(config, arguments, program) {
        Ok((log, is_all)) => {
            log.flush();
            if is_all { ExitCode::SUCCESS } else { ExitCode::from(TEMPORARY_FAILURE) }
        }
        Err(PrepareError { log, text }) => fatal(&log, &text),
    }
}

fn settle<S: Settles>(
    config: &ServiceConfig,
    arguments: &Arguments,
    program: &str,
) -> Result<(Log, bool), PrepareError> {
    let log = Log::open(&config.log).map_err(|error| PrepareError {
        log: provisional_log(&arguments.process_name),
        text: error.to_string(),
    })?;
    let failure = |text: String| PrepareError { log: log.clone(), text };
    let queue_directory = &config.jail.queue_directory;
    let settlement = std::env::set_current_dir(queue_directory)
        .and_then(|()| S::open())
        .map_err(|error| failure(format!("open {}: {error}", queue_directory.display())))?;
    jail::enter(&config.jail, program).map_err(|error| failure(error.to_string()))?;
    let sandbox = Sandbox::new(&config.settings, S::needs(&config.settings));
    sandbox.restrict_files().map_err(|error| failure(error.to_string()))?;
    sandbox.restrict_calls(Calls::Serve).map_err(|error| failure(error.to_string()))?;
    let is_all = settlement
        .run(&config.settings, &log)
        .map_err(|error| failure(format!("settle journals: {error}")))?;
    Ok((log, is_all))
}

/// EX_TEMPFAIL of sysexits(3).
const TEMPORARY_FAILURE: u8 = 75;
