//! One connection from accept to close: the thin hands around [`qmqp::server`].
//!
//! ```text
//! meet ─► authorize ─► receive ──► commit ─► reply ─► close
//!                 │           │           │         ▲
//!                 └───────────┴───────────┴─ Ending ┘   verdict::decide makes the reply out of it
//! ```

mod connection;
mod receive;

use std::sync::Arc;

pub use connection::{Broken, Connection, Patience};

use postfix::notice::Severity;
use tokio::time::{Instant, sleep};

use crate::access::{Answer, Authorization};
use crate::client::{Client, PeerAddress};
use crate::log::lines::SessionLog;
use crate::log::{Program, Voice};
use crate::peer::Name;
use crate::service::{Commit, Service};
use crate::verdict::{self, Ending, Verdict};

/// Serves one client to the end.
pub(crate) async fn serve(service: Arc<Service>, connection: Connection, peer: PeerAddress) {
    let began = Instant::now();
    let arrived = crate::service::now();
    let voice = begin(&service, peer);
    let (client, decided) = meet(&service, peer, &voice).await;
    let verbosity = service.access.verbosity(&client, &service.log).await;
    let log = SessionLog::new(&service.log, &client, verbosity, &voice);
    log.connect();
    let patience = Patience {
        operation: service.settings.qmqpd_timeout,
        deadline: service.session_deadline().map(|limit| began + limit),
    };
    let mut session = Session {
        service: &service,
        connection,
        client: &client,
        log,
        patience,
        arrived,
        unread: 0,
        under_way: None,
    };
    let Answer { authorization, notices } = match decided {
        Some(answer) => answer,
        None => service.access.authorize(&client, verbosity).await,
    };
    notices.iter().for_each(|notice| session.log.notice(notice));
    let ending = match authorization {
        Authorization::Granted => session.receive().await,
        // Whether a table has changed is asked before a client is taken; this is the moment between the two.
        Authorization::Denied if service.access.changed().is_some() => Ending::NotAuthorizedBefore,
        Authorization::Denied => Ending::NotAuthorized,
        Authorization::Undetermined => Ending::NameUnresolved,
        Authorization::Busy => Ending::LookupsBusy,
        Authorization::Broken => Ending::ConfigurationError,
    };
    session.conclude(&ending).await;
    session.log.disconnect();
}

/// Answers a client for whom there is no place, without looking up who it is.
pub(crate) async fn turn_away(
    service: Arc<Service>,
    connection: Connection,
    peer: PeerAddress,
    ending: Ending,
) {
    let client = Client::new(peer, &Name::Unknown, service.settings.qmqpd_client_port_logging);
    let voice = begin(&service, peer);
    let log = SessionLog::new(&service.log, &client, 0, &voice);
    let patience =
        Patience { operation: service.settings.qmqpd_timeout.min(TURN_AWAY_TIME_MAX), deadline: None };
    let mut session = Session {
        service: &service,
        connection,
        client: &client,
        log,
        patience,
        arrived: crate::service::now(),
        unread: 0,
        under_way: None,
    };
    let verdict = verdict::decide(&ending, &client.shown, service.settings.soft_bounce);
    session.log.verdict(&verdict);
    session.answer(&verdict).await;
}

/// Whether the session is logged from its beginning.
fn begin(service: &Service, peer: PeerAddress) -> Voice<'_> {
    let (voice, said) = service.session_quota.begin(peer.ip());
    if let Some(text) = said {
        service.log.write(Program::Qmqpd, Severity::Warning, &text);
    }
    voice
}

/// Who it is; and whether it may send mail, where that had to be asked before its name was known. A name that is not there soon
/// is waited for only if that depends on it.
async fn meet(service: &Service, peer: PeerAddress, voice: &Voice<'_>) -> (Client, Option<Answer>) {
    let with_port = service.settings.qmqpd_client_port_logging;
    let Some(ip) = peer.ip() else { return (Client::new(peer, &Name::Unknown, with_port), None) };
    let found = match service.names.lookup_soon(ip).await {
        Some(found) => found,
        None => {
            let client = Client::pending(peer, with_port);
            let answer = service.access.authorize(&client, service.access.verbosity).await;
            if answer.authorization != Authorization::Undetermined {
                return (client, Some(answer));
            }
            service.names.lookup(ip).await
        }
    };
    for notice in found.notices.iter().filter(|_| !voice.is_silent()) {
        service.log.notice(Program::Qmqpd, notice);
    }
    (Client::new(peer, &found.name, with_port), None)
}

/// What the steps of one connection share.
struct Session<'s> {
    service: &'s Service,
    connection: Connection,
    client: &'s Client,
    log: SessionLog<'s>,
    patience: Patience,
    /// When the client connected.
    arrived: spool::Timestamp,
    /// What a client that may send has announced of its request, and we have not read.
    unread: u64,
    /// From the commit on, until the client can have read the reply.
    under_way: Option<Commit<'s>>,
}

impl Session<'_> {
    /// Tells the client and the log how it ended, and closes.
    async fn conclude(&mut self, ending: &Ending) {
        if !matches!(ending, Ending::Queued(_)) {
            self.under_way = None;
        }
        let verdict = verdict::decide(ending, &self.client.shown, self.service.settings.soft_bounce);
        self.log.verdict(&verdict);
        if verdict.is_delayed() {
            sleep(self.service.settings.qmqpd_error_delay).await;
        }
        self.answer(&verdict).await;
    }

    /// Writes the reply, if there is one, and closes so that the client can read it.
    async fn answer(&mut self, verdict: &Verdict) {
        let Some((status, text)) = &verdict.reply else { return };
        let reply = qmqp::reply::encode(*status, text);
        self.log.reply(*status, text);
        // The deadline bounds what a client may take for its message; a client that waits for our answer has it.
        let patience = Patience { deadline: None, ..self.patience };
        if let Err(broken) = self.connection.write_all(&reply, &patience).await {
            self.log.reply_lost(matches!(broken, Broken::Timeout | Broken::Deadline));
            return;
        }
        if verdict.is_delayed() || self.connection.has_unread_bytes() {
            let settings = &self.service.settings;
            self.connection.end_writing();
            // A client that writes all before it reads must come to its end, or it never hears that it need not come again.
            if !self
                .connection
                .read_on(self.unread, settings.qmqpd_drain_timeout, self.patience.deadline)
                .await
            {
                return;
            }
            let bytes_max = u64::try_from(settings.qmqpd_drain_limit).unwrap_or(0);
            self.connection.linger(bytes_max, settings.qmqpd_drain_timeout).await;
        }
    }
}

/// How long a client that is turned away may take to read why.
const TURN_AWAY_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const fn bytes_of<A, B, C, F>(_: &impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// Thousands of clients wait at a time, each with all that its session may ever need to remember.
    #[test]
    fn a_client_that_waits_takes_little_memory() {
        let bytes = bytes_of(&serve);
        assert!(bytes < 2500, "{bytes} bytes");
    }
}
