//! A pipe transport as a process: what it opens, and the user that it becomes.

use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use daemon::config::Service;
use daemon::log::{Log, Program};
use daemon::service::{BlockingServer, Opening};
use postfix::child::Arguments;
use postfix::notice::{Notice, Severity};
use postfix::text::split_list;

use super::PipeAgent;
use super::account::Account;
use super::attributes::Attributes;
use super::command::Surroundings;
use crate::agent::{self, Deliver, Limits};

/// Where programs are, if export_environment has no PATH: as in Postfix.
const PATH: &str = "/usr/bin:/bin";

/// The agent as a process.
#[derive(Debug)]
pub struct PipeServer;

/// What the process works with.
#[derive(Debug)]
pub struct OpenedPipe {
    agent: PipeAgent,
    commands_max: usize,
}

impl BlockingServer for PipeServer {
    type Opened = OpenedPipe;

    fn open(opening: &Opening<'_>) -> Result<OpenedPipe, String> {
        let Opening { config, arguments, .. } = *opening;
        let settings = &config.settings;
        let attributes = Attributes::parse(&arguments.attributes).map_err(|error| error.to_string())?;
        let account = Account::find(&attributes, &settings.mail_owner, &settings.setgid_group);
        let account = account.map_err(|error| error.to_string())?;
        let queue_directory = config.jail.queue_directory.clone();
        let directory = attributes.directory.clone().unwrap_or(queue_directory);
        let commands_max =
            if arguments.is_only_process { 1 } else { agent::deliveries_max(settings.default_process_limit) };
        let agent = PipeAgent {
            surroundings: Surroundings {
                environment: environment(&settings.export_environment, |name| std::env::var_os(name)),
                directory,
                time_limit: settings.command_time_limit,
            },
            recipient_delimiter: settings.recipient_delimiter.clone(),
            soft_bounce: settings.soft_bounce,
            attributes,
        };
        let root = agent.attributes.root_directory.as_deref();
        account.become_for_ever(&agent.attributes.user, root).map_err(|error| error.to_string())?;
        Ok(OpenedPipe { agent, commands_max })
    }

    fn threads(opened: &OpenedPipe) -> usize {
        opened.commands_max
    }

    async fn serve(
        opened: OpenedPipe,
        listener: UnixListener,
        log: Log,
        stop: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let OpenedPipe { agent, commands_max } = opened;
        let lines = log.clone();
        let deliver: Arc<Deliver> = Arc::new(move |request, file, report| {
            agent.deliver(request, file, report, &|notice: Notice| lines.notice(Program::Service, &notice))
        });
        let limits = Limits { deliveries_max: commands_max, idle_max: Duration::MAX };
        let trouble = |words: String| log.write(Program::Service, Severity::Warning, &words);
        agent::serve(listener, limits, deliver, &trouble, stop).await
    }
}

/// What is wrong with a line of master.cf, for `qmqpd check`.
#[must_use]
pub fn problem(service: &Service) -> Option<String> {
    let words = std::iter::once("pipe").chain(service.arguments.iter().map(String::as_str));
    // What is wrong with the options has been said.
    let arguments = Arguments::parse(&words.collect::<Vec<_>>()).ok()?;
    let settings = &service.settings;
    match Attributes::parse(&arguments.attributes) {
        Ok(attributes) => {
            let account = Account::find(&attributes, &settings.mail_owner, &settings.setgid_group);
            account.and_then(|account| account.check(&attributes.user)).err().map(|error| error.to_string())
        }
        Err(error) => Some(error.to_string()),
    }
}

/// The environment of a command: what export_environment names or sets, and PATH.
fn environment(exported: &str, own: impl Fn(&str) -> Option<OsString>) -> Vec<(OsString, OsString)> {
    let mut environment = vec![(OsString::from("PATH"), OsString::from(PATH))];
    for item in split_list(exported) {
        let item = item.strip_prefix('{').and_then(|item| item.strip_suffix('}')).unwrap_or(item);
        match item.split_once('=') {
            Some((name, value)) => environment.push((name.trim().into(), value.trim().into())),
            None => environment.extend(own(item).map(|value| (item.into(), value))),
        }
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_what_the_parameter_says_and_a_path() {
        let exported = "TZ MAIL_CONFIG LANG=C { LC_ALL = a b } NOT_SET";
        let own = |name: &str| (name != "NOT_SET").then(|| format!("of {name}").into());
        let expected = [
            ("PATH", "/usr/bin:/bin"),
            ("TZ", "of TZ"),
            ("MAIL_CONFIG", "of MAIL_CONFIG"),
            ("LANG", "C"),
            ("LC_ALL", "a b"),
        ];
        assert_eq!(environment(exported, own), expected.map(|(name, value)| (name.into(), value.into())));
    }
}
