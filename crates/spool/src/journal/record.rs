//! The records of a journal file: bytes to values and back, nothing else.
//!
//! All numbers are little-endian. A record begins at a multiple of [`RECORD_ALIGNMENT_BYTES`], the first of a batch at
//! one of [`BATCH_ALIGNMENT_BYTES`], so that no page that holds an acknowledged message is ever written again.
//!
//! | bytes | what |
//! |---|---|
//! | 0–6 | `qmqpd-J` |
//! | 7 | version of the format, [`VERSION`] |
//! | 8–23 | the instance that wrote it, which is also the name of the file |
//! | 24–39 | boot ID of the machine, as it ran then |
//! | 40–47 | sequence number |
//! | 48–55 | sequence number of the first record of the batch |
//! | 56–59 | number of records in the batch |
//! | 60–63 | kind: 1 a message, 2 a mark, 3 done |
//! | 64–71 | the first sequence number behind the last batch that succeeded before this one |
//! | 72–79 | everything below this sequence number is on disk without the journal |
//! | 80–83 | length of the payload in bytes |
//! | 84–87 | CRC-32 of the payload |
//! | 88–103 | name of the queue, zeros behind it |
//! | 104–167 | queue ID, zeros behind it |
//! | 168–183 | the witness of the mount, or zeros |
//! | 184–191 | unique ID of the mount, or 0 |
//! | 192–199 | done: arrival of the message, seconds since 1970 |
//! | 200–203 | done: arrival of the message, microseconds of that second |
//! | 204–207 | flags: bit 0 a late message, bit 1 a mark by settlement |
//! | 208–251 | zero |
//! | 252–255 | CRC-32 of bytes 0–251 |
//! | 256– | the payload: the whole queue file |
//!
//! # Versions
//!
//! Bytes 0 to 23 and the checksum at 252 mean the same in every version, so that a reader can tell whose record it is before
//! it asks for the version. The version is also part of the file's name, and all records of a file have the same: a program
//! leaves files of later versions alone and says so; it never takes them for damaged ones. Version 1 lacks what stands behind
//! byte 167, and kind 3.
//!
//! A reader must understand the flags of bits 0 to 15, and takes a record with others of these for one of a later version. It
//! may ignore bits 16 to 31.
//!
//! # Kinds
//!
//! A *message* stands in one piece, and its bytes do not change until it is retired: another process can read it in place. A
//! *late* one has no queue file yet: the journal alone answers for it, so that a missing file does not mean that it was
//! delivered. No version of this program writes late messages so far; settlement knows them.
//!
//! *Done* says that a message was delivered, removed, or renamed by a program of ours, after the fact: it must not come back.
//! It names the message by queue ID and arrival (the record `T` of its queue file), can stand in another journal than the message, and has no payload. Who
//! writes it retires it only when no journal can hold that message any more. Settlement honours it.

use postfix::queue_id::QueueId;

use super::identity::{BootId, Instance, Mount, WitnessId};
use crate::disk::Timestamp;
use crate::queue::Queue;

/// What every record begins with.
pub const MAGIC: &[u8; 7] = b"qmqpd-J";
/// The format that is described here.
pub const VERSION: u8 = 2;
/// The oldest format that can be read: that of release 0.1.0.
pub const VERSION_MIN: u8 = 1;
/// The bytes before the payload.
pub const HEADER_BYTES: usize = 256;
/// Records begin at multiples of this.
pub const RECORD_ALIGNMENT_BYTES: usize = 512;
/// Batches begin at multiples of this.
pub const BATCH_ALIGNMENT_BYTES: usize = 4096;
/// The largest queue file that a record holds.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

const INSTANCE_AT: usize = 8;
const CHECKSUM_AT: usize = 252;

