//! Files that are read once and watched afterwards, those that could not be read too.

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

/// A file as it was when it was opened. The descriptor stays open, so that a change is seen even from a jail in which the path is gone.
#[derive(Debug)]
pub(crate) struct Watched {
    path: PathBuf,
    file: File,
    seen: Stamp,
    /// The root directory at the time: behind another one the path names something else.
    root: Option<(u64, u64)>,
    /// Whether a new modification time alone is a change: not for files that are written in place and read live.
    contents_matter: bool,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

fn root() -> Option<(u64, u64)> {
    std::fs::metadata("/").ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

impl Watched {
    /// Opens a file for reading. A named pipe would read as nothing, and a device without end: only a regular file is one,
    /// and /dev/null, which is how people write an empty one.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        must_be_regular(&std::fs::metadata(path)?)?;
        let file =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
        let metadata = file.metadata()?;
        // It may have become another one meanwhile.
        must_be_regular(&metadata)?;
        let seen = Stamp::of(&metadata);
        Ok(Self { path: path.to_owned(), file, seen, root: root(), contents_matter: true })
    }

    /// From now on only a file that was removed or replaced counts as changed.
    pub(crate) fn read_live(mut self) -> Self {
        self.contents_matter = false;
        self
    }

    /// The whole contents, if they are no longer than the bound.
    pub(crate) fn read(&self, bytes_max: u64) -> io::Result<Vec<u8>> {
        let mut contents = Vec::new();
        (&self.file).take(bytes_max.saturating_add(1)).read_to_end(&mut contents)?;
        if u64::try_from(contents.len()).is_ok_and(|len| len > bytes_max) {
            return Err(io::Error::other(format!("File is larger than {bytes_max} bytes")));
        }
        Ok(contents)
    }

    /// The open file.
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    /// The path as it was given.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// When the file was last written, in seconds since 1970.
    pub(crate) const fn modified(&self) -> i64 {
        self.seen.modified.0
    }

    /// Whether the file is another one now: written to, removed, or replaced.
    pub(crate) fn changed(&self) -> bool {
        let Ok(now) = self.file.metadata() else { return false };
        if now.nlink() == 0 || (self.contents_matter && Stamp::of(&now) != self.seen) {
            return true;
        }
        if self.root != root() {
            return false;
        }
        std::fs::metadata(&self.path)
            .is_ok_and(|there| (there.dev(), there.ino()) != (self.seen.device, self.seen.inode))
    }
}

/// Whether a path is that of a file that can be read whole.
fn must_be_regular(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    let is_null = kind.is_char_device() && metadata.rdev() == NULL_DEVICE;
    if kind.is_file() || is_null {
        return Ok(());
    }
    let what = if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(io::Error::other(format!("Not a regular file but {what}")))
}

/// The number of /dev/null on Linux: major 1, minor 3.
const NULL_DEVICE: u64 = 0x103;

/// Files without which something cannot be opened, as they were just before that was tried: a new try is worth while when
/// one of them is another one.
#[derive(Debug)]
pub(crate) struct Missed {
    files: Vec<(PathBuf, Option<Trace>)>,
    since: Instant,
    root: Option<(u64, u64)>,
    /// What happens in the directories of the files: it is heard in a jail, too. `None` where the system has no more of it.
    events: Option<OwnedFd>,
    has_heard: AtomicBool,
}

/// What can be said of a file without opening it. The last number changes with its mode and owner, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trace(Stamp, (i64, i64));

impl Missed {
    /// Call this before the files are opened, so that a file that appears just then is noticed.
    pub(crate) fn before(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let paths: Vec<PathBuf> = paths.into_iter().collect();
        let events = listen(&paths);
        let files = paths.into_iter().map(|path| {
            let seen = trace(&path).unwrap_or(None);
            (path, seen)
        });
        let files = files.collect();
        Self { files, since: Instant::now(), root: root(), events, has_heard: AtomicBool::new(false) }
    }

    /// The file that is worth a new try: it has come or changed; or it cannot be seen from here, and some time has passed.
    pub(crate) fn changed(&self) -> Option<&Path> {
        let in_sight = self.root == root();
        let is_worth_a_try = |(path, seen): &&(PathBuf, Option<Trace>)| match trace(path) {
            Ok(now) if in_sight => now.is_some() && now != *seen,
            _ => self.has_heard() || self.since.elapsed() >= RETRY_INTERVAL,
        };
        self.files.iter().find(is_worth_a_try).map(|(path, _)| path.as_path())
    }
}

impl Missed {
    /// Whether something has happened to one of the files.
    fn has_heard(&self) -> bool {
        let Some(events) = &self.events else { return false };
        let mut buffer = [MaybeUninit::uninit(); EVENTS_BUFFER_BYTES];
        let mut reader = inotify::Reader::new(events, &mut buffer);
        // What fails is as a rule that nothing more is there.
        while let Ok(event) = reader.next() {
            let names = self.files.iter().filter_map(|(path, _)| path.file_name());
            let is_one = |name: &OsStr| event.file_name().is_some_and(|of| of.to_bytes() == name.as_bytes());
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) || names.into_iter().any(is_one) {
                self.has_heard.store(true, Ordering::Relaxed);
            }
        }
        self.has_heard.load(Ordering::Relaxed)
    }
}

