//! What a server offers in its reply to EHLO or LHLO (RFC 5321 section 4.1.1.1).

use crate::reply::Reply;

/// How many mechanisms of AUTH are kept. Servers offer fewer than ten.
pub const MECHANISMS_MAX: usize = 64;

/// A keyword that a client may decide not to see (Postfix's `smtp_discard_ehlo_keywords`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Keyword {
    EightBitMime,
    Auth,
    Dsn,
    Pipelining,
    RequireTls,
    Size,
    SmtpUtf8,
    StartTls,
    XForward,
}

impl Keyword {
    /// Each keyword with the word that a server says.
    pub const ALL: [(&'static str, Self); 9] = [
        ("8BITMIME", Self::EightBitMime),
        ("AUTH", Self::Auth),
        ("DSN", Self::Dsn),
        ("PIPELINING", Self::Pipelining),
        ("REQUIRETLS", Self::RequireTls),
        ("SIZE", Self::Size),
        ("SMTPUTF8", Self::SmtpUtf8),
        ("STARTTLS", Self::StartTls),
        ("XFORWARD", Self::XForward),
    ];

    /// The keyword of this name, in any case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(word, _)| word.eq_ignore_ascii_case(name)).map(|&(_, keyword)| keyword)
    }
}

/// Attributes of the original client that a server takes by XFORWARD (Postfix's `XFORWARD_README`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, clippy::struct_excessive_bools)]
pub struct XForwardAttributes {
    pub name: bool,
    pub addr: bool,
    pub port: bool,
    pub proto: bool,
    pub helo: bool,
    pub ident: bool,
    pub source: bool,
}

/// What a server offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct Extensions {
    /// The name that the server gives itself, as written; empty without one.
    pub server_name: String,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// REQUIRETLS (RFC 8689).
    pub require_tls: bool,
    /// SIZE (RFC 1870): offered at all.
    pub size: bool,
    /// The largest message that the server takes, in bytes, if SIZE says so: a limit of 0 says nothing.
    pub size_bytes_max: Option<u64>,
    /// SMTPUTF8 (RFC 6531).
    pub smtp_utf8: bool,
    /// STARTTLS (RFC 3207).
    pub start_tls: bool,
    /// The mechanisms of AUTH (RFC 4954) in capitals, in the server's order.
    pub mechanisms: Vec<String>,
    /// XFORWARD.
    pub x_forward: XForwardAttributes,
}

impl Extensions {
    /// Reads a reply to EHLO or LHLO, without the keywords in `hidden`.
    #[must_use]
    pub fn parse(reply: &Reply, hidden: &[Keyword]) -> Self {
        let mut found = Self::default();
        for (index, line) in reply.lines.iter().enumerate() {
            // `AUTH=LOGIN` is what some servers say, after an early draft of the RFC.
            let mut words = Reply::words(line).split([' ', '\t', '=']).filter(|word| !word.is_empty());
            let Some(first) = words.next() else { continue };
            if index == 0 {
                found.server_name = first.to_owned();
            } else if let Some(keyword) = Keyword::named(first).filter(|keyword| !hidden.contains(keyword)) {
                found.add(keyword, words);
            }
        }
        // Who carries UTF-8 in headers carries 8-bit content: RFC 6531 section 3.1 asks for both.
        found.eight_bit_mime |= found.smtp_utf8;
        found
    }

    /// Reads a reply to HELO: a name, and nothing offered.
    #[must_use]
    pub fn named(reply: &Reply) -> Self {
        let server_name =
            reply.lines.first().and_then(|line| Reply::words(line).split_ascii_whitespace().next());
        Self { server_name: server_name.unwrap_or_default().to_owned(), ..Self::default() }
    }

