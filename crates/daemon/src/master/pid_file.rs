//! The number of the running master, for people and their scripts: `qmqpd.pid` in process_id_directory.
//!
//! Nothing of ours reads it: whether a master runs, and which process it is, is told by the lock on the queue
//! ([`super::queue_lock`]). The name differs from Postfix's own `pid/master.pid`, so that `qmqpd serve` can write into the
//! incoming queue of a running Postfix. Format as there: the process ID, right-aligned in 32 columns, and a newline.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

/// The name of the file.
const PID_FILE: &str = "qmqpd.pid";

/// The file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {source}; it must be writable for the user that runs `qmqpd serve`")]
pub(super) struct PidFileError {
    path: String,
    source: std::io::Error,
}

/// Writes our process ID. Call it with the lock on the queue.
pub(super) fn write(directory: &Path) -> Result<(), PidFileError> {
    let path = directory.join(PID_FILE);
    let write = || {
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o644);
        let mut file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path)?;
        // The umask of a daemon would hide the number from others.
        nix::sys::stat::fchmod(&file, nix::sys::stat::Mode::from_bits_truncate(0o644))?;
        file.set_len(0)?;
        file.write_all(format!("{:>32}\n", std::process::id()).as_bytes())
    };
    write().map_err(|source| PidFileError { path: path.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_written_as_postfix_does() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(PID_FILE);
        std::fs::write(&path, "something longer than a process ID, from an earlier life\n").unwrap();
        write(directory.path()).unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), format!("{:>32}\n", std::process::id()));
    }
}
