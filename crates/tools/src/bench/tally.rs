//! What became of the messages, and how long each took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use qmqp::reply::Status;

/// How one message ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Reply(Status),
    /// There was no connection.
    NoConnection,
    /// The connection ended without a whole reply.
    Lost,
    /// No reply within the time limit.
    TimedOut,
    /// The reply is invalid.
    Garbled,
}

impl Outcome {
    /// What a reply means for a request that has been sent, or has not been sent to its end: a K to a part of it does not count.
    pub(super) fn to_request(self, is_sent: bool) -> Self {
        match self {
            Self::Reply(Status::Queued) if !is_sent => Self::Garbled,
            outcome => outcome,
        }
    }
}

/// Numbers of messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) accepted: u64,
    pub(super) temporary: u64,
    pub(super) permanent: u64,
    pub(super) no_connection: u64,
    pub(super) lost: u64,
    pub(super) timed_out: u64,
    pub(super) garbled: u64,
}

impl Counts {
    fn add(&mut self, outcome: Outcome) {
        let count = match outcome {
            Outcome::Reply(Status::Queued) => &mut self.accepted,
            Outcome::Reply(Status::Temporary) => &mut self.temporary,
            Outcome::Reply(Status::Permanent) => &mut self.permanent,
            Outcome::NoConnection => &mut self.no_connection,
            Outcome::Lost => &mut self.lost,
            Outcome::TimedOut => &mut self.timed_out,
            Outcome::Garbled => &mut self.garbled,
        };
        *count = count.saturating_add(1);
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.accepted, other.accepted),
            (&mut self.temporary, other.temporary),
            (&mut self.permanent, other.permanent),
            (&mut self.no_connection, other.no_connection),
            (&mut self.lost, other.lost),
            (&mut self.timed_out, other.timed_out),
            (&mut self.garbled, other.garbled),
        ] {
            *mine = mine.saturating_add(theirs);
        }
    }

    /// Messages that got none.
    pub(super) fn failures(&self) -> u64 {
        self.no_connection
            .saturating_add(self.lost)
            .saturating_add(self.timed_out)
            .saturating_add(self.garbled)
    }
}

/// The times of one message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// From the call for a connection to the last byte of the reply.
    pub(super) service: Duration,
    /// The same, from the moment at which the message was due.
    pub(super) since_due: Duration,
}

/// A stretch of the run.
#[derive(Debug)]
pub(super) struct Interval {
    pub(super) counts: Counts,
    /// Microseconds from the moment at which a message was due.
    pub(super) latency: Histogram<u64>,
}

impl Interval {
    fn new() -> Self {
        Self { counts: Counts::default(), latency: histogram(INTERVAL_DIGITS) }
    }

    fn is_empty(&self) -> bool {
        self.counts == Counts::default()
    }
}

/// What one thread has counted.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) counts: Counts,
    /// Microseconds, as [`Times`]. Of replies alone.
    pub(super) service: Histogram<u64>,
    pub(super) since_due: Histogram<u64>,
    interval: Interval,
}

impl Tally {
    pub(super) fn new() -> Self {
        let (service, since_due) = (histogram(TOTAL_DIGITS), histogram(TOTAL_DIGITS));
        Self { counts: Counts::default(), service, since_due, interval: Interval::new() }
    }

    pub(super) fn add(&mut self, outcome: Outcome, times: Times, live: &Live) {
        self.counts.add(outcome);
        self.interval.counts.add(outcome);
        live.add(outcome);
        if matches!(outcome, Outcome::Reply(_)) {
            self.service.saturating_record(microseconds(times.service));
            self.since_due.saturating_record(microseconds(times.since_due));
            self.interval.latency.saturating_record(microseconds(times.since_due));
        }
    }

