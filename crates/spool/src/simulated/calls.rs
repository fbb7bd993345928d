//! The calls of a [`Disk`] on the simulated one.

use std::io;

use rustix::io::Errno;

use super::{Fault, Lie, NameChange, Simulated, SimulatedFile};
use crate::disk::{Disk, FileKind, Status, Timestamp};

/// How many others may run while everything is synced.
#[cfg(shuttle)]
const SYNC_ALL_YIELDS: usize = 64;

impl Disk for Simulated {
    type File = SimulatedFile;

    fn create_new(&self, path: &str, mode: u32) -> io::Result<SimulatedFile> {
        let mut world = self.change()?;
        world.check_parent(path)?;
        if world.names.contains_key(path) {
            return Err(Errno::EXIST.into());
        }
        let inode = world.add(path, FileKind::Regular, mode);
        Ok(self.open_handle(&mut world, inode))
    }

    fn create_nameless(&self, directory: &str, mode: u32) -> io::Result<SimulatedFile> {
        let mut world = self.change()?;
        if !world.has_nameless_files {
            return Err(io::ErrorKind::Unsupported.into());
        }
        world.lookup(directory)?;
        let mode = mode & !world.umask;
        let inode = world.add_nameless(FileKind::Regular, mode);
        Ok(self.open_handle(&mut world, inode))
    }

    fn link_new(&self, file: &SimulatedFile, path: &str) -> io::Result<()> {
        let mut world = self.change()?;
        world.check_parent(path)?;
        if world.names.contains_key(path) {
            return Err(Errno::EXIST.into());
        }
        world.change(NameChange { inode: file.inode, removed: None, added: Some(path.to_owned()) });
        Ok(())
    }

    fn open(&self, path: &str) -> io::Result<SimulatedFile> {
        let mut world = self.call()?;
        let inode = world.lookup(path)?;
        Ok(self.open_handle(&mut world, inode))
    }

    fn open_to_write(&self, path: &str) -> io::Result<SimulatedFile> {
        let mut world = self.change()?;
        let inode = world.lookup(path)?;
        Ok(self.open_handle(&mut world, inode))
    }

