//! Messages record by record, as lists of what was found in them.

use super::*;

/// What was received, one line each: section and header, `end`, record type and body.
#[derive(Default)]
struct Transcript(Vec<String>);

impl Receiver for Transcript {
    fn header(&mut self, section: Section, header: &mut Vec<u8>) {
        self.0.push(format!("{section:?} {}", header.escape_ascii()));
        // The parser must not depend on what is left in its buffer.
        header.extend_from_slice(b"junk");
    }

    fn end_of_primary(&mut self, _: Errors) {
        self.0.push("end".to_owned());
    }

    fn body(&mut self, kind: RecordType, data: &[u8], _: u64) {
        self.0.push(format!("{} {}", char::from(kind.0), data.escape_ascii()));
    }

    fn error(&mut self, error: MimeError, text: &[u8]) {
        self.0.push(format!("{error:?} {}", text.escape_ascii()));
    }
}

/// Lines end in `\n`; one that ends in `+` is a piece.
fn parse(options: Options, message: &str) -> Vec<String> {
    let strictness = Strictness::new(&options, false);
    let mut parser = Parser::new(Arc::new(options), strictness);
    let mut seen = Transcript::default();
    for line in message.split_terminator('\n') {
        match line.strip_suffix('+') {
            Some(piece) => parser.record(RecordType::PARTIAL, piece.as_bytes(), &mut seen),
            None => parser.record(RecordType::NORMAL, line.as_bytes(), &mut seen),
        }
    }
    parser.finish(&mut seen);
    seen.0
}

#[track_caller]
fn check(message: &str, expected: &[&str]) {
    assert_eq!(parse(Options::default(), message), expected, "{message}");
}

#[test]
fn headers_end_at_the_first_line_that_is_none() {
    check("", &["end"]);
    check("A: b\nB : c\n\tmore\n", &["Primary A: b", "Primary B: c\\n\\tmore", "end"]);
    check("A: b\n\nC: d\n", &["Primary A: b", "end", "N ", "N C: d"]);
    check("A: b\nno header\nC: d\n", &["Primary A: b", "end", "N ", "N no header", "N C: d"]);
    check("A:+\nb+\n c\nB: d\n", &["Primary A:b c", "Primary B: d", "end"]);
}

#[test]
fn an_unterminated_line_gets_its_end() {
    check("A: b+\n", &["Primary A: b", "end"]);
    check("\nb+\n", &["end", "N ", "L b", "N "]);
}

#[test]
fn what_is_behind_a_nul_in_a_header_is_lost() {
    check("A: b\0c\n d\0e\n\n\0\n", &["Primary A: b\\n d", "end", "N ", "N \\x00"]);
    check("A\0: b\n", &["end", "N ", "N A\\x00: b"]);
}

#[test]
fn a_header_is_held_up_to_its_limit() {
    let options = Options { header_size_limit: 6, ..Options::default() };
    assert_eq!(parse(options, "A: b\n cde\n f\nB: c\n"), ["Primary A: b\\n cde", "Primary B: c", "end"]);
}

#[test]
fn parts_have_headers() {
    check(
        "Content-Type: multipart/mixed; boundary=b\n\nprolog: x\n--b\nA : b\n\nbody: x\n--b-- trailing\nC: d\n--b\n",
        &[
            "Primary Content-Type: multipart/mixed; boundary=b",
            "end",
            "N ",
            "N prolog: x",
            "N --b",
            "Part A: b",
            "N ",
            "N body: x",
            "N --b-- trailing",
            "N C: d",
            "N --b",
        ],
    );
    // No empty line is added to a part.
    check(
        "Content-Type: multipart/mixed; boundary=b\n\n--b\nA: b\nbody\n",
        &["Primary Content-Type: multipart/mixed; boundary=b", "end", "N ", "N --b", "Part A: b", "N body"],
    );
}

#[test]
fn enclosed_messages_have_headers() {
    check(
        "Content-Type: message/rfc822\n\nA : b\n\nC : d\n",
        &["Primary Content-Type: message/rfc822", "end", "N ", "Nested A: b", "N ", "N C : d"],
    );
    // A digest's parts are messages unless they say something else that is known.
    for (part, section) in
        [("X: y", "Nested"), ("Content-Type: application/x", "Nested"), ("Content-Type: text/x", "N")]
    {
        let message = format!("Content-Type: multipart/digest; boundary=b\n\n--b\n{part}\n\nA: b\n");
        assert_eq!(parse(Options::default(), &message).last(), Some(&format!("{section} A: b")), "{part}");
    }
    // Not if the line that ends the headers is not empty.
    check(
        "Content-Type: message/rfc822\nx\nA: b\n",
        &["Primary Content-Type: message/rfc822", "end", "N ", "N x", "N A: b"],
    );
}

