//! A message being converted to a queue file: the central type, and the order of its calls.

use std::sync::Arc;

use postfix::notice::Notice;
use postfix::queue_file::{Counts, POINTER_RECORD_BYTES, SIZE_RECORD_BYTES, SenderCopies};
use postfix::record::{RecordType, encode};

use crate::content::{BLOCK_BYTES, Content, Output};
use crate::envelope::Envelope;
use crate::finished::{Fate, Finished, LAYOUT_BYTES, too_large};
use crate::generated;
use crate::header;
use crate::incoming::Lines;
use crate::milter::{HEARD, Inspection};
use crate::mime::Parser;
use crate::options::{Arrival, Options, Origin};
use crate::own_header;
use crate::refusal::Refusal;
use crate::tables::Tables;

/// One message that is being received: content, then sender, then recipients, then [`Message::finish`].
///
/// Memory: one line, one header, boundary strings, a hundred log lines, and the recipients that the duplicate filter
/// remembers; nothing grows with the content. Input may still be given once it is known that the message will be refused
/// ([`Message::refusal_so_far`]); what is written then need not be kept.
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
    /// How many of these, from the first, are about the envelope.
    pub envelope_notices: usize,
    /// The message, or why it is refused.
    pub result: Result<Finished, Refusal>,
    /// A rule has said that nothing else is to look at this message: milters are not asked.
    pub is_passed: bool,
}

impl Message {
    /// A message that begins now. `tables` are those of the parameters that `options` came with.
    #[must_use]
    pub fn new(options: Arc<Options>, tables: Arc<dyn Tables>, arrival: Arrival, origin: Origin) -> Self {
        let lines = Lines::new(&options);
        let queue_id = arrival.queue_id.clone();
        let envelope = Envelope::new(Arc::clone(&options), Arc::clone(&tables), queue_id);
        let mut content = Content::new(options, tables, arrival, &origin);
        own_header::foresee(&mut content, &origin);
        Self { lines, parser: content.parser(), content, envelope, origin }
    }

    /// Takes the next bytes of the content as the client sent them, in pieces of any size, and appends records to
    /// `out`; the records are the same for every split. The caller may take bytes out of `out` between calls.
    pub fn content_bytes(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Self { lines, parser, content, .. } = self;
        let mut output = Output::new(content, out);
        let mut rest = bytes;
        while !rest.is_empty() {
            if lines.passes_lines() && parser.passes_body() {
                let taken = output.body_lines(parser, rest, lines.limit());
                rest = rest.get(taken..).unwrap_or_default();
            }
            let taken = lines.push_until(rest, &mut |kind, data| {
                output.record(parser, kind, data);
                parser.passes_body()
            });
            rest = rest.get(taken..).unwrap_or_default();
        }
        output.count();
    }

    /// The content is complete.
    pub fn end_of_content(&mut self, out: &mut Vec<u8>) {
        let Self { lines, parser, content, .. } = self;
        let mut output = Output::new(content, out);
        lines.finish(&mut |kind, data| output.record(parser, kind, data));
        output.finish(parser);
        output.count();
    }

    /// Takes the sender, as the client sent it; once. Appends the records of recipients that it brings with it to `out`.
    pub fn sender(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        self.envelope.set_sender(raw, out);
        if self.envelope.refusal.is_none() {
            self.note_missing_attributes();
        }
    }

    /// Takes a recipient, as the client sent it, and appends its records to `out`, or nothing if it is a duplicate.
    ///
    /// A message that cannot be accepted any more is no reason to ask tables: its further recipients are only counted.
    pub fn recipient(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        self.take_recipient(raw, out);
    }

    fn take_recipient(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Option<Vec<u8>> {
        // Postfix looks at the envelope first: for a table that is out of order, it says so whatever the content is like.
        if self.envelope.received_count == 0 || self.is_wanted() {
            return self.envelope.add_recipient(raw, out);
        }
        self.envelope.count_recipient(raw);
        None
    }

    /// As [`Message::recipient`], for a message that mail filters are shown: before the records stands the recipient as
    /// they hear it; see [`milter::recipients`](crate::milter::recipients).
    pub fn recipient_for_filters(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        let mut records = Vec::new();
        if let Some(heard) = self.take_recipient(raw, &mut records) {
            encode(out, HEARD, &heard);
        }
        out.append(&mut records);
    }

    /// Why the message will be refused, as far as is known: the caller need not keep what it has written. A reason stays,
    /// but a graver one may take its place.
    #[must_use]
    pub fn refusal_so_far(&self) -> Option<Refusal> {
        if self.envelope.refusal.is_some() {
            self.envelope.refusal.clone()
        } else if self.is_too_large() {
            Some(Refusal::Size)
        } else {
            self.content.rules.refusal.clone().or_else(|| self.content.mime_refusal())
        }
    }

    /// Whether what was written has to be kept: not if the message will be refused or is to vanish.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        !self.content.rules.is_over()
            && self.envelope.refusal.is_none()
            && !self.is_too_large()
            && self.content.mime_refusal().is_none()
    }

