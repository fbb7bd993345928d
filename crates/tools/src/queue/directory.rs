//! Queue directories and the files in them, for reading.

use super::QueueError;
use super::message::for_each_line;
use postfix::queue_file::reader::Source;
use postfix::queue_id::QueueId;
use spool::{Disk, Entry, FileKind, Queue, Status, UnixDisk, queue};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

/// A queue directory.
#[derive(Debug)]
pub(super) struct Directory {
    disk: UnixDisk,
}

impl Directory {
    /// Opens it, and makes sure that it looks like one.
    pub(super) fn open(root: &Path) -> Result<Self, QueueError> {
        let failed = |error| QueueError::Directory { path: root.to_owned(), error };
        let disk = UnixDisk::open(root).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => QueueError::NoQueue(root.to_owned()),
            _ => failed(error),
        })?;
        match disk.status(Queue::Incoming.name()) {
            Ok(status) if status.kind == FileKind::Directory => Ok(Self { disk }),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(failed(error)),
            _ => Err(QueueError::NoQueue(root.to_owned())),
        }
    }

    /// Calls `found` for every message of one queue, in no order, until it is told to stop. Files that are still being
    /// written are left out, unless the queue is that of damaged ones.
    pub(super) fn walk(
        &self,
        queue: Queue,
        found: &mut dyn FnMut(&Entry) -> Result<ControlFlow<()>, QueueError>,
    ) -> Result<ControlFlow<()>, QueueError> {
        for entry in queue::list(&self.disk, queue) {
            let entry = entry?;
            if (queue == Queue::Corrupt || entry.is_ready()) && found(&entry)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Hands out the lines of the log that says why recipients of this message were put off; none where there is no log.
    pub(super) fn read_defer_log(&self, id: &QueueId, line: &mut dyn FnMut(&[u8])) -> Result<(), QueueError> {
        // Hashed as by default, which is how a queue nearly always is, or not, or deeper.
        for depth in [1, 0, 2, 3] {
            let path = format!("defer/{}{id}", id.hash_dir_path(depth));
            let failed = |error| QueueError::File { path: path.clone(), error };
            match self.disk.open(&path) {
                Ok(file) => {
                    let read = |offset, buffer: &mut [u8]| self.disk.read_at(&file, offset, buffer);
                    return for_each_line(read, line).map_err(failed);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    /// The disk under it, for changes.
    pub(super) fn into_disk(self) -> UnixDisk {
        self.disk
    }

    /// The names in a directory below the queue's; none where there is no such directory.
    pub(super) fn names(&self, directory: &str) -> Vec<String> {
        self.disk.names(directory).unwrap_or_default()
    }

    /// Opens the file of a message wherever it is now; `None` if it is nowhere.
    pub(super) fn open_message(&self, id: &QueueId) -> Result<Option<(QueueFile<'_>, Entry)>, QueueError> {
        // It may move between the look and the opening: the second time it has hardly moved again.
        for _ in 0..2 {
            let Some(entry) = queue::find(&self.disk, id)? else { return Ok(None) };
            match self.open_file(&entry.path) {
                Ok(file) => return Ok(Some((file, entry))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(QueueError::File { path: entry.path, error }),
            }
        }
        Ok(None)
    }

    /// Opens the file at a path below the queue directory. Symbolic links are refused, since this may run as root.
    pub(super) fn open_file(&self, path: &str) -> io::Result<QueueFile<'_>> {
        let file = self.disk.open(path)?;
        Ok(QueueFile { disk: &self.disk, file })
    }
}

/// An open queue file.
#[derive(Debug)]
pub(super) struct QueueFile<'a> {
    disk: &'a UnixDisk,
    file: <UnixDisk as Disk>::File,
}

impl QueueFile<'_> {
    pub(super) fn status(&self) -> io::Result<Status> {
        self.disk.file_status(&self.file)
    }
}

impl Source for &QueueFile<'_> {
    type Error = io::Error;

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.disk.read_at(&self.file, offset, buffer)
    }
}

/// The file at any path, outside a queue too: hands it to `read`.
pub(super) fn with_file<T>(path: &Path, read: impl FnOnce(&QueueFile<'_>) -> T) -> io::Result<T> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a file name"))?;
    let parent =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let disk = UnixDisk::open(parent)?;
    let file = QueueFile { file: disk.open(name)?, disk: &disk };
    if file.status()?.kind != FileKind::Regular {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(read(&file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

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
        let directory = Directory::open(root.path()).unwrap();
        let mut names = Vec::new();
        for queue in Queue::ALL {
            let note = &mut |entry: &Entry| {
                names.push(entry.queue_id.to_string());
                Ok(ControlFlow::Continue(()))
            };
            assert!(directory.walk(queue, note).unwrap().is_continue());
        }
        names.sort();
        assert_eq!(names, ["AAAAA1", "CCCCC3", "EEEEE5"]);
        for no_queue in [root.path().join("incoming"), root.path().join("gone")] {
            let missing = Directory::open(&no_queue).unwrap_err().to_string();
            assert!(missing.contains("is not a queue directory"), "{missing}");
        }
    }

    #[test]
    fn a_message_is_found_at_any_depth_and_links_are_refused() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "incoming/AAAAA1", 0o700);
        put(root.path(), "deferred/7/B/7B3099AA1F6", 0o700);
        std::os::unix::fs::symlink("AAAAA1", root.path().join("incoming/FFFFF6")).unwrap();
        let directory = Directory::open(root.path()).unwrap();
        let path = |id: &str| {
            let found = directory.open_message(&id.parse().unwrap()).unwrap();
            found.map(|(_, entry)| entry.path)
        };
        assert_eq!(path("AAAAA1").as_deref(), Some("incoming/AAAAA1"));
        assert_eq!(path("7B3099AA1F6").as_deref(), Some("deferred/7/B/7B3099AA1F6"));
        assert_eq!(path("ZZZZZ"), None);
        assert_eq!(path("FFFFF6"), None);
        assert!(with_file(&root.path().join("incoming/FFFFF6"), |_| ()).is_err());
        assert!(with_file(&root.path().join("incoming"), |_| ()).is_err());
        assert!(with_file(&root.path().join("incoming/AAAAA1"), |_| ()).is_ok());
    }
}
