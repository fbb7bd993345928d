//! Writes the envelope: sender and recipients, rewritten, each recipient once.

use std::collections::BTreeSet;
use std::sync::Arc;

use postfix::notice::Notice;
use postfix::record::{Reader, RecordType, encode};

use crate::address::{quote, rewrite_internal};
use crate::incoming::{is_storable, verp_sender};
use crate::mapping::{AddressRole, AliasTooLarge, Form, Mapping};
use crate::notices::{EnvelopeNames, Notices};
use crate::options::Options;
use crate::refusal::{AddressKind, Refusal};
use crate::tables::{LookupFailed, Maps, Tables};
use postfix::text::printable;
use postfix::text::{equal_but_for_case, fold_into};

/// What was received of the envelope. Recipients leave as records at once; what stays is bounded by
/// `duplicate_filter_limit`.
#[derive(Debug)]
pub(crate) struct Envelope {
    options: Arc<Options>,
    tables: Arc<dyn Tables>,
    queue_id: String,
    /// The canonical sender; empty is the null sender.
    pub(crate) sender: Vec<u8>,
    pub(crate) verp_delimiters: Option<[u8; 2]>,
    /// Recipients received, duplicates too.
    pub(crate) received_count: u64,
    /// The first recipient as it was received.
    pub(crate) first_recipient: Vec<u8>,
    /// The last recipient as it is before virtual aliases: log lines about the content name it.
    last_recipient: Vec<u8>,
    /// The last one, as it was received, where tables were not asked about it.
    last_counted: Option<Vec<u8>>,
    /// Recipients written.
    pub(crate) written_count: u64,
    /// Bytes of the recipient records that the sender brought with it.
    pub(crate) sender_recipient_bytes: usize,
    /// Bytes of recipient records, those included.
    pub(crate) recipient_bytes: u64,
    /// Bytes that the records of recipients would have had which were only counted, where tables change nothing.
    pub(crate) counted_bytes: u64,
    /// The sender is 8-bit text.
    pub(crate) sender_is_utf8: bool,
    /// An address of the envelope requests SMTPUTF8.
    pub(crate) smtputf8_requested: bool,
    pub(crate) refusal: Option<Refusal>,
    pub(crate) notices: Notices,
    duplicates: Duplicates,
}

impl Envelope {
    pub(crate) fn new(options: Arc<Options>, tables: Arc<dyn Tables>, queue_id: String) -> Self {
        Self {
            duplicates: Duplicates::new(options.duplicate_filter_limit, options.smtputf8_enable),
            options,
            tables,
            queue_id,
            sender: Vec::new(),
            verp_delimiters: None,
            received_count: 0,
            first_recipient: Vec::new(),
            last_recipient: Vec::new(),
            last_counted: None,
            written_count: 0,
            sender_recipient_bytes: 0,
            recipient_bytes: 0,
            counted_bytes: 0,
            sender_is_utf8: false,
            smtputf8_requested: false,
            refusal: None,
            notices: Notices::default(),
        }
    }

    /// Takes the sender, and writes the recipients that it brings with it.
    pub(crate) fn set_sender(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        if !is_storable(raw) {
            self.refuse(Refusal::Address { kind: AddressKind::Sender });
            return;
        }
        let (sender, verp_delimiters) = match verp_sender(raw, &self.options.verp_delimiter_filter) {
            Ok(parsed) => parsed,
            Err(refusal) => return self.refuse(refusal),
        };
        self.change_sender(&sender, out);
        self.verp_delimiters = verp_delimiters;
        if self.sender.is_empty() && verp_delimiters.is_some() && self.refusal.is_none() {
            self.verp_delimiters = None;
            let text = format!("{}: ignoring VERP request for null sender", self.queue_id);
            self.notices.push(Notice::warning(text));
        }
    }

    /// Takes a sender in bare form, as the client sent it or a mail filter wants it, and writes the recipients that it
    /// brings with it.
    pub(crate) fn change_sender(&mut self, sender: &[u8], out: &mut Vec<u8>) {
        self.sender = rewrite_internal(&self.options, sender, &mut self.notices);
        if self.is_bounce_address() {
            self.sender.clear();
        }
        let sender = std::mem::take(&mut self.sender);
        self.sender = self.map(|mapping| mapping.envelope_address(AddressRole::EnvelopeSender, sender));
        let is_utf8 = self.is_utf8(&self.sender);
        self.sender_is_utf8 |= is_utf8;
        self.request_smtputf8(is_utf8);
        let before = out.len();
        self.add_copy(Maps::SenderBcc, &self.sender.clone(), out);
        self.sender_recipient_bytes = out.len().saturating_sub(before);
        self.recipient_bytes = self.recipient_bytes.saturating_add(self.sender_recipient_bytes as u64);
    }

