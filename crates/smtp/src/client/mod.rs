//! The client's half of a session.
//!
//! ```text
//! greeting ─ EHLO (HELO) ─▶ Ready ─┬─ start_tls ─▶ StartTls … tls_established ─ EHLO ─▶ Ready
//!                                  ├─ authenticate ─▶ AuthChallenge, auth_response … ─▶ Authenticated
//!                                  ├─ begin ─▶ Recipient … SendContent … content_sent ─▶ Answer … MessageOver ─▶ Ready
//!                                  └─ quit
//! ```
//!
//! The methods are of three kinds. What comes from the network goes in by [`Client::receive`]. What is to be done next
//! goes in by [`Client::begin`] and its like; each says when it may be called. What the machine has to say comes out by
//! [`Client::next_event`], and what it has to send by [`Client::take_output`]: look at both after each call.
//!
//! The machine keeps no time. [`Client::stage`] names what is being waited for: the caller has a limit for each.

mod envelope;
mod stage;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::extensions::{Extensions, Keyword};
use crate::reply::{EndlessReply, Reply, ReplyReader};

pub use crate::command::{Body, Message, Notify, Recipient, Returned};
use envelope::Envelope;
pub use stage::Stage;

/// How many bytes of commands may be on the way without a reply: what a server can always take in while it answers
/// (Postfix's figure; RFC 2920 section 3.1 asks a client to mind the window).
pub const PIPELINED_BYTES_MAX: usize = 4096;

/// Which of the two protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SMTP: EHLO, HELO if the server wants no EHLO; one reply to the content.
    Smtp,
    /// LMTP: LHLO; a reply for each recipient.
    Lmtp,
}

/// How a session is to be held.
#[derive(Debug, Clone)]
pub struct Options {
    /// SMTP or LMTP.
    pub dialect: Dialect,
    /// The name that the client gives itself. What is no printable ASCII in it is sent as `?`.
    pub client_name: String,
    /// Begin with EHLO (Postfix's `smtp_never_ehlo` says no). LMTP always begins with LHLO.
    pub extended: bool,
    /// Keywords not to see.
    pub hidden: Vec<Keyword>,
}

impl Options {
    /// SMTP with all that the server offers.
    #[must_use]
    pub fn smtp(client_name: &str) -> Self {
        Self {
            dialect: Dialect::Smtp,
            client_name: client_name.to_owned(),
            extended: true,
            hidden: Vec::new(),
        }
    }

    /// LMTP with all that the server offers.
    #[must_use]
    pub fn lmtp(client_name: &str) -> Self {
        Self { dialect: Dialect::Lmtp, ..Self::smtp(client_name) }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The session can take a message, STARTTLS or AUTH. Comes once after each greeting command; after a message see
    /// [`Self::MessageOver`].
    Ready,
    /// The server wants no session: at its greeting, or at the greeting command. Only QUIT is left.
    Refused {
        /// At what: greeting, EHLO, HELO or LHLO.
        stage: Stage,
        /// With these words.
        reply: Reply,
    },
    /// The TLS handshake may begin now; then comes [`Client::tls_established`].
    StartTls,
    /// The server wants no TLS. The session goes on in plain text, if the caller wants that.
    StartTlsRefused(Reply),
    /// The server asks, in base64; [`Client::auth_response`] answers.
    AuthChallenge(String),
    /// The log-in is done.
    Authenticated,
    /// The log-in failed.
    AuthRefused(Reply),
    /// The server does not want to hear about the original client; the message goes on.
    XForwardRefused(Reply),
    /// The server takes no message from this sender: all recipients share this reply. [`Self::MessageOver`] follows.
    SenderRefused(Reply),
    /// What the server says of a recipient.
    Recipient {
        /// Which one, by its place in the message.
        index: usize,
        /// A 2xx. Anything else refuses, 1xx and 3xx too.
        accepted: bool,
        /// With these words.
        reply: Reply,
    },
    /// The content may be sent now; then comes [`Client::content_sent`].
    SendContent,
    /// The server does not want the content: all accepted recipients share this reply. [`Self::MessageOver`] follows.
    ContentRefused(Reply),
    /// What the server says of the whole message: to SMTP, once for all accepted recipients; to LMTP, for each of them.
    Answer {
        /// Whom it is about (LMTP); nothing: all accepted recipients (SMTP).
        recipient: Option<usize>,
        /// A 2xx: the server is responsible for the message now.
        accepted: bool,
        /// With these words.
        reply: Reply,
    },
    /// The message is through, whatever became of it. The next one may begin if [`Client::is_reusable`].
    MessageOver,
    /// The reply to [`Client::reset`].
    Reset(Reply),
    /// The server said this without being asked, as `421` before it hangs up. Only QUIT is left.
    Unsolicited(Reply),
    /// The reply to QUIT. The session is over.
    Quit(Reply),
}

/// The server broke the protocol so that the session cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A reply that does not end.
    #[error(transparent)]
    Endless(#[from] EndlessReply),
    /// A success before the end of the content was sent: it cannot mean the message.
    #[error("the server accepted the message before it was sent: {0}")]
    EarlySuccess(String),
}

/// The session is not where it must be for this call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the SMTP session is {0}: it cannot take this now")]
pub struct OutOfOrder(Stage);

/// A command whose reply is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Greeting,
    Ehlo,
    Helo,
    Lhlo,
    StartTls,
    Auth,
    XForward,
    Mail,
    Rcpt(usize),
    Data,
    /// The end of the content, and for LMTP the recipient whose reply is meant.
    Content(Option<usize>),
    /// The end of an empty content, which goes out where DATA was accepted but no recipient.
    EmptyContent,
    /// Before the next message, since the last one broke off.
    RsetBetween,
    Rset,
    Quit,
}

