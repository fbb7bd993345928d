//! Senders and recipients one by one.

use proptest::prelude::*;

use super::*;
use crate::tables::{Key, Names, NoTables};

fn options() -> Options {
    Options { myorigin: "mx.example.test".to_owned(), ..Options::default() }
}

fn envelope(options: Options) -> Envelope {
    Envelope::new(Arc::new(options), Arc::new(NoTables), "ID".to_owned())
}

/// The final recipients that are left of these.
fn left(options: Options, recipients: &[&str]) -> Vec<String> {
    let mut envelope = envelope(options);
    let mut left = Vec::new();
    for recipient in recipients {
        let mut records = Vec::new();
        envelope.add_recipient(recipient.as_bytes(), &mut records);
        if !records.is_empty() {
            left.push((*recipient).to_owned());
        }
    }
    assert_eq!(envelope.written_count, left.len() as u64);
    assert_eq!(envelope.received_count, recipients.len() as u64);
    left
}

#[test]
fn bounces_have_no_sender() {
    for (raw, sender) in [
        ("MAILER-DAEMON", ""),
        ("mailer-daemon@MX.Example.test", ""),
        ("MAILER-DAEMON@other.example", "MAILER-DAEMON@other.example"),
        ("", ""),
        ("alice", "alice@mx.example.test"),
    ] {
        let mut envelope = envelope(options());
        envelope.set_sender(raw.as_bytes(), &mut Vec::new());
        assert_eq!(envelope.sender, sender.as_bytes(), "{raw}");
    }
}

#[test]
fn variable_return_paths_of_bounces_are_ignored() {
    let mut envelope = envelope(options());
    envelope.set_sender(b"MAILER-DAEMON-@mx.example.test-@[]", &mut Vec::new());
    assert_eq!((envelope.sender.as_slice(), envelope.verp_delimiters), (&b""[..], None));
    let lines = envelope.notices.into_lines("ID");
    assert_eq!(lines, [Notice::warning("ID: ignoring VERP request for null sender")]);
}

