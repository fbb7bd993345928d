//! What a service process can still do behind the jail: system calls by seccomp, files and ports by Landlock.
//!
//! Both bind the process itself, for ever, and need no privilege. A kernel that lacks one of them is no reason not to
//! serve: user, root directory and capabilities are gone in any case. But the log says what is in force, and warns of what
//! is not.

use std::collections::BTreeSet;
use std::path::PathBuf;

use postfix::settings::Settings;
use postfix::settings::words::Submit;

use super::{JailError, JailPlan, landlock, system_calls};

/// All that a service process needs of the world behind its jail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// `seccomp` in qmqpd_sandbox.
    pub seccomp: bool,
    /// `landlock` in qmqpd_sandbox.
    pub landlock: bool,
    /// Directories in which queue files are made, written and renamed, relative to the queue directory.
    pub spool_directories: Vec<PathBuf>,
    /// Directories in which files are looked for and removed.
    pub log_directories: Vec<PathBuf>,
    /// The queue manager that it wakes, relative to the queue directory. If that is a named pipe, files there can be written to.
    pub queue_manager: Option<PathBuf>,
    /// TCP ports that it connects to: those of name servers, remote tables and mail filters.
    pub tcp_ports: BTreeSet<u16>,
    /// The C library looks up the names of table servers: it reads its files, and loads its modules.
    pub resolves_by_libc: bool,
}

impl Sandbox {
    /// For a process with these settings, whose tables and mail filters are reached through the network at these hosts and
    /// ports.
    #[must_use]
    pub fn new(settings: &Settings, servers: &[(String, u16)]) -> Self {
        let (spool_directories, log_directories): (&[&str], &[&str]) = match settings.qmqpd_submit {
            // A check can put a message on hold.
            Submit::Local => {
                (&["incoming", "hold", spool::journal::DIRECTORY], &["bounce", "defer", "trace"])
            }
            // Only what is too much for the memory, for a while.
            Submit::Postfix => (&["incoming"], &[]),
        };
        let is_name = |host: &str| host.parse::<std::net::IpAddr>().is_err();
        Self {
            seccomp: settings.qmqpd_sandbox.contains("seccomp"),
            landlock: settings.qmqpd_sandbox.contains("landlock"),
            spool_directories: spool_directories.iter().map(PathBuf::from).collect(),
            log_directories: log_directories.iter().map(PathBuf::from).collect(),
            queue_manager: (settings.qmqpd_submit == Submit::Local)
                .then(|| crate::submit::queue_manager(settings).into()),
            tcp_ports: servers.iter().map(|(_, port)| *port).chain([DNS_PORT]).collect(),
            resolves_by_libc: servers.iter().any(|(host, _)| is_name(host)),
        }
    }

    /// For a process that settles journals: all queues, no port.
    #[must_use]
    pub fn settlement(settings: &Settings) -> Self {
        let queues = spool::Queue::ALL.map(spool::Queue::name);
        Self {
            seccomp: settings.qmqpd_sandbox.contains("seccomp"),
            landlock: settings.qmqpd_sandbox.contains("landlock"),
            spool_directories: queues.iter().chain([&spool::journal::DIRECTORY]).map(PathBuf::from).collect(),
            queue_manager: Some(crate::submit::queue_manager(settings).into()),
            ..Self::closed()
        }
    }

    /// For a process that only tells its clients to come again: no file, no port.
    #[must_use]
    pub fn closed() -> Self {
        Self {
            seccomp: true,
            landlock: true,
            spool_directories: Vec::new(),
            log_directories: Vec::new(),
            queue_manager: None,
            tcp_ports: BTreeSet::new(),
            resolves_by_libc: false,
        }
    }

    /// Takes files and ports away, but for those named here. Call it in the queue directory, behind
    /// [`super::enter`], while there is one thread. What is open already stays open.
    ///
    /// # Errors
    /// The kernel has Landlock, and it cannot be put in force.
    pub fn restrict_files(&self) -> Result<Layer, JailError> {
        if !self.landlock {
            return Ok(Layer::Off);
        }
        landlock::restrict(self)
    }

