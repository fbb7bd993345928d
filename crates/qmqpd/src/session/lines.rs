//! Every line that a session writes, in one place: log analysers read these, so they are Postfix's words.

use std::sync::atomic::{AtomicBool, Ordering};

use postfix::notice::{Notice, Severity};
use postfix::queue_id::QueueId;
use qmqp::reply::Status;
use qmqp::server::Event;

use crate::client::Client;
use crate::peer;
use crate::verdict::Verdict;
use daemon::log::{Log, Program};
use daemon::peer_address::PeerAddress;
use daemon::service::QuotaGuard;
use intake::Name;

/// The lines of one session.
#[derive(Debug)]
pub struct SessionLog<'s> {
    log: &'s Log,
    client: &'s str,
    /// From `debug_peer_level`: 0 for most clients, 1 shows decisions, 2 shows the protocol.
    verbosity: u32,
    quota_guard: &'s QuotaGuard<'s>,
    has_message: AtomicBool,
    name: Name,
}

impl<'s> SessionLog<'s> {
    /// A log for the session of this client. A silent voice holds back what is no message, unless the session is to be
    /// shown in detail.
    #[must_use]
    pub fn new(log: &'s Log, client: &'s Client, verbosity: u32, quota_guard: &'s QuotaGuard<'s>) -> Self {
        Self {
            log,
            client: &client.shown,
            verbosity,
            quota_guard,
            has_message: AtomicBool::new(false),
            name: Name::default(),
        }
    }

    /// The client is there, and its name is known.
    pub fn connect(&self) {
        self.info(&format!("connect from {}", self.client));
    }

    /// The last line of every session.
    pub fn disconnect(&self) {
        self.info(&format!("disconnect from {}", self.client));
    }

    /// There is a message: from here on the session is logged in any case.
    pub fn begin_message(&self) {
        let has_begun = self.has_message.swap(true, Ordering::Relaxed);
        if !has_begun && self.quota_guard.has_message() && self.verbosity == 0 {
            self.connect();
        }
    }

    /// The queue ID of the message, once it has one: every later line carries it.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// How the session ended, if that is worth a line.
    pub fn verdict(&self, verdict: &Verdict) {
        if let Some((severity, text)) = &verdict.log {
            self.about_message(*severity, text);
        }
    }

    /// The client did not take our reply: in time, or at all.
    pub fn reply_lost(&self, took_too_long: bool) {
        let problem = if took_too_long { "read/write timeout" } else { "lost connection" };
        let step = match self.name.get() {
            Some(_) => "sending completion status",
            None => "initializing client connection",
        };
        self.about_message(Severity::Info, &format!("{problem} while {step}"));
    }

    /// With `debug_peer_level`: what the client sent.
    pub fn event(&self, event: &Event<'_>) {
        if !self.shows_protocol() {
            return;
        }
        match event {
            Event::Begin { bytes } | Event::ContentBegin { bytes } => {
                self.info(&format!("netstring_get_length: read netstring length {bytes}"));
            }
            Event::Content(data) => self.data(data),
            Event::Sender(data) | Event::Recipient(data) => {
                self.info(&format!("netstring_get_length: read netstring length {}", data.len()));
                self.data(data);
            }
            Event::ContentEnd | Event::End => {}
        }
    }

    fn data(&self, data: &[u8]) {
        let shown = data.get(..SHOWN_DATA_BYTES_MAX).unwrap_or(data);
        self.info(&format!("netstring_get_data: read netstring data {}", String::from_utf8_lossy(shown)));
    }

    /// With `debug_peer_level`: what the client hears.
    pub fn reply(&self, status: Status, text: &str) {
        if self.shows_protocol() {
            let payload = format!("{}{text}", char::from(status.letter()));
            let bytes = payload.len();
            let data: String = payload.chars().take(SHOWN_DATA_BYTES_MAX).collect();
            self.info(&format!("netstring_put: write netstring len {bytes} data {data}"));
        }
    }

    /// Whether what client and server say is shown.
    #[must_use]
    pub const fn shows_protocol(&self) -> bool {
        self.verbosity >= PROTOCOL_VERBOSITY
    }

    /// How much of this session is shown.
    #[must_use]
    pub const fn verbosity(&self) -> u32 {
        self.verbosity
    }

    /// A line of its own words, from a match list or table.
    pub fn notice(&self, notice: &Notice) {
        self.write(notice.severity, &notice.text);
    }

    fn about_message(&self, severity: Severity, text: &str) {
        let queue_id = self.name.get().map_or(NO_QUEUE_ID, QueueId::as_str);
        self.write(severity, &format!("{queue_id}: {}: {text}", self.client));
    }

    fn info(&self, text: &str) {
        self.write(Severity::Info, text);
    }

    fn write(&self, severity: Severity, text: &str) {
        if self.verbosity > 0 || !self.quota_guard.is_silent() {
            self.log.write(Program::Service, severity, text);
        }
    }
}

/// The lines of a client that was answered this at once, by a process that looks up no name.
pub(crate) fn refused(address: PeerAddress, verdict: &Verdict) -> Vec<Notice> {
    let Client { shown, .. } = Client::new(address, &peer::Name::Unknown, false);
    let mut lines = vec![Notice::info(format!("connect from {shown}"))];
    if let Some((severity, text)) = &verdict.log {
        let text = format!("{NO_QUEUE_ID}: {shown}: {text}");
        lines.push(Notice { severity: *severity, ..Notice::info(text) });
    }
    lines.push(Notice::info(format!("disconnect from {shown}")));
    lines
}

/// What stands for the queue ID as long as there is none.
const NO_QUEUE_ID: &str = "NOQUEUE";
/// From this `debug_peer_level` on the protocol itself is shown.
const PROTOCOL_VERBOSITY: u32 = 2;
/// As much of a netstring as Postfix shows.
const SHOWN_DATA_BYTES_MAX: usize = 30;
