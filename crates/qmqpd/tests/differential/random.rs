//! Soups of everything that means something, as header, body and envelope. `QMQPD_SEED` and `QMQPD_ROUNDS` set how many
//! and which; a failure names both.

use testbed::case::{Case, RECIPIENT, SENDER};
use testbed::client::request;
use testbed::random::Random;
use testbed::suite::Suite;

pub(crate) fn add(suite: &mut Suite) {
    suite.add_random("random::address_headers", address_headers);
    suite.add_random("random::structure", structure);
    suite.add_random("random::mime", mime);
    suite.add_random("random::envelopes", envelopes);
    suite.add_random("random::long_lines", long_lines);
}

const NAMES: &[&[u8]] = &[
    b"To",
    b"From",
    b"Cc",
    b"Bcc",
    b"Sender",
    b"Reply-To",
    b"Resent-To",
    b"Resent-From",
    b"Subject",
    b"Date",
    b"Message-Id",
    b"Received",
    b"X-Any",
    b"Return-Path",
    b"Content-Type",
    b"Errors-To",
    b"tO",
];

const ADDRESSES: &[&[u8]] = &[
    b"joe",
    b"a@b",
    b"joe.doe",
    b"host.",
    b" ",
    b" ",
    b"\n ",
    b"\t",
    b",",
    b", ",
    b";",
    b":",
    b"<",
    b">",
    b"(",
    b")",
    b"\"",
    b"\\",
    b"@",
    b"%",
    b"!",
    b".",
    b"[",
    b"]",
    b"|",
    b"group:",
    b"<x@y>",
    b"(c)",
    b"\"q d\"",
    b"\xe9",
    b"\xc3\xa9",
    b"@r:",
    b"\x01",
];

const LINES: &[&[u8]] = &[
    b"\n",
    b"\n",
    b"Subject: x\n",
    b"To: joe\n",
    b"From: a@b\n",
    b"From a\n",
    b">From b\n",
    b" folded\n",
    b"\tfolded\n",
    b"no header\n",
    b": empty\n",
    b"A : b\n",
    b"X\0Y: z\n",
    b"X: a\0b\n",
    b"X: a\rb\n",
    b"body\n",
    b"--B\n",
    b"--B--\n",
    b".\n",
    b"Content-Type: message/rfc822\n",
    b"Content-Type: multipart/mixed; boundary=B\n",
    b"Bcc: x\n",
    b"Date: x\n",
    b"Message-Id: <x@y>\n",
    b"Resent-Bcc: x\n",
    b"Received: by x\n",
    b"\x80\xff\n",
    b"X: \xfc\n",
    b"no newline",
];

const MIME: &[&[u8]] = &[
    b"\n",
    b"\n",
    b"--A\n",
    b"--B\n",
    b"--A--\n",
    b"--B--\n",
    b"--AB\n",
    b"--\n",
    b"Content-Type: multipart/mixed; boundary=A\n",
    b"Content-Type: multipart/digest; boundary=\"B\"\n",
    b"Content-Type: message/rfc822\n",
    b"Content-Type: text/plain\n",
    b"Content-Type: application/x; boundary=A\n",
    b"Content-Type: multipart/x; boundary=A; boundary=\"B\"\n",
    b"Content-Type: (c) multipart (d) / x ; boundary (e) = A\n",
    b"Content-Type: message/partial\n",
    b"Content-Type:\n",
    b"Content-Transfer-Encoding: 8bit\n",
    b"Content-Transfer-Encoding: base64\n",
    b"X : y\n",
    b"X\t:y\n",
    b" more\n",
    b"text\n",
    b"Content-Type: multipart/mixed;\n boundary=B\n",
    b"\xe9 : x\n",
    b"X: \xe9\n",
    b"To : joe\n",
    b"--A \n",
    b" --A\n",
];

const LOCAL: &[&[u8]] = &[
    b"a",
    b"B",
    b"joe",
    b"@",
    b"@",
    b".",
    b"..",
    b"%",
    b"!",
    b" ",
    b"\"",
    b"\\",
    b"<",
    b">",
    b"(",
    b")",
    b",",
    b":",
    b";",
    b"[",
    b"]",
    b"-",
    b"-@[]",
    b"x.example",
    b"\xc3\xbc",
    b"\xfc",
    b"\t",
    b"MAILER-DAEMON",
    b"mx.example.test",
];

/// Content whose lines do not end in CRLF and that does not begin with CR: these differences have their own cases.
fn content(name: &str, mut text: Vec<u8>) -> Case {
    while let Some(at) = text.windows(2).position(|two| two == b"\r\n") {
        text.remove(at);
    }
    let begins = text.iter().position(|&byte| byte != b'\r').unwrap_or(text.len());
    Case::bytes(name, request(&text[begins..], SENDER, &[RECIPIENT]))
}

fn address_headers(random: &mut Random) -> Case {
    let mut text = Vec::new();
    for _ in 0..=random.below(5) {
        text.extend_from_slice(random.pick(NAMES));
        text.extend_from_slice(random.pick(&[b":".as_slice(), b": ", b" :", b":  "]));
        text.extend(random.soup(ADDRESSES, 14));
        text.push(b'\n');
    }
    text.extend_from_slice(b"\nbody\n");
    content("address_headers", text)
}

fn structure(random: &mut Random) -> Case {
    content("structure", random.soup(LINES, 14))
}

fn mime(random: &mut Random) -> Case {
    content("mime", random.soup(MIME, 24))
}

fn envelopes(random: &mut Random) -> Case {
    let sender = random.soup(LOCAL, 6);
    let recipients: Vec<Vec<u8>> = (0..=random.below(4)).map(|_| random.soup(LOCAL, 6)).collect();
    let slices: Vec<&[u8]> = recipients.iter().map(Vec::as_slice).collect();
    Case::envelope("envelopes", sender, &slices)
}

fn long_lines(random: &mut Random) -> Case {
    let mut text = Vec::new();
    for _ in 0..=random.below(4) {
        text.extend_from_slice(random.pick(&[b"X: ".as_slice(), b"To: ", b" ", b"", b"\n", b"Subject: a\n"]));
        let near = [1, 100, 2040, 2048, 4096][random.below(5)] + random.below(12);
        text.extend(std::iter::repeat_n(random.pick(&[b"x".as_slice(), b",a", b" a"]), near).flatten());
        text.extend_from_slice(random.pick(&[b"\n".as_slice(), b"", b"\n\n"]));
    }
    content("long_lines", text)
}
