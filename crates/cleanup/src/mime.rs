//! Where in a message there are headers and where there is body: records in, headers and body records out.

use std::sync::Arc;

use postfix::record::RecordType;

use crate::header::{ContentType, MediaType, name_len};
use crate::incoming::until_nul;
use crate::options::Options;

/// Which header section a header is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    /// The headers of the message itself.
    Primary,
    /// The headers of a body part.
    Part,
    /// The headers of an enclosed message.
    Nested,
}

/// Who takes the parts of a message.
pub(crate) trait Receiver {
    /// A header is complete: its name, `:`, and the rest with newlines before continuation lines. The buffer may be
    /// changed at will.
    fn header(&mut self, section: Section, header: &mut Vec<u8>);
    /// The primary header section is complete.
    fn end_of_primary(&mut self);
    /// A record that is no header: empty lines, boundary lines, body.
    fn body(&mut self, kind: RecordType, data: &[u8]);
}

/// The state of the walk through a message.
///
/// ```text
/// Header(Primary) ─ line that is no header ─ Body ─ --boundary ─ Header(Part) ─ line that is no header ─ Body
///        └─ empty line, Content-Type: message/rfc822 ─ Header(Nested) ─ line that is no header ─ Body
/// ```
///
/// Holds at most one header of `header_size_limit` bytes (and one record more), and boundary strings:
/// `mime_nesting_limit` + 2 of `mime_boundary_length_limit` bytes.
#[derive(Debug)]
pub(crate) struct Parser {
    options: Arc<Options>,
    mode: Mode,
    /// The type of the part that the current headers describe.
    media_type: MediaType,
    /// The header that is being collected; empty if none is.
    header: Vec<u8>,
    /// The record before was a piece of a line.
    in_line: bool,
    /// Innermost last.
    boundaries: Vec<Boundary>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Header(Section),
    Body,
}

#[derive(Debug)]
struct Boundary {
    text: Vec<u8>,
    /// What the parts are unless they say otherwise.
    default_type: MediaType,
}

impl Parser {
    /// A parser that has seen our own Received: header, which is complete and whose handling is another's: the caller
    /// makes sure that the first record does not begin with a blank.
    pub(crate) const fn new(options: Arc<Options>) -> Self {
        Self {
            options,
            mode: Mode::Header(Section::Primary),
            media_type: MediaType::Text,
            header: Vec::new(),
            in_line: false,
            boundaries: Vec::new(),
        }
    }

    /// Takes the next record.
    #[inline]
    pub(crate) fn record(&mut self, kind: RecordType, data: &[u8], receiver: &mut impl Receiver) {
        if self.mode == Mode::Body {
            self.body_record(kind, data, receiver);
        } else {
            self.header_record(kind, data, receiver);
        }
    }

    /// The content is complete.
    pub(crate) fn finish(&mut self, receiver: &mut impl Receiver) {
        if self.in_line {
            self.record(RecordType::NORMAL, b"", receiver);
        }
        if let Mode::Header(section) = self.mode {
            self.end_header(section, receiver);
            if section == Section::Primary {
                receiver.end_of_primary();
            }
            self.mode = Mode::Body;
        }
    }

    fn body_record(&mut self, kind: RecordType, data: &[u8], receiver: &mut impl Receiver) {
        if !self.boundaries.is_empty() && !self.in_line && data.starts_with(b"--") {
            self.boundary_line(data);
        }
        self.in_line = kind == RecordType::PARTIAL;
        receiver.body(kind, data);
    }

    /// A line that begins with `--`: does it end a part? What stands behind the boundary string does not matter, since
    /// our copy of the string may be cut. `--` alone is none, even for an empty boundary string.
    fn boundary_line(&mut self, line: &[u8]) {
        let Some(text @ [_, ..]) = line.get(2..) else { return };
        let Some(found) = self.boundaries.iter().rposition(|boundary| text.starts_with(&boundary.text))
        else {
            return;
        };
        self.boundaries.truncate(found.saturating_add(1));
        let Some(boundary) = self.boundaries.last() else { return };
        if text.get(boundary.text.len()..).is_some_and(|rest| rest.starts_with(b"--")) {
            self.boundaries.pop();
            self.media_type = MediaType::Other;
        } else {
            self.media_type = boundary.default_type;
            self.mode = Mode::Header(Section::Part);
        }
    }

