//! Converts content to records: interprets headers, and drops, rewrites or adds them.

use std::sync::Arc;

use memchr::{memchr, memchr_iter, memchr2, memrchr};
use postfix::notice::Notice;
use postfix::queue_file::encode_pointer;
use postfix::record::{RecordType, encode};
use postfix::settings::words::EndOfHeader;

use crate::generated;
use crate::header::{self, Addresses, HeaderSet, Known, name_len};
use crate::mapping::{AddressRole, Mapping};
use crate::mime::{Errors, MimeError, Parser, Receiver, Section, Strictness};
use crate::options::{Arrival, Options, Origin};
use crate::refusal::Refusal;
use crate::rules::{Change, Rules};
use crate::tables::Tables;
use postfix::text::printable;

/// Bytes of a header that are logged; the logs of Postfix cut lines at this length.
const LOGGED_VALUE_LEN_MAX: usize = 2000;

/// In blocks of so many bytes Postfix writes a queue file: it notices a limit at the end of one.
pub(crate) const BLOCK_BYTES: u64 = 4096;

/// What is known from the content.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) options: Arc<Options>,
    pub(crate) tables: Arc<dyn Tables>,
    pub(crate) arrival: Arrival,
    pub(crate) rules: Rules,
    /// What was found by the end of the content.
    pub(crate) mime_errors: Errors,
    /// Received: headers anywhere, ours included.
    hop_count: u32,
    seen: HeaderSet,
    is_resent: bool,
    pub(crate) encoding_is_8bit: bool,
    /// The first Message-ID, in its angle brackets; since release 3.10 only.
    pub(crate) message_id: Option<Vec<u8>>,
    /// Send options that headers about TLS ask for.
    pub(crate) tls_options: u32,
    pub(crate) has_8bit_header: bool,
    /// Bytes of content records so far.
    pub(crate) bytes: u64,
    /// Bytes of content records up to the end of the message's own headers.
    pub(crate) header_bytes: u64,
    /// Where the place of the From: header is.
    pub(crate) slot: Option<u64>,
    /// A record without stray CR and LF and other characters that are not to stay.
    cleaned: Vec<u8>,
}

impl Content {
    pub(crate) fn new(
        options: Arc<Options>,
        tables: Arc<dyn Tables>,
        arrival: Arrival,
        origin: &Origin,
    ) -> Self {
        let mut content = Self {
            rules: Rules::new(Arc::clone(&options), Arc::clone(&tables), &arrival.queue_id, origin),
            mime_errors: Errors::default(),
            hop_count: 1,
            options,
            tables,
            arrival,
            seen: HeaderSet::NONE,
            is_resent: false,
            encoding_is_8bit: false,
            message_id: None,
            tls_options: 0,
            has_8bit_header: false,
            bytes: 0,
            header_bytes: 0,
            slot: None,
            cleaned: Vec::new(),
        };
        content.check_hops();
        content
    }

    /// A parser for this content.
    pub(crate) fn parser(&self) -> Parser {
        Parser::new(Arc::clone(&self.options), self.strictness())
    }

    pub(crate) fn strictness(&self) -> Strictness {
        Strictness::new(&self.options, self.rules.has_header_rules())
    }

    /// The message will be refused or vanish: nothing more of it is looked at or kept.
    #[inline]
    const fn is_over(&self) -> bool {
        self.rules.is_over()
    }

    /// What is wrong with a message that was looked at to its end, by the standards of MIME.
    pub(crate) fn mime_refusal(&self) -> Option<Refusal> {
        let mut errors = self.mime_errors;
        if self.options.non_empty_end_of_header_action != EndOfHeader::Reject {
            errors = errors.without(MimeError::NonEmptyEndOfHeader);
        }
        errors.gravest().map(|error| Refusal::Content { text: format!("5.6.0 {}", error.text()) })
    }

    /// The content was looked at to its end, and what is wrong with it counts unless there is a graver reason.
    pub(crate) fn refuse_bad_mime(&mut self) {
        let has_reason = matches!(self.rules.refusal, Some(Refusal::Defer { .. } | Refusal::Content { .. }));
        if let Some(refusal) = self.mime_refusal()
            && !has_reason
        {
            self.rules.refuse(refusal);
        }
    }

    fn check_hops(&mut self) {
        if self.hop_count >= self.options.hopcount_limit {
            let queue_id = &self.arrival.queue_id;
            let text = format!("{queue_id}: message rejected: hopcount exceeded");
            self.rules.notices.push(Notice::warning(text));
            self.rules.refuse(Refusal::Hops);
        }
    }

