//! A message that is being written, and the proof that it is safe.

use std::fmt;
use std::io;
use std::sync::Arc;

use postfix::notice::Notice;
use postfix::queue_id::QueueId;

use crate::committer::Done;
use crate::disk::{Disk, Status, Timestamp};
use crate::error::{ErrorKind, SpoolError, Step, disk, kind_of};
use crate::queue::Queue;
use crate::spool::Shared;
use crate::stale::DRAFT_MARK;

/// The permissions of a finished queue file. The owner's execute bit is what Postfix's queue manager looks for; any
/// bit for group or others means something else to it.
pub(crate) const READY_MODE: u32 = 0o700;

/// A queue file that is being written. Dropping it removes it.
pub struct Draft<D: Disk> {
    file: OpenFile<D>,
    queue_id: QueueId,
    created: Timestamp,
    /// The file system's clock is ahead: give the file our time.
    reset_modified: bool,
    /// A write failed, and part of its bytes may be missing.
    is_incomplete: bool,
    /// Something was written.
    is_begun: bool,
    /// It goes to `hold` instead of `incoming`.
    is_for_hold: bool,
}

/// The message is on disk, whole, and will be delivered whatever happens to this machine's power. Only
/// [`Draft::commit`] and [`Draft::commit_whole`] make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a receipt is what the sender of the message waits for"]
pub struct Receipt {
    queue_id: QueueId,
}

impl Receipt {
    pub(crate) const fn new(queue_id: QueueId) -> Self {
        Self { queue_id }
    }

    /// The message's queue ID.
    #[must_use]
    pub fn queue_id(&self) -> &QueueId {
        &self.queue_id
    }
}

impl<D: Disk> Draft<D> {
    pub(crate) fn new(
        file: OpenFile<D>,
        queue_id: QueueId,
        created: Timestamp,
        reset_modified: bool,
    ) -> Self {
        Self {
            file,
            queue_id,
            created,
            reset_modified,
            is_incomplete: false,
            is_begun: false,
            is_for_hold: false,
        }
    }

    /// The message's queue ID.
    #[must_use]
    pub fn queue_id(&self) -> &QueueId {
        &self.queue_id
    }

    /// The time in the queue ID, and the base of the message's age.
    #[must_use]
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// Writes bytes at an offset of the file. Bytes between the end of the file and a later offset are a hole.
    ///
    /// # Errors
    /// The disk says no. The draft can then only be discarded: [`Draft::commit`] will refuse.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SpoolError> {
        let written = self.file.with(Step::Write, |disk, file| disk.write_at(file, offset, bytes));
        self.is_begun = true;
        self.is_incomplete |= written.is_err();
        written
    }

    /// The message shall be committed into `hold`, where the queue manager does not look for messages.
    pub const fn hold(&mut self) {
        self.is_for_hold = true;
    }

    /// Makes the message durable and visible to the queue manager, in Postfix's order: permissions, then sync, then
    /// close. The queue manager is not told; that is for the caller, once for many messages if there are many.
    ///
    /// A draft whose owner-execute bit is on disk before its bytes are is harmless: a queue file ends with a record
    /// that says so, and one without it goes to `corrupt` and was never acknowledged.
    ///
    /// # Errors
    /// The message is not accepted, and its file is removed. After a failed sync the whole spool is poisoned, except
    /// when the disk was full or over quota: that is over when there is room again.
    pub fn commit(mut self) -> Result<Receipt, SpoolError> {
        self.make_ready()?;
        self.file.sync()?;
        self.file.close()?;
        Ok(Receipt { queue_id: self.queue_id })
    }

    /// Writes a whole queue file and makes it durable and visible to the queue manager. Where there is a
    /// [journal](crate::journal) it goes through it, unless something was written to this draft before, or it is large, or on
    /// hold: then, and where there is none, this is [`Draft::write_at`] and [`Draft::commit`].
    ///
    /// `done` gets the proof, or why there is none, as from [`Draft::commit`]: on this thread before this returns, or on
    /// another one that is writing to the journal just now.
    pub fn commit_whole(mut self, bytes: Vec<u8>, done: Done<Result<Receipt, SpoolError>>) {
        let shared = Arc::clone(&self.file.shared);
        match &shared.journal {
            Some(journal) if !self.is_begun && !self.is_for_hold && journal.takes(bytes.len()) => {
                let queue_id = self.queue_id;
                let written = self
                    .write_at(0, &bytes)
                    .and_then(|()| self.make_ready())
                    .and_then(|()| self.file.close());
                let path = std::mem::take(&mut self.file.path);
                match written {
                    Ok(()) => journal.submit(&shared, path, queue_id, bytes, done),
                    Err(error) => {
                        self.file.path = path;
                        drop(self);
                        done(Err(error));
                    }
                }
            }
            _ => {
                let written = self.write_at(0, &bytes);
                done(written.and_then(|()| self.commit()));
            }
        }
    }

    /// Gives the file its final place and permissions, if all of it is there.
    fn make_ready(&mut self) -> Result<(), SpoolError> {
        let shared = Arc::clone(&self.file.shared);
        shared.refuse_if_poisoned()?;
        if self.is_incomplete {
            return Err(SpoolError::Incomplete { path: self.file.path.clone() });
        }
        if self.is_for_hold {
            let path = shared.path_in(Queue::Hold, &self.queue_id);
            if self.file.is_named() {
                // Still a draft: an operator who looks there sees that it is not complete.
                shared.rename_into(&mut self.file, path)?;
            } else {
                self.file.intend(path);
            }
        }
        if self.file.is_named() {
            // Before it is ready nobody but an operator takes its name away ("postsuper -d ALL"); afterwards the queue manager
            // may do so at any time.
            if self.file.status()?.links == 0 {
                return Err(SpoolError::Vanished { path: self.file.path.clone() });
            }
            self.file.with(Step::SetMode, |disk, file| disk.set_mode(file, READY_MODE))?;
        }
        if self.reset_modified {
            let created = self.created;
            self.file.with(Step::SetTime, |disk, file| disk.set_modified(file, created))?;
        }
        if !self.file.is_named() {
            shared.with_directories(&self.file.path.clone(), || self.file.link())?;
        }
        Ok(())
    }
}

