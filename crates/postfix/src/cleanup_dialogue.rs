//! How a daemon hands a message to cleanup(8): flags, records, status.
//!
//! One connection is one message. The server speaks first: since Postfix 3.6 it names its protocol, in a list of its own
//! or in front of the queue ID; before, there is only the queue ID. Then come the flags and the records up to `E`, and one
//! status at the end. Observed on Postfix 3.7 and 3.12.

use crate::attr::{self, AttributeList, Unexpected};
use crate::queue_id::{InvalidQueueId, QueueId};
use crate::record::{RecordType, encode};

/// How long a list from cleanup(8) may be: a reason can be long, but not without end.
pub const LIST_BYTES_MAX: usize = 64 * 1024;

/// What cleanup(8) calls its protocol.
const PROTOCOL: &[u8] = b"cleanup_protocol";

/// What cleanup(8) is asked to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flags(pub u32);

impl Flags {
    /// header_checks, body_checks and the like.
    pub const CONTENT_CHECKS: u32 = 2;
    /// always_bcc and the like.
    pub const AUTOMATIC_COPIES: u32 = 16;
    /// virtual_alias_maps, canonical_maps and the like.
    pub const ADDRESS_MAPPING: u32 = 32;
    /// smtpd_milters, non_smtpd_milters.
    pub const MILTERS: u32 = 64;
    /// Find out whether the message needs SMTPUTF8.
    pub const SMTPUTF8_AUTODETECT: u32 = 512;

    /// The flags that qmqpd(8) sends. The first three are the words of receive_override_options; the last is whether
    /// smtputf8_autodetect_classes has `qmqpd` or `all`.
    #[must_use]
    pub const fn of_qmqpd(
        no_address_mappings: bool,
        no_header_body_checks: bool,
        no_milters: bool,
        smtputf8_autodetect: bool,
    ) -> Self {
        let mut flags = 0;
        if !no_header_body_checks {
            flags |= Self::CONTENT_CHECKS;
        }
        if !no_address_mappings {
            // Automatic copies count as address mapping.
            flags |= Self::ADDRESS_MAPPING | Self::AUTOMATIC_COPIES;
        }
        if !no_milters {
            flags |= Self::MILTERS;
        }
        if smtputf8_autodetect {
            flags |= Self::SMTPUTF8_AUTODETECT;
        }
        Self(flags)
    }

    /// Appends the list that begins a request.
    pub fn encode(self, out: &mut Vec<u8>) {
        attr::encode(out, b"flags", self.0.to_string().as_bytes());
        out.push(0);
    }
}

/// What cleanup(8) says first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announcement {
    /// Only the name of the protocol: the queue ID comes in the next list.
    Protocol,
    /// The queue ID. The queue file exists.
    QueueId(QueueId),
}

/// Why a list from cleanup(8) is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialogueError {
    /// Other attributes than expected.
    #[error("cleanup service: {0}")]
    Unexpected(#[from] Unexpected),
    /// The peer speaks something else.
    #[error(
        "cleanup service: the peer speaks \"{0}\" instead of \"cleanup_protocol\"; see cleanup_service_name"
    )]
    Protocol(String),
    /// The queue ID is invalid.
    #[error("cleanup service: {0}")]
    QueueId(#[from] InvalidQueueId),
    /// The status is no number.
    #[error("cleanup service: status \"{0}\" is not a number")]
    Status(String),
}

impl Announcement {
    /// Reads the first list, or the second one if the first was [`Announcement::Protocol`].
    ///
    /// # Errors
    /// Another protocol than cleanup's, other attributes than these, or an invalid queue ID.
    pub fn decode(list: &AttributeList) -> Result<Self, DialogueError> {
        let id = match (list.get("protocol"), list.get("queue_id")) {
            (Some(name), _) if name != PROTOCOL => {
                return Err(DialogueError::Protocol(name.escape_ascii().to_string()));
            }
            (Some(_), None) => {
                list.values(["protocol"])?;
                return Ok(Self::Protocol);
            }
            (Some(_), Some(_)) => list.values(["protocol", "queue_id"])?[1],
            (None, _) => list.values(["queue_id"])?[0],
        };
        let id = String::from_utf8_lossy(id);
        Ok(Self::QueueId(id.parse()?))
    }
}

