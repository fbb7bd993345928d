//! Mail filters: what they hear, what they may answer, and what becomes of the message.

use testbed::case::Case;
use testbed::client::request;
use testbed::milter::{Answer, Script, packet};
use testbed::pair::Outcome;

const ONE: &str = "non_smtpd_milters = inet:@milter1@";
const TWO: &str = "non_smtpd_milters = inet:@milter1@, inet:@milter2@";

pub(crate) fn cases() -> Vec<Case> {
    [
        hearing(),
        verbs(),
        decisions(),
        headers(),
        bodies(),
        envelopes(),
        mapped(),
        settings(),
        several(),
        checks(),
        faults(),
        differences(),
    ]
    .concat()
}

const MESSAGE: &str =
    "Subject: hi\nX-A:  two blanks\nX-B:none\nX-C:\ttab\nX-D: folded\n\tline\n again\n\nhello\n.dot\nlast";

fn case(name: &str) -> Case {
    Case::content(format!("milters::{name}"), MESSAGE).with(&[ONE])
}

/// A message that a filter lets pass, with this content.
fn heard(name: &str, content: impl AsRef<[u8]>) -> Case {
    Case::content(format!("milters::{name}"), content).with(&[ONE]).milter(Script::new())
}

fn hearing() -> Vec<Case> {
    let long = |length: usize| format!("Subject: long\n\n{}\nend\n", "x".repeat(length));
    let mut cases = vec![
        case("plain").milter(Script::new()),
        case("leading_blank").milter(Script::new().steps(1 << 20)),
        heard("header_only", "Subject: x\n"),
        heard("nothing", ""),
        heard("no_header", "\nbody\n"),
        heard("header_that_ends_without_empty_line", "Subject: x\nbody\nmore\n"),
        heard("empty_lines", "Subject: x\n\n\n\n\n"),
        heard("long_line", long(5000)),
        heard("line_of_a_chunk", long(65_535)),
        heard("chunks", format!("Subject: x\n\n{}", "0123456789abcde\n".repeat(20_000))),
        heard("long_header", format!("Subject: {}\nX-A: b\n\nbody\n", "y".repeat(5000))),
        heard("huge_header", format!("X-Long: a\n{}\nX-A: b\n\nbody\n", " yyyyyyyyy\n".repeat(9000))),
        heard("eight_bit", b"Subject: caf\xc3\xa9\n\n\xff\xfe\n"),
        heard("received", "Received: from a\n\tby b\nReceived: c\nSubject: x\n\nbody\n"),
        heard("bcc_is_dropped", "Bcc: x@y\nSubject: x\n\nbody\n"),
        heard("rewritten_header", "To: joe, b@c\nFrom: me\n\nbody\n"),
        heard("blank_before_the_colon", "Subject : x\nX-A\t:\ty\n\nbody\n"),
        heard("mime", "Content-Type: multipart/mixed; boundary=b\n\n--b\nSubject: inner\n\ntext\n--b--\n"),
    ];
    for (name, bit) in [
        ("connect", 0),
        ("helo", 1),
        ("mail", 2),
        ("rcpt", 3),
        ("body", 4),
        ("headers", 5),
        ("end_of_headers", 6),
        ("data", 9),
    ] {
        cases.push(case(&format!("unwanted::{name}")).milter(Script::new().steps(1 << bit)));
    }
    for (name, bit) in [
        ("headers", 7),
        ("connect", 12),
        ("helo", 13),
        ("mail", 14),
        ("rcpt", 15),
        ("data", 16),
        ("end_of_headers", 18),
        ("body", 19),
    ] {
        cases.push(case(&format!("unanswered::{name}")).milter(Script::new().steps(1 << bit)));
    }
    cases.push(case("unanswered::all").milter(Script::new().steps(0xdf_000 | 1 << 7)));
    cases
}

const STEPS: [(&str, u8); 9] = [
    ("connect", b'C'),
    ("helo", b'H'),
    ("mail", b'M'),
    ("rcpt", b'R'),
    ("data", b'T'),
    ("header", b'L'),
    ("end_of_headers", b'N'),
    ("body", b'B'),
    ("end_of_body", b'E'),
];

