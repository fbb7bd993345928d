//! Netstrings, good and bad; clients that leave early.

use testbed::case::{Case, Expect, RECIPIENT, SENDER};
use testbed::client::{Step, envelope, netstring, request};
use testbed::pair::Outcome;

const FORMAT: &str = "Dnetstring format error while";
const TOO_LONG: &str = "Dnetstring length exceeds storage limit while";
const HEADER: &str = "receiving QMQP packet header";
const CONTENT: &str = "receiving message content";
const SENDER_ADDRESS: &str = "receiving sender address";
const RECIPIENT_ADDRESS: &str = "receiving recipient address";

/// The client fails before ours makes a queue file for it.
pub(crate) fn early(case: Case) -> Case {
    case.differs(
        "no-queue-id-before-the-message-header-arrives",
        |postfix| {
            postfix.assert_logged("qmqpd: QUEUE-ID: client=");
            postfix.assert_logged(": QUEUE-ID: ");
        },
        |ours| {
            ours.assert_logged("qmqpd: NOQUEUE: ");
            ours.assert_not_logged("client=");
        },
    )
}

pub(crate) fn cases() -> Vec<Case> {
    [well_formed(), malformed(), too_long(), vanished(), outer_length()].concat()
}

/// The usual inner netstrings: content, sender, recipient.
fn inner() -> Vec<u8> {
    envelope(b"Subject: x\n\nhello\n", SENDER, &[RECIPIENT])
}

fn well_formed() -> Vec<Case> {
    let whole = request(b"Subject: x\n\nhello\n", SENDER, &[RECIPIENT]);
    let mut trailing = whole.clone();
    trailing.extend_from_slice(b"5:stray,");
    let twice = whole.repeat(2);
    let zeros = {
        let mut out = b"0000000000000000000000000071:".to_vec();
        out.extend(b"00018:Subject: x\n\nhello\n,020:alice@sender.example,0016:bob@rcpt.example,");
        out.push(b',');
        let length = out.len() - 30;
        out.splice(0..28, format!("{length:028}").into_bytes());
        out
    };
    let many_zeros = [vec![b'0'; 70], whole.clone()].concat();
    vec![
        Case::bytes("protocol::plain", whole.clone()),
        Case::new("protocol::byte_by_byte", vec![Step::SendPieces(whole.clone(), 1)]),
        Case::new("protocol::in_sevens", vec![Step::SendPieces(whole.clone(), 7)]),
        Case::cut("protocol::half_closed_after_the_end", whole),
        Case::bytes("protocol::trailing_data_is_ignored", trailing).any_end(),
        Case::bytes("protocol::second_message_is_ignored", twice).any_end(),
        Case::bytes("protocol::leading_zeros", zeros),
        Case::bytes("protocol::more_digits_than_any_number_needs", many_zeros).differs(
            "a-netstring-length-has-at-most-64-digits",
            |postfix| postfix.assert_queued(),
            |ours| ours.assert_refused("Dnetstring format error while receiving QMQP packet header"),
        ),
        Case::inside(
            "protocol::empty_content_without_digits",
            b":,20:alice@sender.example,16:bob@rcpt.example,",
        ),
    ]
}

fn malformed() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, bytes) in [
        ("letter_for_a_length", &b"x"[..]),
        ("space_before_a_length", b" 5:"),
        ("minus_sign", b"-1:"),
        ("plus_sign", b"+1:"),
        ("hexadecimal", b"0x1f:"),
        ("newline_first", b"\n"),
        ("nul_first", b"\0"),
        ("smtp_client", b"EHLO client.example.com\r\n"),
        ("master_wakeup", b"W\0"),
        ("comma_for_a_colon", b"5,"),
    ] {
        cases
            .push(early(Case::bytes(format!("protocol::{name}"), bytes).reply(format!("{FORMAT} {HEADER}"))));
    }
    cases.extend([
        Case::inside("protocol::letter_in_the_content_length", b"1x:a,")
            .reply(format!("{FORMAT} {CONTENT}"))
            .any_end(),
        Case::inside("protocol::letter_in_the_sender_length", b"1:a,z")
            .reply(format!("{FORMAT} {SENDER_ADDRESS}"))
            .any_end(),
        Case::inside("protocol::letter_in_the_recipient_length", b"1:a,1:s,z")
            .reply(format!("{FORMAT} {RECIPIENT_ADDRESS}"))
            .any_end(),
        Case::inside("protocol::letter_in_the_second_recipient_length", b"1:a,1:s,1:r,z")
            .reply(format!("{FORMAT} {RECIPIENT_ADDRESS}"))
            .any_end(),
    ]);
    for (place, inner, phase) in [
        ("content", &b"1:a;1:s,1:r,"[..], CONTENT),
        ("sender", b"1:a,1:s;1:r,", SENDER_ADDRESS),
        ("recipient", b"1:a,1:s,1:r;", RECIPIENT_ADDRESS),
    ] {
        cases.push(
            Case::inside(format!("protocol::no_comma_behind_the_{place}"), inner)
                .reply(format!("{FORMAT} {phase}"))
                .any_end(),
        );
    }
    cases
}

