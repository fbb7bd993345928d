//! The channel between the master and one service process: the process says on it that it is ready, drains, lives,
//! or only waits for the disk; its end tells the process to finish.
//!
//! Each process has one of its own, so that nothing it says can be about another. What comes is judged as if from a
//! process that a stranger has taken over: a bounded amount is read at a time, nothing is kept but a piece of one
//! message, and what no process of ours would say is a [`Breach`].

use std::io::{ErrorKind, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use postfix::child::{ChildState, STATUS_MESSAGE_BYTES, parse_status_message};

use super::listen::lift;

/// So many messages are read before the master looks after its other work.
const MESSAGES_PER_READ: usize = 64;

/// So many messages may come at once; an honest process says a handful in its life, and a beat now and then.
const MESSAGES_AT_ONCE_MAX: u32 = 64;

/// And so many in a second over a long time.
const MESSAGES_PER_SECOND: u32 = 10;

/// Why a process must have been taken over, or be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Breach {
    /// It speaks of a process or a state that is not its own.
    #[error("it sent an invalid status message")]
    Nonsense,
    /// It says far more than there is to say.
    #[error("it floods its status channel")]
    Flood,
}

/// The master's end of a status channel.
#[derive(Debug)]
pub(super) struct StatusChannel {
    /// `None`: nothing is heard any more.
    near: Option<UnixStream>,
    /// A message that came in pieces.
    partial: Vec<u8>,
    allowance: Allowance,
}

impl StatusChannel {
    /// Makes a channel: our end, and the one that the process is started with.
    pub(super) fn new(now: Instant) -> std::io::Result<(Self, OwnedFd)> {
        let (near, far) = UnixStream::pair()?;
        near.set_nonblocking(true)?;
        Ok((Self { near: Some(near), partial: Vec::new(), allowance: Allowance::new(now) }, lift(&far)?))
    }

    /// What has come from this process. At most [`MESSAGES_PER_READ`] messages at a time: there is other work.
    pub(super) fn read(
        &mut self,
        process_id: i32,
        generation: u32,
        now: Instant,
    ) -> Result<Vec<ChildState>, Breach> {
        let Some(near) = &mut self.near else { return Ok(Vec::new()) };
        let mut buffer = [0; STATUS_MESSAGE_BYTES * MESSAGES_PER_READ];
        let length = match near.read(&mut buffer) {
            Ok(0) => {
                self.near = None;
                return Ok(Vec::new());
            }
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(Vec::new());
            }
            Err(_) => {
                self.near = None;
                return Ok(Vec::new());
            }
        };
        self.partial.extend_from_slice(buffer.get(..length).unwrap_or_default());
        let (messages, rest) = self.partial.as_chunks::<STATUS_MESSAGE_BYTES>();
        let mut states = Vec::with_capacity(messages.len());
        for message in messages {
            if !self.allowance.takes_one(now) {
                return Err(Breach::Flood);
            }
            match parse_status_message(message) {
                (id, of, Some(state)) if i64::from(id) == i64::from(process_id) && of == generation => {
                    states.push(state);
                }
                _ => return Err(Breach::Nonsense),
            }
        }
        self.partial = rest.to_vec();
        Ok(states)
    }

    /// Tells the process to finish. What it says until it has done so is still heard.
    pub(super) fn end(&self) {
        if let Some(near) = &self.near {
            let _gone_already = near.shutdown(Shutdown::Write);
        }
    }

    /// Hears nothing any more.
    pub(super) fn close(&mut self) {
        self.near = None;
    }

    /// What becomes readable when the process says something; `None` when nothing more can come.
    pub(super) fn near_end(&self) -> Option<BorrowedFd<'_>> {
        self.near.as_ref().map(AsFd::as_fd)
    }
}

/// How much may be said: so much at once, and so much as time goes on.
#[derive(Debug)]
struct Allowance {
    left: u32,
    /// Until when the passing of time is counted.
    counted_until: Instant,
}

impl Allowance {
    const fn new(now: Instant) -> Self {
        Self { left: MESSAGES_AT_ONCE_MAX, counted_until: now }
    }

    fn takes_one(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.counted_until);
        let each = Duration::from_secs(1) / MESSAGES_PER_SECOND;
        let earned = u32::try_from(passed.as_millis() / each.as_millis().max(1)).unwrap_or(u32::MAX);
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(MESSAGES_AT_ONCE_MAX);
            self.counted_until = now;
        }
        let has_one = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has_one
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use postfix::child::status_message;

    use super::*;

    fn pair() -> (StatusChannel, UnixStream, Instant) {
        let now = Instant::now();
        let (channel, far) = StatusChannel::new(now).unwrap();
        (channel, UnixStream::from(far), now)
    }

    #[test]
    fn messages_are_whole_however_they_arrive() {
        let (mut channel, mut far, now) = pair();
        assert_eq!(channel.read(7, 1, now), Ok(vec![]));
        let messages =
            [status_message(7, 1, ChildState::Available), status_message(7, 1, ChildState::Taken)].concat();
        far.write_all(&messages[..5]).unwrap();
        assert_eq!(channel.read(7, 1, now), Ok(vec![]));
        far.write_all(&messages[5..]).unwrap();
        assert_eq!(channel.read(7, 1, now), Ok(vec![ChildState::Available, ChildState::Taken]));
    }

    #[test]
    fn after_its_end_the_process_is_still_heard() {
        let (mut channel, mut far, now) = pair();
        channel.end();
        assert_eq!(far.read(&mut [0; 1]).unwrap(), 0);
        far.write_all(&status_message(7, 1, ChildState::Syncing)).unwrap();
        assert_eq!(channel.read(7, 1, now), Ok(vec![ChildState::Syncing]));
        drop(far);
        assert_eq!(channel.read(7, 1, now), Ok(vec![]));
        assert!(channel.near_end().is_none(), "nothing more can come");
    }

    #[test]
    fn what_is_about_another_process_or_makes_no_sense_is_a_breach() {
        for message in [
            status_message(8, 1, ChildState::Taken),
            status_message(7, 2, ChildState::Taken),
            [0xff; STATUS_MESSAGE_BYTES],
        ] {
            let (mut channel, mut far, now) = pair();
            far.write_all(&message).unwrap();
            assert_eq!(channel.read(7, 1, now), Err(Breach::Nonsense));
        }
    }

    #[test]
    fn a_flood_is_a_breach_within_a_bounded_time_and_memory() {
        let (mut channel, mut far, now) = pair();
        let flood = status_message(7, 1, ChildState::Alive).repeat(4 * MESSAGES_PER_READ);
        far.write_all(&flood).unwrap();
        assert_eq!(channel.read(7, 1, now).map(|states| states.len()), Ok(MESSAGES_PER_READ));
        assert_eq!(channel.read(7, 1, now), Err(Breach::Flood));
        assert!(channel.partial.len() <= STATUS_MESSAGE_BYTES * (MESSAGES_PER_READ + 1));
    }

    #[test]
    fn beats_over_a_long_time_are_no_flood() {
        let (mut channel, mut far, mut now) = pair();
        for _ in 0..1000 {
            far.write_all(&status_message(7, 1, ChildState::Alive)).unwrap();
            now += Duration::from_millis(100);
            assert_eq!(channel.read(7, 1, now), Ok(vec![ChildState::Alive]));
        }
    }
}
