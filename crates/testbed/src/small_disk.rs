//! A file system that is soon full.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::postfix::scratch;
use crate::queue::Queue;

/// A queue on a file system in memory; unmounted when dropped. Needs root, and a mount namespace of our own.
#[derive(Debug)]
pub struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    /// `options` as for mount(8): `size=1m`, `nr_inodes=40`.
    pub fn mount(options: &str) -> Self {
        let dir = scratch("disk");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("mode=0755,{options}"), "tmpfs"])
            .arg(dir.path())
            .status()
            .unwrap();
        assert!(status.success(), "mount: {status}");
        Self { dir }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Makes the queue directory on it.
    pub fn queue(&self) -> Queue {
        Queue::make(&self.dir.path().join("queue"))
    }

    /// Fills it to the last byte, so that not even a small message fits; returns the file to remove.
    pub fn fill(&self) -> std::path::PathBuf {
        let filler = self.dir.path().join("filler");
        let full = std::fs::write(&filler, vec![0; 2 << 20]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}
