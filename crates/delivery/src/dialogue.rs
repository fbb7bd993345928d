//! What each reply of a server, at each stage, means to the mail: one table (observed on Postfix 3.7, with one host and
//! with a second host that was willing).

use smtp::client::Stage;
use smtp::reply::Reply;

use crate::outcome::{Diagnostic, Outcome, Peer, Status, status};

/// What went wrong in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble<'a> {
    /// No connection: the system's words.
    Unreachable(&'a str),
    /// A reply that is not a success, or one at a place where it cannot be.
    Refused(&'a Reply),
    /// The server hung up.
    Lost,
    /// The server took too long.
    TimedOut,
}

/// Whom it concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The recipient whose command it was.
    Recipient,
    /// All recipients that have no outcome yet.
    Message,
}

/// What it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consequence {
    /// Whom it concerns.
    pub scope: Scope,
    /// Try the next host first; the outcome counts only if there is none.
    pub tries_next_host: bool,
    /// The outcome.
    pub outcome: Outcome,
    /// Is the destination out of order, if this was its last host? Then it rests.
    pub blames_destination: bool,
    /// Does the server say that it is being sent too much? Then fewer deliveries at a time go there.
    pub asks_for_less: bool,
}

/// What an operator may decide about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// A greeting of 5xx is not the last word on the mail (Postfix's `smtp_skip_5xx_greeting`).
    pub skip_5xx_greeting: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { skip_5xx_greeting: true }
    }
}

/// What `trouble` at `stage` with `peer` leads to.
#[must_use]
pub fn consequence(stage: Stage, trouble: &Trouble<'_>, peer: &Peer, rules: Rules) -> Consequence {
    match trouble {
        Trouble::Unreachable(words) => {
            let place = peer.port.map_or_else(|| peer.to_string(), |port| format!("{peer}:{port}"));
            no_session(Outcome::failed(status(4, 4, 1), format!("connect to {place}: {words}")))
        }
        Trouble::Lost => {
            no_session(Outcome::failed(status(4, 4, 2), format!("lost connection with {peer} while {stage}")))
        }
        Trouble::TimedOut => no_session(Outcome::failed(
            status(4, 4, 2),
            format!("conversation with {peer} timed out while {stage}"),
        )),
        Trouble::Refused(reply) => refused(stage, reply, peer, rules),
    }
}

/// The session is gone: another host may serve, and the destination is to blame if no host does.
fn no_session(outcome: Outcome) -> Consequence {
    Consequence {
        scope: Scope::Message,
        tries_next_host: true,
        outcome,
        blames_destination: true,
        asks_for_less: false,
    }
}

fn refused(stage: Stage, reply: &Reply, peer: &Peer, rules: Rules) -> Consequence {
    let is_handshake =
        matches!(stage, Stage::Greeting | Stage::Ehlo | Stage::Helo | Stage::Lhlo | Stage::Idle);
    let status = match stage {
        Stage::Greeting if rules.skip_5xx_greeting => reply.status.made_temporary(),
        // A success cannot stand here: the server lost its place in the dialogue.
        _ if reply.is_success() => Status::PROTOCOL_ERROR,
        _ => reply.status,
    };
    let reason = if is_handshake {
        format!("host {peer} refused to talk to me: {}", reply.text())
    } else {
        let before = if stage == Stage::Data && reply.is_success() { "Protocol error: " } else { "" };
        format!("{before}host {peer} said: {} (in reply to {})", reply.text(), stage.command())
    };
    let mut outcome = Outcome::failed(status, reason);
    outcome.diagnostic = Some(Diagnostic { kind: "smtp".into(), text: reply.text() });
    outcome.remote_mta = Some(peer.name.clone());
    let is_permanent = status.class == 5;
    Consequence {
        scope: if stage == Stage::Rcpt { Scope::Recipient } else { Scope::Message },
        tries_next_host: !is_permanent,
        blames_destination: is_handshake && !is_permanent,
        asks_for_less: !is_handshake && !is_permanent && says_too_much(reply),
        outcome,
    }
}

