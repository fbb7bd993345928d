//! What a server says: a reply of one or more lines, each with the same three digits (RFC 5321 section 4.2).

use std::fmt;

/// The longest line of a reply that is kept, in bytes without its line end; what exceeds it is dropped. Postfix's
/// `line_length_limit`.
pub const LINE_BYTES_MAX: usize = 2048;

/// How many bytes of lines a reply keeps: once it holds so many, further lines are read and dropped (observed in the
/// source of Postfix 3.12, where the same limit counts).
pub const KEPT_BYTES_MAX: usize = 2048;

/// How many bytes a server may take for one reply, dropped ones included. An honest server sends some hundreds.
pub const REPLY_BYTES_MAX: u64 = 1 << 20;

/// A status of RFC 3463: class, subject, detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnhancedStatus {
    /// 2 success, 4 a temporary failure, 5 a permanent one.
    pub class: u8,
    /// What it is about: 0 to 999.
    pub subject: u16,
    /// More exactly: 0 to 999.
    pub detail: u16,
}

impl EnhancedStatus {
    /// `5.5.0`: what a reply that broke the protocol counts as, until the caller knows better.
    pub const PROTOCOL_ERROR: Self = Self { class: 5, subject: 5, detail: 0 };

    /// Reads a status at the beginning of `text`: digits, dots, and then a blank or the end.
    ///
    /// Returns nothing when there is none, or when its class is not 2, 4 or 5.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let word = text.split(|byte| byte.is_ascii_whitespace()).next()?;
        let mut numbers = word.split(|&byte| byte == b'.');
        let class = number(numbers.next()?, 1)?;
        let subject = number(numbers.next()?, 3)?;
        let detail = number(numbers.next()?, 3)?;
        let class = u8::try_from(class).ok().filter(|class| matches!(class, 2 | 4 | 5))?;
        numbers.next().is_none().then_some(Self { class, subject, detail })
    }

    /// The same status with class 4: a permanent failure that is to be tried again.
    #[must_use]
    pub const fn made_temporary(self) -> Self {
        Self { class: 4, ..self }
    }
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// A number of at most so many digits.
fn number(digits: &[u8], digits_max: usize) -> Option<u16> {
    if digits.is_empty() || digits.len() > digits_max || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0')))
}

/// One whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// The status that the last line carries; if it carries none of the code's class, `D.0.0` with the code's first
    /// digit, and for a code that is neither 2xx, 4xx nor 5xx [`EnhancedStatus::PROTOCOL_ERROR`].
    pub status: EnhancedStatus,
    /// The lines without their line ends, codes included, unprintable bytes as `?`. At least one.
    pub lines: Vec<String>,
    /// What was wrong with it, if it could be read all the same.
    pub blemishes: Blemishes,
}

/// What was wrong with a reply that could be read all the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Blemishes {
    /// A line was longer than [`LINE_BYTES_MAX`] and was cut.
    pub line_cut: bool,
    /// There were more lines than [`KEPT_BYTES_MAX`] keeps.
    pub lines_dropped: bool,
    /// There were lines that do not begin with three digits. With pipelining, replies may now be taken for those of
    /// other commands: the session must not be used for another message.
    pub foreign_lines: bool,
}

impl Reply {
    /// 2xx.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        self.code / 100 == 2
    }

    /// 4xx.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5xx.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// All lines in one, joined by blanks, with their codes: what logs and reports show.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.join(" ")
    }

    /// What a line says behind its code.
    #[must_use]
    pub fn words(line: &str) -> &str {
        line.get(4..).unwrap_or_default()
    }
}

/// The server takes more than [`REPLY_BYTES_MAX`] for one reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server's reply does not end: {REPLY_BYTES_MAX} bytes and more")]
pub struct EndlessReply;

/// Reads replies out of pieces of any size.
#[derive(Debug, Default)]
pub struct ReplyReader {
    /// The line that is being read, without its line end.
    line: Vec<u8>,
    lines: Vec<String>,
    kept_bytes: usize,
    reply_bytes: u64,
    blemishes: Blemishes,
}

