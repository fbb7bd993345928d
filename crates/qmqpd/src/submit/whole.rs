//! A message that came complete in one piece: one job for a committer thread, from the queue ID to the receipt.
//!
//! Most messages are like that. On the way of [`super::local`] such a message would go to a committer thread and back twice,
//! for its file and for its commit, and each of these is a thread that wakes another; here it goes once. What is
//! logged, in which order, and what the file holds is the same.

use std::sync::Arc;

use cleanup::{Fate, Message, Options, Origin, Tables};
use postfix::notice::Severity;
use postfix::queue_file::LayoutError;
use postfix::queue_id::QueueId;
use qmqp::server::{Event, Limits, Server};
use spool::committer::{Job, Refused};
use spool::{Draft, SpoolError, Timestamp, UnixDisk};
use tokio::sync::oneshot;

use super::arrival::{arrival_of, origin_of};
use super::draft::Failure;
use super::local::Local;
use super::wake::Wake;
use super::writer::{log_failure, whole_file};
use super::{Receipt, Refusal};
use crate::client::Client;
use crate::date::DateFormat;
use crate::log::lines::message_begins;
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

    /// Takes a request for which [`is_whole`] is true with the same limits.
    pub(super) async fn take_whole(
        &self,
        client: &Client,
        arrived: Timestamp,
        request: Vec<u8>,
        limits: Limits,
    ) -> Taken {
        let work = Work {
            request,
            limits,
            arrived,
            origin: origin_of(client),
            options: Arc::clone(&self.options),
            tables: self.lookups.tables(),
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
        Taken::storage(None)
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
    dates: DateFormat,
    log: Log,
    wake: Wake,
}

impl Work {
    fn run(self, draft: Result<Draft<UnixDisk>, SpoolError>, done: impl FnOnce(Taken) + Send + 'static) {
        let mut draft = match draft {
            Ok(draft) => draft,
            Err(error) => {
                let failure = Failure::from(error);
                self.log.write(Program::Cleanup, Severity::Warning, &failure.to_string());
                return done(Taken::storage(None));
            }
        };
        let queue_id = *draft.queue_id();
        let (log, wake) = (self.log.clone(), self.wake.clone());
        message_begins(&log, &queue_id, &self.origin.log_origin);
        match self.clean_up(&draft) {
            Ok((Fate::Discard, _)) => {
                drop(draft);
                done(Taken { queue_id: Some(queue_id), result: Ok(Receipt { queue_id }) });
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
                        done(Taken::committed(queue_id, committed, &log));
                    }),
                );
            }
            Err(refusal) => {
                // Its file is gone before the client hears of it.
                drop(draft);
                done(Taken { queue_id: Some(queue_id), result: Err(refusal) });
            }
        }
    }

    /// What is to become of the message, and its whole queue file.
    fn clean_up(self, draft: &Draft<UnixDisk>) -> Result<(Fate, Vec<u8>), Refusal> {
        let Self { request, limits, arrived, origin, options, tables, dates, log, .. } = self;
        let arrival = arrival_of(draft.queue_id().to_string(), draft.created(), arrived, &dates);
        let mut message = Message::new(options, tables, arrival, origin);
        let mut content = Vec::with_capacity(request.len().saturating_add(ROOM_FOR_HEADERS_BYTES));
        let mut recipients = Vec::new();
        let (mut machine, mut input) = (Server::new(limits), request.as_slice());
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
        let outcome = message.finish();
        for notice in &outcome.notices {
            log.notice(Program::Cleanup, notice);
        }
        let finished = outcome.result?;
        if finished.fate == Fate::Discard {
            return Ok((Fate::Discard, Vec::new()));
        }
        let file = whole_file(&content, &recipients, &finished).map_err(|error: LayoutError| {
            log_failure(&log, draft.queue_id(), &error.into());
            Refusal::Storage
        })?;
        Ok((finished.fate, file))
    }
}

/// What cleanup adds to a message, roughly: the vector need not grow.
const ROOM_FOR_HEADERS_BYTES: usize = 1024;
