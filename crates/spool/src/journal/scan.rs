//! Reads a journal file in any condition.
//!
//! [`scan`] finds the records that can be proven whole, wherever they stand; [`account`] says which of them are
//! still needed, and what is missing. Both only read.

use std::collections::BTreeMap;
use std::io;

use postfix::queue_id::QueueId;

use super::identity::{Instance, Mount};
use super::record::{Content, HEADER_BYTES, Header, NotARecord, RECORD_ALIGNMENT_BYTES};
use crate::disk::Timestamp;

/// How much is read at a time.
const WINDOW_BYTES: usize = 256 * 1024;

/// What [`scan`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScanResult {
    /// The records that are whole, by where they begin.
    pub records: BTreeMap<u64, Header>,
    /// Places where a record of this journal begins that is damaged.
    pub damaged: u64,
    /// Records of other journals.
    pub foreign: u64,
    /// A record of this journal in a format that this program does not know.
    pub other_version: Option<u8>,
}

/// A file that is read piece by piece: the function fills the buffer from an offset, less only at the end of the file.
struct Windowed<R> {
    read: R,
    offset: u64,
    bytes: Vec<u8>,
}

impl<R: FnMut(u64, &mut [u8]) -> io::Result<usize>> Windowed<R> {
    /// So many bytes from there; fewer at the end of the file.
    fn at(&mut self, offset: u64, count: usize) -> io::Result<&[u8]> {
        let is_here = offset >= self.offset
            && offset.saturating_add(count as u64) <= self.offset.saturating_add(self.bytes.len() as u64);
        if !is_here {
            self.bytes.resize(WINDOW_BYTES.max(count), 0);
            let filled = (self.read)(offset, &mut self.bytes)?;
            self.bytes.truncate(filled);
            self.offset = offset;
        }
        let start = usize::try_from(offset.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let rest = self.bytes.get(start..).unwrap_or_default();
        Ok(rest.get(..count).unwrap_or(rest))
    }
}

/// Looks at every place of a journal file where a record can begin. `read` fills a buffer from an offset, less only at
/// the end of the file.
///
/// # Errors
/// What `read` says.
pub fn scan(
    instance: Instance,
    read: impl FnMut(u64, &mut [u8]) -> io::Result<usize>,
) -> io::Result<ScanResult> {
    let mut found = ScanResult::default();
    let mut file = Windowed { read, offset: 0, bytes: Vec::new() };
    let mut offset = 0_u64;
    loop {
        let bytes = file.at(offset, HEADER_BYTES)?;
        if bytes.is_empty() {
            return Ok(found);
        }
        let mut step = RECORD_ALIGNMENT_BYTES;
        match Header::decode(instance, bytes) {
            Ok(header) => {
                let payload_offset = offset.saturating_add(HEADER_BYTES as u64);
                let payload = file.at(payload_offset, header.payload_bytes as usize)?;
                if payload.len() == header.payload_bytes as usize
                    && crc32fast::hash(payload) == header.payload_checksum
                {
                    step = header.total_bytes();
                    found.records.insert(offset, header);
                } else {
                    found.damaged = found.damaged.saturating_add(1);
                }
            }
            Err(NotARecord::Foreign) => found.foreign = found.foreign.saturating_add(1),
            Err(NotARecord::Other) => {}
            Err(NotARecord::Version(version)) => found.other_version = Some(version),
            Err(NotARecord::Damaged) => found.damaged = found.damaged.saturating_add(1),
        }
        offset = offset.saturating_add(step as u64);
    }
}

/// What the records of a journal amount to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// The messages that the journal still answers for, in the order in which they came: where each record begins, and
    /// its header.
    pub messages: Vec<(u64, Header)>,
    /// What was delivered, removed or renamed, and must not come back from any journal.
    pub done: Vec<(QueueId, Timestamp)>,
    /// Where it was written; `None` without a record.
    pub mount: Option<Mount>,
    /// Records that were acknowledged, or could have been, and cannot be read any more.
    pub lost: u64,
    /// Whole batches of which nothing can be read any more.
    pub lost_batches: u64,
    /// Records that are missing in the last batch: the machine stopped while it was written, before anything in it was
    /// acknowledged.
    pub unfinished: u64,
    /// A sequence number that was never used.
    pub next_sequence: u64,
    /// What has a lower sequence number is on disk without the journal.
    pub retired_below: u64,
}

