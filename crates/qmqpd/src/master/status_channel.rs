//! The channel on which the processes of a service say that they are ready, busy or idle; its end tells them to finish.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use postfix::child::{STATUS_MESSAGE_BYTES, State, parse_status_message};

use super::listen::lift;

/// The status channel of a service: all its processes of one generation share the far end.
#[derive(Debug)]
pub(super) struct StatusChannel {
    near: UnixStream,
    far: OwnedFd,
    /// A message that came in pieces.
    partial: Vec<u8>,
}

impl StatusChannel {
    pub(super) fn new() -> std::io::Result<Self> {
        let (near, far) = UnixStream::pair()?;
        let near = UnixStream::from(lift(&near)?);
        near.set_nonblocking(true)?;
        Ok(Self { near, far: lift(&far)?, partial: Vec::new() })
    }

    /// The messages that have arrived: process ID, generation, state.
    pub(super) fn read(&mut self) -> Vec<(u32, u32, Option<State>)> {
        let mut buffer = [0; STATUS_MESSAGE_BYTES * 64];
        let mut messages = Vec::new();
        while let Ok(length) = self.near.read(&mut buffer) {
            let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
            self.partial.extend_from_slice(bytes);
        }
        while let Some((message, rest)) = self.partial.split_first_chunk() {
            messages.push(parse_status_message(message));
            self.partial = rest.to_vec();
        }
        messages
    }

    /// What becomes readable when a process says something.
    pub(super) fn near_end(&self) -> BorrowedFd<'_> {
        self.near.as_fd()
    }

    /// What processes are started with.
    pub(super) const fn far_end(&self) -> &OwnedFd {
        &self.far
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use postfix::child::status_message;

    use super::*;

    #[test]
    fn messages_are_whole_however_they_arrive() {
        let mut channel = StatusChannel::new().unwrap();
        assert!(channel.read().is_empty());
        let messages = [status_message(7, 1, State::Available), status_message(8, 2, State::Taken)].concat();
        let mut far = UnixStream::from(channel.far.try_clone().unwrap());
        far.write_all(&messages[..5]).unwrap();
        assert!(channel.read().is_empty());
        far.write_all(&messages[5..]).unwrap();
        assert_eq!(channel.read(), [(7, 1, Some(State::Available)), (8, 2, Some(State::Taken))]);
    }

    #[test]
    fn the_end_of_the_channel_is_seen_by_every_process() {
        let channel = StatusChannel::new().unwrap();
        let mut far = UnixStream::from(channel.far.try_clone().unwrap());
        drop(channel);
        assert_eq!(far.read(&mut [0; 1]).unwrap(), 0);
    }
}
