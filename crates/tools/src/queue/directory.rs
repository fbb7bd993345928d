//! The directories of a queue: which files are messages, and where the file of an ID is.

use super::Failure;
use postfix::queue_file::reader::Source;
use postfix::queue_id::{hash_dir_path, is_legal_name};
use rustix::fs::OFlags;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How deep queues can be hashed: the upper end of hash_queue_depth.
const HASH_DEPTH_MAX: usize = 16;

/// The mode bit that says: this file was written to its end.
const COMPLETE: u32 = 0o100;

/// A queue that holds messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Queue {
    /// Accepted, not yet seen by the queue manager
    Incoming,
    /// Being delivered
    Active,
    /// To be tried again
    Deferred,
    /// Stopped by the administrator
    Hold,
    /// Unreadable for the queue manager
    Corrupt,
}

impl Queue {
    /// All, in the order in which a message passes through them.
    pub(super) const ALL: [Self; 5] =
        [Self::Incoming, Self::Active, Self::Deferred, Self::Hold, Self::Corrupt];

    /// The name of the directory.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Active => "active",
            Self::Deferred => "deferred",
            Self::Hold => "hold",
            Self::Corrupt => "corrupt",
        }
    }
}

/// Calls `found` with the name and the state of every message of one queue, in no order. Files that are still being
/// written are none, unless the queue is that of damaged ones. Files and directories that vanish meanwhile are not missed.
pub(super) fn walk(
    root: &Path,
    queue: Queue,
    found: &mut dyn FnMut(&str, &Path, &Metadata),
) -> Result<(), Failure> {
    let mut directories = vec![root.join(queue.name())];
    while let Some(directory) = directories.pop() {
        let failed = |error| Failure::Directory { path: directory.clone(), error };
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| is_legal_name(name.as_bytes())) else { continue };
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() && name.len() == 1 {
                directories.push(entry.path());
            } else if metadata.is_file()
                && (queue == Queue::Corrupt || metadata.permissions().mode() & COMPLETE != 0)
            {
                found(name, &entry.path(), &metadata);
            }
        }
    }
    Ok(())
}

/// Whether `root` looks like a queue directory.
pub(super) fn check(root: &Path) -> Result<(), Failure> {
    match fs::metadata(root.join(Queue::Incoming.name())) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(Failure::Directory { path: root.to_owned(), error })
        }
        _ => Err(Failure::NoQueue(root.to_owned())),
    }
}

/// Opens the file of a message wherever it is now: looks through the queues twice, since a message may move while this
/// looks. Gives the path below `root` too. Any depth of hashing is tried: a copy of a queue comes without its main.cf.
pub(super) fn open(root: &Path, name: &str) -> io::Result<(QueueFile, PathBuf)> {
    let queues = ["maildrop", "incoming", "active", "deferred", "hold", "saved", "corrupt"];
    for queue in queues.into_iter().chain(queues) {
        for depth in 0..=HASH_DEPTH_MAX {
            let directory = Path::new(queue).join(hash_dir_path(name, depth));
            if depth > 0 && !root.join(&directory).is_dir() {
                break;
            }
            let path = directory.join(name);
            match QueueFile::open(&root.join(&path)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => return result.map(|file| (file, path)),
            }
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// An open queue file.
#[derive(Debug)]
pub(super) struct QueueFile(File);

impl QueueFile {
    /// Opens a regular file. A symbolic link or a pipe that somebody put into the queue is refused, since this may run
    /// as root.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits();
        let file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Self(file))
    }

    /// Its size, mode and times.
    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.0.metadata()
    }
}

impl Source for &QueueFile {
    type Error = io::Error;

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, path: &str, mode: u32) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"E\0").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_messages_are_found() {
        let root = tempfile::tempdir().unwrap();
        for (path, mode) in [
            ("incoming/AAAAA1", 0o700),
            ("incoming/BBBBB2", 0o600),
            ("incoming/12345.678", 0o700),
            ("incoming/C/C/CCCCC3", 0o700),
            ("incoming/sub/DDDDD4", 0o700),
            ("corrupt/EEEEE5", 0o400),
        ] {
            put(root.path(), path, mode);
        }
        std::os::unix::fs::symlink("AAAAA1", root.path().join("incoming/FFFFF6")).unwrap();
        let mut names = Vec::new();
        for queue in Queue::ALL {
            walk(root.path(), queue, &mut |name, _, _| names.push(name.to_owned())).unwrap();
        }
        names.sort();
        assert_eq!(names, ["AAAAA1", "CCCCC3", "EEEEE5"]);
        check(root.path()).unwrap();
        let missing = check(&root.path().join("incoming")).unwrap_err().to_string();
        assert!(missing.contains("is no queue directory"), "{missing}");
    }

    #[test]
    fn a_message_is_found_at_any_depth_and_links_are_refused() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "incoming/AAAAA1", 0o700);
        put(root.path(), "deferred/7/B/7B3099AA1F6", 0o700);
        std::os::unix::fs::symlink("AAAAA1", root.path().join("incoming/FFFFF6")).unwrap();
        assert_eq!(open(root.path(), "AAAAA1").unwrap().1, Path::new("incoming/AAAAA1"));
        assert_eq!(open(root.path(), "7B3099AA1F6").unwrap().1, Path::new("deferred/7/B/7B3099AA1F6"));
        assert_eq!(open(root.path(), "ZZZZZ").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_ne!(open(root.path(), "FFFFF6").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
