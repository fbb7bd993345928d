//! The client's half of the protocol: how a request begins, and what the reply says.
//!
//! A request is written as [`Request::head`], the content, `,`, the sender and each recipient as netstrings
//! ([`netstring::encode`]), and [`CLOSING`]. All lengths must be known before the first byte is sent.

use crate::netstring::{self, Length, LengthError};
use crate::reply::Status;

/// What follows the last recipient.
pub const CLOSING: &[u8] = b",";

/// The longest reply that [`ReplyReader`] takes, in bytes of its payload. Servers send some tens.
pub const REPLY_BYTES_MAX: u64 = 65_536;

/// The sizes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    content_bytes: u64,
    envelope_bytes: u64,
}

/// The parts of a request add up to more than [`netstring::BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message and its envelope are too long for a netstring")]
pub struct TooLong;

impl Request {
    /// A request without recipients.
    ///
    /// # Errors
    /// When such a request cannot be expressed.
    pub fn new(content_bytes: u64, sender_bytes: u64) -> Result<Self, TooLong> {
        let envelope_bytes = netstring::encoded_len(sender_bytes).ok_or(TooLong)?;
        Self { content_bytes, envelope_bytes }.checked()
    }

    /// The same request with one recipient more.
    ///
    /// # Errors
    /// When such a request cannot be expressed.
    pub fn with_recipient(self, recipient_bytes: u64) -> Result<Self, TooLong> {
        let more = netstring::encoded_len(recipient_bytes).ok_or(TooLong)?;
        let envelope_bytes = self.envelope_bytes.checked_add(more).ok_or(TooLong)?;
        Self { envelope_bytes, ..self }.checked()
    }

    /// The same request with so much content instead.
    ///
    /// # Errors
    /// When such a request cannot be expressed.
    pub fn with_content(self, content_bytes: u64) -> Result<Self, TooLong> {
        Self { content_bytes, ..self }.checked()
    }

    /// The first bytes to send: the outer length and the content's length, each with its `:`.
    #[must_use]
    pub fn head(&self) -> Vec<u8> {
        let mut head = Vec::new();
        // `checked` has seen to it that there is a sum.
        netstring::encode_length(self.payload_bytes().unwrap_or(u64::MAX), &mut head);
        netstring::encode_length(self.content_bytes, &mut head);
        head
    }

    /// All bytes of the request, framing included.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.payload_bytes().and_then(netstring::encoded_len).unwrap_or(u64::MAX)
    }

    fn payload_bytes(&self) -> Option<u64> {
        netstring::encoded_len(self.content_bytes)?.checked_add(self.envelope_bytes)
    }

    fn checked(self) -> Result<Self, TooLong> {
        self.payload_bytes().and_then(netstring::encoded_len).map(|_| self).ok_or(TooLong)
    }
}

/// What the server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What becomes of the message.
    pub status: Status,
    /// The text as sent; see [`reply::printable`](crate::reply::printable) before showing it to anyone.
    pub text: Vec<u8>,
}

/// Why what the server says is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyFault {
    /// The connection ended before the whole reply was there.
    #[error("the server closed the connection without a whole reply")]
    Lost,
    /// No netstring.
    #[error("the server's reply is not a netstring")]
    Format,
    /// More than [`REPLY_BYTES_MAX`].
    #[error("the server's reply is longer than {REPLY_BYTES_MAX} bytes")]
    TooLong,
    /// A netstring of 0 bytes.
    #[error("the server's reply is empty")]
    Empty,
    /// A netstring that begins with neither K nor Z nor D.
    #[error("the server's reply begins with byte {0} instead of K, Z or D")]
    UnknownStatus(u8),
}

/// Each state is named for what it waits for.
///
/// ```text
/// Length ─:→ Payload ─→ Comma ─,→ Done
/// ```
#[derive(Debug, Clone, Copy)]
enum ReplyState {
    Length(Length),
    Payload { left: u64 },
    Comma,
    Done,
}

/// Reads the reply, in as many pieces as it comes.
#[derive(Debug)]
pub struct ReplyReader {
    state: ReplyState,
    payload: Vec<u8>,
}

impl Default for ReplyReader {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplyReader {
    /// Before the first byte.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: ReplyState::Length(Length::new()), payload: Vec::new() }
    }

