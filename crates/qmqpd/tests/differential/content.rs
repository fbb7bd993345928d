//! What becomes of the content: lines, header and body, MIME, generated headers.

use testbed::case::{Case, RECIPIENT, SENDER};
use testbed::client::request;

pub(crate) fn cases() -> Vec<Case> {
    [lines(), from_lines(), header_or_body(), generated(), mime(), control_characters()].concat()
}

/// As [`Case::content`], named in this topic.
fn content(name: &str, content: impl AsRef<[u8]>) -> Case {
    Case::content(format!("content::{name}"), content)
}

fn lines() -> Vec<Case> {
    let long = |length: usize| format!("Subject: long\n\n{}\nend\n", "x".repeat(length));
    vec![
        content("empty", ""),
        content("two_hundred_message_ids", "Message-Id: <x@y>\n".repeat(200)).differs(
            "at-most-100-cleanup-log-lines-per-message",
            |postfix| {
                assert_eq!(postfix.log.iter().filter(|line| line.contains("message-id=")).count(), 200);
            },
            |ours| {
                assert_eq!(ours.log.iter().filter(|line| line.contains("message-id=")).count(), 100);
                ours.assert_logged("cleanup: warning: QUEUE-ID: 100 more log lines left out");
            },
        ),
        content("one_newline", "\n"),
        content("only_body", "\nhello\n"),
        content("no_newline_at_the_end", "Subject: x\n\nhello"),
        content("no_newline_at_the_end_of_the_header", "Subject: x"),
        content("many_empty_lines", "Subject: x\n\n\n\n\n"),
        content("line_of_2047", long(2047)),
        content("line_of_2048", long(2048)),
        content("line_of_2049", long(2049)),
        content("line_of_4096", long(4096)),
        content("line_of_10000", long(10_000)),
        content("long_line_without_newline", format!("Subject: x\n\n{}", "y".repeat(5000))),
        content("exactly_2048_without_newline", format!("Subject: x\n\n{}", "y".repeat(2048))),
        content("dots", "Subject: x\n\n.\n..\n.dot\n"),
        content("megabyte", format!("Subject: big\n\n{}", "0123456789abcde\n".repeat(65_536))),
    ]
}

fn from_lines() -> Vec<Case> {
    vec![
        content("from_line", "From alice@sender.example Mon Nov 23 2026\nSubject: x\n\nhello\n"),
        content("quoted_from_line", ">From alice@sender.example\nSubject: x\n\nhello\n"),
        content("doubly_quoted_from_line", ">>From alice\nSubject: x\n\nhello\n"),
        content("two_from_lines", "From alice\n>From bob\nSubject: x\n\nhello\n"),
        content("from_line_later", "Subject: x\nFrom alice\n\nFrom bob\n"),
        content("from_line_only", "From alice"),
        content("from_without_a_blank", "From\nSubject: x\n\n"),
        content("from_with_a_tab", "From\talice\nSubject: x\n\n"),
        content("blank_first", " indented\nSubject: x\n\nhello\n"),
        content("tab_first", "\tindented\nSubject: x\n\nhello\n"),
        content("blank_behind_a_from_line", "From alice\n indented\nSubject: x\n\nhello\n"),
        content("long_from_line", format!("From {}\nSubject: x\n\nhello\n", "a b ".repeat(1000))).differs(
            "a-long-from-line-is-not-split",
            |postfix| {
                assert!(!postfix.message().contains(&"a b ".repeat(1000)), "Postfix kept the line whole")
            },
            |ours| {
                assert!(ours.message().contains(&format!("X-Mailbox-Line: From {}\n", "a b ".repeat(1000))))
            },
        ),
    ]
}

