//! Headers: the known ones, their addresses, and their form as records.

mod addresses;
mod content_type;
mod known;
mod write;

pub(crate) use addresses::rewrite_addresses;
pub(crate) use content_type::{ContentType, Encoding, MediaType};
pub(crate) use known::{Addresses, HeaderSet, Known};
pub(crate) use write::{fold, write, write_line, write_text};

/// Length of the header name at the beginning of a line, if the line begins a header: one or more printing characters,
/// perhaps blanks (obsolete syntax), a colon.
pub(crate) fn name_len(line: &[u8]) -> Option<usize> {
    let len = line.iter().take_while(|&&byte| byte.is_ascii_graphic() && byte != b':').count();
    let blanks = line.get(len..)?.iter().take_while(|&&byte| matches!(byte, b' ' | b'\t')).count();
    let colon = line.get(len.checked_add(blanks)?)?;
    (len > 0 && *colon == b':').then_some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_a_header() {
        for (line, len) in
            [("A:", 1), ("A :b", 1), ("A\t :b", 1), ("http://x", 4), ("\"q\": r", 3), ("--o: z", 3)]
        {
            assert_eq!(name_len(line.as_bytes()), Some(len), "{line}");
        }
        for line in ["", ":", ": x", "A", "A b: c", " A: b", "caf\u{e9}: x", "A\0: b", "A\x7f: b"] {
            assert_eq!(name_len(line.as_bytes()), None, "{line}");
        }
    }
}
