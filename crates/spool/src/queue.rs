//! The queues by name, and their files.

use std::fmt;
use std::io;

use postfix::queue_id::{QueueId, hash_dir_path};

use crate::disk::{Disk, FileKind, Status};
use crate::error::{SpoolError, Step, disk};
use crate::modes::DRAFT_MARK;

/// The deepest hashing of a queue that is looked for; Postfix's limit of `hash_queue_depth`.
pub const HASH_QUEUE_DEPTH_MAX: usize = 16;

/// A directory of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Queue {
    /// Messages on their way in, and those that the queue manager has not looked at yet.
    Incoming,
    /// What the queue manager is delivering.
    Active,
    /// What could not be delivered yet.
    Deferred,
    /// What waits for an operator.
    Hold,
    /// What the queue manager could not read.
    Corrupt,
}

impl Queue {
    /// All queues, in the order in which a message meets them.
    pub const ALL: [Self; 5] = [Self::Incoming, Self::Active, Self::Deferred, Self::Hold, Self::Corrupt];

    /// The name of the directory.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Active => "active",
            Self::Deferred => "deferred",
            Self::Hold => "hold",
            Self::Corrupt => "corrupt",
        }
    }

    /// The queue of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|queue| queue.name() == name)
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A queue file, as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The queue.
    pub queue: Queue,
    /// The queue ID.
    pub queue_id: QueueId,
    /// The path below the queue directory.
    pub path: String,
    /// Mode, size, time and the like.
    pub status: Status,
}

impl Entry {
    /// Whether the message is complete and waits for delivery; otherwise it is still being written, or was left behind.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status.is_ready()
    }

    /// Whether this is a draft of this program, being written or left behind by a crash.
    #[must_use]
    pub fn is_draft(&self) -> bool {
        self.status.kind == FileKind::Regular && self.status.mode & 0o7700 == DRAFT_MARK | 0o600
    }
}

/// The queue files of one queue, directory by directory: only legal names, whatever `hash_queue_names` says. A file
/// that vanishes meanwhile is left out; one that is renamed meanwhile can come twice or not at all.
///
/// # Errors
/// The queue directory cannot be read. A missing directory is an empty one.
pub fn list<D: Disk>(disk: &D, queue: Queue) -> Entries<'_, D> {
    Entries {
        disk,
        queue,
        directories: vec![(queue.name().to_owned(), 0)],
        names: Vec::new(),
        here: String::new(),
    }
}

/// See [`list`].
#[derive(Debug)]
pub struct Entries<'a, D> {
    disk: &'a D,
    queue: Queue,
    /// Directories that were not read yet, with their depth.
    directories: Vec<(String, usize)>,
    /// Names in the directory `here` that were not looked at yet.
    names: Vec<String>,
    here: String,
}

impl<D: Disk> Iterator for Entries<'_, D> {
    type Item = Result<Entry, SpoolError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while let Some(name) = self.names.pop() {
                let Some(queue_id) = QueueId::parse(&name) else { continue };
                let path = format!("{}/{name}", self.here);
                match self.disk.status(&path) {
                    Ok(status) if status.kind == FileKind::Regular => {
                        return Some(Ok(Entry { queue: self.queue, queue_id, path, status }));
                    }
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Some(Err(disk(Step::Examine, &path)(error))),
                }
            }
            let (directory, depth) = self.directories.pop()?;
            match self.disk.names(&directory) {
                Ok(names) => {
                    let (hashed, names) = names.into_iter().partition(|name| is_hash_directory(name));
                    self.names = names;
                    if depth < HASH_QUEUE_DEPTH_MAX {
                        let below = |name: String| (format!("{directory}/{name}"), depth + 1);
                        self.directories.extend(Vec::into_iter(hashed).map(below));
                    }
                    self.here = directory;
                }
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Some(Err(disk(Step::List, &directory)(error))),
            }
        }
    }
}

/// Looks a message up by its ID in all queues, without reading whole directories. A message that moves from queue to
/// queue meanwhile can be missed, so the queues are searched twice before the answer is "no".
///
/// # Errors
/// A queue directory cannot be read.
pub fn find<D: Disk>(disk_: &D, queue_id: &QueueId) -> Result<Option<Entry>, SpoolError> {
    for _ in 0..2 {
        for queue in Queue::ALL {
            if let Some(entry) = find_in(disk_, queue, queue_id)? {
                return Ok(Some(entry));
            }
        }
    }
    Ok(None)
}

