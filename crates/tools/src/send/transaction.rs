//! One attempt: connect, send the request, read the reply.

use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};

use qmqp::client::{self, Reply, ReplyFault, ReplyReader, Request};
use qmqp::reply::Status;

use super::message::{Envelope, Message, MessageError};
use super::server::{ConnectError, Connection, Server};

/// How long to wait.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection to one address.
    pub connect: Duration,
    /// For the server to take some bytes; and for the whole reply, once all bytes are sent.
    pub progress: Duration,
}

/// After a write failed, the reply that explains it has already arrived or never will.
const LATE_REPLY_WAIT: Duration = Duration::from_secs(1);

/// How an attempt ended.
#[derive(Debug)]
pub enum Ending {
    /// The server replied.
    Reply(Reply),
    /// The server did not reply.
    Failed(TransactionError),
}

/// Why a server did not reply.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// The host's name cannot be resolved.
    #[error("cannot look up {server}: {source}")]
    Name {
        /// Which server.
        server: String,
        /// Why.
        source: io::Error,
    },
    /// There is no connection.
    #[error("cannot connect to {server}: {source}")]
    Connect {
        /// Which server.
        server: String,
        /// Why.
        source: io::Error,
    },
    /// The connection broke, or the server stopped reading, before the last byte was sent. It cannot have accepted the message.
    #[error("cannot send the message to {server}: {source}")]
    Send {
        /// Which server.
        server: String,
        /// Why.
        source: io::Error,
    },
    /// All bytes are sent, and no reply came: the server may have accepted the message.
    #[error(
        "{server} got the whole message but did not reply, so it may or may not have accepted it: {reason}"
    )]
    NoReply {
        /// Which server.
        server: String,
        /// Why.
        reason: String,
    },
}

impl TransactionError {
    /// Whether the server has certainly not accepted the message.
    #[must_use]
    pub const fn is_certain(&self) -> bool {
        !matches!(self, Self::NoReply { .. })
    }

    /// The exit status of qmail-qmqpc for the same event.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Name { .. } => 55,
            Self::Connect { source, .. } if is_timeout(source) => 72,
            Self::Connect { .. } => 73,
            Self::Send { .. } | Self::NoReply { .. } => 74,
        }
    }
}

/// Offers the message to one server.
///
/// # Errors
/// When our own input fails; no other server would help.
pub fn attempt(
    server: &Server,
    request: Request,
    envelope: &Envelope,
    message: &mut Message,
    timeouts: Timeouts,
) -> Result<Ending, MessageError> {
    let server_name = server.to_string();
    let connected = server.connect(timeouts.connect).and_then(|connection| {
        connection.set_write_timeout(timeouts.progress).map_err(ConnectError::Connect)?;
        Ok(connection)
    });
    let mut connection = match connected {
        Ok(connection) => connection,
        Err(ConnectError::Name(source)) => {
            return Ok(Ending::Failed(TransactionError::Name { server: server_name, source }));
        }
        Err(ConnectError::Connect(source)) => {
            return Ok(Ending::Failed(TransactionError::Connect { server: server_name, source }));
        }
    };
    match write_request(&mut connection, request, envelope, message)? {
        // A server that refuses early does not read on, so its reply hides behind the failed write.
        // A K to a part of the message does not count.
        Err(source) => Ok(match read_reply(&mut connection, LATE_REPLY_WAIT) {
            Ok(reply) if reply.status != Status::Queued => Ending::Reply(reply),
            Ok(_) => {
                let source = io::Error::other("it replied K before it got the whole message");
                Ending::Failed(TransactionError::Send { server: server_name, source })
            }
            Err(_) => Ending::Failed(TransactionError::Send {
                server: server_name,
                source: timeout_in_words(source),
            }),
        }),
        Ok(()) => Ok(match read_reply(&mut connection, timeouts.progress) {
            Ok(reply) => Ending::Reply(reply),
            Err(reason) => Ending::Failed(TransactionError::NoReply { server: server_name, reason }),
        }),
    }
}

/// Sends the request. The inner error is the connection's.
fn write_request(
    connection: &mut Connection,
    request: Request,
    envelope: &Envelope,
    message: &mut Message,
) -> Result<io::Result<()>, MessageError> {
    message.rewind()?;
    // One buffer and one write for a small message: one segment on the wire.
    let mut output = Output { connection, buffer: request.head() };
    let mut buffer = vec![0; PIECE_BYTES];
    let mut left = message.bytes();
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let piece = message.read(buffer.get_mut(..wanted).unwrap_or(&mut []))?;
        if piece.is_empty() {
            return Err(MessageError::Shrunk);
        }
        left = left.saturating_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if let Err(error) = output.write(piece) {
            return Ok(Err(error));
        }
    }
    Ok(output
        .write(b",")
        .and_then(|()| output.write(envelope.netstrings()))
        .and_then(|()| output.write(client::CLOSING))
        .and_then(|()| output.flush()))
}

/// The most bytes that go to the system at once: the write timeout is for each of these.
const PIECE_BYTES: usize = 65_536;

struct Output<'c> {
    connection: &'c mut Connection,
    buffer: Vec<u8>,
}

impl Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PIECE_BYTES) {
            if self.buffer.len().saturating_add(piece.len()) > PIECE_BYTES {
                self.flush()?;
            }
            self.buffer.extend_from_slice(piece);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.connection.write_all(&self.buffer);
        self.buffer.clear();
        written
    }
}

/// Reads the whole reply within `wait`, or says in words why it is missing.
fn read_reply(connection: &mut Connection, wait: Duration) -> Result<Reply, String> {
    let deadline = Instant::now().checked_add(wait);
    let mut reader = ReplyReader::new();
    let mut buffer = [0u8; 4096];
    loop {
        let left =
            deadline.and_then(|deadline| deadline.checked_duration_since(Instant::now())).unwrap_or_default();
        if left.is_zero() {
            return Err(TIMEOUT.to_owned());
        }
        connection.set_read_timeout(left).map_err(|error| error.to_string())?;
        let count = match connection.read(&mut buffer) {
            Ok(0) => return Err(ReplyFault::Lost.to_string()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(timeout_in_words(error).to_string()),
        };
        let mut input = buffer.get(..count).unwrap_or(&[]);
        if let Some(reply) = reader.next(&mut input).map_err(|fault| fault.to_string())? {
            return Ok(reply);
        }
    }
}

const TIMEOUT: &str = "the server did not answer in time";

/// A timeout set on a socket shows as EAGAIN, whose words ("try again") mislead.
fn timeout_in_words(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        io::Error::new(io::ErrorKind::TimedOut, TIMEOUT)
    } else {
        error
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}
