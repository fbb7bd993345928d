//! What a journal file says, whatever has happened to it.
//!
//! [`scan`] finds the records that can be proven whole, wherever they stand; [`account`] says which of them are still
//! needed, and what is missing. Both only read.

use std::collections::BTreeMap;
use std::io;

use super::record::{BootId, Content, HEADER_BYTES, Header, Instance, NotARecord, RECORD_ALIGNMENT_BYTES};

/// How much is read at a time.
const WINDOW_BYTES: usize = 256 * 1024;

/// What [`scan`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// The records that are whole, by where they begin.
    pub records: BTreeMap<u64, Header>,
    /// Places where a record of this journal begins that is damaged.
    pub damaged: u64,
    /// Records of other journals.
    pub foreign: u64,
    /// A record of a format that this program does not know.
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
pub fn scan(instance: Instance, read: impl FnMut(u64, &mut [u8]) -> io::Result<usize>) -> io::Result<Found> {
    let mut found = Found::default();
    let mut file = Windowed { read, offset: 0, bytes: Vec::new() };
    let mut offset = 0_u64;
    loop {
        let bytes = file.at(offset, HEADER_BYTES)?;
        if bytes.is_empty() {
            return Ok(found);
        }
        let mut step = RECORD_ALIGNMENT_BYTES;
        match Header::decode(bytes) {
            Ok(header) if header.instance == instance => {
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
            Ok(_) => found.foreign = found.foreign.saturating_add(1),
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
    /// When it was written; `None` without a record.
    pub boot_id: Option<BootId>,
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
pub fn account(found: &Found) -> Account {
    let headers = || found.records.values();
    let retired_below = headers().map(|header| header.batch.retired_below).max().unwrap_or(0);
    let mut batches: BTreeMap<u64, Vec<(u64, &Header)>> = BTreeMap::new();
    for (offset, header) in &found.records {
        if header.content != Content::Mark && header.sequence >= retired_below {
            batches.entry(header.batch.first).or_default().push((*offset, header));
        }
    }
    let newest = headers().max_by_key(|header| header.sequence);
    let mut account = Account {
        boot_id: newest.map(|header| header.boot_id),
        next_sequence: headers().map(|header| header.batch.end()).max().unwrap_or(0),
        retired_below,
        ..Account::default()
    };
    // From the last batch back: each says where the one before it ended.
    let mut expected_end = None;
    for records in batches.values_mut().rev() {
        let Some((_, sample)) = records.first() else { continue };
        let batch = sample.batch;
        match expected_end {
            None => account.unfinished = missing_in(records),
            // Everything in it was refused: it failed, and the next one said so.
            Some(end) if batch.first >= end => continue,
            Some(end) => {
                if batch.end() < end {
                    account.lost_batches = account.lost_batches.saturating_add(1);
                }
                account.lost = account.lost.saturating_add(missing_in(records));
            }
        }
        expected_end = Some(batch.follows);
        records.sort_by_key(|(_, header)| header.sequence);
        account.messages.extend(records.iter().rev().map(|(offset, header)| (*offset, **header)));
    }
    if expected_end.is_some_and(|end| end > retired_below) {
        account.lost_batches = account.lost_batches.saturating_add(1);
    }
    account.messages.reverse();
    account
}

/// How many records of the batch that these belong to are not among them.
fn missing_in(records: &[(u64, &Header)]) -> u64 {
    let count = records.first().map_or(0, |(_, header)| u64::from(header.batch.count));
    count.saturating_sub(records.len() as u64)
}
