//! The file system of the machine.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Gid, Mode, OFlags, RenameFlags, Stat, StatVfsMountFlags,
    StatxFlags, Timespec, Timestamps, UTIME_OMIT, Uid,
};
use rustix::io::{Errno, retry_on_intr};

use crate::disk::{Disk, FileKind, Status, Timestamp};
use crate::file_lock;

/// A queue directory on the machine's file system, reached through one descriptor that is opened once: chroot(2),
/// chdir(2) and a rename of the directory change nothing.
///
/// A process that gives up root opens the disk before, and the [`Spool`](crate::Spool) after: files belong to the user
/// that the process runs as when it makes them.
#[derive(Debug)]
pub struct UnixDisk {
    directory: OwnedFd,
    path: PathBuf,
    /// Held open for syncfs(2): a descriptor hears of every error since it was opened.
    whole: OnceLock<OwnedFd>,
}

impl UnixDisk {
    /// Opens the queue directory. A relative path starts at the working directory of this moment.
    ///
    /// # Errors
    /// What open(2) says: [`io::ErrorKind::NotFound`], [`io::ErrorKind::NotADirectory`] and the like.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = retry_on_intr(|| rustix::fs::openat(CWD, path, flags, Mode::empty()))?;
        Ok(Self { directory, path: path.to_owned(), whole: OnceLock::new() })
    }

    fn open_directory(&self, directory: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = if directory.is_empty() { "." } else { directory };
        Ok(retry_on_intr(|| rustix::fs::openat(&self.directory, path, flags, Mode::empty()))?)
    }

    fn whole(&self) -> io::Result<&OwnedFd> {
        if let Some(whole) = self.whole.get() {
            return Ok(whole);
        }
        // A directory that is ours: the queue directory itself may not be ours to read.
        let opened = self.open_directory("incoming")?;
        Ok(self.whole.get_or_init(|| opened))
    }

    fn read(&self, directory: &str) -> io::Result<Dir> {
        Ok(Dir::new(self.open_directory(directory)?)?)
    }
}

impl Disk for UnixDisk {
    type File = OwnedFd;

