//! Settles the journals of processes that have exited.
//!
//! Each message that such a journal answers for is looked up in all queues. What is there, whole, is written to
//! disk; what is torn or missing is written again, unless it is proven that its reader took it away: see
//! [`continuity`]. This goes in steps: so many messages, one sync, one mark in the journal that says so. A crash in
//! between repeats the step that was under way, and a disk that is full stops it where it is. When nothing is left,
//! the journal goes.
//!
//! No client has to wait for this. Until a message is settled its journal answers for it, and new messages have
//! journals of their own.
//!
//! [`continuity`]: super::continuity

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use postfix::notice::Notice;
use postfix::queue_file::letter::parse_arrival;
use postfix::queue_id::QueueId;
use postfix::record::{Reader, RecordType};

use super::checkpoint::write_mark;
use super::continuity::is_held;
use super::done::is_held_elsewhere;
use super::identity::{Instance, Mount};
use super::likeness::Likeness;
use super::names::{self, DIRECTORY, Name};
use super::proof::renew;
use super::record::{Batch, Content, HEADER_BYTES, Header};
use super::ring::MARK_PLACES;
use super::scan::{Account, ScanResult, account, scan};
use crate::disk::{Disk, Timestamp};
use crate::error::{SpoolError, Step, disk};
use crate::modes::READY_MODE;
use crate::open_file::OpenFile;
use crate::planted::{Planted, is_planted};
use crate::queue::{self, Entry, Queue};
use crate::shared::Shared;

/// After so many messages what was done is made durable.
const STEP_MESSAGES_MAX: usize = 500;

/// What came of the journals that were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settled {
    /// Journals without a process that are settled now, and gone.
    pub settled: u64,
    /// Messages that were written again.
    pub written_again: u64,
    /// Journals that could not be settled and are still there; the notices say why.
    pub kept: u64,
    /// Journals whose processes live, or that another process is settling; and those that say of messages in such journals
    /// that they are gone.
    pub live: u64,
}

/// Whether there is a journal without a process.
///
/// # Errors
/// The directory cannot be read, or a journal cannot be looked at.
pub fn has_orphans<D: Disk>(disk_: &D) -> Result<bool, SpoolError> {
    for name in names(disk_)? {
        let Name::Journal { .. } = Name::parse(&name) else { continue };
        let path = names::path_of(&name);
        let is_locked = disk_.open(&path).and_then(|file| disk_.is_locked(&file));
        match is_locked {
            Ok(true) => {}
            Ok(false) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(disk(Step::Examine, &path)(error)),
        }
    }
    Ok(false)
}

fn names<D: Disk>(disk_: &D) -> Result<Vec<String>, SpoolError> {
    match disk_.names(DIRECTORY) {
        Ok(names) => Ok(names),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(disk(Step::List, DIRECTORY)(error)),
    }
}

/// Settles every journal whose process is gone. One that cannot be settled holds up no other, and stays.
pub(crate) fn run<D: Disk>(
    shared: &Arc<Shared<D>>,
    here: Mount,
    clock: &dyn Fn() -> Timestamp,
) -> Result<Settled, SpoolError> {
    let mut settled = Settled::default();
    if is_planted(Planted::SettleNoJournal) {
        return Ok(settled);
    }
    let (mut orphans, mut done) = (Vec::new(), BTreeSet::new());
    for name in names(&shared.disk)? {
        let path = names::path_of(&name);
        match Name::parse(&name) {
            Name::Journal { instance, version } => {
                match Orphan::open(shared, instance, version, path.clone()) {
                    Ok(Some(orphan)) => {
                        done.extend(orphan.account.done.iter().copied());
                        orphans.push(orphan);
                    }
                    Ok(None) => settled.live = settled.live.saturating_add(1),
                    Err(error) => {
                        settled.kept = settled.kept.saturating_add(1);
                        shared.notify(kept(&path, &error));
                    }
                }
            }
            Name::Later { version } => shared.notify(Notice::warning(format!(
                "{path}: a journal of format {version}, which this version of qmqpd does not support, \
                 is not changed, and its messages wait: start the later version once on this queue, and \
                 stop it with `qmqpd stop`"
            ))),
            Name::Witness(_) | Name::Other => {}
        }
    }
    if settled.live > 0 && orphans.iter().any(|orphan| !orphan.account.messages.is_empty()) {
        done.extend(done_in_live_journals(shared));
    }
    // What says that messages are gone goes last: a crash before the end must not bring them back.
    orphans.sort_by_key(|orphan| !orphan.account.done.is_empty());
    for orphan in orphans {
        let path = orphan.path.clone();
        let lasts = orphan
            .account
            .mount
            .is_some_and(|mount| mount.lasts(&here, is_held(&shared.disk, mount.witness)));
        let mut settlement = Settlement { shared, clock, done: &done, orphan, lasts, written_again: 0 };
        match settlement.run() {
            Ok(Outcome::Settled) => settled.settled = settled.settled.saturating_add(1),
            Ok(Outcome::Needed) => settled.live = settled.live.saturating_add(1),
            Err(error) => {
                settled.kept = settled.kept.saturating_add(1);
                shared.notify(kept(&path, &error));
            }
        }
        settled.written_again = settled.written_again.saturating_add(settlement.written_again);
    }
    Ok(settled)
}

