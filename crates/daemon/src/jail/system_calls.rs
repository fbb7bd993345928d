//! seccomp: the system calls that a process can still make.
//!
//! Four filters, of which the strictest answer counts:
//!
//! - what no honest part of this program asks for by accident (another program, another user, other processes, the
//!   kernel itself) ends the process at once: only an intruder makes them;
//! - a socket of a family that we do not speak fails with EAFNOSUPPORT;
//! - a call that is allowed in one form only fails with EPERM in the others: threads but no processes, memory but
//!   none that can be run, its own resource limits to read but not to set; mode and times of a file that is open,
//!   and no mode that lets others in, since Landlock knows nothing of either;
//! - whatever is in no list fails with ENOSYS, as on an older kernel. The C library has a way round calls that are
//!   not there, and a new version of it must not end a server by trying a new call.

use std::collections::BTreeMap;

use nix::libc::{self, c_long};
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

use super::JailError;
use super::layer::{Calls, Layer};

/// What serving takes: files, sockets, threads, memory, time.
#[rustfmt::skip]
const SERVE: &[c_long] = &[
    // Files of the queue; writes, locks and syncs.
    libc::SYS_openat, libc::SYS_close, libc::SYS_close_range, libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev,
    libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_preadv, libc::SYS_pwritev, libc::SYS_preadv2, libc::SYS_pwritev2,
    libc::SYS_lseek, libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx, libc::SYS_statfs, libc::SYS_fstatfs,
    libc::SYS_getdents64, libc::SYS_renameat, libc::SYS_renameat2, libc::SYS_linkat, libc::SYS_unlinkat, libc::SYS_mkdirat,
    libc::SYS_fchmod, libc::SYS_utimensat, libc::SYS_ftruncate, libc::SYS_fallocate,
    libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_sync_file_range, libc::SYS_syncfs, libc::SYS_flock,
    libc::SYS_fcntl, libc::SYS_ioctl, libc::SYS_dup, libc::SYS_dup3, libc::SYS_getcwd, libc::SYS_readlinkat,
    libc::SYS_faccessat, libc::SYS_faccessat2,
    // io::copy between a pipe or a file and a session.
    libc::SYS_sendfile, libc::SYS_splice, libc::SYS_copy_file_range,
    // Clients, name servers, tables, the log.
    libc::SYS_socket, libc::SYS_socketpair, libc::SYS_bind, libc::SYS_connect, libc::SYS_accept, libc::SYS_accept4,
    libc::SYS_shutdown, libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_getsockopt, libc::SYS_setsockopt,
    libc::SYS_sendto, libc::SYS_recvfrom, libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_sendmmsg, libc::SYS_recvmmsg,
    libc::SYS_pipe2, libc::SYS_eventfd2, libc::SYS_ppoll, libc::SYS_pselect6,
    libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2,
    // Threads.
    libc::SYS_clone, libc::SYS_set_robust_list, libc::SYS_get_robust_list, libc::SYS_rseq, libc::SYS_set_tid_address,
    libc::SYS_futex, libc::SYS_membarrier, libc::SYS_sched_yield, libc::SYS_sched_getaffinity, libc::SYS_getcpu, libc::SYS_prctl,
    libc::SYS_gettid, libc::SYS_tgkill, libc::SYS_exit, libc::SYS_exit_group, libc::SYS_restart_syscall,
    // Memory.
    libc::SYS_brk, libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_mprotect, libc::SYS_madvise,
    // Signals, time, who and where we are.
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_sigaltstack,
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_gettimeofday, libc::SYS_nanosleep, libc::SYS_clock_nanosleep,
    libc::SYS_getrandom, libc::SYS_getpid, libc::SYS_getppid, libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid,
    libc::SYS_getegid, libc::SYS_uname, libc::SYS_sysinfo, libc::SYS_getrusage, libc::SYS_prlimit64,
];

/// The older forms that the C libraries of this architecture still use.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const SERVE_OLDER: &[c_long] = &[
    libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink, libc::SYS_rename, libc::SYS_unlink,
    libc::SYS_mkdir, libc::SYS_pipe, libc::SYS_dup2, libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_wait,
    libc::SYS_epoll_create, libc::SYS_eventfd, libc::SYS_getrlimit, libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const SERVE_OLDER: &[c_long] = &[];

/// What the process that waits for its worker makes besides.
const WAIT: &[c_long] = &[libc::SYS_kill, libc::SYS_wait4, libc::SYS_waitid, libc::SYS_signalfd4];

