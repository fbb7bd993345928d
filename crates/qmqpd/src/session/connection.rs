//! A connected peer as a byte stream: reads and writes with a time limit each, and a close that lets the peer read
//! the reply.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};

/// The socket of one session.
#[derive(Debug)]
pub enum Connection {
    /// From an `inet` service.
    Inet(TcpStream),
    /// From a `unix` service.
    Unix(UnixStream),
}

/// Why a read or write came to nothing.
#[derive(Debug)]
pub enum Broken {
    /// The peer closed or reset the connection, or the network did.
    Lost,
    /// The time limit of this one operation (`qmqpd_timeout`) passed.
    Timeout,
    /// The session as a whole took longer than `qmqpd_session_deadline`.
    Deadline,
}

/// The two clocks that run while a session waits for its peer.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For one read or write.
    pub operation: Duration,
    /// For all of them; `None` is for ever.
    pub deadline: Option<Instant>,
}

impl Patience {
    fn until(&self) -> (Instant, Broken) {
        let operation = Instant::now() + self.operation;
        match self.deadline {
            Some(deadline) if deadline < operation => (deadline, Broken::Deadline),
            _ => (operation, Broken::Timeout),
        }
    }
}

impl Connection {
    /// Appends what the peer has sent to `buffer`, at most up to its capacity, waiting if there is nothing yet.
    /// `Ok(0)` is the end of the stream. No buffer space is needed while waiting: the caller may pass an empty one
    /// and gets [`Self::readable`] first.
    pub async fn read(&self, buffer: &mut Vec<u8>, patience: &Patience) -> Result<usize, Broken> {
        loop {
            match self.try_read_buf(buffer) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable(patience).await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Broken::Lost),
            }
        }
    }

    /// Waits until a read would not block.
    pub async fn readable(&self, patience: &Patience) -> Result<(), Broken> {
        let (until, broken) = patience.until();
        let ready = async {
            match self {
                Self::Inet(stream) => stream.readable().await,
                Self::Unix(stream) => stream.readable().await,
            }
        };
        match timeout_at(until, ready).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Broken::Lost),
            Err(_) => Err(broken),
        }
    }

    /// Writes all of `bytes`.
    pub async fn write_all(&self, mut bytes: &[u8], patience: &Patience) -> Result<(), Broken> {
        while !bytes.is_empty() {
            match self.try_write(bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable(patience).await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Broken::Lost),
            }
        }
        Ok(())
    }

    /// Ends our side of the stream and reads what the peer still has to say into nothing, until it closes, or
    /// `bytes_max` are read, or `time_max` has passed. A socket that is closed with unread data resets the connection, and
    /// a reset destroys a reply that the peer has not read yet.
    pub async fn linger(&self, bytes_max: u64, time_max: Duration) {
        let _ = rustix::net::shutdown(self, rustix::net::Shutdown::Write);
        let patience = Patience { operation: time_max, deadline: Some(Instant::now() + time_max) };
        let mut discarded = Vec::with_capacity(LINGER_READ_BYTES);
        let mut left = bytes_max;
        while left > 0 {
            discarded.clear();
            match self.read(&mut discarded, &patience).await {
                Ok(0) | Err(_) => return,
                Ok(count) => left = left.saturating_sub(count as u64),
            }
        }
    }

    /// True if the peer has sent something that nobody has read. One system call, no waiting.
    #[must_use]
    pub fn has_unread_bytes(&self) -> bool {
        let mut byte = [0];
        rustix::net::recv(self, &mut byte, rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT)
            .is_ok_and(|(_, count)| count > 0)
    }

    fn try_read_buf(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Inet(stream) => stream.try_read_buf(buffer),
            Self::Unix(stream) => stream.try_read_buf(buffer),
        }
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Inet(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }

    async fn writable(&self, patience: &Patience) -> Result<(), Broken> {
        let (until, broken) = patience.until();
        let ready = async {
            match self {
                Self::Inet(stream) => stream.writable().await,
                Self::Unix(stream) => stream.writable().await,
            }
        };
        match timeout_at(until, ready).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Broken::Lost),
            Err(_) => Err(broken),
        }
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Inet(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

impl std::os::fd::AsFd for Connection {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Inet(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

/// How much of an unwanted request is read at a time.
const LINGER_READ_BYTES: usize = 16 * 1024;