/// What the session is doing when no reply is awaited.
#[derive(Debug)]
enum Phase {
    /// Waiting for replies to the greeting commands, STARTTLS, AUTH, RSET.
    Asking,
    Ready,
    /// The TLS handshake is the caller's.
    Handshake,
    Envelope(Envelope),
    /// The content is the caller's to send.
    Content(Envelope),
    /// Nothing more but QUIT.
    Over,
}

/// One session with one server.
#[derive(Debug)]
pub struct Client {
    options: Options,
    reader: ReplyReader,
    output: Vec<u8>,
    events: VecDeque<Event>,
    /// Commands on the way, each with its length in bytes.
    awaited: VecDeque<(Command, usize)>,
    awaited_bytes: usize,
    phase: Phase,
    extensions: Extensions,
    /// Replies that came while the content was sent.
    early: VecDeque<Reply>,
    needs_reset: bool,
    is_reusable: bool,
}

impl Client {
    /// A session whose connection has just been made: the server speaks first.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            reader: ReplyReader::default(),
            output: Vec::new(),
            events: VecDeque::new(),
            awaited: VecDeque::from([(Command::Greeting, 0)]),
            awaited_bytes: 0,
            phase: Phase::Asking,
            extensions: Extensions::default(),
            early: VecDeque::new(),
            needs_reset: false,
            is_reusable: true,
        }
    }

    /// What the server said, in pieces of any size.
    ///
    /// # Errors
    /// When the server broke the protocol; then the connection is to be closed.
    pub fn receive(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            if matches!(self.phase, Phase::Handshake) {
                // RFC 3207 section 6: what came in plain text behind the reply to STARTTLS may be an attacker's.
                return Ok(());
            }
            let (taken, reply) = self.reader.take(bytes)?;
            bytes = bytes.get(taken..).unwrap_or_default();
            if let Some(reply) = reply {
                self.take_reply(reply)?;
            }
        }
        Ok(())
    }

    /// What happened, the oldest first.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What is to be sent. At most [`PIPELINED_BYTES_MAX`] bytes and one command.
    #[must_use]
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// What is being waited for, or done.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match (self.awaited.front(), &self.phase) {
            (Some((command, _)), _) => Stage::of(*command),
            (None, Phase::Handshake) => Stage::Handshake,
            (None, Phase::Content(_)) => Stage::Content,
            (None, _) => Stage::Idle,
        }
    }

    /// What the server offers: as it said last.
    #[must_use]
    pub const fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// May the session be used for another message, as far as the dialogue tells?
    ///
    /// No after a `421`, after lines that were no replies, and while a message is under way.
    #[must_use]
    pub const fn is_reusable(&self) -> bool {
        self.is_reusable && matches!(self.phase, Phase::Ready)
    }

    /// A failure that the server announced while the content was being sent. If the connection is lost then, this is
    /// the answer to the message.
    #[must_use]
    pub fn early_failure(&self) -> Option<&Reply> {
        self.early.front()
    }

    /// Asks for TLS. Between messages only.
    ///
    /// # Errors
    /// When the session is not ready.
    pub fn start_tls(&mut self) -> Result<(), OutOfOrder> {
        self.ask(Command::StartTls, b"STARTTLS\r\n")
    }

    /// The handshake after [`Event::StartTls`] is done: the session begins anew, and what the server offered is
    /// forgotten.
    ///
    /// # Errors
    /// When no handshake was to come.
    pub fn tls_established(&mut self) -> Result<(), OutOfOrder> {
        if !matches!(self.phase, Phase::Handshake) {
            return Err(OutOfOrder(self.stage()));
        }
        self.reader = ReplyReader::default();
        self.extensions = Extensions::default();
        self.greet();
        Ok(())
    }

    /// Logs in with this mechanism, and with an initial response in base64 if there is one (RFC 4954).
    ///
    /// # Errors
    /// When the session is not ready.
    pub fn authenticate(&mut self, mechanism: &str, initial: Option<&str>) -> Result<(), OutOfOrder> {
        let line = match initial {
            // An empty response is written as `=`.
            Some("") => format!("AUTH {mechanism} =\r\n"),
            Some(response) => format!("AUTH {mechanism} {response}\r\n"),
            None => format!("AUTH {mechanism}\r\n"),
        };
        self.ask(Command::Auth, line.as_bytes())
    }

    /// Answers a challenge, in base64; `*` gives the log-in up.
    ///
    /// # Errors
    /// When no challenge was made.
    pub fn auth_response(&mut self, response: &str) -> Result<(), OutOfOrder> {
        self.ask(Command::Auth, format!("{response}\r\n").as_bytes())
    }

    /// Asks whether a session that was idle still serves.
    ///
    /// # Errors
    /// When the session is not ready.
    pub fn reset(&mut self) -> Result<(), OutOfOrder> {
        self.ask(Command::Rset, b"RSET\r\n")
    }

    /// Says good-bye. May be sent right behind the content, without waiting for its answer.
    pub fn quit(&mut self) {
        self.is_reusable = false;
        self.send(Command::Quit, b"QUIT\r\n");
    }

    fn ask(&mut self, command: Command, line: &[u8]) -> Result<(), OutOfOrder> {
        if !matches!(self.phase, Phase::Ready) {
            return Err(OutOfOrder(self.stage()));
        }
        self.phase = Phase::Asking;
        self.send(command, line);
        Ok(())
    }

    fn send(&mut self, command: Command, line: &[u8]) {
        self.output.extend_from_slice(line);
        self.awaited.push_back((command, line.len()));
        self.awaited_bytes = self.awaited_bytes.saturating_add(line.len());
    }

    fn greet(&mut self) {
        self.phase = Phase::Asking;
        let (command, word) = match (self.options.dialect, self.options.extended) {
            (Dialect::Smtp, true) => (Command::Ehlo, "EHLO"),
            (Dialect::Smtp, false) => (Command::Helo, "HELO"),
            (Dialect::Lmtp, _) => (Command::Lhlo, "LHLO"),
        };
        self.greet_with(command, word);
    }

    fn greet_with(&mut self, command: Command, word: &str) {
        let name: String = self
            .options
            .client_name
            .chars()
            .map(|letter| if letter.is_ascii_graphic() { letter } else { '?' })
            .collect();
        self.send(command, format!("{word} {name}\r\n").as_bytes());
    }

    fn take_reply(&mut self, reply: Reply) -> Result<(), Fault> {
        self.is_reusable &= reply.code != 421 && !reply.blemishes.foreign_lines;
        let Some((command, bytes)) = self.awaited.pop_front() else {
            return self.take_unasked(reply);
        };
        self.awaited_bytes = self.awaited_bytes.saturating_sub(bytes);
        match command {
            Command::Greeting if reply.is_success() => self.greet(),
            Command::Ehlo if !reply.is_success() && reply.code != 421 => {
                self.greet_with(Command::Helo, "HELO")
            }
            Command::Ehlo | Command::Lhlo | Command::Helo if reply.is_success() => {
                self.be_greeted(command, &reply)
            }
            Command::Greeting | Command::Ehlo | Command::Lhlo | Command::Helo => {
                self.phase = Phase::Over;
                self.events.push_back(Event::Refused { stage: Stage::of(command), reply });
            }
            Command::StartTls => {
                let accepted = reply.is_success();
                self.phase = if accepted { Phase::Handshake } else { Phase::Ready };
                self.events.push_back(if accepted { Event::StartTls } else { Event::StartTlsRefused(reply) });
            }
            Command::Auth => self.take_auth(reply),
            Command::Rset => {
                self.needs_reset = false;
                self.phase = if reply.is_success() { Phase::Ready } else { Phase::Over };
                self.events.push_back(Event::Reset(reply));
            }
            Command::Quit => {
                self.phase = Phase::Over;
                self.events.push_back(Event::Quit(reply));
            }
            Command::XForward
            | Command::RsetBetween
            | Command::Mail
            | Command::Rcpt(_)
            | Command::Data
            | Command::Content(_)
            | Command::EmptyContent => self.take_envelope_reply(command, reply),
        }
        Ok(())
    }

    fn be_greeted(&mut self, command: Command, reply: &Reply) {
        self.extensions = match command {
            Command::Helo => Extensions::named(reply),
            _ => Extensions::parse(reply, &self.options.hidden),
        };
        self.phase = Phase::Ready;
        self.events.push_back(Event::Ready);
    }

    fn take_auth(&mut self, reply: Reply) {
        self.phase = Phase::Ready;
        self.events.push_back(match reply.code / 100 {
            2 => Event::Authenticated,
            3 => Event::AuthChallenge(
                reply.lines.first().map(|line| Reply::words(line)).unwrap_or_default().to_owned(),
            ),
            _ => Event::AuthRefused(reply),
        });
    }

    fn take_unasked(&mut self, reply: Reply) -> Result<(), Fault> {
        match self.phase {
            Phase::Content(_) if reply.is_success() => Err(Fault::EarlySuccess(reply.text())),
            Phase::Content(_) => {
                // One answer is enough for SMTP, one a recipient for LMTP; a server that goes on and on has no use.
                if self.early.is_empty() {
                    self.early.push_back(reply);
                }
                Ok(())
            }
            _ => {
                self.is_reusable = false;
                self.phase = Phase::Over;
                self.events.push_back(Event::Unsolicited(reply));
                Ok(())
            }
        }
    }
}
