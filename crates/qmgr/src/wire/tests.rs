#![allow(clippy::unwrap_used)]

use std::io::{Read, Seek, Write};

use delivery::outcome::{Diagnostic, Outcome, status};
use postfix::queue_id::QueueId;
use proptest::collection::vec;
use proptest::prelude::*;
use spool::Timestamp;
use std::os::fd::AsFd;

use super::*;
use crate::request::*;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (any::<u64>(), 0..1_000_000_u32).prop_map(|(seconds, microseconds)| Timestamp { seconds, microseconds })
}

fn recipient() -> impl Strategy<Value = Recipient> {
    (any::<u64>(), bytes(), bytes(), bytes(), any::<u32>()).prop_map(
        |(offset, address, original, dsn_original, notify)| Recipient {
            offset,
            address,
            original,
            dsn_original,
            notify,
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let numbers = (any::<[u64; 4]>(), any::<[bool; 4]>(), timestamp(), timestamp(), 0..3_u8);
    let texts = (".{0,20}", ".{0,20}", "[A-Za-z0-9]{1,47}", vec(bytes(), 12));
    (numbers, texts, vec(recipient(), 0..6)).prop_map(|(numbers, texts, recipients)| {
        let ([number, start, end, size_bytes], flags, arrival, active, returned) = numbers;
        let (transport, nexthop, queue_id, texts) = texts;
        let text = |at: usize| texts.get(at).cloned().unwrap();
        Request {
            number,
            transport,
            nexthop,
            by_relayhost: flags[0],
            queue_id: QueueId::parse(&queue_id).unwrap(),
            sender: text(0),
            arrival,
            active,
            content: start..end,
            size_bytes,
            is_eight_bit: flags[1],
            is_smtp_utf8: flags[2],
            envelope_id: text(1),
            returned: [None, Some(Returned::Whole), Some(Returned::Headers)][usize::from(returned)],
            client: Client {
                name: text(2),
                address: text(3),
                port: text(4),
                helo: text(5),
                protocol: text(6),
                sasl_method: text(7),
                sasl_username: text(8),
                sasl_sender: text(9),
                log_ident: text(10),
                rewrite_context: text(11),
            },
            recipients,
            is_flushed: flags[3],
        }
    })
}

fn answer() -> impl Strategy<Value = Answer> {
    let reason = (any::<[u16; 2]>(), ".{0,30}", any::<[bool; 5]>(), 0..4_u8);
    (any::<u64>(), any::<u32>(), reason).prop_map(|(number, index, (parts, reason, flags, fate))| {
        let remote_mta = flags[0].then(|| reason.clone());
        let diagnostic = flags[1].then(|| Diagnostic { kind: "smtp".into(), text: reason.clone() });
        let of_class = |class| status(class, parts[0], parts[1]);
        if fate == 3 {
            let blame = Blame { status: of_class(4), reason, diagnostic, remote_mta };
            return Answer::Finished(Finished {
                number,
                blame: flags[2].then_some(blame),
                is_congested: flags[3],
                is_content_damaged: flags[4],
            });
        }
        let outcome = match fate {
            0 => Outcome::sent(of_class(2), reason),
            1 => Outcome::failed(of_class(4), reason),
            _ => Outcome::failed(of_class(5), reason),
        };
        let outcome = if flags[2] { outcome.softened() } else { outcome };
        Answer::Recipient(RecipientOutcome {
            number,
            index: usize::try_from(index).unwrap(),
            outcome: Outcome { diagnostic, remote_mta, ..outcome },
            is_dsn_passed_on: flags[3],
        })
    })
}

proptest! {
    #[test]
    fn a_request_comes_as_it_went(request in request()) {
        let frame = encode_request(&request).unwrap();
        prop_assert_eq!(decode_request(&frame[4..]).unwrap(), request);
    }

    #[test]
    fn an_answer_comes_as_it_went(answer in answer()) {
        let frame = encode_answer(&answer).unwrap();
        prop_assert_eq!(decode_answer(&frame[4..]).unwrap(), answer);
    }

    #[test]
    fn a_frame_cut_off_or_prolonged_is_invalid(request in request(), answer in answer(), at in any::<prop::sample::Index>()) {
        let frame = encode_request(&request).unwrap();
        prop_assert!(decode_request(&frame[4..4 + at.index(frame.len() - 4)]).is_err());
        prop_assert!(decode_request(&[&frame[4..], b"x"].concat()).is_err());
        let frame = encode_answer(&answer).unwrap();
        prop_assert!(decode_answer(&frame[4..4 + at.index(frame.len() - 4)]).is_err());
        prop_assert!(decode_answer(&[&frame[4..], b"x"].concat()).is_err());
    }

    #[test]
    fn other_bytes_are_no_frame_and_no_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = (decode_request(&bytes), decode_answer(&bytes));
    }
}

fn sample(number: u64, recipients: usize) -> Request {
    let recipient = Recipient {
        offset: 7,
        address: b"bob@example.org".to_vec(),
        original: Vec::new(),
        dsn_original: Vec::new(),
        notify: 0,
    };
    Request {
        number,
        transport: "smtp".into(),
        nexthop: "example.org".into(),
        by_relayhost: false,
        queue_id: QueueId::parse("1C835288").unwrap(),
        sender: Vec::new(),
        arrival: Timestamp { seconds: 1, microseconds: 2 },
        active: Timestamp { seconds: 3, microseconds: 4 },
        content: 500..600,
        size_bytes: 100,
        is_eight_bit: false,
        is_smtp_utf8: false,
        envelope_id: Vec::new(),
        returned: None,
        client: Client::default(),
        recipients: vec![recipient; recipients],
        is_flushed: false,
    }
}

#[test]
fn a_frame_has_a_longest() {
    let mut request = sample(1, 0);
    request.sender = vec![b'x'; FRAME_BYTES_MAX];
    assert!(matches!(encode_request(&request), Err(InvalidFrame::TooLong(_))));
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Frames larger than the socket's buffer, each with a file of its own: each file arrives with its request.
#[test]
fn each_request_brings_its_file() {
    run(async {
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        let (mut manager, mut agent) = (Channel::new(ours), Channel::new(theirs));
        let send = async {
            for number in 0..20 {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(format!("file {number}").as_bytes()).unwrap();
                let size = if number % 3 == 0 { 20_000 } else { 1 };
                let frame = encode_request(&sample(number, size)).unwrap();
                manager.sender.send(&frame, Some(file.as_fd())).await.unwrap();
            }
            drop(manager);
        };
        let receive = async {
            let mut count = 0;
            while let Some(frame) = agent.receiver.receive().await.unwrap() {
                let request = decode_request(&frame).unwrap();
                assert_eq!(request.number, count);
                let mut file = std::fs::File::from(agent.receiver.take_file().unwrap());
                let mut text = String::new();
                file.rewind().unwrap();
                file.read_to_string(&mut text).unwrap();
                assert_eq!(text, format!("file {count}"));
                count += 1;
            }
            count
        };
        assert_eq!(tokio::join!(send, receive).1, 20);
    });
}

#[test]
fn a_request_without_file_and_a_torn_frame_are_errors() {
    run(async {
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        let (mut manager, mut agent) = (Channel::new(ours), Channel::new(theirs));
        let frame = encode_request(&sample(1, 1)).unwrap();
        manager.sender.send(&frame, None).await.unwrap();
        assert!(agent.receiver.receive().await.unwrap().is_some());
        assert!(matches!(agent.receiver.take_file(), Err(ChannelError::NoFile)));
        manager.sender.send(&frame[..20], None).await.unwrap();
        drop(manager);
        assert!(matches!(agent.receiver.receive().await, Err(ChannelError::Io(_))));
    });
}

#[test]
fn a_length_that_no_program_writes_is_refused_at_once() {
    run(async {
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        let (mut manager, mut agent) = (Channel::new(ours), Channel::new(theirs));
        manager.sender.send(&[255, 255, 255, 255, 1], None).await.unwrap();
        let told = agent.receiver.receive().await;
        assert!(matches!(told, Err(ChannelError::Invalid(InvalidFrame::TooLong(_)))), "{told:?}");
    });
}
