mod details;

use postfix::queue_file::classic;
use proptest::prelude::*;

use super::*;
use crate::fixtures;
use crate::options::FixLineEndings;
use crate::refusal::AddressKind;
use crate::tables::{Key, LookupFailed, Maps, Names, NoTables};

fn options() -> Options {
    Options {
        myhostname: "mx.example.test".to_owned(),
        myorigin: "mx.example.test".to_owned(),
        mydomain: "example.test".to_owned(),
        ..Options::default()
    }
}

fn begin(options: Options) -> Message {
    Message::new(Arc::new(options), Arc::new(NoTables), fixtures::arrival(), fixtures::origin())
}

/// Tables in which everything fails but what begins with `good`, which is not found.
#[derive(Debug)]
struct Failing(Maps);

impl Tables for Failing {
    fn has(&self, maps: Maps) -> bool {
        maps == self.0
    }

    fn find(&self, _: Maps, key: Key<'_>, _: &mut Vec<Notice>) -> Result<Option<Vec<u8>>, LookupFailed> {
        let (Key::Whole(key) | Key::Part(key)) = key;
        if key.starts_with(b"good") || key.starts_with(b"@") { Ok(None) } else { Err(LookupFailed) }
    }

    fn is_listed(&self, _: Names, _: &[u8], _: &mut Vec<Notice>) -> Result<bool, LookupFailed> {
        Ok(false)
    }
}

#[test]
fn nothing_is_said_of_what_comes_behind_a_failed_lookup() {
    let received = |maps, content: &[u8], recipients: &[&str]| {
        let tables = Arc::new(Failing(maps));
        let message = Message::new(Arc::new(options()), tables, fixtures::arrival(), fixtures::origin());
        receive(message, &[content], "good@x", recipients)
    };
    let end = "map lookup problem for bad@x -- message not accepted, try again later";
    // The envelope is first in Postfix, so that the content has not been looked at.
    let (file, log) = received(Maps::VirtualAlias, HELLO, &["good@y", "bad@x", "bad@y"]);
    assert_eq!(file, Err("queue file write error".to_owned()));
    assert_eq!(log, [format!("warning: 23A5D9AA1F6: virtual_alias_maps {end}")]);
    let (file, log) = received(Maps::SenderCanonical, b"From: good@x, bad@x\nMessage-Id: <x>\n\n", &["r@x"]);
    assert_eq!(file, Err("queue file write error".to_owned()));
    assert_eq!(log, [format!("warning: 23A5D9AA1F6: sender_canonical_maps {end}")]);
    let (file, _) = received(Maps::RecipientBcc, HELLO, &["good@x"]);
    assert!(file.is_ok());
}

/// The queue file, or the words of the refusal; and the log.
fn receive(
    mut message: Message,
    pieces: &[&[u8]],
    sender: &str,
    recipients: &[&str],
) -> (Result<Vec<u8>, String>, Vec<String>) {
    let (mut content, mut envelope) = (Vec::new(), Vec::new());
    for piece in pieces {
        message.content_bytes(piece, &mut content);
    }
    message.end_of_content(&mut content);
    message.sender(sender.as_bytes(), &mut envelope);
    for recipient in recipients {
        message.recipient(recipient.as_bytes(), &mut envelope);
    }
    let outcome = message.finish();
    let log = outcome.notices.iter().map(|notice| format!("{}{}", notice.severity.prefix(), notice.text));
    let file = outcome.result.map_err(|refusal| refusal.to_string()).map(|finished| {
        let mut file = Vec::new();
        classic(&finished.parts(&envelope, &content), &mut file).unwrap();
        file
    });
    (file, log.collect())
}

