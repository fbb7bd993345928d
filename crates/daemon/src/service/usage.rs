//! How much a service process has been used: what `max_use` and `max_idle` ask.
//!
//! A process of ours serves many clients at a time: after a hundred of them it would make room for a fresh one fifty times a
//! second. So `max_use` counts from an age of `max_idle` on; and from ten times that age on a process makes room also when it
//! is never without a client.

use std::time::Duration;

use tokio::time::Instant;

use super::sync::{AtomicU64, Notify, Ordering, timeout};

/// The sessions that a process has served.
#[derive(Debug)]
pub struct Usage {
    /// `max_use`.
    sessions_max: u64,
    /// `max_idle`.
    idle_max: Duration,
    /// Before that age `max_use` does not count.
    age_min: Duration,
    began: Instant,
    sessions: AtomicU64,
    /// Since `began`.
    last_end_milliseconds: AtomicU64,
    /// The first session has ended, or one that is the `max_use`th or a later one. Between these no task waits for the end of
    /// a session, and it costs no wake-up.
    noteworthy: Notify,
}

impl Usage {
    /// A process that has not served a client yet.
    #[must_use]
    pub fn new(sessions_max: u64, idle_max: Duration, age_min: Duration) -> Self {
        Self {
            sessions_max,
            idle_max,
            age_min,
            began: Instant::now(),
            sessions: AtomicU64::new(0),
            last_end_milliseconds: AtomicU64::new(0),
            noteworthy: Notify::new(),
        }
    }

    /// A session has ended, and its place is free.
    pub fn session_ended(&self) {
        let milliseconds = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_end_milliseconds.store(milliseconds, Ordering::Release);
        let before = self.sessions.fetch_add(1, Ordering::AcqRel);
        if before == 0 || (before.saturating_add(1) >= self.sessions_max && self.is_old_enough()) {
            self.noteworthy.notify_waiters();
        }
    }

    /// How long this process has served.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    fn is_old_enough(&self) -> bool {
        self.began.elapsed() >= self.age_min
    }

    /// A permit was held without a client, and is free again. In between, this process counted as busy.
    pub(super) fn none_came(&self) {
        if self.sessions.load(Ordering::Acquire) >= self.sessions_max && self.is_old_enough() {
            self.noteworthy.notify_waiters();
        }
    }

    /// Waits until this process has served `max_use` clients and is old enough, or none for `max_idle`, while `is_idle`; or
    /// until it is far too old. `report_served` is called once a client was served.
    pub async fn limit_reached(&self, is_idle: impl Fn() -> bool, mut report_served: impl FnMut()) {
        let mut is_proven = false;
        loop {
            let noteworthy = self.noteworthy.notified();
            let sessions = self.sessions.load(Ordering::Acquire);
            if sessions > 0 && !is_proven {
                is_proven = true;
                report_served();
            }
            let used_for = Duration::from_millis(self.last_end_milliseconds.load(Ordering::Acquire));
            let idle_for = self.began.elapsed().saturating_sub(used_for);
            let age = self.began.elapsed();
            let is_used_up = sessions >= self.sessions_max && age >= self.age_min;
            if is_idle() && (is_used_up || idle_for >= self.idle_max) {
                return;
            }
            // With age_min 0 there is no such age: the process is looked at after each session.
            let age_max = self.age_min.saturating_mul(AGES_MAX);
            if is_used_up && !age_max.is_zero() && age >= age_max {
                return;
            }
            let rest = match self.idle_max.saturating_sub(idle_for) {
                // No client has left for long, and one is here.
                Duration::ZERO => self.idle_max,
                rest => rest,
            };
            // Sessions that end before it is old enough wake nothing.
            let rest = match self.age_min.saturating_sub(age) {
                Duration::ZERO => rest,
                until_old => rest.min(until_old),
            };
            let _ = timeout(rest, noteworthy).await;
        }
    }
}

/// After so many times the age at which `max_use` begins to count, a process makes room also with clients.
const AGES_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const IDLE_MAX: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn enough_sessions_are_the_end_once_nobody_is_here() {
        let usage = Usage::new(2, Duration::from_secs(3600), Duration::ZERO);
        let is_idle = Cell::new(false);
        let proofs = Cell::new(0);
        let limit_reached = usage.limit_reached(|| is_idle.get(), || proofs.set(proofs.get() + 1));
        let sessions = async {
            for (ended, idle) in [(1, true), (2, false), (3, true)] {
                is_idle.set(idle);
                usage.session_ended();
                tokio::task::yield_now().await;
                assert_eq!(proofs.get(), 1, "after session {ended}");
            }
            std::future::pending::<()>().await;
        };
        tokio::select! { biased; () = limit_reached => {}, () = sessions => {} }
        assert_eq!(usage.sessions.load(Ordering::Acquire), 3);
    }

    #[tokio::test]
    async fn a_process_without_clients_ends_in_time() {
        let usage = Usage::new(100, IDLE_MAX, Duration::ZERO);
        usage.limit_reached(|| true, || panic!("no client was served")).await;
        assert!(usage.began.elapsed() >= IDLE_MAX);
    }

    #[tokio::test]
    async fn the_last_session_counts_not_the_first() {
        let usage = Usage::new(100, IDLE_MAX, Duration::ZERO);
        usage.session_ended();
        let last_end = Cell::new(Instant::now());
        let sessions = async {
            for _ in 0..3 {
                tokio::time::sleep(IDLE_MAX / 2).await;
                usage.session_ended();
                last_end.set(Instant::now());
            }
            std::future::pending::<()>().await;
        };
        tokio::select! { biased; () = usage.limit_reached(|| true, || ()) => {}, () = sessions => {} }
        let idle_for = last_end.get().elapsed();
        // Milliseconds are counted whole.
        assert!(idle_for + Duration::from_millis(1) >= IDLE_MAX, "{idle_for:?}");
    }

    #[tokio::test]
    async fn before_its_age_no_number_of_sessions_is_the_end() {
        const AGE: Duration = Duration::from_millis(200);
        let usage = Usage::new(2, Duration::from_secs(3600), AGE);
        let busy = async {
            for _ in 0..50 {
                usage.session_ended();
                tokio::task::yield_now().await;
            }
            // Nothing happens any more: the age alone is the end.
            std::future::pending::<()>().await;
        };
        tokio::select! { biased; () = usage.limit_reached(|| true, || ()) => {}, () = busy => {} }
        assert!(usage.began.elapsed() >= AGE, "{:?}", usage.began.elapsed());
        assert_eq!(usage.sessions.load(Ordering::Acquire), 50);
    }

    #[tokio::test]
    async fn a_process_that_is_never_idle_ends_at_ten_times_that_age() {
        const AGE: Duration = Duration::from_millis(30);
        let usage = Usage::new(2, Duration::from_millis(10), AGE);
        let busy = async {
            loop {
                usage.session_ended();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! { biased; () = usage.limit_reached(|| false, || ()) => {}, () = busy => {} }
        assert!(usage.began.elapsed() >= AGE * 10, "{:?}", usage.began.elapsed());
    }
}
