//! What qmqpd(8) does before cleanup(8): the bytes of a message become line records behind a Received: header, senders
//! that ask for variable envelope return paths are taken apart, and addresses that no record can hold are refused.
//!
//! [`crate::Message`] does all of this by itself; it is public for a server that hands messages to another cleanup.

use memchr::{memchr, memchr_iter, memchr3};
use postfix::record::RecordType;
use postfix::text::until_nul;

use crate::options::{FixLineEndings, Options};
use crate::refusal::Refusal;

pub use crate::generated::received;

/// Splits content into `N` records (whole lines) and `L` records (pieces of longer lines); the same records for every
/// split of the input. Holds one line of `line_length_limit` bytes at most.
///
/// Differences from Postfix 3.7 on purpose: lines that end in CR LF are understood ([`FixLineEndings::Always`]); a
/// `From ` line that is longer than a record stays one line; a first line that begins with a CR which will become a
/// blank is kept apart from our own Received: header, like one that begins with a blank.
#[derive(Debug)]
pub struct Lines {
    /// Bytes in a record.
    limit: usize,
    cr_before_lf: CrBeforeLf,
    cr_becomes_blank: bool,
    /// The beginning of the current line, if it came in an earlier piece; shorter than `limit + 2`.
    pending: Vec<u8>,
    front: Front,
}

/// What a CR before a LF is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CrBeforeLf {
    /// The first line end will tell.
    Undecided,
    /// Part of the line end.
    LineEnd,
    /// Data.
    Data,
}

/// How far the search for the first ordinary line has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Front {
    /// So far there were only `From ` lines, or nothing.
    LineStart,
    /// In a `From ` line that is longer than a record.
    InFromLine,
    /// The first ordinary line was seen.
    Passed,
}

