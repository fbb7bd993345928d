//! The one place where ways of accepting a message differ, and the only one that asks `qmqpd_submit`: what a way needs
//! ([`Backend::needs`]), what `qmqpd check` says of it ([`Backend::check`]), and how a message goes it
//! ([`Backend::open`], then the verbs of [`Handoff`] in the order of the wire). `K` can only be made from a [`Receipt`], and
//! only [`Handoff::commit`] makes one.

mod arrival;
mod cleanup_options;
mod cleanup_service;
mod kept;
mod local;
mod milter;
mod needs;
mod opening;
mod overflow;
mod postfix;
mod settlement;
mod store;
mod tables;
mod waiting;
mod wake;
mod whole;

use std::sync::Arc;

pub use self::postfix::{Handoff as PostfixHandoff, Postfix};
pub(crate) use arrival::message_begins;
pub use cleanup_options::{cleanup_options, front_bytes};
pub use local::{Handoff as LocalHandoff, Local};
pub use milter::Milters;
pub use needs::{Needs, PublicService};
pub use opening::{Confined, Given, Opened, file_threads};
pub use settlement::Settlement;
pub use tables::{CleanupTables, Lookups};
pub use wake::Wake;
pub use whole::{Taken, is_whole};

use ::postfix::queue_id::QueueId;
use ::postfix::settings::Settings;
use ::postfix::settings::words::Submit;
use lookup::{Asker, Problem};
use qmqp::server::Limits;
use spool::Timestamp;

use crate::client::Client;

/// Where accepted messages go, as `qmqpd_submit` says. A service process opens it in three steps: [`Opened`], [`Confined`],
/// and this.
#[derive(Debug)]
pub enum Backend {
    /// Postfix's cleanup(8), over its socket in the queue directory.
    Postfix(Arc<Postfix>),
    /// Our own cleanup, straight into the incoming queue.
    Local(Local),
}

/// Proof that a message is durable, or that an operator's rule has made it vanish.
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
    /// See [`Backend::Postfix`].
    Postfix(Box<PostfixHandoff>),
    /// See [`Backend::Local`].
    Local(Box<LocalHandoff>),
}

impl Backend {
    /// What a process with these settings needs, as far as the settings say: servers are known when tables and filters are
    /// open ([`Confined::needs`]). Call it where the queue directory is the working directory.
    #[must_use]
    pub fn needs(settings: &Settings) -> Needs {
        match settings.qmqpd_submit {
            Submit::Postfix => Postfix::needs(settings),
            Submit::Local => Local::needs(settings),
        }
    }

    /// What is wrong with the tables of each parameter, as `qmqpd check` tells it.
    #[must_use]
    pub fn check(settings: &Settings, options: &lookup::Options) -> Vec<(&'static str, Vec<Problem>)> {
        match settings.qmqpd_submit {
            // Its own programs look at its tables.
            Submit::Postfix => Vec::new(),
            Submit::Local => tables::problems(settings, options),
        }
    }

    /// Begins a message. `arrived` is when the client connected, `asker` knows when it has left.
    pub async fn open(
        &self,
        client: &Client,
        arrived: Timestamp,
        asker: Arc<dyn Asker>,
    ) -> Result<Handoff, Refusal> {
        match self {
            Self::Postfix(postfix) => Ok(Handoff::Postfix(Box::new(postfix.open(client, arrived)))),
            Self::Local(local) => Ok(Handoff::Local(Box::new(local.open(client, arrived, asker).await?))),
        }
    }

    /// A table or included file that is no longer what was opened.
    #[must_use]
    pub fn changed(&self) -> Option<String> {
        match self {
            Self::Postfix(_) => None,
            Self::Local(local) => local.lookups.changed(),
        }
    }

    /// Whether [`Self::take_whole`] takes messages.
    #[must_use]
    pub fn has_short_way(&self) -> bool {
        match self {
            Self::Local(local) => local.is_short_way(),
            Self::Postfix(_) => false,
        }
    }

    /// Takes a message that came complete in one piece, and for which [`is_whole`] is true; or hands it back, where that
    /// is no shorter way.
    pub async fn take_whole(
        &self,
        client: &Client,
        arrived: Timestamp,
        request: Vec<u8>,
        limits: Limits,
    ) -> Result<Taken, Vec<u8>> {
        match self {
            Self::Local(local) if local.is_short_way() => {
                local.take_whole(client, arrived, request, limits).await
            }
            Self::Local(_) | Self::Postfix(_) => Err(request),
        }
    }

    /// Finishes what was begun on disk, discards included, and takes no more.
    pub fn shut_down(&self) {
        match self {
            // cleanup(8) removes what it was not told to keep.
            Self::Postfix(_) => {}
            Self::Local(local) => local.committers.shut_down(),
        }
    }
}

impl Handoff {
    /// The name of the queue file, and of the message in every log line, once there is one: our own cleanup gives it at
    /// once, Postfix's in [`Self::assign_queue_id`].
    #[must_use]
    pub fn queue_id(&self) -> Option<&QueueId> {
        match self {
            Self::Postfix(handoff) => handoff.queue_id(),
            Self::Local(handoff) => Some(handoff.queue_id()),
        }
    }

    /// A piece of the content. What goes wrong is remembered until [`Self::commit`].
    pub async fn body(&mut self, piece: &[u8]) {
        match self {
            Self::Postfix(handoff) => handoff.body(piece).await,
            Self::Local(handoff) => handoff.body(piece).await,
        }
    }

    /// The content is complete.
    pub async fn end_of_body(&mut self) {
        match self {
            Self::Postfix(handoff) => handoff.end_of_body(),
            Self::Local(handoff) => handoff.end_of_body().await,
        }
    }

    /// The envelope sender.
    pub async fn sender(&mut self, address: &[u8]) {
        match self {
            Self::Postfix(handoff) => handoff.sender(address),
            Self::Local(handoff) => handoff.sender(address).await,
        }
    }

    /// One envelope recipient.
    pub async fn recipient(&mut self, address: &[u8]) {
        match self {
            Self::Postfix(handoff) => handoff.recipient(address).await,
            Self::Local(handoff) => handoff.recipient(address).await,
        }
    }

    /// The message is complete: gives it a queue ID if it has none yet, or says why it is refused.
    pub async fn assign_queue_id(&mut self) -> Result<(), Refusal> {
        match self {
            Self::Postfix(handoff) => handoff.assign_queue_id().await,
            Self::Local(_) => Ok(()),
        }
    }

    /// Makes the message durable, or says why not.
    pub async fn commit(self) -> Result<Receipt, Refusal> {
        match self {
            Self::Postfix(handoff) => handoff.commit().await,
            Self::Local(handoff) => handoff.commit().await,
        }
    }
}

impl Receipt {
    /// The name of the queue file that is now durable, or of the one that a discarded message had.
    #[must_use]
    pub fn queue_id(&self) -> &QueueId {
        &self.queue_id
    }
}
