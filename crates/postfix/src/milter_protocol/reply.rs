//! The replies of a filter.

use super::packet::{BadReply, Step, number, text};

/// An answer of a filter. All but [`Reply::Progress`], [`Reply::Quarantine`] and [`Reply::Edit`] end the step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It is still at work.
    Progress,
    /// Go on.
    Continue,
    /// The rest of the message, or of the connection, is of no interest to it.
    Accept,
    /// Drop the message without a word.
    Discard,
    /// Reject permanently.
    Reject,
    /// Refuse for now.
    Tempfail,
    /// Refuse for now and close the connection.
    Shutdown,
    /// Refuse in its own words: `CODE text`, lines separated by CR LF, each but the last with `-` behind its code.
    ReplyCode(String),
    /// Keep the message back; the reason.
    Quarantine(String),
    /// No more steps of this kind.
    Skip,
    /// Change the message.
    Edit(Edit),
}

/// A change of the message, as it is asked for at its end. Texts as the filter sent them, any bytes but NUL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// A header behind all others.
    AddHeader {
        /// Its name.
        name: Vec<u8>,
        /// Its value, lines separated by LF.
        value: Vec<u8>,
    },
    /// A header before the header at a position.
    InsertHeader {
        /// 0: before the first header, our own Received: included.
        position: u32,
        /// Its name.
        name: Vec<u8>,
        /// Its value, lines separated by LF.
        value: Vec<u8>,
    },
    /// A new value for a header; without a value the header goes.
    ChangeHeader {
        /// 1: the first header of this name.
        instance: u32,
        /// Its name.
        name: Vec<u8>,
        /// Its value, lines separated by LF.
        value: Vec<u8>,
    },
    /// Another sender.
    ChangeSender {
        /// The address, perhaps in `<>`.
        address: Vec<u8>,
        /// ESMTP parameters.
        parameters: Vec<u8>,
    },
    /// One more recipient.
    AddRecipient {
        /// The address, perhaps in `<>`.
        address: Vec<u8>,
        /// ESMTP parameters.
        parameters: Vec<u8>,
    },
    /// One recipient less.
    DeleteRecipient {
        /// The address, perhaps in `<>`.
        address: Vec<u8>,
    },
    /// A piece of a new body, lines ended by CR LF.
    ReplaceBody(Vec<u8>),
}

impl Reply {
    /// Reads the answer to a step.
    ///
    /// # Errors
    /// The packet makes no sense, or not at this step.
    pub fn parse(step: Step, command: u8, data: &[u8]) -> Result<Self, BadReply> {
        let bare = |reply| match data.len() {
            0 => Ok(reply),
            len => Err(BadReply::Followed { reply: name(command), len }),
        };
        match command {
            b'p' => bare(Self::Progress),
            b'c' => bare(Self::Continue),
            b'a' => bare(Self::Accept),
            b'd' => bare(Self::Discard),
            b'r' => bare(Self::Reject),
            b't' => bare(Self::Tempfail),
            b'4' => bare(Self::Shutdown),
            b's' => bare(Self::Skip),
            b'y' => reply_code(data).map(Self::ReplyCode).ok_or(BadReply::ReplyCode),
            b'q' => {
                let reason = data.split(|&byte| byte == 0).next().unwrap_or_default();
                Ok(Self::Quarantine(
                    String::from_utf8_lossy(reason.get(..100).unwrap_or(reason)).into_owned(),
                ))
            }
            _ if step == Step::EndOfBody && EDITS.contains(&command) => edit(command, data).map(Self::Edit),
            _ => Err(BadReply::Unexpected { reply: name(command), step: step.name() }),
        }
    }
}

const EDITS: &[u8] = b"himbe+2-";

fn edit(command: u8, data: &[u8]) -> Result<Edit, BadReply> {
    let mut rest = data;
    let edit = match command {
        b'h' => Edit::AddHeader { name: text(&mut rest)?.to_vec(), value: text(&mut rest)?.to_vec() },
        b'i' => {
            let position = number(&mut rest)?;
            let (name, value) = (text(&mut rest)?.to_vec(), text(&mut rest)?.to_vec());
            Edit::InsertHeader { position, name, value }
        }
        b'm' => {
            let instance = number(&mut rest)?.max(1);
            let (name, value) = (text(&mut rest)?.to_vec(), text(&mut rest)?.to_vec());
            if name.is_empty() {
                return Err(BadReply::HeaderName);
            }
            Edit::ChangeHeader { instance, name, value }
        }
        b'e' => {
            let (address, parameters) = with_parameters(&mut rest)?;
            Edit::ChangeSender { address, parameters }
        }
        b'+' => Edit::AddRecipient { address: text(&mut rest)?.to_vec(), parameters: Vec::new() },
        b'2' => {
            let (address, parameters) = with_parameters(&mut rest)?;
            Edit::AddRecipient { address, parameters }
        }
        b'-' => Edit::DeleteRecipient { address: text(&mut rest)?.to_vec() },
        _ => Edit::ReplaceBody(std::mem::take(&mut rest).to_vec()),
    };
    match rest.len() {
        0 => Ok(edit),
        len => Err(BadReply::LeftOver(len)),
    }
}

