//! How does a message get into the queue, and is every way the same promise?
//!
//! This crate is the only one that asks `qmqpd_submit`: what a way of accepting a message needs
//! ([`Backend::needs`]), what `qmqpd check` says of its tables ([`Backend::check`]), and how a message goes that
//! way ([`Backend::open`], then the verbs of [`Handoff`]).
//!
//! ```text
//! Opened::open ─► Confined ─► Backend              with privileges, behind the jail, with threads
//! Backend::open ─► Handoff ─ feed ─ feed ─ … ─ complete ─ commit ─► Receipt, or Refusal
//! Backend::take_whole ───────────────────────────────────────────► the same, for a message that is there as a whole
//! ```
//!
//! # What it is not
//!
//! It knows no protocol and no session: the caller feeds it a message in [`Piece`]s, and says from where it comes
//! ([`cleanup::Origin`]). It does not choose the reply: only a [`Receipt`] may become `K`, and a [`Refusal`] says
//! what kind of failure it was. It does not know how a file becomes durable: that is the crate `spool`, which only
//! [`Store`], behind [`Local`], asks.
//!
//! # The two types that matter
//!
//! [`Backend`] is a way to accept messages, opened once in a process. [`Handoff`] is one message on that way. Its
//! verbs return when the work is done or refused; what takes long waits without a thread, but for the files and
//! tables, which have threads of their own ([`file_threads`]).
//!
//! # Example
//!
//! What a process must be allowed before it confines itself:
//!
//! ```
//! use intake::Backend;
//! # use postfix::main_cf::MainCf;
//! # use postfix::own_networks::InterfaceAddress;
//! # use postfix::settings::{HostFacts, load};
//! # let main_cf = MainCf::parse("main.cf", b"myhostname = mx.example.com\nqmqpd_commit = journal\n");
//! # let host = HostFacts {
//! #     host_name: "mx.example.com".to_owned(),
//! #     interfaces: vec![InterfaceAddress { address: [127, 0, 0, 1].into(), prefix_len: 8 }],
//! #     resolve: &|_name| Vec::new(),
//! #     first_line: &|_path| Err("there is no such file".to_owned()),
//! #     config_directory: "/etc/qmqpd".to_owned(),
//! #     process_name: "qmqpd".to_owned(),
//! #     process_id: 1,
//! #     service_name: "628".to_owned(),
//! #     is_under_postfix: false,
//! # };
//! # let settings = load(&main_cf, &[], &host)?.settings;
//! let needs = Backend::needs(&settings);
//! assert!(needs.keeps_journal);
//! assert!(needs.descriptors_per_session >= 2);
//! # Ok::<(), postfix::settings::LoadError>(())
//! ```
#![warn(clippy::missing_errors_doc)]

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
pub use tables::{CleanupTables, Lookups, list_options};

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
    ///
    /// # Errors
    /// The store cannot make a draft: the disk fails, or the committers have too much to do. Postfix's way never fails here.
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
    ///
    /// # Errors
    /// The outer one is the request, handed back; the inner one is a refusal, as of [`Handoff::commit`].
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
    ///
    /// # Errors
    /// Postfix's cleanup(8) cannot be reached, or fails before it has named the message. Our own cleanup never fails here.
    pub async fn complete(&mut self, name: &Name) -> Result<(), Refusal> {
        match self {
            Self::Postfix(handoff) => handoff.complete(name).await,
            Self::Local(_) => Ok(()),
        }
    }

    /// Makes the message durable, or says why not.
    ///
    /// # Errors
    /// A rule, a filter or a limit refuses the message, a table has no answer, or the disk fails. With
    /// [`Refusal::Unknown`] the message may be in the queue all the same.
    pub async fn commit(self) -> Result<Receipt, Refusal> {
        match self {
            Self::Postfix(handoff) => handoff.commit().await,
            Self::Local(handoff) => handoff.commit().await,
        }
    }
}
