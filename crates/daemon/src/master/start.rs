//! Starting a service process the way Postfix's master(8) does: argument order, environment, descriptors.

use std::ffi::{CString, NulError};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;

use postfix::child::{
    FIRST_LISTEN_DESCRIPTOR, FLOW_READ_DESCRIPTOR, FLOW_WRITE_DESCRIPTOR, GENERATION_VARIABLE,
    STATUS_DESCRIPTOR,
};

use super::listen::{Listener, lift, listeners_max};
use crate::config::Listen;

/// Our own program, even after its file was replaced or removed: the service always speaks the same dialect as the
/// master that started it.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// What the argument list of a service depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command<'a> {
    /// The first word of the command in master.cf, and `argv[0]`.
    pub(super) program: &'a str,
    /// The first field of the master.cf line, as written.
    pub(super) name: &'a str,
    /// What the process is for, if it is not to serve clients at `addresses`.
    pub(super) transport: Option<&'a str>,
    /// The process limit; 0 means no limit.
    pub(super) process_limit: u32,
    /// Whether the service gives up root for mail_owner.
    pub(super) unprivileged: bool,
    /// Whether it changes the root directory.
    pub(super) chroot: bool,
    /// Where it listens.
    pub(super) addresses: &'a [Listen],
    /// The rest of the master.cf line.
    pub(super) arguments: &'a [String],
}

impl Command<'_> {
    /// The argument list, in Postfix's order.
    pub(super) fn argv(&self) -> Vec<String> {
        let mut argv = vec![self.program.to_owned()];
        let mut push = |words: &[&str]| argv.extend(words.iter().map(|word| (*word).to_owned()));
        match self.process_limit {
            0 => push(&["-z"]),
            1 => push(&["-l"]),
            _ => {}
        }
        if self.program.rsplit('/').next() != Some(self.name) {
            push(&["-n", self.name]);
        }
        let served = self.addresses.first().map_or("inet", Listen::transport);
        push(&["-t", self.transport.unwrap_or(served)]);
        if self.unprivileged {
            push(&["-u"]);
        }
        if self.chroot {
            push(&["-c"]);
        }
        let loopback_only = self.addresses.iter().all(Listen::is_local);
        if self.process_limit > 1 && !loopback_only {
            push(&["-o", "stress="]);
        }
        if self.addresses.len() > 1 {
            push(&["-s", &self.addresses.len().to_string()]);
        }
        argv.extend(self.arguments.iter().cloned());
        argv
    }
}

/// The environment of a service: what `import_environment` lets through of ours, the forced `NAME=VALUE` items, and
/// what every child gets. `forced` wins over both.
///
/// `generation` appears in octal, as Postfix's children expect it.
pub(super) fn environment(
    import_environment: &str,
    ours: impl Fn(&str) -> Option<String>,
    forced: &[(&str, String)],
    generation: u32,
) -> Vec<String> {
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: String| {
        variables.retain(|(existing, _)| existing != name);
        variables.push((name.to_owned(), value));
    };
    for item in postfix::text::split_list(import_environment) {
        let item = item.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).map_or(item, str::trim);
        match item.split_once('=') {
            Some((name, value)) => set(name.trim(), value.trim().to_owned()),
            None => {
                if let Some(value) = ours(item) {
                    set(item, value);
                }
            }
        }
    }
    for (name, value) in forced {
        set(name, value.clone());
    }
    set(GENERATION_VARIABLE, format!("{generation:o}"));
    variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// What all services share.
#[derive(Debug)]
pub(super) struct Starter {
    null: OwnedFd,
    flow: (OwnedFd, OwnedFd),
    /// Whether services log to standard output: it stays open then.
    keep_stdout: bool,
}

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// There is no channel on which it could speak.
    #[error("cannot make a status channel: {0}")]
    Channel(std::io::Error),
    /// A word holds a NUL byte.
    #[error("an argument or a variable holds a NUL byte: {0}")]
    Nul(#[from] NulError),
    /// Their numbers would be those of descriptors that the master keeps.
    #[error(
        "a service can have only {} sockets with this limit of open files: raise the limit (ulimit -n) \
         to 1024 or more",
        listeners_max()
    )]
    TooManySockets,
    /// The system refused.
    #[error("{0}; is /proc mounted, and is there memory and room for another process (ulimit -u)?")]
    System(#[from] nix::Error),
}

impl Starter {
    /// Opens what every service inherits.
    pub(super) fn new(keep_stdout: bool) -> std::io::Result<Self> {
        let null = lift(&std::fs::File::options().read(true).write(true).open("/dev/null")?)?;
        // The token pipe between cleanup(8) and qmgr(8). Ours has no queue manager at the other end, so it stays
        // empty; a service that looks for it finds it where Postfix puts it.
        let (reader, writer) = std::io::pipe()?;
        for end in [&OwnedFd::from(reader.try_clone()?), &OwnedFd::from(writer.try_clone()?)] {
            rustix::io::ioctl_fionbio(end, true)?;
        }
        Ok(Self { null, flow: (lift(&reader)?, lift(&writer)?), keep_stdout })
    }

