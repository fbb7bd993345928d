//! The first lines in the log: what runs, for whom, where, and how to try it.

use std::path::Path;

use postfix::notice::Severity;

use crate::config::{self, Config, ConfigSource};
use crate::log::{Log, Program};
use crate::queue_directory::Writer;

/// Logs who we are. `listens`: the services with their addresses.
pub(super) fn first_lines(log: &Log, config: &Config, listens: &[(String, Vec<String>)], writer: &Writer) {
    let say = |text: &str| log.write(Program::Master, Severity::Info, text);
    say(&format!("daemon started -- version {}, configuration {}", env!("CARGO_PKG_VERSION"), config.source));
    config.notices.iter().for_each(|notice| log.notice(Program::Master, notice));
    for (name, addresses) in listens {
        say(&format!("service {name} listens on {}", addresses.join(", ")));
    }
    let queue = config.queue_directory().display();
    say(&format!("queue: {queue}, owner: user ID {} ({})", writer.user_id, writer.description));
    config::journal_note(config).iter().for_each(|note| say(note));
    if !writer.is_other {
        say("not started as root: user and root directory do not change; mail_owner is not used");
    }
    if !config.settings.qmqpd_deliver {
        say("mail stays in the queue until a queue manager takes it: qmqpd_deliver = no");
    }
    if matches!(config.source, ConfigSource::Unconfigured { .. }) {
        say(&format!("no configuration was given (-c DIRECTORY): {}", who_may_send(config)));
        let address = listens.first().and_then(|(_, addresses)| addresses.first());
        how_to_try(address.map_or("127.0.0.1:6628", String::as_str), config.queue_directory())
            .iter()
            .for_each(|text| say(text));
    }
}

/// The clients that are authorized, as the first service sees it: `-o` may have changed it.
fn who_may_send(config: &Config) -> String {
    let list = config.services.first().map_or("", |service| service.settings.qmqpd_authorized_clients.trim());
    match list {
        "" => "no client may send mail".to_owned(),
        config::UNCONFIGURED_CLIENTS => "only clients on 127.0.0.1 and ::1 may send mail".to_owned(),
        list => format!("clients that may send mail: {list}"),
    }
}

/// Commands that work from where the server was started: from the source tree if cargo started us, else installed.
fn how_to_try(address: &str, queue: &Path) -> Vec<String> {
    let command = |tool: &str| {
        if std::env::var_os("CARGO_MANIFEST_DIR").is_some() {
            return format!("cargo run -q --release -p tools --bin {tool} --");
        }
        let beside_us = std::env::current_exe().ok().map(|path| path.with_file_name(tool));
        beside_us
            .filter(|path| path.is_file())
            .map_or_else(|| tool.to_owned(), |path| path.display().to_string())
    };
    vec![
        format!(
            "send a message: printf 'Subject: hello\\n\\nHello.\\n' | {} -s {address} -f \
             you@example.com friend@example.com",
            command("qmqp-send")
        ),
        format!("list the queue: {} queue list --queue-directory {}", command("qmqpctl"), queue.display()),
    ]
}
