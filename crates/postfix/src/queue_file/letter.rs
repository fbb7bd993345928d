//! Interprets the records of a queue file as qmgr(8) does.

use super::reader::{Located, Source, WalkError, Walker};
use super::size_record::{InvalidSizeRecord, SizeRecord};
use crate::record::RecordType;

/// The types that qmgr(8) of Postfix 3.7 accepts outside the content, apart from `M`, `X` and pointers. Some are left
/// over from old releases.
const ENVELOPE_TYPES: &[u8] = b"CTcFILSDRO/WVA>K<ionEPre";

/// Where a recipient is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecipientState {
    /// Still to be delivered.
    ToDo,
    /// Delivered or returned.
    Done,
    /// Taken out by a mail filter.
    Cancelled,
}

impl RecipientState {
    /// One lower-case word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ToDo => "todo",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One recipient with what stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipient<'a> {
    /// Absolute offset of the record; a delivery agent marks it done by changing the byte there.
    pub offset: u64,
    /// Where it is on its way.
    pub state: RecipientState,
    /// The address to deliver to, unquoted form.
    pub address: &'a [u8],
    /// The address as it was received.
    pub original: Option<&'a [u8]>,
    /// The original recipient for notifications, `type;address`.
    pub dsn_original: Option<&'a [u8]>,
    /// When to notify the sender: 1 never, 2 success, 4 failure, 8 delay, added up.
    pub notify: Option<u32>,
}

/// What [`Letter::read`] hands out instead of keeping it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A recipient, in file order.
    Recipient(Recipient<'a>),
    /// A piece of the content.
    Content {
        /// The bytes, without a line end.
        data: &'a [u8],
        /// Whether the line ends here.
        line_ends: bool,
    },
}

/// Whether to read the content of a letter or to skip it by the size record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Hand it out.
    Read,
    /// Skip it. A file without a usable size record is read all the same.
    Skip,
}

/// The message as its queue file has it; recipients and content are handed out while reading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Letter {
    /// The size record.
    pub size: Option<SizeRecord>,
    /// Arrival: seconds since 1970 and microseconds.
    pub arrival: Option<(u64, u32)>,
    /// When the queue file was created, seconds since 1970: the base of expiry.
    pub created: Option<u64>,
    /// The envelope sender, unquoted form; empty for the null sender.
    pub sender: Option<Vec<u8>>,
    /// The two VERP delimiters.
    pub verp: Option<Vec<u8>>,
    /// The content filter, `transport:next-hop`.
    pub filter: Option<Vec<u8>>,
    /// The address that takes the place of all recipients.
    pub redirect: Option<Vec<u8>>,
    /// When to warn the sender of a delay, seconds since 1970; negative when that was done.
    pub warning_time: Option<i64>,
    /// All attributes but those of recipients, in file order.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// How many recipients are still to be delivered.
    pub recipients_todo: u64,
    /// How many recipients are done or cancelled.
    pub recipients_done: u64,
}

/// Why a queue file could not be read to its end. qmgr(8) moves such a file to the corrupt queue.
#[derive(Debug, thiserror::Error)]
pub enum LetterError<E: std::error::Error + 'static> {
    /// The records cannot be read.
    #[error(transparent)]
    Walk(#[from] WalkError<E>),
    /// The file ends without an `E` record: it was not written to its end.
    #[error("missing end record")]
    NoEnd,
    /// There is no `T` record.
    #[error("missing arrival time record")]
    NoArrival,
    /// There is no `S` record.
    #[error("missing sender record")]
    NoSender,
    /// The size record is unusable.
    #[error(transparent)]
    Size(#[from] InvalidSizeRecord),
    /// A record stands where it must not.
    #[error("unexpected record type {kind} at offset {offset}")]
    Unexpected {
        /// The type byte.
        kind: RecordType,
        /// Where it stands.
        offset: u64,
    },
    /// An `A` record has no name or no `=`.
    #[error("bad attribute record at offset {offset}: missing name or '='")]
    Attribute {
        /// Where it stands.
        offset: u64,
    },
}

/// The part of the file where the walk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segment {
    Envelope,
    Content,
    Extracted,
}

/// What stands before a recipient and belongs to it.
#[derive(Debug, Default)]
struct Before {
    original: Option<Vec<u8>>,
    dsn_original: Option<Vec<u8>>,
    notify: Option<u32>,
}

impl Letter {
    /// Reads the file. On an error `self` has what was read until then.
    ///
    /// # Errors
    /// As of [`Walker::next`]; or the file lacks its end, its arrival time or its sender, or a record stands in a wrong place.
    pub fn read<S: Source>(
        &mut self,
        source: S,
        content: Content,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), LetterError<S::Error>> {
        let mut walker = Walker::new(source);
        let mut segment = Segment::Envelope;
        let mut before = Before::default();
        let mut directly_behind_content = false;
        while let Some(record) = walker.next()? {
            let (kind, offset) = (record.kind, record.offset);
            let unexpected = || LetterError::Unexpected { kind, offset };
            if std::mem::take(&mut directly_behind_content) && kind != RecordType::EXTRACTED {
                return Err(unexpected());
            }
            match (segment, kind) {
                (Segment::Content, RecordType::EXTRACTED) => segment = Segment::Extracted,
                (Segment::Content, RecordType::NORMAL) => {
                    on_event(Event::Content { data: record.data, line_ends: true });
                }
                (Segment::Content, RecordType::PARTIAL) => {
                    on_event(Event::Content { data: record.data, line_ends: false });
                }
                (Segment::Content, _) | (_, RecordType::EXTRACTED) => return Err(unexpected()),
                (Segment::Envelope, RecordType::CONTENT) => {
                    segment = Segment::Content;
                    let skip_to = self.size.and_then(|size| size.extracted_offset());
                    if let (Content::Skip, Some(offset)) = (content, skip_to) {
                        walker.seek(offset);
                        directly_behind_content = true;
                    }
                }
                (_, RecordType::CONTENT) => return Err(unexpected()),
                (_, RecordType::END) => return self.complete(),
                _ if !ENVELOPE_TYPES.contains(&kind.0) => return Err(unexpected()),
                _ => self.envelope(&record, &mut before, on_event)?,
            }
        }
        Err(LetterError::NoEnd)
    }

