//! What each way of accepting a message needs behind the jail.

use std::path::PathBuf;

use postfix::settings::Settings;
use postfix::settings::words::Submit;

use super::wake::pipe_directories;
use crate::jail::Needs;

/// For a process that accepts messages with these settings. Call it where the queue directory is the working directory.
#[must_use]
pub fn needs(settings: &Settings) -> Needs {
    match settings.qmqpd_submit {
        Submit::Local => Needs {
            // A check can put a message on hold.
            spool_directories: paths(&["incoming", "hold", spool::journal::DIRECTORY]),
            log_directories: paths(&["bounce", "defer", "trace"]),
            pipe_directories: pipe_directories(settings),
            ..Needs::default()
        },
        // Only what is too much for the memory, for a while.
        Submit::Postfix => Needs { spool_directories: paths(&["incoming"]), ..Needs::default() },
    }
}

/// For a process that settles journals: all queues.
pub(crate) fn needs_of_settlement(settings: &Settings) -> Needs {
    let queues = spool::Queue::ALL.map(spool::Queue::name);
    let mut spool_directories = paths(&queues);
    spool_directories.push(spool::journal::DIRECTORY.into());
    Needs { spool_directories, pipe_directories: pipe_directories(settings), ..Needs::default() }
}

fn paths(names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(PathBuf::from).collect()
}
