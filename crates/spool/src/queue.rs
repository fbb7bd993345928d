//! The queues by name, and what lies in them.

use std::fmt;
use std::io;

use postfix::queue_id::{QueueId, hash_dir_path};

use crate::disk::{Disk, FileKind, Status};
use crate::error::{SpoolError, Step, disk};
use crate::stale::DRAFT_MARK;

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