impl<D: Disk> fmt::Debug for Draft<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft").field("queue_id", &self.queue_id).finish_non_exhaustive()
    }
}

/// An open file of ours that is removed unless [`OpenFile::close`] succeeds.
pub(crate) struct OpenFile<D: Disk> {
    shared: Arc<Shared<D>>,
    /// Its name, or the one that it will get.
    path: String,
    is_named: bool,
    /// `None` once it is closed and must stay.
    file: Option<D::File>,
}

impl<D: Disk> OpenFile<D> {
    pub(crate) fn new(shared: Arc<Shared<D>>, path: String, file: D::File) -> Self {
        Self { shared, path, is_named: true, file: Some(file) }
    }

    /// A file that is to get this name.
    pub(crate) fn nameless(shared: Arc<Shared<D>>, path: String, file: D::File) -> Self {
        Self { shared, path, is_named: false, file: Some(file) }
    }

    pub(crate) const fn is_named(&self) -> bool {
        self.is_named
    }

    /// What it will be called.
    pub(crate) fn intend(&mut self, path: String) {
        self.path = path;
    }

    /// Gives a file without a name the one that it is to have.
    pub(crate) fn link(&mut self) -> Result<(), SpoolError> {
        let path = self.path.clone();
        match self.with(Step::Link, |disk, file| disk.link_new(file, &path)) {
            Err(SpoolError::Disk { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                Err(SpoolError::NameTaken { path })
            }
            linked => {
                self.is_named = linked.is_ok();
                linked
            }
        }
    }

    /// Takes the lock that tells a live draft from a leftover. `false` if somebody else has it.
    pub(crate) fn lock(&self) -> Result<bool, SpoolError> {
        let Some(file) = &self.file else { return Ok(false) };
        match self.shared.disk.try_lock(file) {
            Ok(is_ours) => Ok(is_ours),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                // Without a lock the mark would get a live draft removed. Unmarked, it looks like one of cleanup(8)'s.
                self.shared.warn_without_locks();
                self.with(Step::SetMode, |disk, file| disk.set_mode(file, 0o600))?;
                Ok(true)
            }
            Err(error) => Err(disk(Step::Lock, &self.path)(error)),
        }
    }

    pub(crate) fn status(&self) -> Result<Status, SpoolError> {
        self.with(Step::Examine, |disk, file| disk.file_status(file))
    }

    pub(crate) fn rename(&mut self, to: &str) -> Result<(), SpoolError> {
        self.shared.disk.rename_new(&self.path, to).map_err(disk(Step::Rename, &self.path))?;
        to.clone_into(&mut self.path);
        Ok(())
    }

    fn sync(&self) -> Result<(), SpoolError> {
        self.with(Step::Sync, |disk, file| disk.sync(file))
            .inspect_err(|error| self.shared.poison_unless_full(error))
    }

    pub(crate) fn close(&mut self) -> Result<(), SpoolError> {
        if let Some(file) = self.file.take()
            && let Err(error) = self.shared.disk.close(file)
        {
            if self.is_named {
                self.shared.remove(&self.path, None);
            }
            return Err(disk(Step::Close, &self.path)(error));
        }
        Ok(())
    }

    pub(crate) fn with<T>(
        &self,
        step: Step,
        call: impl FnOnce(&D, &D::File) -> io::Result<T>,
    ) -> Result<T, SpoolError> {
        match &self.file {
            Some(file) => call(&self.shared.disk, file).map_err(disk(step, &self.path)),
            None => Err(SpoolError::Incomplete { path: self.path.clone() }),
        }
    }
}

impl<D: Disk> Shared<D> {
    /// Takes the name away; `file` is the file if it is still open.
    pub(crate) fn remove(&self, path: &str, file: Option<&D::File>) {
        match self.disk.unlink(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // An operator, or the queue manager in the moment in which it had its final permissions.
                self.notify(Notice::warning(format!(
                    "{path}: somebody took it before it was discarded; if it was the queue manager, the message will be \
                     delivered although its sender was told to try again",
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
                    ErrorKind::ReadOnly => "it stays until the file system can be written again",
                    _ => "remove it by hand",
                };
                self.notify(Notice::warning(format!(
                    "cannot remove the unfinished file {path}: {error}; {words}",
                )));
            }
        }
    }
}

impl<D: Disk> Drop for OpenFile<D> {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // The name goes first: closing gives up the lock, and nobody must find it unlocked.
            if self.is_named {
                self.shared.remove(&self.path, Some(&file));
            }
            drop(file);
        }
    }
}
