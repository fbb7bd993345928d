//! Where the configuration comes from, and what that makes of us.

use std::fmt;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use postfix::main_cf::Override;
use postfix::settings::words::LogTarget;
use postfix::settings::{ConfigError, Settings};

use crate::jail::Owner;
use crate::log::{LogConfig, LogDestination, Mode};

/// Set in the environment of a service process that `qmqpd serve` started; Postfix's master(8) does not set it.
pub const STANDALONE_VARIABLE: &str = "QMQPD_STANDALONE";

/// Postfix's configuration directory when `MAIL_CONFIG` names no other.
const DEFAULT_DIRECTORY: &str = "/etc/postfix";

/// The name of the queue that is made where no configuration says otherwise.
const UNCONFIGURED_QUEUE: &str = "qmqpd-spool";

/// The clients that are authorized when there is no configuration.
pub const UNCONFIGURED_CLIENTS: &str = "127.0.0.1, [::1]";

/// Where main.cf and master.cf are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigSource {
    /// Nowhere: defaults that let any local user try the server, and authorize no other client.
    Unconfigured {
        /// The directory in which the server was started; the queue is made in it. Absolute.
        start_directory: PathBuf,
    },
    /// In this directory, on behalf of `qmqpd serve`. Absolute.
    Directory(PathBuf),
    /// In this directory, on behalf of Postfix's master(8).
    Postfix(PathBuf),
}

impl fmt::Display for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unconfigured { .. } => f.write_str("none"),
            Self::Directory(path) | Self::Postfix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl ConfigSource {
    /// What `-c` names, or nothing.
    ///
    /// # Errors
    /// The working directory is gone, so that a relative path means nothing.
    pub fn from_option(directory: Option<&Path>) -> std::io::Result<Self> {
        match directory {
            Some(directory) => std::path::absolute(directory).map(Self::Directory),
            None => std::env::current_dir().map(|start_directory| Self::Unconfigured { start_directory }),
        }
    }

    /// The directory of a Postfix, as its master(8) would tell its children: what is given, else `MAIL_CONFIG`, else
    /// `/etc/postfix`.
    ///
    /// # Errors
    /// The working directory is gone, so that a relative path means nothing.
    pub fn of_postfix(directory: Option<&Path>) -> std::io::Result<Self> {
        let from_environment = std::env::var_os("MAIL_CONFIG").map(PathBuf::from);
        let directory = directory.map(Path::to_owned).or(from_environment);
        let directory = directory.unwrap_or_else(|| PathBuf::from(DEFAULT_DIRECTORY));
        std::path::absolute(directory).map(Self::Postfix)
    }

    /// What the environment of a service process says.
    #[must_use]
    pub fn from_environment() -> Self {
        let directory = std::env::var_os("MAIL_CONFIG");
        if std::env::var_os(STANDALONE_VARIABLE).is_none() {
            let directory = directory.filter(|directory| !directory.is_empty());
            return Self::Postfix(directory.map_or_else(|| PathBuf::from(DEFAULT_DIRECTORY), PathBuf::from));
        }
        match directory {
            Some(directory) if !directory.is_empty() => Self::Directory(PathBuf::from(directory)),
            _ => Self::Unconfigured { start_directory: PathBuf::from("/") },
        }
    }

    /// The value of `MAIL_CONFIG` for children; empty where there is no main.cf.
    #[must_use]
    pub fn mail_config(&self) -> String {
        match self {
            Self::Unconfigured { .. } => String::new(),
            Self::Directory(path) | Self::Postfix(path) => path.display().to_string(),
        }
    }

    /// The directory of main.cf; `None` if there is none.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Unconfigured { .. } => None,
            Self::Directory(path) | Self::Postfix(path) => Some(path),
        }
    }

    /// How messages call main.cf.
    #[must_use]
    pub fn main_cf_path(&self) -> String {
        self.directory().map_or_else(String::new, |directory| directory.join("main.cf").display().to_string())
    }

    /// What that makes of this process, as far as the log is concerned.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        match self {
            Self::Unconfigured { .. } => Mode::Unconfigured,
            Self::Directory(_) => Mode::Standalone,
            Self::Postfix(_) => Mode::UnderPostfix,
        }
    }
}

/// The settings that stand in for main.cf where there is none, as `-o` would give them. Started as root, the
/// service runs as `nobody`; or as the owner of the queue, if an ordinary user made it before.
///
/// # Errors
/// Neither will do.
pub fn unconfigured_overrides(source: &ConfigSource) -> Result<Vec<Override>, Box<ConfigError>> {
    let ConfigSource::Unconfigured { start_directory } = source else { return Ok(Vec::new()) };
    let queue = start_directory.join(UNCONFIGURED_QUEUE);
    let mut pairs = vec![
        ("queue_directory", queue.display().to_string()),
        ("qmqpd_authorized_clients", UNCONFIGURED_CLIENTS.to_owned()),
        ("qmqpd_log", "stderr".to_owned()),
    ];
    if Uid::effective().is_root() {
        pairs.push(("mail_owner", unconfigured_owner(&queue)?.name));
    }
    let origin = "defaults without configuration";
    Ok(pairs
        .into_iter()
        .map(|(name, value)| Override { name: name.to_owned(), value, origin: origin.to_owned() })
        .collect())
}

fn unconfigured_owner(queue: &Path) -> Result<Owner, Box<ConfigError>> {
    let found = match crate::queue_directory::owner(queue) {
        Some(user_id) if user_id != 0 => Owner::find_by_id("mail_owner", user_id),
        _ => Owner::find("mail_owner", "nobody"),
    };
    found.map_err(|error| {
        Box::new(
            ConfigError::new(
                error.to_string(),
                "start the server as an ordinary user, or set one with -o mail_owner=NAME",
            )
            .about("mail_owner", ""),
        )
    })
}

/// Where a process logs according to its settings.
pub(super) fn log_config(mode: Mode, settings: &Settings, process_name: &str) -> LogConfig {
    LogConfig {
        syslog_name: settings.syslog_name.clone(),
        process_name: process_name.to_owned(),
        host_name: settings.myhostname.clone(),
        facility: settings.syslog_facility,
        utf8: settings.smtputf8_enable,
        destinations: vec![place(mode, settings)],
    }
}

fn place(mode: Mode, settings: &Settings) -> LogDestination {
    const SYSLOG_SOCKET: &str = "/dev/log";
    let maillog_file = settings.maillog_file.as_str();
    if !maillog_file.is_empty() {
        if mode == Mode::UnderPostfix {
            let socket =
                Path::new(&settings.queue_directory).join("public").join(&settings.postlog_service_name);
            return LogDestination::Postlog { path: socket };
        }
        let mode = u32::from_str_radix(&settings.maillog_file_permissions, 8).unwrap_or(0o600);
        return LogDestination::File { path: maillog_file.into(), mode };
    }
    let syslog = LogDestination::Syslog { path: SYSLOG_SOCKET.into() };
    match settings.qmqpd_log {
        LogTarget::Stderr => LogDestination::Stderr,
        LogTarget::Syslog if mode == Mode::UnderPostfix || Path::new(SYSLOG_SOCKET).exists() => syslog,
        // A container without a syslog daemon: the user who started us reads this.
        LogTarget::Syslog => LogDestination::Stderr,
    }
}