fn shown(file: &[u8]) -> Vec<String> {
    let mut rest = file;
    let mut records = Vec::new();
    while let [kind, behind @ ..] = rest {
        let (mut len, mut bytes) = (0, 0);
        while behind[bytes] >= 0x80 {
            len |= usize::from(behind[bytes] & 0x7f) << (7 * bytes);
            bytes += 1;
        }
        len |= usize::from(behind[bytes]) << (7 * bytes);
        let (data, after) = behind[bytes + 1..].split_at(len);
        records.push(format!("{} {}", char::from(*kind), data.escape_ascii()));
        rest = after;
    }
    records
}

const HELLO: &[u8] = b"Subject: hi\n\nhello\n";

/// The file that Postfix 3.7 made of this message; it has 822 bytes.
const HELLO_FILE: [&str; 27] = [
    "C             323             495               1               0             323               0",
    "T 1795386300 145704",
    "A create_time=1795386300",
    "S alice@sender.example",
    "A log_client_name=localhost",
    "A log_client_address=127.0.0.1",
    "A log_client_port=44544",
    "A log_message_origin=localhost[127.0.0.1]",
    "A log_protocol_name=QMQP",
    "A client_name=localhost",
    "A client_address=127.0.0.1",
    "A client_port=44544",
    "A client_address_type=2",
    "A protocol_name=QMQP",
    "A dsn_orig_rcpt=rfc822;bob@rcpt.example",
    "O bob@rcpt.example",
    "R bob@rcpt.example",
    "M ",
    "N Received: from localhost (localhost [127.0.0.1])",
    "N \\tby mx.example.test (Postfix) with QMQP id 23A5D9AA1F6",
    "N \\tfor <bob@rcpt.example>; Sun, 22 Nov 2026 22:25:00 +0000 (UTC)",
    "N Subject: hi",
    "N Message-Id: <20261122222500.23A5D9AA1F6@mx.example.test>",
    "N Date: Sun, 22 Nov 2026 22:25:00 +0000 (UTC)",
    "N From: alice@sender.example",
    "N ",
    "N hello",
];

fn hello(options: Options) -> Vec<String> {
    let (file, _) = receive(begin(options), &[HELLO], "alice@sender.example", &["bob@rcpt.example"]);
    shown(&file.unwrap())
}

#[test]
fn a_plain_message() {
    let (file, log) = receive(begin(options()), &[HELLO], "alice@sender.example", &["bob@rcpt.example"]);
    let file = file.unwrap();
    assert_eq!(file.len(), 822);
    let mut expected = HELLO_FILE.map(str::to_owned).to_vec();
    expected.extend(["X ".to_owned(), "E ".to_owned()]);
    assert_eq!(shown(&file), expected);
    assert_eq!(log, ["23A5D9AA1F6: message-id=<20261122222500.23A5D9AA1F6@mx.example.test>"]);
}

#[test]
fn settings_add_records() {
    // Files of Postfix 3.7, as far as they differ from the one above.
    let records = hello(Options { always_bcc: "archive@log.example".to_owned(), ..options() });
    assert_eq!(records[0], HELLO_FILE[0].replace("              1 ", "              2 "));
    assert_eq!(
        records[27..],
        ["X ", "A notify_flags=1", "O archive@log.example", "R archive@log.example", "E "]
    );

    let records = hello(Options { content_filter: "smtp:[127.0.0.1]:10025".to_owned(), ..options() });
    assert_eq!(records[0], HELLO_FILE[0].replace("495", "519"));
    assert_eq!(records[2..5], [HELLO_FILE[2], "L smtp:[127.0.0.1]:10025", HELLO_FILE[3]]);

    let records = hello(Options { delay_warning_time_seconds: 14_400, ..options() });
    assert_eq!(records[13..15], [HELLO_FILE[13], "W      1795400700"]);

    let records = hello(Options { long_queue_ids: true, ..options() });
    assert_eq!(records[22], "N Message-Id: <23A5D9AA1F6@mx.example.test>");
}

