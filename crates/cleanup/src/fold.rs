//! Texts without differences of case.

use caseless::Caseless as _;

/// Appends `text` without differences of case: by Unicode's default case folding if `utf8`, otherwise ASCII letters
/// only. Bytes that are no text stay.
pub(crate) fn fold_case(text: &[u8], utf8: bool, folded: &mut Vec<u8>) {
    if !utf8 || text.is_ascii() {
        folded.extend(text.iter().map(u8::to_ascii_lowercase));
        return;
    }
    for chunk in text.utf8_chunks() {
        let mut buffer = [0; 4];
        for character in chunk.valid().chars().default_case_fold() {
            folded.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
        }
        folded.extend_from_slice(chunk.invalid());
    }
}

/// Whether two texts differ in case at most.
pub(crate) fn equal_but_for_case(one: &[u8], other: &[u8], utf8: bool) -> bool {
    if one == other {
        return true;
    }
    if one.is_ascii() && other.is_ascii() || !utf8 {
        return one.eq_ignore_ascii_case(other);
    }
    let (mut folded_one, mut folded_other) = (Vec::new(), Vec::new());
    fold_case(one, true, &mut folded_one);
    fold_case(other, true, &mut folded_other);
    folded_one == folded_other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_that_of_unicode_or_of_ascii() {
        for (one, other, by_unicode, by_ascii) in [
            ("a@X", "A@x", true, true),
            ("stra\u{df}e", "STRASSE", true, false),
            ("\u{c9}a", "\u{e9}A", true, false),
            ("a", "b", false, false),
        ] {
            let equal = |utf8| equal_but_for_case(one.as_bytes(), other.as_bytes(), utf8);
            assert_eq!((equal(true), equal(false)), (by_unicode, by_ascii), "{one}");
        }
        assert!(equal_but_for_case(b"\xffA", b"\xffa", true));
    }
}
