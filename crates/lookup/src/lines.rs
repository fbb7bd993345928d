//! Files of rules, patterns and `key value` pairs as logical lines, by the rules of main.cf(5) that Postfix 3.12
//! applies to all of them.

use postfix::notice::Notice;

use crate::fold::until_nul;
use crate::syntax::{is_space, shown, trim_start};

/// A line with its continuations joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Number of the first physical line, counted from 1.
    pub(crate) number: usize,
    /// The text without newlines; cut at the first NUL.
    pub(crate) text: Vec<u8>,
}

/// Splits a file into logical lines. Empty lines, comment lines and lines of white space are left out wherever they
/// stand; a line that begins with white space goes on the one before it. `path` is for the warnings only.
pub(crate) fn logical_lines(path: &str, file: &[u8], notices: &mut Vec<Notice>) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut current: Option<Line> = None;
    let mut last = 0;
    let mut nul = false;
    for (before, physical) in file.split(|&byte| byte == b'\n').enumerate() {
        let number = before.saturating_add(1);
        let begins_with_space = physical.first().is_some_and(|&byte| is_space(byte));
        if matches!(trim_start(physical).first(), None | Some(b'#')) {
            continue;
        }
        if !begins_with_space && let Some(line) = current.take() {
            finish(path, line, last, nul, &mut lines, notices);
            nul = false;
        }
        nul |= physical.contains(&0);
        last = number;
        match &mut current {
            Some(line) => line.text.extend_from_slice(physical),
            None => current = Some(Line { number, text: physical.to_vec() }),
        }
    }
    if let Some(line) = current {
        finish(path, line, last, nul, &mut lines, notices);
    }
    lines
}

/// Keeps a complete line, or says why it is dropped.
fn finish(
    path: &str,
    mut line: Line,
    last: usize,
    nul: bool,
    lines: &mut Vec<Line>,
    notices: &mut Vec<Notice>,
) {
    if nul {
        let place =
            if line.number == last { format!("line {last}") } else { format!("line {}-{last}", line.number) };
        notices.push(Notice::warning(format!("{path}, {place}: text after null byte may be ignored")));
    }
    if line.text.first().is_some_and(|&byte| is_space(byte)) {
        let start = until_nul(&line.text);
        let start = start.get(..30).unwrap_or(start);
        let more = if line.text.len() > 30 { "..." } else { "" };
        notices.push(Notice::warning(format!(
            "{path}: logical line must not start with whitespace: \"{}{more}\"",
            shown(start)
        )));
        return;
    }
    line.text.truncate(until_nul(&line.text).len());
    if !line.text.is_empty() {
        lines.push(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(file: &[u8]) -> (Vec<(usize, String)>, Vec<String>) {
        let mut notices = Vec::new();
        let lines = logical_lines("/f", file, &mut notices);
        (
            lines.into_iter().map(|line| (line.number, shown(&line.text))).collect(),
            notices.into_iter().map(|notice| notice.text).collect(),
        )
    }

    #[test]
    fn lines_join_and_comments_go() {
        let (lines, notices) = read(b"#c\n\na 1\n# between\n\n  b\nc 2\n \nd");
        assert_eq!(lines, [(3, "a 1  b".to_owned()), (7, "c 2".to_owned()), (9, "d".to_owned())]);
        assert_eq!(notices, Vec::<String>::new());
    }

    #[test]
    fn a_line_that_continues_nothing_is_dropped_with_a_warning() {
        let (lines, notices) = read(b"  # c\n abc\nd 1\n");
        assert_eq!(lines, [(3, "d 1".to_owned())]);
        assert_eq!(notices, ["/f: logical line must not start with whitespace: \" abc\""]);
    }

    #[test]
    fn text_behind_a_nul_is_ignored_and_said() {
        let (lines, notices) = read(b"a 1\0x\n 2\nb 2");
        assert_eq!(lines, [(1, "a 1".to_owned()), (3, "b 2".to_owned())]);
        assert_eq!(notices, ["/f, line 1-2: text after null byte may be ignored"]);
    }

    proptest! {
        #[test]
        fn the_last_newline_does_not_matter(file in "[ab #\\x00\\t\n]{0,60}") {
            let with = read(format!("{file}\n").as_bytes());
            prop_assert_eq!(read(file.as_bytes()), with);
        }

        #[test]
        fn no_bytes_make_it_panic(file in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&file);
        }
    }
}
