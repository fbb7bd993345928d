//! Rules at work in whole messages. What each action does to a message is tried against Postfix; here is what a running
//! Postfix of this age cannot show, and what ours bounds.

use std::sync::Arc;

use postfix::notice::Notice;
use postfix::record::{Reader, RecordType};
use postfix::settings::words::EndOfHeader;

use super::{cut, dsn_len, with_dsn};
use crate::message::{Fate, Message, Outcome};
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
    let origin = Origin {
        client_name: "host".to_owned(),
        client_address: "192.0.2.1".to_owned(),
        client_port: "1".to_owned(),
        address_family: 2,
        log_origin: "host[192.0.2.1]".to_owned(),
    };
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
    // It is no 8-bit message any more.
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
        super::Rules::new(Arc::new(Options::default()), Arc::new(Rulebook::default()), "ID", "host");
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
    // Whoever the recipient is.
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

#[test]
fn status_codes_are_those_of_rfc_3463() {
    for (text, len) in [
        ("5.7.1", Some(5)),
        ("4.123.321 x", Some(9)),
        ("2.0.0\tx", Some(5)),
        ("5.7", None),
        ("5.7.", None),
        ("5.7.1x", None),
        ("5.1234.1", None),
        ("3.7.1", None),
        ("5..1", None),
        ("", None),
    ] {
        assert_eq!(dsn_len(text.as_bytes()), len, "{text}");
    }
    assert_eq!(with_dsn("5.7.1", b"  4.0.1   why"), b"4.0.1 why");
    assert_eq!(with_dsn("5.7.1", b"why  not "), b"5.7.1 why  not ");
    assert_eq!(cut("a\u{fc}b", 2), "a");
}
