//! Our own cleanup, straight into the incoming queue.
//!
//! A small message is kept in memory until it is complete and then written at once, in Postfix's own layout. A message
//! that outgrows [`RECORD_BYTES_IN_MEMORY_MAX`] streams: content first, recipients behind it, and the front when
//! everything is known (`docs/queue-file.md`). Nothing else here depends on the size.

use std::sync::Arc;

use cleanup::{Arrival, Fate, Finished, Message, Origin};
use postfix::notice::Severity;
use postfix::queue_file::{self, EXTRACTED_RECORD, Late, LayoutError, Streamed, Write};
use postfix::queue_id::QueueId;
use spool::committer::Committers;
use spool::{Timestamp, UnixDisk};

use super::draft::{Failure, QueueFile};
use super::tables::Lookups;
use super::wake::Wake;
use super::{Receipt, Refusal};
use crate::client::Client;
use crate::date::DateFormat;
use crate::log::{Log, Program};

/// Records of one message that are kept in memory; more go to the disk as they come.
const RECORD_BYTES_IN_MEMORY_MAX: usize = 64 * 1024;

/// The way of [`super::Submit::Local`].
#[derive(Debug)]
pub struct Local {
    /// The threads that talk to the disk.
    pub committers: Arc<Committers<UnixDisk>>,
    /// What main.cf says to cleanup(8).
    pub options: Arc<cleanup::Options>,
    /// The tables that main.cf names.
    pub lookups: Lookups,
    /// Bytes kept in front of streamed content, for the envelope that comes later.
    pub front_bytes: u64,
    /// For `Date:` and `Received:`.
    pub dates: DateFormat,
    /// For what cleanup(8) logs.
    pub log: Log,
    /// For the queue manager.
    pub wake: Wake,
}

impl Local {
    /// Makes the queue file. `arrived` is when the client connected.
    pub(super) async fn open(&self, client: &Client, arrived: Timestamp) -> Result<Handoff, Refusal> {
        let file = QueueFile::create(&self.committers).await.map_err(|failure| {
            self.log.write(Program::Cleanup, Severity::Warning, &failure.to_string());
            Refusal::Storage
        })?;
        let arrival = Arrival {
            queue_id: file.queue_id().to_string(),
            created: (file.created().seconds, file.created().microseconds),
            arrived: (arrived.seconds, arrived.microseconds),
            date: self.dates.rfc5322(arrived.seconds),
        };
        let origin = Origin {
            client_name: client.name.clone(),
            client_address: client.address.clone(),
            client_port: client.port.clone(),
            address_family: client.family,
            log_origin: client.shown.clone(),
        };
        Ok(Handoff {
            message: Message::new(Arc::clone(&self.options), self.lookups.tables(), arrival, origin),
            lookups: self.lookups.clone(),
            log: self.log.clone(),
            wake: self.wake.clone(),
            front_bytes: self.front_bytes,
            content: Vec::new(),
            recipients: Vec::new(),
            streamed: None,
            has_failed: false,
            file,
        })
    }
}

/// One message on its way through our cleanup into its queue file.
#[derive(Debug)]
pub struct Handoff {
    message: Message,
    lookups: Lookups,
    log: Log,
    wake: Wake,
    front_bytes: u64,
    /// Content records that are not on disk yet.
    content: Vec<u8>,
    /// Recipient records that are not on disk yet.
    recipients: Vec<u8>,
    /// What is on disk already, once the message has outgrown the memory.
    streamed: Option<Streamed>,
    /// The disk has failed, which is in the log; the rest of the message is read and forgotten.
    has_failed: bool,
    file: QueueFile,
}

impl Handoff {
    pub(super) const fn queue_id(&self) -> &QueueId {
        self.file.queue_id()
    }

    pub(super) async fn body(&mut self, piece: &[u8]) {
        let Self { message, content, lookups, .. } = self;
        lookups.run(|| message.content_bytes(piece, content)).await;
        self.spill_if_large().await;
    }

    pub(super) async fn end_of_body(&mut self) {
        let Self { message, content, lookups, .. } = self;
        lookups.run(|| message.end_of_content(content)).await;
    }

    pub(super) async fn sender(&mut self, address: &[u8]) {
        let Self { message, recipients, lookups, .. } = self;
        lookups.run(|| message.sender(address, recipients)).await;
        self.spill_if_large().await;
    }

    pub(super) async fn recipient(&mut self, address: &[u8]) {
        let Self { message, recipients, lookups, .. } = self;
        lookups.run(|| message.recipient(address, recipients)).await;
        self.spill_if_large().await;
    }

    pub(super) async fn commit(self) -> Result<Receipt, Refusal> {
        let Self { message, lookups, log, wake, content, recipients, streamed, has_failed, file, .. } = self;
        let outcome = lookups.run(|| message.finish()).await;
        for notice in &outcome.notices {
            log.notice(Program::Cleanup, notice);
        }
        let finished = outcome.result?;
        let queue_id = *file.queue_id();
        if finished.fate == Fate::Discard {
            file.remove().await;
            return Ok(Receipt { queue_id });
        }
        if has_failed {
            return Err(Refusal::Storage);
        }
        let writes = match streamed {
            None => whole_file(&content, &recipients, &finished),
            Some(streamed) => rest_of_file(streamed, content, recipients, &finished),
        };
        let committed = match writes {
            Ok(writes) if finished.fate == Fate::Hold => file.hold(writes).await,
            Ok(writes) => file.commit(writes).await,
            Err(error) => Err(Failure::Layout(error)),
        };
        match committed {
            Ok(receipt) => {
                if finished.fate == Fate::Deliver {
                    wake.queue_manager();
                }
                Ok(Receipt { queue_id: *receipt.queue_id() })
            }
            Err(failure) => {
                log_failure(&log, &queue_id, &failure);
                Err(Refusal::Storage)
            }
        }
    }

    /// Keeps the memory of this message bounded.
    async fn spill_if_large(&mut self) {
        if self.content.len().saturating_add(self.recipients.len()) < RECORD_BYTES_IN_MEMORY_MAX {
            return;
        }
        // A message that will be refused or vanish needs no disk.
        if self.has_failed || !self.message.is_wanted() {
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

fn log_failure(log: &Log, queue_id: &QueueId, failure: &Failure) {
    log.write(Program::Cleanup, Severity::Warning, &format!("{queue_id}: {failure}"));
}

/// The message in Postfix's own layout, as one write.
fn whole_file(
    content: &[u8],
    recipients: &[u8],
    finished: &Finished,
) -> Result<Vec<(u64, Vec<u8>)>, LayoutError> {
    let mut file = Vec::new();
    queue_file::classic(&finished.parts(recipients, content), &mut file)?;
    Ok(vec![(0, file)])
}

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
