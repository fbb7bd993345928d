//! Against dialogues captured from Postfix 3.7.

use super::*;
use crate::attr::Decoder;

fn list(bytes: &[u8]) -> AttributeList {
    Decoder::new(LIST_BYTES_MAX).decode(&mut &*bytes).unwrap().unwrap()
}

#[test]
fn every_form_of_the_announcement_is_understood() {
    let id = Announcement::QueueId(QueueId::parse("28EED9B4A2E").unwrap());
    let announced = |bytes: &[u8]| Announcement::decode(&list(bytes));
    assert_eq!(announced(b"protocol\0cleanup_protocol\0queue_id\x0028EED9B4A2E\0\0"), Ok(id));
    assert_eq!(announced(b"queue_id\x0028EED9B4A2E\0\0"), Ok(id));
    assert_eq!(announced(b"protocol\0cleanup_protocol\0\0"), Ok(Announcement::Protocol));
    let error = |bytes: &[u8]| announced(bytes).unwrap_err().to_string();
    assert!(error(b"protocol\0anvil_protocol\0\0").contains("speaks \"anvil_protocol\""));
    assert!(error(b"queue_id\0../x\0\0").contains("is not a queue ID"));
    assert_eq!(error(b"\0"), "cleanup service: missing attribute queue_id in input");
    assert_eq!(
        error(b"queue_id\0A\0x\0y\0\0"),
        "cleanup service: unexpected attribute x (expecting: list terminator)"
    );
    assert_eq!(
        error(b"queue_id\0A\0protocol\0cleanup_protocol\0\0"),
        "cleanup service: unexpected attribute queue_id (expecting: protocol)"
    );
}

#[test]
fn flags_are_those_of_qmqpd() {
    let flags = |a, b, c, d| Flags::of_qmqpd(a, b, c, d).0;
    assert_eq!(flags(false, false, false, false), 114);
    assert_eq!(flags(true, false, false, false), 114 - 48);
    assert_eq!(flags(false, true, false, false), 114 - 2);
    assert_eq!(flags(false, false, true, false), 114 - 64);
    assert_eq!(flags(true, true, true, false), 0);
    assert_eq!(flags(false, false, true, true), 562);
    let mut out = Vec::new();
    Flags::of_qmqpd(false, false, false, false).encode(&mut out);
    assert_eq!(out, [0x66, 0x6c, 0x61, 0x67, 0x73, 0, 0x31, 0x31, 0x34, 0, 0]);
}

/// The records of a request as `TYPE‹length›data`, as the capture has them.
fn shown(bytes: &[u8]) -> Vec<String> {
    crate::record::Reader::new(bytes)
        .map(|record| {
            let (_, record) = record.unwrap();
            let data = String::from_utf8_lossy(record.data);
            format!("{}‹{}›{data}", char::from(record.kind.0), record.data.len())
        })
        .collect()
}

#[test]
fn a_request_is_that_of_qmqpd() {
    let client = Client {
        name: "localhost",
        address: "127.0.0.1",
        port: "49072",
        address_type: 2,
        log_origin: "localhost[127.0.0.1]",
    };
    let mut out = Vec::new();
    encode_arrival(&mut out, 1_795_386_610, 138_845, "");
    encode_sender(&mut out, b"foo@ex", None, &client);
    encode_recipient(&mut out, b"foo@ex");
    encode_content_begin(&mut out);
    encode_end(&mut out);
    assert_eq!(
        shown(&out),
        [
            "T‹17›1795386610 138845",
            "S‹6›foo@ex",
            "A‹25›log_client_name=localhost",
            "A‹28›log_client_address=127.0.0.1",
            "A‹21›log_client_port=49072",
            "A‹39›log_message_origin=localhost[127.0.0.1]",
            "A‹22›log_protocol_name=QMQP",
            "A‹21›client_name=localhost",
            "A‹24›client_address=127.0.0.1",
            "A‹17›client_port=49072",
            "A‹21›client_address_type=2",
            "A‹18›protocol_name=QMQP",
            "R‹6›foo@ex",
            "M‹0›",
            "X‹0›",
            "E‹0›",
        ]
    );
}

