//! What later releases of Postfix do where ours is told to follow one: `mail_version`.

use testbed::case::{Case, RECIPIENT, SENDER};
use testbed::client::request;
use testbed::milter::{Answer, Script, packet};
use testbed::pair::Outcome;

const LATER: &str = "mail_version = 3.12";
const ANCHOR: &str = "mail_version-selects-the-release-that-is-followed";

/// A case in which Postfix does the same from 3.10 on.
fn later(case: Case, ours: fn(&Outcome)) -> Case {
    let of_3_7 = |postfix: &Outcome| postfix.assert_not_logged(": removed (");
    case.with(&[LATER]).differs(ANCHOR, of_3_7, ours).until((3, 10))
}

fn message_id(outcome: &Outcome) -> Option<String> {
    outcome.assert_queued();
    let records = outcome.files[0].extracted.iter();
    let mut ids = records.filter(|record| record.is_message_id());
    ids.next().map(|record| String::from_utf8_lossy(&record.data["message_id=".len()..]).into_owned())
}

fn is(outcome: &Outcome, id: &str) {
    assert_eq!(message_id(outcome).as_deref(), Some(id), "{}", outcome.server);
}

fn options(outcome: &Outcome) -> u64 {
    outcome.assert_queued();
    outcome.files[0].size[5]
}

pub(crate) fn cases() -> Vec<Case> {
    [message_ids(), removals(), tls(), quarantines()].concat()
}

fn message_ids() -> Vec<Case> {
    let case = |name: &str, content: &[u8], ours| {
        later(Case::content(format!("releases::message_id::{name}"), content), ours)
    };
    vec![
        case("plain", b"Message-Id: <a@b>\n\nx\n", |outcome| is(outcome, "<a@b>")),
        case("generated", b"Subject: x\n\nx\n", |outcome| {
            assert!(message_id(outcome).unwrap().ends_with("@mx.example.test>"), "{}", outcome.server);
        }),
        case("and_more", b"Message-Id: <a <b> @c> d\n\nx\n", |outcome| is(outcome, "<a <b> @c>")),
        case("folded", b"Message-Id:\n  <a\n @b>\n\nx\n", |outcome| is(outcome, "<a  @b>")),
        case("eight_bit", b"Message-Id: <a\x07\xc3\xbc\xfc@b>\n\nx\n", |outcome| {
            is(outcome, "<a \u{fc} @b>");
        }),
        case("second", b"Message-Id: a@b\nMessage-Id: <c@d>\nMessage-Id: <e@f>\n\nx\n", |outcome| {
            is(outcome, "<c@d>");
        }),
        case("resent", b"Message-Id: <a@b>\nResent-To: x@y.z\n\nx\n", |outcome| is(outcome, "<a@b>")),
        case(
            "with_8bit_and_redirect",
            b"Message-Id: <a@b>\nContent-Transfer-Encoding: 8bit\n\nx\n",
            |outcome| {
                is(outcome, "<a@b>");
            },
        )
        .with(&["header_checks = regexp:{{/^Content-/ REDIRECT a@b.example}}", "always_bcc = c@d.example"]),
        // An 8-bit header of cleanup's own making counts like any other.
        later(Case::envelope("releases::eight_bit_sender", "\u{fc}@x.example", &[RECIPIENT]), |outcome| {
            assert_eq!(options(outcome), 6, "{}", outcome.server);
        }),
    ]
}

/// Why a message is on hold.
fn quarantines() -> Vec<Case> {
    let case = |name: &str, reason: &str, ours| {
        let hold = Answer::Packets(vec![packet(b'q', b"", &[reason]), (b'c', vec![])]);
        later(Case::content(format!("releases::quarantine::{name}"), "Subject: x\n\nx\n"), ours)
            .with(&["non_smtpd_milters = inet:@milter1@"])
            .milter(Script::new().answer(b'E', 0, hold))
    };
    vec![
        case("with_a_reason", "looks bad \x07", |outcome| {
            outcome
                .assert_logged("milter-hold: END-OF-MESSAGE from localhost[127.0.0.1]: looks bad ?; from=<");
        }),
        case("without_a_reason", "", |outcome| {
            outcome.assert_logged(": milter triggers HOLD action; from=<");
        }),
        later(Case::content("releases::quarantine::by_default", "Subject: x\n\nx\n"), |outcome| {
            outcome.assert_logged("milter-hold: CONNECT from localhost[127.0.0.1]: default_action; from=<");
        })
        .with(&["non_smtpd_milters = inet:127.0.0.1:1", "milter_default_action = quarantine"]),
    ]
}