fn with_parameters(rest: &mut &[u8]) -> Result<(Vec<u8>, Vec<u8>), BadReply> {
    let address = text(rest)?.to_vec();
    let parameters = if rest.is_empty() { Vec::new() } else { text(rest)?.to_vec() };
    Ok((address, parameters))
}

/// Checks and cleans a reply code. libmilter doubles `%`, as Sendmail takes the text for a format.
fn reply_code(data: &[u8]) -> Option<String> {
    let data = data.strip_suffix(b"\0").unwrap_or(data);
    if data.contains(&0) {
        return None;
    }
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split("\r\n").peekable();
    while let Some(line) = lines.next() {
        let is_last = lines.peek().is_none();
        let [class @ (b'4' | b'5'), second, third, dash, rest @ ..] = line.as_bytes() else { return None };
        let is_code = second.is_ascii_digit() && third.is_ascii_digit();
        let is_other_class = rest.first().is_some_and(|digit| digit.is_ascii_digit() && digit != class);
        let is_dash = *dash == if is_last { b' ' } else { b'-' };
        if !is_code || !is_dash || is_other_class || line.contains(['\r', '\n']) {
            return None;
        }
    }
    let mut cleaned = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '%' => cleaned.extend(characters.next()),
            _ => cleaned.push(character),
        }
    }
    Some(cleaned)
}

