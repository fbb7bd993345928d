//! Packets, the steps of a message, and errors in replies.

/// The command that opens the negotiation, and its answer.
pub const NEGOTIATE: u8 = b'O';
/// The command that defines macros: the step that they are for, then names and values, each ended by NUL.
pub const MACROS: u8 = b'D';
/// The command that ends the connection.
pub const QUIT: u8 = b'Q';
/// The longest packet that is taken from a filter. libmilter sends at most 65,535 bytes of a new body in one.
pub const REPLY_BYTES_MAX: usize = 1024 * 1024;
/// The most bytes of body in one packet.
pub const BODY_CHUNK_BYTES: usize = 65_535;
/// The longest header that is shown to a filter: libmilter's own limit of a packet, less some room.
pub const HEADER_BYTES_MAX: usize = 60_000;

/// Something in the life of a message that a filter is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A client has connected: name, family, port, address.
    Connect,
    /// Its greeting: a name.
    Helo,
    /// The sender.
    Mail,
    /// A recipient.
    Rcpt,
    /// The content is about to come.
    Data,
    /// A header: name and value.
    Header,
    /// The end of the headers.
    EndOfHeader,
    /// A piece of the body.
    Body,
    /// The end of the body: now the filter may change the message.
    EndOfBody,
}

impl Step {
    /// The command byte.
    #[must_use]
    pub const fn command(self) -> u8 {
        match self {
            Self::Connect => b'C',
            Self::Helo => b'H',
            Self::Mail => b'M',
            Self::Rcpt => b'R',
            Self::Data => b'T',
            Self::Header => b'L',
            Self::EndOfHeader => b'N',
            Self::Body => b'B',
            Self::EndOfBody => b'E',
        }
    }

    /// The name that libmilter's sources and Postfix's log lines have for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "SMFIC_CONNECT",
            Self::Helo => "SMFIC_HELO",
            Self::Mail => "SMFIC_MAIL",
            Self::Rcpt => "SMFIC_RCPT",
            Self::Data => "SMFIC_DATA",
            Self::Header => "SMFIC_HEADER",
            Self::EndOfHeader => "SMFIC_EOH",
            Self::Body => "SMFIC_BODY",
            Self::EndOfBody => "SMFIC_BODYEOB",
        }
    }

    /// The option with which a filter says that it does not want to hear of the step; 0: it must.
    #[must_use]
    pub const fn unwanted(self) -> u32 {
        match self {
            Self::Connect => 1,
            Self::Helo => 1 << 1,
            Self::Mail => 1 << 2,
            Self::Rcpt => 1 << 3,
            Self::Body => 1 << 4,
            Self::Header => 1 << 5,
            Self::EndOfHeader => 1 << 6,
            Self::Data => 1 << 9,
            Self::EndOfBody => 0,
        }
    }

    /// The option with which a filter says that it will not answer the step; 0: it must.
    #[must_use]
    pub const fn unanswered(self) -> u32 {
        match self {
            Self::Header => 1 << 7,
            Self::Connect => 1 << 12,
            Self::Helo => 1 << 13,
            Self::Mail => 1 << 14,
            Self::Rcpt => 1 << 15,
            Self::Data => 1 << 16,
            Self::EndOfHeader => 1 << 18,
            Self::Body => 1 << 19,
            Self::EndOfBody => 0,
        }
    }

    /// Whether the step is about the client, not about a message.
    #[must_use]
    pub const fn is_connection(self) -> bool {
        matches!(self, Self::Connect | Self::Helo)
    }
}

