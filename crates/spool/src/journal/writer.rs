//! The journal of this process: batches of messages, written and synced.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use postfix::notice::Notice;
use postfix::queue_id::QueueId;

use super::identity::{Instance, Mount};
use super::record::{
    BATCH_ALIGNMENT_BYTES, Batch, Content, HEADER_BYTES, Header, PAYLOAD_BYTES_MAX, RECORD_ALIGNMENT_BYTES,
    padded,
};
use super::ring::{BATCHES_START, Ring};
use super::{names, proof};
use crate::disk::Disk;
use crate::error::{ErrorKind, SpoolError, Step, disk, kind_of};
use crate::planted::{Planted, is_planted};
use crate::queue::Queue;
use crate::receipt::{Done, Receipt};
use crate::shared::Shared;
use crate::sync::{Condvar, Mutex, MutexGuard, ThreadId, thread};

/// The most that is written at once.
const BATCH_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// By how much the file grows at a time, so that most batches go where the file system has blocks already: then a sync
/// writes them and nothing else.
const GROWTH_BYTES: std::ops::RangeInclusive<u64> = 64 * 1024..=1024 * 1024;

/// How often a new journal is made that another process takes for one that was left.
const MAKING_ATTEMPTS_MAX: u32 = 10;

/// How a journal is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The name of the file, and the mark of its records; it must not be guessable.
    pub instance: Instance,
    /// How long after the first message that is not retired a checkpoint begins.
    pub checkpoint_delay: Duration,
    /// How many bytes may come before a checkpoint begins at once. The file grows to twice as much.
    pub checkpoint_bytes: u64,
}

/// The journal of this process.
pub(crate) struct Journal<D: Disk> {
    pub(super) options: Options,
    pub(super) mount: Mount,
    pub(super) path: String,
    pub(super) batch_bytes_max: u64,
    /// Made with the first batch.
    pub(super) file: Mutex<Option<Arc<D::File>>>,
    pub(super) state: Mutex<JournalState>,
    /// There is work for a checkpoint, or one has ended.
    pub(super) changed: Condvar,
}

pub(super) struct JournalState {
    pub(super) waiting: VecDeque<Entry>,
    /// Who writes, and will see whatever comes.
    pub(super) writer: Option<ThreadId>,
    pub(super) ring: Ring,
    /// The length of the file, which is filled to there.
    pub(super) file_bytes: u64,
    pub(super) next_sequence: u64,
    pub(super) follows: u64,
    pub(super) retired_below: u64,
    pub(super) is_checkpointing: bool,
    /// The file system was synced: below this sequence number all can be retired.
    pub(super) mark_due: Option<u64>,
    pub(super) marks_written: usize,
    pub(super) bytes_since_checkpoint: u64,
    /// Nothing more goes through the journal: the process ends, or the journal was given up.
    pub(super) is_closed: bool,
    pub(super) is_given_up: bool,
}

/// A message whose queue file is complete, and which is not acknowledged yet.
pub(super) struct Entry {
    path: String,
    queue_id: QueueId,
    payload: Vec<u8>,
    payload_checksum: u32,
    done: Done<Result<Receipt, SpoolError>>,
}

impl Entry {
    fn record_bytes(&self) -> u64 {
        padded(HEADER_BYTES.saturating_add(self.payload.len()), RECORD_ALIGNMENT_BYTES) as u64
    }
}

/// A batch that is to be written, and where.
#[derive(Clone, Copy)]
struct Group {
    batch: Batch,
    offset: u64,
    bytes: u64,
    file_bytes: u64,
}

