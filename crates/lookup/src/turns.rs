//! Who may spend processor time on an expression that is not done at once.
//!
//! Such work has a thread of its own, so that the sessions go on; the threads take turns on a part of the processors, and
//! the turn goes to the client that has had the least. What is bounded: the threads, those for one client, and the
//! processors.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The bounds, and what they are measured against.
#[derive(Debug, Clone, Copy)]
pub struct TurnOptions {
    /// How many may work at the same time; at most [`TURNS_MAX`].
    pub at_once: usize,
    /// How many may work or wait for a turn, each with a thread.
    pub seats: usize,
    /// How many of these one client may have.
    pub seats_of_one_client: usize,
    /// Processor time that all expressions together may take for one message, or for one question about a client.
    pub time_limit: Duration,
    /// Does the work that it is given, where it may take long: tells the runtime, if there is one, that this thread is
    /// no longer for the others.
    pub aside: fn(&mut dyn FnMut()),
}

impl Default for TurnOptions {
    /// Half of the processors.
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            at_once: (processors / 2).max(1),
            seats: 32,
            seats_of_one_client: 8,
            time_limit: Duration::from_secs(5),
            aside: |work| work(),
        }
    }
}

/// The most that work at the same time, on whatever machine.
pub const TURNS_MAX: usize = 8;

/// A client, as far as fairness is concerned: its address, or the network that stands for it. 0 is an unknown client.
pub type Owner = u128;

/// The bounds of one process, and who works at the moment.
#[derive(Debug)]
pub struct Turns {
    options: TurnOptions,
    state: Mutex<TurnState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct TurnState {
    /// Which of the turns are taken.
    taken: [bool; TURNS_MAX],
    waiting: Vec<WaitingThread>,
    owners: Vec<Share>,
    next_ticket: u64,
}

/// A thread that waits for a turn.
#[derive(Debug)]
struct WaitingThread {
    ticket: u64,
    owner: Owner,
}

/// What one client has.
#[derive(Debug)]
struct Share {
    owner: Owner,
    seats: usize,
    /// Time that its work has had since it came, and what the one who had least at that time had had.
    used: Duration,
}

/// All seats are taken, or all that this client may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoSeat;

/// Why a thread no longer waits for a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoTurn {
    /// The time for waiting has passed.
    TooLate,
    /// The client is gone.
    HasLeft,
}

/// The client for whom work is done.
pub trait Asker: std::fmt::Debug + Send + Sync {
    /// Whether it can no longer hear what comes of the work. Asked every few milliseconds, by the thread that works: must not
    /// wait.
    fn has_left(&self) -> bool;
}

impl Turns {
    /// No work is under way.
    #[must_use]
    pub fn new(options: TurnOptions) -> Arc<Self> {
        let at_once = options.at_once.clamp(1, TURNS_MAX);
        let options = TurnOptions { at_once, ..options };
        Arc::new(Self { options, state: Mutex::default(), changed: Condvar::new() })
    }

    /// The bounds.
    #[must_use]
    pub const fn options(&self) -> &TurnOptions {
        &self.options
    }

    /// A seat for one piece of work.
    pub(crate) fn sit_down(&self, owner: Owner) -> Result<Seat<'_>, NoSeat> {
        let mut state = self.state();
        let seats: usize = state.owners.iter().map(|share| share.seats).sum();
        if seats >= self.options.seats {
            return Err(NoSeat);
        }
        let least = state.owners.iter().map(|share| share.used).min().unwrap_or_default();
        match state.owners.iter_mut().find(|share| share.owner == owner) {
            Some(share) if share.seats >= self.options.seats_of_one_client => return Err(NoSeat),
            Some(share) => share.seats = share.seats.saturating_add(1),
            None => state.owners.push(Share { owner, seats: 1, used: least }),
        }
        Ok(Seat { turns: self, owner })
    }

    fn state(&self) -> MutexGuard<'_, TurnState> {
        // What is in it is right after each statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn free_turn(&self, state: &TurnState) -> Option<usize> {
        state.taken.iter().take(self.options.at_once).position(|taken| !taken)
    }

    /// Waits for a turn; of those who wait, the client that has had least is first.
    fn wait(&self, owner: Owner, until: Option<Instant>, asker: Option<&dyn Asker>) -> Result<usize, NoTurn> {
        let mut state = self.state();
        let ticket = state.next_ticket;
        state.next_ticket = ticket.saturating_add(1);
        state.waiting.push(WaitingThread { ticket, owner });
        let result = loop {
            if state.first() == Some(ticket)
                && let Some(turn) = self.free_turn(&state)
            {
                break Ok(turn);
            }
            if asker.is_some_and(Asker::has_left) {
                break Err(NoTurn::HasLeft);
            }
            let now = Instant::now();
            let left = until.map(|until| until.saturating_duration_since(now));
            if left.is_some_and(|left| left.is_zero()) {
                break Err(NoTurn::TooLate);
            }
            // Nothing wakes a thread because its client goes.
            let pause = left.unwrap_or(WAIT_INTERVAL).min(WAIT_INTERVAL);
            state = self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
        };
        state.waiting.retain(|waiting| waiting.ticket != ticket);
        if let Ok(turn) = result
            && let Some(taken) = state.taken.get_mut(turn)
        {
            *taken = true;
        }
        drop(state);
        // There may be another turn for the next one.
        self.changed.notify_all();
        result
    }

    fn give_back(&self, turn: usize, owner: Owner, used: Duration) {
        let mut state = self.state();
        if let Some(taken) = state.taken.get_mut(turn) {
            *taken = false;
        }
        if let Some(share) = state.owners.iter_mut().find(|share| share.owner == owner) {
            share.used = share.used.saturating_add(used);
        }
        drop(state);
        self.changed.notify_all();
    }
}