const FLAG_LATE: u32 = 1;
const FLAG_SETTLEMENT: u32 = 1 << 1;
/// The flags that a reader must understand.
const FLAGS_TO_UNDERSTAND: u32 = 0xffff;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A queue file.
    Message {
        /// The queue that it was put into.
        queue: Queue,
        /// Its name there.
        queue_id: QueueId,
        /// It has no queue file yet.
        is_late: bool,
    },
    /// No message: it is there for what it says about the others.
    Mark {
        /// Settlement wrote it, not the process whose journal it is: of the batches before it nothing follows but what is retired.
        is_of_settlement: bool,
    },
    /// A message that was delivered, removed or renamed: it must not come back.
    Done {
        /// Its queue ID.
        queue_id: QueueId,
        /// When it arrived, as its queue file says. Together with the queue ID that is never given twice.
        arrival: Timestamp,
    },
}

impl Content {
    /// A mark of the process whose journal it is.
    pub const MARK: Self = Self::Mark { is_of_settlement: false };
}

/// Where a record stands among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// The sequence number of its first record.
    pub first: u64,
    /// How many records it has.
    pub count: u32,
    /// The first sequence number behind the last batch that succeeded before this one. What has a number from there to
    /// `first` belongs to batches that failed, and was refused.
    pub follows: u64,
    /// What has a lower sequence number is on disk without the journal.
    pub retired_below: u64,
}

impl Batch {
    /// The first sequence number behind it.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.first.saturating_add(self.count as u64)
    }
}

/// The header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Who wrote it.
    pub instance: Instance,
    /// On which mount.
    pub mount: Mount,
    /// Its number; the numbers of one instance only grow.
    pub sequence: u64,
    /// What it was written together with.
    pub batch: Batch,
    /// What it is.
    pub content: Content,
    /// Bytes of payload.
    pub payload_bytes: u32,
    /// CRC-32 of the payload.
    pub payload_checksum: u32,
}

/// Why bytes are no record. None of these is an error in itself: most places of a journal are inside a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotARecord {
    /// They begin otherwise.
    Other,
    /// A record of this instance in another version of the format.
    Version(u8),
    /// A record of another instance.
    Foreign,
    /// They begin as a record, and are damaged.
    Damaged,
}