    /// Starts one process. Standard error is ours, so that a panic or a log line finds its way; standard input is
    /// /dev/null.
    pub(super) fn start(
        &self,
        argv: &[String],
        environment: &[String],
        status: &OwnedFd,
        listeners: &[Listener],
    ) -> Result<Pid, StartError> {
        let words = |texts: &[String]| {
            texts.iter().map(|text| CString::new(text.as_str())).collect::<Result<Vec<_>, _>>()
        };
        if listeners.len() > listeners_max() {
            return Err(StartError::TooManySockets);
        }
        let mut actions = PosixSpawnFileActions::init()?;
        actions.add_dup2(self.null.as_raw_fd(), 0)?;
        if !self.keep_stdout {
            actions.add_dup2(self.null.as_raw_fd(), 1)?;
        }
        actions.add_dup2(self.flow.0.as_raw_fd(), FLOW_READ_DESCRIPTOR)?;
        actions.add_dup2(self.flow.1.as_raw_fd(), FLOW_WRITE_DESCRIPTOR)?;
        actions.add_dup2(status.as_raw_fd(), STATUS_DESCRIPTOR)?;
        for (listener, number) in listeners.iter().zip(FIRST_LISTEN_DESCRIPTOR..) {
            actions.add_dup2(std::os::fd::AsFd::as_fd(listener).as_raw_fd(), number)?;
        }
        let mut attributes = PosixSpawnAttr::init()?;
        attributes.set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK)?;
        attributes.set_sigmask(&from_a_terminal())?;
        Ok(posix_spawn(OWN_PROGRAM, &actions, &attributes, &words(argv)?, &words(environment)?)?)
    }
}

/// What a terminal sends to all processes at once: it is for the master, which ends its processes in order. Blocked in
/// them, or each ^C would kill them with their journals.
fn from_a_terminal() -> SigSet {
    [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP].into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(command: &Command<'_>) -> String {
        command.argv().join(" ")
    }

    /// The lines in these tests were seen on Postfix 3.7.
    #[test]
    fn arguments_come_in_the_order_of_postfix() {
        let wildcard: Vec<Listen> = vec![Listen::Inet("0.0.0.0:628".parse().unwrap())];
        let base = Command {
            program: "qmqpd",
            name: "628",
            transport: None,
            process_limit: 100,
            unprivileged: true,
            chroot: false,
            addresses: &wildcard,
            arguments: &[],
        };
        assert_eq!(line(&base), "qmqpd -n 628 -t inet -u -o stress=");
        let verbose = ["-v".to_owned()];
        let jailed = Command { name: "630", chroot: true, arguments: &verbose, ..base.clone() };
        assert_eq!(line(&jailed), "qmqpd -n 630 -t inet -u -c -o stress= -v");
        let three: Vec<Listen> = ["0.0.0.0:628", "[::]:628", "127.0.0.2:628"]
            .map(|text| Listen::Inet(text.parse().unwrap()))
            .to_vec();
        assert_eq!(
            line(&Command { addresses: &three, ..base.clone() }),
            "qmqpd -n 628 -t inet -u -o stress= -s 3"
        );
        let options =
            ["-o", "syslog_name=postfix/$service_name", "-o", "qmqpd_error_delay=0"].map(str::to_owned);
        let single = Command { name: "629", process_limit: 1, arguments: &options, ..base.clone() };
        assert_eq!(
            line(&single),
            "qmqpd -l -n 629 -t inet -u -o syslog_name=postfix/$service_name -o qmqpd_error_delay=0"
        );
        let loopback: Vec<Listen> = vec![Listen::Inet("[::1]:7632".parse().unwrap())];
        let local = Command { name: "[::1]:7632", addresses: &loopback, ..base.clone() };
        assert_eq!(line(&local), "qmqpd -n [::1]:7632 -t inet -u");
        let socket = vec![Listen::Unix("/q/private/qmqp".into())];
        let unix = Command { name: "qmqp", addresses: &socket, ..base.clone() };
        assert_eq!(line(&unix), "qmqpd -n qmqp -t unix -u");
        assert_eq!(line(&Command { process_limit: 0, ..local.clone() }), "qmqpd -z -n [::1]:7632 -t inet -u");
        assert_eq!(line(&Command { name: "qmqpd", program: "bin/qmqpd", ..local }), "bin/qmqpd -t inet -u");
    }

    #[test]
    fn the_environment_holds_what_is_imported_and_the_generation_in_octal() {
        let ours = |name: &str| match name {
            "TZ" => Some("UTC".to_owned()),
            "LANG" => Some("de_DE.UTF-8".to_owned()),
            "PATH" => Some("/bin".to_owned()),
            _ => None,
        };
        let forced = [("MAIL_CONFIG", "/etc/postfix".to_owned())];
        assert_eq!(
            environment("MAIL_CONFIG, TZ LANG=C { GREETING = a b }", ours, &forced, 8),
            ["TZ=UTC", "LANG=C", "GREETING=a b", "MAIL_CONFIG=/etc/postfix", "GENERATION=10"]
        );
    }
}
