//! The spool: where drafts come from.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use postfix::notice::Notice;
use postfix::queue_id::QueueId;

use crate::directories;
use crate::disk::{Disk, Status, Timestamp};
use crate::draft::{Draft, OpenFile, READY_MODE};
use crate::error::{ErrorKind, SpoolError, Step, disk};
use crate::journal::continuity::Mount;
use crate::journal::record::BootId;
use crate::journal::settlement::{self, Settled};
use crate::journal::{self, Journal};
use crate::logs::LogDirectory;
use crate::queue::{self, Entries, Entry, HASH_QUEUE_DEPTH_MAX, Queue};
use crate::stale::{self, DRAFT_MARK};

/// How many names for one new file are tried before giving up. Two files of one process collide only within the same
/// microsecond.
const NAME_ATTEMPTS_MAX: u32 = 1000;

/// Where lines for the log go. It is called from any thread, must not block for long, and must not panic.
pub type Notify = Arc<dyn Fn(Notice) + Send + Sync>;

/// How a message is made durable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CommitWay {
    /// As Postfix does: fsync(2) of each queue file.
    #[default]
    File,
    /// Through a [journal], many messages at a time.
    Journal(journal::Options),
}

/// The settings of a spool, and Postfix's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `hash_queue_names`: the queues whose files are spread over subdirectories. Unknown names do nothing.
    pub hash_queue_names: Vec<String>,
    /// `hash_queue_depth`: over how many levels of subdirectories, 1 to 16.
    pub hash_queue_depth: usize,
    /// `enable_long_queue_ids`: IDs that are never used twice.
    pub long_queue_ids: bool,
    /// Give a message its name when it begins, as Postfix does, and not when it is complete. Where files cannot be without
    /// a name it is so in any case.
    pub names_drafts: bool,
    /// Make missing directories on [`Spool::open`]. For a queue of our own; Postfix's makes Postfix.
    pub create_missing: bool,
    /// How messages are made durable.
    pub commit_way: CommitWay,
    /// In which running of the kernel this is: without it no journal of an earlier process can be proven to be of this mount.
    pub boot_id: BootId,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hash_queue_names: vec!["deferred".to_owned(), "defer".to_owned()],
            hash_queue_depth: 1,
            long_queue_ids: false,
            names_drafts: false,
            create_missing: false,
            commit_way: CommitWay::File,
            boot_id: BootId::UNKNOWN,
        }
    }
}

/// A queue directory that takes messages. Cloning gives another handle to the same one.
pub struct Spool<D: Disk>(Arc<Shared<D>>);

/// What a spool and its drafts have in common.
pub(crate) struct Shared<D: Disk> {
    pub(crate) disk: D,
    notify: Notify,
    long_queue_ids: bool,
    /// Over how many levels of subdirectories `incoming` is spread.
    incoming_hash_depth: usize,
    /// The same of `hold`.
    hold_hash_depth: usize,
    log_directories: [LogDirectory; 3],
    process_id: u32,
    boot_id: BootId,
    pub(crate) journal: Option<Journal<D>>,
    /// A draft can do without a name.
    has_nameless_files: bool,
    /// The first failed sync, in words.
    poison: OnceLock<Arc<str>>,
    clock_warned: AtomicBool,
    lock_warned: AtomicBool,
}

impl<D: Disk> Clone for Spool<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D: Disk> fmt::Debug for Spool<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool").field("poison", &self.0.poison).finish_non_exhaustive()
    }
}