/// The name that libmilter's sources and Postfix's log lines have for a command of a filter.
fn name(command: u8) -> &'static str {
    match command {
        b'+' => "SMFIR_ADDRCPT",
        b'-' => "SMFIR_DELRCPT",
        b'a' => "SMFIR_ACCEPT",
        b'b' => "SMFIR_REPLBODY",
        b'c' => "SMFIR_CONTINUE",
        b'd' => "SMFIR_DISCARD",
        b'f' => "SMFIR_CONN_FAIL",
        b'm' => "SMFIR_CHGHEADER",
        b'p' => "SMFIR_PROGRESS",
        b'r' => "SMFIR_REJECT",
        b't' => "SMFIR_TEMPFAIL",
        b'4' => "SMFIR_SHUTDOWN",
        b'h' => "SMFIR_ADDHEADER",
        b'i' => "SMFIR_INSHEADER",
        b'y' => "SMFIR_REPLYCODE",
        b'q' => "SMFIR_QUARANTINE",
        b's' => "SMFIR_SKIP",
        b'e' => "SMFIR_CHGFROM",
        b'2' => "SMFIR_ADDRCPT_PAR",
        b'l' => "SMFIR_SETSYMLIST",
        _ => "(unknown filter reply)",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at_end(command: u8, data: &[u8]) -> Result<Reply, String> {
        Reply::parse(Step::EndOfBody, command, data).map_err(|error| error.to_string())
    }

    #[test]
    fn verbs() {
        assert_eq!(at_end(b'c', b""), Ok(Reply::Continue));
        assert_eq!(at_end(b'q', b"spam\0"), Ok(Reply::Quarantine("spam".to_owned())));
        assert_eq!(at_end(b'a', b"x").unwrap_err(), "reply SMFIR_ACCEPT was followed by 1 data bytes");
        assert_eq!(
            at_end(b'l', b"").unwrap_err(),
            "unexpected filter response SMFIR_SETSYMLIST after event SMFIC_BODYEOB"
        );
        assert_eq!(
            Reply::parse(Step::Mail, b'h', b"X\0y\0").unwrap_err().to_string(),
            "unexpected filter response SMFIR_ADDHEADER after event SMFIC_MAIL"
        );
    }

    #[test]
    fn edits() {
        let bytes = |text: &str| text.as_bytes().to_vec();
        for (command, data, expected) in [
            (b'h', "X\0y\0", Edit::AddHeader { name: bytes("X"), value: bytes("y") }),
            (
                b'i',
                "\0\0\0\x02X\0y\0",
                Edit::InsertHeader { position: 2, name: bytes("X"), value: bytes("y") },
            ),
            (b'm', "\0\0\0\0X\0\0", Edit::ChangeHeader { instance: 1, name: bytes("X"), value: Vec::new() }),
            (b'e', "<a@b>\0", Edit::ChangeSender { address: bytes("<a@b>"), parameters: Vec::new() }),
            (b'2', "a\0B=c\0", Edit::AddRecipient { address: bytes("a"), parameters: bytes("B=c") }),
            (b'+', "a\0", Edit::AddRecipient { address: bytes("a"), parameters: Vec::new() }),
            (b'-', "a\0", Edit::DeleteRecipient { address: bytes("a") }),
            (b'b', "x\0\r\n", Edit::ReplaceBody(bytes("x\0\r\n"))),
        ] {
            assert_eq!(at_end(command, data.as_bytes()), Ok(Reply::Edit(expected)), "{data:?}");
        }
        assert_eq!(at_end(b'+', b"a\0b\0").unwrap_err(), "left-over data 2 bytes");
        assert_eq!(at_end(b'+', b"").unwrap_err(), "input packet too short for string");
        assert_eq!(at_end(b'm', b"\0\0\0\x01\0y\0").unwrap_err(), "null change header name");
    }

    #[test]
    fn reply_codes() {
        let code = |text: &str| match at_end(b'y', text.as_bytes()) {
            Ok(Reply::ReplyCode(text)) => Some(text),
            _ => None,
        };
        for (sent, read) in [
            ("550 5.7.1 no\0", Some("550 5.7.1 no")),
            ("451 later", Some("451 later")),
            ("550 so 100%% %sure", Some("550 so 100% sure")),
            ("550-5.7.1 a\r\n550 5.7.1 b\0", Some("550-5.7.1 a\r\n550 5.7.1 b")),
            ("550 4.7.1 mixed", None),
            ("250 fine", None),
            ("55x no", None),
            ("550", None),
            ("550-a", None),
            ("550 a\r\n550 b", None),
            ("550 a\nb", None),
            ("550 a\r\n", None),
            ("550 a\0b\0", None),
            ("", None),
        ] {
            assert_eq!(code(sent).as_deref(), read, "{sent:?}");
        }
    }

    #[test]
    fn every_reply_has_its_meaning_and_its_name() {
        for (command, reply, name) in [
            (b'p', Reply::Progress, "SMFIR_PROGRESS"),
            (b'c', Reply::Continue, "SMFIR_CONTINUE"),
            (b'a', Reply::Accept, "SMFIR_ACCEPT"),
            (b'd', Reply::Discard, "SMFIR_DISCARD"),
            (b'r', Reply::Reject, "SMFIR_REJECT"),
            (b't', Reply::Tempfail, "SMFIR_TEMPFAIL"),
            (b'4', Reply::Shutdown, "SMFIR_SHUTDOWN"),
            (b's', Reply::Skip, "SMFIR_SKIP"),
        ] {
            assert_eq!(at_end(command, b""), Ok(reply));
            assert_eq!(
                at_end(command, b"xy").unwrap_err(),
                format!("reply {name} was followed by 2 data bytes")
            );
        }
        for (command, name) in [
            (b'+', "SMFIR_ADDRCPT"),
            (b'-', "SMFIR_DELRCPT"),
            (b'b', "SMFIR_REPLBODY"),
            (b'e', "SMFIR_CHGFROM"),
            (b'h', "SMFIR_ADDHEADER"),
            (b'i', "SMFIR_INSHEADER"),
            (b'm', "SMFIR_CHGHEADER"),
            (b'2', "SMFIR_ADDRCPT_PAR"),
            (b'f', "SMFIR_CONN_FAIL"),
            (b'l', "SMFIR_SETSYMLIST"),
            (b'?', "(unknown filter reply)"),
        ] {
            let error = Reply::parse(Step::Rcpt, command, b"").unwrap_err();
            let words = format!("unexpected filter response {name} after event SMFIC_RCPT");
            assert_eq!(error.to_string(), words);
            assert!(!error.is_configuration());
        }
        let error = |command, data| Reply::parse(Step::EndOfBody, command, data).unwrap_err();
        assert!(error(b'y', b"250 fine").is_configuration());
        assert!(error(b'm', b"\0\0\0\x01\0y\0").is_configuration());
        assert_eq!(
            at_end(b'q', &[b'x'; 150]),
            Ok(Reply::Quarantine("x".repeat(100))),
            "a reason is cut, not refused"
        );
    }

    proptest! {
        #[test]
        fn any_packet_is_read_or_refused(command in any::<u8>(), data in prop::collection::vec(any::<u8>(), 0..60)) {
            for step in [Step::Connect, Step::Mail, Step::Header, Step::EndOfBody] {
                if let Ok(Reply::Edit(_)) = Reply::parse(step, command, &data) {
                    prop_assert_eq!(step, Step::EndOfBody);
                }
            }
        }

        #[test]
        fn a_reply_code_is_one_or_more_lines_of_one_class(text in "[45][0-9]{2}[ -][45]?[a-z%\r\n0-9 -]{0,20}\0?") {
            if let Ok(Reply::ReplyCode(cleaned)) = Reply::parse(Step::Mail, b'y', text.as_bytes()) {
                prop_assert!(cleaned.starts_with(['4', '5']));
                prop_assert!(cleaned.replace("\r\n", "").chars().all(|c| !c.is_control()));
            }
        }
    }
}
