//! A connected peer as a byte stream: reads and writes with a time limit each, and a close that lets the peer read
//! the reply.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};

use super::presence::Presence;

/// The socket of one session.
#[derive(Debug)]
pub struct Connection(Socket);

/// A client that sends its message at once, and takes its reply, is served without the runtime ever watching its socket.
#[derive(Debug)]
enum Socket {
    /// No session had to wait yet.
    Fresh(Arc<OwnedFd>),
    /// Watched by the runtime.
    Watched(AsyncFd<Arc<OwnedFd>>),
    /// It could not be watched.
    Gone,
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
pub struct Timeouts {
    /// For one read or write.
    pub operation: Duration,
    /// For all of them; `None` is for ever.
    pub deadline: Option<Instant>,
}

impl Timeouts {
    fn until(&self) -> (Instant, Broken) {
        let operation = Instant::now() + self.operation;
        match self.deadline {
            Some(deadline) if deadline < operation => (deadline, Broken::Deadline),
            _ => (operation, Broken::Timeout),
        }
    }

    async fn wait<T>(&self, ready: impl Future<Output = io::Result<T>>) -> Result<T, Broken> {
        let (until, broken) = self.until();
        match timeout_at(until, ready).await {
            Ok(Ok(ready)) => Ok(ready),
            Ok(Err(_)) => Err(Broken::Lost),
            Err(_) => Err(broken),
        }
    }
}

impl Connection {
    /// Takes over a connected socket that does not block, of any family.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self(Socket::Fresh(Arc::new(socket)))
    }

