//! The logs that Postfix keeps beside a message (`defer`, `bounce`, `trace`) under the same name.
//!
//! A queue ID can come back, and what was written about the earlier message would be shown with the new one. Postfix's
//! cleanup(8) removes all three for each message, although there is hardly ever one. Three times looking for a name that
//! is not there takes a tenth of the processor time of a message, and fills the kernel's cache with missing names; so a
//! directory that is empty, and did not change since that was seen, is left alone.

use std::io;
use std::sync::{Mutex, PoisonError};

use postfix::notice::Notice;
use postfix::queue_id::QueueId;

use crate::disk::{Disk, Timestamp};
use crate::error::{Step, disk};

/// A directory of logs.
#[derive(Debug)]
pub(crate) struct LogDirectory {
    pub(crate) name: &'static str,
    /// Over how many levels of subdirectories the logs are spread.
    pub(crate) hash_depth: usize,
    seen: Mutex<LastLook>,
}

/// What is known about a directory.
#[derive(Debug, Default)]
struct LastLook {
    /// The directory's time of modification when it was looked at.
    modified: Timestamp,
    is_empty: bool,
    /// The second in which it was looked at, by the file system's clock.
    at_seconds: u64,
}

impl LogDirectory {
    pub(crate) fn new(name: &'static str, hash_depth: usize) -> Self {
        Self { name, hash_depth, seen: Mutex::default() }
    }

    /// Removes the log of this ID, and says so if there was one. `now` is by the file system's clock.
    pub(crate) fn remove<D: Disk>(&self, disk_: &D, queue_id: &QueueId, now: Timestamp) -> Option<Notice> {
        if self.is_known_empty(disk_, now) {
            return None;
        }
        let path = format!("{}/{}{queue_id}", self.name, queue_id.hash_dir_path(self.hash_depth));
        match disk_.unlink(&path) {
            Ok(()) => Some(Notice::warning(format!("{}: removed spurious {queue_id} log", self.name))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(Notice::warning(disk(Step::Remove, &path)(error).to_string())),
        }
    }

    fn is_known_empty<D: Disk>(&self, disk_: &D, now: Timestamp) -> bool {
        let Ok(status) = disk_.status(self.name) else { return false };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.modified == status.modified {
            return seen.is_empty;
        }
        // A file system's clock ticks in milliseconds: what changed within the tick in which it was looked at would not
        // show. And a directory that changes all the time is not worth looking at each time.
        if now.seconds <= status.modified.seconds.saturating_add(1) || now.seconds == seen.at_seconds {
            return false;
        }
        seen.at_seconds = now.seconds;
        if let Ok(is_empty) = disk_.is_empty(self.name) {
            seen.modified = status.modified;
            seen.is_empty = is_empty;
            return is_empty;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::Simulated;

    /// The log of another message would be shown with this one: that it could not be removed is told.
    #[test]
    fn a_log_that_cannot_be_removed_is_told_and_one_that_is_not_there_is_not() {
        let (id, now) = (QueueId::parse("A1B2C3").unwrap(), Timestamp::default());
        let disk = Simulated::new();
        disk.create_directory("defer", 0o700).unwrap();
        let logs = LogDirectory::new("defer", 0);
        assert_eq!(logs.remove(&disk, &id, now).map(|notice| notice.text), None);
        disk.put("defer/A1B2C3", 0o600, b"a log");
        // A look at the directory, and the removal.
        disk.fail(disk.calls() + 1..=disk.calls() + 1, 13, false);
        let told = logs.remove(&disk, &id, now).unwrap().text;
        assert!(told.starts_with("cannot remove defer/A1B2C3: "), "{told}");
        let told = logs.remove(&disk, &id, now).unwrap().text;
        assert_eq!(told, "defer: removed spurious A1B2C3 log");
    }
}
