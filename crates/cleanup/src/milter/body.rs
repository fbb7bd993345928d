//! The body of a message on its way to a filter, and a new one on its way back.

use postfix::milter_protocol::BODY_CHUNK_BYTES;
use postfix::record::{Reader, RecordType, encode};

/// Body records on their way to a filter: chunks of [`BODY_CHUNK_BYTES`] bytes, lines ended by CR LF. The empty line
/// that separates header and body is not shown.
#[derive(Debug, Default)]
pub struct Chunks {
    has_begun: bool,
    chunk: Vec<u8>,
}

impl Chunks {
    /// Takes whole records of the body, and gives each chunk that is full to `sink`.
    pub fn records(&mut self, records: &[u8], sink: &mut impl FnMut(Vec<u8>)) {
        for item in Reader::new(records) {
            let Ok((_, record)) = item else { return };
            if !std::mem::replace(&mut self.has_begun, true) {
                continue;
            }
            self.append(record.data, sink);
            if record.kind == RecordType::NORMAL {
                self.append(b"\r\n", sink);
            }
        }
    }

    /// The last chunk, if anything is left.
    #[must_use]
    pub fn finish(self) -> Option<Vec<u8>> {
        (!self.chunk.is_empty()).then_some(self.chunk)
    }

    fn append(&mut self, mut bytes: &[u8], sink: &mut impl FnMut(Vec<u8>)) {
        while !bytes.is_empty() {
            let room = BODY_CHUNK_BYTES.saturating_sub(self.chunk.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
            if self.chunk.len() >= BODY_CHUNK_BYTES {
                sink(std::mem::take(&mut self.chunk));
            }
        }
    }
}

/// A new body on its way into records: lines end in LF, with CR before it or not; a CR elsewhere stays. Holds one line
/// of `line_length_limit` bytes at most.
#[derive(Debug)]
pub struct NewBody {
    line_length_limit: usize,
    line: Vec<u8>,
}

impl NewBody {
    /// A body that begins now; appends the empty line before it.
    #[must_use]
    pub fn new(line_length_limit: usize, out: &mut Vec<u8>) -> Self {
        encode(out, RecordType::NORMAL, b"");
        Self { line_length_limit: line_length_limit.max(1), line: Vec::new() }
    }

    /// Takes the next bytes, and appends the records of lines that are complete.
    pub fn bytes(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let end = memchr::memchr(b'\n', bytes);
            let (mut piece, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            while !piece.is_empty() {
                if self.line.len() >= self.line_length_limit {
                    encode(out, RecordType::PARTIAL, &self.line);
                    self.line.clear();
                }
                let room = self.line_length_limit.saturating_sub(self.line.len());
                let (now, later) = piece.split_at(room.min(piece.len()));
                self.line.extend_from_slice(now);
                piece = later;
            }
            bytes = rest;
            if let Some(behind) = bytes.strip_prefix(b"\n") {
                self.line.pop_if(|last| *last == b'\r');
                encode(out, RecordType::NORMAL, &self.line);
                self.line.clear();
                bytes = behind;
            }
        }
    }

    /// The body is complete: a last line without line end becomes one with it.
    pub fn finish(self, out: &mut Vec<u8>) {
        if !self.line.is_empty() {
            encode(out, RecordType::NORMAL, &self.line);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn new_body(pieces: &[&[u8]], limit: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut body = NewBody::new(limit, &mut out);
        for piece in pieces {
            body.bytes(piece, &mut out);
        }
        body.finish(&mut out);
        out
    }

    fn shown(records: &[u8]) -> Vec<u8> {
        let mut chunks = Chunks::default();
        let mut all = Vec::new();
        chunks.records(records, &mut |chunk| {
            assert_eq!(chunk.len(), BODY_CHUNK_BYTES);
            all.extend(chunk);
        });
        all.extend(chunks.finish().unwrap_or_default());
        all
    }

    #[test]
    fn lines_of_a_new_body() {
        let records = |lines: &[(RecordType, &str)]| {
            let mut out = Vec::new();
            encode(&mut out, RecordType::NORMAL, b"");
            lines.iter().for_each(|(kind, line)| encode(&mut out, *kind, line.as_bytes()));
            out
        };
        let (whole, piece) = (RecordType::NORMAL, RecordType::PARTIAL);
        for (body, expected) in [
            ("", vec![]),
            ("a\r\nb\n", vec![(whole, "a"), (whole, "b")]),
            ("a\rb", vec![(whole, "a\rb")]),
            ("\r\n", vec![(whole, "")]),
            ("12345\r\n", vec![(piece, "1234"), (whole, "5")]),
            // The CR did not fit the piece: Postfix leaves an empty rest too.
            ("1234\r\n", vec![(piece, "1234"), (whole, "")]),
        ] {
            assert_eq!(new_body(&[body.as_bytes()], 4), records(&expected), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn a_new_body_is_the_same_however_it_is_cut(
            body in "[ab\r\n]{0,40}", cut in any::<prop::sample::Index>(), limit in 1_usize..6,
        ) {
            let middle = cut.index(body.len() + 1);
            let (front, back) = body.as_bytes().split_at(middle);
            prop_assert_eq!(new_body(&[front, back], limit), new_body(&[body.as_bytes()], limit));
        }

        #[test]
        fn a_filter_sees_what_another_wrote(lines in prop::collection::vec("[a-z]{0,30000}", 0..12)) {
            let body: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            prop_assert!(shown(&new_body(&[body.as_bytes()], 2048)) == body.as_bytes());
        }
    }
}
