//! The user that a pipe transport is: looked up, judged, and become for the rest of the process.

use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User};

use super::attributes::Attributes;

/// A user that a command may run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Its user ID; never 0.
    pub user_id: u32,
    /// Its group ID, the only group; never 0.
    pub group_id: u32,
}

/// Why a transport cannot run as its user. Postfix's words, where it has some.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The name is in no user database.
    #[error("unknown username: {0}; create the user, or name another in user= of the master.cf line")]
    UnknownUser(String),
    /// The same of a group.
    #[error("unknown group: {0}; create the group, or name another in user= of the master.cf line")]
    UnknownGroup(String),
    /// Commands never run as root.
    #[error("user= command-line attribute specifies root privileges: name an unprivileged user and group")]
    Root,
    /// Nor as the owner of the queue.
    #[error(
        "user= command-line attribute specifies mail system owner {0}: a command could change the queue; name another user"
    )]
    MailOwner(String),
    /// Nor in the group that may submit mail.
    #[error("user= command-line attribute specifies mail system group {0}: name another group")]
    SetgidGroup(String),
    /// The process is not root, and another user.
    #[error(
        "user={wanted}: this process is user ID {own} and cannot become another: start the server as root, or name its user"
    )]
    NotRoot {
        /// The user of the line.
        wanted: String,
        /// Who the process is.
        own: u32,
    },
    /// A system call failed.
    #[error("cannot {0}: {1}")]
    System(String, nix::Error),
}

impl Account {
    /// Looks the user of a line up.
    ///
    /// # Errors
    /// There is no such user or group, or it is one that commands must not run as.
    pub fn find(attributes: &Attributes, mail_owner: &str, setgid_group: &str) -> Result<Self, AccountError> {
        let name = attributes.user.as_str();
        let failed = |errno| AccountError::System(format!("look up user {name}"), errno);
        let user = User::from_name(name).map_err(failed)?;
        let user = user.ok_or_else(|| AccountError::UnknownUser(name.to_owned()))?;
        let group_id = match &attributes.group {
            Some(group) => {
                let found = Group::from_name(group).map_err(failed)?;
                found.ok_or_else(|| AccountError::UnknownGroup(group.clone()))?.gid
            }
            None => user.gid,
        };
        if user.uid.is_root() || group_id.as_raw() == 0 {
            return Err(AccountError::Root);
        }
        // Without root there is one user, and it owns the queue.
        if Uid::effective().is_root() {
            if name == mail_owner {
                return Err(AccountError::MailOwner(name.to_owned()));
            }
            if Group::from_name(setgid_group).ok().flatten().is_some_and(|group| group.gid == group_id) {
                return Err(AccountError::SetgidGroup(setgid_group.to_owned()));
            }
        }
        Ok(Self { user_id: user.uid.as_raw(), group_id: group_id.as_raw() })
    }

    /// Can this process, or one that it starts, become that user?
    ///
    /// # Errors
    /// It is not root, and another user.
    pub fn check(self, name: &str) -> Result<(), AccountError> {
        let own = Uid::effective();
        if own.is_root() || own.as_raw() == self.user_id {
            return Ok(());
        }
        Err(AccountError::NotRoot { wanted: name.to_owned(), own: own.as_raw() })
    }

    /// Makes this process that user, for ever, in a session of its own; with `root_directory`, there. To be called before there
    /// are threads. The commands may gain privileges by set-ID programs, as Postfix's sendmail(1) does.
    ///
    /// # Errors
    /// The process is not root and another user, or the system refuses.
    pub fn become_for_ever(self, name: &str, root_directory: Option<&Path>) -> Result<(), AccountError> {
        let step = |what: &str| {
            let what = what.to_owned();
            move |errno| AccountError::System(what, errno)
        };
        // Commands have no terminal to ask; a leader of a group, without one, stays where it is.
        let _is_leader = nix::unistd::setsid();
        let own = Uid::effective();
        if own.is_root() {
            let (user, group) = (Uid::from_raw(self.user_id), Gid::from_raw(self.group_id));
            nix::unistd::setgroups(&[group]).map_err(step("set the groups"))?;
            nix::unistd::setresgid(group, group, group).map_err(step("set the group"))?;
            enter(root_directory)?;
            nix::unistd::setresuid(user, user, user).map_err(step("set the user"))?;
            if nix::unistd::setuid(Uid::from_raw(0)).is_ok() {
                return Err(AccountError::Root);
            }
            return Ok(());
        }
        self.check(name)?;
        enter(root_directory)
    }
}

fn enter(root_directory: Option<&Path>) -> Result<(), AccountError> {
    let Some(root) = root_directory else { return Ok(()) };
    let failed =
        |errno| AccountError::System(format!("change the root directory to {}", root.display()), errno);
    nix::unistd::chroot(root).map_err(failed)?;
    nix::unistd::chdir("/").map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(user: &str) -> Result<Account, AccountError> {
        let attributes = Attributes::parse(&[&format!("user={user}"), "argv=x"]).unwrap();
        Account::find(&attributes, "daemon", "sys")
    }

    #[test]
    fn users_that_commands_must_not_be_are_refused() {
        let said = |user: &str| found(user).unwrap_err().to_string();
        assert!(said("root").contains("specifies root privileges"));
        assert!(said("nobody:root").contains("specifies root privileges"));
        assert!(said("no-such-user").starts_with("unknown username: no-such-user"));
        assert!(said("nobody:no-such-group").starts_with("unknown group: no-such-group"));
        if Uid::effective().is_root() {
            assert!(said("daemon").contains("specifies mail system owner daemon"));
            assert!(said("nobody:sys").contains("specifies mail system group sys"));
        }
        let nobody = User::from_name("nobody").unwrap().unwrap();
        let expected = Account { user_id: nobody.uid.as_raw(), group_id: nobody.gid.as_raw() };
        assert_eq!(found("nobody").unwrap(), expected);
    }
}
