//! A case of the differential suite, as data: which settings, what the client does, what both servers must do.

use std::sync::Arc;

use crate::client::{self, Step, netstring};
use crate::milter;
use crate::pair::Outcome;
use crate::postfix::Version;

/// What both servers must do. The suite is of use only where it is known to reach what a case is named after, so every
/// case says which end it expects.
#[derive(Clone)]
pub enum Expect {
    /// The message is queued and the client reads `K`.
    Queued,
    /// The client reads this payload, in which `QUEUE-ID` and `PORT` stand for the real ones; nothing is queued.
    Reply(String),
    /// The client reads nothing; nothing is queued.
    Silence,
    /// Whatever the one does, the other does too.
    Same,
    /// Each server for itself fulfils this; their outcomes are not compared, because they may differ by chance.
    Each(Arc<dyn Fn(&Outcome) + Send + Sync>),
}

/// A difference on purpose.
#[derive(Clone, Copy)]
pub struct Difference {
    /// The heading in docs/postfix-differences.md, as a link would name it.
    pub anchor: &'static str,
    /// What Postfix does: the defect, if one sees it so. Panics when it is not (any longer) so.
    pub postfix: fn(&Outcome),
    /// What ours does instead.
    pub ours: fn(&Outcome),
    /// The first version of Postfix that does as we do; `None` while there is none.
    pub gone_in: Option<Version>,
}

/// One case.
#[derive(Clone)]
pub struct Case {
    /// Its name in the test report, `topic::what`.
    pub name: String,
    /// main.cf lines of both servers; cases with the same lines share them.
    pub main_cf: Vec<String>,
    /// The address the client binds to; otherwise 127.0.0.1.
    pub from: &'static str,
    /// What the client does.
    pub steps: Vec<Step>,
    /// What both do.
    pub expect: Expect,
    /// Whether a case with a difference says so too.
    pub expected: bool,
    /// What differs on purpose.
    pub difference: Option<Difference>,
    /// Whether the manner of closing is compared too.
    pub compare_end: bool,
    /// What the mail filters do that main.cf calls `@milter1@` and `@milter2@`.
    pub milters: Vec<milter::Script>,
}

/// The sender and the recipient where a case is not about them.
pub const SENDER: &[u8] = b"alice@sender.example";
/// See [`SENDER`].
pub const RECIPIENT: &[u8] = b"bob@rcpt.example";

impl Case {
    /// A client that does `steps`.
    pub fn new(name: impl Into<String>, steps: Vec<Step>) -> Self {
        Self {
            name: name.into().replace(char::is_whitespace, "_"),
            main_cf: Vec::new(),
            from: "127.0.0.1",
            steps,
            expect: Expect::Queued,
            expected: false,
            difference: None,
            compare_end: true,
            milters: Vec::new(),
        }
    }

    /// A client that sends these bytes and then listens.
    pub fn bytes(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(name, vec![Step::Send(bytes.into())])
    }

    /// A client that sends these bytes, nothing more, and then listens.
    pub fn cut(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(name, vec![Step::Send(bytes.into()), Step::HalfClose])
    }

    /// A well-formed request with this content.
    pub fn content(name: impl Into<String>, content: impl AsRef<[u8]>) -> Self {
        Self::bytes(name, client::request(content.as_ref(), SENDER, &[RECIPIENT]))
    }

    /// A well-formed request with this envelope.
    pub fn envelope(name: impl Into<String>, sender: impl AsRef<[u8]>, recipients: &[&[u8]]) -> Self {
        Self::bytes(name, client::request(b"Subject: envelope\n\nhello\n", sender.as_ref(), recipients))
    }

    /// A netstring around `inner`, which need not be a request.
    pub fn inside(name: impl Into<String>, inner: &[u8]) -> Self {
        Self::bytes(name, netstring(inner))
    }

    /// With these main.cf lines.
    pub fn with(mut self, lines: &[&str]) -> Self {
        self.main_cf.extend(lines.iter().map(|line| (*line).to_owned()));
        self
    }

    /// Whether main.cf says which release of Postfix is to be followed.
    pub fn names_a_release(&self) -> bool {
        self.main_cf.iter().any(|line| line.starts_with("mail_version ="))
    }

    /// From this loopback address.
    pub fn from(mut self, address: &'static str) -> Self {
        self.from = address;
        self
    }

    /// With one more mail filter.
    pub fn milter(mut self, script: milter::Script) -> Self {
        self.milters.push(script);
        self
    }

    /// The last filter speaks this version of the protocol.
    pub fn milter_version(mut self, version: u32) -> Self {
        self.milters.last_mut().expect("a filter").options.0 = version;
        self
    }

    /// Both servers do the same, whatever it is.
    pub fn observed(mut self) -> Self {
        self.expect = Expect::Same;
        self
    }

    /// Both servers reply this.
    pub fn reply(mut self, text: impl Into<String>) -> Self {
        self.expect = Expect::Reply(text.into());
        self.expected = true;
        self
    }

    /// Each server fulfils this, whatever the other does.
    pub fn each(mut self, check: impl Fn(&Outcome) + Send + Sync + 'static) -> Self {
        self.expect = Expect::Each(Arc::new(check));
        self
    }

    /// Both servers say nothing.
    pub fn silence(mut self) -> Self {
        self.expect = Expect::Silence;
        self.expected = true;
        self
    }

    /// How the connection ends is no part of the case: it depends on what was still on its way.
    pub fn any_end(mut self) -> Self {
        self.compare_end = false;
        self
    }

    /// The servers differ on purpose. A reply or silence that the case asks for is still asked of both.
    pub fn differs(mut self, anchor: &'static str, postfix: fn(&Outcome), ours: fn(&Outcome)) -> Self {
        self.difference = Some(Difference { anchor, postfix, ours, gone_in: None });
        self
    }

    /// From this version on, Postfix does as we do.
    pub fn until(mut self, version: Version) -> Self {
        self.difference.as_mut().expect("a difference that can be gone").gone_in = Some(version);
        self
    }
}
