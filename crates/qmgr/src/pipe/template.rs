//! An argument of the command of a pipe transport, with macros such as `${recipient}`. No I/O.

use std::fmt;

/// An argument, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Macro(Macro),
}

/// What a macro stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Macro {
    /// The address of the client.
    ClientAddress,
    /// Its HELO name.
    ClientHelo,
    /// Its host name.
    ClientHostname,
    /// Its port.
    ClientPort,
    /// Its protocol.
    ClientProtocol,
    /// The domain of a recipient.
    Domain,
    /// The envelope ID that the sender gave.
    EnvelopeId,
    /// The extension of a recipient.
    Extension,
    /// The whole local part of a recipient.
    Mailbox,
    /// The next-hop.
    Nexthop,
    /// A recipient before it was rewritten.
    OriginalRecipient,
    /// The queue ID.
    QueueId,
    /// A recipient.
    Recipient,
    /// SASL method of the client.
    SaslMethod,
    /// SASL sender.
    SaslSender,
    /// SASL user name.
    SaslUsername,
    /// The envelope sender.
    Sender,
    /// The size of the message.
    Size,
    /// The local part of a recipient without its extension.
    User,
}

const NAMES: &[(&str, Macro)] = &[
    ("client_address", Macro::ClientAddress),
    ("client_helo", Macro::ClientHelo),
    ("client_hostname", Macro::ClientHostname),
    ("client_port", Macro::ClientPort),
    ("client_protocol", Macro::ClientProtocol),
    ("domain", Macro::Domain),
    ("envid", Macro::EnvelopeId),
    ("extension", Macro::Extension),
    ("mailbox", Macro::Mailbox),
    ("nexthop", Macro::Nexthop),
    ("original_recipient", Macro::OriginalRecipient),
    ("queue_id", Macro::QueueId),
    ("recipient", Macro::Recipient),
    ("sasl_method", Macro::SaslMethod),
    ("sasl_sender", Macro::SaslSender),
    ("sasl_username", Macro::SaslUsername),
    ("sender", Macro::Sender),
    ("size", Macro::Size),
    ("user", Macro::User),
];

impl Macro {
    /// Is it another one for each recipient? Then its argument is there once for each.
    #[must_use]
    pub const fn is_of_recipient(self) -> bool {
        matches!(
            self,
            Self::Domain
                | Self::Extension
                | Self::Mailbox
                | Self::OriginalRecipient
                | Self::Recipient
                | Self::User
        )
    }

    fn name(self) -> &'static str {
        NAMES.iter().find_map(|(name, each)| (*each == self).then_some(*name)).unwrap_or_default()
    }
}

/// Why an argument cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// A macro that pipe(8) does not have.
    #[error("unknown macro name: \"{0}\"; write $$ where a dollar sign is meant")]
    Unknown(String),
    /// `${` without `}`.
    #[error("{0:?}: a macro is not closed")]
    Open(String),
}

impl Template {
    /// Reads `text`: `$name`, `${name}` and `$(name)` are macros, `$$` is a dollar sign.
    ///
    /// # Errors
    /// A macro that does not exist, or is not closed.
    pub fn parse(text: &str) -> Result<Self, InvalidTemplate> {
        let mut pieces = Vec::new();
        let mut plain = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('$') {
            plain.extend_from_slice(before.as_bytes());
            if let Some(behind) = behind.strip_prefix('$') {
                plain.push(b'$');
                rest = behind;
                continue;
            }
            let closing = match behind.chars().next() {
                Some('{') => Some('}'),
                Some('(') => Some(')'),
                _ => None,
            };
            let (name, tail) = match closing {
                Some(closing) => {
                    let inside = behind.get(1..).unwrap_or_default();
                    inside.split_once(closing).ok_or_else(|| InvalidTemplate::Open(text.to_owned()))?
                }
                None => {
                    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
                    let end = behind.find(|letter| !is_name(letter)).unwrap_or(behind.len());
                    behind.split_at_checked(end).unwrap_or((behind, ""))
                }
            };
            rest = tail;
            // A dollar sign by itself is one.
            if name.is_empty() && closing.is_none() {
                plain.push(b'$');
                continue;
            }
            let found = NAMES.iter().find_map(|(known, each)| (*known == name).then_some(*each));
            let found = found.ok_or_else(|| InvalidTemplate::Unknown(name.to_owned()))?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Macro(found));
        }
        plain.extend_from_slice(rest.as_bytes());
        if !plain.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    /// Is the argument there once for each recipient?
    #[must_use]
    pub fn is_of_recipient(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Macro(each) if each.is_of_recipient()))
    }

    /// Writes the argument, with what `value` says in the place of each macro.
    pub fn expand(&self, mut value: impl FnMut(Macro) -> Vec<u8>) -> Vec<u8> {
        let mut argument = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => argument.extend_from_slice(text),
                Piece::Macro(each) => argument.extend(value(*each)),
            }
        }
        argument
    }
}

impl fmt::Display for Template {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.write_str(&String::from_utf8_lossy(text))?,
                Piece::Macro(each) => write!(out, "${{{}}}", each.name())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expanded(text: &str) -> String {
        let argument =
            Template::parse(text).unwrap().expand(|each| format!("<{}>", each.name()).into_bytes());
        String::from_utf8(argument).unwrap()
    }

    #[test]
    fn macros_are_replaced() {
        assert_eq!(expanded("-f"), "-f");
        assert_eq!(expanded(""), "");
        assert_eq!(expanded("${sender}"), "<sender>");
        assert_eq!(expanded("a$sender/${domain}x$(user)"), "a<sender>/<domain>x<user>");
        assert_eq!(expanded("$$sender costs 5$"), "$sender costs 5$");
    }

    #[test]
    fn an_argument_of_recipients_is_known() {
        for (text, is_one) in [("${recipient}", true), ("x${extension}", true), ("${sender}${size}", false)] {
            assert_eq!(Template::parse(text).unwrap().is_of_recipient(), is_one, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_macro_is_an_error() {
        assert_eq!(Template::parse("${nosuch}"), Err(InvalidTemplate::Unknown("nosuch".into())));
        assert_eq!(Template::parse("${sender?x}"), Err(InvalidTemplate::Unknown("sender?x".into())));
        assert_eq!(Template::parse("a${sender"), Err(InvalidTemplate::Open("a${sender".into())));
    }

    proptest! {
        /// What was read and is written again says the same.
        #[test]
        fn text_and_back(text in "[a${}() _]{0,30}|(\\$\\{(sender|user)\\}|x){0,5}") {
            if let Ok(template) = Template::parse(&text) {
                let literal = template.expand(|each| format!("${{{}}}", each.name()).into_bytes());
                prop_assert_eq!(String::from_utf8(literal).unwrap(), template.to_string());
            }
        }
    }
}
