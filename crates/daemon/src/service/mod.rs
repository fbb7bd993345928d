//! The service process: what master(8) starts, Postfix's or ours.
//!
//! `start` opens everything that needs privileges, gives them up, and only then lets the first client in.

mod accept;
mod blocking;
mod clients;
mod commits;
mod connection_limit;
mod debugger;
mod drain;
mod life;
mod listener;
mod memory;
#[cfg(all(test, shuttle))]
mod model;
mod passed;
mod prepare;
mod program;
mod quota;
mod refuse;
mod settlement;
mod siblings;
mod start;
mod status;
mod stdin;
mod sync;
mod usage;
mod watchdog;
mod worker;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postfix::notice::Severity;
use postfix::settings::Settings;
use tokio::sync::Notify;

use crate::log::{Log, Program};

pub use blocking::{BlockingServer, run_blocking};
pub use clients::{Capacity, Clients, Excess, Held, Limit, Limits};
pub use commits::{Commit, Commits};
pub use connection_limit::{ConnectionLimit, Permit, RejectSlot};
pub use memory::{MemoryShare, MessageMemory};
pub use program::{Opening, Server, Sessions, Settles};
pub use quota::{QuotaGuard, SessionQuota};
#[cfg(fuzzing)]
pub use siblings::fuzzing;
pub use siblings::{Changes, Minute};
pub use start::{TypedByHand, run};
pub use usage::Usage;

/// What a service process has, whatever it serves; sessions share most of it. Nothing in it is locked across an await.
#[derive(Debug)]
pub struct Service {
    /// The configuration, read once.
    pub settings: Arc<Settings>,
    /// Where lines go.
    pub log: Log,
    /// One place per connection: `qmqpd_connection_limit`.
    pub connection_limit: Arc<ConnectionLimit>,
    /// What each client takes.
    pub clients: Arc<Clients>,
    /// Messages whose client has heard no reply although they may be durable already.
    pub commits: Arc<Commits>,
    /// How many sessions without a message are logged.
    pub session_quota: Arc<SessionQuota>,
    /// What other processes of the service have to be told of.
    pub changes: Arc<Changes>,
    /// This process is the oldest of too many that finish their sessions.
    pub too_old: Notify,
    /// How much this process has been used.
    pub usage: Usage,
    /// The master is Postfix's.
    pub is_under_postfix: bool,
    /// The root directory is the queue directory.
    pub is_chrooted: bool,
}

/// A process that cannot reach the log makes room for a fresh one, but no sooner than at this age: there may be no log daemon.
const CUT_OFF_AGE_MIN: Duration = Duration::from_secs(10);

impl Service {
    /// Whether this process has permanently lost its log: the log daemon was started anew, and its socket is outside of our root
    /// directory. The next process opens it from there.
    fn is_cut_off_from_log(&self) -> bool {
        self.is_chrooted && self.log.is_unreachable() && self.usage.age() >= CUT_OFF_AGE_MIN
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
            self.log.write(Program::Service, Severity::Warning, &line);
        }
    }
}

/// The time of day.
#[must_use]
pub fn now() -> spool::Timestamp {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    spool::Timestamp { seconds: since_1970.as_secs(), microseconds: since_1970.subsec_micros() }
}
