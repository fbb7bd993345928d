//! What a spool, its drafts and its journal have in common: the disk, the log, the first failed sync, and where files go.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use postfix::notice::Notice;
use postfix::queue_id::QueueId;

use crate::disk::{Disk, Status, Timestamp};
use crate::error::{ErrorKind, SpoolError, Step, disk, kind_of};
use crate::modes::DRAFT_MARK;
use crate::queue::Queue;

/// Where lines for the log go. It is called from any thread, must not block for long, and must not panic.
pub type Notify = Arc<dyn Fn(Notice) + Send + Sync>;

/// See the [module](self). It knows nothing of the journal, so that the journal can stand on it.
pub(crate) struct Shared<D: Disk> {
    pub(crate) disk: D,
    notify: Notify,
    pub(crate) long_queue_ids: bool,
    /// Over how many levels of subdirectories `incoming` is spread.
    incoming_hash_depth: usize,
    /// The same of `hold`.
    hold_hash_depth: usize,
    pub(crate) process_id: u32,
    /// The first failed sync, in words.
    poison: OnceLock<Arc<str>>,
    clock_warned: AtomicBool,
    lock_warned: AtomicBool,
}

impl<D: Disk> Shared<D> {
    /// `hash_depth` says of each queue over how many levels of subdirectories it is spread.
    pub(crate) fn new(
        disk: D,
        notify: Notify,
        long_queue_ids: bool,
        hash_depth: impl Fn(Queue) -> usize,
    ) -> Self {
        Self {
            disk,
            notify,
            long_queue_ids,
            incoming_hash_depth: hash_depth(Queue::Incoming),
            hold_hash_depth: hash_depth(Queue::Hold),
            process_id: crate::sync::process_id(),
            poison: OnceLock::new(),
            clock_warned: AtomicBool::new(false),
            lock_warned: AtomicBool::new(false),
        }
    }

    pub(crate) fn notify(&self, notice: Notice) {
        (self.notify)(notice);
    }

    pub(crate) fn refuse_if_poisoned(&self) -> Result<(), SpoolError> {
        self.poisoned_by().map_or(Ok(()), |reason| Err(SpoolError::Poisoned { reason }))
    }

    /// The first failed sync, in words.
    pub(crate) fn poisoned_by(&self) -> Option<Arc<str>> {
        self.poison.get().cloned()
    }

    /// Remembers the first failed sync for the rest of the process's life.
    pub(crate) fn poison(&self, reason: &SpoolError) {
        let reason: Arc<str> = reason.to_string().into();
        if self.poison.set(Arc::clone(&reason)).is_ok() {
            self.notify(Notice::error(format!("{}", SpoolError::Poisoned { reason })));
        }
    }

    /// A sync failed: nothing more is accepted, unless it was for want of room.
    pub(crate) fn poison_unless_full(&self, error: &SpoolError) {
        if error.kind() != ErrorKind::NoSpace {
            self.poison(error);
        }
    }

    /// Where a new file of this ID goes.
    pub(crate) fn path_in(&self, queue: Queue, queue_id: &QueueId) -> String {
        let depth = match queue {
            Queue::Incoming => self.incoming_hash_depth,
            Queue::Hold => self.hold_hash_depth,
            Queue::Active | Queue::Deferred | Queue::Corrupt => 0,
        };
        format!("{queue}/{}{queue_id}", queue_id.hash_dir_path(depth))
    }

    /// Gives a file the name `path`, and makes the subdirectories of a hashed queue when they turn out to be missing.
    pub(crate) fn with_directories(
        &self,
        path: &str,
        mut give_name: impl FnMut() -> Result<(), SpoolError>,
    ) -> Result<(), SpoolError> {
        match give_name() {
            // One slash stands behind the queue's own directory, which is always there.
            Err(SpoolError::Disk { source, .. })
                if path.matches('/').count() > 1 && source.kind() == io::ErrorKind::NotFound =>
            {
                for (at, _) in path.match_indices('/').skip(1) {
                    let directory = path.get(..at).unwrap_or_default();
                    match self.disk.create_directory(directory, 0o700) {
                        Ok(()) => {}
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                        Err(error) => return Err(disk(Step::CreateDirectory, directory)(error)),
                    }
                }
                give_name()
            }
            other => other,
        }
    }

    /// Whether the file system's clock is ahead of ours: the queue manager would leave the file for later.
    pub(crate) fn is_file_clock_ahead(&self, status: &Status, now: Timestamp) -> bool {
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

    /// Takes the name away; `file` is the file if it is still open.
    pub(crate) fn remove(&self, path: &str, file: Option<&D::File>) {
        match self.disk.unlink(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // An operator, or the queue manager in the moment in which it had its final permissions.
                self.notify(Notice::warning(format!(
                    "{path}: another program took it before it was discarded; if it was the queue \
                     manager, the message will be delivered although its sender was told to try again",
                )));
            }
            Err(error) => {
                // It may have its final permissions already. Failing again would be no news.
                let _ = match file {
                    Some(file) => self.disk.set_mode(file, DRAFT_MARK | 0o600),
                    None => self
                        .disk
                        .open_to_write(path)
                        .and_then(|file| self.disk.set_mode(&file, DRAFT_MARK | 0o600)),
                };
                let words = match kind_of(&error) {
                    ErrorKind::ReadOnly => "it stays until the file system is writable again",
                    _ => "remove it by hand",
                };
                self.notify(Notice::warning(format!(
                    "cannot remove the unfinished file {path}: {error}; {words}",
                )));
            }
        }
    }
}
