//! A message on its way into a Maildir: written under `tmp`, made durable, and only then named in `new`.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a delivery asks of the file system, in one place, so that a test can see the order, and let each call fail.
pub trait Disk {
    /// Makes a directory and those above it that are missing, for the user alone.
    ///
    /// # Errors
    /// What the system says; so for all of these.
    fn make_directories(&self, path: &Path) -> io::Result<()>;
    /// Creates a file that did not exist, for the user alone.
    ///
    /// # Errors
    /// As above.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Writes all bytes.
    ///
    /// # Errors
    /// As above.
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()>;
    /// Makes the bytes of a file durable.
    ///
    /// # Errors
    /// As above.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Gives a file a second name, which must be free.
    ///
    /// # Errors
    /// As above.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// As above.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
    /// Takes a name away.
    ///
    /// # Errors
    /// As above.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The file system itself.
#[derive(Debug, Clone, Copy)]
pub struct UnixDisk;

impl Disk for UnixDisk {
    fn make_directories(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
    }

    fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}

/// Why a message is not in the Maildir.
#[derive(Debug, thiserror::Error)]
pub enum MaildirError<E: std::error::Error + 'static> {
    /// A file or directory cannot be made.
    #[error("create maildir file {}: {}", path.display(), postfix::text::system_words(source))]
    Create {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The message cannot be written, or not be made durable.
    #[error("error writing message: {}", postfix::text::system_words(.0))]
    Write(io::Error),
    /// The message is larger than a file may be.
    #[error("error writing message: File too large")]
    TooLarge,
    /// It cannot get its name in `new`.
    #[error("link to {}: {}", path.display(), postfix::text::system_words(source))]
    Link {
        /// The name.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The message cannot be read.
    #[error(transparent)]
    Message(E),
}

impl<E: std::error::Error + 'static> MaildirError<E> {
    /// What the system said, if it did.
    #[must_use]
    pub const fn system_error(&self) -> Option<&io::Error> {
        match self {
            Self::Create { source, .. } | Self::Link { source, .. } | Self::Write(source) => Some(source),
            Self::TooLarge | Self::Message(_) => None,
        }
    }
}

/// Makes names of this process different from each other.
static DELIVERIES: AtomicU64 = AtomicU64::new(0);

/// Delivers into the Maildir at `path`: `next` appends the next piece of the message, and says false at its end.
///
/// When it returns well, the message is in `new`, and a power cut does not take it. Otherwise nothing is left, or only a
/// file under `tmp`, which mail readers remove when it is old.
///
/// # Errors
/// The message is not there, or it is uncertain whether a power cut would take it.
pub fn deliver<E: std::error::Error + 'static>(
    disk: &dyn Disk,
    path: &Path,
    host: &str,
    bytes_max: u64,
    mut next: impl FnMut(&mut Vec<u8>) -> Result<bool, E>,
) -> Result<(), MaildirError<E>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (temporary, file) = create(disk, path, host, now)?;
    let written = (|| {
        let mut piece = Vec::new();
        let mut total = 0_u64;
        loop {
            piece.clear();
            let is_more = next(&mut piece).map_err(MaildirError::Message)?;
            total = total.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            if total > bytes_max {
                return Err(MaildirError::TooLarge);
            }
            disk.write(&file, &piece).map_err(MaildirError::Write)?;
            if !is_more {
                break;
            }
        }
        disk.sync(&file).map_err(MaildirError::Write)?;
        let name = new_name(&file, host, now).map_err(MaildirError::Write)?;
        let directory = path.join("new");
        let new = directory.join(name);
        disk.link(&temporary, &new).map_err(|source| MaildirError::Link { path: new.clone(), source })?;
        disk.sync_directory(&directory).map_err(|error| {
            // It is tried again, so this one must not stay. A reader may have it already.
            let _with_a_reader = disk.remove(&new);
            MaildirError::Write(error)
        })
    })();
    let _removed_by_readers_when_old = disk.remove(&temporary);
    written
}

/// Creates the file under `tmp`, and the Maildir if there is none.
fn create<E: std::error::Error + 'static>(
    disk: &dyn Disk,
    path: &Path,
    host: &str,
    now: Duration,
) -> Result<(PathBuf, File), MaildirError<E>> {
    let (process, count) = (std::process::id(), DELIVERIES.fetch_add(1, Ordering::Relaxed));
    let temporary = path.join("tmp").join(format!("{}.P{process}Q{count}.{host}", now.as_secs()));
    let failed = |source| MaildirError::Create { path: temporary.clone(), source };
    let created = match disk.create(&temporary) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            for directory in ["cur", "new", "tmp"] {
                disk.make_directories(&path.join(directory)).map_err(failed)?;
            }
            // So that the name in `new` leads somewhere after a power cut.
            disk.sync_directory(path).map_err(failed)?;
            if let Some(above) = path.parent() {
                // One that only others may read is theirs to make durable.
                let _not_ours = disk.sync_directory(above);
            }
            disk.create(&temporary)
        }
        created => created,
    };
    Ok((temporary.clone(), created.map_err(failed)?))
}

