//! The lock that one master holds on a queue, and how others find it: `qmqpd.lock` in the queue directory itself, wherever
//! process_id_directory is.
//!
//! The file is the master's alone, mode 0600: who can open a file can lock it, with flock(2) and with fcntl(2), and keep a
//! server from starting. The lock is one of fcntl(2), of which the kernel says who holds it: no number that was written
//! down in time to be another's by now decides who is signalled.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::Uid;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use spool::file_lock;

const LOCK_FILE: &str = "qmqpd.lock";

/// Why the lock is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another master holds the lock.
    #[error(
        "another `qmqpd serve` ({holder}) holds {path}: stop it (`qmqpd stop`), or set queue_directory to another \
         directory"
    )]
    Held {
        /// Which one.
        holder: String,
        /// The file.
        path: PathBuf,
    },
    /// The file is there, and another user's.
    #[error("{path} belongs to user ID {owner}, who could keep the server from starting: remove it")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// The holder cannot be told from here.
    #[error(
        "{path} is locked by a process that is not visible here: a `qmqpd serve` in another container, \
         or on another machine"
    )]
    OutOfSight {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be used.
    #[error(
        "cannot {verb} {path}: {source}; the file must belong to the user that runs `qmqpd serve`, or \
         that user must be able to write to the directory"
    )]
    File {
        /// What was being done.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl LockError {
    /// Whether it only says that the file is not ours to open.
    pub(crate) fn is_not_ours(&self) -> bool {
        matches!(self, Self::File { source, .. } if source.kind() == ErrorKind::PermissionDenied)
    }
}

/// The lock, held until it is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct QueueLock {
    _file: File,
}

/// The master that holds the lock: a process, not a number.
#[derive(Debug)]
pub(crate) struct Holder {
    process_id: i32,
    process: OwnedFd,
}

fn path_in(queue: &Path) -> PathBuf {
    queue.join(LOCK_FILE)
}

fn failed(verb: &'static str, path: &Path) -> impl Fn(std::io::Error) -> LockError {
    move |source| LockError::File { verb, path: path.to_owned(), source }
}

impl QueueLock {
    /// Takes the lock. No other place in the process may open the file: with the first descriptor that is closed the lock is
    /// gone.
    pub(crate) fn acquire(queue: &Path) -> Result<Self, LockError> {
        let path = path_in(queue);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path)
            .map_err(failed("open", &path))?;
        let found = file.metadata().map_err(failed("look at", &path))?;
        if !found.is_file() || found.uid() != Uid::effective().as_raw() {
            return Err(LockError::Foreign { path, owner: found.uid() });
        }
        fchmod(&file, Mode::from_bits_truncate(0o600))
            .map_err(|errno| failed("set the mode of", &path)(errno.into()))?;
        match fcntl(&file, FcntlArg::F_SETLK(&file_lock::whole_file())) {
            Ok(_) => Ok(Self { _file: file }),
            Err(nix::Error::EAGAIN | nix::Error::EACCES) => {
                let holder = match locked_by(&file).map_err(failed("look at the lock of", &path))? {
                    Some(number) if number > 0 => format!("process {number}"),
                    _ => "a process that is not visible here".to_owned(),
                };
                Err(LockError::Held { holder, path })
            }
            Err(errno) => Err(failed("lock", &path)(errno.into())),
        }
    }

    /// The process that holds the lock; `None`: no process does.
    pub(crate) fn holder(queue: &Path) -> Result<Option<Holder>, LockError> {
        let path = path_in(queue);
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = match File::options().read(true).custom_flags(flags).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", &path)(error)),
        };
        let look = || locked_by(&file).map_err(failed("look at the lock of", &path));
        loop {
            let Some(process_id) = look()? else { return Ok(None) };
            let Some(number) = Pid::from_raw(process_id).filter(|_| process_id > 0) else {
                return Err(LockError::OutOfSight { path });
            };
            let opened = pidfd_open(number, PidfdFlags::empty());
            // The number may have become another's before it was opened, but then it does not hold the lock.
            if look()? != Some(process_id) {
                continue;
            }
            let process =
                opened.map_err(|errno| failed("find the process that holds", &path)(errno.into()))?;
            return Ok(Some(Holder { process_id, process }));
        }
    }
}

impl Holder {
    /// Its number.
    pub(crate) const fn process_id(&self) -> i32 {
        self.process_id
    }

    /// Signals it, and no other, even when it has ended meanwhile.
    pub(crate) fn signal(&self, signal: Signal) -> std::io::Result<()> {
        Ok(pidfd_send_signal(&self.process, signal)?)
    }
}

/// Who holds a lock on the file: 0 or less is a process without a number here.
fn locked_by(file: &File) -> std::io::Result<Option<i32>> {
    let mut lock = file_lock::whole_file();
    fcntl(file, FcntlArg::F_GETLK(&mut lock))?;
    Ok(file_lock::is_held(&lock).then_some(lock.l_pid))
}

/// When a process was started, in the kernel's ticks since the start of the machine; `None`: no process has this number, or
/// it cannot be told.
pub(crate) fn start_time(process_id: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process_id}/stat")).ok()?;
    // The name of the program is in brackets, and may hold blanks and brackets of its own.
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_another_user_could_lock_is_refused_or_closed() {
        let queue = tempfile::tempdir().unwrap();
        let path = path_in(queue.path());
        assert!(QueueLock::holder(queue.path()).unwrap().is_none());
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        let _held = QueueLock::acquire(queue.path()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        if Uid::effective().is_root() {
            let queue = tempfile::tempdir().unwrap();
            std::fs::write(path_in(queue.path()), "").unwrap();
            std::os::unix::fs::chown(path_in(queue.path()), Some(65_534), None).unwrap();
            let refusal = QueueLock::acquire(queue.path()).unwrap_err().to_string();
            assert!(refusal.contains("belongs to user ID 65534"), "{refusal}");
        }
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let queue = tempfile::tempdir().unwrap();
        let elsewhere = queue.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, path_in(queue.path())).unwrap();
        assert!(QueueLock::acquire(queue.path()).is_err());
        assert!(!elsewhere.exists());
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        assert!(start_time(std::process::id()).is_some_and(|ticks| ticks > 0));
        assert_eq!(start_time(u32::MAX), None);
    }
}
