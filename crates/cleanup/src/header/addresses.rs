//! Completes the addresses of a header.

use postfix::notice::Notice;

use crate::address::{
    Token, external, internal, is_complete_list, needs_blank, next, parse_list, quote, rewrite_external,
    scan, write_external,
};
use crate::mapping::{AddressRole, Mapping};
use crate::notices::Notices;
use crate::options::Options;
use postfix::text::printable;

/// Bytes of phrase and comments that one list element of a rewritten header may have.
const COMMENT_BYTES_MAX: usize = 250;

/// Rewrites and maps the addresses in the value of an address header (what is behind its colon). `None` if that changes
/// nothing; otherwise the new value, with a newline behind each comma where a line may be broken.
pub(crate) fn rewrite_addresses(
    mapping: &mut Mapping<'_>,
    role: AddressRole,
    value: &[u8],
) -> Option<Vec<u8>> {
    if !mapping.maps(role)
        && has_few_tokens(mapping.options(), value)
        && is_complete_list(mapping.options(), value)
    {
        return None;
    }
    take_apart(mapping, role, value)
}

/// Whether the limit on tokens certainly cuts nothing off. Counting is cheap beside taking a list apart, which is done only
/// where the count comes near the limit.
fn has_few_tokens(options: &Options, value: &[u8]) -> bool {
    let limit = options.header_address_token_limit;
    // A token has at least one byte.
    limit == 0 || value.len() <= limit || tokens_max(value) <= limit
}

/// At least as many as there are tokens: a word can follow each special character, which is a token itself unless it is a
/// blank.
fn tokens_max(value: &[u8]) -> usize {
    let specials = count(value, is_special).saturating_mul(2);
    specials.saturating_sub(count(value, is_blank)).saturating_add(1)
}

/// Counts in pieces whose count fits a byte, and without branches, so that the compiler takes many bytes at a time.
fn count(value: &[u8], is_counted: impl Fn(u8) -> bool) -> usize {
    let in_piece =
        |piece: &[u8]| piece.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(u8::from(is_counted(byte))));
    value.chunks(128).map(|piece| usize::from(in_piece(piece))).sum()
}

const fn is_blank(byte: u8) -> bool {
    (byte == b' ') | (byte == b'\t') | (byte == b'\r') | (byte == b'\n')
}

/// Whether the byte may be more than a letter of a word.
const fn is_special(byte: u8) -> bool {
    let is_letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    let is_digit = byte.wrapping_sub(b'0') < 10;
    !(is_letter
        | is_digit
        | (byte >= 0x80)
        | (byte == b'-')
        | (byte == b'_')
        | (byte == b'+')
        | (byte == b'='))
}

/// The same for any list.
fn take_apart(mapping: &mut Mapping<'_>, role: AddressRole, value: &[u8]) -> Option<Vec<u8>> {
    let options = mapping.options();
    let mut list = parse_list(value, options.header_address_token_limit);
    let mut changed = false;
    for token in &mut list {
        let Token::Address(tokens) = token else { continue };
        let written = external(tokens);
        let rewritten = rewrite_external(options, &written, mapping.notices());
        changed |= rewritten != written;
        *tokens = scan(&rewritten, 0);
        changed |= mapping.header_address(role, tokens);
    }
    changed.then(|| write_list(options, &list, mapping.notices()))
}

/// The list element that is being written.
#[derive(Default)]
struct Element<'a> {
    /// Where it begins in the output.
    start: usize,
    /// Its last address: tokens and length in the output.
    address: Option<(&'a [Token], usize)>,
}

fn write_list(options: &Options, list: &[Token], notices: &mut Notices) -> Vec<u8> {
    let mut text = Vec::new();
    let mut element = Element::default();
    for (position, token) in list.iter().enumerate() {
        if *token == Token::Operator(b',') {
            strip_comments(options, &element, &mut text, notices);
            text.extend_from_slice(b",\n");
            element = Element { start: text.len(), address: None };
            continue;
        }
        let before = text.len();
        write_external(token, &mut text);
        let following = next(list, position);
        match token {
            Token::Address(tokens) => element.address = Some((tokens, text.len().saturating_sub(before))),
            Token::Operator(b'<') if following == Some(&Token::Operator(b'>')) => {
                element.address = Some((&[], 0))
            }
            _ => {}
        }
        if following.is_some_and(|following| needs_blank(token, following)) {
            text.push(b' ');
        }
    }
    strip_comments(options, &element, &mut text, notices);
    text
}

