//! Reports to senders: made from a log of reasons, and brought into the queue as any message is, without a sender.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use cleanup::Origin;
use daemon::service::now;
use delivery::failure_log::{Action, Entry, Reader as LogReader};
use delivery::report::{Kind, Original, Reader, Report};
use intake::{Backend, DateFormat, Handoff, Name, Piece};
use lookup::Asker;
use postfix::queue_file::reader::{Source, Walker};
use postfix::queue_id::QueueId;
use postfix::record::RecordType;
use spool::lease::ReasonLog;
use tokio::runtime::Handle;

use super::letter::Envelope;
use super::work::{Event, Message};
use crate::lines;
use crate::request::Returned;

/// Makes reports, beside the thread of the queue manager.
pub(super) struct Reporter {
    pub(super) runtime: Handle,
    pub(super) backend: Arc<Backend>,
    pub(super) dates: DateFormat,
    pub(super) hostname: String,
    pub(super) mail_name: String,
    /// With more bytes only the headers of a message are returned; 0: no limit.
    pub(super) bounce_size_max: u64,
    pub(super) events: Sender<Event>,
    /// Of which messages, and from which log.
    pub(super) under_way: HashMap<QueueId, ReasonLog>,
}

/// All that one report is made from.
struct Task {
    backend: Arc<Backend>,
    queue_id: QueueId,
    kind: Kind,
    envelope: Arc<Envelope>,
    file: Arc<OwnedFd>,
    reasons: File,
    hostname: String,
    mail_name: String,
    arrival_date: String,
    original: Original,
}

/// A report is asked for by no client.
#[derive(Debug)]
struct NoClient;

impl Asker for NoClient {
    fn has_left(&self) -> bool {
        false
    }
}

impl Reporter {
    /// Begins one; [`Event::Reported`] follows. There is none to the null sender.
    pub(super) fn begin(&mut self, message: &Message, kind: Kind, log: ReasonLog, reasons: OwnedFd) {
        let queue_id = *message.lease.queue_id();
        self.under_way.insert(queue_id, log);
        let events = self.events.clone();
        let envelope = Arc::clone(&message.envelope);
        if envelope.sender.is_empty() {
            let _thread_has_ended = events.send(Event::Reported { queue_id, result: Ok(None) });
            return;
        }
        let is_large = self.bounce_size_max > 0 && envelope.size_bytes > self.bounce_size_max;
        let wants_headers = kind != Kind::Failure || envelope.returned == Some(Returned::Headers);
        let task = Task {
            backend: Arc::clone(&self.backend),
            queue_id,
            kind,
            file: Arc::clone(&message.file),
            reasons: reasons.into(),
            hostname: self.hostname.clone(),
            mail_name: self.mail_name.clone(),
            arrival_date: self.dates.rfc5322(envelope.arrival.seconds),
            original: if is_large || wants_headers { Original::Headers } else { Original::Whole },
            envelope,
        };
        self.runtime.spawn(async move {
            let result = task.run().await;
            let _thread_has_ended = events.send(Event::Reported { queue_id, result });
        });
    }

    /// It has ended: which log it was made from.
    pub(super) fn ended(&mut self, queue_id: &QueueId) -> Option<ReasonLog> {
        self.under_way.remove(queue_id)
    }
}

impl Task {
    /// The report's queue ID; nothing when no recipient is to be told of.
    async fn run(self) -> Result<Option<QueueId>, String> {
        let words = |error: io::Error| format!("read the log of reasons: {error}");
        if !self.has_entries().map_err(words)? {
            return Ok(None);
        }
        let sender = lines::shown(&self.envelope.sender);
        let queue_id = self.queue_id.to_string();
        let envelope_id = String::from_utf8_lossy(&self.envelope.envelope_id).into_owned();
        let report = Report {
            kind: self.kind,
            reader: Reader::Sender,
            recipient: &sender,
            hostname: &self.hostname,
            mail_name: &self.mail_name,
            queue_id: &queue_id,
            sender: &sender,
            envelope_id: Some(envelope_id.as_str()).filter(|id| !id.is_empty()),
            message_id: None,
            arrival_date: &self.arrival_date,
            retry_until: None,
            now: now().seconds,
            is_eight_bit: self.envelope.is_eight_bit || self.envelope.is_smtp_utf8,
            is_smtp_utf8: self.envelope.is_smtp_utf8,
            original: self.original,
        };
        let name = Name::default();
        let mut handoff = self
            .backend
            .open(origin(), now(), Arc::new(NoClient), &name)
            .await
            .map_err(|refusal| refusal.to_string())?;
        feed(&mut handoff, &report.begin()).await;
        self.feed_entries(&mut handoff, |entry| report.explain(entry)).await.map_err(words)?;
        feed(&mut handoff, &report.begin_status()).await;
        self.feed_entries(&mut handoff, |entry| report.status_fields(entry)).await.map_err(words)?;
        feed(&mut handoff, &report.begin_original()).await;
        self.feed_original(&mut handoff).await?;
        feed(&mut handoff, &report.end()).await;
        handoff.feed(Piece::ContentEnd).await;
        handoff.feed(Piece::Sender(b"")).await;
        handoff.feed(Piece::Recipient(&self.envelope.sender)).await;
        handoff.complete(&name).await.map_err(|refusal| refusal.to_string())?;
        let receipt = handoff.commit().await.map_err(|refusal| refusal.to_string())?;
        Ok(Some(*receipt.queue_id()))
    }

