//! Content on its way into a queue file: what headers mean, which are dropped, rewritten or added.

use std::sync::Arc;

use postfix::notice::Notice;
use postfix::queue_file::encode_pointer;
use postfix::record::{RecordType, encode};

use crate::generated;
use crate::header::{self, Addresses, Known, Seen, name_len};
use crate::mime::{Parser, Receiver, Section};
use crate::notices::Notices;
use crate::options::{Arrival, Options};
use crate::printable::printable;
use crate::tables::Tables;

/// Bytes of a header that are logged; the logs of Postfix cut lines at this length.
const LOGGED_VALUE_LEN_MAX: usize = 2000;

/// What is known from the content.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) options: Arc<Options>,
    pub(crate) tables: Arc<dyn Tables>,
    pub(crate) arrival: Arrival,
    /// Received: headers anywhere, ours included.
    hop_count: u32,
    pub(crate) hops_exceeded: bool,
    seen: Seen,
    is_resent: bool,
    pub(crate) encoding_is_8bit: bool,
    pub(crate) has_8bit_header: bool,
    /// Bytes of content records so far.
    pub(crate) bytes: u64,
    /// Where the place of the From: header is.
    pub(crate) slot: Option<u64>,
    pub(crate) notices: Notices,
    /// A record without stray CR and LF.
    cleaned: Vec<u8>,
}

impl Content {
    pub(crate) fn new(options: Arc<Options>, tables: Arc<dyn Tables>, arrival: Arrival) -> Self {
        Self {
            hop_count: 1,
            hops_exceeded: options.hopcount_limit <= 1,
            options,
            tables,
            arrival,
            seen: Seen::NONE,
            is_resent: false,
            encoding_is_8bit: false,
            has_8bit_header: false,
            bytes: 0,
            slot: None,
            notices: Notices::default(),
            cleaned: Vec::new(),
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

    /// Takes a record as it came. Checks that look at each record before it is taken apart come here.
    #[inline]
    pub(crate) fn record(&mut self, parser: &mut Parser, kind: RecordType, data: &[u8]) {
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
    pub(crate) const fn count(&mut self) {
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
            encode_pointer(self.out, 0);
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
        if self.content.hops_exceeded {
            return;
        }
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