impl TurnState {
    /// Whose turn is next.
    fn first(&self) -> Option<u64> {
        let used = |owner: Owner| {
            self.owners.iter().find(|share| share.owner == owner).map_or(Duration::ZERO, |share| share.used)
        };
        let first = self.waiting.iter().min_by_key(|waiting| (used(waiting.owner), waiting.ticket));
        first.map(|waiting| waiting.ticket)
    }
}

/// The right to wait for turns.
#[derive(Debug)]
pub(crate) struct Seat<'a> {
    turns: &'a Turns,
    owner: Owner,
}

impl<'a> Seat<'a> {
    /// Waits for a turn, at most until `until`, and not for a client that has left.
    pub(crate) fn turn(&self, until: Option<Instant>, asker: Option<&dyn Asker>) -> Result<Turn<'a>, NoTurn> {
        let number = self.turns.wait(self.owner, until, asker)?;
        Ok(Turn { turns: self.turns, owner: self.owner, number, since: Instant::now() })
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        if let Some(share) = state.owners.iter_mut().find(|share| share.owner == self.owner) {
            share.seats = share.seats.saturating_sub(1);
        }
        state.owners.retain(|share| share.seats > 0);
    }
}

/// The right to work.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    owner: Owner,
    number: usize,
    since: Instant,
}

impl Turn<'_> {
    /// Which of the turns it is: no other turn has this number meanwhile.
    pub(crate) const fn number(&self) -> usize {
        self.number
    }

    /// Whether it has lasted long enough, and another thread waits.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= TURN_TIME && !self.turns.state().waiting.is_empty()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.give_back(self.number, self.owner, self.since.elapsed());
    }
}

