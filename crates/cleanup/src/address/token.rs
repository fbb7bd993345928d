//! The tokens of an address or address list, and how they are written again.

use super::quote::quote;

/// One token. Text is kept bare, without quotes or brackets, but a comment is kept as it stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// One of `| % ! ( ) < > @ , ; : . [ ] " \`.
    Operator(u8),
    /// A word.
    Atom(Vec<u8>),
    /// A quoted string, or a word that needs quotes.
    Quoted(Vec<u8>),
    /// A domain literal.
    Literal(Vec<u8>),
    /// A comment with its parentheses.
    Comment(Vec<u8>),
    /// The colon of `group: member, member;`.
    GroupColon,
    /// The tokens of one address.
    Address(Vec<Self>),
}

const OPERATORS: &[u8] = b"|%!()<>@,;:\\\".[]";

/// Splits text into tokens. Never fails: an open quote, bracket or comment ends with the text. `token_limit` 0 is no
/// limit; what is behind the last token allowed is not looked at.
pub(crate) fn scan(text: &[u8], token_limit: usize) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        if is_blank(byte) {
            rest = behind;
            continue;
        }
        let token = match byte {
            b'(' => {
                let (comment, after) = rest.split_at(comment_len(rest));
                rest = after;
                Token::Comment(comment.to_vec())
            }
            b'[' => Token::Literal(collect_closed(behind, b']', &mut rest)),
            b'"' => Token::Quoted(collect_closed(behind, b'"', &mut rest)),
            _ if byte != b'\\' && OPERATORS.contains(&byte) => {
                rest = behind;
                Token::Operator(byte)
            }
            _ => {
                let (word, after) = collect(rest, |byte| is_blank(byte) || OPERATORS.contains(&byte));
                rest = after;
                if word
                    .iter()
                    .any(|&byte| byte == b' ' || byte.is_ascii_control() || OPERATORS.contains(&byte))
                {
                    Token::Quoted(word)
                } else {
                    Token::Atom(word)
                }
            }
        };
        tokens.push(token);
        if tokens.len() == token_limit {
            break;
        }
    }
    tokens
}

pub(super) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Text up to the first byte that `ends` says and no backslash protects. White space in it becomes a blank.
fn collect(text: &[u8], ends: impl Fn(u8) -> bool) -> (Vec<u8>, &[u8]) {
    let mut collected = Vec::new();
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        let (byte, after) = if first == b'\\' {
            match behind.split_first() {
                Some((&protected, after)) => (protected, after),
                None => {
                    rest = behind;
                    break;
                }
            }
        } else if ends(first) {
            break;
        } else {
            (first, behind)
        };
        collected.push(if is_blank(byte) { b' ' } else { byte });
        rest = after;
    }
    (collected, rest)
}

/// Text up to `close`, which is taken off `rest`, too.
fn collect_closed<'a>(text: &'a [u8], close: u8, rest: &mut &'a [u8]) -> Vec<u8> {
    let (collected, after) = collect(text, |byte| byte == close);
    *rest = after.get(1..).unwrap_or_default();
    collected
}