/// Says which records are still needed, and what is missing between them.
#[must_use]
pub fn account(found: &ScanResult) -> Account {
    let headers = || found.records.values();
    let retired_below = headers().map(|header| header.batch.retired_below).max().unwrap_or(0);
    let is_mark = |header: &&Header| matches!(header.content, Content::Mark { .. });
    let mut batches: BTreeMap<u64, Vec<(u64, &Header)>> = BTreeMap::new();
    for (offset, header) in &found.records {
        if !is_mark(&header) && header.sequence >= retired_below {
            batches.entry(header.batch.first).or_default().push((*offset, header));
        }
    }
    let newest = headers().max_by_key(|header| header.sequence);
    let mut account = Account {
        mount: newest.map(|header| header.mount),
        next_sequence: headers().map(|header| header.batch.end()).max().unwrap_or(0),
        retired_below,
        ..Account::default()
    };
    // From the last batch back: each says where the one before it ended. A mark behind the last one says it too.
    let newest_end = headers().filter(|header| !is_mark(header)).map(|header| header.batch.end()).max();
    let mut expected_end = headers()
        .filter(|header| header.content == Content::MARK && Some(header.batch.first) >= newest_end)
        .map(|header| header.batch.follows)
        .max();
    for records in batches.values_mut().rev() {
        let Some((_, sample)) = records.first() else { continue };
        let batch = sample.batch;
        match expected_end {
            None => account.unfinished = missing_in(records, retired_below),
            // Everything in it was refused: it failed, and the next one said so.
            Some(end) if batch.first >= end => continue,
            Some(end) => {
                if batch.end() < end {
                    account.lost_batches = account.lost_batches.saturating_add(1);
                }
                account.lost = account.lost.saturating_add(missing_in(records, retired_below));
            }
        }
        expected_end = Some(batch.follows);
        records.sort_by_key(|(_, header)| header.sequence);
        for (offset, header) in records.iter().rev() {
            match header.content {
                Content::Message { .. } => account.messages.push((*offset, **header)),
                Content::Done { queue_id, arrival } => account.done.push((queue_id, arrival)),
                Content::Mark { .. } => {}
            }
        }
    }
    if expected_end.is_some_and(|end| end > retired_below) {
        account.lost_batches = account.lost_batches.saturating_add(1);
    }
    account.messages.reverse();
    account
}

