//! The spool: where drafts come from.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use postfix::notice::Notice;
use postfix::queue_id::QueueId;

use crate::directories;
use crate::disk::{Disk, Status, Timestamp};
use crate::draft::{Draft, OpenFile};
use crate::error::{SpoolError, Step, disk};
use crate::logs::LogDirectory;
use crate::queue::{self, Entries, Entry, HASH_QUEUE_DEPTH_MAX, Queue};
use crate::stale::{self, DRAFT_MARK};

/// How many names for one new file are tried before giving up. Two files of one process collide only within the same
/// microsecond.
const NAME_ATTEMPTS_MAX: u32 = 1000;

/// Where lines for the log go. It is called from any thread, must not block for long, and must not panic.
pub type Notify = Arc<dyn Fn(Notice) + Send + Sync>;

/// How a message is made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CommitWay {
    /// As Postfix does: fsync(2) of each queue file.
    #[default]
    File,
}

/// The settings of a spool, and Postfix's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `hash_queue_names`: the queues whose files are spread over subdirectories. Unknown names do nothing.
    pub hash_queue_names: Vec<String>,
    /// `hash_queue_depth`: over how many levels of subdirectories, 1 to 16.
    pub hash_queue_depth: usize,
    /// `enable_long_queue_ids`: IDs that are never used twice.
    pub long_queue_ids: bool,
    /// Make missing directories on [`Spool::open`]. For a queue of our own; Postfix's makes Postfix.
    pub create_missing: bool,
    /// How messages are made durable.
    pub commit_way: CommitWay,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hash_queue_names: vec!["deferred".to_owned(), "defer".to_owned()],
            hash_queue_depth: 1,
            long_queue_ids: false,
            create_missing: false,
            commit_way: CommitWay::File,
        }
    }
}

/// A queue directory that takes messages. Cloning gives another handle to the same one.
pub struct Spool<D>(Arc<Shared<D>>);

/// What a spool and its drafts have in common.
pub(crate) struct Shared<D> {
    pub(crate) disk: D,
    notify: Notify,
    long_queue_ids: bool,
    /// Over how many levels of subdirectories `incoming` is spread.
    incoming_hash_depth: usize,
    /// The same of `hold`.
    hold_hash_depth: usize,
    log_directories: [LogDirectory; 3],
    process_id: u32,
    commit_way: CommitWay,
    /// The first failed sync, in words.
    poison: OnceLock<Arc<str>>,
    clock_warned: AtomicBool,
    lock_warned: AtomicBool,
}

impl<D> Clone for Spool<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D> fmt::Debug for Spool<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool").field("poison", &self.0.poison).finish_non_exhaustive()
    }
}

impl<D: Disk> Spool<D> {
    /// Opens a queue directory for putting messages in, after [looking at it](directories::verify).
    ///
    /// # Errors
    /// The directory cannot be used; see [`directories::verify`] and, with `create_missing`,
    /// [`directories::create_missing`].
    pub fn open(disk: D, options: &Options, notify: Notify) -> Result<Self, SpoolError> {
        if options.create_missing {
            directories::create_missing(&disk, None)?;
        }
        for notice in directories::verify(&disk)? {
            notify(notice);
        }
        let is_hashed = |name: &str| options.hash_queue_names.iter().any(|hashed| hashed == name);
        let hash_queue_depth = options.hash_queue_depth.clamp(1, HASH_QUEUE_DEPTH_MAX);
        Ok(Self(Arc::new(Shared {
            disk,
            notify,
            long_queue_ids: options.long_queue_ids,
            incoming_hash_depth: if is_hashed(Queue::Incoming.name()) { hash_queue_depth } else { 0 },
            hold_hash_depth: if is_hashed(Queue::Hold.name()) { hash_queue_depth } else { 0 },
            log_directories: ["bounce", "defer", "trace"]
                .map(|name| LogDirectory::new(name, if is_hashed(name) { hash_queue_depth } else { 0 })),
            process_id: std::process::id(),
            commit_way: options.commit_way,
            poison: OnceLock::new(),
            clock_warned: AtomicBool::new(false),
            lock_warned: AtomicBool::new(false),
        })))
    }

    /// Begins a message: an empty file in `incoming` under its queue ID, that nobody else will touch until
    /// [`Draft::commit`]. Dropping the draft removes it.
    ///
    /// `clock` is read after the file exists, as Postfix does: the time is part of the ID.
    ///
    /// # Errors
    /// The file cannot be made, or the spool is poisoned. Nothing is left behind.
    pub fn create(&self, clock: &dyn Fn() -> Timestamp) -> Result<Draft<D>, SpoolError> {
        self.0.refuse_if_poisoned()?;
        let mut file = Shared::create_temporary(&self.0, clock)?;
        let status = file.status()?;
        let (queue_id, created) = self.0.name(&mut file, &status, clock)?;
        for directory in &self.0.log_directories {
            if let Some(notice) = directory.remove(&self.0.disk, &queue_id, status.modified) {
                self.0.notify(notice);
            }
        }
        let reset_modified = self.0.is_file_clock_ahead(&status, created);
        Ok(Draft::new(file, queue_id, created, reset_modified))
    }

    /// Removes what a crash left behind: temporary files and drafts of this program, unmodified since `older_than`,
    /// whose writer is gone. Returns a line for each.
    ///
    /// Drafts of Postfix's cleanup(8) in the same queue, drafts that a live process still writes, and everything
    /// younger stay. See the [states of a queue file](crate#states-of-a-queue-file).
    ///
    /// # Errors
    /// `incoming` cannot be read. A single file that cannot be looked at or removed is only reported.
    pub fn remove_stale(&self, older_than: Timestamp) -> Result<Vec<Notice>, SpoolError> {
        stale::remove(&self.0.disk, older_than)
    }

