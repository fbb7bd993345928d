//! A message that comes in one piece: one job for a committer thread, from the queue ID to the receipt.
//!
//! Most messages are like that. As a [`super::Draft`] such a message would go to a committer thread and back twice, for its
//! file and for its commit, and each of these is a thread that wakes another; here it goes once.

use std::sync::Arc;

use cleanup::{Fate, Finished};
use postfix::queue_id::QueueId;
use spool::committer::{Job, Refused};
use spool::{Draft, Timestamp, UnixDisk};
use tokio::sync::oneshot;

use super::layout::whole_file;
use super::queue_file::StoreError;
use super::records::Records;
use super::shared::Shared;
use crate::{Receipt, Refusal};

/// A draft in the hands of a thread that may wait for the disk. Dropping it removes it.
pub(crate) struct WholeDraft {
    draft: Draft<UnixDisk>,
    store: Arc<Shared>,
}

/// Where the outcome goes: to the session, if it is still there.
pub(crate) struct Answer<T>(oneshot::Sender<Result<T, Refusal>>);

impl<T> Answer<T> {
    pub(crate) fn give(self, outcome: T) {
        // The session may be gone.
        let _ = self.0.send(Ok(outcome));
    }
}

pub(super) async fn run<T: Send + 'static>(
    store: &Arc<Shared>,
    work: impl FnOnce(WholeDraft, Answer<T>) + Send + 'static,
) -> Result<T, Refusal> {
    let (sender, receiver) = oneshot::channel();
    let shared = Arc::clone(store);
    let work = Box::new(move |created| match created {
        Ok(draft) => work(WholeDraft { draft, store: shared }, Answer(sender)),
        Err(error) => {
            let refusal = shared.refused_without_draft(&StoreError::from(error));
            let _ = sender.send(Err(refusal));
        }
    });
    let failure = match store.committers.submit(Job::Whole { work }) {
        Ok(()) => match receiver.await {
            Ok(outcome) => return outcome,
            // It ended before it had an answer; its file may be there.
            Err(_) => StoreError::Unanswered,
        },
        Err(Refused { reason, .. }) => StoreError::NotTaken(reason),
    };
    Err(store.refused_without_draft(&failure))
}

impl WholeDraft {
    pub(crate) fn queue_id(&self) -> &QueueId {
        self.draft.queue_id()
    }

    pub(crate) fn created(&self) -> Timestamp {
        self.draft.created()
    }

    /// As [`super::Draft::commit`]. `done` is called on this thread, or on the one that writes to the journal just now.
    pub(crate) fn commit(
        self,
        records: &Records,
        finished: &Finished,
        done: impl FnOnce(Result<Receipt, Refusal>) + Send + 'static,
    ) {
        let Self { mut draft, store } = self;
        let queue_id = *draft.queue_id();
        let fate = finished.fate;
        let file = match whole_file(records, finished) {
            Ok(file) => file,
            Err(error) => {
                // Its file is gone before the client hears of it.
                drop(draft);
                return done(store.conclude(&queue_id, fate, Err(error.into())));
            }
        };
        if fate == Fate::Hold {
            draft.hold();
        }
        let done = Box::new(move |committed: Result<_, spool::SpoolError>| {
            done(store.conclude(&queue_id, fate, committed.map_err(StoreError::from)));
        });
        draft.commit_whole(file, done);
    }
}
