//! What sendmail(1) reads out of a message: lines, whatever ends them, and the recipients that its header names.

/// A message that is read line by line, in pieces of any size.
#[derive(Debug)]
pub struct Text {
    ends_at_dot: bool,
    at: At,
}

/// Where in a line the last piece ended. What is held back is written with the next byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    LineStart,
    /// Behind a dot at the beginning of a line.
    Dot,
    /// Behind such a dot and a CR.
    DotCr,
    Line,
    /// Behind a CR within a line.
    Cr,
    /// Behind the dot that ended the message.
    End,
}

impl Text {
    /// With `ends_at_dot`, a line that is a dot alone ends the message.
    #[must_use]
    pub const fn new(ends_at_dot: bool) -> Self {
        Self { ends_at_dot, at: At::LineStart }
    }

    /// Appends the piece with LF behind each line. True: the message is over.
    pub fn feed(&mut self, piece: &[u8], out: &mut Vec<u8>) -> bool {
        for &byte in piece {
            self.at = match (self.at, byte) {
                (At::End, _) => return true,
                (At::Dot | At::DotCr, b'\n') if self.ends_at_dot => At::End,
                (At::Dot, b'\r') => At::DotCr,
                (at, byte) => {
                    let is_line_end = byte == b'\n';
                    match at {
                        At::Dot => out.push(b'.'),
                        At::DotCr if is_line_end => out.push(b'.'),
                        At::DotCr => out.extend_from_slice(b".\r"),
                        At::Cr if !is_line_end => out.push(b'\r'),
                        At::LineStart | At::Line | At::Cr | At::End => {}
                    }
                    match byte {
                        b'.' if at == At::LineStart => At::Dot,
                        b'\r' => At::Cr,
                        _ => {
                            out.push(byte);
                            if is_line_end { At::LineStart } else { At::Line }
                        }
                    }
                }
            };
        }
        self.at == At::End
    }

    /// Appends what was held back. A dot alone at the end of the input ends the message too.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        match self.at {
            At::Dot | At::DotCr if self.ends_at_dot => {}
            At::Dot => out.push(b'.'),
            At::DotCr => out.extend_from_slice(b".\r"),
            At::Cr => out.push(b'\r'),
            At::LineStart | At::Line | At::End => {}
        }
        self.at = At::End;
    }
}

/// The recipients that the header of a message names, in their order: those of the Resent-To, Resent-Cc and Resent-Bcc
/// fields if there is one of these, else those of To, Cc and Bcc. As an envelope has them, without quotes.
#[must_use]
pub fn recipients(header: &[u8]) -> Vec<Vec<u8>> {
    let mut first = Vec::new();
    let mut again = Vec::new();
    let mut is_resent = false;
    for (name, value) in fields(header) {
        match name.to_ascii_lowercase().as_slice() {
            b"to" | b"cc" | b"bcc" => addresses(&value, &mut first),
            b"resent-to" | b"resent-cc" | b"resent-bcc" => {
                is_resent = true;
                addresses(&value, &mut again);
            }
            _ => {}
        }
    }
    if is_resent { again } else { first }
}

/// Names and unfolded values, up to the first line that belongs to no field.
fn fields(header: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (index, line) in header.split(|&byte| byte == b'\n').enumerate() {
        if line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t'))
            && let Some((_, value)) = fields.last_mut()
        {
            value.extend_from_slice(line);
            continue;
        }
        // A mailbox puts such a line before the header.
        if index == 0 && line.starts_with(b"From ") {
            continue;
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { break };
        let (name, value) = line.split_at_checked(colon).unwrap_or((line, b""));
        fields.push((name.trim_ascii_end().to_vec(), value.get(1..).unwrap_or_default().to_vec()));
    }
    fields
}

/// Appends the addresses of a list (RFC 5322 section 3.4): comments, names, groups and quotes taken away.
pub fn addresses(list: &[u8], found: &mut Vec<Vec<u8>>) {
    let mut address = Address::default();
    let mut comments = 0_u32;
    let mut is_quoted = false;
    let mut is_literal = false;
    let mut bytes = list.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                let escaped = bytes.next();
                if comments == 0 {
                    escaped.into_iter().for_each(|byte| address.push(byte));
                }
            }
            b'"' if comments == 0 => is_quoted = !is_quoted,
            _ if is_quoted => address.push(byte),
            b'(' => comments = comments.saturating_add(1),
            b')' => comments = comments.saturating_sub(1),
            _ if comments > 0 => {}
            b'<' => address.open(),
            b'>' => address.is_open = false,
            b'[' | b']' => {
                is_literal = byte == b'[';
                address.push(byte);
            }
            // In brackets it belongs to a route; without them a group's name stands before it.
            b':' if !is_literal => address.forget(),
            b',' if address.is_open => address.push(byte),
            b',' | b';' => std::mem::take(&mut address).finish(found),
            b' ' | b'\t' | b'\r' => address.blank(),
            _ => address.push(byte),
        }
    }
    address.finish(found);
}

