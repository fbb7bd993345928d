//! What filters do to one message: the envelope as they hear it, and what their decisions and changes make of it.

use std::collections::HashSet;
use std::sync::Arc;

use postfix::milter_protocol::Edit;
use postfix::notice::Notice;
use postfix::record::{Reader, RecordType, encode};

use super::checks::HeaderRules;
use super::filter::Response;
use super::headers::{Edits, LimitExceeded, new_header};
use crate::address::{Token, internal, parse_list, quote};
use crate::envelope::Envelope;
use crate::message::{Finished, LAYOUT_BYTES};
use crate::options::Options;
use crate::printable::printable;
use crate::refusal::Refusal;
use crate::tables::Tables;

/// Bytes of addresses and parameters in changes of one message's envelope.
const ENVELOPE_EDIT_BYTES_MAX: usize = 1024 * 1024;

/// The record, never in a queue file, that tells a recipient as filters hear it; the records of the queue file follow,
/// none for a duplicate.
pub(crate) const HEARD: RecordType = RecordType(b'=');

/// When filters decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// When they hear of the client.
    Connect,
    /// When they hear its greeting.
    Ehlo,
    /// When they hear the sender.
    Mail,
    /// When they hear a recipient.
    Rcpt,
    /// Before the content.
    Data,
    /// With the content.
    EndOfMessage,
}

impl Stage {
    const fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Ehlo => "EHLO",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::EndOfMessage => "END-OF-MESSAGE",
        }
    }
}

/// One message before the filters.
#[derive(Debug)]
pub struct Inspection {
    pub(super) options: Arc<Options>,
    envelope: Envelope,
    pub(super) queue_id: String,
    /// The address that filters and log lines have for the client.
    pub(super) client_address: &'static str,
    /// Where the headers end and the body begins in the content records.
    header_bytes: u64,
    /// The last recipient that filters heard of.
    recipient: Option<Vec<u8>>,
    pub(super) tables: Arc<dyn Tables>,
    pub(super) header_rules: HeaderRules,
    /// Changes of headers.
    pub edits: Edits,
    /// A change of a header was not ASCII.
    has_8bit_header: bool,
    sender: Option<NewSender>,
    /// Records of the recipients that were added.
    added: Vec<u8>,
    deleted: HashSet<Vec<u8>>,
    envelope_edit_bytes: usize,
    pub(super) refusal: Option<Refusal>,
    pub(super) is_held: bool,
    pub(super) is_discarded: bool,
    pub(super) notices: Vec<Notice>,
}

#[derive(Debug, Default)]
struct NewSender {
    address: Vec<u8>,
    /// Records of the recipients that it and those before it have brought with them, the last first.
    copies: Vec<u8>,
    /// `full` or `hdrs`, as a number.
    returned: Option<u8>,
    envelope_id: Option<Vec<u8>>,
}

impl Inspection {
    pub(crate) fn new(
        options: Arc<Options>,
        tables: Arc<dyn Tables>,
        envelope: Envelope,
        queue_id: String,
        client_address: &'static str,
        header_bytes: u64,
    ) -> Self {
        Self {
            options,
            envelope,
            queue_id,
            client_address,
            header_bytes,
            recipient: None,
            tables,
            header_rules: HeaderRules::default(),
            edits: Edits::default(),
            has_8bit_header: false,
            sender: None,
            added: Vec::new(),
            deleted: HashSet::new(),
            envelope_edit_bytes: 0,
            refusal: None,
            is_held: false,
            is_discarded: false,
            notices: Vec::new(),
        }
    }

    /// Where the headers end and the body begins in the content records.
    #[must_use]
    pub const fn header_bytes(&self) -> u64 {
        self.header_bytes
    }

    /// The queue ID.
    #[must_use]
    pub fn queue_id(&self) -> &str {
        &self.queue_id
    }

    /// The sender as filters hear it: quoted where necessary, without `<>`.
    #[must_use]
    pub fn heard_sender(&self) -> Vec<u8> {
        heard(&self.envelope.sender)
    }

