//! Journal files: what a power cut, a disk or a hand has left of one. The first byte says what the rest is: the file itself, with
//! checksums made right; sound records that contradict each other; or a journal as it is written, one region of it damaged.
#![no_main]

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use postfix::queue_id::QueueId;
use spool::journal::record::{
    BATCH_ALIGNMENT_BYTES, Batch, Content, HEADER_BYTES, Header, MAGIC, RECORD_ALIGNMENT_BYTES, padded,
};
use spool::journal::scan::{Account, ScanResult, account, scan};
use spool::journal::{BootId, DIRECTORY, Instance, Mount, WitnessId};
use spool::simulated::Simulated;
use spool::{Options, Queue, Spool, Timestamp};

const OURS: Instance = Instance([7; 16]);
const ANOTHER: Instance = Instance([8; 16]);
/// Where batches begin: behind two places for marks.
const BATCHES_START: usize = 2 * BATCH_ALIGNMENT_BYTES;

/// A queue directory without messages.
static EMPTY: LazyLock<Simulated> = LazyLock::new(|| {
    let disk = Simulated::new();
    let options = Options { create_missing: true, ..Options::default() };
    drop(Spool::open(disk.clone(), &options, Arc::new(|_| {})).expect("nothing is wrong with the disk"));
    disk.set_mount_id(7);
    disk
});

fn boot_id(digit: char) -> BootId {
    BootId::parse(&digit.to_string().repeat(32))
}

/// The mount of the tests, in this running of the kernel.
fn mount(digit: char) -> Mount {
    Mount { boot_id: boot_id(digit), id: 7, witness: WitnessId::NONE }
}

fn queue_id(number: u64) -> QueueId {
    QueueId::new(true, 1_795_000_000, 7, number)
}

fn append(file: &mut Vec<u8>, header: &Header, payload: &[u8]) {
    header.encode(file);
    file.extend_from_slice(payload);
    file.resize(padded(file.len(), RECORD_ALIGNMENT_BYTES), 0);
}

fn header(sequence: u64, batch: Batch, content: Content, payload: &[u8]) -> Header {
    Header {
        instance: OURS,
        mount: mount('a'),
        sequence,
        batch,
        content,
        payload_bytes: u32::try_from(payload.len()).expect("a small payload"),
        payload_checksum: crc32fast::hash(payload),
    }
}

fn found(file: &[u8]) -> ScanResult {
    let read = |offset: u64, buffer: &mut [u8]| {
        let rest = usize::try_from(offset).ok().and_then(|offset| file.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    };
    scan(OURS, read).expect("memory can be read")
}

/// The payload of a record that stands in the file, whole and ours.
fn payload<'a>(file: &'a [u8], offset: u64, header: &Header) -> &'a [u8] {
    let start = usize::try_from(offset).expect("a place in memory");
    assert_eq!(
        Header::decode(OURS, &file[start..]).as_ref(),
        Ok(header),
        "a record that does not stand there"
    );
    assert_eq!(header.instance, OURS);
    let start = start + HEADER_BYTES;
    let payload = &file[start..start + header.payload_bytes as usize];
    assert_eq!(crc32fast::hash(payload), header.payload_checksum);
    payload
}

/// What holds for any file.
fn check(file: &[u8]) -> (ScanResult, Account) {
    let found = found(file);
    let account = account(&found);
    let mut behind = 0;
    for (offset, header) in &found.records {
        assert!(*offset >= behind && offset % RECORD_ALIGNMENT_BYTES as u64 == 0, "records overlap");
        payload(file, *offset, header);
        behind = offset + (HEADER_BYTES as u64) + u64::from(header.payload_bytes);
        assert!(header.sequence < account.next_sequence, "a sequence number would be used twice");
    }
    for (offset, header) in &account.messages {
        assert_eq!(found.records.get(offset), Some(header), "an invented message");
        assert!(
            matches!(header.content, Content::Message { .. }) && header.sequence >= account.retired_below
        );
    }
    let in_order = account.messages.windows(2).all(|pair| {
        let (first, second) = (&pair[0].1, &pair[1].1);
        (first.batch.first, first.sequence) <= (second.batch.first, second.sequence)
    });
    assert!(in_order, "messages are out of order");
    (found, account)
}

/// A queue directory with this journal, as a process finds it that starts now.
fn recover(disk: Simulated, boot_id: BootId) -> Simulated {
    let options = Options { boot_id, ..Options::default() };
    let spool =
        Spool::open(disk.clone(), &options, Arc::new(|_| {})).expect("nothing is wrong with the disk");
    let clock = || Timestamp { seconds: 1_795_000_000, microseconds: 0 };
    let settled = spool.settle(&clock).expect("nothing is wrong with the disk");
    assert_eq!(settled.kept, 0);
    drop(spool);
    disk.after_kill()
}

fn queue_files(disk: &Simulated) -> BTreeMap<String, Vec<u8>> {
    let is_queue_file = |path: &String| !path.starts_with(DIRECTORY);
    disk.files()
        .into_iter()
        .filter(is_queue_file)
        .map(|path| {
            let bytes = disk.bytes(&path).expect("a file");
            (path, bytes)
        })
        .collect()
}