/// Every verb at every step.
fn verbs() -> Vec<Case> {
    let mut cases = vec![];
    for (step, command) in STEPS {
        for (verb, reply, data) in [
            ("accept", b'a', ""),
            ("discard", b'd', ""),
            ("reject", b'r', ""),
            ("tempfail", b't', ""),
            ("skip", b's', ""),
            ("code_550", b'y', "554 5.7.1 we say 100%% no\0"),
            ("code_450", b'y', "450 later\0"),
        ] {
            let name = format!("{step}::{verb}");
            let answered = case(&name).milter(Script::new().on(command, reply, data));
            if verb == "discard" && matches!(command, b'C' | b'H') {
                // A warning, and on it goes.
                cases.push(answered.each(Outcome::assert_queued));
            } else {
                cases.push(answered.observed());
            }
        }
        // Before the content a quarantine is different: see below.
        if matches!(command, b'L' | b'N' | b'B' | b'E') {
            let quarantine = Answer::Packets(vec![packet(b'q', b"", &["a reason"]), (b'c', vec![])]);
            cases.push(
                case(&format!("{step}::quarantine"))
                    .milter(Script::new().answer(command, 0, quarantine))
                    .observed(),
            );
        }
        let progress = vec![(b'p', vec![]), (b'p', vec![]), (b'c', vec![])];
        cases.push(case(&format!("{step}::progress")).milter(Script::new().answer(
            command,
            0,
            Answer::Packets(progress),
        )));
    }
    cases
}

fn decisions() -> Vec<Case> {
    let at_end = |name: &str, packets: Vec<(u8, Vec<u8>)>| {
        case(name).milter(Script::new().answer(b'E', 0, Answer::Packets(packets))).observed()
    };
    vec![
        at_end("quarantine_then_reject", vec![packet(b'q', b"", &["why"]), (b'r', vec![])]),
        at_end("quarantine_then_accept", vec![packet(b'q', b"", &["why"]), (b'a', vec![])]),
        at_end("quarantine_then_discard", vec![packet(b'q', b"", &["why"]), (b'd', vec![])]),
        at_end("code_of_two_lines", vec![packet(b'y', b"", &["550-5.7.1 a\r\n550 5.7.1 b"])]),
        at_end("code_without_text", vec![packet(b'y', b"", &["550 "])]),
        at_end("edits_then_reject", vec![packet(b'h', b"", &["X", "y"]), (b'r', vec![])]),
        case("soft_bounce")
            .with(&["soft_bounce = yes"])
            .milter(Script::new().on(b'E', b'y', "550 5.7.1 no\0"))
            .observed(),
        case("soft_bounce_of_a_reject")
            .with(&["soft_bounce = yes"])
            .milter(Script::new().on(b'E', b'r', ""))
            .observed(),
    ]
}

fn edited(name: &str, packets: Vec<(u8, Vec<u8>)>) -> Case {
    case(name).milter(Script::new().edits(packets))
}

fn add(name: &str, value: &str) -> (u8, Vec<u8>) {
    packet(b'h', b"", &[name, value])
}

fn insert(position: u32, name: &str, value: &str) -> (u8, Vec<u8>) {
    packet(b'i', &position.to_be_bytes(), &[name, value])
}

fn change(instance: u32, name: &str, value: &str) -> (u8, Vec<u8>) {
    packet(b'm', &instance.to_be_bytes(), &[name, value])
}

fn headers() -> Vec<Case> {
    let received = "Received: from a\n\tby b\nX-A: 1\nReceived: from c\nX-A: 2\nX-A: 3\n\nbody\n";
    let with = |name: &str, packets: Vec<(u8, Vec<u8>)>| {
        Case::content(format!("milters::header::{name}"), received)
            .with(&[ONE])
            .milter(Script::new().edits(packets))
    };
    let mut cases = vec![
        with("add", vec![add("X-New", "value")]),
        with("add_two", vec![add("X-New", "1"), add("X-New", "2")]),
        with("add_folded", vec![add("X-New", "one\n two\n\tthree")]),
        with("add_badly_folded", vec![add("X-New", "one\nX-Evil: two")]),
        with("add_empty", vec![add("X-New", "")]),
        with("add_long", vec![add("X-New", &"z".repeat(5000))]),
        with("add_eight_bit", vec![add("X-New", "caf\u{e9}")]),
        with("change_of_an_added_one", vec![add("X-New", "1"), change(1, "X-New", "2")]),
        with("change_first_received", vec![change(1, "Received", "from x")]),
        with("change_second_received", vec![change(2, "received", "from x")]),
        with("change_missing", vec![change(4, "X-A", "4")]),
        with("change_zeroth", vec![change(0, "X-A", "0")]),
        with("change_folded", vec![change(1, "Received", "from x\n\tby y")]),
        with("delete", vec![change(2, "x-a", "")]),
        with("delete_missing", vec![change(9, "X-A", "")]),
        with("delete_received", vec![change(1, "Received", "")]),
        with("delete_all", vec![change(1, "X-A", ""), change(1, "X-A", ""), change(1, "X-A", "")]),
        with("delete_then_change", vec![change(1, "X-A", ""), change(1, "X-A", "new")]),
        with("change_then_delete", vec![change(2, "X-A", "new"), change(2, "X-A", "")]),
        with(
            "delete_generated",
            vec![change(1, "Date", ""), change(1, "Message-Id", ""), change(1, "From", "")],
        ),
        with("change_from", vec![change(1, "From", "you@there.example")]),
        with("leading_blank", vec![]),
        with("insert_then_change_received", vec![insert(0, "X-Ins", "1"), change(1, "Received", "from x")]),
        with(
            "insert_received_first",
            vec![insert(0, "Received", "from ours"), change(1, "Received", "changed")],
        ),
        with(
            "mixed",
            vec![
                add("X-1", "1"),
                insert(2, "X-2", "2"),
                change(1, "X-1", "one"),
                insert(1, "X-3", "3"),
                change(1, "X-A", ""),
                insert(99, "X-4", "4"),
                change(7, "X-4", "5"),
            ],
        ),
        with("many", (0..200).map(|number| add("X-Many", &number.to_string())).collect()),
        Case::content("milters::header::own_blank", received).with(&[ONE]).milter(
            Script::new().steps(1 << 20).edits(vec![
                add("X-New", " one"),
                add("X-New", "none"),
                insert(0, "X-New", "\ttab"),
            ]),
        ),
    ];
    for position in [0, 1, 2, 3, 4, 6, 9, 10, 11, 50] {
        cases.push(with(&format!("insert_at_{position}"), vec![insert(position, "X-Ins", "here")]));
    }
    cases
}