impl Header {
    /// Bytes from this record to the next one of its batch.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        padded(HEADER_BYTES.saturating_add(self.payload_bytes as usize), RECORD_ALIGNMENT_BYTES)
    }

    /// Appends the header's [`HEADER_BYTES`] bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_in(VERSION, out);
    }

    /// The same for a journal of this format, which has to be able to say all that is said here.
    pub(super) fn encode_in(&self, version: u8, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(MAGIC);
        out.push(version);
        out.extend_from_slice(&self.instance.0);
        out.extend_from_slice(&self.mount.boot_id.0);
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.batch.first.to_le_bytes());
        out.extend_from_slice(&self.batch.count.to_le_bytes());
        let Fields { kind, queue, queue_id, arrival, flags } = Fields::of(&self.content);
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&self.batch.follows.to_le_bytes());
        out.extend_from_slice(&self.batch.retired_below.to_le_bytes());
        out.extend_from_slice(&self.payload_bytes.to_le_bytes());
        out.extend_from_slice(&self.payload_checksum.to_le_bytes());
        out.extend_from_slice(queue.as_bytes());
        out.resize(start.saturating_add(104), 0);
        out.extend_from_slice(queue_id);
        out.resize(start.saturating_add(168), 0);
        out.extend_from_slice(&self.mount.witness.0);
        out.extend_from_slice(&self.mount.id.to_le_bytes());
        out.extend_from_slice(&arrival.seconds.to_le_bytes());
        out.extend_from_slice(&arrival.microseconds.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        out.resize(start.saturating_add(CHECKSUM_AT), 0);
        let checksum = crc32fast::hash(out.get(start..).unwrap_or_default());
        out.extend_from_slice(&checksum.to_le_bytes());
    }

    /// Reads a header of this instance's journal. Whose record it is comes first: a message can contain bytes that look like a
    /// record, but not one of this instance.
    ///
    /// # Errors
    /// Why it is not a record of this journal.
    pub fn decode(instance: Instance, bytes: &[u8]) -> Result<Self, NotARecord> {
        if !bytes.starts_with(MAGIC) {
            return Err(NotARecord::Other);
        }
        let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(NotARecord::Damaged)?;
        let at = HeaderFields(header);
        if at.array(INSTANCE_AT) != instance.0 {
            return Err(NotARecord::Foreign);
        }
        if crc32fast::hash(header.get(..CHECKSUM_AT).unwrap_or_default()) != at.u32(CHECKSUM_AT) {
            return Err(NotARecord::Damaged);
        }
        let version = at.array::<1>(7)[0];
        if !(VERSION_MIN..=VERSION).contains(&version) {
            return Err(NotARecord::Version(version));
        }
        let flags = at.u32(204);
        if flags & FLAGS_TO_UNDERSTAND & !(FLAG_LATE | FLAG_SETTLEMENT) != 0 {
            return Err(NotARecord::Version(version));
        }
        let batch =
            Batch { first: at.u64(48), count: at.u32(56), follows: at.u64(64), retired_below: at.u64(72) };
        let header = Self {
            instance,
            mount: Mount {
                boot_id: BootId(at.array(24)),
                id: at.u64(184),
                witness: WitnessId(at.array(168)),
            },
            sequence: at.u64(40),
            batch,
            content: at.content(version, flags)?,
            payload_bytes: at.u32(80),
            payload_checksum: at.u32(84),
        };
        let is_sound = header.sequence >= batch.first
            && header.sequence < batch.end()
            && batch.follows <= batch.first
            && header.payload_bytes as usize <= PAYLOAD_BYTES_MAX;
        if is_sound { Ok(header) } else { Err(NotARecord::Damaged) }
    }
}

/// What the content of a record is in its bytes.
struct Fields<'a> {
    kind: u32,
    queue: &'static str,
    queue_id: &'a [u8],
    arrival: Timestamp,
    flags: u32,
}

impl<'a> Fields<'a> {
    fn of(content: &'a Content) -> Self {
        let none = Self { kind: 2, queue: "", queue_id: b"", arrival: Timestamp::default(), flags: 0 };
        match content {
            Content::Message { queue, queue_id, is_late } => Self {
                kind: 1,
                queue: queue.name(),
                queue_id: queue_id.as_bytes(),
                flags: if *is_late { FLAG_LATE } else { 0 },
                ..none
            },
            Content::Mark { is_of_settlement } => {
                Self { flags: if *is_of_settlement { FLAG_SETTLEMENT } else { 0 }, ..none }
            }
            Content::Done { queue_id, arrival } => {
                Self { kind: 3, queue_id: queue_id.as_bytes(), arrival: *arrival, ..none }
            }
        }
    }
}

/// Reads numbers at fixed places. Every place is within the header, by the table above.
struct HeaderFields<'a>(&'a [u8; HEADER_BYTES]);

impl HeaderFields<'_> {
    fn content(&self, version: u8, flags: u32) -> Result<Content, NotARecord> {
        let queue_id = || QueueId::parse(&self.text::<64>(104)?).ok_or(NotARecord::Damaged);
        match (self.u32(60), version) {
            (1, _) => Ok(Content::Message {
                queue: Queue::parse(&self.text::<16>(88)?).ok_or(NotARecord::Damaged)?,
                queue_id: queue_id()?,
                is_late: flags & FLAG_LATE != 0,
            }),
            (2, _) => Ok(Content::Mark { is_of_settlement: flags & FLAG_SETTLEMENT != 0 }),
            (3, 2..) => Ok(Content::Done {
                queue_id: queue_id()?,
                arrival: Timestamp { seconds: self.u64(192), microseconds: self.u32(200) },
            }),
            _ => Err(NotARecord::Damaged),
        }
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    fn text<const N: usize>(&self, at: usize) -> Result<String, NotARecord> {
        let bytes = self.array::<N>(at);
        let end = bytes.iter().position(|byte| *byte == 0).ok_or(NotARecord::Damaged)?;
        let text = bytes.get(..end).unwrap_or_default().to_vec();
        String::from_utf8(text).map_err(|_| NotARecord::Damaged)
    }
}

