//! A message that came complete in one piece: one job for a committer thread, from the queue ID to the receipt.
//!
//! Most messages are like that. On the way of [`super::local`] such a message would go to a committer thread and back twice,
//! for its file and for its commit, and each of these is a thread that wakes another; here it goes once. What is
//! logged, in which order, and what the file holds is the same.

use std::sync::Arc;

use cleanup::{Fate, Finished, Message, Options, Origin, Outcome, Tables};
use lookup::Budget;
use postfix::notice::Severity;
use postfix::queue_file::LayoutError;
use postfix::queue_id::QueueId;
use qmqp::server::{Event, Limits, Server};
use spool::committer::{Job, Refused};
use spool::{Draft, SpoolError, Timestamp, UnixDisk};
use tokio::sync::oneshot;

use super::arrival::{arrival_of, message_begins, origin_of};
use super::local::Local;
use super::store::draft::{log_failure, whole_file};
use super::store::queue_file::Failure;
use super::wake::Wake;
use super::{Receipt, Refusal};
use crate::client::Client;
use crate::date::DateFormat;
use crate::log::{Log, Program};

/// What became of a message that came in one piece.
#[derive(Debug)]
pub struct Taken {
    /// Its name, if it got so far.
    pub queue_id: Option<QueueId>,
    /// The proof that it is durable, or why it is not.
    pub result: Result<Receipt, Refusal>,
}

impl Taken {
    const fn storage(queue_id: Option<QueueId>) -> Self {
        Self { queue_id, result: Err(Refusal::Storage) }
    }

    fn committed(queue_id: QueueId, committed: Result<spool::Receipt, SpoolError>, log: &Log) -> Self {
        match committed {
            Ok(receipt) => {
                let queue_id = *receipt.queue_id();
                Self { queue_id: Some(queue_id), result: Ok(Receipt { queue_id }) }
            }
            Err(error) => {
                log_failure(log, &queue_id, &error.into());
                Self::storage(Some(queue_id))
            }
        }
    }
}

/// Whether the protocol machine finds nothing wrong with these bytes, and the end of the request in them.
#[must_use]
pub fn is_whole(request: &[u8], limits: Limits) -> bool {
    if !qmqp::server::is_all_there(request) {
        return false;
    }
    let (mut machine, mut input) = (Server::new(limits), request);
    loop {
        match machine.next(&mut input) {
            Ok(Some(Event::End)) => return true,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return false,
        }
    }
}

impl Local {
    /// Whether nothing but the disk can hold a message up on its way: neither a table server nor a mail filter must keep a
    /// committer waiting.
    pub(super) fn is_short_way(&self) -> bool {
        self.milters.is_none() && !self.lookups.is_remote()
    }

    /// Takes a request for which [`is_whole`] is true with the same limits; or hands it back, if an expression takes so
    /// long that no committer may wait for it.
    pub(super) async fn take_whole(
        &self,
        client: &Client,
        arrived: Timestamp,
        request: Vec<u8>,
        limits: Limits,
    ) -> Result<Taken, Vec<u8>> {
        let (tables, budget) = self.lookups.tables_at_once(client);
        let work = Work {
            request,
            limits,
            arrived,
            origin: origin_of(client),
            options: Arc::clone(&self.options),
            tables,
            budget,
            dates: self.dates.clone(),
            log: self.log.clone(),
            wake: self.wake.clone(),
        };
        let (sender, receiver) = oneshot::channel();
        let job = Job::Create {
            done: Box::new(move |draft| {
                work.run(draft, move |taken| {
                    // The session may be gone; then nobody wants to know.
                    let _ = sender.send(taken);
                });
            }),
        };
        let failure = match self.committers.submit(job) {
            Ok(()) => match receiver.await {
                Ok(taken) => return taken,
                Err(_) => Failure::GivenUp,
            },
            Err(Refused { reason, .. }) => Failure::NotTaken(reason),
        };
        self.log.write(Program::Cleanup, Severity::Warning, &failure.to_string());
        Ok(Taken::storage(None))
    }
}

