//! Checkpoints: the queue files themselves become durable, and the journal is free again.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use postfix::notice::Notice;

use super::record::{BATCH_ALIGNMENT_BYTES, Batch, BootId, Content, Header, Instance};
use super::ring::MARK_PLACES;
use super::{DIRECTORY, Journal, again, lock};
use crate::disk::Disk;
use crate::error::{Step, disk};
use crate::spool::Shared;
use crate::sync::thread;

impl<D: Disk> Journal<D> {
    /// Makes checkpoints when they are due, until [`Journal::stop`] or a failed sync.
    pub(crate) fn run_checkpoints(&self, shared: &Shared<D>) {
        while shared.refuse_if_poisoned().is_ok() {
            let mut state = self.lock();
            // While somebody else makes one there is nothing to do but wait for its end.
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
        self.checkpoint(shared);
        let mut state = self.lock();
        let own = thread::current().id();
        // From within the answer to a message this thread writes itself, and cannot wait for that: recovery does the rest.
        while state.writer != Some(own) && (state.writer.is_some() || state.is_checkpointing) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let is_needed = state.writer.is_some()
            || state.ring.end_sequence().is_some()
            || shared.refuse_if_poisoned().is_err();
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

    /// Makes a checkpoint, unless nothing is to be retired or somebody is at it.
    pub(crate) fn checkpoint(&self, shared: &Shared<D>) {
        self.sync_queue_files(shared);
        self.drive(shared);
    }

    /// The first half of a checkpoint; whoever writes to the journal does the second.
    pub(super) fn sync_queue_files(&self, shared: &Shared<D>) {
        // Another sync would succeed, and prove nothing.
        if shared.refuse_if_poisoned().is_err() {
            return;
        }
        let below = {
            let mut state = self.lock();
            let Some(below) = state.ring.end_sequence().filter(|_| !state.is_checkpointing) else { return };
            state.is_checkpointing = true;
            state.bytes_since_checkpoint = 0;
            below
        };
        // Everything below this number was a complete queue file before it came into the journal.
        let synced = shared.disk.sync_all();
        let mut state = self.lock();
        match synced {
            Ok(()) => state.mark_due = Some(below),
            Err(error) => {
                state.is_checkpointing = false;
                drop(state);
                shared.poison(&disk(Step::Sync, &shared.disk.describe())(error));
                keep_unsynced(shared, &self.path, self.options.instance, self.boot_id);
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
            (mark(self.options.instance, self.boot_id, batch), place)
        };
        let file = lock(&self.file).as_ref().map(Arc::clone);
        let written = match file {
            Some(file) => {
                write_mark(&shared.disk, &file, &header, place).and_then(|()| self.sync(shared, &file))
            }
            // Somebody removed it, and with it all that could be retired.
            None => Ok(()),
        };
        let mut state = self.lock();
        state.is_checkpointing = false;
        state.mark_due = None;
        match written {
            Ok(()) => {
                state.mark_error = None;
                state.marks_written = state.marks_written.wrapping_add(1);
                state.retired_below = below;
                state.ring.retire(below);
            }
            Err(error) => {
                let text = disk(Step::Write, &self.path)(again(&error)).to_string();
                state.mark_error = Some(error);
                drop(state);
                shared.notify(Notice::warning(text));
            }
        }
        self.changed.notify_all();
    }
}

/// Behind the instance in the name of a journal whose checkpoint failed; the boot ID of that time follows.
const UNSYNCED: &str = ".unsynced-";

/// The kernel takes what it could not write for written: as long as the machine runs nobody can tell the queue files
/// that are on disk from the others. The name keeps the next process from believing them.
pub(super) fn keep_unsynced<D: Disk>(shared: &Shared<D>, path: &str, instance: Instance, boot_id: BootId) {
    let aside = path_of(&format!("{instance}{UNSYNCED}{boot_id}"));
    match shared.disk.rename_new(path, &aside) {
        Ok(()) => shared.notify(Notice::warning(format!(
            "{aside} keeps the messages of the last moments; they come back from it when the machine has been started \
             again: check the disk first"
        ))),
        Err(error) => shared.notify(Notice::warning(format!(
            "{}; start the machine again before the server, after a look at the disk, or messages can be lost",
            disk(Step::Rename, path)(error)
        ))),
    }
}

/// A record that says what is retired.
pub(super) fn mark(instance: Instance, boot_id: BootId, batch: Batch) -> Header {
    Header {
        instance,
        boot_id,
        sequence: batch.first,
        batch,
        content: Content::Mark,
        payload_bytes: 0,
        payload_checksum: crc32fast::hash(b""),
    }
}

/// Writes a mark, and does not sync it.
pub(super) fn write_mark<D: Disk>(
    disk_: &D,
    file: &D::File,
    mark: &Header,
    place: u64,
) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(BATCH_ALIGNMENT_BYTES);
    mark.encode(&mut bytes);
    bytes.resize(BATCH_ALIGNMENT_BYTES, 0);
    disk_.write_at(file, place, &bytes)
}

/// The instance in the name of a journal, and in which running of the machine its checkpoint failed.
pub(super) fn parse_name(name: &str) -> Option<(Instance, Option<BootId>)> {
    match name.split_once(UNSYNCED) {
        Some((name, boot_id)) => Some((Instance::parse(name)?, Some(BootId::parse(boot_id)))),
        None => Some((Instance::parse(name)?, None)),
    }
}

/// The path of a file in the directory of journals.
pub(super) fn path_of(name: &str) -> String {
    format!("{DIRECTORY}/{name}")
}
