//! From the command line of a service process to its first client: everything that needs privileges first, then the
//! jail, then the runtime.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::fd::OwnedFd;
use std::panic;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use postfix::child::{
    Arguments, FIRST_LISTEN_DESCRIPTOR, GENERATION_VARIABLE, STATUS_DESCRIPTOR, parse_generation,
};
use postfix::notice::Severity;
use tokio::runtime::Runtime;

use super::clients::{Capacity, Clients, Limits};
use super::prepare::{Confinement, PrepareError, Prepared, prepare};
use super::program::{Server, Sessions};
use super::status::Farewell;
use super::worker::{self, Role};
use super::{
    ConnectionLimit, Minute, Service, SessionQuota, Usage, life, refuse, settlement, siblings, stdin,
    watchdog,
};
use crate::config;
use crate::inherited;
use crate::jail::{Calls, InForce, JailError};
use crate::log::{Log, LogConfig, Program};

/// Runs a service process; `arguments` is the whole command line, as a master gives it.
///
/// # Errors
/// No master has started it.
pub fn run<S: Server>(arguments: Vec<OsString>) -> Result<ExitCode, TypedByHand> {
    let words: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let parsed = Arguments::parse(&words);
    // Before anything else opens descriptors: these numbers are the master's promise.
    let sockets = Inherited::take(parsed.as_ref().ok());
    let is_for_stdin = parsed.as_ref().is_ok_and(|arguments| arguments.stdin_session);
    let is_settlement =
        parsed.as_ref().is_ok_and(|arguments| arguments.transport == config::SETTLEMENT_TRANSPORT);
    if !is_for_stdin && !is_settlement && (!sockets.are_of_a_master() || std::io::stdin().is_terminal()) {
        return Err(TypedByHand { words });
    }
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => return Ok(fatal(&provisional_log(S::PROGRAM.name()), &error.to_string())),
    };
    Ok(work::<S>(&arguments, sockets, is_settlement))
}

fn work<S: Server>(arguments: &Arguments, sockets: Inherited, is_settlement: bool) -> ExitCode {
    match config::for_service(arguments) {
        Ok(config) if is_settlement => {
            settlement::run::<S::Settlement>(&config, arguments, S::PROGRAM.description())
        }
        Ok(config) => match prepare::<S>(&config, arguments) {
            Ok(prepared) if arguments.stdin_session => serve::<S>(prepared, Work::Stdin),
            Ok(prepared) => serve::<S>(prepared, Work::Clients(sockets)),
            Err(PrepareError { log, text }) if arguments.stdin_session => {
                refuse::stdin(&log, &[text], &S::refusal())
            }
            Err(PrepareError { log, text }) => refuse::run(&log, &[text], sockets, &S::refusal(), S::refused),
        },
        Err(errors) if is_settlement => {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            fatal(&provisional_log(&arguments.process_name), &texts.join("; "))
        }
        Err(errors) => {
            let log = provisional_log(&arguments.process_name);
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            if arguments.stdin_session {
                return refuse::stdin(&log, &texts, &S::refusal());
            }
            refuse::run(&log, &texts, sockets, &S::refusal(), S::refused)
        }
    }
}

/// What the master left open for us.
#[derive(Debug)]
pub(super) struct Inherited {
    pub(super) listeners: Vec<OwnedFd>,
    pub(super) status: Option<OwnedFd>,
    pub(super) generation: u32,
    /// On the sockets other servers hand over clients of theirs: a service of type `pass`.
    pub(super) passes_connections: bool,
    /// The flow-control pipe: ours by inheritance, but only cleanup(8) and qmgr(8) have business with it.
    _flow: (Option<OwnedFd>, Option<OwnedFd>),
}

