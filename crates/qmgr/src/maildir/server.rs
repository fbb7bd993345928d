//! Delivery into Maildirs as a process: the tables that it opens. As root it stays root, and becomes the owner of a mailbox for
//! each delivery.

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use daemon::log::{Log, Program};
use daemon::service::{BlockingServer, Opening};
use lookup::{Keys, Maps};
use postfix::notice::{Notice, Severity};

use super::MaildirAgent;
use crate::agent::{self, Deliver, Limits};

/// The agent as a process.
#[derive(Debug)]
pub struct MaildirServer;

/// What the process works with.
#[derive(Debug)]
pub struct OpenedMaildirs {
    agent: MaildirAgent,
    deliveries_max: usize,
}

impl BlockingServer for MaildirServer {
    type Opened = OpenedMaildirs;

    fn open(opening: &Opening<'_>) -> Result<OpenedMaildirs, String> {
        let Opening { config, arguments, log } = *opening;
        let settings = &config.settings;
        let limit = u64::try_from(settings.virtual_mailbox_limit).unwrap_or(0);
        if limit > 0 && settings.message_bytes_max().is_none_or(|message| limit < message) {
            return Err("virtual_mailbox_limit is smaller than message_size_limit: raise it".to_owned());
        }
        let options = intake::list_options(settings);
        let mut notices = Vec::new();
        let mut open = |parameter, text: &str| {
            let opened = Maps::open(parameter, Keys::Addresses, text, &options, &mut notices);
            opened.map_err(|error| error.to_string())
        };
        let mailboxes = open("virtual_mailbox_maps", &settings.virtual_mailbox_maps);
        let user_ids = open("virtual_uid_maps", &settings.virtual_uid_maps);
        let group_ids = open("virtual_gid_maps", &settings.virtual_gid_maps);
        notices.iter().for_each(|notice| log.notice(Program::Service, notice));
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let agent = MaildirAgent {
            base: settings.virtual_mailbox_base.clone().into(),
            mailboxes: mailboxes?,
            user_ids: user_ids?,
            group_ids: group_ids?,
            user_id_min: u32::try_from(settings.virtual_minimum_uid).unwrap_or(u32::MAX),
            file_bytes_max: if limit == 0 { u64::MAX } else { limit },
            recipient_delimiter: settings.recipient_delimiter.clone(),
            shows_original_recipient: settings.enable_original_recipient,
            // It becomes a part of a file's name.
            host: host.unwrap_or_default().replace('/', "_"),
            soft_bounce: settings.soft_bounce,
        };
        let deliveries_max =
            if arguments.is_only_process { 1 } else { agent::deliveries_max(settings.default_process_limit) };
        Ok(OpenedMaildirs { agent, deliveries_max })
    }

    fn threads(opened: &OpenedMaildirs) -> usize {
        opened.deliveries_max
    }

    async fn serve(
        opened: OpenedMaildirs,
        listener: UnixListener,
        log: Log,
        stop: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let OpenedMaildirs { agent, deliveries_max } = opened;
        let lines = log.clone();
        let deliver: Arc<Deliver> = Arc::new(move |request, file, report| {
            agent.deliver(request, file, report, &|notice: Notice| lines.notice(Program::Service, &notice))
        });
        let limits = Limits { deliveries_max, idle_max: Duration::MAX };
        let trouble = |words: String| log.write(Program::Service, Severity::Warning, &words);
        agent::serve(listener, limits, deliver, &trouble, stop).await
    }
}