    pub(crate) const fn prefix(&self) -> &'static str {
        if self.is_resent { "Resent-" } else { "" }
    }

    pub(crate) fn is_dropped(&self, name: &[u8]) -> bool {
        self.options.message_drop_headers.iter().any(|dropped| dropped.as_bytes().eq_ignore_ascii_case(name))
    }

    pub(crate) fn write_header(&mut self, header: &[u8], out: &mut Vec<u8>) {
        self.has_8bit_header |= self.options.smtputf8_enable && !header.is_ascii();
        header::write(header, self.options.header_size_limit, self.options.line_length_limit, out);
    }

    fn log_id(&mut self, prefix: &str, value: &[u8]) {
        let value = value.get(..LOGGED_VALUE_LEN_MAX).unwrap_or(value);
        let value = printable(value, self.options.smtputf8_enable);
        let queue_id = &self.arrival.queue_id;
        self.rules.notices.push(Notice::info(format!("{queue_id}: {prefix}message-id={value}")));
    }

    /// Keeps what the queue file says of the Message-ID: the first that stands in angle brackets.
    fn note_message_id(&mut self, value: &[u8]) {
        if self.options.since_3_10 && self.message_id.is_none() {
            self.message_id = bracketed(value).map(|id| blanked(id, self.options.smtputf8_enable));
        }
    }

    /// A header of the message itself that means something.
    fn note_primary(&mut self, known: &Known, header: &mut Vec<u8>) {
        let name_len = known.name.len();
        self.seen.add(known.seen);
        let value = value_of(header, name_len);
        match known.name {
            "message-id" => {
                self.log_id("", value);
                self.note_message_id(value);
            }
            "tls-required" if self.options.tls_required_header => {
                if value.eq_ignore_ascii_case(b"no") {
                    self.tls_options |= TLS_NOT_REQUIRED;
                } else {
                    let shown = printable(header.get(..100).unwrap_or(header), self.options.smtputf8_enable);
                    let text = format!("ignoring malformed header: '{shown}'");
                    self.rules.notices.push(Notice::warning(text));
                }
            }
            "require-tls-esmtp" if self.options.require_tls_header && value.eq_ignore_ascii_case(b"yes") => {
                self.tls_options |= TLS_REQUIRED;
            }
            "resent-message-id" => self.log_id("resent-", value),
            "received" => self.check_hops(),
            _ => {}
        }
        if self.is_over() {
            return;
        }
        self.is_resent |= known.resent;
        self.rewrite(known, header);
    }

    /// Completes and maps the addresses of a header that has some.
    pub(crate) fn rewrite(&mut self, known: &Known, header: &mut Vec<u8>) {
        let role = match known.addresses {
            Addresses::None => return,
            Addresses::Senders => AddressRole::HeaderSender,
            Addresses::Recipients => AddressRole::HeaderRecipient,
        };
        let name_len = known.name.len();
        let value = header.get(name_len.saturating_add(1)..).unwrap_or_default();
        let Self { options, tables, arrival, rules, .. } = self;
        let mut mapping = Mapping::new(options, tables.as_ref(), &arrival.queue_id, &mut rules.notices);
        let rewritten = header::rewrite_addresses(&mut mapping, role, value);
        if mapping.failed {
            rules.refuse(Refusal::Write);
        }
        if let Some(value) = rewritten {
            header.truncate(name_len);
            header.extend_from_slice(b": ");
            header.extend_from_slice(&value);
            header::fold(header);
        }
    }
}

/// Send options: delivery may do without TLS (`TLS-Required: no`), or may not (`Require-TLS-ESMTP: yes`).
const TLS_NOT_REQUIRED: u32 = 16;
const TLS_REQUIRED: u32 = 32;

/// The text in angle brackets that a text begins with, the brackets included; they may nest.
fn bracketed(text: &[u8]) -> Option<&[u8]> {
    let mut depth = 0_usize;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'<' => depth = depth.saturating_add(1),
            b'>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return if at == 0 { None } else { text.get(..=at) };
        }
    }
    None
}

/// A blank for each byte that is not printable.
fn blanked(text: &[u8], utf8: bool) -> Vec<u8> {
    let mut shown = printable(text, utf8).into_bytes();
    for (shown, &byte) in shown.iter_mut().zip(text) {
        if *shown == b'?' && byte != b'?' {
            *shown = b' ';
        }
    }
    shown
}

/// What stands behind the colon and white space.
fn value_of(header: &[u8], name_len: usize) -> &[u8] {
    let value = header.get(name_len.saturating_add(1)..).unwrap_or_default();
    let blanks = value.iter().take_while(|&&byte| byte.is_ascii_whitespace() || byte == 0x0b).count();
    value.get(blanks..).unwrap_or_default()
}