/// Recovery writes what the journal answers for, and nothing else.
fn recovery(file: &[u8], found: &ScanResult, account: &Account) {
    let path = format!("{DIRECTORY}/{OURS}.v2");
    if !account.done.is_empty() {
        return;
    }
    let mut expected = BTreeMap::new();
    for (offset, header) in &account.messages {
        let Content::Message { queue, queue_id, is_late } = header.content else { continue };
        // No program writes such messages so far.
        if is_late {
            return;
        }
        // The queue manager's own business: no journal of ours names these.
        if !matches!(queue, Queue::Incoming | Queue::Hold) {
            return;
        }
        // A number is given to one message; where a journal says otherwise, the last one counts.
        for other in [Queue::Incoming, Queue::Hold] {
            let known = expected.get(&format!("{}/{queue_id}", other.name()));
            if known.is_some_and(|known: &Vec<u8>| known != payload(file, *offset, header)) {
                return;
            }
        }
        let is_there = [Queue::Incoming, Queue::Hold]
            .into_iter()
            .any(|other| expected.contains_key(&format!("{}/{queue_id}", other.name())));
        if !is_there {
            expected.insert(format!("{}/{queue_id}", queue.name()), payload(file, *offset, header).to_vec());
        }
    }
    let disk = EMPTY.after_kill();
    disk.put(&path, 0o600, file);

    let was_written_in = |digit| account.mount.is_some_and(|written| written.lasts(&mount(digit), false));
    if was_written_in('a') {
        let ran_on = recover(disk.after_kill(), boot_id('a'));
        assert!(queue_files(&ran_on).is_empty() && ran_on.bytes(&path).is_none(), "nothing was lost");
    }
    if was_written_in('b') {
        return;
    }
    let was_started_again = recover(disk, boot_id('b'));
    assert_eq!(queue_files(&was_started_again), expected);
    assert!(was_started_again.bytes(&path).is_none(), "the journal is still there");
    let is_damaged = account.lost > 0 || account.lost_batches > 0 || found.other_version.is_some();
    let aside = was_started_again.bytes(&format!("{path}.damaged"));
    assert_eq!(aside.is_some(), is_damaged, "what cannot be read is kept, and only that");
    let again = recover(was_started_again.after_kill(), boot_id('c'));
    assert_eq!(queue_files(&again), expected, "a second recovery changes something");
}

/// The file itself. Checksums are made right, which no input would ever have.
fn raw(data: &[u8]) {
    let mut file = data.to_vec();
    for start in (0..file.len()).step_by(RECORD_ALIGNMENT_BYTES) {
        let (_, rest) = file.split_at_mut(start);
        if !rest.starts_with(MAGIC) || rest.len() < HEADER_BYTES {
            continue;
        }
        let (header, behind) = rest.split_at_mut(HEADER_BYTES);
        let announced = u32::from_le_bytes([header[80], header[81], header[82], header[83]]);
        if let Some(payload) = usize::try_from(announced).ok().and_then(|len| behind.get(..len)) {
            header[84..88].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
        }
        let checksum = crc32fast::hash(&header[..252]);
        header[252..].copy_from_slice(&checksum.to_le_bytes());
    }
    let (found, account) = check(&file);
    recovery(&file, &found, &account);
    // And as it is.
    check(data);
}

/// Sound records, eight bytes of input each, with any numbers.
fn contradictory(data: &[u8]) {
    let mut file = Vec::new();
    for chunk in data.chunks_exact(8).take(64) {
        let [flags, sequence, first, count, follows, retired, id, len] = chunk else { continue };
        let has = |bit: u8| flags & bit != 0;
        if has(1) {
            file.resize(padded(file.len(), BATCH_ALIGNMENT_BYTES), 0);
        }
        let payload = vec![*id; usize::from(*len) * 5];
        let sequence = u64::from(*sequence);
        let batch = Batch {
            first: sequence.saturating_sub(u64::from(first % 8)),
            count: u32::from(*count),
            follows: sequence.saturating_sub(u64::from(*follows)),
            retired_below: u64::from(*retired),
        };
        let queue = if has(2) { Queue::Hold } else { Queue::Incoming };
        let content = if has(4) {
            Content::MARK
        } else {
            Content::Message { queue, queue_id: queue_id(u64::from(*id)), is_late: false }
        };
        let mut record = header(sequence, batch, content, &payload);
        if has(8) {
            record.instance = ANOTHER;
        }
        if has(16) {
            record.mount = mount('b');
        }
        if has(32) {
            record.payload_checksum ^= 1;
        }
        let start = file.len();
        append(&mut file, &record, &payload);
        if has(64) {
            // The format of another time.
            file[start + 7] = *count;
            let checksum = crc32fast::hash(&file[start..start + 252]);
            file[start + 252..start + 256].copy_from_slice(&checksum.to_le_bytes());
        }
        if has(128) {
            file[start + usize::from(*follows)] ^= 1;
        }
    }
    let (found, account) = check(&file);
    recovery(&file, &found, &account);
}

