//! Limits the processor time of the regular expressions of one message.
//!
//! Nearly every lookup needs microseconds, and runs on the caller's thread. A slower one starts again on another
//! thread, in turns with others ([`crate::turns`]), and ends as soon as the budget is used up: both engines call
//! [`Pace::tick`] at short intervals.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::turns::{Asker, NoSeat, NoTurn, Owner, Seat, Turn, Turns};

/// What one message, or one question about a client, may still cost. Shared by all its lookups.
#[derive(Debug)]
pub struct Budget {
    turns: Arc<Turns>,
    owner: Owner,
    /// The client, where it can be seen that it has left.
    asker: Option<Arc<dyn Asker>>,
    deadline: Option<Instant>,
    /// What does not end at once is not even begun.
    stays: bool,
    /// Some expression was not begun for that reason.
    has_stayed: AtomicBool,
    /// Time of what was done at once, in nanoseconds.
    quick: AtomicU64,
    /// Processor time of what was not, in nanoseconds.
    used: AtomicU64,
    /// The place of the expression that has used up the rest.
    spent_at: OnceLock<String>,
}

/// Why an expression came to no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Halt {
    /// It takes longer than may be waited for here.
    TooLong,
    /// The time of the message is used up.
    Spent(Duration),
    /// Too many others are at work.
    NoSeat,
    /// The answer is no longer wanted.
    TooLate,
    /// The client is gone.
    HasLeft,
    /// The engine has given up, in its own words.
    Engine(String),
}

impl std::fmt::Display for Halt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLong => f.write_str("the expression takes too long"),
            Self::Spent(limit) => write!(
                f,
                "expressions have used all processor time of this message: qmqpd_expression_time_limit \
                 = {}s",
                limit.as_secs_f64()
            ),
            Self::NoSeat => f.write_str("too many messages with slow expressions, try again later"),
            Self::TooLate => f.write_str("no result in time: expressions of other messages are slow"),
            Self::HasLeft => f.write_str("the client has disconnected"),
            Self::Engine(reason) => f.write_str(reason),
        }
    }
}

impl From<NoSeat> for Halt {
    fn from(NoSeat: NoSeat) -> Self {
        Self::NoSeat
    }
}

impl From<NoTurn> for Halt {
    fn from(reason: NoTurn) -> Self {
        match reason {
            NoTurn::TooLate => Self::TooLate,
            NoTurn::HasLeft => Self::HasLeft,
        }
    }
}

impl Budget {
    /// A whole budget. `deadline`: when the answers are no longer wanted.
    #[must_use]
    pub fn new(turns: &Arc<Turns>, owner: Owner, deadline: Option<Instant>) -> Self {
        Self {
            turns: Arc::clone(turns),
            owner,
            asker: None,
            deadline,
            stays: false,
            has_stayed: AtomicBool::new(false),
            quick: AtomicU64::new(0),
            used: AtomicU64::new(0),
            spent_at: OnceLock::new(),
        }
    }

    /// Where the budget was used up, which is here if it was not before.
    pub(crate) fn spent_at(&self, here: String) -> &str {
        self.spent_at.get_or_init(|| here)
    }

    /// The same for a client that may leave: then its expressions end.
    #[must_use]
    pub fn asked_by(self, asker: Arc<dyn Asker>) -> Self {
        Self { asker: Some(asker), ..self }
    }

    /// The same for a caller that cannot wait: an expression that does not end at once fails, and
    /// [`has_stayed`](Self::has_stayed) says so.
    #[must_use]
    pub fn staying(self) -> Self {
        Self { stays: true, ..self }
    }

    /// Whether some lookup has failed only because the caller could not wait for it.
    #[must_use]
    pub fn has_stayed(&self) -> bool {
        self.has_stayed.load(Ordering::Relaxed)
    }

