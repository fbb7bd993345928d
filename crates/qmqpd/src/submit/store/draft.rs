//! The records of one message on their way into its queue file.
//!
//! A small message is kept in memory until it is complete and then written at once, in Postfix's own layout. A message
//! that outgrows [`RECORD_BYTES_IN_MEMORY_MAX`] streams: content first, recipients behind it, and the front when
//! everything is known (`docs/queue-file.md`). Nothing else depends on the size.

use cleanup::{Fate, Finished, Message};
use postfix::notice::Severity;
use postfix::queue_file::{self, EXTRACTED_RECORD, Late, LayoutError, Streamed, Write};
use postfix::queue_id::QueueId;

use super::queue_file::{Failure, QueueFile};
use crate::log::{Log, Program};
use crate::submit::{Receipt, Refusal};

/// Records of one message that are kept in memory; more make it stream to the disk.
pub(in crate::submit) const RECORD_BYTES_IN_MEMORY_MAX: usize = 64 * 1024;

/// Records of a message that streams, as they are written: each write is a way to a committer thread and back.
const WRITE_BYTES_MIN: usize = 128 * 1024;

/// A queue file that is being written.
#[derive(Debug)]
pub(in crate::submit) struct Writer {
    log: Log,
    /// Bytes kept in front of streamed content, for what comes later.
    pub(in crate::submit) front_bytes: u64,
    /// Content records that are not on disk yet.
    pub(in crate::submit) content: Vec<u8>,
    /// Recipient records that are not on disk yet.
    pub(in crate::submit) recipients: Vec<u8>,
    /// What is on disk already, once the message has outgrown the memory.
    streamed: Option<Streamed>,
    /// The disk has failed, which is in the log; the rest of the message is read and forgotten.
    has_failed: bool,
    file: QueueFile,
}

impl Writer {
    pub(in crate::submit) const fn new(file: QueueFile, front_bytes: u64, log: Log) -> Self {
        Self {
            log,
            front_bytes,
            content: Vec::new(),
            recipients: Vec::new(),
            streamed: None,
            has_failed: false,
            file,
        }
    }

    pub(in crate::submit) const fn queue_id(&self) -> &QueueId {
        self.file.queue_id()
    }

    /// Puts the file where it belongs, and makes it durable; or removes it, if that is its fate.
    pub(in crate::submit) async fn store(self, finished: &Finished) -> Result<Receipt, Refusal> {
        let Self { log, content, recipients, streamed, has_failed, mut file, .. } = self;
        let queue_id = *file.queue_id();
        if finished.fate == Fate::Discard {
            file.remove().await;
            return Ok(Receipt { queue_id });
        }
        if has_failed {
            return Err(Refusal::Storage);
        }
        let writes = match streamed {
            None => whole_file(&content, &recipients, finished).map(|file| vec![(0, file)]),
            Some(streamed) => rest_of_file(streamed, content, recipients, finished),
        };
        if finished.fate == Fate::Hold {
            file.hold();
        }
        let committed = match writes {
            Ok(writes) => file.commit(writes).await,
            Err(error) => Err(Failure::Layout(error)),
        };
        match committed {
            Ok(receipt) => Ok(Receipt { queue_id: *receipt.queue_id() }),
            Err(failure) => {
                log_failure(&log, &queue_id, &failure);
                Err(Refusal::Storage)
            }
        }
    }

    /// Keeps the memory of a message bounded that still comes in.
    pub(in crate::submit) async fn spill_if_large(&mut self, message: &Message) {
        if self.is_large() && !message.is_wanted() {
            // A message that will be refused or vanish needs no disk.
            self.content.clear();
            self.recipients.clear();
            return;
        }
        self.spill_if_too_large().await;
    }

    fn is_large(&self) -> bool {
        let bytes_max = if self.streamed.is_some() { WRITE_BYTES_MIN } else { RECORD_BYTES_IN_MEMORY_MAX };
        self.content.len().saturating_add(self.recipients.len()) >= bytes_max
    }

    /// Keeps the memory of a message bounded that will be written in any case.
    pub(in crate::submit) async fn spill_if_too_large(&mut self) {
        if !self.is_large() {
            return;
        }
        if self.has_failed {
            self.content.clear();
            self.recipients.clear();
            return;
        }
        if let Err(failure) = self.spill().await {
            log_failure(&self.log, self.file.queue_id(), &failure);
            self.has_failed = true;
            self.content = Vec::new();
            self.recipients = Vec::new();
            self.file.discard();
        }
    }

    async fn spill(&mut self) -> Result<(), Failure> {
        let front_bytes = self.front_bytes;
        let streamed =
            self.streamed.get_or_insert(Streamed { front_bytes, content_bytes: 0, recipients_bytes: 0 });
        if !self.content.is_empty() {
            let content = std::mem::take(&mut self.content);
            let content_bytes = content.len() as u64;
            self.content = self.file.write(streamed.extracted_offset(), content).await?;
            streamed.content_bytes = streamed.content_bytes.saturating_add(content_bytes);
        }
        if !self.recipients.is_empty() {
            let recipients = std::mem::take(&mut self.recipients);
            let recipients_bytes = recipients.len() as u64;
            self.recipients = self.file.write(streamed.tail_offset(), recipients).await?;
            streamed.recipients_bytes = streamed.recipients_bytes.saturating_add(recipients_bytes);
        }
        Ok(())
    }
}

pub(in crate::submit) fn log_failure(log: &Log, queue_id: &QueueId, failure: &Failure) {
    log.write(Program::Cleanup, Severity::Warning, &format!("{queue_id}: {failure}"));
}

/// The message in Postfix's own layout.
pub(in crate::submit) fn whole_file(
    content: &[u8],
    recipients: &[u8],
    finished: &Finished,
) -> Result<Vec<u8>, LayoutError> {
    let parts = finished.parts(recipients, content);
    let mut file =
        Vec::with_capacity(content.len().saturating_add(recipients.len()).saturating_add(FRONT_BYTES));
    queue_file::classic(&parts, &mut file)?;
    Ok(file)
}

/// What stands around content and recipients, roughly: the vector need not grow.
const FRONT_BYTES: usize = 2048;

/// What is missing around the content and recipients that are on disk.
fn rest_of_file(
    mut streamed: Streamed,
    content: Vec<u8>,
    recipients: Vec<u8>,
    finished: &Finished,
) -> Result<Vec<(u64, Vec<u8>)>, LayoutError> {
    let mut rest = Vec::new();
    let content_end = streamed.extracted_offset();
    streamed.content_bytes = streamed.content_bytes.saturating_add(content.len() as u64);
    rest.push((content_end, content));
    rest.push((streamed.extracted_offset(), EXTRACTED_RECORD.to_vec()));
    let recipients_end = streamed.tail_offset();
    streamed.recipients_bytes = streamed.recipients_bytes.saturating_add(recipients.len() as u64);
    rest.push((recipients_end, recipients));
    let late = Late {
        envelope: &finished.envelope,
        received: &finished.received,
        from: from_of(finished),
        extracted: &finished.extracted,
        counts: finished.counts,
    };
    rest.extend(streamed.finish(&late)?.into_iter().map(|Write { offset, bytes }| (offset, bytes)));
    rest.retain(|(_, bytes)| !bytes.is_empty());
    Ok(rest)
}

fn from_of(finished: &Finished) -> Option<(u64, &[u8])> {
    finished.from.as_ref().map(|(offset, records)| (*offset, records.as_slice()))
}
