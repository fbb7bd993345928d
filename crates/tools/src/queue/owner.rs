//! Becomes the owner of the queue, so that what is made there is his.

use super::QueueError;
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// As root: takes the user and the group of `incoming`. As anyone else it does nothing.
pub(super) fn become_owner(root: &Path) -> Result<(), QueueError> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    // A directory that is missing is told where the queue is opened.
    let Ok(incoming) = std::fs::symlink_metadata(root.join("incoming")) else { return Ok(()) };
    if incoming.uid() == 0 {
        return Ok(());
    }
    let failed = |error: nix::Error| QueueError::Owner { uid: incoming.uid(), error: error.into() };
    setgroups(&[]).map_err(failed)?;
    setgid(Gid::from_raw(incoming.gid())).map_err(failed)?;
    setuid(Uid::from_raw(incoming.uid())).map_err(failed)
}
