//! Rules at work in whole messages. What each action does to a message is tried against Postfix; here is what a running
//! Postfix of this age cannot show, and what ours bounds.

mod strict;

use std::sync::Arc;

use postfix::notice::Notice;
use postfix::record::{Reader, RecordType};
use postfix::settings::words::EndOfHeader;

use super::cut;
use crate::finished::Fate;
use crate::message::{Message, Outcome};
use crate::options::{Arrival, Options, Origin};
use crate::refusal::Refusal;
use crate::tables::{Key, LookupFailed, Maps, Names, Tables};

/// Maps, the beginning of a key, and the rule for it.
#[derive(Debug, Default)]
struct Rulebook(Vec<(Maps, &'static str, &'static str)>);

impl Tables for Rulebook {
    fn has(&self, maps: Maps) -> bool {
        self.0.iter().any(|(of, ..)| *of == maps)
    }

    fn find(&self, maps: Maps, key: Key<'_>, _: &mut Vec<Notice>) -> Result<Option<Vec<u8>>, LookupFailed> {
        let (Key::Whole(key) | Key::Part(key)) = key;
        let found = self.0.iter().find(|(of, start, _)| *of == maps && key.starts_with(start.as_bytes()));
        match found {
            Some((.., "fail")) => Err(LookupFailed),
            found => Ok(found.map(|(.., rule)| rule.as_bytes().to_vec())),
        }
    }

    fn is_listed(&self, _: Names, _: &[u8], _: &mut Vec<Notice>) -> Result<bool, LookupFailed> {
        Ok(false)
    }
}

/// A client.
fn origin() -> Origin {
    Origin {
        client_name: "host".to_owned(),
        client_address: "192.0.2.1".to_owned(),
        client_port: "1".to_owned(),
        address_family: 2,
        log_origin: "host[192.0.2.1]".to_owned(),
        protocol: "QMQP",
    }
}

/// What becomes of a message, and its content records as lines.
fn receive(
    options: Options,
    rules: Vec<(Maps, &'static str, &'static str)>,
    content: &str,
) -> (Outcome, String) {
    let arrival = Arrival {
        queue_id: "ID".to_owned(),
        created: (1_795_386_300, 0),
        arrived: (1_795_386_300, 0),
        date: "today".to_owned(),
    };
    let origin = origin();
    let mut message = Message::new(Arc::new(options), Arc::new(Rulebook(rules)), arrival, origin);
    let (mut records, mut recipients) = (Vec::new(), Vec::new());
    message.content_bytes(content.as_bytes(), &mut records);
    message.end_of_content(&mut records);
    message.sender(b"s@x", &mut recipients);
    message.recipient(b"r@x", &mut recipients);
    let outcome = message.finish();
    let mut lines = String::new();
    for item in Reader::new(&records) {
        let (_, record) = item.unwrap();
        if record.kind != RecordType::POINTER {
            lines.push_str(&String::from_utf8_lossy(record.data));
            lines.push_str(if record.kind == RecordType::NORMAL { "\n" } else { "" });
        }
    }
    (outcome, lines)
}

fn log(outcome: &Outcome) -> Vec<&str> {
    outcome.notices.iter().map(|notice| notice.text.as_str()).collect()
}

const COMPLETE: &str = "Message-Id: <a@b>\nDate: x\nFrom: a@b\n";

