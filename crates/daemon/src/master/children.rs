//! The processes of one service: who lives, who is idle, when to start another one, when to wait.
//!
//! The rules are those of Postfix's master(8), with four differences. One process is always there, since a process
//! of ours serves many clients. One that says it is busy has permanently stopped accepting, because a table changed
//! for example, so that a successor is started at once and not when a client knocks. The process limit does not
//! count those: however many finish their sessions, one takes clients (what bounds them is qmqpd_old_process_limit,
//! in `supervise`). And a process that fails at its start is tried again after 1 s, then 2 s, 4 s and so on up to
//! `service_throttle_time`, where Postfix always waits that long.

use std::time::{Duration, Instant};

use postfix::notice::Notice;

/// The first wait after a process failed to start up.
const BACK_OFF_FIRST: Duration = Duration::from_secs(1);

/// A process that ends sooner than this without having served a client counts as one that failed to start up.
const QUICK: Duration = Duration::from_secs(1);

/// A process that lives longer than this has not failed in a row with the ones before. One that cannot work, but tells
/// its clients so for a while, is started again soon.
const LONG: Duration = Duration::from_secs(10);

/// One process of the service's present generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) process_id: i32,
    started: Instant,
    idle: bool,
    /// Changes from busy to idle.
    uses: u64,
    /// Whether it has reported anything yet.
    reported: bool,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Exit(i32),
    Signal(i32),
}

impl Outcome {
    /// Postfix's words for the log; `None` for a clean exit.
    pub(super) fn notice(self, program: &str, process_id: i32) -> Option<Notice> {
        match self {
            Self::Exit(0) => None,
            Self::Exit(status) => {
                Some(Notice::warning(format!("process {program} pid {process_id} exit status {status}")))
            }
            Self::Signal(signal) => {
                Some(Notice::warning(format!("process {program} pid {process_id} killed by signal {signal}")))
            }
        }
    }
}

/// What the service needs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing.
    Nothing,
    /// A process, at once.
    Process,
    /// Nothing before this time.
    Wait(Instant),
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Children {
    children: Vec<Child>,
    failures_in_a_row: u32,
    throttled_until: Option<Instant>,
}

impl Children {
    pub(super) fn children(&self) -> &[Child] {
        &self.children
    }

    /// Whether a process has said that it is at work. A process speaks for the first time when it is ready to accept.
    pub(super) fn is_ready(&self) -> bool {
        self.children.iter().any(|child| child.reported && child.idle)
    }

    /// Whether the start failed and is being waited out.
    pub(super) const fn is_throttled(&self) -> bool {
        self.throttled_until.is_some()
    }

    /// Enters a process that was just started. It counts as idle from birth.
    pub(super) fn started(&mut self, process_id: i32, now: Instant) {
        self.throttled_until = None;
        self.children.push(Child { process_id, started: now, idle: true, uses: 0, reported: false });
    }

    /// A process has said whether it takes clients. Unknown processes are ignored, as by Postfix.
    pub(super) fn reported(&mut self, process_id: i32, idle: bool) {
        let Some(child) = self.children.iter_mut().find(|child| child.process_id == process_id) else {
            return;
        };
        child.reported = true;
        if idle && !child.idle {
            child.uses = child.uses.saturating_add(1);
            self.failures_in_a_row = 0;
        }
        child.idle = idle;
    }

    /// A process takes no client any more, whatever it says: it was killed, and may take long to go.
    pub(super) fn given_up(&mut self, process_id: i32) {
        for child in self.children.iter_mut().filter(|child| child.process_id == process_id) {
            child.idle = false;
        }
    }

