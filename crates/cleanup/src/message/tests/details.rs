//! Where a message is no longer looked at, and what is said of it then.

use super::*;

/// The content records of a message whose content comes in one piece.
fn written(options: Options, content: &[u8]) -> Vec<u8> {
    let mut message = begin(options);
    let mut out = Vec::new();
    message.content_bytes(content, &mut out);
    out
}

#[test]
fn a_cr_inside_a_line_is_a_blank_unless_it_may_stay() {
    let content_of = |replace_stray_cr_lf| {
        let options = Options { replace_stray_cr_lf, ..options() };
        content(options, format!("{COMPLETE}\na\rb\nc\n").as_bytes()).0.split_off(4)
    };
    assert_eq!(content_of(true), ["N a b", "N c"]);
    assert_eq!(content_of(false), ["N a\\rb", "N c"]);
    let header = |replace_stray_cr_lf| {
        let options = Options { replace_stray_cr_lf, ..options() };
        content(options, format!("{COMPLETE}X: a\rb\n\n").as_bytes()).0.split_off(3)
    };
    assert_eq!(header(true), ["N X: a b", "N "]);
    assert_eq!(header(false), ["N X: a\\rb", "N "]);
}

#[test]
fn what_is_far_too_large_is_not_written() {
    for len in [0, 1, 2, 3, 5, 100] {
        let line = format!("{}\n", "x".repeat(len));
        let body = line.repeat(20_000 / line.len());
        for body in [body.clone(), body.replace('\n', "\r\n")] {
            let options = Options { message_size_limit: 1000, ..options() };
            let out = written(options, format!("{COMPLETE}\n{body}").as_bytes());
            // One record more: its CR became a blank.
            assert!(out.len() <= 1000 + 4096 + 2 + len + 1, "{} bytes of lines of {len}", out.len());
        }
    }
}

#[test]
fn what_is_far_too_large_is_written_up_to_a_block() {
    let limit = |message_size_limit| Options { message_size_limit, ..options() };
    let prefix = format!("{COMPLETE}\n{}", "line\n".repeat(2000));
    let len = written(limit(0), prefix.as_bytes()).len() as u64;
    for (limit_bytes, goes_on) in [(len - 4096, true), (len - 4097, false)] {
        let mut message = begin(limit(limit_bytes));
        let mut out = Vec::new();
        // Line by line, so that only the last of them is too much.
        for line in prefix.split_inclusive('\n') {
            message.content_bytes(line.as_bytes(), &mut out);
        }
        let before = out.len();
        message.content_bytes(b"late\n", &mut out);
        assert_eq!(out.len() > before, goes_on);
    }
}

#[test]
fn nothing_is_said_of_the_types_of_a_message_that_has_gone_in_circles() {
    let options = Options { hopcount_limit: 2, strict_mime_encoding_domain: true, ..options() };
    let headers = "Content-Type: multipart/x; boundary=b\nContent-Transfer-Encoding: base64\n";
    let (refusal, log) = refused(options.clone(), &format!("{headers}Received: x\nA: b\n"), "", &["bob@x"]);
    assert_eq!(refusal, "too many hops");
    assert_eq!(log, ["warning: 23A5D9AA1F6: message rejected: hopcount exceeded"]);
    let (refusal, log) = refused(options, headers, "a@b", &["bob@x"]);
    let text = "invalid message/* or multipart/* encoding domain";
    assert_eq!(refusal, format!("5.6.0 {text}"));
    let line = format!("23A5D9AA1F6: reject: mime-error {text}: base64 from localhost[127.0.0.1];");
    assert!(log.contains(&format!("{line} from=<a@b> to=<bob@x>")), "{log:?}");
}

#[test]
fn bodies_must_be_7_bit_where_that_is_asked_for() {
    let strict = Options { strict_8bitmime_body: true, ..options() };
    let body = "x\ny\nm\u{fc}\nm\u{fc}\n";
    let (refusal, log) = refused(strict.clone(), &format!("{COMPLETE}\n{body}"), "a@b", &["bob@x"]);
    assert_eq!(refusal, "5.6.0 improper use of 8-bit data in message body");
    let lines = log.iter().filter(|line| line.contains("mime-error")).collect::<Vec<_>>();
    let line = "mime-error improper use of 8-bit data in message body: m\u{fc} from localhost[127.0.0.1];";
    assert_eq!(lines, [&format!("23A5D9AA1F6: reject: {line} from=<a@b> to=<bob@x>")]);
    for announced in ["Content-Transfer-Encoding: 8bit", "Content-Transfer-Encoding: binary"] {
        let (file, _) =
            receive(begin(strict.clone()), &[format!("{announced}\n\n{body}").as_bytes()], "a@b", &["bob@x"]);
        assert!(file.is_ok(), "{announced}");
    }
}