    /// Hands over what came together since the last time.
    pub(super) fn flush(&mut self, elapsed: Duration, timeline: &Timeline) {
        if !self.interval.is_empty() {
            timeline.add(elapsed, &self.interval);
            self.interval.counts = Counts::default();
            self.interval.latency.reset();
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.counts.merge(&other.counts);
        merge(&mut self.service, &other.service);
        merge(&mut self.since_due, &other.since_due);
    }
}

/// The run, interval by interval: seconds at first, and always so few that they fit in a plot.
#[derive(Debug)]
pub(super) struct Timeline(Mutex<Intervals>);

#[derive(Debug)]
struct Intervals {
    seconds_each: u64,
    intervals: Vec<Interval>,
}

impl Timeline {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Intervals { seconds_each: 1, intervals: Vec::new() }))
    }

    fn add(&self, elapsed: Duration, interval: &Interval) {
        let mut this = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let at = elapsed.as_secs().checked_div(this.seconds_each).unwrap_or_default();
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            if at < INTERVALS_MAX {
                while this.intervals.len() <= at {
                    this.intervals.push(Interval::new());
                }
                if let Some(place) = this.intervals.get_mut(at) {
                    merge_interval(place, interval);
                }
                return;
            }
            this.coarsen();
        }
    }

    /// Seconds in an interval, and the intervals.
    pub(super) fn into_parts(self) -> (u64, Vec<Interval>) {
        let Intervals { seconds_each, intervals } =
            self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        (seconds_each, intervals)
    }
}

impl Intervals {
    /// Half as many, twice as long.
    fn coarsen(&mut self) {
        self.seconds_each = self.seconds_each.saturating_mul(2);
        let mut old = std::mem::take(&mut self.intervals).into_iter();
        while let Some(mut first) = old.next() {
            if let Some(second) = old.next() {
                merge_interval(&mut first, &second);
            }
            self.intervals.push(first);
        }
    }
}

fn merge_interval(into: &mut Interval, from: &Interval) {
    into.counts.merge(&from.counts);
    merge(&mut into.latency, &from.latency);
}

/// Numbers that are shown while it runs.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) accepted: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) failed: AtomicU64,
}

impl Live {
    fn add(&self, outcome: Outcome) {
        let count = match outcome {
            Outcome::Reply(Status::Queued) => &self.accepted,
            Outcome::Reply(_) => &self.refused,
            _ => &self.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// An empty histogram from a microsecond to an hour.
fn histogram(digits: u8) -> Histogram<u64> {
    // It refuses bounds that make no sense. These are constants, and the other arm is a histogram too.
    Histogram::new_with_bounds(1, LATENCY_MICROSECONDS_MAX, digits).unwrap_or_else(|_| unreachable_bounds())
}

#[allow(clippy::expect_used, reason = "constants that a unit test tries")]
fn unreachable_bounds() -> Histogram<u64> {
    Histogram::new(1).expect("one significant digit is a precision")
}

fn merge(into: &mut Histogram<u64>, from: &Histogram<u64>) {
    // Both have the same bounds; without these adding could fail.
    let _ = into.add(from);
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1)
}

const LATENCY_MICROSECONDS_MAX: u64 = 3_600_000_000;
const TOTAL_DIGITS: u8 = 3;
const INTERVAL_DIGITS: u8 = 2;
const INTERVALS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn times(milliseconds: u64) -> Times {
        let time = Duration::from_millis(milliseconds);
        Times { service: time, since_due: time * 2 }
    }

    #[test]
    fn outcomes_are_counted_and_replies_timed() {
        let (mut tally, live) = (Tally::new(), Live::default());
        tally.add(Outcome::Reply(Status::Queued), times(10), &live);
        tally.add(Outcome::Reply(Status::Permanent), times(30), &live);
        tally.add(Outcome::TimedOut, times(60_000), &live);
        assert_eq!((tally.counts.accepted, tally.counts.permanent, tally.counts.failures()), (1, 1, 1));
        assert_eq!((tally.service.len(), tally.since_due.len()), (2, 2));
        assert!((29_900..30_100).contains(&tally.service.max()), "{}", tally.service.max());
        assert!((59_900..60_200).contains(&tally.since_due.max()), "{}", tally.since_due.max());
        let shown = [&live.accepted, &live.refused, &live.failed].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(shown, [1, 1, 1]);
    }

    #[test]
    fn a_long_run_has_longer_intervals_and_no_more_of_them() {
        let (mut tally, timeline, live) = (Tally::new(), Timeline::new(), Live::default());
        for second in 0..3000 {
            tally.add(Outcome::Reply(Status::Queued), times(1), &live);
            tally.flush(Duration::from_secs(second), &timeline);
        }
        let (seconds_each, intervals) = timeline.into_parts();
        assert_eq!(seconds_each, 4);
        assert_eq!(intervals.len(), 750);
        assert!(
            intervals.iter().all(|interval| interval.counts.accepted == 4 && interval.latency.len() == 4)
        );
    }
}
