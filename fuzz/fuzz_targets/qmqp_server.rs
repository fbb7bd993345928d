//! The server's protocol machine: what a stranger sends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qmqp::netstring;
use qmqp::server::{Event, Fault, Limits, Server};

const LIMITS: Limits = Limits { content_bytes_max: 3000, sender_bytes_max: 300, recipient_bytes_max: 200 };

#[derive(Debug, PartialEq, Eq)]
enum SeenEvent {
    Begin(u64),
    ContentBegin(u64),
    Content(Vec<u8>),
    ContentEnd,
    Sender(Vec<u8>),
    Recipient(Vec<u8>),
    End,
    Fault(Fault),
}

fn run(pieces: &[&[u8]]) -> (Vec<SeenEvent>, Fault) {
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
                    seen.push(SeenEvent::Fault(fault));
                    break 'pieces;
                }
            }
        }
    }
    (seen, server.end_of_file())
}

fn note(event: Event<'_>, seen: &mut Vec<SeenEvent>) {
    let event = match event {
        Event::Begin { bytes } => SeenEvent::Begin(bytes),
        Event::ContentBegin { bytes } => SeenEvent::ContentBegin(bytes),
        Event::Content(piece) => {
            assert!(!piece.is_empty());
            match seen.last_mut() {
                Some(SeenEvent::Content(before)) => return before.extend_from_slice(piece),
                _ => SeenEvent::Content(piece.to_vec()),
            }
        }
        Event::ContentEnd => SeenEvent::ContentEnd,
        Event::Sender(address) => SeenEvent::Sender(address.to_vec()),
        Event::Recipient(address) => SeenEvent::Recipient(address.to_vec()),
        Event::End => SeenEvent::End,
    };
    seen.push(event);
}

/// The request that would make the same events, written anew.
fn encode(seen: &[SeenEvent]) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut content: &[u8] = &[];
    for event in seen {
        match event {
            SeenEvent::Content(bytes) => content = bytes,
            SeenEvent::ContentEnd => netstring::encode(content, &mut payload),
            SeenEvent::Sender(address) | SeenEvent::Recipient(address) => netstring::encode(address, &mut payload),
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
            SeenEvent::ContentBegin(bytes) => {
                assert!(*bytes <= LIMITS.content_bytes_max);
                declared = Some(*bytes);
            }
            SeenEvent::Content(content) => assert!(content.len() as u64 <= declared.unwrap()),
            SeenEvent::Sender(address) => assert!(address.len() as u64 <= LIMITS.sender_bytes_max),
            SeenEvent::Recipient(address) => assert!(address.len() as u64 <= LIMITS.recipient_bytes_max),
            _ => {}
        }
    }
    if seen.last() == Some(&SeenEvent::End) {
        let mut again = run(&[&encode(&seen)]).0;
        // Leading zeros make the outer number another one.
        if let (Some(SeenEvent::Begin(written)), Some(SeenEvent::Begin(read))) = (again.first_mut(), seen.first()) {
            *written = *read;
        }
        assert_eq!(again, seen, "what is written is not read back");
    }
});