#[test]
fn a_missing_empty_line_can_be_told() {
    let with = |action| Options { non_empty_end_of_header_action: action, ..Options::default() };
    let content = format!("{COMPLETE}no header\nbody\n");
    let (outcome, lines) = receive(with(EndOfHeader::FixQuietly), vec![], &content);
    assert_eq!((outcome.result.is_ok(), lines), (true, format!("{COMPLETE}\nno header\nbody\n")));
    let (outcome, lines) = receive(with(EndOfHeader::AddHeader), vec![], &content);
    assert!(outcome.result.is_ok());
    assert_eq!(log(&outcome), ["ID: message-id=<a@b>"]);
    let marked = "MIME-Error: message header was not terminated by empty line";
    assert_eq!(lines, format!("{COMPLETE}{marked}\n\nno header\nbody\n"));
    let (outcome, _) = receive(with(EndOfHeader::Reject), vec![], &content);
    let text = "5.6.0 primary header was terminated with non-empty line".to_owned();
    assert_eq!(outcome.result, Err(Refusal::Content { text }));
    assert_eq!(
        log(&outcome)[1],
        "ID: reject: mime-error primary header was terminated with non-empty line: no header from host[192.0.2.1]; \
         from=<s@x> to=<r@x>"
    );
    // Neither a message that ends there nor a part is meant.
    for content in
        [COMPLETE.to_owned(), format!("{COMPLETE}Content-Type: multipart/x; boundary=b\n\n--b\nA: b\nx\n")]
    {
        assert!(receive(with(EndOfHeader::Reject), vec![], &content).0.result.is_ok(), "{content}");
    }
}

#[test]
fn eight_bit_parts_become_quoted_printable() {
    let options = || Options { force_mime_input_conversion: true, ..Options::default() };
    let converted = |content: &str| receive(options(), vec![], &format!("{COMPLETE}{content}")).1;
    for (content, expected) in [
        // Only what announces 8-bit text is converted.
        ("\nm\u{fc} =\n", "\nm\u{fc} =\n"),
        ("Content-Transfer-Encoding: 7bit\n\n\u{fc}\n", "Content-Transfer-Encoding: 7bit\n\n\u{fc}\n"),
        (
            "Content-Transfer-Encoding: 8bit\nX: y\n\nm\u{fc} = \n",
            "X: y\nContent-Transfer-Encoding: quoted-printable\n\nm=C3=BC =3D=20\n",
        ),
        (
            "Content-Type: multipart/x; boundary=b\nContent-Transfer-Encoding: 8bit\n\n\u{fc}\n--b\n\
             Content-Transfer-Encoding: binary\n\n\u{fc}\n--b--\n\u{fc}\n",
            "Content-Type: multipart/x; boundary=b\nContent-Transfer-Encoding: 7bit\n\n\u{fc}\n--b\n\
             Content-Transfer-Encoding: quoted-printable\n\n=C3=BC\n--b--\n\u{fc}\n",
        ),
        (
            "Content-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nContent-Transfer-Encoding: 8bit\n\n\u{fc}\n",
            "Content-Type: message/rfc822\nContent-Transfer-Encoding: 7bit\n\nContent-Transfer-Encoding: \
             quoted-printable\n\n=C3=BC\n",
        ),
        (
            "Content-Type: message/global\nContent-Transfer-Encoding: 8bit\n\nX : \u{fc}\n",
            "Content-Type: message/global\nContent-Transfer-Encoding: quoted-printable\n\nX : =C3=BC\n",
        ),
        (
            "Content-Transfer-Encoding: 8bit\nno header\n",
            "Content-Transfer-Encoding: quoted-printable\n\nno header\n",
        ),
    ] {
        let lines = converted(content);
        // The generated header stands behind all others.
        let kept = lines.strip_prefix(COMPLETE).unwrap();
        assert_eq!(kept, expected, "{content}");
    }
    // It is not an 8-bit message any more.
    let (outcome, _) = receive(options(), vec![], "Content-Transfer-Encoding: 8bit\n\nx\n");
    assert_eq!(outcome.result.unwrap().extracted, b"");
}

#[test]
fn added_recipients_are_bounded() {
    const RULE: &str = "BCC copy@x";
    let rules = || vec![(Maps::BodyChecks, "copy", RULE)];
    let (outcome, _) =
        receive(Options::default(), rules(), &format!("{COMPLETE}\n{}", "copy\n".repeat(5000)));
    assert_eq!(outcome.result.unwrap().counts.recipients, 2);
    let mut book =
        super::Rules::new(Arc::new(Options::default()), Arc::new(Rulebook::default()), "ID", &origin());
    for number in 0..1000 {
        book.add_recipient(format!("{number}@x").as_bytes());
        book.add_recipient(b"0@x");
    }
    assert_eq!((book.decisions.recipients.len(), book.refusal.clone()), (1000, None));
    book.add_recipient(b"one more@x");
    let text = "5.7.1 rules add too many recipients".to_owned();
    assert_eq!(book.refusal, Some(Refusal::Content { text }));
}

