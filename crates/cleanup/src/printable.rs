//! Bytes from outside for the log.

/// Text without control characters: each one, and each byte that is no text, becomes `?`. Without `utf8` only ASCII
/// is text.
pub(crate) fn printable(bytes: &[u8], utf8: bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            // U+0080 to U+009F are control characters too: a terminal may obey them.
            if (character.is_ascii() || utf8) && !character.is_control() {
                text.push(character);
            } else {
                text.extend(std::iter::repeat_n('?', character.len_utf8()));
            }
        }
        text.extend(chunk.invalid().iter().map(|_| '?'));
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
}