impl Lines {
    /// Looks at `line_length_limit`, `fix_line_endings` and `replace_stray_cr_lf`.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Self {
            limit: options.line_length_limit.max(1),
            cr_before_lf: match options.fix_line_endings {
                FixLineEndings::Always => CrBeforeLf::Undecided,
                FixLineEndings::Never => CrBeforeLf::Data,
            },
            cr_becomes_blank: options.replace_stray_cr_lf,
            pending: Vec::new(),
            front: Front::LineStart,
        }
    }

    /// Whether the next byte begins a line that is a record as it is, unless it is longer than [`Self::limit`].
    #[inline]
    pub(crate) const fn passes_lines(&self) -> bool {
        matches!((self.front, self.cr_before_lf), (Front::Passed, CrBeforeLf::Data))
            && self.pending.is_empty()
    }

    /// How many bytes a record has at most.
    #[inline]
    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    /// Takes the next bytes of the content and gives each record that is complete to `sink`.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl FnMut(RecordType, &[u8])) {
        self.push_until(bytes, &mut |kind, data| {
            sink(kind, data);
            false
        });
    }

    /// The same, and stops behind a line when `sink` says so. Returns how many bytes it has taken.
    pub(crate) fn push_until(
        &mut self,
        bytes: &[u8],
        sink: &mut impl FnMut(RecordType, &[u8]) -> bool,
    ) -> usize {
        let mut start = 0;
        for newline in memchr_iter(b'\n', bytes) {
            let line = bytes.get(start..newline).unwrap_or_default();
            start = newline.saturating_add(1);
            let is_enough = if self.pending.is_empty() {
                self.end_line(line, sink)
            } else {
                let rest_of_line = self.fill_pending(line, sink);
                let mut pending = std::mem::take(&mut self.pending);
                pending.extend_from_slice(rest_of_line);
                let is_enough = self.end_line(&pending, sink);
                pending.clear();
                self.pending = pending;
                is_enough
            };
            if is_enough {
                return start;
            }
        }
        let mut rest = self.fill_pending(bytes.get(start..).unwrap_or_default(), sink);
        if self.pending.is_empty() {
            while rest.len() > self.limit.saturating_add(1) {
                let (piece, behind) = rest.split_at(self.limit);
                self.record(RecordType::PARTIAL, piece, sink);
                rest = behind;
            }
        }
        self.pending.extend_from_slice(rest);
        bytes.len()
    }

    /// The content is complete: what is left of an unterminated line becomes `L` records.
    pub fn finish(&mut self, sink: &mut impl FnMut(RecordType, &[u8])) {
        let pending = std::mem::take(&mut self.pending);
        let mut sink = |kind: RecordType, data: &[u8]| {
            sink(kind, data);
            false
        };
        for piece in pending.chunks(self.limit) {
            self.record(RecordType::PARTIAL, piece, &mut sink);
        }
    }

    /// Moves bytes that have no line end behind the pending ones for as long as that makes whole pieces. A piece
    /// leaves when two bytes behind it are known: one of them may be a CR that belongs to a line end.
    fn fill_pending<'a>(
        &mut self,
        mut bytes: &'a [u8],
        sink: &mut impl FnMut(RecordType, &[u8]) -> bool,
    ) -> &'a [u8] {
        let enough = self.limit.saturating_add(2);
        while !self.pending.is_empty() && self.pending.len().saturating_add(bytes.len()) >= enough {
            let (now, later) = bytes.split_at(enough.saturating_sub(self.pending.len()).min(bytes.len()));
            let mut pending = std::mem::take(&mut self.pending);
            pending.extend_from_slice(now);
            self.record(RecordType::PARTIAL, pending.get(..self.limit).unwrap_or_default(), sink);
            pending.drain(..self.limit.min(pending.len()));
            self.pending = pending;
            bytes = later;
        }
        bytes
    }

    /// A line is complete, `line` is what is left of it, without LF. Returns what `sink` says to its end.
    fn end_line(&mut self, mut line: &[u8], sink: &mut impl FnMut(RecordType, &[u8]) -> bool) -> bool {
        if self.cr_before_lf != CrBeforeLf::Data {
            match (line.split_last(), self.cr_before_lf) {
                (Some((b'\r', before)), _) => {
                    line = before;
                    self.cr_before_lf = CrBeforeLf::LineEnd;
                }
                (_, CrBeforeLf::Undecided) => self.cr_before_lf = CrBeforeLf::Data,
                _ => {}
            }
        }
        while line.len() > self.limit {
            let (piece, behind) = line.split_at(self.limit);
            self.record(RecordType::PARTIAL, piece, sink);
            line = behind;
        }
        self.record(RecordType::NORMAL, line, sink)
    }

    #[inline]
    fn record(
        &mut self,
        kind: RecordType,
        data: &[u8],
        sink: &mut impl FnMut(RecordType, &[u8]) -> bool,
    ) -> bool {
        if self.front != Front::Passed { self.front_record(kind, data, sink) } else { sink(kind, data) }
    }

    /// A record before the first ordinary line. Mailbox separators become headers; a line that could be taken for a
    /// continuation of our own Received: header is cut off from it by an empty line.
    fn front_record(
        &mut self,
        kind: RecordType,
        data: &[u8],
        sink: &mut impl FnMut(RecordType, &[u8]) -> bool,
    ) -> bool {
        let after_line = if kind == RecordType::NORMAL { Front::LineStart } else { Front::InFromLine };
        if self.front == Front::InFromLine {
            self.front = after_line;
            sink(kind, data)
        } else if is_from_line(data) {
            self.front = after_line;
            let mut header = b"X-Mailbox-Line: ".to_vec();
            header.extend_from_slice(until_nul(data));
            sink(kind, &header)
        } else {
            self.front = Front::Passed;
            let blank = match data.first() {
                Some(b' ' | b'\t') => true,
                Some(b'\r') => self.cr_becomes_blank,
                _ => false,
            };
            if blank {
                sink(RecordType::NORMAL, b"");
            }
            sink(kind, data)
        }
    }
}

/// `From ` after any number of `>`. A line with more `>` than fit in a record is not looked at further.
fn is_from_line(line: &[u8]) -> bool {
    let quotes = line.iter().take_while(|&&byte| byte == b'>').count();
    line.get(quotes..).is_some_and(|rest| rest.starts_with(b"From "))
}

/// True if an address can stand in a queue file record and in a header line.
#[must_use]
pub fn is_storable(address: &[u8]) -> bool {
    memchr3(0, b'\r', b'\n', address).is_none()
}

