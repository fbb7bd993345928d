//! Rewrites one address as trivial-rewrite(8) does in the local context.

use memchr::memchr3;
use postfix::notice::Notice;

use super::quote::{quote, unquote};
use super::token::{Token, internal, scan};
use crate::notices::Notices;
use crate::options::Options;
use postfix::text::printable;

/// Rewrites an address in internal form, as envelopes have it.
pub(crate) fn rewrite_internal(options: &Options, address: &[u8], notices: &mut Notices) -> Vec<u8> {
    if let Some(rewritten) = rewrite_plain(options, address) {
        return rewritten;
    }
    unquote(&rewrite_external(options, &quote(address), notices))
}

/// Rewrites an address in external form.
pub(crate) fn rewrite_external(options: &Options, address: &[u8], notices: &mut Notices) -> Vec<u8> {
    if address.is_empty() {
        notices.push(Notice::warning("rewrite_addr: null address").by_trivial_rewrite());
        return Vec::new();
    }
    if let Some(rewritten) = rewrite_plain(options, address) {
        return rewritten;
    }
    let (tokens, spaced) = rewrite_tokens(options, scan(address, 0), notices);
    quote(&internal(&tokens, spaced))
}

/// Rewrites an address of plain bytes that is complete or only lacks a domain. Most addresses are such: this saves
/// taking them apart. `None` says nothing about the address.
fn rewrite_plain(options: &Options, address: &[u8]) -> Option<Vec<u8>> {
    if is_complete(options, address) {
        return Some(address.to_vec());
    }
    if !options.append_at_myorigin || memchr3(b'@', b'!', b'%', address).is_some() {
        return None;
    }
    let completed = [address, b"@", options.myorigin.as_bytes()].concat();
    is_complete(options, &completed).then_some(completed)
}

/// True for `local@domain` of plain bytes, which no rule changes.
pub(super) fn is_complete(options: &Options, address: &[u8]) -> bool {
    let mut dots_in_domain = 0_usize;
    let mut at_seen = false;
    // A dot is fine behind a plain byte.
    let mut plain_before = false;
    for &byte in address {
        // Most bytes are such: one look tells.
        if byte.is_ascii_alphanumeric() {
            plain_before = true;
            continue;
        }
        match byte {
            b'.' | b'@' if !plain_before => return false,
            b'.' => {
                plain_before = false;
                dots_in_domain = dots_in_domain.saturating_add(1);
            }
            b'@' if at_seen => return false,
            b'@' => {
                at_seen = true;
                plain_before = false;
                dots_in_domain = 0;
            }
            b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'/' | b'=' | b'?' | b'^'..=b'`' | b'{'..=b'~' => {
                plain_before = true;
            }
            _ => return false,
        }
    }
    at_seen && plain_before && (dots_in_domain > 0 || !options.append_dot_mydomain)
}

fn position(tokens: &[Token], operator: u8) -> Option<usize> {
    tokens.iter().position(|token| *token == Token::Operator(operator))
}

fn last_position(tokens: &[Token], operator: u8) -> Option<usize> {
    tokens.iter().rposition(|token| *token == Token::Operator(operator))
}

fn swaps_bangpath(options: &Options, tokens: &[Token]) -> bool {
    options.swap_bangpath && position(tokens, b'@').is_none()
}

/// Removes `@host,@host:` before an address; a route to nowhere stays.
fn strip_route(tokens: &mut Vec<Token>) {
    if let [Token::Operator(b'@'), behind @ ..] = tokens.as_slice()
        && let Some(colon) = position(behind, b':')
        && let Some(address @ [_, ..]) = colon.checked_add(1).and_then(|start| behind.get(start..))
    {
        *tokens = address.to_vec();
    }
}

