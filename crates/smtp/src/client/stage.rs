//! Where a session is, in the words of a log.

use std::fmt;

use super::Command;

/// What a session waits for, or does. Displayed as in Postfix's "lost connection with HOST while …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Stage {
    Greeting,
    Ehlo,
    Helo,
    Lhlo,
    StartTls,
    /// The TLS handshake, which is the caller's.
    Handshake,
    Auth,
    XForward,
    Mail,
    Rcpt,
    Data,
    /// The content is being sent.
    Content,
    /// The content was sent, and its answer is awaited: a message whose connection is lost here may have arrived.
    EndOfContent,
    Rset,
    Quit,
    /// Nothing: the session waits for the caller.
    Idle,
}

impl Stage {
    pub(super) const fn of(command: Command) -> Self {
        match command {
            Command::Greeting => Self::Greeting,
            Command::Ehlo => Self::Ehlo,
            Command::Helo => Self::Helo,
            Command::Lhlo => Self::Lhlo,
            Command::StartTls => Self::StartTls,
            Command::Auth => Self::Auth,
            Command::XForward => Self::XForward,
            Command::Mail => Self::Mail,
            Command::Rcpt(_) => Self::Rcpt,
            Command::Data => Self::Data,
            Command::Content(_) | Command::EmptyContent => Self::EndOfContent,
            Command::RsetBetween | Command::Rset => Self::Rset,
            Command::Quit => Self::Quit,
        }
    }

    /// The command of RFC 5321 that a reply at this stage replies to, as in Postfix's "(in reply to …)".
    #[must_use]
    pub const fn command(self) -> &'static str {
        match self {
            Self::Greeting => "initial server greeting",
            Self::Ehlo => "EHLO command",
            Self::Helo => "HELO command",
            Self::Lhlo => "LHLO command",
            Self::StartTls | Self::Handshake => "STARTTLS command",
            Self::Auth => "AUTH command",
            Self::XForward => "XFORWARD command",
            Self::Mail => "MAIL FROM command",
            Self::Rcpt => "RCPT TO command",
            Self::Data => "DATA command",
            Self::Content | Self::EndOfContent => "end of DATA command",
            Self::Rset => "RSET command",
            Self::Quit => "QUIT command",
            Self::Idle => "no command",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Greeting => "receiving the initial server greeting",
            // AUTH is part of the handshake to Postfix (observed on 3.7).
            Self::Ehlo | Self::Auth => "performing the EHLO handshake",
            Self::Helo => "performing the HELO handshake",
            Self::Lhlo => "performing the LHLO handshake",
            Self::StartTls => "receiving the STARTTLS response",
            Self::Handshake => "performing the TLS handshake",
            Self::XForward => "sending XFORWARD name/address",
            Self::Mail => "sending MAIL FROM",
            Self::Rcpt => "sending RCPT TO",
            Self::Data => "sending DATA command",
            Self::Content => "sending message body",
            Self::EndOfContent => "sending end of data -- message may be sent more than once",
            Self::Rset => "sending RSET command",
            Self::Quit => "sending QUIT command",
            Self::Idle => "idle",
        })
    }
}