    /// Appends what the peer has sent to `buffer`, at most up to its capacity, waiting if there is nothing yet.
    /// `Ok(0)` is the end of the stream. No buffer space is needed while waiting: the caller may call
    /// [`Self::readable`] first.
    pub async fn read(&mut self, buffer: &mut Vec<u8>, timeouts: &Timeouts) -> Result<usize, Broken> {
        loop {
            let received = match &self.0 {
                Socket::Fresh(socket) => receive(socket, buffer),
                Socket::Watched(socket) => {
                    let mut ready = timeouts.wait(socket.readable()).await?;
                    let tried = ready.try_io(|socket| receive(socket, buffer));
                    tried.unwrap_or_else(|_| Err(io::ErrorKind::WouldBlock.into()))
                }
                Socket::Gone => return Err(Broken::Lost),
            };
            match received {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => drop(self.watched()?),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Broken::Lost),
            }
        }
    }

    /// Waits until a read would not block.
    pub async fn readable(&mut self, timeouts: &Timeouts) -> Result<(), Broken> {
        if let Socket::Fresh(socket) = &self.0
            && has_something(socket)
        {
            return Ok(());
        }
        timeouts.wait(self.watched()?.readable()).await.map(|mut ready| ready.retain_ready())
    }

    /// Writes all of `bytes`.
    pub async fn write_all(&mut self, mut bytes: &[u8], timeouts: &Timeouts) -> Result<(), Broken> {
        let mut is_full = false;
        while !bytes.is_empty() {
            let sent = if std::mem::take(&mut is_full) {
                let mut ready = timeouts.wait(self.watched()?.writable()).await?;
                let tried = ready.try_io(|socket| send(socket, bytes));
                tried.unwrap_or_else(|_| Err(io::ErrorKind::WouldBlock.into()))
            } else {
                send(self.socket().ok_or(Broken::Lost)?, bytes)
            };
            match sent {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => is_full = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Broken::Lost),
            }
        }
        Ok(())
    }

    /// The peer, for those who work for it. The connection stays open as long as this exists.
    pub(super) fn presence(&self) -> Presence {
        Presence::new(match &self.0 {
            Socket::Fresh(socket) => Some(Arc::clone(socket)),
            Socket::Watched(socket) => Some(Arc::clone(socket.get_ref())),
            Socket::Gone => None,
        })
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            Socket::Fresh(socket) => Some(socket.as_fd()),
            Socket::Watched(socket) => Some(socket.get_ref().as_fd()),
            Socket::Gone => None,
        }
    }

    /// Has the runtime watch the socket from now on.
    fn watched(&mut self) -> Result<&AsyncFd<Arc<OwnedFd>>, Broken> {
        if let Socket::Fresh(_) = &self.0
            && let Socket::Fresh(socket) = std::mem::replace(&mut self.0, Socket::Gone)
            && let Ok(watched) = daemon::inherited::watch(socket, Interest::READABLE | Interest::WRITABLE)
        {
            self.0 = Socket::Watched(watched);
        }
        match &self.0 {
            Socket::Watched(socket) => Ok(socket),
            Socket::Fresh(_) | Socket::Gone => Err(Broken::Lost),
        }
    }

    /// Reads so many bytes into nothing, as long as they move: `PACE_BYTES_MIN` within each `window`. False if they did not all come
    /// until the deadline.
    pub async fn read_on(&mut self, bytes: u64, window: Duration, deadline: Option<Instant>) -> bool {
        let mut discarded = Vec::with_capacity(LINGER_READ_BYTES);
        let mut left = bytes;
        let mut since = (Instant::now(), left);
        while left > 0 {
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return false;
            }
            let (began, left_then) = since;
            if left_then.saturating_sub(left) >= PACE_BYTES_MIN {
                since = (now, left);
            } else if now >= began + window {
                return false;
            }
            let timeouts =
                Timeouts { operation: (since.0 + window).saturating_duration_since(now), deadline };
            discarded.clear();
            match self.read(&mut discarded, &timeouts).await {
                Ok(0) | Err(_) => return false,
                Ok(count) => left = left.saturating_sub(count as u64),
            }
            tokio::task::consume_budget().await;
        }
        true
    }

    /// Ends our side of the stream.
    pub fn end_writing(&self) {
        if let Some(socket) = self.socket() {
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Write);
        }
    }

    /// Ends our side of the stream and reads what the peer still has to say into nothing, until it closes, or
    /// `bytes_max` are read, or `time_max` has passed. A socket that is closed with unread data resets the connection, and
    /// a reset destroys a reply that the peer has not read yet.
    pub async fn linger(&mut self, bytes_max: u64, time_max: Duration) {
        self.end_writing();
        let timeouts = Timeouts { operation: time_max, deadline: Some(Instant::now() + time_max) };
        let mut discarded = Vec::with_capacity(LINGER_READ_BYTES);
        let mut left = bytes_max;
        while left > 0 {
            discarded.clear();
            match self.read(&mut discarded, &timeouts).await {
                Ok(0) | Err(_) => return,
                Ok(count) => left = left.saturating_sub(count as u64),
            }
        }
    }

    /// Reads what is there, without waiting, and not for ever: a socket that is closed with unread data is reset.
    pub fn discard_what_is_there(&self) {
        self.end_writing();
        let Some(socket) = self.socket() else { return };
        let mut discarded = Vec::with_capacity(LINGER_READ_BYTES);
        for _ in 0..READS_AT_LAST_MAX {
            discarded.clear();
            if !matches!(receive(socket, &mut discarded), Ok(1..)) {
                return;
            }
        }
    }

    /// True if the peer has sent something that was not read yet. One system call, no waiting.
    #[must_use]
    pub fn has_unread_bytes(&self) -> bool {
        let mut byte = [0];
        self.socket().is_some_and(|socket| {
            rustix::net::recv(socket, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT)
                .is_ok_and(|(_, count)| count > 0)
        })
    }
}

fn receive(socket: impl AsFd, buffer: &mut Vec<u8>) -> io::Result<usize> {
    Ok(rustix::net::recv(socket, rustix::buffer::spare_capacity(buffer), RecvFlags::empty())?.1)
}

fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)?)
}