/// A list element with too much beside its address is reduced to the address: some mail readers and filters have
/// small buffers.
fn strip_comments(options: &Options, element: &Element<'_>, text: &mut Vec<u8>, notices: &mut Notices) {
    let Some((address, address_len)) = element.address else { return };
    let written = text.get(element.start..).unwrap_or_default();
    if written.len().saturating_sub(address_len) <= COMMENT_BYTES_MAX {
        return;
    }
    let shown = printable(written.get(..100).unwrap_or(written), options.smtputf8_enable);
    notices.push(Notice::warning(format!("stripping too many comments from address: {shown}...")));
    text.truncate(element.start);
    text.push(b'<');
    if !address.is_empty() {
        text.extend_from_slice(&quote(&internal(address, true)));
    }
    text.push(b'>');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::header::fold;
    use crate::tables::NoTables;

    fn options() -> Options {
        Options { myorigin: "M".to_owned(), ..Options::default() }
    }

    fn rewrite(options: &Options, value: &[u8], notices: &mut Notices) -> Option<Vec<u8>> {
        rewrite_addresses(
            &mut Mapping::new(options, &NoTables, "ID", notices),
            AddressRole::HeaderSender,
            value,
        )
    }

    /// The value as it is written; `None` if the header is left as it is.
    fn rewritten(value: &[u8]) -> Option<Vec<u8>> {
        let mut notices = Notices::default();
        let list = rewrite(&options(), value, &mut notices)?;
        assert_eq!(notices.into_lines("ID"), []);
        let mut header = [b"From: ", list.as_slice()].concat();
        fold(&mut header);
        Some(header.split_off(6))
    }

    #[test]
    fn what_needs_no_rewriting_stays_as_it_is() {
        // Observed on Postfix 3.7.
        for value in [
            "",
            "undisclosed-recipients:;",
            "<>",
            ",",
            ";",
            "(only comment)",
            "<joe doe@x>",
            "a@.",
            "a@..",
            "  a@b",
            "Joe <a@b>,\n b@c",
            "Jos\u{e9} <joe@x>",
            "g: a@b, c@d;",
        ] {
            assert_eq!(rewritten(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn incomplete_addresses_are_completed() {
        // Observed on Postfix 3.7.
        for (value, expected) in [
            ("joe", "joe@M"),
            ("joe (Joe)", "joe@M (Joe)"),
            ("(c) joe", "joe@M (c)"),
            ("Joe B. Doe <joe>", "Joe B.Doe <joe@M>"),
            ("joe@host.", "joe@host"),
            ("joe doe", "joe@M, doe@M"),
            ("<joe doe>", "<joedoe@M>"),
            ("<a> <b>", "<a@M> <b@M>"),
            ("<a@b> \"c\"", "<a@b>, c@M"),
            ("x <a@b> y", "x <a@b>, y@M"),
            ("a,,b", "a@M, , b@M"),
            ("a, b@c,", "a@M, b@c, "),
            ("g: a, b@c;, d", "g: a@M, b@c;, d@M"),
            ("@", "\"\""),
            ("a:b", "\"a:b\"@M"),
            ("joe..d", "\"joe..d\"@M"),
            (".j@x", "\".j\"@x"),
            ("a@b@c", "\"a@b\"@c"),
            ("\"joe\"@x", "joe@x"),
            ("\"j d\"", "\"j d\"@M"),
            ("h!u", "u@h"),
            ("a%b", "a@b"),
            ("@r:u@h", "u@h"),
            ("joe;", "joe@M;"),
            ("\"open <joe@x>", "\"open <joe@x>\"@M"),
            ("<joe@x.y ", "\"<joe\"@x.y"),
            ("x\\y <a>", "xy <a@M>"),
            ("\"a\n b\" <c>", "\"a  b\" <c@M>"),
            ("[1.2.3.4]", "\"[1.2.3.4]\"@M"),
            ("a|b", "a|b@M"),
            ("joe (c1) (c2)", "joe@M (c1) (c2)"),
            ("(c1) joe (c2) doe", "joe@M (c1), doe@M (c2)"),
            ("a (x) b", "a@M, b@M (x)"),
            ("<joe (c)>", "<joe@M (c)>"),
            ("(a) x (b) <j (c)> (d), e", "(a) x (b) <j@M (c)>(d), e@M"),
            ("a, (z), b", "a@M, (z), b@M"),
            ("<a>b", "<a@M>, b@M"),
            ("a[b]@c, d", "a@M, \"[b]\"@c, d@M"),
            ("a\"b\"@x", "a@M, b@x"),
            ("a . b @ c, e", "a.b@c, e@M"),
            ("a!b%c", "b%c@a"),
            ("@a", "\"\"@a"),
            ("@a:", "@a:\"\""),
            ("a@b@", "\"a@b\"@"),
            ("a.@b.", "\"a.\"@b"),
            ("a>", "a@M>"),
            ("<<a>>", "< <\"a>\"@M>"),
            ("a<b", "\"a <b\"@M"),
            ("g:a", "\"g:a\"@M"),
            ("g:a;b;c", "g: a@M;, b@M;, c@M"),
            (",;a", ", ;, a@M"),
            (":a;", ": a@M;"),
            ("a\\ b <c>", "\"a b\" <c@M>"),
            ("\\\"a <b>", "\"\\\"a\" <b@M>"),
            ("c (x\n y)", "c@M (x  y)"),
            ("<a!b [c]>", "<\"b [c]\"@a>"),
            ("<!b \"c\"d [e]>", "<\"bcd[e]\"@>"),
            ("<@r:!b \"c\"d [e]>", "<\"bcd[e]\"@>"),
            ("<@r:\"\">", "<\"\"@M>"),
            ("<@r:@>", "<\"\"@>"),
        ] {
            let written = rewritten(value.as_bytes()).map(|value| String::from_utf8(value).unwrap());
            assert_eq!(written.as_deref(), Some(expected), "{value}");
        }
        assert_eq!(rewritten(b"Jos\xe9 <joe>"), Some(b"Jos\xe9 <joe@M>".to_vec()));
    }

    #[test]
    fn tokens_beyond_the_limit_are_lost_only_with_rewriting() {
        let options = Options { header_address_token_limit: 5, ..options() };
        let rewrite = |value: &[u8]| rewrite(&options, value, &mut Notices::default());
        assert_eq!(rewrite(b"a@b,, c"), None);
        assert_eq!(rewrite(b"a, b, c, d"), Some(b"a@M,\nb@M,\nc@M".to_vec()));
        // A list of complete addresses, too, is rewritten if the limit cuts one of them.
        assert_eq!(rewrite(b"a@b,c@d"), Some(b"a@b,\nc@M".to_vec()));
        assert_eq!(rewrite(b"a@b , e.f@g"), Some(b"a@b,\ne@M".to_vec()));
        assert_eq!(rewrite(b"a@b.c"), None);
    }

    proptest! {
        /// What is not taken apart has fewer tokens than the limit.
        #[test]
        fn no_list_has_more_tokens_than_are_counted(value in "[a-c0@.,;:<>()%! \\n\"\\[\\]_+=-]{0,60}") {
            let tokens: usize = parse_list(value.as_bytes(), 0)
                .iter()
                .map(|token| if let Token::Address(tokens) = token { tokens.len() } else { 1 })
                .sum();
            prop_assert!(tokens <= tokens_max(value.as_bytes()), "{}", tokens);
        }
    }

    #[test]
    fn too_many_comments_are_stripped() {
        let stripped = |value: &str| {
            let mut notices = Notices::default();
            let written = rewrite(&options(), value.as_bytes(), &mut notices).unwrap();
            (String::from_utf8(written).unwrap(), notices.into_lines("ID"))
        };
        let fits = format!("{} <joe>", "x".repeat(247));
        assert_eq!(stripped(&fits), (format!("{} <joe@M>", "x".repeat(247)), Vec::new()));
        // Without an address nothing is taken away.
        let comment = format!("<({})>", "x".repeat(300));
        assert_eq!(stripped(&format!("a, {comment}")), (format!("a@M,\n{comment}"), Vec::new()));
        let phrase = "x".repeat(248);
        let (written, notices) = stripped(&format!("a, {phrase} <joe>, b"));
        assert_eq!(written, "a@M,\n<joe@M>,\nb@M");
        let shown = "x".repeat(100);
        let warning = format!("stripping too many comments from address: {shown}...");
        assert_eq!(notices, [Notice::warning(warning)]);
        assert_eq!(stripped(&format!("a, {phrase} <>")).0, "a@M,\n<>");
        // There is no address to reduce the element to.
        assert_eq!(stripped(&format!("a, ({phrase})")).0, format!("a@M,\n({phrase})"));
    }

    proptest! {
        #[test]
        fn a_list_of_addresses_is_complete_after_one_rewriting(
            list in prop::collection::vec("([A-Z][a-z]{0,5} )?<[a-z]{1,5}(@[a-z]{1,5}\\.[a-z]{2})?>( \\([a-z]{0,5}\\))?", 1..8),
        ) {
            if let Some(once) = rewritten(list.join(", ").as_bytes()) {
                prop_assert_eq!(rewritten(&once), None);
            }
        }

        #[test]
        fn a_list_that_is_complete_at_first_sight_is_not_rewritten(
            value in "([a-c@., \\t\n]{0,5}|\"[a,<\\\\ ]{0,3}\"|[<>();:\\[\\]!%\x00\x0c\\\\]|<a@b>|a@b.c){0,9}",
        ) {
            if is_complete_list(&options(), value.as_bytes()) {
                let (options, mut notices) = (options(), Notices::default());
                let mut mapping = Mapping::new(&options, &NoTables, "ID", &mut notices);
                prop_assert_eq!(take_apart(&mut mapping, AddressRole::HeaderSender, value.as_bytes()), None);
            }
        }

        #[test]
        fn any_value_is_rewritten_in_bounded_size(value in "[a-c .@<>,;:()\"\\\\!%\n]{0,60}") {
            let mut notices = Notices::default();
            if let Some(written) = rewrite(&options(), value.as_bytes(), &mut notices) {
                // Each token can become an address with origin, quotes, comma and line break.
                prop_assert!(written.len() <= value.len() * 10);
            }
        }
    }
}
