//! Mail filters: which there are, and where. [`Conversation`] shows them a message; what is said, and what an answer means,
//! is in [`cleanup::milter`].

mod connection;
mod conversation;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use cleanup::milter::{Inspection, MacroNames};
use postfix::milter_protocol::{Endpoint, Service};
use postfix::notice::Severity;
use postfix::settings::Settings;
use tokio::sync::Semaphore;

pub(super) use self::conversation::Conversation;
use super::spill_buffer::TemporaryFiles;
use daemon::log::{Log, Program};
use daemon::port::port_number;

/// The filters that every message is shown to.
#[derive(Debug)]
pub struct Milters {
    filters: Vec<ResolvedFilter>,
    names: MacroNames,
    myhostname: String,
    soft_bounce: bool,
    /// How long all filters together may take for one message.
    time_max: Duration,
    /// One permit per message before the filters.
    turns: Semaphore,
    pub(super) files: TemporaryFiles,
    log: Log,
}

/// A filter and its addresses, which were looked up when the process started.
#[derive(Debug)]
struct ResolvedFilter {
    service: Arc<Service>,
    addresses: Vec<SocketAddr>,
}

impl Milters {
    /// The filters of main.cf, `None` if there are none. Looks up host names, so it must come before the jail. Temporary
    /// files are made in `incoming` below the working directory, by at most `threads` threads at a time.
    #[must_use]
    pub fn open(settings: &Settings, threads: usize, log: &Log) -> Option<Self> {
        if settings.receive_override_options.contains("no_milters") {
            return None;
        }
        // What is wrong with them was found when the configuration was loaded.
        let (services, defaults) = settings.milters().ok().filter(|(services, _)| !services.is_empty())?;
        let protocols = &settings.inet_protocols;
        let has = |version| protocols.contains(version) || protocols.contains("all");
        let is_allowed = |address: &SocketAddr| if address.is_ipv4() { has("ipv4") } else { has("ipv6") };
        let resolved = |service: Service| {
            let addresses = addresses(&service).unwrap_or_else(|error| {
                let Service { name, .. } = &service;
                let text = format!("host or service of milter {name} not found: {error}");
                log.write(Program::Cleanup, Severity::Warning, &text);
                Vec::new()
            });
            let addresses = addresses.into_iter().filter(is_allowed).collect();
            ResolvedFilter { service: Arc::new(service), addresses }
        };
        let limit = usize::try_from(settings.default_process_limit).unwrap_or(usize::MAX);
        Some(Self {
            filters: services.into_iter().map(resolved).collect(),
            names: MacroNames {
                connect: settings.milter_connect_macros.clone(),
                helo: settings.milter_helo_macros.clone(),
                mail: settings.milter_mail_macros.clone(),
                rcpt: settings.milter_rcpt_macros.clone(),
                data: settings.milter_data_macros.clone(),
                end_of_header: settings.milter_end_of_header_macros.clone(),
                end_of_data: settings.milter_end_of_data_macros.clone(),
                defaults,
                daemon_name: settings.milter_macro_daemon_name.clone(),
                version: settings.milter_macro_v.clone(),
                ipv6_only: !has("ipv4"),
            },
            myhostname: settings.myhostname.clone(),
            soft_bounce: settings.soft_bounce,
            time_max: settings.qmqpd_session_deadline,
            turns: Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS)),
            files: TemporaryFiles::new("incoming", threads),
            log: log.clone(),
        })
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.filters.len()
    }

    /// Address and port of each that is reached through the network.
    #[must_use]
    pub fn inet_servers(&self) -> Vec<(String, u16)> {
        let addresses = self.filters.iter().flat_map(|resolved| &resolved.addresses);
        addresses.map(|address| (address.ip().to_string(), address.port())).collect()
    }

    /// What filters hear of the client's address.
    pub(super) const fn client_address(&self) -> &'static str {
        self.names.client_address()
    }

    fn say(&self, inspection: &mut Inspection) {
        for notice in inspection.take_notices() {
            self.log.notice(Program::Cleanup, &notice);
        }
    }
}

fn addresses(service: &Service) -> io::Result<Vec<SocketAddr>> {
    let Endpoint::Inet(endpoint) = &service.endpoint else { return Ok(Vec::new()) };
    let host = endpoint.host.as_deref().unwrap_or("localhost");
    let port = port_number(&endpoint.port).map_err(io::Error::other)?;
    Ok((host, port).to_socket_addrs()?.collect())
}
