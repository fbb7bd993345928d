//! Where the load goes.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::send::server::Server;

/// The address of a server, looked up once.
#[derive(Debug, Clone)]
pub(super) struct Target {
    address: SockAddr,
    domain: Domain,
}

impl Target {
    /// Looks the server's name up and takes its first address.
    pub(super) fn resolve(server: &Server) -> io::Result<Self> {
        match server {
            Server::Unix(path) => Ok(Self { address: SockAddr::unix(path)?, domain: Domain::UNIX }),
            Server::Inet { host, port } => {
                let address: SocketAddr = (host.as_str(), *port)
                    .to_socket_addrs()?
                    .next()
                    .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))?;
                Ok(Self { address: address.into(), domain: Domain::for_address(address) })
            }
        }
    }

    /// A new connection, or one that is being made: it can be written to when the system says so.
    ///
    /// # Errors
    /// When the connection fails. A full backlog of a socket in the file system counts as a failure too.
    pub(super) fn connect(&self) -> io::Result<OwnedFd> {
        let is_tcp = self.domain != Domain::UNIX;
        let protocol = is_tcp.then_some(Protocol::TCP);
        let socket = Socket::new_raw(self.domain, Type::STREAM.nonblocking().cloexec(), protocol)?;
        if is_tcp {
            // Closing resets, when the reply is there: no port waits for late segments, and there are not enough ports
            // for tens of thousands of connections a second.
            socket.set_linger(Some(Duration::ZERO))?;
        }
        match socket.connect(&self.address) {
            Ok(()) => {}
            Err(error) if is_tcp && error.raw_os_error() == Some(IN_PROGRESS) => {}
            Err(error) => return Err(error),
        }
        Ok(socket.into())
    }

    /// A new connection that exists.
    ///
    /// # Errors
    /// When it is not established within `timeout`.
    pub(super) fn connect_within(&self, timeout: Duration) -> io::Result<OwnedFd> {
        let protocol = (self.domain != Domain::UNIX).then_some(Protocol::TCP);
        let socket = Socket::new(self.domain, Type::STREAM, protocol)?;
        socket.connect_timeout(&self.address, timeout)?;
        Ok(socket.into())
    }
}

const IN_PROGRESS: i32 = nix::errno::Errno::EINPROGRESS as i32;
