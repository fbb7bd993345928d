//! `-S`: one session on standard input and output, without a master, as the `-S` of Postfix's daemons.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};

use super::program::Sessions;
use crate::peer_address::PeerAddress;

/// Serves the client at standard input; needs the runtime.
pub(super) async fn serve<S: Sessions>(sessions: Arc<S>) -> io::Result<()> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    if is_inet_socket(&input) {
        let stream = std::net::TcpStream::from(input);
        stream.set_nonblocking(true)?;
        // A peer that has gone already has no address.
        let peer = stream.peer_addr().map_or(PeerAddress::Gone, PeerAddress::of);
        sessions.serve(stream.into(), peer, None).await;
        return Ok(());
    }
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let pumps = Pumps::start(theirs, input)?;
    sessions.serve(ours.into(), PeerAddress::Local, None).await;
    pumps.finish();
    Ok(())
}

/// Tells the client that it cannot be served, and reads nothing of what it sends.
pub(super) fn refuse(reply: &[u8]) -> io::Result<()> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    if is_inet_socket(&input) {
        super::refuse::tell(input.into(), reply);
        return Ok(());
    }
    let mut out = io::stdout().lock();
    out.write_all(reply)?;
    out.flush()
}

fn is_inet_socket(descriptor: &OwnedFd) -> bool {
    use std::os::fd::AsRawFd;
    let address = getsockname::<SockaddrStorage>(descriptor.as_raw_fd());
    matches!(
        address.ok().and_then(|address| address.family()),
        Some(AddressFamily::Inet | AddressFamily::Inet6)
    )
}

/// Threads between a session and descriptors that may be anything: a pipe, a file, a terminal.
struct Pumps {
    output: JoinHandle<()>,
}

impl Pumps {
    fn start(session: std::os::unix::net::UnixStream, input: OwnedFd) -> io::Result<Self> {
        let mut writer = session.try_clone()?;
        let mut input = std::fs::File::from(input);
        // Not waited for: it may sit in a read when the session is over.
        std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            // Whatever ends the copy, the session sees the end of its input.
            let _ = io::copy(&mut input, &mut writer);
            let _ = writer.shutdown(Shutdown::Write);
        })?;
        let mut reader = session;
        let output = std::thread::Builder::new().name("stdout".to_owned()).spawn(move || {
            // If the client does not read the reply, it has gone.
            let _ = io::copy(&mut reader, &mut io::stdout().lock());
        })?;
        Ok(Self { output })
    }

    /// Returns when the reply is written.
    fn finish(self) {
        let _ = self.output.join();
    }
}