/// What a committer thread needs for one message.
struct Work {
    request: Vec<u8>,
    limits: Limits,
    arrived: Timestamp,
    origin: Origin,
    options: Arc<Options>,
    tables: Arc<dyn Tables>,
    /// Says whether an expression had no time.
    budget: Option<Arc<Budget>>,
    dates: DateFormat,
    log: Log,
    wake: Wake,
}

impl Work {
    fn run(
        self,
        draft: Result<Draft<UnixDisk>, SpoolError>,
        done: impl FnOnce(Result<Taken, Vec<u8>>) + Send + 'static,
    ) {
        let mut draft = match draft {
            Ok(draft) => draft,
            Err(error) => {
                let failure = Failure::from(error);
                self.log.write(Program::Cleanup, Severity::Warning, &failure.to_string());
                return done(Ok(Taken::storage(None)));
            }
        };
        let queue_id = *draft.queue_id();
        let (content, recipients, outcome) = self.clean_up(&draft);
        if self.budget.as_ref().is_some_and(|budget| budget.has_stayed()) {
            // As if it had never been here.
            drop(draft);
            return done(Err(self.request));
        }
        let Self { log, wake, origin, .. } = self;
        message_begins(&log, &queue_id, &origin.log_origin);
        for notice in &outcome.notices {
            log.notice(Program::Cleanup, notice);
        }
        match outcome.result.map_err(Refusal::from).and_then(|finished| {
            let file = file_of(&content, &recipients, &finished, &queue_id, &log)?;
            Ok((finished.fate, file))
        }) {
            Ok((Fate::Discard, _)) => {
                drop(draft);
                done(Ok(Taken { queue_id: Some(queue_id), result: Ok(Receipt { queue_id }) }));
            }
            Ok((fate, file)) => {
                if fate == Fate::Hold {
                    draft.hold();
                }
                // On this thread, or on the one that writes to the journal just now.
                draft.commit_whole(
                    file,
                    Box::new(move |committed| {
                        if committed.is_ok() && fate == Fate::Deliver {
                            wake.queue_manager();
                        }
                        done(Ok(Taken::committed(queue_id, committed, &log)));
                    }),
                );
            }
            Err(refusal) => {
                // Its file is gone before the client hears of it.
                drop(draft);
                done(Ok(Taken { queue_id: Some(queue_id), result: Err(refusal) }));
            }
        }
    }

    /// The records of content and recipients, and all else about the message.
    fn clean_up(&self, draft: &Draft<UnixDisk>) -> (Vec<u8>, Vec<u8>, Outcome) {
        let Self { request, limits, arrived, origin, options, tables, dates, .. } = self;
        let arrival = arrival_of(draft.queue_id().to_string(), draft.created(), *arrived, dates);
        let mut message = Message::new(Arc::clone(options), Arc::clone(tables), arrival, origin.clone());
        let mut content = Vec::with_capacity(request.len().saturating_add(ROOM_FOR_HEADERS_BYTES));
        let mut recipients = Vec::new();
        let (mut machine, mut input) = (Server::new(*limits), request.as_slice());
        // It has been through this machine, and ended well.
        while let Ok(Some(event)) = machine.next(&mut input) {
            match event {
                Event::Content(piece) => message.content_bytes(piece, &mut content),
                Event::ContentEnd => message.end_of_content(&mut content),
                Event::Sender(address) => message.sender(address, &mut recipients),
                Event::Recipient(address) => message.recipient(address, &mut recipients),
                Event::Begin { .. } | Event::ContentBegin { .. } => {}
                Event::End => break,
            }
        }
        (content, recipients, message.finish())
    }
}

/// The whole queue file; nothing for a message that is to vanish.
fn file_of(
    content: &[u8],
    recipients: &[u8],
    finished: &Finished,
    queue_id: &QueueId,
    log: &Log,
) -> Result<Vec<u8>, Refusal> {
    if finished.fate == Fate::Discard {
        return Ok(Vec::new());
    }
    whole_file(content, recipients, finished).map_err(|error: LayoutError| {
        log_failure(log, queue_id, &error.into());
        Refusal::Storage
    })
}

/// What cleanup adds to a message, roughly: the vector need not grow.
const ROOM_FOR_HEADERS_BYTES: usize = 1024;