/// Only an intruder makes these calls.
#[rustfmt::skip]
const NEVER: &[c_long] = &[
    // Another program, another process.
    libc::SYS_execve, libc::SYS_execveat, libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd, libc::SYS_kcmp,
    // Another user.
    libc::SYS_setuid, libc::SYS_setgid, libc::SYS_setreuid, libc::SYS_setregid, libc::SYS_setresuid, libc::SYS_setresgid,
    libc::SYS_setfsuid, libc::SYS_setfsgid, libc::SYS_setgroups, libc::SYS_capset,
    // Another root directory, other mounts and namespaces.
    libc::SYS_chroot, libc::SYS_pivot_root, libc::SYS_mount, libc::SYS_umount2, libc::SYS_open_tree, libc::SYS_move_mount,
    libc::SYS_fsopen, libc::SYS_fsmount, libc::SYS_mount_setattr, libc::SYS_unshare, libc::SYS_setns, libc::SYS_mknodat,
    libc::SYS_open_by_handle_at,
    // The kernel.
    libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module, libc::SYS_kexec_load, libc::SYS_bpf,
    libc::SYS_perf_event_open, libc::SYS_userfaultfd, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register, libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl, libc::SYS_reboot,
    libc::SYS_swapon, libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_sethostname, libc::SYS_memfd_create,
];

/// Families of sockets: clients, name servers and tables; the log, Postfix's services and tables on this machine.
const FAMILIES: [libc::c_int; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

/// What the runtime and the C library ask about descriptors.
const IOCTLS: [libc::Ioctl; 5] =
    [libc::FIONBIO, libc::FIONREAD, libc::FIOCLEX, libc::TCGETS, libc::TIOCGWINSZ];

/// Duplicates, flags and locks. Not who is signalled when a descriptor is ready, with any signal: that reaches other processes of
/// the same user.
#[rustfmt::skip]
const FCNTLS: [libc::c_int; 12] = [
    libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL, libc::F_GETLK,
    libc::F_SETLK, libc::F_SETLKW, libc::F_OFD_GETLK, libc::F_OFD_SETLK, libc::F_OFD_SETLKW,
];

/// Mode bits that no file or directory of ours gets while clients are served: what the group and all others may do, and
/// set-user-ID.
const OTHERS_BITS: [u64; 7] = [0o001, 0o002, 0o004, 0o010, 0o020, 0o040, 0o4000];

/// Programs that look at what arrives: on the listening socket, which all processes share, one would outlive the process that
/// put it there, and keep clients away. Nor does the process choose the interface or the routing mark of its packets.
const SOCKET_FILTERS: [libc::c_int; 8] = [
    libc::SO_ATTACH_FILTER,
    libc::SO_ATTACH_BPF,
    libc::SO_ATTACH_REUSEPORT_CBPF,
    libc::SO_ATTACH_REUSEPORT_EBPF,
    libc::SO_DETACH_FILTER,
    libc::SO_LOCK_FILTER,
    libc::SO_BINDTODEVICE,
    libc::SO_MARK,
];

/// Names for threads and for memory, which the standard library and the C library give; and what comes before each
/// further filter, which only takes away.
const PRCTLS: [libc::c_int; 4] =
    [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA, libc::PR_SET_NO_NEW_PRIVS];

pub(super) fn restrict(calls: Calls, loads_modules: bool) -> Result<Layer, JailError> {
    let failed = |error: &dyn std::fmt::Display| JailError::Sandbox {
        layer: "seccomp",
        keyword: "seccomp",
        reason: error.to_string(),
    };
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else {
        return Ok(Layer::Missing(format!("there is no filter for {}", std::env::consts::ARCH)));
    };
    let programs = programs(calls, loads_modules, arch).map_err(|error| failed(&error))?;
    for (at, program) in programs.iter().enumerate() {
        match apply_filter(program) {
            Ok(()) => {}
            // Where one filter is in force, there is seccomp.
            Err(Error::Seccomp(error)) if at == 0 && is_missing(&error) => {
                let reason = "this kernel does not support it, or an outer filter hides it: it needs \
                 CONFIG_SECCOMP_FILTER";
                return Ok(Layer::Missing(reason.to_owned()));
            }
            Err(error) => return Err(failed(&error)),
        }
    }
    Ok(Layer::InForce { version: String::new() })
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::EPERM))
}

