//! The command line for a request. No I/O.

use std::borrow::Cow;

use smtp::address::quoted;

use super::attributes::{Attributes, Flags};
use super::template::Macro;
use crate::mailbox::Mailbox;
use crate::request::{Recipient, Request};

/// The program and its arguments, macros replaced. An argument that names a recipient is there once for each of them.
#[must_use]
pub fn arguments(attributes: &Attributes, request: &Request, delimiters: &str) -> Vec<Vec<u8>> {
    let mut arguments = Vec::new();
    for template in &attributes.command {
        let mut add = |recipient: Option<&Recipient>| {
            let value = |each| value(each, attributes, request, recipient, delimiters);
            // A program cannot get a NUL.
            arguments.push(template.expand(value).into_iter().filter(|&byte| byte != 0).collect());
        };
        if template.is_of_recipient() {
            request.recipients.iter().for_each(|recipient| add(Some(recipient)));
        } else {
            add(None);
        }
    }
    arguments
}

/// The envelope sender as the command and the headers of delivery have it, unquoted.
#[must_use]
pub fn sender<'a>(attributes: &'a Attributes, request: &'a Request) -> &'a [u8] {
    if request.sender.is_empty() { &attributes.null_sender } else { &request.sender }
}

fn value(
    each: Macro,
    attributes: &Attributes,
    request: &Request,
    recipient: Option<&Recipient>,
    delimiters: &str,
) -> Vec<u8> {
    let flags = &attributes.flags;
    let client = &request.client;
    let address = recipient.map(|recipient| recipient.address.as_slice()).unwrap_or_default();
    let mailbox = || Mailbox::of(address, delimiters);
    match each {
        Macro::ClientAddress => client.address.clone(),
        Macro::ClientHelo => client.helo.clone(),
        Macro::ClientHostname => client.name.clone(),
        Macro::ClientPort => client.port.clone(),
        Macro::ClientProtocol => client.protocol.clone(),
        Macro::SaslMethod => client.sasl_method.clone(),
        Macro::SaslSender => client.sasl_sender.clone(),
        Macro::SaslUsername => client.sasl_username.clone(),
        Macro::EnvelopeId => request.envelope_id.clone(),
        Macro::QueueId => request.queue_id.as_bytes().to_vec(),
        Macro::Size => request.size_bytes.to_string().into_bytes(),
        Macro::Nexthop => lower_if(flags.has(b'h'), request.nexthop.as_bytes()).into_owned(),
        Macro::Sender => whole(sender(attributes, request), &Flags::default(), flags.has(b'q')),
        Macro::Recipient => whole(address, flags, flags.has(b'q')),
        Macro::OriginalRecipient => {
            let original = recipient.map(|recipient| recipient.original.as_slice()).unwrap_or_default();
            whole(if original.is_empty() { address } else { original }, flags, flags.has(b'q'))
        }
        Macro::Domain => lower_if(flags.has(b'h'), mailbox().domain).into_owned(),
        Macro::Mailbox => lower_if(flags.has(b'u'), mailbox().local).into_owned(),
        Macro::User => lower_if(flags.has(b'u'), mailbox().user).into_owned(),
        Macro::Extension => lower_if(flags.has(b'u'), mailbox().extension.unwrap_or_default()).into_owned(),
    }
}

/// A whole address, its parts in lower case and its local part quoted as the flags say.
fn whole(address: &[u8], flags: &Flags, quotes: bool) -> Vec<u8> {
    let Mailbox { local, domain, .. } = Mailbox::of(address, "");
    let mut text = lower_if(flags.has(b'u'), local).into_owned();
    if local.len() < address.len() {
        text.push(b'@');
        text.extend_from_slice(&lower_if(flags.has(b'h'), domain));
    }
    if quotes { quoted(&text).unwrap_or(text) } else { text }
}

fn lower_if(wanted: bool, text: &[u8]) -> Cow<'_, [u8]> {
    postfix::text::fold_if(wanted, text, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::request;

    fn line(words: &[&str], request: &Request) -> Vec<String> {
        let words: Vec<&str> = ["user=u"].iter().chain(words).copied().collect();
        let attributes = Attributes::parse(&words).unwrap();
        let line = arguments(&attributes, request, "+");
        line.into_iter().map(|argument| String::from_utf8(argument).unwrap()).collect()
    }

    #[test]
    fn an_argument_of_recipients_is_there_for_each() {
        let request = request(&["bob+x@E.com", "Carol@e.com"]);
        assert_eq!(
            line(
                &[
                    "argv=/bin/x",
                    "-f",
                    "${sender}",
                    "r=${recipient}",
                    "${user}/${extension}",
                    "${mailbox}",
                    "${domain}"
                ],
                &request
            ),
            [
                "/bin/x",
                "-f",
                "alice@sender.example",
                "r=bob+x@E.com",
                "r=Carol@e.com",
                "bob/x",
                "Carol/",
                "bob+x",
                "Carol",
                "E.com",
                "e.com",
            ]
        );
    }

    #[test]
    fn flags_fold_and_quote() {
        let mut request = request(&["A B@E.com"]);
        request.recipients[0].original = b"List@E.com".to_vec();
        let words =
            ["argv=/bin/x", "${recipient}", "${original_recipient}", "${mailbox}", "${domain}", "${nexthop}"];
        let with = |flags: &str| line(&[&[flags][..], &words].concat(), &request)[1..].to_vec();
        assert_eq!(with("flags="), ["A B@E.com", "List@E.com", "A B", "E.com", "Next.example"]);
        assert_eq!(with("flags=q"), ["\"A B\"@E.com", "List@E.com", "A B", "E.com", "Next.example"]);
        assert_eq!(with("flags=hu"), ["a b@e.com", "list@e.com", "a b", "e.com", "next.example"]);
    }

    #[test]
    fn the_null_sender_has_a_stand_in() {
        let mut request = request(&["bob@e.com"]);
        request.sender.clear();
        assert_eq!(line(&["argv=x", "${sender}"], &request), ["x", "MAILER-DAEMON"]);
        assert_eq!(line(&["null_sender=", "flags=q", "argv=x", "${sender}"], &request), ["x", ""]);
        assert_eq!(line(&["argv=x", "${queue_id}:${size}"], &request), ["x", "1C835288:294"]);
    }

    #[test]
    fn no_argument_has_a_nul() {
        let request = request(&["bo\0b@e.com"]);
        assert_eq!(line(&["argv=x", "${recipient}"], &request), ["x", "bob@e.com"]);
    }
}