/// Whether there are bytes to be read, or the end of the stream.
fn has_something(socket: &OwnedFd) -> bool {
    let mut watched = [PollFd::new(socket, PollFlags::IN)];
    rustix::event::poll(&mut watched, Some(&rustix::time::Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Less than this within the time given is no progress.
const PACE_BYTES_MIN: u64 = 1024;

/// How much of an unwanted request is read at a time.
const LINGER_READ_BYTES: usize = 16 * 1024;

/// With [`LINGER_READ_BYTES`] each: more than a receive buffer has.
const READS_AT_LAST_MAX: usize = 64;

#[cfg(test)]
// Two attributes: clippy knows a test module by `cfg(test)` alone.
#[cfg(not(shuttle))]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream, UnixStream};
    use tokio::time::timeout;

    use super::*;

    /// Until a test gives up.
    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(50);

    const fn timeouts(operation: Duration) -> Timeouts {
        Timeouts { operation, deadline: None }
    }

    fn pair() -> (UnixStream, Connection) {
        let (client, server) = UnixStream::pair().unwrap();
        (client, Connection::new(server.into_std().unwrap().into()))
    }

    /// A connection that the peer has reset.
    async fn reset() -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut accepted, _) = listener.accept().await.unwrap();
        accepted.write_all(b"x").await.unwrap();
        client.readable().await.unwrap();
        // What it has not read makes its close a reset.
        drop(client);
        accepted.readable().await.unwrap();
        Connection::new(accepted.into_std().unwrap().into())
    }

    #[tokio::test]
    async fn the_nearer_limit_counts() {
        let now = Instant::now();
        for (operation, deadline, is_deadline) in
            [(10, None, false), (10, Some(20), false), (20, Some(10), true)]
        {
            let deadline = deadline.map(|seconds| now + Duration::from_secs(seconds));
            let (until, broken) = Timeouts { operation: Duration::from_secs(operation), deadline }.until();
            assert_eq!(matches!(broken, Broken::Deadline), is_deadline);
            assert!(until >= now + Duration::from_secs(10) && until < now + Duration::from_secs(19));
        }
    }

    #[tokio::test]
    async fn what_the_peer_sends_is_read_and_its_end_too() {
        let (mut client, mut connection) = pair();
        let mut buffer = Vec::with_capacity(4);
        assert!(!connection.has_unread_bytes());
        client.write_all(b"abcdef").await.unwrap();
        assert!(connection.has_unread_bytes());
        connection.readable(&timeouts(LONG)).await.unwrap();
        assert!(matches!(connection.0, Socket::Fresh(_)), "there was nothing to wait for");
        assert_eq!(connection.read(&mut buffer, &timeouts(LONG)).await.unwrap(), 4);
        assert_eq!(buffer, b"abcd");
        buffer.clear();
        assert_eq!(connection.read(&mut buffer, &timeouts(LONG)).await.unwrap(), 2);
        assert!(!connection.has_unread_bytes());
        // Now it has to wait, twice.
        assert!(matches!(connection.readable(&timeouts(SHORT)).await, Err(Broken::Timeout)));
        assert!(matches!(connection.read(&mut buffer, &timeouts(SHORT)).await, Err(Broken::Timeout)));
        client.write_all(b"gh").await.unwrap();
        connection.readable(&timeouts(LONG)).await.unwrap();
        assert!(connection.has_unread_bytes());
        buffer.clear();
        assert_eq!(connection.read(&mut buffer, &timeouts(LONG)).await.unwrap(), 2);
        drop(client);
        assert_eq!(connection.read(&mut buffer, &timeouts(LONG)).await.unwrap(), 0);
        assert!(!connection.has_unread_bytes());
        assert_eq!(buffer, b"gh");
    }

    #[tokio::test]
    async fn what_is_written_arrives_whole_although_the_peer_is_slow() {
        let (mut client, mut connection) = pair();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let (mut read, long) = (vec![0; bytes.len()], timeouts(LONG));
        let (written, heard) =
            tokio::join!(connection.write_all(&bytes, &long), client.read_exact(&mut read));
        assert!(written.is_ok() && heard.is_ok() && read == bytes);
        assert!(matches!(connection.write_all(&bytes, &timeouts(SHORT)).await, Err(Broken::Timeout)));
        let deadline = Timeouts { operation: LONG, deadline: Some(Instant::now() + SHORT) };
        assert!(matches!(connection.write_all(&bytes, &deadline).await, Err(Broken::Deadline)));
        drop(client);
        assert!(matches!(connection.write_all(&bytes, &timeouts(LONG)).await, Err(Broken::Lost)));
    }

    #[tokio::test]
    async fn a_connection_that_was_reset_is_lost() {
        let mut connection = reset().await;
        let read = timeout(LONG, connection.read(&mut Vec::with_capacity(9), &timeouts(LONG))).await.unwrap();
        assert!(matches!(read, Err(Broken::Lost)), "{read:?}");
        let mut connection = reset().await;
        let written = timeout(LONG, connection.write_all(b"x", &timeouts(LONG))).await.unwrap();
        assert!(matches!(written, Err(Broken::Lost)), "{written:?}");
        let mut gone = Connection(Socket::Gone);
        assert!(matches!(gone.readable(&timeouts(LONG)).await, Err(Broken::Lost)));
        assert!(!gone.has_unread_bytes() && gone.socket().is_none());
    }

    #[tokio::test]
    async fn what_the_peer_still_says_is_read_until_it_closes() {
        let (mut client, mut connection) = pair();
        let linger = tokio::spawn(async move {
            connection.linger(u64::MAX, LONG * 60).await;
            connection
        });
        // The reply is at its end, but not the connection.
        assert_eq!(timeout(LONG, client.read(&mut [0; 9])).await.unwrap().unwrap(), 0);
        client.write_all(&[b'x'; 1_000_000]).await.unwrap();
        assert!(!linger.is_finished());
        drop(client);
        timeout(LONG, linger).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_was_announced_is_read_as_long_as_it_comes() {
        let (mut client, mut connection) = pair();
        client.write_all(&[b'x'; 5000]).await.unwrap();
        assert!(timeout(LONG, connection.read_on(5000, LONG, None)).await.unwrap());
        assert!(!connection.has_unread_bytes());
        let passed = Instant::now();
        client.write_all(b"x").await.unwrap();
        assert!(!timeout(LONG, connection.read_on(1, LONG, Some(passed))).await.unwrap(), "its time is over");
        // Too little within its window is nothing.
        let began = Instant::now();
        assert!(!timeout(LONG, connection.read_on(9999, Duration::from_secs(1), None)).await.unwrap());
        assert!(began.elapsed() >= Duration::from_secs(1));
        drop(client);
        assert!(!timeout(LONG, connection.read_on(1, LONG, None)).await.unwrap(), "it is gone");
        assert!(timeout(LONG, connection.read_on(0, LONG, None)).await.unwrap(), "nothing was to come");
    }

    #[tokio::test]
    async fn lingering_has_a_limit_of_bytes_and_of_time() {
        let (mut client, mut connection) = pair();
        client.write_all(&[b'x'; 1000]).await.unwrap();
        timeout(LONG, connection.linger(1000, LONG * 60)).await.expect("a thousand bytes are enough");
        let began = Instant::now();
        timeout(LONG, connection.linger(1, Duration::from_secs(1))).await.expect("it waits a second");
        assert!(began.elapsed() >= Duration::from_secs(1));
        // One that is chatty has no more time than one that is silent.
        let (mut client, mut connection) = pair();
        let talk = tokio::spawn(async move { while client.write_all(b"x").await.is_ok() {} });
        timeout(LONG, connection.linger(u64::MAX, Duration::from_secs(1))).await.expect("it has one second");
        drop(connection);
        timeout(LONG, talk).await.unwrap().unwrap();
        let (mut client, mut connection) = pair();
        client.write_all(b"x").await.unwrap();
        connection.linger(0, LONG).await;
        assert!(connection.has_unread_bytes(), "nothing was to be read");
    }
}