    /// A process ended. `None`: it is not one of ours. Otherwise what to log.
    ///
    /// `program`: its path, for the log. `throttle_max`: service_throttle_time.
    pub(super) fn ended(
        &mut self,
        process_id: i32,
        outcome: Outcome,
        now: Instant,
        program: &str,
        throttle_max: Duration,
    ) -> Option<Vec<Notice>> {
        let index = self.children.iter().position(|child| child.process_id == process_id)?;
        let child = self.children.swap_remove(index);
        let mut notices: Vec<Notice> = outcome.notice(program, process_id).into_iter().collect();
        let lived = now.saturating_duration_since(child.started);
        let quick = lived < QUICK;
        if lived > LONG {
            self.failures_in_a_row = 0;
        }
        let failed_to_start = !child.reported && outcome != Outcome::Exit(0);
        // It was ready, stopped accepting, and ended well: its clients wait for a successor, however soon that is.
        let gave_way = child.reported && !child.idle && outcome == Outcome::Exit(0);
        // Whatever else the reason, a tight loop of short lives would eat the machine.
        if child.uses == 0 && !gave_way && (failed_to_start || quick) {
            let wait = self.back_off(now, throttle_max);
            notices.push(Notice::warning(format!("{program}: bad command startup -- throttling")));
            notices.push(Notice::info(format!("{program}: next attempt in {} s", wait.as_secs())));
        } else if child.reported {
            // It worked before it was killed: that is not a failure, and the series ends.
            self.failures_in_a_row = 0;
        }
        Some(notices)
    }

    /// The system could not start a process: wait as after a bad start. Returns how long; a full table of processes is over
    /// soon, so it is not service_throttle_time at once.
    pub(super) fn not_started(&mut self, now: Instant, throttle_max: Duration) -> Duration {
        self.back_off(now, throttle_max)
    }