/// Content on its way to the caller.
pub(crate) struct Output<'a> {
    content: &'a mut Content,
    out: &'a mut Vec<u8>,
    /// Length of `out` up to which `content.bytes` counts.
    counted: usize,
}

impl<'a> Output<'a> {
    pub(crate) const fn new(content: &'a mut Content, out: &'a mut Vec<u8>) -> Self {
        let counted = out.len();
        Self { content, out, counted }
    }

    /// Takes a record as it came.
    #[inline]
    pub(crate) fn record(&mut self, parser: &mut Parser, kind: RecordType, data: &[u8]) {
        if self.content.is_over() || self.is_far_too_large() {
            return;
        }
        let has_stray = self.content.options.replace_stray_cr_lf && memchr2(b'\r', b'\n', data).is_some();
        if !has_stray && !self.content.rules.looks_at_characters() {
            self.content.rules.end_first_line();
            return parser.record(kind, data, self);
        }
        let mut cleaned = std::mem::take(&mut self.content.cleaned);
        cleaned.clear();
        cleaned.extend_from_slice(data);
        if has_stray {
            for byte in cleaned.iter_mut().filter(|byte| matches!(**byte, b'\r' | b'\n')) {
                *byte = b' ';
            }
        }
        let is_rejected = self.content.rules.rejects_characters(&cleaned);
        if !is_rejected {
            self.content.rules.strip_characters(&mut cleaned);
        }
        self.content.rules.end_first_line();
        if !is_rejected {
            parser.record(kind, &cleaned, self);
        }
        self.content.cleaned = cleaned;
    }

    /// Takes lines of a body that are records as they are, as many as there are, where neither `parser` nor a rule has to
    /// look at them: the short way of most of all bytes. Returns how many bytes that is; `limit` is how long a line may be.
    pub(crate) fn body_lines(&mut self, parser: &mut Parser, bytes: &[u8], limit: usize) -> usize {
        if self.content.is_over() || !self.content.rules.passes_body() {
            return 0;
        }
        let mut lines = up_to_last_line_end(bytes);
        if self.content.options.replace_stray_cr_lf
            && let Some(cr) = memchr(b'\r', lines)
        {
            lines = up_to_last_line_end(lines.get(..cr).unwrap_or_default());
        }
        // A line end becomes two bytes, or three.
        if self.would_be_far_too_large(lines.len().saturating_mul(2)) {
            return 0;
        }
        self.out.reserve(lines.len().saturating_add(lines.len() / 16));
        let mut start = 0_usize;
        for line_end in memchr_iter(b'\n', lines) {
            let line = lines.get(start..line_end).unwrap_or_default();
            if line.len() > limit {
                break;
            }
            encode(self.out, RecordType::NORMAL, line);
            start = line_end.saturating_add(1);
        }
        parser.skip_body(start);
        start
    }

    /// The content is complete.
    pub(crate) fn finish(&mut self, parser: &mut Parser) {
        if self.content.is_over() || self.is_far_too_large() {
            return;
        }
        parser.finish(self);
        self.content.mime_errors = parser.errors();
    }

    /// So large that Postfix would have noticed: nothing more is looked at. It writes the file in blocks.
    #[inline]
    fn is_far_too_large(&self) -> bool {
        self.would_be_far_too_large(0)
    }

    /// The same, when so many bytes more are in the file.
    #[inline]
    fn would_be_far_too_large(&self, more: usize) -> bool {
        let limit = self.content.options.message_size_limit;
        let uncounted = self.out.len().abs_diff(self.counted).saturating_add(more) as u64;
        limit != 0 && self.content.bytes.saturating_add(uncounted) > limit.saturating_add(BLOCK_BYTES)
    }

    /// Brings the count of content bytes up to date.
    pub(crate) const fn count(&mut self) {
        self.content.bytes = self.content.bytes.saturating_add(self.out.len().abs_diff(self.counted) as u64);
        self.counted = self.out.len();
    }