#[test]
fn what_a_rule_decides_is_told() {
    let outcome = |rule| {
        receive(Options::default(), vec![(Maps::HeaderChecks, "Subject", rule)], "Subject: x\n\nx\n").0
    };
    let fate = |rule| outcome(rule).result.unwrap().fate;
    assert_eq!(
        [fate("WARN"), fate("HOLD"), fate("DISCARD"), fate("PASS")],
        [Fate::Deliver, Fate::Hold, Fate::Discard, Fate::Deliver]
    );
    // Milters look at what no rule has passed.
    for (rule, is_passed) in [
        ("WARN", false),
        ("HOLD", false),
        ("BCC a@b", false),
        ("PASS", true),
        ("REDIRECT a@b", true),
        ("REJECT", true),
    ] {
        assert_eq!(outcome(rule).is_passed, is_passed, "{rule}");
    }
}

#[test]
fn our_own_header_is_foreseen_or_held_against_what_it_became() {
    let subject = (Maps::HeaderChecks, "Subject", "REJECT");
    let content = "Subject: x\n\nx\n";
    // For any recipient.
    let (outcome, _) = receive(
        Options::default(),
        vec![subject, (Maps::HeaderChecks, "Received: from host", "PASS")],
        content,
    );
    assert!(outcome.result.is_ok());
    assert_eq!(log(&outcome)[1..], ["ID: message-id=<20261122222500.ID@localhost.localdomain>"]);
    // A failure is told once, when the header is there.
    let (outcome, _) = receive(Options::default(), vec![(Maps::HeaderChecks, "Received", "fail")], content);
    assert_eq!(outcome.result, Err(Refusal::Write));
    assert_eq!(
        log(&outcome),
        ["ID: header_checks map lookup problem -- message not accepted, try again later"]
    );
}

#[test]
fn nothing_is_looked_at_in_what_is_far_too_large() {
    let options = Options { message_size_limit: 1000, ..Options::default() };
    let rules = vec![(Maps::BodyChecks, "late", "REJECT")];
    let (outcome, lines) = receive(options, rules, &format!("{COMPLETE}\n{}late\n", "x\n".repeat(10_000)));
    assert_eq!(outcome.result, Err(Refusal::Size));
    assert!(lines.len() < 6000, "{}", lines.len());
}

/// What a rule about the header `Subject: x` logs, without the line about the Message-ID, and what the content becomes.
fn by_header(rule: &'static str) -> (Outcome, Vec<String>, String) {
    let content = format!("{COMPLETE}Subject: x\n\nbody\n");
    let (outcome, lines) = receive(Options::default(), vec![(Maps::HeaderChecks, "Subject", rule)], &content);
    let said = log(&outcome).into_iter().filter(|line| !line.contains("message-id=")).map(str::to_owned);
    let said = said.collect();
    (outcome, said, lines.strip_prefix(COMPLETE).unwrap_or(&lines).to_owned())
}

