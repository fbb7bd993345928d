//! What tests of this crate share.

use std::fs::File;
use std::io::Write as _;

use postfix::queue_id::QueueId;
use postfix::record::{RecordType, encode};
use spool::Timestamp;

use crate::request::{Client, Recipient, Request};

/// A request for these recipients, from `alice@sender.example`, with the content at offset 0.
pub(crate) fn request(recipients: &[&str]) -> Request {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = Timestamp { seconds: now.as_secs(), microseconds: now.subsec_micros() };
    let recipient = |address: &&str| Recipient {
        offset: 100,
        address: address.as_bytes().to_vec(),
        original: Vec::new(),
        dsn_original: Vec::new(),
        notify: 0,
    };
    Request {
        number: 7,
        transport: "myprog".to_owned(),
        nexthop: "Next.example".to_owned(),
        by_relayhost: false,
        queue_id: QueueId::parse("1C835288").unwrap(),
        sender: b"alice@sender.example".to_vec(),
        arrival: now,
        active: now,
        content: 0..0,
        size_bytes: 294,
        is_eight_bit: false,
        is_smtp_utf8: false,
        envelope_id: Vec::new(),
        returned: None,
        client: Client::default(),
        recipients: recipients.iter().map(recipient).collect(),
        is_flushed: false,
    }
}

/// An open file with the records of these lines.
pub(crate) fn queue_file(lines: &[&str]) -> File {
    let mut records = Vec::new();
    for line in lines {
        encode(&mut records, RecordType::NORMAL, line.as_bytes());
    }
    encode(&mut records, RecordType::EXTRACTED, b"");
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&records).unwrap();
    file
}
