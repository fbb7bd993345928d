//! What a service process opens while it has the privileges to, and the jail behind that.

use std::sync::Arc;

use lookup::MatchList;
use postfix::child::Arguments;
use postfix::notice::Notice;
use postfix::settings::Settings;

use super::debugger;
use super::siblings::RegionFile;
use super::start::provisional_log;
use crate::access::{Access, List, REMOTE_LOOKUPS_MAX};
use crate::config::{self, ServiceConfig};
use crate::date::DateFormat;
use crate::jail::{self, JailPlan, Layer, Sandbox};
use crate::lists::list_options;
use crate::log::{Log, Program};
use crate::peer::{self, PeerNames};
use crate::submit::{Backend, Confined, Given, Opened};

/// Why a service cannot do its work, and where that is to be logged.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) log: Log,
    pub(super) text: String,
}

/// All that was opened with privileges, now in the jail.
pub(super) struct Prepared {
    pub(super) settings: Arc<Settings>,
    pub(super) log: Log,
    pub(super) names: PeerNames,
    pub(super) access: Access,
    pub(super) backend: Confined,
    pub(super) is_under_postfix: bool,
    /// The name in master.cf.
    pub(super) service_name: String,
    /// How many processes of the service may take clients at the same time, where there is a limit.
    pub(super) processes_max: Option<usize>,
    /// Where the processes of the service tell each other what clients take.
    pub(super) regions: Option<RegionFile>,
    pub(super) confinement: Confinement,
    /// Somebody looks at this process: it does the work itself.
    pub(super) is_debugged: bool,
}

/// The jail and the sandbox, as far as they are in force.
pub(super) struct Confinement {
    pub(super) plan: JailPlan,
    pub(super) sandbox: Sandbox,
    pub(super) landlock: Layer,
}

pub(super) fn prepare(config: &ServiceConfig, arguments: &Arguments) -> Result<Prepared, Failure> {
    let log = Log::open(&config.log).map_err(|error| Failure {
        log: provisional_log(&arguments.process_name),
        text: error.to_string(),
    })?;
    let say = |notice: &Notice| log.notice(Program::Qmqpd, notice);
    config.notices.iter().for_each(say);
    let failure = |text: String| Failure { log: log.clone(), text };
    let settings = &config.settings;
    jail::raise_limits(descriptors_wanted(settings));
    if let Some(shortage) = crate::address_space::shortage(settings) {
        return Err(failure(shortage));
    }
    // Relative names of tables start in the queue directory, as with Postfix.
    std::env::set_current_dir(&config.jail.queue_directory)
        .map_err(|error| failure(format!("chdir {}: {error}", config.jail.queue_directory.display())))?;
    let is_debugged = debugger::is_wanted(arguments);
    if is_debugged {
        debugger::run(&settings.debugger_command, &log).map_err(failure)?;
    }
    let options = list_options(settings);
    let access = open_access(settings, &options, arguments.verbosity, &say)
        .map_err(|error| failure(error.to_string()))?;
    // Names are resolved while the resolver's files are in sight.
    let backend = Opened::open(Given {
        settings,
        append_dot_mydomain_by_default: config.legacy.append_dot_mydomain,
        own_addresses: &|| config::own_addresses(settings),
        tables: &options,
        remote_lookups_max: REMOTE_LOOKUPS_MAX,
        dates: DateFormat::local(),
        owner: config.jail.owner.as_ref().map(|owner| owner.user_id),
        // Our own master has a process for that.
        settles: config::is_under_postfix(&config.source),
        clock: Arc::new(super::now),
        log: &log,
    })
    .map_err(failure)?;
    let (names, notices) = PeerNames::open(peer::Options {
        deadline: settings.qmqpd_dns_timeout,
        patience: settings.qmqpd_client_name_wait,
        ipv4: settings.inet_protocols.contains("ipv4") || settings.inet_protocols.contains("all"),
        ..peer::Options::default()
    })
    .map_err(|error| failure(error.to_string()))?;
    notices.iter().for_each(say);
    let regions = open_regions(config, arguments, &log);
    jail::enter(&config.jail).map_err(|error| failure(error.to_string()))?;
    let backend = backend.confined().map_err(failure)?;
    let mut needs = backend.needs().jail;
    needs.ask_name_servers();
    needs.connect_to(&access.inet_servers());
    let sandbox = Sandbox::new(settings, needs);
    let landlock = sandbox.restrict_files().map_err(|error| failure(error.to_string()))?;
    Ok(Prepared {
        confinement: Confinement { plan: config.jail.clone(), sandbox, landlock },
        settings: Arc::clone(settings),
        log,
        names,
        access,
        backend,
        is_under_postfix: config::is_under_postfix(&config.source),
        service_name: arguments.service_name.clone(),
        processes_max: config.processes_max,
        regions,
        is_debugged,
    })
}

/// The file in which the processes of the service tell each other what clients take. A process for one client alone has none.
fn open_regions(config: &ServiceConfig, arguments: &Arguments, log: &Log) -> Option<RegionFile> {
    if arguments.stdin_session {
        return None;
    }
    let directory = config.jail.queue_directory.join(&config.settings.process_id_directory);
    RegionFile::open(&directory, &arguments.transport, &arguments.service_name)
        .inspect_err(|error| log.notice(Program::Qmqpd, &Notice::warning(error.to_string())))
        .ok()
}

fn descriptors_wanted(settings: &Settings) -> u64 {
    let sessions = u64::try_from(settings.qmqpd_connection_limit).unwrap_or(0);
    sessions
        .saturating_mul(Backend::needs(settings).descriptors_per_session)
        .saturating_add(DESCRIPTORS_BESIDE_SESSIONS)
}

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

/// Descriptors for everything that is not a session: sockets to listen on, tables, logs, name service, directories.
const DESCRIPTORS_BESIDE_SESSIONS: u64 = 1024;
