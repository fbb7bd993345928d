//! The layout for a receiver that writes the content before it knows the envelope.
//!
//! ```text
//! 0            C T create_time [L] S [V] A… [W] [attributes found in the content] p→m
//!              (a hole that no reader looks at)
//! m            M Received:
//! G            the content, streamed here as it comes; a place for a pointer where From: is missing
//!              X, then the recipients as they come
//!              automatic copies, E
//!              [From: p→behind its place]
//! ```

use super::{
    CONTENT_RECORD, Counts, END_RECORD, EXTRACTED_RECORD, LayoutError, POINTER_RECORD_BYTES,
    SIZE_RECORD_BYTES, SizeRecord, encode_pointer,
};
use crate::record::{Reader, Record, RecordType, encode};

/// How many bytes are kept in front of the content unless more are needed: the least that [`front_bytes_for`] returns.
pub const FRONT_BYTES: u64 = 8192;

/// Records in front whose size hardly varies: size, times, ten client attributes with names of up to 255 characters in
/// them, three lines of `Received:`, the delay warning, the pointer, attributes of the content.
const FRONT_FIXED_BYTES: u64 = 4096;

/// What decides how much room the front needs. Sizes in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrontNeeds {
    /// The longest sender that is accepted, with what rewriting may append.
    pub sender_bytes_max: u64,
    /// The longest recipient that is accepted: a message to one recipient has it in `Received:`.
    pub recipient_bytes_max: u64,
    /// The length of content_filter, of a FILTER action, of myhostname and of mail_name, added up.
    pub setting_bytes: u64,
}

/// How many bytes to keep in front of the content so that the front fits whatever the client sends. The room that is
/// not used is a hole in the file: it takes no disk space and no program reads it.
#[must_use]
pub fn front_bytes_for(needs: &FrontNeeds) -> u64 {
    // An address grows in Received: when it is quoted, at worst to a backslash before every character.
    let addresses = needs.recipient_bytes_max.saturating_mul(2).saturating_add(needs.sender_bytes_max);
    let needed = addresses.saturating_add(needs.setting_bytes).saturating_add(FRONT_FIXED_BYTES);
    needed.checked_next_multiple_of(4096).unwrap_or(u64::MAX).max(FRONT_BYTES)
}

/// What has been written to the file already: the content records from offset `front_bytes` on, the record
/// [`EXTRACTED_RECORD`] directly behind them, and the recipient records behind that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streamed {
    /// File offset where the content was written: [`front_bytes_for`] what may come.
    pub front_bytes: u64,
    /// How many bytes of content records were written.
    pub content_bytes: u64,
    /// How many bytes of recipient records were written.
    pub recipients_bytes: u64,
}

/// What is known only at the end of the message. The byte slices are sequences of whole records, as in
/// [`super::Parts`].
#[derive(Debug, Clone, Copy)]
pub struct Late<'a> {
    /// Everything before the first recipient: `T`, `A create_time`, `[L]`, `S`, `[V]`, `A…`, `[W]`.
    pub envelope: &'a [u8],
    /// The `Received:` header.
    pub received: &'a [u8],
    /// Where in the content the place for a late `From:` header is (a pointer record to 0), and the records for it.
    pub from: Option<(u64, &'a [u8])>,
    /// Attributes that cleanup(8) would put behind `X`, and automatic copies. Without `X` and `E`.
    pub extracted: &'a [u8],
    /// Numbers for the size record.
    pub counts: Counts,
}

/// Bytes to write at an offset of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Absolute offset in the file.
    pub offset: u64,
    /// What to write there.
    pub bytes: Vec<u8>,
}

impl Streamed {
    /// File offset where the content ends and [`EXTRACTED_RECORD`] goes.
    #[must_use]
    pub const fn extracted_offset(&self) -> u64 {
        self.front_bytes.saturating_add(self.content_bytes)
    }

    /// File offset behind the recipients, where the tail will go.
    #[must_use]
    pub const fn tail_offset(&self) -> u64 {
        self.extracted_offset()
            .saturating_add(EXTRACTED_RECORD.len() as u64)
            .saturating_add(self.recipients_bytes)
    }

