//! One message through a session: which command comes next, and what a reply leads to.

use super::{Client, Command, Dialect, Event, OutOfOrder, PIPELINED_BYTES_MAX, Phase};
use crate::command::Message;
use crate::reply::Reply;

/// A message that is under way.
#[derive(Debug)]
pub(super) struct Envelope {
    message: Message,
    next: Next,
    sender_refused: bool,
    /// How many recipients have an answer.
    answered: usize,
    /// The recipients that the server took, in the order of their replies.
    accepted: Vec<usize>,
}

/// The next command to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    XForward(usize),
    Mail,
    /// This recipient; DATA behind the last one.
    Rcpt(usize),
    /// The reply to DATA decides.
    Nothing,
}

impl Client {
    /// Begins a message. One without recipients is over at once.
    ///
    /// # Errors
    /// When the session is not ready.
    pub fn begin(&mut self, message: Message) -> Result<(), OutOfOrder> {
        if !matches!(self.phase, Phase::Ready) {
            return Err(OutOfOrder(self.stage()));
        }
        let accepted = Vec::with_capacity(message.recipients.len());
        let next = if message.x_forward.is_empty() { Next::Mail } else { Next::XForward(0) };
        self.phase =
            Phase::Envelope(Envelope { message, next, sender_refused: false, answered: 0, accepted });
        if std::mem::take(&mut self.needs_reset) {
            self.send(Command::RsetBetween, b"RSET\r\n");
        }
        self.send_commands();
        self.end_if_lost();
        Ok(())
    }

    /// The content has been sent, with the dot that ends it.
    ///
    /// # Errors
    /// When no content was wanted.
    pub fn content_sent(&mut self) -> Result<(), OutOfOrder> {
        let Phase::Content(envelope) = std::mem::replace(&mut self.phase, Phase::Over) else {
            return Err(OutOfOrder(self.stage()));
        };
        match self.options.dialect {
            Dialect::Smtp => self.awaited.push_back((Command::Content(None), 0)),
            Dialect::Lmtp => {
                self.awaited
                    .extend(envelope.accepted.iter().map(|&index| (Command::Content(Some(index)), 0)));
            }
        }
        self.phase = Phase::Envelope(envelope);
        while let Some(reply) = self.early.pop_front() {
            if let Some((command, _)) = self.awaited.pop_front() {
                self.take_envelope_reply(command, reply);
            }
        }
        Ok(())
    }

    /// Sends what may be sent: one command without pipelining, else as many as the window takes.
    fn send_commands(&mut self) {
        while let Some((command, line, next)) = self.next_command() {
            let window = self.awaited_bytes.saturating_add(line.len());
            let must_wait = !self.extensions.pipelining || window > PIPELINED_BYTES_MAX;
            if must_wait && !self.awaited.is_empty() {
                return;
            }
            self.send(command, &line);
            if let Phase::Envelope(envelope) = &mut self.phase {
                envelope.next = next;
            }
        }
    }

    /// The next command with its line, and what comes behind it.
    fn next_command(&self) -> Option<(Command, Vec<u8>, Next)> {
        let Phase::Envelope(envelope) = &self.phase else { return None };
        if envelope.is_lost() {
            return None;
        }
        let Envelope { message, next, .. } = envelope;
        match *next {
            Next::XForward(index) => {
                let line = message.x_forward.get(index)?.clone();
                let more = index + 1 < message.x_forward.len();
                Some((Command::XForward, line, if more { Next::XForward(index + 1) } else { Next::Mail }))
            }
            Next::Mail => Some((Command::Mail, message.mail(&self.extensions), Next::Rcpt(0))),
            Next::Rcpt(index) => match message.recipients.get(index) {
                Some(recipient) => {
                    Some((Command::Rcpt(index), recipient.rcpt(&self.extensions), Next::Rcpt(index + 1)))
                }
                None => Some((Command::Data, b"DATA\r\n".to_vec(), Next::Nothing)),
            },
            Next::Nothing => None,
        }
    }

    /// A reply to a command of a message.
    pub(super) fn take_envelope_reply(&mut self, command: Command, reply: Reply) {
        let Phase::Envelope(envelope) = &mut self.phase else { return };
        let accepted = reply.is_success();
        match command {
            Command::XForward if !accepted => self.events.push_back(Event::XForwardRefused(reply)),
            Command::Mail if !accepted => {
                envelope.sender_refused = true;
                self.events.push_back(Event::SenderRefused(reply));
            }
            Command::Rcpt(index) if !envelope.sender_refused => {
                envelope.answered += 1;
                if accepted {
                    envelope.accepted.push(index);
                }
                self.events.push_back(Event::Recipient { index, accepted, reply });
            }
            Command::Data => return self.take_data_reply(reply),
            Command::Content(recipient) => {
                self.events.push_back(Event::Answer { recipient, accepted, reply });
                if !self.awaits_content_reply() {
                    self.end_message(false);
                }
                return;
            }
            Command::EmptyContent => return self.end_message(false),
            _ => {}
        }
        self.send_commands();
        self.end_if_lost();
    }

    fn take_data_reply(&mut self, reply: Reply) {
        let Phase::Envelope(envelope) = std::mem::replace(&mut self.phase, Phase::Over) else { return };
        let wants_content = reply.code / 100 == 3;
        match (wants_content, envelope.accepted.is_empty()) {
            (true, false) => {
                self.phase = Phase::Content(envelope);
                self.events.push_back(Event::SendContent);
            }
            (true, true) => {
                // DATA went out before the server had refused them all.
                self.phase = Phase::Envelope(envelope);
                self.send(Command::EmptyContent, b".\r\n");
            }
            (false, none_accepted) => {
                if !none_accepted {
                    self.events.push_back(Event::ContentRefused(reply));
                }
                self.end_message(true);
            }
        }
    }

    fn awaits_content_reply(&self) -> bool {
        matches!(self.awaited.front(), Some((Command::Content(_), _)))
    }

    /// Ends a message that was refused before DATA went out, once no reply is outstanding.
    fn end_if_lost(&mut self) {
        if let Phase::Envelope(envelope) = &self.phase
            && envelope.is_lost()
            && self.awaited.is_empty()
        {
            self.end_message(true);
        }
    }

    fn end_message(&mut self, needs_reset: bool) {
        self.needs_reset = needs_reset;
        self.phase = Phase::Ready;
        self.events.push_back(Event::MessageOver);
    }
}

impl Envelope {
    /// Is there no recipient left that could be delivered to? Then no command goes out any more.
    fn is_lost(&self) -> bool {
        let all_refused = self.answered == self.message.recipients.len() && self.accepted.is_empty();
        self.sender_refused || all_refused
    }
}