/// The filters, in the order in which they must come: the last one takes away the call that puts them in force.
fn programs(calls: Calls, loads_modules: bool, arch: TargetArch) -> Result<Vec<BpfProgram>, BackendError> {
    let number = |error: i32| SeccompAction::Errno(error.unsigned_abs());
    let allow = SeccompAction::Allow;
    let never = all(NEVER.iter().copied());
    let listed = SERVE.iter().chain(SERVE_OLDER);
    let listed = match calls {
        Calls::Serve => all(listed.copied()),
        Calls::WaitFor { .. } => all(listed.chain(WAIT).copied()),
    };
    [
        (never, allow.clone(), SeccompAction::KillProcess),
        (families()?, allow.clone(), number(libc::EAFNOSUPPORT)),
        (forms(calls, loads_modules)?, allow.clone(), number(libc::EPERM)),
        (listed, number(libc::ENOSYS), allow),
    ]
    .into_iter()
    .map(|(rules, otherwise, action)| SeccompFilter::new(rules, otherwise, action, arch)?.try_into())
    .collect()
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// These calls, whatever their arguments are.
fn all(calls: impl Iterator<Item = c_long>) -> Rules {
    calls.map(|call| (call, Vec::new())).collect()
}

/// Sockets of other families.
fn families() -> Result<Rules, BackendError> {
    let other = none_of(0, FAMILIES.iter().map(|family| u64::from(family.unsigned_abs())))?;
    Ok([libc::SYS_socket, libc::SYS_socketpair].map(|call| (call, vec![other.clone()])).into())
}

/// The forms that are denied of calls that are allowed.
fn forms(calls: Calls, loads_modules: bool) -> Result<Rules, BackendError> {
    use SeccompCmpArgLen::{Dword, Qword};
    let rule = |argument, length, operator, value| {
        SeccompRule::new(vec![SeccompCondition::new(argument, length, operator, value)?])
    };
    let flag = |flag: libc::c_int| u64::from(flag.unsigned_abs());
    let thread = flag(libc::CLONE_THREAD);
    let executable = flag(libc::PROT_EXEC);
    let own_process = u64::from(std::process::id());
    let mut rules = Rules::from([
        (libc::SYS_clone, vec![rule(0, Qword, SeccompCmpOp::MaskedEq(thread), 0)?]),
        (libc::SYS_tgkill, vec![rule(0, Dword, SeccompCmpOp::Ne, own_process)?]),
        // A name for an open file, never for one that has a name to look up.
        (libc::SYS_linkat, vec![rule(4, Dword, SeccompCmpOp::Ne, flag(libc::AT_EMPTY_PATH))?]),
        // A pointer to new limits.
        (libc::SYS_prlimit64, vec![rule(2, Qword, SeccompCmpOp::Ne, 0)?]),
        (libc::SYS_ioctl, vec![none_of(1, IOCTLS.iter().map(|&request| narrow(request)))?]),
        (libc::SYS_prctl, vec![none_of(0, PRCTLS.iter().map(|&option| flag(option)))?]),
        (libc::SYS_fcntl, vec![none_of(1, FCNTLS.iter().map(|&command| flag(command)))?]),
        // A path: no file but an open one, which Landlock has let us open.
        (libc::SYS_utimensat, vec![rule(1, Qword, SeccompCmpOp::Ne, 0)?]),
    ]);
    let lets_others_in = OTHERS_BITS.map(|bit| rule(1, Dword, SeccompCmpOp::MaskedEq(bit), bit));
    rules.insert(libc::SYS_fchmod, lets_others_in.into_iter().collect::<Result<_, _>>()?);
    let filters = SOCKET_FILTERS.iter().map(|&option| {
        let level = SeccompCondition::new(1, Dword, SeccompCmpOp::Eq, flag(libc::SOL_SOCKET))?;
        SeccompRule::new(vec![level, SeccompCondition::new(2, Dword, SeccompCmpOp::Eq, flag(option))?])
    });
    rules.insert(libc::SYS_setsockopt, filters.collect::<Result<_, _>>()?);
    if !loads_modules {
        for call in [libc::SYS_mmap, libc::SYS_mprotect] {
            rules.insert(call, vec![rule(2, Dword, SeccompCmpOp::MaskedEq(executable), executable)?]);
        }
    }
    if let Calls::WaitFor { child } = calls {
        let child = u64::from(child.unsigned_abs());
        rules.insert(libc::SYS_kill, vec![rule(0, Dword, SeccompCmpOp::Ne, child)?]);
    }
    Ok(rules)
}

/// That the argument, of 32 bits, has no value of these.
fn none_of(argument: u8, values: impl Iterator<Item = u64>) -> Result<SeccompRule, BackendError> {
    let differs = |value| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value);
    SeccompRule::new(values.map(differs).collect::<Result<_, _>>()?)
}

/// The number of an ioctl, whose type differs between C libraries.
#[expect(clippy::allow_attributes, reason = "needed with one C library and not with another")]
#[allow(clippy::unnecessary_cast, clippy::cast_sign_loss)]
const fn narrow(request: libc::Ioctl) -> u64 {
    request as u32 as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_in_two_lists() {
        let allowed = SERVE.iter().chain(SERVE_OLDER).chain(WAIT);
        let mut seen = std::collections::BTreeSet::new();
        for call in allowed.chain(NEVER) {
            assert!(seen.insert(call), "system call {call} stands twice");
        }
    }

    #[test]
    fn what_starts_programs_listens_or_changes_owners_is_not_allowed() {
        let allowed: Vec<_> = SERVE.iter().chain(SERVE_OLDER).collect();
        for call in [
            libc::SYS_execve,
            libc::SYS_clone3,
            libc::SYS_listen,
            libc::SYS_kill,
            libc::SYS_fchownat,
            libc::SYS_fchown,
            libc::SYS_fchmodat,
            libc::SYS_setxattr,
            libc::SYS_fsetxattr,
            libc::SYS_truncate,
            libc::SYS_symlinkat,
            libc::SYS_seccomp,
        ] {
            assert!(!allowed.contains(&&call), "system call {call}");
        }
    }

    /// Programs can be had for each kind of process on each architecture that there are filters for.
    #[test]
    fn the_filters_compile() {
        for arch in [TargetArch::x86_64, TargetArch::aarch64] {
            for calls in [Calls::Serve, Calls::WaitFor { child: 7 }] {
                for loads_modules in [false, true] {
                    assert_eq!(programs(calls, loads_modules, arch).unwrap().len(), 4);
                }
            }
        }
    }
}
