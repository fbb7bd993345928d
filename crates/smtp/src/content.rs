//! The content of a message as it follows DATA: lines end with CRLF, a dot at a line's beginning is doubled, lines that
//! are too long are cut (RFC 5321 sections 4.5.2 and 4.5.3.1.6).

use memchr::memchr2;

/// Writes lines one after another.
#[derive(Debug)]
pub struct Encoder {
    line_bytes_max: usize,
    /// How many bytes of the line that is being written.
    line_bytes: usize,
    is_at_line_start: bool,
    has_cut: bool,
}

impl Encoder {
    /// An encoder that cuts lines after `line_bytes_max` bytes (Postfix's `smtp_line_length_limit`, 998); 0 is no limit.
    #[must_use]
    pub const fn new(line_bytes_max: usize) -> Self {
        Self { line_bytes_max, line_bytes: 0, is_at_line_start: true, has_cut: false }
    }

    /// Writes a piece of a line, and its end if it `is_complete`: as the records of a queue file have it.
    ///
    /// A line that is too long is cut, and goes on in the next with a blank. A CR or LF inside the piece is sent as a
    /// blank: a server might take it for a line's end, and then a dot behind it for the message's.
    pub fn line(&mut self, mut piece: &[u8], is_complete: bool, out: &mut Vec<u8>) {
        loop {
            if self.is_at_line_start && piece.first() == Some(&b'.') {
                out.push(b'.');
            }
            let room = self.line_bytes_max.saturating_sub(self.line_bytes);
            // At the limit itself a line that ends here is whole.
            let fits = self.line_bytes_max == 0 || piece.len() <= room && (is_complete || piece.len() < room);
            if fits {
                append(piece, out);
                self.line_bytes = self.line_bytes.saturating_add(piece.len());
                self.is_at_line_start &= piece.is_empty();
                break;
            }
            let (head, tail) = piece.split_at_checked(room).unwrap_or((piece, b""));
            append(head, out);
            out.extend_from_slice(b"\r\n ");
            self.has_cut = true;
            self.is_at_line_start = false;
            self.line_bytes = 1;
            piece = tail;
        }
        if is_complete {
            out.extend_from_slice(b"\r\n");
            self.line_bytes = 0;
            self.is_at_line_start = true;
        }
    }

    /// Ends the last line if it is not complete, and the content.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Finished {
        if !self.is_at_line_start {
            self.line(b"", true, out);
        }
        out.extend_from_slice(b".\r\n");
        Finished { has_cut: self.has_cut }
    }

    /// Has a line been cut? Postfix logs the first one.
    #[must_use]
    pub const fn has_cut(&self) -> bool {
        self.has_cut
    }
}

/// What there is to say about a content that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// A line was cut.
    pub has_cut: bool,
}

fn append(mut piece: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = memchr2(b'\r', b'\n', piece) {
        let (before, rest) = piece.split_at_checked(at).unwrap_or((piece, b""));
        out.extend_from_slice(before);
        out.push(b' ');
        piece = rest.get(1..).unwrap_or_default();
    }
    out.extend_from_slice(piece);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(limit: usize, lines: &[(&str, bool)]) -> String {
        let mut encoder = Encoder::new(limit);
        let mut out = Vec::new();
        for (piece, is_complete) in lines {
            encoder.line(piece.as_bytes(), *is_complete, &mut out);
        }
        encoder.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_end_with_crlf_and_dots_are_doubled_at_their_beginning_only() {
        assert_eq!(
            encode(998, &[("a.", true), (".", true), ("", true), ("..b", true)]),
            "a.\r\n..\r\n\r\n...b\r\n.\r\n"
        );
        assert_eq!(encode(998, &[]), ".\r\n");
    }

    #[test]
    fn a_line_in_pieces_is_one_line() {
        assert_eq!(encode(998, &[("", false), (".a", false), (".b", false), ("", true)]), "..a.b\r\n.\r\n");
    }

    #[test]
    fn a_last_line_without_end_gets_one() {
        assert_eq!(encode(998, &[("a", false)]), "a\r\n.\r\n");
    }

    /// Where and how is what Postfix 3.7 does.
    #[test]
    fn a_long_line_is_cut_and_goes_on_with_a_blank() {
        assert_eq!(encode(5, &[("12345", true)]), "12345\r\n.\r\n");
        assert_eq!(encode(5, &[("123456", true)]), "12345\r\n 6\r\n.\r\n");
        assert_eq!(encode(5, &[("12345.7890", true)]), "12345\r\n .789\r\n 0\r\n.\r\n");
        assert_eq!(encode(5, &[("12345", false), ("", true)]), "12345\r\n \r\n.\r\n");
        assert_eq!(encode(5, &[("123", false), ("45", false), ("6", true)]), "12345\r\n 6\r\n.\r\n");
        assert_eq!(encode(0, &[("1234567890", true)]), "1234567890\r\n.\r\n");
    }

    #[test]
    fn stray_line_ends_become_blanks() {
        assert_eq!(
            encode(998, &[("a\r", true), (".\r", true), ("b\nc\r\rd", true)]),
            "a \r\n.. \r\nb c  d\r\n.\r\n"
        );
    }

    proptest! {
        /// Whatever a message holds, the first line that is a dot alone is the last, and every CR is half of a line's end.
        #[test]
        fn no_content_ends_the_message(
            lines in proptest::collection::vec((proptest::collection::vec(prop_oneof![Just(b'.'), Just(b'\r'), Just(b'\n'), any::<u8>()], 0..20), any::<bool>()), 0..20),
            limit in prop_oneof![Just(0usize), 2usize..12],
        ) {
            let mut encoder = Encoder::new(limit);
            let mut out = Vec::new();
            for (piece, is_complete) in &lines {
                encoder.line(piece, *is_complete, &mut out);
            }
            encoder.finish(&mut out);
            let text: Vec<&[u8]> = out.strip_suffix(b"\r\n").unwrap().split(|&byte| byte == b'\n').collect();
            let lines: Vec<&[u8]> = text.iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
            let (last, before) = lines.split_last().unwrap();
            prop_assert_eq!(*last, b".");
            prop_assert!(before.iter().all(|line| *line != b"." && !line.contains(&b'\r')));
            prop_assert_eq!(out.iter().filter(|&&byte| byte == b'\r').count(), lines.len());
            if limit > 0 {
                prop_assert!(before.iter().all(|line| line.len() <= limit + 1));
            }
        }
    }
}
