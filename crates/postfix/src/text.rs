//! The lexical layer that main.cf, master.cf and text tables share: white space, logical lines, lists, `name = value`
//! and `{ text }`.
//!
//! Everything here works on bytes as Postfix does: a file needs no particular encoding, and only ASCII bytes have a
//! meaning. Rules observed on Postfix 3.7; the warning about NUL bytes is that of 3.12.

use crate::notice::Notice;

pub use crate::fold::{equal_but_for_case, fold, fold_if, fold_into};
pub use crate::printable::{printable, printable_up_to};

/// The text up to its first NUL: what the C strings of Postfix let through.
#[must_use]
pub fn until_nul(text: &[u8]) -> &[u8] {
    let end = memchr::memchr(0, text).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

/// What the system says, in its own words and without the number, as Postfix logs it.
#[must_use]
pub fn system_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    match (error.raw_os_error(), text.rsplit_once(" (os error ")) {
        (Some(_), Some((words, _))) => words.to_owned(),
        _ => text,
    }
}

/// White space as C's `isspace` has it in the C locale: space, TAB, LF, VT, FF, CR.
///
/// A no-break space or any other 8-bit byte is not white space.
#[must_use]
pub const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// Whether a byte may stand in a `$name` reference: an ASCII letter, a digit or `_`.
#[must_use]
pub const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// `text` without white space at its start.
#[must_use]
pub fn trim_start(text: &[u8]) -> &[u8] {
    let skip = text.iter().take_while(|&&byte| is_space(byte)).count();
    text.get(skip..).unwrap_or_default()
}

/// `text` without white space at its end.
#[must_use]
pub fn trim_end(text: &[u8]) -> &[u8] {
    let skip = text.iter().rev().take_while(|&&byte| is_space(byte)).count();
    text.get(..text.len().saturating_sub(skip)).unwrap_or_default()
}

/// `text` without white space at either end.
#[must_use]
pub fn trim(text: &[u8]) -> &[u8] {
    trim_end(trim_start(text))
}

/// `text` with the escapes of C translated: `\\a` `\\b` `\\f` `\\n` `\\r` `\\t` `\\v`, and one to three octal digits; a backslash
/// before another character stands for that character, and one at the end for nothing.
#[must_use]
pub fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            plain.push(byte);
            continue;
        }
        let Some(byte) = rest.next() else { break };
        plain.push(match byte {
            b'a' => 0x07,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            b'0'..=b'7' => {
                let mut value = byte & 7;
                for _ in 0..2 {
                    let Some(digit) = rest.next_if(|digit| matches!(digit, b'0'..=b'7')) else { break };
                    // Three digits can be more than a byte holds; C keeps the lower part.
                    value = value << 3 | digit & 7;
                }
                value
            }
            other => other,
        });
    }
    plain
}

/// A logical line: one physical line and those that continue it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogicalLine {
    /// Number of its first physical line, from 1.
    pub first_line: usize,
    /// Number of the last physical line that was read for it, comments and blank lines behind it included, as Postfix
    /// counts for its warnings.
    pub last_line: usize,
    /// The joined text without newlines, cut at the first NUL. It may be empty only when it began with a NUL.
    pub text: Vec<u8>,
    /// A NUL was in the line, so that text behind it is missing from `text`.
    pub had_null: bool,
    /// Length before the cut, in bytes.
    full_len: usize,
}

impl LogicalLine {
    /// The line begins with white space although there is nothing that it could continue. Readers drop such a line.
    #[must_use]
    pub fn is_orphan(&self) -> bool {
        self.text.first().is_some_and(|&byte| is_space(byte))
    }

    /// What a reader of the file `path` logs about this line as such, before it looks at the content.
    pub fn notices(&self, path: &str, notices: &mut Vec<Notice>) {
        if self.had_null {
            let range = if self.first_line == self.last_line {
                format!("{}", self.last_line)
            } else {
                format!("{}-{}", self.first_line, self.last_line)
            };
            notices
                .push(Notice::warning(format!("{path}, line {range}: text after null byte may be ignored")));
        }
        if self.is_orphan() {
            let head = String::from_utf8_lossy(self.text.get(..30).unwrap_or(&self.text)).into_owned();
            let dots = if self.full_len > 30 { "..." } else { "" };
            notices.push(Notice::warning(format!(
                "{path}: logical line must not start with whitespace: \"{head}{dots}\""
            )));
        }
    }
}