fn removals() -> Vec<Case> {
    let canceled = |outcome: &Outcome| outcome.assert_logged(": removed (canceled)");
    let checks = "header_checks = regexp:{{/^X-Do: reject/ REJECT} {/^X-Do: discard/ DISCARD}}";
    let content = |name: &str, content: &str| Case::content(format!("releases::removed::{name}"), content);
    vec![
        later(content("rejected", "X-Do: reject\n\nx\n").with(&[checks]), canceled)
            .reply("DError: 5.7.1 message content rejected"),
        later(content("discarded", "X-Do: discard\n\nx\n").with(&[checks]), |outcome| {
            outcome.assert_logged(": removed (discarded)");
        })
        .reply("KOk: queued as QUEUE-ID"),
        later(
            Case::bytes("releases::removed::no_recipients", request(b"Subject: x\n\nx\n", SENDER, &[])),
            canceled,
        )
        .reply("DError: no recipients specified"),
        later(
            Case::bytes(
                "releases::removed::bad_verp",
                request(b"Subject: x\n\nx\n", b"list@host-@[]", &[RECIPIENT]),
            )
            // Its cleanup(8) hears of it only when the connection ends: long before the client then.
            .with(&["qmqpd_error_delay = 2s"]),
            canceled,
        )
        .reply("DError: Invalid VERP delimiters: \\\"t=\\\". Need two characters from \\\"-=+\\\""),
        later(content("too_large", &"x\n".repeat(4000)).with(&["message_size_limit = 9000"]), canceled)
            .reply("DError: message too large"),
    ]
}

fn tls() -> Vec<Case> {
    let case = |name: &str, headers: &str, ours| {
        let text = format!("Message-Id: <a@b>\n{headers}\n\nhello\n");
        later(Case::content(format!("releases::tls::{name}"), text), ours)
    };
    let none = |outcome: &Outcome| assert_eq!(options(outcome), 0, "{}", outcome.server);
    let not_required = |outcome: &Outcome| assert_eq!(options(outcome), 16, "{}", outcome.server);
    let required = |outcome: &Outcome| assert_eq!(options(outcome), 32, "{}", outcome.server);
    let malformed = |outcome: &Outcome| {
        assert_eq!(options(outcome), 0, "{}", outcome.server);
        outcome.assert_logged("warning: ignoring malformed header: 'TLS-Required:");
    };
    vec![
        case("no", "TLS-Required: no", not_required),
        case("no_in_capitals", "tls-REQUIRED:  NO", not_required),
        case("no_and_a_blank", "TLS-Required: no ", malformed),
        case("yes", "TLS-Required: yes", malformed),
        case("folded", "TLS-Required: no\n no", malformed),
        case("long", &format!("TLS-Required: {}", "x".repeat(200)), malformed),
        case("off", "TLS-Required: no", none).with(&["tls_required_enable = no"]),
        case("nested", "Content-Type: message/rfc822\n\nTLS-Required: no", none),
        case("esmtp", "Require-TLS-ESMTP: Yes", required),
        case("esmtp_no", "Require-TLS-ESMTP: no", none),
        case("esmtp_off", "Require-TLS-ESMTP: yes", none).with(&["requiretls_enable = no"]),
        case("esmtp_header_off", "Require-TLS-ESMTP: yes", none).with(&["requiretls_esmtp_header = no"]),
        case("both", "Require-TLS-ESMTP: yes\nTLS-Required: no", |outcome| {
            assert_eq!(options(outcome), 48, "{}", outcome.server);
        }),
        // Set by itself, each works whatever release is followed.
        Case::content("releases::tls::set", "TLS-Required: no\n\nx\n")
            .with(&["tls_required_enable = yes"])
            .differs(ANCHOR, none, not_required)
            .until((3, 10)),
        Case::content("releases::tls::esmtp_set", "Require-TLS-ESMTP: yes\n\nx\n")
            .with(&["requiretls_esmtp_header = yes"])
            .differs(ANCHOR, none, required)
            .until((3, 11)),
    ]
}
