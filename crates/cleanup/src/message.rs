//! A message on its way into a queue file.

use std::sync::Arc;

use postfix::notice::Notice;
use postfix::record::{RecordType, encode, encoded_len};

use crate::envelope::Envelope;
use crate::generated;
use crate::header::{self, Addresses, Known, Seen, name_len};
use crate::incoming::Lines;
use crate::mime::{Parser, Receiver, Section};
use crate::options::{Arrival, Options, Origin};
use crate::printable::printable;
use crate::refusal::Refusal;

/// Bytes of the size record that a queue file begins with.
const SIZE_RECORD_LEN: u64 = encoded_len(95) as u64;
/// Bytes of the records `M`, `X` and `E`, which have no data.
const MARKER_LEN: u64 = encoded_len(0) as u64;
/// Columns of a pointer or of a time in a queue file.
const NUMBER_LEN: usize = 15;
/// Bytes of the record that keeps the place of a From: header.
const SLOT_LEN: u64 = encoded_len(NUMBER_LEN) as u64;

/// One message that is being received: content, then sender, then recipients, then [`Message::finish`].
///
/// Memory: one line, one header, boundary strings, and the recipients that the duplicate filter remembers; nothing
/// grows with the content. Once the message is refused ([`Message::refusal_so_far`]) nothing more is written, but
/// input may still be given.
#[derive(Debug)]
pub struct Message {
    lines: Lines,
    parser: Parser,
    content: Content,
    envelope: Envelope,
    origin: Origin,
}

/// What [`Message::finish`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What is to be logged whether the message is accepted or not, in this order. Complete lines: the queue ID stands
    /// in the text where Postfix puts it. No control characters.
    pub notices: Vec<Notice>,
    /// The message, or why it is refused.
    pub result: Result<Finished, Refusal>,
}

/// The parts of a queue file that are known only at the end. Sequences of encoded records, but without the records
/// `C`, `M`, `X` and `E`, which depend on the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Before the first recipient: `T`, `A create_time`, perhaps `L`, `S`, perhaps `V`, ten attributes, perhaps `W`.
    pub envelope: Vec<u8>,
    /// Our Received: header, which stands before the content.
    pub received: Vec<u8>,
    /// Offset in the content of the place that was kept for a From: header (one `p` record, 17 bytes), and the records
    /// that belong there. `None` if the message had one.
    pub from: Option<(u64, Vec<u8>)>,
    /// Behind the record `X`: attributes, automatic recipients.
    pub extracted: Vec<u8>,
    /// `R` records, duplicates not counted, automatic recipients counted.
    pub recipient_count: u64,
    /// Flags for the queue manager in the size record; mail received by QMQP never has any.
    pub qmgr_flags: u32,
    /// Send options in the size record: 1 SMTPUTF8 requested, 2 8-bit header, 4 UTF-8 sender.
    pub send_options: u32,
}

impl Message {
    /// A message that begins now.
    #[must_use]
    pub fn new(options: Arc<Options>, arrival: Arrival, origin: Origin) -> Self {
        Self {
            lines: Lines::new(&options),
            parser: Parser::new(Arc::clone(&options)),
            envelope: Envelope::new(Arc::clone(&options)),
            content: Content::new(options, arrival),
            origin,
        }
    }

    /// Takes the next bytes of the content as the client sent them, in pieces of any size, and appends records to
    /// `out`; the records are the same for every split. The caller may take bytes out of `out` between calls.
    pub fn content_bytes(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Self { lines, parser, content, .. } = self;
        let mut output = Output::new(content, out);
        lines.push(bytes, &mut |kind, data| output.record(parser, kind, data));
        output.count();
    }

    /// Takes one record of content, as qmqpd(8) sends it to cleanup(8): [`RecordType::NORMAL`] for a line or its end,
    /// [`RecordType::PARTIAL`] for a piece that is not the end. For callers that have records already; the first one
    /// must not begin with a blank or TAB. Use either this or [`Message::content_bytes`].
    pub fn content(&mut self, kind: RecordType, data: &[u8], out: &mut Vec<u8>) {
        let mut output = Output::new(&mut self.content, out);
        output.record(&mut self.parser, kind, data);
        output.count();
    }

    /// The content is complete.
    pub fn end_of_content(&mut self, out: &mut Vec<u8>) {
        let Self { lines, parser, content, .. } = self;
        let mut output = Output::new(content, out);
        lines.finish(&mut |kind, data| output.record(parser, kind, data));
        parser.finish(&mut output);
        output.count();
    }

    /// Takes the sender, as the client sent it; once.
    pub fn sender(&mut self, raw: &[u8]) {
        self.envelope.set_sender(raw, &self.content.arrival.queue_id);
    }

    /// Takes a recipient, as the client sent it, and appends its records to `out`, or nothing if it is a duplicate.
    pub fn recipient(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        self.envelope.add_recipient(raw, out);
    }

