//! Checkpoints: sync the queue files, then reuse the journal space.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use postfix::notice::Notice;

use super::record::{BATCH_ALIGNMENT_BYTES, Batch, Content, Header, VERSION};
use super::ring::MARK_PLACES;
use super::writer::{Journal, lock};
use crate::disk::Disk;
use crate::error::{Step, disk};
use crate::planted::{Planted, is_planted};
use crate::shared::Shared;
use crate::sync::thread;

impl<D: Disk> Journal<D> {
    /// Makes checkpoints when they are due, until [`Journal::stop`] or until the journal is given up.
    pub(crate) fn run_checkpoints(&self, shared: &Shared<D>) {
        loop {
            let mut state = self.lock();
            // While another thread makes one, wait for its end.
            while (state.ring.end_sequence().is_none() || state.is_checkpointing) && !state.is_closed {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let due = Instant::now().checked_add(self.options.checkpoint_delay);
            while state.bytes_since_checkpoint < self.options.checkpoint_bytes && !state.is_closed {
                let Some(rest) = due.and_then(|due| due.checked_duration_since(Instant::now())) else {
                    break;
                };
                if rest.is_zero() {
                    break;
                }
                let waited = self.changed.wait_timeout(state, rest);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            if state.is_closed {
                return;
            }
            drop(state);
            self.checkpoint(shared);
        }
    }

    /// Lets [`Journal::run_checkpoints`] return. What is committed from here on has a sync of its own.
    pub(crate) fn stop(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Makes all that was acknowledged durable without the journal, and removes it.
    pub(crate) fn close(&self, shared: &Shared<D>) {
        self.stop();
        let is_planted = is_planted(Planted::CloseWithoutCheckpoint);
        if !is_planted {
            self.checkpoint(shared);
        }
        let mut state = self.lock();
        let own = thread::current().id();
        // From within the answer to a message this thread writes itself, and cannot wait for that: recovery does the rest.
        while state.writer != Some(own) && (state.writer.is_some() || state.is_checkpointing) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let is_used = state.ring.end_sequence().is_some() && !is_planted;
        let is_needed = state.writer.is_some() || is_used || state.is_given_up;
        state.file_bytes = 0;
        drop(state);
        let file = lock(&self.file).take();
        if file.is_some()
            && !is_needed
            && let Err(error) = shared.disk.unlink(&self.path)
        {
            shared.notify(Notice::warning(disk(Step::Remove, &self.path)(error).to_string()));
        }
    }

    /// Makes a checkpoint, unless there is nothing to retire or another thread is making one.
    pub(crate) fn checkpoint(&self, shared: &Shared<D>) {
        self.sync_queue_files(shared);
        self.drive(shared);
    }

    /// The first half of a checkpoint; the thread that writes to the journal does the second.
    pub(super) fn sync_queue_files(&self, shared: &Shared<D>) {
        let below = {
            let mut state = self.lock();
            // Another sync would succeed, and prove nothing.
            let is_idle = !state.is_checkpointing && !state.is_given_up;
            let Some(below) = state.ring.end_sequence().filter(|_| is_idle) else { return };
            state.is_checkpointing = true;
            state.bytes_since_checkpoint = 0;
            below
        };
        // Everything below this number was a complete queue file before it came into the journal.
        let synced = if is_planted(Planted::RetireWithoutSync) { Ok(()) } else { shared.disk.sync_all() };
        match synced {
            Err(error) if !is_planted(Planted::IgnoreCheckpointError) => {
                self.give_up(shared, &disk(Step::Sync, &shared.disk.describe())(error));
            }
            _ => {
                let mut state = self.lock();
                let below = match state.ring.end_sequence() {
                    Some(end) if is_planted(Planted::RetireTooMuch) => end,
                    _ => below,
                };
                // Another thread may have met an error meanwhile.
                state.mark_due = Some(below).filter(|_| !state.is_given_up);
            }
        }
        self.changed.notify_all();
    }

    /// The second half of a checkpoint.
    pub(super) fn write_mark(&self, shared: &Shared<D>, below: u64) {
        let (header, place) = {
            let state = self.lock();
            let sequence = state.next_sequence;
            let batch = Batch { first: sequence, count: 1, follows: state.follows, retired_below: below };
            let place = MARK_PLACES.get(state.marks_written % MARK_PLACES.len()).copied().unwrap_or(0);
            let header = Header {
                instance: self.options.instance,
                mount: self.mount,
                sequence,
                batch,
                content: Content::MARK,
                payload_bytes: 0,
                payload_checksum: crc32fast::hash(b""),
            };
            (header, place)
        };
        let file = lock(&self.file).as_ref().map(Arc::clone);
        let written = file.map_or(Ok(()), |file| {
            write_mark(&shared.disk, &file, &header, VERSION, place)
                .and_then(|()| shared.disk.sync_data(&file))
        });
        let mut state = self.lock();
        state.is_checkpointing = false;
        state.mark_due = None;
        match written {
            Ok(()) => {
                state.marks_written = state.marks_written.wrapping_add(1);
                state.retired_below = below;
                state.ring.retire(below);
            }
            Err(error) => {
                drop(state);
                self.give_up(shared, &disk(Step::Write, &self.path)(error));
            }
        }
        self.changed.notify_all();
    }
}

/// Writes a mark in this format, and does not sync it.
pub(super) fn write_mark<D: Disk>(
    disk_: &D,
    file: &D::File,
    mark: &Header,
    version: u8,
    place: u64,
) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(BATCH_ALIGNMENT_BYTES);
    mark.encode_in(version, &mut bytes);
    bytes.resize(BATCH_ALIGNMENT_BYTES, 0);
    disk_.write_at(file, place, &bytes)
}
