//! Two processes in place of one, under Postfix's master(8).
//!
//! That master starts a successor only when the process that it knows has ended, and a process with many clients
//! cannot end at once without cutting them off. So the process that the master knows does no work: it forks a
//! worker, waits, and ends as soon as a successor is wanted, while the worker serves its last clients to their end.
//!
//! ```text
//! master ── status channel ──┬── known process   ends: channel closed, worker drains, worker ends, SIGTERM
//!                            └── worker          drains: known process gone, table changed
//! ```
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe2};

use crate::jail::{Calls, JailError, Sandbox};

/// Who we are after [`split`].
#[derive(Debug)]
pub(super) enum Role {
    /// The one that serves.
    Worker(WorkerLink),
    /// The one that the master knows; it has nothing left to do, and this is its exit status.
    Known(ExitCode),
}

/// What ties a worker to the process that the master knows. Dropping it sets that process free: the master will see it
/// end, and start a successor.
#[derive(Debug)]
pub(super) struct WorkerLink {
    /// The process ID that the master knows, for status messages.
    pub(super) known_process_id: u32,
    /// Closed when the known process ends.
    pub(super) known_process: OwnedFd,
    /// When it is closed, for whatever reason, the known process learns that we drain.
    pub(super) draining: OwnedFd,
}

/// Why there is no worker, or why it came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum SplitError {
    /// A system call failed.
    #[error("fork a worker: {0}")]
    System(#[from] io::Error),
    /// A thread was started before the fork: a fault of this program.
    #[error("fork a worker: the process has more than one thread already")]
    Threads,
    /// The process that waits cannot be confined to waiting.
    #[error(transparent)]
    Jail(#[from] JailError),
}

impl From<nix::Error> for SplitError {
    fn from(error: nix::Error) -> Self {
        Self::System(error.into())
    }
}

/// Forks. Call it while there is one thread, when all is opened and no privilege is left. `status` is the channel to the
/// master. The process that the master knows keeps the system calls that it needs to wait; the worker still has all.
pub(super) fn split(status: &OwnedFd, sandbox: &Sandbox) -> Result<Role, SplitError> {
    let (known_process, _kept_by_known) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let (worker, draining) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    // Blocked from before the fork, so that no SIGTERM falls between it and the descriptor that receives it.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), Some(&mut before))?;
    let known_process_id = std::process::id();
    must_have_one_thread()?;
    // SAFETY: the process has one thread: no lock can be held by a thread that the child does not have.
    match unsafe { fork() }? {
        ForkResult::Child => {
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
            Ok(Role::Worker(WorkerLink { known_process_id, known_process, draining }))
        }
        ForkResult::Parent { child } => {
            drop((known_process, draining));
            sandbox.restrict_calls(Calls::WaitFor { child: child.as_raw() })?;
            Ok(Role::Known(wait(status, &worker, child, &signals)?))
        }
    }
}

/// Asks the system whether this thread is the only one. It needs no file, as behind a jail there is no /proc: to take the address
/// space away from other threads does nothing where there are none, and is invalid where there are some.
fn must_have_one_thread() -> Result<(), SplitError> {
    match nix::sched::unshare(nix::sched::CloneFlags::CLONE_VM) {
        Err(nix::Error::EINVAL) => Err(SplitError::Threads),
        // A container may forbid the call altogether, which says nothing.
        _ => Ok(()),
    }
}

/// The life of the known process.
fn wait(status: &OwnedFd, worker: &OwnedFd, child: Pid, signals: &SigSet) -> io::Result<ExitCode> {
    let signals = SignalFd::with_flags(signals, SfdFlags::SFD_CLOEXEC)?;
    loop {
        let watch = |descriptor| PollFd::new(descriptor, PollFlags::POLLIN);
        let mut watched = [watch(status.as_fd()), watch(worker.as_fd()), watch(signals.as_fd())];
        match poll(&mut watched, PollTimeout::NONE) {
            Ok(_) => {}
            Err(nix::Error::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let [master_closed, worker_closed, terminated] = watched.map(|each| each.any().unwrap_or(true));
        match (Noticed { terminated, worker_closed, master_closed }).step() {
            Step::Wait => {}
            Step::FollowWorker => {
                return Ok(if gave_way(worker) { ExitCode::SUCCESS } else { exit_code_of(child) });
            }
            Step::End if !is_removed(&signals) => return Ok(ExitCode::SUCCESS),
            Step::End | Step::Terminate => {
                // Its exit status is ours: the master waits until both are gone.
                let _ = kill(child, Signal::SIGTERM);
                return Ok(exit_code_of(child));
            }
        }
    }
}

/// What the known process has noticed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Noticed {
    /// SIGTERM.
    pub(super) terminated: bool,
    /// The worker drains, or is gone.
    pub(super) worker_closed: bool,
    /// The master wants a successor, or is gone.
    pub(super) master_closed: bool,
}

/// What the known process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing yet.
    Wait,
    /// Passes SIGTERM on to the worker, and ends as that does.
    Terminate,
    /// Ends, so that a successor can start; with a worker that died, as that did.
    FollowWorker,
    /// Ends, which the worker will notice, unless a SIGTERM follows at once.
    End,
}

impl Noticed {
    pub(super) const fn step(self) -> Step {
        if self.terminated {
            Step::Terminate
        } else if self.worker_closed {
            Step::FollowWorker
        } else if self.master_closed {
            Step::End
        } else {
            Step::Wait
        }
    }
}

/// Whether the channel was closed because the service is gone from master.cf: then SIGTERM follows at once, and the worker,
/// which the master does not know, has to hear of it too. The worker goes on accepting meanwhile, so that waiting here
/// holds up no client.
fn is_removed(signals: &SignalFd) -> bool {
    let mut watched = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut watched, PollTimeout::from(REMOVAL_SIGNAL_DELAY_MAX_MILLISECONDS)), Ok(1..))
}

/// Whether the worker said so before it closed its end, or just died.
fn gave_way(worker: &OwnedFd) -> bool {
    let mut word = [0];
    matches!(nix::unistd::read(worker, &mut word), Ok(1))
}

fn exit_code_of(child: Pid) -> ExitCode {
    match waitpid(child, None) {
        Ok(WaitStatus::Exited(_, 0)) => ExitCode::SUCCESS,
        Ok(_) | Err(_) => ExitCode::FAILURE,
    }
}

/// How long after the end of the channel a master's SIGTERM may come: it sends it with its next system calls.
const REMOVAL_SIGNAL_DELAY_MAX_MILLISECONDS: u8 = 100;

impl WorkerLink {
    /// Says that a successor may be started, and lets the known process end.
    pub(super) fn begin_drain(self) {
        // If it is not read, the known process has ended already.
        let _ = nix::unistd::write(&self.draining, b"g");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test programs have a thread for each test, and one that waits for them.
    #[test]
    fn a_process_with_threads_does_not_fork() {
        let other = std::thread::spawn(std::thread::park);
        let refusal = must_have_one_thread();
        other.thread().unpark();
        other.join().unwrap();
        // Where the system does not answer, there is nothing to refuse.
        if nix::sched::unshare(nix::sched::CloneFlags::empty()).is_ok() {
            assert!(matches!(refusal, Err(SplitError::Threads)), "{refusal:?}");
        }
    }
}