    /// A recipient, in the bare form of a record [`recipients`] hands out: returns what filters hear.
    pub fn recipient(&mut self, address: &[u8]) -> Vec<u8> {
        self.recipient = Some(address.to_vec());
        heard(address)
    }

    /// Whether filters are told more of this message.
    #[must_use]
    pub const fn goes_on(&self) -> bool {
        self.refusal.is_none() && !self.is_discarded
    }

    /// Why the message is refused, if it is.
    #[must_use]
    pub const fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// A rule about the content has put the message on hold already.
    pub const fn hold(&mut self) {
        self.is_held = true;
    }

    /// Whether it goes into the `hold` queue.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.is_held
    }

    /// Whether it is taken and dropped.
    #[must_use]
    pub const fn is_discarded(&self) -> bool {
        self.is_discarded
    }

    /// What is to be logged, since the last time.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Does what a filter has decided.
    pub fn apply(&mut self, stage: Stage, response: &Response) {
        if !self.goes_on() {
            return;
        }
        match response {
            Response::Hold => {
                if !std::mem::replace(&mut self.is_held, true) {
                    self.log("milter-hold", stage, "milter triggers HOLD action");
                }
            }
            Response::Discard => {
                self.is_discarded = true;
                self.log("milter-discard", stage, "milter triggers DISCARD action");
            }
            Response::Refuse(reply) => {
                let text = reply.get(4..).unwrap_or_default();
                self.log("milter-reject", stage, text);
                // The reply to the client is one line.
                let text = text.chars().map(|c| if c.is_control() { '_' } else { c }).collect();
                self.refusal = Some(if reply.starts_with('5') {
                    Refusal::Content { text }
                } else {
                    Refusal::Defer { text }
                });
                if stage == Stage::Rcpt {
                    self.refuse_a_refused_recipient();
                }
            }
        }
    }

    /// There is no way to refuse one recipient of many.
    fn refuse_a_refused_recipient(&mut self) {
        let queue_id = &self.queue_id;
        for text in [
            "milter configuration error: can't reject recipient in non-smtpd(8) submission",
            "message not accepted, try again later",
        ] {
            self.notices.push(Notice::warning(format!("{queue_id}: {text}")));
        }
        self.refusal = Some(Refusal::Defer { text: "4.3.5 Server configuration error".to_owned() });
    }

    /// What went wrong for want of disk or memory: the message is refused for now.
    pub fn fail(&mut self) {
        self.refusal.get_or_insert(Refusal::Write);
    }

    fn log(&mut self, action: &str, stage: Stage, text: &str) {
        let line = format!(
            "{}: {action}: {} from localhost[{}]: {};{}",
            self.queue_id,
            stage.name(),
            self.client_address,
            self.shown(text.as_bytes()),
            self.log_names(),
        );
        self.notices.push(Notice::info(line));
    }

    /// Sender, and from the first recipient on that and the protocol, as log lines have them.
    pub(super) fn log_names(&self) -> String {
        let mut names = format!(" from=<{}>", self.envelope.logged(&self.envelope.sender));
        if let Some(recipient) = &self.recipient {
            names.push_str(&format!(" to=<{}> proto=QMQP", self.envelope.logged(recipient)));
        }
        names
    }

    fn shown(&self, bytes: &[u8]) -> String {
        printable(bytes, self.options.smtputf8_enable)
    }

    pub(super) fn warn(&mut self, text: &str) {
        self.notices.push(Notice::warning(text.to_owned()));
    }

    /// Makes a change, but for that of the body.
    ///
    /// # Errors
    /// There are too many; the filter is to be treated as one out of order.
    pub fn edit(&mut self, edit: &Edit, leading_blank: bool) -> Result<(), LimitExceeded> {
        let edited = self.make(edit, leading_blank);
        let notices = std::mem::take(&mut self.envelope.notices).into_lines(&self.queue_id);
        self.notices.extend(notices);
        if let Some(refusal) = self.envelope.refusal.take() {
            self.refusal.get_or_insert(refusal);
        }
        edited
    }

    fn make(&mut self, edit: &Edit, leading_blank: bool) -> Result<(), LimitExceeded> {
        match edit {
            Edit::ChangeSender { address, parameters } => {
                self.count(address, parameters)?;
                self.change_sender(address, parameters);
            }
            Edit::AddRecipient { address, parameters } => {
                self.count(address, parameters)?;
                self.add_recipient(address, parameters);
            }
            Edit::DeleteRecipient { address } => {
                self.count(address, b"")?;
                self.delete_recipient(address);
            }
            _ => {
                let header = match new_header(edit, leading_blank) {
                    None => None,
                    Some(header) => match self.check_header(header) {
                        None => return Ok(()),
                        checked => checked,
                    },
                };
                if let Some(header) = &header {
                    self.has_8bit_header |= !header.is_ascii() && self.options.smtputf8_enable;
                }
                let Options { header_size_limit, line_length_limit, .. } = *self.options;
                self.edits.push(edit, header.as_deref(), header_size_limit, line_length_limit)?;
            }
        }
        Ok(())
    }

    fn count(&mut self, address: &[u8], parameters: &[u8]) -> Result<(), LimitExceeded> {
        // What an address costs beside its bytes.
        const OVERHEAD: usize = 64;
        let bytes = address.len().saturating_add(parameters.len()).saturating_add(OVERHEAD);
        self.envelope_edit_bytes = self.envelope_edit_bytes.saturating_add(bytes);
        if self.envelope_edit_bytes > ENVELOPE_EDIT_BYTES_MAX { Err(LimitExceeded) } else { Ok(()) }
    }

    fn change_sender(&mut self, address: &[u8], parameters: &[u8]) {
        let mut new = self.sender.take().unwrap_or_default();
        for parameter in words(parameters) {
            let (name, value) = name_and_value(parameter);
            let is_good = if name.eq_ignore_ascii_case(b"RET") {
                let returned = match value.to_ascii_lowercase().as_slice() {
                    b"full" => Some(1),
                    b"hdrs" => Some(2),
                    _ => None,
                };
                new.returned = returned.or(new.returned);
                returned.is_some()
            } else if name.eq_ignore_ascii_case(b"ENVID") {
                let id = xtext(value).filter(|id| id.iter().all(|&b| b == b'\t' || matches!(b, 0x20..0x7f)));
                let is_good = id.is_some();
                new.envelope_id = id.or(new.envelope_id);
                is_good
            } else {
                false
            };
            if !is_good {
                let shown = self.shown(parameter);
                self.warn(&format!("Ignoring bad ESMTP parameter \"{shown}\" in SMFI_CHGFROM request"));
            }
        }
        let (sender, more) = self.first_address(address);
        if more {
            let (queue_id, shown) = (self.queue_id.clone(), self.shown(address));
            self.warn(&format!("{queue_id}: Milter request to add multi-sender: \"{shown}\""));
        }
        let mut copies = Vec::new();
        self.envelope.change_sender(&sender.unwrap_or_default(), &mut copies);
        copies.append(&mut new.copies);
        new.copies = copies;
        new.address.clone_from(&self.envelope.sender);
        self.sender = Some(new);
    }

    pub(super) fn add_recipient(&mut self, address: &[u8], parameters: &[u8]) {
        let queue_id = self.queue_id.clone();
        let (mut notify, mut original) = (0, None);
        for parameter in words(parameters) {
            let shown: String = self.shown(parameter).chars().take(100).collect();
            let (name, value) = name_and_value(parameter);
            if name.eq_ignore_ascii_case(b"NOTIFY") {
                match (notify, notify_mask(value)) {
                    (0, Some(mask)) => notify = mask,
                    _ => self.warn(&format!(
                        "{queue_id}: Bad NOTIFY parameter from Milter or header/body_checks: \"{shown}\""
                    )),
                }
            } else if name.eq_ignore_ascii_case(b"ORCPT") {
                match (&original, original_recipient(value)) {
                    (None, Some(address)) => original = Some(address),
                    _ => self.warn(&format!(
                        "{queue_id}: Bad ORCPT parameter from Milter or header/body_checks: \"{shown}\""
                    )),
                }
            } else {
                self.warn(&format!(
                    "{queue_id}: ignoring ESMTP argument from Milter or header/body_checks: \"{shown}\""
                ));
            }
        }
        let (recipient, more) = self.first_address(address);
        if more {
            let shown = self.shown(address);
            self.warn(&format!(
                "{queue_id}: Milter or header/body_checks request to add multi-recipient: \"{shown}\""
            ));
        }
        match recipient {
            Some(recipient) => {
                let original = original.unwrap_or_default();
                self.envelope.add_recipient_of_filter(&recipient, notify, &original, &mut self.added);
            }
            None => self.warn(&format!("{queue_id}: ignoring attempt from Milter to add null recipient")),
        }
    }

    fn delete_recipient(&mut self, address: &[u8]) {
        let (recipient, more) = self.first_address(address);
        if more {
            let (queue_id, shown) = (self.queue_id.clone(), self.shown(address));
            self.warn(&format!("{queue_id}: Milter request to drop multi-recipient: \"{shown}\""));
        }
        let deleted = HashSet::from([recipient.unwrap_or_default()]);
        let mut left = Vec::with_capacity(self.added.len());
        let added = std::mem::take(&mut self.added);
        without(&deleted, &added, &mut left, &mut |records| {
            self.envelope.forget_recipient_of_filter(records)
        });
        self.added = left;
        if let Some(new) = &mut self.sender {
            let copies = std::mem::take(&mut new.copies);
            without(&deleted, &copies, &mut new.copies, &mut |_| {});
        }
        self.deleted.extend(deleted);
    }

    /// The first address of a text, bare, and whether there are more.
    fn first_address(&self, text: &[u8]) -> (Option<Vec<u8>>, bool) {
        let list = parse_list(text, self.options.header_address_token_limit);
        let mut addresses = list.iter().filter_map(|token| match token {
            Token::Address(tokens) => Some(tokens),
            _ => None,
        });
        let first = addresses.next().map(|tokens| internal(tokens, true));
        (first, addresses.next().is_some())
    }

    /// Copies records of recipients that stay. Returns how many recipients those are.
    pub fn keep_recipients(&self, records: &[u8], out: &mut Vec<u8>) -> u64 {
        if self.deleted.is_empty() {
            out.extend_from_slice(records);
            return count_recipients(records);
        }
        let mut gone = 0_u64;
        without(&self.deleted, records, out, &mut |_| gone = gone.saturating_add(1));
        count_recipients(records).saturating_sub(gone)
    }

    /// The records of the recipients that filters have added, once all are known.
    #[must_use]
    pub fn added_recipients(&self) -> &[u8] {
        &self.added
    }

    /// The records of the recipients that new senders have brought with them.
    #[must_use]
    pub fn new_sender_copies(&self) -> &[u8] {
        self.sender.as_ref().map_or(&[], |new| new.copies.as_slice())
    }

    /// How many recipients were added, one way or the other.
    #[must_use]
    pub fn added_count(&self) -> u64 {
        count_recipients(&self.added).saturating_add(count_recipients(self.new_sender_copies()))
    }

    /// Brings what stands around the content up to date; our Received: header and the From: header move into it.
    pub fn change_envelope(&mut self, finished: &mut Finished) {
        if let Some(new) = &self.sender {
            let (envelope, behind_sender) = with_sender(&finished.envelope, new);
            finished.envelope = envelope;
            finished.sender_copies.envelope_offset = behind_sender;
        }
        let mut extracted = Vec::with_capacity(finished.extracted.len());
        let automatic = std::mem::take(&mut finished.extracted);
        finished.counts.recipients = self.keep_recipients(&automatic, &mut extracted);
        finished.extracted = extracted;
        let HeaderRules { filter, redirect, .. } = &self.header_rules;
        for (kind, value) in [(RecordType::FILTER, filter), (RecordType::REDIRECT, redirect)] {
            if let Some(value) = value {
                encode(&mut finished.extracted, kind, value);
            }
        }
        finished.received = Vec::new();
        finished.from = None;
        let requested =
            self.envelope.smtputf8_requested || self.has_8bit_header && self.options.smtputf8_autodetect;
        finished.counts.send_options |= u32::from(requested)
            | if self.has_8bit_header { 2 } else { 0 }
            | if self.envelope.sender_is_utf8 { 4 } else { 0 };
    }

    /// Whether the message as it was written, between what is in `finished`, is not too large. `recipients` are those among
    /// the records in front.
    pub fn seal(
        &mut self,
        finished: &mut Finished,
        content_bytes: u64,
        recipient_bytes: u64,
        recipients: u64,
    ) {
        finished.counts.recipients = finished.counts.recipients.saturating_add(recipients);
        let around = [finished.envelope.len() as u64, finished.extracted.len() as u64];
        let bytes = around
            .into_iter()
            .chain([content_bytes, recipient_bytes])
            .fold(LAYOUT_BYTES, u64::saturating_add);
        if self.exceeds_limit(bytes) {
            self.refuse_size();
        }
    }

    /// Whether a file of so many bytes is too large.
    #[must_use]
    pub fn exceeds_limit(&self, bytes: u64) -> bool {
        let limit = self.options.message_size_limit;
        limit != 0 && bytes > limit
    }

    /// What filters made of the message is too large.
    pub fn refuse_size(&mut self) {
        if self.refusal.is_none() {
            let queue_id = &self.queue_id;
            self.notices.push(Notice::warning(format!("{queue_id}: queue file size limit exceeded")));
            self.refusal = Some(Refusal::Size);
        }
    }

    /// Bytes in a record of a new body.
    #[must_use]
    pub fn line_length_limit(&self) -> usize {
        self.options.line_length_limit
    }
}

