//! What a queue manager does with a message: take it, mark recipients, keep reasons, put it off, and let it go.
//!
//! ```text
//! incoming, deferred ── take ──▶ active ──┬─ finish ──▶ (gone)
//!                                         ├─ defer ───▶ deferred, time of modification = next attempt
//!                                         ├─ hold ────▶ hold
//!                                         └─ set_aside ▶ corrupt
//! ```
//!
//! All of it is as Postfix's queue manager and delivery agents do it, so that they can take a queue over at any moment,
//! kill -9 included, and ours can take over theirs: a recipient that is done has type `D` at the place of its record, reasons
//! are in `bounce/ID` and `defer/ID`, the time of the next attempt is the file's time of modification, and the process
//! that works on a file holds its flock(2). The caller sees to it that there is one queue manager at a time.
//!
//! # What is durable when
//!
//! A mark is written and not synced: after a power cut a recipient can get a message again, never not at all. A log is
//! synced by [`Lease::sync_logs`], once for all entries since the last time: a recipient that bounced must not be marked before.
//! Moves between queues are not synced: after a power cut the message is where it was.

use std::io;
use std::sync::Arc;

use postfix::queue_id::QueueId;

use crate::disk::{Disk, Timestamp};
use crate::error::{SpoolError, Step, disk};
use crate::modes::READY_MODE;
use crate::queue::{Entry, HASH_QUEUE_DEPTH_MAX, Queue, list};

/// The bit by which `postqueue -i` asks for an attempt now, whatever is known about the destination.
const FLUSH_MODE: u32 = 0o040;
/// The bit by which `postsuper -e` asks to give the message up.
const EXPIRE_MODE: u32 = 0o010;
/// How long a message rests on which another process still works, in seconds (observed on Postfix 3.7).
const IN_DELIVERY_REST_SECS: u64 = 60;
/// How a recipient's record begins, and a done one's.
const TO_DO: u8 = b'R';
const DONE: u8 = b'D';
/// A delay notice that has been sent: the fifteen characters of its time.
const WARNED: &[u8; 15] = b"             -1";

/// Reasons that are kept beside a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReasonLog {
    /// `bounce/ID`: recipients that are given up, until the sender is told.
    Bounce,
    /// `defer/ID`: recipients that are tried again.
    Defer,
    /// `trace/ID`: recipients whose success the sender wants to hear of.
    Trace,
}

impl ReasonLog {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bounce, Self::Defer, Self::Trace];

    /// The name of the directory.
    #[must_use]
    pub const fn directory(self) -> &'static str {
        match self {
            Self::Bounce => "bounce",
            Self::Defer => "defer",
            Self::Trace => "trace",
        }
    }

    const fn index(self) -> usize {
        self as usize
    }
}

/// The queues as a queue manager sees them.
#[derive(Debug)]
pub struct Queues<D: Disk> {
    disk: D,
    hash_queue_names: Vec<String>,
    hash_queue_depth: usize,
}

/// What came of [`Queues::take`].
#[derive(Debug)]
pub enum Taken<D: Disk> {
    /// The message is ours.
    Lease(Lease<D>),
    /// Another process still works on it; it was put back for a minute.
    InDelivery,
    /// It is gone, or was moved by an operator.
    Gone,
}

impl<D: Disk> Queues<D> {
    /// The queues on this disk, with Postfix's `hash_queue_names` and `hash_queue_depth`.
    #[must_use]
    pub fn new(disk: D, hash_queue_names: Vec<String>, hash_queue_depth: usize) -> Arc<Self> {
        let hash_queue_depth = hash_queue_depth.clamp(1, HASH_QUEUE_DEPTH_MAX);
        Arc::new(Self { disk, hash_queue_names, hash_queue_depth })
    }

    /// The disk.
    #[must_use]
    pub const fn disk(&self) -> &D {
        &self.disk
    }

    /// Puts what is in `active` back into `incoming`, due now: what a queue manager does first, since its predecessor may
    /// have been killed. Returns how many messages that were; files that cannot be moved are told to `failed` and stay.
    ///
    /// # Errors
    /// When `active` cannot be read.
    pub fn return_active(
        &self,
        now: Timestamp,
        mut failed: impl FnMut(SpoolError),
    ) -> Result<usize, SpoolError> {
        let mut count = 0;
        for entry in list(&self.disk, Queue::Active) {
            let entry = entry?;
            match self.put_back(&entry.path, &entry.queue_id, now) {
                Ok(true) => count += 1,
                Ok(false) => {}
                Err(error) => failed(error),
            }
        }
        Ok(count)
    }

