//! What the sessions of one service process share.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use postfix::settings::Settings;

use super::Connection;
use crate::access::Access;
use crate::peer::PeerNames;
use crate::space::FreeSpace;
use daemon::log::Log;
use daemon::peer_address::PeerAddress;
use daemon::service::{
    Changes, Clients, Commits, ConnectionLimit, MessageMemory, Permit, RejectSlot, Service, SessionQuota,
    Sessions,
};
use intake::{Backend, Confined};

/// What the sessions of one service process share. Nothing in it is locked across an await.
#[derive(Debug)]
pub struct Context {
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
    pub connection_limit: Arc<ConnectionLimit>,
    /// What each client takes.
    pub clients: Arc<Clients>,
    /// For the messages that are being received: `qmqpd_memory_limit` in shares of [`MESSAGE_MEMORY_BYTES`].
    pub memory: Arc<MessageMemory>,
    /// Whether there is room for a message: `qmqpd_free_space_min`.
    pub space: FreeSpace,
    /// Messages whose client has heard no reply although they may be durable already.
    pub commits: Arc<Commits>,
    /// How many sessions without a message are logged.
    pub session_quota: Arc<SessionQuota>,
    /// What other processes of the service have to be told of.
    pub changes: Arc<Changes>,
}

/// The most that one message being received takes: a read buffer, records waiting for the disk, one header, and the
/// duplicate filter. Most take a tenth of it.
pub const MESSAGE_MEMORY_BYTES: u64 = 256 * 1024;

impl Context {
    /// For the sessions of this process; needs the runtime.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn new(service: &Service, names: PeerNames, access: Access, backend: Confined) -> io::Result<Self> {
        let settings = Arc::clone(&service.settings);
        let connections = usize::try_from(settings.qmqpd_connection_limit).unwrap_or(usize::MAX);
        let memory = u64::try_from(settings.qmqpd_memory_limit).unwrap_or(0) / MESSAGE_MEMORY_BYTES;
        Ok(Self {
            names,
            access,
            backend: backend.start(connections)?,
            connection_limit: Arc::clone(&service.connection_limit),
            clients: Arc::clone(&service.clients),
            memory: Arc::new(MessageMemory::new(usize::try_from(memory).unwrap_or(usize::MAX))),
            space: FreeSpace::new(settings.qmqpd_free_space_min),
            commits: Arc::clone(&service.commits),
            session_quota: Arc::clone(&service.session_quota),
            changes: Arc::clone(&service.changes),
            settings,
            log: service.log.clone(),
        })
    }

    /// What the protocol machine refuses without reading it.
    #[must_use]
    pub fn protocol_limits(&self) -> qmqp::server::Limits {
        let address_bytes_max = u64::try_from(self.settings.line_length_limit).unwrap_or(u64::MAX);
        qmqp::server::Limits {
            content_bytes_max: self.settings.message_bytes_max().unwrap_or(u64::MAX),
            sender_bytes_max: address_bytes_max,
            recipient_bytes_max: address_bytes_max,
        }
    }

    /// `qmqpd_session_deadline`; 0 means none.
    #[must_use]
    pub fn session_deadline(&self) -> Option<Duration> {
        Some(self.settings.qmqpd_session_deadline).filter(|limit| !limit.is_zero())
    }
}

impl Sessions for Context {
    fn changed_table(&self) -> Option<String> {
        self.access.changed().or_else(|| self.backend.changed())
    }

    async fn serve(self: Arc<Self>, socket: OwnedFd, peer: PeerAddress, permit: Option<Permit>) {
        super::serve(self, Connection::new(socket), peer, permit).await;
    }

    async fn turn_away(self: Arc<Self>, socket: OwnedFd, peer: PeerAddress, slot: RejectSlot) {
        super::turn_away(self, Connection::new(socket), peer, slot).await;
    }

    fn shut_down(&self) {
        self.backend.shut_down();
    }
}
