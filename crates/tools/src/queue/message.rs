//! One message as its queue file and its log of deferrals have it.

use super::QueueError;
use super::directory::{Directory, QueueFile};
use postfix::queue_file::letter::{Content, Event, Letter, RecipientState};
use postfix::queue_id::QueueId;
use spool::operator::Identity;
use spool::{Entry, Queue, Timestamp};
use std::collections::BTreeMap;
use std::io;

/// The mode bit of a message that the administrator let expire.
const FORCE_EXPIRE: u32 = 0o010;
/// The most that is read of a log of deferrals: recipients behind that have no reason here.
const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How much of it is read at a time.
const LOG_PIECE_BYTES: usize = 16 * 1024;

/// A message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) queue: Queue,
    pub(super) id: QueueId,
    /// Seconds since 1970; without a readable record the time of the last change.
    pub(super) arrival: u64,
    /// Time of modification of the file, in seconds: that of the next attempt for a deferred message.
    pub(super) modified: u64,
    pub(super) forced_expire: bool,
    pub(super) identity: Identity,
    pub(super) letter: Letter,
    /// The recipients left.
    pub(super) recipients: Vec<Recipient>,
    pub(super) damage: Option<String>,
    /// File size, for a letter without a size record.
    file_bytes: u64,
    /// Reasons, each once: many recipients have the same.
    reasons: Vec<String>,
}

/// A recipient who is still to get the message.
#[derive(Debug)]
pub(super) struct Recipient {
    pub(super) address: Vec<u8>,
    offset: u64,
    reason: Option<usize>,
}

impl Message {
    /// Reads an open queue file, and with `with_reasons` what is kept beside it.
    pub(super) fn read(
        directory: &Directory,
        file: &QueueFile<'_>,
        found: &Entry,
        with_reasons: bool,
    ) -> Result<Self, QueueError> {
        let failed = |error| QueueError::File { path: found.path.clone(), error };
        let status = file.status().map_err(failed)?;
        let mut letter = Letter::default();
        let mut recipients = Vec::new();
        let result = letter.read(file, Content::Skip, &mut |event| {
            let Event::Recipient(recipient) = event else { return };
            if recipient.state == RecipientState::ToDo {
                let (address, offset) = (recipient.address.to_vec(), recipient.offset);
                recipients.push(Recipient { address, offset, reason: None });
            }
        });
        let arrival = letter.arrival.map(|(seconds, microseconds)| Timestamp { seconds, microseconds });
        let mut message = Self {
            queue: found.queue,
            id: found.queue_id,
            arrival: arrival.map_or(status.modified.seconds, |arrival| arrival.seconds),
            modified: status.modified.seconds,
            forced_expire: status.mode & FORCE_EXPIRE != 0,
            identity: Identity { inode: status.inode, arrival },
            letter,
            recipients,
            damage: result.err().map(|error| error.to_string()),
            file_bytes: status.size_bytes,
            reasons: Vec::new(),
        };
        // A queue manager keeps reasons for what is deferred; hold can have some of before.
        if with_reasons && matches!(found.queue, Queue::Deferred | Queue::Hold | Queue::Incoming) {
            message.read_reasons(directory)?;
        }
        Ok(message)
    }

    /// The size of the content in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.letter.size.map_or(self.file_bytes, |size| size.content_length)
    }

    /// When it arrived, in microseconds since 1970: many messages arrive in one second.
    pub(super) fn arrival_microseconds(&self) -> u64 {
        let fraction = self.identity.arrival.map_or(0, |arrival| u64::from(arrival.microseconds));
        self.arrival.saturating_mul(1_000_000).saturating_add(fraction)
    }

    /// When the next attempt is due, in seconds since 1970.
    pub(super) fn next_attempt(&self) -> Option<u64> {
        (self.queue == Queue::Deferred).then_some(self.modified)
    }

    /// Why this recipient was put off, if it is known.
    pub(super) fn reason_of(&self, recipient: &Recipient) -> Option<&str> {
        recipient.reason.and_then(|index| self.reasons.get(index)).map(String::as_str)
    }

    /// The first reason that is known of any recipient.
    pub(super) fn reason(&self) -> Option<&str> {
        self.recipients.iter().find_map(|recipient| self.reason_of(recipient))
    }

    fn read_reasons(&mut self, directory: &Directory) -> Result<(), QueueError> {
        let mut log = DeferLog::default();
        directory.read_defer_log(&self.id, &mut |line| log.line(line))?;
        log.end_entry();
        for recipient in &mut self.recipients {
            recipient.reason = log.by_offset.get(&recipient.offset).map(|(_, reason)| *reason);
        }
        // As postqueue(1) has it: first those of the log, in its order.
        self.recipients.sort_by_key(|recipient| {
            log.by_offset.get(&recipient.offset).map_or(usize::MAX, |(place, _)| *place)
        });
        self.reasons = log.reasons;
        Ok(())
    }
}