impl Inherited {
    /// First thing in the process.
    #[allow(unsafe_code)]
    pub(super) fn take(arguments: Option<&Arguments>) -> Self {
        use postfix::child::{FLOW_READ_DESCRIPTOR, FLOW_WRITE_DESCRIPTOR};
        let listeners = arguments.map_or(1, |arguments| arguments.listeners);
        let listeners = i32::try_from(listeners).unwrap_or(0);
        // SAFETY: a master(8) leaves its descriptors at these numbers, and nothing was opened before this call. Where no master
        // started us, nothing here opened what a shell may have left there.
        let take = |number| unsafe { inherited::take(number) };
        let descriptors = (0..listeners).map(|at| FIRST_LISTEN_DESCRIPTOR.saturating_add(at));
        Self {
            listeners: descriptors.filter_map(take).collect(),
            status: take(STATUS_DESCRIPTOR),
            passes_connections: arguments.is_some_and(|arguments| arguments.transport == "pass"),
            generation: std::env::var(GENERATION_VARIABLE).map_or(0, |value| parse_generation(&value)),
            _flow: (take(FLOW_READ_DESCRIPTOR), take(FLOW_WRITE_DESCRIPTOR)),
        }
    }

    /// What there is to say at the end. Without a descriptor to spare it stays unsaid, and the master is impatient.
    fn farewell(&self) -> Option<Farewell> {
        let socket = self.status.as_ref()?.try_clone().ok()?;
        Some(Farewell::new(socket, self.generation))
    }

    /// Whether a master(8) left them: its status channel and a socket that listens. A shell may leave other things at
    /// the numbers.
    pub(super) fn are_of_a_master(&self) -> bool {
        let listens = |socket: &OwnedFd| rustix::net::sockopt::socket_acceptconn(socket).unwrap_or(false);
        self.status.is_some() && self.listeners.first().is_some_and(listens)
    }
}

/// The command line of a service process, without the descriptors that a master(8) leaves open.
#[derive(Debug)]
pub struct TypedByHand {
    /// All of it.
    pub words: Vec<String>,
}

/// What a process is for.
enum Work {
    /// Clients that connect.
    Clients(Inherited),
    /// The client at standard input.
    Stdin,
}

fn serve<S: Server>(mut prepared: Prepared<S::Confined>, work: Work) -> ExitCode {
    let log = prepared.log.clone();
    let is_for_stdin = matches!(work, Work::Stdin);
    let fatal = |log: &Log, text: &str| {
        if is_for_stdin { refuse::stdin(log, &[text.to_owned()], &S::refusal()) } else { fatal(log, text) }
    };
    let worker_link = match &work {
        Work::Clients(Inherited { status: Some(status), .. })
            if prepared.is_under_postfix && !prepared.is_debugged =>
        {
            match worker::split(status, &prepared.confinement.sandbox) {
                Ok(Role::Worker(worker_link)) => Some(worker_link),
                Ok(Role::Known(status)) => return status,
                Err(error) => return fatal(&log, &error.to_string()),
            }
        }
        _ => None,
    };
    if let Err(error) = confine(&prepared.confinement, &log) {
        return fatal(&log, &error.to_string());
    }
    // From here on there are threads.
    if let Err(error) = log.start_writer() {
        return fatal(&log, &error.to_string());
    }
    let runtime = match start_runtime(S::threads_aside(&prepared.settings), &log) {
        Ok(runtime) => runtime,
        Err(error) => return fatal(&log, &no_threads("start threads for the sessions", &error)),
    };
    let (regions, service_name) = (prepared.regions.take(), std::mem::take(&mut prepared.service_name));
    let assembled = runtime.block_on(async {
        let (service, confined) = assemble(prepared)?;
        let sessions = S::assemble(confined, &service)?;
        Ok::<_, std::io::Error>((Arc::new(service), Arc::new(sessions)))
    });
    let (service, sessions) = match assembled {
        Ok(assembled) => assembled,
        Err(error) => return fatal(&log, &no_threads("start threads", &error)),
    };
    let siblings = regions.and_then(|regions| siblings::start(&service, regions, &service_name));
    let farewell = match &work {
        Work::Clients(sockets) if !service.is_under_postfix => sockets.farewell(),
        Work::Clients(_) | Work::Stdin => None,
    };
    let ending = runtime.block_on(async {
        tokio::spawn(Arc::clone(&service).report_unlogged_sessions());
        match work {
            Work::Clients(sockets) => {
                life::live(Arc::clone(&service), Arc::clone(&sessions), sockets, worker_link).await
            }
            Work::Stdin => stdin::serve(Arc::clone(&sessions)).await,
        }
    });
    // Ends the sessions that are left, which discards their queue files; but a table server that does not answer must
    // not keep a process that is about to end.
    runtime.shutdown_timeout(LAST_SESSIONS_TIME_MAX);
    // Before the count of what was logged ends with its report.
    if let Some(siblings) = siblings {
        siblings.finish();
    }
    service.report_unlogged();
    if let Some(farewell) = &farewell {
        farewell.say();
    }
    sessions.shut_down();
    if let Some(farewell) = &farewell {
        log.flush();
        farewell.say_lost(log.lost_lines());
    }
    match ending {
        Ok(()) => {
            log.flush();
            ExitCode::SUCCESS
        }
        Err(error) => self::fatal(&log, &error.to_string()),
    }
}

