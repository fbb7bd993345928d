//! `qmqpd serve`: our own master(8). It binds the sockets, starts a service process for each service the way
//! Postfix's does, restarts it, passes reload and stop on, and never reads a byte from a peer.

mod announce;
mod children;
mod listen;
mod pid_file;
mod process;
pub(crate) mod queue_lock;
mod settlement;
mod start;
pub(crate) mod state;
mod status_channel;
mod stop;
mod supervise;
mod systemd;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};
use postfix::notice::Severity;
use spool::UnixDisk;
use spool::journal::WitnessId;
use spool::journal::continuity::Witness;

use crate::address_space;
use crate::config::{self, Config, ConfigSource, Findings, Programs};
use crate::exit::Exit;
use crate::jail::raise_limits;
use crate::log::{Log, LogDestination, Program};
use crate::queue_directory::{self, Writer};
use listen::Listener;
use queue_lock::QueueLock;
use supervise::{Master, Parts, Reloaded};

/// Open files of the master itself: sockets, and room for those that [`listen`] lifts. What sessions need is for the service
/// processes, which know it.
const OPEN_FILES_MAX: u64 = 1024;

/// Runs the services of these programs until it is told to stop.
///
/// # Errors
/// It could not start: the configuration is bad, an address is taken, the queue belongs to another user.
pub fn serve(source: &ConfigSource, overrides: &[String], programs: Programs) -> Result<(), Exit> {
    let inherited = inherited_sockets();
    let config = config::load(source, overrides, programs).map_err(|errors| Exit::config(&errors))?;
    let shortage = config.services.iter().find_map(|service| address_space::shortage(&service.settings));
    if let Some(shortage) = shortage {
        return Err(Exit::unavailable(shortage));
    }
    umask(Mode::from_bits_truncate(0o077));
    raise_limits(OPEN_FILES_MAX);

    let writer = config::writer(&config).map_err(Exit::unavailable)?;
    let queue = prepare_queue(&config, &writer).map_err(Exit::unavailable)?;
    let destinations = config.log.destinations.clone();
    let log = Log::open(&config.log).map_err(|error| Exit::unavailable(error.to_string()))?;
    let refuse = |text: String| refuse(&log, &destinations, text);
    let run_directory = queue.join(&config.settings.process_id_directory);
    let lock = QueueLock::acquire(&queue).map_err(|error| refuse(error.to_string()))?;
    if config.settings.qmqpd_deliver && queue_directory::postfix_runs(&run_directory) {
        let path = run_directory.join(queue_directory::POSTFIX_LOCK);
        return Err(refuse(format!(
            "a Postfix runs on this queue and delivers from it ({} is locked): stop it (postfix stop), or set \
             qmqpd_deliver = no",
            path.display()
        )));
    }
    pid_file::write(&run_directory).map_err(|error| refuse(error.to_string()))?;

    let witness = make_witness(&queue, &log);
    let signals = take_signals().map_err(|errno| refuse(format!("cannot receive signals: {errno}")))?;
    let keep_stdout = config.services.iter().any(|service| service.settings.maillog_file == "/dev/stdout");
    let starter = start::Starter::new(keep_stdout).map_err(|error| refuse(error.to_string()))?;
    let reload_source = source.clone();
    let reload_overrides = overrides.to_vec();
    let parts = Parts {
        log: log.clone(),
        run_directory,
        reload: Box::new(move || {
            let survey = config::survey(&reload_source, &reload_overrides, programs);
            let findings = Findings::of(&survey);
            let outcome = match survey.config {
                Some(config) if findings.errors.is_empty() => Ok(Box::new(config)),
                _ if findings.errors.is_empty() => Err(vec!["no configuration".to_owned()]),
                _ => Err(findings.errors),
            };
            Reloaded {
                outcome,
                warnings: findings.warnings.into_iter().collect(),
                to_log: findings.about_lists.into_iter().collect(),
            }
        }),
        starter,
        signals,
        manager: systemd::ServiceManager::new(),
        program: own_program(),
        config,
    };
    let sockets = inherited.iter().filter_map(|socket| Listener::adopt(socket).ok().flatten()).collect();
    let master = Master::new(parts, sockets).map_err(|error| refuse(error.to_string()))?;
    drop(inherited);
    // The thread inherits the blocked signals; from here on a stuck log does not stop the master.
    log.start_writer().map_err(|error| refuse(error.to_string()))?;
    announce::first_lines(&log, master.config(), &master.listens(), &writer);
    for warning in config::list_warnings(master.config()) {
        log.write(Program::Master, Severity::Warning, &warning);
    }
    master.run();
    drop(witness);
    drop(lock);
    Ok(())
}

/// Proves to later processes that the file system of the queue stays mounted as long as this process lives. Without it, what
/// a killed service process had in its journal counts as lost when it is missing, and can be delivered twice.
fn make_witness(queue: &Path, log: &Log) -> Option<Witness<UnixDisk>> {
    let mut id = WitnessId::NONE;
    let witness = rustix::rand::getrandom(&mut id.0, rustix::rand::GetRandomFlags::empty())
        .map_err(std::io::Error::from)
        .and_then(|_| Witness::create(UnixDisk::open(queue)?, id));
    let failed = |error: &std::io::Error| {
        let text = format!(
            "{}: cannot lock the file that proves that the file system stays mounted: \
         {error}",
            queue.display()
        );
        log.write(Program::Master, Severity::Info, &text);
    };
    witness.inspect_err(failed).ok()
}

/// Returns why the master ends, for the terminal, and logs it.
fn refuse(log: &Log, destinations: &[LogDestination], text: String) -> Exit {
    if !destinations.contains(&LogDestination::Stderr) {
        log.write(Program::Master, Severity::Fatal, &text);
    }
    Exit::unavailable(text)
}

/// Makes and enters the queue directory. Returns its absolute path.
fn prepare_queue(config: &Config, writer: &Writer) -> Result<PathBuf, String> {
    let queue = config.queue_directory();
    queue_directory::prepare(queue, &config.settings.process_id_directory, writer)
        .map_err(|error| error.to_string())?;
    std::env::set_current_dir(queue)
        .and_then(|()| std::env::current_dir())
        .map_err(|error| format!("cannot change to queue_directory {}: {error}", queue.display()))
}

/// Signals are read from a descriptor. SIGPIPE is ignored from the start of every Rust program, and so it is in
/// children, as under Postfix's master.
fn take_signals() -> nix::Result<SignalFd> {
    let mut ours = SigSet::empty();
    for each in [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGCHLD] {
        ours.add(each);
    }
    ours.thread_block()?;
    SignalFd::with_flags(&ours, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

/// Sockets that systemd bound for us (`LISTEN_FDS`). First thing in the process: their numbers are agreed ones.
#[allow(unsafe_code)]
fn inherited_sockets() -> Vec<OwnedFd> {
    // SAFETY: systemd names the descriptors that it left, and nothing was opened before this call.
    let take = |number| unsafe { crate::inherited::take(number) };
    sd_notify::listen_fds().map(|numbers| numbers.filter_map(take).collect()).unwrap_or_default()
}

/// Our program as the log calls it.
fn own_program() -> String {
    std::env::current_exe().map_or_else(|_| "qmqpd".to_owned(), |path| path.display().to_string())
}
