//! Wakes the queue manager or pickup(8) of a queue, as Postfix's programs do: a byte for each thing that is asked for.

use rustix::fs::{Mode, OFlags};
use std::io::{self, Write};
use std::path::Path;

/// Scan the incoming queue.
pub(super) const SCAN_INCOMING: u8 = b'I';
/// Scan the deferred queue for what is due.
pub(super) const SCAN_DEFERRED: u8 = b'D';
/// As if each deferred message were due.
pub(super) const IGNORE_TIMES: u8 = b'A';
/// Forget which destinations did not answer.
pub(super) const FORGET_DEAD: u8 = b'F';
/// Look into maildrop.
pub(super) const WAKE_PICKUP: u8 = b'W';

/// Whether a service listens under this name in `public`.
pub(super) fn is_there(root: &Path, service: &str) -> bool {
    connect(&root.join("public").join(service)).is_ok()
}

/// Sends the requests.
///
/// # Errors
/// No service listens there, or it does not listen now.
pub(super) fn wake(root: &Path, service: &str, requests: &[u8]) -> io::Result<()> {
    connect(&root.join("public").join(service))?.write_all(requests)
}

/// A service listens on a socket, or in old configurations on a named pipe. Nothing here waits.
fn connect(path: &Path) -> io::Result<Box<dyn Write>> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&socket2::SockAddr::unix(path)?) {
        Ok(()) => Ok(Box::new(socket)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let pipe = rustix::fs::open(path, flags, Mode::empty()).map_err(|_| error)?;
            Ok(Box::new(std::fs::File::from(pipe)))
        }
        Err(error) => Err(error),
    }
}
