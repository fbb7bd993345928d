//! What a service process can still do behind the jail: system calls by seccomp, files and ports by Landlock.
//!
//! Both bind the process itself, for ever, and need no privilege. A kernel that lacks one of them is no reason not to
//! serve: user, root directory and capabilities are gone in any case. But the log says what is in force, and warns of what
//! is not.

use postfix::settings::Settings;

use super::layer::{Calls, Layer};
use super::needs::Needs;
use super::{JailError, JailPlan, landlock, system_calls};

/// What holds a service process behind its jail, and what it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// `seccomp` in qmqpd_sandbox.
    pub seccomp: bool,
    /// `landlock` in qmqpd_sandbox.
    pub landlock: bool,
    /// Files and ports that stay in reach.
    pub needs: Needs,
}

impl Sandbox {
    /// For a process with these settings that needs this.
    #[must_use]
    pub fn new(settings: &Settings, needs: Needs) -> Self {
        Self {
            seccomp: settings.qmqpd_sandbox.contains("seccomp"),
            landlock: settings.qmqpd_sandbox.contains("landlock"),
            needs,
        }
    }

    /// For a process that only tells its clients to come again: no file, no port.
    #[must_use]
    pub fn closed() -> Self {
        Self { seccomp: true, landlock: true, needs: Needs::default() }
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
        landlock::restrict(&self.needs)
    }

    /// Takes system calls away, but for those of `calls`. Call it while there is one thread, last of all.
    ///
    /// # Errors
    /// The kernel has seccomp, and it cannot be put in force.
    pub fn restrict_calls(&self, calls: Calls) -> Result<Layer, JailError> {
        if !self.seccomp {
            return Ok(Layer::Off);
        }
        system_calls::restrict(calls, self.needs.resolves_by_libc)
    }
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