/// The dialogue of one message, captured between qmqpd(8) and cleanup(8), to the byte. What the client says is the same in
/// both dialects: Postfix 3.4 and 3.5, whose cleanup(8) names nothing but the queue ID, and 3.6 and later.
#[test]
fn whole_dialogues_as_captured() {
    let announcements: [&[u8]; 3] = [
        b"queue_id\x0028EED9B4A2E\0\0",
        b"protocol\0cleanup_protocol\0queue_id\x0028EED9B4A2E\0\0",
        b"protocol\0cleanup_protocol\0\0queue_id\x0028EED9B4A2E\0\0",
    ];
    assert_eq!(announcements.map(<[u8]>::len), [22, 48, 49], "as captured");
    let request: Vec<u8> = [
        b"flags\x00114\0\0".as_slice(),
        b"T\x111795386610 138845S\x06foo@ex",
        b"A\x19log_client_name=localhostA\x1clog_client_address=127.0.0.1A\x15log_client_port=49072",
        b"A\x27log_message_origin=localhost[127.0.0.1]A\x16log_protocol_name=QMQP",
        b"A\x15client_name=localhostA\x18client_address=127.0.0.1A\x11client_port=49072",
        b"A\x15client_address_type=2A\x12protocol_name=QMQP",
        b"R\x06foo@exM\0",
        b"N\x30Received: from localhost (localhost [127.0.0.1])",
        b"N\x36\tby mx.example.test (Postfix) with QMQP id 28EED9B4A2E",
        b"N\x34\tfor <foo@ex>; Sun, 22 Nov 2026 22:30:10 +0000 (UTC)",
        b"N\x0eFrom: <foo@ex>N\0N\x0dXXXXXXXXXXXXXX\0E\0",
    ]
    .concat();
    for announcement in announcements {
        let mut decoder = Decoder::new(LIST_BYTES_MAX);
        let mut heard = announcement;
        let queue_id = loop {
            let list = decoder.decode(&mut heard).unwrap().unwrap();
            match Announcement::decode(&list).unwrap() {
                Announcement::QueueId(queue_id) => break queue_id.to_string(),
                Announcement::Protocol => {}
            }
        };
        assert!(heard.is_empty());
        let client = Client {
            name: "localhost",
            address: "127.0.0.1",
            port: "49072",
            address_type: 2,
            log_origin: "localhost[127.0.0.1]",
        };
        let mut said = Vec::new();
        Flags::of_qmqpd(false, false, false, false).encode(&mut said);
        encode_arrival(&mut said, 1_795_386_610, 138_845, "");
        encode_sender(&mut said, b"foo@ex", None, &client);
        encode_recipient(&mut said, b"foo@ex");
        encode_content_begin(&mut said);
        for line in [
            "Received: from localhost (localhost [127.0.0.1])",
            &format!("\tby mx.example.test (Postfix) with QMQP id {queue_id}"),
            "\tfor <foo@ex>; Sun, 22 Nov 2026 22:30:10 +0000 (UTC)",
            "From: <foo@ex>",
            "",
            "XXXXXXXXXXXXX",
        ] {
            encode(&mut said, RecordType::NORMAL, line.as_bytes());
        }
        encode_end(&mut said);
        assert_eq!(said.escape_ascii().to_string(), request.escape_ascii().to_string());
        let judgement = Judgement::decode(&list(b"status\x000\0reason\0\0\0")).unwrap();
        assert_eq!(judgement, Judgement { status: 0, reason: String::new() });
    }
}

#[test]
fn lengths_of_records_as_captured() {
    let head = |length: usize| {
        let mut out = Vec::new();
        encode(&mut out, RecordType::NORMAL, &vec![b'x'; length]);
        out.truncate(out.len() - length);
        out
    };
    assert_eq!(head(6), b"N\x06");
    assert_eq!(head(200), b"N\xc8\x01");
    assert_eq!(head(2048), b"N\x80\x10");
}

#[test]
fn options_of_a_request_stand_where_they_belong() {
    let client =
        Client { name: "unknown", address: "::1", port: "1", address_type: 10, log_origin: "unknown[::1]" };
    let mut out = Vec::new();
    encode_arrival(&mut out, 1, 2, "smtp:[127.0.0.1]:10025");
    encode_sender(&mut out, b"list@sender.example", Some(b"-="), &client);
    let records = shown(&out);
    assert_eq!(
        records.get(..5).unwrap(),
        [
            "T‹3›1 2",
            "L‹22›smtp:[127.0.0.1]:10025",
            "S‹19›list@sender.example",
            "V‹2›-=",
            "A‹23›log_client_name=unknown"
        ]
    );
    assert!(records.contains(&"A‹27›log_client_address=IPv6:::1".to_owned()), "{records:?}");
    assert!(records.contains(&"A‹18›client_address=::1".to_owned()), "{records:?}");
}

#[test]
fn judgements_are_read() {
    let read = |bytes: &[u8]| Judgement::decode(&list(bytes));
    let ok = [0x73, 0x74, 0x61, 0x74, 0x75, 0x73, 0, 0x30, 0, 0x72, 0x65, 0x61, 0x73, 0x6f, 0x6e, 0, 0, 0];
    assert_eq!(read(&ok).unwrap(), Judgement { status: 0, reason: String::new() });
    let rejected = read(b"status\x008\0reason\x005.7.1 no thanks\0\0").unwrap();
    assert_eq!(rejected, Judgement { status: status::CONTENT, reason: "5.7.1 no thanks".to_owned() });
    let error = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    assert_eq!(error(b"status\0x\0reason\0\0\0"), "cleanup service: status \"x\" is not a number");
    assert_eq!(error(b"status\x000\0\0"), "cleanup service: missing attribute reason in input");
}
