//! Where a process logs, and as whom.

use std::path::PathBuf;

use postfix::settings::words::Facility;

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogDestination {
    /// Standard error.
    Stderr,
    /// A syslog socket, framed as syslog(3) does.
    Syslog {
        /// Usually `/dev/log`.
        path: PathBuf,
    },
    /// postlogd(8)'s socket.
    Postlog {
        /// Absolute path of the socket.
        path: PathBuf,
    },
    /// A file that is appended to; `/dev/stdout` is standard output.
    File {
        /// Its path.
        path: PathBuf,
        /// The mode it is created with.
        mode: u32,
    },
}

/// Under whom this process runs, as far as the log is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Under Postfix's master(8): with maillog_file set, postlogd(8) writes the file.
    UnderPostfix,
    /// Under `qmqpd serve` with a configuration directory, or that master itself: maillog_file is written directly.
    Standalone,
    /// As [`Mode::Standalone`], but without any configuration: standard error.
    Unconfigured,
}

/// All that decides where and how lines are written.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// First part of the tag: syslog_name.
    pub syslog_name: String,
    /// Second part of the tag for [`super::Program::Service`]: the last part of the command name.
    pub process_name: String,
    /// myhostname; its first label stands in files and in records for postlogd(8).
    pub host_name: String,
    /// syslog_facility.
    pub facility: Facility,
    /// smtputf8_enable: valid UTF-8 is left as it is.
    pub utf8: bool,
    /// Each line goes to all of these.
    pub destinations: Vec<LogDestination>,
}

impl LogConfig {
    /// What to log with before main.cf is read, under the name that master(8) handed down in `MAIL_LOGTAG`: to
    /// postlogd(8) if `POSTLOG_SERVICE` names it, else standard error when that is where `mode` logs, else syslog.
    #[must_use]
    pub fn provisional(mode: Mode, process_name: &str) -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let place = match (mode, variable("POSTLOG_SERVICE")) {
            (Mode::UnderPostfix, Some(path)) => LogDestination::Postlog { path: path.into() },
            (Mode::UnderPostfix, None) => LogDestination::Syslog { path: "/dev/log".into() },
            _ => LogDestination::Stderr,
        };
        Self {
            syslog_name: variable("MAIL_LOGTAG").unwrap_or_else(|| "postfix".to_owned()),
            process_name: process_name.to_owned(),
            host_name: variable("POSTLOG_HOSTNAME").unwrap_or_default(),
            facility: Facility::Mail,
            utf8: true,
            destinations: vec![place],
        }
    }
}