/// The name in `new`, as Postfix makes it: unique by device, inode and time.
fn new_name(file: &File, host: &str, now: Duration) -> io::Result<String> {
    let metadata = file.metadata()?;
    let (device, inode) = (metadata.dev(), metadata.ino());
    Ok(format!("{}.V{device:x}I{inode:x}M{}.{host}", now.as_secs(), now.subsec_micros()))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::*;

    /// The real file system; it writes down what is asked of it, and lets one call fail.
    #[derive(Default)]
    struct Watched {
        calls: RefCell<Vec<String>>,
        fails_at: Option<usize>,
    }

    impl Watched {
        fn call(&self, what: &str, path: Option<&Path>) -> io::Result<()> {
            let place = path.and_then(Path::parent).and_then(Path::file_name).unwrap_or_default();
            self.calls.borrow_mut().push(format!("{what} {}", place.display()).trim_end().to_owned());
            let is_this = self.fails_at == Some(self.calls.borrow().len() - 1);
            if is_this { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    impl Disk for Watched {
        fn make_directories(&self, path: &Path) -> io::Result<()> {
            self.call("mkdir", None)?;
            UnixDisk.make_directories(path)
        }
        fn create(&self, path: &Path) -> io::Result<File> {
            self.call("create", Some(path))?;
            UnixDisk.create(path)
        }
        fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
            self.call("write", None)?;
            UnixDisk.write(file, bytes)
        }
        fn sync(&self, file: &File) -> io::Result<()> {
            self.call("sync", None)?;
            UnixDisk.sync(file)
        }
        fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.call("link", Some(to))?;
            UnixDisk.link(from, to)
        }
        fn sync_directory(&self, path: &Path) -> io::Result<()> {
            self.call("sync names in", Some(&path.join("x")))?;
            UnixDisk.sync_directory(path)
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            self.call("remove", Some(path))?;
            UnixDisk.remove(path)
        }
    }

    type Delivered = Result<(), MaildirError<io::Error>>;

    fn deliver_to(disk: &dyn Disk, path: &Path, bytes_max: u64) -> Delivered {
        let mut pieces = ["one\n", "two\n"].iter();
        deliver(disk, path, "vm", bytes_max, |out| {
            let piece = pieces.next();
            out.extend_from_slice(piece.unwrap_or(&"").as_bytes());
            Ok(piece.is_some())
        })
    }

    fn names(path: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(path).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn the_message_is_durable_before_it_has_its_name_and_the_name_before_it_is_sent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("box");
        deliver_to(&UnixDisk, &path, 100).unwrap();
        let disk = Watched::default();
        deliver_to(&disk, &path, 100).unwrap();
        let expected =
            ["create tmp", "write", "write", "write", "sync", "link new", "sync names in new", "remove tmp"];
        assert_eq!(disk.calls.into_inner(), expected);
    }

    #[test]
    fn a_maildir_is_made_where_there_is_none_and_names_are_as_postfix_makes_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("domain/box");
        deliver_to(&UnixDisk, &path, 8).unwrap();
        let found = names(&path.join("new"));
        assert_eq!((found.len(), names(&path.join("tmp")).len()), (1, 0));
        let file = path.join("new").join(&found[0]);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "one\ntwo\n");
        let metadata = file.metadata().unwrap();
        let unique = format!(".V{:x}I{:x}M", metadata.dev(), metadata.ino());
        assert!(found[0].contains(&unique) && found[0].ends_with(".vm"), "{found:?}");
        assert_eq!(metadata.mode() & 0o777, 0o600);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
    }

    /// Wherever the disk is full, the message is there or the delivery failed, never both, and nothing else stays.
    #[test]
    fn each_call_may_fail() {
        let mut seen = BTreeSet::new();
        for fails_at in 0..20 {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("box");
            let disk = Watched { fails_at: Some(fails_at), ..Watched::default() };
            let delivered = deliver_to(&disk, &path, 100);
            let (new, tmp) = (names(&path.join("new")).len(), names(&path.join("tmp")).len());
            assert_eq!(new, usize::from(delivered.is_ok()), "{:?}", disk.calls.borrow());
            let calls = disk.calls.into_inner();
            let failed = calls.get(fails_at).cloned().unwrap_or_default();
            assert!(tmp == 0 || failed == "remove tmp", "{calls:?}");
            if let Err(error) = delivered {
                let is_full = |error: &io::Error| error.kind() == io::ErrorKind::StorageFull;
                assert!(error.system_error().is_some_and(is_full), "{error}");
                seen.insert(failed);
            }
        }
        let expected =
            ["create tmp", "link new", "mkdir", "sync", "sync names in box", "sync names in new", "write"];
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_message_that_is_too_large_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let error = deliver_to(&UnixDisk, directory.path(), 7).unwrap_err();
        assert_eq!(error.to_string(), "error writing message: File too large");
        assert!(
            names(&directory.path().join("new")).is_empty()
                && names(&directory.path().join("tmp")).is_empty()
        );
    }
}
