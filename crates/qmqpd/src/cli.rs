//! The command line: an operator's commands, or the arguments with which a master(8) starts a daemon.

use std::ffi::{CString, OsString};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{Args, Parser, Subcommand};

use crate::check;
use crate::program::PROGRAMS;
use crate::server::QmqpServer;
use daemon::config::ConfigSource;
use daemon::exit::{self, Exit};
use daemon::service::TypedByHand;
use daemon::{control, master};
use qmgr::maildir::server::MaildirServer;
use qmgr::manager::QueueManager;
use qmgr::network_agent::NetworkAgent;
use qmgr::pipe::server::PipeServer;

/// The option letters of Postfix's daemons. None of our own options uses them, nor does `-h`.
const DAEMON_LETTERS: &[u8] = b"cdDilmnorsStuvVz";

#[derive(Debug, Parser)]
#[command(name = "qmqpd", version, long_version = long_version(), about = "Accept mail by QMQP, and reply K when it is on disk")]
#[command(after_help = "See qmqpd(8), and qmqpd-config(5) for the parameters.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The version, and that of the library whose version decides what `pcre:` tables match.
fn long_version() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| format!("{}\nPCRE2 {}", env!("CARGO_PKG_VERSION"), lookup::pcre2_version()))
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve in the foreground until stopped
    ///
    /// Without -c it works without any configuration: on 127.0.0.1:6628, for clients of this machine only, with a queue
    /// in ./qmqpd-spool, and logs to standard error.
    Serve(Where),
    /// Reload the running server's configuration; an invalid one is rejected and the current one stays in effect
    Reload(Where),
    /// Stop the running server
    Stop {
        #[command(flatten)]
        place: Where,
        /// Wait until open sessions have finished; accept no new clients
        #[arg(long)]
        drain: bool,
    },
    /// Show processes, addresses, and the result of the last reload
    Status(Where),
    /// Check the configuration; report errors and what to write instead. The exit status is 0 or 78
    Check {
        #[command(flatten)]
        place: Where,
        /// Check the configuration for use as a drop-in under Postfix's master(8), by default in /etc/postfix
        #[arg(long)]
        postfix: bool,
    },
}

#[derive(Debug, Args)]
struct Where {
    /// Read main.cf and, if it exists, master.cf in this directory
    #[arg(short = 'c', value_name = "CONFIG_DIR")]
    directory: Option<PathBuf>,
    /// Set a parameter; overrides main.cf
    #[arg(short = 'o', value_name = "NAME=VALUE")]
    overrides: Vec<String>,
}

impl Where {
    fn source(&self) -> Result<ConfigSource, Exit> {
        ConfigSource::from_option(self.directory.as_deref()).map_err(|error| no_working_directory(&error))
    }

    fn source_of_postfix(&self) -> Result<ConfigSource, Exit> {
        ConfigSource::of_postfix(self.directory.as_deref()).map_err(|error| no_working_directory(&error))
    }
}

fn no_working_directory(error: &std::io::Error) -> Exit {
    Exit::unavailable(format!("cannot determine the current directory: {error}; change to one that exists"))
}

/// Whether these are the arguments of a daemon: the first begins with one of its option letters. A lone `-V` is ours: a
/// master(8) always says of what type the service is.
fn is_daemon(arguments: &[OsString]) -> bool {
    let Some(first) = arguments.first() else { return false };
    if arguments.len() == 1 && first == "-V" {
        return false;
    }
    let bytes = first.as_bytes();
    bytes.first() == Some(&b'-') && bytes.get(1).is_some_and(|letter| DAEMON_LETTERS.contains(letter))
}

/// What to tell a user who typed the command line of a service process. Postfix's daemons say "do not run this command
/// by hand", in the log.
fn by_hand(TypedByHand { words }: &TypedByHand) -> Exit {
    let command = command_among(words).unwrap_or("serve");
    let program = words.first().map_or("qmqpd", String::as_str);
    Exit {
        status: Exit::USAGE,
        lines: vec![
            format!(
                "these are the options of a service process, which only master(8) starts: no inherited \
                 sockets found ({})",
                words.join(" ")
            ),
            format!("write the command first: {program} {command} -c DIRECTORY; see {program} --help"),
        ],
    }
}