fn header_or_body() -> Vec<Case> {
    vec![
        content("header_without_empty_line", "Subject: x\nthis is no header\nX-Not: a header\n"),
        content("no_header_at_all", "this is no header\nnor is this\n"),
        content("blank_before_the_colon", "Subject : x\nX-A\t :\tb\n\nhello\n"),
        content("no_blank_behind_the_colon", "Subject:x\nX-A:b\n\nhello\n"),
        content("empty_values", "Subject:\nX-A: \nX-B:\t\n\nhello\n"),
        content("space_in_a_name", "Sub ject: x\n\nhello\n"),
        content("empty_name", ": x\n\nhello\n"),
        content("eight_bit_name", b"S\xfcbject: x\n\nhello\n"),
        content("url_as_a_header", "http://www.example.com/\n\nhello\n"),
        content("quoted_reply_as_a_header", "\"q\": r\n\nhello\n"),
        content("folded", "Subject: one\n two\n\tthree\nX-A:\n b\n\nhello\n"),
        content("folded_with_blank_line", "Subject: one\n \nX-A: b\n\nhello\n"),
        content("long_header_line", format!("X-Long: {}\n\nhello\n", "x".repeat(5000))),
        content("header_line_of_2048", format!("X-Long: {}\n\nhello\n", "x".repeat(2040))),
        content("header_line_of_2049", format!("X-Long: {}\n\nhello\n", "x".repeat(2041))),
        content("long_name", format!("{}: x\n\nhello\n", "N".repeat(2100))),
        content("many_headers", format!("{}\nhello\n", "X-H: v\n".repeat(2000))),
        content("dropped", "Bcc: a@b\nContent-Length: 5\nReturn-Path: <x@y>\nSubject: x\n\nhello\n"),
        content("dropped_and_folded", "Bcc: a@b,\n c@d\nSubject: x\n\nBcc: stays\n"),
        content("dropped_in_any_case", "BCC: a@b\ncontent-LENGTH: 5\n\nhello\n"),
        content(
            "received_of_others",
            "Received: from a by b; Mon, 23 Nov 2020 00:00:00 +0000\nSubject: x\n\nhello\n",
        ),
        content("delivered_to", "Delivered-To: a@b\nSubject: x\n\nhello\n"),
    ]
}

fn generated() -> Vec<Case> {
    let full = "From: a@b.example\nDate: Mon, 1 Jan 2024 00:00:00 +0000\nMessage-Id: <x@y>\n";
    vec![
        content("nothing_missing", format!("{full}\nhello\n")),
        content("no_from", "Date: x\nMessage-Id: <x@y>\n\nhello\n"),
        content("no_date", "From: a@b.example\nMessage-Id: <x@y>\n\nhello\n"),
        content("no_message_id", "From: a@b.example\nDate: x\n\nhello\n"),
        content("message_id_odd", "Message-Id:   not <quite> right \n\nhello\n"),
        content("message_id_empty", "Message-Id:\n\nhello\n"),
        content("message_id_eight_bit", b"Message-Id: <\xe4@b>\n\nhello\n"),
        content("message_id_folded", "Message-Id:\n <x@y>\n\nhello\n"),
        content("two_message_ids", "Message-Id: <1@y>\nMESSAGE-ID: <2@y>\n\nhello\n"),
        content("resent", "Resent-From: a@b.example\nFrom: c@d.example\n\nhello\n"),
        content("resent_message_id", "Resent-Message-Id: <r@y>\nMessage-Id: <x@y>\n\nhello\n"),
        content("resent_to_only", "Resent-To: a@b.example\n\nhello\n"),
        content("resent_bcc_only", "Resent-Bcc: a@b.example\n\nhello\n"),
        content("resent_date", "Resent-Date: x\nDate: y\n\nhello\n"),
        Case::bytes("content::null_sender", request(b"Subject: x\n\nhello\n", b"", &[RECIPIENT])),
        Case::bytes(
            "content::no_from_two_recipients",
            request(b"\nhello\n", SENDER, &[RECIPIENT, b"carol@rcpt.example"]),
        ),
        Case::bytes(
            "content::no_from_quoted_sender",
            request(b"\nhello\n", b"user name@x.example", &[RECIPIENT]),
        ),
        Case::bytes("content::no_from_long_sender", request(b"\nhello\n", &[b'a'; 2048], &[RECIPIENT])),
    ]
}

