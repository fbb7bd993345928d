//! The inherited sockets, and the clients that come from them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};
use postfix::notice::{Notice, Severity};
use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom_with};
use tokio::io::{Interest, unix::AsyncFd};
use tokio::net::UnixStream;
use tokio::time::sleep;

use super::accept::{Acceptor, Server};
use super::connection_limit::{ConnectionLimit, Permit, RejectSlot};
use super::program::Sessions;
use super::{Service, Usage, passed};
use crate::inherited::watch;
use crate::log::Program;
use crate::peer_address::PeerAddress;

/// A socket on which clients arrive.
#[derive(Debug)]
pub(crate) enum Listener {
    /// TCP over IPv4 or IPv6.
    Inet(AsyncFd<std::net::TcpListener>),
    /// A socket in the file system.
    Unix(AsyncFd<std::os::unix::net::UnixListener>),
    /// A socket in the file system on which other servers hand over their clients: a service of type `pass`.
    Pass(AsyncFd<std::os::unix::net::UnixListener>),
}

/// Who has come.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// A client.
    Client(OwnedFd, PeerAddress),
    /// A server that has a client for us.
    Passer(UnixStream),
}

impl Listener {
    /// Takes over an inherited listening socket. Its flags are shared with the master and are left as they are: it is
    /// non-blocking already. With `passes_connections` it is that of a `pass` service.
    pub(crate) fn inherit(socket: OwnedFd, passes_connections: bool) -> io::Result<Self> {
        let address: SockaddrStorage = getsockname(socket.as_raw_fd())?;
        if passes_connections {
            return watch(std::os::unix::net::UnixListener::from(socket), Interest::READABLE).map(Self::Pass);
        }
        if address.family() == Some(AddressFamily::Unix) {
            return watch(std::os::unix::net::UnixListener::from(socket), Interest::READABLE).map(Self::Unix);
        }
        watch(std::net::TcpListener::from(socket), Interest::READABLE).map(Self::Inet)
    }
}

impl Acceptor for Listener {
    type Accepted = Accepted;

    async fn wait_for_client(&self) -> io::Result<()> {
        match self {
            Self::Inet(listener) => listener.readable().await.map(|mut ready| ready.retain_ready()),
            Self::Unix(listener) | Self::Pass(listener) => {
                listener.readable().await.map(|mut ready| ready.retain_ready())
            }
        }
    }

    fn accept(&self) -> io::Result<Option<Accepted>> {
        let accepted = match self {
            Self::Inet(listener) => listener
                .try_io(Interest::READABLE, take)
                .map(|(socket, address)| Ok(Accepted::Client(socket, PeerAddress::of_accepted(address)))),
            Self::Unix(listener) => listener
                .try_io(Interest::READABLE, take)
                .map(|(socket, _)| Ok(Accepted::Client(socket, PeerAddress::Local))),
            Self::Pass(listener) => listener
                .try_io(Interest::READABLE, take)
                .map(|(socket, _)| Ok(Accepted::Passer(UnixStream::from_std(socket.into())?))),
        };
        match accepted {
            Ok(connected) => connected.map(Some),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Takes one client; its socket is non-blocking.
fn take(listener: &impl AsFd) -> io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    Ok(acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?)
}

/// A process that accepts.
pub(super) struct Process<S> {
    pub(super) service: Arc<Service>,
    pub(super) sessions: Arc<S>,
}

impl<S: Sessions> Server for Process<S> {
    type Acceptor = Listener;

    fn connection_limit(&self) -> &ConnectionLimit {
        &self.service.connection_limit
    }

    fn usage(&self) -> &Usage {
        &self.service.usage
    }

    fn is_outdated(&self) -> Option<String> {
        self.sessions
            .changed_table()
            .map(|changed| format!("table {changed} has changed -- restarting"))
            .or_else(|| {
                self.service
                    .is_cut_off_from_log()
                    .then(|| "the log daemon cannot be reached -- restarting".to_owned())
            })
    }

    fn full(&self) {
        // Another process is to know what clients hold here.
        self.service.changes.note_urgent();
    }

    fn begin_drain(&self, reason: &str) {
        if self.service.connection_limit.close() {
            if !reason.is_empty() {
                self.service.log.write(Program::Service, Severity::Info, reason);
            }
            // This may be a reload.
            self.service.log.go_line_by_line();
            // The successor is to know what clients hold here.
            self.service.changes.note_urgent();
        }
    }

    async fn serve(self: Arc<Self>, accepted: Accepted, permit: Permit) {
        let (sessions, permit) = (Arc::clone(&self.sessions), Some(permit));
        match accepted {
            Accepted::Client(socket, peer) => sessions.serve(socket, peer, permit).await,
            Accepted::Passer(passer) => match passed::receive(passer).await {
                Ok((socket, peer)) => sessions.serve(socket, peer, permit).await,
                Err(failure) => {
                    self.service.log.write(Program::Service, Severity::Warning, &failure.to_string())
                }
            },
        }
    }

    async fn turn_away(self: Arc<Self>, accepted: Accepted, slot: RejectSlot) {
        // A passed client is turned away by the server that still holds its connection.
        if let Accepted::Client(socket, peer) = accepted {
            Arc::clone(&self.sessions).turn_away(socket, peer, slot).await;
        }
    }

    /// An accept that fails for want of descriptors or memory fails again at once: the clients wait in the backlog while
    /// sessions end.
    async fn failed(&self, error: &io::Error) {
        let is_about_one_client = matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
        );
        if is_about_one_client {
            return;
        }
        let text = format!("accept connection: {error}; next attempt in {} s", ACCEPT_PAUSE.as_secs());
        self.service.log.notice(Program::Service, &Notice::warning(text));
        sleep(ACCEPT_PAUSE).await;
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