/// The first word that is one of our commands: what a user wanted who wrote options before the command.
fn command_among(words: &[String]) -> Option<&'static str> {
    const COMMANDS: [&str; 5] = ["serve", "reload", "stop", "status", "check"];
    words.iter().skip(1).find_map(|word| COMMANDS.into_iter().find(|command| command == word))
}

/// Makes ps(1) and top(1) show the command name: our own master starts us as /proc/self/exe, which they would call `exe`.
fn name_process(program: Option<&OsString>) {
    let name = program.and_then(|program| Path::new(program).file_name());
    if let Some(name) = name.and_then(|name| CString::new(name.as_bytes()).ok()) {
        let _cosmetic = nix::sys::prctl::set_name(&name);
    }
}

/// Runs what the command line asks for.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    if is_daemon(arguments.get(1..).unwrap_or_default()) {
        name_process(arguments.first());
        let run = match arguments.first().and_then(|program| Path::new(program).file_name()) {
            Some(name) if name == "qmgr" => daemon::service::run::<QueueManager>,
            Some(name) if name == "smtp" || name == "lmtp" || name == "qmqp" => {
                daemon::service::run::<NetworkAgent>
            }
            Some(name) if name == "pipe" => daemon::service::run_blocking::<PipeServer>,
            Some(name) if name == "virtual" => daemon::service::run_blocking::<MaildirServer>,
            _ => daemon::service::run::<QmqpServer>,
        };
        return run(arguments).unwrap_or_else(|typed| by_hand(&typed).report());
    }
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _nobody_reads = error.print();
            return if error.use_stderr() { ExitCode::from(Exit::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match obey(&cli.command) {
        Ok(text) => exit::succeed(&text),
        Err(exit) => exit.report(),
    }
}

/// To standard error: standard output is for the outcome.
fn say_meanwhile(text: &str) {
    let _nobody_reads = writeln!(std::io::stderr(), "qmqpd: {text}");
}

fn obey(command: &Command) -> Result<String, Exit> {
    match command {
        Command::Serve(place) => {
            master::serve(&place.source()?, &place.overrides, PROGRAMS).map(|()| String::new())
        }
        Command::Reload(place) => control::reload(&place.source()?, &place.overrides),
        Command::Stop { place, drain } => {
            control::stop(&place.source()?, &place.overrides, *drain, &say_meanwhile)
        }
        Command::Status(place) => control::status(&place.source()?, &place.overrides),
        Command::Check { place, postfix } => {
            let source = if *postfix { place.source_of_postfix()? } else { place.source()? };
            check::check(&source, &place.overrides, PROGRAMS)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_master_passes_is_told_from_what_people_type() {
        let daemon = |text: &str| is_daemon(&text.split(' ').map(OsString::from).collect::<Vec<_>>());
        for text in ["-n", "-t", "-l", "-z", "-c", "-o", "-V -t inet", "-tinet", "-v", "-VV"] {
            assert!(daemon(text), "{text}");
        }
        for text in ["serve", "-h", "--help", "--version", "-V", "-", ""] {
            assert!(!daemon(text), "{text}");
        }
        assert!(!is_daemon(&[]));
    }

    #[test]
    fn the_commands_take_directory_and_overrides() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            let words = ["qmqpd", "-c", "etc", command.get_name()].map(str::to_owned);
            assert_eq!(command_among(&words), Some(command.get_name()));
        }
        let cli = Cli::try_parse_from(["qmqpd", "serve", "-c", "etc", "-o", "a=b", "-o", "c = d"]).unwrap();
        let Command::Serve(place) = cli.command else { panic!("not serve") };
        assert_eq!((place.directory, place.overrides.len()), (Some(PathBuf::from("etc")), 2));
    }
}
