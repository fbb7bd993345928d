//! What an operator does to messages: hold, release, delete, requeue, expire, flush, as postsuper(1) and postqueue(1) of
//! Postfix do it, while sessions and a queue manager of either kind work on the same queue.
//!
//! ```text
//! incoming, active, deferred ── hold ───▶ hold ── release ──▶ deferred
//! deferred ── flush ──▶ incoming, due now        any ── delete ──▶ (gone)
//! incoming, active, deferred, hold ── requeue ──▶ maildrop where a pickup(8) runs, else incoming, due now
//! ```
//!
//! Each is one rename, removal or change of permissions, so that other programs see the message before it or after it. A
//! message that moves meanwhile is looked for again. One that is not complete, or that a session is still committing,
//! is left alone.
//!
//! # What is durable when
//!
//! [`Operator::settle`] makes what was done since the last time durable, and only then is an operator told of it: what was
//! put on hold is not delivered after a power cut, and what was deleted does not come back, from a journal neither.

use std::io;
use std::sync::Arc;

use postfix::queue_file::letter::parse_arrival;
use postfix::queue_file::reader::{Source, WalkError, Walker};
use postfix::queue_id::QueueId;
use postfix::record::RecordType;

use crate::disk::{Disk, Timestamp};
use crate::error::{SpoolError, Step, disk};
use crate::journal::{DoneJournal, Instance};
use crate::lease::{Queues, ReasonLog, is_missing};
use crate::modes::READY_MODE;
use crate::queue::{Entry, Queue, find};

/// The bit that asks the queue manager for an attempt now, whatever is known about the destination.
const FLUSH_MODE: u32 = 0o040;
/// The bit that asks the queue manager to give the message up.
const EXPIRE_MODE: u32 = 0o010;
/// How often a message is looked for that moves from queue to queue meanwhile.
const ATTEMPTS_MAX: u32 = 5;
/// How many records at the front of a file are searched for the arrival time, which is the second.
const RECORDS_BEFORE_ARRIVAL: usize = 8;
/// The directory that Postfix's pickup(8) empties.
const MAILDROP: &str = "maildrop";

/// What is to be done to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// No attempt is made to deliver it, until it is released.
    Hold,
    /// Out of hold, into deferred; it is due when it was.
    Release,
    /// Removed, with its logs of reasons. The sender is not told.
    Delete,
    /// As if it had just come. `through_pickup`: pickup(8) makes a new message of it, for new addresses and filters.
    Requeue {
        /// A pickup(8) of Postfix serves this queue.
        through_pickup: bool,
    },
    /// Given up at the next attempt, which is due now; the sender is told.
    Expire,
    /// The next attempt is due now, whatever is known about its destination.
    Flush,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Acted {
    /// It was done to the message, which was in this queue.
    Done(Queue),
    /// The verb has nothing to do with a message in this queue.
    NotFor(Queue),
    /// There is no such message, or not any more.
    Gone,
    /// A session has not committed it yet.
    Unfinished,
    /// Another message has this queue ID by now.
    Replaced,
}

/// Which file it was when the operator, or his filter, looked at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its inode number.
    pub inode: u64,
    /// When it arrived, as it says itself; `None` where that cannot be read.
    pub arrival: Option<Timestamp>,
}

/// The hand of an operator on the queues.
#[derive(Debug)]
pub struct Operator<D: Disk> {
    queues: Arc<Queues<D>>,
    done_journal: DoneJournal<D>,
    /// What left the queues since the last [`Self::settle`].
    gone: Vec<(QueueId, Timestamp)>,
    is_settled: bool,
    can_sync: bool,
}

impl<D: Disk> Operator<D> {
    /// `instance` names the journal of what was removed, if one is needed; it must not be guessable.
    ///
    /// # Errors
    /// The file system cannot be opened for a sync.
    pub fn new(queues: Arc<Queues<D>>, instance: Instance) -> Result<Self, SpoolError> {
        let can_sync = match queues.disk().prepare_sync_all() {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => false,
            Err(error) => return Err(disk(Step::Open, &queues.disk().describe())(error)),
        };
        let done_journal = DoneJournal::new(instance);
        Ok(Self { queues, done_journal, gone: Vec::new(), is_settled: true, can_sync })
    }

    /// Whether the system can say that what was done would survive a power cut (Linux 5.8).
    #[must_use]
    pub const fn can_sync(&self) -> bool {
        self.can_sync
    }

    /// Does it to one message. With an identity, only to the very file that was looked at.
    ///
    /// # Errors
    /// When the disk fails. The message is then as it was, or as it was to be; a deleted one may have left its logs.
    pub fn act(
        &mut self,
        verb: Verb,
        queue_id: &QueueId,
        identity: Option<&Identity>,
        now: Timestamp,
    ) -> Result<Acted, SpoolError> {
        for _ in 0..ATTEMPTS_MAX {
            let Some(entry) = find(self.queues.disk(), queue_id)? else { return Ok(Acted::Gone) };
            match self.act_on(verb, &entry, identity, now) {
                Err(error) if is_missing(&error) => {}
                other => return other,
            }
        }
        Ok(Acted::Gone)
    }

