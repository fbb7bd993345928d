//! Which message is sent when, shared by all threads of a source.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The shape of a load.
#[derive(Debug)]
pub(super) struct Schedule {
    start: Instant,
    /// No message is begun from here on.
    end: Option<Instant>,
    messages_max: u64,
    /// Between one message and the next, for a load that does not wait for the server.
    interval: Option<Duration>,
    next: AtomicU64,
    is_interrupted: AtomicBool,
}

/// What a session that is free does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Send this message. `due` is when it should have been sent: in the past if the server does not keep up.
    Send { number: u64, due: Instant },
    /// The next message is not due before this moment.
    Wait(Instant),
    /// There are no more.
    Over,
}

impl Schedule {
    /// At least one of `messages_max` and `duration` bounds the load; `rate` is in messages per second.
    pub(super) fn new(
        start: Instant,
        messages_max: Option<u64>,
        duration: Option<Duration>,
        rate: Option<f64>,
    ) -> Self {
        Self {
            start,
            end: duration.and_then(|duration| start.checked_add(duration)),
            messages_max: messages_max.unwrap_or(u64::MAX),
            interval: rate.map(|rate| Duration::from_secs_f64(1.0 / rate)),
            next: AtomicU64::new(0),
            is_interrupted: AtomicBool::new(false),
        }
    }

    pub(super) fn start(&self) -> Instant {
        self.start
    }

    /// Whether no message will be begun any more.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.next.load(Ordering::Relaxed) >= self.messages_max
            || self.is_interrupted.load(Ordering::Relaxed)
            || self.end.is_some_and(|end| now >= end)
    }

    /// Takes the next message, if its time has come.
    pub(super) fn turn(&self, now: Instant) -> Turn {
        let mut number = self.next.load(Ordering::Relaxed);
        loop {
            if number >= self.messages_max || self.is_over(now) {
                return Turn::Over;
            }
            let due = self.due(number).unwrap_or(now);
            if self.end.is_some_and(|end| due >= end) {
                return Turn::Over;
            }
            if due > now {
                return Turn::Wait(due);
            }
            let more = number.saturating_add(1);
            match self.next.compare_exchange_weak(number, more, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Turn::Send { number: more, due },
                Err(other) => number = other,
            }
        }
    }

    /// No message is begun any more.
    pub(super) fn interrupt(&self) {
        self.is_interrupted.store(true, Ordering::Relaxed);
    }

    /// Messages that were due by `now` and that no session was free to send.
    pub(super) fn unsent(&self, now: Instant) -> u64 {
        let Some(interval) = self.interval else { return 0 };
        let until = self.end.map_or(now, |end| end.min(now));
        let elapsed = until.saturating_duration_since(self.start);
        let due = elapsed.as_nanos().checked_div(interval.as_nanos()).unwrap_or_default();
        let due = u64::try_from(due).unwrap_or(u64::MAX).min(self.messages_max);
        due.saturating_sub(self.next.load(Ordering::Relaxed))
    }

    fn due(&self, number: u64) -> Option<Instant> {
        let nanoseconds = self.interval?.as_nanos().saturating_mul(u128::from(number));
        let offset = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        self.start.checked_add(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_closed_loop_sends_at_once_until_count_or_time_is_over() {
        let start = Instant::now();
        let counted = Schedule::new(start, Some(2), None, None);
        assert_eq!(counted.turn(start), Turn::Send { number: 1, due: start });
        assert_eq!(counted.turn(start + SECOND), Turn::Send { number: 2, due: start + SECOND });
        assert_eq!(counted.turn(start), Turn::Over);
        let timed = Schedule::new(start, None, Some(SECOND), None);
        assert!(matches!(timed.turn(start), Turn::Send { .. }));
        assert_eq!(timed.turn(start + SECOND), Turn::Over);
    }

    #[test]
    fn an_open_loop_keeps_to_its_times_however_late_it_is_asked() {
        let start = Instant::now();
        let schedule = Schedule::new(start, None, Some(SECOND), Some(4.0));
        let quarter = SECOND / 4;
        assert_eq!(schedule.turn(start), Turn::Send { number: 1, due: start });
        assert_eq!(schedule.turn(start), Turn::Wait(start + quarter));
        let late = start + quarter * 3;
        assert_eq!(schedule.turn(late), Turn::Send { number: 2, due: start + quarter });
        assert_eq!(schedule.turn(late), Turn::Send { number: 3, due: start + quarter * 2 });
        assert_eq!(schedule.unsent(start + SECOND * 9), 1);
        assert_eq!(schedule.turn(start + SECOND), Turn::Over);
    }

    #[test]
    fn an_interrupt_ends_it() {
        let start = Instant::now();
        let schedule = Schedule::new(start, Some(5), None, None);
        schedule.interrupt();
        assert_eq!(schedule.turn(start), Turn::Over);
    }
}
