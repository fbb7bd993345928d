//! Limits, to the byte.

use testbed::case::{Case, RECIPIENT, SENDER};
use testbed::client::request;
use testbed::pair::POSTFIX;
use testbed::queue_file::Record;

const TOO_LONG: &str = "Dnetstring length exceeds storage limit while receiving";

pub(crate) fn cases() -> Vec<Case> {
    [message_size(), lines_and_headers(), hops()].concat()
}

/// A header of about so many bytes, Message-ID last.
fn header_of(bytes: usize) -> Vec<u8> {
    let line = "X-Filler: 0123456789012345678901234567890123456789\n";
    let mut text = "Date: x\n".to_owned() + &line.repeat(bytes / line.len());
    text.push_str("Message-Id: <last@x.example>\n\nbody\n");
    text.into_bytes()
}

/// `message_size_limit` counts the queue file, and the queue ID in it has no fixed length.
fn message_size() -> Vec<Case> {
    const LIMIT: usize = 6000;
    /// Postfix's queue file for this message without its body and without the queue ID.
    const AROUND: usize = 728;
    /// What version 3.10 adds: `message_id=<x@y>`.
    const MESSAGE_ID: usize = 18;
    let with_body = |length: usize| {
        let mut text = b"From: a@b.example\nDate: x\nMessage-Id: <x@y>\nSubject: s\n\n".to_vec();
        text.extend(std::iter::repeat_n(b'x', length));
        text.push(b'\n');
        text
    };
    let limit = format!("message_size_limit = {LIMIT}");
    let mut cases = Vec::new();
    for length in LIMIT - AROUND - 20..LIMIT - AROUND {
        let name = format!("limits::queue_file_with_body_of_{length}");
        cases.push(Case::content(name, with_body(length)).with(&[&limit]).each(move |outcome| {
            // With six digits of microseconds in the time record.
            let longest = AROUND + outcome.id.as_ref().unwrap().len() + length;
            if outcome.said().starts_with('K') {
                outcome.assert_queued();
                let file = &outcome.files[0];
                let short = "1795386300 145704".len() - file.envelope[0].data.len();
                let more = if file.extracted.iter().any(Record::is_message_id) { MESSAGE_ID } else { 0 };
                assert_eq!(file.bytes, (longest + more - short) as u64, "{}", outcome.server);
                assert!(longest + more - short <= LIMIT, "{}: over the limit", outcome.server);
            } else {
                outcome.assert_refused("DError: message too large");
                let more = if outcome.server == POSTFIX { MESSAGE_ID } else { 0 };
                assert!(longest + more > LIMIT, "{}: {longest} is not over the limit", outcome.server);
            }
        }));
    }
    cases.extend([
        Case::content("limits::file_well_over_the_limit", with_body(5500))
            .with(&[&limit])
            .reply("DError: message too large"),
        Case::content("limits::content_over_the_limit", with_body(LIMIT))
            .with(&[&limit])
            .reply(format!("{TOO_LONG} message content"))
            .any_end(),
        Case::content("limits::over_the_limit_within_the_header", header_of(8000))
            .with(&["message_size_limit = 8020"])
            .reply("DError: message too large")
            .differs(
                "the-message-id-of-a-message-that-is-too-large-is-logged",
                |postfix| assert!(!postfix.log.iter().any(|line| line.contains("message-id="))),
                |ours| ours.assert_logged("cleanup: QUEUE-ID: message-id=<last@x.example>"),
            ),
        Case::content("limits::no_limit", with_body(100_000)).with(&["message_size_limit = 0"]),
        Case::content("limits::over_the_limit_by_the_envelope", with_body(100))
            .with(&["message_size_limit = 800"])
            .reply("DError: message too large"),
        Case::bytes(
            "limits::over_the_limit_by_many_recipients",
            request(
                &with_body(10),
                SENDER,
                &(0..1000)
                    .map(|number| format!("user{number}@rcpt.example"))
                    .collect::<Vec<_>>()
                    .iter()
                    .map(String::as_bytes)
                    .collect::<Vec<_>>(),
            ),
        )
        .with(&["message_size_limit = 40000"])
        .reply("DError: message too large"),
        Case::bytes(
            "limits::refused_and_the_first_alias_is_endless",
            request(&with_body(10), SENDER, &[b"loop@x.example", b"bob@x.example"]),
        )
        .with(&[REJECT, ENDLESS_ALIAS])
        .reply("ZError: 4.6.0 Alias expansion error"),
        Case::bytes(
            "limits::refused_and_another_alias_is_endless",
            request(&with_body(10), SENDER, &[b"bob@x.example", b"loop@x.example"]),
        )
        .with(&[REJECT, ENDLESS_ALIAS])
        .differs(
            "rejected-messages-cause-fewer-table-lookups",
            |postfix| postfix.assert_refused("ZError: 4.6.0 Alias expansion error"),
            |ours| ours.assert_refused("DError: 5.7.1 message content rejected"),
        ),
        Case::content("limits::soft_bounce_too_large", with_body(5500))
            .with(&[&limit, "soft_bounce = yes"])
            .reply("ZError: message too large"),
    ]);
    cases
}