    /// Consumes bytes from the front of `input`, and returns the reply when it is complete; `None` means that more is needed.
    /// After the reply, and after a fault, the reader is of no use.
    ///
    /// # Errors
    /// As soon as a byte shows that no reply can come of it. An unknown status is told only when the reply is complete.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Reply>, ReplyFault> {
        loop {
            match self.state {
                ReplyState::Length(mut length) => {
                    let read = length.read(input).map_err(|error| match error {
                        LengthError::Format => ReplyFault::Format,
                        LengthError::TooLong => ReplyFault::TooLong,
                    })?;
                    self.state = match read {
                        None => ReplyState::Length(length),
                        Some(bytes) if bytes > REPLY_BYTES_MAX => return Err(ReplyFault::TooLong),
                        Some(bytes) => ReplyState::Payload { left: bytes },
                    };
                    if read.is_none() {
                        return Ok(None);
                    }
                }
                ReplyState::Payload { left } => {
                    let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let (piece, rest) = input.split_at_checked(wanted).unwrap_or((input, &[]));
                    *input = rest;
                    self.payload.extend_from_slice(piece);
                    let left = left.saturating_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
                    if left > 0 {
                        self.state = ReplyState::Payload { left };
                        return Ok(None);
                    }
                    self.state = ReplyState::Comma;
                }
                ReplyState::Comma => {
                    let Some((&byte, rest)) = input.split_first() else { return Ok(None) };
                    *input = rest;
                    self.state = ReplyState::Done;
                    if byte != b',' {
                        return Err(ReplyFault::Format);
                    }
                    let (&letter, text) = self.payload.split_first().ok_or(ReplyFault::Empty)?;
                    let status = Status::from_letter(letter).ok_or(ReplyFault::UnknownStatus(letter))?;
                    return Ok(Some(Reply { status, text: text.to_vec() }));
                }
                ReplyState::Done => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::reply;
    use crate::server::{Event, Limits, Server};

    fn read<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Result<Option<Reply>, ReplyFault> {
        let mut reader = ReplyReader::new();
        for mut piece in pieces {
            if let Some(reply) = reader.next(&mut piece)? {
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    #[test]
    fn replies_and_what_is_none() {
        let queued = Reply { status: Status::Queued, text: b"Ok: queued as X".to_vec() };
        assert_eq!(read([&b"16:KOk: queued as X,"[..]]), Ok(Some(queued)));
        assert_eq!(read([&b"1:D,"[..]]), Ok(Some(Reply { status: Status::Permanent, text: Vec::new() })));
        for (input, fault) in [
            (&b"Kok"[..], ReplyFault::Format),
            (b"3:Kok;", ReplyFault::Format),
            (b"0:,", ReplyFault::Empty),
            (b"3:kok,", ReplyFault::UnknownStatus(b'k')),
            (b"65537:", ReplyFault::TooLong),
            (b"99999999999999999999", ReplyFault::TooLong),
        ] {
            assert_eq!(read([input]), Err(fault), "{input:?}");
        }
        for end in 0..6 {
            assert_eq!(read([&b"3:Kok,"[..end]]), Ok(None), "{end}");
        }
    }

    #[test]
    fn a_reply_may_be_as_long_as_the_limit() {
        let text = vec![b'x'; 65_535];
        let bytes = [b"65536:K", &text[..], b","].concat();
        assert_eq!(read([&bytes[..]]), Ok(Some(Reply { status: Status::Queued, text })));
    }

    #[test]
    fn a_request_that_cannot_be_expressed_is_refused() {
        let request = Request::new(netstring::BYTES_MAX - 100, 10).unwrap();
        assert_eq!(request.with_recipient(100), Err(TooLong));
        assert_eq!(
            request
                .with_content(0)
                .and_then(|request| request.with_recipient(100))
                .map(|request| request.total_bytes()),
            Ok(127)
        );
        assert_eq!(Request::new(u64::MAX, 0), Err(TooLong));
    }

    proptest! {
        #[test]
        fn splits_do_not_matter(text in proptest::collection::vec(any::<u8>(), 0..60), cut in any::<prop::sample::Index>()) {
            let bytes = reply::encode(Status::Temporary, &text);
            let (head, tail) = bytes.split_at(cut.index(bytes.len()));
            let expected = Reply { status: Status::Temporary, text: reply::printable(&text).into_bytes() };
            prop_assert_eq!(read([head, tail]), Ok(Some(expected.clone())));
            prop_assert_eq!(read(bytes.chunks(1)), Ok(Some(expected)));
        }

        #[test]
        fn the_server_accepts_what_the_client_writes(
            content in proptest::collection::vec(any::<u8>(), 0..300),
            sender in proptest::collection::vec(any::<u8>(), 0..30),
            recipients in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 0..20),
        ) {
            let mut request = Request::new(content.len() as u64, sender.len() as u64).unwrap();
            for recipient in &recipients {
                request = request.with_recipient(recipient.len() as u64).unwrap();
            }
            let mut bytes = request.head();
            bytes.extend_from_slice(&content);
            bytes.push(b',');
            netstring::encode(&sender, &mut bytes);
            for recipient in &recipients {
                netstring::encode(recipient, &mut bytes);
            }
            bytes.extend_from_slice(CLOSING);
            prop_assert_eq!(request.total_bytes(), bytes.len() as u64);

            let limits = Limits { content_bytes_max: 300, sender_bytes_max: 30, recipient_bytes_max: 30 };
            let mut server = Server::new(limits);
            let mut rest = &bytes[..];
            let mut last = None;
            while let Some(event) = server.next(&mut rest).unwrap() {
                last = Some(event == Event::End);
            }
            prop_assert_eq!(last, Some(true));
        }
    }
}
