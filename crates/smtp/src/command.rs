//! What a client says: one line for each command, with the parameters that the server knows.

use crate::address::{self, UnsafeAddress};
use crate::extensions::Extensions;

/// How the content is encoded (RFC 6152).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// `BODY=7BIT`
    SevenBit,
    /// `BODY=8BITMIME`
    EightBitMime,
}

/// How much of the message a report is to return (RFC 3461 section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returned {
    /// `RET=FULL`
    Full,
    /// `RET=HDRS`
    Headers,
}

/// When the sender wants a report about a recipient (RFC 3461 section 4.1). With nothing set the server decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, clippy::struct_excessive_bools)]
pub struct Notify {
    pub never: bool,
    pub success: bool,
    pub failure: bool,
    pub delay: bool,
}

/// A message's envelope without its recipients, and what MAIL says about it.
///
/// What the server did not offer is left out when the command is written.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)]
pub struct Message {
    pub(crate) sender: Vec<u8>,
    pub(crate) recipients: Vec<Recipient>,
    /// How many bytes the content has, for `SIZE=`.
    pub size_bytes: Option<u64>,
    /// How it is encoded, for `BODY=`.
    pub body: Option<Body>,
    /// The sender's name for the envelope, for `ENVID=`, not yet as xtext.
    pub envelope_id: Vec<u8>,
    /// For `RET=`.
    pub returned: Option<Returned>,
    /// Addresses or headers hold UTF-8: `SMTPUTF8`.
    pub smtp_utf8: bool,
    /// TLS is a must on the whole way: `REQUIRETLS`.
    pub require_tls: bool,
    /// `AUTH=<>`: the sender is not vouched for (Postfix's `smtp_send_dummy_mail_auth`).
    pub auth_unknown: bool,
    /// Lines made by [`x_forward`] that go before MAIL.
    pub x_forward: Vec<Vec<u8>>,
}

impl Message {
    /// A message from `sender` (empty: the null sender) to `recipients`, with nothing else said.
    ///
    /// # Errors
    /// When the sender cannot be sent in one line.
    pub fn new(sender: &[u8], recipients: Vec<Recipient>) -> Result<Self, UnsafeAddress> {
        Ok(Self {
            sender: address::quoted(sender)?,
            recipients,
            size_bytes: None,
            body: None,
            envelope_id: Vec::new(),
            returned: None,
            smtp_utf8: false,
            require_tls: false,
            auth_unknown: false,
            x_forward: Vec::new(),
        })
    }

    /// The recipients, in the order of their RCPT commands.
    #[must_use]
    pub fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }

    /// MAIL, with its line end; the parameters in Postfix's order.
    pub(crate) fn mail(&self, offered: &Extensions) -> Vec<u8> {
        let mut line = [b"MAIL FROM:<", self.sender.as_slice(), b">"].concat();
        if let Some(size_bytes) = self.size_bytes.filter(|_| offered.size) {
            line.extend_from_slice(format!(" SIZE={size_bytes}").as_bytes());
        }
        if let Some(body) = self.body.filter(|_| offered.eight_bit_mime) {
            line.extend_from_slice(match body {
                Body::SevenBit => b" BODY=7BIT",
                Body::EightBitMime => b" BODY=8BITMIME",
            });
        }
        if offered.dsn {
            if !self.envelope_id.is_empty() {
                line.extend_from_slice(b" ENVID=");
                address::xtext(&self.envelope_id, &mut line);
            }
            if let Some(returned) = self.returned {
                line.extend_from_slice(match returned {
                    Returned::Full => b" RET=FULL",
                    Returned::Headers => b" RET=HDRS",
                });
            }
        }
        if self.smtp_utf8 && offered.smtp_utf8 {
            line.extend_from_slice(b" SMTPUTF8");
        }
        if self.require_tls && offered.require_tls {
            line.extend_from_slice(b" REQUIRETLS");
        }
        if self.auth_unknown && !offered.mechanisms.is_empty() {
            line.extend_from_slice(b" AUTH=<>");
        }
        line.extend_from_slice(b"\r\n");
        line
    }
}

/// A recipient, and what RCPT says about it.
#[derive(Debug, Clone)]
pub struct Recipient {
    mailbox: Vec<u8>,
    /// The original recipient with its type (`rfc822;ann@example.org`), not yet as xtext, for `ORCPT=`; empty without.
    pub original: Vec<u8>,
    /// For `NOTIFY=`.
    pub notify: Notify,
}

impl Recipient {
    /// A recipient with nothing else said.
    ///
    /// # Errors
    /// When the address cannot be sent in one line.
    pub fn new(address: &[u8]) -> Result<Self, UnsafeAddress> {
        Ok(Self { mailbox: address::quoted(address)?, original: Vec::new(), notify: Notify::default() })
    }