#[derive(Default)]
struct Address {
    /// The text so far: of the name, or of what stands in brackets.
    text: Vec<u8>,
    is_open: bool,
    had_brackets: bool,
    has_blank: bool,
}

impl Address {
    fn push(&mut self, byte: u8) {
        // Behind the brackets stand comments, or nothing.
        if self.had_brackets && !self.is_open {
            return;
        }
        if std::mem::take(&mut self.has_blank) && !self.text.is_empty() && !self.is_open {
            self.text.push(b' ');
        }
        self.text.push(byte);
    }

    const fn blank(&mut self) {
        self.has_blank = true;
    }

    fn open(&mut self) {
        self.forget();
        self.is_open = true;
        self.had_brackets = true;
    }

    fn forget(&mut self) {
        self.text.clear();
        self.has_blank = false;
    }

    fn finish(self, found: &mut Vec<Vec<u8>>) {
        if !self.text.is_empty() {
            found.push(self.text);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(ends_at_dot: bool, pieces: &[&[u8]]) -> String {
        let mut text = Text::new(ends_at_dot);
        let mut out = Vec::new();
        for piece in pieces {
            if text.feed(piece, &mut out) {
                break;
            }
        }
        text.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn a_dot_alone_ends_the_message_unless_it_is_told_otherwise() {
        let input: &[&[u8]] = &[b"a\r\n..\n.b\n.", b"\r", b"\nrest\n"];
        assert_eq!(text(true, input), "a\n..\n.b\n");
        assert_eq!(text(false, input), "a\n..\n.b\n.\nrest\n");
        assert_eq!(text(true, &[b"a\n."]), "a\n");
        assert_eq!(text(false, &[b"a\r\rb\r"]), "a\r\rb\r");
    }

    #[test]
    fn recipients_are_those_of_the_header() {
        let of = |header: &str| -> Vec<String> {
            let found = recipients(header.as_bytes());
            found.into_iter().map(|address| String::from_utf8_lossy(&address).into_owned()).collect()
        };
        assert_eq!(
            of(
                "From x\nTo: \"A, B\" <a@e.com>, b@e.com (Bob, \\) him)\nCC : c@e.com,\n\td@e.com\nbcc: e@e.com\n\nTo: no\n"
            ),
            ["a@e.com", "b@e.com", "c@e.com", "d@e.com", "e@e.com"]
        );
        assert_eq!(
            of(
                "To: friends: f@e.com, Gee <g@e.com>;, <@relay,@b:h@e.com>, i@[IPv6:::1], \"j k\"@e.com, <>\n"
            ),
            ["f@e.com", "g@e.com", "h@e.com", "i@[IPv6:::1]", "j k@e.com"]
        );
        assert_eq!(of("To: a@e.com\nResent-To: r@e.com\nResent-Bcc: s@e.com\n"), ["r@e.com", "s@e.com"]);
        assert_eq!(of("Subject: To: x\nno field\nTo: a@e.com\n"), [""; 0]);
    }

    proptest! {
        /// However the input is cut, the text is the same.
        #[test]
        fn pieces_change_nothing(input in proptest::collection::vec(proptest::sample::select(b".\r\na".to_vec()), 0..40), at in 0usize..40, ends in any::<bool>()) {
            let (head, tail) = input.split_at(at.min(input.len()));
            prop_assert_eq!(text(ends, &[head, tail]), text(ends, &[&input]));
            if !ends {
                prop_assert_eq!(text(false, &[&input]), String::from_utf8_lossy(&input).replace("\r\n", "\n"));
            }
        }

        /// No header makes it panic or name an empty recipient.
        #[test]
        fn anything_may_stand_in_a_header(list in "[a-c@<>,;:\"\\\\() \\[\\]]{0,40}") {
            let header = format!("To: {list}\n");
            prop_assert!(recipients(header.as_bytes()).iter().all(|address| !address.is_empty()));
        }
    }
}