/// Splits a file into logical lines, orphans included (see [`LogicalLine::is_orphan`]).
///
/// Blank lines and lines whose first non-blank byte is `#` are dropped wherever they stand, even between a line and its
/// continuation. A line that begins with white space continues the one before; only the newline is removed.
#[must_use]
pub fn all_logical_lines(input: &[u8]) -> AllLogicalLines<'_> {
    AllLogicalLines { rest: input, lines_read: 0 }
}

/// The logical lines of a file as its readers see them: orphans are left out.
pub fn logical_lines(input: &[u8]) -> impl Iterator<Item = LogicalLine> + '_ {
    all_logical_lines(input).filter(|line| !line.is_orphan())
}

/// The logical lines of the file `path` without orphans, and what its reader logs about them.
pub fn read_logical_lines(path: &str, input: &[u8], notices: &mut Vec<Notice>) -> Vec<LogicalLine> {
    let mut lines = Vec::new();
    for line in all_logical_lines(input) {
        line.notices(path, notices);
        if !line.is_orphan() {
            lines.push(line);
        }
    }
    lines
}

/// Iterator of [`all_logical_lines`].
#[derive(Debug, Clone)]
pub struct AllLogicalLines<'a> {
    rest: &'a [u8],
    lines_read: usize,
}

impl<'a> AllLogicalLines<'a> {
    fn physical_line(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        self.lines_read = self.lines_read.saturating_add(1);
        match memchr::memchr(b'\n', self.rest) {
            Some(end) => {
                let line = self.rest.get(..end).unwrap_or_default();
                self.rest = self.rest.get(end..).and_then(|tail| tail.get(1..)).unwrap_or_default();
                Some(line)
            }
            None => Some(std::mem::take(&mut self.rest)),
        }
    }

    fn next_continues(&self) -> bool {
        self.rest.first().is_some_and(|&byte| byte == b'#' || is_space(byte))
    }
}

impl Iterator for AllLogicalLines<'_> {
    type Item = LogicalLine;

    fn next(&mut self) -> Option<LogicalLine> {
        let mut text: Vec<u8> = Vec::new();
        let mut first_line = 0;
        let mut had_null = false;
        while let Some(line) = self.physical_line() {
            had_null |= memchr::memchr(0, line).is_some();
            if text.is_empty() {
                first_line = self.lines_read;
            }
            if !matches!(trim_start(line).first(), None | Some(b'#')) {
                text.extend_from_slice(line);
            }
            if !text.is_empty() && !self.next_continues() {
                break;
            }
        }
        if text.is_empty() {
            return None;
        }
        let full_len = text.len();
        if let Some(null) = memchr::memchr(0, &text) {
            text.truncate(null);
        }
        Some(LogicalLine { first_line, last_line: self.lines_read, text, had_null, full_len })
    }
}

/// Whether a byte separates the items of a list: comma, space, TAB, CR, LF.
#[must_use]
pub const fn is_list_separator(byte: u8) -> bool {
    matches!(byte, b',' | b' ' | b'\t' | b'\r' | b'\n')
}

/// The items of a list; separators inside `{…}` do not split, and the braces stay.
///
/// An unclosed `{` protects everything to the end. Items are never empty.
#[must_use]
pub fn split_list(list: &str) -> Vec<&str> {
    split_at_bytes(list.as_bytes(), is_list_separator, true)
        .into_iter()
        // Cuts are made at ASCII bytes only, so each piece is valid again.
        .filter_map(|item| std::str::from_utf8(item).ok())
        .collect()
}

/// The items of a list where `{` has no meaning, as in lists of keywords.
#[must_use]
pub fn split_plain_list(list: &str) -> Vec<&str> {
    list.split(|c: char| u8::try_from(c).is_ok_and(is_list_separator))
        .filter(|item| !item.is_empty())
        .collect()
}