    fn header_record(&mut self, kind: RecordType, data: &[u8], receiver: &mut impl Receiver) {
        let Mode::Header(section) = self.mode else { return };
        if !self.header.is_empty() {
            if self.in_line || matches!(data.first(), Some(b' ' | b'\t')) {
                self.continue_header(data);
                self.in_line = kind == RecordType::PARTIAL;
                return;
            }
            self.end_header(section, receiver);
        }
        if let Some(len) = name_len(data) {
            self.begin_header(data, len);
            self.in_line = kind == RecordType::PARTIAL;
            return;
        }
        if section == Section::Primary {
            receiver.end_of_primary();
        }
        self.mode = if !data.is_empty() {
            if section == Section::Primary {
                receiver.body(RecordType::NORMAL, b"");
            }
            Mode::Body
        } else if self.media_type == MediaType::Message {
            self.media_type = MediaType::Text;
            Mode::Header(Section::Nested)
        } else {
            if self.media_type == MediaType::Multipart {
                self.media_type = MediaType::Other;
            }
            Mode::Body
        };
        // The record that ended the section is body, even if another section follows.
        self.body_record(kind, data, receiver);
    }

    fn begin_header(&mut self, data: &[u8], name_len: usize) {
        let (name, rest) = data.split_at(name_len);
        let blanks = rest.iter().take_while(|&&byte| byte != b':').count();
        self.header.extend_from_slice(name);
        self.header.extend_from_slice(until_nul(rest.get(blanks..).unwrap_or_default()));
    }

    fn continue_header(&mut self, data: &[u8]) {
        if self.header.len() >= self.options.header_size_limit {
            return;
        }
        if !self.in_line {
            self.header.push(b'\n');
        }
        self.header.extend_from_slice(until_nul(data));
    }

    /// No more lines belong to the collected header.
    fn end_header(&mut self, section: Section, receiver: &mut impl Receiver) {
        if self.header.is_empty() {
            return;
        }
        let mut header = std::mem::take(&mut self.header);
        self.note_content_type(&header);
        receiver.header(section, &mut header);
        header.clear();
        self.header = header;
        self.in_line = false;
    }

