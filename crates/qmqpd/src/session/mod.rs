//! One connection from accept to close: the thin hands around [`qmqp::server`].
//!
//! ```text
//! meet ─► authorize ─► receive ──► commit ─► reply ─► close
//!   │         │           │           │         ▲
//!   └─────────┴───────────┴───────────┴─ Ending ┘   verdict::decide makes the reply out of it
//! ```

mod connection;
mod context;
mod entry;
mod lines;
mod presence;
mod receive;
mod whole;

use std::net::IpAddr;
use std::sync::Arc;

pub use connection::{Broken, Connection, Timeouts};
pub use context::{Context, MESSAGE_MEMORY_BYTES};

use postfix::notice::Severity;
use tokio::select;
use tokio::time::{Instant, sleep};

use crate::access::{Answer, Authorization};
use crate::client::Client;
use crate::peer::Name;
use crate::verdict::{self, Ending, Verdict};
use daemon::log::Program;
use daemon::peer_address::PeerAddress;
use daemon::service::{Commit, Permit, QuotaGuard, RejectSlot};
use entry::Holdings;
pub use lines::SessionLog;
pub(crate) use lines::refused;

/// Serves one client to the end. Without a place, there is no limit to what it holds.
pub(crate) async fn serve(
    service: Arc<Context>,
    connection: Connection,
    peer: PeerAddress,
    permit: Option<Permit>,
) {
    let began = Instant::now();
    let arrived = daemon::service::now();
    let quota_guard = begin(&service, peer, arrived);
    let mut holdings = Holdings { permit, ..Holdings::default() };
    let mut met = entry::meet(&service, peer, &quota_guard, &mut holdings).await;
    let verbosity = service.access.verbosity(&met.client, &service.log).await;
    let log = SessionLog::new(&service.log, &met.client, verbosity, &quota_guard);
    log.connect();
    let timeouts = Timeouts {
        operation: service.settings.qmqpd_timeout,
        deadline: service.session_deadline().map(|limit| began + limit),
    };
    let (answer, refusal) = (met.answer.take(), met.refusal.take());
    let refusal = match refusal {
        Some(refusal) => Some(refusal),
        None => {
            let Answer { authorization, notices } = match answer {
                Some(answer) if verbosity == service.access.verbosity => answer,
                _ => service.access.authorize(&met.client, verbosity).await,
            };
            notices.iter().for_each(|notice| log.notice(notice));
            let is_granted = authorization == Authorization::Granted;
            match entry::within_limits(&service, &met, is_granted, &mut holdings).await {
                Err(excess) => Some(excess),
                Ok(()) => refusal_of(authorization, &service),
            }
        }
    };
    let mut session = Session {
        service: &service,
        connection,
        client: &met.client,
        network: met.network,
        log,
        timeouts,
        arrived,
        recipients: 0,
        unread: 0,
        under_way: None,
        is_limited: holdings.connection.is_some()
            && refusal.is_none()
            && service.clients.limits().are_about_mail()
            && !service.access.is_exempt(&met.client).await,
    };
    match refusal {
        Some(refusal) => Box::pin(session.dismiss(&refusal, holdings)).await,
        None => {
            let ending = session.receive().await;
            session.conclude(&ending).await;
        }
    }
    session.log.disconnect();
}

/// Why a client may not send, if it may not.
fn refusal_of(authorization: Authorization, service: &Context) -> Option<Ending> {
    Some(match authorization {
        Authorization::Granted => return None,
        // Whether a table has changed is asked before a client is taken; this is the moment between the two.
        Authorization::Denied if service.access.changed().is_some() => Ending::NotAuthorizedBefore,
        Authorization::Denied => Ending::NotAuthorized,
        Authorization::Undetermined => Ending::NameUnresolved,
        Authorization::Busy => Ending::LookupsBusy,
        Authorization::Broken => Ending::ConfigurationError,
    })
}

