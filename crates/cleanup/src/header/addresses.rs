//! The addresses of a header are completed.

use postfix::notice::Notice;

use crate::address::{
    Token, external, internal, needs_blank, next, parse_list, quote, rewrite_external, scan, write_external,
};
use crate::options::Options;
use crate::printable::printable;

/// Bytes of phrase and comments that one list element of a rewritten header may have.
const COMMENT_BYTES_MAX: usize = 250;

/// Rewrites the addresses in the value of an address header (what is behind its colon). `None` if that changes
/// nothing; otherwise the new value, with a newline behind each comma where a line may be broken.
pub(crate) fn rewrite_addresses(
    options: &Options,
    value: &[u8],
    notices: &mut Vec<Notice>,
) -> Option<Vec<u8>> {
    let mut list = parse_list(value, options.header_address_token_limit);
    let mut changed = false;
    for token in &mut list {
        let Token::Address(tokens) = token else { continue };
        let written = external(tokens);
        // An address in a header is complete behind this line: canonical maps and masquerading come here.
        let rewritten = rewrite_external(options, &written, notices);
        changed |= rewritten != written;
        *tokens = scan(&rewritten, 0);
    }
    changed.then(|| write_list(options, &list, notices))
}

/// The list element that is being written.
#[derive(Default)]
struct Element<'a> {
    /// Where it begins in the output.
    start: usize,
    /// Its last address: tokens and length in the output.
    address: Option<(&'a [Token], usize)>,
}

fn write_list(options: &Options, list: &[Token], notices: &mut Vec<Notice>) -> Vec<u8> {
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
fn strip_comments(options: &Options, element: &Element<'_>, text: &mut Vec<u8>, notices: &mut Vec<Notice>) {
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