    /// Why the message will be refused, as far as is known: the caller need not keep what it has written.
    #[must_use]
    pub fn refusal_so_far(&self) -> Option<Refusal> {
        let bytes = self.content.bytes.saturating_add(self.envelope.recipient_bytes);
        if self.envelope.refusal.is_some() {
            self.envelope.refusal.clone()
        } else if self.exceeds_limit(bytes) {
            Some(Refusal::Size)
        } else {
            self.content.hops_exceeded.then_some(Refusal::Hops)
        }
    }

    /// The message is complete.
    #[must_use]
    pub fn finish(mut self) -> Outcome {
        if let Some(refusal @ (Refusal::Verp { .. } | Refusal::Address { .. })) = self.envelope.refusal.take()
        {
            return Outcome { notices: Vec::new(), result: Err(refusal) };
        }
        let received = self.received();
        let from = self.content.slot.map(|offset| (offset, self.from()));
        let envelope = self.envelope_records();
        let extracted = self.extracted();
        let slot = from.as_ref().map_or(0, |_| SLOT_LEN);
        let from_len = from.as_ref().map_or(0, |(_, records)| records.len() as u64);
        let mut bytes = self.content.bytes.saturating_sub(slot).saturating_add(self.envelope.recipient_bytes);
        for len in [envelope.len() as u64, received.len() as u64, from_len, extracted.len() as u64] {
            bytes = bytes.saturating_add(len);
        }
        bytes = bytes.saturating_add(SIZE_RECORD_LEN).saturating_add(3 * MARKER_LEN);

        let queue_id = &self.content.arrival.queue_id;
        let mut notices = std::mem::take(&mut self.envelope.notices);
        notices.append(&mut self.content.notices);
        let refusal = if self.exceeds_limit(bytes) {
            notices.push(Notice::warning(format!("{queue_id}: queue file size limit exceeded")));
            Some(Refusal::Size)
        } else if self.content.hops_exceeded {
            notices.push(Notice::warning(format!("{queue_id}: message rejected: hopcount exceeded")));
            Some(Refusal::Hops)
        } else {
            (self.envelope.received_count == 0).then_some(Refusal::NoRecipients)
        };
        let result = refusal.map_or_else(
            || {
                Ok(Finished {
                    envelope,
                    received,
                    from,
                    extracted,
                    recipient_count: self.envelope.written_count,
                    qmgr_flags: 0,
                    send_options: self.send_options(),
                })
            },
            Err,
        );
        Outcome { notices, result }
    }

    fn exceeds_limit(&self, bytes: u64) -> bool {
        let limit = self.content.options.message_size_limit;
        limit != 0 && bytes > limit
    }

    fn received(&mut self) -> Vec<u8> {
        let Self { content, envelope, origin, .. } = self;
        let recipient = (envelope.received_count == 1).then_some(envelope.first_recipient.as_slice());
        let mut lines =
            generated::received(&content.options, &content.arrival, origin, recipient).into_iter();
        let mut header = lines.next().unwrap_or_default();
        for line in lines {
            if header.len() < content.options.header_size_limit {
                header.push(b'\n');
                header.extend_from_slice(&line);
            }
        }
        let mut records = Vec::new();
        if !content.is_dropped(b"received") {
            content.write_header(&header, &mut records);
        }
        records
    }

    /// Observed on Postfix 3.7: this header does not count as an 8-bit header, whatever the sender is.
    fn from(&self) -> Vec<u8> {
        let header = generated::from(self.content.prefix(), &self.envelope.sender);
        let mut records = Vec::new();
        header::write_line(&header, self.content.options.line_length_limit, &mut records);
        records
    }

    fn envelope_records(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        let Self { content: Content { options, arrival, .. }, envelope, origin, .. } = self;
        let mut record = |kind, data: &[u8]| encode(&mut records, kind, data);
        let (seconds, microseconds) = arrival.arrived;
        record(RecordType::TIME, format!("{seconds} {microseconds}").as_bytes());
        record(RecordType::ATTRIBUTE, format!("create_time={}", arrival.created.0).as_bytes());
        if !options.content_filter.is_empty() {
            record(RecordType::FILTER, options.content_filter.as_bytes());
        }
        record(RecordType::SENDER, &envelope.sender);
        if let Some(delimiters) = envelope.verp_delimiters {
            record(RecordType::VERP, &delimiters);
        }
        let (literal, family) = (origin.literal(), origin.address_family.to_string());
        for (name, value) in [
            ("log_client_name", origin.client_name.as_str()),
            ("log_client_address", literal.as_str()),
            ("log_client_port", origin.client_port.as_str()),
            ("log_message_origin", origin.log_origin.as_str()),
            ("log_protocol_name", "QMQP"),
            ("client_name", origin.client_name.as_str()),
            ("client_address", origin.client_address.as_str()),
            ("client_port", origin.client_port.as_str()),
            ("client_address_type", family.as_str()),
            ("protocol_name", "QMQP"),
        ] {
            if value.is_empty() {
                let queue_id = &arrival.queue_id;
                envelope.notices.push(Notice::warning(format!(
                    "{queue_id}: spurious null attribute value for \"{name}\" -- ignored"
                )));
            } else {
                record(RecordType::ATTRIBUTE, format!("{name}={value}").as_bytes());
            }
        }
        if options.delay_warning_time_seconds > 0 && !envelope.sender.is_empty() {
            let time = seconds.saturating_add(options.delay_warning_time_seconds);
            record(RecordType::WARNING_TIME, format!("{time:NUMBER_LEN$}").as_bytes());
        }
        records
    }

