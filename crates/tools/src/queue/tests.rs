//! Both commands on a queue that was written for the purpose.

use super::*;
use clap::Parser;
use postfix::queue_file::{
    Counts, EXTRACTED_RECORD, FRONT_BYTES, Late, Parts, SenderCopies, Streamed, classic, encode_pointer,
};
use postfix::record::{RecordType, encode};
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

/// What a command prints, and whether it found everything readable.
fn output(root: &Path, arguments: &[&str]) -> (String, bool) {
    let (command, rest) = arguments.split_first().unwrap();
    let root = root.to_str().unwrap();
    let line = [&["queue", command, "-d", root], rest].concat();
    let mut out = Vec::new();
    let complete = match Cli::try_parse_from(line).unwrap().args.command {
        Command::List(args) => list::run(&args, &mut out),
        Command::Show(args) => show::run(&args, &mut out),
        _ => panic!("{arguments:?}"),
    };
    (String::from_utf8(out).unwrap(), complete.unwrap())
}

fn records(list: &[(u8, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, data) in list {
        encode(&mut out, RecordType(*kind), data);
    }
    out
}

/// The same message in both layouts, and a damaged one.
struct Spool {
    root: tempfile::TempDir,
}

impl Spool {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for queue in spool::Queue::ALL {
            fs::create_dir(root.path().join(queue.name())).unwrap();
        }
        let spool = Self { root };
        let envelope = records(&[
            (b'T', b"1795386300 145704"),
            (b'A', b"create_time=1795386300"),
            (b'S', b"alice\x1b[2J@sender.example"),
            (b'A', b"client_name=localhost"),
            (b'W', b"     1795401492"),
        ]);
        let recipients = records(&[
            (b'A', b"dsn_orig_rcpt=rfc822;bob@rcpt.example"),
            (b'O', b"bob@rcpt.example"),
            (b'R', b"bob@rcpt.example"),
            (b'D', b"carol@rcpt.example"),
        ]);
        let received = records(&[(b'N', b"Received: from localhost"), (b'N', b"\tid 7B3099AA1F6")]);
        let mut content = records(&[(b'N', b"Subject: hi")]);
        let slot = content.len() as u64;
        encode_pointer(&mut content, 0);
        content.extend(records(&[
            (b'N', b""),
            (b'L', b"a \xc3"),
            (b'N', b"\xa9\xff"),
            (b'L', b"no newline"),
        ]));
        let from = records(&[(b'N', b"From: alice@sender.example")]);
        let counts = Counts { recipients: 1, ..Counts::default() };
        let mut file = Vec::new();
        let parts = Parts {
            envelope: &envelope,
            recipients: &recipients,
            sender_copies: SenderCopies::default(),
            received: &received,
            content: &content,
            from: Some((slot, &from)),
            extracted: &[],
            counts,
        };
        classic(&parts, &mut file).unwrap();
        spool.put("deferred/7/7B3099AA1F6", &file, 0o700);
        spool.put("corrupt/BAD001", &file[..file.len() - 2], 0o400);
        spool.put("incoming/UNFINISHED", &file, 0o600);

        let streamed = spool.put("incoming/AAAAA1", b"", 0o700);
        let layout = Streamed {
            front_bytes: FRONT_BYTES,
            content_bytes: content.len() as u64,
            recipients_bytes: recipients.len() as u64,
        };
        streamed.write_all_at(&content, FRONT_BYTES).unwrap();
        streamed.write_all_at(&EXTRACTED_RECORD, layout.extracted_offset()).unwrap();
        streamed.write_all_at(&recipients, layout.extracted_offset() + 2).unwrap();
        let later = String::from_utf8_lossy(&envelope).replace("1795386300 145704", "1795386301 145704");
        let late = Late {
            envelope: later.as_bytes(),
            received: &received,
            from: parts.from,
            extracted: &[],
            counts,
        };
        for write in layout.finish(&late).unwrap() {
            streamed.write_all_at(&write.bytes, write.offset).unwrap();
        }
        spool
    }

    fn put(&self, path: &str, bytes: &[u8], mode: u32) -> fs::File {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        fs::OpenOptions::new()
            .write(true)
            .read(true)
            .open(&path)
            .unwrap_or_else(|_| fs::File::open(&path).unwrap())
    }

    fn path(&self) -> &Path {
        self.root.path()
    }
}

#[test]
fn list_shows_the_oldest_first_and_what_is_damaged() {
    let spool = Spool::new();
    let (text, complete) = output(spool.path(), &["list", "--sort", "arrival"]);
    assert!(complete);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert!(lines[0].starts_with("QUEUE     ID"), "{text}");
    assert!(lines[1].starts_with("deferred  7B3099AA1F6") && !lines[1].contains("damaged"), "{text}");
    assert!(lines[2].starts_with("corrupt   BAD001"), "{text}");
    assert!(lines[2].ends_with("(damaged: missing end record)"), "{text}");
    assert!(lines[3].starts_with("incoming  AAAAA1"), "{text}");
    assert!(lines[3].ends_with("       1  <alice\\x1b[2J@sender.example> → <bob@rcpt.example>"), "{text}");
    assert!(lines[4].starts_with("3 messages, 3 recipients left, "), "{text}");
    let (text, _) = output(spool.path(), &["list", "--queue", "hold,active"]);
    assert_eq!(text, format!("no messages in {}\n", spool.path().display()));
}

