//! Clients that another server hands over, to a service of type `pass`.
//!
//! The server connects, sends one byte with the client's socket beside it, and then a list of attributes about the client
//! (observed on Postfix 3.7). Postfix's qmqpd(8) makes no use of the attributes, and asks the socket who is at its other
//! end; so do we.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};
use postfix::attr::{DecodeError, Decoder};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::peer_address::PeerAddress;

/// Why there is no client to serve. The first words are Postfix's.
#[derive(Debug, thiserror::Error)]
pub(super) enum PassError {
    /// Something came, but no socket.
    #[error("pass_accept_attr: cannot receive file descriptor: {0}")]
    Descriptor(io::Error),
    /// The attributes did not come.
    #[error("pass_accept_attr: cannot receive connection attributes: {0}")]
    Attributes(io::Error),
    /// They make no sense.
    #[error("pass_accept_attr: cannot receive connection attributes: {0}")]
    Decode(#[from] DecodeError),
    /// The server that passes the client took too long.
    #[error("pass_accept_attr: timeout after {} s", TIME_MAX.as_secs())]
    Timeout,
}

/// Takes over the client that `passer` has for us.
pub(super) async fn receive(passer: UnixStream) -> Result<(OwnedFd, PeerAddress), PassError> {
    receive_within(TIME_MAX, passer).await
}

async fn receive_within(limit: Duration, passer: UnixStream) -> Result<(OwnedFd, PeerAddress), PassError> {
    timeout(limit, converse(passer)).await.unwrap_or(Err(PassError::Timeout))
}

async fn converse(mut passer: UnixStream) -> Result<(OwnedFd, PeerAddress), PassError> {
    let socket = passer.async_io(Interest::READABLE, || take_descriptor(&passer)).await;
    let socket = socket.map_err(PassError::Descriptor)?;
    let mut decoder = Decoder::new(ATTRIBUTES_BYTES_MAX);
    let mut unread = Vec::new();
    loop {
        let mut input = unread.as_slice();
        if decoder.decode(&mut input)?.is_some() {
            break;
        }
        unread = input.to_vec();
        match passer.read_buf(&mut unread).await {
            Ok(0) => return Err(PassError::Attributes(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
            Err(error) => return Err(PassError::Attributes(error)),
        }
    }
    connection_of(socket).map_err(PassError::Descriptor)
}

/// Reads one byte and the descriptor that comes with it.
pub(super) fn take_descriptor(passer: impl AsFd) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::net::recvmsg(passer, &mut [IoSliceMut::new(&mut byte)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    let passed = beside.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    passed.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "there is none"))
}

fn connection_of(socket: OwnedFd) -> io::Result<(OwnedFd, PeerAddress)> {
    let address: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    match address.family() {
        Some(AddressFamily::Inet | AddressFamily::Inet6) => {
            let stream = std::net::TcpStream::from(socket);
            stream.set_nonblocking(true)?;
            let peer = stream.peer_addr().map_or(PeerAddress::Gone, PeerAddress::of);
            Ok((stream.into(), peer))
        }
        _ => {
            let stream = std::os::unix::net::UnixStream::from(socket);
            stream.set_nonblocking(true)?;
            Ok((stream.into(), PeerAddress::Local))
        }
    }
}

/// How long the server may take for it all; Postfix's limit for each of the two steps.
const TIME_MAX: Duration = Duration::from_secs(100);
/// More than all that postscreen(8) says about a client.
const ATTRIBUTES_BYTES_MAX: usize = 16 * 1024;

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::io::IoSlice;

    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

    use super::*;

    /// Neither before it has passed a client, nor in the middle of what it says about that.
    #[tokio::test]
    async fn a_server_that_takes_too_long_to_pass_a_client_is_given_up() {
        for passes in [false, true] {
            let (passer, ours) = UnixStream::pair().unwrap();
            if passes {
                let (client, _) = std::os::unix::net::UnixStream::pair().unwrap();
                let beside = [client.as_raw_fd()];
                let beside = [ControlMessage::ScmRights(&beside)];
                let begun = [IoSlice::new(b"\0client_addr")];
                sendmsg::<()>(passer.as_raw_fd(), &begun, &beside, MsgFlags::empty(), None).unwrap();
            }
            let given_up = timeout(PATIENCE, receive_within(Duration::from_millis(100), ours)).await;
            let error = given_up.expect("it waits for ever").unwrap_err();
            assert_eq!(error.to_string(), "pass_accept_attr: timeout after 100 s", "passes: {passes}");
            drop(passer);
        }
    }

    const PATIENCE: Duration = Duration::from_secs(60);
}
