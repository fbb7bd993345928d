//! Typed records: the alphabet of queue files and of the cleanup dialogue.
//!
//! A record is one type byte, its length in base 128 (least significant seven bits first, high bit set while more
//! follow), and the data; no terminator, any byte is allowed in the data. Source: queue files of Postfix 3.7, read
//! back with postcat(1).

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
}

/// Appends one record to `out`, with the shortest length field.
pub fn encode(out: &mut Vec<u8>, kind: RecordType, data: &[u8]) {
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
