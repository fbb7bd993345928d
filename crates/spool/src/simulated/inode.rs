//! A file or directory of the simulated disk: what programs see of it, what is on disk, and what a power cut leaves.

use std::collections::BTreeSet;
use std::io;

use rustix::io::Errno;

use crate::disk::{FileKind, Timestamp};

/// What a power cut tears is torn at multiples of this.
pub const BLOCK_BYTES: usize = 512;

/// What becomes of the bytes that were not synced when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bytes {
    /// All reached the disk.
    Kept,
    /// None did; the file is as it was synced, or empty.
    Lost,
    /// A part from the front did, cut at a block: a file system that writes data before it writes the length (ext4's
    /// `data=ordered`).
    Ordered,
    /// Each block did or did not, by the seed; where none did, the file is zero.
    Torn,
}

#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub(super) kind: FileKind,
    pub(super) device: u64,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) visible: Image,
    pub(super) durable: Image,
    dirty_blocks: BTreeSet<usize>,
    /// A sync failed: what was dirty then is taken for written by the system, and never will be.
    lost_blocks: BTreeSet<usize>,
}

#[derive(Debug, Clone)]
pub(super) struct Image {
    pub(super) bytes: Vec<u8>,
    pub(super) mode: u32,
    pub(super) modified: Timestamp,
}

impl Inode {
    /// A new one, of which nothing is on disk but that it is there.
    pub(super) fn new(kind: FileKind, mode: u32, user: u32, now: Timestamp) -> Self {
        let image = Image { bytes: Vec::new(), mode, modified: now };
        Self {
            kind,
            device: 1,
            uid: user,
            gid: user,
            visible: image.clone(),
            durable: image,
            dirty_blocks: BTreeSet::new(),
            lost_blocks: BTreeSet::new(),
        }
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8], now: Timestamp) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(|_| Errno::FBIG)?;
        let end = offset.checked_add(bytes.len()).ok_or(Errno::FBIG)?;
        if end > self.visible.bytes.len() {
            self.visible.bytes.resize(end, 0);
        }
        if let Some(target) = self.visible.bytes.get_mut(offset..end) {
            target.copy_from_slice(bytes);
        }
        self.visible.modified = now;
        let blocks = offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES);
        self.lost_blocks.retain(|block| !blocks.contains(block));
        self.dirty_blocks.extend(blocks);
        Ok(())
    }

    pub(super) fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        let bytes = usize::try_from(bytes).map_err(|_| Errno::FBIG)?;
        self.visible.bytes.resize(bytes, 0);
        let blocks = bytes.div_ceil(BLOCK_BYTES);
        self.dirty_blocks.retain(|block| *block < blocks);
        self.lost_blocks.retain(|block| *block < blocks);
        Ok(())
    }

    pub(super) fn sync(&mut self) {
        let mut bytes = self.visible.bytes.clone();
        for block in &self.lost_blocks {
            copy_block(&self.durable.bytes, &mut bytes, *block);
        }
        self.durable = Image { bytes, ..self.visible.clone() };
        self.dirty_blocks.clear();
    }

    /// A sync failed: what was dirty counts as written from here on, and is not.
    /// Returns whether there was anything.
    pub(super) fn lose_dirty(&mut self) -> bool {
        let dirty = std::mem::take(&mut self.dirty_blocks);
        let was_dirty = !dirty.is_empty();
        self.lost_blocks.extend(dirty);
        was_dirty
    }

    /// `in_order` says that no earlier change to its names was lost, so that those of its permissions can be there.
    pub(super) fn lose_power(&mut self, bytes: Bytes, in_order: bool, chance: &mut fastrand::Rng) {
        let synced = std::mem::take(&mut self.durable.bytes);
        let written = std::mem::take(&mut self.visible.bytes);
        let survived = match bytes {
            Bytes::Kept => written,
            Bytes::Lost => synced,
            Bytes::Ordered if self.dirty_blocks.is_empty() => synced,
            Bytes::Ordered => {
                let blocks = written.len().div_ceil(BLOCK_BYTES);
                let kept = chance.usize(..=blocks) * BLOCK_BYTES;
                let mut survived = written;
                survived.truncate(kept.max(synced.len()));
                survived
            }
            Bytes::Torn => {
                let mut survived = synced.clone();
                if chance.bool() {
                    survived.resize(written.len(), 0);
                }
                for block in &self.dirty_blocks {
                    if chance.bool() {
                        copy_block(&written, &mut survived, *block);
                    }
                }
                survived
            }
        };
        // Permissions and times travel apart from the bytes.
        if in_order && (bytes == Bytes::Kept || chance.bool()) {
            self.durable.mode = self.visible.mode;
            self.durable.modified = self.visible.modified;
        }
        self.durable.bytes = survived;
        self.visible = self.durable.clone();
        self.dirty_blocks.clear();
        self.lost_blocks.clear();
    }
}

/// Copies what both have of a block; zero where the source ends.
fn copy_block(from: &[u8], to: &mut [u8], block: usize) {
    let start = block * BLOCK_BYTES;
    let end = to.len().min(start + BLOCK_BYTES);
    for (at, byte) in to.iter_mut().enumerate().take(end).skip(start) {
        *byte = from.get(at).copied().unwrap_or(0);
    }
}