impl<D: Disk> Journal<D> {
    pub(crate) fn new(options: Options, mount: Mount) -> Self {
        let limit = options.checkpoint_bytes.saturating_mul(2).max(BATCHES_START.saturating_mul(8));
        Self {
            path: names::journal(options.instance),
            batch_bytes_max: (limit / 4).min(BATCH_BYTES_MAX),
            options,
            mount,
            file: Mutex::new(None),
            state: Mutex::new(JournalState {
                waiting: VecDeque::new(),
                writer: None,
                ring: Ring::new(limit),
                file_bytes: 0,
                next_sequence: 1,
                follows: 1,
                retired_below: 1,
                is_checkpointing: false,
                mark_due: None,
                marks_written: 0,
                bytes_since_checkpoint: 0,
                is_closed: false,
                is_given_up: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Tries whether the file system has the locks that tell a live journal from a left one.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] if it has none, or what else is in the way of a journal.
    pub(crate) fn try_lock(&self, disk_: &D) -> Result<(), SpoolError> {
        let file = match disk_.create_new(&self.path, 0o600) {
            Ok(file) => file,
            // That is for each message to say, until there is room again.
            Err(error) if kind_of(&error) == ErrorKind::NoSpace => return Ok(()),
            Err(error) => return Err(disk(Step::Create, &self.path)(error)),
        };
        let locked = disk_.try_lock(&file);
        match disk_.unlink(&self.path) {
            Ok(()) => {}
            // Another process has taken it for one that was left.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(disk(Step::Remove, &self.path)(error)),
        }
        locked.map(drop).map_err(disk(Step::Lock, &self.path))
    }

    /// Whether a message of this size goes through the journal. A larger one has a sync of its own: writing it twice would
    /// cost more.
    pub(crate) fn takes(&self, payload_bytes: usize) -> bool {
        let record_bytes = padded(HEADER_BYTES.saturating_add(payload_bytes), BATCH_ALIGNMENT_BYTES) as u64;
        payload_bytes <= PAYLOAD_BYTES_MAX && record_bytes <= self.batch_bytes_max && !self.lock().is_closed
    }

    /// Takes a message whose queue file is complete under `path`, and sees to it that `done` gets to know.
    pub(crate) fn submit(
        &self,
        shared: &Shared<D>,
        path: String,
        queue_id: QueueId,
        payload: Vec<u8>,
        done: Done<Result<Receipt, SpoolError>>,
    ) {
        let payload_checksum = crc32fast::hash(&payload);
        self.lock().waiting.push_back(Entry { path, queue_id, payload, payload_checksum, done });
        self.drive(shared);
    }

    /// Writes what waits, and what comes meanwhile; returns at once if another thread is writing.
    pub(super) fn drive(&self, shared: &Shared<D>) {
        {
            let mut state = self.lock();
            if state.writer.is_some() {
                return;
            }
            state.writer = Some(thread::current().id());
        }
        let mut in_hand = Vec::new();
        let written = catch_unwind(AssertUnwindSafe(|| self.write_all(shared, &mut in_hand)));
        if written.is_err() {
            // A bug. No thread may wait for it, now or later.
            shared.notify(Notice::panic(format!("{}: the writer panicked", self.path)));
            self.give_up(shared, &disk(Step::Write, &self.path)(io::ErrorKind::Other.into()));
            let mut state = self.lock();
            in_hand.extend(std::mem::take(&mut state.waiting));
            self.rest(state);
            for entry in in_hand {
                complete(shared, entry, Err(disk(Step::Write, &self.path)(io::ErrorKind::Other.into())));
            }
        }
    }

    /// Writes until nothing waits. `in_hand` holds the messages of the batch that is under way.
    fn write_all(&self, shared: &Shared<D>, in_hand: &mut Vec<Entry>) {
        let mut buffer = Vec::new();
        loop {
            let mut state = self.lock();
            if let Some(below) = state.mark_due {
                drop(state);
                self.write_mark(shared, below);
            } else if state.is_given_up || shared.refuse_if_poisoned().is_err() {
                *in_hand = std::mem::take(&mut state.waiting).into();
                if in_hand.is_empty() {
                    return self.rest(state);
                }
                drop(state);
                prove_each(shared, in_hand);
            } else if state.waiting.is_empty() {
                return self.rest(state);
            } else if let Some(group) = self.next_group(&mut state, in_hand) {
                drop(state);
                self.write_group(shared, group, in_hand, &mut buffer);
            } else if state.is_checkpointing {
                drop(self.changed.wait(state).unwrap_or_else(PoisonError::into_inner));
            } else {
                drop(state);
                self.sync_queue_files(shared);
            }
        }
    }

    fn rest(&self, mut state: MutexGuard<'_, JournalState>) {
        state.writer = None;
        // Only who closes the journal waits for this; the thread that makes checkpoints need not wake for each message.
        if state.is_closed {
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Nothing more goes through this journal. What it still answers for is for settlement, which finds it without a process
    /// as soon as the last one here has let go of the file.
    pub(super) fn give_up(&self, shared: &Shared<D>, error: &SpoolError) {
        {
            let mut state = self.lock();
            if std::mem::replace(&mut state.is_given_up, true) {
                return;
            }
            state.is_closed = true;
            state.is_checkpointing = false;
            state.mark_due = None;
        }
        *lock(&self.file) = None;
        if is_planted(Planted::RemoveGivenUp) {
            let _ = shared.disk.unlink(&self.path);
        }
        self.changed.notify_all();
        shared.notify(Notice::error(format!(
            "{error}; the journal is no longer used: each message is synced by itself, until `qmqpd \
             reload`; check the disk and the kernel's log; the messages in {} are being settled: do not \
             remove it",
            self.path
        )));
    }

    /// Takes from the front what fits into one batch; `None` if the file has no room for it.
    fn next_group(&self, state: &mut JournalState, in_hand: &mut Vec<Entry>) -> Option<Group> {
        let (mut count, mut bytes) = (0_u32, 0_u64);
        for entry in &state.waiting {
            let more = bytes.saturating_add(entry.record_bytes());
            if count > 0 && more > self.batch_bytes_max {
                break;
            }
            (count, bytes) = (count.saturating_add(1), more);
        }
        let bytes = bytes.next_multiple_of(BATCH_ALIGNMENT_BYTES as u64);
        let offset = state.ring.place(bytes)?;
        let batch = Batch {
            first: state.next_sequence,
            count,
            follows: state.follows,
            retired_below: state.retired_below,
        };
        state.next_sequence = batch.end();
        in_hand.extend(state.waiting.drain(..count as usize));
        Some(Group { batch, offset, bytes, file_bytes: state.file_bytes })
    }

    fn write_group(&self, shared: &Shared<D>, group: Group, in_hand: &mut Vec<Entry>, buffer: &mut Vec<u8>) {
        self.encode(group.batch, in_hand, buffer);
        if is_planted(Planted::AnswerBeforeBatch) {
            accept_all(shared, in_hand);
        }
        let written = self.append(shared, group.offset, group.bytes, group.file_bytes, buffer);
        match written {
            Ok(file_bytes) => {
                let mut state = self.lock();
                let was_empty = state.ring.end_sequence().is_none();
                state.file_bytes = file_bytes;
                state.follows = group.batch.end();
                state.ring.push(group.offset, group.bytes, group.batch.end());
                state.bytes_since_checkpoint = state.bytes_since_checkpoint.saturating_add(group.bytes);
                let is_checkpoint_due = state.bytes_since_checkpoint >= self.options.checkpoint_bytes;
                drop(state);
                if was_empty || is_checkpoint_due {
                    self.changed.notify_all();
                }
                accept_all(shared, in_hand);
            }
            Err(error) => {
                // Want of room is over when there is room again; the next batch says that this one failed.
                if error.kind() != ErrorKind::NoSpace {
                    self.give_up(shared, &error);
                }
                prove_each(shared, in_hand);
            }
        }
    }

    fn encode(&self, batch: Batch, entries: &[Entry], buffer: &mut Vec<u8>) {
        buffer.clear();
        for (entry, sequence) in entries.iter().zip(batch.first..) {
            let header = Header {
                instance: self.options.instance,
                mount: self.mount,
                sequence,
                batch,
                content: Content::Message {
                    queue: Queue::Incoming,
                    queue_id: entry.queue_id,
                    is_late: false,
                },
                payload_bytes: u32::try_from(entry.payload.len()).unwrap_or(u32::MAX),
                payload_checksum: entry.payload_checksum,
            };
            header.encode(buffer);
            buffer.extend_from_slice(&entry.payload);
            buffer.resize(padded(buffer.len(), RECORD_ALIGNMENT_BYTES), 0);
        }
        buffer.resize(padded(buffer.len(), BATCH_ALIGNMENT_BYTES), 0);
    }

    /// Writes a batch and syncs it. Returns how long the file is now.
    fn append(
        &self,
        shared: &Shared<D>,
        offset: u64,
        bytes: u64,
        file_bytes: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<u64, SpoolError> {
        let failed = |step| disk(step, &self.path);
        let file = self.file(shared)?;
        if shared.disk.file_status(&file).map_err(failed(Step::Examine))?.links == 0 {
            // What it was to answer for is made durable before anything else.
            shared.disk.sync_all().map_err(disk(Step::Sync, &shared.disk.describe()))?;
            return Err(SpoolError::JournalRemoved { path: self.path.clone() });
        }
        let file_bytes = file_bytes.max(BATCHES_START);
        let end = offset.saturating_add(bytes);
        let new_bytes = if end > file_bytes {
            let growth = (file_bytes / 2).clamp(*GROWTH_BYTES.start(), *GROWTH_BYTES.end());
            let grown = end.next_multiple_of(growth);
            buffer.resize(usize::try_from(grown.saturating_sub(offset)).unwrap_or(usize::MAX), 0);
            let mut written = shared.disk.write_at(&file, offset, buffer).map(|()| grown);
            if written.as_ref().is_err_and(|error| kind_of(error) == ErrorKind::NoSpace) {
                // No room to spare; for this batch there may be some.
                shared.disk.truncate(&file, file_bytes).map_err(failed(Step::Truncate))?;
                buffer.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
                written = shared.disk.write_at(&file, offset, buffer).map(|()| end);
            }
            if written.is_err() {
                // Nothing half-written stays, and takes no room; if even that fails, it is overwritten later.
                let _ = shared.disk.truncate(&file, file_bytes);
            }
            written.map_err(failed(Step::Write))?
        } else {
            shared.disk.write_at(&file, offset, buffer).map_err(failed(Step::Write))?;
            file_bytes
        };
        if !is_planted(Planted::SkipJournalSync) {
            shared.disk.sync_data(&file).map_err(failed(Step::Sync))?;
        }
        Ok(new_bytes)
    }

    /// The journal file, made and locked if there is none.
    fn file(&self, shared: &Shared<D>) -> Result<Arc<D::File>, SpoolError> {
        let mut slot = lock(&self.file);
        if let Some(file) = &*slot {
            return Ok(Arc::clone(file));
        }
        for _ in 0..MAKING_ATTEMPTS_MAX {
            let file = shared.disk.create_new(&self.path, 0o600).map_err(disk(Step::Create, &self.path))?;
            match self.make(shared, &file) {
                Ok(true) => {
                    let file = Arc::new(file);
                    *slot = Some(Arc::clone(&file));
                    return Ok(file);
                }
                // The process that took it removes it, as it finds nothing in it; if not, here.
                Ok(false) => match shared.disk.unlink(&self.path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(disk(Step::Remove, &self.path)(error));
                    }
                    _ => {}
                },
                Err(error) => {
                    // What is left otherwise is empty, and settlement removes it.
                    let _ = shared.disk.unlink(&self.path);
                    return Err(error);
                }
            }
        }
        Err(disk(Step::Lock, &self.path)(io::ErrorKind::WouldBlock.into()))
    }

    /// Locks a new journal file, gives it room for the marks, and makes its name durable. `false`: a process that settles journals
    /// saw it in the moment before it was locked, and has taken it for one that was left.
    fn make(&self, shared: &Shared<D>, file: &D::File) -> Result<bool, SpoolError> {
        let failed = |step| disk(step, &self.path);
        if !is_planted(Planted::SkipJournalLock) && !shared.disk.try_lock(file).map_err(failed(Step::Lock))? {
            return Ok(false);
        }
        let room = vec![0; usize::try_from(BATCHES_START).unwrap_or_default()];
        shared.disk.write_at(file, 0, &room).map_err(failed(Step::Write))?;
        if !is_planted(Planted::SkipNameSync) {
            shared.disk.sync(file).map_err(failed(Step::Sync))?;
        }
        let links = shared.disk.file_status(file).map_err(failed(Step::Examine))?.links;
        Ok(links > 0)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, JournalState> {
        lock(&self.state)
    }
}

fn accept_all<D: Disk>(shared: &Shared<D>, in_hand: &mut Vec<Entry>) {
    for entry in in_hand.drain(..) {
        let receipt = Receipt::new(entry.queue_id);
        complete(shared, entry, Ok(receipt));
    }
}

/// Lets each of these messages prove by its own sync that it is on disk, or refuses it.
fn prove_each<D: Disk>(shared: &Shared<D>, in_hand: &mut Vec<Entry>) {
    // Taken out one by one, so that a panic leaves the others in hand.
    while let Some(entry) = in_hand.pop() {
        let proven = proof::prove(shared, &entry.path, &entry.payload).map(|()| Receipt::new(entry.queue_id));
        complete(shared, entry, proven);
    }
}

/// Tells the client; a message that is not accepted goes first.
fn complete<D: Disk>(shared: &Shared<D>, entry: Entry, outcome: Result<Receipt, SpoolError>) {
    if outcome.is_err() {
        shared.remove(&entry.path, None);
    }
    let done = entry.done;
    // It belongs to one session; the others in the batch want their answers too.
    if catch_unwind(AssertUnwindSafe(|| done(outcome))).is_err() {
        shared.notify(Notice::panic("committer: a job panicked"));
    }
}

/// No code of ours panics while it holds one of these locks, and what they guard is valid at every step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<D: Disk> fmt::Debug for Journal<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("path", &self.path).finish_non_exhaustive()
    }
}
