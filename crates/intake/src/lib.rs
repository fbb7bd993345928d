//! How does a message get into the queue, and is every way the same promise?
//!
//! The one place where ways of accepting a message differ, and the only one that asks `qmqpd_submit`: what a way needs
//! ([`Backend::needs`]), what `qmqpd check` says of it ([`Backend::check`]), and how a message goes it
//! ([`Backend::open`], then the verbs of [`Handoff`]). The client hears that its message is queued only for a [`Receipt`]. This
//! crate knows no protocol and no session: it is fed a message in [`Piece`]s, from the [`cleanup::Origin`] that it is told.
//!
//! ```text
//! Opened::open ─► Confined ─► Backend              with privileges, behind the jail, with threads
//! Backend::open ─► Handoff ─ feed ─ feed ─ … ─ complete ─ commit ─► Receipt, or Refusal
//! Backend::take_whole ───────────────────────────────────────────► the same, for a message that is there as a whole
//! ```
//!
//! Behind [`Local`] stands [`Store`]: where messages are kept. Only it knows queue files, offsets and the threads of the disk.

mod arrival;
mod cleanup_options;
mod cleanup_service;
mod date;
mod deferred_writer;
mod feed;
mod held_message;
mod local;
mod milter;
mod name;
mod needs;
mod opening;
mod piece;
mod postfix;
mod receipt;
mod settlement;
mod spill_buffer;
mod store;
mod tables;
mod wake;
mod whole;

use std::sync::Arc;

pub use self::postfix::{Handoff as PostfixHandoff, Postfix};
pub use cleanup_options::cleanup_options;
pub use date::DateFormat;
pub use local::{Handoff as LocalHandoff, Local};
pub use milter::Milters;
pub use name::Name;
pub use needs::{Needs, PublicService, file_threads};
pub use opening::{Confined, Given, Opened};
pub use piece::{Piece, Request};
pub use receipt::{Receipt, Refusal};
pub use settlement::Settlement;
pub use store::Store;
pub use tables::{CleanupTables, Lookups};

use ::postfix::settings::Settings;
use ::postfix::settings::words::Submit;
use cleanup::Origin;
use lookup::{Asker, Problem};
use spool::Timestamp;

/// Where accepted messages go, as `qmqpd_submit` says. A service process opens it in three steps: [`Opened`], [`Confined`],
/// and this.
#[derive(Debug)]
pub enum Backend {
    /// Postfix's cleanup(8), over its socket in the queue directory.
    Postfix(Arc<Postfix>),
    /// Our own cleanup, straight into the incoming queue.
    Local(Local),
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

    /// Begins a message. `arrived` is when the client connected, `asker` knows when it has left; `name` gets the queue ID when there is one: from our own
    /// cleanup now, from Postfix's in [`Handoff::complete`].
    pub async fn open(
        &self,
        origin: Origin,
        arrived: Timestamp,
        asker: Arc<dyn Asker>,
        name: &Name,
    ) -> Result<Handoff, Refusal> {
        match self {
            Self::Postfix(postfix) => Ok(Handoff::Postfix(Box::new(postfix.open(origin, arrived)))),
            Self::Local(local) => {
                Ok(Handoff::Local(Box::new(local.open(origin, arrived, asker, name).await?)))
            }
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

    /// Takes a message that is there as a whole: all that [`Self::open`] and the verbs of [`Handoff`] do, in one go. Or
    /// hands it back, where the long way is needed.
    pub async fn take_whole<R: Request>(
        &self,
        origin: Origin,
        arrived: Timestamp,
        name: &Name,
        request: R,
    ) -> Result<Result<Receipt, Refusal>, R> {
        match self {
            Self::Local(local) if local.is_short_way() => {
                local.take_whole(origin, arrived, name, request).await
            }
            Self::Local(_) | Self::Postfix(_) => Err(request),
        }
    }

    /// Finishes what was begun on disk, discards included, and takes no more.
    pub fn shut_down(&self) {
        match self {
            // cleanup(8) removes what it was not told to keep.
            Self::Postfix(_) => {}
            Self::Local(local) => local.store.shut_down(),
        }
    }
}

impl Handoff {
    /// The next of the message. What goes wrong is remembered until [`Self::complete`] or [`Self::commit`].
    pub async fn feed(&mut self, piece: Piece<'_>) {
        match self {
            Self::Postfix(handoff) => handoff.feed(piece).await,
            Self::Local(handoff) => handoff.feed(piece).await,
        }
    }

    /// There is no more. The message has a queue ID from here on, or it is refused: call it before [`Self::commit`].
    pub async fn complete(&mut self, name: &Name) -> Result<(), Refusal> {
        match self {
            Self::Postfix(handoff) => handoff.complete(name).await,
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
