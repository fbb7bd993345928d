//! One message to a QMQP server, with all its recipients, for one reply.

use std::fs::File;
use std::time::Instant;

use delivery::nexthop;
use delivery::outcome::{Diagnostic, Outcome, Peer, Status, status};
use postfix::text::system_words;
use qmqp::client::{CLOSING, ReplyReader};
use qmqp::netstring;
use qmqp::reply::printable;

use super::Agent;
use super::book::{Book, Relay, Report};
use super::connection::{self, Broken, Stream};
use super::content::{Content, ContentError, PIECE_BYTES};
use super::targets::{self, HostAddress};
use crate::request::{Finished, Request};

pub(super) async fn deliver<'a>(
    agent: &'a Agent,
    request: &'a Request,
    file: &'a File,
    report: &'a mut Report<'a>,
) -> Finished {
    let mut book = Book::new(agent, request, report);
    if let Some((stream, peer)) = connect(agent, request, &mut book).await {
        book.ready = Some(Instant::now());
        let relay = peer.relay();
        let relay = Relay { host: Some(&relay), ..Relay::default() };
        let mut dialogue = Dialogue { agent, request, file, peer: &peer, stream };
        match dialogue.run().await {
            Ok(outcome) => book.conclude_all(&outcome, relay),
            Err(End::Broken(outcome)) => {
                book.blame(&outcome);
                book.conclude_all(&outcome, relay);
            }
            Err(End::Own(outcome)) => book.conclude_all(&outcome, relay),
            Err(End::Content(error)) => {
                agent.warning(format!("{}: {error}", request.queue_id));
                if error.is_damage() {
                    book.content_is_damaged();
                } else {
                    let outcome = Outcome::failed(status(4, 3, 0), "queue file read error");
                    book.conclude_all(&outcome, Relay::default());
                }
            }
        }
    }
    book.finish()
}

/// The first server that can be reached. None: the recipients have their outcome.
async fn connect(agent: &Agent, request: &Request, book: &mut Book<'_>) -> Option<(Stream, Peer)> {
    let mut last = Outcome::failed(status(4, 3, 5), "the next-hop names no server");
    match nexthop::direct(&request.nexthop) {
        Err(error) => last.reason = error.to_string(),
        Ok(members) => {
            for member in &members {
                match targets::find(member, &agent.names, &agent.settings).await {
                    Err(outcome) => last = outcome,
                    Ok(targets) => {
                        for target in targets {
                            let connected = match &target.place {
                                HostAddress::Tcp(address) => connection::tcp(*address, &agent.settings).await,
                                HostAddress::Unix(path) => connection::unix(path, &agent.settings).await,
                            };
                            match connected {
                                Ok(stream) => return Some((stream, target.peer)),
                                Err(error) => last = unreachable(agent, &target.peer, &error),
                            }
                        }
                    }
                }
            }
        }
    }
    if last.status.class == 4 && last.status != status(4, 3, 5) {
        book.blame(&last);
    }
    book.conclude_all(&last, Relay::default());
    None
}

fn unreachable(agent: &Agent, peer: &Peer, error: &std::io::Error) -> Outcome {
    let place = peer.port.map_or_else(|| peer.to_string(), |port| format!("{peer}:{port}"));
    let words = format!("connect to {place}: {}", system_words(error));
    agent.info(words.clone());
    Outcome::failed(status(4, 4, 1), words)
}

/// Why there is no reply to go by.
enum End {
    /// The destination is to blame.
    Broken(Outcome),
    /// The message cannot be sent.
    Own(Outcome),
    /// The content cannot be read.
    Content(ContentError),
}

struct Dialogue<'a> {
    agent: &'a Agent,
    request: &'a Request,
    file: &'a File,
    peer: &'a Peer,
    stream: Stream,
}

