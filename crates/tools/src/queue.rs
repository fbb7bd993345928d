//! `qmqpctl queue`: shows a queue directory. It reads the files itself, so that it works with the queue of `qmqpd serve`,
//! with Postfix's, and with a copy of either. It changes nothing.

mod directory;
mod list;
mod postcat;
mod show;
mod text;

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
    /// List the messages in the queue, the oldest first
    List(list::Args),
    /// Print queue files: envelope, headers, body
    Show(show::Args),
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
}

/// Why a command ends early.
#[derive(Debug, thiserror::Error)]
enum QueueError {
    /// Standard output is gone or full.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    /// A directory cannot be listed.
    #[error("cannot list {}: {error}{}", path.display(), advice(error))]
    Directory { path: PathBuf, error: io::Error },
    /// A queue file cannot be opened or looked at.
    #[error("cannot open {path}: {error}{}", advice(error))]
    File { path: String, error: io::Error },
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

/// Runs the command. The exit status is 0, or 1 if something could not be read; standard error then says what.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let stdout = io::stdout().lock();
    let mut out = io::BufWriter::with_capacity(64 * 1024, stdout);
    let result = match &args.command {
        Command::List(args) => list::run(args, &mut out),
        Command::Show(args) => show::run(args, &mut out),
    };
    let result = result.and_then(|complete| out.flush().map(|()| complete).map_err(QueueError::Output));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // The reader of a pipe has seen enough.
        Err(QueueError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests;
