//! What an operator's rules make of headers and lines.

use testbed::case::{Case, RECIPIENT, SENDER};
use testbed::client::request;
use testbed::random::Random;
use testbed::suite::Suite;

pub(crate) fn cases() -> Vec<Case> {
    [
        actions_on_headers(),
        actions_on_lines(),
        sections(),
        own_received(),
        envelopes(),
        failing_tables(),
        queues(),
        overrides(),
    ]
    .concat()
}

/// Rules about headers, by the value of `X-Do:` or by the header itself.
const HEADER_RULES: &[(&str, &str)] = &[
    ("^X-Do: reject$", "REJECT"),
    ("^X-Do: reject text", "REJECT go away, please"),
    ("^X-Do: reject code", "REJECT 5.1.9 with a code"),
    ("^X-Do: reject later", "REJECT 4.3.9 not now"),
    ("^X-Do: reject two", "REJECT 2.0.0 odd"),
    ("^X-Do: reject half", "REJECT 5.1 half a code"),
    ("^X-Do: reject lower", "reject   spaced   out"),
    ("^X-Do: warn text", "WARN look at this"),
    ("^X-Do: warn", "WARN"),
    ("^X-Do: info", "INFO for you"),
    ("^X-Do: filter one", "FILTER scan:[127.0.0.1]:10025"),
    ("^X-Do: filter two", "FILTER smtp:"),
    ("^X-Do: filter bad", "FILTER nonsense"),
    ("^X-Do: filter none", "FILTER"),
    ("^X-Do: pass", "PASS trusted"),
    ("^X-Do: discard", "DISCARD quietly"),
    ("^X-Do: hold", "HOLD for a look"),
    ("^X-Do: prepend good", "PREPEND X-Before: yes"),
    ("^X-Do: prepend known", "PREPEND Message-Id: <before@x>"),
    ("^X-Do: prepend bad", "PREPEND no header"),
    ("^X-Do: prepend none", "PREPEND"),
    ("^X-Do: replace good", "REPLACE X-Instead: yes"),
    ("^X-Do: replace to", "REPLACE To: joe, bob@x"),
    ("^X-Do: replace from", "REPLACE From: joe"),
    ("^X-Do: replace id", "REPLACE Message-Id:  <instead@x>"),
    ("^X-Do: replace bcc", "REPLACE Bcc: secret@x"),
    ("^X-Do: replace resent", "REPLACE Resent-To: joe"),
    ("^X-Do: replace received", "REPLACE Received: from nowhere"),
    ("^X-Do: replace encoding", "REPLACE Content-Transfer-Encoding: 8bit"),
    ("^X-Do: replace blank", "REPLACE To : joe"),
    ("^X-Do: replace bad", "REPLACE no header"),
    ("^X-Do: replace none", "REPLACE"),
    ("^X-Do: redirect one", "REDIRECT other@elsewhere.example"),
    ("^X-Do: redirect bad", "REDIRECT nobody"),
    ("^X-Do: bcc one", "BCC copy@elsewhere.example"),
    ("^X-Do: bcc two", "BCC Copy Two@elsewhere.example"),
    ("^X-Do: bcc bad", "BCC nobody"),
    ("^X-Do: strip", "STRIP because"),
    ("^X-Do: ignore", "IGNORE whatever"),
    ("^X-Do: dunno", "DUNNO whatever"),
    ("^X-Do: ok", "OK whatever"),
    ("^X-Do: delay", "DELAY 1h"),
    ("^X-Do: unknown", "FROBNICATE it"),
    ("^X-Say: (.*)", "INFO [$$1]"),
    ("^X-Reject: (.*)", "REJECT $$1"),
    ("^Subject: secret", "REPLACE Subject: (removed)"),
    ("^Message-Id: .*@drop", "IGNORE"),
    ("^To: drop", "IGNORE"),
    ("^Received: drop", "IGNORE"),
    ("^Received: refuse", "REJECT"),
    ("^Content-Type: .*evil", "REJECT evil"),
    ("^Content-Type: .*change", "REPLACE X-Type: changed"),
    ("^Bcc: check", "WARN even if it is dropped"),
    ("folded.*again", "WARN across lines"),
    ("^X-Long: ", "WARN"),
];