#[test]
fn variable_return_paths() {
    let (file, _) = receive(begin(options()), &[HELLO], "list-@sender.example-@[]", &["bob@rcpt.example"]);
    let file = file.unwrap();
    assert_eq!(file.len(), 824);
    let records = shown(&file);
    assert_eq!(records[3..5], ["S list@sender.example", "V -="]);
    assert_eq!(records[25], "N From: list@sender.example");
}

#[test]
fn only_a_single_recipient_is_named() {
    let (file, _) = receive(begin(options()), &[HELLO], "alice@sender.example", &["bob@x", "BOB@x"]);
    let records = shown(&file.unwrap());
    assert_eq!(
        records[19..21],
        [
            "N \\tby mx.example.test (Postfix) with QMQP",
            "N \\tid 23A5D9AA1F6; Sun, 22 Nov 2026 22:25:00 +0000 (UTC)"
        ]
    );
    let (file, _) = receive(begin(options()), &[HELLO], "alice@sender.example", &[""]);
    assert!(shown(&file.unwrap())[20].starts_with("N \\tfor <\\\"\\\">; "));
}

#[test]
fn ipv6_addresses_have_a_prefix_where_mail_standards_want_it() {
    let mut message = begin(options());
    message.origin.client_address = "::1".to_owned();
    message.origin.address_family = 10;
    let records = shown(&receive(message, &[HELLO], "", &["bob@x"]).0.unwrap());
    assert_eq!(records[5], "A log_client_address=IPv6:::1");
    assert_eq!(records[10], "A client_address=::1");
    assert!(records[18].ends_with("[IPv6:::1])"));
}

/// The content of the queue file, without our Received: header.
fn content(options: Options, message: &[u8]) -> (Vec<String>, Vec<String>) {
    let (file, log) = receive(begin(options), &[message], "alice@sender.example", &["bob@rcpt.example"]);
    let records = shown(&file.unwrap());
    let start = records.iter().position(|record| record.starts_with("N \\tfor")).unwrap() + 1;
    let end = records.iter().rposition(|record| record == "X ").unwrap();
    (records[start..end].to_vec(), log)
}

const COMPLETE: &str = "Message-Id: <a@b>\nDate: x\nFrom: a@b\n";

#[test]
fn complete_headers_are_left_alone() {
    let (records, log) = content(options(), format!("{COMPLETE}Reply-To:   a@b\n\nbody").as_bytes());
    assert_eq!(
        records,
        ["N Message-Id: <a@b>", "N Date: x", "N From: a@b", "N Reply-To:   a@b", "N ", "L body", "N "]
    );
    assert_eq!(log, ["23A5D9AA1F6: message-id=<a@b>"]);
}

#[test]
fn some_headers_are_dropped() {
    let message = format!("{COMPLETE}Bcc: x\nReturn-Path: <y>\nContent-Length: 3\nX-A: b\n");
    assert_eq!(content(options(), message.as_bytes()).0[3..], ["N X-A: b"]);
    let none = Options { message_drop_headers: vec!["X-a".to_owned()], ..options() };
    let kept = ["N Bcc: x@mx.example.test", "N Return-Path: <y@mx.example.test>", "N Content-Length: 3"];
    assert_eq!(content(none, message.as_bytes()).0[3..], kept);
}

#[test]
fn resent_messages_get_resent_headers() {
    // Even a dropped header makes a message a resent one.
    let (records, log) = content(options(), format!("{COMPLETE}Resent-Bcc: x\n\n").as_bytes());
    assert_eq!(
        records[3..],
        [
            "N Resent-Message-Id: <20261122222500.23A5D9AA1F6@mx.example.test>",
            "N Resent-Date: Sun, 22 Nov 2026 22:25:00 +0000 (UTC)",
            "N Resent-From: alice@sender.example",
            "N "
        ]
    );
    assert_eq!(
        log,
        [
            "23A5D9AA1F6: message-id=<a@b>",
            "23A5D9AA1F6: resent-message-id=<20261122222500.23A5D9AA1F6@mx.example.test>"
        ]
    );
    let (_, log) = content(options(), b"Resent-Message-Id:  x\ty\n");
    assert_eq!(log, ["23A5D9AA1F6: resent-message-id=x?y", "23A5D9AA1F6: message-id=<>"]);
}

