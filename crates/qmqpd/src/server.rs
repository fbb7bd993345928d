//! This program as a service process: what it opens, and who serves its clients.

use std::io;
use std::sync::Arc;

use lookup::MatchList;
use postfix::notice::Notice;
use postfix::settings::Settings;

use crate::access::{Access, List, REMOTE_LOOKUPS_MAX};
use crate::peer::{self, PeerNames};
use crate::program::Qmqpd;
use crate::session::{Context, refused};
use crate::verdict::{Ending, decide};
use daemon::config;
use daemon::jail::Needs;
use daemon::log::Program;
use daemon::peer_address::PeerAddress;
use daemon::service::{Opening, Server, Service, now};
use intake::{Backend, DateFormat, Given, Settlement, file_threads, list_options};

/// The QMQP server.
#[derive(Debug)]
pub(crate) struct QmqpServer;

/// What it has opened with privileges.
pub(crate) struct Opened {
    names: PeerNames,
    access: Access,
    backend: intake::Opened,
}

/// The same behind the jail.
pub(crate) struct Confined {
    names: PeerNames,
    access: Access,
    backend: intake::Confined,
}

impl Server for QmqpServer {
    const PROGRAM: &'static dyn config::Program = &Qmqpd;

    type Opened = Opened;
    type Confined = Confined;
    type Sessions = Context;
    type Settlement = Settlement;

    fn refusal() -> Vec<u8> {
        let verdict = decide(&Ending::ConfigurationError, "", false);
        verdict.reply.map_or_else(Vec::new, |(status, text)| qmqp::reply::encode(status, text))
    }

    fn refused(peer: PeerAddress) -> Vec<Notice> {
        refused(peer, &decide(&Ending::ConfigurationError, "", false))
    }

    fn descriptors(settings: &Settings) -> u64 {
        let sessions = u64::try_from(settings.qmqpd_connection_limit).unwrap_or(0);
        sessions.saturating_mul(Backend::needs(settings).descriptors_per_session)
    }

    fn threads_aside(settings: &Settings) -> usize {
        REMOTE_LOOKUP_THREADS_MAX
            .saturating_add(lookup::TurnOptions::default().seats)
            .saturating_add(file_threads(settings))
    }

    fn open(opening: &Opening<'_>) -> Result<Opened, String> {
        let Opening { config, log, .. } = *opening;
        let settings = &config.settings;
        let say = |notice: &Notice| log.notice(Program::Service, notice);
        let options = list_options(settings);
        let access = open_access(settings, &options, opening.arguments.verbosity, &say)
            .map_err(|error| error.to_string())?;
        // Names are resolved while the resolver's files are in sight.
        let backend = intake::Opened::open(Given {
            settings,
            append_dot_mydomain_by_default: config.legacy.append_dot_mydomain,
            own_addresses: &|| config::own_addresses(settings),
            tables: &options,
            remote_lookups_max: REMOTE_LOOKUPS_MAX,
            dates: DateFormat::local(),
            owner: config.jail.owner.as_ref().map(|owner| owner.user_id),
            // Our own master has a process for that.
            settles: config::is_under_postfix(&config.source),
            clock: Arc::new(now),
            log,
        })?;
        let (names, notices) = PeerNames::open(peer::Options {
            deadline: settings.qmqpd_dns_timeout,
            patience: settings.qmqpd_client_name_wait,
            ipv4: settings.inet_protocols.contains("ipv4") || settings.inet_protocols.contains("all"),
            ..peer::Options::default()
        })
        .map_err(|error| error.to_string())?;
        notices.iter().for_each(say);
        Ok(Opened { names, access, backend })
    }

    fn confine(Opened { names, access, backend }: Opened) -> Result<(Confined, Needs), String> {
        let backend = backend.confined()?;
        let mut needs = backend.needs().jail;
        needs.ask_name_servers();
        needs.connect_to(&access.inet_servers());
        Ok((Confined { names, access, backend }, needs))
    }

    fn assemble(Confined { names, access, backend }: Confined, service: &Service) -> io::Result<Context> {
        Context::new(service, names, access, backend)
    }
}

/// Threads that wait for remote tables: those of three match lists, and those of our own cleanup.
const REMOTE_LOOKUP_THREADS_MAX: usize = 4 * REMOTE_LOOKUPS_MAX;

fn open_access(
    settings: &Settings,
    options: &lookup::Options,
    verbosity: u32,
    say: &dyn Fn(&Notice),
) -> Result<Access, lookup::OpenError> {
    let open = |parameter: &'static str, patterns: &str| {
        let mut notices = Vec::new();
        let list = MatchList::open(parameter, patterns, options, &mut notices);
        notices.iter().for_each(say);
        list.map(List::new)
    };
    let exceptions = &settings.qmqpd_client_event_limit_exceptions;
    let are_all_exempt = *exceptions == settings.qmqpd_authorized_clients;
    let exceptions =
        (!are_all_exempt).then(|| open("qmqpd_client_event_limit_exceptions", exceptions)).transpose()?;
    Ok(Access {
        exceptions,
        authorized_clients: open("qmqpd_authorized_clients", &settings.qmqpd_authorized_clients)?,
        debug_peers: open("debug_peer_list", &settings.debug_peer_list)?,
        debug_peer_level: u32::try_from(settings.debug_peer_level).unwrap_or(u32::MAX),
        verbosity,
    })
}
