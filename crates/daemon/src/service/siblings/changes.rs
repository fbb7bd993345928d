//! How sessions say that a count has changed, without a system call and without waiting; and how the thread hears of it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Changes are told so long after the last exchange.
const INTERVAL: Duration = Duration::from_millis(100);

/// What brings a client near its limit, so long.
const INTERVAL_URGENT: Duration = Duration::from_millis(10);

const NONE: u8 = 0;
const SOME: u8 = 1;
const URGENT: u8 = 2;
const END: u8 = 3;

/// What there is to tell.
#[derive(Debug, Default)]
pub struct Changes {
    state: AtomicU8,
    /// Who tells it; without, nothing wakes up.
    thread: OnceLock<Thread>,
}

impl Changes {
    /// A count has changed.
    pub fn note(&self) {
        self.raise(SOME);
    }

    /// A client comes near a limit: the other processes have to know soon, and this one what they have to say.
    pub fn note_urgent(&self) {
        self.raise(URGENT);
    }

    /// There is one more exchange.
    pub(super) fn end(&self) {
        self.raise(END);
    }

    fn raise(&self, to: u8) {
        if self.state.load(Ordering::Acquire) >= to {
            return;
        }
        self.state.fetch_max(to, Ordering::AcqRel);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// The thread that calls this is woken from now on.
    pub(super) fn listen(&self) {
        let _once = self.thread.set(thread::current());
    }

    /// Waits until it is time for the next exchange after `last`; with `longest`, that is at the latest. False: it is the last one.
    pub(super) fn wait(&self, last: Instant, longest: Option<Duration>) -> bool {
        loop {
            let since = last.elapsed();
            let rest = match self.state.load(Ordering::Acquire) {
                END => return false,
                URGENT => Some(INTERVAL_URGENT.saturating_sub(since)),
                SOME => Some(INTERVAL.saturating_sub(since)),
                _ => longest.map(|longest| longest.saturating_sub(since)),
            };
            match rest {
                None => thread::park(),
                Some(rest) if rest.is_zero() => break,
                Some(rest) => thread::park_timeout(rest),
            }
        }
        // What comes from here on is for the next one; but the end is not forgotten.
        self.state.fetch_and(NONE, Ordering::AcqRel) < END
    }
}