    /// Does work, at once if that is possible: then it is done a second time, from its beginning, if the first try takes
    /// too long. `until`: when this answer is no longer wanted.
    pub(crate) fn run<T>(
        &self,
        until: Option<Instant>,
        mut work: impl FnMut(&mut Pace<'_>) -> Result<T, Halt>,
    ) -> Result<T, Halt> {
        if Duration::from_nanos(self.quick.load(Ordering::Relaxed)) < QUICK_TIME_OF_MESSAGE_MAX {
            let began = Instant::now();
            let done = work(&mut Pace::Quick { until: began.checked_add(QUICK_TIME_MAX) });
            add(&self.quick, began.elapsed());
            match done {
                Err(Halt::TooLong) => {}
                done => return done,
            }
        }
        if self.stays {
            self.has_stayed.store(true, Ordering::Relaxed);
            return Err(Halt::TooLong);
        }
        let until = [self.deadline, until].into_iter().flatten().min();
        let mut done = Err(Halt::TooLate);
        (self.turns.options().aside)(&mut || done = self.run_aside(until, &mut work));
        done
    }

    fn run_aside<T>(
        &self,
        until: Option<Instant>,
        work: &mut impl FnMut(&mut Pace<'_>) -> Result<T, Halt>,
    ) -> Result<T, Halt> {
        self.check()?;
        let seat = self.turns.sit_down(self.owner)?;
        let turn = seat.turn(until, self.asker.as_deref())?;
        let (looked, counted) = (Instant::now(), processor_time());
        let mut pace =
            Pace::Long(Long { budget: self, seat: &seat, turn: Some(turn), until, looked, counted });
        let done = work(&mut pace);
        if let Pace::Long(long) = &mut pace {
            long.count();
        }
        done
    }

    /// Whether there is time left, and a client.
    fn check(&self) -> Result<(), Halt> {
        if self.asker.as_ref().is_some_and(|asker| asker.has_left()) {
            return Err(Halt::HasLeft);
        }
        let limit = self.turns.options().time_limit;
        let is_spent = Duration::from_nanos(self.used.load(Ordering::Relaxed)) >= limit;
        if is_spent { Err(Halt::Spent(limit)) } else { Ok(()) }
    }
}

/// How one piece of work goes on.
pub(crate) enum Pace<'a> {
    /// It is to be done at once.
    Quick {
        /// When it has taken too long.
        until: Option<Instant>,
    },
    /// It has a thread of its own.
    Long(Long<'a>),
}

/// Work with a thread of its own.
pub(crate) struct Long<'a> {
    budget: &'a Budget,
    seat: &'a Seat<'a>,
    /// `None` only while waiting for the next one, and when no other follows.
    turn: Option<Turn<'a>>,
    until: Option<Instant>,
    /// When all was in order.
    looked: Instant,
    /// The processor time of this thread that is counted.
    counted: Duration,
}

impl Pace<'_> {
    /// To be called every millisecond or more often: whether the work goes on. May wait for others.
    pub(crate) fn tick(&mut self) -> Result<(), Halt> {
        let now = Instant::now();
        match self {
            Self::Quick { until } if until.is_none_or(|until| now >= until) => Err(Halt::TooLong),
            Self::Quick { .. } => Ok(()),
            Self::Long(long) if now.saturating_duration_since(long.looked) < LOOK_INTERVAL => Ok(()),
            Self::Long(long) => long.look(now),
        }
    }

    /// Which of the turns this is; `None` for what is done at once.
    pub(crate) fn turn(&self) -> Option<usize> {
        match self {
            Self::Quick { .. } => None,
            Self::Long(long) => long.turn.as_ref().map(Turn::number),
        }
    }
}

impl Long<'_> {
    fn look(&mut self, now: Instant) -> Result<(), Halt> {
        self.count();
        self.budget.check()?;
        if self.until.is_some_and(|until| now >= until) {
            return Err(Halt::TooLate);
        }
        self.looked = now;
        if self.turn.as_ref().is_some_and(|turn| turn.is_over(now)) {
            drop(self.turn.take());
            self.turn = Some(self.seat.turn(self.until, self.budget.asker.as_deref())?);
            self.looked = Instant::now();
        }
        Ok(())
    }

    fn count(&mut self) {
        let now = processor_time();
        add(&self.budget.used, now.saturating_sub(self.counted));
        self.counted = now;
    }
}

/// What this thread has had of the processors.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn add(sum: &AtomicU64, time: Duration) {
    sum.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// How long a key may take where it is asked for.