fn kept(path: &str, error: &SpoolError) -> Notice {
    Notice::error(format!(
        "{error}; {path} stays, and holds accepted messages that may not be on disk: correct this and \
         do not remove the file; the messages will be restored from it"
    ))
}

/// What processes that live have done with messages of others. What cannot be read now says nothing.
fn done_in_live_journals<D: Disk>(shared: &Shared<D>) -> Vec<(QueueId, Timestamp)> {
    let disk_ = &shared.disk;
    let mut done = Vec::new();
    for name in names(disk_).unwrap_or_default() {
        let Name::Journal { instance, .. } = Name::parse(&name) else { continue };
        let Ok(file) = disk_.open(&names::path_of(&name)) else { continue };
        if let Ok(found) = scan(instance, |offset, buffer| disk_.read_at(&file, offset, buffer)) {
            done.extend(account(&found).done);
        }
    }
    done
}

/// A journal without a process, locked by us.
struct Orphan<D: Disk> {
    file: D::File,
    instance: Instance,
    version: u8,
    path: String,
    found: ScanResult,
    account: Account,
}

impl<D: Disk> Orphan<D> {
    /// `None`: its process lives, or another one settles it.
    fn open(
        shared: &Shared<D>,
        instance: Instance,
        version: u8,
        path: String,
    ) -> Result<Option<Self>, SpoolError> {
        let disk_ = &shared.disk;
        let file = match disk_.open_to_write(&path) {
            Ok(file) => file,
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(disk(Step::Open, &path)(error)),
        };
        // Without locks no process has written a journal here.
        if !disk_.try_lock(&file).map_err(disk(Step::Lock, &path))? {
            return Ok(None);
        }
        if disk_.file_status(&file).map_err(disk(Step::Examine, &path))?.links == 0 {
            return Ok(None);
        }
        let read = |offset, buffer: &mut [u8]| disk_.read_at(&file, offset, buffer);
        let found = scan(instance, read).map_err(disk(Step::Read, &path))?;
        let account = account(&found);
        Ok(Some(Self { file, instance, version, path, found, account }))
    }

    /// Where the next mark goes, so that the newest one stands while it is written.
    fn next_mark_place(&self) -> usize {
        let newest = |place: &u64| self.found.records.get(place).map(|mark| mark.batch.retired_below);
        let [first, second] = MARK_PLACES.each_ref().map(newest);
        usize::from(first > second)
    }
}

/// What came of one journal.
enum Outcome {
    Settled,
    /// It says that messages are gone that another journal still holds.
    Needed,
}

/// The work on one journal.
struct Settlement<'s, D: Disk> {
    shared: &'s Arc<Shared<D>>,
    clock: &'s dyn Fn() -> Timestamp,
    done: &'s BTreeSet<(QueueId, Timestamp)>,
    orphan: Orphan<D>,
    /// What is missing was taken away by its reader.
    lasts: bool,
    written_again: u64,
}