    fn extracted(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        if self.content.encoding_is_8bit {
            encode(&mut records, RecordType::ATTRIBUTE, b"encoding=8bit");
        }
        if self.envelope.received_count > 0 && !self.content.options.always_bcc.is_empty() {
            let address = self.content.options.always_bcc.clone().into_bytes();
            self.envelope.add_automatic_recipient(&address, &mut records);
        }
        records
    }

    fn send_options(&self) -> u32 {
        let Self { content, envelope, .. } = self;
        let requested =
            envelope.smtputf8_requested || content.has_8bit_header && content.options.smtputf8_autodetect;
        u32::from(requested)
            | if content.has_8bit_header { 2 } else { 0 }
            | if envelope.sender_is_utf8 { 4 } else { 0 }
    }
}

/// What is known from the content.
#[derive(Debug)]
struct Content {
    options: Arc<Options>,
    arrival: Arrival,
    /// Received: headers anywhere, ours included.
    hop_count: u32,
    hops_exceeded: bool,
    seen: Seen,
    is_resent: bool,
    encoding_is_8bit: bool,
    has_8bit_header: bool,
    /// Bytes of content records so far.
    bytes: u64,
    /// Where the place of the From: header is.
    slot: Option<u64>,
    notices: Vec<Notice>,
    /// A record without stray CR and LF.
    cleaned: Vec<u8>,
}

impl Content {
    fn new(options: Arc<Options>, arrival: Arrival) -> Self {
        Self {
            hop_count: 1,
            hops_exceeded: options.hopcount_limit <= 1,
            options,
            arrival,
            seen: Seen::NONE,
            is_resent: false,
            encoding_is_8bit: false,
            has_8bit_header: false,
            bytes: 0,
            slot: None,
            notices: Vec::new(),
            cleaned: Vec::new(),
        }
    }

    const fn prefix(&self) -> &'static str {
        if self.is_resent { "Resent-" } else { "" }
    }

    fn is_dropped(&self, name: &[u8]) -> bool {
        self.options.message_drop_headers.iter().any(|dropped| dropped.as_bytes().eq_ignore_ascii_case(name))
    }

    fn write_header(&mut self, header: &[u8], out: &mut Vec<u8>) {
        self.has_8bit_header |= self.options.smtputf8_enable && !header.is_ascii();
        header::write(header, self.options.header_size_limit, self.options.line_length_limit, out);
    }

    fn log_id(&mut self, prefix: &str, value: &[u8]) {
        let value = printable(value, self.options.smtputf8_enable);
        let queue_id = &self.arrival.queue_id;
        self.notices.push(Notice::info(format!("{queue_id}: {prefix}message-id={value}")));
    }

    /// A header of the message itself that means something: `true` if it is to be written.
    fn note_primary(&mut self, known: &Known, header: &mut Vec<u8>) -> bool {
        let name_len = known.name.len();
        self.seen.add(known.seen);
        let value = value_of(header, name_len);
        match known.name {
            "message-id" => self.log_id("", value),
            "resent-message-id" => self.log_id("resent-", value),
            "received" => self.hops_exceeded |= self.hop_count >= self.options.hopcount_limit,
            _ => {}
        }
        if self.hops_exceeded {
            return false;
        }
        self.is_resent |= known.resent;
        if known.addresses != Addresses::None {
            let value = header.get(name_len.saturating_add(1)..).unwrap_or_default();
            if let Some(value) = header::rewrite_addresses(&self.options, value, &mut self.notices) {
                header.truncate(name_len);
                header.extend_from_slice(b": ");
                header.extend_from_slice(&value);
                header::fold(header);
            }
        }
        true
    }
}

/// What stands behind the colon and white space.
fn value_of(header: &[u8], name_len: usize) -> &[u8] {
    let value = header.get(name_len.saturating_add(1)..).unwrap_or_default();
    let blanks = value.iter().take_while(|&&byte| byte.is_ascii_whitespace() || byte == 0x0b).count();
    value.get(blanks..).unwrap_or_default()
}

