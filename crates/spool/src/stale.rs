//! Finds files that a crash left behind, and distinguishes them from files being written.

use std::io;

use postfix::notice::Notice;

use crate::disk::{Disk, FileKind, Timestamp};
use crate::error::{SpoolError, Step, disk};
use crate::modes::DRAFT_MARK;
use crate::queue::{HASH_QUEUE_DEPTH_MAX, Queue, is_hash_directory};

/// See [`Spool::remove_stale`](crate::Spool::remove_stale).
pub(crate) fn remove<D: Disk>(disk_: &D, older_than: Timestamp) -> Result<Vec<Notice>, SpoolError> {
    let mut notices = Vec::new();
    let mut directories =
        [Queue::Hold, Queue::Incoming].map(|queue| (queue.name().to_owned(), 0_usize)).to_vec();
    while let Some((directory, depth)) = directories.pop() {
        let names = match disk_.names(&directory) {
            Ok(names) => names,
            // A subdirectory can go at any time, and a queue without `hold` can do without.
            Err(error) if error.kind() == io::ErrorKind::NotFound && directory != Queue::Incoming.name() => {
                continue;
            }
            Err(error) => return Err(disk(Step::List, &directory)(error)),
        };
        for name in names {
            let path = format!("{directory}/{name}");
            if is_hash_directory(&name) && depth < HASH_QUEUE_DEPTH_MAX {
                directories.push((path, depth + 1));
                continue;
            }
            match is_stale(disk_, &path, older_than) {
                Ok(false) => {}
                Ok(true) => notices.push(unlink(disk_, &path)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => notices.push(Notice::warning(disk(Step::Examine, &path)(error).to_string())),
            }
        }
    }
    Ok(notices)
}

/// Whether this is a draft of ours whose writer is gone. A writer takes the lock before it gives the file its name and
/// keeps it until the mark is off, so a marked file under a queue ID that is not locked has no writer. A temporary name
/// can still lack the lock; if its writer is alive after all, its rename will fail and the client tries again.
fn is_stale<D: Disk>(disk_: &D, path: &str, older_than: Timestamp) -> io::Result<bool> {
    let is_marked = |kind, mode| kind == FileKind::Regular && mode & 0o7777 == DRAFT_MARK | 0o600;
    let status = disk_.status(path)?;
    if !is_marked(status.kind, status.mode) || status.modified >= older_than || status.uid != disk_.user() {
        return Ok(false);
    }
    let file = disk_.open(path)?;
    match disk_.is_locked(&file) {
        Ok(true) => return Ok(false),
        Ok(false) => {}
        // Then nothing was ever marked here by us.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(false),
        Err(error) => return Err(error),
    }
    // The order matters: commit takes the mark off before it gives up the lock.
    let unlocked = disk_.file_status(&file)?;
    Ok(is_marked(unlocked.kind, unlocked.mode) && unlocked.inode == status.inode)
}

fn unlink<D: Disk>(disk_: &D, path: &str) -> Notice {
    match disk_.unlink(path) {
        Ok(()) => Notice::info(format!("removed {path}, left incomplete by a process that has exited")),
        Err(error) => Notice::warning(disk(Step::Remove, path)(error).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::Simulated;

    const EACCES: i32 = 13;
    const LATER: Timestamp = Timestamp { seconds: 1_795_000_100, microseconds: 0 };
    const DRAFT: &str = "incoming/A1B2C3";

    /// Queues, and one draft whose writer is gone.
    fn queues() -> Simulated {
        let disk = Simulated::new();
        for directory in ["incoming", "hold"] {
            disk.create_directory(directory, 0o700).unwrap();
        }
        disk.put(DRAFT, DRAFT_MARK | 0o600, b"half");
        disk.make_durable();
        disk
    }

    fn words(notices: &[Notice]) -> Vec<&str> {
        notices.iter().map(|notice| notice.text.as_str()).collect()
    }

    #[test]
    fn a_queue_can_do_without_hold_and_not_without_incoming() {
        let disk = queues();
        disk.remove_by_another("hold");
        assert_eq!(remove(&disk, LATER).unwrap().len(), 1);
        disk.remove_by_another("incoming");
        let error = remove(&disk, LATER).unwrap_err().to_string();
        assert!(error.starts_with("cannot list the directory incoming: "), "{error}");
        disk.create_directory("incoming", 0o700).unwrap();
        disk.create_directory("hold", 0o700).unwrap();
        // Hold comes second.
        disk.fail(disk.calls() + 1..=disk.calls() + 1, EACCES, false);
        let error = remove(&disk, LATER).unwrap_err().to_string();
        assert!(error.starts_with("cannot list the directory hold: "), "{error}");
    }

    /// Drafts are looked for as deep as a queue can be hashed.
    #[test]
    fn what_lies_deeper_than_a_queue_is_hashed_stays() {
        let disk = queues();
        let mut directory = "incoming".to_owned();
        for depth in 1..=HASH_QUEUE_DEPTH_MAX + 1 {
            directory.push_str("/A");
            disk.create_directory(&directory, 0o700).unwrap();
            if depth >= HASH_QUEUE_DEPTH_MAX {
                disk.put(&format!("{directory}/B1B2C3"), DRAFT_MARK | 0o600, b"half");
            }
        }
        assert_eq!(remove(&disk, LATER).unwrap().len(), 2);
        assert_eq!(disk.files(), [format!("{directory}/B1B2C3")]);
    }

    /// Another process completes the draft, or removes it, while we look.
    #[test]
    fn a_draft_that_becomes_a_message_meanwhile_stays_and_one_that_goes_is_no_trouble() {
        // The calls for one file: status, open, is_locked, file_status. The directory is the first.
        for call in 1..=4 {
            let disk = queues();
            disk.before_call(call, |disk| {
                let file = disk.open_to_write(DRAFT).unwrap();
                disk.set_mode(&file, 0o700).unwrap();
            });
            assert_eq!(words(&remove(&disk, LATER).unwrap()), Vec::<&str>::new(), "call {call}");
            assert_eq!(disk.mode(DRAFT), Some(0o700), "call {call}");
        }
        for call in 1..=2 {
            let disk = queues();
            disk.before_call(call, |disk| assert!(disk.remove_by_another(DRAFT)));
            assert_eq!(words(&remove(&disk, LATER).unwrap()), Vec::<&str>::new(), "call {call}");
        }
    }

    /// Another draft has the name by now, and its writer has not locked it yet.
    #[test]
    fn a_draft_that_took_the_place_of_an_old_one_stays() {
        let disk = queues();
        disk.before_call(2, |disk| {
            assert!(disk.remove_by_another(DRAFT));
            disk.put(DRAFT, DRAFT_MARK | 0o600, b"new");
        });
        assert_eq!(words(&remove(&disk, LATER).unwrap()), Vec::<&str>::new());
        assert_eq!(disk.bytes(DRAFT).as_deref(), Some(&b"new"[..]));
    }

    #[test]
    fn each_error_about_a_draft_is_told_and_it_stays() {
        let expected = [
            "cannot examine incoming/A1B2C3: ",
            "cannot examine incoming/A1B2C3: ",
            "cannot examine incoming/A1B2C3: ",
            "cannot examine incoming/A1B2C3: ",
            "cannot remove incoming/A1B2C3: ",
        ];
        for (call, beginning) in (1..).zip(expected) {
            let disk = queues();
            disk.fail(call..=call, EACCES, false);
            let notices = remove(&disk, LATER).unwrap();
            assert!(notices.len() == 1 && notices[0].text.starts_with(beginning), "{call}: {notices:?}");
            assert!(disk.bytes(DRAFT).is_some());
        }
    }

    /// Without locks a leftover cannot be told from a draft that is being written; that was said at the start.
    #[test]
    fn without_locks_every_draft_stays_in_silence() {
        let disk = queues();
        disk.remove_locks();
        assert_eq!(words(&remove(&disk, LATER).unwrap()), Vec::<&str>::new());
        assert!(disk.bytes(DRAFT).is_some());
    }
}
