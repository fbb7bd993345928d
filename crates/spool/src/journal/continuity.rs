//! Decides whether a journal was written on the current mount.
//!
//! A queue file that was written and not synced is in the kernel's memory as long as its file system stays mounted,
//! however the process ended. When that is proven, a queue file that is missing was taken away by its reader, and
//! not by a crash. An equal boot ID proves nothing: a file system can be unmounted, repaired and mounted anew while
//! the machine runs, or the volume below it replaced. Two things prove it, beside the boot ID:
//!
//! - **A witness.** A process that outlives the one with the journal, such as the master, makes a file of a random
//!   name in the directory of journals, locks it, and never locks one again. A lock lives in the kernel's memory
//!   beside the file system that it belongs to, and goes with it. Who finds the file locked looks at the file
//!   system that the witness opened: bind mounts and mount namespaces make no difference.
//! - **The mount.** Linux 6.8 gives each mount an ID that is not used again, and a mount keeps its file system. In
//!   a mount namespace of its own a process has mounts of its own, so that this proves less often.
//!
//! Without proof a missing file counts as lost.

use std::io;

use super::identity::{BootId, Mount, WitnessId};
use super::names::{self, Name};
use crate::disk::Disk;
use crate::planted::{Planted, is_planted};

impl Mount {
    /// The mount that this process sees, with a witness if there is one.
    pub(crate) fn here<D: Disk>(disk: &D, boot_id: BootId) -> Self {
        Self { boot_id, id: disk.mount_id(), witness: find_witness(disk).unwrap_or(WitnessId::NONE) }
    }

    /// Whether the file system that this was written on has stayed mounted until now, on the way that `now` shows.
    /// `is_witness_held`: a process holds the lock of the witness that is named here.
    #[must_use]
    pub fn lasts(&self, now: &Self, is_witness_held: bool) -> bool {
        if is_planted(Planted::TrustBootId) || is_planted(Planted::TrustNothing) {
            return is_planted(Planted::TrustBootId) && self.boot_id.is_same(now.boot_id);
        }
        self.boot_id.is_same(now.boot_id) && (is_witness_held || (self.id != 0 && self.id == now.id))
    }
}

/// Holds the file system of a queue mounted, and proves it to others. Dropping it ends the proof.
#[derive(Debug)]
pub struct Witness<D: Disk> {
    disk: D,
    id: WitnessId,
    /// Its lock is what others look at.
    _file: D::File,
}

impl<D: Disk> Witness<D> {
    /// Makes a witness of this random name, and removes those of processes that are gone.
    ///
    /// # Errors
    /// The file cannot be made or locked. Then there is no proof, and after a crash of a process what it had in its journal
    /// counts as lost when it is missing.
    pub fn create(disk: D, id: WitnessId) -> io::Result<Self> {
        for name in disk.names(names::DIRECTORY)? {
            if let Name::Witness(other) = Name::parse(&name)
                && !is_held(&disk, other)
            {
                // A leftover proves nothing. It costs nothing either, if it cannot be removed.
                let _ = disk.unlink(&names::path_of(&name));
            }
        }
        let path = names::witness(id);
        // The process that looks may run as another user.
        let file = disk.create_new(&path, 0o644)?;
        let is_ours = disk.set_mode(&file, 0o644).and_then(|()| disk.try_lock(&file));
        if !is_ours.as_ref().is_ok_and(|is_ours| *is_ours) {
            let _ = disk.unlink(&path);
        }
        if is_ours? { Ok(Self { disk, id, _file: file }) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> WitnessId {
        self.id
    }
}

impl<D: Disk> Drop for Witness<D> {
    fn drop(&mut self) {
        // What is left is removed by the next one.
        let _ = self.disk.unlink(&names::witness(self.id));
    }
}

/// A witness that lives, if there is one.
fn find_witness<D: Disk>(disk: &D) -> Option<WitnessId> {
    let names = disk.names(names::DIRECTORY).ok()?;
    names.iter().find_map(|name| match Name::parse(name) {
        Name::Witness(id) if is_held(disk, id) => Some(id),
        _ => None,
    })
}

/// Whether the process that made this witness still holds it, on the file system that is here now. What cannot be looked at
/// proves nothing.
pub(crate) fn is_held<D: Disk>(disk: &D, id: WitnessId) -> bool {
    id != WitnessId::NONE
        && disk.open(&names::witness(id)).and_then(|file| disk.is_locked(&file)).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::Simulated;

    fn boot_id(number: u8) -> BootId {
        BootId::parse(&format!("00000000-0000-0000-0000-0000000000{number:02}"))
    }

    fn mount(boot: u8, id: u64) -> Mount {
        Mount { boot_id: boot_id(boot), id, witness: WitnessId([1; 16]) }
    }

    #[test]
    fn only_a_witness_or_the_mount_itself_proves_that_it_lasts() {
        assert!(mount(1, 7).lasts(&mount(1, 7), false), "the same mount");
        assert!(mount(1, 7).lasts(&mount(1, 8), true), "another mount of the same file system");
        assert!(mount(1, 0).lasts(&mount(1, 0), true), "a kernel without IDs");
        assert!(!mount(1, 7).lasts(&mount(1, 8), false), "mounted anew");
        assert!(!mount(1, 0).lasts(&mount(1, 0), false), "an equal boot ID is not a proof");
        assert!(
            !mount(1, 7).lasts(&mount(2, 7), true),
            "another running of the kernel counts its mounts anew"
        );
        let unknown = Mount { boot_id: BootId::UNKNOWN, ..mount(1, 7) };
        assert!(!unknown.lasts(&unknown, true));
    }

    #[test]
    fn a_witness_is_found_as_long_as_it_is_held() {
        let disk = Simulated::new();
        disk.create_directory("journal", 0o700).unwrap();
        assert_eq!(Mount::here(&disk, boot_id(1)).witness, WitnessId::NONE);
        disk.put("journal/ffffffffffffffffffffffffffffffff.witness", 0o644, b"");
        let witness = Witness::create(disk.clone(), WitnessId([5; 16])).unwrap();
        assert_eq!(disk.files(), [names::witness(WitnessId([5; 16]))], "leftovers go");
        assert_eq!(Mount::here(&disk, boot_id(1)).witness, witness.id());
        // One that was left later, and comes first.
        let left = format!("journal/{}1.witness", "0".repeat(31));
        disk.put(&left, 0o644, b"");
        assert_eq!(Mount::here(&disk, boot_id(1)).witness, witness.id());
        assert!(disk.remove_by_another(&left));
        assert!(!is_held(&disk, WitnessId([6; 16])));
        assert!(!is_held(&disk.after_kill(), witness.id()), "the process is gone");
        drop(witness);
        assert_eq!(disk.files(), Vec::<String>::new());
        assert!(!is_held(&disk, WitnessId([5; 16])));
    }

    #[test]
    fn without_locks_there_is_no_witness() {
        let disk = Simulated::new();
        disk.create_directory("journal", 0o700).unwrap();
        disk.remove_locks();
        assert!(Witness::create(disk.clone(), WitnessId([5; 16])).is_err());
        assert_eq!(disk.files(), Vec::<String>::new());
    }

    #[test]
    fn names_of_witnesses() {
        let id = WitnessId([0xab; 16]);
        assert_eq!(WitnessId::parse(&id.to_string()), Some(id));
        assert_eq!(WitnessId::parse(&"0".repeat(32)), None);
    }
}
