//! The way of [`super::local`] for a message that is there as a whole: in one job of the store, from the queue ID to the receipt.
//! What is logged, in which order, and what the file holds is the same.

use std::sync::Arc;

use cleanup::{Fate, Message, Options, Origin, Tables};
use lookup::Budget;
use spool::Timestamp;

use super::arrival::arrival_of;
use super::feed::{feed, judge};
use super::local::Local;
use super::name::Name;
use super::piece::Request;
use super::store::{Answer, Records, WholeDraft};
use super::{Receipt, Refusal};
use crate::date::DateFormat;
use daemon::log::Log;

/// What has become of a message; or the message itself, if this way is not for it.
type Taken<R> = Result<Result<Receipt, Refusal>, R>;

impl Local {
    /// Whether nothing but the disk can hold a message up on its way: neither a table server nor a mail filter must keep a
    /// committer waiting.
    pub(super) fn is_short_way(&self) -> bool {
        self.milters.is_none() && !self.lookups.is_remote()
    }

    /// Takes a message; or hands it back, if an expression takes so long that no committer may wait for it.
    pub(super) async fn take_whole<R: Request>(
        &self,
        origin: Origin,
        arrived: Timestamp,
        name: &Name,
        request: R,
    ) -> Taken<R> {
        let (tables, budget) = self.lookups.tables_at_once(&origin);
        let work = Work {
            request,
            arrived,
            name: name.clone(),
            origin,
            options: Arc::clone(&self.options),
            tables,
            budget,
            dates: self.dates.clone(),
            log: self.log.clone(),
        };
        self.store
            .whole(|draft, answer| work.run(draft, answer))
            .await
            .unwrap_or_else(|refusal| Ok(Err(refusal)))
    }
}

/// What a thread of the store needs for one message.
struct Work<R> {
    request: R,
    arrived: Timestamp,
    name: Name,
    origin: Origin,
    options: Arc<Options>,
    tables: Arc<dyn Tables>,
    /// Says whether an expression had no time.
    budget: Option<Arc<Budget>>,
    dates: DateFormat,
    log: Log,
}

impl<R: Request> Work<R> {
    fn run(self, draft: WholeDraft, answer: Answer<Taken<R>>) {
        let Self { request, arrived, name, origin, options, tables, budget, dates, log } = self;
        let queue_id = *draft.queue_id();
        let arrival = arrival_of(queue_id.to_string(), draft.created(), arrived, &dates);
        let client = origin.log_origin.clone();
        let mut message = Message::new(options, tables, arrival, origin);
        let content = Vec::with_capacity(request.bytes().saturating_add(ROOM_FOR_HEADERS_BYTES));
        let mut records = Records { content, recipients: Vec::new() };
        request.pieces(&mut |piece| feed(&mut message, piece, records.sink()));
        let outcome = message.finish();
        if budget.is_some_and(|budget| budget.has_stayed()) {
            // As if it had never been here.
            drop(draft);
            return answer.give(Err(request));
        }
        name.give(queue_id, &client, &log);
        match judge(outcome, &log) {
            Ok(finished) if finished.fate == Fate::Discard => {
                drop(draft);
                answer.give(Ok(Ok(Receipt::discarded_by_rule(queue_id))));
            }
            Ok(finished) => draft.commit(&records, &finished, move |committed| answer.give(Ok(committed))),
            Err(refusal) => {
                // Its file is gone before the client hears of it.
                drop(draft);
                answer.give(Ok(Err(refusal)));
            }
        }
    }
}

/// What cleanup adds to a message, roughly: the vector need not grow.
const ROOM_FOR_HEADERS_BYTES: usize = 1024;
