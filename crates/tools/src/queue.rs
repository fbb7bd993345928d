//! `qmqpctl queue`: shows a queue directory and acts on its messages. It reads the files itself, so that it works with the
//! queue of `qmqpd serve`, with Postfix's, and with a copy of either. What changes files is `spool::operator`.

mod act;
mod act_on;
mod action;
mod directory;
mod list;
mod message;
mod owner;
mod postcat;
mod row;
mod select;
mod show;
mod summary;
mod text;
mod transfer;
mod wake;
mod walk;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::complain;

/// The queue directory of `qmqpd serve` without a configuration.
const OWN_QUEUE_DIRECTORY: &str = "./qmqpd-spool";

/// `qmqpctl queue …`
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the messages in the queue
    List(Box<list::Args>),
    /// Print queue files: envelope, headers, body
    Show(show::Args),
    /// Sum up what waits, by domain, sender or reason, and by age
    Summary(Box<summary::Args>),
    /// Put messages on hold: no attempt is made to deliver them
    Hold(Box<act::Args>),
    /// Release messages from hold
    Release(Box<act::Args>),
    /// Delete messages; their senders are not told
    Delete(Box<act::Args>),
    /// Put messages into the queue anew, through pickup(8) where one runs
    Requeue(Box<act::Args>),
    /// Let messages expire: the next attempt, due now, returns them to their senders
    Expire(Box<act::Args>),
    /// Try to deliver messages now
    Flush(Box<act::Args>),
    /// Write one message to standard output
    Export(transfer::ExportArgs),
    /// Put a queue file that was exported into the queue
    Import(transfer::ImportArgs),
}

/// The queue to read.
#[derive(Debug, clap::Args)]
struct QueueChoice {
    /// Work on this queue directory [default: ./qmqpd-spool if it exists, or that of /etc/postfix/main.cf]
    #[arg(short = 'd', long, value_name = "DIR", conflicts_with = "config_directory")]
    queue_directory: Option<PathBuf>,
    /// Read the name of the queue directory in the main.cf of this directory
    #[arg(short = 'c', long, value_name = "DIR")]
    config_directory: Option<PathBuf>,
}

impl QueueChoice {
    /// The directory to look at.
    fn resolve(&self) -> Result<PathBuf, QueueError> {
        if let Some(directory) = &self.queue_directory {
            return Ok(directory.clone());
        }
        let own = Path::new(OWN_QUEUE_DIRECTORY);
        if self.config_directory.is_none() && own.is_dir() {
            return Ok(own.to_owned());
        }
        crate::config::value(self.config_directory.as_deref(), "queue_directory")
            .map(PathBuf::from)
            .map_err(QueueError::Configuration)
    }

    /// Where its files are spread over subdirectories.
    fn layout(&self) -> Result<Layout, QueueError> {
        if self.config_directory.is_none() {
            return Ok(Layout::found_in(&directory::Directory::open(&self.resolve()?)?));
        }
        let value = |name| {
            crate::config::value(self.config_directory.as_deref(), name).map_err(QueueError::Configuration)
        };
        let hashed = value("hash_queue_names")?;
        let words = hashed.split([',', ' ', '\t']).filter(|word| !word.is_empty());
        let long_queue_ids = value("enable_long_queue_ids")?.trim().eq_ignore_ascii_case("yes");
        Ok(Layout {
            long_queue_ids,
            hashed: words.map(str::to_owned).collect(),
            depth: value("hash_queue_depth")?.trim().parse().unwrap_or(1),
        })
    }
}

/// Which queues and logs are spread over subdirectories, and over how many levels.
#[derive(Debug, PartialEq, Eq)]
struct Layout {
    hashed: Vec<String>,
    depth: usize,
    long_queue_ids: bool,
}