/// Has the system tell what happens in the directories of these files.
fn listen(paths: &[PathBuf]) -> Option<OwnedFd> {
    let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
    let wanted = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE | WatchFlags::ATTRIB;
    let mut listens = false;
    for path in paths {
        let directory =
            path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        listens |= inotify::add_watch(&events, directory, wanted).is_ok();
    }
    listens.then_some(events)
}

/// Room for some events with the longest names.
const EVENTS_BUFFER_BYTES: usize = 4096;

/// `None` for a file that is not there.
fn trace(path: &Path) -> io::Result<Option<Trace>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(Trace(Stamp::of(&metadata), (metadata.ctime(), metadata.ctime_nsec())))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// How often something is opened anew that may have been mended out of sight, in front of a jail.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use postfix::text::system_words;
    use std::io::Write;

    #[test]
    fn every_kind_of_change_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "a").unwrap();
        let watched = Watched::open(&path).unwrap();
        assert_eq!(watched.read(1).unwrap(), b"a");
        assert!(!watched.changed());
        File::options().append(true).open(&path).unwrap().write_all(b"b").unwrap();
        assert!(watched.changed());

        let watched = Watched::open(&path).unwrap();
        std::fs::write(dir.path().join("g"), "ab").unwrap();
        std::fs::rename(dir.path().join("g"), &path).unwrap();
        assert!(watched.changed());

        let watched = Watched::open(&path).unwrap();
        let kept = dir.path().join("kept");
        std::fs::hard_link(&path, &kept).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!watched.changed(), "the old name is gone but nothing has replaced it");
        std::fs::write(&path, "ab").unwrap();
        assert!(watched.changed(), "another file has the name now");
    }

    #[test]
    fn a_file_that_is_read_live_changes_only_by_replacement() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "a").unwrap();
        let watched = Watched::open(&path).unwrap().read_live();
        std::fs::write(&path, "longer").unwrap();
        assert!(!watched.changed());
        std::fs::remove_file(&path).unwrap();
        assert!(watched.changed());
    }

    #[test]
    fn what_is_no_regular_file_is_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let socket = dir.path().join("socket");
        let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, what) in [
            (pipe.as_path(), "a named pipe"),
            (dir.path(), "a directory"),
            (&socket, "a socket"),
            (Path::new("/dev/zero"), "a device"),
        ] {
            let error = Watched::open(path).unwrap_err();
            assert_eq!(system_words(&error), format!("Not a regular file but {what}"));
        }
        assert_eq!(Watched::open(Path::new("/dev/null")).unwrap().read(1).unwrap(), b"");
    }

    #[test]
    fn a_file_that_was_missed_is_worth_a_try_when_it_comes_or_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let missed = Missed::before([path.clone()]);
        assert_eq!(missed.changed(), None);
        std::fs::write(&path, "a").unwrap();
        assert_eq!(missed.changed(), Some(path.as_path()));

        let missed = Missed::before([path.clone()]);
        assert_eq!(missed.changed(), None);
        std::fs::write(&path, "ab").unwrap();
        assert_eq!(missed.changed(), Some(path.as_path()));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(missed.changed(), None, "it is as bad as before");
    }

    #[test]
    fn a_file_out_of_sight_is_tried_again_after_a_time() {
        let mut missed = Missed::before([PathBuf::from("/there/is/no/such/file")]);
        missed.root = None;
        assert!(missed.events.is_none());
        assert_eq!(missed.changed(), None);
        missed.since = missed.since.checked_sub(RETRY_INTERVAL).unwrap();
        assert!(missed.changed().is_some());
        missed.root = root();
        assert_eq!(missed.changed(), None, "it is in sight, and not there");
    }

    #[test]
    fn a_file_out_of_sight_is_heard_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut missed = Missed::before([path.clone()]);
        missed.root = None;
        std::fs::write(dir.path().join("another"), "a").unwrap();
        assert_eq!(missed.changed(), None);
        std::fs::write(&path, "a").unwrap();
        for _ in 0..2 {
            assert_eq!(missed.changed(), Some(path.as_path()));
        }
    }

    #[test]
    fn a_root_directory_is_known_by_its_numbers() {
        let there = std::fs::metadata("/..").unwrap();
        assert_eq!(root(), Some((there.dev(), there.ino())));
    }

    #[test]
    fn a_file_over_the_bound_is_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "abc").unwrap();
        let error = Watched::open(&path).unwrap().read(2).unwrap_err();
        assert_eq!(system_words(&error), "File is larger than 2 bytes");
        let error = Watched::open(&dir.path().join("none")).unwrap_err();
        assert_eq!(system_words(&error), "No such file or directory");
    }
}