/// How long a turn lasts while others wait.
const TURN_TIME: Duration = Duration::from_millis(10);
/// How often a thread that waits for a turn looks whether its client is still there.
const WAIT_INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(at_once: usize, seats: usize, seats_of_one_client: usize) -> Arc<Turns> {
        Turns::new(TurnOptions { at_once, seats, seats_of_one_client, ..TurnOptions::default() })
    }

    const AT_ONCE: Option<Instant> = None;

    #[test]
    fn seats_are_bounded_for_all_and_for_one() {
        let turns = turns(1, 3, 2);
        let (_first, second) = (turns.sit_down(1).unwrap(), turns.sit_down(1).unwrap());
        assert_eq!(turns.sit_down(1).err(), Some(NoSeat));
        let _third = turns.sit_down(2).unwrap();
        assert_eq!(turns.sit_down(3).err(), Some(NoSeat));
        drop(second);
        let _fourth = turns.sit_down(3).unwrap();
        assert_eq!(turns.sit_down(4).err(), Some(NoSeat), "the others still have theirs");
    }

    #[test]
    fn no_more_than_so_many_work_at_once() {
        let turns = turns(2, 8, 8);
        let seat = turns.sit_down(1).unwrap();
        let (first, second) = (seat.turn(AT_ONCE, None).unwrap(), seat.turn(AT_ONCE, None).unwrap());
        assert_ne!(first.number(), second.number());
        let now = Some(Instant::now());
        assert_eq!(seat.turn(now, None).err(), Some(NoTurn::TooLate));
        let number = first.number();
        drop(first);
        assert_eq!(seat.turn(AT_ONCE, None).unwrap().number(), number);
    }

    #[test]
    fn the_client_that_has_had_least_is_first() {
        let turns = turns(1, 8, 8);
        let order = Mutex::new(Vec::new());
        let (busy, new) = (turns.sit_down(1).unwrap(), turns.sit_down(2).unwrap());
        std::thread::scope(|scope| {
            let held = busy.turn(AT_ONCE, None).unwrap();
            while held.since.elapsed() < Duration::from_millis(2) {
                std::thread::yield_now();
            }
            // The busy one waits longer, and comes later.
            for (seat, name, waiting) in [(&busy, "busy", 1), (&new, "new", 2)] {
                let order = &order;
                scope.spawn(move || {
                    let turn = seat.turn(AT_ONCE, None).unwrap();
                    order.lock().unwrap().push(name);
                    drop(turn);
                });
                while turns.state().waiting.len() < waiting {
                    std::thread::yield_now();
                }
            }
            assert!(held.is_over(held.since + TURN_TIME) && !held.is_over(held.since));
            drop(held);
        });
        assert_eq!(*order.lock().unwrap(), ["new", "busy"]);
    }

    #[test]
    fn at_least_one_works_and_at_most_so_many_as_there_are_turns() {
        for (wanted, expected) in [(0, 1), (1, 1), (3, 3), (TURNS_MAX, TURNS_MAX), (100, TURNS_MAX)] {
            let turns = turns(wanted, 100, 100);
            assert_eq!(turns.options().at_once, expected);
            let seat = turns.sit_down(1).unwrap();
            let now = Some(Instant::now());
            let all: Vec<_> = (0..expected).map(|_| seat.turn(now, None).unwrap()).collect();
            assert!(seat.turn(now, None).is_err());
            assert_eq!(all.iter().map(Turn::number).collect::<Vec<_>>(), (0..expected).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_client_that_comes_later_begins_with_the_least_that_the_others_have_had() {
        let turns = turns(1, 8, 8);
        let first = |waiting: [Owner; 2]| {
            let mut state = turns.state();
            let numbered = (0..).zip(waiting);
            state.waiting = numbered.map(|(ticket, owner)| WaitingThread { ticket, owner }).collect();
            let first = state.first().map(|ticket| waiting[ticket as usize]);
            state.waiting.clear();
            first
        };
        let (one, _two) = (turns.sit_down(1).unwrap(), turns.sit_down(2).unwrap());
        turns.give_back(0, 1, Duration::from_secs(5));
        turns.give_back(0, 2, Duration::from_secs(3));
        assert_eq!(first([1, 2]), Some(2));
        let three = turns.sit_down(3).unwrap();
        assert_eq!((first([2, 3]), first([3, 2]), first([1, 3])), (Some(2), Some(3), Some(3)));
        turns.give_back(0, 3, Duration::from_secs(1));
        assert_eq!((first([3, 2]), first([1, 3])), (Some(2), Some(3)));
        // One that leaves and comes again has no longer had anything.
        drop((one, three));
        let _one = turns.sit_down(1).unwrap();
        assert_eq!((first([1, 2]), first([2, 1])), (Some(1), Some(2)));
    }

    #[test]
    fn a_turn_goes_on_while_no_other_thread_waits() {
        let turns = turns(1, 8, 8);
        let seat = turns.sit_down(1).unwrap();
        let turn = seat.turn(AT_ONCE, None).unwrap();
        let later = turn.since + TURN_TIME * 2;
        assert!(!turn.is_over(later));
        turns.state().waiting.push(WaitingThread { ticket: 7, owner: 2 });
        assert!(turn.is_over(later) && turn.is_over(turn.since + TURN_TIME));
        assert!(!turn.is_over(turn.since));
    }

    #[derive(Debug)]
    struct Client(std::sync::atomic::AtomicBool);

    impl Asker for Client {
        fn has_left(&self) -> bool {
            self.0.load(std::sync::atomic::Ordering::Relaxed)
        }
    }

    #[test]
    fn no_thread_waits_for_a_client_that_has_left() {
        let turns = turns(1, 8, 8);
        let seat = turns.sit_down(1).unwrap();
        let _turn = seat.turn(AT_ONCE, None).unwrap();
        let client = Client(false.into());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| seat.turn(AT_ONCE, Some(&client)).err());
            while turns.state().waiting.is_empty() {
                std::thread::yield_now();
            }
            client.0.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(waits.join().unwrap(), Some(NoTurn::HasLeft));
        });
        assert!(turns.state().waiting.is_empty());
    }
}