    fn note_content_type(&mut self, header: &[u8]) {
        const NAME: &[u8] = b"content-type:";
        if self.options.disable_mime_input_processing {
            return;
        }
        let Some((name, value)) = header.split_at_checked(NAME.len()) else { return };
        if !name.eq_ignore_ascii_case(NAME) {
            return;
        }
        let content_type = ContentType::parse(value);
        self.media_type = content_type.media_type.unwrap_or(self.media_type);
        let default_type = if content_type.digest { MediaType::Message } else { MediaType::Text };
        let room = self.options.mime_nesting_limit.saturating_add(2).saturating_sub(self.boundaries.len());
        for mut text in content_type.boundaries.into_iter().take(room) {
            text.truncate(self.options.mime_boundary_length_limit);
            self.boundaries.push(Boundary { text, default_type });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was received, one line each: section and header, `end`, record type and body.
    #[derive(Default)]
    struct Seen(Vec<String>);

    impl Receiver for Seen {
        fn header(&mut self, section: Section, header: &mut Vec<u8>) {
            self.0.push(format!("{section:?} {}", header.escape_ascii()));
            // The parser must not depend on what is left in its buffer.
            header.extend_from_slice(b"junk");
        }

        fn end_of_primary(&mut self) {
            self.0.push("end".to_owned());
        }

        fn body(&mut self, kind: RecordType, data: &[u8]) {
            self.0.push(format!("{} {}", char::from(kind.0), data.escape_ascii()));
        }
    }

    /// Lines end in `\n`; one that ends in `+` is a piece.
    fn parse(options: Options, message: &str) -> Vec<String> {
        let mut parser = Parser::new(Arc::new(options));
        let mut seen = Seen::default();
        for line in message.split_terminator('\n') {
            match line.strip_suffix('+') {
                Some(piece) => parser.record(RecordType::PARTIAL, piece.as_bytes(), &mut seen),
                None => parser.record(RecordType::NORMAL, line.as_bytes(), &mut seen),
            }
        }
        parser.finish(&mut seen);
        seen.0
    }

    #[track_caller]
    fn check(message: &str, expected: &[&str]) {
        assert_eq!(parse(Options::default(), message), expected, "{message}");
    }

    #[test]
    fn headers_end_at_the_first_line_that_is_none() {
        check("", &["end"]);
        check("A: b\nB : c\n\tmore\n", &["Primary A: b", "Primary B: c\\n\\tmore", "end"]);
        check("A: b\n\nC: d\n", &["Primary A: b", "end", "N ", "N C: d"]);
        check("A: b\nno header\nC: d\n", &["Primary A: b", "end", "N ", "N no header", "N C: d"]);
        check("A:+\nb+\n c\nB: d\n", &["Primary A:b c", "Primary B: d", "end"]);
    }

    #[test]
    fn an_unterminated_line_gets_its_end() {
        check("A: b+\n", &["Primary A: b", "end"]);
        check("\nb+\n", &["end", "N ", "L b", "N "]);
    }

    #[test]
    fn what_is_behind_a_nul_in_a_header_is_lost() {
        check("A: b\0c\n d\0e\n\n\0\n", &["Primary A: b\\n d", "end", "N ", "N \\x00"]);
        check("A\0: b\n", &["end", "N ", "N A\\x00: b"]);
    }

    #[test]
    fn a_header_is_held_up_to_its_limit() {
        let options = Options { header_size_limit: 6, ..Options::default() };
        assert_eq!(parse(options, "A: b\n cde\n f\nB: c\n"), ["Primary A: b\\n cde", "Primary B: c", "end"]);
    }

    #[test]
    fn parts_have_headers() {
        check(
            "Content-Type: multipart/mixed; boundary=b\n\nprolog: x\n--b\nA : b\n\nbody: x\n--b-- trailing\nC: d\n--b\n",
            &[
                "Primary Content-Type: multipart/mixed; boundary=b",
                "end",
                "N ",
                "N prolog: x",
                "N --b",
                "Part A: b",
                "N ",
                "N body: x",
                "N --b-- trailing",
                "N C: d",
                "N --b",
            ],
        );
        // No empty line is added to a part.
        check(
            "Content-Type: multipart/mixed; boundary=b\n\n--b\nA: b\nbody\n",
            &[
                "Primary Content-Type: multipart/mixed; boundary=b",
                "end",
                "N ",
                "N --b",
                "Part A: b",
                "N body",
            ],
        );
    }

    #[test]
    fn enclosed_messages_have_headers() {
        check(
            "Content-Type: message/rfc822\n\nA : b\n\nC : d\n",
            &["Primary Content-Type: message/rfc822", "end", "N ", "Nested A: b", "N ", "N C : d"],
        );
        // A digest's parts are messages unless they say something else that is known.
        for (part, section) in
            [("X: y", "Nested"), ("Content-Type: application/x", "Nested"), ("Content-Type: text/x", "N")]
        {
            let message = format!("Content-Type: multipart/digest; boundary=b\n\n--b\n{part}\n\nA: b\n");
            assert_eq!(
                parse(Options::default(), &message).last(),
                Some(&format!("{section} A: b")),
                "{part}"
            );
        }
        // Not if the line that ends the headers is not empty.
        check(
            "Content-Type: message/rfc822\nx\nA: b\n",
            &["Primary Content-Type: message/rfc822", "end", "N ", "N x", "N A: b"],
        );
    }

    #[test]
    fn boundaries_match_by_prefix_and_end_what_is_inside() {
        let outer = "Content-Type: multipart/mixed; boundary=bb\n\n--bb\nContent-Type: multipart/mixed; boundary=b\n\n";
        for (lines, last) in [
            ("--b\nA: b\n", "Part A: b"),
            ("--bb\nA: b\n", "Part A: b"),
            ("--b--\nA: b\n", "N A: b"),
            ("--b--\n--bb\nA: b\n", "Part A: b"),
            ("--bb--\n--b\nA: b\n", "Part A: b"),
            ("--B\nA: b\n", "N A: b"),
            ("x--b\nA: b\n", "N A: b"),
            ("long line+\n--b\nA: b\n", "N A: b"),
        ] {
            assert_eq!(
                parse(Options::default(), &format!("{outer}{lines}")).last().unwrap(),
                last,
                "{lines}"
            );
        }
        let empty = "Content-Type: multipart/mixed; boundary=\"\"\n\n";
        assert_eq!(parse(Options::default(), &format!("{empty}--\nA: b\n")).last().unwrap(), "N A: b");
        assert_eq!(parse(Options::default(), &format!("{empty}--x\nA: b\n")).last().unwrap(), "Part A: b");
    }

    #[test]
    fn boundaries_are_bounded() {
        let options = Options { mime_nesting_limit: 1, mime_boundary_length_limit: 2, ..Options::default() };
        let message =
            "Content-Type: multipart/mixed; boundary=abc; boundary=def; boundary=ghi; boundary=jkl\n\n";
        for (line, last) in [("--ab", "Part A: b"), ("--gh", "Part A: b"), ("--jkl", "N A: b")] {
            assert_eq!(
                parse(options.clone(), &format!("{message}{line}\nA: b\n")).last().unwrap(),
                last,
                "{line}"
            );
        }
    }

    #[test]
    fn all_is_body_without_mime_processing() {
        let options = Options { disable_mime_input_processing: true, ..Options::default() };
        let message = "Content-Type: message/rfc822; boundary=b\n\nA : b\n--b\nA : b\n";
        assert_eq!(parse(options, message).last().unwrap(), "N A : b");
    }
}
