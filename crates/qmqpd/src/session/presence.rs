//! Whether a client is still there, for threads that work for it: what an expression finds out is for nothing when the client has
//! left, and takes the processors from the others.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lookup::Asker;
use rustix::event::{PollFd, PollFlags};
use rustix::io::ioctl_fionread;

/// The client of one message.
#[derive(Debug)]
pub(super) struct Presence {
    socket: Option<Arc<OwnedFd>>,
    /// Bytes of its request that are not read yet.
    awaited: AtomicU64,
}

impl Presence {
    pub(super) const fn new(socket: Option<Arc<OwnedFd>>) -> Self {
        Self { socket, awaited: AtomicU64::new(0) }
    }

    /// So many bytes of the request are still to be read. None, when the request is complete: then its end is in order.
    pub(super) fn awaits(&self, bytes: u64) {
        self.awaited.store(bytes, Ordering::Relaxed);
    }
}

impl Asker for Presence {
    /// It has reset the connection; or it will send no more, and what is there is not all that it has announced. A client that closes
    /// behind a whole request cannot be told from one that has only ended its side of the stream, and waits for the reply.
    fn has_left(&self) -> bool {
        let Some(socket) = &self.socket else { return true };
        let mut watched = [PollFd::new(socket, PollFlags::RDHUP)];
        let at_once = rustix::time::Timespec::default();
        if !rustix::event::poll(&mut watched, Some(&at_once)).is_ok_and(|ready| ready > 0) {
            return false;
        }
        let [watched] = watched;
        let seen = watched.revents();
        if seen.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
            return true;
        }
        let awaited = self.awaited.load(Ordering::Relaxed);
        seen.contains(PollFlags::RDHUP) && ioctl_fionread(socket).is_ok_and(|there| there < awaited)
    }
}

#[cfg(test)]
// Two attributes: clippy knows a test module by `cfg(test)` alone.
#[cfg(not(shuttle))]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    fn pair() -> (TcpStream, TcpStream, Presence) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let presence = Presence::new(Some(Arc::new(server.try_clone().unwrap().into())));
        (client, server, presence)
    }

    /// Until the kernel knows.
    fn leaves(presence: &Presence) -> bool {
        (0..2000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            presence.has_left()
        })
    }

    #[test]
    fn a_client_that_waits_or_sends_is_there() {
        let (mut client, _server, presence) = pair();
        presence.awaits(10);
        assert!(!presence.has_left());
        client.write_all(b"abc").unwrap();
        assert!(!presence.has_left());
    }

    #[test]
    fn a_client_that_sends_no_more_is_there_when_all_of_its_request_is() {
        let (mut client, mut server, presence) = pair();
        presence.awaits(4);
        client.write_all(b"abc").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert!(leaves(&presence), "a byte is missing");
        presence.awaits(3);
        assert!(!presence.has_left(), "all is there, and not yet read");
        let mut all = Vec::new();
        server.read_to_end(&mut all).unwrap();
        presence.awaits(0);
        assert!(!presence.has_left(), "all is read");
        presence.awaits(1);
        assert!(presence.has_left());
    }

    #[test]
    fn a_client_that_resets_the_connection_has_left_whatever_it_has_sent() {
        let (mut client, _server, presence) = pair();
        client.write_all(b"abc").unwrap();
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        assert!(leaves(&presence));
        assert!(Presence::new(None).has_left(), "no connection, no client");
    }
}
