//! One message to one next-hop by SMTP or LMTP: host after host, until each recipient has an outcome.

use std::fs::File;
use std::time::Instant;

use delivery::dialogue::{self, Consequence, Rules, Trouble};
use delivery::nexthop::{self, Nexthop};
use delivery::outcome::{Fate, Outcome, status};
use postfix::text::system_words;
use smtp::client::Stage;

use super::Agent;
use super::book::{Book, Relay, Report};
use super::connection;
use super::session::{Session, handshake_failure};
use super::settings::Protocol;
use super::targets::{self, HostAddress, Target};
use super::transaction::{self, End, Transaction};
use crate::request::{Finished, Request};

pub(super) async fn deliver<'a>(
    agent: &'a Agent,
    request: &'a Request,
    file: &'a File,
    report: &'a mut Report<'a>,
) -> Finished {
    let book = Book::new(agent, request, report);
    let mut attempt = Attempt { agent, request, file, book, sessions: 0 };
    attempt.run().await;
    attempt.book.finish()
}

struct Attempt<'a> {
    agent: &'a Agent,
    request: &'a Request,
    file: &'a File,
    book: Book<'a>,
    /// How many hosts of this member of the next-hop could be talked to.
    sessions: usize,
}

impl Attempt<'_> {
    async fn run(&mut self) {
        let members = match self.members() {
            Ok(members) => members,
            Err(error) => {
                let outcome = Outcome::failed(status(4, 3, 5), error.to_string());
                return self.book.conclude_all(&outcome, Relay::default());
            }
        };
        let count = members.len();
        for (index, member) in members.iter().enumerate() {
            let is_last = index + 1 == count;
            let found = targets::find(member, &self.agent.names, &self.agent.settings).await;
            match found {
                Ok(targets) => self.try_targets(&targets, is_last).await,
                Err(outcome) => self.without_host(outcome, is_last),
            }
            if self.book.left().is_empty() || self.book.is_content_damaged() {
                return;
            }
        }
        // Each last host has had its word. Should one be missing, the mail waits, and the log says so.
        let outcome = Outcome::failed(status(4, 3, 0), "the delivery ended without an answer");
        self.book.conclude_all(&outcome, Relay::default());
    }

    /// The members of the next-hop, and the fallback relay behind them.
    fn members(&self) -> Result<Vec<Nexthop>, nexthop::InvalidNexthop> {
        if self.agent.settings.protocol == Protocol::Lmtp {
            return nexthop::direct(&self.request.nexthop);
        }
        let mut members = nexthop::smtp(&self.request.nexthop)?;
        if !self.agent.settings.fallback_relay.is_empty() {
            members.extend(nexthop::smtp(&self.agent.settings.fallback_relay)?);
        }
        Ok(members)
    }

    /// A next-hop that has no host: another may follow, but mail that goes in circles is stopped at once.
    fn without_host(&mut self, outcome: Outcome, is_last: bool) {
        let loops = outcome.status == status(5, 4, 6);
        if !is_last && !loops {
            return self.agent.info(format!("{}: {}", self.request.queue_id, outcome.reason));
        }
        let outcome = if self.request.by_relayhost && outcome.fate == Fate::Bounced {
            self.agent.warning("relayhost configuration problem".to_owned());
            outcome.deferred_with(status(4, 3, 5))
        } else {
            outcome
        };
        if outcome.fate == Fate::Deferred {
            self.book.blame(&outcome);
        }
        self.book.conclude_all(&outcome, Relay::default());
    }

    async fn try_targets(&mut self, targets: &[Target], is_last_member: bool) {
        self.sessions = 0;
        for (index, target) in targets.iter().enumerate() {
            let is_last_target = index + 1 == targets.len();
            let goes_on = self.try_target(target, is_last_member, is_last_target).await;
            if !goes_on || self.book.left().is_empty() {
                return;
            }
        }
    }

    /// One host. Returns whether another one may be tried.
    async fn try_target(&mut self, target: &Target, is_last_member: bool, is_last_target: bool) -> bool {
        let key = target.peer.relay();
        let is_final = is_last_member && is_last_target;
        let mut session = match self.agent.idle.take(&key) {
            Some(session) => session,
            None => match self.open(target, is_final).await {
                Some(session) => session,
                None => return true,
            },
        };
        self.sessions += 1;
        let maximum = self.agent.settings.sessions_max;
        let goes_on = maximum == 0 || self.sessions < maximum;
        let is_final = is_last_member && (is_last_target || !goes_on);
        loop {
            self.book.ready = Some(Instant::now());
            let is_reused = session.uses > 0;
            match self.transact(&mut session, target, is_final).await {
                // A connection that waited may have been closed just now: that is no word on the mail.
                End::Stale if is_reused => match self.open(target, is_final).await {
                    Some(fresh) => session = fresh,
                    None => return goes_on,
                },
                End::Over => {
                    self.book.is_served = true;
                    self.keep(key, session);
                    return goes_on;
                }
                End::Stale | End::Lost => return goes_on,
            }
        }
    }

    /// Lets a session wait for more mail if it may, or ends it.
    fn keep(&self, key: String, session: Session) {
        let rest =
            if session.client.is_reusable() { self.agent.idle.put(key, session) } else { Some(session) };
        if let Some(mut session) = rest {
            tokio::spawn(async move { session.quit().await });
        }
    }

    /// Connects, and brings the session so far that it takes mail.
    async fn open(&mut self, target: &Target, is_final: bool) -> Option<Session> {
        let settings = &self.agent.settings;
        let connected = match &target.place {
            HostAddress::Tcp(address) => connection::tcp(*address, settings).await,
            HostAddress::Unix(path) => connection::unix(path, settings).await,
        };
        let stream = match connected {
            Ok(stream) => stream,
            Err(error) => {
                self.unreachable(target, &error, is_final);
                return None;
            }
        };
        let mut session = Session::new(stream, target.peer.clone(), settings);
        let established = match self.agent.password(&target.peer.name, &self.request.nexthop) {
            Ok(password) => session.establish(settings, password.as_ref()).await,
            Err(words) => Err(handshake_failure(Outcome::failed(status(4, 3, 0), words))),
        };
        self.complain(&session);
        let established = established.and_then(|()| self.check(&session, target));
        if let Err(consequence) = established {
            let relay = target.peer.relay();
            let relay = Relay { host: Some(&relay), ..Relay::default() };
            let all = self.book.left().to_vec();
            self.book.trouble(&consequence, &all, relay, is_final);
            session.quit().await;
            return None;
        }
        Some(session)
    }

    /// A host that cannot be reached is logged each time, as in Postfix without the message's name.
    fn unreachable(&mut self, target: &Target, error: &std::io::Error, is_final: bool) {
        let words = match error.raw_os_error() {
            Some(_) => system_words(error),
            None => error.to_string(),
        };
        let rules = Rules { skip_5xx_greeting: self.agent.settings.skip_5xx_greeting };
        let found =
            dialogue::consequence(Stage::Greeting, &Trouble::Unreachable(&words), &target.peer, rules);
        self.agent.info(found.outcome.reason.clone());
        if is_final {
            let all = self.book.left().to_vec();
            self.book.trouble(&found, &all, Relay::default(), true);
        }
    }

    /// Can this host take this message at all?
    fn check(&self, session: &Session, target: &Target) -> Result<(), Box<Consequence>> {
        let offered = session.client.extensions();
        let own_name = offered.server_name.eq_ignore_ascii_case(&self.agent.settings.hostname);
        if own_name && target.can_loop(&self.agent.settings) {
            let code = if target.is_best { status(5, 4, 6) } else { status(4, 4, 6) };
            let words = format!("mail for {} loops back to myself", self.request.nexthop);
            let mut found = handshake_failure(Outcome::failed(code, words));
            found.tries_next_host = !target.is_best;
            return Err(found);
        }
        Ok(())
    }

    fn complain(&self, session: &Session) {
        if let Some(fault) = &session.fault {
            self.agent.warning(format!("{}: host {}: {fault}", self.request.queue_id, session.peer));
        }
    }

    async fn transact(&mut self, session: &mut Session, target: &Target, is_final: bool) -> End {
        let relay = target.peer.relay();
        if let Some(refusal) = transaction::refuses(session, self.request) {
            let all = self.book.left().to_vec();
            let relay = Relay { host: Some(&relay), uses: session.uses + 1, reports: false };
            self.book.trouble(&refusal, &all, relay, is_final);
            return End::Lost;
        }
        session.uses += 1;
        let mut transaction = Transaction {
            agent: self.agent,
            request: self.request,
            file: self.file,
            relay: &relay,
            is_final,
            all: self.book.left().to_vec(),
            accepted: Vec::new(),
            has_heard: false,
        };
        let end = transaction.run(session, &mut self.book).await;
        self.complain(session);
        end
    }
}
