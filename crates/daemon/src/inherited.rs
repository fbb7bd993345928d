//! Descriptors that another program opened for us and left at agreed numbers: the only place that turns a number
//! into an owner.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Numbers that were taken already.
static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Takes over descriptor `number`, 3 or above, and marks it close-on-exec. `None`: it is not open, or was taken
/// before, or is one of the standard three.
///
/// # Safety
/// If the descriptor is open, nothing in this process owns it: the parent left it there, and nothing that opens descriptors has run
/// yet that could have got this number. Call it at the start of the process.
#[must_use]
pub unsafe fn take(number: RawFd) -> Option<OwnedFd> {
    if number < 3 {
        return None;
    }
    let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if taken.contains(&number) {
        return None;
    }
    // SAFETY: F_SETFD reads and writes no memory of ours; a number that is not open is an error.
    if unsafe { nix::libc::fcntl(number, nix::libc::F_SETFD, nix::libc::FD_CLOEXEC) } == -1 {
        return None;
    }
    taken.push(number);
    // SAFETY: the descriptor is open, as fcntl(2) just said; by the contract nothing else owns it, and `TAKEN` hands each
    // number out once.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A descriptor of a type that closes it, and nothing else does.
trait Owner: AsRawFd {}
impl Owner for OwnedFd {}
impl Owner for std::sync::Arc<OwnedFd> {}
impl Owner for std::net::TcpListener {}
impl Owner for std::os::unix::net::UnixListener {}
impl Owner for std::os::unix::net::UnixStream {}

/// Has the runtime watch a descriptor. Unlike the runtime's own socket types this leaves the descriptor's flags alone, which may
/// be shared with the master and with sibling processes.
///
/// # Errors
/// The runtime cannot register the descriptor: it is a regular file, or too many are watched already.
#[expect(private_bounds, reason = "the bound is a promise that only this module can make")]
pub fn watch<T: Owner>(descriptor: T, interest: Interest) -> std::io::Result<AsyncFd<T>> {
    // SAFETY: the `Owner` types own their descriptor: it stays open, and the same, for as long as the value lives, which
    // is as long as the registration.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::IntoRawFd;

    use super::*;

    #[test]
    fn each_descriptor_is_handed_out_once_and_only_if_open() {
        let (reader, writer) = std::io::pipe().unwrap();
        let number = reader.into_raw_fd();
        // SAFETY: the pipe has just given up its end, and no other number here is open.
        let take = |number| unsafe { take(number) };
        let owned = take(number).expect("it is open");
        assert!(take(number).is_none(), "handed out twice");
        assert!(take(0).is_none());
        assert!(take(999_999).is_none());
        drop((owned, writer));
    }
}
