//! The socket of Postfix's cleanup(8): connect, hear the queue ID, send records, hear the judgement.

use postfix::text::system_words;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use postfix::attr::{AttributeList, DecodeError, Decoder};
use postfix::cleanup_dialogue::{Announcement, DialogueError, Judgement, LIST_BYTES_MAX};
use postfix::notice::Severity;
use postfix::queue_id::QueueId;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use daemon::inherited::watch;
use daemon::log::{Log, Program};

/// How to reach cleanup(8).
#[derive(Debug)]
pub(super) struct CleanupService {
    socket: String,
    /// For each read and write, as everywhere inside Postfix.
    ipc_timeout: Duration,
    /// One permit per dialogue: each keeps a process of cleanup(8) busy.
    dialogues: Arc<Semaphore>,
    log: Log,
}

/// Why a dialogue came to nothing. The texts are Postfix's where Postfix has some.
#[derive(Debug, thiserror::Error)]
pub(super) enum CleanupServiceError {
    /// No process listens on the socket. Each attempt is in the log.
    #[error("connect to subsystem {socket}: {words}; is cleanup_service_name right, and does Postfix run?")]
    Connect {
        /// Relative to the queue directory.
        socket: String,
        /// What the system said.
        words: String,
    },
    /// cleanup(8) went away.
    #[error("premature end-of-input on {socket} socket while reading input attribute name")]
    Ended {
        /// Relative to the queue directory.
        socket: String,
    },
    /// cleanup(8) took longer than ipc_timeout.
    #[error("timeout on {socket} socket while {step}")]
    Timeout {
        /// Relative to the queue directory.
        socket: String,
        /// What was being done.
        step: &'static str,
    },
    /// A read or write failed.
    #[error("{step} on {socket} socket: {words}")]
    Broken {
        /// Relative to the queue directory.
        socket: String,
        /// What was being done.
        step: &'static str,
        /// What the system said.
        words: String,
    },
    /// It speaks something else.
    #[error(transparent)]
    Dialogue(#[from] DialogueError),
    /// It does not even speak that.
    #[error("cleanup service: {0}")]
    Decode(#[from] DecodeError),
}

const READING: &str = "reading input attribute name";
const WRITING: &str = "writing message records";

impl CleanupService {
    /// `socket` is relative to the queue directory; at most so many dialogues take place at a time.
    pub(super) fn new(socket: String, ipc_timeout: Duration, dialogues: usize, log: Log) -> Self {
        let dialogues = Arc::new(Semaphore::new(dialogues.clamp(1, Semaphore::MAX_PERMITS)));
        Self { socket, ipc_timeout, dialogues, log }
    }

    /// Waits for its turn, connects, and waits for the queue ID.
    pub(super) async fn begin(&self) -> Result<Dialogue, CleanupServiceError> {
        let place = Arc::clone(&self.dialogues).acquire_owned().await;
        let place = place.map_err(|closed| self.unreachable(closed.to_string()))?;
        let stream = self.connect().await?;
        let mut channel = Channel {
            stream: watch(stream, Interest::READABLE)
                .map_err(|error| self.unreachable(system_words(&error)))?,
            outlet: None,
            decoder: Decoder::new(LIST_BYTES_MAX),
            unread: Vec::new(),
            socket: self.socket.clone(),
            ipc_timeout: self.ipc_timeout,
        };
        let mut announced = Announcement::decode(&channel.list().await?)?;
        if announced == Announcement::Protocol {
            announced = Announcement::decode(&channel.list().await?)?;
        }
        match announced {
            Announcement::QueueId(queue_id) => Ok(Dialogue { channel, queue_id, _place: place }),
            Announcement::Protocol => {
                Err(DialogueError::Protocol("cleanup_protocol, twice".to_owned()).into())
            }
        }
    }

    /// Postfix tries eleven times, ten seconds apart; a client that waits so long for a service that is not there gains
    /// nothing.
    async fn connect(&self) -> Result<UnixStream, CleanupServiceError> {
        let mut attempt = 1;
        loop {
            let words = match self.connect_past_backlog().await {
                Ok(stream) => return Ok(stream),
                Err(error) => system_words(&error),
            };
            let text = format!("connect #{attempt} to subsystem {}: {words}", self.socket);
            self.log.write(Program::Service, Severity::Warning, &text);
            if attempt >= CONNECT_ATTEMPTS_MAX {
                return Err(self.unreachable(words));
            }
            attempt = attempt.saturating_add(1);
            sleep(CONNECT_PAUSE).await;
        }
    }

    /// A blocking connect waits while the backlog of the socket is full; one that does not block is told to come again.
    async fn connect_past_backlog(&self) -> io::Result<UnixStream> {
        let until = Instant::now() + self.ipc_timeout;
        let address = SocketAddrUnix::new(self.socket.as_str())?;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        loop {
            match rustix::net::connect(&socket, &address) {
                Ok(()) => return Ok(socket.into()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if Instant::now() < until => sleep(BACKLOG_PAUSE).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn unreachable(&self, words: String) -> CleanupServiceError {
        CleanupServiceError::Connect { socket: self.socket.clone(), words }
    }
}

/// One message on its way into a queue file of cleanup(8). Dropping it makes cleanup(8) remove the file.
#[derive(Debug)]
pub(super) struct Dialogue {
    channel: Channel,
    queue_id: QueueId,
    _place: OwnedSemaphorePermit,
}

impl Dialogue {
    pub(super) const fn queue_id(&self) -> &QueueId {
        &self.queue_id
    }

    /// Sends bytes of the request; waits when cleanup(8) is slower.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), CleanupServiceError> {
        let socket = self.channel.socket.clone();
        match timeout(self.channel.ipc_timeout, self.channel.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                Err(CleanupServiceError::Broken { socket, step: WRITING, words: system_words(&error) })
            }
            Err(_) => Err(CleanupServiceError::Timeout { socket, step: WRITING }),
        }
    }

    /// Waits for the judgement on a request that is complete.
    pub(super) async fn end(mut self) -> Result<Judgement, CleanupServiceError> {
        Ok(Judgement::decode(&self.channel.list().await?)?)
    }
}

/// Attribute lists from a socket.
#[derive(Debug)]
struct Channel {
    /// Watched for reading alone: each time that cleanup(8) reads, a socket that is watched for writing too wakes us.
    stream: AsyncFd<UnixStream>,
    /// The same socket, watched for writing, once cleanup(8) was slower than we.
    outlet: Option<tokio::net::UnixStream>,
    decoder: Decoder,
    /// What came with the list before.
    unread: Vec<u8>,
    socket: String,
    ipc_timeout: Duration,
}

impl Channel {
    async fn list(&mut self) -> Result<AttributeList, CleanupServiceError> {
        loop {
            let mut input = self.unread.as_slice();
            let list = self.decoder.decode(&mut input)?;
            self.unread = input.to_vec();
            if let Some(list) = list {
                return Ok(list);
            }
            let read = timeout(self.ipc_timeout, self.read()).await;
            let socket = || self.socket.clone();
            match read {
                Ok(Ok(0)) => return Err(CleanupServiceError::Ended { socket: socket() }),
                Ok(Ok(_)) => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(CleanupServiceError::Ended { socket: socket() });
                }
                Ok(Err(error)) => {
                    return Err(CleanupServiceError::Broken {
                        socket: socket(),
                        step: READING,
                        words: system_words(&error),
                    });
                }
                Err(_) => return Err(CleanupServiceError::Timeout { socket: socket(), step: READING }),
            }
        }
    }

    /// Appends what has come, waiting if that is nothing.
    async fn read(&mut self) -> io::Result<usize> {
        self.unread.reserve(READ_BYTES);
        loop {
            let mut ready = self.stream.readable().await?;
            let room_bytes = self.unread.capacity().saturating_sub(self.unread.len());
            let room = rustix::buffer::spare_capacity(&mut self.unread);
            match rustix::net::recv(self.stream.get_ref(), room, RecvFlags::empty()) {
                Ok((_, count)) => {
                    // Less than there was room for is all there was.
                    if count < room_bytes {
                        ready.clear_ready();
                    }
                    return Ok(count);
                }
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = match &self.outlet {
                None => send(self.stream.get_ref(), bytes),
                Some(outlet) => {
                    outlet.writable().await?;
                    outlet.try_io(Interest::WRITABLE, || send(outlet, bytes))
                }
            };
            match sent {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.outlet.is_none() {
                        let stream = self.stream.get_ref().try_clone()?;
                        self.outlet = Some(tokio::net::UnixStream::from_std(stream)?);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)?)
}

/// All that cleanup(8) says in ordinary times, and more.
const READ_BYTES: usize = 256;
const CONNECT_ATTEMPTS_MAX: u32 = 3;
const CONNECT_PAUSE: Duration = Duration::from_secs(1);
const BACKLOG_PAUSE: Duration = Duration::from_millis(10);
