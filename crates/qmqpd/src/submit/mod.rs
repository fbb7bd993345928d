//! The one place where ways of accepting a message differ: each back end is one file here, with the verbs in the
//! order of the wire. `K` can only be made from a [`Receipt`], and only [`Handoff::commit`] makes one.

mod cleanup_options;
mod draft;
mod local;
mod wake;

pub use cleanup_options::{cleanup_options, front_bytes};
pub use local::{Handoff as LocalHandoff, Local};
pub use wake::Wake;

use postfix::queue_id::QueueId;
use spool::Timestamp;

use crate::session::Client;

/// Where accepted messages go.
#[derive(Debug)]
pub enum Submit {
    /// Our own cleanup, straight into the incoming queue.
    Local(Local),
}

/// Proof that a message is durable.
#[derive(Debug)]
pub struct Receipt {
    queue_id: QueueId,
}

/// Why a message was not accepted. `Display` is the reply behind `Error: `, in Postfix's words where it has some.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The message itself, as cleanup(8) sees it.
    #[error(transparent)]
    Message(#[from] cleanup::Refusal),
    /// The queue could not take it. What went wrong is in the log, not in the reply.
    #[error("queue file write error")]
    Storage,
}

/// One message on its way to a back end. Dropping it before `commit` discards the message.
#[derive(Debug)]
pub enum Handoff {
    /// See [`Submit::Local`].
    Local(Box<LocalHandoff>),
}

impl Submit {
    /// Begins a message: from here on it has a queue ID. `arrived` is when the client connected.
    pub async fn open(&self, client: &Client, arrived: Timestamp) -> Result<Handoff, Refusal> {
        match self {
            Self::Local(local) => Ok(Handoff::Local(Box::new(local.open(client, arrived).await?))),
        }
    }

    /// Finishes what was begun on disk, discards included, and takes no more.
    pub fn shut_down(&self) {
        match self {
            Self::Local(local) => local.committers.shut_down(),
        }
    }
}

impl Handoff {
    /// The name of the queue file, and of the message in every log line.
    #[must_use]
    pub fn queue_id(&self) -> &QueueId {
        match self {
            Self::Local(handoff) => handoff.queue_id(),
        }
    }

    /// A piece of the content. What goes wrong is remembered until [`Self::commit`].
    pub async fn body(&mut self, piece: &[u8]) {
        match self {
            Self::Local(handoff) => handoff.body(piece).await,
        }
    }

    /// The content is complete.
    pub fn end_of_body(&mut self) {
        match self {
            Self::Local(handoff) => handoff.end_of_body(),
        }
    }

    /// The envelope sender.
    pub fn sender(&mut self, address: &[u8]) {
        match self {
            Self::Local(handoff) => handoff.sender(address),
        }
    }

    /// One envelope recipient.
    pub async fn recipient(&mut self, address: &[u8]) {
        match self {
            Self::Local(handoff) => handoff.recipient(address).await,
        }
    }

    /// Makes the message durable, or says why not.
    pub async fn commit(self) -> Result<Receipt, Refusal> {
        match self {
            Self::Local(handoff) => handoff.commit().await,
        }
    }
}

impl Receipt {
    /// The name of the queue file that is now durable.
    #[must_use]
    pub fn queue_id(&self) -> &QueueId {
        &self.queue_id
    }
}
