//! Our own Received: header before rules and strict options, and what is not looked at behind a decision.

use super::*;

const IMPROPER: &str = "improper use of 8-bit data in message header";

/// The records of our own Received: header.
fn own_header(outcome: &Outcome) -> Vec<String> {
    let finished = outcome.result.as_ref().unwrap();
    let records = Reader::new(&finished.received).map(|item| item.unwrap().1.data);
    records.map(|data| String::from_utf8_lossy(data).into_owned()).collect()
}

fn complete() -> String {
    format!("{COMPLETE}Subject: x\n\nbody\n")
}

#[test]
fn headers_must_be_7_bit_ours_too() {
    let strict = |mail_name: &str| Options {
        strict_7bit_headers: true,
        mail_name: mail_name.to_owned(),
        ..Options::default()
    };
    let errors = |options, content: &str| {
        let (outcome, _) = receive(options, vec![], content);
        let lines = log(&outcome).into_iter().filter(|line| line.contains("mime-error"));
        (lines.map(str::to_owned).collect::<Vec<_>>(), outcome.result.map(|_| ()))
    };
    let refusal = Err(Refusal::Content { text: format!("5.6.0 {IMPROPER}") });
    assert_eq!(errors(strict("Postfix"), &complete()), (vec![], Ok(())));
    assert_eq!(
        errors(Options { mail_name: "P\u{f6}st".into(), ..Options::default() }, &complete()).0,
        [""; 0]
    );
    let theirs = format!("{COMPLETE}Subject: \u{fc}\nX: \u{fc}\n\n\u{fc}\n");
    let (lines, result) = errors(strict("Postfix"), &theirs);
    let end = "from host[192.0.2.1]; from=<s@x> to=<r@x>";
    assert_eq!(lines, [format!("ID: reject: mime-error {IMPROPER}: Subject: \u{fc} {end}")]);
    assert_eq!(result, refusal);
    // The first one is told, and ours is the first.
    for content in [complete(), theirs] {
        let (lines, result) = errors(strict("P\u{f6}st"), &content);
        assert_eq!((lines.len(), result), (1, refusal.clone()), "{lines:?}");
        let start = format!("ID: reject: mime-error {IMPROPER}: Received: from host (host [192.0.2.1])");
        assert!(lines[0].starts_with(&start), "{lines:?}");
    }
}

#[test]
fn our_own_header_can_be_dropped_like_any_other() {
    let received = |drops: &str, rules| {
        let options = Options { message_drop_headers: vec![drops.to_owned()], ..Options::default() };
        own_header(&receive(options, rules, &complete()).0)
    };
    let rule = |rule| vec![(Maps::HeaderChecks, "Received", rule)];
    assert_eq!(received("bcc", vec![]).len(), 3);
    assert_eq!(received("received", vec![]), [""; 0]);
    assert_eq!(received("bcc", rule("IGNORE")), [""; 0]);
    assert_eq!(received("bcc", rule("REPLACE X: y")), ["X: y"]);
    assert_eq!(received("x", rule("REPLACE X: y")), [""; 0]);
    assert_eq!(received("received", rule("PREPEND X: y")), ["X: y"]);
}

#[test]
fn rules_see_so_much_of_our_own_header_as_a_header_may_have() {
    let shown = |header_size_limit| {
        let options = Options { header_size_limit, ..Options::default() };
        let (outcome, _) = receive(options, vec![(Maps::HeaderChecks, "Received", "WARN")], &complete());
        let lines = log(&outcome);
        lines.into_iter().find(|line| line.contains(": warning: ")).unwrap_or_default().to_owned()
    };
    let first = "Received: from host (host [192.0.2.1])";
    let line = |header: &str| {
        format!("ID: warning: header {header} from host[192.0.2.1]; from=<s@x> to=<r@x> proto=QMQP")
    };
    assert_eq!(shown(first.len()), line(first));
    let second = "??by localhost.localdomain (Postfix) with QMQP id ID";
    assert_eq!(shown(first.len() + 1), line(&format!("{first}{second}")));
}

#[test]
fn a_line_that_is_rejected_is_not_written() {
    let rules = vec![(Maps::BodyChecks, "bad", "REJECT")];
    let (outcome, lines) = receive(Options::default(), rules, &format!("{COMPLETE}\ngood\nbad\ngood\n"));
    assert!(outcome.result.is_err());
    assert_eq!(lines, format!("{COMPLETE}\ngood\n"));
}

#[test]
fn of_reasons_that_weigh_the_same_the_first_is_told() {
    let mut book = crate::rules::Rules::new(
        Arc::new(Options::default()),
        Arc::new(Rulebook::default()),
        "ID",
        &origin(),
    );
    let content = |text: &str| Refusal::Content { text: text.to_owned() };
    for (refusal, kept) in [
        (Refusal::Write, Refusal::Write),
        (content("5.7.1 one"), content("5.7.1 one")),
        (content("5.7.1 two"), content("5.7.1 one")),
        (Refusal::Size, Refusal::Size),
        (content("5.7.1 three"), Refusal::Size),
    ] {
        book.refuse(refusal);
        assert_eq!(book.refusal, Some(kept));
    }
}

