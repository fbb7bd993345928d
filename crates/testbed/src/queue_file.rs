//! Reads a queue file the way a stranger would: records from the front, pointers followed, and every number of the
//! size record checked against what the file holds. On purpose it shares no code with the servers under test.

use std::fmt;
use std::path::Path;

use crate::mask::Mask;

/// One record: its type byte and its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The type byte.
    pub kind: u8,
    /// The data, any bytes.
    pub data: Vec<u8>,
}

/// A queue file in the order of its meaning, whatever its layout.
#[derive(Debug, Clone)]
pub struct QueueFile {
    /// The queue ID, which is the file's name.
    pub id: String,
    /// How long the file is.
    pub bytes: u64,
    /// The six numbers of the size record.
    pub size: [u64; 6],
    /// Whether it was found in the hold queue.
    pub is_held: bool,
    /// Whether the content is not where the classic layout puts it.
    pub streamed: bool,
    /// Whether it has room for the edits of a mail filter: padding and pointers between the records.
    pub editable: bool,
    /// Records before the content, without the size record.
    pub envelope: Vec<Record>,
    /// Records of the content.
    pub content: Vec<Record>,
    /// Records between `X` and `E`.
    pub extracted: Vec<Record>,
}

impl QueueFile {
    /// Reads and checks the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let id = path.file_name().unwrap().to_string_lossy().into_owned();
        Self::parse(id, &bytes)
    }

    /// See [`QueueFile::read`].
    pub fn parse(id: String, bytes: &[u8]) -> Result<Self, String> {
        let length = bytes.len() as u64;
        let mut file = Self {
            id,
            bytes: length,
            size: [0; 6],
            is_held: false,
            streamed: false,
            editable: false,
            envelope: vec![],
            content: vec![],
            extracted: vec![],
        };
        let mut offset = 0;
        let (mut content_at, mut extracted_at) = (None, None);
        let mut jumps = 0;
        loop {
            let (record, next) = record_at(bytes, offset)?;
            match (record.kind, content_at, extracted_at) {
                (b'C', None, _) if offset == 0 => file.size = size_numbers(&record.data)?,
                (_, None, _) if offset == 0 => return Err(format!("first record is {record}")),
                // Behind a short sender, so that a pointer fits over both.
                (b'p', ..) if record.data.trim_ascii() == b"0" => file.editable = true,
                (b'p', ..) => {
                    let target = number(&record.data, 15)?;
                    if target != 0 {
                        file.streamed |= content_at.is_none();
                        jumps += 1;
                        offset = usize::try_from(target).unwrap();
                        if jumps > 5000 {
                            return Err("more than five thousand pointers".to_owned());
                        }
                        continue;
                    }
                }
                (b'w', ..) => file.editable = true,
                (b'M', None, _) => content_at = Some(next),
                (b'X', Some(_), None) => extracted_at = Some(offset),
                (b'E', Some(_), Some(_)) => break,
                (_, None, _) => file.envelope.push(record),
                (_, Some(_), None) => file.content.push(record),
                (_, Some(_), Some(_)) => file.extracted.push(record),
            }
            offset = next;
        }
        file.check_size(content_at.unwrap_or(0) as u64, extracted_at.unwrap_or(0) as u64)?;
        Ok(file)
    }

    /// The size record must tell the truth: readers seek by it.
    fn check_size(&self, content_at: u64, extracted_at: u64) -> Result<(), String> {
        let [data_size, data_offset, recipients, _, content_length, _] = self.size;
        let counted = self.recipients().count() as u64;
        if data_offset != content_at || data_offset + data_size != extracted_at {
            return Err(format!(
                "size record {:?}, but M ends at {content_at} and X is at {extracted_at}",
                self.size
            ));
        }
        if self.editable {
            // Postfix counts neither room nor edits back, but for a replaced body.
            return Ok(());
        }
        if recipients != counted {
            return Err(format!("size record says {recipients} recipients, there are {counted}"));
        }
        // What stands elsewhere than in the content, behind a pointer, counts; pointers and padding do not.
        let logical: u64 = self.content.iter().map(Record::encoded_length).sum();
        if content_length != logical {
            return Err(format!(
                "content length {content_length}, but the records of the content take {logical}"
            ));
        }
        Ok(())
    }

    /// The final recipients, in file order.
    pub fn recipients(&self) -> impl Iterator<Item = &[u8]> {
        self.envelope.iter().chain(&self.extracted).filter(|r| r.kind == b'R').map(|r| r.data.as_slice())
    }

    /// The sender.
    pub fn sender(&self) -> Option<&[u8]> {
        self.envelope.iter().find(|r| r.kind == b'S').map(|r| r.data.as_slice())
    }

    /// The message as a delivery agent would write it: lines joined, each ended by a newline.
    pub fn message(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for record in &self.content {
            out.extend_from_slice(&record.data);
            if record.kind == b'N' {
                out.push(b'\n');
            }
        }
        out
    }

    /// The file as lines to compare: recipients in one place, masked, bytes escaped.
    ///
    /// `canonical`: recipients that stand behind the content move before it. Two files in the classic layout are
    /// compared without it, so that a Bcc recipient in the wrong segment shows. `later`: with what later releases add.
    pub fn lines(&self, mask: &Mask, canonical: bool, later: bool) -> Vec<String> {
        let [_, _, _, flags, _, options] = self.size;
        let recipients = self.recipients().count();
        let mut lines = vec![format!("C recipients={recipients} flags={flags} options={options}")];
        if self.is_held {
            lines.insert(0, "on hold".to_owned());
        }
        let mut envelope = without_cancelled(&self.envelope);
        let mut extracted = without_cancelled(&self.extracted);
        extracted.retain(|record| later || !record.is_message_id());
        if canonical {
            // What is about the message stands before what is about recipients, wherever the layout has it.
            envelope.append(&mut extracted);
            envelope.sort_by_key(Record::is_recipient);
        }
        lines.extend(envelope.iter().map(|record| mask.record(record)));
        lines.push("M".to_owned());
        lines.extend(self.content.iter().map(|record| mask.record(record)));
        lines.push("X".to_owned());
        lines.extend(extracted.iter().map(|record| mask.record(record)));
        lines
    }
}