fn bodies() -> Vec<Case> {
    let body = |name: &str, pieces: &[&str]| {
        edited(
            &format!("body::{name}"),
            pieces.iter().map(|piece| (b'b', piece.as_bytes().to_vec())).collect(),
        )
    };
    let large = "a line of the new body\r\n".repeat(2000);
    let lines = "x".repeat(2048);
    vec![
        body("replaced", &["new body\r\nsecond\r\n"]),
        body("empty", &[""]),
        body("without_line_end", &["no end"]),
        body("in_pieces", &["a\r", "\nb\r\n", "c"]),
        body("of_bare_newlines", &["a\nb\n\nc\n"]),
        body("of_bare_cr", &["a\rb\r\r\nc\r\n"]),
        body("long_line", &[&"y".repeat(5000), "\r\nend\r\n"]),
        body("line_of_the_limit", &[&lines, "\r\nend\r\n"]),
        body("large", &[&large, &large, &large]),
        edited("body::then_header", vec![(b'b', b"new\r\n".to_vec()), add("X-New", "1")]),
        edited(
            "body::between_headers",
            vec![add("X-1", "1"), (b'b', b"new\r\n".to_vec()), insert(1, "X-2", "2")],
        ),
    ]
}

fn envelopes() -> Vec<Case> {
    let three: &[&[u8]] = &[b"bob@rcpt.example", b"carol@rcpt.example", b"bob@rcpt.example"];
    let with = |name: &str, sender: &str, recipients: &[&[u8]], packets: Vec<(u8, Vec<u8>)>| {
        let content = "Subject: x\n\nbody\n";
        Case::bytes(
            format!("milters::envelope::{name}"),
            request(content.as_bytes(), sender.as_bytes(), recipients),
        )
        .with(&[ONE])
        .milter(Script::new().edits(packets))
    };
    let to = |name: &str, packets| with(name, "alice@sender.example", three, packets);
    let rcpt = |address: &str| packet(b'+', b"", &[address]);
    let rcpt_with = |address: &str, parameters: &str| packet(b'2', b"", &[address, parameters]);
    let delete = |address: &str| packet(b'-', b"", &[address]);
    let from = |address: &str| packet(b'e', b"", &[address]);
    vec![
        to("duplicates_are_heard", vec![]),
        with("null_sender", "", three, vec![]),
        with("odd_addresses", "\"two words\"@x", &[b"a b@c", b"x@", b"user", b"@r:u@h", b"u!v"], vec![]),
        with("verp", "list-@sender.example-@[]", three, vec![from("other@sender.example")]),
        with("short_sender", "a@b", three, vec![]),
        to("add", vec![rcpt("dave@rcpt.example")]),
        to("add_in_brackets", vec![rcpt("<dave@rcpt.example>")]),
        to("add_incomplete", vec![rcpt("dave")]),
        to("add_null", vec![rcpt("<>"), rcpt("")]),
        to("add_two_in_one", vec![rcpt("a@x, b@x")]),
        to("add_quoted", vec![rcpt("\"a b\"@x")]),
        to("add_again", vec![rcpt("dave@x"), rcpt("dave@x"), rcpt("DAVE@x")]),
        to("add_one_that_is_there", vec![rcpt("bob@rcpt.example")]),
        to(
            "add_with_parameters",
            vec![
                rcpt_with("a@x", "NOTIFY=NEVER"),
                rcpt_with("b@x", "notify=success,failure ORCPT=rfc822;c+2Bd@x"),
            ],
        ),
        to(
            "add_with_bad_parameters",
            vec![
                rcpt_with("a@x", "NOTIFY=NEVER,DELAY"),
                rcpt_with("b@x", "ORCPT=nothing"),
                rcpt_with("c@x", "SIZE=1 BODY=7BIT"),
            ],
        )
        .observed(),
        to("delete", vec![delete("bob@rcpt.example")]),
        to("delete_in_brackets", vec![delete("<carol@rcpt.example>")]),
        to("delete_in_another_case", vec![delete("BOB@rcpt.example")]),
        to("delete_missing", vec![delete("nobody@rcpt.example")]),
        to("delete_all", vec![delete("bob@rcpt.example"), delete("carol@rcpt.example")]),
        to("add_and_delete", vec![rcpt("dave@x"), delete("dave@x")]),
        to("add_delete_add", vec![rcpt("dave@x"), delete("dave@x"), rcpt("dave@x")]),
        to("delete_and_add", vec![delete("bob@rcpt.example"), rcpt("bob@rcpt.example")]),
        with(
            "delete_one_that_was_rewritten",
            "",
            &[b"user", b"other"],
            vec![delete("user"), delete("other@mx.example.test")],
        ),
        to("sender", vec![from("new@sender.example")]),
        to("sender_in_brackets", vec![from("<new@sender.example>")]),
        to("sender_incomplete", vec![from("new")]),
        to("sender_null", vec![from("<>")]),
        to("sender_empty", vec![from("")]),
        to("sender_twice", vec![from("one@x"), from("two@x")]),
        to("sender_with_parameters", vec![packet(b'e', b"", &["new@x", "RET=HDRS ENVID=ab+2Bc"])]),
        to("sender_with_bad_parameters", vec![packet(b'e', b"", &["new@x", "RET=ALL SIZE=1"])]).observed(),
        to("sender_then_reject", vec![from("new@x"), (b'r', vec![])]).observed(),
        to("sender_mailer_daemon", vec![from("MAILER-DAEMON@mx.example.test")]),
        to("always_bcc", vec![delete("archive@x")]).with(&["always_bcc = archive@x"]),
        to("add_always_bcc", vec![rcpt("archive@x")]).with(&["always_bcc = archive@x"]),
        to("without_original_recipients", vec![rcpt("bob@rcpt.example"), delete("carol@rcpt.example")])
            .with(&["enable_original_recipient = no"]),
        to("delay_warning", vec![from("<>")]).with(&["delay_warning_time = 1h"]),
        to("smtputf8", vec![rcpt("d\u{e9}@x"), from("\u{e9}@x"), add("X", "\u{e9}")])
            .with(&["smtputf8_autodetect_classes = all"]),
    ]
}