/// Looks a message up by its ID in one queue.
pub(crate) fn find_in<D: Disk>(
    disk_: &D,
    queue: Queue,
    queue_id: &QueueId,
) -> Result<Option<Entry>, SpoolError> {
    for depth in 0..=HASH_QUEUE_DEPTH_MAX {
        let below = hash_dir_path(queue_id.as_str(), depth);
        let path = format!("{}/{below}{queue_id}", queue.name());
        match disk_.status(&path) {
            Ok(status) if status.kind == FileKind::Regular => {
                return Ok(Some(Entry { queue, queue_id: *queue_id, path, status }));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Without this level of directories there is none below it either.
                let directory = format!("{}/{below}", queue.name());
                if disk_.status(directory.trim_end_matches('/')).is_err() {
                    break;
                }
            }
            Err(error) => return Err(disk(Step::Examine, &path)(error)),
        }
    }
    Ok(None)
}

/// Postfix's programs go down only into directories whose names have one character (observed on Postfix 3.7).
pub(crate) fn is_hash_directory(name: &str) -> bool {
    name.len() == 1 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::Simulated;

    const EIO: i32 = 5;

    fn queue() -> Simulated {
        let disk = Simulated::new();
        for directory in ["incoming", "incoming/A", "incoming/B"] {
            disk.create_directory(directory, 0o700).unwrap();
        }
        for path in ["incoming/A/A1B2C3", "incoming/B/B1B2C3", "incoming/C1B2C3"] {
            disk.put(path, 0o700, b"12345");
        }
        disk.make_durable();
        disk
    }

    /// An operator who asks what is there is told what could not be looked at.
    #[test]
    fn a_failure_of_any_call_of_a_listing_is_told_and_the_rest_is_listed() {
        let disk = queue();
        assert_eq!(list(&disk, Queue::Incoming).filter_map(Result::ok).count(), 3);
        let calls = disk.calls();
        assert_eq!(calls, 6);
        for call in 0..calls {
            let disk = queue();
            disk.fail(call..=call, EIO, false);
            let all: Vec<_> = list(&disk, Queue::Incoming).collect();
            let errors: Vec<_> = all.iter().filter_map(|entry| entry.as_ref().err()).collect();
            assert_eq!(errors.len(), 1, "call {call}");
            assert!(errors[0].to_string().contains("incoming"), "{}", errors[0]);
            // One file is missing, or the directory with all that is in it.
            let found = all.len() - 1;
            assert!(found == 2 || (call == 0 && found == 0), "call {call}: {found}");
        }
    }

    #[test]
    fn what_vanishes_during_a_listing_is_left_out() {
        let calls = {
            let disk = queue();
            list(&disk, Queue::Incoming).for_each(drop);
            disk.calls()
        };
        for call in 1..calls {
            let disk = queue();
            disk.before_call(call, |disk| {
                disk.remove_by_another("incoming/A/A1B2C3");
            });
            let all: Vec<_> = list(&disk, Queue::Incoming).map(Result::unwrap).collect();
            assert!((2..=3).contains(&all.len()), "call {call}");
        }
    }

    /// No answer is better than "it is not there".
    #[test]
    fn a_search_that_fails_finds_nothing_and_says_so() {
        let id = QueueId::parse("B1B2C3").unwrap();
        let disk = queue();
        assert_eq!(find(&disk, &id).unwrap().unwrap().path, "incoming/B/B1B2C3");
        // The flat queue is looked at first.
        disk.fail(disk.calls()..=disk.calls(), EIO, false);
        assert!(find(&disk, &id).is_err());
        assert_eq!(find(&disk, &QueueId::parse("D1B2C3").unwrap()).unwrap(), None);
    }

    /// Postfix's limit of `hash_queue_depth`: what lies deeper is no message of a queue.
    #[test]
    fn a_listing_goes_down_as_far_as_queues_are_hashed() {
        let disk = Simulated::new();
        let mut directory = "incoming".to_owned();
        disk.create_directory(&directory, 0o700).unwrap();
        let mut expected = Vec::new();
        for depth in 0..=HASH_QUEUE_DEPTH_MAX + 1 {
            let path = format!("{directory}/A1B2C3");
            disk.put(&path, 0o700, b"12345");
            if depth <= HASH_QUEUE_DEPTH_MAX {
                expected.push(path);
            }
            directory.push_str("/A");
            disk.create_directory(&directory, 0o700).unwrap();
        }
        let mut paths: Vec<_> = list(&disk, Queue::Incoming).map(|entry| entry.unwrap().path).collect();
        paths.sort_by_key(String::len);
        assert_eq!(paths, expected);
    }

    #[test]
    fn a_directory_with_the_name_of_a_message_is_not_found() {
        let disk = queue();
        disk.create_directory("incoming/D1B2C3", 0o700).unwrap();
        assert_eq!(find(&disk, &QueueId::parse("D1B2C3").unwrap()).unwrap(), None);
    }

    #[test]
    fn only_a_name_of_one_letter_digit_or_underscore_is_that_of_a_subdirectory() {
        assert!(["A", "z", "0", "_"].into_iter().all(is_hash_directory));
        assert!(!["", "-", ".", "/", " ", "AB", "__", "A1B2C3"].into_iter().any(is_hash_directory));
    }
}