/// Content on its way to the caller.
struct Output<'a> {
    content: &'a mut Content,
    out: &'a mut Vec<u8>,
    /// Length of `out` up to which `content.bytes` counts.
    counted: usize,
}

impl<'a> Output<'a> {
    const fn new(content: &'a mut Content, out: &'a mut Vec<u8>) -> Self {
        let counted = out.len();
        Self { content, out, counted }
    }

    /// Takes a record as it came. Checks that look at each record before it is taken apart come here.
    #[inline]
    fn record(&mut self, parser: &mut Parser, kind: RecordType, data: &[u8]) {
        if self.content.hops_exceeded {
            return;
        }
        if self.content.options.replace_stray_cr_lf && memchr::memchr2(b'\r', b'\n', data).is_some() {
            let mut cleaned = std::mem::take(&mut self.content.cleaned);
            cleaned.clear();
            cleaned.extend(data.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
            parser.record(kind, &cleaned, self);
            self.content.cleaned = cleaned;
        } else {
            parser.record(kind, data, self);
        }
    }

    /// Brings the count of content bytes up to date.
    const fn count(&mut self) {
        self.content.bytes = self.content.bytes.saturating_add(self.out.len().abs_diff(self.counted) as u64);
        self.counted = self.out.len();
    }

    /// Adds what a message must have. A missing From: is the sender, who is not known yet: its place is kept.
    fn add_missing_headers(&mut self) {
        let (message_id, date, from) = if self.content.is_resent {
            (Seen::RESENT_MESSAGE_ID, Seen::RESENT_DATE, Seen::RESENT_FROM)
        } else {
            (Seen::MESSAGE_ID, Seen::DATE, Seen::FROM)
        };
        let Self { content, out, .. } = self;
        let prefix = content.prefix();
        if !content.seen.has(message_id) {
            let id = generated::message_id(&content.options, &content.arrival);
            let header = format!("{prefix}Message-Id: {id}");
            header::write_line(header.as_bytes(), content.options.line_length_limit, out);
            content.log_id(if content.is_resent { "resent-" } else { "" }, id.as_bytes());
            content.seen.add(message_id);
        }
        if !content.seen.has(Seen::MESSAGE_ID) {
            content.log_id("", b"<>");
        }
        if !content.seen.has(date) {
            let header = format!("{prefix}Date: {}", content.arrival.date);
            header::write_line(header.as_bytes(), content.options.line_length_limit, out);
        }
        if !content.seen.has(from) {
            self.count();
            self.content.slot = Some(self.content.bytes);
            encode(self.out, RecordType::POINTER, format!("{:NUMBER_LEN$}", 0).as_bytes());
        }
        self.add_undisclosed_recipients_header();
    }

    fn add_undisclosed_recipients_header(&mut self) {
        let Self { content, out, .. } = self;
        let text = &content.options.undisclosed_recipients_header;
        if content.seen.has(Seen::VISIBLE_RECIPIENT) || text.is_empty() {
            return;
        }
        if name_len(text.as_bytes()).is_some() {
            header::write_line(text.as_bytes(), content.options.line_length_limit, out);
        } else {
            content.notices.push(Notice::warning(format!(
                "bad undisclosed_recipients_header header text \"{text}\" -- need \"headername: headervalue\""
            )));
        }
    }
}
impl Receiver for Output<'_> {
    /// Header checks come here: the header is complete and normalised, and nothing is dropped yet.
    fn header(&mut self, section: Section, header: &mut Vec<u8>) {
        let name_len = name_len(header).unwrap_or_default();
        let name = header.get(..name_len).unwrap_or_default();
        let known = Known::find(name);
        let is_primary = section == Section::Primary && !known.is_some_and(|known| known.mime);
        let is_dropped = is_primary && self.content.is_dropped(name);
        if let Some(known) = known {
            match known.name {
                "received" => self.content.hop_count = self.content.hop_count.saturating_add(1),
                "content-transfer-encoding" if self.content.options.detect_8bit_encoding_header => {
                    let value = value_of(header, name_len);
                    self.content.encoding_is_8bit |=
                        value.eq_ignore_ascii_case(b"8bit") || value.eq_ignore_ascii_case(b"binary");
                }
                _ => {}
            }
            if is_primary && !self.content.note_primary(known, header) {
                return;
            }
        }
        if !is_dropped {
            self.content.write_header(header, self.out);
        }
    }

    fn end_of_primary(&mut self) {
        if self.content.hops_exceeded {
            return;
        }
        self.add_missing_headers();
    }

    /// Body checks come here.
    #[inline]
    fn body(&mut self, kind: RecordType, data: &[u8]) {
        if !self.content.hops_exceeded {
            encode(self.out, kind, data);
        }
    }
}