/// What filters ask for goes through the tables of cleanup(8), as what the client asks for does.
fn mapped() -> Vec<Case> {
    let aliases = "virtual_alias_maps = inline:{ { dave@rcpt.example = d1@x, d2@x }, { bob@rcpt.example = b1@x b2@x } }";
    let canonical =
        "canonical_maps = inline:{ { new@x = canon@x }, { carol@rcpt.example = clara@rcpt.example } }";
    let copies = "sender_bcc_maps = inline:{ { alice@sender.example = copy1@x }, { new@x = copy2@x }, { newer@x = copy3@x } }";
    let copies_to =
        "recipient_bcc_maps = inline:{ { bob@rcpt.example = copyb@x }, { dave@rcpt.example = copyd@x } }";
    let with = |name: &str, lines: &[&str], packets: Vec<(u8, Vec<u8>)>| {
        let recipients: &[&[u8]] = &[b"bob@rcpt.example", b"carol@rcpt.example"];
        let content = b"Subject: x\n\nbody\n";
        Case::bytes(format!("milters::mapped::{name}"), request(content, b"alice@sender.example", recipients))
            .with(&[ONE])
            .with(lines)
            .milter(Script::new().edits(packets))
    };
    let rcpt = |address: &str| packet(b'+', b"", &[address]);
    let delete = |address: &str| packet(b'-', b"", &[address]);
    let from = |address: &str| packet(b'e', b"", &[address]);
    vec![
        with("heard", &[aliases, canonical, copies, copies_to], vec![]),
        with("added_alias", &[aliases], vec![rcpt("dave@rcpt.example")]),
        with("added_alias_deleted", &[aliases], vec![rcpt("dave@rcpt.example"), delete("dave@rcpt.example")]),
        with("deleted_alias", &[aliases], vec![delete("bob@rcpt.example")]),
        with("added_with_copy", &[copies_to], vec![rcpt("dave@rcpt.example")]),
        with("deleted_with_copy", &[copies_to], vec![delete("bob@rcpt.example"), delete("copyb@x")]),
        with("canonical_sender", &[canonical], vec![from("new@x")]),
        with("canonical_recipient", &[canonical], vec![rcpt("new@x"), delete("carol@rcpt.example")]),
        with("sender_with_copy", &[copies], vec![from("new@x")]),
        with("sender_twice_with_copies", &[copies], vec![from("new@x"), from("newer@x")]),
        with("sender_copy_deleted", &[copies], vec![delete("copy1@x")]),
        with("new_sender_copy_deleted", &[copies], vec![from("new@x"), delete("copy2@x")]),
        with("alias_that_fails", &["virtual_alias_maps = fail:x"], vec![]).differs(
            "mail-filters-see-no-message-whose-table-lookup-failed",
            |postfix| assert!(!postfix.heard.is_empty()),
            |ours| {
                assert!(ours.heard.is_empty(), "{:?}", ours.heard);
                ours.assert_refused("ZError: queue file write error");
            },
        ),
        with("canonical_that_fails", &["sender_canonical_maps = fail:x"], vec![]).observed(),
    ]
}

