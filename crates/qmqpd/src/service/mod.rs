//! The service process: what master(8) starts, Postfix's or ours.
//!
//! `start` opens everything that needs privileges, gives them up, and only then lets the first client in.

mod accept;
mod admission;
mod clients;
mod commits;
mod debugger;
mod drain;
mod life;
mod listener;
#[cfg(all(test, shuttle))]
mod model;
mod passed;
mod prepare;
mod refuse;
pub(crate) mod settlement;
pub(crate) mod siblings;
mod space;
mod start;
mod status;
mod stdin;
mod sync;
mod watchdog;
mod wear;
mod worker;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postfix::notice::Severity;
use postfix::settings::Settings;
use tokio::sync::{Notify, Semaphore};

use crate::access::Access;
use crate::log::{Log, Program};
use crate::peer::PeerNames;
use crate::session::SessionQuota;
use crate::submit::Backend;

pub use admission::Admission;
pub(crate) use admission::{Place, Seat};
pub(crate) use clients::Held;
pub use clients::{Clients, Excess, Limit};
#[cfg(all(test, not(shuttle)))]
pub(crate) use clients::{Limits, Places};
pub use commits::{Commit, Commits};
pub use siblings::{Changes, Minute};
pub use space::{FreeSpace, Shortage};
pub use start::{TypedByHand, run};
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
    pub backend: Backend,
    /// One place per connection: `qmqpd_connection_limit`.
    pub admission: Admission,
    /// What each client takes.
    pub clients: Clients,
    /// One permit per message that is being received: `qmqpd_memory_limit` in shares of [`MESSAGE_MEMORY_BYTES`].
    pub memory: Semaphore,
    /// Whether there is room for a message: `qmqpd_free_space_min`.
    pub space: FreeSpace,
    /// Messages whose client has heard no reply although they may be durable already.
    pub commits: Commits,
    /// How many sessions without a message are logged.
    pub session_quota: SessionQuota,
    /// What other processes of the service have to be told of.
    pub changes: Arc<Changes>,
    /// This process is the oldest of too many that finish their sessions.
    pub too_old: Notify,
    /// How much this process has been used.
    pub wear: Wear,
    /// The master is Postfix's.
    pub is_under_postfix: bool,
    /// The root directory is the queue directory.
    pub is_chrooted: bool,
}

/// A process that cannot reach the log makes room for a fresh one, but no sooner than at this age: there may be no log daemon.
const CUT_OFF_AGE_MIN: Duration = Duration::from_secs(10);

/// The most that one message being received takes: a read buffer, records waiting for the disk, one header, and the
/// duplicate filter. Most take a tenth of it.
pub const MESSAGE_MEMORY_BYTES: u64 = 256 * 1024;

/// Threads that wait for remote tables: those of three match lists, and those of our own cleanup.
const REMOTE_LOOKUP_THREADS_MAX: usize = 4 * crate::access::REMOTE_LOOKUPS_MAX;

impl Service {
    /// A table or included file that is no longer what was opened.
    #[must_use]
    pub fn changed_table(&self) -> Option<String> {
        self.access.changed().or_else(|| self.backend.changed())
    }

    /// Whether the log is lost to this process for good: the log daemon was started anew, and its socket is outside of our root
    /// directory. The next process opens it from there.
    fn is_cut_off_from_log(&self) -> bool {
        self.is_chrooted && self.log.is_unreachable() && self.wear.age() >= CUT_OFF_AGE_MIN
    }

    /// Says what the log has left out, each minute.
    async fn report_unlogged_sessions(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.session_quota.rest_of_minute(now().seconds)).await;
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

/// The time of day.
#[must_use]
pub fn now() -> spool::Timestamp {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    spool::Timestamp { seconds: since_1970.as_secs(), microseconds: since_1970.subsec_micros() }
}