/// A sender, with the delimiters of variable envelope return paths if it asked for them: `list-@host-@[]` is
/// `list@host` with `-=`.
///
/// # Errors
/// [`Refusal::Verp`] if the delimiter is not in `verp_delimiter_filter`.
pub fn verp_sender(raw: &[u8], filter: &str) -> Result<(Vec<u8>, Option<[u8; 2]>), Refusal> {
    let Some((local, first_delimiter, domain)) = split_verp(raw) else { return Ok((raw.to_vec(), None)) };
    if ![first_delimiter, b'='].iter().all(|delimiter| filter.as_bytes().contains(delimiter)) {
        return Err(Refusal::Verp { first_delimiter, filter: filter.to_owned() });
    }
    Ok(([local, b"@", domain].concat(), Some([first_delimiter, b'='])))
}

/// Local part, delimiter, domain; `None` if the sender does not ask for variable envelope return paths: it ends in
/// `-@[]`, has an earlier `@`, two bytes or more before the first `@`, and one or more behind it.
fn split_verp(raw: &[u8]) -> Option<(&[u8], u8, &[u8])> {
    let address = raw.strip_suffix(b"-@[]")?;
    let at = memchr(b'@', address)?;
    let (before, domain) = (address.get(..at)?, address.get(at.checked_add(1)?..)?);
    let (&delimiter, local) = before.split_last()?;
    (!local.is_empty() && !domain.is_empty()).then_some((local, delimiter, domain))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Record = (u8, Vec<u8>);

    fn split(options: &Options, pieces: &[&[u8]]) -> Vec<Record> {
        let mut lines = Lines::new(options);
        let mut records = Vec::new();
        let mut sink = |kind: RecordType, data: &[u8]| records.push((kind.0, data.to_vec()));
        for piece in pieces {
            lines.push(piece, &mut sink);
        }
        lines.finish(&mut sink);
        records
    }

    fn shown(content: &[u8]) -> Vec<String> {
        let options = Options { line_length_limit: 8, ..Options::default() };
        split(&options, &[content])
            .into_iter()
            .map(|(kind, data)| format!("{} {}", char::from(kind), data.escape_ascii()))
            .collect()
    }

    #[test]
    fn lines_become_records() {
        let cases: &[(&[u8], &[&str])] = &[
            (b"", &[]),
            (b"\n", &["N "]),
            (b"a\n\nb", &["N a", "N ", "L b"]),
            (b"12345678\n", &["N 12345678"]),
            (b"123456789\n", &["L 12345678", "N 9"]),
            (b"12345678", &["L 12345678"]),
            (b"1234567812345678\n", &["L 12345678", "N 12345678"]),
            (b"12345678123456789", &["L 12345678", "L 12345678", "L 9"]),
            (b" a\n b\n", &["N ", "N  a", "N  b"]),
            (b"\ta", &["N ", "L \\ta"]),
            (b"\ra\n", &["N ", "N \\ra"]),
            (b"a\r\nb\r\n\r\nc\n", &["N a", "N b", "N ", "N c"]),
            (b"a\nb\r\n", &["N a", "N b\\r"]),
            (b"12345678\r\n", &["N 12345678"]),
            (b"12345678\r", &["L 12345678", "L \\r"]),
            (
                b"From a\n>From b\nc\nFrom d\n",
                &["N X-Mailbox-Line: From a", "N X-Mailbox-Line: >From b", "N c", "N From d"],
            ),
            (b"From a\0b\n c\n", &["N X-Mailbox-Line: From a", "N ", "N  c"]),
            (b"From 678\n\nx", &["N X-Mailbox-Line: From 678", "N ", "L x"]),
            (
                b"From 678 From 678 From\nx\n",
                &["L X-Mailbox-Line: From 678", "L  From 67", "N 8 From", "N x"],
            ),
            (b"From\n", &["N From"]),
        ];
        for (content, expected) in cases {
            assert_eq!(&shown(content), expected, "{}", content.escape_ascii());
        }
    }

    #[test]
    fn pieces_of_a_long_line_leave_as_soon_as_they_can() {
        let options = Options { line_length_limit: 4, ..Options::default() };
        let mut lines = Lines::new(&options);
        let mut records = Vec::new();
        let mut given = |piece: &[u8]| {
            lines.push(piece, &mut |kind, data| {
                records.push(format!("{} {}", kind.0 as char, data.escape_ascii()))
            });
            std::mem::take(&mut records)
        };
        assert_eq!(given(b"a\r\n1234\r"), ["N a"]);
        assert_eq!(given(b"\n"), ["N 1234"]);
        assert_eq!(given(b"1234567890"), ["L 1234", "L 5678"]);
        assert_eq!(given(b"abcdef"), ["L 90ab"]);
        assert_eq!(given(b"\r"), [""; 0]);
        assert_eq!(given(b"\n"), ["N cdef"]);
    }

    #[test]
    fn cr_is_data_when_line_endings_are_not_to_be_fixed() {
        let options = Options { fix_line_endings: FixLineEndings::Never, ..Options::default() };
        assert_eq!(split(&options, &[b"a\r\n\r\n"]), [(b'N', b"a\r".to_vec()), (b'N', b"\r".to_vec())]);
        let options = Options { replace_stray_cr_lf: false, ..options };
        assert_eq!(split(&options, &[b"\r\n"]), [(b'N', b"\r".to_vec())]);
    }

    #[test]
    fn verp_senders() {
        // Observed on Postfix 3.7.
        let cases: &[(&str, &str, Option<&[u8; 2]>)] = &[
            ("list-@host-@[]", "list@host", Some(b"-=")),
            ("list+@host-@[]", "list@host", Some(b"+=")),
            ("l-@h-@[]", "l@h", Some(b"-=")),
            ("a-@b-@c-@[]", "a@b-@c", Some(b"-=")),
            ("-@host-@[]", "-@host-@[]", None),
            ("@host-@[]", "@host-@[]", None),
            ("list-@-@[]", "list-@-@[]", None),
            ("list-host-@[]", "list-host-@[]", None),
            ("x-@[]", "x-@[]", None),
            ("#@[]", "#@[]", None),
            ("list-@host@[]", "list-@host@[]", None),
            ("", "", None),
        ];
        for (raw, sender, delimiters) in cases {
            let expected = (sender.as_bytes().to_vec(), delimiters.copied());
            assert_eq!(verp_sender(raw.as_bytes(), "-=+"), Ok(expected), "{raw}");
        }
    }

    #[test]
    fn bad_verp_delimiters_are_refused_in_the_words_of_postfix() {
        for (raw, delimiter) in [("list@host-@[]", "t"), ("list_@host-@[]", "_"), ("list.@host-@[]", ".")] {
            let refusal = verp_sender(raw.as_bytes(), "-=+").unwrap_err();
            let text = format!("Invalid VERP delimiters: \"{delimiter}=\". Need two characters from \"-=+\"");
            assert_eq!(refusal.to_string(), text);
        }
        let refusal = verp_sender(b"lis\xe9@host-@[]", "-=+").unwrap_err();
        assert!(refusal.to_string().contains("\"?=\""));
        assert!(verp_sender(b"list-@host-@[]", "-").is_err(), "the second delimiter must be allowed, too");
    }

    fn content() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"\n".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\r".to_vec()),
            Just(b"From ".to_vec()),
            Just(b">".to_vec()),
            Just(b" ".to_vec()),
            Just(b"\0".to_vec()),
            "[a-z]{1,12}".prop_map(String::into_bytes),
        ];
        prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn records_do_not_depend_on_the_split(
            content in content(),
            cuts in prop::collection::vec(0_usize..40, 0..8),
            limit in 1_usize..12,
            fix in any::<bool>(),
        ) {
            let fix_line_endings = if fix { FixLineEndings::Always } else { FixLineEndings::Never };
            let options = Options { line_length_limit: limit, fix_line_endings, ..Options::default() };
            let mut pieces = Vec::new();
            let mut rest = content.as_slice();
            for cut in cuts {
                let (piece, behind) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = behind;
            }
            pieces.push(rest);
            prop_assert_eq!(split(&options, &pieces), split(&options, &[&content]));
        }

        #[test]
        fn no_byte_is_lost_without_fixing(lines in prop::collection::vec("[a-z\r]{1,20}", 0..8), limit in 1_usize..12) {
            let options = Options {
                line_length_limit: limit,
                fix_line_endings: FixLineEndings::Never,
                replace_stray_cr_lf: false,
                ..Options::default()
            };
            let content: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let mut joined = Vec::new();
            for (kind, data) in split(&options, &[content.as_bytes()]) {
                prop_assert!(data.len() <= limit);
                joined.extend_from_slice(&data);
                if kind == b'N' {
                    joined.push(b'\n');
                }
            }
            prop_assert_eq!(joined, content.as_bytes());
        }
    }
}
