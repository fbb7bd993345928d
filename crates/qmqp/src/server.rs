//! The server's half of the protocol: a state machine that takes bytes and yields events.

use std::fmt;

use crate::netstring::{Length, LengthError};

/// The longest payloads that a client may declare, in bytes. Exactly the limit is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The message content; `u64::MAX` for no limit. Postfix: message_size_limit.
    pub content_bytes_max: u64,
    /// The envelope sender. Postfix: line_length_limit. This much can be held in memory.
    pub sender_bytes_max: u64,
    /// One envelope recipient. Postfix: line_length_limit. This much can be held in memory.
    pub recipient_bytes_max: u64,
}

impl Limits {
    const fn address_bytes_max(&self, role: Role) -> u64 {
        match role {
            Role::Sender => self.sender_bytes_max,
            Role::Recipient => self.recipient_bytes_max,
        }
    }
}

/// What the machine has understood. The order is `Begin`, `ContentBegin`, any number of `Content`, `ContentEnd`, `Sender`,
/// any number of `Recipient`, `End`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// The outer length is read; a request of so many bytes is announced. Nothing may be allocated on its word.
    Begin {
        /// The declared size of content, sender and recipients with their framing.
        bytes: u64,
    },
    /// The content length is read and within the limit; nothing may be allocated on its word.
    ContentBegin {
        /// The declared size of the content.
        bytes: u64,
    },
    /// The next piece of the content, never empty, borrowed from the input. The sizes of pieces mean nothing.
    Content(&'a [u8]),
    /// The content is complete, and so is its framing.
    ContentEnd,
    /// The whole envelope sender.
    Sender(&'a [u8]),
    /// One whole envelope recipient.
    Recipient(&'a [u8]),
    /// The request is complete. What follows on the connection is ignored.
    End,
}

/// What the server is doing, in the words of Postfix's replies and log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Up to the `:` of the outer length.
    Header,
    /// From there to the `,` after the content.
    Content,
    /// From there to the `,` after the sender.
    Sender,
    /// From there to the last `,`.
    Recipient,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "receiving QMQP packet header",
            Self::Content => "receiving message content",
            Self::Sender => "receiving sender address",
            Self::Recipient => "receiving recipient address",
        })
    }
}

/// What is wrong, in the words of Postfix's replies and log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Problem {
    /// The bytes are no request. Answered with `D`.
    #[error("netstring format error")]
    Format,
    /// A length beyond its limit was declared. Answered with `D`.
    #[error("netstring length exceeds storage limit")]
    TooLong,
    /// The client is gone. Not answered.
    #[error("lost connection")]
    Lost,
    /// The client is silent. Not answered.
    #[error("read/write timeout")]
    Timeout,
}

impl From<LengthError> for Problem {
    fn from(error: LengthError) -> Self {
        match error {
            LengthError::Format => Self::Format,
            LengthError::TooLong => Self::TooLong,
        }
    }
}

/// Why a request cannot be received; as text `PROBLEM while PHASE`, as in Postfix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{problem} while {phase}")]
pub struct Fault {
    /// What is wrong.
    pub problem: Problem,
    /// What the server was doing.
    pub phase: Phase,
}

/// Whether so many bytes have come as the first of them say that the request is long. Nothing else is looked at.
#[must_use]
pub fn is_all_there(request: &[u8]) -> bool {
    let mut payload = request;
    let declared = Length::new().read(&mut payload);
    let payload_bytes = bytes_of(payload);
    matches!(declared, Ok(Some(bytes)) if bytes < payload_bytes)
}

/// Each state is named for what it waits for. `left`: bytes of the payload that are still to come.
///
/// ```text
/// OuterLength ─:→ ContentLength ─:→ Content ─→ ContentComma ─,→ AddressLength(Sender)
///
/// AddressLength(role) ─:→ Address(role) ─→ AddressComma(role) ─,→ AddressLength(Recipient)   outer payload not used up
///                                                             └,→ OuterComma ─,→ Done        outer payload used up
/// any state ─ bad byte or length → Failed
/// ```
#[derive(Debug, Clone, Copy)]
enum ServerState {
    OuterLength,
    ContentLength,
    Content { left: u64 },
    ContentComma,
    AddressLength(Role),
    Address { role: Role, left: u64 },
    AddressComma(Role),
    OuterComma,
    Done,
    Failed(Fault),
}

