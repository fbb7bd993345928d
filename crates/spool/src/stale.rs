//! What a crash leaves behind, and how it is told from what others are writing.

use std::io;

use postfix::notice::Notice;

use crate::disk::{Disk, FileKind, Timestamp};
use crate::error::{SpoolError, Step, disk};
use crate::queue::{HASH_QUEUE_DEPTH_MAX, Queue, is_hash_directory};

/// The mark of a draft of this program: the sticky bit, which means nothing on a regular file. Queue manager, showq(8)
/// and postsuper(1) of Postfix 3.7 look at the owner's bits only, and cleanup(8) never sets it, so that its own drafts
/// in the same queue can be told from ours. Giving the file its final permissions takes the mark away.
pub(crate) const DRAFT_MARK: u32 = 0o1000;

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
        Ok(()) => Notice::info(format!("removed {path}, left unfinished by a process that is gone")),
        Err(error) => Notice::warning(disk(Step::Remove, path)(error).to_string()),
    }
}
