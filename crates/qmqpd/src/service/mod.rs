//! The service process: what master(8) starts, Postfix's or ours.
//!
//! `start` opens everything that needs privileges, gives them up, and only then lets the first client in.

mod accept;
mod debugger;
mod life;
mod passed;
mod prepare;
mod refuse;
mod start;
mod status;
mod stdin;
mod watchdog;
mod wear;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postfix::notice::Severity;
use postfix::settings::Settings;
use tokio::sync::{Notify, Semaphore, watch};

use crate::access::Access;
use crate::log::{Log, Program, QUOTA_WINDOW, SessionQuota};
use crate::peer::PeerNames;
use crate::submit::Submit;

pub(crate) use prepare::list_options;
pub use start::run;
pub use wear::Wear;

/// What the sessions of one service process share. Nothing in it is locked across an await.
#[derive(Debug)]
pub struct Service {
    /// The configuration, read once.
    pub settings: Arc<Settings>,
    /// Where lines go.
    pub log: Log,
    /// Who the peers are.
    pub names: PeerNames,
    /// Whom we listen to.
    pub access: Access,
    /// Where messages go.
    pub submit: Submit,
    /// One permit per connection: `qmqpd_connection_limit`.
    pub connections: Arc<Semaphore>,
    /// All of them.
    pub connections_max: usize,
    /// One permit per client that is being turned away.
    pub waiting_room: Arc<Semaphore>,
    /// One permit per message that is being received: `qmqpd_memory_limit` in shares of [`MESSAGE_MEMORY_BYTES`].
    pub memory: Semaphore,
    /// Messages whose client has heard no reply although they may be durable already.
    pub commits: Commits,
    /// How many sessions without a message are logged.
    pub session_quota: SessionQuota,
    /// How much this process has been used.
    pub wear: Wear,
    /// The master is Postfix's.
    pub is_under_postfix: bool,
    give_way: watch::Sender<bool>,
}

/// The most that one message being received takes: a read buffer, records waiting for the disk, one header, and the
/// duplicate filter. Most take a tenth of it.
pub const MESSAGE_MEMORY_BYTES: u64 = 256 * 1024;

/// Threads that wait for remote tables, and so look-ups in them at a time.
const REMOTE_LOOKUPS_MAX: usize = 64;

/// Clients that hear `too many connections` at a time; beyond that they are closed without a word.
const WAITING_ROOM_CONNECTIONS_MAX: usize = 256;

impl Service {
    /// Stops accepting: a successor takes over, and this process ends with its last session.
    pub fn give_way(&self, reason: &str) {
        if !self.give_way.send_replace(true) && !reason.is_empty() {
            self.log.write(Program::Qmqpd, Severity::Info, reason);
        }
    }

    /// A table or included file that is no longer what was opened.
    #[must_use]
    pub fn changed_table(&self) -> Option<String> {
        self.access.changed().or_else(|| self.submit.changed())
    }

    /// Says what the log has left out, each minute.
    async fn report_unlogged_sessions(self: Arc<Self>) {
        loop {
            tokio::time::sleep(QUOTA_WINDOW).await;
            self.report_unlogged();
        }
    }

    fn report_unlogged(&self) {
        for line in self.session_quota.end_window() {
            self.log.write(Program::Qmqpd, Severity::Warning, &line);
        }
    }

    /// What the protocol machine refuses without reading it.
    #[must_use]
    pub fn protocol_limits(&self) -> qmqp::server::Limits {
        let address_bytes_max = u64::try_from(self.settings.line_length_limit).unwrap_or(u64::MAX);
        qmqp::server::Limits {
            content_bytes_max: size_limit(self.settings.message_size_limit),
            sender_bytes_max: address_bytes_max,
            recipient_bytes_max: address_bytes_max,
        }
    }

    /// `qmqpd_session_deadline`; 0 is none.
    #[must_use]
    pub fn session_deadline(&self) -> Option<Duration> {
        Some(self.settings.qmqpd_session_deadline).filter(|limit| !limit.is_zero())
    }
}

/// Postfix's way to write "no limit" is zero, or less.
#[must_use]
pub fn size_limit(parameter: i64) -> u64 {
    u64::try_from(parameter).ok().filter(|limit| *limit > 0).unwrap_or(u64::MAX)
}

/// Counts commits under way, so that a stop can wait for the replies of messages that are durable already.
#[derive(Debug, Default)]
pub struct Commits {
    under_way: AtomicUsize,
    all_done: Notify,
}

/// A commit under way, until it is dropped.
#[derive(Debug)]
pub struct Commit<'c>(&'c Commits);

impl Commits {
    /// A commit begins.
    pub fn begin(&self) -> Commit<'_> {
        self.under_way.fetch_add(1, Ordering::AcqRel);
        Commit(self)
    }

    /// Waits until none is under way.
    pub async fn finished(&self) {
        loop {
            let done = self.all_done.notified();
            if self.under_way.load(Ordering::Acquire) == 0 {
                return;
            }
            done.await;
        }
    }
}

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        if self.0.under_way.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.all_done.notify_waiters();
        }
    }
}

/// The time of day.
#[must_use]
pub fn now() -> spool::Timestamp {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    spool::Timestamp { seconds: since_1970.as_secs(), microseconds: since_1970.subsec_micros() }
}
