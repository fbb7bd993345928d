//! Our own cleanup, straight into the incoming queue.

use std::sync::Arc;

use cleanup::{Fate, Message};
use lookup::Asker;
use postfix::notice::Severity;
use postfix::queue_id::QueueId;
use postfix::settings::Settings;
use postfix::settings::words::Commit;
use spool::committer::Committers;
use spool::{Timestamp, UnixDisk};

use super::arrival::{arrival_of, origin_of};
use super::milter::Milters;
use super::needs::{Needs, paths};
use super::store::draft::Writer;
use super::store::queue_file::QueueFile;
use super::tables::Lookups;
use super::waiting::Waiting;
use super::wake::{Wake, pipe_directories};
use super::{Receipt, Refusal};
use crate::client::Client;
use crate::date::DateFormat;
use crate::jail;
use crate::log::{Log, Program};

/// The way of [`super::Backend::Local`].
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
    /// The filters that messages are shown to.
    pub milters: Option<Arc<Milters>>,
    /// For `Date:` and `Received:`.
    pub dates: DateFormat,
    /// For what cleanup(8) logs.
    pub log: Log,
    /// For the queue manager.
    pub wake: Wake,
}

impl Local {
    /// Each session has a socket and a queue file open. With mail filters it has instead of the latter one file for content,
    /// one for recipients, one for a new body, the queue file, and a socket to each filter.
    pub(super) fn needs(settings: &Settings) -> Needs {
        let filters = settings.milters().map_or(0, |(filters, _)| filters.len());
        Needs {
            jail: jail::Needs {
                // A check can put a message on hold.
                spool_directories: paths(&["incoming", "hold", spool::journal::DIRECTORY]),
                // Queue IDs come again: nothing of an earlier message must be there under a new one.
                log_directories: paths(&["bounce", "defer", "trace"]),
                pipe_directories: pipe_directories(settings),
                ..jail::Needs::default()
            },
            sockets: Vec::new(),
            descriptors_per_session: if filters == 0 { 2 } else { 5_u64.saturating_add(filters as u64) },
            keeps_journal: settings.qmqpd_commit == Commit::Journal,
        }
    }

    /// Makes the queue file. `arrived` is when the client connected, `asker` knows when it has left.
    pub(super) async fn open(
        &self,
        client: &Client,
        arrived: Timestamp,
        asker: Arc<dyn Asker>,
    ) -> Result<Handoff, Refusal> {
        let file = QueueFile::create(&self.committers).await.map_err(|failure| {
            self.log.write(Program::Cleanup, Severity::Warning, &failure.to_string());
            Refusal::Storage
        })?;
        let arrival = arrival_of(file.queue_id().to_string(), file.created(), arrived, &self.dates);
        let origin = origin_of(client);
        let tables = self.lookups.tables(client, asker);
        Ok(Handoff {
            message: Message::new(Arc::clone(&self.options), tables, arrival, origin),
            lookups: self.lookups.clone(),
            log: self.log.clone(),
            wake: self.wake.clone(),
            waiting: self.milters.as_ref().map(|milters| Waiting::new(Arc::clone(milters))),
            writer: Writer::new(file, self.front_bytes, self.log.clone()),
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
    /// Where records wait for mail filters before they go into the queue file.
    waiting: Option<Waiting>,
    writer: Writer,
}

impl Handoff {
    pub(super) const fn queue_id(&self) -> &QueueId {
        self.writer.queue_id()
    }

    pub(super) async fn body(&mut self, piece: &[u8]) {
        let Self { message, writer, waiting, lookups, .. } = self;
        match waiting {
            None => {
                lookups.run(|| message.content_bytes(piece, &mut writer.content)).await;
                writer.spill_if_large(message).await;
            }
            Some(waiting) => {
                lookups.run(|| message.content_bytes(piece, waiting.content())).await;
                waiting.settle(message).await;
            }
        }
    }

    pub(super) async fn end_of_body(&mut self) {
        let Self { message, writer, waiting, lookups, .. } = self;
        let content = waiting.as_mut().map_or(&mut writer.content, Waiting::content);
        lookups.run(|| message.end_of_content(content)).await;
    }

    pub(super) async fn sender(&mut self, address: &[u8]) {
        let Self { message, writer, waiting, lookups, .. } = self;
        match waiting {
            None => {
                lookups.run(|| message.sender(address, &mut writer.recipients)).await;
                writer.spill_if_large(message).await;
            }
            Some(waiting) => {
                lookups.run(|| message.sender(address, waiting.recipients())).await;
                waiting.settle(message).await;
            }
        }
    }

    pub(super) async fn recipient(&mut self, address: &[u8]) {
        let Self { message, writer, waiting, lookups, .. } = self;
        match waiting {
            None => {
                lookups.run(|| message.recipient(address, &mut writer.recipients)).await;
                writer.spill_if_large(message).await;
            }
            Some(waiting) => {
                lookups.run(|| message.recipient_for_filters(address, waiting.recipients())).await;
                waiting.settle(message).await;
            }
        }
    }

    pub(super) async fn commit(self) -> Result<Receipt, Refusal> {
        let Self { message, lookups, log, wake, waiting, mut writer } = self;
        let finished = match waiting {
            Some(waiting) => waiting.show(message, &lookups, &log, &mut writer).await?,
            None => {
                let outcome = lookups.run(|| message.finish()).await;
                for notice in &outcome.notices {
                    log.notice(Program::Cleanup, notice);
                }
                outcome.result?
            }
        };
        let fate = finished.fate;
        let receipt = writer.store(&finished).await?;
        if fate == Fate::Deliver {
            wake.queue_manager();
        }
        Ok(receipt)
    }
}
