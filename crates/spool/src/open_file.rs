//! An open file of the spool: creation, naming and removal.

use std::io;
use std::sync::Arc;

use postfix::queue_id::QueueId;

use crate::disk::{Disk, Status, Timestamp};
use crate::error::{SpoolError, Step, disk};
use crate::modes::{DRAFT_MARK, READY_MODE};
use crate::planted::{Planted, is_planted};
use crate::queue::Queue;
use crate::shared::Shared;

/// How many names for one new file are tried before giving up. Two files of one process collide only within the same
/// microsecond.
const NAME_ATTEMPTS_MAX: u32 = 1000;

/// An open file of ours that is removed unless [`OpenFile::close`] succeeds.
pub(crate) struct OpenFile<D: Disk> {
    pub(crate) shared: Arc<Shared<D>>,
    /// Its name, or the one that it will get.
    pub(crate) path: String,
    is_named: bool,
    /// `None` once it is closed and must stay.
    file: Option<D::File>,
}

impl<D: Disk> OpenFile<D> {
    pub(crate) fn new(shared: Arc<Shared<D>>, path: String, file: D::File) -> Self {
        Self { shared, path, is_named: true, file: Some(file) }
    }

    /// A file that is to get this name.
    pub(crate) fn nameless(shared: Arc<Shared<D>>, path: String, file: D::File) -> Self {
        Self { shared, path, is_named: false, file: Some(file) }
    }

    pub(crate) const fn is_named(&self) -> bool {
        self.is_named
    }

    /// What it will be called.
    pub(crate) fn intend(&mut self, path: String) {
        self.path = path;
    }

