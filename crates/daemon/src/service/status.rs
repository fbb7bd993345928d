//! Talking to the master over the inherited status channel: twelve bytes each way to say busy or idle, and the end of
//! the stream when the master wants a successor.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use postfix::child::{ChildState, status_message};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

use super::sync::Mutex;

/// Our end of the status channel. The descriptor's flags are shared with the master: they stay as they are.
#[derive(Debug)]
pub(super) struct StatusChannel {
    socket: Arc<AsyncFd<OwnedFd>>,
    /// What is said over it.
    pub(super) reporter: Arc<Reporter>,
    process_id: u32,
    generation: u32,
}

impl StatusChannel {
    /// `process_id` is the one that the master knows.
    pub(super) fn new(socket: OwnedFd, process_id: u32, generation: u32) -> io::Result<Self> {
        let socket = Arc::new(crate::inherited::watch(socket, Interest::READABLE)?);
        let ours = Arc::clone(&socket);
        let reporter = Reporter::new(move |states| {
            let messages = states.iter().flat_map(|state| status_message(process_id, generation, *state));
            let messages: Vec<u8> = messages.collect();
            // An error means that the master does not listen any more; `closed` tells.
            let _ = rustix::net::send(ours.get_ref(), &messages, rustix::net::SendFlags::NOSIGNAL);
        });
        Ok(Self { socket, reporter: Arc::new(reporter), process_id, generation })
    }

    /// Tells our own master now and then that this process lives; Postfix's master would not understand it.
    pub(super) async fn beat(&self, every: Duration) {
        loop {
            sleep(every).await;
            say_at_once(self.socket.get_ref(), self.process_id, self.generation, ChildState::Alive);
        }
    }

    /// Returns when the master has closed its end: it reloads, restarts the service under stress, or is gone.
    pub(super) async fn closed(&self) {
        loop {
            let Ok(mut ready) = self.socket.readable().await else { return };
            let mut nothing = [0; 64];
            let flags = rustix::net::RecvFlags::DONTWAIT;
            match rustix::net::recv(self.socket.get_ref(), &mut nothing, flags) {
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => ready.clear_ready(),
                // The master never says anything; should it, it is nothing that we know.
                Ok((_, count)) if count > 0 => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// A process's last word to our own master: its sessions are over, and from here on it only waits for the disk.
#[derive(Debug)]
pub(super) struct Farewell {
    socket: OwnedFd,
    generation: u32,
}

impl Farewell {
    /// Over this status channel.
    pub(super) const fn new(socket: OwnedFd, generation: u32) -> Self {
        Self { socket, generation }
    }

    /// Says it.
    pub(super) fn say(&self) {
        say_at_once(&self.socket, std::process::id(), self.generation, ChildState::Syncing);
    }

    /// Says how many log lines never reached the log, if some did not: the master can still log that.
    pub(super) fn say_lost(&self, lines: u64) {
        if lines > 0 {
            let count = u16::try_from(lines).unwrap_or(u16::MAX);
            say_at_once(&self.socket, std::process::id(), self.generation, ChildState::LinesLost(count));
        }
    }
}

/// Says it, unless nothing more goes into the channel: a master that does not listen must not hold up what we do.
fn say_at_once(socket: impl AsFd, process_id: u32, generation: u32, state: ChildState) {
    let message = status_message(process_id, generation, state);
    let flags = rustix::net::SendFlags::NOSIGNAL | rustix::net::SendFlags::DONTWAIT;
    let _ = rustix::net::send(socket, &message, flags);
}

/// What the master has to know, and what it has been told.
#[derive(Debug, Default)]
struct Told {
    /// How many tasks have a client waiting and no place for it.
    waiting: usize,
    /// The process takes clients no more.
    is_over: bool,
    told: Option<ChildState>,
}

impl Told {
    const fn truth(&self) -> ChildState {
        if self.is_over || self.waiting > 0 { ChildState::Taken } else { ChildState::Available }
    }

    /// What to say now, if it is something new.
    fn news(&mut self) -> Option<ChildState> {
        let truth = self.truth();
        (self.told.replace(truth) != Some(truth)).then_some(truth)
    }
}

/// Says these things to the master, in one breath.
type Say = dyn Fn(&[ChildState]) + Send + Sync;

/// Tells the master how things stand, whenever that has changed.
pub(super) struct Reporter {
    /// Locked while something is said, so that what is said last is the truth.
    told: Mutex<Told>,
    say: Box<Say>,
}

/// While one of these lives, the master knows that this process takes no further client, and may start another.
#[derive(Debug)]
pub(super) struct Full<'r> {
    reporter: &'r Reporter,
    is_over: bool,
}

impl Reporter {
    /// `say` puts it on the channel, in one write.
    pub(super) fn new(say: impl Fn(&[ChildState]) + Send + Sync + 'static) -> Self {
        Self { told: Mutex::default(), say: Box::new(say) }
    }

    /// The process is ready for clients.
    pub(super) fn ready(&self) {
        self.update(|_| ());
    }

    /// Says that a client waits and that there is no place for it. Do not accept as long as the value lives.
    pub(super) fn report_full(&self) -> Full<'_> {
        self.update(|told| told.waiting = told.waiting.saturating_add(1));
        // A client stops waiting without a permit only when no client is accepted any more.
        Full { reporter: self, is_over: true }
    }

    /// Tells the master that this process has served a client: from now on a crash is a crash to it, not a bad start.
    pub(super) fn report_served(&self) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        // A full house has said the one, and says the other when it ends.
        if told.told == Some(ChildState::Available) {
            // The second message is there when the master has read the first: it looks at this channel again before it looks
            // at the clients, and starts no other process for one that arrives just now.
            (self.say)(&[ChildState::Taken, ChildState::Available]);
        }
    }

    /// Says that this process takes no client any more, whatever happens.
    pub(super) fn retire(&self) {
        self.update(|told| told.is_over = true);
    }

    fn update(&self, change: impl FnOnce(&mut Told)) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut told);
        if let Some(state) = told.news() {
            (self.say)(&[state]);
        }
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reporter").field("told", &self.told).finish_non_exhaustive()
    }
}

impl Full<'_> {
    /// There is a place for the client.
    pub(super) fn end(mut self) {
        self.is_over = false;
    }
}

impl Drop for Full<'_> {
    fn drop(&mut self) {
        self.reporter.update(|told| {
            told.waiting = told.waiting.saturating_sub(1);
            told.is_over |= self.is_over;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use postfix::child::STATUS_MESSAGE_BYTES;

    use super::*;

    /// Between two writes the master could look at the clients, find one and no idle process, and start a process too many.
    #[tokio::test]
    async fn busy_and_idle_again_is_one_write() {
        let (ours, mut master) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let channel = StatusChannel::new(ours.into(), 7, 1).unwrap();
        channel.reporter.ready();
        let mut heard = [0; 100];
        assert_eq!(master.read(&mut heard).unwrap(), STATUS_MESSAGE_BYTES);
        channel.reporter.report_served();
        assert_eq!(master.read(&mut heard).unwrap(), 2 * STATUS_MESSAGE_BYTES);
    }
}
