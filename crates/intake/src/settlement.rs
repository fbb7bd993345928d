//! The journals of processes that are gone, in a process of its own: all queues are in its sight, and no client.

use std::io;

use postfix::settings::Settings;
use spool::{Queue, journal};

use super::needs::paths;
use super::store::directory::QueueDirectory;
use super::wake::{pipe_directories, queue_manager, wake_once};
use daemon::jail::Needs;
use daemon::log::Log;
use daemon::service::{Settles, now};

/// A queue directory whose journals are to be settled.
#[derive(Debug)]
pub struct Settlement {
    queue: QueueDirectory,
}

impl Settles for Settlement {
    fn open() -> io::Result<Self> {
        Ok(Self { queue: QueueDirectory::open()? })
    }

    /// All queues, no server. Call it where the queue directory is the working directory.
    fn needs(settings: &Settings) -> Needs {
        let mut spool_directories = paths(&Queue::ALL.map(Queue::name));
        spool_directories.push(journal::DIRECTORY.into());
        Needs { spool_directories, pipe_directories: pipe_directories(settings), ..Needs::default() }
    }

    /// Wakes the queue manager, too, if there is new mail.
    fn run(self, settings: &Settings, log: &Log) -> Result<bool, String> {
        let settled = self
            .queue
            .without_journal(settings, log)
            .and_then(|spool| spool.settle(&now))
            .map_err(|error| error.to_string())?;
        if settled.written_again > 0 {
            wake_once(&queue_manager(settings), settings.trigger_timeout);
        }
        Ok(settled.kept == 0)
    }
}
