//! Queue files: the order of a message's records in a file.
//!
//! A file is: the size record, the envelope (arrival time, sender, attributes, recipients), `M`, the content, `X`,
//! what was extracted from or found out about the content, `E`. Two layouts are written. [`classic`] is that of
//! cleanup(8), byte for byte; it needs all of the message at hand. [`Streamed`] is for a receiver that learns the
//! envelope after the content and does not want to keep the content in memory; every program of Postfix reads it as
//! well, because all of them follow pointer records. Observed on Postfix 3.7; `docs/queue-file.md` has the bytes.

pub mod letter;
pub mod reader;
mod size_record;
mod streamed;

pub use size_record::{InvalidSizeRecord, SIZE_RECORD_BYTES, SizeRecord};
pub use streamed::{FRONT_BYTES, FrontNeeds, Late, Streamed, Write, front_bytes_for};

use crate::record::{RecordType, encode};

/// How many bytes a pointer record takes, and so the place that is kept for one (`p`, 15 columns).
pub const POINTER_RECORD_BYTES: usize = 17;

/// The whole record that ends the content.
pub const EXTRACTED_RECORD: [u8; 2] = [b'X', 0];

/// The whole record that begins the content.
pub const CONTENT_RECORD: [u8; 2] = [b'M', 0];

/// The whole record that ends a queue file.
pub const END_RECORD: [u8; 2] = [b'E', 0];

/// Appends a pointer record to `out`. `target` is the absolute offset of the record to go on with; 0 keeps the place
/// for a later pointer, and readers go on behind it.
pub fn encode_pointer(out: &mut Vec<u8>, target: u64) {
    encode(out, RecordType::POINTER, format!("{:15}", target.min(size_record::NUMBER_MAX)).as_bytes());
}

/// The numbers of a size record that do not follow from the layout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many `R` records there are, automatic copies included.
    pub recipients: u64,
    /// 1 if recipients are mixed with other records; 2, 4, 8, 16 for wishes about notifications. 0 for QMQP mail.
    pub qmgr_flags: u32,
    /// 1: SMTPUTF8 requested, 2: a header that is not ASCII, 4: a sender that is not ASCII.
    pub send_options: u32,
}

/// Recipients that were added on account of the sender (sender_bcc_maps). cleanup(8) writes them directly behind `S`; in the
/// streamed layout they are the first of all recipients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SenderCopies {
    /// Where they stand in the records before the recipients.
    pub envelope_offset: usize,
    /// How many bytes at the beginning of the recipient records they are; 0 if there are none.
    pub bytes: usize,
}

/// What cleanup produces. All byte slices are sequences of whole records.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// Everything before the first recipient: `T`, `A create_time`, `[L]`, `S`, `[V]`, `A…`, `[W]`.
    pub envelope: &'a [u8],
    /// `A dsn_orig_rcpt`, `O`, `R` for each recipient.
    pub recipients: &'a [u8],
    /// The first of the recipients, that stand elsewhere.
    pub sender_copies: SenderCopies,
    /// The `Received:` header, first in the content.
    pub received: &'a [u8],
    /// The rest of the content.
    pub content: &'a [u8],
    /// Where in `content` the place for a late `From:` header is (a pointer record to 0), and the records to put there.
    pub from: Option<(u64, &'a [u8])>,
    /// What follows `X`: attributes, then automatic copies. Without `X` and `E`.
    pub extracted: &'a [u8],
    /// Numbers for the size record.
    pub counts: Counts,
}

/// Why a queue file cannot be laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The envelope and the `Received:` header do not fit before the content that is already on disk.
    #[error(
        "laying out a queue file: the envelope and the Received: header need {needed} bytes, but only \
         {available} are kept in front of the content; shorten content_filter, myhostname or the addresses"
    )]
    FrontTooLarge {
        /// How many bytes they need.
        needed: u64,
        /// How many there are.
        available: u64,
    },
    /// There is no reserved pointer record at the offset where the `From:` header was to go.
    #[error(
        "laying out a queue file: no place was kept for the From: header at offset {offset} of the content"
    )]
    NoSlot {
        /// The offset within the content records.
        offset: u64,
    },
    /// The bytes that were to follow the content are not whole records.
    #[error("laying out a queue file: the records after the content are damaged: {0}")]
    Extracted(#[from] crate::record::DecodeError),
}

/// Appends a whole queue file to `out`, in the layout of cleanup(8).
///
/// The place for a late `From:` header goes, and the header's records stand there instead: the result is byte for byte
/// what Postfix 3.7 writes for the same records. `out` is unchanged if an error is returned.
///
/// # Errors
/// [`LayoutError::NoSlot`]: no place for a `From:` header is at the offset of [`Parts::from`].
pub fn classic(parts: &Parts<'_>, out: &mut Vec<u8>) -> Result<(), LayoutError> {
    let (before_from, from, after_from) = match parts.from {
        None => (parts.content, &[][..], &[][..]),
        Some((offset, records)) => {
            let (before, after) = split_at_slot(parts.content, offset)?;
            (before, records, after)
        }
    };
    let front = SIZE_RECORD_BYTES + parts.envelope.len() + parts.recipients.len() + CONTENT_RECORD.len();
    let content = parts.received.len() + before_from.len() + from.len() + after_from.len();
    let size = SizeRecord {
        data_size: content as u64,
        data_offset: front as u64,
        recipients: parts.counts.recipients,
        qmgr_flags: parts.counts.qmgr_flags,
        content_length: content as u64,
        send_options: parts.counts.send_options,
    };
    out.reserve(front + content + EXTRACTED_RECORD.len() + parts.extracted.len() + END_RECORD.len());
    size.encode(out);
    let SenderCopies { envelope_offset, bytes } = parts.sender_copies;
    let before_copies = parts.envelope.get(..envelope_offset).unwrap_or(parts.envelope);
    let behind_copies = parts.envelope.get(envelope_offset..).unwrap_or_default();
    let copies = parts.recipients.get(..bytes).unwrap_or(parts.recipients);
    let recipients = parts.recipients.get(bytes..).unwrap_or_default();
    for records in [before_copies, copies, behind_copies, recipients] {
        out.extend_from_slice(records);
    }
    out.extend_from_slice(&CONTENT_RECORD);
    out.extend_from_slice(parts.received);
    out.extend_from_slice(before_from);
    out.extend_from_slice(from);
    out.extend_from_slice(after_from);
    out.extend_from_slice(&EXTRACTED_RECORD);
    out.extend_from_slice(parts.extracted);
    out.extend_from_slice(&END_RECORD);
    Ok(())
}

/// The content before and behind the reserved pointer record at `offset`.
fn split_at_slot(content: &[u8], offset: u64) -> Result<(&[u8], &[u8]), LayoutError> {
    let missing = LayoutError::NoSlot { offset };
    let at = usize::try_from(offset).map_err(|_| missing)?;
    let (before, rest) = content.split_at_checked(at).ok_or(missing)?;
    let (slot, after) = rest.split_at_checked(POINTER_RECORD_BYTES).ok_or(missing)?;
    let mut reserved = Vec::with_capacity(POINTER_RECORD_BYTES);
    encode_pointer(&mut reserved, 0);
    if slot == reserved { Ok((before, after)) } else { Err(missing) }
}

#[cfg(test)]
mod tests;