    /// Whether what a queue manager needs was there.
    fn complete<E: std::error::Error + 'static>(&self) -> Result<(), LetterError<E>> {
        if self.arrival.is_none() {
            return Err(LetterError::NoArrival);
        }
        if self.sender.is_none() { Err(LetterError::NoSender) } else { Ok(()) }
    }

    /// Takes one record from outside the content. Where a record comes twice, the first counts, except for filter and
    /// redirect, where cleanup(8) appends what shall override.
    fn envelope<E: std::error::Error + 'static>(
        &mut self,
        record: &Located<'_>,
        before: &mut Before,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), LetterError<E>> {
        let data = record.data;
        match record.kind {
            RecordType::SIZE if self.size.is_none() => self.size = Some(SizeRecord::parse(data)?),
            RecordType::TIME if self.arrival.is_none() => self.arrival = parse_arrival(data),
            RecordType::SENDER if self.sender.is_none() => self.sender = Some(data.to_vec()),
            RecordType::VERP if self.verp.is_none() => self.verp = Some(data.to_vec()),
            RecordType::WARNING_TIME if self.warning_time.is_none() => self.warning_time = parse_number(data),
            RecordType::FILTER => self.filter = Some(data.to_vec()),
            RecordType::REDIRECT => self.redirect = Some(data.to_vec()),
            RecordType::ATTRIBUTE => {
                let offset = record.offset;
                let (name, value) = split_attribute(data).ok_or(LetterError::Attribute { offset })?;
                self.attribute(name, value, before);
            }
            RecordType::ORIGINAL_RECIPIENT => before.original = Some(data.to_vec()),
            RecordType::RECIPIENT => self.recipient(record, RecipientState::ToDo, before, on_event),
            RecordType::DONE_RECIPIENT => self.recipient(record, RecipientState::Done, before, on_event),
            RecordType::CANCELLED_RECIPIENT => {
                self.recipient(record, RecipientState::Cancelled, before, on_event);
            }
            _ => {}
        }
        Ok(())
    }

    fn attribute(&mut self, name: &[u8], value: &[u8], before: &mut Before) {
        match name {
            b"dsn_orig_rcpt" => before.dsn_original = Some(value.to_vec()),
            b"notify_flags" => before.notify = parse_number(value).and_then(|flags| flags.try_into().ok()),
            b"create_time" if self.created.is_none() => {
                self.created = parse_number(value).and_then(|seconds| seconds.try_into().ok());
            }
            _ => self.attributes.push((name.to_vec(), value.to_vec())),
        }
    }

    fn recipient(
        &mut self,
        record: &Located<'_>,
        state: RecipientState,
        before: &mut Before,
        on_event: &mut dyn FnMut(Event<'_>),
    ) {
        let count = match state {
            RecipientState::ToDo => &mut self.recipients_todo,
            RecipientState::Done | RecipientState::Cancelled => &mut self.recipients_done,
        };
        *count = count.saturating_add(1);
        let Before { original, dsn_original, notify } = std::mem::take(before);
        on_event(Event::Recipient(Recipient {
            offset: record.offset,
            state,
            address: record.data,
            original: original.as_deref(),
            dsn_original: dsn_original.as_deref(),
            notify,
        }));
    }
}

/// Reads `seconds` or `seconds microseconds`, as the data of a `T` record has them.
#[must_use]
pub fn parse_arrival(data: &[u8]) -> Option<(u64, u32)> {
    let mut words = str::from_utf8(data).ok()?.split_ascii_whitespace();
    let seconds = words.next()?.parse().ok()?;
    Some((seconds, words.next().and_then(|word| word.parse().ok()).unwrap_or(0)))
}

/// Splits `name=value` as Postfix does: blanks around both go. `None` without a name or without `=`.
#[must_use]
pub fn split_attribute(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = memchr::memchr(b'=', data)?;
    let (name, value) = data.split_at_checked(equals)?;
    let name = trim(name);
    if name.is_empty() || name.iter().any(|&byte| is_space(byte)) {
        return None;
    }
    Some((name, trim(value.get(1..)?)))
}

/// White space of the C locale; unlike Rust's notion it has the vertical tab.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_space(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_space(*last)
    {
        bytes = rest;
    }
    bytes
}

/// A decimal number with blanks around it.
fn parse_number(data: &[u8]) -> Option<i64> {
    str::from_utf8(data).ok()?.trim_ascii().parse().ok()
}
