//! Changes of the envelope that filters request: another sender, added or deleted recipients.

use std::collections::HashSet;

use postfix::record::{Reader, RecordType, encode};

use super::decided::{HeaderRules, NewSender};
use super::headers::LimitExceeded;
use super::inspection::Inspection;
use super::parameters::{name_and_value, notify_mask, original_recipient, words, xtext};
use super::recipients::{count_recipients, without};
use crate::address::{Token, internal, parse_list};
use crate::finished::Finished;

/// Bytes of addresses and parameters in changes of one message's envelope.
const ENVELOPE_EDIT_BYTES_MAX: usize = 1024 * 1024;

impl Inspection {
    /// A change of the envelope, which takes memory.
    pub(super) fn count(&mut self, address: &[u8], parameters: &[u8]) -> Result<(), LimitExceeded> {
        // What an address costs beside its bytes.
        const OVERHEAD: usize = 64;
        let bytes = address.len().saturating_add(parameters.len()).saturating_add(OVERHEAD);
        self.envelope_edit_bytes = self.envelope_edit_bytes.saturating_add(bytes);
        if self.envelope_edit_bytes > ENVELOPE_EDIT_BYTES_MAX { Err(LimitExceeded) } else { Ok(()) }
    }

    pub(super) fn change_sender(&mut self, address: &[u8], parameters: &[u8]) {
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

    pub(super) fn delete_recipient(&mut self, address: &[u8]) {
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
