//! What happens to the journals of processes that are gone.
//!
//! If the machine has run on since, nothing was lost: their queue files are synced, and the journal goes. If it was
//! started again, each message that the journal answers for is looked up in all queues, and written again when it is in
//! none, or not whole. Then everything is synced, and only then the journal goes: a crash at any point leaves it there
//! for the next try, which finds what the first has done.

use std::io;

use postfix::notice::Notice;
use postfix::queue_id::QueueId;
use postfix::record::{Reader, RecordType};

use super::DIRECTORY;
use super::checkpoint::{keep_unsynced, mark, parse_name, path_of, write_mark};
use super::record::{Batch, BootId, Content, HEADER_BYTES, Header, Instance};
use super::ring::MARK_PLACES;
use super::scan::{Account, Found, account, scan};
use crate::disk::{Disk, Timestamp};
use crate::draft::READY_MODE;
use crate::error::{SpoolError, Step, disk};
use crate::queue::{self, Entry, Queue};
use crate::spool::Shared;

/// The end of the name of a journal that could not be read whole.
const DAMAGED: &str = ".damaged";

/// Recovers every journal whose process is gone.
///
/// # Errors
/// A message cannot be written, or the disk not synced. The journals stay, and nobody must accept mail before another
/// try has succeeded.
pub(crate) fn run<D: Disk>(shared: &std::sync::Arc<Shared<D>>, boot_id: BootId) -> Result<(), SpoolError> {
    let names = match shared.disk.names(DIRECTORY) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(disk(Step::List, DIRECTORY)(error)),
    };
    for name in names {
        let Some((instance, unsynced)) = parse_name(&name) else { continue };
        let path = path_of(&name);
        if unsynced.is_some_and(|failed| failed.is_same(boot_id)) {
            shared.notify(Notice::warning(format!(
                "{path}: messages come back from it when the machine has been started again: check the disk first"
            )));
            continue;
        }
        Recovery { shared, boot_id, instance, path }.run()?;
    }
    Ok(())
}

/// One journal.
struct Recovery<'s, D: Disk> {
    shared: &'s std::sync::Arc<Shared<D>>,
    boot_id: BootId,
    instance: Instance,
    path: String,
}