#[test]
fn every_action_says_what_it_does() {
    let end = "from host[192.0.2.1]; from=<s@x> to=<r@x> proto=QMQP";
    let kept = "Subject: x\n\nbody\n";
    for (rule, action, lines) in [
        ("WARN", "warning", kept),
        ("warn see this", "warning", kept),
        ("INFO see this", "info", kept),
        ("FILTER smtp:next", "filter", kept),
        ("PASS see this", "pass", kept),
        ("HOLD see this", "hold", kept),
        ("REDIRECT other@x", "redirect", kept),
        ("BCC other@x", "bcc", kept),
        ("STRIP see this", "strip", "\nbody\n"),
        ("PREPEND X: y", "prepend", "X: y\nSubject: x\n\nbody\n"),
        ("REPLACE X: y", "replace", "X: y\n\nbody\n"),
    ] {
        let (outcome, said, found) = by_header(rule);
        let argument = rule.split_once(' ').map_or(String::new(), |(_, argument)| format!(": {argument}"));
        assert_eq!(said, [format!("ID: {action}: header Subject: x {end}{argument}")], "{rule}");
        assert_eq!((outcome.result.is_ok(), found.as_str()), (true, lines), "{rule}");
    }
    for (rule, lines) in [("DUNNO", kept), ("ok", kept), ("IGNORE", "\nbody\n")] {
        let (outcome, said, found) = by_header(rule);
        assert_eq!((outcome.result.is_ok(), said.len(), found.as_str()), (true, 0, lines), "{rule}");
    }
}

#[test]
fn a_rule_that_makes_no_sense_is_told_and_changes_nothing() {
    for (rule, warning) in [
        ("FILTER", "missing FILTER command argument in header_checks map"),
        ("FILTER next", "bad FILTER command next in header_checks -- need transport:destination"),
        ("PREPEND", "PREPEND action without text in header_checks map"),
        (
            "PREPEND x y",
            "bad PREPEND header text \"x y\" in header_checks map -- need \"headername: headervalue\"",
        ),
        ("REPLACE ", "REPLACE action without text in header_checks map"),
        (
            "REPLACE x y",
            "bad REPLACE header text \"x y\" in header_checks map -- need \"headername: headervalue\"",
        ),
        ("REDIRECT other", "bad REDIRECT target \"other\" in header_checks map -- need user@domain"),
        ("BCC other", "bad BCC address \"other\" in header_checks map -- need user@domain"),
        ("DELIVER it", "unknown command in header_checks map: DELIVER it"),
    ] {
        let (outcome, said, lines) = by_header(rule);
        assert_eq!(said, [warning], "{rule}");
        assert_eq!((lines.as_str(), outcome.is_passed), ("Subject: x\n\nbody\n", false), "{rule}");
        assert_eq!(outcome.result.unwrap().counts.recipients, 1, "{rule}");
    }
}

#[test]
fn a_rejection_is_permanent_unless_its_code_says_otherwise() {
    let refused = |rule: &'static str| {
        let (outcome, said, _) = by_header(rule);
        (outcome.result.unwrap_err(), said)
    };
    let (content, defer) = (
        |text: &str| Refusal::Content { text: text.into() },
        |text: &str| Refusal::Defer { text: text.into() },
    );
    for (rule, refusal, text) in [
        ("REJECT", content("5.7.1 message content rejected"), "5.7.1 message content rejected"),
        ("REJECT no", content("5.7.1 no"), "5.7.1 no"),
        ("REJECT 5.1.2 no", content("5.1.2 no"), "5.1.2 no"),
        ("REJECT 4.1.2 later", defer("4.1.2 later"), "4.1.2 later"),
    ] {
        let (found, said) = refused(rule);
        assert_eq!(found, refusal, "{rule}");
        let line = "ID: reject: header Subject: x from host[192.0.2.1]; from=<s@x> to=<r@x> proto=QMQP";
        assert_eq!(said, [format!("{line}: {text}")], "{rule}");
    }
    let (found, said) = refused("REJECT 2.0.0 fine");
    assert_eq!(found, defer("4.0.0 fine"));
    assert_eq!(said[0], "bad DSN action in 2.0.0 fine -- need 4.x.x or 5.x.x");
}