/// Cuts `text` at the bytes that `separates` names; with `braces`, not inside `{…}`. Pieces are never empty.
pub fn split_at_bytes(text: &[u8], separates: impl Fn(u8) -> bool, braces: bool) -> Vec<&[u8]> {
    let mut items = Vec::new();
    let mut depth = 0_usize;
    let mut start = None;
    for (at, &byte) in text.iter().enumerate() {
        if depth == 0 && separates(byte) {
            if let Some(start) = start.take() {
                items.extend(text.get(start..at));
            }
            continue;
        }
        start = start.or(Some(at));
        match byte {
            b'{' if braces => depth = depth.saturating_add(1),
            b'}' if braces => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    if let Some(start) = start {
        items.extend(text.get(start..));
    }
    items
}

/// Why a text is not `name = value`. `Display` is Postfix's wording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameValueError {
    /// Nothing stands before the `=`, or the text is blank.
    #[error("missing attribute name")]
    MissingName,
    /// The first word is not followed by `=`.
    #[error("missing '=' after attribute name")]
    MissingEquals,
}

/// Splits `name = value`: the name ends at white space or `=`; the value is trimmed, and may be empty.
///
/// # Errors
/// The text has no name, or no `=` directly behind the name.
pub fn split_name_value(text: &[u8]) -> Result<(&[u8], &[u8]), NameValueError> {
    let text = trim_start(text);
    let name_len = text.iter().take_while(|&&byte| !is_space(byte) && byte != b'=').count();
    if name_len == 0 {
        return Err(NameValueError::MissingName);
    }
    let (name, rest) = text.split_at_checked(name_len).unwrap_or((text, b""));
    match trim_start(rest).split_first() {
        Some((b'=', value)) => Ok((name, trim(value))),
        _ => Err(NameValueError::MissingEquals),
    }
}

/// How long the balanced `{…}` at the start of `text` is, braces included; `None` when it does not begin with `{` or
/// the closing brace is missing.
#[must_use]
pub fn balanced_len(text: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            b'{' => depth = depth.saturating_add(1),
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return if at == 0 { None } else { at.checked_add(1) };
        }
    }
    None
}

