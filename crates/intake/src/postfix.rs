//! Postfix's cleanup(8), over its socket.
//!
//! The client sends content, sender, recipients; cleanup(8) wants to hear of sender and recipients first, and each
//! connection to it keeps one of its processes busy. So a message is kept here until the client has sent all of it (see
//! [`super::spill_buffer`]), and only then handed over. What cleanup(8) is told is what qmqpd(8) tells it, record by record.

use postfix::text::system_words;
use std::sync::Arc;

use cleanup::incoming::{Lines, is_storable, received, verp_sender};
use cleanup::{AddressKind, Arrival, Options, Origin};
use postfix::cleanup_dialogue::{
    Client as SentClient, Flags, Judgement, encode_arrival, encode_content_begin, encode_end,
    encode_recipient, encode_sender,
};
use postfix::notice::Severity;
use postfix::queue_id::QueueId;
use postfix::record::{RecordType, encode, encoded_len};
use postfix::settings::Settings;
use spool::Timestamp;

use super::arrival::arrival_of;
use super::cleanup_service::{CleanupService, CleanupServiceError, Dialogue};
use super::name::Name;
use super::needs::{Needs, PublicService, paths};
use super::piece::Piece;
use super::spill_buffer::{BYTES_IN_MEMORY_MAX, Reader, SpillBuffer, TemporaryFiles};
use super::{Receipt, Refusal};
use crate::date::DateFormat;
use daemon::jail;
use daemon::log::{Log, Program};

/// The way of [`super::Backend::Postfix`].
#[derive(Debug)]
pub struct Postfix {
    service: CleanupService,
    flags: Flags,
    options: Arc<Options>,
    dates: DateFormat,
    files: TemporaryFiles,
    log: Log,
}

/// A directory of the queue in which mail_owner may make files.
const TEMPORARY_DIRECTORY: &str = "incoming";

impl Postfix {
    /// A directory for what is too much for the memory, for a while. Each session has a socket, one to cleanup(8), one
    /// temporary file for content and one for recipients.
    pub(super) fn needs(settings: &Settings) -> Needs {
        let name = &settings.cleanup_service_name;
        Needs {
            jail: jail::Needs { spool_directories: paths(&[TEMPORARY_DIRECTORY]), ..jail::Needs::default() },
            sockets: vec![PublicService {
                name: name.clone(),
                parameter: "cleanup_service_name",
                purpose: "takes the mail",
                line: format!("{name} unix n - - - 0 cleanup"),
            }],
            descriptors_per_session: 4,
            keeps_journal: false,
        }
    }

    /// Paths are relative to the queue directory, which is the working directory. At most so many threads work on
    /// temporary files at a time.
    #[must_use]
    pub fn new(
        settings: &Settings,
        options: Arc<Options>,
        dates: DateFormat,
        threads: usize,
        log: Log,
    ) -> Self {
        let overrides = &settings.receive_override_options;
        let flags = Flags::of_qmqpd(
            overrides.contains("no_address_mappings"),
            overrides.contains("no_header_body_checks"),
            overrides.contains("no_milters"),
            options.smtputf8_autodetect,
        );
        let socket = format!("public/{}", settings.cleanup_service_name);
        // So many qmqpd(8) processes there could be in Postfix, and each would keep one cleanup(8) busy.
        let dialogues = usize::try_from(settings.default_process_limit).unwrap_or(usize::MAX);
        Self {
            service: CleanupService::new(socket, settings.ipc_timeout, dialogues, log.clone()),
            flags,
            options,
            dates,
            files: TemporaryFiles::new(TEMPORARY_DIRECTORY, threads),
            log,
        }
    }

    /// Begins a message. `arrived` is when the client connected.
    pub(super) fn open(self: &Arc<Self>, origin: Origin, arrived: Timestamp) -> Handoff {
        Handoff {
            arrival: arrival_of(String::new(), arrived, arrived, &self.dates),
            origin,
            lines: Lines::new(&self.options),
            content: SpillBuffer::default(),
            sender: Vec::new(),
            verp_delimiters: None,
            recipients: SpillBuffer::default(),
            recipients_count: 0,
            recipients_bytes: 0,
            first_recipient: Vec::new(),
            refusal: None,
            dialogue: None,
            way: Arc::clone(self),
        }
    }