/// Rules about lines of the body.
const BODY_RULES: &[(&str, &str)] = &[
    ("^do reject", "REJECT 5.9.9 bad words"),
    ("^do defer", "REJECT 4.9.9 later"),
    ("^do warn", "WARN"),
    ("^do info", "INFO hm"),
    ("^do filter", "FILTER scan:body"),
    ("^do pass", "PASS"),
    ("^do discard", "DISCARD"),
    ("^do hold", "HOLD"),
    ("^do prepend none", "PREPEND"),
    ("^do prepend", "PREPEND this is before"),
    ("^do replace none", "REPLACE"),
    ("^do replace", "REPLACE this is instead"),
    ("^do redirect", "REDIRECT body@elsewhere.example"),
    ("^do bcc", "BCC body@elsewhere.example"),
    ("^do strip", "STRIP"),
    ("^do ignore", "IGNORE"),
    ("^do ok", "OK"),
    ("^do nonsense", "NONSENSE"),
    ("^say (.*)", "INFO $$1"),
    ("^--", "INFO a boundary"),
    ("^$$", "REJECT an empty line"),
    ("^long (x*)", "WARN"),
    ("^y*$", "INFO a piece"),
];

/// `regexp:` rules in main.cf.
fn inline(rules: &[(&str, &str)]) -> String {
    let rules: Vec<String> = rules
        .iter()
        .map(|(pattern, action)| format!("{{/{}/ {action}}}", pattern.replace("$$", "$").replace('$', "$$")))
        .collect();
    format!("regexp:{{{}}}", rules.join(" "))
}

/// The main.cf lines with these rules.
fn rules() -> Vec<String> {
    let body = BODY_RULES.iter().map(|&(pattern, action)| (pattern, action)).collect::<Vec<_>>();
    vec![format!("header_checks = {}", inline(HEADER_RULES)), format!("body_checks = {}", inline(&body))]
}

fn with(case: Case, lines: &[String]) -> Case {
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    case.with(&lines)
}

fn checked(name: &str, content: impl AsRef<[u8]>) -> Case {
    with(Case::content(format!("checks::{name}"), content), &rules())
}

/// The client hears that the message is queued, and it is not.
pub(crate) fn discarded(case: Case) -> Case {
    case.reply("KOk: queued as QUEUE-ID")
}

