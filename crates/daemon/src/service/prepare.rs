//! What a service process opens while it has the privileges to, and the jail behind that.

use std::sync::Arc;

use postfix::child::Arguments;
use postfix::notice::Notice;
use postfix::settings::Settings;

use super::debugger;
use super::program::{Opening, Server};
use super::siblings::RegionFile;
use super::start::provisional_log;
use crate::config::{self, ServiceConfig};
use crate::jail::{self, JailPlan, Layer, Sandbox};
use crate::log::{Log, Program};

/// Why a service cannot do its work, and where that is to be logged.
#[derive(Debug)]
pub(super) struct PrepareError {
    pub(super) log: Log,
    pub(super) text: String,
}

/// All that was opened with privileges, now in the jail.
pub(super) struct Prepared<C> {
    pub(super) settings: Arc<Settings>,
    pub(super) log: Log,
    /// By the program.
    pub(super) confined: C,
    pub(super) is_under_postfix: bool,
    /// The name in master.cf.
    pub(super) service_name: String,
    /// How many processes of the service may take clients at the same time, where there is a limit.
    pub(super) processes_max: Option<usize>,
    /// Where the processes of the service tell each other what clients take.
    pub(super) regions: Option<RegionFile>,
    pub(super) confinement: Confinement,
    /// The process is being debugged: it does the work itself.
    pub(super) is_debugged: bool,
}

/// The jail and the sandbox, as far as they are in force.
pub(super) struct Confinement {
    pub(super) plan: JailPlan,
    pub(super) sandbox: Sandbox,
    pub(super) landlock: Layer,
}

pub(super) fn prepare<S: Server>(
    config: &ServiceConfig,
    arguments: &Arguments,
) -> Result<Prepared<S::Confined>, PrepareError> {
    let log = Log::open(&config.log).map_err(|error| PrepareError {
        log: provisional_log(&arguments.process_name),
        text: error.to_string(),
    })?;
    let say = |notice: &Notice| log.notice(Program::Service, notice);
    config.notices.iter().for_each(say);
    let failure = |text: String| PrepareError { log: log.clone(), text };
    let settings = &config.settings;
    let wanted = S::descriptors(settings).saturating_add(DESCRIPTORS_BESIDE_SESSIONS);
    let allowed = jail::raise_limits(wanted);
    // Under Postfix's master(8) the log has Postfix's lines and no others, and the limits are that master's.
    if !config::is_under_postfix(&config.source)
        && let Some(shortage) = open_files_shortage(settings, allowed, wanted)
    {
        say(&Notice::warning(shortage));
    }
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
    let opened = S::open(&Opening { config, arguments, log: &log }).map_err(failure)?;
    let regions = open_regions(config, arguments, &log);
    jail::enter(&config.jail, S::PROGRAM.description()).map_err(|error| failure(error.to_string()))?;
    let (confined, needs) = S::confine(opened).map_err(failure)?;
    let sandbox = Sandbox::new(settings, needs);
    let landlock = sandbox.restrict_files().map_err(|error| failure(error.to_string()))?;
    Ok(Prepared {
        confinement: Confinement { plan: config.jail.clone(), sandbox, landlock },
        settings: Arc::clone(settings),
        log,
        confined,
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
        .inspect_err(|error| log.notice(Program::Service, &Notice::warning(error.to_string())))
        .ok()
}

/// What to tell an operator whose limit of open files is too low for as many sessions as there may be.
fn open_files_shortage(settings: &Settings, allowed: u64, wanted: u64) -> Option<String> {
    let sessions = settings.qmqpd_connection_limit;
    (allowed < wanted).then(|| {
        format!(
            "only {allowed} open files are allowed, and qmqpd_connection_limit = {sessions} can need {wanted}: raise the \
             limit (LimitNOFILE, ulimit -n) or lower the parameter"
        )
    })
}

/// Descriptors for everything that is not a session: sockets to listen on, tables, logs, name service, directories.
const DESCRIPTORS_BESIDE_SESSIONS: u64 = 1024;