    fn create_new(&self, path: &str, mode: u32) -> io::Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode);
        let file = retry_on_intr(|| rustix::fs::openat(&self.directory, path, flags, mode))?;
        Ok(file)
    }

    fn create_nameless(&self, directory: &str, mode: u32) -> io::Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode);
        match retry_on_intr(|| rustix::fs::openat(&self.directory, directory, flags, mode)) {
            // A file system without such files, or a kernel that knows nothing of them and sees a directory.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Err(io::ErrorKind::Unsupported.into()),
            other => Ok(other?),
        }
    }

    fn link_new(&self, file: &OwnedFd, path: &str) -> io::Result<()> {
        // Linux before 6.10 lets no ordinary user do it.
        let directory = &self.directory;
        Ok(retry_on_intr(|| rustix::fs::linkat(file, "", directory, path, AtFlags::EMPTY_PATH))?)
    }

    fn open(&self, path: &str) -> io::Result<OwnedFd> {
        // A named pipe in a queue directory must not stop us: do not wait for its other end.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(retry_on_intr(|| rustix::fs::openat(&self.directory, path, flags, Mode::empty()))?)
    }

    fn open_to_write(&self, path: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(retry_on_intr(|| rustix::fs::openat(&self.directory, path, flags, Mode::empty()))?)
    }

    fn try_lock(&self, file: &OwnedFd) -> io::Result<bool> {
        let lock = file_lock::whole_file();
        loop {
            match fcntl(file, FcntlArg::F_OFD_SETLK(&lock)) {
                Ok(_) => return Ok(true),
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN | nix::Error::EACCES) => return Ok(false),
                Err(error) => return Err(lock_error(error)),
            }
        }
    }

    fn is_locked(&self, file: &OwnedFd) -> io::Result<bool> {
        // Asking needs no descriptor that can write, unlike taking.
        let mut lock = file_lock::whole_file();
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).map_err(lock_error)?;
        Ok(file_lock::is_held(&lock))
    }

    fn try_lock_for_delivery(&self, file: &OwnedFd) -> io::Result<bool> {
        match retry_on_intr(|| rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn write_at(&self, file: &OwnedFd, offset: u64, bytes: &[u8]) -> io::Result<()> {
        write_all(offset, bytes, |offset, rest| Ok(retry_on_intr(|| rustix::io::pwrite(file, rest, offset))?))
    }

    fn truncate(&self, file: &OwnedFd, bytes: u64) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::ftruncate(file, bytes))?)
    }

    fn read_at(&self, file: &OwnedFd, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0_usize;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let position = offset.checked_add(filled as u64).ok_or(Errno::OVERFLOW)?;
            let count = retry_on_intr(|| rustix::io::pread(file, &mut *rest, position))?;
            if count == 0 {
                break;
            }
            filled = filled.saturating_add(count);
        }
        Ok(filled)
    }

    fn set_mode(&self, file: &OwnedFd, mode: u32) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::fchmod(file, Mode::from_raw_mode(mode)))?)
    }

    fn set_modified(&self, file: &OwnedFd, modified: Timestamp) -> io::Result<()> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec {
                tv_sec: i64::try_from(modified.seconds).map_err(|_| Errno::OVERFLOW)?,
                tv_nsec: i64::from(modified.microseconds).saturating_mul(1000),
            },
        };
        Ok(retry_on_intr(|| rustix::fs::futimens(file, &times))?)
    }

    fn sync(&self, file: &OwnedFd) -> io::Result<()> {
        retry_on_intr(|| rustix::fs::fsync(file))?;
        refuse_read_only(file)
    }

    fn sync_data(&self, file: &OwnedFd) -> io::Result<()> {
        retry_on_intr(|| rustix::fs::fdatasync(file))?;
        refuse_read_only(file)
    }

    fn prepare_sync_all(&self) -> io::Result<()> {
        if !syncfs_tells_of_errors(&rustix::system::uname().release().to_string_lossy()) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.whole().map(drop)
    }

    fn sync_all(&self) -> io::Result<()> {
        let whole = self.whole()?;
        retry_on_intr(|| rustix::fs::syncfs(whole))?;
        refuse_read_only(whole)
    }

    fn close(&self, file: OwnedFd) -> io::Result<()> {
        // Never repeated after a signal: Linux has given the descriptor up by then, and the number can be another's.
        match nix::unistd::close(file) {
            Ok(()) | Err(nix::Error::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn file_status(&self, file: &OwnedFd) -> io::Result<Status> {
        Ok(status(&rustix::fs::fstat(file)?))
    }

    fn status(&self, path: &str) -> io::Result<Status> {
        if path.is_empty() {
            return Ok(status(&rustix::fs::fstat(&self.directory)?));
        }
        Ok(status(&retry_on_intr(|| rustix::fs::statat(&self.directory, path, AtFlags::SYMLINK_NOFOLLOW))?))
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        let directory = self.directory.as_fd();
        let renamed = retry_on_intr(|| {
            rustix::fs::renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE)
        });
        match renamed {
            // NFS and others cannot refuse to replace. Postfix never asks for it: the inode number in the name
            // keeps names apart.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                Ok(retry_on_intr(|| rustix::fs::renameat(directory, from, directory, to))?)
            }
            other => Ok(other?),
        }
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::unlinkat(&self.directory, path, AtFlags::empty()))?)
    }

    fn create_directory(&self, path: &str, mode: u32) -> io::Result<()> {
        retry_on_intr(|| rustix::fs::mkdirat(&self.directory, path, Mode::from_raw_mode(mode)))?;
        // The umask may have taken bits away.
        if self.status(path)?.mode == mode { Ok(()) } else { self.set_directory_mode(path, mode) }
    }

    // A name can stand for another thing by now, where the directory above belongs to another user: only what is open and a
    // directory is changed.
    fn set_directory_mode(&self, path: &str, mode: u32) -> io::Result<()> {
        let directory = self.open_directory(path)?;
        Ok(retry_on_intr(|| rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode)))?)
    }

    fn set_directory_owner(&self, path: &str, uid: u32, gid: Option<u32>) -> io::Result<()> {
        let directory = self.open_directory(path)?;
        let (uid, gid) = (Some(Uid::from_raw(uid)), gid.map(Gid::from_raw));
        Ok(retry_on_intr(|| rustix::fs::fchown(&directory, uid, gid))?)
    }

    fn names(&self, directory: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in self.read(directory)? {
            if let Ok(name) = entry?.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn is_empty(&self, directory: &str) -> io::Result<bool> {
        for entry in self.read(directory)? {
            if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn mount_id(&self) -> u64 {
        let wanted = StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE);
        match retry_on_intr(|| rustix::fs::statx(&self.directory, "", AtFlags::EMPTY_PATH, wanted)) {
            Ok(found) if found.stx_mask & STATX_MNT_ID_UNIQUE != 0 => found.stx_mnt_id,
            _ => 0,
        }
    }

    fn user(&self) -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }
}

/// Writes until all is written. `write` takes some bytes from an offset on, and says how many.
fn write_all(
    offset: u64,
    bytes: &[u8],
    mut write: impl FnMut(u64, &[u8]) -> io::Result<usize>,
) -> io::Result<()> {
    let (mut offset, mut rest) = (offset, bytes);
    while !rest.is_empty() {
        let written = write(offset, rest)?;
        // A disk that takes nothing and says nothing would keep us here for ever.
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        rest = rest.get(written..).unwrap_or_default();
        offset = offset.checked_add(written as u64).ok_or(Errno::FBIG)?;
    }
    Ok(())
}

/// A file system that was made read-only after an error has nothing left to do, and some versions of Linux then say of a
/// sync that it succeeded, with bytes of before the error still to be written.
fn refuse_read_only(file: impl AsFd) -> io::Result<()> {
    let is_read_only = rustix::fs::fstatvfs(file)?.f_flag.contains(StatVfsMountFlags::RDONLY);
    if is_read_only { Err(Errno::ROFS.into()) } else { Ok(()) }
}

/// Linux 6.8 and later: an ID that is not used again, unlike that of STATX_MNT_ID.
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;

/// Before Linux 5.8 syncfs(2) returned 0 although bytes could not be written.
fn syncfs_tells_of_errors(release: &str) -> bool {
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 8)
}

