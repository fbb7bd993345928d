//! What match lists and tables need beyond the common grammar of `postfix::text`: items one at a time, quoted names.
//!
//! Everything works on bytes and knows nothing of files. Source of the rules: observed on Postfix 3.7, names of the
//! errors word for word.

use postfix::text::{is_space, trim, trim_start};

/// What separates the items of a list: comma and white space, without vertical tab and form feed.
const fn is_separator(byte: u8) -> bool {
    matches!(byte, b',' | b' ' | b'\t' | b'\r' | b'\n')
}

/// Bytes as text, for a path or a message; what is not UTF-8 becomes U+FFFD. Control characters stay: the log makes them
/// printable (`postfix::text::printable`).
pub(crate) fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Takes the next item from the front of `rest`; separators inside `{…}` do not separate, and a closing brace without
/// an opening one is an ordinary byte. `None` when only separators are left.
pub(crate) fn next_item<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let start = rest.iter().position(|&byte| !is_separator(byte))?;
    let text = rest.get(start..)?;
    let mut depth: usize = 0;
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            b'{' => depth = depth.saturating_add(1),
            b'}' => depth = depth.saturating_sub(1),
            _ if depth == 0 && is_separator(byte) => {
                let (item, after) = text.split_at_checked(at)?;
                *rest = after.get(1..).unwrap_or_default();
                return Some(item);
            }
            _ => {}
        }
    }
    *rest = &[];
    Some(text)
}

/// Where an unquoted byte of which `stops` says so stands first; a backslash takes the next byte with it, and white
/// space between double quotes is text. The length if there is none. `Err` when a quote stays open.
pub(crate) fn find_unquoted(text: &[u8], stops: impl Fn(u8) -> bool) -> Result<usize, usize> {
    let mut quoted = false;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if byte == b'\\' {
            at = at.saturating_add(1);
        } else if stops(byte) {
            if !quoted {
                return Ok(at);
            }
        } else if byte == b'"' {
            quoted = !quoted;
        }
        at = at.saturating_add(1);
    }
    let end = at.min(text.len());
    if quoted { Err(end) } else { Ok(end) }
}

/// Splits `name = value`; quotes and backslashes protect blanks and `=` in the name and stay part of it.
///
/// # Errors
/// The words of Postfix.
pub(crate) fn name_value(text: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let text = trim_start(text);
    if text.is_empty() {
        return Err("no key found; expected format: key = value");
    }
    let Ok(end) = find_unquoted(text, |byte| is_space(byte) || byte == b'=') else {
        return Err("unbalanced '\"'");
    };
    let name = text.get(..end).unwrap_or_default();
    match trim_start(text.get(end..).unwrap_or_default()).split_first() {
        Some((b'=', value)) => Ok((name, trim(value))),
        _ => Err("missing '=' after attribute name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn items(text: &[u8]) -> Vec<&[u8]> {
        let mut rest = text;
        std::iter::from_fn(|| next_item(&mut rest)).collect()
    }

    #[test]
    fn braces_protect_separators() {
        assert_eq!(items(b"a, b\t{c d}e\n"), [&b"a"[..], b"b", b"{c d}e"]);
        assert_eq!(items(b"inline:{a=b, {c = d}},x"), [&b"inline:{a=b, {c = d}}"[..], b"x"]);
        assert_eq!(items(b"a} b"), [&b"a}"[..], b"b"]);
        assert_eq!(items(b"{a b"), [&b"{a b"[..]]);
        assert_eq!(items(b" ,\r\n"), Vec::<&[u8]>::new());
        assert_eq!(items(b"a\x0bb"), [&b"a\x0bb"[..]]);
    }

    #[test]
    fn names_and_values_split() {
        assert_eq!(name_value(b" k = v w "), Ok((&b"k"[..], &b"v w"[..])));
        assert_eq!(name_value(b"\"a b\"=c"), Ok((&b"\"a b\""[..], &b"c"[..])));
        assert_eq!(name_value(b"a\\ b="), Ok((&b"a\\ b"[..], &b""[..])));
        assert_eq!(name_value(b"a b"), Err("missing '=' after attribute name"));
        assert_eq!(name_value(b"\"a=b"), Err("unbalanced '\"'"));
        assert_eq!(name_value(b"a\\"), Err("missing '=' after attribute name"));
    }

    proptest! {
        #[test]
        fn items_lose_nothing_but_separators(text in proptest::collection::vec(any::<u8>(), 0..80)) {
            let kept: Vec<u8> = items(&text).concat();
            let mut rest = kept.iter();
            // Each kept byte occurs in the text in order, and every byte that is gone was a separator.
            let mut next = rest.next();
            for byte in &text {
                if next == Some(byte) {
                    next = rest.next();
                } else {
                    prop_assert!(is_separator(*byte));
                }
            }
            prop_assert_eq!(next, None);
        }

        #[test]
        fn nothing_here_panics(text in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = name_value(&text);
        }
    }
}