#[test]
fn recipients_are_written_with_their_history() {
    let mut envelope = envelope(options());
    let mut out = Vec::new();
    envelope.add_recipient(b"h!Bob", &mut out);
    envelope.add_recipient(b"", &mut out);
    envelope.add_automatic_recipient(b"archive", &mut out);
    let mut expected = Vec::new();
    for (kind, text) in [
        (RecordType::ATTRIBUTE, "dsn_orig_rcpt=rfc822;Bob@h"),
        (RecordType::ORIGINAL_RECIPIENT, "h!Bob"),
        (RecordType::RECIPIENT, "Bob@h"),
        (RecordType::ATTRIBUTE, "dsn_orig_rcpt=rfc822;MAILER-DAEMON@mx.example.test"),
        (RecordType::ORIGINAL_RECIPIENT, ""),
        (RecordType::RECIPIENT, "MAILER-DAEMON@mx.example.test"),
        (RecordType::ATTRIBUTE, "notify_flags=1"),
        (RecordType::ORIGINAL_RECIPIENT, "archive@mx.example.test"),
        (RecordType::RECIPIENT, "archive@mx.example.test"),
    ] {
        encode(&mut expected, kind, text.as_bytes());
    }
    assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

#[test]
fn duplicates_are_left_out() {
    // Observed on Postfix 3.7.
    assert_eq!(left(options(), &["bob@x", "Bob@x", "bob@y", "BOB@X"]), ["bob@x", "bob@y"]);
    assert_eq!(left(options(), &["alice", "alice@mx.example.test"]), ["alice", "alice@mx.example.test"]);
    assert_eq!(left(options(), &["stra\u{df}e@x", "STRASSE@x"]), ["stra\u{df}e@x"]);
    let ignore_original = Options { enable_original_recipient: false, ..options() };
    assert_eq!(left(ignore_original, &["alice", "alice@mx.example.test"]), ["alice"]);
    let ascii = Options { smtputf8_enable: false, ..options() };
    assert_eq!(left(ascii, &["\u{e9}A@x", "\u{c9}a@x", "\u{e9}a@x"]), ["\u{e9}A@x", "\u{c9}a@x"]);
}

/// `bob@x` is an alias of itself and of `Archive@x`, in any case.
#[derive(Debug)]
struct BobIsAnAlias;

impl Tables for BobIsAnAlias {
    fn has(&self, maps: Maps) -> bool {
        maps == Maps::VirtualAlias
    }

    fn find(&self, _: Maps, key: Key<'_>, _: &mut Vec<Notice>) -> Result<Option<Vec<u8>>, LookupFailed> {
        let (Key::Whole(key) | Key::Part(key)) = key;
        Ok(key.eq_ignore_ascii_case(b"bob@x").then(|| b"bob@x, Archive@x".to_vec()))
    }

    fn is_listed(&self, _: Names, _: &[u8], _: &mut Vec<Notice>) -> Result<bool, LookupFailed> {
        Ok(false)
    }
}

#[test]
fn an_alias_that_is_asked_for_in_another_case_is_the_same() {
    let mut envelope = Envelope::new(Arc::new(options()), Arc::new(BobIsAnAlias), "ID".to_owned());
    let mut written = |recipient: &[u8]| {
        let mut out = Vec::new();
        envelope.add_recipient(recipient, &mut out);
        let records = Reader::new(&out).map(|item| item.unwrap().1);
        let recipients = records.filter(|record| record.kind == RecordType::RECIPIENT);
        recipients.map(|record| String::from_utf8(record.data.to_vec()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(written(b"bob@x"), ["bob@x", "Archive@x"]);
    assert_eq!(written(b"BOB@x"), [""; 0]);
    assert_eq!(written(b"archive@X"), ["archive@X"]);
}

#[test]
fn a_full_filter_learns_no_more() {
    let limit = |duplicate_filter_limit| Options { duplicate_filter_limit, ..options() };
    assert_eq!(left(limit(2), &["a@x", "b@x", "c@x", "c@x", "a@x"]), ["a@x", "b@x", "c@x", "c@x"]);
    assert_eq!(left(limit(0), &["a@x", "b@x", "c@x", "c@x", "a@x"]), ["a@x", "b@x", "c@x"]);
}

#[test]
fn an_automatic_copy_is_no_duplicate_of_a_named_recipient() {
    let mut envelope = envelope(options());
    let mut out = Vec::new();
    envelope.add_recipient(b"a@x", &mut out);
    envelope.add_automatic_recipient(b"a@x", &mut out);
    envelope.add_automatic_recipient(b"A@x", &mut out);
    assert_eq!(envelope.written_count, 2);
}

#[test]
fn addresses_that_no_line_can_hold_are_refused() {
    for byte in [b"\0", b"\r", b"\n"] {
        let address = [b"a@x", byte.as_slice()].concat();
        let mut wrong_sender = envelope(options());
        wrong_sender.set_sender(&address, &mut Vec::new());
        assert_eq!(wrong_sender.refusal, Some(Refusal::Address { kind: AddressKind::Sender }));
        let mut wrong_recipient = envelope(options());
        let mut out = Vec::new();
        wrong_recipient.add_recipient(&address, &mut out);
        assert_eq!(wrong_recipient.refusal, Some(Refusal::Address { kind: AddressKind::Recipient }));
        assert_eq!(out, b"");
    }
}

#[test]
fn addresses_can_request_smtputf8() {
    let autodetect = Options { smtputf8_autodetect: true, ..options() };
    let mut requested = envelope(autodetect);
    let mut out = Vec::new();
    requested.add_recipient("\u{e9}@x".as_bytes(), &mut out);
    assert!(requested.smtputf8_requested);
    assert!(out.windows(6).any(|window| window == b"utf-8;"));
    let mut silent = envelope(options());
    out.clear();
    silent.add_recipient("\u{e9}@x".as_bytes(), &mut out);
    silent.set_sender(b"\xe9@x", &mut Vec::new());
    assert!(!silent.smtputf8_requested && !silent.sender_is_utf8);
    assert!(out.windows(7).any(|window| window == b"rfc822;"));
}

/// Every address brings a copy with it, the one of `full@x` one that cannot be looked up.
#[derive(Debug)]
struct Copies(Maps);

impl Tables for Copies {
    fn has(&self, maps: Maps) -> bool {
        maps == self.0
    }

    fn find(&self, _: Maps, key: Key<'_>, _: &mut Vec<Notice>) -> Result<Option<Vec<u8>>, LookupFailed> {
        let (Key::Whole(key) | Key::Part(key)) = key;
        if key == b"full@x" { Err(LookupFailed) } else { Ok(Some(b"copy@x".to_vec())) }
    }

    fn is_listed(&self, _: Names, _: &[u8], _: &mut Vec<Notice>) -> Result<bool, LookupFailed> {
        Ok(false)
    }
}

#[test]
fn copies_are_for_those_who_have_an_address_where_addresses_are_mapped() {
    let written = |address_mapping, maps, sender: &[u8]| {
        let options = Options { address_mapping, ..options() };
        let mut envelope = Envelope::new(Arc::new(options), Arc::new(Copies(maps)), "ID".to_owned());
        let mut out = Vec::new();
        envelope.set_sender(sender, &mut out);
        let of_sender = envelope.written_count;
        assert_eq!(envelope.sender_recipient_bytes, out.len());
        envelope.add_recipient(b"r@x", &mut out);
        assert_eq!(envelope.recipient_bytes, out.len() as u64);
        (of_sender, envelope.written_count, envelope.refusal)
    };
    assert_eq!(written(true, Maps::SenderBcc, b"s@x"), (1, 2, None));
    assert_eq!(written(true, Maps::SenderBcc, b""), (0, 1, None));
    assert_eq!(written(false, Maps::SenderBcc, b"s@x"), (0, 1, None));
    assert_eq!(written(true, Maps::RecipientBcc, b"s@x"), (0, 2, None));
    assert_eq!(written(false, Maps::RecipientBcc, b"s@x"), (0, 1, None));
    assert_eq!(written(true, Maps::SenderBcc, b"full@x").2, Some(Refusal::Write));
}

#[test]
fn the_first_reason_counts_but_for_one_of_a_sender() {
    let (size, defer) = (Refusal::Size, Refusal::Defer { text: "4.6.0 later".to_owned() });
    for (first, second, kept) in [
        (Refusal::Write, &defer, &defer),
        (Refusal::Write, &size, &Refusal::Write),
        (Refusal::Size, &defer, &size),
        (Refusal::Hops, &size, &Refusal::Hops),
    ] {
        let mut envelope = envelope(options());
        envelope.refuse(first);
        envelope.refuse(second.clone());
        assert_eq!(envelope.refusal.as_ref(), Some(kept));
    }
}

#[test]
fn log_lines_name_the_envelope_as_it_is_written_in_a_message() {
    let names = |log_external_addresses, recipients: &[&[u8]]| {
        let mut envelope = envelope(Options { log_external_addresses, ..options() });
        envelope.set_sender(b"two words@x", &mut Vec::new());
        recipients.iter().for_each(|recipient| drop(envelope.add_recipient(recipient, &mut Vec::new())));
        let EnvelopeNames { sender, recipient } = envelope.names();
        (sender, recipient)
    };
    assert_eq!(names(true, &[]), ("\"two words\"@x".to_owned(), None));
    let last = Some("\"a b\"@x".to_owned());
    assert_eq!(names(true, &[b"r@x", b"a b@x"]), ("\"two words\"@x".to_owned(), last));
    assert_eq!(names(false, &[b"a b@x"]), ("two words@x".to_owned(), Some("a b@x".to_owned())));
    for log_external_addresses in [true, false] {
        assert_eq!(envelope(Options { log_external_addresses, ..options() }).logged(b""), "");
    }
}

/// Tables that know the difference between letters.
#[derive(Debug)]
struct Exact(&'static [(Maps, &'static str, &'static str)]);

impl Tables for Exact {
    fn has(&self, maps: Maps) -> bool {
        self.0.iter().any(|(of, ..)| *of == maps)
    }

    fn find(&self, maps: Maps, key: Key<'_>, _: &mut Vec<Notice>) -> Result<Option<Vec<u8>>, LookupFailed> {
        let (Key::Whole(key) | Key::Part(key)) = key;
        let found = self.0.iter().find(|(of, known, _)| *of == maps && known.as_bytes() == key);
        Ok(found.map(|(.., value)| value.as_bytes().to_vec()))
    }

    fn is_listed(&self, _: Names, _: &[u8], _: &mut Vec<Notice>) -> Result<bool, LookupFailed> {
        Ok(false)
    }
}

#[test]
fn recipients_are_the_same_only_with_the_same_history() {
    let written = |tables: &'static [(Maps, &str, &str)], recipients: &[&[u8]]| {
        let mut envelope = Envelope::new(Arc::new(options()), Arc::new(Exact(tables)), "ID".to_owned());
        recipients.iter().for_each(|recipient| drop(envelope.add_recipient(recipient, &mut Vec::new())));
        envelope.written_count
    };
    // Two results of one alias.
    assert_eq!(written(&[(Maps::VirtualAlias, "list@x", "a@x, b@x")], &[b"list@x"]), 2);
    // Two ways to one address.
    const WAYS: &[(Maps, &str, &str)] = &[
        (Maps::Canonical, "bob@x", "one@x"),
        (Maps::Canonical, "BOB@x", "two@x"),
        (Maps::VirtualAlias, "one@x", "final@x"),
        (Maps::VirtualAlias, "two@x", "final@x"),
    ];
    assert_eq!(written(WAYS, &[b"bob@x", b"BOB@x", b"bob@x"]), 2);
}

proptest! {
    #[test]
    fn every_recipient_is_written_once(recipients in prop::collection::vec("[ab]{1,3}@[xX]", 0..40)) {
        let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
        let mut folded: Vec<String> = recipients.iter().map(|recipient| recipient.to_lowercase()).collect();
        folded.sort();
        folded.dedup();
        let mut written: Vec<String> =
            left(options(), &recipients).iter().map(|recipient| recipient.to_lowercase()).collect();
        written.sort();
        prop_assert_eq!(written, folded);
    }
}