/// What to do about it is said, too.
fn no_threads(what: &str, error: &dyn std::fmt::Display) -> String {
    format!(
        "{what}: {error}; allow more processes (ulimit -u), or more address space (ulimit -v, softlimit -a)"
    )
}

/// The threads of the sessions. Where the system has no room for one, tokio panics, and what follows the panic waits for ever for
/// those that it has: so the process ends before that.
fn start_runtime(threads_aside: usize, log: &Log) -> std::io::Result<Runtime> {
    let (hook, log) = (panic::take_hook(), log.clone());
    panic::set_hook(Box::new(move |panic| {
        let words = panic.payload().downcast_ref().map_or("no words", String::as_str);
        fatal(&log, &no_threads("start threads for the sessions", &words));
        std::process::exit(1)
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(threads_aside)
        .thread_name("session")
        .build();
    panic::set_hook(hook);
    runtime
}

/// The last step, and what the log says about all of them.
fn confine(confinement: &Confinement, log: &Log) -> Result<(), JailError> {
    let seccomp = confinement.sandbox.restrict_calls(Calls::Serve)?;
    let (plan, landlock) = (confinement.plan.clone(), confinement.landlock.clone());
    let (line, warnings) = InForce { plan, landlock, seccomp }.lines();
    log.write(Program::Service, Severity::Info, &line);
    warnings.iter().for_each(|warning| log.write(Program::Service, Severity::Warning, warning));
    Ok(())
}

/// Puts the service together; needs the runtime.
fn assemble<C>(prepared: Prepared<C>) -> std::io::Result<(Service, C)> {
    let Prepared { settings, log, confined, is_under_postfix, processes_max, confinement, .. } = prepared;
    let connections = usize::try_from(settings.qmqpd_connection_limit).unwrap_or(usize::MAX);
    watchdog::start(settings.daemon_timeout, &log)?;
    let changes = Arc::new(siblings::Changes::default());
    let capacity = Capacity { of_process: connections, processes_max };
    let session_quota = SessionQuota::new(settings.qmqpd_session_log_limit);
    session_quota.begin_minutes_at(Minute::phase_of(super::now().seconds));
    let service = Service {
        connection_limit: Arc::new(ConnectionLimit::new(connections)),
        clients: Arc::new(Clients::new(Limits::new(&settings), capacity, Arc::clone(&changes))),
        commits: Arc::default(),
        session_quota: Arc::new(session_quota),
        changes,
        too_old: tokio::sync::Notify::new(),
        usage: Usage::new(
            u64::try_from(settings.max_use).unwrap_or(u64::MAX),
            settings.max_idle,
            settings.max_idle,
        ),
        is_under_postfix,
        is_chrooted: confinement.plan.chroot,
        settings,
        log,
    };
    Ok((service, confined))
}

/// Where to log before the configuration says where.
pub(super) fn provisional_log(process_name: &str) -> Log {
    let mode = config::ConfigSource::from_environment().mode();
    Log::open_what_opens(&LogConfig::provisional(mode, process_name))
}

/// As Postfix's daemons end: a line, a pause so that a failing service does not spin, and exit status 1.
pub(super) fn fatal(log: &Log, text: &str) -> ExitCode {
    log.write(Program::Service, Severity::Fatal, text);
    log.flush();
    sleep(FATAL_PAUSE);
    ExitCode::FAILURE
}

/// How long the end of a process waits for sessions to let go.
const LAST_SESSIONS_TIME_MAX: Duration = Duration::from_millis(500);
const FATAL_PAUSE: Duration = Duration::from_secs(1);