#[test]
fn list_speaks_the_json_of_postqueue() {
    let spool = Spool::new();
    let (text, _) = output(spool.path(), &["list", "--json", "--queue=incoming"]);
    // On one line with blanks, as postqueue(1) writes it, and with no byte that a terminal obeys.
    let start = r#"{"queue_name": "incoming", "queue_id": "AAAAA1", "arrival_time": 1795386301, "message_size": 107, "#;
    assert!(text.starts_with(start), "{text}");
    let end = r#""sender": "alice\u001b[2J@sender.example", "recipients_left": 1, "recipients": [{"address": "bob@rcpt.example"}]}"#;
    assert_eq!(text.split_once(r#""forced_expire": false, "#).unwrap().1, format!("{end}\n"));
    let message: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        message,
        serde_json::json!({
            "queue_name": "incoming", "queue_id": "AAAAA1", "arrival_time": 1_795_386_301, "message_size": 107,
            "forced_expire": false, "sender": "alice\u{1b}[2J@sender.example", "recipients_left": 1,
            "recipients": [{"address": "bob@rcpt.example"}]
        })
    );
}

#[test]
fn show_prints_what_postcat_prints() {
    let spool = Spool::new();
    let mut out = Vec::new();
    let directory = directory::Directory::open(spool.path()).unwrap();
    let id = "7B3099AA1F6".parse().unwrap();
    let (file, entry) = directory.open_message(&id).unwrap().unwrap();
    let selection = postcat::Selection { envelope: true, headers: true, body: true };
    let (label, zone) = (entry.path.as_str(), jiff::tz::TimeZone::UTC);
    postcat::Postcat { label, selection, raw: true, to_terminal: false, zone: &zone, out: &mut out }
        .print(&file)
        .unwrap();
    // Made with postcat(1) of Postfix 3.7.11 from this file.
    let expected = b"*** ENVELOPE RECORDS deferred/7/7B3099AA1F6 ***
message_size:             107             303               1               0             107               0
message_arrival_time: Sun Nov 22 22:25:00 2026
create_time: Sun Nov 22 22:25:00 2026
sender: alice\x1b[2J@sender.example
named_attribute: client_name=localhost
warning_message_time: Mon Nov 23 02:38:12 2026
named_attribute: dsn_orig_rcpt=rfc822;bob@rcpt.example
original_recipient: bob@rcpt.example
recipient: bob@rcpt.example
done_recipient: carol@rcpt.example
*** MESSAGE CONTENTS deferred/7/7B3099AA1F6 ***
Received: from localhost
\tid 7B3099AA1F6
Subject: hi
From: alice@sender.example

a \xc3\xa9\xff
no newline
*** HEADER EXTRACTED deferred/7/7B3099AA1F6 ***
*** MESSAGE FILE END deferred/7/7B3099AA1F6 ***
";
    assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(expected));
    assert_eq!(out, expected);
}

#[test]
fn show_selects_and_escapes() {
    let spool = Spool::new();
    for id in ["7B3099AA1F6", "AAAAA1"] {
        let (text, _) = output(spool.path(), &["show", "--headers", id]);
        assert_eq!(
            text,
            "Received: from localhost\n\tid 7B3099AA1F6\nSubject: hi\nFrom: alice@sender.example\n"
        );
        let (text, _) = output(spool.path(), &["show", "--envelope", id]);
        assert!(text.contains("\nsender: alice\\x1b[2J@sender.example\n"), "{text}");
        assert!(!text.contains("Subject"), "{text}");
        assert!(text.ends_with("***\n"), "{text}");
    }
}

#[test]
fn show_tells_what_is_missing_and_goes_on() {
    let spool = Spool::new();
    let (text, complete) = output(spool.path(), &["show", "--headers", "GONE1", "../x", "BAD001", "AAAAA1"]);
    assert!(!complete);
    assert_eq!(text.matches("Subject: hi").count(), 2, "{text}");
}

#[test]
fn show_has_json_for_both_layouts() {
    let spool = Spool::new();
    let mut messages = Vec::new();
    for id in ["7B3099AA1F6", "AAAAA1"] {
        let (text, complete) = output(spool.path(), &["show", "--json", id]);
        assert!(complete);
        let message: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(message["body"], "\na é\u{fffd}\nno newline");
        assert_eq!(
            message["headers"],
            serde_json::json!([
                "Received: from localhost\n\tid 7B3099AA1F6",
                "Subject: hi",
                "From: alice@sender.example"
            ])
        );
        assert_eq!(message["recipients"][0]["dsn_original"], "rfc822;bob@rcpt.example");
        assert_eq!(message["recipients"][1]["state"], "done");
        messages.push(message);
        let headers = r#""headers": ["Received: from localhost\n\tid 7B3099AA1F6", "Subject: hi", "From: alice@sender.example"], "#;
        assert!(text.contains(headers), "{text}");
        assert!(text.contains(r#""body": "\na é�\nno newline", "data_size": "#), "{text}");
        assert!(
            text.contains(r#""attributes": [{"name": "client_name", "value": "localhost"}], "#),
            "{text}"
        );
        let done = r#"{"address": "carol@rcpt.example", "state": "done", "offset": "#;
        assert!(text.contains(done), "{text}");
    }
    assert_eq!(messages[0]["message_size"], messages[1]["message_size"]);
    let (text, complete) = output(spool.path(), &["show", "--json", "--body", "BAD001"]);
    assert!(!complete);
    let message: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(message["damaged"], "missing end record");
    assert_eq!(message.get("headers"), None);
}

/// A queue file with these records as its content.
fn file_with(content: &[u8]) -> Vec<u8> {
    let mut file = records(&[(b'T', b"1795386300"), (b'S', b"a@b.test"), (b'R', b"c@d.test"), (b'M', b"")]);
    file.extend_from_slice(content);
    file.extend(records(&[(b'X', b""), (b'E', b"")]));
    file
}

#[test]
fn a_header_in_very_many_pieces_is_one_header_and_costs_a_linear_time() {
    let time = |pieces: usize| {
        let spool = Spool::new();
        let mut content = records(&[(b'L', b"X-Long: \xc3")]);
        for _ in 0..pieces {
            encode(&mut content, RecordType::PARTIAL, b"\xa9\xc3");
        }
        content.extend(records(&[(b'N', b"\xa9"), (b'N', b" folded"), (b'N', b""), (b'N', b"body")]));
        spool.put("incoming/BBBBB1", &file_with(&content), 0o700);
        let began = std::time::Instant::now();
        let (text, complete) = output(spool.root.path(), &["show", "--json", "BBBBB1"]);
        let took = began.elapsed();
        assert!(complete);
        let message: serde_json::Value = serde_json::from_str(&text).unwrap();
        let header = message["headers"][0].as_str().unwrap();
        assert_eq!(message["headers"].as_array().unwrap().len(), 1);
        assert_eq!(header, format!("X-Long: {}\n folded", "\u{e9}".repeat(pieces + 1)));
        assert_eq!(message["body"], "\nbody\n");
        took
    };
    // Quadratic, the larger one would take sixty-four times as long.
    let (small, large) = (time(100_000), time(800_000));
    assert!(large < small * 24, "{small:?} for 100,000 pieces, {large:?} for 800,000");
}

#[test]
fn a_hole_in_a_file_is_damage_and_not_a_record_without_end() {
    let spool = Spool::new();
    for (id, content) in [("CCCCC1", &b"N\x04text"[..]), ("CCCCC2", b"")] {
        let file = spool.put(&format!("incoming/{id}"), &file_with(content), 0o700);
        let whole = file.metadata().unwrap().len();
        // Before the end record, in more pieces than a reader would wait for.
        file.set_len(whole - 4).unwrap();
        file.set_len(1 << 40).unwrap();
        for arguments in [&["show", id][..], &["show", "--json", id], &["show", "--body", id], &["list"]] {
            let (text, complete) = output(spool.root.path(), arguments);
            assert!(!complete || arguments == ["list"], "{arguments:?}: {text}");
        }
    }
}

#[test]
fn a_terminal_is_not_commanded_by_headers_and_body() {
    let content = records(&[
        (b'N', b"Subject: \x1b]0;x\x07\xe2\x80\xaehi"),
        (b'N', b""),
        (b'N', b"\x1b[2J\ttab \\ \xc2\x9b"),
    ]);
    let file = file_with(&content);
    let shown = |raw: bool, to_terminal: bool| {
        let mut out = Vec::new();
        let selection = postcat::Selection { envelope: false, headers: true, body: true };
        let zone = jiff::tz::TimeZone::UTC;
        postcat::Postcat { label: "x", selection, raw, to_terminal, zone: &zone, out: &mut out }
            .print(&file[..])
            .unwrap();
        out
    };
    let plain = b"Subject: \x1b]0;x\x07\xe2\x80\xaehi\n\n\x1b[2J\ttab \\ \xc2\x9b\n";
    assert_eq!(shown(false, false), plain);
    assert_eq!(shown(true, true), plain);
    let safe = "Subject: \\x1b]0;x\\x07\\xe2\\x80\\xaehi\n\n\\x1b[2J\ttab \\ \\xc2\\x9b\n";
    assert_eq!(String::from_utf8(shown(false, true)).unwrap(), safe);
}