#[test]
fn a_message_is_held_once_and_what_is_discarded_is_not_held() {
    let rules = |first| vec![(Maps::HeaderChecks, "Subject", first), (Maps::BodyChecks, "b", "HOLD")];
    let content = format!("{COMPLETE}Subject: x\n\nbody\nbody\n");
    let (outcome, _) = receive(Options::default(), rules("HOLD"), &content);
    assert_eq!(log(&outcome).iter().filter(|line| line.contains(": hold: ")).count(), 1);
    let mut book =
        super::Rules::new(Arc::new(Options::default()), Arc::new(Rulebook::default()), "ID", &origin());
    book.decisions.is_discarded = true;
    book.act(super::Subject::Body, b"x", b"HOLD", "body_checks");
    assert!(!book.decisions.is_held && book.notices.len() == 0);
}

#[test]
fn the_body_is_looked_at_up_to_its_limit() {
    let warned = |limit| {
        let options = Options { body_checks_size_limit: limit, ..Options::default() };
        let rules = vec![(Maps::BodyChecks, "line", "WARN"), (Maps::BodyChecks, "x", "PREPEND no header")];
        let (outcome, lines) = receive(options, rules, &format!("{COMPLETE}\nline\nline\nline\nx\n"));
        let is_warning = |line: &&&str| line.starts_with("ID: warning: body line from host");
        (log(&outcome).iter().filter(is_warning).count(), lines.ends_with("no header\nx\n"))
    };
    // The empty line before the body is its first byte.
    assert_eq!([warned(0), warned(2), warned(1000)], [(3, true), (1, false), (3, true)]);
}

#[test]
fn characters_are_rejected_or_stripped_as_long_as_anything_is_looked_at() {
    let bad = |rejected: &[u8], stripped: &[u8], is_on| Options {
        message_reject_characters: rejected.to_vec(),
        message_strip_characters: stripped.to_vec(),
        header_body_checks: is_on,
        ..Options::default()
    };
    let content = format!("{COMPLETE}Subject: x\n\nb\x01o\x02dy\n");
    let pass = || vec![(Maps::HeaderChecks, "Subject", "PASS")];
    let end_of = |options, rules| {
        let (outcome, lines) = receive(options, rules, &content);
        (outcome.result, lines.lines().last().unwrap_or_default().to_owned())
    };
    let refusal = Err(Refusal::Content { text: "5.7.1 disallowed character".to_owned() });
    let (result, _) = end_of(bad(b"\x01", b"", true), vec![]);
    assert_eq!(result.map(|_| ()), refusal);
    let (outcome, _) = receive(bad(b"\x01", b"", true), vec![], &content);
    let line = "ID: reject: content b?o?dy from host[192.0.2.1]; from=<s@x> to=<r@x> proto=QMQP";
    assert_eq!(log(&outcome).last().copied(), Some(format!("{line}: 5.7.1 disallowed character").as_str()));
    for (options, rules, last) in [
        (bad(b"\x03", b"", true), vec![], "b\x01o\x02dy"),
        (bad(b"", b"\x01", true), vec![], "bo\x02dy"),
        (bad(b"\x03", b"\x01\x02", true), vec![], "body"),
        (bad(b"\x01", b"\x01", false), vec![], "b\x01o\x02dy"),
        (bad(b"\x01", b"", true), pass(), "b\x01o\x02dy"),
        (bad(b"", b"\x01", true), pass(), "b\x01o\x02dy"),
    ] {
        let (result, found) = end_of(options, rules);
        assert_eq!((result.is_ok(), found.as_str()), (true, last));
    }
}

#[test]
fn only_the_last_rule_of_a_header_ends_all_looking() {
    for (rule, ends) in [
        (&b"REJECT"[..], true),
        (b"discard x", true),
        (b"PASS", true),
        (b"REDIRECT a@b", true),
        (b"REDIRECT a", false),
        (b"BCC a@b", false),
        (b"WARN", false),
    ] {
        assert_eq!(
            crate::rule::Rule::parse(rule, true).is_ok_and(|rule| rule.ends_looking()),
            ends,
            "{}",
            rule.escape_ascii()
        );
    }
}

#[test]
fn a_text_is_cut_between_characters() {
    assert_eq!(cut("a\u{fc}b", 2), "a");
}
