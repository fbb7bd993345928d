//! Giving up privileges, in Postfix's order: working directory, groups, chroot, user, and no way back.
//!
//! What must be open afterwards (log, tables, resolver and hosts files, time zone, inherited sockets) is opened
//! before [`enter`]. What is left behind it is taken away by [`Sandbox`].

mod landlock;
mod layer;
mod needs;
mod sandbox;
mod system_calls;

pub use layer::{Calls, Layer};
pub use needs::Needs;
pub use sandbox::{InForce, Sandbox};

use std::ffi::CString;
use std::path::PathBuf;

use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Group, Uid, User};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// An unprivileged user to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The login name.
    pub name: String,
    /// The user ID; never 0.
    pub user_id: u32,
    /// The primary group ID; never 0.
    pub group_id: u32,
    /// All groups of the user, the primary one included.
    pub group_ids: Vec<u32>,
}

/// Where a process confines itself to, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JailPlan {
    /// The working directory from now on; with `chroot` the root directory too.
    pub queue_directory: PathBuf,
    /// Whether to change the root directory; needs root or CAP_SYS_CHROOT.
    pub chroot: bool,
    /// Whom to become; `None` stays who we are, which must not be root.
    pub owner: Option<Owner>,
}

/// Why a process could not be confined. It must not serve clients then.
#[derive(Debug, thiserror::Error)]
pub enum JailError {
    /// The name is in no user database.
    #[error(
        "parameter {parameter}: unknown user name value: {name}; create the user, or name one that exists"
    )]
    UnknownUser {
        /// mail_owner or default_privs.
        parameter: &'static str,
        /// The value.
        name: String,
    },
    /// The user's ID is 0.
    #[error("parameter {parameter}: user {name} has privileged user ID; name an unprivileged user")]
    PrivilegedUser {
        /// mail_owner or default_privs.
        parameter: &'static str,
        /// The value.
        name: String,
    },
    /// The user's group ID is 0.
    #[error(
        "parameter {parameter}: user {name} has privileged group ID; give the user another primary group"
    )]
    PrivilegedGroup {
        /// mail_owner or default_privs.
        parameter: &'static str,
        /// The value.
        name: String,
    },
    /// The user database cannot be asked.
    #[error("parameter {parameter}: cannot look up user {name}: {source}")]
    Lookup {
        /// mail_owner or default_privs.
        parameter: &'static str,
        /// The value.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// No user to become was given.
    #[error(
        "the Postfix {program} must run with $mail_owner privileges: write y or - into the unpriv column of \
         its master.cf line"
    )]
    Root {
        /// What the process is, such as `QMQP server`.
        program: String,
    },
    /// One of the steps failed.
    #[error("cannot {step}: {source}")]
    Step {
        /// What was being done, to what.
        step: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The kernel has a layer of the sandbox, and refused ours.
    #[error("cannot enable {layer}: {reason}; to serve without it, remove {keyword} from qmqpd_sandbox")]
    Sandbox {
        /// Its name.
        layer: &'static str,
        /// Its word in qmqpd_sandbox.
        keyword: &'static str,
        /// What went wrong.
        reason: String,
    },
    /// The kernel let us have root back.
    #[error("root privileges could be regained after the switch to user {name}: refusing to continue")]
    Regained {
        /// The user that we became.
        name: String,
    },
}

impl Owner {
    /// Looks the user up, and refuses a privileged one with Postfix's words.
    ///
    /// `parameter` is where the name stands: mail_owner, default_privs.
    ///
    /// # Errors
    /// There is no such user, the user or its primary group is privileged, or the user database cannot be asked.
    pub fn find(parameter: &'static str, name: &str) -> Result<Self, JailError> {
        let lookup =
            |errno: nix::Error| JailError::Lookup { parameter, name: name.to_owned(), source: errno.into() };
        let user = User::from_name(name).map_err(lookup)?;
        let user = user.ok_or_else(|| JailError::UnknownUser { parameter, name: name.to_owned() })?;
        Self::of(parameter, user)
    }

    /// As [`Owner::find`], by user ID.
    ///
    /// # Errors
    /// As for [`Owner::find`].
    pub fn find_by_id(parameter: &'static str, user_id: u32) -> Result<Self, JailError> {
        let name = user_id.to_string();
        let user = User::from_uid(Uid::from_raw(user_id));
        let user =
            user.map_err(|errno| JailError::Lookup { parameter, name: name.clone(), source: errno.into() })?;
        Self::of(parameter, user.ok_or(JailError::UnknownUser { parameter, name })?)
    }

    fn of(parameter: &'static str, user: User) -> Result<Self, JailError> {
        if user.uid.is_root() {
            return Err(JailError::PrivilegedUser { parameter, name: user.name });
        }
        if user.gid.as_raw() == 0 {
            return Err(JailError::PrivilegedGroup { parameter, name: user.name });
        }
        let group_ids = CString::new(user.name.as_str())
            .map_err(|_| nix::Error::EINVAL)
            .and_then(|name| nix::unistd::getgrouplist(&name, user.gid))
            .map_err(|errno| JailError::Lookup {
                parameter,
                name: user.name.clone(),
                source: errno.into(),
            })?;
        Ok(Self {
            name: user.name,
            user_id: user.uid.as_raw(),
            group_id: user.gid.as_raw(),
            group_ids: group_ids.into_iter().map(Gid::as_raw).collect(),
        })
    }
}