#[test]
fn undisclosed_recipients() {
    let text = "To: undisclosed-recipients:;".to_owned();
    let undisclosed = Options { undisclosed_recipients_header: text, ..options() };
    assert_eq!(content(undisclosed.clone(), COMPLETE.as_bytes()).0[3..], ["N To: undisclosed-recipients:;"]);
    let visible = format!("{COMPLETE}Cc: a@b\n");
    assert_eq!(content(undisclosed, visible.as_bytes()).0[3..], ["N Cc: a@b"]);
    let bad = Options { undisclosed_recipients_header: "nonsense".to_owned(), ..options() };
    assert_eq!(
        content(bad, COMPLETE.as_bytes()).1[1],
        "warning: bad undisclosed_recipients_header header text \"nonsense\" -- need \"headername: headervalue\""
    );
}

#[test]
fn crlf_messages() {
    let message = b"Message-Id: <a@b>\r\nDate: x\r\nFrom: a@b\r\n\r\nbody\rx\r\n";
    assert_eq!(content(options(), message).0[3..], ["N ", "N body x"]);
    // Postfix does not see the empty line.
    let never = Options { fix_line_endings: FixLineEndings::Never, ..options() };
    assert_eq!(content(never, message).0[2..], ["N From: a@b ", "N  ", "N ", "N body x "]);
}

#[test]
fn long_header_lines_are_split_again() {
    let (records, _) = content(options(), format!("{COMPLETE}X-A: {}\n\n", "b".repeat(3000)).as_bytes());
    assert_eq!(records[3], format!("L X-A: {}", "b".repeat(2043)));
    assert_eq!(records[4], format!("N {}", "b".repeat(957)));
}

#[test]
fn eight_bit_encodings_are_noted() {
    for (encoding, noted) in [("8bit", true), (" BINARY", true), (" 8bit ", false), ("7bit", false)] {
        let message = format!("Content-Transfer-Encoding:{encoding}\n\n");
        let (file, _) = receive(begin(options()), &[message.as_bytes()], "", &["bob@x"]);
        let records = shown(&file.unwrap());
        assert_eq!(records.iter().any(|record| record == "A encoding=8bit"), noted, "{encoding}");
    }
}

#[test]
fn send_options() {
    let receive_options = |options: Options, content: &str, sender: &[u8], recipient: &str| {
        let mut message = begin(options);
        let mut out = Vec::new();
        message.content_bytes(content.as_bytes(), &mut out);
        message.end_of_content(&mut out);
        message.sender(sender, &mut out);
        message.recipient(recipient.as_bytes(), &mut out);
        message.finish().result.unwrap().counts.send_options
    };
    let autodetect = Options { smtputf8_autodetect: true, ..options() };
    let off = Options { smtputf8_enable: false, ..options() };
    let with_from = |header: &str| format!("From: a@b\n{header}\n\n\u{e9}");
    assert_eq!(receive_options(options(), &with_from("A: b"), b"a@b", "a@b"), 0);
    assert_eq!(receive_options(options(), &with_from("A: \u{e9}"), b"a@b", "a@b"), 2);
    assert_eq!(receive_options(options(), &with_from("A: b"), "\u{e9}@b".as_bytes(), "a@b"), 4);
    assert_eq!(receive_options(options(), &with_from("A: b"), b"\xe9@b", "a@b"), 0);
    // The recipient stands in our Received: header.
    assert_eq!(receive_options(options(), &with_from("A: b"), b"a@b", "\u{e9}@b"), 2);
    // A From: header of ours does not count.
    assert_eq!(receive_options(options(), "A: b\n\n", "\u{e9}@b".as_bytes(), "a@b"), 4);
    assert_eq!(receive_options(autodetect, &with_from("A: \u{e9}"), b"a@b", "a@b"), 3);
    assert_eq!(receive_options(off, &with_from("A: \u{e9}"), "\u{e9}@b".as_bytes(), "\u{e9}@b"), 0);
}

