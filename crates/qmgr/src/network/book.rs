//! The account of one delivery: who has no outcome yet, what is said of each recipient, and whether the destination is to
//! blame.

use std::time::{Instant, SystemTime};

use delivery::delays::Delays;
use delivery::dialogue::Consequence;
use delivery::outcome::{Fate, Outcome};

use super::Agent;
use crate::delivery_line;
use crate::request::{Blame, Finished, RecipientOutcome, Request};

/// Takes the outcomes of recipients, one after the other.
pub type Report<'a> = dyn FnMut(RecipientOutcome) + Send + 'a;

/// Who did it, for the log line.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Relay<'a> {
    /// `relay=`; nothing: no host was reached.
    pub(super) host: Option<&'a str>,
    /// How many messages the connection has had.
    pub(super) uses: u32,
    /// Did the host promise to report success itself?
    pub(super) reports: bool,
}

pub(super) struct Book<'a> {
    agent: &'a Agent,
    request: &'a Request,
    report: &'a mut Report<'a>,
    began: Instant,
    began_at: SystemTime,
    /// When a session was there that took mail.
    pub(super) ready: Option<Instant>,
    /// The recipients without an outcome, by their place in the request.
    left: Vec<usize>,
    finished: Finished,
    /// A session went to its end: the destination works.
    pub(super) is_served: bool,
}

impl<'a> Book<'a> {
    pub(super) fn new(agent: &'a Agent, request: &'a Request, report: &'a mut Report<'a>) -> Self {
        Self {
            agent,
            request,
            report,
            began: Instant::now(),
            began_at: SystemTime::now(),
            ready: None,
            left: (0..request.recipients.len()).collect(),
            finished: Finished::well(request.number),
            is_served: false,
        }
    }

    pub(super) fn left(&self) -> &[usize] {
        &self.left
    }

    pub(super) const fn is_content_damaged(&self) -> bool {
        self.finished.is_content_damaged
    }

    pub(super) fn content_is_damaged(&mut self) {
        self.finished.is_content_damaged = true;
    }

    pub(super) fn finish(self) -> Finished {
        self.finished
    }

    /// Something went wrong for these recipients. If it is not the last word, it is only logged, and they stay.
    pub(super) fn trouble(
        &mut self,
        found: &Consequence,
        recipients: &[usize],
        relay: Relay<'_>,
        is_last_word: bool,
    ) {
        self.finished.is_congested |= found.asks_for_less;
        if found.tries_next_host && !is_last_word {
            self.agent.info(format!("{}: {}", self.request.queue_id, found.outcome.reason));
            return;
        }
        if found.blames_destination && !self.is_served {
            self.blame(&found.outcome);
        }
        for &index in recipients {
            self.conclude(index, found.outcome.clone(), relay);
        }
    }

    pub(super) fn blame(&mut self, outcome: &Outcome) {
        self.finished.blame = Some(Blame {
            status: outcome.status.made_temporary(),
            reason: outcome.reason.clone(),
            diagnostic: outcome.diagnostic.clone(),
            remote_mta: outcome.remote_mta.clone(),
        });
    }

    /// What became of a recipient: logged, said, and done with. A recipient that has an outcome already keeps it.
    pub(super) fn conclude(&mut self, index: usize, outcome: Outcome, relay: Relay<'_>) {
        let Some(place) = self.left.iter().position(|&left| left == index) else { return };
        self.left.remove(place);
        let Some(recipient) = self.request.recipients.get(index) else { return };
        let outcome = if self.agent.settings.soft_bounce { outcome.softened() } else { outcome };
        let mut host = relay.host.unwrap_or("none").to_owned();
        if relay.uses > 1 {
            // In Postfix's line this stands between the host and the delays.
            host.push_str(&format!(", conn_use={}", relay.uses));
        }
        let line = delivery_line::text(self.request, recipient, &host, self.delays(), &outcome);
        self.agent.info(String::from_utf8_lossy(&line).into_owned());
        let is_dsn_passed_on = relay.reports && outcome.fate == Fate::Sent;
        (self.report)(RecipientOutcome { number: self.request.number, index, outcome, is_dsn_passed_on });
    }

    /// The same outcome for all that have none.
    pub(super) fn conclude_all(&mut self, outcome: &Outcome, relay: Relay<'_>) {
        for index in self.left.clone() {
            self.conclude(index, outcome.clone(), relay);
        }
    }

    fn delays(&self) -> Delays {
        let now = Instant::now();
        let ready = self.ready.unwrap_or(now);
        Delays {
            connection_setup: ready.duration_since(self.began),
            transmission: now.duration_since(ready),
            ..delivery_line::delays_of(self.request, self.began_at, self.began_at)
        }
    }
}
