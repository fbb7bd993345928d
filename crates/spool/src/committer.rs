//! Threads of our own that talk to the disk, so that no other thread waits for it.
//!
//! An fsync(2) of one file makes a journalling file system commit everything that is under way, so threads that
//! sync at the same time share that work: this is how commits are grouped, without a timer. With a
//! [journal](crate::journal) of ours they pass their messages to the thread that writes to it.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};

use postfix::notice::Notice;

use crate::disk::{Disk, Timestamp};
use crate::draft::Draft;
use crate::error::SpoolError;
use crate::receipt::{Done, Receipt};
use crate::spool::Spool;
use crate::sync::{JoinHandle, Mutex, MutexGuard, Thread, thread};

/// One thing to do with the disk. Jobs run in any order; a caller that needs an order waits for one before it submits the next.
pub enum Job<D: Disk> {
    /// [`Spool::create`].
    Create {
        /// Gets the new draft.
        done: Done<Result<Draft<D>, SpoolError>>,
    },
    /// A message from its draft to its end, in one go: where that is possible it costs one job instead of three.
    Whole {
        /// Gets the new draft, and does what is to be done with it: unlike a callback it may take its time.
        work: Box<dyn FnOnce(Result<Draft<D>, SpoolError>) + Send>,
    },
    /// [`Draft::write_at`].
    Write {
        /// Where to.
        draft: Draft<D>,
        /// The offset in the file.
        offset: u64,
        /// What to write; handed back for reuse.
        bytes: Vec<u8>,
        /// Gets draft and buffer back, with the outcome.
        done: Done<Written<D>>,
    },
    /// Some last writes, each with its offset, then [`Draft::commit`].
    Commit {
        /// The message.
        draft: Draft<D>,
        /// What is still to be written; a small message comes whole.
        writes: Vec<(u64, Vec<u8>)>,
        /// Gets the proof, or the error.
        done: Done<Result<Receipt, SpoolError>>,
    },
    /// Drops a draft: removes its file.
    Discard {
        /// The message that is not to be.
        draft: Draft<D>,
        /// Is told when it is gone.
        done: Done<()>,
    },
}

/// What comes back from [`Job::Write`].
#[derive(Debug)]
pub struct Written<D: Disk> {
    /// The draft.
    pub draft: Draft<D>,
    /// The buffer, with the bytes still in it.
    pub bytes: Vec<u8>,
    /// Whether they are written.
    pub outcome: Result<(), SpoolError>,
}

impl<D: Disk> fmt::Debug for Job<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create { .. } => "Create",
            Self::Whole { .. } => "Whole",
            Self::Write { .. } => "Write",
            Self::Commit { .. } => "Commit",
            Self::Discard { .. } => "Discard",
        })
    }
}

/// A job was not taken. It comes back with the error; dropping it discards its draft.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Refused<D: Disk> {
    /// Why.
    pub reason: Reason,
    /// The job, untouched.
    pub job: Box<Job<D>>,
}

/// Why a job was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// As many jobs wait as may wait.
    #[error("the disk is too slow: too many writes are waiting for it")]
    Full,
    /// [`Committers::shut_down`] was called.
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// The threads and the queue before them. Dropping it is [`Committers::shut_down`].
pub struct Committers<D: Disk> {
    shared: Arc<Shared<D>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Makes the checkpoints of a journal, if there is one.
    checkpoints: Mutex<Option<JoinHandle<()>>>,
}

struct Shared<D: Disk> {
    spool: Spool<D>,
    clock: Clock,
    waiting_jobs_max: usize,
    waiting: Mutex<JobQueue<D>>,
}

struct JobQueue<D: Disk> {
    jobs: VecDeque<Job<D>>,
    is_shutting_down: bool,
    /// Threads that sleep, or are about to. The last one to fall asleep is woken first: what it works with is still near
    /// its processor.
    asleep: Vec<Thread>,
    /// One of them was woken and has not looked yet. It wakes the next one if there is more to do, so that a caller that hands
    /// in many jobs pays for one wake-up; and a thread that is awake anyway may have taken the job by then.
    is_waking: bool,
}

impl<D: Disk> JobQueue<D> {
    /// Whom the caller has to wake, once it has let go of the lock.
    fn next_to_wake(&mut self) -> Option<Thread> {
        if self.jobs.is_empty() || self.is_waking {
            return None;
        }
        let thread = self.asleep.pop()?;
        self.is_waking = true;
        Some(thread)
    }
}

/// Tells the time, on any thread.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

