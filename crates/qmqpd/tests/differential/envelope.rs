//! Senders and recipients: rewriting, VERP, duplicates.

use testbed::case::{Case, RECIPIENT, SENDER};
use testbed::client::request;

/// Addresses as sender and as recipient.
const ADDRESSES: &[&[u8]] = &[
    b"alice",
    b"alice@",
    b"@",
    b"list-@[]",
    b"#@[]",
    b"<a@b>",
    b"a@b c",
    b"user name@x",
    b"\"user name\"@x",
    b"a@b@c",
    b"a\\b@x",
    b"a\"b@x",
    b".a@x",
    b"(c)a@b",
    b"a:b@c",
    b"u@[1.2.3.4]",
    b"h!u@c",
    b"a%b@c",
    b"alice@host.",
    b"A@Host.EX.",
    b"a%b",
    b"h!u",
    b"@r:u@h",
    b"a b",
    b"|cmd",
    b"a\tb@x",
    b"a@b ",
    b" a@b",
    b"MAILER-DAEMON",
    b"mailer-daemon@mx.example.test",
    b"a..b@x",
    b"a.@x",
    b"\"\"@x",
    b"\"",
    b"\\",
    b"a,b@x",
    b"a;b@x",
    b"<>",
    b"/dev/null",
    b"j\xc3\xbcrgen@x.example",
    b"j\xfcrgen@x.example",
    b"a@\xc3\xbc.example",
    b"a@b.",
    b"a@b..",
    b"a@.",
    b"a!b!c",
    b"a%b%c",
    b"!a",
    b"%a",
    b"a!",
    b"a%",
    b"\x01@x",
    b"a\x7f@x",
];

/// Senders that may ask for VERP.
const VERP: &[&[u8]] = &[
    b"list-@host-@[]",
    b"list+@host-@[]",
    b"l-@h-@[]",
    b"a-@b-@c-@[]",
    b"-@host-@[]",
    b"@host-@[]",
    b"list-@-@[]",
    b"list-host-@[]",
    b"x-@[]",
    b"#@[]",
    b"list-@host@[]",
    b"list=@host-@[]",
];

pub(crate) fn cases() -> Vec<Case> {
    [addresses(), verp(), duplicates(), refused()].concat()
}

fn addresses() -> Vec<Case> {
    let mut cases = Vec::new();
    for (index, address) in ADDRESSES.iter().enumerate() {
        let short: String = address.iter().filter(|b| b.is_ascii_graphic()).map(|b| char::from(*b)).collect();
        cases.push(Case::envelope(format!("envelope::{index:02}_{short}"), address, &[address]));
    }
    cases.push(Case::envelope("envelope::null_sender", "", &[RECIPIENT]));
    cases.push(Case::envelope("envelope::empty_recipient", SENDER, &[b""]));
    cases.push(Case::envelope("envelope::two_empty_recipients", SENDER, &[b"", b""]));
    cases
}

fn verp() -> Vec<Case> {
    let mut cases = Vec::new();
    for (index, sender) in VERP.iter().enumerate() {
        let name = format!("envelope::verp_{index:02}_{}", String::from_utf8_lossy(sender));
        cases.push(Case::envelope(name, sender, &[b"a@x.example", b"b@y.example"]));
    }
    for (bad, shown) in [("list@host-@[]", "t="), ("list_@host-@[]", "_="), ("list.@host-@[]", ".=")] {
        let text =
            format!(r#"DError: Invalid VERP delimiters: \"{shown}\". Need two characters from \"-=+\""#);
        cases.push(Case::envelope(format!("envelope::bad_verp_{bad}"), bad, &[RECIPIENT]).reply(text));
    }
    cases.push(Case::envelope("envelope::bad_verp_8bit", b"list\xff@host-@[]", &[RECIPIENT]).differs(
        "replies-quote-only-printable-text",
        |postfix| assert!(postfix.said().contains(r#"\"\xff=\""#), "{}", postfix.said()),
        |ours| assert!(ours.said().contains(r#"\"?=\""#), "{}", ours.said()),
    ));
    cases.push(
        Case::envelope("envelope::bad_verp_soft_bounce", "list_@host-@[]", &[RECIPIENT])
            .with(&["soft_bounce = yes"])
            .reply(r#"ZError: Invalid VERP delimiters: \"_=\". Need two characters from \"-=+\""#),
    );
    cases.push(
        Case::envelope("envelope::verp_filter", "list_@host-@[]", &[RECIPIENT])
            .with(&["verp_delimiter_filter = -=+_"]),
    );
    cases
}

fn duplicates() -> Vec<Case> {
    let numbered = |count: usize| -> Vec<Vec<u8>> {
        (0..count).map(|i| format!("u{i}@x.example").into_bytes()).collect()
    };
    let twice = {
        let mut list = numbered(1200);
        list.extend(numbered(1200));
        list
    };
    let all = |recipients: &[Vec<u8>]| {
        let slices: Vec<&[u8]> = recipients.iter().map(Vec::as_slice).collect();
        request(b"Subject: many\n\nhello\n", SENDER, &slices)
    };
    vec![
        Case::envelope("envelope::same_twice", SENDER, &[b"bob@x", b"bob@x"]),
        Case::envelope("envelope::same_in_another_case", SENDER, &[b"bob@x", b"Bob@X"]),
        Case::envelope("envelope::same_after_rewriting", SENDER, &[b"alice", b"alice@mx.example.test"]),
        Case::envelope(
            "envelope::same_in_utf8_case",
            SENDER,
            &["\u{fc}@x".as_bytes(), "\u{dc}@x".as_bytes()],
        ),
        Case::envelope("envelope::same_in_sharp_s", SENDER, &["stra\u{df}e@x".as_bytes(), b"strasse@x"]),
        Case::envelope("envelope::same_in_latin1_case", SENDER, &[b"\xfc@x", b"\xdc@x"]),
        Case::bytes("envelope::thousand", all(&numbered(1000))),
        Case::bytes("envelope::more_than_the_filter_learns", all(&twice)),
        Case::envelope("envelope::filter_of_two", SENDER, &[b"a@x", b"b@x", b"c@x", b"c@x", b"a@x"])
            .with(&["duplicate_filter_limit = 2"]),
        Case::envelope("envelope::filter_without_limit", SENDER, &[b"a@x", b"b@x", b"c@x", b"c@x", b"a@x"])
            .with(&["duplicate_filter_limit = 0"]),
        Case::bytes("envelope::ten_thousand", all(&numbered(10_000))),
    ]
}

fn refused() -> Vec<Case> {
    let mut cases =
        vec![Case::envelope("envelope::no_recipients", SENDER, &[]).reply("DError: no recipients specified")];
    for (name, address) in
        [("nul", &b"r\0x@e.example"[..]), ("cr", b"r\r@e.example"), ("lf", b"r@e.example\nDATA")]
    {
        let queued: fn(&testbed::pair::Outcome) = |postfix| postfix.assert_queued();
        let refused: fn(&testbed::pair::Outcome) = |ours| {
            assert!(ours.said().starts_with('D'), "{:?}", ours.reply);
            assert!(ours.files.is_empty());
            ours.assert_logged("warning: ");
        };
        let anchor = "nul-cr-and-lf-in-addresses-are-rejected";
        cases.push(
            Case::envelope(format!("envelope::{name}_in_a_recipient"), SENDER, &[address])
                .differs(anchor, queued, refused),
        );
        cases.push(
            Case::envelope(format!("envelope::{name}_in_the_sender"), address, &[RECIPIENT])
                .differs(anchor, queued, refused),
        );
    }
    cases
}
