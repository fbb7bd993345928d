//! The source: what is asked for on the command line, the threads that do it, and what they report.

use std::fmt;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::exit::EXIT_TROUBLE;
use super::interrupt::Interrupt;
use super::report::{Idle, Report};
use super::request::{Letter, LetterError, REQUEST_BYTES_MAX, Template};
use super::schedule::Schedule;
use super::tally::{Live, Tally, Timeline};
use super::target::Target;
use super::worker::{Shared, Worker};
use super::{descriptors, plot};
use crate::send::DEFAULT_SERVER;
use crate::send::server::Server;

/// The load, and where to write the results.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_STATUS)]
pub(super) struct Arguments {
    /// Send to HOST, HOST:PORT, `[IPV6]:PORT` or unix:PATH; the default port is 628
    #[arg(value_name = "SERVER", default_value = DEFAULT_SERVER)]
    server: Server,

    /// Run this many sessions at a time, each sending one message after the other; 0 only with --idle and --duration
    #[arg(short, long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=SESSIONS_MAX))]
    sessions: u32,

    /// Send this many messages; 1 if neither this nor --duration is given
    #[arg(short, long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,

    /// Begin messages for this time, in seconds
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,

    /// Send content of this length with its header, in bytes
    #[arg(short, long, value_name = "BYTES", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(1..=REQUEST_BYTES_MAX))]
    length: u64,

    /// Send each message to this many recipients: user-1@domain, user-2@domain and so on
    #[arg(short, long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=RECIPIENTS_MAX))]
    recipients: u64,

    /// Set the envelope sender
    #[arg(short, long, value_name = "ADDRESS", default_value = "sender@example.com")]
    from: String,

    /// Set the envelope recipient
    #[arg(short, long, value_name = "ADDRESS", default_value = "recipient@example.com")]
    to: String,

    /// Make all body lines different; each session then needs memory for a message
    #[arg(long)]
    unique: bool,

    /// Send this many messages per second, whether or not the server keeps up
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    rate: Option<f64>,

    /// Keep this many idle connections open during the load
    #[arg(long, value_name = "COUNT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=SESSIONS_MAX))]
    idle: u32,

    /// Use this many threads; one can send tens of thousands of messages per second
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=THREADS_MAX))]
    threads: u32,

    /// Limit the time for a message, from connection to reply, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    timeout: Duration,

    /// Write the results as JSON; - is standard output, and replaces the text
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write results for each second as CSV; - is standard output, and replaces the text
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// Draw a chart of rate and latency as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

const EXIT_STATUS: &str = "Exit status: 0 every message was accepted; 1 not every one; 2 there was no such load, or the results \
could not be written.";

const SESSIONS_MAX: i64 = 60_000;
const RECIPIENTS_MAX: u64 = 20_000_000;
const THREADS_MAX: i64 = 256;
/// What the sessions may hold together, for messages of their own.
const OWN_BYTES_MAX: u64 = 4 << 30;
const SECONDS_MAX: f64 = 604_800.0;
const IDLE_CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "write a number of seconds".to_owned())?;
    if !(seconds > 0.0 && seconds <= SECONDS_MAX) {
        return Err(format!("write a number of seconds above 0 and up to {SECONDS_MAX}"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "write a number".to_owned())?;
    if (0.001..=10_000_000.0).contains(&rate) { Ok(rate) } else { Err("write 0.001 to 10000000".to_owned()) }
}

/// Why the run failed, or its results were not written.
#[derive(Debug, thiserror::Error)]
enum SourceError {
    #[error("nothing to do: --sessions 0 needs --idle and --duration")]
    Nothing,
    #[error(transparent)]
    Letter(#[from] LetterError),
    #[error(
        "{sessions} messages of {bytes} bytes each need more than {OWN_BYTES_MAX} bytes of memory: use fewer sessions, or omit --unique"
    )]
    Memory { sessions: u32, bytes: u64 },
    #[error("cannot look up {server}: {source}")]
    Name { server: String, source: std::io::Error },
    #[error("{0}")]
    Descriptors(String),
    #[error("cannot connect to {server}, for idle connection {number}: {source}")]
    Idle { server: String, number: u32, source: std::io::Error },
    #[error("cannot start: {0}")]
    Start(std::io::Error),
    #[error("cannot write {path}: {source}")]
    Write { path: String, source: std::io::Error },
    #[error("cannot draw {path}: {reason}")]
    Draw { path: String, reason: String },
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match measure(arguments) {
        Ok(report) if report.is_clean() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "qmqp-bench: {error}");
            let is_usage =
                matches!(error, SourceError::Nothing | SourceError::Letter(_) | SourceError::Memory { .. });
            ExitCode::from(if is_usage { crate::EXIT_USAGE } else { EXIT_TROUBLE })
        }
    }
}

