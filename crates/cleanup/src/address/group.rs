//! Finds the addresses in the tokens of an address header.

use super::token::{Token, scan};

/// Tokenizes an address list and finds its addresses. Nothing is thrown away but white space and what is behind the
/// token limit: what is not understood stays where it is, missing commas are added, and a comment inside an address
/// moves behind it. Linear in the number of tokens.
pub(crate) fn parse_list(text: &[u8], token_limit: usize) -> Vec<Token> {
    Grouping::new(scan(text, token_limit)).run()
}

/// The walk over the tokens, from the right end to the left. Each token goes either to `done` or, if it belongs to the
/// address that is being collected, to `address`; both are in reverse order. All of `address` stands left of all of
/// `done`, so a comment that is put on `done` has moved behind the address.
struct Grouping {
    /// Tokens not yet looked at; the next one is the last.
    todo: Vec<Token>,
    address: Vec<Token>,
    done: Vec<Token>,
    /// A word here belongs to the address; otherwise it begins another one, and a comma is missing.
    word_fits: bool,
    /// A `;` was seen: a `:` may be the colon of a group.
    in_group: bool,
}

impl Grouping {
    const fn new(tokens: Vec<Token>) -> Self {
        Self { todo: tokens, address: Vec::new(), done: Vec::new(), word_fits: true, in_group: false }
    }

    fn run(mut self) -> Vec<Token> {
        while let Some(token) = self.todo.pop() {
            match token {
                Token::Comment(_) => self.done.push(token),
                Token::Operator(b';') => {
                    self.end_address(true);
                    self.done.push(token);
                    self.in_group = true;
                    self.word_fits = true;
                }
                Token::Operator(b':') if self.in_group => {
                    self.end_address(false);
                    self.done.push(Token::GroupColon);
                    self.skip_until(|token| *token == Token::Operator(b','));
                }
                Token::Operator(b'>') => {
                    self.end_address(true);
                    self.done.push(token);
                    self.route_address();
                }
                Token::Atom(_) | Token::Quoted(_) | Token::Literal(_) => {
                    if !self.word_fits {
                        self.end_address(true);
                    }
                    self.address.push(token);
                    self.word_fits = false;
                }
                Token::Operator(b',') => {
                    self.end_address(false);
                    self.done.push(token);
                    self.word_fits = true;
                }
                _ => {
                    self.address.push(token);
                    self.word_fits = true;
                }
            }
        }
        self.end_address(false);
        self.done.reverse();
        self.done
    }

    /// Behind `>`: everything up to `<` is one address, and there is no phrase before it.
    fn route_address(&mut self) {
        while let Some(token) = self.todo.pop_if(|token| *token != Token::Operator(b'<')) {
            if matches!(token, Token::Comment(_)) {
                self.done.push(token);
            } else {
                self.address.push(token);
            }
        }
        self.end_address(false);
        self.word_fits = true;
        self.skip_until(|token| matches!(token, Token::Operator(b'>' | b';' | b',' | b':')));
        // A colon that begins no group ends the phrase, and is no part of an address before it.
        if !self.in_group {
            self.done.extend(self.todo.pop_if(|token| *token == Token::Operator(b':')));
        }
    }

    /// Leaves tokens where they are up to the one that `stop` says.
    fn skip_until(&mut self, stop: impl Fn(&Token) -> bool) {
        while let Some(token) = self.todo.pop_if(|token| !stop(token)) {
            self.done.push(token);
        }
    }

    /// What was collected is an address, with a comma before it if one is missing.
    fn end_address(&mut self, comma: bool) {
        if self.address.is_empty() {
            return;
        }
        let mut tokens = std::mem::take(&mut self.address);
        tokens.reverse();
        self.done.push(Token::Address(tokens));
        if comma {
            self.done.push(Token::Operator(b','));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::address::token::write_external;

    /// Addresses in braces.
    fn grouped(text: &str) -> String {
        let mut shown = Vec::new();
        for token in parse_list(text.as_bytes(), 0) {
            match token {
                Token::Address(tokens) => {
                    shown.push(b'{');
                    tokens.iter().for_each(|token| write_external(token, &mut shown));
                    shown.push(b'}');
                }
                token => write_external(&token, &mut shown),
            }
        }
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn addresses_are_found() {
        for (text, expected) in [
            ("a, b", "{a},{b}"),
            ("a b", "{a},{b}"),
            ("Joe B. Doe <joe@x>", "JoeB.Doe<{joe@x}>"),
            ("(c) joe (d)", "{joe}(c)(d)"),
            ("x <a> y", "x<{a}>,{y}"),
            ("g: a, b;, c", "g:{a},{b};,{c}"),
            ("g:a", "{g:a}"),
            ("x:y <a>", "{x}:y<{a}>"),
            ("a;b:c", "{a};,{b:c}"),
            ("g: a;b;c", "g:{a};,{b};,{c}"),
            ("<a,b>", "<{a,b}>"),
            ("a>", "{a}>"),
            ("", ""),
            ("<>", "<>"),
        ] {
            assert_eq!(grouped(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_token_is_lost(text in "[a-c .@<>,;:()\"\\[\\]!%]{0,40}") {
            let mut words: Vec<Token> = scan(text.as_bytes(), 0);
            let mut found = Vec::new();
            for token in parse_list(text.as_bytes(), 0) {
                match token {
                    Token::Address(tokens) => found.extend(tokens),
                    Token::GroupColon => found.push(Token::Operator(b':')),
                    token => found.push(token),
                }
            }
            // Commas may have been added, comments may have moved.
            words.retain(|token| !matches!(token, Token::Comment(_) | Token::Operator(b',')));
            found.retain(|token| !matches!(token, Token::Comment(_) | Token::Operator(b',')));
            prop_assert_eq!(found, words);
        }
    }
}