impl Record {
    fn encoded_length(&self) -> u64 {
        let length = self.data.len();
        let prefix = (1..5).find(|bytes| length >> (7 * bytes) == 0).unwrap();
        (1 + prefix + length) as u64
    }

    /// From 3.10 on, Postfix also notes the Message-ID here, for the bounces that it may have to write; ours where
    /// mail_version says so.
    pub fn is_message_id(&self) -> bool {
        self.kind == b'A' && self.data.starts_with(b"message_id=")
    }

    fn is_recipient(&self) -> bool {
        matches!(self.kind, b'O' | b'R' | b'D')
            || self.kind == b'A'
                && (self.data.starts_with(b"dsn_orig_rcpt=") || self.data.starts_with(b"notify_flags="))
    }
}

impl fmt::Display for Record {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", char::from(self.kind), self.data.escape_ascii())
    }
}

/// The records without recipients that a mail filter took away, and what belongs to those.
fn without_cancelled(records: &[Record]) -> Vec<Record> {
    let mut left: Vec<Record> = Vec::new();
    for record in records {
        if record.kind == b'/' {
            while left.pop_if(|before| before.is_recipient() && before.kind != b'R').is_some() {}
        } else {
            left.push(record.clone());
        }
    }
    left
}

/// The record at `offset` and the offset behind it.
fn record_at(bytes: &[u8], offset: usize) -> Result<(Record, usize), String> {
    let torn = || format!("torn record at {offset}");
    let kind = *bytes.get(offset).ok_or_else(torn)?;
    let (mut length, mut at) = (0_usize, offset + 1);
    for shift in (0..28).step_by(7) {
        let byte = *bytes.get(at).ok_or_else(torn)?;
        at += 1;
        length |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            if byte == 0 && shift > 0 {
                return Err(format!("length at {offset} is not minimal"));
            }
            let data = bytes.get(at..at + length).ok_or_else(torn)?.to_vec();
            return Ok((Record { kind, data }, at + length));
        }
    }
    Err(format!("length at {offset} is too long"))
}

fn size_numbers(data: &[u8]) -> Result<[u64; 6], String> {
    if data.len() != 95 {
        return Err(format!("size record of {} bytes", data.len()));
    }
    let mut numbers = [0; 6];
    for (index, slot) in numbers.iter_mut().enumerate() {
        *slot = number(&data[index * 16..index * 16 + 15], 15)?;
    }
    Ok(numbers)
}

/// A decimal number, right-aligned with blanks.
fn number(data: &[u8], width: usize) -> Result<u64, String> {
    let text = std::str::from_utf8(data).map_err(|error| error.to_string())?;
    if data.len() != width {
        return Err(format!("{text:?} is not {width} wide"));
    }
    text.trim_start().parse().map_err(|error| format!("{text:?}: {error}"))
}
