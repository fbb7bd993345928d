//! One message over one session.

use std::fs::File;

use delivery::dialogue::{Consequence, Scope};
use delivery::outcome::{Outcome, status};
use smtp::client::{Body, Event, Message, Notify, Recipient, Returned, Stage};
use smtp::command::{ForwardedClient, x_forward};
use smtp::content::Encoder;
use smtp::reply::Reply;

use super::Agent;
use super::book::{Book, Relay};
use super::connection::Broken;
use super::content::{Content, ContentError, PIECE_BYTES};
use super::session::{Loss, Session, handshake_failure};
use crate::request;

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The dialogue went to its end.
    Over,
    /// The connection broke before the server said anything about the message.
    Stale,
    /// The connection broke later, or is of no more use.
    Lost,
}

pub(super) struct Transaction<'a> {
    pub(super) agent: &'a Agent,
    pub(super) request: &'a request::Request,
    pub(super) file: &'a File,
    pub(super) relay: &'a str,
    /// No host is tried behind this one.
    pub(super) is_final: bool,
    /// Whom the message is for here, by their place in the request.
    pub(super) all: Vec<usize>,
    /// Those that the server took.
    pub(super) accepted: Vec<usize>,
    /// The server said something about the message.
    pub(super) has_heard: bool,
}

/// Why this message cannot go to this host, as far as its offers tell.
pub(super) fn refuses(session: &Session, request: &request::Request) -> Option<Box<Consequence>> {
    let offered = session.client.extensions();
    let own = |outcome, tries_next_host| {
        Some(Box::new(Consequence {
            scope: Scope::Message,
            tries_next_host,
            outcome,
            blames_destination: false,
            asks_for_less: false,
        }))
    };
    if let Some(limit) = offered.size_bytes_max.filter(|&limit| request.size_bytes > limit) {
        let words = format!(
            "message size {} exceeds size limit {limit} of server {}",
            request.size_bytes, session.peer
        );
        return own(Outcome::failed(status(5, 3, 4), words), false);
    }
    if request.is_smtp_utf8 && !offered.smtp_utf8 {
        let words = format!("SMTPUTF8 is required, but was not offered by host {}", session.peer);
        return own(Outcome::failed(status(5, 6, 7), words), true);
    }
    None
}

