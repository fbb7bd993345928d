//! The locks by which there is one queue manager at a time.
//!
//! Two files in process_id_directory: `unix.NAME`, exclusively, between queue managers of ours, so that a successor waits for
//! its predecessor; and `master.pid`, shared. Postfix's master(8) wants that one exclusively when it starts, and gives up
//! where it is locked (observed on Postfix 3.7: flock(2)); while it runs, we do not get it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// The files, which are locked later: a predecessor may have to finish first.
#[derive(Debug)]
pub(super) struct Lock {
    ours: OwnedFd,
    postfix: File,
}

/// What came of an attempt to lock.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// We hold both.
    Taken,
    /// Another queue manager of ours works.
    Ours,
    /// A Postfix runs on this queue.
    Postfix,
}

impl Lock {
    /// Opens the lock files of the service.
    pub(super) fn open(process_id_directory: &Path, service: &str) -> Result<Self, String> {
        let open = |name: &str, mode: u32| {
            let path = process_id_directory.join(name);
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false).mode(mode);
            options.open(&path).map_err(|error| format!("open lock file {}: {error}", path.display()))
        };
        Ok(Self {
            ours: open(&format!("unix.{service}"), 0o600)?.into(),
            postfix: open(daemon::queue_directory::POSTFIX_LOCK, 0o644)?,
        })
    }

    /// Tries to lock both. The locks are held until the value is dropped.
    pub(super) fn try_take(&self) -> Result<Attempt, String> {
        let lock = |file: &dyn std::os::fd::AsFd, how| match rustix::fs::flock(file.as_fd(), how) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
            Err(error) => Err(format!("lock of the queue manager: {error}")),
        };
        if !lock(&self.postfix, FlockOperation::NonBlockingLockShared)? {
            return Ok(Attempt::Postfix);
        }
        if !lock(&self.ours, FlockOperation::NonBlockingLockExclusive)? {
            return Ok(Attempt::Ours);
        }
        // The number of a Postfix that ran here once: its `postfix stop` would signal that process.
        let _stays_as_it_was = self.postfix.set_len(0);
        Ok(Attempt::Taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_queue_manager_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Lock::open(directory.path(), "qmgr").unwrap();
        let (first, second) = (open(), open());
        assert_eq!(first.try_take(), Ok(Attempt::Taken));
        assert_eq!(second.try_take(), Ok(Attempt::Ours));
        drop(first);
        assert_eq!(second.try_take(), Ok(Attempt::Taken));
        drop(second);
        let master = File::open(directory.path().join("master.pid")).unwrap();
        rustix::fs::flock(&master, FlockOperation::LockExclusive).unwrap();
        assert_eq!(open().try_take(), Ok(Attempt::Postfix));
    }
}