/// The client, as cleanup(8) stores it with the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client<'a> {
    /// Its name, or `unknown`; `localhost` over a UNIX-domain socket.
    pub name: &'a str,
    /// Its address, without prefix or brackets; `127.0.0.1` over a UNIX-domain socket.
    pub address: &'a str,
    /// Its port; `0` over a UNIX-domain socket.
    pub port: &'a str,
    /// The number of its address family: 2 IPv4, 10 IPv6, 0 UNIX-domain.
    pub address_type: i32,
    /// How log lines name it, `name[address]`.
    pub log_origin: &'a str,
}

/// Appends the arrival time and, if there is one, the content filter: the records that come first.
pub fn encode_arrival(out: &mut Vec<u8>, seconds: u64, microseconds: u32, content_filter: &str) {
    encode(out, RecordType::TIME, format!("{seconds} {microseconds}").as_bytes());
    if !content_filter.is_empty() {
        encode(out, RecordType::FILTER, content_filter.as_bytes());
    }
}

/// Appends sender, VERP delimiters if they are wanted, and the client's attributes: the records before the recipients.
pub fn encode_sender(out: &mut Vec<u8>, sender: &[u8], verp_delimiters: Option<&[u8]>, client: &Client<'_>) {
    encode(out, RecordType::SENDER, sender);
    if let Some(delimiters) = verp_delimiters {
        encode(out, RecordType::VERP, delimiters);
    }
    let tag = if client.address.contains(':') { "IPv6:" } else { "" };
    let attributes = [
        format!("log_client_name={}", client.name),
        format!("log_client_address={tag}{}", client.address),
        format!("log_client_port={}", client.port),
        format!("log_message_origin={}", client.log_origin),
        "log_protocol_name=QMQP".to_owned(),
        format!("client_name={}", client.name),
        format!("client_address={}", client.address),
        format!("client_port={}", client.port),
        format!("client_address_type={}", client.address_type),
        "protocol_name=QMQP".to_owned(),
    ];
    for attribute in attributes {
        encode(out, RecordType::ATTRIBUTE, attribute.as_bytes());
    }
}

/// Appends a recipient.
pub fn encode_recipient(out: &mut Vec<u8>, recipient: &[u8]) {
    encode(out, RecordType::RECIPIENT, recipient);
}

/// Appends the record that begins the content.
pub fn encode_content_begin(out: &mut Vec<u8>) {
    encode(out, RecordType::CONTENT, b"");
}

/// Appends the records that end the content and the message.
pub fn encode_end(out: &mut Vec<u8>) {
    encode(out, RecordType::EXTRACTED, b"");
    encode(out, RecordType::END, b"");
}

/// How cleanup(8) judged the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The bits of [`status`], added up; 0 is success: the message is on disk.
    pub status: u32,
    /// Words for the client; may be empty.
    pub reason: String,
}

/// The bits of a status.
pub mod status {
    /// The records were not understood.
    pub const BAD: u32 = 1;
    /// The queue file cannot be written. Also what a lost connection counts as.
    pub const WRITE: u32 = 2;
    /// Larger than message_size_limit.
    pub const SIZE: u32 = 4;
    /// Refused for its content, with a reason.
    pub const CONTENT: u32 = 8;
    /// More `Received:` lines than hopcount_limit.
    pub const HOPS: u32 = 16;
    /// No recipients.
    pub const RECIPIENTS: u32 = 64;
    /// To be tried again, with a reason.
    pub const DEFER: u32 = 256;
}

impl Judgement {
    /// A connection that was lost, or an invalid status.
    #[must_use]
    pub const fn lost() -> Self {
        Self { status: status::WRITE, reason: String::new() }
    }

    /// Reads the list that ends a dialogue.
    ///
    /// # Errors
    /// Other attributes than `status` and `reason`, or a status that is not a number.
    pub fn decode(list: &AttributeList) -> Result<Self, DialogueError> {
        let [number, reason] = list.values(["status", "reason"])?;
        let number = String::from_utf8_lossy(number);
        let status =
            number.parse().map_err(|_| DialogueError::Status(number.escape_default().to_string()))?;
        Ok(Self { status, reason: String::from_utf8_lossy(reason).into_owned() })
    }
}

#[cfg(test)]
mod tests;
