//! The lock that one master holds on a queue, and how others find it: `qmqpd.pid` in process_id_directory.
//!
//! The name differs from Postfix's own `pid/master.pid`, so that `qmqpd serve` can write into the incoming queue of
//! a running Postfix. Format as there: the process ID, right-aligned in 32 columns, and a newline. Whether the
//! process lives is told by the lock, never by the number.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Pid;

const PID_FILE: &str = "qmqpd.pid";

/// Why the pid file is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PidFileError {
    /// Somebody else holds the lock.
    #[error(
        "another `qmqpd serve` (process {process_id}) holds {path}: stop it (`qmqpd stop`), or set \
         queue_directory to another directory"
    )]
    Held {
        /// The number in the file.
        process_id: String,
        /// The pid file.
        path: String,
    },
    /// The file cannot be used.
    #[error("cannot {verb} {path}: {source}; it must be writable for the user who runs `qmqpd serve`")]
    File {
        /// What was being done.
        verb: &'static str,
        /// The path.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The lock, held until it is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct PidFile {
    _lock: Flock<File>,
}

fn path_in(directory: &Path) -> PathBuf {
    directory.join(PID_FILE)
}

impl PidFile {
    /// Takes the lock and writes our process ID.
    pub(crate) fn acquire(directory: &Path) -> Result<Self, PidFileError> {
        let path = path_in(directory);
        let failed = |verb| {
            let path = path.display().to_string();
            move |source| PidFileError::File { verb, path, source }
        };
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(failed("open"))?;
        let mut lock = match lock_patiently(file) {
            Ok(lock) => lock,
            Err((mut file, nix::Error::EWOULDBLOCK)) => {
                let process_id =
                    read_number(&mut file).map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
                return Err(PidFileError::Held { process_id, path: path.display().to_string() });
            }
            Err((_, errno)) => return Err(failed("lock")(errno.into())),
        };
        let text = format!("{:>32}\n", std::process::id());
        // The umask of a daemon would hide the number from `qmqpd status` of another user.
        nix::sys::stat::fchmod(&*lock, nix::sys::stat::Mode::from_bits_truncate(0o644))
            .map_err(|errno| failed("set the mode of")(errno.into()))?;
        lock.set_len(0).and_then(|()| lock.write_all(text.as_bytes())).map_err(failed("write"))?;
        Ok(Self { _lock: lock })
    }

    /// The process that holds the lock; `None`: nobody does.
    pub(crate) fn holder(directory: &Path) -> Result<Option<Pid>, PidFileError> {
        let path = path_in(directory);
        let failed = |verb| {
            let path = path.display().to_string();
            move |source| PidFileError::File { verb, path, source }
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open")(error)),
        };
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_free) => Ok(None),
            Err((mut file, nix::Error::EWOULDBLOCK)) => match read_number(&mut file) {
                Some(number) => Ok(Some(Pid::from_raw(number))),
                None => Err(failed("read a process ID from")(std::io::ErrorKind::InvalidData.into())),
            },
            Err((_, errno)) => Err(failed("lock")(errno.into())),
        }
    }
}

/// `qmqpd status` holds a shared lock for a moment: one refusal is not the last word.
fn lock_patiently(mut file: File) -> Result<Flock<File>, (File, nix::Error)> {
    for _ in 0..5 {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Err((returned, nix::Error::EWOULDBLOCK)) => file = returned,
            outcome => return outcome,
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
}

fn read_number(file: &mut File) -> Option<i32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(64).read_to_string(&mut text).ok()?;
    text.trim().parse().ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_tells_who_lives_and_the_second_master_is_told() {
        let directory = tempfile::tempdir().unwrap();
        assert!(PidFile::holder(directory.path()).unwrap().is_none());
        let held = PidFile::acquire(directory.path()).unwrap();
        let us = std::process::id();
        assert_eq!(std::fs::read_to_string(path_in(directory.path())).unwrap(), format!("{us:>32}\n"));
        assert_eq!(PidFile::holder(directory.path()).unwrap(), Some(Pid::this()));
        let refusal = PidFile::acquire(directory.path()).unwrap_err().to_string();
        assert!(refusal.contains(&format!("(process {us})")) && refusal.contains("qmqpd stop"), "{refusal}");
        drop(held);
        assert!(PidFile::holder(directory.path()).unwrap().is_none(), "a number without a lock is nobody");
    }
}
