//! The operations that the spool needs of a file system. The trait is small on purpose: each call is a place where
//! a disk or the power can fail, and the crash tests try every one.

use std::fmt;
use std::io;

/// A moment: seconds since 1970 and microseconds of that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub seconds: u64,
    /// Microseconds of that second, 0 to 999,999.
    pub microseconds: u32,
}

impl Timestamp {
    /// This moment, so many microseconds later.
    #[must_use]
    pub const fn plus_microseconds(self, microseconds: u32) -> Self {
        let sum = self.microseconds as u64 + microseconds as u64;
        Self { seconds: self.seconds.saturating_add(sum / 1_000_000), microseconds: (sum % 1_000_000) as u32 }
    }

    /// This moment, so many seconds earlier, but not before 1970.
    #[must_use]
    pub const fn minus_seconds(self, seconds: u64) -> Self {
        Self { seconds: self.seconds.saturating_sub(seconds), microseconds: self.microseconds }
    }
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link, socket, device or the like. Symbolic links are never followed.
    Other,
}

/// What a file system knows about a file without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Regular file, directory or something else.
    pub kind: FileKind,
    /// The permission bits, with set-ID and sticky bits: 0 to `0o7777`.
    pub mode: u32,
    /// The inode number, unique on its device as long as the file exists.
    pub inode: u64,
    /// The number of the device.
    pub device: u64,
    /// How many names the file has.
    pub links: u64,
    /// The length in bytes.
    pub size_bytes: u64,
    /// The time of the last modification.
    pub modified: Timestamp,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl Status {
    /// Whether this is a finished queue file: a regular file with all of the owner's permission bits. Postfix's queue
    /// manager takes no other (observed on Postfix 3.7).
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.kind == FileKind::Regular && self.mode & 0o700 == 0o700
    }
}

