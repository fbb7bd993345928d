//! What a service process cannot know of the program that it runs.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use postfix::child::Arguments;
use postfix::notice::Notice;
use postfix::settings::Settings;

use super::Service;
use super::connection_limit::{Permit, RejectSlot};
use crate::config::{self, ServiceConfig};
use crate::jail::Needs;
use crate::log::Log;
use crate::peer_address::PeerAddress;

/// A program as a service process: what it opens, in the order in which the process gives up what it can do.
///
/// ```text
/// open ─ jail ─ confine ─ sandbox ─ threads ─ assemble ─ first client
/// ```
pub trait Server: 'static {
    /// What the configuration has to know of it.
    const PROGRAM: &'static dyn config::Program;

    /// What it has opened with privileges.
    type Opened;
    /// The same behind the jail.
    type Confined;
    /// What serves clients.
    type Sessions: Sessions;
    /// What settles the journals of processes that are gone.
    type Settlement: Settles;

    /// The reply of a process that cannot work; its clients are to try again.
    fn refusal() -> Vec<u8>;

    /// What is to be logged about a client that heard this.
    fn refused(peer: PeerAddress) -> Vec<Notice>;

    /// Descriptors that its sessions can have open at the same time, their sockets included.
    fn descriptors(settings: &Settings) -> u64;

    /// Threads that may have to wait for a disk or a table server at the same time.
    fn threads_aside(settings: &Settings) -> usize;

    /// Opens all that takes privileges, or is out of sight behind the jail. The queue directory is the working directory.
    ///
    /// # Errors
    /// Why it cannot serve, in words.
    fn open(opening: &Opening<'_>) -> Result<Self::Opened, String>;

    /// Opens what is to belong to the user that the process has become. Returns also what it needs from here on.
    ///
    /// # Errors
    /// Why it cannot serve, in words.
    fn confine(opened: Self::Opened) -> Result<(Self::Confined, Needs), String>;

    /// Starts its threads and tasks, within the runtime.
    ///
    /// # Errors
    /// What the system said to a thread.
    fn assemble(confined: Self::Confined, service: &Service) -> io::Result<Self::Sessions>;
}

/// What [`Server::open`] works from.
#[derive(Debug)]
pub struct Opening<'a> {
    /// The configuration of this service.
    pub config: &'a ServiceConfig,
    /// What the master gave.
    pub arguments: &'a Arguments,
    /// Where lines go.
    pub log: &'a Log,
}

/// What a program does with those who come.
pub trait Sessions: Send + Sync + 'static {
    /// A table or included file that is no longer what was opened.
    fn changed_table(&self) -> Option<String>;

    /// Serves a client to the end; the socket does not block. The place is given back when all that is left is to tell the client
    /// that it may not send. Without a place, there is no limit to what it holds.
    fn serve(
        self: Arc<Self>,
        socket: OwnedFd,
        peer: PeerAddress,
        permit: Option<Permit>,
    ) -> impl Future<Output = ()> + Send + 'static;

    /// Tells a client that there is no place.
    fn turn_away(
        self: Arc<Self>,
        socket: OwnedFd,
        peer: PeerAddress,
        slot: RejectSlot,
    ) -> impl Future<Output = ()> + Send + 'static;

    /// Finishes what was begun on disk, when all sessions are over.
    fn shut_down(&self);
}

/// Settles journals; see `settlement`.
pub trait Settles: Sized {
    /// Opens the queue directory, which is the working directory.
    ///
    /// # Errors
    /// What the system said.
    fn open() -> io::Result<Self>;

    /// What it needs behind the jail.
    fn needs(settings: &Settings) -> Needs;

    /// Settles what there is to settle. True if nothing was left for another try.
    ///
    /// # Errors
    /// Why not.
    fn run(self, settings: &Settings, log: &Log) -> Result<bool, String>;
}