    /// Takes one recipient, and writes it unless it is a duplicate. Returns it in its complete form, which mail filters
    /// hear; `None` if the message will be refused for its envelope.
    pub(crate) fn add_recipient(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Option<Vec<u8>> {
        self.received_count = self.received_count.saturating_add(1);
        if !is_storable(raw) {
            self.refuse(Refusal::Address { kind: AddressKind::Recipient });
        }
        if self.refusal.is_some() {
            return None;
        }
        if self.received_count == 1 {
            self.first_recipient = raw.to_vec();
        }
        let recipient = self.named_recipient(raw);
        self.last_recipient.clone_from(&recipient);
        let utf8 = self.smtputf8_requested && !recipient.is_ascii();
        let before = out.len();
        let written = Written { notify: 0, original_type: if utf8 { "utf-8" } else { "rfc822" } };
        self.write_recipient(written, raw, &recipient, out);
        self.add_copy(Maps::RecipientBcc, &recipient, out);
        self.recipient_bytes = self.recipient_bytes.saturating_add(out.len().abs_diff(before) as u64);
        Some(recipient)
    }

    /// Takes one recipient of a message that will be refused for its content or vanish: nothing is made of it.
    pub(crate) fn count_recipient(&mut self, raw: &[u8]) {
        self.received_count = self.received_count.saturating_add(1);
        if is_storable(raw) {
            // Three records with the address: one with its name and type, and two of two bytes more.
            const AROUND: u64 = 2 + "dsn_orig_rcpt=rfc822;".len() as u64 + 2 + 2;
            let bytes = (raw.len() as u64).saturating_mul(3).saturating_add(AROUND);
            self.counted_bytes = self.counted_bytes.saturating_add(bytes);
            self.last_counted = Some(raw.to_vec());
        } else {
            self.refuse(Refusal::Address { kind: AddressKind::Recipient });
        }
    }

    /// There are no more recipients: makes what log lines name of one that was only counted.
    pub(crate) fn name_last_recipient(&mut self) {
        if let Some(raw) = self.last_counted.take() {
            self.last_recipient = self.named_recipient(&raw);
        }
    }

    /// Writes a recipient that a mail filter adds. `notify`: when delivery is reported, 0 says nothing; `original`: the
    /// address that reports name, with its type, or nothing.
    pub(crate) fn add_recipient_of_filter(
        &mut self,
        address: &[u8],
        notify: u8,
        original: &[u8],
        out: &mut Vec<u8>,
    ) {
        let recipient = self.canonical_recipient(address);
        let mut records = Vec::new();
        self.write_recipient(
            Written { notify, original_type: "" },
            &recipient.clone(),
            &recipient,
            &mut records,
        );
        for item in Reader::new(&records) {
            let Ok((_, record)) = item else { return };
            if record.kind == RecordType::ORIGINAL_RECIPIENT && !original.is_empty() {
                encode(out, RecordType::ATTRIBUTE, &[b"dsn_orig_rcpt=", original].concat());
            }
            encode(out, record.kind, record.data);
        }
    }

    /// The records of a recipient that a filter had added are gone: it may be added again.
    pub(crate) fn forget_recipient_of_filter(&mut self, records: &[u8]) {
        let mut written = Written { notify: 0, original_type: "" };
        let mut original: &[u8] = b"";
        for item in Reader::new(records) {
            let Ok((_, record)) = item else { return };
            match record.kind {
                RecordType::ORIGINAL_RECIPIENT => original = record.data,
                RecordType::ATTRIBUTE => {
                    let notify = record.data.strip_prefix(b"notify_flags=");
                    let notify = notify.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
                    written.notify = notify.unwrap_or(written.notify);
                }
                RecordType::RECIPIENT => {
                    let history = History { written, original, reported: original };
                    let distinguish = self.options.enable_original_recipient;
                    self.duplicates.forget(distinguish.then_some(history), record.data);
                }
                _ => {}
            }
        }
    }

    /// Sender and last recipient for log lines about the content.
    pub(crate) fn names(&self) -> EnvelopeNames {
        EnvelopeNames {
            sender: self.logged(&self.sender),
            recipient: (self.received_count > 0).then(|| self.logged(&self.last_recipient)),
        }
    }

    /// An address as log lines show it.
    pub(crate) fn logged(&self, address: &[u8]) -> String {
        let Options { log_external_addresses, smtputf8_enable, .. } = *self.options;
        if log_external_addresses && !address.is_empty() {
            printable(&quote(address), smtputf8_enable)
        } else {
            printable(address, smtputf8_enable)
        }
    }

    /// Writes a recipient that the client did not name: no delivery reports are sent about it.
    pub(crate) fn add_automatic_recipient(&mut self, address: &[u8], out: &mut Vec<u8>) {
        let recipient = self.canonical_recipient(address);
        self.write_recipient(Written { notify: 1, original_type: "" }, &recipient.clone(), &recipient, out);
    }

    /// Writes the recipient that a table names for a sender or recipient, if it names one.
    fn add_copy(&mut self, maps: Maps, address: &[u8], out: &mut Vec<u8>) {
        if address.is_empty() || !self.options.address_mapping || !self.tables.has(maps) {
            return;
        }
        let found = self.map(|mapping| {
            let found = mapping.find(maps, address, Form::ExternalThenInternal);
            found.map(|found| found.map(|found| found.value))
        });
        match found {
            Ok(None) => {}
            Ok(Some(copy)) => self.add_automatic_recipient(&copy, out),
            Err(LookupFailed) => {
                let (id, parameter) = (&self.queue_id, maps.parameter());
                let text =
                    format!("{id}: {parameter} map lookup problem -- message not accepted, try again later");
                self.notices.push(Notice::warning(text));
                self.refuse(Refusal::Write);
            }
        }
    }

    /// The canonical form of a recipient that the client has named.
    fn named_recipient(&mut self, raw: &[u8]) -> Vec<u8> {
        if raw.is_empty() {
            self.canonical_recipient(&self.options.empty_address_recipient.clone().into_bytes())
        } else {
            self.canonical_recipient(raw)
        }
    }

    /// Rewrites and maps the address of a recipient.
    fn canonical_recipient(&mut self, address: &[u8]) -> Vec<u8> {
        let recipient = rewrite_internal(&self.options, address, &mut self.notices);
        let recipient =
            self.map(|mapping| mapping.envelope_address(AddressRole::EnvelopeRecipient, recipient));
        self.request_smtputf8(self.is_utf8(&recipient));
        recipient
    }

    /// Asks tables; remembers if they failed.
    fn map<T>(&mut self, work: impl FnOnce(&mut Mapping<'_>) -> T) -> T {
        let Self { options, tables, queue_id, notices, .. } = self;
        let mut mapping = Mapping::new(options, tables.as_ref(), queue_id, notices);
        let done = work(&mut mapping);
        if mapping.failed {
            self.refuse(Refusal::Write);
        }
        done
    }

    /// `MAILER-DAEMON` at our own domain is who bounces come from, and is never written to.
    fn is_bounce_address(&self) -> bool {
        const NAME: &[u8] = b"MAILER-DAEMON@";
        let is_prefix = self.sender.get(..NAME.len()).is_some_and(|start| start.eq_ignore_ascii_case(NAME));
        if !is_prefix {
            return false;
        }
        let own = rewrite_internal(&self.options, b"MAILER-DAEMON", &mut Notices::default());
        equal_but_for_case(&self.sender, &own, self.options.smtputf8_enable)
    }

    fn is_utf8(&self, address: &[u8]) -> bool {
        self.options.smtputf8_enable && !address.is_ascii() && std::str::from_utf8(address).is_ok()
    }

    fn request_smtputf8(&mut self, address_is_utf8: bool) {
        self.smtputf8_requested |= address_is_utf8 && self.options.smtputf8_autodetect;
    }

    /// The first reason counts, but for one that the sender can do something about.
    fn refuse(&mut self, refusal: Refusal) {
        let is_graver = self.refusal == Some(Refusal::Write) && matches!(refusal, Refusal::Defer { .. });
        if is_graver || self.refusal.is_none() {
            self.refusal = Some(refusal);
        }
    }

    /// Writes what a recipient becomes by virtual aliases, all with the same original recipient.
    fn write_recipient(&mut self, written: Written, original: &[u8], recipient: &[u8], out: &mut Vec<u8>) {
        match self.map(|mapping| mapping.final_recipients(recipient)) {
            Ok(None) => self.write_final(written, original, recipient, recipient, out),
            Ok(Some(results)) => {
                for result in results {
                    self.write_final(written, original, recipient, &result, out);
                }
            }
            Err(AliasTooLarge) => {
                self.refuse(Refusal::Defer { text: "4.6.0 Alias expansion error".to_owned() });
            }
        }
    }

    /// Writes a recipient unless it is a duplicate. `reported`: what delivery reports call it.
    fn write_final(
        &mut self,
        written: Written,
        original: &[u8],
        reported: &[u8],
        recipient: &[u8],
        out: &mut Vec<u8>,
    ) {
        let Written { notify, original_type } = written;
        let history = History { written, original, reported };
        if !self.duplicates.is_new(self.options.enable_original_recipient.then_some(history), recipient) {
            return;
        }
        if notify != 0 {
            encode(out, RecordType::ATTRIBUTE, format!("notify_flags={notify}").as_bytes());
        }
        if !original_type.is_empty() && !reported.is_empty() {
            let attribute = [b"dsn_orig_rcpt=", original_type.as_bytes(), b";", reported].concat();
            encode(out, RecordType::ATTRIBUTE, &attribute);
        }
        encode(out, RecordType::ORIGINAL_RECIPIENT, original);
        encode(out, RecordType::RECIPIENT, recipient);
        self.written_count = self.written_count.saturating_add(1);
    }
}

/// What is written before a recipient.
#[derive(Clone, Copy)]
struct Written {
    /// When delivery is reported: 1 is never, 0 says nothing.
    notify: u8,
    /// The type of the address that reports name; empty says nothing.
    original_type: &'static str,
}

/// What makes a difference between recipients beside the final address.
#[derive(Clone, Copy)]
struct History<'a> {
    written: Written,
    /// As it was received.
    original: &'a [u8],
    /// Before virtual aliases.
    reported: &'a [u8],
}

/// The recipients that were seen. When it is full it learns no more, but knows what it knows.
#[derive(Debug)]
struct Duplicates {
    /// 0 is no limit.
    limit: usize,
    utf8: bool,
    seen: BTreeSet<Box<[u8]>>,
    key: Vec<u8>,
}

impl Duplicates {
    const fn new(limit: usize, utf8: bool) -> Self {
        Self { limit, utf8, seen: BTreeSet::new(), key: Vec::new() }
    }

