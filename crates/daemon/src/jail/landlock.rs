//! Landlock: the files that a process can open and the TCP ports that it can use.
//!
//! Everything that the rules know is denied, and a few directories are given back. Local sockets are no files to it: the
//! log, cleanup(8), qmgr(8) and proxymap(8) stay in reach, by the permissions of their directories.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    PathBeneath, PathFd, PathFdError, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
    Scope, make_bitflags,
};

use super::JailError;
use super::layer::Layer;
use super::needs::Needs;

/// The newest rules that we have thought about: devices with 5, local sockets without a name and signals with 6. Older
/// kernels leave out what they lack; newer ones are not asked for more.
const NEWEST: ABI = ABI::V6;

/// Where the C library finds what it reads and loads to look up a name.
const LIBC_DIRECTORIES: [&str; 8] =
    ["/etc", "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/run/systemd/resolve", "/run/nscd", "/var/lib/sss"];

pub(super) fn restrict(needs: &Needs) -> Result<Layer, JailError> {
    let failed = |error: &dyn std::fmt::Display| JailError::Sandbox {
        layer: "Landlock",
        keyword: "landlock",
        reason: error.to_string(),
    };
    if !knows(AccessFs::Refer) {
        let reason = if knows(AccessFs::ReadFile) {
            "this kernel's is too old (ABI 1): it needs Linux 5.19 or later"
        } else {
            "this kernel does not support it, or hides it: it needs Linux 5.19 or later, built with \
             CONFIG_SECURITY_LANDLOCK, landlock among lsm= on its command line, and no outer filter"
        };
        return Ok(Layer::Missing(reason.to_owned()));
    }
    let rules = rules(needs).map_err(|error| failed(&error))?;
    let status = rules.restrict_self().map_err(|error| failed(&error))?;
    match status.landlock {
        LandlockStatus::Available { kernel_abi: Some(newer), .. } => {
            Ok(Layer::InForce { version: format!("ABI {newer}") })
        }
        LandlockStatus::Available { effective_abi, .. } => {
            Ok(Layer::InForce { version: format!("ABI {effective_abi}") })
        }
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => Err(failed(&"it is gone")),
    }
}

/// Whether the kernel has rules about such access. The oldest that is of use knows [`AccessFs::Refer`]: before it no file
/// could be renamed from one directory to another, rules or not, and queue files are.
fn knows(access: AccessFs) -> bool {
    Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(access).is_ok()
}

/// A rule that cannot be made.
#[derive(Debug, thiserror::Error)]
enum RuleError {
    #[error(transparent)]
    Rule(#[from] RulesetError),
    #[error(transparent)]
    Path(#[from] PathFdError),
}

fn rules(needs: &Needs) -> Result<RulesetCreated, RuleError> {
    let queue = make_bitflags!(AccessFs::{
        ReadFile | WriteFile | Truncate | ReadDir | MakeReg | MakeDir | RemoveFile | Refer
    });
    let logs = make_bitflags!(AccessFs::{ReadDir | RemoveFile});
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let network =
        if needs.connects_to_any_port { AccessNet::BindTcp.into() } else { AccessNet::from_all(NEWEST) };
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(network)?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    // What is missing cannot be used either; that `incoming` is there has been looked at.
    for directory in needs.spool_directories.iter().filter(|directory| directory.is_dir()) {
        rules = below(rules, directory, queue)?;
    }
    for directory in needs.log_directories.iter().filter(|directory| directory.is_dir()) {
        rules = below(rules, directory, logs)?;
    }
    for directory in needs.pipe_directories.iter().filter(|directory| directory.is_dir()) {
        rules = below(rules, directory, AccessFs::WriteFile.into())?;
    }
    if needs.resolves_by_libc {
        for directory in LIBC_DIRECTORIES.map(Path::new).iter().filter(|directory| directory.is_dir()) {
            rules = below(rules, directory, read)?;
        }
    }
    for port in needs.tcp_ports.iter().filter(|_| !needs.connects_to_any_port) {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    Ok(rules)
}

fn below(
    rules: RulesetCreated,
    directory: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RuleError> {
    Ok(rules.add_rule(PathBeneath::new(PathFd::new(directory)?, access))?)
}
