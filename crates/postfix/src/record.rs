//! Typed records: the alphabet of queue files and of the cleanup dialogue.
//!
//! A record is one type byte, its length in base 128 (least significant seven bits first, high bit set while more
//! follow), and the data; no terminator, any byte is allowed in the data. Source: queue files of Postfix 3.7, read
//! back with postcat(1).

use std::fmt;

/// The type byte of a record. Postfix calls these `REC_TYPE_…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordType(pub u8);

impl RecordType {
    /// `C`: the size record, first in a queue file, 95 bytes of data, rewritten in place.
    pub const SIZE: Self = Self(b'C');
    /// `T`: arrival time, `seconds microseconds`.
    pub const TIME: Self = Self(b'T');
    /// `A`: an attribute, `name=value`.
    pub const ATTRIBUTE: Self = Self(b'A');
    /// `S`: the envelope sender, unquoted form; empty is the null sender.
    pub const SENDER: Self = Self(b'S');
    /// `V`: two VERP delimiters; directly after the sender.
    pub const VERP: Self = Self(b'V');
    /// `L` in the envelope or after the content: a content filter, `transport:next-hop`.
    pub const FILTER: Self = Self(b'L');
    /// `W`: when to send the delay warning, 15 columns.
    pub const WARNING_TIME: Self = Self(b'W');
    /// `O`: the recipient as it was received.
    pub const ORIGINAL_RECIPIENT: Self = Self(b'O');
    /// `R`: a recipient to deliver to.
    pub const RECIPIENT: Self = Self(b'R');
    /// `D`: a recipient that is done.
    pub const DONE_RECIPIENT: Self = Self(b'D');
    /// `/`: a cancelled recipient.
    pub const CANCELLED_RECIPIENT: Self = Self(b'/');
    /// `>`: redirect every recipient to this address.
    pub const REDIRECT: Self = Self(b'>');
    /// `K`: a record that was killed in place.
    pub const KILLED: Self = Self(b'K');
    /// `p`: pointer, 15 columns, absolute offset of the next record; 0 means: go on behind it.
    pub const POINTER: Self = Self(b'p');
    /// `M`: the content begins; no data.
    pub const CONTENT: Self = Self(b'M');
    /// `N`: a line of content; the newline is implied.
    pub const NORMAL: Self = Self(b'N');
    /// `L` in the content: a piece of a line; the line goes on in the next record.
    pub const PARTIAL: Self = Self(b'L');
    /// `w`: padding in the content, skipped by readers.
    pub const PADDING: Self = Self(b'w');
    /// `X`: the content ends and the extracted segment begins; no data.
    pub const EXTRACTED: Self = Self(b'X');
    /// `E`: the end of the queue file; no data.
    pub const END: Self = Self(b'E');

    /// Whether the type byte is a visible ASCII character, as all of Postfix's are.
    #[must_use]
    pub const fn is_printable(self) -> bool {
        self.0.is_ascii_graphic()
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_printable() { write!(f, "'{}'", char::from(self.0)) } else { write!(f, "{}", self.0) }
    }
}

/// The most bytes that a length field may have. Postfix of 2026 refuses more; older ones took five.
pub const LENGTH_BYTES_MAX: usize = 4;

/// A record that was decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it is; any byte, known or not.
    pub kind: RecordType,
    /// What it says.
    pub data: &'a [u8],
}

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before the length field does.
    #[error("the record of type {kind} ends within its length field")]
    TruncatedLength {
        /// The type byte.
        kind: RecordType,
    },
    /// The bytes end before the data do.
    #[error("the record of type {kind} declares {announced} bytes of data, but only {present} follow")]
    TruncatedData {
        /// The type byte.
        kind: RecordType,
        /// The length that the record states, in bytes.
        announced: usize,
        /// How many bytes there are.
        present: usize,
    },
    /// The length field has more than [`LENGTH_BYTES_MAX`] bytes.
    #[error("the length field of the record of type {kind} has more than {LENGTH_BYTES_MAX} bytes")]
    LengthTooLong {
        /// The type byte.
        kind: RecordType,
    },
}

/// The head of a record: what stands before its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What the record is.
    pub kind: RecordType,
    /// How many bytes type and length take.
    pub head_len: usize,
    /// How many bytes of data follow; below 2^28.
    pub data_len: usize,
}

/// Decodes type and length at the front of `input`; `Ok(None)` if there are not enough bytes yet.
///
/// # Errors
/// The length has more bytes than a record may have.
pub fn decode_head(input: &[u8]) -> Result<Option<Head>, DecodeError> {
    let Some((&kind, length)) = input.split_first() else { return Ok(None) };
    let kind = RecordType(kind);
    let mut data_len = 0_usize;
    for (index, &byte) in length.iter().take(LENGTH_BYTES_MAX).enumerate() {
        data_len |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some(Head { kind, head_len: index + 2, data_len }));
        }
    }
    if length.len() >= LENGTH_BYTES_MAX {
        return Err(DecodeError::LengthTooLong { kind });
    }
    Ok(None)
}