    fn act_on(
        &mut self,
        verb: Verb,
        entry: &Entry,
        identity: Option<&Identity>,
        now: Timestamp,
    ) -> Result<Acted, SpoolError> {
        let (queue, queues) = (entry.queue, Arc::clone(&self.queues));
        let disk_ = queues.disk();
        if !entry.is_ready() && queue != Queue::Corrupt {
            return Ok(Acted::Unfinished);
        }
        if identity.is_some_and(|identity| identity.inode != entry.status.inode) {
            return Ok(Acted::Replaced);
        }
        let file = disk_.open(&entry.path).map_err(disk(Step::Open, &entry.path))?;
        if queue == Queue::Incoming {
            match disk_.is_locked(&file) {
                Ok(true) => return Ok(Acted::Unfinished),
                Ok(false) => {}
                // Then a session is not known.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                Err(error) => return Err(disk(Step::Lock, &entry.path)(error)),
            }
        }
        let arrival = arrival(disk_, &file).map_err(disk(Step::Read, &entry.path))?;
        if identity.is_some_and(|identity| identity.arrival != arrival) {
            return Ok(Acted::Replaced);
        }
        let set_mode = |mode| disk_.set_mode(&file, mode).map_err(disk(Step::SetMode, &entry.path));
        let set_due = || disk_.set_modified(&file, now).map_err(disk(Step::SetTime, &entry.path));
        let move_to = |queue| queues.rename(&entry.path, &queues.path_in(queue, &entry.queue_id));
        match (verb, queue) {
            (Verb::Hold, Queue::Incoming | Queue::Active | Queue::Deferred) => move_to(Queue::Hold)?,
            (Verb::Release, Queue::Hold) => move_to(Queue::Deferred)?,
            (Verb::Expire, Queue::Hold | Queue::Active) => set_mode(entry.status.mode | EXPIRE_MODE)?,
            (Verb::Expire, Queue::Incoming | Queue::Deferred) => {
                set_mode(entry.status.mode | EXPIRE_MODE)?;
                set_due()?;
            }
            (Verb::Flush, Queue::Incoming | Queue::Deferred) => {
                set_mode(entry.status.mode | FLUSH_MODE)?;
                set_due()?;
                if queue == Queue::Deferred {
                    move_to(Queue::Incoming)?;
                }
            }
            (Verb::Requeue { through_pickup }, queue) if queue != Queue::Corrupt => {
                if entry.status.mode & 0o777 != READY_MODE {
                    set_mode(READY_MODE)?;
                }
                set_due()?;
                if through_pickup {
                    queues.rename(&entry.path, &format!("{MAILDROP}/{}", entry.queue_id))?;
                    self.gone.extend(arrival.map(|arrival| (entry.queue_id, arrival)));
                } else if queue != Queue::Incoming {
                    move_to(Queue::Incoming)?;
                }
            }
            (Verb::Delete, _) => self.delete(entry, arrival)?,
            _ => return Ok(Acted::NotFor(queue)),
        }
        self.is_settled = false;
        Ok(Acted::Done(queue))
    }

    /// First the message: logs that a crash leaves here are removed with the next message of this ID.
    fn delete(&mut self, entry: &Entry, arrival: Option<Timestamp>) -> Result<(), SpoolError> {
        let disk_ = self.queues.disk();
        disk_.unlink(&entry.path).map_err(disk(Step::Remove, &entry.path))?;
        self.is_settled = false;
        self.gone.extend(arrival.map(|arrival| (entry.queue_id, arrival)));
        for log in ReasonLog::ALL {
            let path = self.queues.path(log.directory(), &entry.queue_id);
            match disk_.unlink(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(disk(Step::Remove, &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes what was done so far durable. First the queues, then what keeps a journal from bringing back what left them: a
    /// requeued message is not lost in between.
    ///
    /// # Errors
    /// When the disk fails. What was done is done, and a power cut within the next seconds can undo a part of it.
    pub fn settle(&mut self) -> Result<(), SpoolError> {
        if self.is_settled {
            return Ok(());
        }
        let disk_ = self.queues.disk();
        if self.can_sync {
            disk_.sync_all().map_err(disk(Step::Sync, &disk_.describe()))?;
        }
        self.done_journal.write(disk_, &self.gone)?;
        self.gone.clear();
        self.is_settled = true;
        Ok(())
    }

    /// Ends the work: [`Self::settle`], and what was noted for journals goes if no journal needs it any more.
    ///
    /// # Errors
    /// As there, or the note cannot be removed: then a server of ours removes it.
    pub fn close(mut self) -> Result<(), SpoolError> {
        self.settle()?;
        self.done_journal.close(self.queues.disk())
    }

    /// Whether a journal of a server still holds a message that was removed here. [`Self::close`] leaves a file for the
    /// server then.
    ///
    /// # Errors
    /// A journal cannot be read.
    pub fn is_awaited(&self) -> Result<bool, SpoolError> {
        self.done_journal.is_needed(self.queues.disk())
    }
}

/// An open file of a disk, for reading records.
struct Open<'a, D: Disk>(&'a D, &'a D::File);

impl<D: Disk> Source for Open<'_, D> {
    type Error = io::Error;

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(self.1, offset, buffer)
    }
}

/// When a message arrived, as its queue file says; `None` where it is damaged.
fn arrival<D: Disk>(disk_: &D, file: &D::File) -> io::Result<Option<Timestamp>> {
    let mut walker = Walker::new(Open(disk_, file));
    for _ in 0..RECORDS_BEFORE_ARRIVAL {
        match walker.next() {
            Ok(Some(record)) if record.kind == RecordType::TIME => {
                let arrival = parse_arrival(record.data);
                return Ok(arrival.map(|(seconds, microseconds)| Timestamp { seconds, microseconds }));
            }
            Ok(Some(record)) if record.kind != RecordType::CONTENT => {}
            Err(WalkError::Read { error, .. }) => return Err(error),
            _ => break,
        }
    }
    Ok(None)
}