    fn is_wanted(&self, entry: &Entry) -> bool {
        const SUCCESS: u32 = 2;
        const FAILURE: u32 = 4;
        const DELAY: u32 = 8;
        let wanted = match self.kind {
            Kind::Failure => FAILURE,
            Kind::Delay => DELAY,
            Kind::Success => SUCCESS,
        };
        let is_default = self.kind != Kind::Success;
        if entry.notify == 0 { is_default } else { entry.notify & wanted != 0 }
    }

    fn has_entries(&self) -> io::Result<bool> {
        let mut has = false;
        self.each_piece(|entries| has |= entries.iter().any(|entry| self.is_wanted(entry)))?;
        Ok(has)
    }

    fn each_piece(&self, mut take: impl FnMut(&[Entry])) -> io::Result<()> {
        let mut pieces = Pieces::new(&self.reasons);
        while let Some(entries) = pieces.next()? {
            take(&entries);
        }
        Ok(())
    }

    async fn feed_entries(&self, handoff: &mut Handoff, text: impl Fn(&Entry) -> String) -> io::Result<()> {
        let mut pieces = Pieces::new(&self.reasons);
        while let Some(entries) = pieces.next()? {
            let text: String = entries.iter().filter(|entry| self.is_wanted(entry)).map(&text).collect();
            feed(handoff, &text).await;
        }
        Ok(())
    }

    async fn feed_original(&self, handoff: &mut Handoff) -> Result<(), String> {
        let mut walker = Walker::new(OfFile(&self.file));
        walker.seek(self.envelope.content.start);
        let mut begins_line = true;
        loop {
            let record = walker.next().map_err(|error| format!("read the message: {error}"))?;
            let Some(record) = record else { return Ok(()) };
            let line_ends = match record.kind {
                RecordType::NORMAL => true,
                RecordType::PARTIAL => false,
                RecordType::EXTRACTED => return Ok(()),
                _ => continue,
            };
            if begins_line && line_ends && record.data.is_empty() && self.original == Original::Headers {
                return Ok(());
            }
            begins_line = line_ends;
            let mut text = record.data.to_vec();
            if line_ends {
                text.push(b'\n');
            }
            handoff.feed(Piece::Content(&text)).await;
        }
    }
}

async fn feed(handoff: &mut Handoff, text: &str) {
    if !text.is_empty() {
        handoff.feed(Piece::Content(text.as_bytes())).await;
    }
}

/// Who brings a report: this system.
fn origin() -> Origin {
    Origin {
        client_name: "localhost".into(),
        client_address: "127.0.0.1".into(),
        client_port: "0".into(),
        address_family: 2,
        log_origin: "localhost[127.0.0.1]".into(),
        protocol: "BOUNCE",
    }
}

/// The entries of a log, a piece of the file at a time.
struct Pieces<'f> {
    file: &'f File,
    at: u64,
    reader: Option<LogReader>,
}

impl<'f> Pieces<'f> {
    const fn new(file: &'f File) -> Self {
        Self { file, at: 0, reader: Some(LogReader::new(Action::Failed)) }
    }

    fn next(&mut self) -> io::Result<Option<Vec<Entry>>> {
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let mut piece = [0; 16_384];
        let count = self.file.read_at(&mut piece, self.at)?;
        let mut entries = Vec::new();
        if count == 0 {
            entries.extend(self.reader.take().and_then(LogReader::finish));
        } else {
            self.at = self.at.saturating_add(count as u64);
            reader.take(piece.get(..count).unwrap_or_default(), |entry| entries.push(entry));
        }
        Ok(Some(entries))
    }
}

struct OfFile<'f>(&'f OwnedFd);

impl Source for OfFile<'_> {
    type Error = io::Error;

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| rustix::io::pread(self.0, &mut *buffer, offset))?)
    }
}
