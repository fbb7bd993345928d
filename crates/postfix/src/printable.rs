//! Text from outside made fit for a log, a reply or a terminal: the one place that does it.

/// Text without what a terminal could obey: each byte that is not text, and each byte of a control character, U+0080 to U+009F
/// among them, becomes `?`. Without `utf8` (smtputf8_enable) only printable ASCII is text.
#[must_use]
pub fn printable(bytes: &[u8], utf8: bool) -> String {
    printable_up_to(bytes, utf8, usize::MAX)
}

/// The same, cut at whole characters to at most so many bytes.
#[must_use]
pub fn printable_up_to(bytes: &[u8], utf8: bool, bytes_max: usize) -> String {
    let mut text = String::with_capacity(bytes.len().min(bytes_max));
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if text.len().saturating_add(character.len_utf8()) > bytes_max {
                return text;
            }
            match character {
                ' '..='~' => text.push(character),
                _ if utf8 && !character.is_control() => text.push(character),
                _ => text.extend(std::iter::repeat_n('?', character.len_utf8())),
            }
        }
        for _ in chunk.invalid() {
            if text.len() >= bytes_max {
                return text;
            }
            text.push('?');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_becomes_a_question_mark() {
        assert_eq!(printable(b"a\tb\n\x7f\0", true), "a?b???");
        assert_eq!(printable("caf\u{e9}".as_bytes(), true), "caf\u{e9}");
        assert_eq!(printable("caf\u{e9}".as_bytes(), false), "caf??");
        assert_eq!(printable("a\u{9b}2J".as_bytes(), true), "a??2J");
        assert_eq!(printable(b"caf\xe9!", true), "caf?!");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(printable_up_to("a\u{e9}b".as_bytes(), true, 2), "a");
        assert_eq!(printable_up_to("a\u{e9}b".as_bytes(), true, 3), "a\u{e9}");
        assert_eq!(printable_up_to(b"a\xff\xffb", true, 2), "a?");
    }
}