fn too_long() -> Vec<Case> {
    let address = |length: usize| vec![b'a'; length];
    vec![
        early(
            Case::bytes("protocol::outer_length_overflows", *b"99999999999999999999999999:")
                .reply(format!("{TOO_LONG} {HEADER}")),
        ),
        Case::inside("protocol::content_length_overflows", b"99999999999999999999999999:")
            .reply(format!("{TOO_LONG} {CONTENT}"))
            .any_end(),
        Case::bytes("protocol::content_over_the_limit", *b"10300000:10240001:")
            .reply(format!("{TOO_LONG} {CONTENT}"))
            .any_end(),
        Case::inside("protocol::sender_over_the_limit", b"1:a,2049:")
            .reply(format!("{TOO_LONG} {SENDER_ADDRESS}"))
            .any_end(),
        Case::inside("protocol::recipient_over_the_limit", b"1:a,1:s,2049:")
            .reply(format!("{TOO_LONG} {RECIPIENT_ADDRESS}"))
            .any_end(),
        Case::bytes("protocol::sender_at_the_limit", request(b"a\n", &address(2048), &[RECIPIENT])),
        Case::bytes("protocol::recipient_at_the_limit", request(b"a\n", SENDER, &[&address(2048)])),
    ]
}

fn vanished() -> Vec<Case> {
    let inner = inner();
    let whole = netstring(&inner);
    let mut cases = vec![
        early(Case::cut("protocol::nothing_at_all", *b"").silence()),
        early(Case::cut("protocol::cut_in_the_outer_length", *b"7").silence()),
        // Whether the server still learns the client's address is a race.
        Case::new("protocol::reset_at_once", vec![Step::Reset]).each(left_nothing),
        Case::cut("protocol::cut_behind_the_outer_length", *b"71:").silence(),
    ];
    // Places in the whole request at which nobody expects a comma.
    for (place, bytes) in [
        ("in_the_content_length", 4),
        ("in_the_content", 10),
        ("in_the_sender_length", 26),
        ("in_the_sender", 40),
        ("in_the_recipient_length", 51),
        ("in_the_recipient", 60),
    ] {
        cases.push(Case::cut(format!("protocol::cut_{place}"), &whole[..bytes]).silence());
    }
    let before_last_comma = whole.len() - 1;
    cases.push(Case::cut("protocol::cut_before_the_last_comma", &whole[..before_last_comma]).silence());
    let reset = vec![Step::Send(whole[..10].to_vec()), Step::Reset];
    cases.push(Case::new("protocol::reset_in_the_content", reset).each(left_nothing));
    cases.push(Case::cut("protocol::cut_where_a_comma_is_due", b"71:18:Subject: x\n\nhello\n").differs(
        "a-lost-connection-is-logged-as-lost",
        |postfix| {
            postfix.assert_refused("Dnetstring format error while receiving message content");
            postfix.assert_logged("netstring format error while receiving message content");
        },
        |ours| {
            assert_eq!(ours.reply, None);
            ours.assert_logged("lost connection while receiving message content");
        },
    ));
    cases
}

fn left_nothing(outcome: &Outcome) {
    outcome.check(&Expect::Silence);
    outcome.assert_logged("lost connection while ");
}

/// Postfix reads the outer length and forgets it.
fn outer_length() -> Vec<Case> {
    let with_outer = |name: &str, outer: usize| {
        let mut bytes = format!("{outer}:").into_bytes();
        bytes.extend(inner());
        bytes.push(b',');
        Case::new(name, vec![Step::Send(bytes), Step::HalfClose])
    };
    let right = inner().len();
    vec![
        with_outer("protocol::outer_length_right", right),
        with_outer("protocol::outer_length_one_too_small", right - 1).differs(
            "the-outer-netstring-length-is-checked",
            |postfix| postfix.assert_queued(),
            |ours| ours.assert_refused("Dnetstring format error while receiving recipient address"),
        ),
        with_outer("protocol::outer_length_zero", 0).differs(
            "the-outer-netstring-length-is-checked",
            |postfix| postfix.assert_queued(),
            |ours| ours.assert_refused("Dnetstring format error while receiving message content"),
        ),
        with_outer("protocol::outer_length_one_too_large", right + 1).differs(
            "the-outer-netstring-length-is-checked",
            |postfix| postfix.assert_queued(),
            |ours| assert!(!ours.said().starts_with('K') && ours.files.is_empty(), "{:?}", ours.reply),
        ),
    ]
}
