//! The network agent as a service process: what it opens, and the queue managers that connect to it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use daemon::config;
use daemon::jail::Needs;
use daemon::log::Program;
use daemon::peer_address::PeerAddress;
use daemon::service::{Opening, Permit, RejectSlot, Server, Service, Sessions};
use delivery::hosts;
use intake::Settlement;
use postfix::notice::Notice;
use postfix::settings::Settings;

use crate::network::{self, Agent, Log, Names, Protocol, Timeouts, TlsLevel};
use crate::program::{SMTP, tls_level};

/// The agent of the services `smtp`, `lmtp` and `qmqp`.
#[derive(Debug)]
pub struct NetworkAgent;

/// What answers queue managers.
pub struct NetworkSessions {
    agent: Arc<Agent>,
    deliveries_max: usize,
    log: daemon::log::Log,
}

/// What it has opened with privileges.
pub struct NetworkOpened {
    settings: network::Settings,
    names: Option<Vec<u8>>,
}

const RESOLVER_FILE: &str = "/etc/resolv.conf";

/// A delivery has a queue file and a few connections, some of which are kept.
const DESCRIPTORS_PER_DELIVERY: u64 = 4;

impl Server for NetworkAgent {
    const PROGRAM: &'static dyn config::Program = &SMTP;
    type Opened = NetworkOpened;
    type Confined = NetworkOpened;
    type Sessions = NetworkSessions;
    type Settlement = Settlement;

    fn refusal() -> Vec<u8> {
        Vec::new()
    }

    fn refused(_: PeerAddress) -> Vec<Notice> {
        Vec::new()
    }

    fn descriptors(settings: &Settings) -> u64 {
        u64::try_from(settings.qmqpd_delivery_limit).unwrap_or(0).saturating_mul(DESCRIPTORS_PER_DELIVERY)
    }

    fn threads_aside(_: &Settings) -> usize {
        4
    }

    fn open(opening: &Opening<'_>) -> Result<NetworkOpened, String> {
        let settings = &opening.config.settings;
        let protocol = match opening.arguments.process_name.as_str() {
            "lmtp" => Protocol::Lmtp,
            "qmqp" => Protocol::Qmqp,
            _ => Protocol::Smtp,
        };
        let has =
            |word: &str| settings.inet_protocols.contains(word) || settings.inet_protocols.contains("all");
        let tls = tls_level(protocol, settings).unwrap_or(TlsLevel::Mandatory);
        let defaults = network::Settings::new(protocol, &settings.myhostname);
        let defaults = if protocol == Protocol::Smtp { with_limits_of(settings, defaults) } else { defaults };
        let settings = network::Settings {
            tls,
            ipv4: has("ipv4"),
            ipv6: has("ipv6"),
            own_addresses: config::own_addresses(settings),
            soft_bounce: settings.soft_bounce,
            ..defaults
        };
        Ok(NetworkOpened { settings, names: std::fs::read(RESOLVER_FILE).ok() })
    }

    /// No file at all. Which ports it connects to, next-hops and tables decide.
    fn confine(opened: NetworkOpened) -> Result<(NetworkOpened, Needs), String> {
        Ok((opened, Needs { connects_to_any_port: true, ..Needs::default() }))
    }

    fn assemble(opened: NetworkOpened, service: &Service) -> io::Result<NetworkSessions> {
        let NetworkOpened { settings, names } = opened;
        let names = Names::new(names.as_deref(), DNS_PORT).map_err(io::Error::other)?;
        let log = service.log.clone();
        let say: Log = Arc::new(move |notice| log.notice(Program::Service, notice));
        let deliveries_max = usize::try_from(service.settings.qmqpd_delivery_limit).unwrap_or(usize::MAX);
        let agent = Arc::new(Agent::new(settings, names, say, None));
        Ok(NetworkSessions { agent, deliveries_max, log: service.log.clone() })
    }
}

const DNS_PORT: u16 = 53;

/// `smtp_connect_timeout` and the like.
fn with_limits_of(settings: &Settings, defaults: network::Settings) -> network::Settings {
    let count = |number: i64| usize::try_from(number).unwrap_or(usize::MAX);
    network::Settings {
        timeouts: Timeouts {
            connect: settings.smtp_connect_timeout,
            helo: settings.smtp_helo_timeout,
            ..defaults.timeouts
        },
        hosts: hosts::Settings { addresses_max: count(settings.smtp_mx_address_limit), ..defaults.hosts },
        sessions_max: count(settings.smtp_mx_session_limit),
        ..defaults
    }
}

impl Sessions for NetworkSessions {
    fn changed_table(&self) -> Option<String> {
        None
    }

    async fn serve(self: Arc<Self>, socket: OwnedFd, _peer: PeerAddress, permit: Option<Permit>) {
        let _permit = permit;
        let Ok(socket) = tokio::net::UnixStream::from_std(socket.into()) else { return };
        if let Err(error) = network::serve(Arc::clone(&self.agent), socket, self.deliveries_max).await {
            let text = format!("connection to the queue manager: {error}");
            self.log.notice(Program::Service, &Notice::warning(text));
        }
    }

    async fn turn_away(self: Arc<Self>, socket: OwnedFd, _peer: PeerAddress, slot: RejectSlot) {
        drop((socket, slot));
    }

    fn shut_down(&self) {}
}