impl ReplyReader {
    /// Takes bytes up to the end of the next whole reply.
    ///
    /// Returns how many bytes were taken, and the reply if it is whole. What follows it stays with the caller.
    ///
    /// # Errors
    /// When the reply has no end in sight.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(usize, Option<Reply>), EndlessReply> {
        for (index, &byte) in bytes.iter().enumerate() {
            self.reply_bytes += 1;
            if self.reply_bytes > REPLY_BYTES_MAX {
                return Err(EndlessReply);
            }
            if byte != b'\n' {
                // One byte more than is kept: it may be the CR of the line's end.
                if self.line.len() <= LINE_BYTES_MAX {
                    self.line.push(byte);
                } else {
                    self.blemishes.line_cut = true;
                }
            } else if let Some(reply) = self.end_line() {
                return Ok((index + 1, Some(reply)));
            }
        }
        Ok((bytes.len(), None))
    }

    /// Has a reply begun that is not whole yet?
    #[must_use]
    pub const fn is_within_reply(&self) -> bool {
        self.reply_bytes > 0
    }

    fn end_line(&mut self) -> Option<Reply> {
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.len() > LINE_BYTES_MAX {
            line.truncate(LINE_BYTES_MAX);
            self.blemishes.line_cut = true;
        }
        let shown: String = line.iter().map(|&byte| printable(byte)).collect();
        let code = code(&line);
        if self.kept_bytes < KEPT_BYTES_MAX {
            self.kept_bytes += shown.len() + 1;
            self.lines.push(shown);
        } else {
            self.blemishes.lines_dropped = true;
        }
        match code {
            Some(code) => match line.get(3) {
                Some(b'-') => None,
                _ => Some(self.end_reply(code, &line)),
            },
            None => {
                self.blemishes.foreign_lines = true;
                None
            }
        }
    }

    fn end_reply(&mut self, code: u16, last_line: &[u8]) -> Reply {
        let Self { lines, blemishes, .. } = std::mem::take(self);
        Reply { code, status: status(code, last_line.get(3..).unwrap_or_default()), lines, blemishes }
    }
}

/// The three digits of a line; nothing when it does not begin with exactly three, and then a blank, `-` or its end.
fn code(line: &[u8]) -> Option<u16> {
    let digits = line.get(..3)?;
    let follows = line.get(3).is_none_or(|byte| matches!(byte, b' ' | b'-'));
    if follows { number(digits, 3) } else { None }
}

fn status(code: u16, behind_code: &[u8]) -> EnhancedStatus {
    let class = u8::try_from(code / 100).unwrap_or(0);
    if !matches!(class, 2 | 4 | 5) {
        return EnhancedStatus::PROTOCOL_ERROR;
    }
    EnhancedStatus::parse(behind_code.trim_ascii_start())
        .filter(|status| status.class == class)
        .unwrap_or(EnhancedStatus { class, subject: 0, detail: 0 })
}

