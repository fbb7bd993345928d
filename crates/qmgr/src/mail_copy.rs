//! The content of a message as a program or a file gets it: lines with their ends, and the headers of delivery.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use postfix::queue_file::reader::{Source, WalkError, Walker};
use postfix::record::RecordType;
use postfix::text::fold;

/// Why the content cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CopyError<E: std::error::Error + 'static> {
    /// The records cannot be read.
    #[error(transparent)]
    Walk(#[from] WalkError<E>),
    /// The content ends in another way than content does.
    #[error("damaged: the content has no end")]
    NoEnd,
}

impl<E: std::error::Error + 'static> CopyError<E> {
    /// Is the queue file damaged? Else the disk fails.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        !matches!(self, Self::Walk(WalkError::Read { .. }))
    }
}

/// Pieces of about so many bytes are made at a time.
const PIECE_BYTES: usize = 65_536;

/// More Delivered-To headers than this are not looked at: a loop shows in the first ones.
const DELIVERED_TO_MAX: usize = 1000;

/// An open queue file that is read at offsets, so that deliveries can share it.
#[derive(Debug, Clone, Copy)]
pub struct QueueFile<'f>(pub &'f File);

impl Source for QueueFile<'_> {
    type Error = io::Error;

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, io::Error> {
        loop {
            match self.0.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

/// What is added to the content on its way.
#[derive(Debug, Clone, Default)]
pub struct Additions {
    /// Lines before the content, without their ends.
    pub head: Vec<Vec<u8>>,
    /// What ends each line.
    pub line_end: Vec<u8>,
    /// Double the dot at the beginning of a line.
    pub doubles_dots: bool,
    /// `>` before `From ` at the beginning of a line, and before more `>` with it.
    pub quotes_from: bool,
    /// An empty line at the end.
    pub ends_with_blank: bool,
}

/// The content of a message, in pieces.
#[derive(Debug)]
pub struct MailCopy<S> {
    walker: Walker<S>,
    additions: Additions,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    /// The next record begins a line.
    LineStart,
    /// The next record goes on with one.
    Line,
    End,
}

impl<S: Source> MailCopy<S> {
    /// Begins with the record at `content_start`.
    pub const fn new(source: S, content_start: u64, additions: Additions) -> Self {
        let mut walker = Walker::new(source);
        walker.seek(content_start);
        Self { walker, additions, stage: Stage::Head }
    }

    /// Appends the next piece to `out`. False: there was nothing more.
    ///
    /// # Errors
    /// The queue file cannot be read, or its content is damaged.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Result<bool, CopyError<S::Error>> {
        let enough = out.len().saturating_add(PIECE_BYTES);
        let line_end = &self.additions.line_end;
        if self.stage == Stage::Head {
            for line in &self.additions.head {
                out.extend_from_slice(line);
                out.extend_from_slice(line_end);
            }
            self.stage = Stage::LineStart;
        }
        while self.stage != Stage::End && out.len() < enough {
            let record = self.walker.next()?.ok_or(CopyError::NoEnd)?;
            match record.kind {
                RecordType::NORMAL | RecordType::PARTIAL => {
                    if self.stage == Stage::LineStart {
                        if self.additions.doubles_dots && record.data.first() == Some(&b'.') {
                            out.push(b'.');
                        }
                        if self.additions.quotes_from && is_from_line(record.data) {
                            out.push(b'>');
                        }
                    }
                    out.extend_from_slice(record.data);
                    self.stage = Stage::Line;
                    if record.kind == RecordType::NORMAL {
                        out.extend_from_slice(line_end);
                        self.stage = Stage::LineStart;
                    }
                }
                RecordType::EXTRACTED => {
                    // A last line without its end gets none, as with Postfix.
                    if self.additions.ends_with_blank {
                        out.extend_from_slice(line_end);
                    }
                    self.stage = Stage::End;
                    return Ok(true);
                }
                _ => return Err(CopyError::NoEnd),
            }
        }
        Ok(self.stage != Stage::End)
    }
}

fn is_from_line(line: &[u8]) -> bool {
    let quotes = line.iter().take_while(|&&byte| byte == b'>').count();
    line.get(quotes..).is_some_and(|rest| rest.starts_with(b"From "))
}

/// Does the header of the message say that it was delivered to this address, in quoted form, before? Then it goes round.
///
/// # Errors
/// The queue file cannot be read, or its content is damaged.
pub fn was_delivered_to<S: Source>(
    source: S,
    content_start: u64,
    address: &[u8],
) -> Result<bool, WalkError<S::Error>> {
    const NAME: &[u8] = b"delivered-to:";
    let wanted = fold(address, true);
    let mut walker = Walker::new(source);
    walker.seek(content_start);
    let mut is_line_start = true;
    let mut seen = 0;
    while let Some(record) = walker.next()? {
        if !matches!(record.kind, RecordType::NORMAL | RecordType::PARTIAL)
            || is_line_start && record.data.is_empty()
            || seen == DELIVERED_TO_MAX
        {
            break;
        }
        let (name, value) = record.data.split_at_checked(NAME.len()).unwrap_or_default();
        if is_line_start && name.eq_ignore_ascii_case(NAME) {
            seen += 1;
            if fold(value.trim_ascii(), true) == wanted {
                return Ok(true);
            }
        }
        is_line_start = record.kind == RecordType::NORMAL;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use postfix::record::encode;

    use super::*;

    fn records(lines: &[(&str, bool)]) -> Vec<u8> {
        let mut bytes = b"front".to_vec();
        for (text, is_whole) in lines {
            let kind = if *is_whole { RecordType::NORMAL } else { RecordType::PARTIAL };
            encode(&mut bytes, kind, text.as_bytes());
        }
        encode(&mut bytes, RecordType::EXTRACTED, b"");
        encode(&mut bytes, RecordType::NORMAL, b"behind the end");
        bytes
    }

    fn copied(lines: &[(&str, bool)], additions: Additions) -> String {
        let bytes = records(lines);
        let mut copy = MailCopy::new(bytes.as_slice(), 5, additions);
        let mut out = Vec::new();
        while copy.next(&mut out).unwrap() {}
        String::from_utf8(out).unwrap()
    }

    fn plain() -> Additions {
        Additions { line_end: b"\n".to_vec(), ..Additions::default() }
    }

    const LINES: &[(&str, bool)] = &[
        ("Subject: x", true),
        ("", true),
        (".a", false),
        (".b", true),
        ("From c", true),
        (">From d", true),
        ("e", false),
    ];

    #[test]
    fn lines_are_as_they_came() {
        assert_eq!(copied(LINES, plain()), "Subject: x\n\n.a.b\nFrom c\n>From d\ne");
        assert_eq!(copied(&[], plain()), "");
    }

    #[test]
    fn flags_change_beginnings_and_ends_of_lines() {
        let additions = Additions {
            head: vec![b"Return-Path: <s@e.com>".to_vec()],
            line_end: b"\r\n".to_vec(),
            doubles_dots: true,
            quotes_from: true,
            ends_with_blank: true,
        };
        let expected = "Return-Path: <s@e.com>\r\nSubject: x\r\n\r\n..a.b\r\n>From c\r\n>>From d\r\ne\r\n";
        assert_eq!(copied(LINES, additions), expected);
    }

    #[test]
    fn a_large_message_comes_in_pieces() {
        let line = "x".repeat(1000);
        let bytes = records(&vec![(line.as_str(), true); 1000]);
        let mut copy = MailCopy::new(bytes.as_slice(), 5, plain());
        let (mut total, mut pieces, mut out) = (0, 0, Vec::new());
        while copy.next(&mut out).unwrap() {
            assert!(out.len() < PIECE_BYTES + 2000);
            total += out.len();
            pieces += 1;
            out.clear();
        }
        total += out.len();
        assert!(total == 1_001_000 && pieces > 10, "{total} in {pieces}");
    }

    #[test]
    fn a_loop_is_seen_in_the_header_only() {
        let lines: &[(&str, bool)] = &[
            ("Delivered-To: other@e.com", true),
            ("DELIVERED-TO:\tBob@E.com", true),
            ("", true),
            ("Delivered-To: body@e.com", true),
        ];
        let bytes = records(lines);
        for (address, is_loop) in [("bob@e.com", true), ("body@e.com", false), ("x@e.com", false)] {
            let found = was_delivered_to(bytes.as_slice(), 5, address.as_bytes()).unwrap();
            assert_eq!(found, is_loop, "{address}");
        }
    }

    #[test]
    fn damage_is_an_error() {
        let mut bytes = records(&[("a", true)]);
        // Within a record, and behind one.
        for length in [7, 8] {
            bytes.truncate(15 - length);
            let mut copy = MailCopy::new(bytes.as_slice(), 5, plain());
            assert!(copy.next(&mut Vec::new()).unwrap_err().is_damage());
        }
    }
}