/// How many records of the batch that these belong to are not among them. A part of it can be retired already.
fn missing_in(records: &[(u64, &Header)], retired_below: u64) -> u64 {
    let needed = records
        .first()
        .map_or(0, |(_, header)| header.batch.end().saturating_sub(retired_below.max(header.batch.first)));
    needed.saturating_sub(records.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::identity::{BootId, WitnessId};
    use crate::journal::record::{Batch, VERSION, padded};
    use crate::queue::Queue;
    use postfix::queue_id::QueueId;
    use proptest::prelude::*;

    const OURS: Instance = Instance([7; 16]);

    fn header(instance: Instance, sequence: u64, batch: Batch, payload: &[u8]) -> Header {
        Header {
            instance,
            mount: Mount {
                boot_id: BootId::parse("6a2f8a5e-3f0f-4f1e-9d7a-0a1b2c3d4e5f"),
                id: 0,
                witness: WitnessId::NONE,
            },
            sequence,
            batch,
            content: Content::Message {
                queue: Queue::Incoming,
                queue_id: QueueId::new(true, 1_795_000_000, 7, sequence),
                is_late: false,
            },
            payload_bytes: payload.len() as u32,
            payload_checksum: crc32fast::hash(payload),
        }
    }

    fn append(file: &mut Vec<u8>, header: &Header, payload: &[u8]) {
        header.encode(file);
        file.extend_from_slice(payload);
        file.resize(padded(file.len(), RECORD_ALIGNMENT_BYTES), 0);
    }

    /// A journal file, the extent of each record, and the number of each record's batch.
    struct Journal {
        file: Vec<u8>,
        records: Vec<(std::ops::Range<usize>, Header, usize)>,
        batches: usize,
    }

    /// Batches of so many messages of so many bytes; some numbers between them were used by batches that failed.
    fn journal(batches: &[(Vec<usize>, u64)]) -> Journal {
        let mut journal = Journal { file: vec![0; 8192], records: Vec::new(), batches: batches.len() };
        let mut follows = 1;
        for (number, (lengths, failed)) in batches.iter().enumerate() {
            let batch =
                Batch { first: follows + failed, count: lengths.len() as u32, follows, retired_below: 1 };
            for (at, length) in lengths.iter().enumerate() {
                let payload: Vec<u8> = (0..*length).map(|byte| (byte * 31 + at) as u8).collect();
                let header = header(OURS, batch.first + at as u64, batch, &payload);
                let start = journal.file.len();
                append(&mut journal.file, &header, &payload);
                journal.records.push((start..start + HEADER_BYTES + length, header, number));
            }
            journal.file.resize(padded(journal.file.len(), 4096), 0);
            follows = batch.end();
        }
        journal
    }

    fn read(file: &[u8]) -> Account {
        account(&found(file))
    }

    fn found(file: &[u8]) -> ScanResult {
        let read = |offset: u64, buffer: &mut [u8]| {
            let rest = file.get(offset as usize..).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        };
        scan(OURS, read).unwrap()
    }

    fn batches() -> impl Strategy<Value = Vec<(Vec<usize>, u64)>> {
        proptest::collection::vec((proptest::collection::vec(0..6000_usize, 1..5), 0..3_u64), 1..8)
    }

    fn sequences(account: &Account) -> Vec<u64> {
        account.messages.iter().map(|(_, header)| header.sequence).collect()
    }

    proptest! {
        #[test]
        fn a_whole_journal_is_read_in_order(batches in batches()) {
            let journal = journal(&batches);
            let account = read(&journal.file);
            let expected: Vec<_> = journal.records.iter().map(|(at, header, _)| (at.start as u64, *header)).collect();
            prop_assert_eq!(&account.messages, &expected);
            prop_assert_eq!((account.lost, account.lost_batches, account.unfinished), (0, 0, 0));
        }

        /// What was cut off at any place is missed, and all before it is found.
        #[test]
        fn a_truncated_journal(batches in batches(), cut in any::<prop::sample::Index>()) {
            let journal = journal(&batches);
            let cut = cut.index(journal.file.len() + 1);
            let account = read(&journal.file[..cut]);
            let expected: Vec<_> =
                journal.records.iter().filter(|(at, ..)| at.end <= cut).map(|(_, header, _)| header.sequence).collect();
            prop_assert_eq!(sequences(&account), expected);
            // A torn end is what a crash leaves; nothing of it was acknowledged.
            prop_assert_eq!((account.lost, account.lost_batches), (0, 0));
        }

        /// Every record that a damage does not touch is found, none is invented, and what is missing is noticed, unless
        /// it can be the torn end.
        #[test]
        fn a_damaged_journal(
            batches in batches(),
            start in any::<prop::sample::Index>(),
            length in 1..9000_usize,
            flip in 1..=255_u8,
            is_torn in any::<bool>(),
        ) {
            let journal = journal(&batches);
            let mut file = journal.file.clone();
            let start = start.index(file.len());
            let end = (start + length).min(file.len());
            let before = file.clone();
            file[start..end].iter_mut().for_each(|byte| *byte = if is_torn { 0 } else { *byte ^ flip });
            let is_touched = |at: &std::ops::Range<usize>| file[at.clone()] != before[at.clone()];
            let account = read(&file);
            let expected: Vec<_> = journal
                .records
                .iter()
                .filter(|(at, ..)| !is_touched(at))
                .map(|(_, header, _)| header.sequence)
                .collect();
            prop_assert_eq!(sequences(&account), expected);
            let last_found = journal.records.iter().filter(|(at, ..)| !is_touched(at)).map(|(.., batch)| *batch).max();
            let is_loss = journal.records.iter().any(|(at, _, batch)| is_touched(at) && Some(*batch) < last_found);
            prop_assert_eq!(account.lost + account.lost_batches > 0, is_loss);
            prop_assert!(last_found.is_none_or(|batch| batch < journal.batches));
        }

        /// Records of other journals, or in a message, are no records of this one.
        #[test]
        fn a_foreign_record(batches in batches(), place in any::<prop::sample::Index>()) {
            let journal = journal(&batches);
            let batch = Batch { first: 5, count: 1, follows: 4, retired_below: 1000 };
            let mut foreign = Vec::new();
            append(&mut foreign, &header(Instance([8; 16]), 5, batch, b"foreign"), b"foreign");
            let mut file = journal.file.clone();
            let free = 8192_usize.max(file.len());
            file.resize(free + 8192, 0);
            file[free..free + foreign.len()].copy_from_slice(&foreign);
            let account = read(&file);
            prop_assert_eq!(account.messages.len(), journal.records.len());
            prop_assert_eq!(found(&file).foreign, 1);
            // Over a record of ours it is as good as any damage.
            let over = place.index(file.len() / 512) * 512;
            file[over..].iter_mut().zip(&foreign).for_each(|(to, from)| *to = *from);
            for (_, header) in read(&file).messages {
                prop_assert!(journal.records.iter().any(|(_, ours, _)| *ours == header));
            }
        }

        #[test]
        fn any_bytes_are_judged(file in proptest::collection::vec(any::<u8>(), 0..20_000)) {
            prop_assert_eq!(read(&file).messages.len(), 0);
        }
    }

    #[test]
    fn what_is_retired_or_was_refused_is_not_needed() {
        let mut journal = journal(&[(vec![10, 10], 0), (vec![10], 0), (vec![10], 2)]);
        // A batch that failed after it was written in part, and whose numbers the last one declares refused.
        let failed = Batch { first: 4, count: 2, follows: 4, retired_below: 1 };
        append(&mut journal.file, &header(OURS, 4, failed, b"refused"), b"refused");
        assert_eq!(sequences(&read(&journal.file)), [1, 2, 3, 6]);
        // A mark.
        let batch = Batch { first: 7, count: 1, follows: 7, retired_below: 3 };
        let mark = Header { content: Content::MARK, ..header(OURS, 7, batch, b"") };
        let mut bytes = Vec::new();
        mark.encode(&mut bytes);
        journal.file[..bytes.len()].copy_from_slice(&bytes);
        let account = read(&journal.file);
        assert_eq!(sequences(&account), [3, 6]);
        assert_eq!((account.lost, account.lost_batches, account.next_sequence), (0, 0, 8));
    }

    fn append_mark(file: &mut [u8], batch: Batch, is_of_settlement: bool) {
        let content = Content::Mark { is_of_settlement };
        let mark = Header { content, ..header(OURS, batch.first, batch, b"") };
        let mut bytes = Vec::new();
        mark.encode(&mut bytes);
        file[..bytes.len()].copy_from_slice(&bytes);
    }

    /// The last batch failed, and only a mark says so: nothing of it was acknowledged.
    #[test]
    fn a_later_mark_disproves_a_batch_that_failed() {
        let mut journal = journal(&[(vec![10, 10], 0), (vec![10], 0)]);
        let failed = Batch { first: 4, count: 2, follows: 4, retired_below: 1 };
        append(&mut journal.file, &header(OURS, 4, failed, b"refused"), b"refused");
        assert_eq!(sequences(&read(&journal.file)), [1, 2, 3, 4], "it is not known yet");
        append_mark(&mut journal.file, Batch { first: 6, count: 1, follows: 4, retired_below: 1 }, false);
        let account = read(&journal.file);
        assert_eq!(sequences(&account), [1, 2, 3]);
        assert_eq!((account.lost, account.lost_batches, account.unfinished), (0, 0, 0));
        // It also says that batches are missing.
        append_mark(&mut journal.file, Batch { first: 9, count: 1, follows: 8, retired_below: 1 }, false);
        assert_eq!(read(&journal.file).lost_batches, 1);
    }

    /// Settlement stopped in the middle of a journal whose last batch is torn: nothing is lost.
    #[test]
    fn a_mark_of_settlement_retires_and_says_nothing_else() {
        let mut journal = journal(&[(vec![10, 10], 0), (vec![10, 10], 0)]);
        let torn = journal.records[3].0.clone();
        journal.file[torn].fill(0);
        append_mark(&mut journal.file, Batch { first: 5, count: 1, follows: 5, retired_below: 2 }, true);
        let account = read(&journal.file);
        assert_eq!(sequences(&account), [2, 3]);
        assert_eq!((account.lost, account.lost_batches, account.unfinished), (0, 0, 1));
        assert_eq!((account.retired_below, account.next_sequence), (2, 6));
    }

    #[test]
    fn what_is_done_is_told_apart_from_messages() {
        let mut journal = journal(&[(vec![10], 0)]);
        let queue_id = QueueId::new(true, 1_795_000_000, 7, 99);
        let arrival = Timestamp { seconds: 1_795_000_001, microseconds: 3 };
        let batch = Batch { first: 2, count: 1, follows: 2, retired_below: 1 };
        let done = Header { content: Content::Done { queue_id, arrival }, ..header(OURS, 2, batch, b"") };
        append(&mut journal.file, &done, b"");
        let account = read(&journal.file);
        assert_eq!(
            (sequences(&account), account.done.as_slice()),
            (vec![1], [(queue_id, arrival)].as_slice())
        );
        assert_eq!((account.lost, account.lost_batches), (0, 0));
    }

    #[test]
    fn another_format_is_noticed_in_records_of_this_journal_only() {
        let mut journal = journal(&[(vec![10], 0)]);
        let start = journal.records[0].0.start;
        journal.file[start + 7] = VERSION + 1;
        let checksum = crc32fast::hash(&journal.file[start..start + 252]).to_le_bytes();
        journal.file[start + 252..start + 256].copy_from_slice(&checksum);
        assert_eq!(found(&journal.file).other_version, Some(VERSION + 1));
        journal.file[start + 8] ^= 1;
        let found = found(&journal.file);
        assert_eq!((found.other_version, found.damaged, found.foreign), (None, 0, 1));
    }

    /// A large journal is read in large pieces.
    #[test]
    fn a_journal_is_read_once() {
        let file = journal(&[(vec![5000; 300], 0)]).file;
        let mut reads = 0;
        let read = |offset: u64, buffer: &mut [u8]| {
            reads += 1;
            let rest = file.get(offset as usize..).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        };
        assert_eq!(scan(OURS, read).unwrap().records.len(), 300);
        let pieces = file.len() / WINDOW_BYTES;
        assert!(pieces >= 5 && reads <= 2 * pieces, "{reads} reads of {} bytes", file.len());
    }
}
