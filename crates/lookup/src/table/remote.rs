//! Connections to the servers of remote tables: a few are kept, every operation has a time limit.

use std::io::{self, Read, Write};
use std::net::ToSocketAddrs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::options::Options;
use crate::syntax::shown;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// Host name or address, and port.
    Inet(String, u16),
    /// Path of a local socket; a relative one counts from the current directory.
    Unix(PathBuf),
}

impl Endpoint {
    /// Reads `host:port` or `[address]:port`.
    pub(super) fn inet(text: &[u8]) -> Result<Self, String> {
        let wrong = |what: &str| format!("{what} in \"{}\"; need \"host:port\"", shown(text));
        let Some((host, port)) = std::str::from_utf8(text).ok().and_then(|text| text.rsplit_once(':')) else {
            return Err(wrong("missing host information"));
        };
        let host = match host.strip_prefix('[') {
            Some(inside) => inside.strip_suffix(']').ok_or_else(|| wrong("missing \"]\""))?,
            None => host,
        };
        let host = host.strip_prefix("ipv6:").unwrap_or(host);
        if host.is_empty() {
            return Err(wrong("missing host information"));
        }
        match port.parse() {
            Ok(port) if port > 0 => Ok(Self::Inet(host.to_owned(), port)),
            _ => Err(wrong("the port must be a number")),
        }
    }

    pub(super) fn unix(path: &[u8]) -> Self {
        Self::Unix(PathBuf::from(std::ffi::OsStr::from_bytes(path)))
    }

    fn addresses(&self) -> io::Result<Vec<SockAddr>> {
        match self {
            Self::Unix(path) => Ok(vec![SockAddr::unix(path)?]),
            Self::Inet(host, port) => {
                Ok((host.as_str(), *port).to_socket_addrs()?.map(SockAddr::from).collect())
            }
        }
    }
}

/// A server, and the connections to it that are idle.
pub(super) struct Server {
    endpoint: Endpoint,
    idle: Arc<Mutex<Idle>>,
    operation_timeout: Duration,
    connections_max: usize,
    lifetime: Lifetime,
}

/// The connections that are idle.
#[derive(Default)]
struct Idle {
    connections: Vec<Connection>,
    /// Whether a thread waits to close them when their time is over.
    is_watched: bool,
}

/// How long a connection is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lifetime {
    /// Without a question on it.
    pub(super) idle_max: Duration,
    /// At all.
    pub(super) age_max: Duration,
}

/// An open connection.
pub(super) struct Connection {
    socket: Socket,
    opened: Instant,
    used: Instant,
}

impl Server {
    pub(super) fn new(endpoint: Endpoint, lifetime: Lifetime, options: &Options) -> Self {
        Self {
            endpoint,
            idle: Arc::default(),
            operation_timeout: options.operation_timeout,
            connections_max: options.idle_connections_max,
            lifetime,
        }
    }

    /// Host and port, unless it is a local socket.
    pub(super) fn inet(&self) -> Option<(String, u16)> {
        match &self.endpoint {
            Endpoint::Inet(host, port) => Some((host.clone(), *port)),
            Endpoint::Unix(_) => None,
        }
    }

    /// An idle connection, or `None`.
    pub(super) fn idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(connection) = idle.connections.pop() {
            if !connection.time_left(self.lifetime).is_zero() && connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next question, if there is room, until its time is over.
    pub(super) fn keep(&self, mut connection: Connection) {
        connection.used = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.connections.len() >= self.connections_max {
            return;
        }
        idle.connections.push(connection);
        if !idle.is_watched {
            let (weak, lifetime) = (Arc::downgrade(&self.idle), self.lifetime);
            let thread = std::thread::Builder::new().name("idle tables".to_owned());
            // Without a thread they are closed when the next one is wanted.
            idle.is_watched = thread.spawn(move || close_in_time(&weak, lifetime)).is_ok();
        }
    }

    /// Opens a connection, to the first address of the host that takes it.
    pub(super) fn connect(&self, deadline: Option<Instant>) -> io::Result<Connection> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in self.endpoint.addresses()? {
            let limit = self.limit(deadline)?;
            match connect(&address, limit) {
                Ok(socket) => {
                    let now = Instant::now();
                    return Ok(Connection { socket, opened: now, used: now });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The time that one operation may take now.
    fn limit(&self, deadline: Option<Instant>) -> io::Result<Duration> {
        let left = match deadline {
            None => self.operation_timeout,
            Some(deadline) => deadline.saturating_duration_since(Instant::now()).min(self.operation_timeout),
        };
        if left.is_zero() { Err(timed_out()) } else { Ok(left) }
    }

    /// Sends a whole question.
    pub(super) fn send(
        &self,
        connection: &Connection,
        bytes: &[u8],
        deadline: Option<Instant>,
    ) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            connection.socket.set_write_timeout(Some(self.limit(deadline)?))?;
            match (&connection.socket).write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(in_time(error)),
            }
        }
        Ok(())
    }

    /// Receives some bytes; none at the end of the stream.
    pub(super) fn receive(
        &self,
        connection: &Connection,
        buffer: &mut [u8],
        deadline: Option<Instant>,
    ) -> io::Result<usize> {
        loop {
            connection.socket.set_read_timeout(Some(self.limit(deadline)?))?;
            match (&connection.socket).read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map_err(in_time),
            }
        }
    }
}