/// Does a temporary refusal of a message say that there are too many of them? By its code, its status, or its words:
/// the large providers use all three.
fn says_too_much(reply: &Reply) -> bool {
    const WORDS: [&str; 6] = ["too many", "too much", "too fast", "rate limit", "rate-limit", "throttl"];
    let Status { subject, detail, .. } = reply.status;
    // 4.3.2 system not accepting, 4.4.5 congestion, 4.7.28 unusual rate.
    let by_status = matches!((subject, detail), (3, 2) | (4, 5) | (7, 28));
    let text = reply.text().to_ascii_lowercase();
    reply.code == 421 || by_status || WORDS.iter().any(|words| text.contains(words))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::outcome::Fate;
    use smtp::reply::ReplyReader;

    fn peer() -> Peer {
        Peer { name: "h".into(), address: "a".into(), port: Some(25) }
    }

    fn reply(text: &str) -> Reply {
        ReplyReader::default().take(format!("{text}\r\n").as_bytes()).unwrap().1.unwrap()
    }

    fn at(stage: Stage, text: &str) -> Consequence {
        consequence(stage, &Trouble::Refused(&reply(text)), &peer(), Rules::default())
    }

    /// Each row was seen on Postfix 3.7: stage, reply, then fate, status, next host, blame, reason.
    #[test]
    fn replies() {
        let refused = "host h[a] refused to talk to me: ";
        let said = "host h[a] said: ";
        for (stage, text, fate, dsn, next, blame, before, behind) in [
            (Stage::Greeting, "421 4.3.2 busy", Fate::Deferred, "4.3.2", true, true, refused, ""),
            (Stage::Greeting, "554 5.7.1 go away", Fate::Deferred, "4.7.1", true, true, refused, ""),
            (Stage::Ehlo, "421 busy", Fate::Deferred, "4.0.0", true, true, refused, ""),
            (Stage::Helo, "450 later", Fate::Deferred, "4.0.0", true, true, refused, ""),
            (Stage::Helo, "550 never", Fate::Bounced, "5.0.0", false, false, refused, ""),
            (Stage::Lhlo, "550 never", Fate::Bounced, "5.0.0", false, false, refused, ""),
            (
                Stage::Mail,
                "450 4.1.8 later",
                Fate::Deferred,
                "4.1.8",
                true,
                false,
                said,
                " (in reply to MAIL FROM command)",
            ),
            (
                Stage::Mail,
                "550 no",
                Fate::Bounced,
                "5.0.0",
                false,
                false,
                said,
                " (in reply to MAIL FROM command)",
            ),
            (
                Stage::Mail,
                "354 odd",
                Fate::Bounced,
                "5.5.0",
                false,
                false,
                said,
                " (in reply to MAIL FROM command)",
            ),
            (
                Stage::Rcpt,
                "450 4.2.0 grey",
                Fate::Deferred,
                "4.2.0",
                true,
                false,
                said,
                " (in reply to RCPT TO command)",
            ),
            (
                Stage::Rcpt,
                "552 5.2.2 full",
                Fate::Bounced,
                "5.2.2",
                false,
                false,
                said,
                " (in reply to RCPT TO command)",
            ),
            (
                Stage::Rcpt,
                "599 x",
                Fate::Bounced,
                "5.0.0",
                false,
                false,
                said,
                " (in reply to RCPT TO command)",
            ),
            (Stage::Data, "451 x", Fate::Deferred, "4.0.0", true, false, said, " (in reply to DATA command)"),
            (Stage::Data, "554 x", Fate::Bounced, "5.0.0", false, false, said, " (in reply to DATA command)"),
            (
                Stage::Data,
                "250 2.0.0 x",
                Fate::Bounced,
                "5.5.0",
                false,
                false,
                "Protocol error: host h[a] said: ",
                " (in reply to DATA command)",
            ),
            (
                Stage::EndOfContent,
                "451 x",
                Fate::Deferred,
                "4.0.0",
                true,
                false,
                said,
                " (in reply to end of DATA command)",
            ),
            (
                Stage::EndOfContent,
                "554 5.7.1 spam",
                Fate::Bounced,
                "5.7.1",
                false,
                false,
                said,
                " (in reply to end of DATA command)",
            ),
            (
                Stage::EndOfContent,
                "354 odd",
                Fate::Bounced,
                "5.5.0",
                false,
                false,
                said,
                " (in reply to end of DATA command)",
            ),
        ] {
            let found = at(stage, text);
            assert_eq!(
                (found.outcome.fate, found.outcome.status.to_string()),
                (fate, dsn.to_owned()),
                "{stage:?} {text}"
            );
            assert_eq!((found.tries_next_host, found.blames_destination), (next, blame), "{stage:?} {text}");
            assert_eq!(found.outcome.reason, format!("{before}{text}{behind}"));
            assert_eq!(found.scope == Scope::Recipient, stage == Stage::Rcpt);
            assert_eq!(
                found.outcome.diagnostic.unwrap(),
                Diagnostic { kind: "smtp".into(), text: text.into() }
            );
        }
    }

    #[test]
    fn without_a_session_the_next_host_is_tried_and_the_destination_blamed() {
        for (stage, trouble, dsn, reason) in [
            (
                Stage::Greeting,
                Trouble::Unreachable("Connection refused"),
                "4.4.1",
                "connect to h[a]:25: Connection refused",
            ),
            (
                Stage::Greeting,
                Trouble::Lost,
                "4.4.2",
                "lost connection with h[a] while receiving the initial server greeting",
            ),
            (
                Stage::Ehlo,
                Trouble::TimedOut,
                "4.4.2",
                "conversation with h[a] timed out while performing the EHLO handshake",
            ),
            (Stage::Rcpt, Trouble::Lost, "4.4.2", "lost connection with h[a] while sending RCPT TO"),
            (Stage::Content, Trouble::Lost, "4.4.2", "lost connection with h[a] while sending message body"),
            (
                Stage::EndOfContent,
                Trouble::TimedOut,
                "4.4.2",
                "conversation with h[a] timed out while sending end of data -- message may be sent more than once",
            ),
        ] {
            let found = consequence(stage, &trouble, &peer(), Rules::default());
            assert_eq!(
                (found.outcome.status.to_string().as_str(), found.outcome.reason.as_str()),
                (dsn, reason)
            );
            assert!(found.tries_next_host && found.blames_destination && found.scope == Scope::Message);
            assert_eq!(found.outcome.fate, Fate::Deferred);
        }
    }

    #[test]
    fn a_5xx_greeting_counts_where_the_operator_wants_it() {
        let rules = Rules { skip_5xx_greeting: false };
        let found = consequence(Stage::Greeting, &Trouble::Refused(&reply("554 5.7.1 no")), &peer(), rules);
        assert_eq!((found.outcome.fate, found.tries_next_host), (Fate::Bounced, false));
    }

    #[test]
    fn too_much_is_heard_in_codes_and_words_but_not_in_greylisting() {
        for (stage, text, less) in [
            (Stage::Mail, "421 4.7.28 unusual rate", true),
            (Stage::Mail, "450 4.7.28 x", true),
            (Stage::Rcpt, "452 Too many recipients", true),
            (Stage::EndOfContent, "451 4.4.5 x", true),
            (Stage::Data, "450 you are being throttled", true),
            (Stage::Rcpt, "450 4.2.0 greylisted", false),
            (Stage::Rcpt, "550 too many hops", false),
            (Stage::Greeting, "421 too many connections", false),
        ] {
            assert_eq!(at(stage, text).asks_for_less, less, "{text}");
        }
    }
}