    fn try_lock(&self, file: &SimulatedFile) -> io::Result<bool> {
        let mut world = self.call()?;
        if !world.has_locks {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if world.held.contains(&file.inode) {
            return Ok(false);
        }
        Ok(*world.locks.entry(file.inode).or_insert(file.handle) == file.handle)
    }

    fn is_locked(&self, file: &SimulatedFile) -> io::Result<bool> {
        let world = self.call()?;
        if !world.has_locks {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let is_held = world.held.contains(&file.inode);
        Ok(is_held || world.locks.get(&file.inode).is_some_and(|handle| *handle != file.handle))
    }

    fn try_lock_for_delivery(&self, file: &SimulatedFile) -> io::Result<bool> {
        let mut world = self.call()?;
        Ok(*world.delivery_locks.entry(file.inode).or_insert(file.handle) == file.handle)
    }

    fn write_at(&self, file: &SimulatedFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut world = self.enter();
        let mut fault = world.begin_call();
        if world.is_read_only {
            fault = Some(Fault { calls: 0..=0, errno: Errno::ROFS.raw_os_error(), is_partial: false });
        }
        let now = world.clock;
        let inode = world.inode(file.inode)?;
        match fault {
            None => inode.write(offset, bytes, now),
            Some(fault) => {
                if fault.is_partial {
                    inode.write(offset, bytes.get(..bytes.len() / 2).unwrap_or_default(), now)?;
                }
                Err(io::Error::from_raw_os_error(fault.errno))
            }
        }
    }

    fn truncate(&self, file: &SimulatedFile, bytes: u64) -> io::Result<()> {
        let mut world = self.change()?;
        world.inode(file.inode)?.truncate(bytes)
    }

    fn read_at(&self, file: &SimulatedFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut world = self.call()?;
        let bytes = &world.inode(file.inode)?.visible.bytes;
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(count)
    }

    fn set_mode(&self, file: &SimulatedFile, mode: u32) -> io::Result<()> {
        self.change()?.inode(file.inode)?.visible.mode = mode;
        Ok(())
    }

    fn set_modified(&self, file: &SimulatedFile, modified: Timestamp) -> io::Result<()> {
        self.change()?.inode(file.inode)?.visible.modified = modified;
        Ok(())
    }

    fn sync(&self, file: &SimulatedFile) -> io::Result<()> {
        let mut world = self.enter();
        world.begin_sync(file)?;
        let is_lie = |path: &String| {
            world.lies.iter().any(|lie| matches!(lie, Lie::File(directory) if path.starts_with(directory)))
        };
        let mut paths = world.names.iter().filter(|(_, inode)| **inode == file.inode).map(|(path, _)| path);
        if !paths.any(is_lie) {
            world.inode(file.inode)?.sync();
            world.sync_names(file.inode);
        }
        Ok(())
    }

    fn sync_data(&self, file: &SimulatedFile) -> io::Result<()> {
        let mut world = self.enter();
        world.begin_sync(file)?;
        if !world.lies.contains(&Lie::Data) {
            let inode = world.inode(file.inode)?;
            let (mode, modified) = (inode.durable.mode, inode.durable.modified);
            inode.sync();
            inode.durable.mode = mode;
            inode.durable.modified = modified;
        }
        Ok(())
    }

    fn prepare_sync_all(&self) -> io::Result<()> {
        let world = self.lock();
        match world.prepare_errno {
            0 if world.has_sync_all => Ok(()),
            0 => Err(io::ErrorKind::Unsupported.into()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn sync_all(&self) -> io::Result<()> {
        let mut world = self.enter();
        if world.is_read_only {
            return Err(Errno::ROFS.into());
        }
        if let Some(fault) = world.begin_call() {
            if world.power_cut_at.is_none() && !world.is_cut_off() {
                world.lose_dirty(|_| true);
            }
            return Err(io::Error::from_raw_os_error(fault.errno));
        }
        if !world.lies.contains(&Lie::All) {
            world.sync_all();
        }
        drop(world);
        // It takes long, and others go on meanwhile: what they write then is not on disk when this returns.
        #[cfg(shuttle)]
        for _ in 0..SYNC_ALL_YIELDS {
            crate::sync::thread::yield_now();
        }
        Ok(())
    }

    fn close(&self, file: SimulatedFile) -> io::Result<()> {
        let outcome = self.call().map(|_world| ());
        drop(file);
        outcome
    }

    fn file_status(&self, file: &SimulatedFile) -> io::Result<Status> {
        self.call()?.status(file.inode)
    }

    fn status(&self, path: &str) -> io::Result<Status> {
        let world = self.call()?;
        let inode = world.lookup(path)?;
        world.status(inode)
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.change()?;
        let inode = world.lookup(from)?;
        world.check_parent(to)?;
        if world.names.contains_key(to) {
            return Err(Errno::EXIST.into());
        }
        world.change(NameChange { inode, removed: Some(from.to_owned()), added: Some(to.to_owned()) });
        Ok(())
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        let mut world = self.change()?;
        let inode = world.lookup(path)?;
        world.change(NameChange { inode, removed: Some(path.to_owned()), added: None });
        Ok(())
    }

    fn create_directory(&self, path: &str, mode: u32) -> io::Result<()> {
        let mut world = self.change()?;
        world.check_parent(path)?;
        if world.names.contains_key(path) {
            return Err(Errno::EXIST.into());
        }
        world.add(path, FileKind::Directory, mode);
        Ok(())
    }

    fn set_directory_mode(&self, path: &str, mode: u32) -> io::Result<()> {
        let mut world = self.change()?;
        let inode = world.lookup(path)?;
        world.inode(inode)?.visible.mode = mode;
        Ok(())
    }

    fn set_directory_owner(&self, path: &str, uid: u32, gid: Option<u32>) -> io::Result<()> {
        let mut world = self.change()?;
        let number = world.lookup(path)?;
        let inode = world.inode(number)?;
        inode.uid = uid;
        inode.gid = gid.unwrap_or(inode.gid);
        Ok(())
    }

    fn names(&self, directory: &str) -> io::Result<Vec<String>> {
        let world = self.call()?;
        world.lookup(directory)?;
        let prefix = format!("{directory}/");
        let below = world.names.keys().filter_map(|path| path.strip_prefix(&prefix));
        Ok(below.filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }

    fn is_empty(&self, directory: &str) -> io::Result<bool> {
        let world = self.call()?;
        world.lookup(directory)?;
        let prefix = format!("{directory}/");
        Ok(!world.names.keys().any(|path| path.starts_with(&prefix)))
    }

    fn mount_id(&self) -> u64 {
        self.lock().mount_id
    }

    fn user(&self) -> u32 {
        self.lock().user
    }

    fn describe(&self) -> String {
        "simulated".to_owned()
    }
}