fn settings() -> Vec<Case> {
    let with = |name: &str, lines: &[&str]| {
        Case::content(format!("milters::settings::{name}"), MESSAGE)
            .with(&[ONE])
            .with(lines)
            .milter(Script::new())
    };
    let macros = "i j v _ {daemon_name} {daemon_addr} {daemon_port} {client_name} {client_addr} {client_port} {client_ptr} \
                  {client_resolve} {mail_addr} {rcpt_addr} {auth_type} {none}, x";
    let all_macros: Vec<String> = ["connect", "helo", "mail", "rcpt", "data", "end_of_header", "end_of_data"]
        .map(|step| format!("milter_{step}_macros = {macros}"))
        .to_vec();
    let all_macros: Vec<&str> = all_macros.iter().map(String::as_str).collect();
    let version = |number: u32| {
        let mut script = Script::new();
        script.options.0 = number;
        Case::content(format!("milters::settings::filter_of_version_{number}"), MESSAGE)
            .with(&[ONE])
            .milter(script)
    };
    let mut own_macros = Script::new();
    own_macros.options.3 = b"\0\0\0\x03{rcpt_addr} j\0\0\0\0\x05v\0\0\0\0\x00\0".to_vec();
    vec![
        version(2),
        version(3),
        version(4),
        version(5),
        with("protocol_2", &["milter_protocol = 2"]).milter_version(2),
        with("protocol_3", &["milter_protocol = 3"]).milter_version(3),
        with("protocol_4", &["milter_protocol = 4"]).milter_version(4),
        with("no_header_reply", &["milter_protocol = 4, no_header_reply"]).milter_version(4),
        with("all_macros", &all_macros),
        with("macro_defaults", &all_macros).with(&[
            "milter_macro_defaults = auth_type=none, {none}=nothing { {x} = several words } {j}=other",
            "milter_macro_daemon_name = ORIGINATING",
            "milter_macro_v = a version",
        ]),
        // Postfix keeps them for the next message.
        Case::content("milters::settings::own_macros", MESSAGE).with(&[ONE, "# own macros"]).milter(own_macros),
        with("no_milters", &["receive_override_options = no_milters"]),
        Case::content("milters::settings::of_one_filter", MESSAGE)
            .with(&["non_smtpd_milters = { inet:@milter1@, protocol=4, default_action=accept, { connect_timeout = 5s } }"])
            .milter(Script::new())
            .milter_version(4),
    ]
}

