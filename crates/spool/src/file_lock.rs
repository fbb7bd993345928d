//! The write lock of fcntl(2) on a whole file, as the kernel takes it. Whether a process holds it or an open file is said by
//! the call: `F_SETLK` or `F_OFD_SETLK`.

use nix::libc;

/// A lock on all bytes of the file, those to come included.
#[must_use]
pub const fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        // Locks that an open file holds want it so; the others do not read it.
        l_pid: 0,
    }
}

/// Whether a question for a lock (`F_GETLK`, `F_OFD_GETLK`), which is answered in place, found one that is in the way.
#[must_use]
pub fn is_held(answer: &libc::flock) -> bool {
    libc::c_int::from(answer.l_type) != libc::F_UNLCK
}
