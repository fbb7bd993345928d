//! The work of the pure crates, on inputs that are made here and never change.

use std::hint::black_box;
use std::sync::Arc;

use cleanup::{Message, NoTables, Options, fixtures};
use postfix::queue_file;
use postfix::record::{Reader, RecordType, encode};
use qmqp::client::{CLOSING, Request};
use qmqp::netstring;
use qmqp::server::{Event, Limits, Server};

/// A piece of work.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// In the baseline.
    pub name: &'static str,
    /// What there are some of in it.
    pub thing: &'static str,
    /// How many.
    pub things: u64,
    /// Bytes that pass through.
    pub bytes: u64,
    /// Makes the input; what is returned does the work once.
    pub prepare: fn() -> Box<dyn FnMut()>,
}

/// All of it.
pub const CASES: &[Case] = &[
    Case {
        name: "qmqp-parse-small",
        thing: "message",
        things: MANY,
        bytes: MANY * SMALL,
        prepare: parse_small,
    },
    Case { name: "qmqp-parse-list", thing: "recipient", things: RECIPIENTS, bytes: 0, prepare: parse_list },
    Case { name: "qmqp-parse-large", thing: "message", things: 1, bytes: LARGE, prepare: parse_large },
    Case {
        name: "cleanup-small",
        thing: "message",
        things: MANY,
        bytes: MANY * SMALL,
        prepare: cleanup_small,
    },
    Case { name: "cleanup-headers", thing: "message", things: 1, bytes: 0, prepare: cleanup_headers },
    Case { name: "cleanup-body", thing: "message", things: 1, bytes: LARGE, prepare: cleanup_body },
    Case { name: "cleanup-mime", thing: "message", things: 1, bytes: LARGE, prepare: cleanup_mime },
    Case {
        name: "cleanup-recipients",
        thing: "recipient",
        things: RECIPIENTS,
        bytes: 0,
        prepare: cleanup_recipients,
    },
    Case { name: "records-write", thing: "record", things: RECIPIENTS, bytes: 0, prepare: records_write },
    Case { name: "records-read", thing: "record", things: RECIPIENTS, bytes: 0, prepare: records_read },
];

const MANY: u64 = 20;
const SMALL: u64 = 4096;
const LARGE: u64 = 1_000_000;
const RECIPIENTS: u64 = 5000;
/// As a session reads.
const PIECE_BYTES: usize = 16 * 1024;

const LIMITS: Limits =
    Limits { content_bytes_max: 10 << 20, sender_bytes_max: 2048, recipient_bytes_max: 2048 };

fn header() -> String {
    "From: \"Some Body\" <some.body@example.com>\n\
     To: friend@example.org, \"Another, one\" <another@example.net>\n\
     Cc: list: a@example.com, b@example.com;\n\
     Subject: A message like many others\n\
     Date: Mon, 23 Nov 2026 12:00:00 +0000\n\
     Message-ID: <20261123120000.1234@example.com>\n\
     MIME-Version: 1.0\n\
     Content-Type: text/plain; charset=utf-8\n\
     \n"
    .to_owned()
}

/// Content of so many bytes: the header, and lines of 72 bytes.
fn content(bytes: u64) -> Vec<u8> {
    lines_to(header(), bytes)
}

fn lines_to(mut text: String, bytes: u64) -> Vec<u8> {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    while text.len() < bytes {
        text.push_str("The quick brown fox jumps over the lazy dog, and then it does so again.\n");
    }
    let mut text = text.into_bytes();
    text.truncate(bytes);
    text
}

fn recipients(count: u64) -> Vec<String> {
    (0..count).map(|number| format!("subscriber-{number}@host{}.example.com", number % 100)).collect()
}

fn request(content: &[u8], recipients: &[String]) -> Vec<u8> {
    let mut envelope = Vec::new();
    netstring::encode(b"list-return-@example.com", &mut envelope);
    let mut request = Request::new(content.len() as u64, 24);
    for recipient in recipients {
        netstring::encode(recipient.as_bytes(), &mut envelope);
        request = request.and_then(|request| request.with_recipient(recipient.len() as u64));
    }
    let mut bytes = request.map(|request| request.head()).unwrap_or_default();
    bytes.extend_from_slice(content);
    bytes.push(b',');
    bytes.extend_from_slice(&envelope);
    bytes.extend_from_slice(CLOSING);
    bytes
}

