//! A queue file whose disk work is done by the committer threads, so that no session waits in a system call.

use std::sync::Arc;

use postfix::queue_file::LayoutError;
use postfix::queue_id::QueueId;
use spool::Done;
use spool::committer::{Committers, Job, Refused};
use spool::{Draft, SpoolError, Timestamp, UnixDisk};
use tokio::sync::oneshot;

use crate::Refusal;

/// A queue file that is being written. Dropping it removes it.
#[derive(Debug)]
pub(super) struct QueueFile {
    committers: Arc<Committers<UnixDisk>>,
    queue_id: QueueId,
    created: Timestamp,
    /// `None` while a committer thread has it, and after a failure.
    draft: Option<Draft<UnixDisk>>,
}

/// What can go wrong between a message and its durable file; in words for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// The disk said no.
    #[error("write queue file: {0}")]
    Disk(Box<SpoolError>),
    /// The parts do not fit together.
    #[error("write queue file: {0}")]
    Layout(#[from] LayoutError),
    /// The committers have too much to do, or are stopping.
    #[error("write queue file: {0}")]
    NotTaken(spool::committer::Reason),
    /// The file was given up after an earlier failure, or the thread that had it ended.
    #[error("write queue file: abandoned before it was complete")]
    GivenUp,
    /// The thread that was to make it durable ended without an answer.
    #[error("write queue file: it was given up when it was complete, and may be there")]
    Unanswered,
}

impl StoreError {
    /// What the client hears of it.
    pub(super) const fn refusal(&self) -> Refusal {
        match self {
            Self::Disk(_) | Self::Layout(_) | Self::NotTaken(_) | Self::GivenUp => Refusal::Storage,
            Self::Unanswered => Refusal::Unknown,
        }
    }
}

impl From<SpoolError> for StoreError {
    fn from(error: SpoolError) -> Self {
        Self::Disk(Box::new(error))
    }
}

impl QueueFile {
    /// Makes an empty file under a new queue ID.
    pub(super) async fn create(committers: &Arc<Committers<UnixDisk>>) -> Result<Self, StoreError> {
        let draft = run(committers, |done| Job::Create { done }).await??;
        Ok(Self {
            committers: Arc::clone(committers),
            queue_id: *draft.queue_id(),
            created: draft.created(),
            draft: Some(draft),
        })
    }

    pub(super) const fn queue_id(&self) -> &QueueId {
        &self.queue_id
    }

    /// The time in the queue ID.
    pub(super) const fn created(&self) -> Timestamp {
        self.created
    }

    /// Writes the buffer at an offset and hands it back, empty.
    pub(super) async fn write(&mut self, offset: u64, bytes: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let draft = self.draft.take().ok_or(StoreError::GivenUp)?;
        let written = run(&self.committers, |done| Job::Write { draft, offset, bytes, done }).await?;
        self.draft = Some(written.draft);
        written.outcome?;
        let mut buffer = written.bytes;
        buffer.clear();
        Ok(buffer)
    }

    /// The message shall be committed into the hold queue.
    pub(super) const fn hold(&mut self) {
        if let Some(draft) = &mut self.draft {
            draft.hold();
        }
    }

    /// Does the last writes and makes the file durable.
    pub(super) async fn commit(mut self, writes: Vec<(u64, Vec<u8>)>) -> Result<spool::Receipt, StoreError> {
        let draft = self.draft.take().ok_or(StoreError::GivenUp)?;
        let committed = run(&self.committers, |done| Job::Commit { draft, writes, done }).await;
        match committed {
            Err(StoreError::GivenUp) => Err(StoreError::Unanswered),
            committed => Ok(committed??),
        }
    }

    /// Removes the file, and returns when it is gone.
    pub(super) async fn remove(mut self) {
        if let Some(draft) = self.draft.take() {
            // If the threads have too much to do the job comes back, and the file is removed right here.
            drop(run(&self.committers, |done| Job::Discard { draft, done }).await);
        }
    }

    /// Has the file removed; what is written to it from here on goes nowhere.
    pub(super) fn discard(&mut self) {
        if let Some(draft) = self.draft.take() {
            // As above.
            drop(self.committers.submit(Job::Discard { draft, done: Box::new(|()| ()) }));
        }
    }
}

impl Drop for QueueFile {
    fn drop(&mut self) {
        self.discard();
    }
}

/// Has one job done on a committer thread.
async fn run<T: Send + 'static>(
    committers: &Committers<UnixDisk>,
    job: impl FnOnce(Done<T>) -> Job<UnixDisk>,
) -> Result<T, StoreError> {
    let (sender, receiver) = oneshot::channel();
    let done: Done<T> = Box::new(move |outcome| {
        // The session may be gone; what comes back is dropped then, and a draft with it.
        let _ = sender.send(outcome);
    });
    committers.submit(job(done)).map_err(|Refused { reason, .. }| StoreError::NotTaken(reason))?;
    receiver.await.map_err(|_| StoreError::GivenUp)
}