    /// What lies in a queue; see [`queue::list`].
    #[must_use]
    pub fn list(&self, queue: Queue) -> Entries<'_, D> {
        queue::list(&self.0.disk, queue)
    }

    /// Looks a message up in all queues; see [`queue::find`].
    ///
    /// # Errors
    /// As there.
    pub fn find(&self, queue_id: &QueueId) -> Result<Option<Entry>, SpoolError> {
        queue::find(&self.0.disk, queue_id)
    }

    /// Whether an earlier sync failed, so that nothing is accepted any more.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.0.poison.get().is_some()
    }

    pub(crate) fn notify(&self, notice: Notice) {
        self.0.notify(notice);
    }

    /// The disk under the spool.
    #[must_use]
    pub fn disk(&self) -> &D {
        &self.0.disk
    }
}

impl<D: Disk> Shared<D> {
    pub(crate) fn notify(&self, notice: Notice) {
        (self.notify)(notice);
    }

    pub(crate) fn commit_way(&self) -> CommitWay {
        self.commit_way
    }

    pub(crate) fn refuse_if_poisoned(&self) -> Result<(), SpoolError> {
        match self.poison.get() {
            None => Ok(()),
            Some(reason) => Err(SpoolError::Poisoned { reason: Arc::clone(reason) }),
        }
    }

    /// Remembers the first failed sync for the rest of the process's life.
    pub(crate) fn poison(&self, reason: &SpoolError) {
        let reason: Arc<str> = reason.to_string().into();
        if self.poison.set(Arc::clone(&reason)).is_ok() {
            self.notify(Notice::error(format!("{}", SpoolError::Poisoned { reason })));
        }
    }

    /// Makes `incoming/MICROSECONDS.PROCESS`, marked and locked.
    fn create_temporary(this: &Arc<Self>, clock: &dyn Fn() -> Timestamp) -> Result<OpenFile<D>, SpoolError> {
        for attempt in 0..NAME_ATTEMPTS_MAX {
            // A clock that stands still must not keep us here.
            let microseconds = clock().plus_microseconds(attempt).microseconds;
            let path = format!("{}/{microseconds}.{}", Queue::Incoming.name(), this.process_id);
            let file = match this.disk.create_new(&path, DRAFT_MARK | 0o600) {
                Ok(file) => OpenFile::new(Arc::clone(this), path, file),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(disk(Step::Create, &path)(error)),
            };
            if file.lock()? {
                return Ok(file);
            }
            // Somebody who clears up looked at it just now: leave it to him.
        }
        Err(SpoolError::NoFreeName { directory: Queue::Incoming.name(), attempts: NAME_ATTEMPTS_MAX })
    }

    /// Gives a new file the name that it will be known by.
    fn name(
        &self,
        file: &mut OpenFile<D>,
        status: &Status,
        clock: &dyn Fn() -> Timestamp,
    ) -> Result<(QueueId, Timestamp), SpoolError> {
        for attempt in 0..NAME_ATTEMPTS_MAX {
            let now = clock().plus_microseconds(attempt);
            let queue_id = QueueId::new(self.long_queue_ids, now.seconds, now.microseconds, status.inode);
            match self.rename_into(file, Queue::Incoming, &queue_id) {
                Ok(()) => return Ok((queue_id, now)),
                // Only a file whose name lies about its inode number can be there, from a restored backup. Postfix
                // would replace it.
                Err(SpoolError::Disk { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(SpoolError::NoFreeName { directory: Queue::Incoming.name(), attempts: NAME_ATTEMPTS_MAX })
    }

    /// Gives a draft its name in `incoming` or `hold`, and makes the subdirectories of a hashed queue when they turn out to
    /// be missing.
    pub(crate) fn rename_into(
        &self,
        file: &mut OpenFile<D>,
        queue: Queue,
        queue_id: &QueueId,
    ) -> Result<(), SpoolError> {
        let depth = if queue == Queue::Hold { self.hold_hash_depth } else { self.incoming_hash_depth };
        let path = format!("{queue}/{}{queue_id}", queue_id.hash_dir_path(depth));
        match file.rename(&path) {
            Err(SpoolError::Disk { source, .. }) if depth > 0 && source.kind() == io::ErrorKind::NotFound => {
                for (at, _) in path.match_indices('/').skip(1) {
                    let directory = path.get(..at).unwrap_or_default();
                    match self.disk.create_directory(directory, 0o700) {
                        Ok(()) => {}
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                        Err(error) => return Err(disk(Step::CreateDirectory, directory)(error)),
                    }
                }
                file.rename(&path)
            }
            other => other,
        }
    }

    /// Whether the file system's clock is ahead of ours: the queue manager would leave the file for later.
    fn is_file_clock_ahead(&self, status: &Status, now: Timestamp) -> bool {
        let ahead = status.modified.seconds.saturating_sub(now.seconds);
        if ahead > 0 && !self.clock_warned.swap(true, Ordering::Relaxed) {
            self.notify(Notice::warning(format!(
                "file system clock is {ahead} seconds ahead of local clock"
            )));
            self.notify(Notice::warning("resetting file time stamps - this hurts performance"));
        }
        ahead > 0
    }

    /// Says once that leftovers of a crash will stay, since they could not be told from drafts being written.
    pub(crate) fn warn_without_locks(&self) {
        if !self.lock_warned.swap(true, Ordering::Relaxed) {
            self.notify(Notice::warning(format!(
                "{}: the file system has no locks: files that a crash leaves in incoming will not be removed at start",
                self.disk.describe()
            )));
        }
    }
}