    /// Adds what a message must have. A missing From: is the sender, who is not known yet: its place is kept.
    fn add_missing_headers(&mut self) {
        let (message_id, date, from) = if self.content.is_resent {
            (HeaderSet::RESENT_MESSAGE_ID, HeaderSet::RESENT_DATE, HeaderSet::RESENT_FROM)
        } else {
            (HeaderSet::MESSAGE_ID, HeaderSet::DATE, HeaderSet::FROM)
        };
        let Self { content, out, .. } = self;
        let prefix = content.prefix();
        if !content.seen.has(message_id) {
            let id = generated::message_id(&content.options, &content.arrival);
            let header = format!("{prefix}Message-Id: {id}");
            header::write_line(header.as_bytes(), content.options.line_length_limit, out);
            content.log_id(if content.is_resent { "resent-" } else { "" }, id.as_bytes());
            if !content.is_resent {
                content.note_message_id(id.as_bytes());
            }
            content.seen.add(message_id);
        }
        if !content.seen.has(HeaderSet::MESSAGE_ID) {
            content.log_id("", b"<>");
        }
        if !content.seen.has(date) {
            let header = format!("{prefix}Date: {}", content.arrival.date);
            header::write_line(header.as_bytes(), content.options.line_length_limit, out);
        }
        if !content.seen.has(from) {
            self.count();
            self.content.slot = Some(self.content.bytes);
            encode_pointer(self.out, 0);
        }
        self.add_undisclosed_recipients_header();
    }

    fn add_undisclosed_recipients_header(&mut self) {
        let Self { content, out, .. } = self;
        let text = &content.options.undisclosed_recipients_header;
        if content.seen.has(HeaderSet::VISIBLE_RECIPIENT) || text.is_empty() {
            return;
        }
        if name_len(text.as_bytes()).is_some() {
            header::write_line(text.as_bytes(), content.options.line_length_limit, out);
        } else {
            content.rules.notices.push(Notice::warning(format!(
                "bad undisclosed_recipients_header header text \"{text}\" -- need \"headername: headervalue\""
            )));
        }
    }
}

impl Receiver for Output<'_> {
    fn header(&mut self, section: Section, header: &mut Vec<u8>) {
        if self.content.is_over() {
            return;
        }
        let find = |header: &[u8]| {
            let name_len = name_len(header).unwrap_or_default();
            (name_len, Known::find(header.get(..name_len).unwrap_or_default()))
        };
        let (mut name_len, mut known) = find(header);
        let section = if known.is_some_and(|known| known.mime) { Section::Part } else { section };
        if known.is_some_and(|known| known.name == "received") {
            self.content.hop_count = self.content.hop_count.saturating_add(1);
        }
        match self.content.rules.header(section, header) {
            Change::Keep => {}
            Change::Drop => return,
            Change::Prepend(first) => self.content.write_header(&first, self.out),
            Change::Replace(other) => {
                *header = other;
                (name_len, known) = find(header);
            }
        }
        let is_dropped = section == Section::Primary
            && self.content.is_dropped(header.get(..name_len).unwrap_or_default());
        if let Some(known) = known {
            if known.name == "content-transfer-encoding" && self.content.options.detect_8bit_encoding_header {
                let value = value_of(header, name_len);
                self.content.encoding_is_8bit |=
                    value.eq_ignore_ascii_case(b"8bit") || value.eq_ignore_ascii_case(b"binary");
            }
            if section == Section::Primary {
                self.content.note_primary(known, header);
            }
        }
        if !is_dropped && !self.content.is_over() {
            self.content.write_header(header, self.out);
        }
    }

    fn end_of_primary(&mut self, errors: Errors) {
        if self.content.is_over() {
            return;
        }
        self.add_missing_headers();
        if errors.has(MimeError::NonEmptyEndOfHeader)
            && self.content.options.non_empty_end_of_header_action == EndOfHeader::AddHeader
        {
            encode(
                self.out,
                RecordType::NORMAL,
                b"MIME-Error: message header was not terminated by empty line",
            );
        }
        self.count();
        self.content.header_bytes = self.content.bytes;
    }

    #[inline]
    fn body(&mut self, kind: RecordType, data: &[u8], offset: u64) {
        if self.content.is_over() {
            return;
        }
        match self.content.rules.body(data, offset) {
            Change::Keep if !self.content.is_over() => encode(self.out, kind, data),
            Change::Keep | Change::Drop => {}
            Change::Prepend(line) => {
                header::write_text(
                    RecordType::NORMAL,
                    &line,
                    self.content.options.line_length_limit,
                    self.out,
                );
                encode(self.out, kind, data);
            }
            Change::Replace(text) => {
                header::write_text(kind, &text, self.content.options.line_length_limit, self.out);
            }
        }
    }

    fn error(&mut self, error: MimeError, text: &[u8]) {
        let is_told = self.content.options.non_empty_end_of_header_action == EndOfHeader::Reject;
        if error == MimeError::NonEmptyEndOfHeader && !is_told {
            return;
        }
        self.content.rules.mime_error(error, text);
    }
}

/// The part that ends with the last line end.
fn up_to_last_line_end(bytes: &[u8]) -> &[u8] {
    let end = memrchr(b'\n', bytes).map_or(0, |at| at.saturating_add(1));
    bytes.get(..end).unwrap_or_default()
}