    /// Whether what there is so far exceeds the size limit. The rest of the file is larger than the place of a From: header,
    /// which may shrink.
    fn is_too_large(&self) -> bool {
        self.exceeds_limit(self.content.bytes.saturating_add(self.envelope.recipient_bytes))
    }

    /// The message is complete.
    #[must_use]
    pub fn finish(mut self) -> Outcome {
        let mut outcome = self.complete();
        let why = match &outcome.result {
            Err(_) => Some("canceled"),
            Ok(finished) => (finished.fate == Fate::Discard).then_some("discarded"),
        };
        if let Some(why) = why
            && self.content.options.since_3_10
        {
            let queue_id = &self.content.arrival.queue_id;
            outcome.notices.push(Notice::info(format!("{queue_id}: removed ({why})")));
        }
        outcome
    }

    /// The message is complete, and mail filters are to look at it. `client_address`: what they hear of the client. `None`
    /// if the message is refused for its envelope: they need not hear of it.
    #[must_use]
    pub fn finish_for_filters(mut self, client_address: &'static str) -> (Outcome, Option<Inspection>) {
        let is_refused = self.envelope.refusal.is_some();
        let outcome = self.complete();
        let Self { content, envelope, origin, .. } = self;
        let (queue_id, protocol) = (content.arrival.queue_id, origin.protocol);
        let header_bytes = content.header_bytes;
        let inspection = (!is_refused).then(|| {
            let (options, tables) = (content.options, content.tables);
            Inspection::new(options, tables, envelope, queue_id, client_address, protocol, header_bytes)
        });
        (outcome, inspection)
    }

    fn complete(&mut self) -> Outcome {
        let queue_id = self.content.arrival.queue_id.clone();
        let mut notices = std::mem::take(&mut self.envelope.notices);
        let envelope_notices = notices.len();
        if let Some(refusal) = self.envelope.refusal.take() {
            // Postfix has not looked at the content by then; for qmqpd(8)'s own reasons, at nothing.
            let is_about_request = matches!(refusal, Refusal::Verp { .. } | Refusal::Address { .. });
            let notices = if is_about_request { Vec::new() } else { notices.into_lines(&queue_id) };
            return Outcome { notices, envelope_notices, result: Err(refusal), is_passed: false };
        }
        let (envelope, sender_copies) = self.envelope_records();
        if self.is_content_unseen(envelope.len() as u64) {
            let mut notices = notices.into_lines(&queue_id);
            notices.extend(too_large(&queue_id));
            return Outcome { notices, envelope_notices, result: Err(Refusal::Size), is_passed: false };
        }
        self.envelope.name_last_recipient();
        let is_too_large = self.is_too_large();
        let received = self.received();
        let slot = self.content.slot;
        let from = slot.map(|offset| (offset, self.from()));
        self.content.refuse_bad_mime();
        self.content.rules.notices.name_envelope(&self.envelope.names());
        notices.append(std::mem::take(&mut self.content.rules.notices));
        let is_over = is_too_large || self.content.rules.is_over();
        let extracted = if is_over { Vec::new() } else { self.extracted() };
        // Those about automatic recipients, which are added last.
        notices.append(std::mem::take(&mut self.envelope.notices));
        let slot = from.as_ref().map_or(0, |_| POINTER_RECORD_BYTES as u64);
        let from_len = from.as_ref().map_or(0, |(_, records)| records.len() as u64);
        let mut bytes = self.content.bytes.saturating_sub(slot).saturating_add(self.envelope.recipient_bytes);
        for len in [envelope.len() as u64, received.len() as u64, from_len, extracted.len() as u64] {
            bytes = bytes.saturating_add(len);
        }
        bytes = bytes.saturating_add(LAYOUT_BYTES);

        let mut notices = notices.into_lines(&queue_id);
        let exceeds_limit = self.exceeds_limit(bytes);
        let rules = &mut self.content.rules;
        if let Some(late) = self.envelope.refusal.take() {
            rules.refuse(late);
        }
        let is_passed = rules.decisions.is_passed;
        let fate = rules.decisions.fate();
        if exceeds_limit && fate != Fate::Discard {
            notices.extend(too_large(&queue_id));
            rules.refuse(Refusal::Size);
        }
        if self.envelope.received_count == 0 {
            rules.refuse(Refusal::NoRecipients);
        }
        let result = if let Some(refusal) = rules.refusal.take()
            && fate != Fate::Discard
        {
            Err(refusal)
        } else {
            let counts = Counts {
                recipients: self.envelope.written_count,
                qmgr_flags: 0,
                send_options: self.send_options(),
            };
            Ok(Finished { envelope, sender_copies, received, from, extracted, counts, fate })
        };
        Outcome { notices, envelope_notices, result, is_passed }
    }