fn mime() -> Vec<Case> {
    let part = |header: &str| {
        format!("{header}\nMIME-Version: 1.0\n\n--B\nX-Part : blank before colon\n\ntext\n--B--\nX : y\n")
    };
    vec![
        content("multipart", part("Content-Type: multipart/mixed; boundary=B")),
        content("multipart_quoted", part("Content-Type: multipart/mixed; boundary=\"B\"")),
        content("multipart_comment", part("Content-Type: multipart (c) / mixed (d); (e) boundary = B")),
        content("multipart_case", part("CONTENT-TYPE: MULTIPART/MIXED; BOUNDARY=B")),
        content("multipart_folded", part("Content-Type: multipart/mixed;\n\tboundary=B")),
        content("boundary_prefix", part("Content-Type: multipart/mixed; boundary=").replace("--B", "--")),
        content("boundary_other_case", part("Content-Type: multipart/mixed; boundary=b")),
        content("two_boundaries", part("Content-Type: multipart/mixed; boundary=A; boundary=B")),
        content("not_multipart", part("Content-Type: text/plain; boundary=B")),
        content("application", part("Content-Type: application/x; boundary=B")),
        content(
            "nested_multipart",
            "Content-Type: multipart/mixed; boundary=A\n\n--A\nContent-Type: multipart/mixed; boundary=B\n\n--B\nX : 1\n\n\
             a\n--B--\n--A\nX : 2\n\nb\n--A--\n",
        ),
        content(
            "nested_message",
            "Content-Type: message/rfc822\n\nFrom : joe\nTo: joe\nBcc: x\n\nX : body\n",
        ),
        content(
            "digest",
            "Content-Type: multipart/digest; boundary=B\n\n--B\n\nSubject : x\n\nbody : y\n--B\nContent-Type: text/plain\n\n\
             a : b\n--B--\n",
        ),
        content("encoding_8bit", "Content-Transfer-Encoding: 8bit\n\ngr\u{fc}n\n"),
        content("encoding_binary", "Content-Transfer-Encoding: BINARY\n\nx\n"),
        content("encoding_8bit_with_comment", "Content-Transfer-Encoding: 8bit (c)\n\nx\n"),
        content("encoding_8bit_trailing_blank", "Content-Transfer-Encoding: 8bit \n\nx\n"),
        content("encoding_quoted_printable", "Content-Transfer-Encoding: quoted-printable\n\nx=20\n"),
        content(
            "encoding_8bit_in_a_part",
            "Content-Type: multipart/mixed; boundary=B\n\n--B\nContent-Transfer-Encoding: 8bit\n\nx\n--B--\n",
        ),
        content("header_eight_bit", b"Subject: gr\xfcn\n\nhello\n"),
        content("header_utf8", "Subject: gr\u{fc}n\n\nhello\n"),
        content(
            "header_eight_bit_in_a_part",
            b"Content-Type: multipart/mixed; boundary=B\n\n--B\nX: \xfc\n\nx\n--B--\n",
        ),
        content("body_eight_bit", b"Subject: x\n\n\x80\xff\xfe\n"),
        content("boundary_behind_a_long_line", {
            format!("Content-Type: multipart/mixed; boundary=B\n\n{}--B\nX : y\n\n", "x".repeat(2048))
        }),
    ]
}

fn control_characters() -> Vec<Case> {
    let crlf = "Subject: x\r\nFrom: a@b.example\r\n\r\nhello : world\r\n";
    vec![
        content("crlf", crlf).differs(
            "crlf-line-endings-are-accepted",
            |postfix| assert!(postfix.message().contains("\nhello: world \n"), "{}", postfix.message()),
            |ours| assert!(ours.message().ends_with("\n\nhello : world\n"), "{}", ours.message()),
        ),
        content("crlf_never_fixed", crlf).with(&["qmqpd_fix_line_endings = never"]),
        content("crlf_later", "Subject: x\n\none\r\ntwo\r\n"),
        content("bare_cr_in_the_header", "Subject: a\rb\n\nhello\n"),
        content("bare_cr_in_the_body", "Subject: x\n\na\rb\r\rc\n"),
        content("cr_first", "\rSubject: x\n\nhello\n").differs(
            "the-first-content-line-cannot-become-part-of-our-received-header",
            |postfix| {
                assert!(
                    postfix.message().contains("; DATE\n Subject: x\nMessage-Id: "),
                    "{}",
                    postfix.message()
                )
            },
            |ours| assert!(ours.message().ends_with("\n\n Subject: x\n\nhello\n"), "{}", ours.message()),
        ),
        content("nul_in_a_header", b"Subject: a\0b\nX-A: c\n\nhello\n"),
        content("nul_in_a_folded_header", b"Subject: a\0b\n c\0d\n\nhello\n"),
        content("nul_in_a_header_name", b"Sub\0ject: a\nX-A: c\n\nhello\n"),
        content("nul_in_the_body", b"Subject: x\n\na\0b\n\0\n"),
        content("nul_in_a_from_line", b"From a\0b\nSubject: x\n\nhello\n"),
        content(
            "every_control_character",
            (1..32).filter(|b| *b != b'\n').fold(b"Subject: x\n\n".to_vec(), |mut text, byte: u8| {
                text.extend_from_slice(&[byte, b'.']);
                text
            }),
        ),
        content("control_characters_in_a_header", b"Subject: a\x01b\x7fc\x1b[31m\n\nhello\n"),
        content("form_feed_first", "\x0cSubject: x\n\nhello\n"),
    ]
}
