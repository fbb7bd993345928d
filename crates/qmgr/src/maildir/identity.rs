//! A thread that is another user for the time of a delivery: files it makes are that user's, and it opens what that user may.
//!
//! On Linux, user and groups belong to the thread. The process stays root, as Postfix's virtual(8) does, since each
//! recipient can have another user.

use std::io;

use rustix::process::{Gid, Uid, getegid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// A user and a group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The user ID.
    pub user_id: u32,
    /// The group ID. The thread has no other group.
    pub group_id: u32,
}

/// Why a thread cannot be that user.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The process is not root.
    #[error(
        "this process is user {own} and cannot become user {wanted}: start the server as root, or name user ID {own}"
    )]
    NotRoot {
        /// Who it is.
        own: u32,
        /// Who it was to be.
        wanted: u32,
    },
    /// Nothing is delivered as root.
    #[error("user ID and group ID 0 are refused: name an unprivileged user")]
    Root,
    /// The system refused.
    #[error("cannot become user {0}: {1}")]
    System(u32, io::Error),
}

/// Runs `work` as `who`. A process that is not root can only be who it is.
///
/// # Errors
/// The thread cannot be that user, or `work` fails.
pub fn as_user<T>(who: Identity, work: impl FnOnce() -> T) -> Result<T, IdentityError> {
    let own = geteuid();
    if !own.is_root() {
        if own.as_raw() != who.user_id {
            return Err(IdentityError::NotRoot { own: own.as_raw(), wanted: who.user_id });
        }
        return Ok(work());
    }
    if who.user_id == 0 || who.group_id == 0 {
        return Err(IdentityError::Root);
    }
    let _root_again = Become::user(who).map_err(|error| IdentityError::System(who.user_id, error))?;
    Ok(work())
}

/// Dropped, it makes the thread root again.
struct Become {
    group: Gid,
}

impl Become {
    fn user(who: Identity) -> io::Result<Self> {
        let root = Self { group: getegid() };
        let (user, group) = (Uid::from_raw(who.user_id), Gid::from_raw(who.group_id));
        set_thread_groups(&[group])?;
        set_thread_res_gid(None, group, None)?;
        set_thread_res_uid(None, user, None)?;
        Ok(root)
    }
}

impl Drop for Become {
    fn drop(&mut self) {
        let again = set_thread_res_uid(None, Uid::ROOT, None)
            .and_then(|()| set_thread_res_gid(None, self.group, None))
            .and_then(|()| set_thread_groups(&[self.group]));
        if again.is_err() {
            // A thread in between would deliver the next message as the wrong user.
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn files_are_those_of_the_user_and_the_process_is_root_again() {
        let directory = tempfile::tempdir().unwrap();
        let own = geteuid().as_raw();
        if own != 0 {
            let error = as_user(Identity { user_id: own + 1, group_id: 1 }, || ()).unwrap_err();
            assert!(error.to_string().contains("start the server as root"), "{error}");
            assert_eq!(as_user(Identity { user_id: own, group_id: 1 }, || 5).unwrap(), 5);
            return;
        }
        std::os::unix::fs::chown(directory.path(), Some(60_001), Some(60_002)).unwrap();
        let file = directory.path().join("file");
        let who = Identity { user_id: 60_001, group_id: 60_002 };
        as_user(who, || std::fs::write(&file, "x")).unwrap().unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (60_001, 60_002));
        let refused = as_user(who, || std::fs::read("/etc/shadow")).unwrap().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert!(geteuid().is_root() && getegid().as_raw() == 0);
        assert!(matches!(as_user(Identity { user_id: 0, group_id: 5 }, || ()), Err(IdentityError::Root)));
    }
}