fn actions_on_headers() -> Vec<Case> {
    let does = |name: &str| checked(name, format!("X-Do: {}\nX-After: x\n\nhello\n", name.replace('_', " ")));
    let all = |name: &str, content: &str| checked(name, content);
    let mut cases: Vec<Case> = [
        "warn text",
        "warn",
        "info",
        "filter one",
        "filter two",
        "filter bad",
        "filter none",
        "pass",
        "hold",
        "prepend good",
        "prepend known",
        "prepend bad",
        "prepend none",
        "replace good",
        "replace to",
        "replace from",
        "replace id",
        "replace bcc",
        "replace resent",
        "replace received",
        "replace encoding",
        "replace blank",
        "replace bad",
        "replace none",
        "redirect one",
        "redirect bad",
        "bcc one",
        "bcc two",
        "bcc bad",
        "strip",
        "ignore",
        "dunno",
        "ok",
        "delay",
        "unknown",
    ]
    .map(does)
    .to_vec();
    cases.push(discarded(does("discard")));
    for (name, reply) in [
        ("reject", "DError: 5.7.1 message content rejected"),
        ("reject text", "DError: 5.7.1 go away, please"),
        ("reject code", "DError: 5.1.9 with a code"),
        ("reject later", "ZError: 4.3.9 not now"),
        ("reject two", "ZError: 4.0.0 odd"),
        ("reject half", "DError: 5.7.1 5.1 half a code"),
        ("reject lower", "DError: 5.7.1 spaced   out"),
    ] {
        cases.push(does(name).reply(reply));
    }
    cases.extend([
        all("filter_twice", "X-Do: filter one\nX-Do: filter two\n\nx\n"),
        all("filter_then_bad", "X-Do: filter one\nX-Do: filter bad\n\ndo filter\n"),
        all("two_copies", "X-Do: bcc one\nX-Do: bcc two\nX-Do: bcc one\n\ndo bcc\n"),
        all("copy_and_8bit", "X-Do: bcc one\nX-Do: filter one\nContent-Transfer-Encoding: 8bit\n\nx\n"),
        all("hold_twice", "X-Do: hold\nX-Do: hold\n\ndo hold\n"),
        discarded(all("hold_then_discard", "X-Do: hold\nX-Do: discard\n\nx\n")),
        all("redirect_ends_it", "X-Do: redirect one\nX-Do: reject\nX-Do: filter one\n\ndo reject\n"),
        all("pass_ends_it", "X-Do: pass\nX-Do: reject\nSubject: secret\n\ndo reject\n"),
        discarded(all("discard_ends_it", "X-Do: discard\nX-Do: reject\n\ndo reject\n")),
        all("copy_before_pass", "X-Do: bcc one\nX-Do: pass\nX-Do: bcc two\n\ndo bcc\n"),
        all(
            "reject_after_effects",
            "X-Do: hold\nX-Do: bcc one\nX-Do: reject\nX-Do: info\nMessage-Id: <a@b>\n\nx\n",
        )
        .reply("DError: 5.7.1 message content rejected"),
        discarded(all(
            "discard_with_too_many_hops",
            &format!("X-Do: discard\n{}\nx\n", "Received: x\n".repeat(60)),
        )),
        all("received_dropped_and_counted", &format!("{}\nx\n", "Received: drop\n".repeat(60))),
        all("some_received_dropped", &format!("{}Received: x\n\nx\n", "Received: drop\n".repeat(60)))
            .reply("DError: too many hops"),
        all("refused_at_the_last_hop", &format!("{}Received: refuse\n\nx\n", "Received: x\n".repeat(48)))
            .reply("DError: too many hops"),
        all("subject_replaced", "Subject: secret plan\n\nx\n"),
        all("message_id_dropped", "Message-Id: <a@drop>\n\nx\n"),
        all("to_dropped", "To: drop\n\nx\n"),
        all("bcc_is_looked_at", "Bcc: check\n\nx\n"),
        all("blank_before_the_colon", "X-Do : warn\n\nx\n"),
        all("folded", "X-Any: folded\n\tand again\n\nx\n"),
        all(
            "says_what_it_saw",
            b"X-Say: a\tb\n c\n\nx\n".escape_ascii().to_string().replace("\\n", "\n").as_str(),
        ),
        all("says_utf8", "X-Say: gr\u{fc}n\n\nx\n"),
        checked("says_8bit", b"X-Say: gr\xfcn\n\nx\n"),
        checked("says_nul", b"X-Say: a\0b\n\nx\n"),
        checked("says_control", b"X-Say: a\x1b[31mb\n\nx\n"),
        all("long_header", &format!("X-Long: {}\n\nx\n", "0123456789".repeat(500))),
        checked("long_header_cut_in_a_character", format!("X-Long: {}\u{fc}\n\nx\n", "0".repeat(191))),
        all("says_much", &format!("X-Say: {}\n\nx\n", "0123456789".repeat(150))),
        all("reject_with_its_words", "X-Reject: 5.2.1 your words\n\nx\n").reply("DError: 5.2.1 your words"),
        all("reject_with_no_words", "X-Reject: \n\nx\n").reply("DError: 5.7.1 message content rejected"),
        all("missing_empty_line", "X-Do: info\nno header\nX-Do: reject\n"),
        all("reject_in_the_last_header", "X-Do: reject").reply("DError: 5.7.1 message content rejected"),
        all("reject_beyond_the_size_limit", &format!("\n{}do reject\n", "x\n".repeat(9000)))
            .with(&["message_size_limit = 20000"])
            .reply("DError: message too large"),
        all("reject_before_the_size_limit", &format!("X-Do: reject\n\n{}\n", "x".repeat(1_000)))
            .reply("DError: 5.7.1 message content rejected"),
    ]);
    cases
}