fn measure(arguments: &Arguments) -> Result<Report, SourceError> {
    if arguments.sessions == 0 && (arguments.idle == 0 || arguments.duration.is_none()) {
        return Err(SourceError::Nothing);
    }
    let letter = Letter {
        content_bytes: arguments.length,
        sender: arguments.from.clone(),
        recipient: arguments.to.clone(),
        recipients: arguments.recipients,
        is_unique: arguments.unique,
    };
    let template = Template::new(&letter)?;
    let (sessions, bytes) = (arguments.sessions, template.own_bytes());
    if bytes.saturating_mul(sessions.into()) > OWN_BYTES_MAX {
        return Err(SourceError::Memory { sessions, bytes });
    }
    let server = arguments.server.to_string();
    let target = Target::resolve(&arguments.server)
        .map_err(|source| SourceError::Name { server: server.clone(), source })?;
    descriptors::make_room(u64::from(sessions).saturating_add(arguments.idle.into()))
        .map_err(SourceError::Descriptors)?;

    let interrupt = Interrupt::listen();
    let idle = hold_idle(&target, arguments)?;
    let messages = arguments.messages.or_else(|| arguments.duration.is_none().then_some(1));
    let schedule = Schedule::new(Instant::now(), messages, arguments.duration, arguments.rate);
    let shared = Shared {
        target,
        template,
        schedule,
        timeline: Timeline::new(),
        live: Live::default(),
        timeout: arguments.timeout,
    };
    let tally = run_threads(arguments, &shared, messages, interrupt)?;
    let ended = Instant::now();
    let report = Report::new(
        server,
        arguments_shown(arguments),
        ended.saturating_duration_since(shared.schedule.start()),
        shared.schedule.unsent(ended),
        tally,
        shared.timeline,
        Idle { opened: arguments.idle, closed_by_server: closed_by_server(&idle) },
    );
    write_results(arguments, &report)?;
    Ok(report)
}

fn arguments_shown(arguments: &Arguments) -> super::report::Load {
    super::report::Load {
        sessions: arguments.sessions,
        content_bytes: arguments.length,
        recipients: arguments.recipients,
        rate: arguments.rate,
        is_unique: arguments.unique,
    }
}

/// Opens the idle connections.
fn hold_idle(target: &Target, arguments: &Arguments) -> Result<Vec<OwnedFd>, SourceError> {
    let open = |number| {
        target.connect_within(IDLE_CONNECT_TIMEOUT).map_err(|source| SourceError::Idle {
            server: arguments.server.to_string(),
            number,
            source,
        })
    };
    (1..=arguments.idle).map(open).collect()
}

/// How many of the idle connections are no longer open, or were answered.
fn closed_by_server(idle: &[OwnedFd]) -> u32 {
    let is_open = |socket: &OwnedFd| {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        rustix::net::recv(socket, &mut [0_u8; 1], flags) == Err(Errno::AGAIN)
    };
    u32::try_from(idle.iter().filter(|socket| !is_open(socket)).count()).unwrap_or(u32::MAX)
}

