//! The request that is sent again and again, laid out once.

use std::fmt::Write as _;

use qmqp::client::{CLOSING, Request, TooLong};
use qmqp::netstring;

/// What the messages look like.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    pub(super) content_bytes: u64,
    pub(super) sender: String,
    /// The one recipient, or what the numbered ones are made of.
    pub(super) recipient: String,
    pub(super) recipients: u64,
    /// Each line of each body is different from all others.
    pub(super) is_unique: bool,
}

/// A request in two parts: the one that differs from message to message, and the one that does not.
#[derive(Debug)]
pub(super) struct Template {
    /// What stands before the message's number.
    before_number: Vec<u8>,
    /// What stands behind it, in the part that is each message's own.
    after_number: Vec<u8>,
    /// Bytes of body in the part that is each message's own.
    unique_body_bytes: usize,
    shared: Vec<u8>,
}

/// Why the request cannot be made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LetterError {
    #[error("a message of {0} bytes is too short for its header, which needs {1}")]
    NoRoomForHeader(u64, usize),
    #[error(transparent)]
    Request(#[from] TooLong),
    #[error("the request would need more than {REQUEST_BYTES_MAX} bytes of memory")]
    Memory,
}

/// The most that a request may be long: it is held in memory.
pub(super) const REQUEST_BYTES_MAX: u64 = 1 << 30;

/// Digits of a message's number: any that a run can have.
const NUMBER_DIGITS: usize = 20;
const LINE_BYTES: usize = 72;
/// A digit, `:` and `,`.
const NETSTRING_BYTES_MIN: u64 = 3;

impl Template {
    pub(super) fn new(letter: &Letter) -> Result<Self, LetterError> {
        let mut header = String::new();
        // Writing to a string does not fail.
        let _ = write!(
            header,
            "From: <{}>\nTo: <{}>\nSubject: load\nX-Message-Number: ",
            letter.sender, letter.recipient
        );
        let header_bytes = header.len().saturating_add(NUMBER_DIGITS).saturating_add(HEADER_END.len());
        let too_short = LetterError::NoRoomForHeader(letter.content_bytes, header_bytes);
        let body_bytes = letter.content_bytes.checked_sub(header_bytes as u64).ok_or(too_short)?;

        // Before they are made: each takes at least so much.
        let each = (letter.recipient.len() as u64).saturating_add(NETSTRING_BYTES_MIN);
        if letter.recipients.saturating_mul(each) > REQUEST_BYTES_MAX {
            return Err(LetterError::Memory);
        }
        let mut request = Request::new(letter.content_bytes, letter.sender.len() as u64)?;
        let mut envelope = Vec::new();
        netstring::encode(letter.sender.as_bytes(), &mut envelope);
        for number in 1..=letter.recipients {
            let address = address(&letter.recipient, number, letter.recipients);
            request = request.with_recipient(address.len() as u64)?;
            if request.total_bytes() > REQUEST_BYTES_MAX {
                return Err(LetterError::Memory);
            }
            netstring::encode(address.as_bytes(), &mut envelope);
        }
        if request.total_bytes() > REQUEST_BYTES_MAX {
            return Err(LetterError::Memory);
        }
        let body_bytes = usize::try_from(body_bytes).map_err(|_| LetterError::Memory)?;

        let mut before_number = request.head();
        before_number.extend_from_slice(header.as_bytes());
        let mut shared = Vec::new();
        if !letter.is_unique {
            fill(&mut shared, body_bytes, b"");
        }
        shared.push(b',');
        shared.append(&mut envelope);
        shared.extend_from_slice(CLOSING);
        Ok(Self {
            before_number,
            after_number: HEADER_END.to_vec(),
            unique_body_bytes: if letter.is_unique { body_bytes } else { 0 },
            shared,
        })
    }

    /// Puts the part that is message `number`'s own in place of what is in `own`.
    pub(super) fn write_own(&self, number: u64, own: &mut Vec<u8>) {
        own.clear();
        let digits = format!("{number:0NUMBER_DIGITS$}");
        own.extend_from_slice(&self.before_number);
        own.extend_from_slice(digits.as_bytes());
        own.extend_from_slice(&self.after_number);
        fill(own, self.unique_body_bytes, digits.as_bytes());
    }

    /// The part behind it, the same for all.
    pub(super) fn shared(&self) -> &[u8] {
        &self.shared
    }

