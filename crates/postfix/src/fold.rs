//! Texts without differences of case, as Postfix compares names and addresses.
//!
//! Postfix folds with ICU's `u_strFoldCase`, in its default way (Unicode's full case folding). The data here are those of ICU4X, from
//! a later Unicode: letters that are newer than the ICU of the machine stay as they are in Postfix.

use std::borrow::Cow;

use icu_casemap::CaseMapper;

/// Appends `text` without differences of case: by Unicode's full case folding if `utf8`, otherwise ASCII letters
/// only. Bytes that are no text stay.
pub fn fold_into(text: &[u8], utf8: bool, folded: &mut Vec<u8>) {
    if !utf8 || text.is_ascii() {
        folded.extend(text.iter().map(u8::to_ascii_lowercase));
        return;
    }
    for chunk in text.utf8_chunks() {
        folded.extend_from_slice(CaseMapper::new().fold_string(chunk.valid()).as_bytes());
        folded.extend_from_slice(chunk.invalid());
    }
}

/// `text` without differences of case.
#[must_use]
pub fn fold(text: &[u8], utf8: bool) -> Vec<u8> {
    let mut folded = Vec::with_capacity(text.len());
    fold_into(text, utf8, &mut folded);
    folded
}

/// The same, or the text as it is if that is not wanted.
#[must_use]
pub fn fold_if(wanted: bool, text: &[u8], utf8: bool) -> Cow<'_, [u8]> {
    if wanted { Cow::Owned(fold(text, utf8)) } else { Cow::Borrowed(text) }
}

/// Whether two texts differ in case at most.
#[must_use]
pub fn equal_but_for_case(one: &[u8], other: &[u8], utf8: bool) -> bool {
    if one == other {
        return true;
    }
    if one.is_ascii() && other.is_ascii() || !utf8 {
        return one.eq_ignore_ascii_case(other);
    }
    fold(one, true) == fold(other, true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    #[test]
    fn unicode_folds_only_when_asked() {
        assert_eq!(fold("B\u{dc}CHER.Example".as_bytes(), true), "b\u{fc}cher.example".as_bytes());
        assert_eq!(fold("B\u{dc}CHER.Example".as_bytes(), false), "b\u{dc}cher.example".as_bytes());
        assert_eq!(fold("Stra\u{df}e".as_bytes(), true), b"strasse");
        assert_eq!(fold(b"A\xffB\xc3\x9c", true), b"a\xffb\xc3\xbc");
        assert_eq!(fold_if(false, b"A", true), &b"A"[..]);
    }

    /// What is easy to get wrong, as ICU 72's u_strFoldCase does it with U_FOLD_CASE_DEFAULT.
    #[test]
    fn hard_cases_are_those_of_icu() {
        for (text, folded) in [
            // The dotted I keeps its dot, the dotless one is a letter of its own.
            ("\u{130}I\u{131}", "i\u{307}i\u{131}"),
            // Both forms of sigma are one.
            ("\u{3a3}\u{3c3}\u{3c2}", "\u{3c3}\u{3c3}\u{3c3}"),
            ("\u{1e9e}", "ss"),
            ("\u{fb03}", "ffi"),
            ("\u{149}", "\u{2bc}n"),
            ("\u{1f88}", "\u{1f00}\u{3b9}"),
            ("\u{212a}\u{212b}", "k\u{e5}"),
            // Cherokee folds to capitals.
            ("\u{ab70}\u{13a0}", "\u{13a0}\u{13a0}"),
            ("\u{10400}\u{10a0}", "\u{10428}\u{2d00}"),
        ] {
            assert_eq!(String::from_utf8(fold(text.as_bytes(), true)).unwrap(), folded, "{text}");
        }
    }

    proptest! {
        #[test]
        fn folding_twice_changes_nothing(text in proptest::collection::vec(any::<u8>(), 0..40), utf8: bool) {
            let once = fold(&text, utf8);
            prop_assert_eq!(fold(&once, utf8), once);
        }
    }
}