const REJECT: &str = "header_checks = regexp:{{/^Subject: s/ REJECT}}";
const ENDLESS_ALIAS: &str =
    "virtual_alias_maps = inline:{loop@x.example=pool@x.example, pool@x.example=loop@x.example}";

fn lines_and_headers() -> Vec<Case> {
    let address = |length: usize| {
        let mut text = vec![b'a'; length - 2];
        text.extend_from_slice(b"@x");
        text
    };
    let lines = ["line_length_limit = 512"];
    let headers = ["header_size_limit = 1000"];
    let folded = |lines: usize, width: usize| {
        let continuation = format!("\n {}", "c".repeat(width));
        format!("X-Folded: start{}\nX-Next: y\n\nhello\n", continuation.repeat(lines))
    };
    let mut cases = vec![
        Case::bytes("limits::sender_of_512", request(b"a\n", &address(512), &[RECIPIENT])).with(&lines),
        Case::bytes("limits::sender_of_513", request(b"a\n", &address(513), &[RECIPIENT]))
            .with(&lines)
            .reply(format!("{TOO_LONG} sender address"))
            .any_end(),
        Case::bytes("limits::recipient_of_513", request(b"a\n", SENDER, &[&address(513)]))
            .with(&lines)
            .reply(format!("{TOO_LONG} recipient address"))
            .any_end(),
        Case::content("limits::lines_of_512", format!("X: {}\n\n{}\n", "h".repeat(2000), "b".repeat(2000)))
            .with(&lines),
        Case::content("limits::header_of_one_long_line", format!("X: {}\nY: z\n\nhello\n", "h".repeat(5000)))
            .with(&headers),
        Case::content(
            "limits::long_address_header",
            format!("To: {}\n\nhello\n", vec!["joe"; 900].join(", ")),
        )
        .with(&headers),
        Case::content(
            "limits::long_address_header_folded",
            format!("To: {}\n\nhello\n", vec!["joe"; 900].join(",\n ")),
        )
        .with(&headers),
        Case::content(
            "limits::header_of_the_default",
            format!("X: {}\nY: z\n\nhello\n", "h".repeat(110_000)),
        ),
        Case::content("limits::folded_header_of_the_default", folded(1200, 100)),
    ];
    for (count, width) in [(9, 98), (10, 98), (11, 98), (30, 30), (35, 30), (2, 900), (3, 490)] {
        cases.push(
            Case::content(format!("limits::folded_{count}_times_{width}"), folded(count, width))
                .with(&headers),
        );
    }
    cases
}

fn hops() -> Vec<Case> {
    let received = |count: usize| format!("{}Subject: x\n\nhello\n", "Received: by x\n".repeat(count));
    vec![
        Case::content("limits::hops_48", received(48)),
        Case::content("limits::hops_49", received(49)).reply("DError: too many hops"),
        Case::content("limits::hops_49_soft_bounce", received(49))
            .with(&["soft_bounce = yes"])
            .reply("ZError: too many hops"),
        Case::content("limits::hops_3_of_5", received(3)).with(&["hopcount_limit = 5"]),
        Case::content("limits::hops_4_of_5", received(4))
            .with(&["hopcount_limit = 5"])
            .reply("DError: too many hops"),
        Case::content(
            "limits::hops_in_a_nested_message",
            format!("Content-Type: message/rfc822\n\n{}", received(60)),
        ),
        Case::content(
            "limits::delivered_to_is_no_hop",
            format!("{}\nhello\n", "Delivered-To: a@b\n".repeat(60)),
        ),
        Case::bytes("limits::hops_before_no_recipients", request(received(60).as_bytes(), SENDER, &[]))
            .reply("DError: too many hops"),
    ]
}
