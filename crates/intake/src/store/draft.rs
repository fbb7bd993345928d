//! The records of one message on their way into its queue file.
//!
//! A small message is kept in memory until it is complete and then written at once, in Postfix's own layout. A message
//! that outgrows [`RECORD_BYTES_IN_MEMORY_MAX`] streams: content first, recipients behind it, and the front when
//! everything is known (`docs/queue-file.md`). Nothing else depends on the size.

use std::sync::Arc;

use cleanup::{Fate, Finished};
use postfix::queue_file::Streamed;
use postfix::queue_id::QueueId;
use spool::Timestamp;

use super::layout::{exact_front_bytes, rest_of_file, whole_file};
use super::queue_file::{QueueFile, StoreError};
use super::records::Records;
use super::shared::Shared;
use crate::{Receipt, Refusal};

/// Records of one message that are kept in memory; more make it stream to the disk.
const RECORD_BYTES_IN_MEMORY_MAX: usize = 64 * 1024;

/// Records of a message that streams, as they are written: each write is a way to a committer thread and back.
const WRITE_BYTES_MIN: usize = 128 * 1024;

/// A message that is being written. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Draft {
    store: Arc<Shared>,
    file: QueueFile,
    /// Bytes kept in front of streamed content, for what comes later.
    front_bytes: u64,
    /// What is on disk already, once the message has outgrown the memory.
    streamed: Option<Streamed>,
    /// The disk has failed, which is in the log; the rest of the message is read and forgotten.
    refusal: Option<Refusal>,
}

impl Draft {
    pub(super) fn new(file: QueueFile, store: Arc<Shared>) -> Self {
        Self { front_bytes: store.front_bytes, store, file, streamed: None, refusal: None }
    }

    /// The queue ID, from the beginning.
    pub(crate) const fn queue_id(&self) -> &QueueId {
        self.file.queue_id()
    }

    /// The time in the queue ID, and the base of the message's age.
    pub(crate) const fn created(&self) -> Timestamp {
        self.file.created()
    }

    /// What stands in front of the content is known before the content comes: no more room is kept for it than it needs.
    pub(crate) fn know_front(&mut self, finished: &Finished) {
        self.front_bytes = exact_front_bytes(finished);
    }

    /// Whether memory holds these records, and [`Self::append`] would leave them where they are.
    pub(crate) const fn has_room(&self, records: &Records) -> bool {
        let bytes_max = if self.streamed.is_some() { WRITE_BYTES_MIN } else { RECORD_BYTES_IN_MEMORY_MAX };
        records.bytes() < bytes_max
    }

    /// Takes records, so that their memory stays bounded; a few are left where they are. What goes wrong is remembered.
    pub(crate) async fn append(&mut self, records: &mut Records) {
        if self.has_room(records) {
            return;
        }
        if self.refusal.is_some() {
            return records.clear();
        }
        if let Err(failure) = self.write(records).await {
            self.store.log_failure(self.file.queue_id(), &failure);
            self.refusal = Some(failure.refusal());
            *records = Records::default();
            self.file.discard();
        }
    }

    async fn write(&mut self, records: &mut Records) -> Result<(), StoreError> {
        let front_bytes = self.front_bytes;
        let streamed =
            self.streamed.get_or_insert(Streamed { front_bytes, content_bytes: 0, recipients_bytes: 0 });
        let Records { content, recipients } = records;
        if !content.is_empty() {
            let bytes = content.len() as u64;
            *content = self.file.write(streamed.extracted_offset(), std::mem::take(content)).await?;
            streamed.content_bytes = streamed.content_bytes.saturating_add(bytes);
        }
        if !recipients.is_empty() {
            let bytes = recipients.len() as u64;
            *recipients = self.file.write(streamed.tail_offset(), std::mem::take(recipients)).await?;
            streamed.recipients_bytes = streamed.recipients_bytes.saturating_add(bytes);
        }
        Ok(())
    }

    /// Puts the message where it belongs, with the records that were not appended, and makes it durable.
    pub(crate) async fn commit(self, rest: Records, finished: &Finished) -> Result<Receipt, Refusal> {
        let Self { store, mut file, streamed, refusal, .. } = self;
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let queue_id = *file.queue_id();
        let writes = match streamed {
            None => whole_file(&rest, finished).map(|file| vec![(0, file)]),
            Some(streamed) => rest_of_file(streamed, rest, finished),
        };
        if finished.fate == Fate::Hold {
            file.hold();
        }
        let committed = match writes {
            Ok(writes) => file.commit(writes).await,
            Err(error) => Err(error.into()),
        };
        store.conclude(&queue_id, finished.fate, committed)
    }

    /// Removes the message, and returns when it is gone.
    pub(crate) async fn discard(self) {
        self.file.remove().await;
    }
}