#[test]
fn a_message_is_held_by_its_first_header_or_by_another_and_told_so_once() {
    let held = |rules: Vec<(Maps, &'static str, &'static str)>| {
        let (outcome, _) = receive(Options::default(), rules, &complete());
        let lines = log(&outcome).into_iter().filter(|line| line.contains(": hold: "));
        (lines.map(|line| line.split(' ').nth(3).unwrap_or_default().to_owned()).collect::<Vec<_>>(), {
            outcome.result.map(|finished| finished.fate)
        })
    };
    let (ours, theirs) = ((Maps::HeaderChecks, "Received", "HOLD"), (Maps::HeaderChecks, "Subject", "HOLD"));
    for (rules, header) in
        [(vec![ours], "Received:"), (vec![theirs], "Subject:"), (vec![ours, theirs], "Received:")]
    {
        assert_eq!(held(rules), (vec![header.to_owned()], Ok(Fate::Hold)));
    }
}

#[test]
fn header_rules_make_nesting_count() {
    let boundaries = "; boundary=a".repeat(4);
    let content = format!("{COMPLETE}Content-Type: multipart/x{boundaries}\n\nx\n");
    let result = |rules| {
        let options = Options { mime_nesting_limit: 1, ..Options::default() };
        receive(options, rules, &content).0.result.map(|_| ())
    };
    assert_eq!(result(vec![]), Ok(()));
    let text = "5.6.0 MIME nesting exceeds safety limit".to_owned();
    assert_eq!(result(vec![(Maps::HeaderChecks, "none", "DUNNO")]), Err(Refusal::Content { text }));
}

#[test]
fn the_last_recipient_of_a_refused_message_is_named_though_nothing_is_made_of_it() {
    let arrival =
        Arrival { queue_id: "ID".to_owned(), created: (0, 0), arrived: (0, 0), date: "today".to_owned() };
    let origin = Origin {
        client_name: "host".to_owned(),
        client_address: "192.0.2.1".to_owned(),
        client_port: "1".to_owned(),
        address_family: 2,
        log_origin: "host[192.0.2.1]".to_owned(),
        protocol: "QMQP",
    };
    let options = Options { myorigin: "mx.test".to_owned(), ..Options::default() };
    let rules = Rulebook(vec![(Maps::HeaderChecks, "Subject", "REJECT no")]);
    let refused = |recipients: &[&[u8]]| {
        let rules = Arc::new(Rulebook(rules.0.clone()));
        let mut message = Message::new(Arc::new(options.clone()), rules, arrival.clone(), origin.clone());
        message.content_bytes(complete().as_bytes(), &mut Vec::new());
        message.end_of_content(&mut Vec::new());
        message.sender(b"s@x", &mut Vec::new());
        let mut written = Vec::new();
        for recipient in recipients {
            let mut out = Vec::new();
            message.recipient(recipient, &mut out);
            written.push(!out.is_empty());
        }
        let outcome = message.finish();
        let line =
            log(&outcome).into_iter().find(|line| line.contains("reject: ")).unwrap_or_default().to_owned();
        (line, written, outcome.result.map(|_| ()))
    };
    let line = |to: &str| {
        format!(
            "ID: reject: header Subject: x from host[192.0.2.1]; from=<s@x> to=<{to}> proto=QMQP: 5.7.1 no"
        )
    };
    let refusal = Err(Refusal::Content { text: "5.7.1 no".to_owned() });
    assert_eq!(refused(&[b"r@x"]), (line("r@x"), vec![true], refusal.clone()));
    assert_eq!(
        refused(&[b"r@x", b"other@x", b"user"]),
        (line("user@mx.test"), vec![true, false, false], refusal)
    );
    // An address that no line can hold is graver than what the content is.
    let (_, _, result) = refused(&[b"r@x", b"a\n"]);
    assert_eq!(result, Err(Refusal::Address { kind: crate::refusal::AddressKind::Recipient }));
}

#[test]
fn characters_of_our_own_header_may_stay_where_nothing_is_looked_at() {
    for header_body_checks in [true, false] {
        let strip =
            Options { message_strip_characters: b"m".to_vec(), header_body_checks, ..Options::default() };
        let first = if header_body_checks {
            "Received: fro host (host [192.0.2.1])"
        } else {
            "Received: from host (host [192.0.2.1])"
        };
        assert_eq!(own_header(&receive(strip, vec![], &complete()).0)[0], first);
        let reject =
            Options { message_reject_characters: b"[".to_vec(), header_body_checks, ..Options::default() };
        assert_eq!(receive(reject, vec![], &complete()).0.result.is_ok(), !header_body_checks);
    }
}

#[test]
fn a_header_that_ends_well_is_not_marked() {
    for action in [EndOfHeader::AddHeader, EndOfHeader::Reject, EndOfHeader::FixQuietly] {
        let options = Options { non_empty_end_of_header_action: action, ..Options::default() };
        let (outcome, lines) = receive(options, vec![], &complete());
        assert_eq!((outcome.result.is_ok(), lines), (true, complete()));
    }
}