impl<D: Disk> Spool<D> {
    /// Opens a queue directory for putting messages in, after [looking at it](directories::verify). What the
    /// [journals](crate::journal) of processes that are gone answer for is brought back by [`Spool::settle`], before or beside
    /// that.
    ///
    /// # Errors
    /// The directory cannot be used; see [`directories::verify`] and, with `create_missing`,
    /// [`directories::create_missing`].
    pub fn open(disk: D, options: &Options, notify: Notify) -> Result<Self, SpoolError> {
        if options.create_missing {
            directories::create_missing(&disk, None)?;
        }
        for notice in directories::verify(&disk)? {
            notify(notice);
        }
        let is_hashed = |name: &str| options.hash_queue_names.iter().any(|hashed| hashed == name);
        let hash_queue_depth = options.hash_queue_depth.clamp(1, HASH_QUEUE_DEPTH_MAX);
        let journal = match &options.commit_way {
            CommitWay::File => None,
            CommitWay::Journal(journal) => Self::open_journal(&disk, journal, options.boot_id, &notify),
        };
        let has_nameless_files = !options.names_drafts && has_nameless_files(&disk);
        let shared = Arc::new(Shared {
            disk,
            notify,
            long_queue_ids: options.long_queue_ids,
            incoming_hash_depth: if is_hashed(Queue::Incoming.name()) { hash_queue_depth } else { 0 },
            hold_hash_depth: if is_hashed(Queue::Hold.name()) { hash_queue_depth } else { 0 },
            log_directories: ["bounce", "defer", "trace"]
                .map(|name| LogDirectory::new(name, if is_hashed(name) { hash_queue_depth } else { 0 })),
            process_id: std::process::id(),
            boot_id: options.boot_id,
            journal,
            has_nameless_files,
            poison: OnceLock::new(),
            clock_warned: AtomicBool::new(false),
            lock_warned: AtomicBool::new(false),
        });
        Ok(Self(shared))
    }

    /// The journal of this process; `None` where the file system, the kernel or the directory of journals is not up to it: then
    /// each queue file is synced.
    fn open_journal(
        disk_: &D,
        options: &journal::Options,
        boot_id: BootId,
        notify: &Notify,
    ) -> Option<Journal<D>> {
        let lacking = match Self::try_journal(disk_, options, boot_id) {
            Ok(journal) => return Some(journal),
            Err(SpoolError::Disk { source, .. }) if source.kind() == io::ErrorKind::Unsupported => {
                "the file system has no locks, or syncfs(2) does not tell of errors (before Linux 5.8)"
                    .to_owned()
            }
            Err(error) => error.to_string(),
        };
        notify(Notice::warning(format!(
            "{}: no journal, each queue file is synced instead: {lacking}",
            disk_.describe()
        )));
        None
    }

    fn try_journal(disk_: &D, options: &journal::Options, boot_id: BootId) -> Result<Journal<D>, SpoolError> {
        directories::create_journal(disk_, None)?;
        disk_.prepare_sync_all().map_err(disk(Step::Open, &disk_.describe()))?;
        let journal = Journal::new(options.clone(), Mount::here(disk_, boot_id));
        journal.try_lock(disk_)?;
        Ok(journal)
    }

    /// Settles what the [journals](crate::journal) of processes that are gone answer for, whatever way this one commits:
    /// what is not in a queue is written again. One that cannot be settled stays for another try; a notice says why.
    ///
    /// # Errors
    /// The directory of journals cannot be read.
    pub fn settle(&self, clock: &dyn Fn() -> Timestamp) -> Result<Settled, SpoolError> {
        settlement::run(&self.0, Mount::here(&self.0.disk, self.0.boot_id), clock)
    }

    /// Whether there is a journal without a process, for [`Spool::settle`].
    ///
    /// # Errors
    /// The directory of journals cannot be read, or a journal cannot be looked at.
    pub fn has_orphans(&self) -> Result<bool, SpoolError> {
        settlement::has_orphans(&self.0.disk)
    }

    /// Makes the checkpoints of the journal when they are due; returns after [`Spool::stop_checkpoints`], after a failed
    /// sync, and at once where there is no journal. For a thread of its own, one at a time. Without it checkpoints are
    /// made when the journal is full.
    pub fn run_checkpoints(&self) {
        if let Some(journal) = &self.0.journal {
            journal.run_checkpoints(&self.0);
        }
    }

