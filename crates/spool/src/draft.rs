//! A message that is being written.

use std::fmt;
use std::sync::Arc;

use postfix::queue_id::QueueId;

use crate::disk::{Disk, Timestamp};
use crate::error::{SpoolError, Step};
use crate::journal::Journal;
use crate::modes::READY_MODE;
use crate::open_file::OpenFile;
use crate::queue::Queue;
use crate::receipt::{Done, Receipt};

/// A queue file that is being written. Dropping it removes it.
pub struct Draft<D: Disk> {
    file: OpenFile<D>,
    /// The way of a message that comes whole.
    journal: Option<Arc<Journal<D>>>,
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

impl<D: Disk> Draft<D> {
    pub(crate) fn new(
        file: OpenFile<D>,
        journal: Option<Arc<Journal<D>>>,
        queue_id: QueueId,
        created: Timestamp,
        reset_modified: bool,
    ) -> Self {
        Self {
            file,
            journal,
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
        Ok(Receipt::new(self.queue_id))
    }

    /// Writes a whole queue file and makes it durable and visible to the queue manager. Where there is a
    /// [journal](crate::journal) it goes through it, unless something was written to this draft before, or it is large, or on
    /// hold: then, and where there is none, this is [`Draft::write_at`] and [`Draft::commit`].
    /// `done` gets the proof, or the error, as from [`Draft::commit`]: on this thread before this returns, or on
    /// another one that is writing to the journal just now.
    pub fn commit_whole(mut self, bytes: Vec<u8>, done: Done<Result<Receipt, SpoolError>>) {
        match self.journal.clone() {
            Some(journal) if !self.is_begun && !self.is_for_hold && journal.takes(bytes.len()) => {
                let queue_id = self.queue_id;
                let written = self
                    .write_at(0, &bytes)
                    .and_then(|()| self.make_ready())
                    .and_then(|()| self.file.close());
                let path = std::mem::take(&mut self.file.path);
                match written {
                    Ok(()) => journal.submit(&self.file.shared, path, queue_id, bytes, done),
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
                self.file.rename_into(path)?;
            } else {
                self.file.intend(path);
            }
        }
        if self.file.is_named() {
            // Before it is ready only an operator removes its name ("postsuper -d ALL"); afterwards the queue manager
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
