//! `qmqpctl queue`: what is in a queue directory. It reads the files itself, so that it works with the queue of
//! `qmqpd serve`, with that of a Postfix, and with a copy of either. It changes nothing.

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

/// Which queue to look at.
#[derive(Debug, clap::Args)]
struct Place {
    /// The queue directory [default: ./qmqpd-spool if it exists, else that of /etc/postfix/main.cf]
    #[arg(short = 'd', long, value_name = "DIR", conflicts_with = "config_directory")]
    queue_directory: Option<PathBuf>,
    /// Take the queue directory from main.cf in this directory
    #[arg(short = 'c', long, value_name = "DIR")]
    config_directory: Option<PathBuf>,
}

impl Place {
    /// The directory to look at.
    fn resolve(&self) -> Result<PathBuf, Failure> {
        if let Some(directory) = &self.queue_directory {
            return Ok(directory.clone());
        }
        let own = Path::new(OWN_QUEUE_DIRECTORY);
        if self.config_directory.is_none() && own.is_dir() {
            return Ok(own.to_owned());
        }
        crate::config::value(self.config_directory.as_deref(), "queue_directory")
            .map(PathBuf::from)
            .map_err(Failure::Configuration)
    }
}

/// Why a command ends early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// Standard output is gone or full.
    #[error("writing the output: {0}")]
    Output(io::Error),
    /// A directory cannot be listed.
    #[error("listing {}: {error}{}", path.display(), advice(error))]
    Directory { path: PathBuf, error: io::Error },
    /// A queue file cannot be opened or looked at.
    #[error("opening {path}: {error}{}", advice(error))]
    File { path: String, error: io::Error },
    /// The queue cannot be searched.
    #[error("{0}")]
    Spool(spool::SpoolError),
    /// main.cf does not tell where the queue is.
    #[error("{0}")]
    Configuration(String),
    /// There is nothing like a queue.
    #[error("{} is no queue directory: it has no directory \"incoming\"; name one with -d", .0.display())]
    NoQueue(PathBuf),
}

impl From<io::Error> for Failure {
    /// Everything else is given with its file where it happens.
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<spool::SpoolError> for Failure {
    /// What the spool advises is for a server; a missing permission has another remedy for whoever only looks.
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
            "; a queue can be read by its owner (mail_owner in main.cf) and by root"
        }
        _ => "",
    }
}

/// Runs the command. Exit status 0: done; 1: something could not be read, and standard error says what.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let stdout = io::stdout().lock();
    let mut out = io::BufWriter::with_capacity(64 * 1024, stdout);
    let result = match &args.command {
        Command::List(args) => list::run(args, &mut out),
        Command::Show(args) => show::run(args, &mut out),
    };
    let result = result.and_then(|complete| out.flush().map(|()| complete).map_err(Failure::Output));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // The reader of a pipe has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests;