impl<D: Disk> Settlement<'_, D> {
    fn run(&mut self) -> Result<Outcome, SpoolError> {
        let messages = std::mem::take(&mut self.orphan.account.messages);
        if !messages.is_empty() {
            // Errors of before are not ours: each file is written from here on.
            match self.shared.disk.prepare_sync_all() {
                Err(error) if error.kind() != io::ErrorKind::Unsupported => {
                    return Err(disk(Step::Open, &self.shared.disk.describe())(error));
                }
                _ => {}
            }
        }
        let mut mark_place = self.orphan.next_mark_place();
        let settled = messages.chunks(STEP_MESSAGES_MAX).try_for_each(|step| {
            let settled = self.step(step, mark_place);
            mark_place = mark_place.wrapping_add(1);
            settled
        });
        self.tell(messages.len());
        if !is_planted(Planted::RemoveUnsettled) {
            settled?;
        }
        let Orphan { account, found, .. } = &self.orphan;
        if !self.lasts && (account.lost > 0 || account.lost_batches > 0 || found.other_version.is_some()) {
            return self.keep_aside().map(|()| Outcome::Settled);
        }
        let gone: BTreeSet<QueueId> = account.done.iter().map(|(queue_id, _)| *queue_id).collect();
        if !gone.is_empty() && is_held_elsewhere(&self.shared.disk, &self.orphan.path, &gone)? {
            return Ok(Outcome::Needed);
        }
        match self.shared.disk.unlink(&self.orphan.path) {
            // It was a process trying whether there are locks.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(disk(Step::Remove, &self.orphan.path)(error))
            }
            _ => Ok(Outcome::Settled),
        }
    }

    fn tell(&self, messages: usize) {
        if self.written_again == 0 && (self.lasts || (messages == 0 && self.orphan.account.unfinished == 0)) {
            return;
        }
        let why = if self.lasts {
            "its process is gone"
        } else {
            "its process is gone, and data that was only in memory may be lost: the machine was \
             rebooted, the file system remounted, or the whole server killed"
        };
        self.shared.notify(Notice::info(format!(
            "{}: {why}: {messages} messages since the last checkpoint, {} of them written again, {} \
             more incomplete and not acknowledged",
            self.orphan.path, self.written_again, self.orphan.account.unfinished
        )));
    }

    /// Settles some messages, makes that durable, and marks it. What was settled before an error is marked, too.
    fn step(&mut self, step: &[(u64, Header)], mark_place: usize) -> Result<(), SpoolError> {
        let (mut present, mut settled_below) = (Vec::new(), None);
        if let Some((_, last)) = step.last().filter(|_| is_planted(Planted::MarkBeforeStep)) {
            self.mark(last.sequence.saturating_add(1), mark_place)?;
        }
        let mut outcome = Ok(());
        for (offset, header) in step {
            match self.message(*offset, header) {
                Ok(queue_id) => present.extend(queue_id.map(|queue_id| (queue_id, *offset, *header))),
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
            settled_below = Some(header.sequence.saturating_add(1));
        }
        if let Some(below) = settled_below {
            if !is_planted(Planted::SettleWithoutSync) {
                self.sync(&present)?;
            }
            self.mark(below, mark_place)?;
        }
        outcome
    }

    /// Sees to it that a message is in a queue, whole, and will be written to disk with the next sync, or that it is not needed
    /// any more. Returns under which ID it is there.
    fn message(&mut self, offset: u64, header: &Header) -> Result<Option<QueueId>, SpoolError> {
        let Content::Message { queue, queue_id, is_late } = header.content else { return Ok(None) };
        let payload = self.payload(offset, header)?;
        if !self.done.is_empty()
            && arrival(&payload).is_some_and(|arrival| self.done.contains(&(queue_id, arrival)))
        {
            return Ok(None);
        }
        let (mut remnants, mut is_there, mut is_taken) = (Vec::new(), false, false);
        // Twice, as it can move from queue to queue meanwhile.
        for _ in 0..2 {
            let queues: &[Queue] =
                if is_planted(Planted::LookInIncomingOnly) { &[Queue::Incoming] } else { &Queue::ALL };
            for queue in queues.iter().copied() {
                let Some(entry) = queue::find_in(&self.shared.disk, queue, &queue_id)? else { continue };
                match self.look_at(&entry, &payload)? {
                    Some(Likeness::Same) => is_there = true,
                    Some(Likeness::Remnant) if is_planted(Planted::RemnantIsWhole) => is_there = true,
                    // What the queue manager has put into `corrupt` is for the operator.
                    Some(Likeness::Remnant) if queue != Queue::Corrupt => remnants.push(entry.path),
                    Some(_) => is_taken = true,
                    None => {}
                }
            }
            if is_there {
                break;
            }
        }
        if !is_there && self.lasts && !is_late && remnants.is_empty() {
            return Ok(None);
        }
        // Also beside the whole message: a queue manager that starts moves what is in `active` over what is in `incoming`.
        for path in remnants {
            match self.shared.disk.unlink(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(disk(Step::Remove, &path)(error)),
            }
        }
        if is_there {
            return Ok(Some(queue_id));
        }
        self.write(queue, queue_id, &payload, is_taken).map(Some)
    }

    fn payload(&self, offset: u64, header: &Header) -> Result<Vec<u8>, SpoolError> {
        let Orphan { file, path, .. } = &self.orphan;
        let mut payload = vec![0; header.payload_bytes as usize];
        let at = offset.saturating_add(HEADER_BYTES as u64);
        let read = self.shared.disk.read_at(file, at, &mut payload).map_err(disk(Step::Read, path))?;
        // It was whole a moment ago.
        if read != payload.len() || crc32fast::hash(&payload) != header.payload_checksum {
            return Err(disk(Step::Read, path)(io::ErrorKind::InvalidData.into()));
        }
        Ok(payload)
    }

    /// Judges a file, and when it is the message, has all of it written to disk. `None`: it is gone by now.
    fn look_at(&self, entry: &Entry, payload: &[u8]) -> Result<Option<Likeness>, SpoolError> {
        let disk_ = &self.shared.disk;
        let file = match disk_.open_to_write(&entry.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(disk(Step::Open, &entry.path)(error)),
        };
        let is_being_written = match (entry.is_ready(), entry.is_draft()) {
            (true, _) => false,
            (false, true) => disk_.is_locked(&file).map_err(disk(Step::Lock, &entry.path))?,
            (false, false) => true,
        };
        if is_being_written {
            return Ok(Some(Likeness::Other));
        }
        let likeness = renew(disk_, &entry.path, &file, payload)?;
        let is_unfinished = likeness == Likeness::Same && !entry.is_ready();
        Ok(Some(if is_unfinished { Likeness::Remnant } else { likeness }))
    }

    /// Puts a message into its queue, not synced: under the ID that it had, so that another try finds it there, or under a
    /// new one when that belongs to another message by now. Returns the ID.
    fn write(
        &mut self,
        queue: Queue,
        queue_id: QueueId,
        payload: &[u8],
        is_taken: bool,
    ) -> Result<QueueId, SpoolError> {
        let mut file = OpenFile::create_temporary(self.shared, self.clock)?;
        file.with(Step::Write, |disk, file| disk.write_at(file, 0, payload))?;
        let renamed = if is_taken {
            Err(io::ErrorKind::AlreadyExists)
        } else {
            match file.rename_into(self.shared.path_in(queue, &queue_id)) {
                Err(SpoolError::Disk { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                    Err(source.kind())
                }
                other => other.map(Ok)?,
            }
        };
        let new_id = match renamed {
            Ok(()) => queue_id,
            Err(_) => {
                let status = file.status()?;
                file.name(&status, queue, self.clock)?.0
            }
        };
        // Last: a leftover of anything before has the mark, and the next try or a later start removes it.
        file.with(Step::SetMode, |disk, file| disk.set_mode(file, READY_MODE))?;
        file.close()?;
        self.written_again = self.written_again.saturating_add(1);
        let path = &self.orphan.path;
        let words = if new_id == queue_id {
            format!("{queue_id}: written again from {path}")
        } else {
            format!("{queue_id}: written again from {path} as {new_id}: another message has its queue ID")
        };
        self.shared.notify(Notice::info(words));
        Ok(new_id)
    }

    /// Makes these messages durable: all at once, or, where the system cannot say that of all files, each by itself.
    fn sync(&self, present: &[(QueueId, u64, Header)]) -> Result<(), SpoolError> {
        let disk_ = &self.shared.disk;
        let Err(error) = disk_.prepare_sync_all().and_then(|()| disk_.sync_all()) else { return Ok(()) };
        if error.kind() != io::ErrorKind::Unsupported {
            // Another program's file can be the reason.
            self.shared.notify(Notice::warning(format!(
                "{}: each message of {} is synced by itself",
                disk(Step::Sync, &disk_.describe())(error),
                self.orphan.path
            )));
        }
        present.iter().try_for_each(|(queue_id, offset, header)| {
            self.sync_one(queue_id, &self.payload(*offset, header)?)
        })
    }

    /// What the failed sync had to write for this message counts as written now: it is written once more.
    fn sync_one(&self, queue_id: &QueueId, payload: &[u8]) -> Result<(), SpoolError> {
        let disk_ = &self.shared.disk;
        for _ in 0..2 {
            // If it is gone, it was delivered.
            let Some(entry) = queue::find(disk_, queue_id)? else { return Ok(()) };
            let file = match disk_.open_to_write(&entry.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(disk(Step::Open, &entry.path))?,
            };
            if renew(disk_, &entry.path, &file, payload)? == Likeness::Same {
                return disk_.sync(&file).map_err(disk(Step::Sync, &entry.path));
            }
        }
        // It moves faster than we look, or is not what it was a moment ago.
        Err(disk(Step::Sync, queue_id.as_str())(io::ErrorKind::NotFound.into()))
    }

    /// Says in the journal, durably, that what has a lower sequence number needs it no more.
    fn mark(&self, below: u64, place: usize) -> Result<(), SpoolError> {
        let Orphan { file, path, instance, version, account, .. } = &self.orphan;
        let first = account.next_sequence;
        let mark = Header {
            instance: *instance,
            // Settlement can go on only where there was a record.
            mount: account.mount.unwrap_or(Mount::UNKNOWN),
            sequence: first,
            batch: Batch { first, count: 1, follows: first, retired_below: below },
            content: Content::Mark { is_of_settlement: true },
            payload_bytes: 0,
            payload_checksum: crc32fast::hash(b""),
        };
        let [even, odd] = MARK_PLACES;
        let offset = if place.is_multiple_of(2) { even } else { odd };
        let disk_ = &self.shared.disk;
        write_mark(disk_, file, &mark, *version, offset).map_err(disk(Step::Write, path))?;
        disk_.sync_data(file).map_err(disk(Step::Sync, path))
    }

    /// Part of it cannot be read: an expert may get more out of it than we.
    fn keep_aside(&self) -> Result<(), SpoolError> {
        let Orphan { file, path, found, account, .. } = &self.orphan;
        let aside = names::damaged(path);
        self.shared.disk.rename_new(path, &aside).map_err(disk(Step::Rename, path))?;
        self.shared.disk.sync(file).map_err(disk(Step::Sync, &aside))?;
        let version = match found.other_version {
            Some(version) => format!(", records of format {version}, which this program does not support"),
            None => String::new(),
        };
        self.shared.notify(Notice::error(format!(
            "{aside}: accepted messages may be lost: {} records and {} batches of records cannot be read ({} damaged \
             places{version}); all readable messages are in the queue; examine the file, then remove it",
            account.lost, account.lost_batches, found.damaged
        )));
        Ok(())
    }
}

/// When a message arrived, as its queue file says.
fn arrival(payload: &[u8]) -> Option<Timestamp> {
    let mut records = Reader::new(payload).map_while(Result::ok);
    let (_, time) = records.find(|(_, record)| record.kind == RecordType::TIME)?;
    let (seconds, microseconds) = parse_arrival(time.data)?;
    Some(Timestamp { seconds, microseconds })
}
