//! Descriptors that another program opened for us and left at agreed numbers: the only place that turns a number
//! into an owner.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Numbers that were taken already.
static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Takes over descriptor `number`, 3 or above, and marks it close-on-exec. `None`: it is not open, or was taken
/// before, or is one of the standard three.
///
/// Call it at the start of the process, before anything else opens descriptors: what stands at the number must be
/// what the parent left there.
#[must_use]
pub fn take(number: RawFd) -> Option<OwnedFd> {
    if number < 3 {
        return None;
    }
    let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if taken.contains(&number) {
        return None;
    }
    // SAFETY: the borrow ends with this statement, and fcntl(2) on a closed number only returns EBADF.
    let set = fcntl(unsafe { BorrowedFd::borrow_raw(number) }, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    set.ok()?;
    taken.push(number);
    // SAFETY: the descriptor is open, as fcntl(2) just said; nothing else in this process owns it, since it came
    // from the parent and `TAKEN` hands each number out once.
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
        let owned = take(number).expect("it is open");
        assert!(take(number).is_none(), "handed out twice");
        assert!(take(0).is_none());
        assert!(take(999_999).is_none());
        drop((owned, writer));
    }
}