impl<D: Disk> Committers<D> {
    /// Starts so many threads (at least one), before which at most `waiting_jobs_max` jobs wait.
    ///
    /// # Errors
    /// The system gives no more threads. Those that were started end again.
    pub fn start(spool: Spool<D>, clock: Clock, threads: usize, waiting_jobs_max: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            spool,
            clock,
            waiting_jobs_max,
            waiting: Mutex::new(JobQueue {
                jobs: VecDeque::new(),
                is_shutting_down: false,
                asleep: Vec::new(),
                is_waking: false,
            }),
        });
        let committers =
            Self { shared, threads: Mutex::new(Vec::with_capacity(threads)), checkpoints: Mutex::new(None) };
        let spool = committers.shared.spool.clone();
        if spool.has_journal() {
            let builder = thread::Builder::new().name("checkpoint".to_owned());
            *lock(&committers.checkpoints) = Some(builder.spawn(move || spool.run_checkpoints())?);
        }
        for number in 0..threads.max(1) {
            let shared = Arc::clone(&committers.shared);
            let thread =
                thread::Builder::new().name(format!("committer {number}")).spawn(move || shared.work())?;
            lock(&committers.threads).push(thread);
        }
        Ok(committers)
    }

    /// Hands a job over. Never waits.
    ///
    /// # Errors
    /// Too many jobs wait already, or no more are taken; the job comes back.
    pub fn submit(&self, job: Job<D>) -> Result<(), Refused<D>> {
        let mut waiting = lock(&self.shared.waiting);
        let reason = if waiting.is_shutting_down {
            Reason::ShuttingDown
        } else if waiting.jobs.len() >= self.shared.waiting_jobs_max {
            Reason::Full
        } else {
            waiting.jobs.push_back(job);
            let next = waiting.next_to_wake();
            drop(waiting);
            next.iter().for_each(Thread::unpark);
            return Ok(());
        };
        drop(waiting);
        Err(Refused { reason, job: Box::new(job) })
    }

    /// How many jobs wait for a thread.
    #[must_use]
    pub fn waiting_jobs(&self) -> usize {
        lock(&self.shared.waiting).jobs.len()
    }

    /// The spool that the threads work for.
    #[must_use]
    pub fn spool(&self) -> &Spool<D> {
        &self.shared.spool
    }

    /// Takes no more jobs, and returns when all that were taken are done, and a journal is no longer needed.
    pub fn shut_down(&self) {
        let asleep = {
            let mut waiting = lock(&self.shared.waiting);
            waiting.is_shutting_down = true;
            std::mem::take(&mut waiting.asleep)
        };
        asleep.iter().for_each(Thread::unpark);
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            // The last owner can be a callback, on one of these threads: it cannot wait for itself.
            if thread.thread().id() != thread::current().id() {
                // A thread that panicked outside a job has nothing left to do.
                let _ = thread.join();
            }
        }
        self.shared.spool.stop_checkpoints();
        if let Some(checkpoints) = lock(&self.checkpoints).take() {
            let _ = checkpoints.join();
            self.shared.spool.close_journal();
        }
    }
}

impl<D: Disk> Drop for Committers<D> {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl<D: Disk> fmt::Debug for Committers<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committers").field("waiting_jobs", &self.waiting_jobs()).finish_non_exhaustive()
    }
}

impl<D: Disk> Shared<D> {
    /// The life of a thread.
    fn work(&self) {
        while let Some(job) = self.next() {
            // A callback that panics must not take the thread along: its job's owner sees the callback dropped.
            if catch_unwind(AssertUnwindSafe(|| self.run(job))).is_err() {
                self.spool.notify(Notice::panic("committer: a job panicked"));
            }
        }
    }

    /// Waits for a job; `None` when there will be no more.
    fn next(&self) -> Option<Job<D>> {
        let mut waiting = lock(&self.waiting);
        loop {
            if let Some(job) = waiting.jobs.pop_front() {
                let next = waiting.next_to_wake();
                drop(waiting);
                next.iter().for_each(Thread::unpark);
                return Some(job);
            }
            if waiting.is_shutting_down {
                return None;
            }
            waiting = self.sleep(waiting);
        }
    }

    /// Sleeps until another thread has taken this one off the list.
    fn sleep<'s>(&'s self, mut waiting: MutexGuard<'s, JobQueue<D>>) -> MutexGuard<'s, JobQueue<D>> {
        let own = thread::current();
        waiting.asleep.push(own.clone());
        loop {
            drop(waiting);
            thread::park();
            waiting = lock(&self.waiting);
            // It may have woken for another reason than us.
            if !waiting.asleep.iter().any(|thread| thread.id() == own.id()) {
                waiting.is_waking = false;
                return waiting;
            }
        }
    }

    fn run(&self, job: Job<D>) {
        match job {
            Job::Create { done } => done(self.spool.create(&*self.clock)),
            Job::Whole { work } => work(self.spool.create(&*self.clock)),
            Job::Write { mut draft, offset, bytes, done } => {
                let outcome = draft.write_at(offset, &bytes);
                done(Written { draft, bytes, outcome });
            }
            Job::Commit { draft, mut writes, done } if matches!(writes.as_slice(), [(0, _)]) => {
                let (_, bytes) = writes.pop().unwrap_or_default();
                draft.commit_whole(bytes, done);
            }
            Job::Commit { mut draft, writes, done } => {
                let written = writes.iter().try_for_each(|(offset, bytes)| draft.write_at(*offset, bytes));
                done(written.and_then(|()| draft.commit()));
            }
            Job::Discard { draft, done } => {
                drop(draft);
                done(());
            }
        }
    }
}

/// No code of ours panics while it holds one of these locks, and what they guard is valid at every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
