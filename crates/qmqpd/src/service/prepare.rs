//! What a service process opens while it has the privileges to, and the jail behind that.

use std::sync::Arc;

use lookup::{MatchList, TurnOptions, Turns};
use postfix::child::Arguments;
use postfix::notice::Notice;
use postfix::settings::Settings;
use postfix::settings::words::{Commit, Submit as SubmitTo};
use postfix::text::split_list;
use spool::directories::create_journal;
use spool::journal;
use spool::journal::record::{BootId, Instance};
use spool::{CommitWay, Disk, Spool, SpoolError, UnixDisk};
use tokio::sync::Semaphore;

use super::debugger;
use super::start::{provisional_log, threads_for_files};
use crate::access::{Access, List, REMOTE_LOOKUPS_MAX};
use crate::config::{self, ServiceConfig};
use crate::date::DateFormat;
use crate::jail::{self, JailPlan, Layer, Sandbox};
use crate::log::{Log, Program};
use crate::peer::{self, PeerNames};
use crate::submit::{self, CleanupTables, Lookups, Milters, cleanup_options};

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
    /// For our own cleanup.
    pub(super) spool: Option<Spool<UnixDisk>>,
    pub(super) options: cleanup::Options,
    /// For our own cleanup.
    pub(super) lookups: Option<Lookups>,
    /// For our own cleanup.
    pub(super) milters: Option<Milters>,
    pub(super) dates: DateFormat,
    pub(super) is_under_postfix: bool,
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
    let dates = DateFormat::local();
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
    let own_addresses = match settings.qmqpd_submit {
        SubmitTo::Postfix => Vec::new(),
        SubmitTo::Local => config::own_addresses(settings),
    };
    let lookups = open_lookups(settings, &options, &log).map_err(|error| failure(error.to_string()))?;
    let (names, notices) = PeerNames::open(peer::Options {
        deadline: settings.qmqpd_dns_timeout,
        patience: settings.qmqpd_client_name_wait,
        ipv4: settings.inet_protocols.contains("ipv4") || settings.inet_protocols.contains("all"),
        ..peer::Options::default()
    })
    .map_err(|error| failure(error.to_string()))?;
    notices.iter().for_each(say);
    let milters = open_milters(settings, &log);
    let disk = UnixDisk::open(std::path::Path::new("."))
        .map_err(|error| failure(format!("open {}: {error}", config.jail.queue_directory.display())))?;
    if settings.qmqpd_submit == SubmitTo::Local && settings.qmqpd_commit == Commit::Journal {
        let owner = config.jail.owner.as_ref().map(|owner| owner.user_id);
        // Without it each queue file is synced, and the spool says so.
        if let Err(error) = create_journal(&disk, owner) {
            log.notice(Program::Cleanup, &Notice::warning(error.to_string()));
        }
    }
    let boot_id = boot_id();
    jail::enter(&config.jail).map_err(|error| failure(error.to_string()))?;
    let spool = open_spool(disk, config, boot_id, &log).map_err(|error| failure(error.to_string()))?;
    let mut servers = access.inet_servers();
    servers.extend(lookups.iter().flat_map(Lookups::inet_servers));
    servers.extend(milters.iter().flat_map(Milters::inet_servers));
    let mut needs = submit::needs(settings);
    needs.ask_name_servers();
    needs.connect_to(&servers);
    let sandbox = Sandbox::new(settings, needs);
    let landlock = sandbox.restrict_files().map_err(|error| failure(error.to_string()))?;
    Ok(Prepared {
        confinement: Confinement { plan: config.jail.clone(), sandbox, landlock },
        options: cleanup_options(settings, config.legacy.append_dot_mydomain, own_addresses),
        settings: Arc::clone(settings),
        log,
        names,
        access,
        lookups,
        milters,
        spool,
        dates,
        is_under_postfix: config::is_under_postfix(&config.source),
        is_debugged,
    })
}

/// Opens the queue for our own cleanup. For Postfix's it is opened only if an earlier process of ours has left a journal.
///
/// Under Postfix's master(8) this is also where journals without a process are settled, as long as all queues are in sight;
/// our own master has a process for that. What cannot be settled now stays for the next process, and holds up no client.
fn open_spool(
    disk: UnixDisk,
    config: &ServiceConfig,
    boot_id: BootId,
    log: &Log,
) -> Result<Option<Spool<UnixDisk>>, SpoolError> {
    let settings = &config.settings;
    let is_for_us = settings.qmqpd_submit == SubmitTo::Local;
    if !is_for_us && disk.is_empty(journal::DIRECTORY).unwrap_or(true) {
        return Ok(None);
    }
    let commit_way = match settings.qmqpd_commit {
        Commit::Journal if is_for_us => match new_instance() {
            Ok(instance) => CommitWay::Journal(journal::Options {
                instance,
                checkpoint_delay: settings.qmqpd_journal_checkpoint_delay,
                checkpoint_bytes: u64::try_from(settings.qmqpd_journal_checkpoint_size).unwrap_or(0),
            }),
            Err(error) => {
                let text =
                    format!("no journal, each queue file is synced instead: no random numbers: {error}");
                log.notice(Program::Cleanup, &Notice::warning(text));
                CommitWay::File
            }
        },
        Commit::Journal | Commit::File => CommitWay::File,
    };
    let lines = log.clone();
    let options = spool::Options { commit_way, ..spool_options(settings, boot_id) };
    let notify = Arc::new(move |notice| lines.notice(Program::Cleanup, &notice));
    let spool = match Spool::open(disk, &options, notify) {
        // Postfix's cleanup(8) does the work, and finds out for itself whether it can.
        Err(_) if !is_for_us => return Ok(None),
        opened => opened?,
    };
    if config::is_under_postfix(&config.source)
        && let Err(error) = spool.settle(&super::now)
    {
        let text = format!("journals of earlier processes are left for later: {error}");
        log.notice(Program::Cleanup, &Notice::warning(text));
    }
    Ok(Some(spool).filter(|_| is_for_us))
}

