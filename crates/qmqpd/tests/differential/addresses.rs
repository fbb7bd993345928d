//! Address headers: parsed, completed, regenerated.

use testbed::case::Case;

/// Values of an address header; most are the vectors of the rewriter's reference, from its simplest to its oddest.
const VALUES: &[&str] = &[
    "joe",
    "joe (Joe)",
    "(c) joe",
    "Joe B. Doe <joe>",
    "joe@host.",
    "joe doe",
    "<joe doe>",
    "<joe doe@x>",
    "<a> <b>",
    "<a@b> \"c\"",
    "x <a@b> y",
    "a,,b",
    "a, b@c,",
    "g: a, b@c;, d",
    "undisclosed-recipients:;",
    "<>",
    "",
    ",",
    ";",
    "(only comment)",
    "@",
    "a:b",
    "joe..d",
    ".j@x",
    "a@b@c",
    "\"joe\"@x",
    "\"j d\"",
    "h!u",
    "a%b",
    "@r:u@h",
    "joe;",
    "\"open <joe@x>",
    "<joe@x.y",
    "x\\y <a>",
    "\"a\n b\" <c>",
    "[1.2.3.4]",
    "a|b",
    "joe (c1) (c2)",
    "(c1) joe (c2) doe",
    "a (x) b",
    "<joe (c)>",
    "(a) x (b) <j (c)> (d), e",
    "a, (z), b",
    "<a>b",
    "a[b]@c, d",
    "a\"b\"@x",
    "a . b @ c, e",
    "a!b%c",
    "@a",
    "@a:",
    "a@b@",
    "a@.",
    "a@..",
    "a.@b.",
    "a>",
    "<<a>>",
    "a<b",
    "g:a",
    "g:a;b;c",
    ",;a",
    ":a;",
    "a\\ b <c>",
    "\\\"a <b>",
    "c (x\n y)",
    "c (x (nested) y), d",
    "c (open, d",
    "a@b, c@d,\n e@f",
    "a,\n b,\n c",
    "=?utf-8?q?J=C3=BCrgen?= <joe>",
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = VALUES
        .iter()
        .enumerate()
        .map(|(index, value)| {
            let short: String = value.chars().filter(|c| c.is_ascii_graphic()).take(20).collect();
            let text = format!("To: {value}\nFrom: {value}\nX-Other: {value}\n\nhello\n");
            Case::content(format!("addresses::{index:02}_{short}"), text)
        })
        .collect();
    cases.extend(headers());
    cases.extend(folding());
    cases.extend(token_limit());
    cases
}

/// Lists of complete addresses, which nothing changes but the limit.
fn token_limit() -> Vec<Case> {
    let list = |count: usize| vec!["a@b.c"; count].join(",");
    let mut cases = vec![Case::content(
        "addresses::complete_and_more_than_the_token_limit",
        format!("To: {}\nCc: {}\n\nhello\n", list(1707), list(1706)),
    )];
    for limit in 5..=14 {
        let name = format!("addresses::complete_and_a_token_limit_of_{limit}");
        let text = format!("To: {}\nCc: Joe Doe <a@b.c>, \"J. D.\" <d@e.f>\n\nhello\n", list(3));
        cases.push(Case::content(name, text).with(&[&format!("header_address_token_limit = {limit}")]));
    }
    cases
}

fn headers() -> Vec<Case> {
    let rewritten = [
        "From",
        "Sender",
        "Reply-To",
        "Errors-To",
        "Return-Receipt-To",
        "Disposition-Notification-To",
        "Mail-Followup-To",
        "To",
        "Cc",
        "Apparently-To",
        "Resent-From",
        "Resent-Sender",
        "Resent-To",
        "Resent-Cc",
        "Resent-Reply-To",
    ];
    let untouched =
        ["X-To", "Delivered-To", "Mail-Reply-To", "In-Reply-To", "References", "Subject", "List-Post"];
    let all =
        |names: &[&str]| names.iter().map(|name| format!("{name}: joe\n")).collect::<String>() + "\nhello\n";
    vec![
        Case::content("addresses::every_rewritten_header", all(&rewritten[..10])),
        Case::content("addresses::every_rewritten_resent_header", all(&rewritten)),
        Case::content("addresses::headers_that_stay", all(&untouched)),
        Case::content("addresses::no_blank", "To:joe\nCc:a@b\n\nhello\n"),
        Case::content("addresses::capitals", "TO: joe\nFROM: a@b\n\nhello\n"),
        Case::content("addresses::many_blanks_unchanged", "Reply-To:   a@b\n\nhello\n"),
        Case::content("addresses::many_blanks_changed", "Reply-To:   a\n\nhello\n"),
        Case::content("addresses::eight_bit_phrase", b"From: Jos\xe9 <joe>\n\nhello\n"),
        Case::content("addresses::in_the_body", "Subject: x\n\nTo: joe\n"),
        Case::content("addresses::long_comment", format!("To: joe ({})\n\nhello\n", "c".repeat(300))),
        Case::content("addresses::long_phrase", format!("To: {}<joe>\n\nhello\n", "word ".repeat(60))),
    ]
}

fn folding() -> Vec<Case> {
    let mut cases = Vec::new();
    for width in [20, 21, 22] {
        let text = format!("To: {}@x.example,{}@x, c\n\nhello\n", "a".repeat(30), "b".repeat(width));
        cases.push(Case::content(format!("addresses::folded_at_{width}"), text));
    }
    let many: Vec<String> = (0..200).map(|index| format!("user{index}")).collect();
    cases.push(Case::content("addresses::two_hundred", format!("To: {}\n\nhello\n", many.join(","))));
    let tokens = vec!["a"; 6000].join(",");
    cases.push(Case::content("addresses::more_than_the_token_limit", format!("Cc: {tokens}\n\nhello\n")));
    cases
}