/// A journal as it is written.
struct Journal {
    file: Vec<u8>,
    /// The extent of each message's record, and its header.
    records: Vec<(Range<usize>, Header)>,
    /// Those of batches that failed when they were written: nobody needs them.
    refused: Vec<Header>,
    /// The extent of the newest mark, and what it says.
    mark: Option<(Range<usize>, u64)>,
}

fn write(data: &[u8]) -> Journal {
    let mut journal =
        Journal { file: vec![0; BATCHES_START], records: Vec::new(), refused: Vec::new(), mark: None };
    let (mut follows, mut retired, mut marks) = (1, 1, 0);
    let mut bytes = data.iter().copied();
    while let Some(byte) = bytes.next() {
        if journal.records.len() > 24 {
            break;
        }
        if byte & 0x80 != 0 {
            retired = follows;
            let batch = Batch { first: follows, count: 1, follows, retired_below: retired };
            let mut record = Vec::new();
            header(follows, batch, Content::MARK, b"").encode(&mut record);
            let place = marks % 2 * BATCH_ALIGNMENT_BYTES;
            journal.file[place..place + record.len()].copy_from_slice(&record);
            journal.mark = Some((place..place + record.len(), retired));
            marks += 1;
        }
        let (count, failed) = (u64::from(byte & 3) + 1, u64::from(byte >> 2 & 3));
        if byte & 0x10 != 0 {
            let batch = Batch { first: follows, count: failed as u32, follows, retired_below: retired };
            for sequence in follows..follows + failed {
                let content =
                    Content::Message { queue: Queue::Incoming, queue_id: queue_id(sequence), is_late: false };
                let record = header(sequence, batch, content, b"refused");
                append(&mut journal.file, &record, b"refused");
                journal.refused.push(record);
            }
            let end = padded(journal.file.len(), BATCH_ALIGNMENT_BYTES);
            journal.file.resize(end, 0);
        }
        let first = follows + failed;
        let batch = Batch { first, count: count as u32, follows, retired_below: retired };
        for sequence in first..batch.end() {
            let len = usize::from(bytes.next().unwrap_or(0)) * 3;
            let payload: Vec<u8> = (0..len).map(|at| (at * 31) as u8 ^ sequence as u8).collect();
            let queue = if len % 2 == 0 { Queue::Incoming } else { Queue::Hold };
            let content = Content::Message { queue, queue_id: queue_id(sequence), is_late: false };
            let record = header(sequence, batch, content, &payload);
            let start = journal.file.len();
            append(&mut journal.file, &record, &payload);
            journal.records.push((start..start + HEADER_BYTES + len, record));
        }
        let end = padded(journal.file.len(), BATCH_ALIGNMENT_BYTES);
        journal.file.resize(end, 0);
        follows = batch.end();
    }
    journal
}

/// What a damage does not touch is found, none is invented, and what is missing is noticed, unless it can be the torn end.
fn damaged(data: &[u8]) {
    let Some(([start_high, start_low, len, flip, way], rest)) = data.split_first_chunk() else { return };
    let journal = write(rest);
    let mut file = journal.file.clone();
    let start = (usize::from(*start_high) << 8 | usize::from(*start_low)) * 16 % file.len();
    let end = (start + usize::from(*len) * 40).min(file.len());
    match way % 4 {
        // None.
        0 => {}
        1 => file[start..end].fill(*flip),
        2 => file[start..end].iter_mut().for_each(|byte| *byte ^= flip),
        _ => file.truncate(start),
    }
    let is_touched = |at: &Range<usize>| file.get(at.clone()) != journal.file.get(at.clone());
    let (found, account) = check(&file);

    let whole = || journal.records.iter().filter(|(at, _)| !is_touched(at)).map(|(_, header)| *header);
    let by_mark = journal.mark.iter().filter(|(at, _)| !is_touched(at)).map(|(_, retired)| *retired);
    let retired = whole().map(|header| header.batch.retired_below).chain(by_mark).max().unwrap_or(0);
    // An older mark can still stand.
    assert!(account.retired_below >= retired);
    let retired = account.retired_below;
    let expected: Vec<Header> = whole().filter(|header| header.sequence >= retired).collect();
    // What was refused can come back when nothing is left that says so.
    let (refused, messages): (Vec<Header>, Vec<Header>) = account
        .messages
        .iter()
        .map(|(_, header)| *header)
        .partition(|header| journal.refused.contains(header));
    assert_eq!(messages, expected);
    let last = account.messages.last().map(|(_, header)| header.batch.first);
    let is_loss = journal
        .records
        .iter()
        .any(|(at, header)| header.sequence >= retired && is_touched(at) && Some(header.batch.first) < last);
    assert_eq!(
        account.lost > 0 || account.lost_batches > 0,
        is_loss,
        "a loss that is none, or is not noticed"
    );
    if way % 4 == 0 {
        let none = (account.lost, account.lost_batches, account.unfinished, found.damaged);
        assert_eq!((none, refused.len()), ((0, 0, 0, 0), 0));
    }
    recovery(&file, &found, &account);
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 3 {
        0 => raw(data),
        1 => contradictory(data),
        _ => damaged(data),
    }
});
