//! Writes a header as records.

use memchr::memchr;
use postfix::record::{RecordType, encode};

/// Joins the lines of a header that was put together anew, one address a line, as long as a line stays short enough.
/// A line's own length counts with what was joined before it; the TAB that continues a header does not.
pub(crate) fn fold(header: &mut [u8]) {
    let mut line_start = 0;
    let mut position = 0;
    while let Some(newline) = header.get(position..).and_then(|rest| memchr(b'\n', rest)) {
        let newline = position.saturating_add(newline);
        let next = newline.saturating_add(1);
        let end = header
            .get(next..)
            .and_then(|rest| memchr(b'\n', rest))
            .map_or(header.len(), |len| next.saturating_add(len));
        if end.saturating_sub(line_start) < 70 {
            if let Some(byte) = header.get_mut(newline) {
                *byte = b' ';
            }
        } else {
            line_start = next;
        }
        position = next;
    }
}

/// Writes a header, lines separated by newlines, as records of at most `line_length_limit` bytes. A continuation line
/// that does not begin with a blank gets a TAB. What is beyond `header_size_limit` is lost: the line that crosses the
/// limit is dropped if it begins in the last tenth, otherwise cut.
pub(crate) fn write(header: &[u8], header_size_limit: usize, line_length_limit: usize, out: &mut Vec<u8>) {
    let mut start = 0_usize;
    let mut tabbed = Vec::new();
    for line in header.split(|&byte| byte == b'\n') {
        let end = start.saturating_add(line.len());
        let crosses = end > header_size_limit;
        if crosses && start.saturating_mul(10) > header_size_limit.saturating_mul(9) {
            return;
        }
        let kept = if crosses { header_size_limit.saturating_sub(start) } else { line.len() };
        let text = line.get(..kept).unwrap_or(line);
        if start == 0 || matches!(text.first(), Some(b' ' | b'\t')) {
            write_line(text, line_length_limit, out);
        } else {
            tabbed.clear();
            tabbed.push(b'\t');
            tabbed.extend_from_slice(text);
            write_line(&tabbed, line_length_limit, out);
        }
        if crosses {
            return;
        }
        start = end.saturating_add(1);
    }
}

/// Writes a line as one record, or as pieces if it is longer than `limit`.
pub(crate) fn write_line(line: &[u8], limit: usize, out: &mut Vec<u8>) {
    write_text(RecordType::NORMAL, line, limit, out);
}

/// Writes a line (`N`) or a piece of one (`L`) as one record, or as pieces if it is longer than `limit`.
pub(crate) fn write_text(kind: RecordType, mut text: &[u8], limit: usize, out: &mut Vec<u8>) {
    let limit = limit.max(1);
    while text.len() > limit {
        let (piece, rest) = text.split_at(limit);
        encode(out, RecordType::PARTIAL, piece);
        text = rest;
    }
    encode(out, kind, text);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folded(header: &str) -> String {
        let mut bytes = header.as_bytes().to_vec();
        fold(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn short_lines_are_joined() {
        // Observed on Postfix 3.7: 69 columns fit, 70 do not.
        let first = format!("To: {}@x.example,", "a".repeat(30));
        let fits = format!("{}@x", "b".repeat(69 - first.len() - 3));
        assert_eq!(folded(&format!("{first}\n{fits}")), format!("{first} {fits}"));
        assert_eq!(folded(&format!("{first}\nb{fits},\nc")), format!("{first}\nb{fits}, c"));
        assert_eq!(folded("a,\n"), "a, ");
    }

    #[test]
    fn long_headers_are_cut() {
        let written = |header: &str| {
            let mut out = Vec::new();
            write(header.as_bytes(), 20, 8, &mut out);
            out.escape_ascii().to_string()
        };
        assert_eq!(written("A: b\nc\n d"), "N\\x04A: bN\\x02\\tcN\\x02 d");
        assert_eq!(written("A: 3456789"), "L\\x08A: 34567N\\x0289");
        // A line that begins beyond 18 bytes goes, an earlier one is cut at 20.
        assert_eq!(written("A: 3456789abcdefgh\n x y z"), "L\\x08A: 34567L\\x0889abcdefN\\x02gh");
        assert_eq!(written("A: 3456789abcdefg\n x y z"), "L\\x08A: 34567L\\x0889abcdefN\\x01gN\\x02 x");
    }

    #[test]
    fn what_just_fits_is_neither_cut_nor_split() {
        let written = |header: &str| {
            let mut out = Vec::new();
            write(header.as_bytes(), 20, 30, &mut out);
            out.escape_ascii().to_string()
        };
        assert_eq!(written("A: 3456789abcdefgh\n "), "N\\x12A: 3456789abcdefghN\\x01 ");
        let mut out = Vec::new();
        write_line(b"12345678", 8, &mut out);
        assert_eq!(out.escape_ascii().to_string(), "N\\x0812345678");
    }

    proptest! {
        #[test]
        fn folding_keeps_all_but_newlines(words in prop::collection::vec("[a-z]{0,40}", 1..12)) {
            let header = words.join("\n");
            let folded = folded(&header);
            prop_assert_eq!(folded.replace('\n', " "), header.replace('\n', " "));
            prop_assert!(folded.lines().all(|line| line.len() < 70));
        }
    }
}
