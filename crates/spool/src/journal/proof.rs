//! Proof that one message is on disk, when a sync of everything says nothing about it.

use super::likeness::{Likeness, judge, quiet_bytes};
use crate::disk::Disk;
use crate::error::{SpoolError, Step, disk};
use crate::planted::{Planted, is_planted};
use crate::shared::Shared;

/// Judges a file, and when it is this message, marks every block of it as to be written, so that the next sync proves it.
///
/// That the file can be read proves nothing: the system shows what it failed to write as if it were on disk. And that a sync
/// succeeds proves nothing either, when there is nothing left to write for it.
pub(super) fn renew<D: Disk>(
    disk_: &D,
    path: &str,
    file: &D::File,
    payload: &[u8],
) -> Result<Likeness, SpoolError> {
    let mut bytes = vec![0; payload.len().saturating_add(1)];
    let count = disk_.read_at(file, 0, &mut bytes).map_err(disk(Step::Read, path))?;
    let likeness = judge(payload, bytes.get(..count).unwrap_or_default());
    if likeness == Likeness::Same && !is_planted(Planted::SyncAgain) {
        let modified = disk_.file_status(file).map_err(disk(Step::Examine, path))?.modified;
        for (at, byte) in quiet_bytes(payload) {
            disk_.write_at(file, at, &[byte]).map_err(disk(Step::Write, path))?;
        }
        // The queue manager reads there when the next attempt is due.
        disk_.set_modified(file, modified).map_err(disk(Step::SetTime, path))?;
    }
    Ok(likeness)
}

/// Makes a finished queue file durable by itself.
///
/// # Errors
/// It is not certainly on disk. After a failed sync nothing more is accepted, unless it was for want of room.
pub(super) fn prove<D: Disk>(shared: &Shared<D>, path: &str, payload: &[u8]) -> Result<(), SpoolError> {
    shared.refuse_if_poisoned()?;
    let file = shared.disk.open_to_write(path).map_err(disk(Step::Open, path))?;
    if renew(&shared.disk, path, &file, payload)? != Likeness::Same {
        return Err(SpoolError::Vanished { path: path.to_owned() });
    }
    if is_planted(Planted::ProofWithoutSync) {
        return Ok(());
    }
    let synced = shared.disk.sync(&file).map_err(disk(Step::Sync, path));
    synced.inspect_err(|error| shared.poison_unless_full(error))
}