fn actions_on_lines() -> Vec<Case> {
    let does =
        |what: &str| checked(&format!("body::{what}"), format!("Subject: x\n\nfirst\ndo {what}\nlast\n"));
    let body = |name: &str, content: &str| checked(&format!("body::{name}"), content);
    let mut cases: Vec<Case> = [
        "warn",
        "info",
        "filter",
        "pass",
        "hold",
        "prepend",
        "prepend none",
        "replace",
        "replace none",
        "redirect",
        "bcc",
        "strip",
        "ignore",
        "ok",
        "nonsense",
    ]
    .map(does)
    .to_vec();
    cases.extend([
        discarded(does("discard")),
        does("reject").reply("DError: 5.9.9 bad words"),
        does("defer").reply("ZError: 4.9.9 later"),
        body("empty_lines", "Subject: x\n\n\n\nx\n\n"),
        body("unterminated", "Subject: x\n\ndo replace"),
        body("unterminated_and_dropped", "Subject: x\n\ndo strip"),
        body("unterminated_and_prepended", "Subject: x\n\ndo prepend"),
        body("long_line", &format!("Subject: x\n\nlong {}\nx\n", "x".repeat(5000))),
        body("pieces_of_a_line", &format!("Subject: x\n\nx{}\nx\n", "y".repeat(6000))),
        body("pass_ends_it", "Subject: x\n\ndo pass\ndo reject\n"),
        body("first_line_is_no_header", "no header\ndo info\n"),
        checked("body::nul", b"Subject: x\n\nsay a\0b\n\0do reject\n"),
        checked("body::says_8bit", b"Subject: x\n\nsay \xfc\xc3\xbc\n"),
        body("many", &format!("Subject: x\n\n{}", "do info\n".repeat(50))),
    ]);
    let limited = |name: &str, limit: &str, content: &str| {
        body(name, content).with(&[&format!("body_checks_size_limit = {limit}")])
    };
    // The empty line counts one, each other line its length and one.
    for (name, content) in [
        ("at_the_limit", "Subject: x\n\n12345678\ndo info\n"),
        ("below_the_limit", "Subject: x\n\n1234567\ndo info\n"),
        (
            "part_begins_anew",
            "Content-Type: multipart/mixed; boundary=b\n\n1234567890\n--b\nX-A: b\n\n12\ndo info\n1234567890\ndo warn\n--b\n\ndo info\n",
        ),
        ("part_without_empty_line", "Content-Type: multipart/mixed; boundary=b\n\n--b\nX-A: b\ndo info\n"),
        (
            "message_begins_anew",
            "Content-Type: message/rfc822\n\nSubject: y\n\ndo info\n1234567890\ndo warn\n",
        ),
        ("no_empty_line", "12345678\ndo info\n"),
    ] {
        cases.push(limited(name, "10", content));
    }
    cases.push(limited("no_limit", "0", &format!("Subject: x\n\n{}do info\n", "1234567890\n".repeat(6000))));
    cases.push(body("usual_limit", &format!("Subject: x\n\n{}do reject\n", "1234567890\n".repeat(5000))));
    cases
}