    /// Gives a file without a name the one that it is to have.
    pub(crate) fn link(&mut self) -> Result<(), SpoolError> {
        let path = self.path.clone();
        match self.with(Step::Link, |disk, file| disk.link_new(file, &path)) {
            Err(SpoolError::Disk { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                Err(SpoolError::NameTaken { path })
            }
            linked => {
                self.is_named = linked.is_ok();
                linked
            }
        }
    }

    /// Makes a file without a name, that has everything else of a finished queue file: it gets its name last, and nothing
    /// of it is left when the process is killed before.
    pub(crate) fn create_nameless(
        shared: &Arc<Shared<D>>,
        clock: &dyn Fn() -> Timestamp,
    ) -> Result<(Self, Status, QueueId, Timestamp), SpoolError> {
        let directory = Queue::Incoming.name();
        let file = shared.disk.create_nameless(directory, READY_MODE);
        let file = file.map_err(disk(Step::Create, &format!("a file in {directory}")))?;
        let mut file = Self::nameless(Arc::clone(shared), directory.to_owned(), file);
        let status = file.status()?;
        if status.mode != READY_MODE {
            // An access control list of the directory, or a umask, has its own idea; the queue manager passes over such a file.
            file.with(Step::SetMode, |disk, file| disk.set_mode(file, READY_MODE))?;
        }
        let now = clock();
        // Only a file whose name lies about its inode number can be there already, from a restored backup: then this message
        // is refused for now, and the next try gets another ID.
        let queue_id = QueueId::new(shared.long_queue_ids, now.seconds, now.microseconds, status.inode);
        file.intend(shared.path_in(Queue::Incoming, &queue_id));
        Ok((file, status, queue_id, now))
    }

    /// Makes `incoming/MICROSECONDS.PROCESS`, marked and locked.
    pub(crate) fn create_temporary(
        shared: &Arc<Shared<D>>,
        clock: &dyn Fn() -> Timestamp,
    ) -> Result<Self, SpoolError> {
        for attempt in 0..NAME_ATTEMPTS_MAX {
            // A clock that stands still must not keep us here.
            let microseconds = clock().plus_microseconds(attempt).microseconds;
            let path = format!("{}/{microseconds}.{}", Queue::Incoming.name(), shared.process_id);
            let file = match shared.disk.create_new(&path, DRAFT_MARK | 0o600) {
                Ok(file) => Self::new(Arc::clone(shared), path, file),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(disk(Step::Create, &path)(error)),
            };
            if file.lock()? {
                return Ok(file);
            }
            // Another process is cleaning up and just examined it: leave it to that one.
        }
        Err(SpoolError::NoFreeName { directory: Queue::Incoming.name(), attempts: NAME_ATTEMPTS_MAX })
    }

    /// Gives a new file the name that it will be known by.
    pub(crate) fn name(
        &mut self,
        status: &Status,
        queue: Queue,
        clock: &dyn Fn() -> Timestamp,
    ) -> Result<(QueueId, Timestamp), SpoolError> {
        for attempt in 0..NAME_ATTEMPTS_MAX {
            let now = clock().plus_microseconds(attempt);
            let queue_id =
                QueueId::new(self.shared.long_queue_ids, now.seconds, now.microseconds, status.inode);
            match self.rename_into(self.shared.path_in(queue, &queue_id)) {
                Ok(()) => return Ok((queue_id, now)),
                // Only a file whose name lies about its inode number can be there, from a restored backup. Postfix
                // would replace it.
                Err(SpoolError::Disk { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(SpoolError::NoFreeName { directory: queue.name(), attempts: NAME_ATTEMPTS_MAX })
    }

    /// Renames into a queue, making its subdirectories if they are missing.
    pub(crate) fn rename_into(&mut self, path: String) -> Result<(), SpoolError> {
        let shared = Arc::clone(&self.shared);
        shared.with_directories(&path, || self.rename(&path))
    }

    /// Takes the lock that tells a live draft from a leftover. `false` if another process has it.
    pub(crate) fn lock(&self) -> Result<bool, SpoolError> {
        let Some(file) = &self.file else { return Ok(false) };
        match self.shared.disk.try_lock(file) {
            Ok(is_ours) => Ok(is_ours),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                // Without a lock the mark would get a live draft removed. Unmarked, it looks like one of cleanup(8)'s.
                self.shared.warn_without_locks();
                self.with(Step::SetMode, |disk, file| disk.set_mode(file, 0o600))?;
                Ok(true)
            }
            Err(error) => Err(disk(Step::Lock, &self.path)(error)),
        }
    }

    pub(crate) fn status(&self) -> Result<Status, SpoolError> {
        self.with(Step::Examine, |disk, file| disk.file_status(file))
    }

    pub(crate) fn rename(&mut self, to: &str) -> Result<(), SpoolError> {
        self.shared.disk.rename_new(&self.path, to).map_err(disk(Step::Rename, &self.path))?;
        to.clone_into(&mut self.path);
        Ok(())
    }

    pub(crate) fn sync(&self) -> Result<(), SpoolError> {
        if is_planted(Planted::SkipFileSync) {
            return Ok(());
        }
        self.with(Step::Sync, |disk, file| disk.sync(file))
            .or_else(|error| if is_planted(Planted::IgnoreSyncError) { Ok(()) } else { Err(error) })
            .inspect_err(|error| self.shared.poison_unless_full(error))
    }

    pub(crate) fn close(&mut self) -> Result<(), SpoolError> {
        if let Some(file) = self.file.take()
            && let Err(error) = self.shared.disk.close(file)
        {
            if self.is_named {
                self.shared.remove(&self.path, None);
            }
            return Err(disk(Step::Close, &self.path)(error));
        }
        Ok(())
    }

    pub(crate) fn with<T>(
        &self,
        step: Step,
        call: impl FnOnce(&D, &D::File) -> io::Result<T>,
    ) -> Result<T, SpoolError> {
        match &self.file {
            Some(file) => call(&self.shared.disk, file).map_err(disk(step, &self.path)),
            None => Err(SpoolError::Incomplete { path: self.path.clone() }),
        }
    }
}

impl<D: Disk> Drop for OpenFile<D> {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // The name goes first: closing gives up the lock, and no process may find it unlocked.
            if self.is_named {
                self.shared.remove(&self.path, Some(&file));
            }
            drop(file);
        }
    }
}