/// Closes idle connections when their time is over, so that a server with few clients can end or be replaced. Ends when
/// there are none, or the table is gone.
fn close_in_time(idle: &Weak<Mutex<Idle>>, lifetime: Lifetime) {
    let close_old = || {
        let idle = idle.upgrade()?;
        let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.connections.retain(|connection| !connection.time_left(lifetime).is_zero());
        let next = idle.connections.iter().map(|connection| connection.time_left(lifetime)).min();
        idle.is_watched = next.is_some();
        next
    };
    while let Some(left) = close_old() {
        std::thread::sleep(left);
    }
}

impl Connection {
    /// How long it may still be kept.
    fn time_left(&self, lifetime: Lifetime) -> Duration {
        let idle = lifetime.idle_max.saturating_sub(self.used.elapsed());
        idle.min(lifetime.age_max.saturating_sub(self.opened.elapsed()))
    }

    /// Whether the server has neither hung up nor sent anything unasked.
    fn is_quiet(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let flags = libc::MSG_DONTWAIT | libc::MSG_PEEK;
        let peeked = self.socket.recv_with_flags(&mut byte, flags);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

fn timed_out() -> io::Error {
    io::Error::from_raw_os_error(libc::ETIMEDOUT)
}

/// A socket with a time limit says "would block" when the limit is over.
fn in_time(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { timed_out() } else { error }
}

fn connect(address: &SockAddr, limit: Duration) -> io::Result<Socket> {
    let domain = address.domain();
    let socket = Socket::new(domain, Type::STREAM, None)?;
    if domain != Domain::UNIX {
        socket.connect_timeout(address, limit).map_err(in_time)?;
        return Ok(socket);
    }
    // A local server whose queue is full makes a blocking connect wait without limit.
    let until = Instant::now().checked_add(limit);
    socket.set_nonblocking(true)?;
    loop {
        match socket.connect(address) {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if until.is_none_or(|until| Instant::now() >= until) {
                    return Err(timed_out());
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error),
        }
    }
    socket.set_nonblocking(false)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read() {
        let inet = |host: &str, port| Ok(Endpoint::Inet(host.to_owned(), port));
        assert_eq!(Endpoint::inet(b"localhost:25"), inet("localhost", 25));
        assert_eq!(Endpoint::inet(b"[::1]:25"), inet("::1", 25));
        assert_eq!(Endpoint::inet(b"[ipv6:::1]:25"), inet("::1", 25));
        for text in ["", "host", "host:", ":25", "host:0", "host:smtp", "[::1:25", "host:65536"] {
            assert!(Endpoint::inet(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_server_that_never_answers_costs_no_more_than_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let lifetime = Lifetime { idle_max: Duration::from_secs(10), age_max: Duration::from_secs(100) };
        let server = Server::new(Endpoint::Unix(path), lifetime, &Options::default());
        let deadline = Some(Instant::now() + Duration::from_millis(50));
        let connection = server.connect(deadline).unwrap();
        server.send(&connection, b"x", deadline).unwrap();
        let error = server.receive(&connection, &mut [0; 8], deadline).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(server.connect(deadline).is_err(), "the deadline is over");
    }

    #[test]
    fn an_idle_connection_is_closed_in_time() {
        use std::io::Read;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let lifetime = Lifetime { idle_max: Duration::from_millis(50), age_max: Duration::from_secs(100) };
        let server = Server::new(Endpoint::Unix(path), lifetime, &Options::default());
        // Twice: the thread that closed the first has ended.
        for _ in 0..2 {
            server.keep(server.connect(None).unwrap());
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            assert!(server.idle().is_none());
        }
    }

    /// A server, its listener, and a connection to it with the server's end.
    fn connected(
        lifetime: Lifetime,
    ) -> (tempfile::TempDir, Server, Connection, std::os::unix::net::UnixStream) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let server = Server::new(Endpoint::Unix(path), lifetime, &Options::default());
        let connection = server.connect(None).unwrap();
        (dir, server, connection, listener.accept().unwrap().0)
    }

    #[test]
    fn a_connection_is_used_again_while_it_is_quiet_and_young() {
        let (long, none) = (Duration::from_secs(1000), Duration::ZERO);
        for (idle_max, age_max, unasked, is_kept) in [
            (long, long, Some(&b""[..]), true),
            (long, long, Some(b"?"), false),
            (long, long, None, false),
            (none, long, Some(b""), false),
            (long, none, Some(b""), false),
        ] {
            let (_dir, server, connection, mut stream) = connected(Lifetime { idle_max, age_max });
            // No thread closes it.
            server.idle.lock().unwrap().is_watched = true;
            server.keep(connection);
            match unasked {
                Some(unasked) => stream.write_all(unasked).unwrap(),
                None => drop(stream),
            }
            assert_eq!(server.idle().is_some(), is_kept, "{idle_max:?} {age_max:?} {unasked:?}");
            assert!(server.idle().is_none(), "there was one");
        }
    }

    #[test]
    fn an_idle_connection_whose_time_is_not_over_stays_open() {
        let long = Duration::from_secs(1000);
        let (_dir, server, connection, mut stream) = connected(Lifetime { idle_max: long, age_max: long });
        server.keep(connection);
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(server.idle().is_some());
    }

    /// A local server that takes no connections lets only so many wait for it.
    #[test]
    fn a_full_queue_of_a_local_server_is_waited_for_until_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let long = Duration::from_secs(1000);
        let lifetime = Lifetime { idle_max: long, age_max: long };
        let server = Server::new(Endpoint::Unix(path), lifetime, &Options::default());
        let _first = server.connect(None).unwrap();
        let deadline = Instant::now() + Duration::from_millis(50);
        let error = server.connect(Some(deadline)).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(Instant::now() >= deadline);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| server.connect(None).is_ok());
            let _accepted = listener.accept().unwrap();
            assert!(waiting.join().unwrap());
        });
    }
}
