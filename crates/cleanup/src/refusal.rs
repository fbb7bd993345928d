//! The reasons for not accepting a message.

use std::fmt;

/// The reason that a message is refused, already the gravest of all that apply. `Display` gives the words that follow
/// `Error: ` in the reply of qmqpd(8).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Temporary, in the words of an operator's rule or of a filter (`4.x.x text`).
    #[error("{text}")]
    Defer {
        /// DSN code and text.
        text: String,
    },
    /// Temporary: the record stream made no sense; `status` is the sum of cleanup(8)'s status bits.
    #[error("internal error {status}")]
    Bad {
        /// cleanup(8)'s status bits.
        status: u32,
    },
    /// Permanent: the client asked for variable envelope return paths with delimiters that `verp_delimiter_filter`
    /// forbids. A first delimiter that is not printable ASCII is shown as `?`; Postfix puts it into the reply as it is.
    #[error("Invalid VERP delimiters: \"{}=\". Need two characters from \"{filter}\"", printable(*first_delimiter))]
    Verp {
        /// The first delimiter: the last byte of the sender's local part.
        first_delimiter: u8,
        /// The setting `verp_delimiter_filter`.
        filter: String,
    },
    /// Permanent: an address that no header or queue file line can hold. Postfix cuts such an address at NUL and
    /// takes CR and LF as they are.
    #[error("{kind} address contains a NUL, CR or LF character")]
    Address {
        /// Which address.
        kind: AddressKind,
    },
    /// Permanent: the queue file would exceed `message_size_limit`.
    #[error("message too large")]
    Size,
    /// Permanent: `hopcount_limit`.
    #[error("too many hops")]
    Hops,
    /// Refused by a rule about content: temporary if the text begins with `4`, otherwise permanent.
    #[error("{text}")]
    Content {
        /// DSN code and text.
        text: String,
    },
    /// Temporary: the queue file cannot be written, or a lookup failed.
    #[error("queue file write error")]
    Write,
    /// Permanent: the client named no recipient.
    #[error("no recipients specified")]
    NoRecipients,
}

impl Refusal {
    /// Its place among reasons for which one message is refused: the client is told the one with the smallest.
    pub(crate) const fn rank(&self) -> u8 {
        match self {
            Self::Verp { .. } | Self::Address { .. } => 0,
            Self::Defer { .. } => 1,
            Self::Bad { .. } => 2,
            Self::Size => 3,
            Self::Hops => 4,
            Self::Content { .. } => 5,
            Self::Write => 6,
            Self::NoRecipients => 7,
        }
    }
}

/// An address of the envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressKind {
    /// Whom a bounce goes to.
    Sender,
    /// Whom the message goes to.
    Recipient,
}

impl fmt::Display for AddressKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sender => "sender",
            Self::Recipient => "recipient",
        })
    }
}

const fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() || byte == b' ' { byte as char } else { '?' }
}