/// The trimmed text inside `{ … }`, when the braces enclose all of `text`.
///
/// # Errors
/// Postfix's words for what is wrong with the braces.
pub fn strip_braces(text: &[u8]) -> Result<&[u8], String> {
    let shown = String::from_utf8_lossy(text);
    if text.first() != Some(&b'{') {
        return Err(format!("no '{{' at start of text in \"{shown}\""));
    }
    let Some(len) = balanced_len(text) else {
        return Err(format!("missing '}}' in \"{shown}\""));
    };
    if len != text.len() {
        return Err(format!("syntax error after '}}' in \"{shown}\""));
    }
    Ok(trim(text.get(1..len.saturating_sub(1)).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(input: &str) -> Vec<(usize, usize, String)> {
        logical_lines(input.as_bytes())
            .map(|line| (line.first_line, line.last_line, String::from_utf8(line.text).unwrap()))
            .collect()
    }

    #[test]
    fn escapes_are_those_of_c() {
        for (text, plain) in [
            (&br"abc"[..], &b"abc"[..]),
            (br"\0\15\177\377x", b"\0\x0d\x7f\xffx"),
            (br"\0123\18", b"\n3\x018"),
            (br"\400", b"\0"),
            (br"\a\b\f\n\r\t\v\\\x\", b"\x07\x08\x0c\n\r\t\x0b\\x"),
        ] {
            assert_eq!(unescape(text), plain, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn continuation_keeps_the_blanks_and_skips_comments() {
        assert_eq!(lines("v = a\n\n   b\n"), [(1, 3, "v = a   b".to_owned())]);
        assert_eq!(
            lines("v =\n a\n# c\n\tb\nw=1"),
            [(1, 4, "v = a\tb".to_owned()), (5, 5, "w=1".to_owned())]
        );
        assert_eq!(
            lines("#x\n\n  # y\na=1 # c\\\nb=2\n"),
            [(4, 4, "a=1 # c\\".to_owned()), (5, 5, "b=2".to_owned())]
        );
        assert_eq!(lines(""), []);
        assert_eq!(lines("\n  \n#\n"), []);
    }

    #[test]
    fn orphan_lines_are_dropped_with_a_warning() {
        let mut notices = Vec::new();
        let lines = read_logical_lines("/p/main.cf", b" abcde\n fg\nhij=1\n", &mut notices);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].first_line, 3);
        assert_eq!(
            notices,
            [Notice::warning("/p/main.cf: logical line must not start with whitespace: \" abcde fg\"")]
        );
        notices.clear();
        read_logical_lines("p", format!(" {}", "x".repeat(40)).as_bytes(), &mut notices);
        assert_eq!(
            notices[0].text,
            format!("p: logical line must not start with whitespace: \" {}...\"", "x".repeat(29))
        );
        notices.clear();
        let whole = format!(" {}", "x".repeat(29));
        read_logical_lines("p", whole.as_bytes(), &mut notices);
        assert_eq!(notices[0].text, format!("p: logical line must not start with whitespace: \"{whole}\""));
    }

    #[test]
    fn null_bytes_cut_the_line_with_a_warning() {
        let mut notices = Vec::new();
        let lines = read_logical_lines("p", b"a = b\0c\nd = e\n  f\0g\n#\nh=1\n", &mut notices);
        assert_eq!(lines[0].text, b"a = b");
        assert_eq!(lines[1].text, b"d = e  f");
        let texts: Vec<_> = notices.iter().map(|notice| notice.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "p, line 1: text after null byte may be ignored",
                "p, line 2-4: text after null byte may be ignored"
            ]
        );
    }

    #[test]
    fn lists_are_split_outside_braces() {
        assert_eq!(
            split_list(" a, b\t{c, d} ,inline:{x=y, {z = 1}}\n!/f"),
            ["a", "b", "{c, d}", "inline:{x=y, {z = 1}}", "!/f"]
        );
        assert_eq!(split_list("a {b c"), ["a", "{b c"]);
        assert_eq!(split_list("} a"), ["}", "a"]);
        assert_eq!(split_list(" ,, "), [""; 0]);
        assert_eq!(split_plain_list("{a, b}"), ["{a", "b}"]);
        assert_eq!(split_at_bytes(b"{a b} }c{ d", is_space, false), [&b"{a"[..], b"b}", b"}c{", b"d"]);
        assert_eq!(split_at_bytes(b"{a b} }c{ d", is_space, true), [&b"{a b}"[..], b"}c{ d"]);
    }

    #[test]
    fn name_and_value() {
        assert_eq!(split_name_value(b"a=b"), Ok((&b"a"[..], &b"b"[..])));
        assert_eq!(split_name_value(b"  a \t=  b  c \r"), Ok((&b"a"[..], &b"b  c"[..])));
        assert_eq!(split_name_value(b"a=\"b\" = {c}"), Ok((&b"a"[..], &b"\"b\" = {c}"[..])));
        assert_eq!(split_name_value(b"a ="), Ok((&b"a"[..], &b""[..])));
        assert_eq!(split_name_value(b"= x"), Err(NameValueError::MissingName));
        assert_eq!(split_name_value(b""), Err(NameValueError::MissingName));
        assert_eq!(split_name_value(b"a b = c"), Err(NameValueError::MissingEquals));
        assert_eq!(split_name_value(b"a"), Err(NameValueError::MissingEquals));
    }

    #[test]
    fn braces() {
        assert_eq!(strip_braces(b"{ a = {b} c }"), Ok(&b"a = {b} c"[..]));
        assert_eq!(strip_braces(b"{}"), Ok(&b""[..]));
        assert_eq!(strip_braces(b"{a"), Err("missing '}' in \"{a\"".to_owned()));
        assert_eq!(strip_braces(b"{a}b"), Err("syntax error after '}' in \"{a}b\"".to_owned()));
        assert_eq!(strip_braces(b"a"), Err("no '{' at start of text in \"a\"".to_owned()));
    }

    proptest! {
        #[test]
        fn lines_never_begin_with_white_space_and_hold_no_newline(
            input in proptest::collection::vec(prop_oneof![
                Just(b'\n'), Just(b' '), Just(b'#'), Just(b'a'), Just(0), any::<u8>()
            ], 0..200)
        ) {
            let mut last = 0;
            for line in logical_lines(&input) {
                prop_assert!(line.first_line > last && line.last_line >= line.first_line);
                last = line.last_line;
                prop_assert!(!line.text.contains(&b'\n') && !line.text.contains(&0));
                prop_assert!(!line.text.first().is_some_and(|&byte| is_space(byte) || byte == b'#'));
            }
        }

        #[test]
        fn list_items_survive_a_round_trip(items in proptest::collection::vec("[a-z:/=]{1,8}|\\{[a-z ,]{0,8}\\}", 0..8)) {
            let list = items.join(", ");
            prop_assert_eq!(split_list(&list), items);
        }
    }
}