#[test]
fn boundaries_match_by_prefix_and_end_what_is_inside() {
    let outer =
        "Content-Type: multipart/mixed; boundary=bb\n\n--bb\nContent-Type: multipart/mixed; boundary=b\n\n";
    for (lines, last) in [
        ("--b\nA: b\n", "Part A: b"),
        ("--bb\nA: b\n", "Part A: b"),
        ("--b--\nA: b\n", "N A: b"),
        ("--b--\n--bb\nA: b\n", "Part A: b"),
        ("--bb--\n--b\nA: b\n", "Part A: b"),
        ("--B\nA: b\n", "N A: b"),
        ("x--b\nA: b\n", "N A: b"),
        ("long line+\n--b\nA: b\n", "N A: b"),
    ] {
        assert_eq!(parse(Options::default(), &format!("{outer}{lines}")).last().unwrap(), last, "{lines}");
    }
    let empty = "Content-Type: multipart/mixed; boundary=\"\"\n\n";
    assert_eq!(parse(Options::default(), &format!("{empty}--\nA: b\n")).last().unwrap(), "N A: b");
    assert_eq!(parse(Options::default(), &format!("{empty}--x\nA: b\n")).last().unwrap(), "Part A: b");
}

#[test]
fn boundaries_are_bounded() {
    let options = Options { mime_nesting_limit: 1, mime_boundary_length_limit: 2, ..Options::default() };
    let message = "Content-Type: multipart/mixed; boundary=abc; boundary=def; boundary=ghi; boundary=jkl\n\n";
    for (line, last) in [("--ab", "Part A: b"), ("--gh", "Part A: b"), ("--jkl", "N A: b")] {
        assert_eq!(
            parse(options.clone(), &format!("{message}{line}\nA: b\n")).last().unwrap(),
            last,
            "{line}"
        );
    }
}

#[test]
fn all_is_body_without_mime_processing() {
    let options = Options { disable_mime_input_processing: true, ..Options::default() };
    let message = "Content-Type: message/rfc822; boundary=b\n\nA : b\n--b\nA : b\n";
    assert_eq!(parse(options, message).last().unwrap(), "N A : b");
}

#[test]
fn a_global_message_is_a_message_whatever_its_encoding() {
    for encoding in ["7bit", "8bit", "binary"] {
        let message =
            format!("Content-Type: message/global\nContent-Transfer-Encoding: {encoding}\n\nA : b\n");
        assert_eq!(parse(Options::default(), &message).last().unwrap(), "Nested A: b", "{encoding}");
    }
}

#[test]
fn what_may_be_encoded_as_a_whole() {
    let strict = || Options { strict_mime_encoding_domain: true, ..Options::default() };
    for (media_type, encoding, is_wrong) in [
        ("multipart/mixed; boundary=b", "8bit", false),
        ("multipart/mixed; boundary=b", "base64", true),
        ("multipart/mixed; boundary=b", "quoted-printable", true),
        ("message/rfc822", "7bit", false),
        ("message/rfc822", "base64", true),
        ("message/partial", "7bit", false),
        ("message/partial", "8bit", true),
        ("message/global", "base64", false),
        ("text/plain", "base64", false),
    ] {
        let message = format!("Content-Type: {media_type}\nContent-Transfer-Encoding: {encoding}\n\nx\n");
        let error = format!("EncodingDomain {encoding}");
        assert_eq!(parse(strict(), &message).contains(&error), is_wrong, "{message}");
        assert!(!parse(Options::default(), &message).contains(&error));
    }
}

#[test]
fn eight_bit_text_is_an_error_where_it_is_not_announced() {
    let error = |options: &Options, message: &str| {
        let seen = parse(options.clone(), message);
        let error = seen.iter().filter(|line| line.starts_with("EightBit"));
        error.map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let none = Options::default();
    let headers = Options { strict_7bit_headers: true, ..Options::default() };
    let body = Options { strict_8bitmime_body: true, ..Options::default() };
    let both = Options { strict_8bitmime: true, ..Options::default() };
    for (message, of_header, of_body) in [
        ("A: b\n\nx\n", false, false),
        ("A: \u{fc}\n\nx\n", true, false),
        ("A: b\n\n\u{fc}\n\u{fc}\n", false, true),
        ("A: \u{fc}\nB: \u{fc}\n\n\u{fc}\n", true, true),
        ("Content-Transfer-Encoding: 8bit\n\n\u{fc}\n", false, false),
        ("Content-Transfer-Encoding: base64\n\n\u{fc}\n", false, false),
    ] {
        let header: &[&str] = if of_header { &["EightBitHeader"] } else { &[] };
        let line: &[&str] = if of_body { &["EightBitBody"] } else { &[] };
        assert_eq!(error(&none, message), [""; 0], "{message}");
        assert_eq!(error(&headers, message), header, "{message}");
        assert_eq!(error(&body, message), line, "{message}");
        assert_eq!(error(&both, message), [header, line].concat(), "{message}");
    }
}

#[test]
fn too_many_boundaries_are_an_error_where_anything_is_looked_for() {
    let nested = |count: usize, strict_8bitmime| {
        let options = Options { mime_nesting_limit: 1, strict_8bitmime, ..Options::default() };
        let message = format!("Content-Type: multipart/mixed{}\n\n", "; boundary=b".repeat(count));
        parse(options, &message).iter().any(|line| line.starts_with("Nesting Content-Type: multipart/mixed;"))
    };
    assert_eq!(
        [nested(1, true), nested(3, true), nested(4, true), nested(5, true)],
        [false, false, true, true]
    );
    assert!(!nested(4, false));
}