/// How a queue with these settings is laid out; each queue file is synced.
pub(super) fn spool_options(settings: &Settings, boot_id: BootId) -> spool::Options {
    spool::Options {
        hash_queue_names: split_list(&settings.hash_queue_names).into_iter().map(str::to_owned).collect(),
        hash_queue_depth: usize::try_from(settings.hash_queue_depth).unwrap_or(1),
        long_queue_ids: settings.enable_long_queue_ids,
        names_drafts: settings.qmqpd_named_drafts,
        create_missing: false,
        commit_way: CommitWay::File,
        boot_id,
    }
}

/// Without /proc nothing proves that a journal was written on the mount that is here.
pub(super) fn boot_id() -> BootId {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    text.map_or(BootId::UNKNOWN, |text| BootId::parse(&text))
}

fn new_instance() -> std::io::Result<Instance> {
    let mut instance = [0; 16];
    // So few bytes come at once or not at all.
    rustix::rand::getrandom(&mut instance, rustix::rand::GetRandomFlags::empty())?;
    Ok(Instance(instance))
}

/// Each session has a socket, and a queue file open; or, instead of a queue file, a socket to cleanup(8), one temporary
/// file for content and one for recipients. With mail filters it has those files, one more for a new body, and a socket to
/// each filter.
fn descriptors_wanted(settings: &Settings) -> u64 {
    let sessions = u64::try_from(settings.qmqpd_connection_limit).unwrap_or(0);
    let descriptors_per_session = match settings.qmqpd_submit {
        SubmitTo::Postfix => 4,
        SubmitTo::Local => match settings.milters() {
            Ok((filters, _)) if !filters.is_empty() => 5_u64.saturating_add(filters.len() as u64),
            _ => 2,
        },
    };
    sessions.saturating_mul(descriptors_per_session).saturating_add(DESCRIPTORS_BESIDE_SESSIONS)
}

/// The options with which a service opens its match lists and tables. What they say of expressions is for all of them
/// together: a process makes them once.
pub(crate) fn list_options(settings: &Settings) -> lookup::Options {
    lookup::Options {
        smtputf8_enable: settings.smtputf8_enable,
        parent_domain_matches_subdomains: settings.parent_domain_matches_subdomains.clone(),
        daemon_table_open_error_is_fatal: settings.daemon_table_open_error_is_fatal,
        proxymap_service_name: settings.proxymap_service_name.clone(),
        ipc_idle: settings.ipc_idle,
        ipc_ttl: settings.ipc_ttl,
        socketmap_max_reply_size: usize::try_from(settings.socketmap_max_reply_size).unwrap_or(usize::MAX),
        socketmap_max_query_size: usize::try_from(settings.socketmap_max_query_size).unwrap_or(usize::MAX),
        turns: Turns::new(TurnOptions {
            time_limit: settings.qmqpd_expression_time_limit,
            aside: |work| tokio::task::block_in_place(work),
            ..TurnOptions::default()
        }),
        ..lookup::Options::default()
    }
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

/// Our own cleanup's filters; Postfix's has its own.
fn open_milters(settings: &Settings, log: &Log) -> Option<Milters> {
    (settings.qmqpd_submit == SubmitTo::Local)
        .then(|| Milters::open(settings, threads_for_files(settings), log))
        .flatten()
}

/// Our own cleanup's tables; Postfix's opens its own.
fn open_lookups(
    settings: &Settings,
    options: &lookup::Options,
    log: &Log,
) -> Result<Option<Lookups>, lookup::OpenError> {
    if settings.qmqpd_submit != SubmitTo::Local {
        return Ok(None);
    }
    let mut notices = Vec::new();
    let tables = CleanupTables::open(settings, options, &mut notices);
    notices.iter().for_each(|notice| log.notice(Program::Cleanup, notice));
    let turns = Arc::new(Semaphore::new(REMOTE_LOOKUPS_MAX));
    Ok(Some(Lookups::new(tables?, turns, settings.qmqpd_session_deadline)))
}

/// Descriptors for everything that is not a session: sockets to listen on, tables, logs, name service, directories.
const DESCRIPTORS_BESIDE_SESSIONS: u64 = 1024;