impl Dialogue<'_> {
    async fn run(&mut self) -> Result<Outcome, End> {
        let head = self.head()?;
        self.send(&head).await?;
        let mut content = Content::new(self.file, &self.request.content);
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        loop {
            let more = content.lines(|line, is_complete| {
                piece.extend_from_slice(line);
                if is_complete {
                    piece.push(b'\n');
                }
                piece.len() >= PIECE_BYTES
            });
            let more = more.map_err(End::Content)?;
            self.send(&piece).await?;
            piece.clear();
            if !more {
                break;
            }
        }
        piece.push(b',');
        netstring::encode(&self.request.sender, &mut piece);
        for recipient in &self.request.recipients {
            netstring::encode(&recipient.address, &mut piece);
            if piece.len() >= PIECE_BYTES {
                self.send(&piece).await?;
                piece.clear();
            }
        }
        piece.extend_from_slice(CLOSING);
        self.send(&piece).await?;
        self.reply().await
    }

    /// The lengths, which stand in front: the content is read once for its own.
    fn head(&self) -> Result<Vec<u8>, End> {
        let mut content = Content::new(self.file, &self.request.content);
        let mut bytes = 0_u64;
        let count = |line: &[u8], is_complete| {
            let len = u64::try_from(line.len()).unwrap_or(u64::MAX);
            bytes = bytes.saturating_add(len).saturating_add(u64::from(is_complete));
            false
        };
        content.lines(count).map_err(End::Content)?;
        let len = |text: &[u8]| u64::try_from(text.len()).unwrap_or(u64::MAX);
        let mut request = qmqp::client::Request::new(bytes, len(&self.request.sender));
        for recipient in &self.request.recipients {
            request = request.and_then(|request| request.with_recipient(len(&recipient.address)));
        }
        let request =
            request.map_err(|error| End::Own(Outcome::failed(status(5, 3, 4), error.to_string())))?;
        Ok(request.head())
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), End> {
        let limit = self.agent.settings.timeouts.data_xfer;
        let sent = self.stream.write(limit, bytes).await;
        sent.map_err(|how| self.broken(how, "sending the message"))
    }

    async fn reply(&mut self) -> Result<Outcome, End> {
        let limit = self.agent.settings.timeouts.data_done;
        let since = Instant::now();
        let mut reader = ReplyReader::new();
        let mut input = Vec::new();
        let place = "waiting for the reply -- message may be sent more than once";
        loop {
            let left = limit.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Err(self.broken(Broken::TimedOut, place));
            }
            input.clear();
            let read = self.stream.read(left, &mut input).await;
            read.map_err(|how| self.broken(how, place))?;
            match reader.next(&mut input.as_slice()) {
                Ok(None) => {}
                Ok(Some(reply)) => return Ok(self.outcome(&reply)),
                Err(fault) => {
                    let words = format!("host {}: {fault}", self.peer);
                    return Err(End::Broken(Outcome::failed(status(4, 5, 0), words)));
                }
            }
        }
    }

    fn outcome(&self, reply: &qmqp::client::Reply) -> Outcome {
        let text = printable(&reply.text);
        let class = match reply.status {
            qmqp::reply::Status::Queued => 2,
            qmqp::reply::Status::Temporary => 4,
            qmqp::reply::Status::Permanent => 5,
        };
        let code = Status::parse(text.as_bytes())
            .filter(|found| found.class == class)
            .unwrap_or_else(|| status(class, 0, 0));
        let mut outcome = if class == 2 {
            Outcome::sent(code, text)
        } else {
            let mut outcome = Outcome::failed(code, format!("host {} said: {text}", self.peer));
            outcome.diagnostic = Some(Diagnostic { kind: "x-qmqp".into(), text });
            outcome
        };
        outcome.remote_mta = Some(self.peer.name.clone());
        outcome
    }

    fn broken(&self, how: Broken, doing: &str) -> End {
        let words = match how {
            Broken::Lost => format!("lost connection with {} while {doing}", self.peer),
            Broken::TimedOut => format!("conversation with {} timed out while {doing}", self.peer),
        };
        End::Broken(Outcome::failed(status(4, 4, 2), words))
    }
}
