//! Where a QMQP server is, and how to reach it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The default server: where `qmqpd serve` listens without a configuration.
pub const DEFAULT_SERVER: &str = "127.0.0.1:6628";

/// The port that is assigned to QMQP.
pub const QMQP_PORT: u16 = 628;

/// The address of a server, as `HOST`, `HOST:PORT`, `[IPV6]`, `[IPV6]:PORT`, a bare IPv6 address, or `unix:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// A TCP service.
    Inet {
        /// A name or an address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Why a text does not name a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// Nothing before the port, or nothing at all.
    #[error("a server is HOST, HOST:PORT, [IPV6]:PORT or unix:PATH; the host is missing")]
    NoHost,
    /// Not a number from 1 to 65535.
    #[error("{0:?} is not a port number: write 1 to 65535")]
    Port(String),
    /// Not an IPv6 address between brackets.
    #[error("{0:?} is not an IPv6 address: write [ADDRESS] or [ADDRESS]:PORT")]
    Brackets(String),
}

impl FromStr for Server {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, ServerError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(ServerError::NoHost) } else { Ok(Self::Unix(path.into())) };
        }
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let brackets = || ServerError::Brackets(text.to_owned());
            let (host, port) = rest.split_once(']').ok_or_else(brackets)?;
            host.parse::<Ipv6Addr>().map_err(|_| brackets())?;
            match port.strip_prefix(':') {
                None if port.is_empty() => (host, None),
                None => return Err(brackets()),
                port => (host, port),
            }
        } else if text.parse::<Ipv6Addr>().is_ok() {
            (text, None)
        } else {
            text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port)))
        };
        if host.is_empty() {
            return Err(ServerError::NoHost);
        }
        let port = match port {
            None => QMQP_PORT,
            Some(port) => match port.parse::<u16>() {
                Ok(number) if number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()) => number,
                _ => return Err(ServerError::Port(port.to_owned())),
            },
        };
        Ok(Self::Inet { host: host.to_owned(), port })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Inet { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a connection failed.
#[derive(Debug)]
pub enum ConnectError {
    /// The host has no address, or its name cannot be looked up.
    Name(io::Error),
    /// No address of the host could be connected to; the error of the last one.
    Connect(io::Error),
}

impl Server {
    /// Connects to the first address of the host that accepts, each within `timeout`. A Unix-domain socket answers at once.
    ///
    /// # Errors
    /// When the connection failed.
    pub fn connect(&self, timeout: Duration) -> Result<Connection, ConnectError> {
        let (host, port) = match self {
            Self::Unix(path) => {
                return UnixStream::connect(path).map(Connection::Unix).map_err(ConnectError::Connect);
            }
            Self::Inet { host, port } => (host.as_str(), *port),
        };
        let mut error = None;
        for address in (host, port).to_socket_addrs().map_err(ConnectError::Name)? {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => return Ok(Connection::Inet(stream)),
                Err(this) => error = Some(this),
            }
        }
        Err(error.map_or_else(
            || ConnectError::Name(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
            ConnectError::Connect,
        ))
    }
}

/// An open connection.
#[derive(Debug)]
pub enum Connection {
    /// Over TCP.
    Inet(TcpStream),
    /// Over a Unix-domain socket.
    Unix(UnixStream),
}

impl Connection {
    /// Bounds the time that one write may wait.
    ///
    /// # Errors
    /// As the system call.
    pub fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Inet(stream) => stream.set_write_timeout(Some(timeout)),
            Self::Unix(stream) => stream.set_write_timeout(Some(timeout)),
        }
    }

    /// Bounds the time that one read may wait.
    ///
    /// # Errors
    /// As the system call; also for a time of 0.
    pub fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Inet(stream) => stream.set_read_timeout(Some(timeout)),
            Self::Unix(stream) => stream.set_read_timeout(Some(timeout)),
        }
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Inet(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Inet(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_a_server() {
        for (text, shown) in [
            ("mail.example.com", "mail.example.com:628"),
            ("10.0.0.1:6628", "10.0.0.1:6628"),
            ("[::1]:25", "[::1]:25"),
            ("[::1]", "[::1]:628"),
            ("fe80::1", "[fe80::1]:628"),
            ("unix:/run/qmqpd", "unix:/run/qmqpd"),
        ] {
            assert_eq!(
                text.parse::<Server>().map(|server| server.to_string()).as_deref(),
                Ok(shown),
                "{text}"
            );
        }
        for text in ["", ":628", "unix:", "h:0", "h:65536", "h:+1", "h:", "[::1", "[::1]x", "[h]:1", "[]"] {
            assert!(text.parse::<Server>().is_err(), "{text}");
        }
    }
}
