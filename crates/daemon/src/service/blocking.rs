//! A service process whose work blocks, and needs another user than mail_owner: an agent that runs programs or writes into
//! mailboxes. It has no client but the queue manager, and no sandbox: what it starts must be able to do its work.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::time::Duration;

use postfix::child::Arguments;
use postfix::notice::Severity;
use tokio::signal::unix::{SignalKind, signal};

use super::program::Opening;
use super::start::{Inherited, TypedByHand, fatal, provisional_log};
use super::status::StatusChannel;
use super::sync::select;
use crate::config::{self, ServiceConfig};
use crate::log::{Log, Program};

/// How long work that was begun has at the end of the process.
const LAST_WORK_TIME_MAX: Duration = Duration::from_secs(1);

/// The master counts four ticks in its patience, and there has to be a beat in each.
const BEATS_PER_TIMEOUT: u32 = 5;

/// A program as such a process.
pub trait BlockingServer: 'static {
    /// What it works with.
    type Opened;

    /// Opens all that takes privileges, and becomes the user that the work needs. The queue directory is the working directory.
    ///
    /// # Errors
    /// Why it cannot serve, in words.
    fn open(opening: &Opening<'_>) -> Result<Self::Opened, String>;

    /// How many pieces of work block at the same time.
    fn threads(opened: &Self::Opened) -> usize;

    /// Serves the queue managers that connect. When `stop` is over, no further one.
    fn serve(
        opened: Self::Opened,
        listener: UnixListener,
        log: Log,
        stop: impl Future<Output = ()>,
    ) -> impl Future<Output = io::Result<()>>;
}

/// Runs such a process; `arguments` is the whole command line, as a master gives it.
///
/// # Errors
/// No master has started it.
pub fn run_blocking<S: BlockingServer>(arguments: Vec<OsString>) -> Result<ExitCode, TypedByHand> {
    let words: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let parsed = Arguments::parse(&words);
    let mut sockets = Inherited::take(parsed.as_ref().ok());
    if !sockets.are_of_a_master() || io::stdin().is_terminal() {
        return Err(TypedByHand { words });
    }
    let name = words.first().map_or("qmqpd", String::as_str);
    let name = name.rsplit('/').next().unwrap_or(name);
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => return Ok(fatal(&provisional_log(name), &error.to_string())),
    };
    let config = match config::for_service(&arguments) {
        Ok(config) => config,
        Err(errors) => {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            return Ok(fatal(&provisional_log(name), &texts.join("; ")));
        }
    };
    let log = match Log::open(&config.log) {
        Ok(log) => log,
        Err(error) => return Ok(fatal(&provisional_log(name), &error.to_string())),
    };
    let (generation, status) = (sockets.generation, sockets.status.take());
    let listener = sockets.listeners.drain(..).next();
    let served = work::<S>(&config, &arguments, &log, listener, status, generation);
    Ok(match served {
        Ok(()) => {
            log.flush();
            ExitCode::SUCCESS
        }
        Err(words) => fatal(&log, &words),
    })
}

fn work<S: BlockingServer>(
    config: &ServiceConfig,
    arguments: &Arguments,
    log: &Log,
    listener: Option<OwnedFd>,
    status: Option<OwnedFd>,
    generation: u32,
) -> Result<(), String> {
    for notice in &config.notices {
        log.notice(Program::Service, notice);
    }
    let (listener, status) =
        listener.zip(status).ok_or("a master leaves a listening socket and a status channel")?;
    for inherited in [&listener, &status] {
        // What the process starts must not have them.
        let closes = rustix::io::fcntl_setfd(inherited, rustix::io::FdFlags::CLOEXEC);
        closes.map_err(|error| format!("keep descriptors from programs: {error}"))?;
    }
    let directory = &config.jail.queue_directory;
    std::env::set_current_dir(directory)
        .map_err(|error| format!("chdir {}: {error}", directory.display()))?;
    let opened = S::open(&Opening { config, arguments, log })?;
    log.start_writer().map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .max_blocking_threads(S::threads(&opened).saturating_add(1))
        .build()
        .map_err(|error| format!("start threads: {error}"))?;
    let silence_max = config.settings.qmqpd_hang_timeout;
    let served = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let status = StatusChannel::new(status, std::process::id(), generation)?;
        status.reporter.ready();
        let beats = async {
            if silence_max.is_zero() {
                std::future::pending::<()>().await;
            }
            status.beat(silence_max / BEATS_PER_TIMEOUT).await;
        };
        select! {
            served = S::serve(opened, UnixListener::from(listener), log.clone(), status.closed()) => served,
            () = beats => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    });
    runtime.shutdown_timeout(LAST_WORK_TIME_MAX);
    if let Err(error) = &served {
        log.write(Program::Service, Severity::Warning, &format!("accept the queue manager: {error}"));
    }
    served.map_err(|error| error.to_string())
}