fn several() -> Vec<Case> {
    let two = |name: &str, first: Script, second: Script| {
        Case::content(format!("milters::two::{name}"), MESSAGE).with(&[TWO]).milter(first).milter(second)
    };
    vec![
        two("pass", Script::new(), Script::new()),
        two(
            "second_sees_changes",
            Script::new().edits(vec![
                add("X-First", "1"),
                insert(0, "X-Top", "2"),
                change(1, "X-A", ""),
                change(1, "X-B", "changed\n folded"),
                (b'b', b"another body\r\nof the first\r\n".to_vec()),
            ]),
            Script::new().edits(vec![
                change(1, "X-First", "changed"),
                insert(0, "X-Second", "top"),
                add("X-Second", "end"),
            ]),
        ),
        two(
            "second_changes_received",
            Script::new().edits(vec![insert(0, "X-Top", "1")]),
            Script::new().edits(vec![change(1, "Received", "x")]),
        ),
        two(
            "second_replaces_body_again",
            Script::new().edits(vec![(b'b', b"first\r\n".to_vec())]),
            Script::new().edits(vec![(b'b', b"second\r\n".to_vec())]),
        ),
        two(
            "second_changes_sender_again",
            Script::new().edits(vec![packet(b'e', b"", &["one@x"])]),
            Script::new().edits(vec![packet(b'e', b"", &["two@x"])]),
        ),
        two("first_accepts_connection", Script::new().on(b'C', b'a', ""), Script::new()),
        two("first_accepts_message", Script::new().on(b'M', b'a', ""), Script::new()),
        two("first_rejects", Script::new().on(b'M', b'r', ""), Script::new()).observed(),
        two("first_rejects_at_the_end", Script::new().on(b'E', b'r', ""), Script::new()).observed(),
        two("first_quarantines", Script::new().edits(vec![packet(b'q', b"", &["why"])]), Script::new())
            .observed(),
        two("second_discards", Script::new().edits(vec![add("X", "y")]), Script::new().on(b'E', b'd', ""))
            .observed(),
    ]
}

/// milter_header_checks: the rules look at what the filter adds or changes.
fn checks() -> Vec<Case> {
    let edits = || {
        vec![
            add("X-First", "one"),
            add("X-Rule", "two\n folded"),
            insert(0, "X-Ins", "rule"),
            change(1, "X-A", "a rule"),
            change(1, "X-B", ""),
            add("X-Last", "end"),
        ]
    };
    let rules = [
        ("reject", "REJECT"),
        ("reject_text", "REJECT not so"),
        ("reject_dsn", "REJECT 5.7.9 not so"),
        ("reject_4", "REJECT 4.7.9 not now"),
        ("reject_bad", "REJECT 2.0.0 fine"),
        ("discard", "DISCARD"),
        ("discard_text", "DISCARD silently"),
        ("hold", "HOLD"),
        ("hold_text", "HOLD for now"),
        ("filter", "FILTER smtp:[127.0.0.1]:10025"),
        ("filter_bad", "FILTER nowhere"),
        ("filter_empty", "FILTER"),
        ("redirect", "REDIRECT other@rcpt.example"),
        ("redirect_bad", "REDIRECT other"),
        ("warn", "WARN look"),
        ("warn_bare", "WARN"),
        ("info", "INFO look"),
        ("replace", "REPLACE X-Other: text"),
        ("replace_bad", "REPLACE text"),
        ("replace_empty", "REPLACE"),
        ("ignore", "IGNORE"),
        ("strip", "STRIP gone"),
        ("dunno", "DUNNO"),
        ("ok", "ok"),
        ("prepend", "PREPEND X-Before: 1"),
        ("unknown", "WHATEVER"),
        ("bcc", "BCC copy@rcpt.example"),
        ("bcc_bad", "BCC copy"),
    ];
    let mut cases = vec![];
    for (name, rule) in rules {
        let line = format!("milter_header_checks = regexp:{{{{/rule/ {rule}}}}}");
        let case = Case::content(format!("milters::checks::{name}"), MESSAGE).with(&[ONE, &line]);
        cases.push(case.milter(Script::new().edits(edits())).observed());
    }
    cases
}