fn refused(options: Options, content: &str, sender: &str, recipients: &[&str]) -> (String, Vec<String>) {
    let (file, log) = receive(begin(options), &[content.as_bytes()], sender, recipients);
    (file.unwrap_err(), log)
}

#[test]
fn hops_are_counted() {
    // 48 hops pass, 49 do not: ours counts.
    let hops = |count| format!("{}\n", "Received: x\n".repeat(count));
    let (file, _) = receive(begin(options()), &[hops(48).as_bytes()], "", &["bob@x"]);
    assert!(file.is_ok());
    let (refusal, log) = refused(options(), &hops(49), "", &["bob@x"]);
    assert_eq!(refusal, "too many hops");
    assert_eq!(log, ["warning: 23A5D9AA1F6: message rejected: hopcount exceeded"]);
}

#[test]
fn the_size_limit_counts_the_whole_file() {
    let limit = |message_size_limit| Options { message_size_limit, ..options() };
    assert_eq!(hello(limit(822)), hello(options()));
    let (refusal, log) =
        refused(limit(821), "Subject: hi\n\nhello\n", "alice@sender.example", &["bob@rcpt.example"]);
    assert_eq!(refusal, "message too large");
    assert_eq!(
        log[log.len() - 2..],
        ["warning: 23A5D9AA1F6: queue file size limit exceeded", "warning: mail_stream_cleanup: close error"]
    );
    assert_eq!(hello(limit(0)), hello(options()));
}

/// Observed on Postfix 3.7, which writes the envelope first, in blocks of 4096 bytes.
#[test]
fn content_behind_an_envelope_that_is_too_large_is_not_looked_at() {
    let options = Options { message_size_limit: 5000, ..options() };
    let log = |recipients: usize| {
        let recipients: Vec<String> = (0..recipients).map(|number| format!("user{number}@x")).collect();
        let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
        let (refusal, log) = refused(options.clone(), "Message-Id: <a@b>\n\nx\n", "s@x", &recipients);
        assert_eq!(refusal, "message too large");
        log
    };
    assert!(log(100)[0].contains("message-id=<a@b>"));
    assert!(log(200)[0].contains("queue file size limit exceeded"));
}

#[test]
fn the_gravest_reason_is_given() {
    let small = Options { message_size_limit: 10, hopcount_limit: 1, ..options() };
    assert_eq!(refused(options(), "", "", &[]).0, "no recipients specified");
    assert_eq!(refused(Options { hopcount_limit: 1, ..options() }, "", "", &[]).0, "too many hops");
    assert_eq!(refused(small.clone(), "", "", &[]).0, "message too large");
    let (refusal, log) = refused(small.clone(), "", "list@host-@[]", &[]);
    assert_eq!(refusal, "Invalid VERP delimiters: \"t=\". Need two characters from \"-=+\"");
    assert_eq!(log, [""; 0]);
    assert_eq!(refused(small, "", "", &["a\0b"]).0, "recipient address contains a NUL, CR or LF character");
}

#[test]
fn a_refusal_is_known_early() {
    let mut message = begin(Options { message_size_limit: 100, ..options() });
    let mut out = Vec::new();
    message.content_bytes(&[b'x'; 200], &mut out);
    assert_eq!(message.refusal_so_far(), None);
    message.content_bytes(b"\n", &mut out);
    assert_eq!(message.refusal_so_far(), Some(Refusal::Size));
    message.sender(b"a\n", &mut out);
    assert_eq!(message.refusal_so_far(), Some(Refusal::Address { kind: AddressKind::Sender }));
}