    /// RCPT, with its line end.
    pub(crate) fn rcpt(&self, offered: &Extensions) -> Vec<u8> {
        let mut line = [b"RCPT TO:<", self.mailbox.as_slice(), b">"].concat();
        if offered.dsn {
            if !self.original.is_empty() {
                line.extend_from_slice(b" ORCPT=");
                address::xtext(&self.original, &mut line);
            }
            let Notify { never, success, failure, delay } = self.notify;
            let words = [(never, "NEVER"), (success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")];
            let mut separator = " NOTIFY=";
            for (_, word) in words.into_iter().filter(|&(wanted, _)| wanted) {
                line.extend_from_slice(separator.as_bytes());
                line.extend_from_slice(word.as_bytes());
                separator = ",";
            }
        }
        line.extend_from_slice(b"\r\n");
        line
    }
}

/// The original client of a message, for a server behind a content filter (Postfix's `XFORWARD_README`). Attributes that
/// are empty are unknown and are left out.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct ForwardedClient<'a> {
    pub name: &'a [u8],
    pub addr: &'a [u8],
    pub port: &'a [u8],
    pub helo: &'a [u8],
    pub proto: &'a [u8],
    pub ident: &'a [u8],
    /// Did the message come in from outside (`REMOTE`) or from this host (`LOCAL`)?
    pub is_local: bool,
}

/// The XFORWARD commands for a client: at most two, each with its line end. Attributes that the server does not take
/// are left out; with none left there is no command.
#[must_use]
pub fn x_forward(client: &ForwardedClient<'_>, offered: &Extensions) -> Vec<Vec<u8>> {
    let takes = offered.x_forward;
    let source: &[u8] = if client.is_local { b"LOCAL" } else { b"REMOTE" };
    let first = [
        (takes.name, "NAME", client.name),
        (takes.addr, "ADDR", client.addr),
        (takes.port, "PORT", client.port),
    ];
    let second = [
        (takes.proto, "PROTO", client.proto),
        (takes.helo, "HELO", client.helo),
        (takes.ident, "IDENT", client.ident),
        (takes.source, "SOURCE", source),
    ];
    [x_forward_line(&first), x_forward_line(&second)].into_iter().flatten().collect()
}

fn x_forward_line(attributes: &[(bool, &str, &[u8])]) -> Option<Vec<u8>> {
    let mut line = b"XFORWARD".to_vec();
    let known = attributes.iter().filter(|(taken, _, value)| *taken && !value.is_empty());
    for (_, name, value) in known {
        line.push(b' ');
        line.extend_from_slice(name.as_bytes());
        line.push(b'=');
        address::xtext(value, &mut line);
    }
    (line != b"XFORWARD").then(|| [line.as_slice(), b"\r\n"].concat())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::extensions::XForwardAttributes;

    fn all() -> Extensions {
        Extensions {
            eight_bit_mime: true,
            dsn: true,
            size: true,
            smtp_utf8: true,
            require_tls: true,
            mechanisms: vec!["PLAIN".into()],
            ..Extensions::default()
        }
    }

    fn message() -> Message {
        let mut message = Message::new(b"alice@sender.example", Vec::new()).unwrap();
        message.size_bytes = Some(294);
        message.body = Some(Body::EightBitMime);
        message.envelope_id = b"QQ 123".to_vec();
        message.returned = Some(Returned::Headers);
        message.smtp_utf8 = true;
        message.require_tls = true;
        message.auth_unknown = true;
        message
    }

    /// The order is Postfix's (observed on 3.7, RFC 5321 leaves it open).
    #[test]
    fn mail_has_the_parameters_that_the_server_offers() {
        let line = "MAIL FROM:<alice@sender.example> SIZE=294 BODY=8BITMIME ENVID=QQ+20123 RET=HDRS SMTPUTF8 REQUIRETLS AUTH=<>\r\n";
        assert_eq!(String::from_utf8(message().mail(&all())).unwrap(), line);
        assert_eq!(message().mail(&Extensions::default()), b"MAIL FROM:<alice@sender.example>\r\n");
        assert_eq!(Message::new(b"", Vec::new()).unwrap().mail(&all()), b"MAIL FROM:<>\r\n");
    }

    #[test]
    fn rcpt_has_its_parameters_where_the_server_has_dsn() {
        let mut recipient = Recipient::new(b"ann smith@example.org").unwrap();
        recipient.original = b"rfc822;ann+x@example.org".to_vec();
        recipient.notify = Notify { success: true, delay: true, ..Notify::default() };
        let line =
            b"RCPT TO:<\"ann smith\"@example.org> ORCPT=rfc822;ann+2Bx@example.org NOTIFY=SUCCESS,DELAY\r\n";
        assert_eq!(recipient.rcpt(&all()), line);
        assert_eq!(recipient.rcpt(&Extensions::default()), b"RCPT TO:<\"ann smith\"@example.org>\r\n");
    }

    #[test]
    fn x_forward_says_what_is_known_and_taken() {
        let client = ForwardedClient {
            name: b"localhost",
            addr: b"127.0.0.1",
            port: b"60380",
            proto: b"QMQP",
            is_local: true,
            ..ForwardedClient::default()
        };
        let mut offered = all();
        assert!(x_forward(&client, &offered).is_empty());
        offered.x_forward = XForwardAttributes {
            name: true,
            addr: true,
            port: true,
            proto: true,
            helo: true,
            ident: false,
            source: true,
        };
        let lines = x_forward(&client, &offered);
        assert_eq!(
            lines,
            [
                &b"XFORWARD NAME=localhost ADDR=127.0.0.1 PORT=60380\r\n"[..],
                b"XFORWARD PROTO=QMQP SOURCE=LOCAL\r\n"
            ]
        );
    }
}
