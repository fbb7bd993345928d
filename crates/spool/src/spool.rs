//! The spool: opens a queue directory and creates drafts.

use std::fmt;
use std::io;
use std::sync::Arc;

use postfix::notice::Notice;
use postfix::queue_id::QueueId;

use crate::directories;
use crate::disk::{Disk, Timestamp};
use crate::draft::Draft;
use crate::error::{SpoolError, Step, disk};
use crate::journal::settlement::{self, Settled};
use crate::journal::{self, Journal};
use crate::journal::{BootId, Mount};
use crate::logs::LogDirectory;
use crate::modes::DRAFT_MARK;
use crate::open_file::OpenFile;
use crate::queue::{self, Entries, Entry, HASH_QUEUE_DEPTH_MAX, Queue};
use crate::shared::{Notify, Shared};
use crate::stale;

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
pub struct Spool<D: Disk>(Arc<Parts<D>>);

struct Parts<D: Disk> {
    shared: Arc<Shared<D>>,
    journal: Option<Arc<Journal<D>>>,
    log_directories: [LogDirectory; 3],
    boot_id: BootId,
    /// A draft can do without a name.
    has_nameless_files: bool,
}

impl<D: Disk> Clone for Spool<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D: Disk> fmt::Debug for Spool<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool").field("poison", &self.0.shared.poisoned_by()).finish_non_exhaustive()
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
        let hash_depth = |name: &str| if is_hashed(name) { hash_queue_depth } else { 0 };
        let shared = Shared::new(disk, notify, options.long_queue_ids, |queue| hash_depth(queue.name()));
        Ok(Self(Arc::new(Parts {
            shared: Arc::new(shared),
            journal: journal.map(Arc::new),
            log_directories: ["bounce", "defer", "trace"]
                .map(|name| LogDirectory::new(name, hash_depth(name))),
            boot_id: options.boot_id,
            has_nameless_files,
        })))
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
                "the file system has no locks, or syncfs(2) does not report errors (before Linux 5.8)"
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
        settlement::run(&self.0.shared, Mount::here(&self.0.shared.disk, self.0.boot_id), clock)
    }

    /// Whether there is a journal without a process, for [`Spool::settle`].
    ///
    /// # Errors
    /// The directory of journals cannot be read, or a journal cannot be looked at.
    pub fn has_orphans(&self) -> Result<bool, SpoolError> {
        settlement::has_orphans(&self.0.shared.disk)
    }

    /// Makes the checkpoints of the journal when they are due; returns after [`Spool::stop_checkpoints`], after a failed
    /// sync, and at once where there is no journal. For a thread of its own, one at a time. Without it checkpoints are
    /// made when the journal is full.
    pub fn run_checkpoints(&self) {
        if let Some(journal) = &self.0.journal {
            journal.run_checkpoints(&self.0.shared);
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
            journal.checkpoint(&self.0.shared);
        }
    }

    /// Makes a last checkpoint and removes the journal. Messages that are committed from here on are synced one by one.
    pub fn close_journal(&self) {
        if let Some(journal) = &self.0.journal {
            journal.close(&self.0.shared);
        }
    }

    /// Whether messages go through a journal.
    #[must_use]
    pub fn has_journal(&self) -> bool {
        self.0.journal.is_some()
    }

    /// Begins a message: an empty file without a name, or in `incoming` under its queue ID, that no other program touches until
    /// [`Draft::commit`]. Dropping the draft removes it.
    ///
    /// `clock` is read after the file exists, as Postfix does: the time is part of the ID.
    ///
    /// # Errors
    /// The file cannot be made, or the spool is poisoned. Nothing is left behind.
    pub fn create(&self, clock: &dyn Fn() -> Timestamp) -> Result<Draft<D>, SpoolError> {
        self.0.shared.refuse_if_poisoned()?;
        let (file, status, queue_id, created) = if self.0.has_nameless_files {
            OpenFile::create_nameless(&self.0.shared, clock)?
        } else {
            let mut file = OpenFile::create_temporary(&self.0.shared, clock)?;
            let status = file.status()?;
            let (queue_id, created) = file.name(&status, Queue::Incoming, clock)?;
            (file, status, queue_id, created)
        };
        for directory in &self.0.log_directories {
            if let Some(notice) = directory.remove(&self.0.shared.disk, &queue_id, status.modified) {
                self.0.shared.notify(notice);
            }
        }
        let reset_modified = self.0.shared.is_file_clock_ahead(&status, created);
        Ok(Draft::new(file, self.0.journal.clone(), queue_id, created, reset_modified))
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
        stale::remove(&self.0.shared.disk, older_than)
    }

    /// What lies in a queue; see [`queue::list`].
    #[must_use]
    pub fn list(&self, queue: Queue) -> Entries<'_, D> {
        queue::list(&self.0.shared.disk, queue)
    }

    /// Looks a message up in all queues; see [`queue::find`].
    ///
    /// # Errors
    /// As there.
    pub fn find(&self, queue_id: &QueueId) -> Result<Option<Entry>, SpoolError> {
        queue::find(&self.0.shared.disk, queue_id)
    }

    /// Whether an earlier sync failed, so that nothing is accepted any more.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.0.shared.poisoned_by().is_some()
    }

    pub(crate) fn notify(&self, notice: Notice) {
        self.0.shared.notify(notice);
    }

    /// The disk under the spool.
    #[must_use]
    pub fn disk(&self) -> &D {
        &self.0.shared.disk
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
            [(true, "it stays until the file system is writable again"), (false, "remove it by hand")]
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
