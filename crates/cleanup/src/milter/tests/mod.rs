//! Whole messages before mail filters: what they hear, and what their decisions and changes make of the queue file, the
//! reply and the log. The differential suite has the same against Postfix.

mod changes;
mod rules;

use std::sync::Arc;

use postfix::milter_protocol::Edit;
use postfix::notice::Notice;
use postfix::record::Reader;

use super::*;
use crate::finished::{Finished, LAYOUT_BYTES};
use crate::message::Message;
use crate::options::{Arrival, Options, Origin};
use crate::refusal::Refusal;
use crate::tables::{Key, LookupFailed, Maps, Names, Tables};

/// Maps, the beginning of a key, and what is found; `fail` is a failure.
#[derive(Debug)]
struct Book(&'static [(Maps, &'static str, &'static str)]);

impl Tables for Book {
    fn has(&self, maps: Maps) -> bool {
        self.0.iter().any(|(of, ..)| *of == maps)
    }

    fn find(
        &self,
        maps: Maps,
        key: Key<'_>,
        notices: &mut Vec<Notice>,
    ) -> Result<Option<Vec<u8>>, LookupFailed> {
        let (Key::Whole(key) | Key::Part(key)) = key;
        let found = self.0.iter().find(|(of, start, _)| *of == maps && key.starts_with(start.as_bytes()));
        match found {
            Some((.., "fail")) => {
                notices.push(Notice::warning("the table is gone"));
                Err(LookupFailed)
            }
            found => Ok(found.map(|(.., value)| value.as_bytes().to_vec())),
        }
    }

    fn is_listed(&self, _: Names, _: &[u8], _: &mut Vec<Notice>) -> Result<bool, LookupFailed> {
        Ok(false)
    }
}

fn options() -> Options {
    Options { myhostname: "mx.test".to_owned(), myorigin: "mx.test".to_owned(), ..Options::default() }
}

/// A message that stands before the filters.
struct Before {
    finished: Finished,
    inspection: Inspection,
    /// Records of the recipients that the client has named.
    recipients: Vec<u8>,
    /// What filters hear of these.
    heard: Vec<String>,
    content: Vec<u8>,
}

fn message(options: Options, book: Book, sender: &str, recipients: &[&str]) -> Before {
    let (finished, mut inspection, written, content) = received(options, book, sender, recipients);
    let (mut heard, mut left) = (Vec::new(), Vec::new());
    let mut hear = |address: &[u8]| heard.push(String::from_utf8(inspection.recipient(address)).unwrap());
    super::recipients(&written, &mut hear, &mut left);
    Before { finished, inspection, recipients: left, heard, content }
}

/// A message of which filters have not heard yet: what stands around it, its recipients and its content.
fn received(
    options: Options,
    book: Book,
    sender: &str,
    recipients: &[&str],
) -> (Finished, Inspection, Vec<u8>, Vec<u8>) {
    let arrival = Arrival {
        queue_id: "ID".to_owned(),
        created: (1_795_386_300, 0),
        arrived: (1_795_386_300, 0),
        date: "today".to_owned(),
    };
    let origin = Origin {
        client_name: "host".to_owned(),
        client_address: "192.0.2.1".to_owned(),
        client_port: "1".to_owned(),
        address_family: 2,
        log_origin: "host[192.0.2.1]".to_owned(),
        protocol: "QMQP",
    };
    let mut message = Message::new(Arc::new(options), Arc::new(book), arrival, origin);
    let (mut content, mut written) = (Vec::new(), Vec::new());
    message.content_bytes(b"Subject: x\n\nbody\n", &mut content);
    message.end_of_content(&mut content);
    message.sender(sender.as_bytes(), &mut written);
    for recipient in recipients {
        message.recipient_for_filters(recipient.as_bytes(), &mut written);
    }
    let (outcome, inspection) = message.finish_for_filters("127.0.0.1");
    (outcome.result.unwrap(), inspection.unwrap(), written, content)
}

/// From `s@x` to `r@x`, without tables.
fn plain() -> Before {
    message(options(), Book(&[]), "s@x", &["r@x"])
}

fn shown(records: &[u8]) -> Vec<String> {
    let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
    Reader::new(records)
        .map(|item| item.unwrap().1)
        .map(|record| format!("{} {}", char::from(record.kind.0), text(record.data)))
        .collect()
}

fn log(inspection: &mut Inspection) -> Vec<String> {
    let said = |notice: &Notice| format!("{}{}", notice.severity.prefix(), notice.text);
    inspection.take_notices().iter().map(said).collect()
}

fn add(address: &str, parameters: &str) -> Edit {
    Edit::AddRecipient { address: address.into(), parameters: parameters.into() }
}

fn delete(address: &str) -> Edit {
    Edit::DeleteRecipient { address: address.into() }
}

fn from(address: &str, parameters: &str) -> Edit {
    Edit::ChangeSender { address: address.into(), parameters: parameters.into() }
}

fn header(name: &str, value: &str) -> Edit {
    Edit::AddHeader { name: name.into(), value: value.into() }
}

#[test]
fn filters_hear_the_envelope_in_its_complete_form() {
    let before = message(options(), Book(&[]), "two words@x", &["user", "a b@c", "user", ""]);
    assert_eq!(before.heard, ["user@mx.test", "\"a b\"@c", "user@mx.test", "MAILER-DAEMON@mx.test"]);
    assert_eq!(before.inspection.heard_sender(), b"\"two words\"@x");
    // The duplicate is heard, but not written.
    let written: Vec<String> = shown(&before.recipients);
    let of_recipients = written.iter().filter(|record| record.starts_with('R')).collect::<Vec<_>>();
    assert_eq!(of_recipients, ["R user@mx.test", "R a b@c", "R MAILER-DAEMON@mx.test"]);
    assert!(!written.iter().any(|record| record.starts_with('=')));
    let bounce = message(options(), Book(&[]), "", &["r@x"]);
    assert_eq!(bounce.inspection.heard_sender(), b"");
}

#[test]
fn filters_are_told_where_the_body_begins_and_of_which_message() {
    let Before { inspection, content, .. } = plain();
    assert_eq!(inspection.queue_id(), "ID");
    let body = usize::try_from(inspection.header_bytes()).unwrap();
    assert_eq!(shown(&content[body..]), ["N ", "N body"]);
    assert_eq!(inspection.line_length_limit(), 2048);
}

#[test]
fn filters_do_not_hear_of_a_message_that_is_refused_for_its_envelope() {
    let arrival =
        Arrival { queue_id: "ID".to_owned(), created: (0, 0), arrived: (0, 0), date: String::new() };
    let origin = Origin {
        client_name: String::new(),
        client_address: String::new(),
        client_port: String::new(),
        address_family: 2,
        log_origin: String::new(),
        protocol: "QMQP",
    };
    let mut message = Message::new(Arc::new(options()), Arc::new(Book(&[])), arrival, origin);
    message.sender(b"a\0b", &mut Vec::new());
    let (outcome, inspection) = message.finish_for_filters("127.0.0.1");
    assert!(outcome.result.is_err() && inspection.is_none());
}

#[test]
fn a_decision_is_logged_with_its_step_and_what_is_known_then() {
    for (stage, name) in [
        (Stage::Connect, "CONNECT"),
        (Stage::Ehlo, "EHLO"),
        (Stage::Mail, "MAIL"),
        (Stage::Rcpt, "RCPT"),
        (Stage::Data, "DATA"),
        (Stage::EndOfMessage, "END-OF-MESSAGE"),
    ] {
        let (_, mut early, ..) = received(options(), Book(&[]), "s@x", &["r@x"]);
        early.apply(stage, &Response::Discard);
        let line =
            format!("ID: milter-discard: {name} from localhost[127.0.0.1]: milter triggers DISCARD action");
        assert_eq!(log(&mut early), [format!("{line}; from=<s@x>")]);
        let mut late = plain().inspection;
        late.apply(stage, &Response::Discard);
        assert_eq!(log(&mut late), [format!("{line}; from=<s@x> to=<r@x> proto=QMQP")]);
        assert!(late.is_discarded() && !late.is_held() && !late.goes_on() && late.refusal().is_none());
        assert_eq!(log(&mut late), [""; 0]);
    }
}

#[test]
fn a_message_is_held_once_and_goes_on() {
    let mut inspection = plain().inspection;
    assert!(!inspection.is_held() && !inspection.is_discarded() && inspection.goes_on());
    inspection.apply(Stage::Mail, &Response::Hold(String::new()));
    inspection.apply(Stage::EndOfMessage, &Response::Hold(String::new()));
    let line = "ID: milter-hold: MAIL from localhost[127.0.0.1]: milter triggers HOLD action";
    assert_eq!(log(&mut inspection), [format!("{line}; from=<s@x> to=<r@x> proto=QMQP")]);
    assert!(inspection.is_held() && !inspection.is_discarded() && inspection.goes_on());
    // A rule about the content has said so in the log already.
    let mut held = plain().inspection;
    held.hold();
    held.apply(Stage::Mail, &Response::Hold(String::new()));
    assert_eq!((held.is_held(), log(&mut held).len()), (true, 0));
}

#[test]
fn the_first_refusal_counts_and_its_code_says_for_how_long() {
    for (reply, refusal) in [
        ("554 5.7.1 no\r\n\u{7f}", Refusal::Content { text: "5.7.1 no___".to_owned() }),
        ("451 4.7.1 later", Refusal::Defer { text: "4.7.1 later".to_owned() }),
        ("421 4.7.0 gone", Refusal::Defer { text: "4.7.0 gone".to_owned() }),
    ] {
        let mut inspection = plain().inspection;
        inspection.apply(Stage::EndOfMessage, &Response::Refuse(reply.to_owned()));
        assert_eq!(inspection.refusal(), Some(&refusal));
        assert!(!inspection.goes_on() && !inspection.is_discarded());
        let text = reply.split_at(4).1.replace(|c: char| c.is_control(), "?");
        let line = format!("ID: milter-reject: END-OF-MESSAGE from localhost[127.0.0.1]: {text}");
        assert_eq!(log(&mut inspection), [format!("{line}; from=<s@x> to=<r@x> proto=QMQP")]);
        inspection.apply(Stage::EndOfMessage, &Response::Discard);
        inspection.fail();
        assert_eq!(inspection.refusal(), Some(&refusal));
        assert_eq!(log(&mut inspection), [""; 0]);
        assert!(!inspection.is_discarded());
    }
}

#[test]
fn one_recipient_cannot_be_refused_for_itself() {
    let mut inspection = plain().inspection;
    inspection.apply(Stage::Rcpt, &Response::Refuse("550 5.1.1 unknown".to_owned()));
    let text = "4.3.5 Server configuration error".to_owned();
    assert_eq!(inspection.refusal(), Some(&Refusal::Defer { text }));
    let warning =
        "warning: ID: milter configuration error: can't reject recipient in non-smtpd(8) submission";
    assert_eq!(log(&mut inspection)[1..], [warning, "warning: ID: message not accepted, try again later"]);
}

#[test]
fn a_message_that_cannot_be_kept_is_refused_for_now() {
    let mut inspection = plain().inspection;
    inspection.fail();
    assert_eq!(inspection.refusal(), Some(&Refusal::Write));
    assert!(!inspection.goes_on());
}

#[test]
fn the_size_limit_counts_what_filters_have_made() {
    let sealed = |limit, recipients| {
        let options = Options { message_size_limit: limit, ..options() };
        let Before { mut finished, mut inspection, .. } = message(options, Book(&[]), "s@x", &["r@x"]);
        inspection.change_envelope(&mut finished);
        let around = (finished.envelope.len() + finished.extracted.len()) as u64;
        inspection.seal(&mut finished, 10_000, 500, recipients);
        (around, finished.counts.recipients, inspection)
    };
    let (around, count, unlimited) = sealed(0, 3);
    assert_eq!((count, unlimited.refusal()), (3, None));
    let size = LAYOUT_BYTES + around + 10_500;
    assert_eq!(sealed(size, 1).2.refusal(), None);
    let (.., mut large) = sealed(size - 1, 1);
    assert_eq!(large.refusal(), Some(&Refusal::Size));
    assert_eq!(
        log(&mut large),
        ["warning: ID: queue file size limit exceeded", "warning: mail_stream_cleanup: close error"]
    );
    large.refuse_size();
    assert_eq!(log(&mut large), [""; 0]);
    for (bytes, exceeds) in [(size - 2, false), (size - 1, false), (size, true)] {
        assert_eq!((large.exceeds_limit(bytes), unlimited.exceeds_limit(bytes)), (exceeds, false));
    }
}
