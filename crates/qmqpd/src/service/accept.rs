//! Taking connections from the inherited sockets, and giving way to a successor.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};
use postfix::notice::{Notice, Severity};
use tokio::io::{Interest, unix::AsyncFd};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::sleep;

use super::Service;
use crate::client::PeerAddress;
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
}

impl Listener {
    /// Takes over an inherited listening socket. Its flags are shared with the master and are left as they are: it is
    /// non-blocking already.
    pub(crate) fn inherit(socket: OwnedFd) -> io::Result<Self> {
        let address: SockaddrStorage = getsockname(socket.as_raw_fd())?;
        if address.family() == Some(AddressFamily::Unix) {
            return crate::inherited::watch(std::os::unix::net::UnixListener::from(socket)).map(Self::Unix);
        }
        crate::inherited::watch(std::net::TcpListener::from(socket)).map(Self::Inet)
    }

    /// Waits until a client is there, without taking it.
    async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Inet(listener) => listener.readable().await.map(|mut ready| ready.retain_ready()),
            Self::Unix(listener) => listener.readable().await.map(|mut ready| ready.retain_ready()),
        }
    }

    /// Takes one client; `None` if another process was faster, or nobody is left.
    fn accept(&self) -> io::Result<Option<(Connection, PeerAddress)>> {
        let accepted = match self {
            Self::Inet(listener) => {
                listener.try_io(Interest::READABLE, |listener| listener.accept()).map(|(stream, address)| {
                    stream.set_nonblocking(true)?;
                    Ok((Connection::Inet(TcpStream::from_std(stream)?), PeerAddress::of(address)))
                })
            }
            Self::Unix(listener) => {
                listener.try_io(Interest::READABLE, |listener| listener.accept()).map(|(stream, _)| {
                    stream.set_nonblocking(true)?;
                    Ok((Connection::Unix(UnixStream::from_std(stream)?), PeerAddress::Local))
                })
            }
        };
        match accepted {
            Ok(connected) => connected.map(Some),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Accepts until `give_way` says that a successor does.
pub(crate) async fn run(service: Arc<Service>, listener: Listener, mut give_way: watch::Receiver<bool>) {
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
            match listener.accept() {
                Ok(Some((connection, peer))) => start_session(&service, connection, peer),
                Ok(None) => break,
                Err(error) => {
                    pause_after(&service, &error).await;
                    break;
                }
            }
        }
    }
}

fn start_session(service: &Arc<Service>, connection: Connection, peer: PeerAddress) {
    let service = Arc::clone(service);
    match Arc::clone(&service.connections).try_acquire_owned() {
        Ok(place) => {
            tokio::spawn(async move {
                session::serve(Arc::clone(&service), connection, peer).await;
                drop(place);
                service.sessions_served.fetch_add(1, Ordering::AcqRel);
                service.session_ended.notify_waiters();
            });
        }
        Err(_) => {
            let Ok(place) = Arc::clone(&service.waiting_room).try_acquire_owned() else { return };
            tokio::spawn(async move {
                session::turn_away(service, connection, peer, Ending::TooManyConnections).await;
                drop(place);
            });
        }
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