fn sections() -> Vec<Case> {
    let main_cf = [
        format!(
            "header_checks = {}",
            inline(&[("^X-A", "WARN primary"), ("^Content-|^MIME", "REJECT wrong")])
        ),
        format!("mime_header_checks = {}", inline(&[("^X-Stop", "REJECT in a part"), ("^", "WARN mime")])),
        format!("nested_header_checks = {}", inline(&[("^X-Pre", "PREPEND X-B: c"), ("^", "WARN nested")])),
    ];
    let case = |name: &str, content: &str| {
        with(Case::content(format!("checks::section::{name}"), content), &main_cf)
    };
    let same = |name: &str, content: &str| checked(&format!("section::{name}"), content);
    let few = |name: &str, content: &str| {
        let rules = format!("header_checks = {}", inline(&[("^X-Do: info", "INFO")]));
        with(Case::content(format!("checks::section::{name}"), content), &[rules])
    };
    vec![
        case("primary", "X-A: b\nMIME-Version: 1.0\nContent-Type: text/plain\nContent-Foo: x\n\nX-A: b\n")
            .reply("DError: 5.7.1 wrong"),
        case(
            "mime_in_primary",
            "X-A: b\nMIME-Version: 1.0\nContent-Type: text/plain\nContent-ID: x\n\nX-A: b\n",
        ),
        case("part", "Content-Type: multipart/mixed; boundary=b\n\n--b\nX-A: b\nTo : c\n\nX-A: b\n--b--\n"),
        case("part_stops", "Content-Type: multipart/mixed; boundary=b\n\n--b\nX-Stop: b\n\nx\n--b--\n")
            .reply("DError: 5.7.1 in a part"),
        case(
            "nested",
            "Content-Type: message/rfc822\n\nX-A: b\nX-Pre: b\nContent-Type: text/html\n\nX-A: b\n",
        ),
        same("default_part", "Content-Type: multipart/mixed; boundary=b\n\n--b\nX-Do: info\n\nx\n--b--\n"),
        same("default_nested", "Content-Type: message/rfc822\n\nX-Do: info\nX-Do: hold\n\nx\n"),
        same(
            "part_replaced",
            "Content-Type: multipart/mixed; boundary=b\n\n--b\nX-Do: replace to\n\nx\n--b--\n",
        ),
        same(
            "part_prepended",
            "Content-Type: multipart/mixed; boundary=b\n\n--b\nX-Do: prepend good\n\nx\n--b--\n",
        ),
        same(
            "part_encoding",
            "Content-Type: multipart/mixed; boundary=b\n\n--b\nX-Do: replace encoding\n\nx\n--b--\n",
        ),
        same("type_refused", "Content-Type: application/evil\n\nx\n").reply("DError: 5.7.1 evil"),
        same(
            "type_replaced_and_obeyed",
            "Content-Type: multipart/change; boundary=b\n\n--b\nX-Do : info\n\nx\n",
        ),
        same(
            "boundary_lines",
            "Content-Type: multipart/mixed; boundary=b\n\nsay pre\n--b\n\nsay in\n--b--\nsay post\n",
        ),
        same(
            "nested_received",
            &format!("Content-Type: message/rfc822\n\n{}\nx\n", "Received: x\n".repeat(60)),
        ),
        few("deep", &nested(150)).reply("DError: 5.6.0 MIME nesting exceeds safety limit"),
        few("as_deep_as_may_be", &nested(102)),
        few("one_deeper", &nested(103)).reply("DError: 5.6.0 MIME nesting exceeds safety limit"),
        same("mime_off", "Content-Type: multipart/mixed; boundary=b\n\n--b\nX-Do: info\n\nx\n--b--\n")
            .with(&["disable_mime_input_processing = yes"]),
        few("mime_off_deep", &nested(150)).with(&["disable_mime_input_processing = yes"]),
    ]
}

/// A message with so many multiparts in each other.
pub(crate) fn nested(depth: usize) -> String {
    let mut text = String::from("Subject: deep\n");
    for level in 0..depth {
        text.push_str(&format!("Content-Type: multipart/mixed; boundary=b{level}x\n\n--b{level}x\n"));
    }
    text.push_str("\nhello\n");
    text
}