/// Takes apart what [`Message::recipient`](crate::Message::recipient) wrote for filters: each recipient as they hear it, in
/// bare form, and the records of the queue file. Whole records only.
pub fn recipients(records: &[u8], heard: &mut impl FnMut(&[u8]), out: &mut Vec<u8>) {
    for item in Reader::new(records) {
        let Ok((_, record)) = item else { return };
        if record.kind == HEARD {
            heard(record.data);
        } else {
            encode(out, record.kind, record.data);
        }
    }
}

/// The external form; the null address stays as it is.
fn heard(address: &[u8]) -> Vec<u8> {
    if address.is_empty() { Vec::new() } else { quote(address) }
}

fn count_recipients(records: &[u8]) -> u64 {
    Reader::new(records)
        .filter(|item| matches!(item, Ok((_, record)) if record.kind == RecordType::RECIPIENT))
        .count() as u64
}

/// Copies records, but not the recipients whose original address is among these, nor what belongs to them; those are
/// handed to `gone`.
fn without(deleted: &HashSet<Vec<u8>>, records: &[u8], out: &mut Vec<u8>, gone: &mut impl FnMut(&[u8])) {
    let mut start = None;
    let mut original: Option<&[u8]> = None;
    let mut reader = Reader::new(records);
    while let Some(Ok((offset, record))) = reader.next() {
        let about_recipient = match record.kind {
            RecordType::ATTRIBUTE => {
                record.data.starts_with(b"dsn_orig_rcpt=") || record.data.starts_with(b"notify_flags=")
            }
            RecordType::ORIGINAL_RECIPIENT | RecordType::RECIPIENT => true,
            _ => false,
        };
        let end = reader.offset();
        if !about_recipient {
            out.extend_from_slice(records.get(offset..end).unwrap_or_default());
            continue;
        }
        let begin = *start.get_or_insert(offset);
        match record.kind {
            RecordType::ORIGINAL_RECIPIENT => original = Some(record.data),
            RecordType::RECIPIENT => {
                let group = records.get(begin..end).unwrap_or_default();
                if deleted.contains(original.unwrap_or(record.data)) {
                    gone(group);
                } else {
                    out.extend_from_slice(group);
                }
                start = None;
                original = None;
            }
            _ => {}
        }
    }
}

