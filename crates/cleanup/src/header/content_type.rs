//! Content-Type: and Content-Transfer-Encoding:, as far as they decide where headers are and which bytes may occur.

/// The type of a part, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaType {
    /// `text/…`, and whatever is handled like it.
    Text,
    /// `message/rfc822`: another message, with headers.
    Message,
    /// `message/global`: the same, and it may be encoded as a whole.
    GlobalMessage,
    /// `message/partial` and `message/external-body`: no headers to look at, and nothing but 7-bit.
    MessageFragment,
    /// Other `message/…` types: no headers to look at.
    OpaqueMessage,
    /// `multipart/…`
    Multipart,
    /// No type.
    Other,
}

/// What a Content-Type: header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContentType {
    /// The type; `None` leaves the default of the place: the type does not matter here.
    pub(crate) media_type: Option<MediaType>,
    /// The parts of a `multipart/digest` are messages unless they say otherwise.
    pub(crate) digest: bool,
    /// Boundary strings of a `multipart/…`: more than one is illegal, but happens where something is to be hidden.
    pub(crate) boundaries: Vec<Vec<u8>>,
}

impl ContentType {
    /// Parses the value, that is, what is behind the colon.
    pub(crate) fn parse(value: &[u8]) -> Self {
        const SPECIALS: &[u8] = b"()<>@,;:\\\"/[]?=";
        let mut rest = value;
        let mut next_parameter = || next_tokens(&mut rest, SPECIALS);
        let is = |token: Option<&Token>, text: &str| matches!(token, Some(Token::Word(word)) if word.eq_ignore_ascii_case(text.as_bytes()));
        let mut parsed = Self { media_type: None, digest: false, boundaries: Vec::new() };
        let tokens = next_parameter().unwrap_or_default();
        let subtype = match tokens.get(1..3) {
            Some([Token::Special(b'/'), subtype]) => Some(subtype),
            _ => None,
        };
        if tokens.is_empty() {
            parsed.media_type = Some(MediaType::Other);
        } else if is(tokens.first(), "text") {
            parsed.media_type = Some(MediaType::Text);
        } else if is(tokens.first(), "message") {
            parsed.media_type = Some(if is(subtype, "rfc822") {
                MediaType::Message
            } else if is(subtype, "global") {
                MediaType::GlobalMessage
            } else if is(subtype, "partial") || is(subtype, "external-body") {
                MediaType::MessageFragment
            } else {
                MediaType::OpaqueMessage
            });
        } else if is(tokens.first(), "multipart") {
            parsed.media_type = Some(MediaType::Multipart);
            parsed.digest = is(subtype, "digest");
            while let Some(tokens) = next_parameter() {
                let mut tokens = tokens.into_iter();
                let name = tokens.next();
                if is(name.as_ref(), "boundary")
                    && tokens.next() == Some(Token::Special(b'='))
                    && let Some(value) = tokens.next()
                {
                    parsed.boundaries.push(value.into_text());
                }
            }
        }
        parsed
    }
}

/// A Content-Transfer-Encoding: as far as the standard knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    SevenBit,
    EightBit,
    Binary,
    QuotedPrintable,
    Base64,
}

impl Encoding {
    /// The encoding in a header value, that is, what is behind the colon; `None` if it is another one.
    pub(crate) fn parse(mut value: &[u8]) -> Option<Self> {
        const SPECIALS: &[u8] = b"()<>@,;:\\\".[]";
        let Some(Token::Word(word)) = next_tokens(&mut value, SPECIALS)?.into_iter().next() else {
            return None;
        };
        [Self::SevenBit, Self::EightBit, Self::Binary, Self::QuotedPrintable, Self::Base64]
            .into_iter()
            .find(|encoding| encoding.name().as_bytes().eq_ignore_ascii_case(&word))
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::SevenBit => "7bit",
            Self::EightBit => "8bit",
            Self::Binary => "binary",
            Self::QuotedPrintable => "quoted-printable",
            Self::Base64 => "base64",
        }
    }

    /// The bytes that occur as they are sent: 7-bit ones for an encoding that transforms them.
    pub(crate) const fn domain(self) -> Self {
        match self {
            Self::QuotedPrintable | Self::Base64 => Self::SevenBit,
            identity => identity,
        }
    }

    /// What is announced is what is there: a type with parts or messages inside must not be transformed.
    pub(crate) const fn is_identity(self) -> bool {
        !matches!(self, Self::QuotedPrintable | Self::Base64)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(Vec<u8>),
    Quoted(Vec<u8>),
    Special(u8),
}

impl Token {
    fn into_text(self) -> Vec<u8> {
        match self {
            Self::Word(text) | Self::Quoted(text) => text,
            Self::Special(byte) => vec![byte],
        }
    }
}