/// Answers a client for whom there is no place, without looking up who it is; unless it may send, by all that is known at once, and
/// there soon is one: those of clients that may not are free in a moment.
pub(crate) async fn turn_away(
    service: Arc<Context>,
    connection: Connection,
    peer: PeerAddress,
    slot: RejectSlot,
) {
    if let Some(permit) = entry::place_after_all(&service, peer, &slot).await {
        drop(slot);
        return Box::pin(serve(service, connection, peer, Some(permit))).await;
    }
    let client = Client::new(peer, &Name::Unknown, service.settings.qmqpd_client_port_logging);
    let arrived = daemon::service::now();
    let quota_guard = begin(&service, peer, arrived);
    let log = SessionLog::new(&service.log, &client, 0, &quota_guard);
    let timeouts = Timeouts { operation: service.settings.qmqpd_timeout, deadline: None };
    let mut session = Session {
        service: &service,
        connection,
        client: &client,
        network: None,
        log,
        timeouts,
        arrived,
        recipients: 0,
        unread: 0,
        under_way: None,
        is_limited: false,
    };
    let holdings = Holdings { slot: Some(slot), ..Holdings::default() };
    session.dismiss(&Ending::TooManyConnections, holdings).await;
}

/// Whether the session is logged from its beginning.
fn begin(service: &Context, peer: PeerAddress, arrived: spool::Timestamp) -> QuotaGuard<'_> {
    let (quota_guard, said) = service.session_quota.begin(peer.ip(), arrived.seconds);
    service.changes.note();
    if let Some(text) = said {
        service.log.write(Program::Service, Severity::Warning, &text);
    }
    quota_guard
}

/// What the steps of one connection share.
struct Session<'s> {
    service: &'s Context,
    connection: Connection,
    client: &'s Client,
    /// The client as limits know it.
    network: Option<IpAddr>,
    /// Whether its mail is counted.
    is_limited: bool,
    log: SessionLog<'s>,
    timeouts: Timeouts,
    /// When the client connected.
    arrived: spool::Timestamp,
    /// Of the message that is being received.
    recipients: u64,
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

    /// Tells a client that is not served why, from a reject slot: until it has read it, or another client wants the seat.
    async fn dismiss(&mut self, ending: &Ending, mut holdings: Holdings<'_>) {
        holdings.leave(self.service);
        self.timeouts.operation = self.timeouts.operation.min(DISMISSAL_TIME_MAX);
        let verdict = verdict::decide(ending, &self.client.shown, self.service.settings.soft_bounce);
        self.log.verdict(&verdict);
        let mut must_go = holdings.slot.is_none();
        if let Some(slot) = holdings.slot.as_ref().filter(|_| verdict.is_delayed() && !ending.is_at_once()) {
            select! {
                () = sleep(self.service.settings.qmqpd_error_delay) => {}
                () = slot.wanted() => must_go = true,
            }
        }
        let wanted = async {
            match &holdings.slot {
                Some(slot) if !must_go => slot.wanted().await,
                _ => {}
            }
        };
        // In this order: the first thing that an answer does is to write the reply, without waiting.
        let is_told = select! {
            biased;
            () = self.answer(&verdict) => true,
            () = wanted => false,
        };
        if !is_told {
            self.connection.discard_what_is_there();
        }
    }

    /// Writes the reply, if there is one, and closes so that the client can read it.
    async fn answer(&mut self, verdict: &Verdict) {
        let Some((status, text)) = &verdict.reply else { return };
        let reply = qmqp::reply::encode(*status, text);
        self.log.reply(*status, text);
        // The deadline bounds what a client may take for its message; a client that waits for our answer has it.
        let timeouts = Timeouts { deadline: None, ..self.timeouts };
        if let Err(broken) = self.connection.write_all(&reply, &timeouts).await {
            self.log.reply_lost(matches!(broken, Broken::Timeout | Broken::Deadline));
            return;
        }
        if verdict.is_delayed() || self.connection.has_unread_bytes() {
            let settings = &self.service.settings;
            self.connection.end_writing();
            // A client that writes all before it reads must come to its end, or it never hears that it need not come again.
            if !self
                .connection
                .read_on(self.unread, settings.qmqpd_drain_timeout, self.timeouts.deadline)
                .await
            {
                return;
            }
            let bytes_max = u64::try_from(settings.qmqpd_drain_limit).unwrap_or(0);
            self.connection.linger(bytes_max, settings.qmqpd_drain_timeout).await;
        }
    }
}

/// How long a client that is not served may take to read why.
const DISMISSAL_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(10);

#[cfg(test)]
// Two attributes: clippy knows a test module by `cfg(test)` alone.
#[cfg(not(shuttle))]
mod tests;