/// The envelope with another sender and what goes before it; and where that sender ends.
fn with_sender(envelope: &[u8], new: &NewSender) -> (Vec<u8>, usize) {
    let mut out = Vec::with_capacity(envelope.len());
    let mut behind_sender = 0;
    for item in Reader::new(envelope) {
        let Ok((_, record)) = item else { break };
        if record.kind != RecordType::SENDER {
            encode(&mut out, record.kind, record.data);
            continue;
        }
        if let Some(id) = &new.envelope_id {
            encode(&mut out, RecordType::ATTRIBUTE, &[b"envelope_id=", id.as_slice()].concat());
        }
        if let Some(returned) = new.returned {
            encode(&mut out, RecordType::ATTRIBUTE, format!("ret_flags={returned}").as_bytes());
        }
        encode(&mut out, RecordType::SENDER, &new.address);
        behind_sender = out.len();
    }
    (out, behind_sender)
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b' ').filter(|word| !word.is_empty())
}

fn name_and_value(parameter: &[u8]) -> (&[u8], &[u8]) {
    let equals = memchr::memchr(b'=', parameter).unwrap_or(parameter.len());
    let (name, rest) = parameter.split_at(equals);
    (name, rest.get(1..).unwrap_or_default())
}

/// RFC 3461: `NEVER` alone, or any of the others.
fn notify_mask(value: &[u8]) -> Option<u8> {
    let mut mask = 0_u8;
    for word in value.split(|&byte| byte == b',') {
        mask |= match word.to_ascii_uppercase().as_slice() {
            b"NEVER" => 1,
            b"SUCCESS" => 2,
            b"FAILURE" => 4,
            b"DELAY" => 8,
            _ => return None,
        };
    }
    (mask == 1 || mask & 1 == 0 && mask != 0).then_some(mask)
}