    /// Bytes that each session holds for itself.
    pub(super) fn own_bytes(&self) -> u64 {
        let header = self.before_number.len().saturating_add(NUMBER_DIGITS).saturating_add(HEADER_END.len());
        header.saturating_add(self.unique_body_bytes) as u64
    }
}

const HEADER_END: &[u8] = b"\n\n";

/// Appends so many bytes of lines. With a mark each line begins with it and the number of the line.
fn fill(text: &mut Vec<u8>, bytes: usize, mark: &[u8]) {
    let end = text.len().saturating_add(bytes);
    text.reserve(bytes);
    let mut line = 0_u64;
    while text.len() < end {
        let begin = text.len();
        if !mark.is_empty() {
            text.extend_from_slice(mark);
            text.extend_from_slice(format!(" {line} ").as_bytes());
        }
        text.resize(begin.saturating_add(LINE_BYTES).max(text.len()), b'x');
        text.push(b'\n');
        line = line.saturating_add(1);
    }
    text.truncate(end);
}

/// `user@domain` for a single recipient, `user-1@domain` and so on for more.
fn address(recipient: &str, number: u64, of: u64) -> String {
    if of == 1 {
        return recipient.to_owned();
    }
    match recipient.rsplit_once('@') {
        Some((local, domain)) => format!("{local}-{number}@{domain}"),
        None => format!("{recipient}-{number}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use qmqp::server::{Event, Limits, Server};

    use super::*;

    fn letter() -> Letter {
        Letter {
            content_bytes: 4096,
            sender: "a@b.c".to_owned(),
            recipient: "d@e.f".to_owned(),
            recipients: 1,
            is_unique: false,
        }
    }

    fn request(template: &Template, number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        template.write_own(number, &mut bytes);
        assert_eq!(bytes.len() as u64, template.own_bytes());
        bytes.extend_from_slice(template.shared());
        bytes
    }

    /// What a server gets: content and recipients.
    fn read(bytes: &[u8]) -> (Vec<u8>, Vec<String>) {
        let limits = Limits { content_bytes_max: 1 << 20, sender_bytes_max: 100, recipient_bytes_max: 100 };
        let (mut server, mut input) = (Server::new(limits), bytes);
        let (mut content, mut recipients) = (Vec::new(), Vec::new());
        loop {
            match server.next(&mut input).unwrap().expect("an event") {
                Event::Content(piece) => content.extend_from_slice(piece),
                Event::Recipient(address) => recipients.push(String::from_utf8(address.to_vec()).unwrap()),
                Event::End => break,
                _ => {}
            }
        }
        assert!(input.is_empty());
        (content, recipients)
    }

    #[test]
    fn the_server_gets_what_was_asked_for() {
        let one = Template::new(&letter()).unwrap();
        let (content, recipients) = read(&request(&one, 7));
        assert_eq!(content.len(), 4096);
        let text = String::from_utf8(content).unwrap();
        assert!(text.starts_with("From: <a@b.c>\nTo: <d@e.f>\n"));
        assert!(text.contains("X-Message-Number: 00000000000000000007\n\nxxx"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 80));
        assert_eq!(recipients, ["d@e.f"]);

        let many = Template::new(&Letter { recipients: 3, ..letter() }).unwrap();
        assert_eq!(read(&request(&many, 1)).1, ["d-1@e.f", "d-2@e.f", "d-3@e.f"]);
    }

    #[test]
    fn no_two_lines_of_unique_bodies_are_the_same() {
        let template = Template::new(&Letter { is_unique: true, ..letter() }).unwrap();
        let mut seen = HashSet::new();
        for number in [1, 2] {
            let (content, _) = read(&request(&template, number));
            assert_eq!(content.len(), 4096);
            let text = String::from_utf8(content).unwrap();
            let (_, body) = text.split_once("\n\n").unwrap();
            // The last line may be cut.
            let (body, _) = body.rsplit_once('\n').unwrap();
            assert!(body.lines().all(|line| seen.insert(line.to_owned())), "{body}");
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        assert!(matches!(
            Template::new(&Letter { content_bytes: 50, ..letter() }),
            Err(LetterError::NoRoomForHeader(50, _))
        ));
        let huge = Letter { content_bytes: REQUEST_BYTES_MAX, ..letter() };
        assert_eq!(Template::new(&huge).unwrap_err(), LetterError::Memory);
        let many = Letter { recipients: u64::MAX, ..letter() };
        assert_eq!(Template::new(&many).unwrap_err(), LetterError::Memory);
    }
}
