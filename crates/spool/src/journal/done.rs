//! The journal of a program that takes messages out of the queue, and holds none: it says what must not come back.
//!
//! A message that an operator removes can still stand in the journal of a server, until that server's next checkpoint. A
//! power cut would bring it back. So the removal is written down, in a file of its own in the format of a journal, which
//! stays until no journal holds any of these messages: [`settlement`](super::settlement) sees to that.

use std::collections::BTreeSet;
use std::io;

use postfix::queue_id::QueueId;

use super::identity::{Instance, Mount};
use super::names::{self, DIRECTORY, Name};
use super::record::{BATCH_ALIGNMENT_BYTES, Batch, Content, Header, RECORD_ALIGNMENT_BYTES, padded};
use super::ring::BATCHES_START;
use super::scan::{account, scan};
use crate::disk::{Disk, Timestamp};
use crate::error::{SpoolError, Step, disk};

/// See the [module](self). The file is made with the first record.
#[derive(Debug)]
pub(crate) struct DoneJournal<D: Disk> {
    instance: Instance,
    path: String,
    file: Option<D::File>,
    next_sequence: u64,
    follows: u64,
    end: u64,
    done: BTreeSet<QueueId>,
}

impl<D: Disk> DoneJournal<D> {
    /// `instance` must not be guessable.
    pub(crate) fn new(instance: Instance) -> Self {
        let path = names::journal(instance);
        let done = BTreeSet::new();
        Self { instance, path, file: None, next_sequence: 1, follows: 1, end: BATCHES_START, done }
    }

    /// Returns when it would survive a power cut that these messages are gone. Does nothing where there is no journal that
    /// could bring them back.
    ///
    /// # Errors
    /// The disk fails, or is full.
    pub(crate) fn write(&mut self, disk_: &D, done: &[(QueueId, Timestamp)]) -> Result<(), SpoolError> {
        if done.is_empty() || (self.file.is_none() && !has_journals(disk_)?) {
            return Ok(());
        }
        let file = match self.file.take() {
            Some(file) => file,
            None => self.create(disk_)?,
        };
        let written = self.write_batch(disk_, &file, done);
        self.file = Some(file);
        written
    }

    fn create(&self, disk_: &D) -> Result<D::File, SpoolError> {
        let file = disk_.create_new(&self.path, 0o600).map_err(disk(Step::Create, &self.path))?;
        match disk_.try_lock(&file).map_err(disk(Step::Lock, &self.path)) {
            Ok(true) => Ok(file),
            Ok(false) => Err(disk(Step::Lock, &self.path)(io::ErrorKind::WouldBlock.into())),
            Err(error) => {
                // It is empty, and settlement removes it otherwise.
                let _ = disk_.unlink(&self.path);
                Err(error)
            }
        }
    }

    fn write_batch(
        &mut self,
        disk_: &D,
        file: &D::File,
        done: &[(QueueId, Timestamp)],
    ) -> Result<(), SpoolError> {
        let count = u32::try_from(done.len()).unwrap_or(u32::MAX);
        let batch = Batch { first: self.next_sequence, count, follows: self.follows, retired_below: 1 };
        let mut bytes = Vec::with_capacity(done.len().saturating_mul(RECORD_ALIGNMENT_BYTES));
        for ((queue_id, arrival), sequence) in done.iter().zip(batch.first..) {
            let header = Header {
                instance: self.instance,
                mount: Mount::UNKNOWN,
                sequence,
                batch,
                content: Content::Done { queue_id: *queue_id, arrival: *arrival },
                payload_bytes: 0,
                payload_checksum: crc32fast::hash(b""),
            };
            header.encode(&mut bytes);
            bytes.resize(padded(bytes.len(), RECORD_ALIGNMENT_BYTES), 0);
        }
        bytes.resize(padded(bytes.len(), BATCH_ALIGNMENT_BYTES), 0);
        disk_.write_at(file, self.end, &bytes).map_err(disk(Step::Write, &self.path))?;
        // With the name, which may be new.
        disk_.sync(file).map_err(disk(Step::Sync, &self.path))?;
        self.end = self.end.saturating_add(bytes.len() as u64);
        self.next_sequence = batch.end();
        self.follows = batch.end();
        self.done.extend(done.iter().map(|(queue_id, _)| *queue_id));
        Ok(())
    }

    /// Whether a journal of another process can still bring one of the messages back.
    ///
    /// # Errors
    /// A journal cannot be read.
    pub(crate) fn is_needed(&self, disk_: &D) -> Result<bool, SpoolError> {
        Ok(self.file.is_some() && is_held_elsewhere(disk_, &self.path, &self.done)?)
    }

    /// Removes the file, if no journal needs it; otherwise it stays for settlement.
    ///
    /// # Errors
    /// A journal cannot be read, or the file cannot be removed. It then stays for settlement.
    pub(crate) fn close(&mut self, disk_: &D) -> Result<(), SpoolError> {
        if self.is_needed(disk_)? {
            return Ok(());
        }
        let Some(_file) = self.file.take() else { return Ok(()) };
        match disk_.unlink(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(disk(Step::Remove, &self.path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Whether there is a journal that this program reads.
fn has_journals<D: Disk>(disk_: &D) -> Result<bool, SpoolError> {
    let is_journal = |name: &String| matches!(Name::parse(name), Name::Journal { .. } | Name::Later { .. });
    Ok(all_names(disk_)?.iter().any(is_journal))
}

fn all_names<D: Disk>(disk_: &D) -> Result<Vec<String>, SpoolError> {
    match disk_.names(DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(disk(Step::List, DIRECTORY)),
    }
}

/// Whether a journal other than `own` answers for one of these messages.
pub(super) fn is_held_elsewhere<D: Disk>(
    disk_: &D,
    own: &str,
    done: &BTreeSet<QueueId>,
) -> Result<bool, SpoolError> {
    for name in all_names(disk_)? {
        let path = names::path_of(&name);
        let instance = match Name::parse(&name) {
            Name::Journal { instance, .. } if path != own => instance,
            // What is in it, only a later version knows.
            Name::Later { .. } => return Ok(true),
            _ => continue,
        };
        let file = match disk_.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(disk(Step::Open, &path))?,
        };
        let read = |offset, buffer: &mut [u8]| disk_.read_at(&file, offset, buffer);
        let found = scan(instance, read).map_err(disk(Step::Read, &path))?;
        let is_done = |header: &Header| match header.content {
            Content::Message { queue_id, .. } => done.contains(&queue_id),
            Content::Mark { .. } | Content::Done { .. } => false,
        };
        if account(&found).messages.iter().any(|(_, header)| is_done(header)) {
            return Ok(true);
        }
    }
    Ok(false)
}