/// Why a packet is no acceptable answer; the words go behind `milter NAME: `.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    /// A packet without a command.
    #[error("bad packet length: 0")]
    Empty,
    /// A packet of more than [`REPLY_BYTES_MAX`].
    #[error("unreasonable packet length: {len} > {REPLY_BYTES_MAX}")]
    TooLong {
        /// The length that it announces.
        len: u32,
    },
    /// Data that a command must have are missing.
    #[error("input packet too short for {0}")]
    TooShort(&'static str),
    /// A text without NUL at its end.
    #[error("missing string null termimator")]
    Unterminated,
    /// More data than the command has.
    #[error("left-over data {0} bytes")]
    LeftOver(usize),
    /// Data behind a command that has none.
    #[error("reply {reply} was followed by {len} data bytes")]
    Followed {
        /// The command.
        reply: &'static str,
        /// How many bytes.
        len: usize,
    },
    /// An unknown command, or one that is not allowed at this step.
    #[error("unexpected filter response {reply} after event {step}")]
    Unexpected {
        /// The command.
        reply: &'static str,
        /// What it was to answer.
        step: &'static str,
    },
    /// An invalid reply code. Unlike the other errors, it counts as an error of the filter's configuration.
    #[error("malformed reply")]
    ReplyCode,
    /// An index that no header can have.
    #[error("bad {0} header index")]
    HeaderIndex(&'static str),
    /// No name where a header is to be changed.
    #[error("null change header name")]
    HeaderName,
}

impl BadReply {
    /// Whether Postfix sees in it an error of configuration, not of communication: then even `reject` is temporary.
    #[must_use]
    pub const fn is_configuration(self) -> bool {
        matches!(self, Self::ReplyCode | Self::HeaderIndex(_) | Self::HeaderName)
    }
}

/// Appends a packet. The data must be shorter than 4 GiB; they are made of addresses, headers and body chunks.
pub fn encode_packet(out: &mut Vec<u8>, command: u8, data: &[&[u8]]) {
    let len = data.iter().fold(1_usize, |len, part| len.saturating_add(part.len()));
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    out.push(command);
    for part in data {
        out.extend_from_slice(part);
    }
}

/// The length of the packet behind these four bytes: command and data.
///
/// # Errors
/// Nothing, or more than [`REPLY_BYTES_MAX`]; in Postfix's words, which go behind `milter NAME: `.
pub fn packet_len(head: [u8; 4]) -> Result<usize, BadReply> {
    let len = u32::from_be_bytes(head);
    match usize::try_from(len) {
        Ok(0) => Err(BadReply::Empty),
        Ok(len) if len <= REPLY_BYTES_MAX => Ok(len),
        _ => Err(BadReply::TooLong { len }),
    }
}

/// The next text that is ended by NUL; moves `data` behind it.
pub(super) fn text<'a>(data: &mut &'a [u8]) -> Result<&'a [u8], BadReply> {
    if data.is_empty() {
        return Err(BadReply::TooShort("string"));
    }
    let end = memchr::memchr(0, data).ok_or(BadReply::Unterminated)?;
    let (text, rest) = data.split_at(end);
    *data = rest.get(1..).unwrap_or_default();
    Ok(text)
}

/// The next number of four bytes; moves `data` behind it.
pub(super) fn number(data: &mut &[u8]) -> Result<u32, BadReply> {
    let (bytes, rest) = data.split_first_chunk::<4>().ok_or(BadReply::TooShort("network long"))?;
    *data = rest;
    Ok(u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets() {
        let mut out = Vec::new();
        encode_packet(&mut out, b'M', &[b"a@b", b"\0"]);
        assert_eq!(out, b"\0\0\0\x05Ma@b\0");
        assert_eq!(packet_len([0, 0, 0, 5]), Ok(5));
        assert_eq!(packet_len([0, 0, 0, 0]).unwrap_err().to_string(), "bad packet length: 0");
        assert_eq!(
            packet_len([255; 4]).unwrap_err().to_string(),
            "unreasonable packet length: 4294967295 > 1048576"
        );
    }

    /// The numbers of libmilter's mfapi.h and mfdef.h.
    #[test]
    fn steps_are_those_of_libmilter() {
        for (step, command, unwanted, unanswered) in [
            (Step::Connect, b'C', 0x1, 0x1000),
            (Step::Helo, b'H', 0x2, 0x2000),
            (Step::Mail, b'M', 0x4, 0x4000),
            (Step::Rcpt, b'R', 0x8, 0x8000),
            (Step::Body, b'B', 0x10, 0x8_0000),
            (Step::Header, b'L', 0x20, 0x80),
            (Step::EndOfHeader, b'N', 0x40, 0x4_0000),
            (Step::Data, b'T', 0x200, 0x1_0000),
            (Step::EndOfBody, b'E', 0, 0),
        ] {
            assert_eq!(step.command(), command, "{step:?}");
            assert_eq!((step.unwanted(), step.unanswered()), (unwanted, unanswered), "{step:?}");
            assert_eq!(step.is_connection(), matches!(command, b'C' | b'H'), "{step:?}");
        }
    }

    #[test]
    fn a_packet_may_be_as_long_as_the_limit() {
        assert_eq!(packet_len(1_048_576_u32.to_be_bytes()), Ok(REPLY_BYTES_MAX));
        assert!(packet_len(1_048_577_u32.to_be_bytes()).is_err());
    }
}
