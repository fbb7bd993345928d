//! The file of a service in process_id_directory: a region for each process, which holds it by a lock on its bytes. The lock goes
//! with the process, however that ends.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::region::{REGION_BYTES, Report};

/// So many processes of a service know of each other.
pub(super) const REGIONS: usize = 128;

/// The open file. What is open stays open in the jail.
#[derive(Debug)]
pub(crate) struct RegionFile {
    file: File,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
#[error(
    "what clients take is counted in each process by itself, not for all of the service: {verb} {path}: {source}"
)]
pub(crate) struct OpenError {
    verb: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Which regions other processes hold.
pub(super) type Held = [bool; REGIONS];

impl RegionFile {
    /// The file of this service, made if it is missing. Only who starts the service can open it, so that no other user of the
    /// machine can lock it.
    pub(crate) fn open(directory: &Path, transport: &str, service: &str) -> Result<Self, OpenError> {
        let path = directory.join(file_name(transport, service));
        let failed = |verb: &'static str, source| OpenError { verb, path: path.clone(), source };
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let options = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = options.open(&path).map_err(|error| failed("open", error))?;
        let found = file.metadata().map_err(|error| failed("look at", error))?;
        if !found.is_file()
            || found.uid() != nix::unistd::Uid::effective().as_raw()
            || found.mode() & 0o77 != 0
        {
            let what = "it is not a file of mode 0600 of the user who starts the service; remove it";
            return Err(failed("use", io::Error::new(ErrorKind::PermissionDenied, what)));
        }
        Ok(Self { file })
    }

    /// Holds a region that no process holds; `None`: all are taken.
    pub(super) fn take(&self) -> io::Result<Option<usize>> {
        for region in 0..REGIONS {
            if self.try_lock(region)? {
                return Ok(Some(region));
            }
        }
        Ok(None)
    }

    /// Whether no other process holds it; from now on this one does.
    pub(super) fn try_lock(&self, region: usize) -> io::Result<bool> {
        match fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock(libc::F_WRLCK, region..region.saturating_add(1))))
        {
            Ok(_) => Ok(true),
            Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives a region back.
    pub(super) fn unlock(&self, region: usize) -> io::Result<()> {
        fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock(libc::F_UNLCK, region..region.saturating_add(1))))?;
        Ok(())
    }

    /// What others hold. Two system calls for each process, and one more.
    pub(super) fn held(&self) -> io::Result<Held> {
        let mut held = [false; REGIONS];
        let mut unseen: Vec<_> = std::iter::once(0..REGIONS).collect();
        // Each look that finds a lock leaves fewer regions to look at.
        while let Some(regions) = unseen.pop() {
            if regions.is_empty() {
                continue;
            }
            let mut found = lock(libc::F_WRLCK, regions.clone());
            fcntl(&self.file, FcntlArg::F_OFD_GETLK(&mut found))?;
            if libc::c_int::from(found.l_type) == libc::F_UNLCK {
                continue;
            }
            let locked = regions_of(&found, &regions);
            held.get_mut(locked.clone()).into_iter().flatten().for_each(|held| *held = true);
            unseen.extend([regions.start..locked.start, locked.end..regions.end]);
        }
        Ok(held)
    }

    /// What a process has told; `None`: nothing that makes sense, or it is just being written.
    pub(super) fn read(&self, region: usize) -> io::Result<Option<Report>> {
        let mut bytes = vec![0; REGION_BYTES];
        let mut length = 0;
        while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset(region).saturating_add(length as u64)) {
                Ok(0) => break,
                Ok(count) => length = length.saturating_add(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Report::decode(bytes.get(..length).unwrap_or_default()))
    }

    /// Tells the others.
    pub(super) fn write(&self, region: usize, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset(region))
    }

    /// Takes back what was told in a region.
    pub(super) fn clear(&self, region: usize) -> io::Result<()> {
        self.write(region, &[0; REGION_BYTES])
    }
}

/// A name for each service: what could lead elsewhere is written as in a URL.
fn file_name(transport: &str, service: &str) -> String {
    let mut name = String::from("qmqpd-clients.");
    for byte in format!("{transport}.{service}").bytes().take(SERVICE_BYTES_MAX) {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b':' | b'-' | b'_' | b'[' | b']' => {
                name.push(char::from(byte));
            }
            other => name.push_str(&format!("%{other:02x}")),
        }
    }
    name
}

/// So that it stays a name that a directory can have.
const SERVICE_BYTES_MAX: usize = 70;

fn offset(region: usize) -> u64 {
    u64::try_from(region.saturating_mul(REGION_BYTES)).unwrap_or(u64::MAX)
}

