//! How a session ended, and the one function that turns that into `K`, `Z`, `D` or silence.
//!
//! The words are Postfix's where Postfix has words for the event (configuration and logs of Postfix 3.7, qmqpd(8));
//! the others are listed in docs/postfix-differences.md.

use postfix::notice::Severity;
use qmqp::reply::Status;
use qmqp::server::{Fault, Phase, Problem};

use crate::space::Shortage;
use daemon::service::{Excess, Limit};
use intake::{Receipt, Refusal};

/// Every way in which the receiving part of a session can end.
#[derive(Debug)]
pub enum Ending {
    /// The message is durable.
    Queued(Receipt),
    /// The client is in no pattern of `qmqpd_authorized_clients`.
    NotAuthorized,
    /// The same, by a table that changed in the moment in which the client came: the new one may say otherwise.
    NotAuthorizedBefore,
    /// `qmqpd_authorized_clients` could not be evaluated, or the process runs without a valid configuration.
    ConfigurationError,
    /// The client has no verified name because of a temporary failure, and with a name it might be authorized.
    NameUnresolved,
    /// Whether the client is in `qmqpd_authorized_clients` is for a table server to say, and so many wait for it already.
    LookupsBusy,
    /// The client, which has this address, is over a limit for one client.
    OverLimit(Excess, String),
    /// More clients than `qmqpd_connection_limit`.
    TooManyConnections,
    /// No memory came free within `qmqpd_timeout`, under `qmqpd_memory_limit`.
    OutOfMemoryBudget,
    /// The queue's file system has less room than `qmqpd_free_space_min`.
    OutOfSpace(Shortage),
    /// What arrived is not QMQP, is too long, or did not arrive.
    Peer(Fault),
    /// The session took longer than `qmqpd_session_deadline`.
    Deadline(Phase),
    /// The message arrived whole but was not accepted.
    Refused(Refusal),
}

impl Ending {
    /// Whether the client hears of it without a pause: there are too many of its kind.
    #[must_use]
    pub const fn is_at_once(&self) -> bool {
        matches!(
            self,
            Self::TooManyConnections
                | Self::OverLimit(Excess { limit: Limit::Connections | Limit::ConnectionRate, .. }, _)
        )
    }
}

/// What to do about an [`Ending`].
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The reply, unless the client is gone.
    pub reply: Option<(Status, String)>,
    /// The log line behind `QUEUE_ID: CLIENT: `, if this ending has one.
    pub log: Option<(Severity, String)>,
}

impl Verdict {
    /// True if the reply waits for `qmqpd_error_delay`: all but success.
    #[must_use]
    pub fn is_delayed(&self) -> bool {
        matches!(self.reply, Some((Status::Temporary | Status::Permanent, _)))
    }
}