impl<D: Disk> Recovery<'_, D> {
    fn run(&self) -> Result<(), SpoolError> {
        let disk_ = &self.shared.disk;
        let file = match disk_.open_to_write(&self.path) {
            Ok(file) => file,
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(disk(Step::Open, &self.path)(error)),
        };
        // Without locks nobody has written a journal here.
        if !disk_.try_lock(&file).map_err(disk(Step::Lock, &self.path))? {
            // Its process lives, or somebody recovers it.
            return Ok(());
        }
        if disk_.file_status(&file).map_err(disk(Step::Examine, &self.path))?.links == 0 {
            return Ok(());
        }
        let read = |offset, buffer: &mut [u8]| disk_.read_at(&file, offset, buffer);
        let found = scan(self.instance, read).map_err(disk(Step::Read, &self.path))?;
        let account = account(&found);
        let has_run_on = account.boot_id.is_some_and(|boot_id| boot_id.is_same(self.boot_id));
        if !has_run_on {
            self.write_again(&file, &account)?;
        }
        if !account.messages.is_empty() {
            disk_.sync_all().map_err(|error| {
                keep_unsynced(self.shared, &self.path, self.instance, self.boot_id);
                disk(Step::Sync, &disk_.describe())(error)
            })?;
        }
        if !has_run_on && (account.lost > 0 || account.lost_batches > 0 || found.other_version.is_some()) {
            return self.keep_aside(&file, &found, &account);
        }
        self.remove(&file, &account)
    }

    /// Looks for each message, and writes it if need be.
    fn write_again(&self, file: &D::File, account: &Account) -> Result<(), SpoolError> {
        let mut written = 0_u64;
        for (offset, header) in &account.messages {
            let Content::Message { queue, queue_id } = header.content else { continue };
            let payload = self.payload(file, *offset, header)?;
            if self.is_there(&queue_id, &payload)? {
                continue;
            }
            self.write(header.sequence, queue, &queue_id, &payload)?;
            written = written.saturating_add(1);
            self.shared.notify(Notice::info(format!("{queue_id}: written again from {}", self.path)));
        }
        if !account.messages.is_empty() || account.unfinished > 0 {
            self.shared.notify(Notice::info(format!(
                "{}: the machine was started again: {} messages since the last checkpoint, {written} of them written \
                 again, {} more not finished and not acknowledged",
                self.path,
                account.messages.len(),
                account.unfinished
            )));
        }
        Ok(())
    }

    fn payload(&self, file: &D::File, offset: u64, header: &Header) -> Result<Vec<u8>, SpoolError> {
        let mut payload = vec![0; header.payload_bytes as usize];
        let at = offset.saturating_add(HEADER_BYTES as u64);
        let read = self.shared.disk.read_at(file, at, &mut payload).map_err(disk(Step::Read, &self.path))?;
        // It was whole a moment ago.
        if read != payload.len() || crc32fast::hash(&payload) != header.payload_checksum {
            return Err(disk(Step::Read, &self.path)(io::ErrorKind::InvalidData.into()));
        }
        Ok(payload)
    }

    /// Whether the message is in a queue, whole. What is there of it otherwise is removed, but for what the queue manager
    /// has put into `corrupt`.
    fn is_there(&self, queue_id: &QueueId, payload: &[u8]) -> Result<bool, SpoolError> {
        let mut torn = Vec::new();
        // Twice, as it can move from queue to queue meanwhile.
        for _ in 0..2 {
            for queue in Queue::ALL {
                let Some(entry) = queue::find_in(&self.shared.disk, queue, queue_id)? else { continue };
                if self.is_whole(&entry, payload)? {
                    return Ok(true);
                }
                if queue != Queue::Corrupt && !torn.contains(&entry.path) {
                    torn.push(entry.path);
                }
            }
        }
        for path in torn {
            match self.shared.disk.unlink(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(disk(Step::Remove, &path)(error)),
            }
        }
        Ok(false)
    }

    fn is_whole(&self, entry: &Entry, payload: &[u8]) -> Result<bool, SpoolError> {
        if !entry.is_ready() || entry.status.size_bytes < payload.len() as u64 {
            return Ok(false);
        }
        let file = match self.shared.disk.open(&entry.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(disk(Step::Open, &entry.path)(error)),
        };
        let mut bytes = vec![0; payload.len()];
        let read = self.shared.disk.read_at(&file, 0, &mut bytes).map_err(disk(Step::Read, &entry.path))?;
        Ok(read == bytes.len() && is_same_message(payload, &bytes))
    }

    /// Puts a message into its queue, under the ID that it had, so that another try finds it there. Not synced.
    fn write(
        &self,
        sequence: u64,
        queue: Queue,
        queue_id: &QueueId,
        payload: &[u8],
    ) -> Result<(), SpoolError> {
        let microseconds = u32::try_from(sequence % 1_000_000).unwrap_or_default();
        let clock = || Timestamp { seconds: 0, microseconds };
        let mut file = Shared::create_temporary(self.shared, &clock)?;
        file.with(Step::Write, |disk, file| disk.write_at(file, 0, payload))?;
        self.shared.rename_into(&mut file, self.shared.path_in(queue, queue_id))?;
        // Last: a leftover of anything before has the mark, and the next try or a later start removes it.
        file.with(Step::SetMode, |disk, file| disk.set_mode(file, READY_MODE))?;
        file.close()
    }

    /// All is on disk: the journal says so itself before it goes, lest a power cut bring it back.
    fn remove(&self, file: &D::File, account: &Account) -> Result<(), SpoolError> {
        let disk_ = &self.shared.disk;
        if !account.messages.is_empty() {
            let sequence = account.next_sequence;
            let batch = Batch { first: sequence, count: 1, follows: sequence, retired_below: sequence };
            let mark = mark(self.instance, account.boot_id.unwrap_or(BootId::UNKNOWN), batch);
            for place in MARK_PLACES {
                write_mark(disk_, file, &mark, place).map_err(disk(Step::Write, &self.path))?;
            }
            disk_.sync_data(file).map_err(disk(Step::Sync, &self.path))?;
        }
        match disk_.unlink(&self.path) {
            // It was a process trying whether there are locks.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(disk(Step::Remove, &self.path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Part of it cannot be read: an expert may get more out of it than we.
    fn keep_aside(&self, file: &D::File, found: &Found, account: &Account) -> Result<(), SpoolError> {
        let aside = format!("{DIRECTORY}/{}{DAMAGED}", self.instance);
        self.shared.disk.rename_new(&self.path, &aside).map_err(disk(Step::Rename, &self.path))?;
        self.shared.disk.sync(file).map_err(disk(Step::Sync, &aside))?;
        let version = match found.other_version {
            Some(version) => format!(", records of format {version}, which this program does not know"),
            None => String::new(),
        };
        self.shared.notify(Notice::error(format!(
            "{aside}: accepted messages may be lost: {} records and {} batches of records cannot be read ({} damaged \
             places{version}); what could be read is in the queue, the file is kept for you to look at, and to remove",
            account.lost, account.lost_batches, found.damaged
        )));
        Ok(())
    }
}

/// Whether a queue file is this message, as it was written or with what delivery changes in place: types of records
/// (a recipient that is done), and the time of the delay warning.
fn is_same_message(written: &[u8], found: &[u8]) -> bool {
    if written == found {
        return true;
    }
    let mut found = found.to_vec();
    for record in Reader::new(written) {
        let Ok((at, record)) = record else { break };
        if let Some(kind) = found.get_mut(at)
            && RecordType(*kind).is_printable()
        {
            *kind = record.kind.0;
        }
        if record.kind == RecordType::WARNING_TIME {
            let start = at.saturating_add(postfix::record::encoded_len(record.data.len()));
            let start = start.saturating_sub(record.data.len());
            if let Some(time) = found.get_mut(start..start.saturating_add(record.data.len()))
                && time.iter().all(|byte| byte.is_ascii_digit() || *byte == b' ')
            {
                time.copy_from_slice(record.data);
            }
        }
    }
    written == found
}

#[cfg(test)]
mod tests {
    use super::*;
    use postfix::record::encode;

    fn message() -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(&mut bytes, RecordType::WARNING_TIME, b"              0");
        encode(&mut bytes, RecordType::SENDER, b"a@b");
        encode(&mut bytes, RecordType::RECIPIENT, b"c@d");
        encode(&mut bytes, RecordType::END, b"");
        bytes
    }

    #[test]
    fn what_delivery_changes_is_the_same_message() {
        let written = message();
        assert!(is_same_message(&written, &written));
        let mut delivered = written.clone();
        let recipient = written.iter().position(|byte| *byte == b'R').unwrap();
        delivered[recipient] = b'D';
        delivered[2..17].copy_from_slice(b"     1795000000");
        assert!(is_same_message(&written, &delivered));
    }

    #[test]
    fn what_a_crash_tears_is_not() {
        let written = message();
        for at in 0..written.len() {
            let mut torn = written.clone();
            torn[at] = 0;
            assert_eq!(is_same_message(&written, &torn), written[at] == 0, "byte {at}");
        }
        let mut other = written.clone();
        let sender = written.iter().position(|byte| *byte == b'b').unwrap();
        other[sender] = b'x';
        assert!(!is_same_message(&written, &other));
    }
}
