//! The agent that talks to other mail systems: SMTP, LMTP, QMQP.
//!
//! ```text
//! serve ─ request ─▶ attempt ─ targets (dns) ─▶ connection ─▶ session ─▶ transaction ─▶ book ─▶ outcomes, log lines
//!                       └───────── idle ◀──────────────────────────────────┘
//! ```
//!
//! One process has thousands of deliveries at a time, each a task. It reaches no file: a message comes as an open
//! descriptor. What a reply means is decided in `delivery::dialogue`, which hosts are tried in `delivery::hosts`, what is
//! said in `smtp::client`; here is what waits.

mod attempt;
mod book;
mod connection;
mod content;
mod dns;
mod idle;
mod qmqp;
mod sasl;
mod serve;
mod session;
mod settings;
mod targets;
#[cfg(test)]
mod tests;
mod transaction;

use std::fs::File;
use std::sync::Arc;

pub use book::Report;
pub use dns::{Names, OpenError};
pub use sasl::Password;
pub use serve::serve;
pub use settings::{Protocol, Settings, Timeouts, TlsLevel, tls_level};

use crate::request::{Finished, Request};
use idle::Idle;
use postfix::notice::Notice;

/// Takes what is to be logged.
pub type Log = Arc<dyn Fn(&Notice) + Send + Sync>;

/// Looks a host or a next-hop up in smtp_sasl_password_maps. An error says which table failed, and how.
pub type Passwords = Arc<dyn Fn(&str) -> Result<Option<Password>, String> + Send + Sync>;

/// What all deliveries of a service share.
#[derive(Clone)]
pub struct Agent {
    settings: Settings,
    names: Names,
    log: Log,
    passwords: Option<Passwords>,
    idle: Idle,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Agent").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Agent {
    /// An agent that has no connection yet.
    #[must_use]
    pub fn new(settings: Settings, names: Names, log: Log, passwords: Option<Passwords>) -> Self {
        let idle = Idle::new(settings.idle_max, settings.reuse_max, settings.idle_connections_max);
        Self { settings, names, log, passwords, idle }
    }

    /// Delivers a message to one next-hop. `report` hears of each recipient as soon as its outcome is known. Recipients
    /// without an outcome are to be tried again.
    pub async fn deliver<'a>(
        &'a self,
        request: &'a Request,
        file: &'a File,
        report: &'a mut Report<'a>,
    ) -> Finished {
        match self.settings.protocol {
            Protocol::Smtp | Protocol::Lmtp => attempt::deliver(self, request, file, report).await,
            Protocol::Qmqp => qmqp::deliver(self, request, file, report).await,
        }
    }

    fn info(&self, text: String) {
        (self.log)(&Notice::info(text));
    }

    fn warning(&self, text: String) {
        (self.log)(&Notice::warning(text));
    }

    /// The password for a host: by its name, then by the next-hop as it is written.
    fn password(&self, host: &str, nexthop: &str) -> Result<Option<Password>, String> {
        let Some(passwords) = self.passwords.as_ref().filter(|_| self.settings.authenticates) else {
            return Ok(None);
        };
        match passwords(host)? {
            Some(password) => Ok(Some(password)),
            None => passwords(nexthop),
        }
    }
}