/// Applies the rules. The answer says, too, whether the address is written with blanks between its words.
fn rewrite_tokens(options: &Options, mut tokens: Vec<Token>, notices: &mut Notices) -> (Vec<Token>, bool) {
    match tokens.as_slice() {
        [Token::Quoted(text)] if text.is_empty() => return (tokens, true),
        [Token::Operator(b'@')] => return (vec![Token::Quoted(Vec::new())], true),
        _ => strip_route(&mut tokens),
    }
    // Observed on Postfix 3.7: an address that began with `!` is written without blanks.
    let spaced = !(tokens.first() == Some(&Token::Operator(b'!')) && swaps_bangpath(options, &tokens));
    if position(&tokens, b'@').is_none() {
        complete(options, &mut tokens);
    }
    append_dot_mydomain(options, &mut tokens, notices);
    if let [.., before, Token::Operator(b'.')] = tokens.as_slice()
        && !matches!(before, Token::Operator(b'.' | b'@'))
    {
        tokens.pop();
    }
    (tokens, spaced)
}

/// Gives an address without `@` one: from a `!`, a `%`, or `myorigin`.
fn complete(options: &Options, tokens: &mut Vec<Token>) {
    if options.swap_bangpath
        && let Some(bang) = position(tokens, b'!')
    {
        let mut local = tokens.split_off(bang);
        local.remove(0);
        local.push(Token::Operator(b'@'));
        local.append(tokens);
        *tokens = local;
    } else if options.allow_percent_hack
        && let Some(percent) = last_position(tokens, b'%')
    {
        if let Some(token) = tokens.get_mut(percent) {
            *token = Token::Operator(b'@');
        }
    } else if options.append_at_myorigin && !options.myorigin.is_empty() {
        tokens.push(Token::Operator(b'@'));
        tokens.extend(scan(options.myorigin.as_bytes(), 0));
    }
}