    /// Lets [`Spool::run_checkpoints`] return. Messages that are committed from here on are synced one by one.
    pub fn stop_checkpoints(&self) {
        if let Some(journal) = &self.0.journal {
            journal.stop();
        }
    }

    /// Makes a checkpoint now.
    pub fn checkpoint(&self) {
        if let Some(journal) = &self.0.journal {
            journal.checkpoint(&self.0);
        }
    }

    /// Makes a last checkpoint and removes the journal. Messages that are committed from here on are synced one by one.
    pub fn close_journal(&self) {
        if let Some(journal) = &self.0.journal {
            journal.close(&self.0);
        }
    }

    /// Whether messages go through a journal.
    #[must_use]
    pub fn has_journal(&self) -> bool {
        self.0.journal.is_some()
    }

    /// Begins a message: an empty file without a name, or in `incoming` under its queue ID, that nobody else will touch until
    /// [`Draft::commit`]. Dropping the draft removes it.
    ///
    /// `clock` is read after the file exists, as Postfix does: the time is part of the ID.
    ///
    /// # Errors
    /// The file cannot be made, or the spool is poisoned. Nothing is left behind.
    pub fn create(&self, clock: &dyn Fn() -> Timestamp) -> Result<Draft<D>, SpoolError> {
        self.0.refuse_if_poisoned()?;
        let (file, status, queue_id, created) = if self.0.has_nameless_files {
            Shared::create_nameless(&self.0, clock)?
        } else {
            let mut file = Shared::create_temporary(&self.0, clock)?;
            let status = file.status()?;
            let (queue_id, created) = self.0.name(&mut file, &status, Queue::Incoming, clock)?;
            (file, status, queue_id, created)
        };
        for directory in &self.0.log_directories {
            if let Some(notice) = directory.remove(&self.0.disk, &queue_id, status.modified) {
                self.0.notify(notice);
            }
        }
        let reset_modified = self.0.is_file_clock_ahead(&status, created);
        Ok(Draft::new(file, queue_id, created, reset_modified))
    }

    /// Removes what a crash left behind: temporary files and drafts of this program, unmodified since `older_than`,
    /// whose writer is gone. Returns a line for each.
    ///
    /// Drafts of Postfix's cleanup(8) in the same queue, drafts that a live process still writes, and everything
    /// younger stay. See the [states of a queue file](crate#states-of-a-queue-file).
    ///
    /// # Errors
    /// `incoming` cannot be read. A single file that cannot be looked at or removed is only reported.
    pub fn remove_stale(&self, older_than: Timestamp) -> Result<Vec<Notice>, SpoolError> {
        stale::remove(&self.0.disk, older_than)
    }

    /// What lies in a queue; see [`queue::list`].
    #[must_use]
    pub fn list(&self, queue: Queue) -> Entries<'_, D> {
        queue::list(&self.0.disk, queue)
    }

    /// Looks a message up in all queues; see [`queue::find`].
    ///
    /// # Errors
    /// As there.
    pub fn find(&self, queue_id: &QueueId) -> Result<Option<Entry>, SpoolError> {
        queue::find(&self.0.disk, queue_id)
    }

    /// Whether an earlier sync failed, so that nothing is accepted any more.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.0.poison.get().is_some()
    }

    pub(crate) fn notify(&self, notice: Notice) {
        self.0.notify(notice);
    }

    /// The disk under the spool.
    #[must_use]
    pub fn disk(&self) -> &D {
        &self.0.disk
    }
}

impl<D: Disk> Shared<D> {
    pub(crate) fn notify(&self, notice: Notice) {
        (self.notify)(notice);
    }

    pub(crate) fn refuse_if_poisoned(&self) -> Result<(), SpoolError> {
        self.poisoned_by().map_or(Ok(()), |reason| Err(SpoolError::Poisoned { reason }))
    }

