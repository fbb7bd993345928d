//! The queue directory as the master meets it: made if it is missing, and only used by whom it belongs to.

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use spool::directories::{Owners, create_missing};
use spool::{SpoolError, UnixDisk};

/// Why the queue directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum QueueDirectoryError {
    /// A system call failed.
    #[error(
        "queue_directory: cannot {verb} {path}: {source}; create it yourself, or set queue_directory to a directory that the user starting the server can write to"
    )]
    System {
        /// What was being done.
        verb: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A directory of the queue cannot be made.
    #[error("queue_directory: {0}")]
    Spool(#[from] SpoolError),
    /// The queue belongs to another user.
    #[error(
        "queue_directory: {path} belongs to user ID {found}, but mail is written as user ID {wanted} ({who}); start as that user, or change the owner of the queue (chown -R {wanted} {path}), or use another queue_directory"
    )]
    Owner {
        /// The path.
        path: PathBuf,
        /// Its owner.
        found: u32,
        /// Who must own it.
        wanted: u32,
        /// Why that one.
        who: String,
    },
}

/// Who writes mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// The user ID.
    pub user_id: u32,
    /// The group of what commands for submission may enter: setgid_group, or the user's own.
    pub group_id: u32,
    /// How errors call it: `mail_owner postfix`, `who started the server`.
    pub description: String,
    /// Whether we are root and can give directories away.
    pub is_other: bool,
}

/// In process_id_directory: the file that Postfix's master(8) locks as long as it runs, with flock(2) (observed on
/// Postfix 3.7).
pub const POSTFIX_LOCK: &str = "master.pid";

/// Whether a Postfix runs with this process_id_directory. A lock that only keeps it from starting does not count.
#[must_use]
pub fn postfix_runs(process_id_directory: &Path) -> bool {
    use rustix::fs::{FlockOperation, flock};
    let opened = std::fs::File::open(process_id_directory.join(POSTFIX_LOCK));
    opened.is_ok_and(|file| {
        flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
    })
}

/// The user ID that owns the `incoming` queue, if there is one.
pub fn owner(queue: &Path) -> Option<u32> {
    std::fs::metadata(queue.join("incoming")).ok().map(|found| found.uid())
}

/// The directory above, if the queue is not on a file system of its own: a program that syncs that file system syncs the data of
/// others, too. A queue that is not there yet will be on that of the directory above.
pub fn shares_file_system_with(queue: &Path) -> Option<PathBuf> {
    let above = queue.canonicalize().unwrap_or_else(|_| queue.to_owned()).parent()?.to_owned();
    let device = |path: &Path| std::fs::metadata(path).ok().map(|found| found.dev());
    let theirs = device(&above)?;
    (device(queue).unwrap_or(theirs) == theirs).then_some(above)
}

/// Whether mail can be written here by `writer`. A queue that does not exist is fine: [`prepare`] makes it.
///
/// # Errors
/// The queue belongs to another user than `writer`.
pub fn check(queue: &Path, writer: &Writer) -> Result<(), QueueDirectoryError> {
    let path = queue.join("incoming");
    match owner(queue) {
        Some(found) if found != writer.user_id => Err(QueueDirectoryError::Owner {
            path,
            found,
            wanted: writer.user_id,
            who: writer.description.clone(),
        }),
        _ => Ok(()),
    }
}

/// Makes what is missing, with Postfix's owners and modes, then checks it. What exists is left as it is.
///
/// `process_id_directory`: the parameter; relative to `queue`.
///
/// # Errors
/// A directory cannot be created, opened or given its owner; or what [`check`] says.
pub fn prepare(queue: &Path, process_id_directory: &str, writer: &Writer) -> Result<(), QueueDirectoryError> {
    let failed = |verb| move |source| QueueDirectoryError::System { verb, path: queue.to_owned(), source };
    make(queue).map_err(failed("create"))?;
    let disk = UnixDisk::open(queue).map_err(failed("open"))?;
    let owners = writer
        .is_other
        .then_some(Owners { mail_owner_uid: writer.user_id, setgid_group_gid: writer.group_id });
    create_missing(&disk, owners)?;
    let pid_directory = queue.join(process_id_directory);
    make(&pid_directory).map_err(|source| QueueDirectoryError::System {
        verb: "create",
        path: pid_directory,
        source,
    })?;
    check(queue, writer)
}

/// A directory that all may enter and the maker may write to.
fn make(path: &Path) -> std::io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o755).create(path) {
        Ok(()) => std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use nix::unistd::{Gid, Uid};

    use super::*;

    fn us() -> Writer {
        Writer {
            user_id: Uid::effective().as_raw(),
            group_id: Gid::effective().as_raw(),
            description: "who started the server".to_owned(),
            is_other: false,
        }
    }

    #[test]
    fn a_queue_is_made_once_and_left_alone_afterwards() {
        let parent = tempfile::tempdir().unwrap();
        let queue = parent.path().join("spool");
        assert!(check(&queue, &us()).is_ok(), "nothing there is nothing wrong");
        prepare(&queue, "pid", &us()).unwrap();
        let mode = |name: &str| std::fs::metadata(queue.join(name)).unwrap().mode() & 0o7777;
        assert_eq!((mode("."), mode("pid"), mode("incoming"), mode("active")), (0o755, 0o755, 0o700, 0o700));
        std::fs::set_permissions(queue.join("pid"), std::os::unix::fs::PermissionsExt::from_mode(0o711))
            .unwrap();
        prepare(&queue, "pid", &us()).unwrap();
        assert_eq!(mode("pid"), 0o711, "what exists is not changed");
    }

    #[test]
    fn a_queue_of_somebody_else_is_refused_by_name() {
        let parent = tempfile::tempdir().unwrap();
        let queue = parent.path().join("spool");
        prepare(&queue, "pid", &us()).unwrap();
        let stranger = Writer { user_id: 4_242_424, ..us() };
        let refusal = check(&queue, &stranger).unwrap_err().to_string();
        assert!(refusal.contains("mail is written as user ID 4242424 (who started the server)"), "{refusal}");
    }

    #[test]
    fn a_queue_below_a_directory_shares_its_file_system() {
        let parent = tempfile::tempdir().unwrap();
        let above = parent.path().canonicalize().unwrap();
        let queue = above.join("spool");
        assert_eq!(shares_file_system_with(&queue), Some(above.clone()), "it is not there yet");
        std::fs::create_dir(&queue).unwrap();
        assert_eq!(shares_file_system_with(&queue), Some(above));
        assert_eq!(shares_file_system_with(Path::new("/")), None);
        assert_eq!(shares_file_system_with(Path::new("/proc")), None, "a file system of its own");
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let queue = parent.path().join("spool");
        std::fs::write(&queue, "").unwrap();
        let refusal = prepare(&queue, "pid", &us()).unwrap_err().to_string();
        assert!(refusal.contains(&queue.display().to_string()), "{refusal}");
    }
}
