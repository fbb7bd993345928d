//! Characters that are not wanted in messages, and strictness about MIME.

use super::checks::{LINES, discarded, nested};
use testbed::case::{Case, RECIPIENT, SENDER};
use testbed::client::request;
use testbed::random::Random;
use testbed::suite::Suite;

pub(crate) fn cases() -> Vec<Case> {
    [characters(), first_line(), strictness()].concat()
}

/// The first line is looked at before the rules have seen our Received header, which ends only with it.
fn first_line() -> Vec<Case> {
    let passed = ["message_reject_characters = X", "message_strip_characters = q", "line_length_limit = 512"];
    let case = |name: &str, action: &str, content: &str| {
        let rules = format!("header_checks = regexp:{{{{/^Received:.*QMQP/ {action}}} {{/^Subject/ INFO}}}}");
        Case::content(format!("characters::first_line::{name}"), content).with(&passed).with(&[&rules])
    };
    const REJECTED: &str = "DError: 5.7.1 disallowed character";
    let long = |at: usize| format!("{}X{}\n\nhello\n", "s".repeat(at), "s".repeat(1000 - at));
    vec![
        case("passed", "PASS", "X-Any: x\n\nhello\n").reply(REJECTED),
        case("second_line_passed", "PASS", "Subject: x\nX-Any: x\n\nhello X\n"),
        case("first_piece_passed", "PASS", &long(10)).reply(REJECTED),
        case("second_piece_passed", "PASS", &long(700)),
        case("behind_a_blank_passed", "PASS", " X\n\nhello X\n"),
        case("stripped_passed", "PASS", "qSubject: qx\nTo: q@x\n\nq\n"),
        case("empty_passed", "PASS", ""),
        case("redirected", "REDIRECT a@b.example", "X-Any: x\n\nhello\n").reply(REJECTED),
        case("second_line_redirected", "REDIRECT a@b.example", "Subject: x\nX-Any: x\n\nhello X\n"),
        case("rejected", "REJECT no", "X-Any: x\n\nhello\n").reply(REJECTED),
        case("second_line_rejected", "REJECT no", "Subject: x\nX-Any: x\n\nhello\n")
            .reply("DError: 5.7.1 no"),
        case("discarded", "DISCARD", "X-Any: x\n\nhello\n").reply(REJECTED),
        case("warned", "WARN", "X-Any: x\n\nhello\n").reply(REJECTED),
        case("second_line_warned", "WARN", "Subject: x\nX-Any: x\n\nhello\n").reply(REJECTED),
        case("held", "HOLD", "X-Any: x\n\nhello\n").reply(REJECTED),
        case("from_line_passed", "PASS", "From X\nSubject: x\n\nhello\n").reply(REJECTED),
    ]
}

fn characters() -> Vec<Case> {
    let case = |name: &str, setting: &str, content: &[u8]| {
        Case::content(format!("characters::{name}"), content).with(&[setting])
    };
    const NO_NUL: &str = "message_reject_characters = \\0";
    const STRIP: &str = "message_strip_characters = \\0z\\377";
    const REJECTED: &str = "DError: 5.7.1 disallowed character";
    vec![
        case("none", NO_NUL, b"Subject: x\n\nhello\n"),
        case("in_the_body", NO_NUL, b"Subject: x\n\nhel\0lo\n").reply(REJECTED),
        case("in_a_header", NO_NUL, b"Subject: x\0\n\nhello\n").reply(REJECTED),
        case("behind_the_message_id", NO_NUL, b"Message-Id: <a@b>\nX: y\n\nhello\n\0\n").reply(REJECTED),
        case("first", NO_NUL, b"\0Subject: x\n\nhello\n").reply(REJECTED),
        case("several", "message_reject_characters = xyz\\r", b"To: a\n\nhello y\n").reply(REJECTED),
        case("cr_is_gone", "message_reject_characters = \\r", b"To: a\n\nhel\rlo\n"),
        case("in_our_header", "message_reject_characters = Q", b"Message-Id: <a@b>\n\nhello\n")
            .reply(REJECTED),
        case("eight_bit", "message_reject_characters = \\200\\374", b"To: a\n\n\xfc\n").reply(REJECTED),
        case("text_is_shown", "message_reject_characters = \\7", b"To: a\n\nring \x07 \x1b \xfc bell\n")
            .reply(REJECTED),
        case("stripped", STRIP, b"Subject: xz\0z\nZ: zz\n\nhezzllo\0\n\xff\xfe\n"),
        case("stripped_empty_line", STRIP, b"Subject: x\nzzz\nX : y\n"),
        case("stripped_colon", "message_strip_characters = :", b"Subject: x\n\nhello: y\n").differs(
            "message_strip_characters-cannot-damage-our-received-header",
            |postfix| postfix.assert_refused("ZError: internal error 1"),
            |ours| {
                ours.assert_queued();
                assert!(ours.message().starts_with("Received: from localhost"), "{}", ours.message());
            },
        ),
        case("stripped_name", STRIP, b"zTo: joe\nTzo : bob\n\nx\n"),
        case("stripped_first", STRIP, b"z leading blank\n\nx\n").differs(
            "the-first-content-line-cannot-become-part-of-our-received-header",
            |postfix| {
                assert!(postfix.message().contains("; DATE\n leading blank\n"), "{}", postfix.message())
            },
            |ours| assert!(ours.message().ends_with("\n\n leading blank\n\nx\n"), "{}", ours.message()),
        ),
        case("stripped_long", STRIP, format!("Subject: x\n\n{}\n", "az".repeat(3000)).as_bytes()),
        case("stripped_unterminated", STRIP, b"Subject: x\n\nzzz"),
        Case::content("characters::both", b"Subject: x\n\nab\n")
            .with(&["message_strip_characters = a", "message_reject_characters = a"])
            .reply(REJECTED),
        Case::content("characters::pass_ends_it", b"Subject: x\n\naq\nX\n").with(&[
            "message_strip_characters = q",
            "message_reject_characters = X",
            "header_checks = regexp:{{/^Subject/ PASS}}",
        ]),
        Case::content("characters::overridden", b"Subject: x\n\nab\nX\n").with(&[
            "message_strip_characters = b",
            "message_reject_characters = X",
            "receive_override_options = no_header_body_checks",
        ]),
    ]
}

