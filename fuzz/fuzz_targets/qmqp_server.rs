//! The server's protocol machine: what a stranger sends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qmqp::netstring;
use qmqp::server::{Event, Fault, Limits, Server};

const LIMITS: Limits = Limits { content_bytes_max: 3000, sender_bytes_max: 300, recipient_bytes_max: 200 };

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Begin(u64),
    ContentBegin(u64),
    Content(Vec<u8>),
    ContentEnd,
    Sender(Vec<u8>),
    Recipient(Vec<u8>),
    End,
    Fault(Fault),
}

fn run(pieces: &[&[u8]]) -> (Vec<Seen>, Fault) {
    let mut server = Server::new(LIMITS);
    let mut seen = Vec::new();
    'pieces: for piece in pieces {
        let mut input = *piece;
        loop {
            let before = input.len();
            match server.next(&mut input) {
                Ok(Some(event)) => note(event, &mut seen),
                Ok(None) => {
                    assert!(input.is_empty(), "bytes are left though more is asked for");
                    break;
                }
                Err(fault) => {
                    assert!(input.len() <= before);
                    assert_eq!(server.next(&mut input), Err(fault), "a fault does not stay");
                    seen.push(Seen::Fault(fault));
                    break 'pieces;
                }
            }
        }
    }
    (seen, server.end_of_file())
}

fn note(event: Event<'_>, seen: &mut Vec<Seen>) {
    let event = match event {
        Event::Begin { bytes } => Seen::Begin(bytes),
        Event::ContentBegin { bytes } => Seen::ContentBegin(bytes),
        Event::Content(piece) => {
            assert!(!piece.is_empty());
            match seen.last_mut() {
                Some(Seen::Content(before)) => return before.extend_from_slice(piece),
                _ => Seen::Content(piece.to_vec()),
            }
        }
        Event::ContentEnd => Seen::ContentEnd,
        Event::Sender(address) => Seen::Sender(address.to_vec()),
        Event::Recipient(address) => Seen::Recipient(address.to_vec()),
        Event::End => Seen::End,
    };
    seen.push(event);
}

/// The request that would make the same events, written anew.
fn encode(seen: &[Seen]) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut content: &[u8] = &[];
    for event in seen {
        match event {
            Seen::Content(bytes) => content = bytes,
            Seen::ContentEnd => netstring::encode(content, &mut payload),
            Seen::Sender(address) | Seen::Recipient(address) => netstring::encode(address, &mut payload),
            _ => {}
        }
    }
    let mut request = Vec::new();
    netstring::encode(&payload, &mut request);
    request
}

fuzz_target!(|data: &[u8]| {
    let whole = run(&[data]);
    assert_eq!(run(&fuzz::pieces(data)), whole, "the events depend on the split");
    let (seen, _) = whole;
    let mut declared = None;
    for event in &seen {
        match event {
            Seen::ContentBegin(bytes) => {
                assert!(*bytes <= LIMITS.content_bytes_max);
                declared = Some(*bytes);
            }
            Seen::Content(content) => assert!(content.len() as u64 <= declared.unwrap()),
            Seen::Sender(address) => assert!(address.len() as u64 <= LIMITS.sender_bytes_max),
            Seen::Recipient(address) => assert!(address.len() as u64 <= LIMITS.recipient_bytes_max),
            _ => {}
        }
    }
    if seen.last() == Some(&Seen::End) {
        let mut again = run(&[&encode(&seen)]).0;
        // Leading zeros make the outer number another one.
        if let (Some(Seen::Begin(written)), Some(Seen::Begin(read))) = (again.first_mut(), seen.first()) {
            *written = *read;
        }
        assert_eq!(again, seen, "what is written is not read back");
    }
});