    fn log_failure(&self, queue_id: Option<&QueueId>, failure: &CleanupServiceError) {
        let text = match queue_id {
            Some(queue_id) => format!("{queue_id}: {failure}"),
            None => failure.to_string(),
        };
        self.log.write(Program::Service, Severity::Warning, &text);
    }
}

/// One message that waits until it can be handed over.
#[derive(Debug)]
pub struct Handoff {
    way: Arc<Postfix>,
    arrival: Arrival,
    origin: Origin,
    lines: Lines,
    /// Records of the content, without our own Received: header.
    content: SpillBuffer,
    sender: Vec<u8>,
    verp_delimiters: Option<[u8; 2]>,
    /// Records of the recipients.
    recipients: SpillBuffer,
    recipients_count: u64,
    recipients_bytes: u64,
    first_recipient: Vec<u8>,
    /// What we found out by ourselves; nothing is kept of the message then.
    refusal: Option<Refusal>,
    dialogue: Option<Dialogue>,
}

impl Handoff {
    pub(super) async fn feed(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Content(bytes) => self.body(bytes).await,
            Piece::ContentEnd => self.end_of_body(),
            Piece::Sender(address) => self.sender(address),
            Piece::Recipient(address) => self.recipient(address).await,
        }
    }

    async fn body(&mut self, piece: &[u8]) {
        if self.refusal.is_some() {
            return;
        }
        let records = self.content.end();
        self.lines.push(piece, &mut |kind, data| encode(records, kind, data));
        self.settle().await;
    }

    fn end_of_body(&mut self) {
        let records = self.content.end();
        self.lines.finish(&mut |kind, data| encode(records, kind, data));
    }

    fn sender(&mut self, address: &[u8]) {
        if !is_storable(address) {
            return self.refuse(cleanup::Refusal::Address { kind: AddressKind::Sender }.into());
        }
        match verp_sender(address, &self.way.options.verp_delimiter_filter) {
            Ok((sender, delimiters)) => {
                self.sender = sender;
                self.verp_delimiters = delimiters;
            }
            Err(refusal) => self.refuse(refusal.into()),
        }
    }

    async fn recipient(&mut self, address: &[u8]) {
        if !is_storable(address) {
            self.refuse(cleanup::Refusal::Address { kind: AddressKind::Recipient }.into());
        }
        if self.refusal.is_some() {
            return;
        }
        if self.recipients_count == 0 {
            self.first_recipient = address.to_vec();
        }
        self.recipients_count = self.recipients_count.saturating_add(1);
        self.recipients_bytes = self.recipients_bytes.saturating_add(encoded_len(address.len()) as u64);
        let limit = self.way.options.message_size_limit;
        if limit > 0 && self.recipients_bytes > limit {
            // The content was measured as it came. Without this one client could fill the disk with recipients.
            return self.refuse(cleanup::Refusal::Size.into());
        }
        encode_recipient(self.recipients.end(), address);
        self.settle().await;
    }

    /// Now that the client has sent all of it, the message is worth a process of cleanup(8), which gives it its queue ID.
    pub(super) async fn complete(&mut self, name: &Name) -> Result<(), Refusal> {
        if let Some(refusal) = self.refusal.take() {
            return Err(refusal);
        }
        match self.way.service.begin().await {
            Ok(dialogue) => {
                name.give(*dialogue.queue_id(), &self.origin.log_origin, &self.way.log);
                self.arrival.queue_id = dialogue.queue_id().to_string();
                self.dialogue = Some(dialogue);
                Ok(())
            }
            Err(failure) => {
                if !matches!(failure, CleanupServiceError::Connect { .. }) {
                    self.way.log_failure(None, &failure);
                }
                Err(Refusal::Storage)
            }
        }
    }

    pub(super) async fn commit(mut self) -> Result<Receipt, Refusal> {
        // Without [`Self::complete`] no caller could take it.
        let Some(dialogue) = self.dialogue.take() else { return Err(Refusal::Storage) };
        let queue_id = *dialogue.queue_id();
        let way = Arc::clone(&self.way);
        match self.hand_over(dialogue).await {
            Ok(judgement) => Receipt::of_judgement(queue_id, judgement),
            Err(Stopped::Service(failure)) => {
                way.log_failure(Some(&queue_id), &failure);
                Err(Refusal::Storage)
            }
            Err(Stopped::Unanswered(failure)) => {
                way.log_failure(Some(&queue_id), &failure);
                Err(Refusal::Unknown)
            }
            Err(Stopped::File(error)) => {
                let text = format!("{queue_id}: {}", file_failure(&way, &error));
                way.log.write(Program::Service, Severity::Warning, &text);
                Err(Refusal::Storage)
            }
        }
    }

    /// Tells cleanup(8) everything, in its order.
    async fn hand_over(self, dialogue: Dialogue) -> Result<Judgement, Stopped> {
        let Self { way, arrival, origin, .. } = self;
        let mut outgoing = Outgoing { dialogue, buffer: Vec::new() };
        let out = &mut outgoing.buffer;
        way.flags.encode(out);
        encode_arrival(out, arrival.arrived.0, arrival.arrived.1, &way.options.content_filter);
        let client = SentClient {
            name: &origin.client_name,
            address: &origin.client_address,
            port: &origin.client_port,
            address_type: origin.address_family,
            log_origin: &origin.log_origin,
        };
        let verp_delimiters = self.verp_delimiters.as_ref().map(<[u8; 2]>::as_slice);
        encode_sender(out, &self.sender, verp_delimiters, &client);
        outgoing.send_all(self.recipients.into_reader(), &way.files).await?;
        let only_recipient = (self.recipients_count == 1).then_some(self.first_recipient.as_slice());
        encode_content_begin(&mut outgoing.buffer);
        for line in received(&way.options, &arrival, &origin, only_recipient) {
            encode(&mut outgoing.buffer, RecordType::NORMAL, &line);
        }
        outgoing.send_all(self.content.into_reader(), &way.files).await?;
        encode_end(&mut outgoing.buffer);
        outgoing.flush().await?;
        outgoing.dialogue.end().await.map_err(Stopped::Unanswered)
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.refusal.get_or_insert(refusal);
        self.content.clear();
        self.recipients.clear();
    }

    /// Keeps the memory of this message bounded.
    async fn settle(&mut self) {
        let content = self.content.settle(&self.way.files).await;
        let settled = match content {
            Ok(()) => self.recipients.settle(&self.way.files).await,
            failed => failed,
        };
        if let Err(error) = settled {
            self.way.log.write(Program::Service, Severity::Warning, &file_failure(&self.way, &error));
            self.refuse(Refusal::Storage);
        }
    }
}