fn lock(kind: libc::c_int, regions: std::ops::Range<usize>) -> libc::flock {
    let bytes = |count: usize| libc::off_t::try_from(count.saturating_mul(REGION_BYTES)).unwrap_or(0);
    libc::flock {
        l_type: libc::c_short::try_from(kind).unwrap_or(0),
        l_whence: libc::c_short::try_from(libc::SEEK_SET).unwrap_or(0),
        l_start: bytes(regions.start),
        l_len: bytes(regions.len()),
        // As these locks want it.
        l_pid: 0,
    }
}

/// The regions that a lock touches, of those that were asked about: one at least. Another process can lock any bytes.
fn regions_of(found: &libc::flock, asked: &std::ops::Range<usize>) -> std::ops::Range<usize> {
    let region =
        |byte: libc::off_t| usize::try_from(byte).unwrap_or(0).checked_div(REGION_BYTES).unwrap_or(0);
    let last = match found.l_len {
        0 => asked.end,
        length => region(found.l_start.saturating_add(length).saturating_sub(1)).saturating_add(1),
    };
    let first = region(found.l_start).clamp(asked.start, asked.end.saturating_sub(1));
    first..last.clamp(first.saturating_add(1), asked.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> RegionFile {
        RegionFile::open(directory, "inet", "127.0.0.1:628").unwrap()
    }

    fn held(file: &RegionFile) -> Vec<usize> {
        let held = file.held().unwrap();
        (0..REGIONS).filter(|region| held[*region]).collect()
    }

    #[test]
    fn each_process_holds_a_region_of_its_own_for_as_long_as_it_lives() {
        let directory = tempfile::tempdir().unwrap();
        let files = [(); 3].map(|()| open(directory.path()));
        let taken: Vec<_> = files.iter().map(|file| file.take().unwrap().unwrap()).collect();
        assert_eq!(taken, [0, 1, 2]);
        let [first, second, third] = files;
        assert_eq!((held(&first), held(&second)), (vec![1, 2], vec![0, 2]));
        let report = Report { free_places: 7, ..Report::default() };
        third.write(2, &report.encode()).unwrap();
        assert_eq!(first.read(2).unwrap(), Some(report.clone()));
        assert_eq!((first.read(1).unwrap(), first.read(100).unwrap()), (None, None));
        drop(third);
        assert_eq!(held(&first), [1]);
        assert_eq!(first.read(2).unwrap(), Some(report), "what it told is there until it is cleared");
        assert!(first.try_lock(2).unwrap() && !second.try_lock(2).unwrap());
        first.clear(2).unwrap();
        first.unlock(2).unwrap();
        assert!(second.try_lock(2).unwrap() && second.read(2).unwrap().is_none());
        let also = (0..REGIONS).filter(|region| second.try_lock(*region).unwrap()).count();
        assert_eq!((also, open(directory.path()).take().unwrap()), (REGIONS - 1, None));
    }

    /// A process that was taken over locks what it likes.
    #[test]
    fn strange_locks_are_regions_that_are_held() {
        let directory = tempfile::tempdir().unwrap();
        let (ours, theirs) = (open(directory.path()), open(directory.path()));
        let own = ours.take().unwrap().unwrap();
        let lock = |start: i64, length: i64| {
            let lock = libc::flock { l_start: start, l_len: length, ..lock(libc::F_WRLCK, 0..1) };
            fcntl(&theirs.file, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
        };
        let bytes = REGION_BYTES as i64;
        for at in 1..=40 {
            lock(at * bytes + 5, 1);
            lock(at * bytes + 9, 1);
        }
        assert_eq!(held(&ours), (1..=40).collect::<Vec<_>>());
        lock(41 * bytes + 1, bytes);
        assert_eq!(held(&ours), (1..=42).collect::<Vec<_>>());
        lock(bytes, 0);
        assert_eq!(held(&ours), (1..REGIONS).collect::<Vec<_>>());
        theirs.file.set_len(100).unwrap();
        assert_eq!((ours.read(own).unwrap(), ours.read(77).unwrap()), (None, None));
    }

    #[test]
    fn only_a_file_of_our_own_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("qmqpd-clients.unix.a%2fb%25");
        std::os::unix::fs::symlink("/elsewhere", &path).unwrap();
        let open = || RegionFile::open(directory.path(), "unix", "a/b%");
        assert!(open().unwrap_err().to_string().contains("qmqpd-clients.unix.a%2fb%25: "));
        std::fs::remove_file(&path).unwrap();
        drop(open().unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        assert!(open().unwrap_err().to_string().ends_with("remove it"));
    }
}
