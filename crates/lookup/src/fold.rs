//! Case folding and UTF-8 rules for patterns, keys and client names.

use std::borrow::Cow;

/// Folds case: the whole of Unicode (default full folding) if `unicode`, else ASCII only. Bytes that are not UTF-8 stay as they are.
pub(crate) fn fold(text: &[u8], unicode: bool) -> Vec<u8> {
    if !unicode || text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let mut folded = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        folded.extend_from_slice(caseless::default_case_fold_str(chunk.valid()).as_bytes());
        folded.extend_from_slice(chunk.invalid());
    }
    folded
}

/// The text up to its first NUL: what the C strings of Postfix let through.
pub(crate) fn until_nul(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

/// The folded text, borrowed where folding is not asked for.
pub(crate) fn fold_if(wanted: bool, text: &[u8], unicode: bool) -> Cow<'_, [u8]> {
    if wanted { Cow::Owned(fold(text, unicode)) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unicode_folds_only_when_asked() {
        assert_eq!(fold("BÜCHER.Example".as_bytes(), true), "bücher.example".as_bytes());
        assert_eq!(fold("BÜCHER.Example".as_bytes(), false), "bÜcher.example".as_bytes());
        assert_eq!(fold("Straße".as_bytes(), true), b"strasse");
        assert_eq!(fold(b"A\xffB\xc3\x9c", true), b"a\xffb\xc3\xbc");
    }

    proptest! {
        #[test]
        fn folding_twice_changes_nothing(text in proptest::collection::vec(any::<u8>(), 0..40), unicode: bool) {
            let once = fold(&text, unicode);
            prop_assert_eq!(fold(&once, unicode), once);
        }
    }
}