    /// Whether the envelope alone is so large that Postfix would have noticed before the content came, and not looked at
    /// that any more: it writes the file in blocks.
    fn is_content_unseen(&self, envelope_bytes: u64) -> bool {
        let limit = self.content.options.message_size_limit;
        let bytes = (SIZE_RECORD_BYTES as u64)
            .saturating_add(envelope_bytes)
            .saturating_add(self.envelope.recipient_bytes)
            .saturating_add(self.envelope.counted_bytes);
        let noticed_at = (limit / BLOCK_BYTES).saturating_add(1).saturating_mul(BLOCK_BYTES);
        limit != 0 && bytes > noticed_at
    }

    fn exceeds_limit(&self, bytes: u64) -> bool {
        let limit = self.content.options.message_size_limit;
        limit != 0 && bytes > limit
    }

    fn received(&mut self) -> Vec<u8> {
        let Self { content, envelope, origin, .. } = self;
        let recipient = (envelope.received_count == 1).then_some(envelope.first_recipient.as_slice());
        own_header::records(content, origin, recipient)
    }

    /// Observed: up to Postfix 3.9 this header does not count as an 8-bit header, whatever the sender is.
    fn from(&mut self) -> Vec<u8> {
        let header = generated::from(self.content.prefix(), &self.envelope.sender);
        let Options { since_3_10, smtputf8_enable, line_length_limit, .. } = *self.content.options;
        self.content.has_8bit_header |= since_3_10 && smtputf8_enable && !header.is_ascii();
        let mut records = Vec::new();
        header::write_line(&header, line_length_limit, &mut records);
        records
    }

    /// The records before the first recipient, and where the copies for the sender stand among them.
    fn envelope_records(&self) -> (Vec<u8>, SenderCopies) {
        let mut records = Vec::new();
        let Self { content: Content { options, arrival, .. }, envelope, .. } = self;
        let (seconds, microseconds) = arrival.arrived;
        encode(&mut records, RecordType::TIME, format!("{seconds} {microseconds}").as_bytes());
        let created = format!("create_time={}", arrival.created.0);
        encode(&mut records, RecordType::ATTRIBUTE, created.as_bytes());
        if !options.content_filter.is_empty() {
            encode(&mut records, RecordType::FILTER, options.content_filter.as_bytes());
        }
        encode(&mut records, RecordType::SENDER, &envelope.sender);
        let sender_copies =
            SenderCopies { envelope_offset: records.len(), bytes: envelope.sender_recipient_bytes };
        if let Some(delimiters) = envelope.verp_delimiters {
            encode(&mut records, RecordType::VERP, &delimiters);
        }
        for (name, value) in self.attributes().iter().filter(|(_, value)| !value.is_empty()) {
            encode(&mut records, RecordType::ATTRIBUTE, format!("{name}={value}").as_bytes());
        }
        if options.delay_warning_time_seconds > 0 && !envelope.sender.is_empty() {
            let time = seconds.saturating_add(options.delay_warning_time_seconds);
            encode(&mut records, RecordType::WARNING_TIME, format!("{time:15}").as_bytes());
        }
        (records, sender_copies)
    }

    fn note_missing_attributes(&mut self) {
        for (name, value) in self.attributes() {
            if value.is_empty() {
                let queue_id = &self.content.arrival.queue_id;
                self.envelope.notices.push(Notice::warning(format!(
                    "{queue_id}: spurious null attribute value for \"{name}\" -- ignored"
                )));
            }
        }
    }

    fn attributes(&self) -> [(&'static str, String); 10] {
        let Self { origin, .. } = self;
        [
            ("log_client_name", origin.client_name.clone()),
            ("log_client_address", origin.literal()),
            ("log_client_port", origin.client_port.clone()),
            ("log_message_origin", origin.log_origin.clone()),
            ("log_protocol_name", origin.protocol.to_owned()),
            ("client_name", origin.client_name.clone()),
            ("client_address", origin.client_address.clone()),
            ("client_port", origin.client_port.clone()),
            ("client_address_type", origin.address_family.to_string()),
            ("protocol_name", origin.protocol.to_owned()),
        ]
    }

    fn extracted(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        let decisions = &mut self.content.rules.decisions;
        for (kind, value) in
            [(RecordType::FILTER, &decisions.filter), (RecordType::REDIRECT, &decisions.redirect)]
        {
            if let Some(value) = value {
                encode(&mut records, kind, value);
            }
        }
        if let Some(id) = &self.content.message_id {
            encode(&mut records, RecordType::ATTRIBUTE, &[b"message_id=", id.as_slice()].concat());
        }
        if self.content.encoding_is_8bit {
            encode(&mut records, RecordType::ATTRIBUTE, b"encoding=8bit");
        }
        if self.envelope.received_count > 0 {
            let Options { always_bcc, address_mapping, .. } = self.content.options.as_ref();
            let always_bcc = if *address_mapping { always_bcc.clone().into_bytes() } else { Vec::new() };
            let of_rules = std::mem::take(&mut decisions.recipients);
            for address in std::iter::once(always_bcc).filter(|address| !address.is_empty()).chain(of_rules) {
                self.envelope.add_automatic_recipient(&address, &mut records);
            }
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
            | content.tls_options
    }
}

#[cfg(test)]
mod tests;
