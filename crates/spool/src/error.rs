//! Errors of a spool, in words for the operator and in kinds for the caller.

use std::io;
use std::sync::Arc;

/// What was being done to a file when it failed; its `Display` is the verb phrase before the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is its own name")]
pub enum Step {
    Create,
    Open,
    Read,
    Examine,
    Lock,
    Rename,
    Link,
    Write,
    SetMode,
    SetTime,
    Sync,
    Truncate,
    Close,
    Remove,
    List,
    CreateDirectory,
    SetOwner,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::Read => "read",
            Self::Examine => "examine",
            Self::Lock => "lock",
            Self::Rename => "rename",
            Self::Link => "name",
            Self::Write => "write to",
            Self::SetMode => "set the permissions of",
            Self::SetTime => "set the time stamp of",
            Self::Sync => "bring to disk",
            Self::Truncate => "cut off",
            Self::Close => "close",
            Self::Remove => "remove",
            Self::List => "list the directory",
            Self::CreateDirectory => "create the directory",
            Self::SetOwner => "set the owner of",
        })
    }
}

/// A spool could not do what it was asked for. Nothing half-written is left behind; what could not even be removed is
/// reported as a [notice](postfix::notice::Notice) and has no owner-execute permission, so that no program delivers it.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A call to the operating system failed.
    #[error("cannot {step} {path}: {source}{}", remedy(.source))]
    Disk {
        /// What was being done.
        step: Step,
        /// To which file, relative to the queue directory or absolute.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// An earlier sync failed, and what the disk holds since then is unknown.
    #[error(
        "the queue accepts no mail because of an earlier error: {reason}: check the disk, then \
     restart"
    )]
    Poisoned {
        /// The first failure, in words.
        reason: Arc<str>,
    },
    /// An earlier write to the same draft failed, so that it must not be committed.
    #[error("cannot commit {path}: an earlier write to it failed")]
    Incomplete {
        /// The draft.
        path: String,
    },
    /// Another program removed the file while it was being written.
    #[error(
        "cannot commit {path}: another program removed it; allow only the mail system to change the \
     queue"
    )]
    Vanished {
        /// The draft.
        path: String,
    },
    /// An operator removed the journal of a process that lives. Nothing was lost: the queue files were synced when it was noticed.
    #[error("{path} was removed while it was in use; remove nothing below journal/ while the server runs")]
    JournalRemoved {
        /// The journal.
        path: String,
    },
    /// Another file has the name that a complete message is to get, which has to do with its inode number.
    #[error(
        "cannot commit {path}: another file has this name, as after a backup was restored; run \
         postsuper(1), which renames such files"
    )]
    NameTaken {
        /// The draft.
        path: String,
    },
    /// No free name was found for a new file.
    #[error(
        "cannot create a file in {directory}: {attempts} names in a row are in use; check that the \
         clock runs, and remove the files that fill the directory"
    )]
    NoFreeName {
        /// The directory.
        directory: &'static str,
        /// How many names were tried.
        attempts: u32,
    },
    /// The queue directory or one of its parts is not as it must be.
    #[error("{path}: {problem}; {remedy}")]
    Layout {
        /// The directory, with the path of the queue directory.
        path: String,
        /// What is wrong with it.
        problem: String,
        /// What the operator can do.
        remedy: String,
    },
}

/// What kind of failure it is, for the reply and for deciding whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The file system or the quota is full.
    NoSpace,
    /// The file is larger than the process or the file system may make one.
    TooLarge,
    /// Too many open files in the process or the machine.
    TooManyFiles,
    /// The file system is mounted read-only, or was made so after an error.
    ReadOnly,
    /// Permissions or owners are wrong.
    Denied,
    /// The queue directory is not as it must be.
    Layout,
    /// A sync failed earlier; nothing is accepted before a restart.
    Poisoned,
    /// Anything else that a disk says.
    Io,
}

impl SpoolError {
    /// The kind of this failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Disk { source, .. } => kind_of(source),
            Self::Poisoned { .. } => ErrorKind::Poisoned,
            Self::Incomplete { .. } | Self::Vanished { .. } | Self::JournalRemoved { .. } => ErrorKind::Io,
            Self::NameTaken { .. } | Self::NoFreeName { .. } | Self::Layout { .. } => ErrorKind::Layout,
        }
    }
}

/// Turns what the operating system said into a [`SpoolError`].
pub(crate) fn disk(step: Step, path: &str) -> impl FnOnce(io::Error) -> SpoolError {
    move |source| SpoolError::Disk { step, path: path.to_owned(), source }
}

/// The kind of an operating system's error.
pub(crate) fn kind_of(error: &io::Error) -> ErrorKind {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC | Errno::DQUOT) => ErrorKind::NoSpace,
        Some(Errno::FBIG) => ErrorKind::TooLarge,
        Some(Errno::MFILE | Errno::NFILE) => ErrorKind::TooManyFiles,
        Some(Errno::ROFS) => ErrorKind::ReadOnly,
        Some(Errno::ACCESS | Errno::PERM) => ErrorKind::Denied,
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => ErrorKind::Layout,
        _ => ErrorKind::Io,
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match kind_of(error) {
        ErrorKind::NoSpace => "; make room on the file system of the queue, or raise the quota",
        ErrorKind::TooLarge => "; raise the limit of file size (ulimit -f) or lower message_size_limit",
        ErrorKind::TooManyFiles => {
            "; raise the limit of open files (ulimit -n) or lower the number of connections"
        }
        ErrorKind::ReadOnly => {
            "; mount the file system of the queue for writing, and check the disk \
         for errors"
        }
        ErrorKind::Denied => "; the queue must belong to the user that the server runs as",
        ErrorKind::Layout => "; create the queue directories first",
        ErrorKind::Poisoned | ErrorKind::Io => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    /// What the log tells an operator to do, by what the system said.
    #[test]
    fn each_kind_of_failure_has_its_remedy() {
        let table = [
            (Errno::NOSPC, ErrorKind::NoSpace, "make room"),
            (Errno::DQUOT, ErrorKind::NoSpace, "raise the quota"),
            (Errno::FBIG, ErrorKind::TooLarge, "ulimit -f"),
            (Errno::MFILE, ErrorKind::TooManyFiles, "ulimit -n"),
            (Errno::NFILE, ErrorKind::TooManyFiles, "ulimit -n"),
            (Errno::ROFS, ErrorKind::ReadOnly, "check the disk for errors"),
            (Errno::ACCESS, ErrorKind::Denied, "belong to the user"),
            (Errno::PERM, ErrorKind::Denied, "belong to the user"),
            (Errno::NOENT, ErrorKind::Layout, "create the queue directories"),
            (Errno::NOTDIR, ErrorKind::Layout, "create the queue directories"),
            (Errno::LOOP, ErrorKind::Layout, "create the queue directories"),
        ];
        for (errno, kind, remedy) in table {
            let error = disk(Step::Write, "incoming/X")(errno.into());
            assert_eq!(error.kind(), kind, "{errno:?}");
            let words = error.to_string();
            assert!(words.starts_with("cannot write to incoming/X: ") && words.contains(remedy), "{words}");
        }
        let error = disk(Step::Sync, "incoming/X")(Errno::IO.into());
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(
            error.to_string().starts_with("cannot bring to disk incoming/X: ")
                && !error.to_string().contains(';')
        );
    }
}