impl Transaction<'_> {
    pub(super) async fn run(&mut self, session: &mut Session, book: &mut Book<'_>) -> End {
        let Some(message) = self.message(session, book) else { return End::Lost };
        if session.client.begin(message).is_err() {
            return self.out_of_turn(session, book);
        }
        loop {
            let event = match session.event(&self.agent.settings.timeouts).await {
                Ok(event) => event,
                Err(loss) => return self.lost(loss, session, book),
            };
            self.has_heard = true;
            match event {
                Event::XForwardRefused(reply) => self.agent.warning(format!(
                    "{}: host {} said: {} (in reply to XFORWARD command)",
                    self.request.queue_id,
                    session.peer,
                    reply.text()
                )),
                Event::SenderRefused(reply) => {
                    let all = self.all.clone();
                    self.refused(Stage::Mail, &reply, &all, session, book);
                }
                Event::Recipient { index, accepted: true, .. } => {
                    self.accepted.extend(self.all.get(index).copied());
                }
                Event::Recipient { index, reply, .. } => {
                    let whom: Vec<usize> = self.all.get(index).copied().into_iter().collect();
                    self.refused(Stage::Rcpt, &reply, &whom, session, book);
                }
                Event::SendContent => {
                    if let Err(end) = self.send_content(session, book).await {
                        return end;
                    }
                }
                Event::ContentRefused(reply) => {
                    let accepted = self.accepted.clone();
                    self.refused(Stage::Data, &reply, &accepted, session, book);
                }
                Event::Answer { recipient, accepted, reply } => {
                    self.answered(recipient, accepted, &reply, session, book);
                }
                Event::MessageOver => return End::Over,
                Event::Unsolicited(reply) => {
                    let all = self.all.clone();
                    self.refused(Stage::Idle, &reply, &all, session, book);
                    return End::Lost;
                }
                _ => {}
            }
        }
    }

    /// The session was ready, and then the server said more: what it says is no reply to anything.
    fn out_of_turn(&self, session: &mut Session, book: &mut Book<'_>) -> End {
        if session.uses > 1 {
            return End::Stale;
        }
        let found = match session.client.next_event() {
            Some(Event::Unsolicited(reply)) if !reply.is_success() => {
                session.refused(Stage::Idle, &reply, &self.agent.settings)
            }
            Some(Event::Unsolicited(reply)) => {
                let words = format!("host {} speaks out of turn: {}", session.peer, reply.text());
                handshake_failure(Outcome::failed(status(4, 5, 0), words))
            }
            _ => session.lost(Loss { stage: Stage::Mail, how: Broken::Lost }, &self.agent.settings),
        };
        book.trouble(&found, &self.all, self.relay(session), self.is_final);
        End::Lost
    }

    /// The envelope as the machine wants it. A recipient that cannot be written in a command is refused here.
    fn message(&mut self, session: &Session, book: &mut Book<'_>) -> Option<Message> {
        let unsafe_address = |error: smtp::address::UnsafeAddress| {
            Outcome::failed(status(5, 1, 3), format!("bad address syntax: {error}"))
        };
        let request = self.request;
        let mut recipients = Vec::with_capacity(self.all.len());
        let mut kept = Vec::with_capacity(self.all.len());
        for &index in &self.all {
            let Some(wanted) = request.recipients.get(index) else { continue };
            match Recipient::new(&wanted.address) {
                Ok(mut recipient) => {
                    recipient.original = original(wanted);
                    recipient.notify = notify(wanted.notify);
                    recipients.push(recipient);
                    kept.push(index);
                }
                Err(error) => book.conclude(index, unsafe_address(error), Relay::default()),
            }
        }
        self.all = kept;
        if recipients.is_empty() {
            return None;
        }
        let mut message = match Message::new(&request.sender, recipients) {
            Ok(message) => message,
            Err(error) => {
                book.conclude_all(&unsafe_address(error), Relay::default());
                return None;
            }
        };
        message.size_bytes = Some(request.size_bytes);
        message.body = request.is_eight_bit.then_some(Body::EightBitMime);
        message.envelope_id.clone_from(&request.envelope_id);
        message.returned = request.returned.map(|returned| match returned {
            request::Returned::Whole => Returned::Full,
            request::Returned::Headers => Returned::Headers,
        });
        message.smtp_utf8 = request.is_smtp_utf8;
        if self.agent.settings.sends_x_forward {
            message.x_forward = self.x_forward(session);
        }
        Some(message)
    }

    fn x_forward(&self, session: &Session) -> Vec<Vec<u8>> {
        let client = &self.request.client;
        let known = |value: &'_ [u8]| !matches!(value, b"unknown" | b"[UNAVAILABLE]");
        let value = |value| if known(value) { value } else { &b""[..] };
        let forwarded = ForwardedClient {
            name: value(&client.name),
            addr: value(&client.address),
            port: value(&client.port),
            helo: value(&client.helo),
            proto: value(&client.protocol),
            ident: value(&client.log_ident),
            is_local: client.rewrite_context != b"remote",
        };
        x_forward(&forwarded, session.client.extensions())
    }

    fn relay(&self, session: &Session) -> Relay<'_> {
        Relay { host: Some(self.relay), uses: session.uses, reports: session.client.extensions().dsn }
    }

    fn refused(&self, stage: Stage, reply: &Reply, whom: &[usize], session: &Session, book: &mut Book<'_>) {
        let found = session.refused(stage, reply, &self.agent.settings);
        book.trouble(&found, whom, self.relay(session), self.is_final);
    }

    fn answered(
        &self,
        recipient: Option<usize>,
        accepted: bool,
        reply: &Reply,
        session: &Session,
        book: &mut Book<'_>,
    ) {
        let whom: Vec<usize> = match recipient {
            None => self.accepted.clone(),
            Some(index) => self.all.get(index).copied().into_iter().collect(),
        };
        if !accepted {
            return self.refused(Stage::EndOfContent, reply, &whom, session, book);
        }
        for index in whom {
            let mut outcome = Outcome::sent(reply.status, reply.text());
            outcome.remote_mta = Some(session.peer.name.clone());
            book.conclude(index, outcome, self.relay(session));
        }
    }

    fn lost(&self, loss: Loss, session: &Session, book: &mut Book<'_>) -> End {
        if session.uses > 1 && !self.has_heard {
            return End::Stale;
        }
        let found = session.lost(loss, &self.agent.settings);
        let left: Vec<usize> = self.all.iter().copied().filter(|index| book.left().contains(index)).collect();
        if !left.is_empty() {
            book.trouble(&found, &left, self.relay(session), self.is_final);
        }
        End::Lost
    }

    /// Sends the content. An error says how the transaction ended.
    async fn send_content(&self, session: &mut Session, book: &mut Book<'_>) -> Result<(), End> {
        let settings = &self.agent.settings;
        let mut encoder = Encoder::new(settings.line_bytes_max);
        let mut content = Content::new(self.file, &self.request.content);
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        loop {
            let more = content.lines(|line, is_complete| {
                encoder.line(line, is_complete, &mut piece);
                piece.len() >= PIECE_BYTES
            });
            match more {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Err(self.unreadable(&error, book)),
            }
            self.write(&piece, session, book).await?;
            piece.clear();
        }
        let finished = encoder.finish(&mut piece);
        if finished.has_cut {
            self.agent.info(format!(
                "{}: breaking line > {} bytes with <CR><LF>SPACE",
                self.request.queue_id, settings.line_bytes_max
            ));
        }
        self.write(&piece, session, book).await?;
        session.client.content_sent().map_err(|_| End::Lost)
    }

    async fn write(&self, piece: &[u8], session: &mut Session, book: &mut Book<'_>) -> Result<(), End> {
        let settings = &self.agent.settings;
        let Err(how) = session.stream.write(settings.timeouts.data_xfer, piece).await else { return Ok(()) };
        session.hear_last_words().await;
        let Some(reply) = session.client.early_failure().cloned() else {
            return Err(self.lost(Loss { stage: Stage::Content, how }, session, book));
        };
        self.refused(Stage::EndOfContent, &reply, &self.accepted, session, book);
        Err(End::Lost)
    }

    /// The content cannot be read: the connection is closed without its end, so that the server drops what it has.
    fn unreadable(&self, error: &ContentError, book: &mut Book<'_>) -> End {
        self.agent.warning(format!("{}: {error}", self.request.queue_id));
        if error.is_damage() {
            book.content_is_damaged();
        } else {
            let outcome = Outcome::failed(status(4, 3, 0), "queue file read error");
            book.conclude_all(&outcome, Relay::default());
        }
        End::Lost
    }
}

/// The original recipient for ORCPT: as it came with the message, or the address before it was rewritten.
fn original(recipient: &request::Recipient) -> Vec<u8> {
    if !recipient.dsn_original.is_empty() {
        return recipient.dsn_original.clone();
    }
    let address = if recipient.original.is_empty() { &recipient.address } else { &recipient.original };
    match smtp::address::quoted(address) {
        Ok(address) if address.is_ascii() => [&b"rfc822;"[..], &address].concat(),
        _ => Vec::new(),
    }
}

const fn notify(flags: u32) -> Notify {
    Notify { never: flags & 1 != 0, success: flags & 2 != 0, failure: flags & 4 != 0, delay: flags & 8 != 0 }
}