    /// Takes a message of `incoming` or `deferred` that is ready.
    ///
    /// # Errors
    /// When the disk fails. The message is then where it was, or in `active`, from where [`Self::return_active`] gets it.
    pub fn take(self: &Arc<Self>, entry: &Entry, now: Timestamp) -> Result<Taken<D>, SpoolError> {
        let path = self.path_in(Queue::Active, &entry.queue_id);
        match self.rename(&entry.path, &path) {
            Err(error) if is_missing(&error) => return Ok(Taken::Gone),
            // Two files of one name: an operator's doing. The one that is active is worked on.
            Err(SpoolError::Disk { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                return Ok(Taken::Gone);
            }
            other => other?,
        }
        let file = match self.disk.open_to_write(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Taken::Gone),
            other => other.map_err(disk(Step::Open, &path))?,
        };
        if !self.disk.try_lock_for_delivery(&file).map_err(disk(Step::Lock, &path))? {
            let later = Timestamp { seconds: now.seconds.saturating_add(IN_DELIVERY_REST_SECS), ..now };
            self.put_back(&path, &entry.queue_id, later)?;
            return Ok(Taken::InDelivery);
        }
        let mode = self.disk.file_status(&file).map_err(disk(Step::Examine, &path))?.mode;
        if mode & 0o777 != READY_MODE {
            self.disk.set_mode(&file, READY_MODE).map_err(disk(Step::SetMode, &path))?;
        }
        let mut lease = Lease {
            queues: Arc::clone(self),
            queue_id: entry.queue_id,
            path,
            file,
            is_flushed: mode & FLUSH_MODE != 0,
            is_expired: mode & EXPIRE_MODE != 0,
            logs: [const { None }; ReasonLog::ALL.len()],
        };
        // What was kept of the last attempt; with an operator's order to give up, it is what the sender is told.
        if !lease.is_expired {
            lease.remove_log(ReasonLog::Defer)?;
        }
        Ok(Taken::Lease(lease))
    }

    fn put_back(&self, path: &str, queue_id: &QueueId, due: Timestamp) -> Result<bool, SpoolError> {
        let file = match self.disk.open_to_write(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(disk(Step::Open, path))?,
        };
        self.disk.set_modified(&file, due).map_err(disk(Step::SetTime, path))?;
        match self.rename(path, &self.path_in(Queue::Incoming, queue_id)) {
            Err(error) if is_missing(&error) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Gives a file its place in another queue, and makes the subdirectories of a hashed one when they are missing.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), SpoolError> {
        match self.disk.rename_new(from, to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.make_directories(to)? => {
                self.disk.rename_new(from, to).map_err(disk(Step::Rename, from))
            }
            other => other.map_err(disk(Step::Rename, from)),
        }
    }

    /// Makes the subdirectories above `path`. Were any missing?
    fn make_directories(&self, path: &str) -> Result<bool, SpoolError> {
        let mut made = false;
        // One slash stands behind the queue's own directory, which is always there.
        for (at, _) in path.match_indices('/').skip(1) {
            let directory = path.get(..at).unwrap_or_default();
            match self.disk.create_directory(directory, 0o700) {
                Ok(()) => made = true,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(disk(Step::CreateDirectory, directory)(error)),
            }
        }
        Ok(made)
    }

    pub(crate) fn path_in(&self, queue: Queue, queue_id: &QueueId) -> String {
        self.path(queue.name(), queue_id)
    }

    pub(crate) fn path(&self, directory: &str, queue_id: &QueueId) -> String {
        let is_hashed = self.hash_queue_names.iter().any(|hashed| hashed == directory);
        let depth = if is_hashed { self.hash_queue_depth } else { 0 };
        format!("{directory}/{}{queue_id}", queue_id.hash_dir_path(depth))
    }
}

/// A message that is ours to deliver: its file is in `active`, open and locked. Dropping the lease leaves it there, for the
/// next queue manager.
#[derive(Debug)]
pub struct Lease<D: Disk> {
    queues: Arc<Queues<D>>,
    queue_id: QueueId,
    path: String,
    file: D::File,
    is_flushed: bool,
    is_expired: bool,
    logs: [Option<OpenLog<D>>; 3],
}

#[derive(Debug)]
struct OpenLog<D: Disk> {
    file: D::File,
    path: String,
    end: u64,
    is_synced: bool,
}

impl<D: Disk> Lease<D> {
    /// The queue ID.
    #[must_use]
    pub const fn queue_id(&self) -> &QueueId {
        &self.queue_id
    }