/// Decides what the client hears. `client` is the client as shown in logs; with `soft_bounce` a `D` becomes a `Z` with the
/// same text.
#[must_use]
pub fn decide(ending: &Ending, client: &str, soft_bounce: bool) -> Verdict {
    let permanent = if soft_bounce { Status::Temporary } else { Status::Permanent };
    match ending {
        Ending::Queued(receipt) => Verdict {
            reply: Some((Status::Queued, format!("Ok: queued as {}", receipt.queue_id()))),
            log: None,
        },
        Ending::NotAuthorized => {
            warned(permanent, format!("Error: {client} is not authorized to use this service"))
        }
        Ending::NotAuthorizedBefore => warned(
            Status::Temporary,
            "Error: the list of authorized clients has just changed, try again later".to_owned(),
        ),
        Ending::ConfigurationError => {
            warned(Status::Temporary, "Error: server configuration error".to_owned())
        }
        Ending::NameUnresolved => warned(
            Status::Temporary,
            format!("Error: cannot verify the host name of {client}, try again later"),
        ),
        Ending::OverLimit(excess, address) => over_limit(excess, address, permanent),
        Ending::LookupsBusy => {
            warned(Status::Temporary, "Error: too many table lookups, try again later".to_owned())
        }
        Ending::TooManyConnections => {
            warned(Status::Temporary, "Error: too many connections, try again later".to_owned())
        }
        Ending::OutOfMemoryBudget => {
            warned(Status::Temporary, "Error: server is busy, try again later".to_owned())
        }
        Ending::OutOfSpace(shortage) => {
            let text = "Error: insufficient system storage, try again later";
            Verdict {
                reply: Some((Status::Temporary, text.to_owned())),
                log: Some((Severity::Warning, format!("{text}: {shortage}"))),
            }
        }
        Ending::Peer(fault) => match fault.problem {
            Problem::Format | Problem::TooLong => Verdict {
                reply: Some((permanent, fault.to_string())),
                log: Some((Severity::Info, fault.to_string())),
            },
            Problem::Lost | Problem::Timeout => {
                Verdict { reply: None, log: Some((Severity::Info, fault.to_string())) }
            }
        },
        Ending::Deadline(phase) => {
            let text = format!("session deadline exceeded while {phase}");
            Verdict { reply: Some((Status::Temporary, text.clone())), log: Some((Severity::Info, text)) }
        }
        Ending::Refused(refusal) => {
            let status = if is_temporary(refusal) { Status::Temporary } else { permanent };
            warned(status, format!("Error: {refusal}"))
        }
    }
}

/// True if the same message may be accepted later.
fn is_temporary(refusal: &Refusal) -> bool {
    use cleanup::Refusal as Message;
    match refusal {
        Refusal::Storage | Refusal::Unknown => true,
        Refusal::Message(Message::Defer { .. } | Message::Bad { .. } | Message::Write) => true,
        Refusal::Message(Message::Content { text }) => text.starts_with('4'),
        Refusal::Message(
            Message::Verp { .. }
            | Message::Address { .. }
            | Message::Size
            | Message::Hops
            | Message::NoRecipients,
        ) => false,
    }
}

/// The words of Postfix's smtpd(8), and what an operator has to change if that is not what he wants.
fn over_limit(excess: &Excess, address: &str, permanent: Status) -> Verdict {
    let Excess { limit, figure, most } = excess;
    let (reply, what, parameter) = match limit {
        Limit::Connections => (
            "too many connections",
            "Connection concurrency limit exceeded",
            "qmqpd_client_connection_count_limit",
        ),
        Limit::ConnectionRate => {
            ("too many connections", "Connection rate limit exceeded", "qmqpd_client_connection_rate_limit")
        }
        Limit::MessageRate => (
            "too much mail",
            "Message delivery request rate limit exceeded",
            "qmqpd_client_message_rate_limit",
        ),
        Limit::RecipientRate | Limit::RecipientsOfMessage => (
            "too many recipients",
            "Recipient address rate limit exceeded",
            "qmqpd_client_recipient_rate_limit",
        ),
    };
    // A message that can never be sent must not come again and again.
    let status = if *limit == Limit::RecipientsOfMessage { permanent } else { Status::Temporary };
    Verdict {
        reply: Some((status, format!("Error: {reply} from {address}"))),
        log: Some((Severity::Warning, format!("{what}: {figure} ({parameter} = {most})"))),
    }
}

