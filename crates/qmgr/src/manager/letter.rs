//! A message as its queue file has it, with the recipients that fit into memory.

use std::fmt;

use postfix::queue_file::letter::{Content, Event, Letter, LetterError, RecipientState};
use postfix::queue_file::reader::Source;
use spool::lease::Lease;
use spool::{Disk, SpoolError, Timestamp};

use crate::request::{Client, Recipient, Returned};

/// What is the same for all recipients.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    pub(super) sender: Vec<u8>,
    pub(super) arrival: Timestamp,
    /// Seconds since 1970: the base of expiry.
    pub(super) created: u64,
    pub(super) content: std::ops::Range<u64>,
    pub(super) size_bytes: u64,
    /// As many as the message came with.
    pub(super) recipients: u64,
    pub(super) is_eight_bit: bool,
    pub(super) is_smtp_utf8: bool,
    pub(super) envelope_id: Vec<u8>,
    pub(super) returned: Option<Returned>,
    pub(super) client: Client,
    pub(super) verp: Option<Vec<u8>>,
    pub(super) filter: Option<String>,
    pub(super) redirect: Option<Vec<u8>>,
}

/// One reading.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) envelope: Envelope,
    pub(super) recipients: Vec<Recipient>,
    /// Behind how many recipients of the file the next reading begins.
    pub(super) passed: u64,
    /// Are there more behind those that were read?
    pub(super) has_more: bool,
}

/// Why a queue file cannot be used.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// The disk failed: another time.
    Disk(String),
    /// The file is damaged: to be put aside.
    Damaged(String),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(words) | Self::Damaged(words) => out.write_str(words),
        }
    }
}

struct OfLease<'l, D: Disk>(&'l Lease<D>);

impl<D: Disk> Source for OfLease<'_, D> {
    type Error = SpoolError;

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, SpoolError> {
        self.0.read_at(offset, buffer)
    }
}

/// Reads a message, and at most so many of its recipients that are not done, behind the first `passed` of the file.
pub(super) fn read<D: Disk>(
    lease: &Lease<D>,
    passed: u64,
    recipients_max: usize,
) -> Result<Reading, Unreadable> {
    let mut letter = Letter::default();
    let mut recipients = Vec::new();
    let (mut seen, mut last) = (0_u64, passed);
    let mut has_more = false;
    let read = letter.read(OfLease(lease), Content::Skip, &mut |event| {
        let Event::Recipient(found) = event else { return };
        seen = seen.saturating_add(1);
        if seen <= passed || found.state != RecipientState::ToDo {
            return;
        }
        if recipients.len() >= recipients_max {
            has_more = true;
            return;
        }
        last = seen;
        recipients.push(Recipient {
            offset: found.offset,
            address: found.address.to_vec(),
            original: found.original.unwrap_or_default().to_vec(),
            dsn_original: found.dsn_original.unwrap_or_default().to_vec(),
            notify: found.notify.unwrap_or(0),
        });
    });
    match read {
        Ok(()) => {}
        Err(LetterError::Walk(postfix::queue_file::reader::WalkError::Read { .. })) => {
            return Err(Unreadable::Disk("the queue file cannot be read".into()));
        }
        Err(error) => return Err(Unreadable::Damaged(error.to_string())),
    }
    Ok(Reading { envelope: envelope(letter), recipients, passed: last, has_more })
}

fn envelope(letter: Letter) -> Envelope {
    let attribute = |name: &str| {
        let found = letter.attributes.iter().find(|(each, _)| each == name.as_bytes());
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let size = letter.size.unwrap_or_default();
    let (seconds, microseconds) = letter.arrival.unwrap_or_default();
    let content = size.data_offset..size.extracted_offset().unwrap_or(size.data_offset);
    let client = Client {
        name: attribute("log_client_name"),
        address: attribute("log_client_address"),
        port: attribute("log_client_port"),
        helo: attribute("log_helo_name"),
        protocol: attribute("log_protocol_name"),
        sasl_method: attribute("sasl_method"),
        sasl_username: attribute("sasl_username"),
        sasl_sender: attribute("sasl_sender"),
        log_ident: attribute("log_ident"),
        rewrite_context: attribute("rewrite_context"),
    };
    Envelope {
        arrival: Timestamp { seconds, microseconds: microseconds.min(999_999) },
        created: letter.created.unwrap_or(seconds),
        content,
        size_bytes: size.content_length,
        recipients: size.recipients,
        is_eight_bit: attribute("encoding") == b"8bit",
        is_smtp_utf8: size.send_options & 7 != 0,
        envelope_id: attribute("envelope_id"),
        returned: match attribute("ret_flags").as_slice() {
            b"1" => Some(Returned::Whole),
            b"2" => Some(Returned::Headers),
            _ => None,
        },
        client,
        verp: letter.verp,
        filter: letter.filter.map(|filter| String::from_utf8_lossy(&filter).into_owned()),
        redirect: letter.redirect,
        sender: letter.sender.unwrap_or_default(),
    }
}

impl Envelope {
    /// The sender of a delivery to this recipient, which is the only one: with VERP it names him.
    pub(super) fn sender_for(&self, recipient: &[u8]) -> Vec<u8> {
        let Some([first, second, ..]) = self.verp.as_deref() else { return self.sender.clone() };
        let split = |address: &[u8]| {
            let at = address.iter().rposition(|byte| *byte == b'@');
            at.and_then(|at| address.split_at_checked(at)).map(|(user, host)| (user.to_vec(), host.to_vec()))
        };
        let Some((user, host)) = split(&self.sender) else { return self.sender.clone() };
        let expanded = match split(recipient) {
            Some((local, domain)) => {
                [local.as_slice(), &[*second], domain.get(1..).unwrap_or_default()].concat()
            }
            None => recipient.to_vec(),
        };
        [user.as_slice(), &[*first], &expanded, &host].concat()
    }
}