/// A file system as the spool uses it.
///
/// Paths are relative to the queue directory, with `/` between the parts, and never begin or end with one. No call
/// follows a symbolic link in the last part of a path. A call that is interrupted by a signal is repeated inside.
/// Errors are those of the operating system, so that [`io::Error::raw_os_error`] tells what happened.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// An open file. Dropping it closes it and gives up its lock.
    type File: fmt::Debug + Send + Sync + 'static;

    /// Creates a regular file that did not exist, open for writing, with these permission bits, less
    /// those of the umask.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if the name is taken.
    fn create_new(&self, path: &str, mode: u32) -> io::Result<Self::File>;

    /// Creates a regular file in a directory, without a name, open for writing, with these permission bits, less those of
    /// the umask. It is gone when it is closed, unless [`Disk::link_new`] has given it a name.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] where there are no such files.
    fn create_nameless(&self, directory: &str, mode: u32) -> io::Result<Self::File>;

    /// Gives a file of [`Disk::create_nameless`] the name that it is to have, in one step.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if the name is taken, [`io::ErrorKind::NotFound`] if its directory is missing, and
    /// also where the system does not let us do this.
    fn link_new(&self, file: &Self::File, path: &str) -> io::Result<()>;

    /// Opens an existing regular file for reading.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is none.
    fn open(&self, path: &str) -> io::Result<Self::File>;

    /// Opens an existing regular file for reading and writing.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is none.
    fn open_to_write(&self, path: &str) -> io::Result<Self::File>;

    /// Takes the lock that marks a file that is still being written, if it is free. `false` if another process
    /// does. It goes with the last descriptor of the open file, however the process ends. The queue manager knows
    /// nothing of this lock: it is not the one that Postfix's programs take with flock(2).
    ///
    /// # Errors
    /// What fcntl(2) says; [`io::ErrorKind::Unsupported`] where the file system has no locks.
    fn try_lock(&self, file: &Self::File) -> io::Result<bool>;

    /// Whether another process, through another open of the same file, holds the lock of [`Disk::try_lock`].
    ///
    /// # Errors
    /// As there.
    fn is_locked(&self, file: &Self::File) -> io::Result<bool>;

    /// Takes the lock by which the queue manager and the delivery agents of Postfix know that one of them works on this file:
    /// flock(2), exclusive. `false` if another open of the file has it. It goes with the last descriptor of this open.
    ///
    /// # Errors
    /// What flock(2) says.
    fn try_lock_for_delivery(&self, file: &Self::File) -> io::Result<bool>;

    /// Writes all the bytes at this offset. After an error any part of them can be there.
    ///
    /// # Errors
    /// What pwrite(2) says.
    fn write_at(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts a file off at this length.
    ///
    /// # Errors
    /// What ftruncate(2) says.
    fn truncate(&self, file: &Self::File, bytes: u64) -> io::Result<()>;

    /// Reads up to `buffer.len()` bytes from this offset; fewer only at the end of the file.
    ///
    /// # Errors
    /// What pread(2) says.
    fn read_at(&self, file: &Self::File, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Sets the permission bits of an open file.
    ///
    /// # Errors
    /// What fchmod(2) says.
    fn set_mode(&self, file: &Self::File, mode: u32) -> io::Result<()>;

    /// Sets the time of last modification of an open file.
    ///
    /// # Errors
    /// What futimens(3) says.
    fn set_modified(&self, file: &Self::File, modified: Timestamp) -> io::Result<()>;

    /// Returns when the bytes, the mode, the times **and the present name** of the file would survive a power cut.
    ///
    /// That fsync(2) of a file also keeps its name is what ext4, XFS and Btrfs do; Postfix relies on it too.
    ///
    /// # Errors
    /// What fsync(2) says. After an error nothing is known about any of it, and asking again proves nothing.
    fn sync(&self, file: &Self::File) -> io::Result<()>;

    /// Returns when the bytes of the file, and its length, would survive a power cut. Of its name, mode and times nothing
    /// is promised.
    ///
    /// # Errors
    /// What fdatasync(2) says; see [`Disk::sync`].
    fn sync_data(&self, file: &Self::File) -> io::Result<()>;

    /// From here on [`Disk::sync_all`] tells of every error.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] where it never would.
    fn prepare_sync_all(&self) -> io::Result<()>;

    /// Returns when everything that was written to the file system of the queues would survive a power cut: bytes, modes
    /// and names of all files, those that were closed long ago included.
    ///
    /// # Errors
    /// What syncfs(2) says; see [`Disk::sync`].
    fn sync_all(&self) -> io::Result<()>;

    /// Closes the file. Network file systems can still fail here.
    ///
    /// # Errors
    /// What close(2) says; the descriptor is gone in any case.
    fn close(&self, file: Self::File) -> io::Result<()>;

    /// What is known about an open file.
    ///
    /// # Errors
    /// What fstat(2) says.
    fn file_status(&self, file: &Self::File) -> io::Result<Status>;

    /// What is known about a name; `""` is the queue directory itself.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is none.
    fn status(&self, path: &str) -> io::Result<Status>;

    /// Gives a file a new, unused name, in one step.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if the new name is taken, [`io::ErrorKind::NotFound`] if the old name or the
    /// new directory is missing.
    fn rename_new(&self, from: &str, to: &str) -> io::Result<()>;

    /// Takes a name away.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is none.
    fn unlink(&self, path: &str) -> io::Result<()>;

    /// Makes a directory with exactly these permission bits.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if the name is taken.
    fn create_directory(&self, path: &str, mode: u32) -> io::Result<()>;

    /// Sets the permission bits of a directory, and of nothing else that has this name by now.
    ///
    /// # Errors
    /// What open(2) and fchmod(2) say.
    fn set_directory_mode(&self, path: &str, mode: u32) -> io::Result<()>;

    /// Sets owner and, if given, group of a directory, and of nothing else that has this name by now; only root can.
    ///
    /// # Errors
    /// What open(2) and fchown(2) say.
    fn set_directory_owner(&self, path: &str, uid: u32, gid: Option<u32>) -> io::Result<()>;

    /// The names in a directory, in no order, without `.` and `..`. Names that are not UTF-8 are left out: no queue
    /// file has one.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is no such directory.
    fn names(&self, directory: &str) -> io::Result<Vec<String>>;

    /// Whether there is no name in a directory, without reading it whole.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is no such directory.
    fn is_empty(&self, directory: &str) -> io::Result<bool>;

    /// The ID of the mount that the queues are on, which no other mount has as long as the kernel runs; 0 where the system does
    /// not tell. (Linux 6.8.)
    fn mount_id(&self) -> u64;

    /// Whose files the ones made now will be: the effective user of the process.
    fn user(&self) -> u32;

    /// What a person would call the queue directory, for messages.
    fn describe(&self) -> String;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_goes_over_into_the_next_second() {
        let moment = |seconds, microseconds| Timestamp { seconds, microseconds };
        assert_eq!(moment(5, 999_998).plus_microseconds(1), moment(5, 999_999));
        assert_eq!(moment(5, 999_998).plus_microseconds(2), moment(6, 0));
        assert_eq!(moment(5, 3).plus_microseconds(2_000_004), moment(7, 7));
        assert_eq!(moment(5, 3).minus_seconds(2), moment(3, 3));
        assert_eq!(moment(5, 3).minus_seconds(6), moment(0, 3));
    }

    #[test]
    fn only_a_whole_file_of_its_owner_is_ready() {
        let status = |kind, mode| Status {
            kind,
            mode,
            inode: 1,
            device: 1,
            links: 1,
            size_bytes: 0,
            modified: Timestamp::default(),
            uid: 0,
            gid: 0,
        };
        assert!(status(FileKind::Regular, 0o700).is_ready() && status(FileKind::Regular, 0o1755).is_ready());
        assert!(
            !status(FileKind::Regular, 0o600).is_ready() && !status(FileKind::Directory, 0o700).is_ready()
        );
    }
}