fn one() -> Vec<String> {
    recipients(1)
}

fn parse_small() -> Box<dyn FnMut()> {
    parse(request(&content(SMALL), &one()), MANY)
}

fn parse_list() -> Box<dyn FnMut()> {
    parse(request(&content(SMALL), &recipients(RECIPIENTS)), 1)
}

fn parse_large() -> Box<dyn FnMut()> {
    parse(request(&content(LARGE), &one()), 1)
}

fn parse(request: Vec<u8>, times: u64) -> Box<dyn FnMut()> {
    Box::new(move || {
        for _ in 0..times {
            let mut machine = Server::new(LIMITS);
            let mut is_over = false;
            for mut piece in request.chunks(PIECE_BYTES) {
                while let Ok(Some(event)) = machine.next(&mut piece) {
                    is_over = black_box(&event) == &Event::End;
                }
            }
            assert!(is_over, "the request is whole");
        }
    })
}

fn message() -> Message {
    let options = Options { message_size_limit: 0, ..Options::default() };
    Message::new(Arc::new(options), Arc::new(NoTables), fixtures::arrival(), fixtures::origin())
}

/// One message through cleanup, into the bytes of its queue file.
fn clean_up(content: &[u8], recipients: &[String]) -> Vec<u8> {
    let mut message = message();
    let (mut content_records, mut recipient_records) = (Vec::new(), Vec::new());
    for piece in content.chunks(PIECE_BYTES) {
        message.content_bytes(piece, &mut content_records);
    }
    message.end_of_content(&mut content_records);
    message.sender(b"list-return-@example.com", &mut recipient_records);
    for recipient in recipients {
        message.recipient(recipient.as_bytes(), &mut recipient_records);
    }
    let mut file = Vec::new();
    let finished = message.finish().result;
    let laid_out = finished.is_ok_and(|finished| {
        queue_file::classic(&finished.parts(&recipient_records, &content_records), &mut file).is_ok()
    });
    assert!(laid_out, "the message is accepted");
    file
}

fn cleanup(content: Vec<u8>, recipients: Vec<String>, times: u64) -> Box<dyn FnMut()> {
    Box::new(move || {
        for _ in 0..times {
            black_box(clean_up(black_box(&content), &recipients));
        }
    })
}

fn cleanup_small() -> Box<dyn FnMut()> {
    cleanup(content(SMALL), one(), MANY)
}

/// Many addresses to rewrite, in long folded headers.
fn cleanup_headers() -> Box<dyn FnMut()> {
    let addresses: Vec<String> =
        recipients(500).iter().map(|address| format!("\"Some Body\" <{address}>")).collect();
    let mut text = format!("To: {}\n", addresses.join(",\n\t"));
    text.push_str(&header());
    cleanup(text.into_bytes(), one(), 1)
}

fn cleanup_body() -> Box<dyn FnMut()> {
    cleanup(content(LARGE), one(), 1)
}

/// The same, in parts with boundaries.
fn cleanup_mime() -> Box<dyn FnMut()> {
    let mut text = header().replace("text/plain; charset=utf-8", "multipart/mixed; boundary=\"=_boundary\"");
    let part = lines_to("--=_boundary\nContent-Type: text/plain\n\n".to_owned(), 10_000);
    while (text.len() as u64) < LARGE {
        text.push_str(&String::from_utf8_lossy(&part));
        text.push('\n');
    }
    text.push_str("--=_boundary--\n");
    cleanup(text.into_bytes(), one(), 1)
}

fn cleanup_recipients() -> Box<dyn FnMut()> {
    cleanup(content(SMALL), recipients(RECIPIENTS), 1)
}

fn records_write() -> Box<dyn FnMut()> {
    let recipients = recipients(RECIPIENTS);
    Box::new(move || {
        let mut records = Vec::new();
        for recipient in &recipients {
            encode(&mut records, RecordType::RECIPIENT, recipient.as_bytes());
        }
        black_box(records);
    })
}

fn records_read() -> Box<dyn FnMut()> {
    let mut records = Vec::new();
    for recipient in recipients(RECIPIENTS) {
        encode(&mut records, RecordType::RECIPIENT, recipient.as_bytes());
    }
    Box::new(move || {
        let read = Reader::new(black_box(&records)).filter(Result::is_ok).count();
        assert_eq!(read as u64, RECIPIENTS, "every record is read");
    })
}
