//! A hostile SMTP or LMTP server: the session's events do not depend on the split, each recipient is told of once, and nothing
//! that is sent but the content holds a line that was not meant.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp::client::{Client, Dialect, Event, Fault, Message, Options, PIPELINED_BYTES_MAX, Recipient};
use smtp::content::Encoder;

/// How many recipients the message has.
const RECIPIENTS: usize = 5;

#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    events: Vec<Event>,
    sent: Vec<u8>,
    fault: Option<Fault>,
}

/// Plays a session with these bytes from the server, and does whatever the machine asks for. `first` bits choose what is asked
/// between messages.
fn play(dialect: Dialect, choices: u8, pieces: &[&[u8]]) -> Told {
    let mut client = Client::new(Options { dialect, ..Options::smtp("relay.example.com") });
    let mut told = Told::default();
    for piece in pieces {
        // A byte at a time: what is asked in answer to an event must not depend on what came behind it.
        for byte in piece.chunks(1) {
            let received = client.receive(byte);
            while let Some(event) = client.next_event() {
                act(&mut client, &event, choices, &mut told.sent);
                told.events.push(event);
            }
            let output = client.take_output();
            assert!(output.len() <= PIPELINED_BYTES_MAX + 64, "{} bytes of commands at once", output.len());
            told.sent.extend_from_slice(&output);
            if let Err(fault) = received {
                told.fault = Some(fault);
                return told;
            }
        }
    }
    told
}

fn act(client: &mut Client, event: &Event, choices: u8, sent: &mut Vec<u8>) {
    match event {
        Event::Ready if choices & 1 != 0 && client.extensions().start_tls => client.start_tls().unwrap(),
        Event::StartTls => client.tls_established().unwrap(),
        Event::Ready if choices & 2 != 0 => client.authenticate("PLAIN", None).unwrap(),
        Event::AuthChallenge(_) => client.auth_response("*").unwrap(),
        Event::Ready | Event::StartTlsRefused(_) | Event::Authenticated | Event::AuthRefused(_) | Event::MessageOver => {
            let recipients = (0..RECIPIENTS).map(|number| Recipient::new(format!("r{number}@x").as_bytes()).unwrap());
            let _ = client.begin(Message::new(b"s@x", recipients.collect()).unwrap());
        }
        Event::SendContent => {
            let mut encoder = Encoder::new(20);
            encoder.line(b".x", true, sent);
            encoder.finish(sent);
            client.content_sent().unwrap();
        }
        _ => {}
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&choices, data)) = data.split_first() else { return };
    let dialect = if choices & 4 == 0 { Dialect::Smtp } else { Dialect::Lmtp };
    let whole = play(dialect, choices, &[data]);
    assert_eq!(play(dialect, choices, &fuzz::pieces(data)), whole, "the events depend on the split");

    let mut answered = [0; RECIPIENTS];
    for event in &whole.events {
        match event {
            Event::Recipient { index, reply, .. } => {
                answered[*index] += 1;
                assert!(answered[*index] <= 1, "a recipient is told of twice");
                assert!(!reply.text().chars().any(char::is_control));
            }
            Event::Answer { recipient: Some(index), .. } => assert_eq!(answered[*index], 1),
            Event::MessageOver => answered = [0; RECIPIENTS],
            _ => {}
        }
    }
    for line in whole.sent.split(|byte| *byte == b'\n') {
        assert!(line.is_empty() || line.ends_with(b"\r"), "a line without its end");
    }
});