    fn add<'a>(&mut self, keyword: Keyword, mut words: impl Iterator<Item = &'a str>) {
        match keyword {
            Keyword::EightBitMime => self.eight_bit_mime = true,
            Keyword::Dsn => self.dsn = true,
            Keyword::Pipelining => self.pipelining = true,
            Keyword::RequireTls => self.require_tls = true,
            Keyword::SmtpUtf8 => self.smtp_utf8 = true,
            Keyword::StartTls => self.start_tls = true,
            Keyword::Size => {
                self.size = true;
                self.size_bytes_max =
                    words.next().and_then(|limit| limit.parse().ok()).filter(|&limit| limit > 0);
            }
            Keyword::Auth => {
                for mechanism in words.map(str::to_ascii_uppercase) {
                    if self.mechanisms.len() < MECHANISMS_MAX && !self.mechanisms.contains(&mechanism) {
                        self.mechanisms.push(mechanism);
                    }
                }
            }
            Keyword::XForward => words.for_each(|word| self.x_forward.add(word)),
        }
    }
}

impl XForwardAttributes {
    fn add(&mut self, word: &str) {
        let attribute = match word.to_ascii_uppercase().as_str() {
            "NAME" => &mut self.name,
            "ADDR" => &mut self.addr,
            "PORT" => &mut self.port,
            "PROTO" => &mut self.proto,
            "HELO" => &mut self.helo,
            "IDENT" => &mut self.ident,
            "SOURCE" => &mut self.source,
            _ => return,
        };
        *attribute = true;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::reply::ReplyReader;

    fn parse(lines: &str, hidden: &[Keyword]) -> Extensions {
        let (_, reply) = ReplyReader::default().take(lines.as_bytes()).unwrap();
        Extensions::parse(&reply.unwrap(), hidden)
    }

    const POSTFIX: &str = "250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-VRFY\r\n250-ETRN\r\n250-STARTTLS\r\n\
        250-AUTH PLAIN login PLAIN\r\n250-AUTH=CRAM-MD5\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n\
        250-SMTPUTF8\r\n250-XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT ODD\r\n250 CHUNKING\r\n";

    #[test]
    fn everything_that_is_offered_is_found() {
        let found = parse(POSTFIX, &[]);
        assert_eq!(found.server_name, "mx.example.org");
        assert!(
            found.pipelining
                && found.size
                && found.start_tls
                && found.eight_bit_mime
                && found.dsn
                && found.smtp_utf8
        );
        assert!(!found.require_tls);
        assert_eq!(found.size_bytes_max, Some(10_240_000));
        assert_eq!(found.mechanisms, ["PLAIN", "LOGIN", "CRAM-MD5"]);
        let forward = found.x_forward;
        assert!(
            forward.name
                && forward.addr
                && forward.port
                && forward.proto
                && forward.helo
                && forward.ident
                && forward.source
        );
    }

    #[test]
    fn hidden_keywords_are_not_seen() {
        for (word, keyword) in Keyword::ALL {
            let makes_no_difference = matches!(keyword, Keyword::RequireTls | Keyword::EightBitMime);
            assert_eq!(parse(POSTFIX, &[keyword]) == parse(POSTFIX, &[]), makes_no_difference, "{word}");
        }
        // A session with SMTPUTF8 has 8BITMIME.
        assert!(parse(POSTFIX, &[Keyword::EightBitMime]).eight_bit_mime);
        assert!(!parse(POSTFIX, &[Keyword::EightBitMime, Keyword::SmtpUtf8]).eight_bit_mime);
    }

    #[test]
    fn a_size_without_a_usable_limit_is_no_limit() {
        for line in ["SIZE", "SIZE 0", "SIZE many", "SIZE 99999999999999999999999999", "SIZE -5"] {
            let found = parse(&format!("250-x\r\n250 {line}\r\n"), &[]);
            assert!(found.size && found.size_bytes_max.is_none(), "{line}");
        }
    }

    #[test]
    fn case_does_not_matter_and_the_first_line_is_only_a_name() {
        assert!(parse("250-x\r\n250 pipelining\r\n", &[]).pipelining);
        assert!(!parse("250 PIPELINING\r\n", &[]).pipelining);
        assert_eq!(parse("250\r\n", &[]), Extensions::default());
    }

    #[test]
    fn mechanisms_are_bounded() {
        let words: Vec<String> = (0..200).map(|number| format!("M{number}")).collect();
        let found = parse(&format!("250-x\r\n250 AUTH {}\r\n", words.join(" ")), &[]);
        assert_eq!(found.mechanisms.len(), MECHANISMS_MAX);
    }
}