/// Filters that are out of order.
fn faults() -> Vec<Case> {
    let mut cases = vec![];
    for (action, says) in [
        ("tempfail", "ZError: 4.7.1 Service unavailable - try again later"),
        ("reject", "DError: 5.5.0 Service unavailable"),
        ("accept", "KOk: queued as QUEUE-ID"),
        ("quarantine", "KOk: queued as QUEUE-ID"),
    ] {
        let line = format!("milter_default_action = {action}");
        for (step, command) in STEPS {
            let closed =
                Case::content(format!("milters::closed::{action}::{step}"), MESSAGE).with(&[ONE, &line]);
            // What the system says of it differs by chance in Postfix.
            cases.push(closed.milter(Script::new().answer(command, 0, Answer::Close)).each(move |outcome| {
                // There is no way to refuse one recipient.
                let is_refused = step == "rcpt" && !says.starts_with('K');
                let says = if is_refused { "ZError: 4.3.5 Server configuration error" } else { says };
                assert_eq!(outcome.said(), says, "{}: {:#?}", outcome.server, outcome.log);
            }));
        }
        let nobody = "non_smtpd_milters = inet:127.0.0.1:1";
        cases.push(
            Case::content(format!("milters::unreachable::{action}"), MESSAGE)
                .with(&[nobody, &line])
                .observed(),
        );
        let conflict = Script { options: (6, 0x200, 0, vec![]), ..Script::new() };
        cases.push(
            Case::content(format!("milters::disagrees::{action}"), MESSAGE)
                .with(&[ONE, &line])
                .milter(conflict)
                .observed(),
        );
        // An error of configuration in Postfix's eyes.
        let malformed = Script::new().on(b'M', b'y', "nonsense\0");
        cases.push(
            Case::content(format!("milters::malformed::{action}"), MESSAGE)
                .with(&[ONE, &line])
                .milter(malformed)
                .observed(),
        );
    }
    [cases, negotiations(), nonsense(), slowness()].concat()
}

fn negotiations() -> Vec<Case> {
    let with = |name: &str, options: (u32, u32, u32, &[u8])| {
        let (version, actions, protocol, rest) = options;
        let script = Script { options: (version, actions, protocol, rest.to_vec()), ..Script::new() };
        Case::content(format!("milters::negotiation::{name}"), MESSAGE).with(&[ONE]).milter(script).observed()
    };
    let another = Script { negotiation: Some(Answer::Packets(vec![(b'c', vec![])])), ..Script::new() };
    vec![
        with("version_7", (7, 0, 0, b"")),
        with("version_0", (0, 0, 0, b"")),
        with("no_actions", (6, 0, 0, b"")),
        with("unknown_options", (6, 0x1ff, 0xffe0_0000, b"")),
        with("unknown_macro_type", (6, 0x1ff, 0, b"\0\0\0\x09i\0")).with(&["# unknown macro type"]),
        case("negotiation::another_packet").milter(another).observed(),
    ]
}

/// Packets that no filter should send.
fn nonsense() -> Vec<Case> {
    let sends = |name: &str, command: u8, reply: u8, data: &[u8]| {
        case(&format!("nonsense::{name}")).milter(Script::new().on(command, reply, data))
    };
    let raw = |name: &str, bytes: &[u8]| {
        case(&format!("nonsense::{name}")).milter(Script::new().answer(
            b'M',
            0,
            Answer::Bytes(bytes.to_vec()),
        ))
    };
    let unavailable = |outcome: &Outcome| {
        assert_eq!(
            outcome.said(),
            "ZError: 4.7.1 Service unavailable - try again later",
            "{}",
            outcome.server
        );
    };
    vec![
        sends("unknown_reply", b'M', b'X', b"").observed(),
        sends("connection_failure", b'M', b'f', b"").observed(),
        sends("edit_too_early", b'M', b'h', b"X\0y\0").observed(),
        sends("header_without_name", b'E', b'm', b"\0\0\0\x01\0value\0").observed(),
        sends("code_of_another_class", b'E', b'y', b"250 fine\0").observed(),
        sends("code_with_nul", b'E', b'y', b"550 a\0b\0").each(|outcome| assert_eq!(outcome.files.len(), 0)),
        sends("data_behind_accept", b'M', b'a', b"x").each(unavailable),
        sends("text_without_end", b'E', b'h', b"X\0y").each(unavailable),
        sends("too_little_data", b'E', b'i', b"\0\0").each(unavailable),
        sends("too_much_data", b'E', b'+', b"a@b\0c\0").each(unavailable),
        raw("empty_packet", b"\0\0\0\0").observed(),
        raw("endless_packet", &[255; 8]).each(unavailable),
        raw("two_answers", b"\0\0\0\x01c\0\0\0\x01c").observed(),
    ]
}

fn slowness() -> Vec<Case> {
    let hangs = |name: &str, command: u8, line: &str| {
        let script = Script::new().answer(command, 0, Answer::Hang);
        Case::content(format!("milters::hangs::{name}"), MESSAGE).with(&[ONE, line]).milter(script).each(
            |outcome| {
                assert_eq!(
                    outcome.said(),
                    "ZError: 4.7.1 Service unavailable - try again later",
                    "{}",
                    outcome.server
                );
                outcome.assert_logged("reply packet header: Connection timed out");
                assert!(outcome.took >= std::time::Duration::from_millis(900), "{}", outcome.server);
            },
        )
    };
    vec![
        hangs("command", b'M', "milter_command_timeout = 1s"),
        hangs("content", b'E', "milter_content_timeout = 1s"),
        hangs("one_filter", b'M', "non_smtpd_milters = { inet:@milter1@, command_timeout=1s }"),
    ]
}