/// The first three tokens up to the next `;`; `None` if there is nothing more.
fn next_tokens(rest: &mut &[u8], specials: &[u8]) -> Option<Vec<Token>> {
    // Blanks, controls and specials end a word.
    let ends_word = |byte: u8| byte == b' ' || byte.is_ascii_control() || specials.contains(&byte);
    let mut tokens = Vec::new();
    while let Some((&byte, behind)) = rest.split_first() {
        *rest = behind;
        let token = match byte {
            b' ' | b'\t' | b'\r' | b'\n' => continue,
            b';' => return Some(tokens),
            b'(' => {
                skip_comment(rest);
                continue;
            }
            b'"' => Token::Quoted(quoted_text(rest)),
            _ if ends_word(byte) => Token::Special(byte),
            _ => {
                let len = behind.iter().take_while(|&&byte| !ends_word(byte)).count();
                let (tail, after) = behind.split_at(len);
                *rest = after;
                let mut word = vec![byte];
                word.extend_from_slice(tail);
                Token::Word(word)
            }
        };
        if tokens.len() < 3 {
            tokens.push(token);
        }
    }
    (!tokens.is_empty()).then_some(tokens)
}

/// Skips the rest of a comment; comments nest.
fn skip_comment(rest: &mut &[u8]) {
    let mut level = 1_usize;
    while let Some((&byte, behind)) = rest.split_first() {
        *rest = behind;
        match byte {
            b'(' => level = level.saturating_add(1),
            b')' => {
                level = level.saturating_sub(1);
                if level == 0 {
                    return;
                }
            }
            b'\\' => *rest = behind.get(1..).unwrap_or_default(),
            _ => {}
        }
    }
}

/// The rest of a quoted string. A line break and the white space before it vanish.
fn quoted_text(rest: &mut &[u8]) -> Vec<u8> {
    let mut text: Vec<u8> = Vec::new();
    while let Some((&byte, behind)) = rest.split_first() {
        *rest = behind;
        match byte {
            b'"' => break,
            b'\n' => while text.pop_if(|last| matches!(*last, b' ' | b'\t' | b'\r' | b'\n')).is_some() {},
            b'\\' => {
                let Some((&protected, behind)) = behind.split_first() else { break };
                *rest = behind;
                text.push(protected);
            }
            _ => text.push(byte),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn types_that_matter() {
        for (value, expected) in [
            (" text/plain", Some(MediaType::Text)),
            (" TEXT", Some(MediaType::Text)),
            ("(c) message (d) / (e) RFC822 ; x", Some(MediaType::Message)),
            ("message/global", Some(MediaType::GlobalMessage)),
            ("(a (b) c \\) d) message/rfc822", Some(MediaType::Message)),
            ("message/partial", Some(MediaType::MessageFragment)),
            ("message/x", Some(MediaType::OpaqueMessage)),
            ("message", Some(MediaType::OpaqueMessage)),
            ("multipart/mixed", Some(MediaType::Multipart)),
            ("\"text\"/plain", None),
            ("application/x", None),
            ("", Some(MediaType::Other)),
            (";text", Some(MediaType::Other)),
        ] {
            assert_eq!(ContentType::parse(value.as_bytes()).media_type, expected, "{value}");
        }
    }

    #[test]
    fn boundaries() {
        for (value, expected) in [
            ("multipart/mixed; boundary=a", vec!["a"]),
            ("multipart/mixed; x=y; BOUNDARY = \"a;b \n  c\" junk;boundary=d", vec!["a;b  c", "d"]),
            ("multipart/mixed; boundary=\"a \t\n b\"", vec!["a b"]),
            ("multipart/mixed; boundary=\"a\\\"b", vec!["a\"b"]),
            ("multipart/mixed; boundary==", vec!["="]),
            ("multipart/mixed; boundary=\"\"", vec![""]),
            ("multipart/mixed; boundary=; boundary", vec![]),
            ("multipart; boundary=a/b", vec!["a"]),
            ("text/plain; boundary=a", vec![]),
        ] {
            let parsed = ContentType::parse(value.as_bytes());
            let found: Vec<String> =
                parsed.boundaries.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
            assert_eq!(found, expected, "{value}");
        }
        assert!(ContentType::parse(b"multipart/digest; boundary=a").digest);
        assert!(!ContentType::parse(b"multipart/mixed; boundary=digest").digest);
    }

    #[test]
    fn encodings() {
        for (value, expected) in [
            (" 8BIT", Some(Encoding::EightBit)),
            (" (c) binary (d)", Some(Encoding::Binary)),
            ("7bit ", Some(Encoding::SevenBit)),
            ("base64;x", Some(Encoding::Base64)),
            ("quoted-printable.x", Some(Encoding::QuotedPrintable)),
            ("\"8bit\"", None),
            ("8bits", None),
            (" ", None),
        ] {
            assert_eq!(Encoding::parse(value.as_bytes()), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_value_can_be_parsed(value in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut text = b"multipart/x;".to_vec();
            text.extend_from_slice(&value);
            prop_assert_eq!(ContentType::parse(&text).media_type, Some(MediaType::Multipart));
        }
    }
}
