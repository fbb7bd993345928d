//! The queue of a configuration: who writes into it, and what there is to say about where it lies.

use nix::unistd::{Gid, Uid};

use super::{Config, Service};
use crate::jail::{Owner, group_id};
use crate::queue_directory::{self, Writer};

/// Who writes mail: mail_owner if we are root, else who we are.
pub(crate) fn writer(config: &Config) -> Result<Writer, String> {
    let user = Uid::effective();
    if !user.is_root() {
        let name = nix::unistd::User::from_uid(user)
            .ok()
            .flatten()
            .map_or_else(|| user.to_string(), |user| user.name);
        return Ok(Writer {
            user_id: user.as_raw(),
            group_id: Gid::effective().as_raw(),
            description: format!("{name}, who started the server"),
            is_other: false,
        });
    }
    let owner = Owner::find("mail_owner", &config.settings.mail_owner).map_err(|error| error.to_string())?;
    Ok(Writer {
        user_id: owner.user_id,
        group_id: group_id(&config.settings.setgid_group).unwrap_or(owner.group_id),
        description: format!("mail_owner {}", owner.name),
        is_other: true,
    })
}

/// What is wrong with the queue directory of a configuration, as it stands.
pub(super) fn check_queue(config: &Config) -> Result<(), String> {
    let writer = writer(config)?;
    queue_directory::check(config.queue_directory(), &writer).map_err(|error| error.to_string())
}

/// What there is to say about a journal that syncs the data of others; `None` where it does not, or where there is no journal.
pub(crate) fn journal_note(config: &Config) -> Option<String> {
    config.services.iter().find(|service: &&Service| service.kind.has_journal(&service.settings))?;
    let queue = config.queue_directory();
    let above = queue_directory::shares_file_system_with(queue)?;
    Some(format!(
        "{} shares its file system with {}: under load the journal syncs the whole file system every \
         qmqpd_journal_checkpoint_delay; use a separate file system for the queue, or qmqpd_commit = file",
        queue.display(),
        above.display()
    ))
}