impl Layout {
    /// As the directory shows it: a queue with subdirectories of one character is hashed. Where nothing is to be seen,
    /// Postfix's defaults are taken.
    fn found_in(directory: &directory::Directory) -> Self {
        let below = |path: &str| directory.names(path).into_iter().find(|name| name.len() == 1);
        let defaults = ["deferred", "defer"];
        let others = ["incoming", "active", "hold", "corrupt", "bounce", "trace"];
        let is_flat = |name: &str| below(name).is_none() && !directory.names(name).is_empty();
        let hashed: Vec<String> = defaults
            .into_iter()
            .filter(|name| !is_flat(name))
            .chain(others.into_iter().filter(|name| below(name).is_some()))
            .map(str::to_owned)
            .collect();
        let depth_of = |name: &String| {
            let (mut path, mut depth) = (name.clone(), 0_usize);
            while let Some(name) = below(&path).filter(|_| depth < spool::queue::HASH_QUEUE_DEPTH_MAX) {
                path = format!("{path}/{name}");
                depth = depth.saturating_add(1);
            }
            depth
        };
        let depth = hashed.iter().map(depth_of).max().unwrap_or(0).max(1);
        Self { hashed, depth, long_queue_ids: false }
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Why a command ends early.
#[derive(Debug, thiserror::Error)]
enum QueueError {
    /// Standard output is gone or full.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    /// Standard input cannot be read.
    #[error("cannot read standard input: {0}")]
    Input(io::Error),
    /// The command line asks for something that is not possible.
    #[error("{0}")]
    Usage(String),
    /// Root cannot become the owner of the queue.
    #[error("cannot become user {uid}, the owner of the queue: {error}")]
    Owner { uid: u32, error: io::Error },
    /// A directory cannot be listed.
    #[error("cannot list {}: {error}{}", path.display(), advice(error))]
    Directory { path: PathBuf, error: io::Error },
    /// A queue file cannot be opened or looked at.
    #[error("cannot open {path}: {error}{}", advice(error))]
    File { path: String, error: io::Error },
    /// A queue file cannot be read to its end.
    #[error("{path}: {damage}")]
    Damaged { path: String, damage: String },
    /// The queue cannot be searched.
    #[error("{0}")]
    Spool(spool::SpoolError),
    /// main.cf does not name the queue.
    #[error("{0}")]
    Configuration(String),
    /// The directory is not a queue.
    #[error("{} is not a queue directory: it has no directory \"incoming\"; name one with -d", .0.display())]
    NoQueue(PathBuf),
}

impl From<io::Error> for QueueError {
    /// Everything else is given with its file where it happens.
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<spool::SpoolError> for QueueError {
    /// The spool's advice is for a server; for a reader, a missing permission has another remedy.
    fn from(error: spool::SpoolError) -> Self {
        match error {
            spool::SpoolError::Disk { path, source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Self::File { path, error: source }
            }
            other => Self::Spool(other),
        }
    }
}

/// What to do about a failure to open something.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; only its owner (mail_owner in main.cf) and root can read a queue"
        }
        _ => "",
    }
}

/// Runs the command. The exit status is 0; 1 if something could not be read or done, or if nothing matched; 64 if the
/// command line is wrong. Standard error then says what.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let stdout = io::stdout().lock();
    let mut out = io::BufWriter::with_capacity(64 * 1024, stdout);
    let result = match &args.command {
        Command::List(args) => list::run(args, &mut out),
        Command::Show(args) => show::run(args, &mut out),
        Command::Summary(args) => summary::run(args, &mut out),
        Command::Hold(args) => act::run(action::Action::Hold, args, &mut out),
        Command::Release(args) => act::run(action::Action::Release, args, &mut out),
        Command::Delete(args) => act::run(action::Action::Delete, args, &mut out),
        Command::Requeue(args) => act::run(action::Action::Requeue, args, &mut out),
        Command::Expire(args) => act::run(action::Action::Expire, args, &mut out),
        Command::Flush(args) => act::run(action::Action::Flush, args, &mut out),
        Command::Export(args) => transfer::export(args, &mut out),
        Command::Import(args) => transfer::import(args, &mut out),
    };
    let result = result.and_then(|complete| out.flush().map(|()| complete).map_err(QueueError::Output));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // The reader of a pipe has seen enough.
        Err(QueueError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            let is_usage = matches!(failure, QueueError::Usage(_));
            if is_usage { ExitCode::from(crate::EXIT_USAGE) } else { ExitCode::FAILURE }
        }
    }
}

#[cfg(test)]
mod tests;