fn append_dot_mydomain(options: &Options, tokens: &mut Vec<Token>, notices: &mut Notices) {
    if !options.append_dot_mydomain || options.mydomain.is_empty() {
        return;
    }
    let Some(domain) = last_position(tokens, b'@').and_then(|at| tokens.get(at.checked_add(1)?..)) else {
        return;
    };
    let is_complete = |token: &Token| matches!(token, Token::Literal(_) | Token::Operator(b'.'));
    if domain.is_empty() || domain.iter().any(is_complete) {
        return;
    }
    if options.append_dot_mydomain_by_default
        && let Some(Token::Atom(host) | Token::Quoted(host)) = domain.first()
        && !host.eq_ignore_ascii_case(b"localhost")
    {
        let host = printable(host, options.smtputf8_enable);
        let line = Notice::info(format!(
            "using backwards-compatible default setting append_dot_mydomain=yes to rewrite \"{host}\" to \"{host}.{}\"",
            options.mydomain
        ));
        notices.push(line.by_trivial_rewrite());
    }
    tokens.push(Token::Operator(b'.'));
    tokens.extend(scan(options.mydomain.as_bytes(), 0));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn options() -> Options {
        Options {
            myorigin: "mx.example.test".to_owned(),
            mydomain: "example.test".to_owned(),
            ..Options::default()
        }
    }

    fn rewritten(options: &Options, address: &str) -> String {
        let mut notices = Notices::default();
        let text = rewrite_internal(options, address.as_bytes(), &mut notices);
        assert_eq!(notices.into_lines("ID"), []);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn envelope_addresses() {
        // Observed on Postfix 3.7.
        for unchanged in [
            "alice@",
            "@",
            "list-@[]",
            "#@[]",
            "<a@b>",
            "a@b c",
            "user name@x",
            "\"user name\"@x",
            "a@b@c",
            "a\\b@x",
            "a\"b@x",
            ".a@x",
            "(c)a@b",
            "a:b@c",
            "u@[1.2.3.4]",
            "h!u@c",
            "a%b@c",
            "Us.Er+x@Host.EX",
        ] {
            assert_eq!(rewritten(&options(), unchanged), unchanged);
        }
        for (address, expected) in [
            ("alice", "alice@mx.example.test"),
            ("alice@host.", "alice@host"),
            ("A@Host.EX.", "A@Host.EX"),
            ("a%b", "a@b"),
            ("h!u", "u@h"),
            ("@r:u@h", "u@h"),
            ("a b", "a b@mx.example.test"),
            ("|cmd", "|cmd@mx.example.test"),
            ("a\tb@x", "a b@x"),
            ("a@b ", "a@b"),
            ("a@b\n", "a@b"),
            ("MAILER-DAEMON", "MAILER-DAEMON@mx.example.test"),
        ] {
            assert_eq!(rewritten(&options(), address), expected, "{address}");
        }
    }

    #[test]
    fn each_rule_has_its_switch() {
        let mut plain = options();
        plain.swap_bangpath = false;
        assert_eq!(rewritten(&plain, "h!u"), "h!u@mx.example.test");
        assert_eq!(rewritten(&plain, "h!u%d"), "h!u@d");
        plain.allow_percent_hack = false;
        assert_eq!(rewritten(&plain, "h!u%d"), "h!u%d@mx.example.test");
        plain.append_at_myorigin = false;
        assert_eq!(rewritten(&plain, "u"), "u");
        plain.append_dot_mydomain = true;
        assert_eq!(rewritten(&plain, "u"), "u");
        assert_eq!(rewritten(&plain, "u@h"), "u@h.example.test");
        assert_eq!(rewritten(&plain, "u@h.x"), "u@h.x");
        assert_eq!(rewritten(&plain, "u@[h]"), "u@[h]");
        assert_eq!(rewritten(&plain, "u@"), "u@");
    }

    #[test]
    fn an_address_that_begins_with_a_bang_loses_blanks_only_where_it_is_swapped() {
        let off = Options { swap_bangpath: false, ..options() };
        for (options, address, expected) in [
            (&options(), "!a b", "ab@"),
            (&options(), "!a b@x", "\"!a b\"@x"),
            (&off, "!a b", "\"!a b\"@mx.example.test"),
        ] {
            let text = rewrite_external(options, address.as_bytes(), &mut Notices::default());
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
    }

    #[test]
    fn a_domain_completed_by_an_old_default_is_logged() {
        let options =
            Options { append_dot_mydomain: true, append_dot_mydomain_by_default: true, ..options() };
        let mut notices = Notices::default();
        rewrite_internal(&options, b"u@h", &mut notices);
        rewrite_internal(&options, b"u@LocalHost", &mut notices);
        rewrite_internal(&options, b"u@\x01\xe9", &mut notices);
        let line = |host: &str| {
            Notice::info(format!(
                "using backwards-compatible default setting append_dot_mydomain=yes to rewrite \"{host}\" to \
                 \"{host}.example.test\""
            ))
            .by_trivial_rewrite()
        };
        assert_eq!(notices.into_lines("ID"), [line("h"), line("??")]);
    }

    proptest! {
        #[test]
        fn plain_addresses_are_rewritten_as_all_are(
            address in "([a-z0-9.+=-]{1,4}|[a-z.@!%-]{1,8})(@[a-z0-9.-]{1,6})?",
            dot in any::<bool>(),
        ) {
            let options = Options { append_dot_mydomain: dot, ..options() };
            if let Some(rewritten) = rewrite_plain(&options, address.as_bytes()) {
                let tokens = scan(address.as_bytes(), 0);
                let (tokens, spaced) = rewrite_tokens(&options, tokens, &mut Notices::default());
                prop_assert_eq!(quote(&internal(&tokens, spaced)), rewritten);
                prop_assert_eq!(quote(address.as_bytes()), address.as_bytes());
            }
        }

        #[test]
        fn an_ordinary_address_is_rewritten_once(address in "[a-z.%!]{1,8}(@[a-z]{1,4}(\\.[a-z]{1,4}){0,2})?") {
            let once = rewritten(&options(), &address);
            prop_assert_eq!(rewritten(&options(), &once), once);
        }
    }
}