/// Whose address is being received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Sender,
    Recipient,
}

impl Role {
    const fn event(self, address: &[u8]) -> Event<'_> {
        match self {
            Self::Sender => Event::Sender(address),
            Self::Recipient => Event::Recipient(address),
        }
    }
}

/// Receives one request.
///
/// What it holds is a few words and at most one address; it grows with bytes received, never with lengths declared. The
/// events are the same for every way in which the bytes are cut into pieces, but for the cuts between
/// [`Event::Content`] pieces.
///
/// It accepts what Postfix 3.7 accepts, but for two things. The outer length must be true: the inner netstrings fill it
/// exactly (Postfix does not look at it). And numbers have at most [`DIGITS_MAX`](crate::netstring::DIGITS_MAX) digits.
#[derive(Debug)]
pub struct Server {
    limits: Limits,
    state: ServerState,
    /// The number that is being read; fresh in every other state.
    length: Length,
    /// Bytes of the outer payload that are still to come; exact from the `:` of the outer length on.
    outer_left: u64,
    /// The address that is being received, when it does not arrive in one piece.
    address: Vec<u8>,
}

impl Server {
    /// Before the first byte.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: ServerState::OuterLength,
            length: Length::new(),
            outer_left: 0,
            address: Vec::new(),
        }
    }

    /// Consumes bytes from the front of `input` and returns the next event. `None` means that `input` is used up and more
    /// is needed; after [`Event::End`] it is always `None`, and all input is swallowed.
    ///
    /// # Errors
    /// As soon as a byte shows that the request is not acceptable, or would not fit its outer length; then again at every call.
    pub fn next<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Result<Option<Event<'s>>, Fault> {
        loop {
            match self.state {
                ServerState::OuterLength => {
                    let Some(bytes) = self.read_outer_length(input)? else { return Ok(None) };
                    self.outer_left = bytes;
                    self.state = ServerState::ContentLength;
                    return Ok(Some(Event::Begin { bytes }));
                }
                ServerState::ContentLength => {
                    let limit = self.limits.content_bytes_max;
                    let Some(bytes) = self.read_inner_length(limit, input)? else { return Ok(None) };
                    self.state = ServerState::Content { left: bytes };
                    return Ok(Some(Event::ContentBegin { bytes }));
                }
                ServerState::Content { left: 0 } => self.state = ServerState::ContentComma,
                ServerState::Content { left } => {
                    let piece = take_up_to(left, input);
                    if piece.is_empty() {
                        return Ok(None);
                    }
                    self.count(bytes_of(piece));
                    self.state = ServerState::Content { left: left.saturating_sub(bytes_of(piece)) };
                    return Ok(Some(Event::Content(piece)));
                }
                ServerState::ContentComma => {
                    if !self.take_comma(input)? {
                        return Ok(None);
                    }
                    self.state = ServerState::AddressLength(Role::Sender);
                    return Ok(Some(Event::ContentEnd));
                }
                ServerState::AddressLength(role) => {
                    let limit = self.limits.address_bytes_max(role);
                    let Some(bytes) = self.read_inner_length(limit, input)? else { return Ok(None) };
                    self.address.clear();
                    self.state = ServerState::Address { role, left: bytes };
                }
                ServerState::Address { role, left } => {
                    let piece = take_up_to(left, input);
                    self.count(bytes_of(piece));
                    let left = left.saturating_sub(bytes_of(piece));
                    if left == 0 && self.address.is_empty() && self.take_comma(input)? {
                        self.state = self.after_address();
                        return Ok(Some(role.event(piece)));
                    }
                    self.address.extend_from_slice(piece);
                    if left > 0 {
                        self.state = ServerState::Address { role, left };
                        return Ok(None);
                    }
                    self.state = ServerState::AddressComma(role);
                }
                ServerState::AddressComma(role) => {
                    if !self.take_comma(input)? {
                        return Ok(None);
                    }
                    self.state = self.after_address();
                    return Ok(Some(role.event(&self.address)));
                }
                ServerState::OuterComma => {
                    if !self.take_comma(input)? {
                        return Ok(None);
                    }
                    self.state = ServerState::Done;
                    return Ok(Some(Event::End));
                }
                ServerState::Done => {
                    *input = &[];
                    return Ok(None);
                }
                ServerState::Failed(fault) => return Err(fault),
            }
        }
    }

    /// What it means that the client has closed or reset the connection here. After [`Event::End`] it means nothing: ask
    /// only before.
    #[must_use]
    pub const fn end_of_file(&self) -> Fault {
        Fault { problem: Problem::Lost, phase: self.phase() }
    }

    /// What it means that the client has been silent for too long here.
    #[must_use]
    pub const fn timeout(&self) -> Fault {
        Fault { problem: Problem::Timeout, phase: self.phase() }
    }

    /// How many bytes of the request are still to come, by its outer length, with its last `,`; of a request that has failed, those
    /// that were not taken. Zero while no length is known, and after the end.
    #[must_use]
    pub const fn outstanding(&self) -> u64 {
        match self.state {
            ServerState::OuterLength
            | ServerState::Done
            | ServerState::Failed(Fault { phase: Phase::Header, .. }) => 0,
            _ => self.outer_left.saturating_add(1),
        }
    }

    /// What is being received. [`Phase::Recipient`] also after the end.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        match self.state {
            ServerState::OuterLength => Phase::Header,
            ServerState::ContentLength | ServerState::Content { .. } | ServerState::ContentComma => {
                Phase::Content
            }
            ServerState::AddressLength(Role::Sender)
            | ServerState::Address { role: Role::Sender, .. }
            | ServerState::AddressComma(Role::Sender) => Phase::Sender,
            ServerState::AddressLength(Role::Recipient)
            | ServerState::Address { role: Role::Recipient, .. }
            | ServerState::AddressComma(Role::Recipient)
            | ServerState::OuterComma
            | ServerState::Done => Phase::Recipient,
            ServerState::Failed(fault) => fault.phase,
        }
    }

    /// Reads the number of the outer netstring; `None` means that more is needed.
    fn read_outer_length(&mut self, input: &mut &[u8]) -> Result<Option<u64>, Fault> {
        let read = self.length.read(input);
        let read = read.map_err(|error| self.fail(error.into()))?;
        if read.is_some() {
            self.length = Length::new();
        }
        Ok(read)
    }

    /// Reads the number of an inner netstring, and checks it: first against its own limit, as Postfix does, then against
    /// what the outer netstring has left, where the payload must fit with its `,`. `None` means that more is needed.
    fn read_inner_length(&mut self, limit: u64, input: &mut &[u8]) -> Result<Option<u64>, Fault> {
        let window = up_to(self.outer_left, input);
        let mut unread = window;
        let read = self.length.read(&mut unread);
        let used = window.len().saturating_sub(unread.len());
        *input = input.get(used..).unwrap_or(&[]);
        self.count(u64::try_from(used).unwrap_or(u64::MAX));
        match read.map_err(|error| self.fail(error.into()))? {
            Some(bytes) if bytes > limit => Err(self.fail(Problem::TooLong)),
            Some(bytes) if bytes >= self.outer_left => Err(self.fail(Problem::Format)),
            None if self.outer_left == 0 => Err(self.fail(Problem::Format)),
            Some(bytes) => {
                self.length = Length::new();
                Ok(Some(bytes))
            }
            None => Ok(None),
        }
    }

    /// Takes the `,` after a payload; false means that it is still to come.
    fn take_comma(&mut self, input: &mut &[u8]) -> Result<bool, Fault> {
        let Some((&byte, rest)) = input.split_first() else { return Ok(false) };
        if byte != b',' {
            return Err(self.fail(Problem::Format));
        }
        *input = rest;
        self.count(1);
        Ok(true)
    }

    /// Takes `used` bytes off the outer payload. At its own `,` there is nothing left to take off.
    fn count(&mut self, used: u64) {
        self.outer_left = self.outer_left.saturating_sub(used);
    }

    /// Where an address leads to: to the next one, or to the end if the outer payload is used up.
    const fn after_address(&self) -> ServerState {
        match self.outer_left {
            0 => ServerState::OuterComma,
            _ => ServerState::AddressLength(Role::Recipient),
        }
    }

    /// Ends the machine here.
    fn fail(&mut self, problem: Problem) -> Fault {
        let fault = Fault { problem, phase: self.phase() };
        self.state = ServerState::Failed(fault);
        self.address = Vec::new();
        fault
    }
}