    /// True for a recipient that was not seen before, or was not learnt.
    fn is_new(&mut self, history: Option<History<'_>>, recipient: &[u8]) -> bool {
        self.make_key(history, recipient);
        if self.seen.contains(self.key.as_slice()) {
            return false;
        }
        if self.limit == 0 || self.seen.len() < self.limit {
            self.seen.insert(self.key.as_slice().into());
        }
        true
    }

    /// The recipient is as if it had never been seen.
    fn forget(&mut self, history: Option<History<'_>>, recipient: &[u8]) {
        self.make_key(history, recipient);
        self.seen.remove(self.key.as_slice());
    }

    fn make_key(&mut self, history: Option<History<'_>>, recipient: &[u8]) {
        self.key.clear();
        if let Some(History { written, original, reported }) = history {
            self.key.push(written.notify);
            self.key.extend(written.original_type.bytes().next());
            let start = self.key.len();
            fold_into(original, self.utf8, &mut self.key);
            self.key.push(b'\n');
            let middle = self.key.len();
            fold_into(recipient, self.utf8, &mut self.key);
            if reported != recipient {
                let end = self.key.len();
                self.key.push(b'\n');
                fold_into(reported, self.utf8, &mut self.key);
                // What differs in case only is the same here too.
                if self.key.get(middle..end) == self.key.get(end.saturating_add(1)..) {
                    self.key.truncate(end);
                }
            }
            // Mostly all are the same, and a part of the key says it all.
            let (original, rest) = self.key.split_at(middle);
            if original.get(start..).and_then(|original| original.strip_suffix(b"\n")) == Some(rest) {
                self.key.truncate(middle.saturating_sub(1));
            }
        } else {
            fold_into(recipient, self.utf8, &mut self.key);
        }
    }
}

#[cfg(test)]
mod tests;