fn own_received() -> Vec<Case> {
    let case = |name: &str, pattern: &str, action: &str, content: &str| {
        let rules = inline(&[
            (pattern, action),
            ("^X-Do: reject", "REJECT"),
            ("^X-Do: info", "INFO"),
            ("^X-Do: hold", "HOLD"),
        ]);
        with(
            Case::content(format!("checks::own_received::{name}"), content),
            &[
                format!("header_checks = {rules}"),
                format!("body_checks = {}", inline(&[("^do reject", "REJECT body")])),
            ],
        )
    };
    const OURS: &str = "^Received:.*QMQP";
    const HELLO: &str = "Subject: x\nX-Do: info\n\nhello\n";
    vec![
        case("ignore", OURS, "IGNORE", HELLO),
        case("strip", OURS, "STRIP", HELLO),
        case("replace", OURS, "REPLACE X-Received: elsewhere", HELLO),
        case("prepend", OURS, "PREPEND X-First: yes", HELLO),
        case("warn", OURS, "WARN", HELLO),
        case("reject", OURS, "REJECT not from you", HELLO).reply("DError: 5.7.1 not from you"),
        case("reject_late", OURS, "REJECT 4.5.6 not from you", HELLO).reply("ZError: 4.5.6 not from you"),
        discarded(case("discard", OURS, "DISCARD", HELLO)),
        case("redirect", OURS, "REDIRECT other@x", HELLO),
        case("pass", OURS, "PASS", "X-Do: reject\n\ndo reject\n"),
        case(
            "pass_by_client",
            "^Received: from localhost \\(localhost \\[127",
            "PASS known",
            "X-Do: reject\n\ndo reject\n",
        ),
        case("hold", OURS, "HOLD", HELLO),
        case("hold_twice", OURS, "HOLD", "X-Do: hold\n\nhello\n"),
        case("filter", OURS, "FILTER scan:", HELLO),
        case("bcc", OURS, "BCC copy@x", HELLO),
        case("unknown", OURS, "FROB", HELLO),
        case("by_recipient", "for <bob@rcpt.example>", "REJECT not for bob", HELLO)
            .reply("DError: 5.7.1 not for bob"),
        case("by_recipient_hold", "for <bob@rcpt.example>", "HOLD", HELLO),
        case("by_recipient_pass", "for <bob@rcpt.example>", "PASS", "Subject: x\n\nhello\n"),
        case("by_other_recipient", "for <carol@rcpt.example>", "REJECT not for carol", HELLO),
        case("by_recipient_pass_late", "for <bob@rcpt.example>", "PASS", HELLO).differs(
            "header-rules-that-match-the-recipient-in-our-received-header-apply-late",
            |postfix| postfix.assert_not_logged(": info: header X-Do: info"),
            |ours| {
                ours.assert_logged(": info: header X-Do: info");
                ours.assert_logged(": pass: header Received: ");
                ours.assert_queued();
            },
        ),
        with(
            Case::content("checks::own_received::not_foreseen", HELLO),
            &["header_checks = pcre:{{/^Received:(?!.*for <bob).*QMQP/ PASS}}".to_owned()],
        )
        .differs(
            "header-rules-that-match-the-recipient-in-our-received-header-apply-late",
            |postfix| postfix.assert_queued(),
            |ours| {
                ours.assert_refused("ZError: queue file write error");
                ours.assert_logged("depends on the recipient and could not be predicted");
            },
        ),
        with(
            Case::bytes(
                "checks::own_received::two_recipients",
                request(b"\nx\n", SENDER, &[RECIPIENT, b"c@d"]),
            ),
            &[format!(
                "header_checks = {}",
                inline(&[("with QMQP\\s*id", "WARN two")]).replace("regexp:", "pcre:")
            )],
        ),
    ]
}