#[test]
fn nothing_is_written_once_there_are_too_many_hops() {
    let mut message = begin(Options { hopcount_limit: 2, ..options() });
    let mut out = Vec::new();
    message.content_bytes(b"Received: x\nA: b\n", &mut out);
    assert_eq!(message.refusal_so_far(), Some(Refusal::Hops));
    message.content_bytes(b"\nbody\n", &mut out);
    message.end_of_content(&mut out);
    assert_eq!(out, b"");
}

fn soup() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "\n",
        "\n",
        "\n",
        "\r\n",
        " ",
        "\t",
        "\0",
        "From ",
        "From: ",
        "To: a",
        ", b",
        "Received: x",
        "Subject",
        ":",
        "Resent-To: x",
        "Content-Type: multipart/mixed; boundary=b",
        "Content-Type: message/rfc822",
        "--b",
        "--",
        "text",
        "\u{e9}",
        "xxxxxxxxxxxxxxxx",
        "Content-Transfer-Encoding: 8bit",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn the_file_does_not_depend_on_the_split(
        content in soup(),
        cuts in prop::collection::vec(0_usize..30, 0..8),
        line_length_limit in 5_usize..30,
        header_size_limit in 1_usize..200,
    ) {
        let options = Options { line_length_limit, header_size_limit, ..options() };
        let mut pieces = Vec::new();
        let mut rest = content.as_slice();
        for cut in cuts {
            let (piece, behind) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        pieces.push(rest);
        let whole = receive(begin(options.clone()), &[&content], "a@b", &["c"]);
        prop_assert_eq!(receive(begin(options), &pieces, "a@b", &["c"]), whole);
    }

    #[test]
    fn any_bytes_make_a_file_of_bounded_records(
        content in prop::collection::vec(any::<u8>(), 0..400),
        sender in "[^\\x00\r\n]{0,20}",
        recipient in "[^\\x00\r\n]{0,20}",
        line_length_limit in 40_usize..80,
    ) {
        prop_assume!(!sender.ends_with("-@[]"));
        let options = Options { line_length_limit, ..options() };
        let (file, _) = receive(begin(options), &[&content], &sender, &[&recipient]);
        let records = shown(&file.unwrap());
        let content = records.iter().skip_while(|record| *record != "M ").take_while(|record| *record != "X ");
        for record in content {
            let escapes = record.matches('\\').count();
            prop_assert!(record.len() <= 2 + line_length_limit + 3 * escapes, "{}", record);
        }
    }

    #[test]
    fn line_ends_do_not_matter(content in soup()) {
        let text = content.iter().filter(|&&byte| byte != b'\r').copied().collect::<Vec<u8>>();
        let text = String::from_utf8(text).unwrap() + "\n";
        let crlf = text.replace('\n', "\r\n");
        let file = |text: &str| receive(begin(options()), &[text.as_bytes()], "a@b", &["c"]);
        prop_assert_eq!(file(&crlf), file(&text));
    }

    #[test]
    fn the_limit_is_exact(content in soup(), sender in "[a-z@]{0,8}", recipients in prop::collection::vec("[a-c]{1,2}", 1..4)) {
        let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
        let size = receive(begin(options()), &[&content], &sender, &recipients).0.unwrap().len() as u64;
        for (limit, accepted) in [(size, true), (size - 1, false)] {
            let options = Options { message_size_limit: limit, ..options() };
            let (file, _) = receive(begin(options), &[&content], &sender, &recipients);
            prop_assert_eq!(file.is_ok(), accepted);
        }
    }

    #[test]
    fn a_body_of_lines_is_kept(lines in prop::collection::vec("[ -~]{0,100}", 0..20)) {
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let (records, _) = content(options(), format!("{COMPLETE}\n{body}").as_bytes());
        let expected: Vec<String> = lines.iter().map(|line| format!("N {}", line.escape_default())).collect();
        prop_assert_eq!(&records[4..], expected);
    }
}
