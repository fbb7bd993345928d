//! The way of a message through a content filter and back: a server that names one, the agent that runs it, and a server
//! without one that takes what the filter gives back through qmqp-send.

use std::cell::RefCell;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use delivery::outcome::{Fate, Outcome};
use postfix::queue_file::reader::Walker;
use postfix::queue_id::QueueId;
use postfix::record::RecordType;
use qmgr::mail_copy::QueueFile;
use qmgr::pipe::PipeAgent;
use qmgr::pipe::attributes::Attributes;
use qmgr::pipe::command::Surroundings;
use qmgr::request::{Client, Finished, Recipient, Request};
use spool::Timestamp;
use testbed::peers::{self, Peer};
use testbed::trials::Trials;
use testbed::{client, ours};

pub(crate) fn add(trials: &mut Trials) {
    trials.add("content_filter::a_filter_gives_mail_back", &[Peer::QmqpSend], round_trip);
    trials.add("content_filter::a_filter_that_is_down_or_refuses", &[Peer::QmqpSend], trouble);
}

const CONTENT: &[u8] = b"From: alice@sender.example\nSubject: x\n\nhello\n.\nFrom here on\n";

/// A server whose mail goes through a filter, with one message in its queue.
fn filtered() -> ours::Instance {
    let setup = ours::Setup { main_cf: vec!["content_filter = scan:dummy".to_owned()], ..Default::default() };
    let server = ours::Instance::start(&setup);
    let recipients: &[&[u8]] = &[b"bob@rcpt.example", b"carol smith@rcpt.example"];
    let said = client::send(server.address, CONTENT, b"alice@sender.example", recipients);
    assert!(said.starts_with("KOk: queued as "), "{said}");
    server
}

/// What a queue manager would ask of the agent for a queue file.
fn request(path: &Path, file: &File) -> Request {
    let (mut sender, mut recipients, mut content, mut filter) = (None, Vec::new(), 0..0, Vec::new());
    let mut walker = Walker::new(QueueFile(file));
    while let Some(record) = walker.next().unwrap() {
        match record.kind {
            RecordType::SENDER => sender = Some(record.data.to_vec()),
            RecordType::FILTER if content.start == 0 => filter = record.data.to_vec(),
            RecordType::RECIPIENT => recipients.push(Recipient {
                offset: record.offset,
                address: record.data.to_vec(),
                original: Vec::new(),
                dsn_original: Vec::new(),
                notify: 0,
            }),
            RecordType::CONTENT => content.start = record.end,
            RecordType::EXTRACTED => content.end = record.offset,
            _ => {}
        }
    }
    assert_eq!(filter, b"scan:dummy");
    let now = Timestamp { seconds: 1, microseconds: 0 };
    Request {
        number: 1,
        transport: "scan".to_owned(),
        nexthop: "dummy".to_owned(),
        by_relayhost: false,
        queue_id: QueueId::parse(path.file_name().unwrap().to_str().unwrap()).unwrap(),
        sender: sender.unwrap(),
        arrival: now,
        active: now,
        content,
        size_bytes: 100,
        is_eight_bit: false,
        is_smtp_utf8: false,
        envelope_id: Vec::new(),
        returned: None,
        client: Client::default(),
        recipients,
        is_flushed: false,
    }
}

/// Gives the message of `server` to a filter, which is this shell script, and says what became of its recipients.
fn run_filter(server: &ours::Instance, script: &str) -> Vec<Outcome> {
    let path = &server.queue.committed()[0];
    let file = File::open(path).unwrap();
    let request = request(path, &file);
    let words = [
        "user=filter",
        "flags=q",
        "null_sender=",
        "argv=/bin/sh",
        "-c",
        script,
        "filter",
        "${sender}",
        "${recipient}",
    ];
    let agent = PipeAgent {
        attributes: Attributes::parse(&words).unwrap(),
        surroundings: Surroundings {
            environment: vec![("PATH".into(), std::env::var_os("PATH").unwrap())],
            directory: "/".into(),
            time_limit: Duration::from_secs(100),
        },
        recipient_delimiter: String::new(),
        soft_bounce: false,
    };
    let outcomes = RefCell::new(Vec::new());
    let mut report = |told: qmgr::request::RecipientOutcome| outcomes.borrow_mut().push(told.outcome);
    let finished = agent.deliver(&request, &file, &mut report, &|_| ());
    assert_eq!(finished, Finished::well(1));
    let outcomes = outcomes.into_inner();
    assert_eq!(outcomes.len(), request.recipients.len());
    outcomes
}

/// Ends with the status of qmqp-send.
fn gives_back_to(server: &str) -> String {
    let program = peers::qmqp_send();
    let program = program.display();
    format!(
        "sender=$$1; shift; sed s/hello/scanned/ | {program} -G -i -s {server} -f \"$$sender\" -- \"$$@\""
    )
}

fn round_trip() {
    let (before, behind) = (filtered(), ours::Instance::start(&ours::Setup::default()));
    let outcomes = run_filter(&before, &gives_back_to(&behind.address.to_string()));
    for outcome in &outcomes {
        let told = (outcome.fate, outcome.reason.as_str());
        assert_eq!(told, (Fate::Sent, "delivered via scan service"), "{outcome:?}");
    }
    let messages = behind.queue.take();
    let [Ok(message)] = messages.as_slice() else { panic!("one message comes back: {messages:?}") };
    let of_kind = |kind: u8| -> Vec<String> {
        let records = message.envelope.iter().chain(&message.extracted).filter(|record| record.kind == kind);
        records.map(|record| String::from_utf8(record.data.clone()).unwrap()).collect()
    };
    assert_eq!(of_kind(b'S'), ["alice@sender.example"]);
    assert_eq!(of_kind(b'R'), ["bob@rcpt.example", "carol smith@rcpt.example"]);
    assert_eq!(of_kind(b'L'), [""; 0], "it would go to the filter again");
    let lines: Vec<&[u8]> = message.content.iter().map(|record| record.data.as_slice()).collect();
    let body = lines.split(|line| line.is_empty()).next_back().unwrap();
    assert_eq!(body, [&b"scanned"[..], b".", b"From here on"]);
    // Each server says that it was there.
    assert_eq!(lines.iter().filter(|line| line.starts_with(b"Received: ")).count(), 2);
}

fn trouble() {
    let before = filtered();
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for outcome in run_filter(&before, &gives_back_to(&nowhere.to_string())) {
        assert_eq!((outcome.fate, outcome.status.to_string()), (Fate::Deferred, "4.3.0".to_owned()));
        assert!(outcome.reason.starts_with("temporary failure. Command output: qmqp-send: "), "{outcome:?}");
    }
    for outcome in run_filter(&before, "cat >/dev/null; echo 5.7.1 this is spam; exit 69") {
        let told = (outcome.fate, outcome.status.to_string(), outcome.reason.as_str());
        assert_eq!(told, (Fate::Bounced, "5.7.1".to_owned(), "this is spam"));
    }
    assert_eq!(before.queue.committed().len(), 1, "the agent does not touch the queue");
}
