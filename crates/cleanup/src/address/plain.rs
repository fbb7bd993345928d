//! Recognizes address lists that need no rewriting. Most do not, and this saves parsing them.

use memchr::{memchr, memchr2};

use super::rewrite::is_complete;
use super::token::is_blank;
use crate::options::Options;

/// True for a list of complete addresses of plain bytes, `local@domain` or `phrase <local@domain>`, with commas between
/// them: no rule changes it. False says nothing.
pub(crate) fn is_complete_list(options: &Options, list: &[u8]) -> bool {
    let mut rest = list;
    loop {
        let Some((address, behind)) = split_element(rest) else { return false };
        if !is_complete(options, address) {
            return false;
        }
        match behind.split_first() {
            None => return true,
            Some((b',', behind)) => rest = behind,
            Some(_) => return false,
        }
    }
}

/// The address in the first element of a list, and what stands behind that.
fn split_element(list: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = list;
    let mut is_phrase = false;
    loop {
        let end = rest.iter().position(|byte| matches!(byte, b',' | b'<' | b'"')).unwrap_or(rest.len());
        let (text, behind) = rest.split_at_checked(end)?;
        match behind.split_first() {
            Some((b'<', behind)) if are_words(text) => {
                let (address, behind) = behind.split_at_checked(memchr(b'>', behind)?)?;
                return Some((address, trim_start(behind.get(1..)?)));
            }
            Some((b'"', behind)) if are_words(text) => {
                let (_, behind) = behind.split_at_checked(memchr2(b'"', b'\\', behind)?)?;
                rest = behind.strip_prefix(b"\"")?;
                is_phrase = true;
            }
            // A quoted string without an address behind it would be one itself.
            _ if is_phrase => return None,
            _ => return Some((trim(text), behind)),
        }
    }
}

/// What a phrase may consist of, beside quoted strings: nothing that means something in a list.
fn are_words(text: &[u8]) -> bool {
    !text.iter().any(|byte| matches!(byte, b'(' | b')' | b'[' | b']' | b':' | b';' | b'@' | b'>' | b'\\'))
}

fn trim_start(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|byte| is_blank(**byte)).count();
    text.get(blanks..).unwrap_or_default()
}

fn trim(text: &[u8]) -> &[u8] {
    let text = trim_start(text);
    let end = text.iter().rposition(|byte| !is_blank(*byte)).map_or(0, |last| last.saturating_add(1));
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_lists_are_known() {
        let is_complete = |list: &str| is_complete_list(&Options::default(), list.as_bytes());
        for list in [
            "a@b",
            " a@b.c ",
            "Joe <a@b>",
            "<a@b>,c@d",
            "Joe B. Doe <a@b>,\n\t\"Doe, J <x>\" <c@d>",
            "Jos\u{e9} <a@b>",
        ] {
            assert!(is_complete(list), "{list}");
        }
        for list in [
            "",
            "a",
            "a@b,",
            ",a@b",
            "a@b c@d",
            "a@b (c)",
            "g: a@b;",
            "<a@b> c",
            "\"a\"@b",
            "\"a\"",
            "a@b\x0c",
            "a@b <c@d>",
            "\"a\\\"\" <c@d>",
            "<a@b",
            "Joe <a@b.>",
            "a\0 <b>",
            "g: <a@b>",
            "(c) \"d\" <a@b>",
            "\"a\" b@c",
        ] {
            assert!(!is_complete(list), "{list}");
        }
        let completes = Options { append_dot_mydomain: true, ..Options::default() };
        assert!(!is_complete_list(&completes, b"a@b") && is_complete_list(&completes, b"a@b.c"));
    }
}
