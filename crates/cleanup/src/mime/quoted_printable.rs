//! Converts 8-bit text to quoted-printable.

use postfix::record::RecordType;

/// A line gets a soft line break before it would become longer than this: with the `=` of the break, or with white space
/// that has to be written as three bytes at the end, it stays below the 76 bytes of RFC 2045.
const LINE_LEN_MAX: usize = 72;

/// The line that is being written. Holds less than [`LINE_LEN_MAX`] and a few bytes.
#[derive(Debug, Default)]
pub(crate) struct QuotedPrintable {
    line: Vec<u8>,
}

impl QuotedPrintable {
    /// Takes a line or a piece of one, and gives each line that is complete to `sink`.
    pub(crate) fn record(&mut self, kind: RecordType, data: &[u8], sink: &mut impl FnMut(&[u8])) {
        for &byte in data {
            if self.line.len() > LINE_LEN_MAX {
                self.line.push(b'=');
                sink(&self.line);
                self.line.clear();
            }
            if byte == b'\t' || matches!(byte, b' '..=b'~') && byte != b'=' {
                self.line.push(byte);
            } else {
                self.push_encoded(byte);
            }
        }
        if kind == RecordType::NORMAL {
            // Mail servers may take away white space at the end of a line.
            if let Some(blank) = self.line.pop_if(|last| matches!(*last, b' ' | b'\t')) {
                self.push_encoded(blank);
            }
            sink(&self.line);
            self.line.clear();
        }
    }

    fn push_encoded(&mut self, byte: u8) {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        self.line.push(b'=');
        for nibble in [byte >> 4, byte & 0xf] {
            self.line.extend(DIGITS.get(usize::from(nibble)));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(records: &[(RecordType, &[u8])]) -> Vec<String> {
        let mut conversion = QuotedPrintable::default();
        let mut lines = Vec::new();
        for (kind, data) in records {
            conversion.record(*kind, data, &mut |line| lines.push(String::from_utf8(line.to_vec()).unwrap()));
        }
        lines
    }

    #[test]
    fn what_is_not_printable_is_written_in_hexadecimal() {
        let line = |data: &[u8]| encoded(&[(RecordType::NORMAL, data)]);
        assert_eq!(line(b"a\xe9=\x00\x7f"), ["a=E9=3D=00=7F"]);
        assert_eq!(line(b"a\tb\t"), ["a\tb=09"]);
        assert_eq!(line(b" "), ["=20"]);
        assert_eq!(line(b""), [""]);
        assert_eq!(encoded(&[(RecordType::PARTIAL, b"a "), (RecordType::NORMAL, b"b")]), ["a b"]);
    }

    #[test]
    fn long_lines_get_soft_breaks() {
        let lines = encoded(&[(RecordType::NORMAL, &[b'x'; 100])]);
        assert_eq!(lines, [format!("{}=", "x".repeat(73)), "x".repeat(27)]);
        let lines = encoded(&[(RecordType::NORMAL, &[0xff; 30])]);
        assert_eq!(lines, [format!("{}=", "=FF".repeat(25)), "=FF".repeat(5)]);
    }

    fn decoded(lines: &[String]) -> Vec<u8> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let text = text.replace("=\n", "");
        let mut bytes = Vec::new();
        let mut rest = text.trim_end_matches('\n').bytes();
        while let Some(first) = rest.next() {
            bytes.push(if first == b'=' {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            } else {
                first
            });
        }
        bytes
    }

    proptest! {
        #[test]
        fn a_line_comes_back(data in prop::collection::vec(prop_oneof![Just(b' '), Just(b'='), any::<u8>()], 0..300)) {
            let lines = encoded(&[(RecordType::NORMAL, &data)]);
            prop_assert!(lines.iter().all(|line| line.is_ascii() && line.len() <= 76));
            prop_assert!(!lines.iter().any(|line| line.ends_with([' ', '\t'])));
            prop_assert_eq!(decoded(&lines), data);
        }
    }
}