const QUICK_TIME_MAX: Duration = Duration::from_millis(2);
/// How long all keys of one message may take there.
const QUICK_TIME_OF_MESSAGE_MAX: Duration = Duration::from_millis(20);
/// How often the clocks of work with its own thread are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turns::TurnOptions;

    fn turns(time_limit: Duration) -> Arc<Turns> {
        Turns::new(TurnOptions { time_limit, ..TurnOptions::default() })
    }

    fn endless(pace: &mut Pace<'_>) -> Result<(), Halt> {
        loop {
            pace.tick()?;
        }
    }

    #[test]
    fn work_without_end_ends_with_the_budget_and_no_more_is_begun() {
        let limit = Duration::from_millis(50);
        let budget = Budget::new(&turns(limit), 0, None);
        assert_eq!(budget.run(None, endless), Err(Halt::Spent(limit)));
        let used = Duration::from_nanos(budget.used.load(Ordering::Relaxed));
        assert!(used >= limit && used < limit * 10, "{used:?}");
        // What can be done at once is done.
        assert_eq!(budget.run(None, |_| Ok(1)), Ok(1));
        assert_eq!(budget.run(None, endless), Err(Halt::Spent(limit)));
    }

    #[test]
    fn what_cannot_wait_does_not() {
        let budget = Budget::new(&turns(Duration::MAX), 0, None).staying();
        assert_eq!(budget.run(None, |_| Ok(1)), Ok(1));
        assert!(!budget.has_stayed());
        assert_eq!(budget.run(None, endless), Err(Halt::TooLong));
        assert!(budget.has_stayed());
    }

    #[test]
    fn much_that_is_quick_is_no_longer_done_at_once() {
        let budget = Budget::new(&turns(Duration::MAX), 0, None);
        add(&budget.quick, QUICK_TIME_OF_MESSAGE_MAX);
        assert_eq!(budget.run(None, |pace| Ok(pace.turn())), Ok(Some(0)));
    }

    #[test]
    fn a_deadline_ends_the_wait_and_the_work() {
        let deadline = Instant::now() + Duration::from_millis(20);
        let turns = turns(Duration::MAX);
        assert_eq!(Budget::new(&turns, 0, Some(deadline)).run(None, endless), Err(Halt::TooLate));
        let seat = turns.sit_down(1).unwrap();
        let all: Vec<_> = (0..turns.options().at_once).map(|_| seat.turn(None, None).unwrap()).collect();
        assert_eq!(Budget::new(&turns, 0, None).run(Some(Instant::now()), endless), Err(Halt::TooLate));
        drop(all);
    }

    #[test]
    fn a_deadline_that_is_far_away_ends_nothing() {
        let (limit, far) = (Duration::from_millis(50), Instant::now() + Duration::from_secs(1000));
        let turns = turns(limit);
        for (of_message, of_answer) in [(Some(far), None), (None, Some(far)), (Some(far), Some(far))] {
            let budget = Budget::new(&turns, 0, of_message);
            assert_eq!(budget.run(of_answer, endless), Err(Halt::Spent(limit)));
        }
    }

    #[test]
    fn work_that_is_done_at_once_has_no_turn_and_other_work_one_of_its_own() {
        let turns = Turns::new(TurnOptions { at_once: 2, ..TurnOptions::default() });
        let budget = Budget::new(&turns, 0, None);
        assert_eq!(budget.run(None, |pace| Ok(pace.turn())), Ok(None));
        let seat = turns.sit_down(1).unwrap();
        let first = seat.turn(None, None).unwrap();
        assert_eq!(first.number(), 0);
        let mut tries = Vec::new();
        let done = budget.run(None, |pace| {
            tries.push(pace.turn());
            if pace.turn().is_none() { Err(Halt::TooLong) } else { Ok(()) }
        });
        assert_eq!((done, tries), (Ok(()), vec![None, Some(1)]));
    }

    #[test]
    fn what_the_engine_says_is_not_tried_again() {
        let budget = Budget::new(&turns(Duration::MAX), 0, None);
        let mut tries = 0;
        let failed = Halt::Engine("no memory".to_owned());
        let done: Result<(), _> = budget.run(None, |_| {
            tries += 1;
            Err(failed.clone())
        });
        assert_eq!((done, tries), (Err(failed), 1));
    }

    #[test]
    fn who_has_no_seat_is_told_so_and_each_halt_has_words() {
        let turns = Turns::new(TurnOptions { seats: 1, ..TurnOptions::default() });
        let seat = turns.sit_down(1).unwrap();
        assert_eq!(Budget::new(&turns, 2, None).run(None, endless), Err(Halt::NoSeat));
        drop(seat);
        for (halt, words) in [
            (Halt::TooLong, "the expression takes too long"),
            (Halt::NoSeat, "too many messages with slow expressions, try again later"),
            (Halt::TooLate, "no result in time: expressions of other messages are slow"),
            (Halt::HasLeft, "the client has disconnected"),
            (Halt::Engine("its words".to_owned()), "its words"),
            (
                Halt::Spent(Duration::from_millis(1500)),
                "expressions have used all processor time of this message: qmqpd_expression_time_limit \
                 = 1.5s",
            ),
        ] {
            assert_eq!(halt.to_string(), words);
        }
    }

    #[derive(Debug)]
    struct LeavesAfter(std::sync::Mutex<u32>);

    impl Asker for LeavesAfter {
        fn has_left(&self) -> bool {
            let mut looks = self.0.lock().unwrap();
            *looks = looks.saturating_sub(1);
            *looks == 0
        }
    }

    #[test]
    fn work_ends_when_its_client_has_left_and_no_more_is_begun() {
        let turns = turns(Duration::MAX);
        let budget = || Budget::new(&turns, 0, None);
        // The first look is before the work, the second in it.
        for looks in [1, 2, 5] {
            let client = Arc::new(LeavesAfter(looks.into()));
            let budget = budget().asked_by(client);
            assert_eq!(budget.run(None, endless), Err(Halt::HasLeft));
            let mut tries = 0;
            let again = budget.run(None, |_| {
                tries += 1;
                Err::<(), _>(Halt::TooLong)
            });
            assert_eq!((again, tries), (Err(Halt::HasLeft), 1), "what is not done at once is not begun");
        }
    }

    #[test]
    fn the_place_where_a_budget_ended_is_the_first() {
        let budget = Budget::new(&turns(Duration::MAX), 0, None);
        assert_eq!(budget.spent_at("line 1".to_owned()), "line 1");
        assert_eq!(budget.spent_at("line 2".to_owned()), "line 1");
    }

    #[test]
    fn two_that_work_without_end_both_get_their_time() {
        let limit = Duration::from_millis(100);
        let turns = turns(limit);
        std::thread::scope(|scope| {
            for owner in [1, 1, 2, 3] {
                let turns = &turns;
                scope.spawn(move || {
                    assert_eq!(Budget::new(turns, owner, None).run(None, endless), Err(Halt::Spent(limit)));
                });
            }
        });
    }
}