fn lock_error(error: nix::Error) -> io::Error {
    match error {
        nix::Error::ENOLCK | nix::Error::ENOSYS | nix::Error::EOPNOTSUPP | nix::Error::EINVAL => {
            io::ErrorKind::Unsupported.into()
        }
        other => other.into(),
    }
}

fn status(stat: &Stat) -> Status {
    Status {
        kind: match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::Regular,
            FileType::Directory => FileKind::Directory,
            _ => FileKind::Other,
        },
        mode: stat.st_mode & 0o7777,
        inode: stat.st_ino,
        device: stat.st_dev,
        links: u64::from(stat.st_nlink as u32),
        size_bytes: u64::try_from(stat.st_size).unwrap_or_default(),
        modified: Timestamp {
            // Before 1970 is as good as never.
            seconds: u64::try_from(stat.st_mtime).unwrap_or_default(),
            microseconds: u32::try_from(stat.st_mtime_nsec / 1000).unwrap_or_default(),
        },
        uid: stat.st_uid,
        gid: stat.st_gid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kernel_that_tells_of_errors_is_trusted_with_a_sync_of_everything() {
        for release in ["5.8", "5.8.0-rc1", "5.10.0-20-amd64", "6.1.0", "10.0"] {
            assert!(syncfs_tells_of_errors(release), "{release}");
        }
        for release in ["", "x", "3.10.0-1160.el7", "4.19.0", "5.7.19", "5"] {
            assert!(!syncfs_tells_of_errors(release), "{release}");
        }
    }

    #[test]
    fn a_write_goes_on_until_all_is_written_or_the_disk_takes_nothing() {
        let mut disk = vec![0; 3];
        let mut take = |offset: u64, bytes: &[u8]| {
            assert_eq!(offset as usize, disk.len());
            let taken = bytes.len().min(2);
            disk.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        };
        write_all(3, b"seven", &mut take).unwrap();
        assert_eq!(disk, b"\0\0\0seven");
        let error = write_all(0, b"x", |_, _| Ok(0)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
        assert!(write_all(0, b"", |_, _| Ok(0)).is_ok());
        assert!(write_all(0, b"x", |_, _| Err(Errno::NOSPC.into())).is_err());
        assert!(write_all(u64::MAX, b"xx", |_, _| Ok(1)).is_err());
    }

    #[test]
    fn a_file_system_without_locks_is_told_from_a_lock_that_fails() {
        for error in [nix::Error::ENOLCK, nix::Error::ENOSYS, nix::Error::EOPNOTSUPP, nix::Error::EINVAL] {
            assert_eq!(lock_error(error).kind(), io::ErrorKind::Unsupported, "{error}");
        }
        assert_eq!(lock_error(nix::Error::EBADF).raw_os_error(), Some(nix::libc::EBADF));
    }
}
