//! The socket between queue manager and agent: frames, and an open queue file with each request.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::{FRAME_BYTES_MAX, InvalidFrame};

/// How much one receive takes.
const RECEIVE_BYTES: usize = 64 << 10;
/// How many descriptors one receive takes. The kernel gives those of one send at a time.
const DESCRIPTORS_MAX: usize = 4;

/// What ends a channel.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The socket failed, or the other side is gone within a frame.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The other side sent what no program of ours sends.
    #[error(transparent)]
    Invalid(#[from] InvalidFrame),
    /// A request came without its queue file.
    #[error("a request came without an open queue file")]
    NoFile,
}

/// A connection between queue manager and agent.
#[derive(Debug)]
pub struct Channel {
    /// Sends.
    pub sender: Sender,
    /// Receives.
    pub receiver: Receiver,
}

impl Channel {
    /// Over a connected stream socket.
    #[must_use]
    pub fn new(socket: UnixStream) -> Self {
        let socket = Arc::new(socket);
        let receiver = Receiver { socket: Arc::clone(&socket), bytes: Vec::new(), files: VecDeque::new() };
        Self { sender: Sender { socket }, receiver }
    }
}

/// The half that sends.
#[derive(Debug)]
pub struct Sender {
    socket: Arc<UnixStream>,
}

impl Sender {
    /// Sends a frame, and with its first byte an open file. Returns when the kernel has all of it. Not to be dropped half way:
    /// what follows would be read as the rest of the frame.
    ///
    /// # Errors
    /// When the other side is gone.
    pub async fn send(&mut self, frame: &[u8], mut file: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut rest = frame;
        while !rest.is_empty() {
            let sent =
                self.socket.async_io(Interest::WRITABLE, || send_some(&self.socket, rest, file)).await?;
            file = None;
            rest = rest.get(sent..).unwrap_or_default();
        }
        Ok(())
    }
}

fn send_some(socket: &UnixStream, bytes: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let files = file.as_slice();
    if !files.is_empty() {
        beside.push(SendAncillaryMessage::ScmRights(files));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(rustix::net::sendmsg(socket.as_fd(), &[IoSlice::new(bytes)], &mut beside, flags)?)
}

/// The half that receives.
#[derive(Debug)]
pub struct Receiver {
    socket: Arc<UnixStream>,
    bytes: Vec<u8>,
    /// Files that came, in the order of their requests.
    files: VecDeque<OwnedFd>,
}

impl Receiver {
    /// The next frame without its length; nothing when the other side has closed between two frames. It may be dropped at any
    /// time: what came is kept.
    ///
    /// # Errors
    /// When the socket fails, or the frame is too long or cut off.
    pub async fn receive(&mut self) -> Result<Option<Vec<u8>>, ChannelError> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(Some(frame));
            }
            let mut piece = [0; RECEIVE_BYTES];
            let (socket, files) = (&self.socket, &mut self.files);
            let count =
                socket.async_io(Interest::READABLE, || receive_some(socket, &mut piece, files)).await?;
            if count == 0 {
                let is_between = self.bytes.is_empty();
                return if is_between { Ok(None) } else { Err(cut_off()) };
            }
            self.bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
        }
    }

    /// The file that came with the request just received.
    ///
    /// # Errors
    /// When none did.
    pub fn take_file(&mut self) -> Result<OwnedFd, ChannelError> {
        self.files.pop_front().ok_or(ChannelError::NoFile)
    }

    fn take_frame(&mut self) -> Result<Option<Vec<u8>>, InvalidFrame> {
        let Some((length, rest)) = self.bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > FRAME_BYTES_MAX {
            return Err(InvalidFrame::TooLong(length));
        }
        let Some(frame) = rest.get(..length) else { return Ok(None) };
        let frame = frame.to_vec();
        self.bytes.drain(..length.saturating_add(4));
        Ok(Some(frame))
    }
}

fn receive_some(socket: &UnixStream, piece: &mut [u8], files: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = rustix::net::recvmsg(socket.as_fd(), &mut [IoSliceMut::new(piece)], &mut beside, flags)?;
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(found) = message {
            files.extend(found);
        }
    }
    Ok(received.bytes)
}

fn cut_off() -> ChannelError {
    ChannelError::Io(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended within a frame"))
}