/// A byte as a log shows it.
const fn printable(byte: u8) -> char {
    if byte == b' ' || byte.is_ascii_graphic() { byte as char } else { '?' }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Reply {
        let (taken, reply) = ReplyReader::default().take(bytes).unwrap();
        assert_eq!(taken, bytes.len());
        reply.expect("a whole reply")
    }

    #[test]
    fn one_line_has_code_status_and_text() {
        let reply = read(b"250 2.1.5 Ok\r\n");
        assert_eq!((reply.code, reply.status.to_string()), (250, "2.1.5".into()));
        assert_eq!(reply.text(), "250 2.1.5 Ok");
        assert!(reply.is_success() && !reply.is_temporary() && !reply.is_permanent());
    }

    #[test]
    fn several_lines_are_one_reply_with_the_status_of_the_last() {
        let reply = read(b"550-5.1.1 no such\r\n550 5.7.1 user here\r\n");
        assert_eq!(reply.text(), "550-5.1.1 no such 550 5.7.1 user here");
        assert_eq!(reply.status.to_string(), "5.7.1");
        assert_eq!(Reply::words(&reply.lines[0]), "5.1.1 no such");
    }

    /// A status counts only if its class is that of the code (observed on Postfix 3.7).
    #[test]
    fn a_status_of_another_class_or_form_is_left_out() {
        for (line, status) in [
            ("250 5.1.1 odd", "2.0.0"),
            ("599 whatever", "5.0.0"),
            ("450 4.2 short", "4.0.0"),
            ("450 4.2.1x", "4.0.0"),
            ("450 4.2.1.0", "4.0.0"),
            ("450 4.1234.0", "4.0.0"),
            ("450 4.999.999", "4.999.999"),
            ("450   4.7.1 blanks", "4.7.1"),
            ("450", "4.0.0"),
            ("354 5.1.1", "5.5.0"),
            ("000 2.0.0", "5.5.0"),
        ] {
            assert_eq!(read(format!("{line}\n").as_bytes()).status.to_string(), status, "{line}");
        }
    }

    #[test]
    fn a_bare_newline_ends_a_line_and_unprintable_bytes_are_masked() {
        let reply = read(b"220 \x1b[31m\xc3\xa9\x00\n");
        assert_eq!(reply.text(), "220 ?[31m???");
    }

    #[test]
    fn lines_without_a_code_are_kept_and_remarked() {
        let reply = read(b"hello\r\n25 x\r\n2500 x\r\n250x\r\n250 Ok\r\n");
        assert_eq!(reply.text(), "hello 25 x 2500 x 250x 250 Ok");
        assert!(reply.blemishes.foreign_lines);
        assert!(!read(b"250-a\r\n250 b\r\n").blemishes.foreign_lines);
    }

    #[test]
    fn a_long_line_is_cut_and_many_lines_are_dropped_but_the_last_line_counts() {
        let longest = [b"250 ".as_slice(), &vec![b'x'; LINE_BYTES_MAX - 4]].concat();
        let reply = read(&[&longest, b"\r\n".as_slice()].concat());
        assert_eq!((reply.text().len(), reply.blemishes.line_cut), (LINE_BYTES_MAX, false));
        let reply = read(&[&longest, b"y\r\n".as_slice()].concat());
        assert_eq!((reply.text().len(), reply.blemishes.line_cut), (LINE_BYTES_MAX, true));

        let many = [b"450-4.0.1 x\r\n".repeat(10_000), b"450 4.0.2 end\r\n".to_vec()].concat();
        let reply = read(&many);
        assert!(reply.blemishes.lines_dropped && reply.text().len() <= KEPT_BYTES_MAX + LINE_BYTES_MAX);
        assert_eq!(reply.status.to_string(), "4.0.2");
    }

    #[test]
    fn a_reply_without_end_is_an_error() {
        let mut reader = ReplyReader::default();
        let piece = b"250-x\r\n".repeat(1000);
        let error = (0..1000).find_map(|_| reader.take(&piece).err());
        assert_eq!(error, Some(EndlessReply));
        let mut reader = ReplyReader::default();
        let piece = [b'x'; 4096];
        assert!((0..1000).any(|_| reader.take(&piece).is_err()));
    }

    #[test]
    fn a_reader_knows_whether_it_is_within_a_reply() {
        let mut reader = ReplyReader::default();
        assert!(!reader.is_within_reply());
        reader.take(b"2").unwrap();
        assert!(reader.is_within_reply());
        reader.take(b"20 x\n").unwrap();
        assert!(!reader.is_within_reply());
    }

    proptest! {
        /// The same replies come out, whatever the pieces in which the bytes arrive.
        #[test]
        fn pieces_do_not_matter(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'2'), Just(b'5'), Just(b'-'), Just(b' '), any::<u8>()], 0..300),
            cuts in proptest::collection::vec(0usize..300, 0..8),
        ) {
            let whole = replies(&[&bytes]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(replies(&pieces), whole);
        }
    }

    fn replies(pieces: &[&[u8]]) -> Vec<Reply> {
        let mut reader = ReplyReader::default();
        let mut replies = Vec::new();
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                let (taken, reply) = reader.take(rest).unwrap();
                rest = &rest[taken..];
                replies.extend(reply);
            }
        }
        replies
    }
}
