//! A QMQP client that sends any bytes in any way, and reports what came back and how the connection ended.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::failure;
use crate::wait::PATIENCE;

/// One thing that the client does.
#[derive(Clone)]
pub enum Step {
    /// Sends the bytes at once.
    Send(Vec<u8>),
    /// Sends the bytes in pieces of this size, each in its own write with Nagle's algorithm off.
    SendPieces(Vec<u8>, usize),
    /// Sends no more, but still listens.
    HalfClose,
    /// Resets the connection at once; nothing is read.
    Reset,
    /// Closes in both directions at once; nothing is read.
    Vanish,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Send(bytes) => write!(out, "sent: {}", text(bytes)),
            Self::SendPieces(bytes, size) => write!(out, "sent in pieces of {size}: {}", text(bytes)),
            Self::HalfClose => write!(out, "half-closed"),
            Self::Reset => write!(out, "reset"),
            Self::Vanish => write!(out, "closed"),
        }
    }
}

/// How the server ended the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// In order: the client read everything and then end of file.
    Closed,
    /// By a reset, which the client met as it wrote or as it read: what was on its way may be lost.
    Reset,
    /// The client left first and never looked.
    NotRead,
}

/// What a client saw.
#[derive(Debug, Clone)]
pub struct Session {
    /// Every byte that came back.
    pub received: Vec<u8>,
    /// How the connection ended.
    pub end: End,
    /// From the connection to its end.
    pub took: Duration,
    /// The client's port.
    pub port: u16,
}

/// Connects, does the steps, then reads until the connection ends.
pub fn run(server: SocketAddr, steps: &[Step]) -> Session {
    session(connect(server), steps)
}

/// As [`run`], from another loopback address; an IPv6 address reaches the server on `::1`.
pub fn run_from(from: &str, server: SocketAddr, steps: &[Step]) -> Session {
    session(connect_from(from, server), steps)
}

/// As [`connect`], from another loopback address.
pub fn connect_from(from: &str, server: SocketAddr) -> TcpStream {
    let from: IpAddr = from.parse().unwrap();
    let server = if from.is_ipv6() { SocketAddr::from((Ipv6Addr::LOCALHOST, server.port())) } else { server };
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&server.into()).unwrap_or_else(|error| panic!("connect to {server}: {error}"));
    prepared(socket.into())
}

fn session(mut stream: TcpStream, steps: &[Step]) -> Session {
    let began = Instant::now();
    let port = stream.local_addr().unwrap().port();
    let left =
        |began: Instant| Session { received: Vec::new(), end: End::NotRead, took: began.elapsed(), port };
    let mut wrote_all = true;
    for step in steps {
        match step {
            // A server that has refused may be gone before it has read everything.
            Step::Send(bytes) => wrote_all &= stream.write_all(bytes).is_ok(),
            Step::SendPieces(bytes, size) => {
                wrote_all &= bytes.chunks(*size).all(|piece| stream.write_all(piece).is_ok());
            }
            Step::HalfClose => drop(stream.shutdown(Shutdown::Write)),
            Step::Reset => {
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                return left(began);
            }
            Step::Vanish => return left(began),
        }
    }
    let (received, end) = read_to_end(&mut stream);
    if let Some(id) = reply(&received).and_then(|reply| reply.strip_prefix(b"KOk: queued as ")) {
        failure::names(&text(id));
    }
    let end = if wrote_all { end } else { End::Reset };
    Session { received, end, took: began.elapsed(), port }
}

/// A connection with Nagle's algorithm off and a read timeout after which a test has failed.
pub fn connect(server: SocketAddr) -> TcpStream {
    prepared(TcpStream::connect(server).unwrap_or_else(|error| panic!("connect to {server}: {error}")))
}

fn prepared(stream: TcpStream) -> TcpStream {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads until the connection ends, however it ends.
pub fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, End) {
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (received, End::Closed),
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                return (received, End::Reset);
            }
            Err(error) => {
                panic!("no end of the connection in sight: {error}; received {:?}", text(&received))
            }
        }
    }
}

/// The payload of a reply that is exactly one netstring; `None` for anything else.
pub fn reply(received: &[u8]) -> Option<&[u8]> {
    let colon = received.iter().position(|&byte| byte == b':')?;
    let length: usize = std::str::from_utf8(&received[..colon]).ok()?.parse().ok()?;
    let rest = &received[colon + 1..];
    (rest.len() == length + 1 && rest.last() == Some(&b',')).then(|| &rest[..length])
}

/// Bytes in readable form, one character for each printable byte.
pub fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// `LENGTH:BYTES,`
pub fn netstring(bytes: &[u8]) -> Vec<u8> {
    let mut out = format!("{}:", bytes.len()).into_bytes();
    out.extend_from_slice(bytes);
    out.push(b',');
    out
}

/// A whole request without the outer netstring: content, sender, recipients.
pub fn envelope(content: &[u8], sender: &[u8], recipients: &[&[u8]]) -> Vec<u8> {
    let mut out = netstring(content);
    out.extend(netstring(sender));
    for recipient in recipients {
        out.extend(netstring(recipient));
    }
    out
}

/// A whole request.
pub fn request(content: &[u8], sender: &[u8], recipients: &[&[u8]]) -> Vec<u8> {
    netstring(&envelope(content, sender, recipients))
}

/// Sends one ordinary message and returns the payload of the reply.
pub fn send(server: SocketAddr, content: &[u8], sender: &[u8], recipients: &[&[u8]]) -> String {
    let session = run(server, &[Step::Send(request(content, sender, recipients))]);
    let payload = reply(&session.received);
    text(payload.unwrap_or_else(|| panic!("no whole reply: {}, {:?}", text(&session.received), session.end)))
}