/// Walks records that stand in memory one behind the other. Yields each with the offset of its type byte; after an
/// error it is exhausted. It follows no pointers and gives no meaning to any type.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    input: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `input`, which must be a type byte.
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Self { input, offset: 0 }
    }

    /// Where the next record begins, from the start of the input.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    fn decode(rest: &'a [u8]) -> Result<(Record<'a>, usize), DecodeError> {
        let kind = RecordType(rest.first().copied().unwrap_or_default());
        let head = decode_head(rest)?.ok_or(DecodeError::TruncatedLength { kind })?;
        let behind = rest.get(head.head_len..).unwrap_or_default();
        let data = behind.get(..head.data_len).ok_or(DecodeError::TruncatedData {
            kind,
            announced: head.data_len,
            present: behind.len(),
        })?;
        Ok((Record { kind, data }, head.head_len + head.data_len))
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<(usize, Record<'a>), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.input.get(self.offset..).filter(|rest| !rest.is_empty())?;
        let at = self.offset;
        match Self::decode(rest) {
            Ok((record, len)) => {
                self.offset += len;
                Some(Ok((at, record)))
            }
            Err(error) => {
                self.input = &[];
                Some(Err(error))
            }
        }
    }
}

/// Appends one record to `out`, with the shortest length field.
pub fn encode(out: &mut Vec<u8>, kind: RecordType, data: &[u8]) {
    if data.len() < 0x80 {
        out.extend_from_slice(&[kind.0, data.len() as u8]);
        return out.extend_from_slice(data);
    }
    out.push(kind.0);
    let mut rest = data.len();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
    out.extend_from_slice(data);
}

/// How many bytes [`encode`] writes for data of this length.
#[must_use]
pub const fn encoded_len(data_len: usize) -> usize {
    let mut prefix = 1;
    let mut rest = data_len >> 7;
    while rest > 0 {
        prefix += 1;
        rest >>= 7;
    }
    1 + prefix + data_len
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_type_is_shown_as_its_letter_if_it_has_one() {
        let shown = [b'N', b'~', b' ', 7, 0xe9].map(|byte| RecordType(byte).to_string());
        assert_eq!(shown, ["'N'", "'~'", "32", "7", "233"]);
    }

    #[test]
    fn lengths_are_minimal_and_least_significant_first() {
        for (len, prefix) in [
            (0_usize, &[0_u8][..]),
            (6, &[6]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (200, &[0xc8, 1]),
            (2048, &[0x80, 0x10]),
            (1 << 21, &[0x80, 0x80, 0x80, 1]),
        ] {
            let mut out = Vec::new();
            encode(&mut out, RecordType::NORMAL, &vec![b'x'; len]);
            assert_eq!(&out[..=prefix.len()], [b"N", prefix].concat());
            assert_eq!(out.len(), encoded_len(len));
        }
    }

    #[test]
    fn faults_name_the_record() {
        let error = |bytes: &[u8]| Reader::new(bytes).last().unwrap().unwrap_err();
        assert_eq!(error(b"E\0N"), DecodeError::TruncatedLength { kind: RecordType::NORMAL });
        assert_eq!(error(b"N\x80"), DecodeError::TruncatedLength { kind: RecordType::NORMAL });
        assert_eq!(error(b"N\x80\x80\x80\x80"), DecodeError::LengthTooLong { kind: RecordType::NORMAL });
        let short = error(b"N\x03ab");
        assert_eq!(short, DecodeError::TruncatedData { kind: RecordType::NORMAL, announced: 3, present: 2 });
        assert_eq!(short.to_string(), "the record of type 'N' declares 3 bytes of data, but only 2 follow");
        // A length need not be minimal.
        assert_eq!(Reader::new(b"N\x81\x80\x80\x00a").next().unwrap().unwrap().1.data, b"a");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            records in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..300)), 0..20)
        ) {
            let mut bytes = Vec::new();
            let mut offsets = Vec::new();
            for (kind, data) in &records {
                offsets.push(bytes.len());
                encode(&mut bytes, RecordType(*kind), data);
            }
            let read: Vec<_> = Reader::new(&bytes).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(read.len(), records.len());
            for (((at, record), offset), (kind, data)) in read.iter().zip(offsets).zip(&records) {
                prop_assert_eq!(*at, offset);
                prop_assert_eq!(record.kind.0, *kind);
                prop_assert_eq!(record.data, &data[..]);
            }
        }

        #[test]
        fn any_bytes_are_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut reader = Reader::new(&bytes);
            let mut seen = 0;
            while let Some(Ok((at, record))) = reader.next() {
                prop_assert_eq!(at, seen);
                prop_assert!(reader.offset() >= at + 2 + record.data.len());
                seen = reader.offset();
            }
            prop_assert!(reader.next().is_none());
        }
    }
}