fn envelopes() -> Vec<Case> {
    let case = |name: &str, sender: &[u8], recipients: &[&[u8]]| {
        with(
            Case::bytes(
                format!("checks::envelope::{name}"),
                request(b"X-Do: info\n\nx\n", sender, recipients),
            ),
            &rules(),
        )
    };
    let long = [b"a".repeat(1000), b"@x".to_vec()].concat();
    vec![
        case("null_sender", b"", &[RECIPIENT]),
        case("local_sender", b"alice", &[b"bob"]),
        case("quoted", b"user name@x", &[b"a@b@c"]),
        case("last_recipient", SENDER, &[b"a@x", b"b@x", b"a@x", b"c d@x"]),
        case("eight_bit", "\u{fc}@x".as_bytes(), &[b"\xfc@x"]),
        case("long", &long, &[&long]),
        case("no_recipients", SENDER, &[]).reply("DError: no recipients specified"),
        case("internal_form", b"user name@x", &[b"a b@x"]).with(&["info_log_address_format = internal"]),
        case("always_bcc", SENDER, &[RECIPIENT]).with(&["always_bcc = archive@x"]),
        case("port", SENDER, &[RECIPIENT]).with(&["qmqpd_client_port_logging = yes"]),
        with(
            Case::bytes(
                "checks::envelope::rejected_without_recipients",
                request(b"X-Do: reject\n\nx\n", SENDER, &[]),
            ),
            &rules(),
        )
        .reply("DError: 5.7.1 message content rejected"),
        with(
            Case::bytes(
                "checks::envelope::copy_without_recipients",
                request(b"X-Do: bcc one\n\nx\n", SENDER, &[]),
            ),
            &rules(),
        )
        .reply("DError: no recipients specified"),
        discarded(with(
            Case::bytes(
                "checks::envelope::discarded_without_recipients",
                request(b"X-Do: discard\n\nx\n", SENDER, &[]),
            ),
            &rules(),
        )),
        with(
            Case::bytes(
                "checks::envelope::copy_is_a_recipient",
                request(b"X-Do: bcc one\n\nx\n", SENDER, &[b"copy@elsewhere.example"]),
            ),
            &rules(),
        )
        .with(&["always_bcc = copy@elsewhere.example"]),
        with(
            Case::bytes(
                "checks::envelope::copy_without_mapping",
                request(b"X-Do: bcc one\n\nx\n", SENDER, &[RECIPIENT]),
            ),
            &rules(),
        )
        .with(&["receive_override_options = no_address_mappings"]),
    ]
}

fn failing_tables() -> Vec<Case> {
    let case = |name: &str, main_cf: &[&str]| {
        Case::content(
            format!("checks::failing::{name}"),
            "Message-Id: <a@b>\nContent-Type: message/rfc822\n\nX-A: b\n\nx\n",
        )
        .with(main_cf)
        .reply("ZError: queue file write error")
    };
    vec![
        case("header_checks", &["header_checks = fail:x"]),
        case("mime_header_checks", &["mime_header_checks = fail:x"]),
        case("nested_header_checks", &["nested_header_checks = fail:x"]),
        case("body_checks", &["body_checks = fail:x"]),
        case("in_the_second_table", &["body_checks = inline:{a=b} fail:x"]),
        case("missing_file", &["header_checks = regexp:/nonexistent/file"]),
        case("empty_value", &["header_checks = pcre:{{/^(x?)Message/ $$1}}"]),
        Case::content("checks::failing::not_reached", "Subject: x\n\nx\n")
            .with(&["header_checks = inline:{X=y} static:DUNNO"]),
    ]
}

fn queues() -> Vec<Case> {
    let big = |what: &str| format!("X-Do: {what}\n\n{}", "0123456789abcde\n".repeat(20_000));
    vec![
        checked("queue::hold_in_subdirectories", "X-Do: hold\n\nx\n")
            .with(&["hash_queue_names = hold", "hash_queue_depth = 2"]),
        checked("queue::large_hold", big("hold")),
        discarded(checked("queue::large_discard", big("discard"))),
        checked("queue::large_redirect", big("redirect one")),
        checked("queue::large_reject", big("reject")).reply("DError: 5.7.1 message content rejected"),
        discarded(checked("queue::too_large_discard", big("discard")).with(&["message_size_limit = 330000"])),
        discarded(
            checked("queue::discard_large_in_the_body", format!("{}do discard\n", big("info")))
                .with(&["body_checks_size_limit = 0"]),
        ),
    ]
}