/// What is known of the entries of a log so far.
#[derive(Debug, Default)]
struct DeferLog {
    reasons: Vec<String>,
    index: BTreeMap<String, usize>,
    /// The last entry of each recipient, by the place of its record: which entry it is, and its reason.
    by_offset: BTreeMap<u64, (usize, usize)>,
    entries: usize,
    offset: Option<u64>,
    reason: Option<String>,
}

impl DeferLog {
    fn line(&mut self, line: &[u8]) {
        if line.is_empty() {
            return self.end_entry();
        }
        let text = String::from_utf8_lossy(line);
        match text.split_once('=') {
            Some(("offset", value)) => self.offset = value.parse().ok(),
            Some(("reason", value)) => self.reason = Some(value.to_owned()),
            _ => {}
        }
    }

    fn end_entry(&mut self) {
        let (Some(offset), Some(reason)) = (self.offset.take(), self.reason.take()) else { return };
        let next = self.reasons.len();
        let index = *self.index.entry(reason.clone()).or_insert(next);
        if index == next {
            self.reasons.push(reason);
        }
        self.by_offset.insert(offset, (self.entries, index));
        self.entries = self.entries.saturating_add(1);
    }
}

/// Hands out the lines of an open log; `read` fills a buffer from an offset, less only at the end.
pub(super) fn for_each_line(
    mut read: impl FnMut(u64, &mut [u8]) -> io::Result<usize>,
    line: &mut dyn FnMut(&[u8]),
) -> io::Result<()> {
    let (mut offset, mut rest) = (0_u64, Vec::new());
    let mut buffer = vec![0; LOG_PIECE_BYTES];
    while offset < LOG_BYTES_MAX {
        let count = read(offset, &mut buffer)?;
        if count == 0 {
            break;
        }
        offset = offset.saturating_add(count as u64);
        for piece in buffer.get(..count).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            match piece.split_last() {
                Some((b'\n', text)) if rest.is_empty() => line(text),
                Some((b'\n', text)) => {
                    rest.extend_from_slice(text);
                    line(&rest);
                    rest.clear();
                }
                _ => rest.extend_from_slice(piece),
            }
        }
    }
    if !rest.is_empty() {
        line(&rest);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_gives_each_recipient_the_last_reason() {
        let log = b"recipient=a@b\noffset=10\nreason=first\n\n<old@form>: text\nrecipient=c@d\noffset=20\n\
            action=delayed\nreason=host x said: a=b\n\nrecipient=a@b\noffset=10\nreason=host x said: a=b\n\n\
            recipient=torn@x\noffset=3";
        for step in [1, 3, 1000] {
            let mut found = DeferLog::default();
            let read = |offset: u64, buffer: &mut [u8]| {
                let rest = log.get(offset as usize..).unwrap_or_default();
                let count = rest.len().min(buffer.len()).min(step);
                buffer[..count].copy_from_slice(&rest[..count]);
                Ok(count)
            };
            for_each_line(read, &mut |line| found.line(line)).unwrap();
            found.end_entry();
            assert_eq!(found.reasons, ["first", "host x said: a=b"]);
            assert_eq!(
                found.by_offset,
                BTreeMap::from([(10, (2, 1)), (20, (1, 1))]),
                "{step} bytes at a time"
            );
        }
    }
}