/// Length of the comment at the beginning of `text`; comments nest.
fn comment_len(text: &[u8]) -> usize {
    let mut level = 0_usize;
    let mut bytes = text.iter().enumerate();
    while let Some((position, byte)) = bytes.next() {
        match byte {
            b'(' => level = level.saturating_add(1),
            b')' => {
                level = level.saturating_sub(1);
                if level == 0 {
                    return position.saturating_add(1);
                }
            }
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
    text.len()
}

/// Where a blank stands between two tokens that are written one after the other: behind `,` and the colon of a group,
/// before `<`, and between words.
pub(crate) const fn needs_blank(left: &Token, right: &Token) -> bool {
    const fn is_word(token: &Token) -> bool {
        !matches!(token, Token::Operator(_) | Token::GroupColon)
    }
    matches!(left, Token::Operator(b',') | Token::GroupColon)
        || matches!(right, Token::Operator(b'<'))
        || is_word(left) && is_word(right)
}

/// The bare text of an address's tokens: no quotes. `spaced`: with blanks where [`needs_blank`].
pub(crate) fn internal(tokens: &[Token], spaced: bool) -> Vec<u8> {
    let mut text = Vec::new();
    for (position, token) in tokens.iter().enumerate() {
        match token {
            Token::Operator(operator) => text.push(*operator),
            Token::Atom(bytes) | Token::Quoted(bytes) | Token::Comment(bytes) => {
                text.extend_from_slice(bytes)
            }
            Token::Literal(bytes) => {
                text.push(b'[');
                text.extend_from_slice(bytes);
                text.push(b']');
            }
            Token::GroupColon => text.push(b':'),
            Token::Address(inner) => text.extend_from_slice(&internal(inner, spaced)),
        }
        if spaced && next(tokens, position).is_some_and(|next| needs_blank(token, next)) {
            text.push(b' ');
        }
    }
    text
}

/// The text of an address's tokens with quotes, without white space except behind a comma.
pub(crate) fn external(tokens: &[Token]) -> Vec<u8> {
    let mut text = Vec::new();
    for token in tokens {
        write_external(token, &mut text);
        if *token == Token::Operator(b',') {
            text.push(b' ');
        }
    }
    text
}

/// One token with its quotes.
pub(crate) fn write_external(token: &Token, text: &mut Vec<u8>) {
    match token {
        Token::Operator(operator) => text.push(*operator),
        Token::Atom(bytes) | Token::Comment(bytes) => text.extend_from_slice(bytes),
        Token::Quoted(bytes) => {
            text.push(b'"');
            write_protected(bytes, b"\"\\\r\n", text);
            text.push(b'"');
        }
        Token::Literal(bytes) => {
            text.push(b'[');
            write_protected(bytes, b"\\\r\n", text);
            text.push(b']');
        }
        Token::GroupColon => text.push(b':'),
        Token::Address(tokens) => text.extend_from_slice(&quote(&internal(tokens, true))),
    }
}

fn write_protected(bytes: &[u8], protect: &[u8], text: &mut Vec<u8>) {
    for &byte in bytes {
        if protect.contains(&byte) {
            text.push(b'\\');
        }
        text.push(byte);
    }
}

/// The token behind the one at `position`.
pub(crate) fn next(tokens: &[Token], position: usize) -> Option<&Token> {
    tokens.get(position.checked_add(1)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_of_odd_text() {
        let atom = |text: &str| Token::Atom(text.as_bytes().to_vec());
        let quoted = |text: &str| Token::Quoted(text.as_bytes().to_vec());
        assert_eq!(scan(b" \t\r\n", 0), []);
        assert_eq!(scan(b"a\\ b \\", 0), [quoted("a b"), atom("")]);
        assert_eq!(scan(b"\"open", 0), [quoted("open")]);
        assert_eq!(scan(b"\"a\n\tb\"c", 0), [quoted("a  b"), atom("c")]);
        assert_eq!(scan(b"(a (b\\)) c) d", 0), [Token::Comment(b"(a (b\\)) c)".to_vec()), atom("d")]);
        assert_eq!(scan(b"(open", 0), [Token::Comment(b"(open".to_vec())]);
        assert_eq!(scan(b"[1.2\\]3]", 0), [Token::Literal(b"1.2]3".to_vec())]);
        assert_eq!(scan(b"a b c", 2), [atom("a"), atom("b")]);
        assert_eq!(scan(b"]", 0), [Token::Operator(b']')]);
    }

    proptest! {
        #[test]
        fn scanning_what_was_written_gives_the_same_tokens(text in "[a-z .@<>,;:)\"\\\\\\[\\]!%|]{0,24}") {
            let tokens = scan(text.as_bytes(), 0);
            let mut written = Vec::new();
            for token in &tokens {
                // A word that a lone backslash left empty is not written at all, and a literal gets no backslash
                // before a bracket.
                prop_assume!(*token != Token::Atom(Vec::new()));
                prop_assume!(!matches!(token, Token::Literal(text) if text.contains(&b']')));
                write_external(token, &mut written);
                written.push(b' ');
            }
            prop_assert_eq!(scan(&written, 0), tokens);
        }
    }
}