/// The first `bytes` bytes of `input`, or all of it.
fn up_to(bytes: u64, input: &[u8]) -> &[u8] {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    input.get(..bytes).unwrap_or(input)
}

/// As [`up_to`], and takes them off the front.
fn take_up_to<'a>(bytes: u64, input: &mut &'a [u8]) -> &'a [u8] {
    let piece = up_to(bytes, input);
    *input = input.get(piece.len()..).unwrap_or(&[]);
    piece
}

fn bytes_of(piece: &[u8]) -> u64 {
    u64::try_from(piece.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { content_bytes_max: 40, sender_bytes_max: 20, recipient_bytes_max: 20 };

    /// An event that owns its bytes; adjacent pieces of content are merged.
    #[derive(Debug, Clone, PartialEq, Eq)]
    enum SeenEvent {
        Begin(u64),
        ContentBegin(u64),
        Content(Vec<u8>),
        ContentEnd,
        Sender(Vec<u8>),
        Recipient(Vec<u8>),
        End,
        Fault(Fault),
    }

    /// Whatever is wrong with a request, and wherever, its sender knows how long it is.
    #[test]
    fn what_is_outstanding_is_the_rest_of_the_outer_netstring() {
        let whole = b"28:5:hello,3:a@b,3:c@d,3:e@f,xx,";
        for bad in 3..whole.len() {
            let mut request = whole.to_vec();
            request[bad] = b'!';
            let mut server = Server::new(LIMITS);
            let mut input = request.as_slice();
            while let Ok(Some(event)) = server.next(&mut input) {
                if event == Event::End {
                    break;
                }
            }
            assert_eq!(server.outstanding(), bytes_of(input), "{}", request.escape_ascii());
        }
        let mut server = Server::new(LIMITS);
        assert_eq!(server.outstanding(), 0);
        assert!(server.next(&mut b"x".as_slice()).is_err());
        assert_eq!(server.outstanding(), 0, "no length, no request");
        let mut server = Server::new(LIMITS);
        let mut input = b"1000:900:".as_slice();
        while let Ok(Some(_)) = server.next(&mut input) {}
        assert_eq!(server.outstanding(), 1001 - 4);
    }

    fn note(event: Event<'_>, seen: &mut Vec<SeenEvent>) {
        let event = match event {
            Event::Begin { bytes } => SeenEvent::Begin(bytes),
            Event::ContentBegin { bytes } => SeenEvent::ContentBegin(bytes),
            Event::Content(piece) => {
                assert!(!piece.is_empty());
                if let Some(SeenEvent::Content(before)) = seen.last_mut() {
                    before.extend_from_slice(piece);
                    return;
                }
                SeenEvent::Content(piece.to_vec())
            }
            Event::ContentEnd => SeenEvent::ContentEnd,
            Event::Sender(address) => SeenEvent::Sender(address.to_vec()),
            Event::Recipient(address) => SeenEvent::Recipient(address.to_vec()),
            Event::End => SeenEvent::End,
        };
        seen.push(event);
    }

    /// What a server makes of `pieces`; if they end too early, the last entry says where.
    fn receive<'p>(limits: Limits, pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<SeenEvent> {
        let mut server = Server::new(limits);
        let mut seen = Vec::new();
        for mut piece in pieces {
            loop {
                match server.next(&mut piece) {
                    Ok(Some(event)) => note(event, &mut seen),
                    Ok(None) => break,
                    Err(fault) => {
                        assert_eq!(server.next(&mut piece), Err(fault), "a fault is final");
                        seen.push(SeenEvent::Fault(fault));
                        return seen;
                    }
                }
            }
            assert!(piece.is_empty());
        }
        if seen.last() != Some(&SeenEvent::End) {
            seen.push(SeenEvent::Fault(server.end_of_file()));
        }
        seen
    }

    fn fault(limits: Limits, input: &[u8]) -> String {
        match receive(limits, [input]).pop() {
            Some(SeenEvent::Fault(fault)) => fault.to_string(),
            other => panic!("{other:?}"),
        }
    }

    /// A request with a true outer length.
    fn request(content: &[u8], sender: &[u8], recipients: &[&[u8]]) -> Vec<u8> {
        let mut inner = Vec::new();
        for payload in [content, sender].iter().chain(recipients) {
            crate::netstring::encode(payload, &mut inner);
        }
        let mut outer = Vec::new();
        crate::netstring::encode(&inner, &mut outer);
        outer
    }

    #[test]
    fn a_request_is_all_there_with_its_last_comma() {
        let request = b"10:0:,0:,1:r,,";
        assert!((0..request.len()).all(|end| !is_all_there(&request[..end])));
        assert!(is_all_there(request));
        assert!(is_all_there(b"10:0:,0:,1:r,,and more"));
        assert!(!is_all_there(b"x"));
        assert!(!is_all_there(b"99999999999999999999999999:x"));
    }

    #[test]
    fn a_request_in_one_piece() {
        let input = request(b"Subject: x\n\nhi\n", b"s@e.com", &[b"r@e.com", b""]);
        assert_eq!(
            receive(LIMITS, [&input[..]]),
            [
                SeenEvent::Begin(42),
                SeenEvent::ContentBegin(15),
                SeenEvent::Content(b"Subject: x\n\nhi\n".to_vec()),
                SeenEvent::ContentEnd,
                SeenEvent::Sender(b"s@e.com".to_vec()),
                SeenEvent::Recipient(b"r@e.com".to_vec()),
                SeenEvent::Recipient(Vec::new()),
                SeenEvent::End,
            ]
        );
    }

    #[test]
    fn the_same_events_for_every_split() {
        let good = request(b"a,1:b\n", b"s@e.com", &[b"1:r,@e.com", b"", b"q"]);
        let mut wrong_comma = good.clone();
        *wrong_comma.last_mut().unwrap() = b';';
        let overfull = b"20:3:abc,1:s,9:r,0:,0:,0:,,".to_vec();
        for input in [good, wrong_comma, overfull] {
            let whole = receive(LIMITS, [&input[..]]);
            for first in 0..=input.len() {
                for second in first..=input.len() {
                    let pieces = [&input[..first], &input[first..second], &input[second..]];
                    assert_eq!(receive(LIMITS, pieces), whole, "{first} {second}");
                }
            }
            assert_eq!(receive(LIMITS, input.chunks(1)), whole);
        }
    }

    #[test]
    fn an_end_of_file_is_a_lost_connection_in_its_phase() {
        let input = request(b"abc", b"s@e", &[b"r@e"]);
        assert_eq!(input, b"18:3:abc,3:s@e,3:r@e,,");
        for end in 0..input.len() {
            let phase = match end {
                0..=2 => Phase::Header,
                3..=8 => Phase::Content,
                9..=14 => Phase::Sender,
                _ => Phase::Recipient,
            };
            let expected = Fault { problem: Problem::Lost, phase };
            assert_eq!(receive(LIMITS, [&input[..end]]).pop(), Some(SeenEvent::Fault(expected)), "{end}");
        }
    }

    #[test]
    fn faults_in_the_words_of_postfix() {
        let long = Limits { content_bytes_max: u64::MAX, ..LIMITS };
        for (limits, input, words) in [
            (LIMITS, &b"x"[..], "netstring format error while receiving QMQP packet header"),
            (
                LIMITS,
                b"12345678901234567890:",
                "netstring length exceeds storage limit while receiving QMQP packet header",
            ),
            (LIMITS, b"60:41:", "netstring length exceeds storage limit while receiving message content"),
            (LIMITS, b"60:3:abcd", "netstring format error while receiving message content"),
            (LIMITS, b"60:0:,21:", "netstring length exceeds storage limit while receiving sender address"),
            (LIMITS, b"60:0:,0:;", "netstring format error while receiving sender address"),
            (
                LIMITS,
                b"60:0:,0:,21:",
                "netstring length exceeds storage limit while receiving recipient address",
            ),
            (LIMITS, b"60:0:,0:,1:ab", "netstring format error while receiving recipient address"),
            (
                long,
                b"9223372036854775807:9223372036854775808",
                "netstring length exceeds storage limit while receiving message content",
            ),
            (LIMITS, b"60:3:abc,", "lost connection while receiving sender address"),
        ] {
            assert_eq!(fault(limits, input), words, "{input:?}");
        }
        let silent = Server::new(LIMITS).timeout();
        assert_eq!(silent.to_string(), "read/write timeout while receiving QMQP packet header");
    }

    #[test]
    fn exactly_the_limit_is_accepted() {
        let input = request(&[b'c'; 40], &[b's'; 20], &[&[b'r'; 20]]);
        assert_eq!(receive(LIMITS, [&input[..]]).last(), Some(&SeenEvent::End));
        for (content, sender, recipient) in [(41, 20, 20), (40, 21, 20), (40, 20, 21)] {
            let input = request(&vec![b'c'; content], &vec![b's'; sender], &[&vec![b'r'; recipient]]);
            let Some(SeenEvent::Fault(fault)) = receive(LIMITS, [&input[..]]).pop() else { panic!() };
            assert_eq!(fault.problem, Problem::TooLong);
        }
    }

    #[test]
    fn the_outer_length_must_be_true() {
        // Postfix 3.7 accepts the first four.
        for (input, phase) in [
            (&b"0:3:abc,3:s@e,3:r@e,,"[..], Phase::Content),
            (b"17:3:abc,3:s@e,3:r@e,,", Phase::Recipient),
            (b"19:3:abc,3:s@e,3:r@e,,", Phase::Recipient),
            (b"999:3:abc,3:s@e,3:r@e,,", Phase::Recipient),
            (b"18:3:abc,3:s@e,3:r@e,;", Phase::Recipient),
            (b"5:3:abc,", Phase::Content),
            (b"6:3:abc,", Phase::Sender),
            (b"7:3:abc,3", Phase::Sender),
            (b"8:3:abc,3:", Phase::Sender),
        ] {
            let expected = Fault { problem: Problem::Format, phase };
            assert_eq!(receive(LIMITS, [input]).pop(), Some(SeenEvent::Fault(expected)), "{input:?}");
        }
        // The limit comes first: it is what the client can do something about.
        assert!(fault(LIMITS, b"5:999:").starts_with("netstring length exceeds"));
        // Said at the `:`, not after the payload.
        assert_eq!(fault(LIMITS, b"11:9:"), "netstring format error while receiving message content");
    }

    #[test]
    fn what_follows_the_request_is_swallowed() {
        let mut input = request(b"", b"", &[b"r"]);
        input.extend_from_slice(b"18:3:abc,3:s@e,3:r@e,,");
        let seen = receive(LIMITS, [&input[..]]);
        assert_eq!(seen.iter().filter(|&event| *event == SeenEvent::End).count(), 1);
        assert_eq!(seen.last(), Some(&SeenEvent::End));
    }

    #[test]
    fn a_hundred_thousand_recipients_in_small_pieces() {
        let recipients: Vec<Vec<u8>> =
            (0..100_000).map(|number| format!("r{number}@e.com").into_bytes()).collect();
        let recipients: Vec<&[u8]> = recipients.iter().map(Vec::as_slice).collect();
        let input = request(b"hi\n", b"s@e.com", &recipients);
        let seen = receive(LIMITS, input.chunks(7));
        assert_eq!(seen.last(), Some(&SeenEvent::End));
        assert_eq!(seen.len(), 100_000 + 6);
        assert_eq!(seen.get(100_004), Some(&SeenEvent::Recipient(b"r99999@e.com".to_vec())));
    }

    #[test]
    fn a_declared_length_allocates_nothing() {
        let limits =
            Limits { content_bytes_max: u64::MAX, sender_bytes_max: u64::MAX, recipient_bytes_max: u64::MAX };
        let mut server = Server::new(limits);
        let mut input = &b"9000000000000000000:0:,8000000000000000000:abc"[..];
        while server.next(&mut input).unwrap().is_some() {}
        assert!(server.address.capacity() < 100, "{}", server.address.capacity());
    }

    #[test]
    fn an_address_in_one_piece_is_borrowed_from_the_input() {
        let input = request(b"", b"sender", &[b"recipient"]);
        let bounds = input.as_ptr_range();
        let mut server = Server::new(LIMITS);
        let mut rest = &input[..];
        let mut addresses = 0;
        while let Some(event) = server.next(&mut rest).unwrap() {
            if let Event::Sender(address) | Event::Recipient(address) = event {
                assert!(bounds.contains(&address.as_ptr()));
                addresses += 1;
            }
        }
        assert_eq!(addresses, 2);
    }

    /// Requests, most of them with one flaw: changed bytes, a cut end, or a false outer length.
    fn flawed_request() -> impl Strategy<Value = Vec<u8>> {
        let bytes = |max| proptest::collection::vec(any::<u8>(), 0..max);
        let parts = (bytes(45), bytes(24), proptest::collection::vec(bytes(22), 0..6));
        let flaws = proptest::collection::vec(
            (any::<prop::sample::Index>(), prop::sample::select(&b"0123456789:,x"[..])),
            0..2,
        );
        (parts, flaws, -1i64..=1).prop_map(|((content, sender, recipients), flaws, skew)| {
            let recipients: Vec<&[u8]> = recipients.iter().map(Vec::as_slice).collect();
            let mut input = request(&content, &sender, &recipients);
            let colon = input.iter().position(|&byte| byte == b':').unwrap();
            let outer: i64 = std::str::from_utf8(&input[..colon]).unwrap().parse().unwrap();
            input.splice(..colon, (outer + skew).to_string().into_bytes());
            for (index, byte) in flaws {
                let at = index.index(input.len());
                input[at] = byte;
            }
            input
        })
    }

    proptest! {
        #[test]
        fn splits_do_not_matter(
            input in flawed_request(),
            mut cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
            end in any::<prop::sample::Index>(),
            whole in any::<bool>(),
        ) {
            let input = if whole { &input[..] } else { &input[..end.index(input.len())] };
            let mut cuts: Vec<usize> = cuts.drain(..).map(|cut| cut.index(input.len() + 1)).collect();
            cuts.extend([0, input.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|cut| &input[cut[0]..cut[1]]);
            let expected = receive(LIMITS, [input]);
            prop_assert_eq!(receive(LIMITS, pieces), expected.clone());
            prop_assert_eq!(receive(LIMITS, input.chunks(1)), expected);
        }

        #[test]
        fn what_is_accepted_is_what_was_sent(
            content in proptest::collection::vec(any::<u8>(), 0..=40),
            sender in proptest::collection::vec(any::<u8>(), 0..=20),
            recipients in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..=20), 0..50),
        ) {
            let recipients: Vec<&[u8]> = recipients.iter().map(Vec::as_slice).collect();
            let seen = receive(LIMITS, [&request(&content, &sender, &recipients)[..]]);
            prop_assert_eq!(seen.last(), Some(&SeenEvent::End));
            prop_assert!(content.is_empty() || seen.contains(&SeenEvent::Content(content)));
            prop_assert!(seen.contains(&SeenEvent::Sender(sender)));
            let received: Vec<&[u8]> = seen
                .iter()
                .filter_map(|event| match event {
                    SeenEvent::Recipient(address) => Some(&address[..]),
                    _ => None,
                })
                .collect();
            prop_assert_eq!(received, recipients);
        }
    }
}
