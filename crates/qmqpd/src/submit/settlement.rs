//! The journals of processes that are gone, in a process of its own: all queues are in its sight, and no client.

use std::io;

use postfix::settings::Settings;
use spool::committer::Clock;
use spool::{Queue, SpoolError, journal};

use super::needs::paths;
use super::store::directory::QueueDirectory;
use super::wake::{pipe_directories, queue_manager, wake_once};
use daemon::jail::Needs;
use daemon::log::Log;

/// A queue directory whose journals are to be settled.
#[derive(Debug)]
pub struct Settlement {
    queue: QueueDirectory,
}

impl Settlement {
    /// Opens the queue directory, which must be the working directory.
    ///
    /// # Errors
    /// What the system said.
    pub fn open() -> io::Result<Self> {
        Ok(Self { queue: QueueDirectory::open()? })
    }

    /// All queues, no server. Call it where the queue directory is the working directory.
    #[must_use]
    pub fn needs(settings: &Settings) -> Needs {
        let mut spool_directories = paths(&Queue::ALL.map(Queue::name));
        spool_directories.push(journal::DIRECTORY.into());
        Needs { spool_directories, pipe_directories: pipe_directories(settings), ..Needs::default() }
    }

    /// Settles what there is to settle, and wakes the queue manager if there is new mail. True if nothing was left for
    /// another try.
    ///
    /// # Errors
    /// The queue cannot be opened, or the disk says no.
    pub fn run(self, settings: &Settings, clock: &Clock, log: &Log) -> Result<bool, SpoolError> {
        let settled = self.queue.without_journal(settings, log)?.settle(&**clock)?;
        if settled.written_again > 0 {
            wake_once(&queue_manager(settings), settings.trigger_timeout);
        }
        Ok(settled.kept == 0)
    }
}
