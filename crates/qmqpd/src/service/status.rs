//! Talking to the master over the inherited status channel: twelve bytes each way to say busy or idle, and the end of
//! the stream when the master wants a successor.

use std::io;
use std::os::fd::OwnedFd;

use postfix::child::{State, status_message};
use tokio::io::unix::AsyncFd;

/// Our end of the status channel. The descriptor's flags are shared with the master: they stay as they are.
#[derive(Debug)]
pub(crate) struct StatusChannel {
    socket: AsyncFd<OwnedFd>,
    process_id: u32,
    generation: u32,
}

impl StatusChannel {
    /// `process_id` is the one that the master knows.
    pub(crate) fn new(socket: OwnedFd, process_id: u32, generation: u32) -> io::Result<Self> {
        let socket = crate::inherited::watch(socket)?;
        Ok(Self { socket, process_id, generation })
    }

    /// Says that we are busy or idle. An error means that the master does not listen any more; [`Self::closed`] tells.
    pub(crate) fn report(&self, state: State) {
        let message = status_message(self.process_id, self.generation, state);
        let _ = rustix::net::send(self.socket.get_ref(), &message, rustix::net::SendFlags::NOSIGNAL);
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