/// What differs on purpose.
fn differences() -> Vec<Case> {
    const SAYS_NOTHING: &str = "no-warnings-about-filter-steps-skipped-after-a-quarantine";
    let attempts = |outcome: &Outcome| outcome.assert_logged("attempt to send event");
    let no_attempts = |outcome: &Outcome| {
        outcome.assert_not_logged("attempt to send event");
        outcome.assert_logged("milter triggers HOLD action");
        assert_eq!(outcome.said(), "KOk: queued as QUEUE-ID");
    };
    let quarantine = || Answer::Packets(vec![packet(b'q', b"", &["a reason"]), (b'c', vec![])]);
    let mut cases: Vec<Case> = STEPS[..5]
        .iter()
        .map(|&(step, command)| {
            case(&format!("{step}::quarantine"))
                .milter(Script::new().answer(command, 0, quarantine()))
                .differs(SAYS_NOTHING, attempts, no_attempts)
        })
        .collect();
    let two = Case::content("milters::two::first_quarantines_at_mail", MESSAGE).with(&[TWO]);
    cases.push(two.milter(Script::new().answer(b'M', 0, quarantine())).milter(Script::new()).differs(
        SAYS_NOTHING,
        attempts,
        no_attempts,
    ));
    for (step, command) in [("mail", b'M'), ("end_of_body", b'E')] {
        cases.push(case(&format!("{step}::shutdown")).milter(Script::new().on(command, b'4', "")).differs(
            "a-mail-filter-that-sends-smfir_shutdown-does-not-lose-the-message",
            |postfix| {
                assert_eq!(postfix.said(), "KOk: queued as QUEUE-ID");
                assert!(postfix.files.is_empty(), "Postfix keeps the message now");
            },
            |ours| ours.assert_refused("ZError: 4.7.0 Service unavailable"),
        ));
    }
    cases.push(case("words::closed").milter(Script::new().answer(b'M', 0, Answer::Close)).differs(
        "log-lines-about-misbehaving-mail-filters-end-differently",
        |postfix| postfix.assert_logged("can't read SMFIC_MAIL reply packet header: "),
        |ours| {
            ours.assert_logged(
                "can't read SMFIC_MAIL reply packet header: the filter has closed the connection",
            );
        },
    ));
    cases.push(
        Case::content("milters::unreachable::shutdown", MESSAGE)
            .with(&["non_smtpd_milters = inet:127.0.0.1:1", "milter_default_action = shutdown"])
            .differs(
                "milter_default_action-accepts-shutdown",
                |postfix| postfix.assert_logged("unrecognized default action: shutdown"),
                |ours| ours.assert_refused("ZError: 4.7.1 Service unavailable - try again later"),
            )
            .until((3, 11)),
    );
    let working = vec![(b'b', b"one\r\n".to_vec()), (b'p', vec![]), (b'b', b"two\r\n".to_vec())];
    cases.push(edited("body::progress_between_pieces", working).differs(
        "a-mail-filter-may-send-progress-while-it-replaces-the-body",
        |postfix| postfix.assert_refused("ZError: 4.3.5 Server configuration problem - try again later"),
        |ours| assert!(ours.message().ends_with("\n\none\ntwo\n"), "{}", ours.message()),
    ));
    let too_many = (0..1001).map(|number| add("X-Many", &number.to_string())).collect();
    cases.push(edited("header::too_many", too_many).differs(
        "changes-by-mail-filters-are-limited",
        Outcome::assert_queued,
        |ours| {
            ours.assert_refused("ZError: 4.3.5 Server configuration problem - try again later");
            ours.assert_logged("too many changes of a message");
        },
    ));
    let short = format!("{}\nbody\n", "X: y\n".repeat(100));
    cases.push(
        Case::content("milters::size::room_for_edits", short)
            .with(&[ONE, "message_size_limit = 2000"])
            .milter(Script::new())
            .differs(
                "space-reserved-for-filter-changes-does-not-count-towards-message_size_limit",
                |postfix| postfix.assert_refused("DError: 5.3.4 Message file too big"),
                Outcome::assert_queued,
            ),
    );
    cases.push(
        Case::content("milters::size::of_a_new_body", MESSAGE)
            .with(&[ONE, "message_size_limit = 2000"])
            .milter(Script::new().edits(vec![(b'b', b"0123456789\r\n".repeat(200))]))
            .each(|outcome| {
                outcome.assert_refused("DError: message too large");
                outcome.assert_logged("queue file size limit exceeded");
            }),
    );
    cases
}
