//! Our own cleanup, straight into the incoming queue.

use std::sync::Arc;

use cleanup::{Fate, Message, Origin};
use lookup::Asker;
use postfix::settings::Settings;
use postfix::settings::words::Commit;
use spool::Timestamp;

use super::arrival::arrival_of;
use super::deferred_writer::DeferredWriter;
use super::feed::{feed, judge};
use super::milter::Milters;
use super::name::Name;
use super::needs::{Needs, paths};
use super::piece::Piece;
use super::store::{Draft, Records, Store};
use super::tables::Lookups;
use super::wake::pipe_directories;
use super::{Receipt, Refusal};
use crate::date::DateFormat;
use daemon::jail;
use daemon::log::Log;

/// The way of [`super::Backend::Local`].
#[derive(Debug)]
pub struct Local {
    /// Where messages are kept.
    pub store: Store,
    /// What main.cf says to cleanup(8).
    pub options: Arc<cleanup::Options>,
    /// The tables that main.cf names.
    pub lookups: Lookups,
    /// The filters that messages are shown to.
    pub milters: Option<Arc<Milters>>,
    /// For `Date:` and `Received:`.
    pub dates: DateFormat,
    /// For what cleanup(8) logs.
    pub log: Log,
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
        origin: Origin,
        arrived: Timestamp,
        asker: Arc<dyn Asker>,
        name: &Name,
    ) -> Result<Handoff, Refusal> {
        let draft = self.store.create().await?;
        name.give(*draft.queue_id(), &origin.log_origin, &self.log);
        let arrival = arrival_of(draft.queue_id().to_string(), draft.created(), arrived, &self.dates);
        let tables = self.lookups.tables(&origin, asker);
        Ok(Handoff {
            message: Message::new(Arc::clone(&self.options), tables, arrival, origin),
            lookups: self.lookups.clone(),
            log: self.log.clone(),
            deferred: self.milters.as_ref().map(|milters| DeferredWriter::new(Arc::clone(milters))),
            records: Records::default(),
            draft,
        })
    }
}

/// One message on its way through our cleanup into its draft.
#[derive(Debug)]
pub struct Handoff {
    message: Message,
    lookups: Lookups,
    log: Log,
    /// Where records wait for mail filters before they go into the draft.
    deferred: Option<DeferredWriter>,
    /// What cleanup has made of the message, and the draft has not taken yet.
    records: Records,
    draft: Draft,
}

impl Handoff {
    pub(super) async fn feed(&mut self, piece: Piece<'_>) {
        let Self { message, lookups, deferred, records, draft, .. } = self;
        match deferred {
            None => {
                lookups.run(|| feed(message, piece, records.sink())).await;
                if draft.has_room(records) {
                    return;
                }
                if message.is_wanted() {
                    draft.append(records).await;
                } else {
                    // A message that will be refused or vanish needs no disk.
                    records.clear();
                }
            }
            Some(deferred) => {
                lookups.run(|| deferred.feed(message, piece)).await;
                deferred.settle(message).await;
            }
        }
    }

    pub(super) async fn commit(self) -> Result<Receipt, Refusal> {
        let Self { message, lookups, log, deferred, mut records, mut draft } = self;
        let finished = match deferred {
            Some(deferred) => deferred.show(message, &lookups, &log, &mut draft, &mut records).await?,
            None => judge(lookups.run(|| message.finish()).await, &log)?,
        };
        if finished.fate == Fate::Discard {
            let queue_id = *draft.queue_id();
            draft.discard().await;
            return Ok(Receipt::discarded_by_rule(queue_id));
        }
        draft.commit(records, &finished).await
    }
}