    /// Takes system calls away, but for those of `calls`. Call it while there is one thread, last of all.
    ///
    /// # Errors
    /// The kernel has seccomp, and it cannot be put in force.
    pub fn restrict_calls(&self, calls: Calls) -> Result<Layer, JailError> {
        if !self.seccomp {
            return Ok(Layer::Off);
        }
        system_calls::restrict(calls, self.resolves_by_libc)
    }
}

/// Which system calls are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// Those of a process that serves clients.
    Serve,
    /// Those of the process that Postfix's master(8) knows, which waits for this child.
    WaitFor {
        /// The only process that it may signal.
        child: i32,
    },
}

/// What has become of one layer of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layer {
    /// It binds this process.
    InForce {
        /// Its version, where it has any.
        version: String,
    },
    /// qmqpd_sandbox does not name it.
    Off,
    /// This kernel does not have it; the text says what would have to be there.
    Missing(String),
}

/// What holds a process, for the log.
#[derive(Debug, Clone)]
pub struct InForce {
    /// Who it became, and where its root directory is.
    pub plan: JailPlan,
    /// Files and ports.
    pub landlock: Layer,
    /// System calls.
    pub seccomp: Layer,
}

impl InForce {
    /// The line at the start, and one for each layer that should be there and is not.
    #[must_use]
    pub fn lines(&self) -> (String, Vec<String>) {
        let user = match &self.plan.owner {
            Some(owner) => owner.name.clone(),
            None => nix::unistd::geteuid().to_string(),
        };
        let root = match self.plan.chroot {
            true => format!("chroot {}", self.plan.queue_directory.display()),
            false => "no chroot".to_owned(),
        };
        let mut parts =
            vec![format!("user {user}"), root, "no capabilities".to_owned(), "no new privileges".to_owned()];
        let mut warnings = Vec::new();
        for (name, layer) in [("seccomp", &self.seccomp), ("Landlock", &self.landlock)] {
            parts.push(match layer {
                Layer::InForce { version } if version.is_empty() => name.to_owned(),
                Layer::InForce { version } => format!("{name} ({version})"),
                Layer::Off => format!("no {name} (qmqpd_sandbox)"),
                Layer::Missing(_) => format!("no {name}"),
            });
            if let Layer::Missing(reason) = layer {
                warnings.push(format!("{name} is not in force: {reason}"));
            }
        }
        (format!("confined: {}", parts.join(", ")), warnings)
    }
}

/// Name servers are asked on this port.
const DNS_PORT: u16 = 53;

#[cfg(test)]
mod tests {
    use super::*;

    fn in_force(seccomp: Layer, landlock: Layer) -> (String, Vec<String>) {
        let owner = super::super::Owner {
            name: "postfix".to_owned(),
            user_id: 100,
            group_id: 100,
            group_ids: vec![100],
        };
        let plan = JailPlan { queue_directory: "/q".into(), chroot: true, owner: Some(owner) };
        InForce { plan, landlock, seccomp }.lines()
    }

    #[test]
    fn the_line_names_what_holds_and_warns_of_what_does_not() {
        let on = |version: &str| Layer::InForce { version: version.to_owned() };
        let (line, warnings) = in_force(on(""), on("ABI 7"));
        let words = "confined: user postfix, chroot /q, no capabilities, no new privileges, ";
        assert_eq!((line, warnings), (format!("{words}seccomp, Landlock (ABI 7)"), vec![]));
        let (line, warnings) = in_force(Layer::Off, Layer::Missing("too old".to_owned()));
        assert_eq!(line, format!("{words}no seccomp (qmqpd_sandbox), no Landlock"));
        assert_eq!(warnings, ["Landlock is not in force: too old"]);
    }
}
