//! Files that are read once and watched afterwards.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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
    /// Opens a file for reading. A named pipe does not make it wait.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
        let seen = Stamp::of(&file.metadata()?);
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

/// What the system says, in its own words and without the number.
#[must_use]
pub fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match (error.raw_os_error(), text.rsplit_once(" (os error ")) {
        (Some(_), Some((words, _))) => words.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn a_file_over_the_bound_is_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "abc").unwrap();
        let error = Watched::open(&path).unwrap().read(2).unwrap_err();
        assert_eq!(words(&error), "File is larger than 2 bytes");
        let error = Watched::open(&dir.path().join("none")).unwrap_err();
        assert_eq!(words(&error), "No such file or directory");
    }
}