fn warned(status: Status, text: String) -> Verdict {
    Verdict { reply: Some((status, text.clone())), log: Some((Severity::Warning, text)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cleanup::Refusal as Message;

    /// The reply, the line, and whether the reply waits for `qmqpd_error_delay`.
    type Decided = (Option<(char, String)>, Option<(Severity, String)>, bool);

    fn decided(ending: &Ending, soft_bounce: bool) -> Decided {
        let verdict = decide(ending, "c[192.0.2.1]", soft_bounce);
        let is_delayed = verdict.is_delayed();
        (verdict.reply.map(|(status, text)| (char::from(status.letter()), text)), verdict.log, is_delayed)
    }

    /// What the client hears is what stands in the log, as a warning.
    #[test]
    fn refusals_are_temporary_if_the_same_message_may_be_accepted_later() {
        let message = |refusal| Ending::Refused(Refusal::Message(refusal));
        let text = |text: &str| text.to_owned();
        for (ending, letter, words) in [
            (Ending::NotAuthorized, 'D', "Error: c[192.0.2.1] is not authorized to use this service"),
            (
                Ending::NotAuthorizedBefore,
                'Z',
                "Error: the list of authorized clients has just changed, try again later",
            ),
            (Ending::ConfigurationError, 'Z', "Error: server configuration error"),
            (
                Ending::NameUnresolved,
                'Z',
                "Error: cannot verify the host name of c[192.0.2.1], try again later",
            ),
            (Ending::LookupsBusy, 'Z', "Error: too many table lookups, try again later"),
            (Ending::TooManyConnections, 'Z', "Error: too many connections, try again later"),
            (Ending::OutOfMemoryBudget, 'Z', "Error: server is busy, try again later"),
            (Ending::Refused(Refusal::Storage), 'Z', "Error: queue file write error"),
            (Ending::Refused(Refusal::Unknown), 'Z', "Error: queue file write error"),
            (message(Message::Write), 'Z', "Error: queue file write error"),
            (message(Message::Bad { status: 2 }), 'Z', "Error: internal error 2"),
            (message(Message::Defer { text: text("4.7.1 later") }), 'Z', "Error: 4.7.1 later"),
            (message(Message::Content { text: text("4.7.1 later") }), 'Z', "Error: 4.7.1 later"),
            (message(Message::Content { text: text("5.7.1 no") }), 'D', "Error: 5.7.1 no"),
            (message(Message::Size), 'D', "Error: message too large"),
            (message(Message::Hops), 'D', "Error: too many hops"),
            (message(Message::NoRecipients), 'D', "Error: no recipients specified"),
            (
                message(Message::Verp { first_delimiter: b'+', filter: text("-=+") }),
                'D',
                "Error: Invalid VERP delimiters: \"+=\". Need two characters from \"-=+\"",
            ),
        ] {
            let warning = Some((Severity::Warning, words.to_owned()));
            assert_eq!(decided(&ending, false), (Some((letter, words.to_owned())), warning.clone(), true));
            assert_eq!(decided(&ending, true), (Some(('Z', words.to_owned())), warning, true));
        }
    }

    #[test]
    fn what_is_no_request_is_answered_and_who_is_gone_is_not() {
        let phase = Phase::Sender;
        for (problem, letter, words) in [
            (Problem::Format, Some('D'), "netstring format error while receiving sender address"),
            (
                Problem::TooLong,
                Some('D'),
                "netstring length exceeds storage limit while receiving sender address",
            ),
            (Problem::Lost, None, "lost connection while receiving sender address"),
            (Problem::Timeout, None, "read/write timeout while receiving sender address"),
        ] {
            let ending = Ending::Peer(Fault { problem, phase });
            let log = Some((Severity::Info, words.to_owned()));
            let reply = |letter: Option<char>| letter.map(|letter| (letter, words.to_owned()));
            assert_eq!(decided(&ending, false), (reply(letter), log.clone(), letter.is_some()));
            assert_eq!(decided(&ending, true), (reply(letter.map(|_| 'Z')), log, letter.is_some()));
        }
    }

    #[test]
    fn a_session_that_took_too_long_is_told_so() {
        let words = "session deadline exceeded while receiving message content".to_owned();
        let expected = (Some(('Z', words.clone())), Some((Severity::Info, words)), true);
        assert_eq!(decided(&Ending::Deadline(Phase::Content), false), expected);
    }

    proptest::proptest! {
        /// A reply and the log line about it say the same, although the crate of the protocol imports nothing.
        #[test]
        fn a_reply_has_the_printable_text_of_the_log(
            text in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60),
            marks in "[\u{7f}-\u{a0}é\u{9b}\n]{0,8}",
        ) {
            let text = [marks.as_bytes(), &text].concat();
            proptest::prop_assert_eq!(qmqp::reply::printable(&text), postfix::text::printable(&text, true));
        }
    }
}
