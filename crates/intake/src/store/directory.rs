//! The queue directory from the start of a process to its first message: how it is laid out, and what earlier processes
//! have left in it.

use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use postfix::notice::{Notice, Severity};
use postfix::settings::Settings;
use postfix::settings::words::Commit;
use postfix::text::split_list;
use spool::committer::Clock;
use spool::directories::create_journal;
use spool::journal;
use spool::journal::{BootId, Instance};
use spool::{CommitWay, Disk, Spool, SpoolError, UnixDisk};

use daemon::log::{Log, Program};

/// The queue directory, opened before the jail. It must be the working directory.
#[derive(Debug)]
pub(crate) struct QueueDirectory {
    disk: UnixDisk,
    boot_id: BootId,
}

impl QueueDirectory {
    /// Opens it.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn open() -> std::io::Result<Self> {
        // /proc is out of sight behind the jail.
        Ok(Self { disk: UnixDisk::open(Path::new("."))?, boot_id: boot_id() })
    }

    /// Makes the directory of the journal, for the user with this ID; the caller may have to be root for that.
    pub(crate) fn create_journal(&self, owner: Option<u32>, log: &Log) {
        // Without it each queue file is synced, and the spool says so.
        if let Err(error) = create_journal(&self.disk, owner) {
            log.notice(Program::Cleanup, &Notice::warning(error.to_string()));
        }
    }

    /// Whether earlier processes have left no journal here.
    pub(crate) fn has_no_journal(&self) -> bool {
        self.disk.is_empty(journal::DIRECTORY).unwrap_or(true)
    }

    /// The queue with these settings, with a journal of its own if they say so.
    pub(crate) fn with_journal(self, settings: &Settings, log: &Log) -> Result<Spool<UnixDisk>, SpoolError> {
        let commit_way = commit_way(settings, log);
        let options = spool::Options { commit_way, ..options(settings, self.boot_id) };
        open(self.disk, &options, log)
    }

    /// The queue with these settings; each queue file is synced.
    pub(crate) fn without_journal(
        self,
        settings: &Settings,
        log: &Log,
    ) -> Result<Spool<UnixDisk>, SpoolError> {
        open(self.disk, &options(settings, self.boot_id), log)
    }
}

fn commit_way(settings: &Settings, log: &Log) -> CommitWay {
    if settings.qmqpd_commit == Commit::File {
        return CommitWay::File;
    }
    match new_instance() {
        Ok(instance) => CommitWay::Journal(journal::Options {
            instance,
            checkpoint_delay: settings.qmqpd_journal_checkpoint_delay,
            checkpoint_bytes: u64::try_from(settings.qmqpd_journal_checkpoint_size).unwrap_or(0),
        }),
        Err(error) => {
            let text = format!(
                "no journal, each queue file is synced instead: cannot get random \
             numbers: {error}"
            );
            log.notice(Program::Cleanup, &Notice::warning(text));
            CommitWay::File
        }
    }
}

fn open(disk: UnixDisk, options: &spool::Options, log: &Log) -> Result<Spool<UnixDisk>, SpoolError> {
    let lines = log.clone();
    Spool::open(disk, options, Arc::new(move |notice| lines.notice(Program::Cleanup, &notice)))
}

/// How a queue with these settings is laid out; each queue file is synced.
fn options(settings: &Settings, boot_id: BootId) -> spool::Options {
    spool::Options {
        hash_queue_names: split_list(&settings.hash_queue_names).into_iter().map(str::to_owned).collect(),
        hash_queue_depth: usize::try_from(settings.hash_queue_depth).unwrap_or(1),
        long_queue_ids: settings.enable_long_queue_ids,
        names_drafts: settings.qmqpd_named_drafts,
        create_missing: false,
        commit_way: CommitWay::File,
        boot_id,
    }
}

/// Without /proc nothing proves that a journal was written on the mount that is here.
fn boot_id() -> BootId {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    text.map_or(BootId::UNKNOWN, |text| BootId::parse(&text))
}

fn new_instance() -> std::io::Result<Instance> {
    let mut instance = [0; 16];
    // So few bytes come at once or not at all.
    rustix::rand::getrandom(&mut instance, rustix::rand::GetRandomFlags::empty())?;
    Ok(Instance(instance))
}

/// Clears up after a process that was killed, beside the work: the queue may be long. Drafts of processes that live, and
/// of other programs, stay.
pub(crate) fn remove_stale_drafts(spool: &Spool<UnixDisk>, clock: &Clock, log: &Log) -> std::io::Result<()> {
    let (spool, log, started) = (spool.clone(), log.clone(), clock());
    let thread = std::thread::Builder::new().name("stale drafts".to_owned());
    thread.spawn(move || {
        // A draft of a process that lives has no lock for its first microseconds, and the file system's clock lags by a
        // tick: by now those from before our start have theirs.
        sleep(STALE_DRAFTS_DELAY);
        match spool.remove_stale(started) {
            Ok(notices) => notices.iter().for_each(|notice| log.notice(Program::Cleanup, notice)),
            Err(error) => {
                log.write(Program::Cleanup, Severity::Warning, &format!("look for stale drafts: {error}"));
            }
        }
    })?;
    Ok(())
}

/// How long after its start a process looks for the drafts of dead ones.
const STALE_DRAFTS_DELAY: Duration = Duration::from_secs(1);
