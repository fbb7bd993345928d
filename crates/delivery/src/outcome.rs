//! What became of a recipient in one attempt.

use std::borrow::Cow;
use std::fmt;

pub use smtp::reply::EnhancedStatus as Status;

/// The three ways in which an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Another system is responsible for the mail now.
    Sent,
    /// It is tried again.
    Deferred,
    /// It is not tried again, and the sender is told.
    Bounced,
}

/// What a remote system or program said, for the report (RFC 3464 section 2.3.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// `smtp`, `x-unix`, or `X-Postfix` for words of our own.
    pub kind: Cow<'static, str>,
    /// The words.
    pub text: String,
}

/// What became of a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Sent, deferred or bounced.
    pub fate: Fate,
    /// The word behind `status=` in the log: that of the fate, or `SOFTBOUNCE`.
    pub word: &'static str,
    /// The status of RFC 3463. Its class fits the fate, but that a permanent failure can wait (an expired message keeps
    /// its 4.x.x).
    pub status: Status,
    /// What happened, in one line, as the log and the report show it.
    pub reason: String,
    /// What the other side said.
    pub diagnostic: Option<Diagnostic>,
    /// The host that said it.
    pub remote_mta: Option<String>,
}

impl Outcome {
    /// The recipient was delivered; `reason` is what the other side said.
    #[must_use]
    pub fn sent(status: Status, reason: impl Into<String>) -> Self {
        Self {
            fate: Fate::Sent,
            word: "sent",
            status,
            reason: reason.into(),
            diagnostic: None,
            remote_mta: None,
        }
    }

    /// The recipient failed: for now with a status of class 4, for ever with one of class 5. Any other class is taken
    /// for a failure that may pass.
    #[must_use]
    pub fn failed(status: Status, reason: impl Into<String>) -> Self {
        let (fate, word) =
            if status.class == 5 { (Fate::Bounced, "bounced") } else { (Fate::Deferred, "deferred") };
        Self { fate, word, status, reason: reason.into(), diagnostic: None, remote_mta: None }
    }

    /// The same outcome where `soft_bounce = yes`: what would bounce is deferred, and the log says so.
    #[must_use]
    pub fn softened(self) -> Self {
        match self.fate {
            Fate::Bounced => Self {
                fate: Fate::Deferred,
                word: "SOFTBOUNCE",
                status: self.status.made_temporary(),
                ..self
            },
            Fate::Sent | Fate::Deferred => self,
        }
    }

    /// The same outcome, if what would bounce is to be deferred because the trouble is on our side.
    #[must_use]
    pub fn deferred_with(self, status: Status) -> Self {
        Self { fate: Fate::Deferred, word: "deferred", status, ..self }
    }
}

/// A host that was spoken to, as logs name it: `name[address]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its address, or the path of its socket.
    pub address: String,
    /// Its port; nothing for a socket of the file system.
    pub port: Option<u16>,
}

impl fmt::Display for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}[{}]", self.name, self.address)
    }
}

impl Peer {
    /// With its port: what stands behind `relay=`.
    #[must_use]
    pub fn relay(&self) -> String {
        match self.port {
            Some(port) => format!("{self}:{port}"),
            None => self.to_string(),
        }
    }
}

/// The three numbers of a status.
#[must_use]
pub const fn status(class: u8, subject: u16, detail: u16) -> Status {
    Status { class, subject, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_of_the_status_decides() {
        assert_eq!(Outcome::failed(status(4, 4, 1), "x").word, "deferred");
        assert_eq!(Outcome::failed(status(5, 1, 1), "x").word, "bounced");
        assert_eq!(Outcome::failed(status(2, 0, 0), "x").fate, Fate::Deferred);
    }

    /// Observed on Postfix 3.7: the status becomes 4.x.x, and the word is in capitals.
    #[test]
    fn soft_bounce_defers_what_would_bounce() {
        let soft = Outcome::failed(status(5, 1, 1), "x").softened();
        assert_eq!(
            (soft.fate, soft.word, soft.status.to_string()),
            (Fate::Deferred, "SOFTBOUNCE", "4.1.1".into())
        );
        let deferred = Outcome::failed(status(4, 2, 0), "x");
        assert_eq!(deferred.clone().softened(), deferred);
    }

    #[test]
    fn a_peer_is_named_with_its_address() {
        let peer = Peer { name: "mx.example.org".into(), address: "192.0.2.1".into(), port: Some(25) };
        assert_eq!(
            (peer.to_string(), peer.relay()),
            ("mx.example.org[192.0.2.1]".into(), "mx.example.org[192.0.2.1]:25".into())
        );
        let socket = Peer { name: "hub".into(), address: "/run/lmtp".into(), port: None };
        assert_eq!(socket.relay(), "hub[/run/lmtp]");
    }
}