    /// The first failed sync, in words.
    pub(crate) fn poisoned_by(&self) -> Option<Arc<str>> {
        self.poison.get().cloned()
    }

    /// Remembers the first failed sync for the rest of the process's life.
    pub(crate) fn poison(&self, reason: &SpoolError) {
        let reason: Arc<str> = reason.to_string().into();
        if self.poison.set(Arc::clone(&reason)).is_ok() {
            self.notify(Notice::error(format!("{}", SpoolError::Poisoned { reason })));
        }
    }

    /// Makes a file without a name, that has everything else of a finished queue file: it gets its name last, and nothing
    /// of it is left when the process is killed before.
    fn create_nameless(
        this: &Arc<Self>,
        clock: &dyn Fn() -> Timestamp,
    ) -> Result<(OpenFile<D>, Status, QueueId, Timestamp), SpoolError> {
        let directory = Queue::Incoming.name();
        let file = this.disk.create_nameless(directory, READY_MODE);
        let file = file.map_err(disk(Step::Create, &format!("a file in {directory}")))?;
        let mut file = OpenFile::nameless(Arc::clone(this), directory.to_owned(), file);
        let status = file.status()?;
        if status.mode != READY_MODE {
            // An access control list of the directory, or a umask, has its own idea; the queue manager passes over such a file.
            file.with(Step::SetMode, |disk, file| disk.set_mode(file, READY_MODE))?;
        }
        let now = clock();
        // Only a file whose name lies about its inode number can be there already, from a restored backup: then this message
        // is refused for now, and the next try gets another ID.
        let queue_id = QueueId::new(this.long_queue_ids, now.seconds, now.microseconds, status.inode);
        file.intend(this.path_in(Queue::Incoming, &queue_id));
        Ok((file, status, queue_id, now))
    }

    /// Makes `incoming/MICROSECONDS.PROCESS`, marked and locked.
    pub(crate) fn create_temporary(
        this: &Arc<Self>,
        clock: &dyn Fn() -> Timestamp,
    ) -> Result<OpenFile<D>, SpoolError> {
        for attempt in 0..NAME_ATTEMPTS_MAX {
            // A clock that stands still must not keep us here.
            let microseconds = clock().plus_microseconds(attempt).microseconds;
            let path = format!("{}/{microseconds}.{}", Queue::Incoming.name(), this.process_id);
            let file = match this.disk.create_new(&path, DRAFT_MARK | 0o600) {
                Ok(file) => OpenFile::new(Arc::clone(this), path, file),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(disk(Step::Create, &path)(error)),
            };
            if file.lock()? {
                return Ok(file);
            }
            // Somebody who clears up looked at it just now: leave it to him.
        }
        Err(SpoolError::NoFreeName { directory: Queue::Incoming.name(), attempts: NAME_ATTEMPTS_MAX })
    }