/// The ID of a group, for setgid_group. `None`: no such group.
#[must_use]
pub fn group_id(name: &str) -> Option<u32> {
    Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
}

/// Confines this process. Call it before there are threads. Afterwards the working directory is the queue
/// directory (which is `/` under chroot), the umask is 077, no capability is left, and no program that it runs can gain
/// privileges.
///
/// `program` says what the process is, such as `QMQP server`, in the error about a process that would stay root.
///
/// # Errors
/// [`JailError::Root`] before anything is changed. Any other error leaves the process half confined: it must exit.
pub fn enter(plan: &JailPlan, program: &str) -> Result<(), JailError> {
    if plan.owner.is_none() && Uid::effective().is_root() {
        return Err(JailError::Root { program: program.to_owned() });
    }
    umask(Mode::from_bits_truncate(0o077));
    let directory = plan.queue_directory.display();
    let step = |what: String| move |errno: nix::Error| JailError::Step { step: what, source: errno.into() };
    nix::unistd::chdir(&plan.queue_directory)
        .map_err(step(format!("change to queue_directory {directory}")))?;
    if let Some(owner) = &plan.owner {
        let groups: Vec<Gid> = owner.group_ids.iter().copied().map(Gid::from_raw).collect();
        nix::unistd::setgid(Gid::from_raw(owner.group_id))
            .map_err(step(format!("set group ID {} of user {}", owner.group_id, owner.name)))?;
        nix::unistd::setgroups(&groups).map_err(step(format!("set the groups of user {}", owner.name)))?;
    }
    if plan.chroot {
        nix::unistd::chroot(".").map_err(step(format!(
            "chroot to {directory} (it needs root or CAP_SYS_CHROOT; otherwise write n into the chroot \
             column of the master.cf line)"
        )))?;
        nix::unistd::chdir("/").map_err(step("change to / after chroot".to_owned()))?;
    }
    if let Some(owner) = &plan.owner {
        nix::unistd::setuid(Uid::from_raw(owner.user_id))
            .map_err(step(format!("set user ID {} of user {}", owner.user_id, owner.name)))?;
        verify(owner)?;
    }
    drop_capabilities().map_err(step("drop all capabilities".to_owned()))?;
    nix::sys::prctl::set_no_new_privs()
        .map_err(step("forbid new privileges (PR_SET_NO_NEW_PRIVS)".to_owned()))
}

/// Those that a service manager gave to a process that was never root, to bind a low port; root's are gone by now.
fn drop_capabilities() -> Result<(), nix::Error> {
    let errno = |error: rustix::io::Errno| nix::Error::from_raw(error.raw_os_error());
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    if rustix::thread::capabilities(None).map_err(errno)? != none {
        rustix::thread::clear_ambient_capability_set().map_err(errno)?;
        rustix::thread::set_capabilities(None, none).map_err(errno)?;
    }
    Ok(())
}

/// That all three IDs are the owner's and that root stays out of reach.
fn verify(owner: &Owner) -> Result<(), JailError> {
    let regained = || JailError::Regained { name: owner.name.clone() };
    let step =
        |errno: nix::Error| JailError::Step { step: "read the user IDs".to_owned(), source: errno.into() };
    let users = nix::unistd::getresuid().map_err(step)?;
    let groups = nix::unistd::getresgid().map_err(step)?;
    let user = Uid::from_raw(owner.user_id);
    let group = Gid::from_raw(owner.group_id);
    let all_dropped = [users.real, users.effective, users.saved].iter().all(|id| *id == user)
        && [groups.real, groups.effective, groups.saved].iter().all(|id| *id == group);
    let root_again =
        nix::unistd::setuid(Uid::from_raw(0)).is_ok() || nix::unistd::seteuid(Uid::from_raw(0)).is_ok();
    if all_dropped && !root_again { Ok(()) } else { Err(regained()) }
}

/// Raises the limit of open files to `wanted`, or as far as the system lets us; returns what it is now. Also
/// lifts the limit on file sizes, as master(8) does. Call it before [`enter`]: root may raise the hard limit.
pub fn raise_limits(wanted: u64) -> u64 {
    let size = getrlimit(Resource::Fsize);
    let _kept_if_refused =
        setrlimit(Resource::Fsize, Rlimit { current: size.maximum, maximum: size.maximum });
    let now = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= wanted);
    if enough(now.current) {
        return now.current.unwrap_or(u64::MAX);
    }
    if enough(now.maximum) {
        let _kept_if_refused =
            setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: now.maximum });
    } else if setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: Some(wanted) }).is_err() {
        let _kept_if_refused =
            setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_refused_in_postfix_words() {
        let refusal = Owner::find("mail_owner", "root").unwrap_err().to_string();
        assert!(refusal.starts_with("parameter mail_owner: user root has privileged user ID"), "{refusal}");
    }

    #[test]
    fn an_unknown_user_is_refused_in_postfix_words() {
        let refusal = Owner::find("mail_owner", "no-such-user-here").unwrap_err().to_string();
        assert!(
            refusal.starts_with("parameter mail_owner: unknown user name value: no-such-user-here"),
            "{refusal}"
        );
    }

    #[test]
    fn open_files_can_be_raised_within_the_hard_limit() {
        let before = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        assert!(raise_limits(1) >= before.min(1), "never lowered");
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), before);
    }
}