/// RFC 3461: type, `;`, and an address in xtext.
fn original_recipient(value: &[u8]) -> Option<Vec<u8>> {
    let (kind, address) = value.split_at_checked(memchr::memchr(b';', value)?)?;
    let address = address.get(1..)?;
    if kind.is_empty() {
        return None;
    }
    Some([kind, b";", &xtext(address)?].concat())
}

/// RFC 3461: `+` and two capital hexadecimal digits are one byte. Without NUL, which no record can hold.
fn xtext(text: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'+' {
            plain.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        plain.push(digit()?.checked_mul(16)?.checked_add(digit()?)?);
    }
    (!plain.contains(&0) && !plain.contains(&b'\n')).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_recipients() {
        assert_eq!(notify_mask(b"never"), Some(1));
        assert_eq!(notify_mask(b"SUCCESS,delay"), Some(10));
        assert_eq!(notify_mask(b"never,delay"), None);
        assert_eq!(notify_mask(b""), None);
        assert_eq!(original_recipient(b"rfc822;a+40b").as_deref(), Some(b"rfc822;a@b".as_slice()));
        assert_eq!(original_recipient(b";a"), None);
        assert_eq!(original_recipient(b"rfc822"), None);
        assert_eq!(xtext(b"a+4"), None);
        assert_eq!(xtext(b"a+00"), None);
    }

    #[test]
    fn a_deleted_recipient_takes_what_belongs_to_it() {
        let mut records = Vec::new();
        for (kind, data) in [
            (RecordType::ATTRIBUTE, "encoding=8bit"),
            (RecordType::ATTRIBUTE, "notify_flags=1"),
            (RecordType::ORIGINAL_RECIPIENT, "a"),
            (RecordType::RECIPIENT, "a@x"),
            (RecordType::ORIGINAL_RECIPIENT, "b"),
            (RecordType::RECIPIENT, "b@x"),
            (RecordType::ORIGINAL_RECIPIENT, "a"),
            (RecordType::RECIPIENT, "c@x"),
        ] {
            encode(&mut records, kind, data.as_bytes());
        }
        let (mut left, mut gone) = (Vec::new(), 0);
        without(&HashSet::from([b"a".to_vec()]), &records, &mut left, &mut |_| gone += 1);
        let kinds: Vec<_> = Reader::new(&left).map(|item| char::from(item.unwrap().1.kind.0)).collect();
        assert_eq!((kinds, gone), (vec!['A', 'O', 'R'], 2));
    }
}