fn overrides() -> Vec<Case> {
    let off = ["receive_override_options = no_header_body_checks"];
    vec![
        checked("overridden", "X-Do: reject\n\ndo reject\n").with(&off),
        checked("overridden_own_header", "X-Do: discard\n\ndo hold\n").with(&off),
        Case::content("checks::overridden_strict", b"Subject: \xfc\n\n\xfc\n")
            .with(&["strict_8bitmime = yes"])
            .with(&off),
        checked("overridden_deep", nested(150)).with(&off),
    ]
}

/// Messages of what the rules above look for, under those rules.
pub(crate) fn add_random(suite: &mut Suite) {
    suite.add_random_with("random::checks", rules(), random_checks);
}

fn random_checks(random: &mut Random) -> Case {
    let mut text = Vec::new();
    for _ in 0..=random.below(12) {
        match random.below(10) {
            0..=3 => {
                // Mostly rules that let the rest be seen.
                let (pattern, action) = HEADER_RULES[random.below(HEADER_RULES.len())];
                let ends = ["REJECT", "DISCARD", "PASS", "REDIRECT", "reject"]
                    .iter()
                    .any(|end| action.starts_with(end));
                if let Some(value) = pattern.strip_prefix("^X-Do: ").filter(|_| !ends || random.below(4) == 0)
                {
                    text.extend_from_slice(format!("X-Do: {}\n", value.trim_end_matches('$')).as_bytes());
                }
            }
            4..=5 => {
                let (pattern, action) = BODY_RULES[random.below(BODY_RULES.len())];
                let ends =
                    ["REJECT", "DISCARD", "PASS", "REDIRECT"].iter().any(|end| action.starts_with(end));
                if let Some(value) = pattern.strip_prefix("^do ").filter(|_| !ends || random.below(4) == 0) {
                    text.extend_from_slice(format!("do {value}\n").as_bytes());
                }
            }
            _ => text.extend_from_slice(random.pick(LINES)),
        }
    }
    let recipients: Vec<&[u8]> =
        (0..random.below(4)).map(|_| random.pick(&[RECIPIENT, b"joe", b"a b@x"])).collect();
    Case::bytes("checks", request(&text, random.pick(&[SENDER, b"", b"joe"]), &recipients))
}

/// What means something to rules and to MIME.
pub(crate) const LINES: &[&[u8]] = &[
    b"\n",
    b"\n",
    b"\n",
    b"Subject: secret\n",
    b"Subject: x\n",
    b"Subject: \xfc\n",
    b"To: joe\n",
    b"To: drop\n",
    b"Message-Id: <a@drop>\n",
    b"Message-Id: <a@b>\n",
    b"Received: drop\n",
    b"X-Say: a\n",
    b" folded\n",
    b" again\n",
    b"Bcc: check\n",
    b"Content-Type: multipart/mixed; boundary=A\n",
    b"Content-Type: multipart/digest; boundary=B\n",
    b"Content-Type: message/rfc822\n",
    b"Content-Type: message/partial\n",
    b"Content-Type: text/change\n",
    b"Content-Transfer-Encoding: 8bit\n",
    b"Content-Transfer-Encoding: base64\n",
    b"Content-Transfer-Encoding: 7bit\n",
    b"--A\n",
    b"--B\n",
    b"--A--\n",
    b"--B--\n",
    b"say \xc3\xbc\n",
    b"say hello\n",
    b"z\n",
    b"zX : y\n",
    b"\xfc\n",
    b"text\n",
    b"no newline",
];