fn strictness() -> Vec<Case> {
    const HEADER: &str = "DError: 5.6.0 improper use of 8-bit data in message header";
    const BODY: &str = "DError: 5.6.0 improper use of 8-bit data in message body";
    const DOMAIN: &str = "DError: 5.6.0 invalid message/* or multipart/* encoding domain";
    let case = |group: &str, name: &str, content: &[u8]| {
        Case::content(format!("strict::{group}::{name}"), content).with(&[&format!("{group} = yes")])
    };
    let header = |name: &str, content: &[u8]| case("strict_7bit_headers", name, content);
    let body = |name: &str, content: &[u8]| case("strict_8bitmime_body", name, content);
    let both = |name: &str, content: &[u8]| case("strict_8bitmime", name, content);
    let domain = |name: &str, content: &[u8]| case("strict_mime_encoding_domain", name, content);
    let part = |encoding: &str| {
        format!(
            "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Transfer-Encoding: {encoding}\n\n\u{fc}\n--b--\n"
        )
    };
    let typed = |content_type: &str, encoding: &str| {
        format!("Content-Type: {content_type}\nContent-Transfer-Encoding: {encoding}\n\nSubject: x\n\nx\n")
    };
    vec![
        header("plain", b"Subject: x\n\n\xfc\n"),
        header("primary", b"Message-Id: <a@b>\nSubject: \xfc\nTo: \xfc\n\nx\n").reply(HEADER),
        header("folded", "Subject: x\n \u{fc}\u{fc}\n\nx\n".as_bytes()).reply(HEADER),
        header("long", format!("Subject: {}\u{fc}\n\nx\n", "x".repeat(300)).as_bytes()).reply(HEADER),
        header("part", b"Content-Type: multipart/mixed; boundary=b\n\n--b\nX: \xfc\n\nx\n").reply(HEADER),
        header("nested", b"Content-Type: message/rfc822\n\nX: \xfc\n\nx\n").reply(HEADER),
        header("last", b"X: \xfc").reply(HEADER),
        header("deep", nested(150).as_bytes()).reply("DError: 5.6.0 MIME nesting exceeds safety limit"),
        header("deep_and_eight_bit", format!("X: \u{fc}\n{}", nested(150)).as_bytes())
            .reply("DError: 5.6.0 MIME nesting exceeds safety limit"),
        header("no_recipients_and_eight_bit", b"X: y\n\nx\n"),
        Case::bytes("strict_7bit_headers::no_recipient", request(b"X: \xfc\n\nx\n", SENDER, &[]))
            .with(&["strict_7bit_headers = yes"])
            .reply(HEADER),
        Case::bytes(
            "strict_7bit_headers::eight_bit_recipient",
            request(b"X: y\n\nx\n", SENDER, &["\u{fc}@x".as_bytes()]),
        )
        // The log has the header up to its queue ID, which differs.
        .with(&["strict_7bit_headers = yes", "mail_name = Another Mail System"])
        .reply(HEADER),
        body("seven_bit", b"Subject: \xfc\n\nx\n"),
        body("undeclared", b"Subject: x\n\nx\n\xfc\ny\n\xfc\n").reply(BODY),
        body("declared", b"Content-Transfer-Encoding: 8bit\n\n\xfc\n"),
        body("binary", b"Content-Transfer-Encoding: binary\n\n\xfc\n"),
        body("comment", b"Content-Transfer-Encoding: (c) 8bit (d)\n\n\xfc\n"),
        body("base64", b"Content-Transfer-Encoding: base64\n\n\xfc\n"),
        body("unknown", b"Content-Transfer-Encoding: 9bit\n\n\xfc\n").reply(BODY),
        body("twice", b"Content-Transfer-Encoding: 8bit\nContent-Transfer-Encoding: 7bit\n\n\xfc\n")
            .reply(BODY),
        body("long", format!("Subject: x\n\n{}\u{fc}\n", "x".repeat(300)).as_bytes()).reply(BODY),
        body("nul", b"Subject: x\n\nab\0\xfc\n").reply(BODY),
        body("declared_part", part("8bit").as_bytes()),
        body("undeclared_part", part("7bit").as_bytes()).reply(BODY),
        body("behind_the_parts", format!("{}\u{fc}\n", part("8bit")).as_bytes()).reply(BODY),
        body(
            "before_the_parts",
            b"Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 8bit\n\n\xfc\n--b\n",
        )
        .reply(BODY),
        body(
            "nested",
            b"Content-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nSubject: x\n\n\xfc\n",
        )
        .reply(BODY),
        body("no_header", b"\xfc is no header\n").reply(BODY),
        both("header", b"Subject: \xfc\n\nx\n").reply(HEADER),
        both("body", b"Subject: x\n\n\xfc\n").reply(BODY),
        both("header_and_body", b"Subject: x\n\n\xfc\n").reply(BODY),
        both("both", b"Subject: \xfc\n\n\xfc\n").reply(HEADER),
        both("declared", b"Subject: x\nContent-Transfer-Encoding: 8bit\n\n\xfc\n"),
        domain("multipart_8bit", typed("multipart/mixed; boundary=b", "8bit").as_bytes()),
        domain("multipart_base64", typed("multipart/mixed; boundary=b", "base64").as_bytes()).reply(DOMAIN),
        domain("message_quoted_printable", typed("message/rfc822", "quoted-printable").as_bytes())
            .reply(DOMAIN),
        domain("message_binary", typed("message/rfc822", "binary").as_bytes()),
        domain("global_base64", typed("message/global", "base64").as_bytes()),
        domain("partial_8bit", typed("message/partial", "8bit").as_bytes()).reply(DOMAIN),
        domain("partial_7bit", typed("message/partial", "7bit").as_bytes()),
        domain("external_base64", typed("message/external-body", "base64").as_bytes()),
        domain("external_binary", typed("message/external-body", "binary").as_bytes()).reply(DOMAIN),
        domain("other_message", typed("message/x", "base64").as_bytes()),
        domain("text", typed("text/plain", "base64").as_bytes()),
        domain("unended", b"Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: base64")
            .reply(DOMAIN),
        domain(
            "order",
            b"Content-Transfer-Encoding: base64\nContent-Type: multipart/mixed; boundary=b\n\nx\n",
        )
        .reply(DOMAIN),
        Case::content("strict::and_rule", b"Subject: x\n\n\xfc\nreject\n")
            .with(&["strict_8bitmime = yes", "body_checks = regexp:{{/^reject/ REJECT first}}"])
            .reply("DError: 5.7.1 first"),
        discarded(
            Case::content("strict::and_discarded", b"Subject: x\n\n\xfc\ndrop\n")
                .with(&["strict_8bitmime = yes", "body_checks = regexp:{{/^drop/ DISCARD}}"]),
        ),
        Case::content("strict::and_passed", b"Subject: x\n\n\xfc\n")
            .with(&["strict_8bitmime = yes", "header_checks = regexp:{{/^Subject/ PASS}}"])
            .reply(BODY),
        Case::content("strict::without_mime", b"Subject: \xfc\n\n\xfc\n")
            .with(&["strict_8bitmime = yes", "disable_mime_input_processing = yes"]),
    ]
}

pub(crate) fn add_random(suite: &mut Suite) {
    let strict =
        ["strict_8bitmime = yes", "strict_mime_encoding_domain = yes", "message_strip_characters = z\\0"];
    suite.add_random_with("random::strict", strict.map(str::to_owned).to_vec(), random_strict);
}

fn random_strict(random: &mut Random) -> Case {
    Case::bytes("strict", request(&random.soup(LINES, 20), SENDER, &[RECIPIENT]))
}