    /// Did an operator ask for an attempt now?
    #[must_use]
    pub const fn is_flushed(&self) -> bool {
        self.is_flushed
    }

    /// Did an operator ask to give the message up?
    #[must_use]
    pub const fn is_expired(&self) -> bool {
        self.is_expired
    }

    /// The open queue file, to hand it to a delivery agent or to read it.
    #[must_use]
    pub const fn file(&self) -> &D::File {
        &self.file
    }

    /// Opens the queue file once more, only for reading: a delivery agent gets that.
    ///
    /// # Errors
    /// When the disk fails, or an operator has moved the message.
    pub fn open_to_read(&self) -> Result<D::File, SpoolError> {
        self.disk().open(&self.path).map_err(disk(Step::Open, &self.path))
    }

    /// Opens a log for reading.
    ///
    /// # Errors
    /// When there is none, or the disk fails.
    pub fn open_log_to_read(&self, log: ReasonLog) -> Result<D::File, SpoolError> {
        let path = self.queues.path(log.directory(), &self.queue_id);
        self.disk().open(&path).map_err(disk(Step::Open, &path))
    }

    /// Reads up to `buffer.len()` bytes of the queue file; fewer only at its end.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, SpoolError> {
        self.disk().read_at(&self.file, offset, buffer).map_err(disk(Step::Read, &self.path))
    }

    /// Marks the recipient whose record stands at `offset` as done. Once is enough; twice does no harm.
    ///
    /// # Errors
    /// When there is no such record, or the disk fails. The recipient is then tried again.
    pub fn mark_done(&mut self, offset: u64) -> Result<(), SpoolError> {
        let mut found = [0];
        let read = self.read_at(offset, &mut found)?;
        match found {
            [DONE] if read == 1 => Ok(()),
            [TO_DO] if read == 1 => {
                self.disk().write_at(&self.file, offset, &[DONE]).map_err(disk(Step::Write, &self.path))
            }
            _ => {
                let words = format!("no recipient's record stands at offset {offset}");
                Err(disk(Step::Write, &self.path)(io::Error::new(io::ErrorKind::InvalidData, words)))
            }
        }
    }

    /// Notes in the record of the delay notice that it has been sent. `offset` is where the record's fifteen characters
    /// stand.
    ///
    /// # Errors
    /// When the disk fails. The notice is then sent again.
    pub fn mark_warned(&mut self, offset: u64) -> Result<(), SpoolError> {
        self.disk().write_at(&self.file, offset, WARNED).map_err(disk(Step::Write, &self.path))
    }

    /// Adds entries to a log, which is made if there is none. They are durable after [`Self::sync_logs`].
    ///
    /// # Errors
    /// When the disk fails. A piece of them can be there then; a reader takes it for an entry that ends early.
    pub fn log(&mut self, log: ReasonLog, entries: &[u8]) -> Result<(), SpoolError> {
        let mut open = match self.logs.get_mut(log.index()).and_then(Option::take) {
            Some(open) => open,
            None => self.open_log(log)?,
        };
        let written =
            self.disk().write_at(&open.file, open.end, entries).map_err(disk(Step::Write, &open.path));
        if written.is_ok() {
            open.end = open.end.saturating_add(entries.len() as u64);
            open.is_synced = false;
        }
        if let Some(place) = self.logs.get_mut(log.index()) {
            *place = Some(open);
        }
        written
    }

    /// Returns when all entries so far would survive a power cut.
    ///
    /// # Errors
    /// When the disk fails. Nothing is known about the entries then: no recipient of theirs may be marked.
    pub fn sync_logs(&mut self) -> Result<(), SpoolError> {
        let disk_ = &self.queues.disk;
        for open in self.logs.iter_mut().flatten().filter(|open| !open.is_synced) {
            disk_.sync(&open.file).map_err(disk(Step::Sync, &open.path))?;
            open.is_synced = true;
        }
        Ok(())
    }

