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
//! | 60–63 | kind: 1 a message, 2 a mark |
//! | 64–71 | the first sequence number behind the last batch that succeeded before this one |
//! | 72–79 | everything below this sequence number is on disk without the journal |
//! | 80–83 | length of the payload in bytes |
//! | 84–87 | CRC-32 of the payload |
//! | 88–103 | name of the queue, zeros behind it |
//! | 104–167 | queue ID, zeros behind it |
//! | 168–251 | zero |
//! | 252–255 | CRC-32 of bytes 0–251 |
//! | 256– | the payload: the whole queue file |

use std::fmt;

use postfix::queue_id::QueueId;

use crate::queue::Queue;

/// What every record begins with.
pub const MAGIC: &[u8; 7] = b"qmqpd-J";
/// The format that is described here.
pub const VERSION: u8 = 1;
/// The bytes before the payload.
pub const HEADER_BYTES: usize = 256;
/// Records begin at multiples of this.
pub const RECORD_ALIGNMENT_BYTES: usize = 512;
/// Batches begin at multiples of this.
pub const BATCH_ALIGNMENT_BYTES: usize = 4096;
/// The largest queue file that a record holds.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

const CHECKSUM_AT: usize = 252;

/// Which running of which program wrote a journal file: 16 bytes that nobody can guess, so that no message can contain a
/// record that passes for one of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance(pub [u8; 16]);

impl Instance {
    /// Reads 32 hexadecimal digits, as [`fmt::Display`] writes them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 32 || !text.bytes().all(is_lower) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|number| Self(number.to_be_bytes()))
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Which running of the machine's kernel: `/proc/sys/kernel/random/boot_id`. What a process wrote and did not sync is
/// there as long as this stays the same, however the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BootId([u8; 16]);

impl BootId {
    /// It could not be found out. It is never [the same](BootId::is_same) as another.
    pub const UNKNOWN: Self = Self([0; 16]);

    /// Reads the text of `/proc/sys/kernel/random/boot_id`; anything that is none is [`BootId::UNKNOWN`].
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
        match u128::from_str_radix(&digits, 16) {
            Ok(number) if digits.len() == 32 => Self(number.to_be_bytes()),
            _ => Self::UNKNOWN,
        }
    }

    /// Whether the machine certainly ran on between the two.
    #[must_use]
    pub fn is_same(self, other: Self) -> bool {
        self == other && self != Self::UNKNOWN
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A queue file.
    Message {
        /// The queue that it was put into.
        queue: Queue,
        /// Its name there.
        queue_id: QueueId,
    },
    /// No message: it is there for what it says about the others.
    Mark,
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
    /// When, counted in starts of the machine.
    pub boot_id: BootId,
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
    /// They begin as a record of another version of the format.
    Version(u8),
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
        let start = out.len();
        out.extend_from_slice(MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&self.instance.0);
        out.extend_from_slice(&self.boot_id.0);
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.batch.first.to_le_bytes());
        out.extend_from_slice(&self.batch.count.to_le_bytes());
        let (kind, queue, queue_id): (u32, &str, &[u8]) = match &self.content {
            Content::Message { queue, queue_id } => (1, queue.name(), queue_id.as_bytes()),
            Content::Mark => (2, "", b""),
        };
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&self.batch.follows.to_le_bytes());
        out.extend_from_slice(&self.batch.retired_below.to_le_bytes());
        out.extend_from_slice(&self.payload_bytes.to_le_bytes());
        out.extend_from_slice(&self.payload_checksum.to_le_bytes());
        out.extend_from_slice(queue.as_bytes());
        out.resize(start.saturating_add(104), 0);
        out.extend_from_slice(queue_id);
        out.resize(start.saturating_add(CHECKSUM_AT), 0);
        let checksum = crc32fast::hash(out.get(start..).unwrap_or_default());
        out.extend_from_slice(&checksum.to_le_bytes());
    }

    /// Reads a header.
    ///
    /// # Errors
    /// Why it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotARecord> {
        if !bytes.starts_with(MAGIC) {
            return Err(NotARecord::Other);
        }
        let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(NotARecord::Damaged)?;
        let fields = Fields(header);
        if crc32fast::hash(header.get(..CHECKSUM_AT).unwrap_or_default()) != fields.u32(CHECKSUM_AT) {
            return Err(NotARecord::Damaged);
        }
        let version = fields.array::<1>(7)[0];
        if version != VERSION {
            return Err(NotARecord::Version(version));
        }
        let batch = Batch {
            first: fields.u64(48),
            count: fields.u32(56),
            follows: fields.u64(64),
            retired_below: fields.u64(72),
        };
        let content = match fields.u32(60) {
            1 => Content::Message {
                queue: Queue::parse(&fields.text::<16>(88)?).ok_or(NotARecord::Damaged)?,
                queue_id: QueueId::parse(&fields.text::<64>(104)?).ok_or(NotARecord::Damaged)?,
            },
            2 => Content::Mark,
            _ => return Err(NotARecord::Damaged),
        };
        let header = Self {
            instance: Instance(fields.array(8)),
            boot_id: BootId(fields.array(24)),
            sequence: fields.u64(40),
            batch,
            content,
            payload_bytes: fields.u32(80),
            payload_checksum: fields.u32(84),
        };
        let is_sound = header.sequence >= batch.first
            && header.sequence < batch.end()
            && batch.follows <= batch.first
            && header.payload_bytes as usize <= PAYLOAD_BYTES_MAX;
        if is_sound { Ok(header) } else { Err(NotARecord::Damaged) }
    }
}

/// Reads numbers at fixed places. Every place is within the header, by the table above.
struct Fields<'a>(&'a [u8; HEADER_BYTES]);

impl Fields<'_> {
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

    fn header(sequence: u64, count: u32, payload: &[u8], is_mark: bool) -> Header {
        let queue_id = QueueId::new(true, 1_795_000_000, 7, sequence);
        Header {
            instance: Instance([7; 16]),
            boot_id: BootId::parse("6a2f8a5e-3f0f-4f1e-9d7a-0a1b2c3d4e5f"),
            sequence,
            batch: Batch { first: sequence, count, follows: sequence / 2, retired_below: sequence / 3 },
            content: if is_mark {
                Content::Mark
            } else {
                Content::Message { queue: Queue::Incoming, queue_id }
            },
            payload_bytes: payload.len() as u32,
            payload_checksum: crc32fast::hash(payload),
        }
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
        assert_eq!(BootId::parse("none"), BootId::UNKNOWN);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            sequence in 0..u64::MAX / 2,
            count in 1..1000_u32,
            payload in proptest::collection::vec(any::<u8>(), 0..2000),
            is_mark in any::<bool>(),
        ) {
            let header = header(sequence, count, &payload, is_mark);
            let mut bytes = Vec::new();
            header.encode(&mut bytes);
            prop_assert_eq!(bytes.len(), HEADER_BYTES);
            prop_assert_eq!(Header::decode(&bytes), Ok(header));
        }

        #[test]
        fn a_flipped_bit_is_no_record(sequence in any::<u32>(), bit in 0..HEADER_BYTES * 8) {
            let mut bytes = Vec::new();
            header(sequence.into(), 1, b"x", false).encode(&mut bytes);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Header::decode(&bytes).is_err());
        }

        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(Header::decode(&bytes).is_err());
        }
    }
}