/// Starts the threads, shows progress, and adds up what they counted.
fn run_threads(
    arguments: &Arguments,
    shared: &Shared,
    messages: Option<u64>,
    mut interrupt: Interrupt,
) -> Result<Tally, SourceError> {
    let bar = progress_bar(arguments, messages);
    let threads = arguments.threads.min(arguments.sessions.max(1));
    let mut workers = Vec::new();
    for thread in 0..threads {
        // The first ones get one more where it does not come out even.
        let sessions =
            arguments.sessions.saturating_add(threads.saturating_sub(thread).saturating_sub(1)) / threads;
        let sessions = usize::try_from(sessions).unwrap_or(usize::MAX);
        workers.push(Worker::new(shared, sessions).map_err(SourceError::Start)?);
    }
    let (sender, finished) = channel();
    let mut total = Tally::new();
    std::thread::scope(|scope| {
        for worker in workers {
            let sender = sender.clone();
            scope.spawn(move || {
                let _ = sender.send(worker.run());
            });
        }
        drop(sender);
        let mut failure = None;
        loop {
            match finished.recv_timeout(PROGRESS_INTERVAL) {
                Ok(Ok(tally)) => total.merge(&tally),
                Ok(Err(error)) => {
                    shared.schedule.interrupt();
                    failure = Some(SourceError::Start(error));
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if interrupt.has_come() {
                shared.schedule.interrupt();
            }
            show(&bar, shared, arguments, messages);
        }
        bar.finish_and_clear();
        failure.map_or(Ok(()), Err)
    })?;
    Ok(total)
}

const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// A bar of messages or of time; nothing where standard error is not a terminal.
fn progress_bar(arguments: &Arguments, messages: Option<u64>) -> ProgressBar {
    if arguments.quiet {
        return ProgressBar::hidden();
    }
    let milliseconds =
        arguments.duration.map_or(0, |duration| u64::try_from(duration.as_millis()).unwrap_or(0));
    let bar = ProgressBar::new(messages.unwrap_or(milliseconds));
    let template = "{wide_bar} {percent}%  {msg}  {elapsed_precise}";
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn show(bar: &ProgressBar, shared: &Shared, arguments: &Arguments, messages: Option<u64>) {
    let Live { accepted, refused, failed } = &shared.live;
    let [accepted, refused, failed] = [accepted, refused, failed].map(|count| count.load(Ordering::Relaxed));
    let done = accepted.saturating_add(refused).saturating_add(failed);
    let elapsed = shared.schedule.start().elapsed();
    let position = if messages.is_some() { done } else { u64::try_from(elapsed.as_millis()).unwrap_or(0) };
    bar.set_position(position);
    let rate = accepted as f64 / elapsed.as_secs_f64().max(0.001);
    let mut text = format!("{accepted} accepted, {rate:.0}/s");
    for (count, what) in [(refused, "refused"), (failed, "failed"), (arguments.idle.into(), "idle")] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    bar.set_message(text);
}

fn write_results(arguments: &Arguments, report: &Report) -> Result<(), SourceError> {
    let is_stdout = |path: &Option<PathBuf>| path.as_deref() == Some(Path::new("-"));
    if let Some(path) = &arguments.json {
        write(path, &format_args!("{:#}\n", report.json()))?;
    }
    if let Some(path) = &arguments.csv {
        write(path, &format_args!("{}", report.csv()))?;
    }
    if let Some(path) = &arguments.svg {
        let shown = path.display().to_string();
        let drawing = plot::run(report).map_err(|reason| SourceError::Draw { path: shown, reason })?;
        write(path, &format_args!("{drawing}"))?;
    }
    if !is_stdout(&arguments.json) && !is_stdout(&arguments.csv) {
        write(Path::new("-"), &format_args!("{}", report.text()))?;
    }
    Ok(())
}

fn write(path: &Path, text: &fmt::Arguments<'_>) -> Result<(), SourceError> {
    let written = if path == Path::new("-") {
        std::io::stdout().lock().write_fmt(*text)
    } else {
        std::fs::write(path, text.to_string())
    };
    written.map_err(|source| SourceError::Write { path: path.display().to_string(), source })
}