    /// Reads up to `buffer.len()` bytes of a log; nothing where there is none.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn read_log_at(&self, log: ReasonLog, offset: u64, buffer: &mut [u8]) -> Result<usize, SpoolError> {
        let path = self.queues.path(log.directory(), &self.queue_id);
        match self.disk().open(&path) {
            Ok(file) => self.disk().read_at(&file, offset, buffer).map_err(disk(Step::Read, &path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(disk(Step::Open, &path)(error)),
        }
    }

    /// Removes a log, if there is one.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove_log(&mut self, log: ReasonLog) -> Result<(), SpoolError> {
        if let Some(place) = self.logs.get_mut(log.index()) {
            *place = None;
        }
        let path = self.queues.path(log.directory(), &self.queue_id);
        match self.disk().unlink(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk(Step::Remove, &path)(error)),
            _ => Ok(()),
        }
    }

    /// Puts the message off until `due`. Its log of reasons is synced first: an operator is to see them.
    ///
    /// # Errors
    /// When the disk fails. The message then stays in `active`.
    pub fn defer(mut self, due: Timestamp) -> Result<(), SpoolError> {
        self.sync_logs()?;
        self.disk().set_modified(&self.file, due).map_err(disk(Step::SetTime, &self.path))?;
        self.move_to(Queue::Deferred)
    }

    /// Puts the message on hold.
    ///
    /// # Errors
    /// When the disk fails. The message then stays in `active`.
    pub fn hold(self) -> Result<(), SpoolError> {
        self.move_to(Queue::Hold)
    }

    /// Puts a damaged file aside.
    ///
    /// # Errors
    /// When the disk fails. The message then stays in `active`.
    pub fn set_aside(self) -> Result<(), SpoolError> {
        self.move_to(Queue::Corrupt)
    }

    /// Removes the message: each recipient is done, and the sender was told what he must know.
    ///
    /// A log of bounces that is still there means that he was not told: it stays, and so does the message.
    ///
    /// # Errors
    /// When the disk fails, or the log of bounces is not empty.
    pub fn finish(mut self) -> Result<(), SpoolError> {
        let mut byte = [0];
        if self.read_log_at(ReasonLog::Bounce, 0, &mut byte)? > 0 {
            let words = "its sender has not been told of all failures";
            return Err(disk(Step::Remove, &self.path)(io::Error::other(words)));
        }
        // First the message: what is left of the logs by a crash here is removed with the next message of this ID.
        match self.disk().unlink(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(disk(Step::Remove, &self.path)(error));
            }
            _ => {}
        }
        for log in ReasonLog::ALL {
            self.remove_log(log)?;
        }
        Ok(())
    }

    fn disk(&self) -> &D {
        &self.queues.disk
    }

    /// A message that an operator removed or moved meanwhile is his.
    fn move_to(self, queue: Queue) -> Result<(), SpoolError> {
        match self.queues.rename(&self.path, &self.queues.path_in(queue, &self.queue_id)) {
            Err(error) if is_missing(&error) => Ok(()),
            other => other,
        }
    }

    fn open_log(&self, log: ReasonLog) -> Result<OpenLog<D>, SpoolError> {
        let path = self.queues.path(log.directory(), &self.queue_id);
        let disk_ = self.disk();
        let opened = match disk_.open_to_write(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match disk_.create_new(&path, 0o600) {
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && self.queues.make_directories(&path)? =>
                {
                    disk_.create_new(&path, 0o600)
                }
                other => other,
            },
            other => other,
        };
        let file = opened.map_err(disk(Step::Create, &path))?;
        let mut end = disk_.file_status(&file).map_err(disk(Step::Examine, &path))?.size_bytes;
        if end > 0 {
            // The last entry may be torn: what follows must not become part of it.
            disk_.write_at(&file, end, b"\n\n").map_err(disk(Step::Write, &path))?;
            end = end.saturating_add(2);
        }
        Ok(OpenLog { file, path, end, is_synced: false })
    }
}

pub(crate) fn is_missing(error: &SpoolError) -> bool {
    matches!(error, SpoolError::Disk { source, .. } if source.kind() == io::ErrorKind::NotFound)
}