    /// Gives a new file the name that it will be known by.
    pub(crate) fn name(
        &self,
        file: &mut OpenFile<D>,
        status: &Status,
        queue: Queue,
        clock: &dyn Fn() -> Timestamp,
    ) -> Result<(QueueId, Timestamp), SpoolError> {
        for attempt in 0..NAME_ATTEMPTS_MAX {
            let now = clock().plus_microseconds(attempt);
            let queue_id = QueueId::new(self.long_queue_ids, now.seconds, now.microseconds, status.inode);
            match self.rename_into(file, self.path_in(queue, &queue_id)) {
                Ok(()) => return Ok((queue_id, now)),
                // Only a file whose name lies about its inode number can be there, from a restored backup. Postfix
                // would replace it.
                Err(SpoolError::Disk { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(SpoolError::NoFreeName { directory: queue.name(), attempts: NAME_ATTEMPTS_MAX })
    }

    /// A sync failed: nothing more is accepted, unless it was for want of room.
    pub(crate) fn poison_unless_full(&self, error: &SpoolError) {
        if error.kind() != ErrorKind::NoSpace {
            self.poison(error);
        }
    }

    /// Where a new file of this ID goes.
    pub(crate) fn path_in(&self, queue: Queue, queue_id: &QueueId) -> String {
        let depth = match queue {
            Queue::Incoming => self.incoming_hash_depth,
            Queue::Hold => self.hold_hash_depth,
            Queue::Active | Queue::Deferred | Queue::Corrupt => 0,
        };
        format!("{queue}/{}{queue_id}", queue_id.hash_dir_path(depth))
    }

    /// Renames into a queue.
    pub(crate) fn rename_into(&self, file: &mut OpenFile<D>, path: String) -> Result<(), SpoolError> {
        self.with_directories(&path, || file.rename(&path))
    }

    /// Gives a file the name `path`, and makes the subdirectories of a hashed queue when they turn out to be missing.
    pub(crate) fn with_directories(
        &self,
        path: &str,
        mut give_name: impl FnMut() -> Result<(), SpoolError>,
    ) -> Result<(), SpoolError> {
        match give_name() {
            // One slash stands behind the queue's own directory, which is always there.
            Err(SpoolError::Disk { source, .. })
                if path.matches('/').count() > 1 && source.kind() == io::ErrorKind::NotFound =>
            {
                for (at, _) in path.match_indices('/').skip(1) {
                    let directory = path.get(..at).unwrap_or_default();
                    match self.disk.create_directory(directory, 0o700) {
                        Ok(()) => {}
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                        Err(error) => return Err(disk(Step::CreateDirectory, directory)(error)),
                    }
                }
                give_name()
            }
            other => other,
        }
    }

    /// Whether the file system's clock is ahead of ours: the queue manager would leave the file for later.
    fn is_file_clock_ahead(&self, status: &Status, now: Timestamp) -> bool {
        let ahead = status.modified.seconds.saturating_sub(now.seconds);
        if ahead > 0 && !self.clock_warned.swap(true, Ordering::Relaxed) {
            self.notify(Notice::warning(format!(
                "file system clock is {ahead} seconds ahead of local clock"
            )));
            self.notify(Notice::warning("resetting file time stamps - this hurts performance"));
        }
        ahead > 0
    }

    /// Says once that leftovers of a crash will stay, since they could not be told from drafts being written.
    pub(crate) fn warn_without_locks(&self) {
        if !self.lock_warned.swap(true, Ordering::Relaxed) {
            self.notify(Notice::warning(format!(
                "{}: the file system has no locks: files that a crash leaves in incoming will not be removed at start",
                self.disk.describe()
            )));
        }
    }
}

/// Whether a file in `incoming` can be written without a name and get one later.
fn has_nameless_files<D: Disk>(disk_: &D) -> bool {
    let directory = Queue::Incoming.name();
    // A name that is taken: the system says so when everything else is as it should be.
    disk_
        .create_nameless(directory, DRAFT_MARK | 0o600)
        .and_then(|file| disk_.link_new(&file, directory))
        .is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::Simulated;

    const EACCES: i32 = 13;
    const ENOENT: i32 = 2;

    fn now() -> Timestamp {
        Timestamp { seconds: 1_795_000_000, microseconds: 500_000 }
    }

    /// A spool that names drafts, with `incoming` hashed or not. The calls of a draft in it: create, lock, status, rename.
    fn spool(disk: &Simulated, is_hashed: bool) -> Spool<Simulated> {
        let options = Options {
            hash_queue_names: if is_hashed { vec!["incoming".to_owned()] } else { Vec::new() },
            names_drafts: true,
            create_missing: true,
            ..Options::default()
        };
        Spool::open(disk.clone(), &options, Arc::new(|_| ())).unwrap()
    }

    /// What the draft is refused with when the call of this number fails.
    fn refusal(is_hashed: bool, call: u64, errno: i32) -> String {
        let disk = Simulated::new();
        let spool = spool(&disk, is_hashed);
        let call = disk.calls() + call;
        disk.fail(call..=call, errno, false);
        let words = spool.create(&now).unwrap_err().to_string();
        assert_eq!(disk.files(), Vec::<String>::new(), "{words}");
        words
    }

    /// Only a name that is taken, or a subdirectory that is missing, is a reason to go on.
    #[test]
    fn a_draft_that_cannot_be_made_or_named_is_refused_at_once() {
        for is_hashed in [false, true] {
            let words = refusal(is_hashed, 0, EACCES);
            assert!(words.starts_with("cannot create incoming/500000."), "{words}");
            let words = refusal(is_hashed, 3, EACCES);
            assert!(words.starts_with("cannot rename incoming/"), "{words}");
        }
        let words = refusal(false, 3, ENOENT);
        assert!(words.starts_with("cannot rename incoming/"), "{words}");
        let words = refusal(true, 4, EACCES);
        assert!(words.starts_with("cannot create the directory incoming/"), "{words}");
    }

    /// A restored backup has a file under the very name.
    #[test]
    fn a_draft_gets_another_name_when_its_own_is_taken() {
        let disk = Simulated::new();
        drop(spool(&disk, false));
        // A copy of the disk gives the same inode numbers, so it tells the ID that the draft would have.
        let copy = disk.after_kill();
        copy.put("incoming/x", 0o700, b"");
        let taken = *spool(&copy, false).create(&now).unwrap().queue_id();
        let path = format!("incoming/{taken}");
        disk.put(&path, 0o700, b"restored");
        let draft = spool(&disk, false).create(&now).unwrap();
        assert_ne!(*draft.queue_id(), taken);
        assert_eq!(disk.files().len(), 2, "{:?}", disk.files());
        drop(draft);
        assert_eq!(disk.bytes(&path).as_deref(), Some(&b"restored"[..]));
    }

    /// Another process needs the same subdirectory in the same moment.
    #[test]
    fn a_subdirectory_that_another_process_makes_is_as_good() {
        for call in 0..8 {
            let disk = Simulated::new();
            drop(spool(&disk, true));
            let hash_queue_names = vec!["incoming".to_owned()];
            let options = Options { hash_queue_names, ..Options::default() };
            let spool = Spool::open(disk.clone(), &options, Arc::new(|_| ())).unwrap();
            let draft = spool.create(&now).unwrap();
            let directory = format!("incoming/{}", draft.queue_id().hash_dir_path(1));
            let path = format!("{directory}{}", draft.queue_id());
            disk.before_call(disk.calls() + call, move |disk| {
                // When it comes late, it is there.
                let _ = disk.create_directory(directory.trim_end_matches('/'), 0o700);
            });
            let _ = draft.commit().unwrap_or_else(|error| panic!("call {call}: {error}"));
            assert_eq!(disk.files(), [path], "call {call}");
        }
    }

    /// A draft that cannot be removed is told, with what an operator can do about it.
    #[test]
    fn a_draft_that_stays_is_told_with_a_remedy() {
        for (is_read_only, remedy) in
            [(true, "it stays until the file system can be written again"), (false, "remove it by hand")]
        {
            let disk = Simulated::new();
            let notices = Arc::new(std::sync::Mutex::new(Vec::new()));
            let log = Arc::clone(&notices);
            let options = Options { names_drafts: true, create_missing: true, ..Options::default() };
            let notify = Arc::new(move |notice: Notice| log.lock().unwrap().push(notice.text));
            let spool = Spool::open(disk.clone(), &options, notify).unwrap();
            let draft = spool.create(&now).unwrap();
            if is_read_only {
                disk.make_read_only();
            } else {
                disk.fail(disk.calls()..=disk.calls(), EACCES, false);
            }
            drop(draft);
            let told = notices.lock().unwrap();
            let beginning = "cannot remove the unfinished file incoming/";
            assert!(
                told.iter().any(|text| text.starts_with(beginning) && text.ends_with(remedy)),
                "{told:?}"
            );
        }
    }
}