    /// Each wait in a row is twice as long as the one before.
    fn back_off(&mut self, now: Instant, throttle_max: Duration) -> Duration {
        let doubled =
            BACK_OFF_FIRST.saturating_mul(1_u32.checked_shl(self.failures_in_a_row).unwrap_or(u32::MAX));
        let wait = doubled.min(throttle_max);
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1).min(16);
        self.throttled_until = now.checked_add(wait);
        wait
    }

    /// What to do next.
    pub(super) fn need(&self, now: Instant) -> Need {
        if self.children.iter().any(|child| child.idle) {
            return Need::Nothing;
        }
        self.throttled_until.filter(|until| *until > now).map_or(Need::Process, Need::Wait)
    }

    /// Begins a new generation: returns the processes of the old one, which from now on are strangers. A wait is over.
    pub(super) fn renew(&mut self) -> Vec<Child> {
        self.failures_in_a_row = 0;
        self.throttled_until = None;
        std::mem::take(&mut self.children)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn texts(notices: Option<Vec<Notice>>) -> Vec<String> {
        notices
            .unwrap()
            .into_iter()
            .map(|notice| format!("{}{}", notice.severity.prefix(), notice.text))
            .collect()
    }

    #[test]
    fn bad_starts_are_retried_later_and_later() {
        let mut children = Children::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for process_id in 1..=8 {
            assert_eq!(children.need(now), Need::Process);
            children.started(process_id, now);
            let log = texts(children.ended(process_id, Outcome::Exit(1), now, "/usr/sbin/qmqpd", MINUTE));
            assert_eq!(log[0], format!("warning: process /usr/sbin/qmqpd pid {process_id} exit status 1"));
            assert_eq!(log[1], "warning: /usr/sbin/qmqpd: bad command startup -- throttling");
            let Need::Wait(until) = children.need(now) else { panic!("not throttled") };
            waits.push(until.duration_since(now).as_secs());
            now = until;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        children.started(9, now);
        children.ended(9, Outcome::Exit(1), now + MINUTE, "q", MINUTE);
        let Need::Wait(until) = children.need(now + MINUTE) else { panic!("not throttled") };
        assert_eq!(until.duration_since(now + MINUTE).as_secs(), 1, "it told its clients for a minute");
    }

    #[test]
    fn a_system_without_room_is_asked_again_soon() {
        let mut children = Children::default();
        let now = Instant::now();
        let waits = [0; 8].map(|_| children.not_started(now, MINUTE).as_secs());
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(children.need(now), Need::Wait(now + MINUTE));
    }

    #[test]
    fn a_process_that_served_is_replaced_at_once_whatever_its_end() {
        let mut children = Children::default();
        let now = Instant::now();
        children.started(7, now);
        assert!(!children.is_ready());
        children.reported(7, false);
        children.reported(7, true);
        assert!(children.is_ready());
        assert_eq!(
            texts(children.ended(7, Outcome::Signal(9), now, "q", MINUTE)),
            ["warning: process q pid 7 killed by signal 9"]
        );
        assert_eq!(children.need(now), Need::Process);
    }

    #[test]
    fn processes_that_worked_do_not_make_a_row_of_those_that_are_killed_at_once() {
        let mut children = Children::default();
        let mut now = Instant::now();
        for process_id in 1..=20 {
            children.started(process_id, now);
            children.reported(process_id, true);
            let lived = if process_id % 2 == 0 { Duration::ZERO } else { QUICK };
            children.ended(process_id, Outcome::Signal(9), now + lived, "q", MINUTE);
            now += lived;
            if let Need::Wait(until) = children.need(now) {
                assert_eq!(until.duration_since(now), BACK_OFF_FIRST, "process {process_id}");
                now = until;
            }
        }
    }

    #[test]
    fn a_clean_exit_is_silent_but_a_tight_loop_of_them_is_slowed() {
        let mut children = Children::default();
        let now = Instant::now();
        children.started(7, now);
        assert!(texts(children.ended(7, Outcome::Exit(0), now + QUICK, "q", MINUTE)).is_empty());
        assert_eq!(children.need(now), Need::Process);
        children.started(8, now);
        assert!(!texts(children.ended(8, Outcome::Exit(0), now, "q", MINUTE)).is_empty());
        assert!(matches!(children.need(now), Need::Wait(_)));
    }

    #[test]
    fn however_many_finish_their_sessions_one_takes_clients() {
        let mut children = Children::default();
        let now = Instant::now();
        for process_id in 1..=20 {
            assert_eq!(children.need(now), Need::Process, "process {process_id}");
            children.started(process_id, now);
            assert_eq!(children.need(now), Need::Nothing);
            children.reported(process_id, true);
            assert!(children.is_ready());
            children.reported(process_id, false);
            assert!(!children.is_ready(), "nothing takes clients");
        }
        assert_eq!(children.children().len(), 20);
    }

    #[test]
    fn a_process_that_is_given_up_has_a_successor_before_it_is_gone() {
        let mut children = Children::default();
        let now = Instant::now();
        children.started(7, now);
        children.reported(7, true);
        children.given_up(7);
        assert_eq!(children.need(now), Need::Process);
        assert!(texts(children.ended(7, Outcome::Signal(9), now + QUICK, "q", MINUTE)).len() == 1);
    }

    #[test]
    fn giving_way_soon_after_the_start_is_no_bad_start() {
        let mut children = Children::default();
        let now = Instant::now();
        // A table that changes again and again: each process is ready, then drains within the second.
        for process_id in 1..=20 {
            assert_eq!(children.need(now), Need::Process, "process {process_id}");
            children.started(process_id, now);
            children.reported(process_id, true);
            children.reported(process_id, false);
            assert!(texts(children.ended(process_id, Outcome::Exit(0), now, "q", MINUTE)).is_empty());
        }
        // One that says so and then crashes is another matter.
        children.started(21, now);
        children.reported(21, true);
        children.reported(21, false);
        assert!(!texts(children.ended(21, Outcome::Exit(1), now, "q", MINUTE)).is_empty());
        assert!(matches!(children.need(now), Need::Wait(_)));
    }

    #[test]
    fn a_new_generation_starts_afresh() {
        let mut children = Children::default();
        let now = Instant::now();
        children.started(7, now);
        children.ended(7, Outcome::Exit(1), now, "q", MINUTE);
        children.started(8, now);
        assert_eq!(children.renew().len(), 1);
        assert_eq!(children.need(now), Need::Process);
        assert!(children.ended(8, Outcome::Exit(0), now, "q", MINUTE).is_none(), "a stranger by now");
    }
}
