//! Talking to the master over the inherited status channel: twelve bytes each way to say busy or idle, and the end of
//! the stream when the master wants a successor.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use postfix::child::{State, status_message};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Our end of the status channel. The descriptor's flags are shared with the master: they stay as they are.
#[derive(Debug)]
pub(crate) struct StatusChannel {
    socket: AsyncFd<OwnedFd>,
    process_id: u32,
    generation: u32,
    /// How many tasks have a client waiting and no place for it. Locked while a report goes out, so that the last
    /// report is the truth.
    waiting: Mutex<usize>,
}

/// While one of these lives, the master knows that this process takes no further client, and may start another.
#[derive(Debug)]
pub(crate) struct FullHouse<'c>(&'c StatusChannel);

impl StatusChannel {
    /// `process_id` is the one that the master knows.
    pub(crate) fn new(socket: OwnedFd, process_id: u32, generation: u32) -> io::Result<Self> {
        let socket = crate::inherited::watch(socket, Interest::READABLE)?;
        Ok(Self { socket, process_id, generation, waiting: Mutex::new(0) })
    }

    /// Says that we are busy or idle. An error means that the master does not listen any more; [`Self::closed`] tells.
    pub(crate) fn report(&self, state: State) {
        self.report_each(&[state]);
    }

    /// Says several things in one breath.
    fn report_each(&self, states: &[State]) {
        let messages =
            states.iter().flat_map(|state| status_message(self.process_id, self.generation, *state));
        let messages: Vec<u8> = messages.collect();
        let _ = rustix::net::send(self.socket.get_ref(), &messages, rustix::net::SendFlags::NOSIGNAL);
    }

    /// Says that a client waits and that there is no place for it. Do not accept as long as the value lives.
    pub(crate) fn full_house(&self) -> FullHouse<'_> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = waiting.saturating_add(1);
        if *waiting == 1 {
            self.report(State::Taken);
        }
        FullHouse(self)
    }

    /// Tells the master that this process has served somebody: from now on a crash is a crash to it, not a bad start.
    pub(crate) fn prove(&self) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // A full house has said the one, and says the other when it ends.
        if *waiting == 0 {
            // The second message is there when the master has read the first: it looks at this channel again before it looks
            // at the clients, and starts no other process for one that arrives just now.
            self.report_each(&[State::Taken, State::Available]);
        }
    }

    /// Returns when the master has closed its end: it reloads, restarts the service under stress, or is gone.
    pub(crate) async fn closed(&self) {
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

impl Drop for FullHouse<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = waiting.saturating_sub(1);
        if *waiting == 0 {
            self.0.report(State::Available);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use postfix::child::STATUS_MESSAGE_BYTES;

    use super::*;

    /// Between two writes the master could look at the clients, find one and nobody idle, and start a process too many.
    #[tokio::test]
    async fn busy_and_idle_again_is_one_write() {
        let (ours, mut master) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let channel = StatusChannel::new(ours.into(), 7, 1).unwrap();
        channel.prove();
        let mut heard = [0; 100];
        assert_eq!(master.read(&mut heard).unwrap(), 2 * STATUS_MESSAGE_BYTES);
    }
}