fn file_failure(way: &Postfix, error: &std::io::Error) -> String {
    format!("temporary file in {}: {}", way.files.directory().display(), system_words(error))
}

/// Why a message could not be handed over.
#[derive(Debug)]
enum Stopped {
    /// cleanup(8) did not hear all of it, and removes what it heard.
    Service(CleanupServiceError),
    /// cleanup(8) heard all of it, and did not say what has become of it.
    Unanswered(CleanupServiceError),
    /// Our own disk.
    File(std::io::Error),
}

impl From<CleanupServiceError> for Stopped {
    fn from(failure: CleanupServiceError) -> Self {
        Self::Service(failure)
    }
}

impl From<std::io::Error> for Stopped {
    fn from(error: std::io::Error) -> Self {
        Self::File(error)
    }
}

/// Joins small pieces, so that an ordinary message is one write.
struct Outgoing {
    dialogue: Dialogue,
    buffer: Vec<u8>,
}

impl Outgoing {
    async fn send_all(&mut self, mut pieces: Reader, files: &TemporaryFiles) -> Result<(), Stopped> {
        while let Some(piece) = pieces.next(files).await? {
            if self.buffer.len().saturating_add(piece.len()) > BYTES_IN_MEMORY_MAX {
                self.flush().await?;
            }
            if piece.len() >= BYTES_IN_MEMORY_MAX {
                self.dialogue.send(&piece).await?;
            } else {
                self.buffer.extend_from_slice(&piece);
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), CleanupServiceError> {
        self.dialogue.send(&self.buffer).await?;
        self.buffer.clear();
        Ok(())
    }
}