/// A length, and what is missing to a multiple of the alignment.
#[must_use]
pub const fn padded(bytes: usize, alignment: usize) -> usize {
    bytes.div_ceil(alignment).saturating_mul(alignment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OURS: Instance = Instance([7; 16]);

    fn header(sequence: u64, count: u32, payload: &[u8], kind: u8) -> Header {
        let queue_id = QueueId::new(true, 1_795_000_000, 7, sequence);
        let arrival = Timestamp { seconds: 1_795_000_000 + sequence % 9, microseconds: 7 };
        Header {
            instance: OURS,
            mount: Mount {
                boot_id: BootId::parse("6a2f8a5e-3f0f-4f1e-9d7a-0a1b2c3d4e5f"),
                id: sequence % 5,
                witness: WitnessId([sequence as u8; 16]),
            },
            sequence,
            batch: Batch { first: sequence, count, follows: sequence / 2, retired_below: sequence / 3 },
            content: match kind {
                0 | 1 => Content::Message { queue: Queue::Incoming, queue_id, is_late: kind == 1 },
                2 | 3 => Content::Mark { is_of_settlement: kind == 3 },
                _ => Content::Done { queue_id, arrival },
            },
            payload_bytes: payload.len() as u32,
            payload_checksum: crc32fast::hash(payload),
        }
    }

    fn encoded(header: &Header) -> Vec<u8> {
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        bytes
    }

    /// Changes bytes of a header and makes its checksum right again.
    fn changed(mut bytes: Vec<u8>, at: usize, with: &[u8]) -> Vec<u8> {
        bytes[at..at + with.len()].copy_from_slice(with);
        let checksum = crc32fast::hash(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    #[test]
    fn names_and_boot_ids() {
        let instance = Instance([0xab; 16]);
        assert_eq!(Instance::parse(&instance.to_string()), Some(instance));
        for text in ["", "ab", &"AB".repeat(16), &"g".repeat(32), &"+".repeat(32)] {
            assert_eq!(Instance::parse(text), None, "{text}");
        }
        let boot_id = BootId::parse("6a2f8a5e-3f0f-4f1e-9d7a-0a1b2c3d4e5f\n");
        assert!(boot_id.is_same(boot_id));
        assert_eq!(BootId::parse(&boot_id.to_string()), boot_id);
        assert!(!BootId::UNKNOWN.is_same(BootId::UNKNOWN));
        assert!(!boot_id.is_same(BootId::parse("7a2f8a5e-3f0f-4f1e-9d7a-0a1b2c3d4e5f")));
        assert_eq!(BootId::parse("none"), BootId::UNKNOWN);
        assert_eq!(BootId::parse("6a2f"), BootId::UNKNOWN);
    }

    /// Whose record it is comes before its version and its damages: no letter can contain one that raises an alarm.
    #[test]
    fn a_record_of_another_instance_is_foreign_whatever_its_version() {
        let ours = encoded(&header(5, 1, b"x", 0));
        let later = changed(ours.clone(), 7, &[VERSION + 1]);
        assert_eq!(Header::decode(OURS, &later), Err(NotARecord::Version(VERSION + 1)));
        assert_eq!(Header::decode(OURS, &changed(ours.clone(), 7, &[0])), Err(NotARecord::Version(0)));
        let mut damaged = later.clone();
        damaged[100] ^= 1;
        for bytes in [later, damaged, ours] {
            assert_eq!(Header::decode(Instance([8; 16]), &bytes), Err(NotARecord::Foreign));
        }
    }

    #[test]
    fn a_flag_that_must_be_understood_is_of_a_later_version() {
        let ours = encoded(&header(5, 1, b"x", 0));
        let with = |flags: u32| Header::decode(OURS, &changed(ours.clone(), 204, &flags.to_le_bytes()));
        assert_eq!(with(1 << 2), Err(NotARecord::Version(VERSION)));
        assert_eq!(with(1 << 15), Err(NotARecord::Version(VERSION)));
        assert!(with(1 << 16).is_ok() && with(1 << 31).is_ok());
    }

    /// As release 0.1.0 wrote it: nothing behind byte 167.
    #[test]
    fn a_record_of_format_1_is_read() {
        let mut ours = encoded(&header(5, 1, b"x", 0));
        ours[168..CHECKSUM_AT].fill(0);
        let read = Header::decode(OURS, &changed(ours.clone(), 7, &[1])).unwrap();
        let Content::Message { queue_id, is_late, .. } = read.content else { panic!("{read:?}") };
        assert_eq!((queue_id, is_late), (QueueId::new(true, 1_795_000_000, 7, 5), false));
        assert_eq!((read.mount.id, read.mount.witness), (0, WitnessId::NONE));
        // It knew no records of kind 3.
        let done = changed(ours, 60, &3_u32.to_le_bytes());
        assert_eq!(Header::decode(OURS, &changed(done.clone(), 7, &[1])), Err(NotARecord::Damaged));
        assert!(Header::decode(OURS, &done).is_ok());
    }

    #[test]
    fn what_contradicts_itself_is_damaged() {
        let ours = encoded(&header(6, 2, b"x", 0));
        for (at, value) in [(40, 5_u64), (40, 8), (48, 7), (64, 7)] {
            let bytes = changed(ours.clone(), at, &value.to_le_bytes());
            assert_eq!(Header::decode(OURS, &bytes), Err(NotARecord::Damaged), "{value} at {at}");
        }
        let too_long = (PAYLOAD_BYTES_MAX as u32 + 1).to_le_bytes();
        assert_eq!(Header::decode(OURS, &changed(ours.clone(), 80, &too_long)), Err(NotARecord::Damaged));
        let longest = (PAYLOAD_BYTES_MAX as u32).to_le_bytes();
        assert!(Header::decode(OURS, &changed(ours.clone(), 80, &longest)).is_ok());
        assert!(Header::decode(OURS, &changed(ours.clone(), 40, &7_u64.to_le_bytes())).is_ok());
        assert_eq!(Header::decode(OURS, &ours[..HEADER_BYTES - 1]), Err(NotARecord::Damaged));
        assert_eq!(Header::decode(OURS, b"qmqpd-"), Err(NotARecord::Other));
    }

    #[test]
    fn records_begin_at_multiples_of_the_alignment() {
        let total = |payload_bytes| Header { payload_bytes, ..header(1, 1, b"", 0) }.total_bytes();
        assert_eq!([0, 1, 256, 257].map(total), [512, 512, 512, 1024]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            sequence in 0..u64::MAX / 2,
            count in 1..1000_u32,
            payload in proptest::collection::vec(any::<u8>(), 0..2000),
            kind in 0..5_u8,
        ) {
            let header = header(sequence, count, &payload, kind);
            let bytes = encoded(&header);
            prop_assert_eq!(bytes.len(), HEADER_BYTES);
            prop_assert_eq!(Header::decode(OURS, &bytes), Ok(header));
        }

        #[test]
        fn a_flipped_bit_is_no_record(sequence in any::<u32>(), bit in 0..HEADER_BYTES * 8) {
            let mut bytes = encoded(&header(sequence.into(), 1, b"x", 0));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Header::decode(OURS, &bytes).is_err());
        }

        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(Header::decode(OURS, &bytes).is_err());
        }
    }
}
