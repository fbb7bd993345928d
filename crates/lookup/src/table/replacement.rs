//! The result text of `regexp:` and `pcre:` rules: text with `$1`, `${1}`, `$(1)` and `$$`.

use postfix::notice::Notice;

use crate::native::Group;
use crate::syntax::shown;

/// A result text, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Replacement {
    parts: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    /// A group of the expression, counted from 1.
    Group(usize),
}

impl Replacement {
    /// Takes a text apart. `place` begins the warnings, and `out_of_range` is how the table type spells that in the
    /// one for `$0`. `None` if the syntax is wrong; the warnings say so.
    pub(super) fn parse(
        text: &[u8],
        place: &str,
        out_of_range: &str,
        notices: &mut Vec<Notice>,
    ) -> Option<Self> {
        match parse(text, place, out_of_range) {
            Ok(parts) => Some(Self { parts }),
            Err(reason) => {
                notices.push(Notice::warning(reason));
                notices.push(Notice::warning(format!("{place}: bad replacement syntax: skipping this rule")));
                None
            }
        }
    }

    /// The highest group that the text asks for, 0 if none.
    pub(super) fn highest(&self) -> usize {
        let group = |part: &Part| if let Part::Group(number) = part { *number } else { 0 };
        self.parts.iter().map(group).max().unwrap_or(0)
    }

    /// The result for a key and where the groups are in it. A group that took no part gives nothing.
    pub(super) fn expand(&self, key: &[u8], groups: &[Group]) -> Vec<u8> {
        let mut result = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => result.extend_from_slice(text),
                Part::Group(number) => {
                    if let Some(&Some((start, end))) = groups.get(*number) {
                        result.extend_from_slice(key.get(start..end).unwrap_or_default());
                    }
                }
            }
        }
        result
    }
}

fn parse(text: &[u8], place: &str, out_of_range: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut literal = Vec::new();
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'$' {
            literal.push(byte);
            continue;
        }
        if let Some(after) = rest.strip_prefix(b"$") {
            literal.push(b'$');
            rest = after;
            continue;
        }
        if !literal.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut literal)));
        }
        let (name, after) =
            name(rest).ok_or_else(|| format!("truncated macro reference: \"{}\"", shown(text)))?;
        if name.is_empty() {
            return Err(format!("empty macro name: \"{}\"", shown(text)));
        }
        parts.push(Part::Group(group(name, place, out_of_range)?));
        rest = after;
    }
    if !literal.is_empty() {
        parts.push(Part::Text(literal));
    }
    Ok(parts)
}

/// The name behind a `$`, and what follows. `None` if its bracket is not closed.
fn name(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (open, close) = match text.first() {
        Some(b'{') => (b'{', b'}'),
        Some(b'(') => (b'(', b')'),
        _ => {
            let word = |&byte: &u8| byte.is_ascii_alphanumeric() || byte == b'_';
            let end = text.iter().position(|byte| !word(byte)).unwrap_or(text.len());
            return text.split_at_checked(end);
        }
    };
    let mut depth: usize = 0;
    for (at, &byte) in text.iter().enumerate() {
        if byte == open {
            depth = depth.saturating_add(1);
        } else if byte == close {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return Some((text.get(1..at)?, text.get(at.saturating_add(1)..)?));
            }
        }
    }
    None
}

fn group(name: &[u8], place: &str, out_of_range: &str) -> Result<usize, String> {
    if !name.iter().all(u8::is_ascii_digit) {
        return Err(format!("{place}: non-numeric replacement index \"{}\"", shown(name)));
    }
    // A number that fits nowhere is higher than any group.
    match std::str::from_utf8(name).ok().and_then(|digits| digits.parse().ok()).unwrap_or(usize::MAX) {
        0 => Err(format!("{place}: {out_of_range} replacement index \"{}\"", shown(name))),
        number => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expand(text: &str) -> Result<String, Vec<String>> {
        let mut notices = Vec::new();
        match Replacement::parse(text.as_bytes(), "M", "out of range", &mut notices) {
            Some(replacement) => {
                let groups = [Some((0, 5)), Some((0, 2)), None, Some((3, 5))];
                Ok(shown(&replacement.expand(b"ab-cd", &groups)))
            }
            None => Err(notices.into_iter().map(|notice| notice.text).collect()),
        }
    }

    #[test]
    fn every_form_of_reference() {
        assert_eq!(expand("$1+${3}+$(1)$$x").as_deref(), Ok("ab+cd+ab$x"));
        assert_eq!(expand("a$2-b").as_deref(), Ok("a-b"));
        assert_eq!(expand("").as_deref(), Ok(""));
        assert_eq!(expand("${1}2").as_deref(), Ok("ab2"));
    }

    #[test]
    fn errors_in_the_words_of_postfix() {
        let skipping = "M: bad replacement syntax: skipping this rule".to_owned();
        for (text, reason) in [
            ("a $ b", "empty macro name: \"a $ b\""),
            ("${1", "truncated macro reference: \"${1\""),
            ("$foo", "M: non-numeric replacement index \"foo\""),
            ("$0", "M: out of range replacement index \"0\""),
            ("${}", "empty macro name: \"${}\""),
        ] {
            assert_eq!(expand(text), Err(vec![reason.to_owned(), skipping.clone()]), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(text in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'$'), Just(b'{'), Just(b'1')], 0..40)) {
            if let Some(replacement) = Replacement::parse(&text, "M", "out of range", &mut Vec::new()) {
                replacement.expand(b"key", &[Some((0, 9)), Some((2, 1))]);
            }
        }
    }
}
