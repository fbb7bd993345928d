//! Taking connections from the inherited sockets, and giving way to a successor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};
use postfix::notice::{Notice, Severity};
use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom_with};
use tokio::io::{Interest, unix::AsyncFd};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::sleep;

use super::status::StatusChannel;
use super::{Service, passed};
use crate::client::PeerAddress;
use crate::inherited::watch;
use crate::log::Program;
use crate::session::{self, Connection};
use crate::verdict::Ending;

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
enum Arrival {
    /// A client.
    Client(Connection, PeerAddress),
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

    /// Waits until a client is there, without taking it.
    async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Inet(listener) => listener.readable().await.map(|mut ready| ready.retain_ready()),
            Self::Unix(listener) | Self::Pass(listener) => {
                listener.readable().await.map(|mut ready| ready.retain_ready())
            }
        }
    }

    /// Takes one client; `None` if another process was faster, or nobody is left.
    fn accept(&self) -> io::Result<Option<Arrival>> {
        let accepted = match self {
            Self::Inet(listener) => listener.try_io(Interest::READABLE, take).map(|(socket, address)| {
                Ok(Arrival::Client(Connection::new(socket), PeerAddress::of_accepted(address)))
            }),
            Self::Unix(listener) => listener
                .try_io(Interest::READABLE, take)
                .map(|(socket, _)| Ok(Arrival::Client(Connection::new(socket), PeerAddress::Local))),
            Self::Pass(listener) => listener
                .try_io(Interest::READABLE, take)
                .map(|(socket, _)| Ok(Arrival::Passer(UnixStream::from_std(socket.into())?))),
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

/// Accepts until `give_way` says that a successor does. Where `relief` is there, clients that are too many wait in the
/// backlog, for a place here or for another process; elsewhere they are turned away.
pub(super) async fn run(
    service: Arc<Service>,
    listener: Listener,
    relief: Option<Arc<StatusChannel>>,
    mut give_way: watch::Receiver<bool>,
) {
    loop {
        let ready = tokio::select! {
            biased;
            _ = give_way.wait_for(|is_over| *is_over) => return,
            ready = listener.readable() => ready,
        };
        if let Err(error) = ready {
            pause_after(&service, &error).await;
            continue;
        }
        for _ in 0..ACCEPT_BATCH {
            // Asked before each client is taken: it is still in the backlog for a process with the new table.
            if let Some(changed) = service.changed_table() {
                service.give_way(&format!("table {changed} has changed -- restarting"));
                return;
            }
            let mut place = Arc::clone(&service.connections).try_acquire_owned().ok();
            if let (None, Some(relief)) = (&place, &relief) {
                place = tokio::select! {
                    biased;
                    _ = give_way.wait_for(|is_over| *is_over) => return,
                    place = wait_for_place(&service, relief) => place,
                };
            }
            match listener.accept() {
                Ok(Some(arrival)) => start_session(&service, arrival, place),
                Ok(None) => break,
                Err(error) => {
                    pause_after(&service, &error).await;
                    break;
                }
            }
        }
    }
}

/// Meanwhile the master may start another process, as it does for a process of Postfix that is busy.
async fn wait_for_place(service: &Service, relief: &StatusChannel) -> Option<OwnedSemaphorePermit> {
    let _full = relief.full_house();
    Arc::clone(&service.connections).acquire_owned().await.ok()
}

fn start_session(service: &Arc<Service>, arrival: Arrival, place: Option<OwnedSemaphorePermit>) {
    let service = Arc::clone(service);
    match place {
        Some(place) => {
            tokio::spawn(async move {
                match arrival {
                    Arrival::Client(connection, peer) => {
                        session::serve(Arc::clone(&service), connection, peer).await;
                    }
                    Arrival::Passer(passer) => serve_passed(Arc::clone(&service), passer).await,
                }
                drop(place);
                service.wear.session_ended();
            });
        }
        None => {
            // Somebody else's client hears that from him who has it.
            let Arrival::Client(connection, peer) = arrival else { return };
            let Ok(place) = Arc::clone(&service.waiting_room).try_acquire_owned() else { return };
            tokio::spawn(async move {
                session::turn_away(service, connection, peer, Ending::TooManyConnections).await;
                drop(place);
            });
        }
    }
}

async fn serve_passed(service: Arc<Service>, passer: UnixStream) {
    match passed::receive(passer).await {
        Ok((connection, peer)) => session::serve(service, connection, peer).await,
        Err(failure) => service.log.write(Program::Qmqpd, Severity::Warning, &failure.to_string()),
    }
}

/// An accept that fails for want of descriptors or memory fails again at once: the clients wait in the backlog while
/// sessions end.
async fn pause_after(service: &Service, error: &io::Error) {
    let is_about_one_client = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    );
    if is_about_one_client {
        return;
    }
    let text = format!("accept connection: {error}; next attempt in {} s", ACCEPT_PAUSE.as_secs());
    service.log.notice(Program::Qmqpd, &Notice { severity: Severity::Warning, text });
    sleep(ACCEPT_PAUSE).await;
}

/// Clients taken in a row before other work.
const ACCEPT_BATCH: usize = 16;
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