    /// What remains to be written so that the file is complete, in any order. The size record, which tells a complete
    /// file from a torn one together with the file mode, is in the last of them.
    ///
    /// Attributes in `late.extracted` move in front: qmgr(8) stops reading after some thousand recipients and would
    /// not see them behind those.
    ///
    /// # Errors
    /// The parts do not fit together: `late.extracted` is damaged, or the gap at the front is too small.
    pub fn finish(&self, late: &Late<'_>) -> Result<Vec<Write>, LayoutError> {
        let (attributes, copies) = split_extracted(late.extracted)?;
        let block_bytes = CONTENT_RECORD.len() as u64 + late.received.len() as u64;
        let head_bytes =
            (SIZE_RECORD_BYTES + late.envelope.len() + attributes.len() + POINTER_RECORD_BYTES) as u64;
        let needed = head_bytes.saturating_add(block_bytes);
        let available = self.front_bytes;
        let block_offset = available
            .checked_sub(block_bytes)
            .filter(|offset| *offset >= head_bytes)
            .ok_or(LayoutError::FrontTooLarge { needed, available })?;

        let mut writes = Vec::with_capacity(4);
        let mut tail = copies;
        tail.extend_from_slice(&END_RECORD);
        let mut content_length = (late.received.len() as u64).saturating_add(self.content_bytes);
        if let Some((slot, records)) = late.from {
            let behind_slot = slot.saturating_add(POINTER_RECORD_BYTES as u64);
            if behind_slot > self.content_bytes {
                return Err(LayoutError::NoSlot { offset: slot });
            }
            content_length = content_length.saturating_sub(POINTER_RECORD_BYTES as u64);
            if !records.is_empty() {
                content_length = content_length.saturating_add(records.len() as u64);
                let heap = self.tail_offset().saturating_add(tail.len() as u64);
                tail.extend_from_slice(records);
                encode_pointer(&mut tail, self.front_bytes.saturating_add(behind_slot));
                let mut pointer = Vec::with_capacity(POINTER_RECORD_BYTES);
                encode_pointer(&mut pointer, heap);
                writes.push(Write { offset: self.front_bytes.saturating_add(slot), bytes: pointer });
            }
        }
        writes.push(Write { offset: self.tail_offset(), bytes: tail });
        writes.push(Write { offset: block_offset, bytes: [&CONTENT_RECORD, late.received].concat() });

        let data_offset = block_offset.saturating_add(CONTENT_RECORD.len() as u64);
        let size = SizeRecord {
            data_size: self.extracted_offset().saturating_sub(data_offset),
            data_offset,
            recipients: late.counts.recipients,
            qmgr_flags: late.counts.qmgr_flags,
            content_length,
            send_options: late.counts.send_options,
        };
        let mut head = Vec::with_capacity(usize::try_from(head_bytes).unwrap_or_default());
        size.encode(&mut head);
        head.extend_from_slice(late.envelope);
        head.extend_from_slice(&attributes);
        encode_pointer(&mut head, block_offset);
        writes.push(Write { offset: 0, bytes: head });
        Ok(writes)
    }
}

/// Divides what follows `X` into records about the message and records about recipients.
fn split_extracted(extracted: &[u8]) -> Result<(Vec<u8>, Vec<u8>), LayoutError> {
    let (mut about_message, mut about_recipients) = (Vec::new(), Vec::new());
    for item in Reader::new(extracted) {
        let (_, record) = item?;
        let out = if is_about_recipient(&record) { &mut about_recipients } else { &mut about_message };
        encode(out, record.kind, record.data);
    }
    Ok((about_message, about_recipients))
}

/// Whether the record is a recipient or belongs to the next one.
fn is_about_recipient(record: &Record<'_>) -> bool {
    match record.kind {
        RecordType::ATTRIBUTE => {
            record.data.starts_with(b"dsn_orig_rcpt=") || record.data.starts_with(b"notify_flags=")
        }
        kind => matches!(
            kind,
            RecordType::ORIGINAL_RECIPIENT
                | RecordType::RECIPIENT
                | RecordType::DONE_RECIPIENT
                | RecordType::CANCELLED_RECIPIENT
        ),
    }
}