#[test]
fn only_an_encoding_of_the_message_is_noted_and_only_if_that_is_on() {
    let noted = |detect_8bit_encoding_header, header: &str| {
        let options = Options { detect_8bit_encoding_header, ..options() };
        let (file, _) = receive(begin(options), &[format!("{header}\n\n").as_bytes()], "", &["bob@x"]);
        shown(&file.unwrap()).iter().any(|record| record == "A encoding=8bit")
    };
    let encoding = "Content-Transfer-Encoding: 8bit";
    assert_eq!(
        [noted(true, encoding), noted(false, encoding), noted(true, "To: 8bit")],
        [true, false, false]
    );
}

#[test]
fn what_will_not_be_kept_is_not_wanted() {
    let wanted = |options: Options, content: &str, sender: &str| {
        let mut message = begin(options);
        message.content_bytes(content.as_bytes(), &mut Vec::new());
        message.end_of_content(&mut Vec::new());
        message.sender(sender.as_bytes(), &mut Vec::new());
        message.is_wanted()
    };
    assert!(wanted(options(), "A: b\n\nx\n", "a@b"));
    assert!(!wanted(options(), "A: b\n\nx\n", "a\n"));
    assert!(!wanted(Options { message_size_limit: 10, ..options() }, "A: b\n\nx\n", "a@b"));
    assert!(!wanted(Options { hopcount_limit: 1, ..options() }, "A: b\n\nx\n", "a@b"));
    assert!(!wanted(Options { strict_8bitmime: true, ..options() }, "A: \u{e9}\n\nx\n", "a@b"));
}

#[test]
fn what_is_not_known_of_a_client_is_told_and_left_out() {
    let mut message = begin(options());
    message.origin.client_port = String::new();
    let (file, log) = receive(message, &[HELLO], "alice@sender.example", &["bob@rcpt.example"]);
    let warning =
        |name| format!("warning: 23A5D9AA1F6: spurious null attribute value for \"{name}\" -- ignored");
    assert_eq!(log[..2], [warning("log_client_port"), warning("client_port")]);
    let without = HELLO_FILE.into_iter().filter(|record| !record.contains("client_port"));
    assert_eq!(shown(&file.unwrap())[1..20], without.skip(1).take(19).collect::<Vec<_>>());
    let (refusal, log) = {
        let mut message = begin(options());
        message.origin.client_port = String::new();
        let (file, log) = receive(message, &[HELLO], "a\n", &["bob@x"]);
        (file.unwrap_err(), log)
    };
    assert_eq!((refusal.as_str(), log.len()), ("sender address contains a NUL, CR or LF character", 0));
}

#[test]
fn no_table_is_asked_about_a_copy_of_what_is_for_no_one() {
    let with_copy = || Options { always_bcc: "bad@x".to_owned(), ..options() };
    let Message { content: Content { arrival, .. }, origin, .. } = begin(options());
    let tables = Arc::new(Failing(Maps::VirtualAlias));
    let message = Message::new(Arc::new(with_copy()), tables, arrival, origin);
    let (file, log) = receive(message, &[HELLO], "good@x", &[]);
    assert_eq!(file, Err("no recipients specified".to_owned()));
    assert_eq!(log.len(), 1, "{log:?}");
}

#[test]
fn no_copy_is_made_of_what_is_refused_for_its_content() {
    for (options, refusal) in [
        (Options { hopcount_limit: 1, ..options() }, "too many hops"),
        (Options { message_size_limit: 10, ..options() }, "message too large"),
    ] {
        let options = Options { always_bcc: "bad@x".to_owned(), ..options };
        let Message { content: Content { arrival, .. }, origin, .. } = begin(options.clone());
        let tables = Arc::new(Failing(Maps::VirtualAlias));
        let message = Message::new(Arc::new(options), tables, arrival, origin);
        let (file, log) = receive(message, &[HELLO], "good@x", &["good@y"]);
        assert_eq!(file, Err(refusal.to_owned()));
        assert!(!log.iter().any(|line| line.contains("lookup problem")), "{log:?}");
    }
}
