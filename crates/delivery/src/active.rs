//! Which delivery is next: the messages in hand, by destination, in memory.
//!
//! ```text
//! message ─┬─ (transport, destination) ─ entries ─┐
//!          └─ …                                   ├─ destinations take turns ─▶ next()
//! message ─── … ──────────────────────────────────┘   within one, messages take turns
//! ```
//!
//! Three rules keep mail from waiting for other mail. Destinations take turns, so a slow one costs only its own
//! mail. Within a destination messages take turns, so a single message overtakes a long list. And when most of the
//! places for deliveries are taken, a destination gets no more than its share of them, so that a few slow destinations
//! cannot fill all.
//!
//! The queue manager owns one [`Active`]; it does no I/O, and time comes in as an argument.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::window::{End, Settings, Window};

/// Where deliveries go: one of these has one [`Window`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    /// The transport's name.
    pub transport: String,
    /// The next-hop, in lower case; or what several next-hops have in common, if they are to count as one.
    pub name: String,
}

/// A delivery to begin: some recipients of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery<M, R> {
    /// The message.
    pub message: M,
    /// Where it goes.
    pub destination: Destination,
    /// Who gets it. Not empty.
    pub recipients: Vec<R>,
}

/// How much there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Deliveries that run at a time, over all destinations. At least 1.
    pub deliveries_max: usize,
    /// Recipients in hand; [`Active::has_room`] says when that is reached.
    pub recipients_max: usize,
}

/// The recipients of one message that wait at one destination.
#[derive(Debug)]
struct Entry<M, R> {
    message: M,
    recipients: VecDeque<R>,
    /// How many of them one delivery takes.
    per_delivery: usize,
}

#[derive(Debug)]
struct DestinationQueue<M, R> {
    window: Window,
    entries: VecDeque<Entry<M, R>>,
    /// Is it in the round of those that have mail?
    is_in_turn: bool,
}

/// The messages in hand.
#[derive(Debug)]
pub struct Active<M, R> {
    limits: Limits,
    queues: HashMap<Destination, DestinationQueue<M, R>>,
    /// Destinations with mail, in the order of their turns.
    turns: VecDeque<Destination>,
    running: usize,
    waiting_recipients: usize,
}

impl<M: Clone + PartialEq, R> Active<M, R> {
    /// With nothing in hand.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, queues: HashMap::new(), turns: VecDeque::new(), running: 0, waiting_recipients: 0 }
    }

    /// May more recipients be read?
    #[must_use]
    pub const fn has_room(&self) -> bool {
        self.waiting_recipients < self.limits.recipients_max
    }

    /// How many recipients wait for their turn.
    #[must_use]
    pub const fn waiting_recipients(&self) -> usize {
        self.waiting_recipients
    }

    /// How many deliveries run.
    #[must_use]
    pub const fn running(&self) -> usize {
        self.running
    }

    /// How many destinations are known: with mail, with deliveries, or with something to remember.
    #[must_use]
    pub fn destinations(&self) -> usize {
        self.queues.len()
    }

    /// Recipients of `message` that go to one destination, `per_delivery` at a time (0: all at once). `settings` count
    /// for a destination that is not known yet.
    pub fn add(
        &mut self,
        message: M,
        destination: &Destination,
        recipients: impl IntoIterator<Item = R>,
        per_delivery: usize,
        settings: Settings,
    ) {
        let recipients: VecDeque<R> = recipients.into_iter().collect();
        if recipients.is_empty() {
            return;
        }
        self.waiting_recipients = self.waiting_recipients.saturating_add(recipients.len());
        let queue = self.queues.entry(destination.clone()).or_insert_with(|| DestinationQueue {
            window: Window::new(settings),
            entries: VecDeque::new(),
            is_in_turn: false,
        });
        let per_delivery = if per_delivery == 0 { usize::MAX } else { per_delivery };
        match queue.entries.iter_mut().find(|entry| entry.message == message) {
            Some(entry) => entry.recipients.extend(recipients),
            None => queue.entries.push_back(Entry { message, recipients, per_delivery }),
        }
        if !std::mem::replace(&mut queue.is_in_turn, true) {
            self.turns.push_back(destination.clone());
        }
    }

    /// The next delivery to begin, if any may begin now.
    pub fn next(&mut self, now: Duration) -> Option<Delivery<M, R>> {
        if self.running >= self.limits.deliveries_max {
            return None;
        }
        let share = self.share();
        for _ in 0..self.turns.len() {
            let destination = self.turns.pop_front()?;
            let Some(queue) = self.queues.get_mut(&destination) else { continue };
            let busy = usize::try_from(queue.window.busy()).unwrap_or(usize::MAX);
            if busy >= share || !queue.window.has_room(now) {
                self.turns.push_back(destination);
                continue;
            }
            let Some((message, recipients)) = queue.take() else {
                queue.is_in_turn = false;
                continue;
            };
            queue.window.begin();
            self.running += 1;
            self.waiting_recipients = self.waiting_recipients.saturating_sub(recipients.len());
            if queue.entries.is_empty() {
                queue.is_in_turn = false;
            } else {
                self.turns.push_back(destination.clone());
            }
            return Some(Delivery { message, destination, recipients });
        }
        None
    }

    /// A delivery has ended. If the destination is out of order now, what waited for it comes back: it is to be
    /// deferred.
    pub fn end(&mut self, destination: &Destination, end: End, now: Duration) -> Vec<(M, Vec<R>)> {
        self.running = self.running.saturating_sub(1);
        let Some(queue) = self.queues.get_mut(destination) else { return Vec::new() };
        queue.window.end(end, now);
        if queue.window.is_out_of_order(now) {
            return self.take_waiting(destination);
        }
        Vec::new()
    }

    /// Is this destination out of order? Recipients for it are to be deferred, not added.
    #[must_use]
    pub fn is_out_of_order(&mut self, destination: &Destination, now: Duration) -> bool {
        self.queues.get_mut(destination).is_some_and(|queue| queue.window.is_out_of_order(now))
    }

    /// Takes the waiting recipients of a message back: it was held or removed.
    pub fn take_message(&mut self, message: &M) -> Vec<(Destination, Vec<R>)> {
        let mut taken = Vec::new();
        for (destination, queue) in &mut self.queues {
            let Some(at) = queue.entries.iter().position(|entry| entry.message == *message) else { continue };
            if let Some(entry) = queue.entries.remove(at) {
                self.waiting_recipients = self.waiting_recipients.saturating_sub(entry.recipients.len());
                taken.push((destination.clone(), Vec::from(entry.recipients)));
            }
        }
        // The order of a hash map must not decide anything.
        taken.sort_by(|(one, _), (other, _)| one.cmp(other));
        taken
    }

    /// An operator's flush: destinations that were out of order are tried again.
    pub fn revive_all(&mut self) {
        self.queues.values_mut().for_each(|queue| queue.window.revive());
    }

    /// When to look again, if no delivery ends before: the first moment at which a closed destination opens.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Duration> {
        let waiting = self.queues.values().filter(|queue| !queue.entries.is_empty());
        waiting.filter_map(|queue| queue.window.closed_until()).min()
    }

    /// Forgets destinations without mail about which there is nothing to remember.
    pub fn forget_idle(&mut self, now: Duration) {
        self.queues
            .retain(|_, queue| !queue.entries.is_empty() || queue.is_in_turn || !queue.window.is_idle(now));
    }

    /// How many places one destination may have: all, while a quarter of the places is free; then an equal share among
    /// those that have mail.
    fn share(&self) -> usize {
        let free = self.limits.deliveries_max.saturating_sub(self.running);
        if free > self.limits.deliveries_max / 4 {
            return usize::MAX;
        }
        self.limits.deliveries_max.checked_div(self.turns.len()).unwrap_or(usize::MAX).max(1)
    }

    fn take_waiting(&mut self, destination: &Destination) -> Vec<(M, Vec<R>)> {
        let Some(queue) = self.queues.get_mut(destination) else { return Vec::new() };
        let entries: Vec<(M, Vec<R>)> =
            queue.entries.drain(..).map(|entry| (entry.message, Vec::from(entry.recipients))).collect();
        let count = entries.iter().map(|(_, recipients)| recipients.len()).sum();
        self.waiting_recipients = self.waiting_recipients.saturating_sub(count);
        entries
    }
}

impl<M: Clone, R> DestinationQueue<M, R> {
    /// The next recipients, of the message whose turn it is; it goes to the end of the line if it has more.
    fn take(&mut self) -> Option<(M, Vec<R>)> {
        let mut entry = self.entries.pop_front()?;
        let count = entry.per_delivery.min(entry.recipients.len());
        let recipients: Vec<R> = entry.recipients.drain(..count).collect();
        let message = entry.message.clone();
        if !entry.recipients.is_empty() {
            self.entries.push_back(entry);
        }
        Some((message, recipients))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const T0: Duration = Duration::ZERO;

    fn at(name: &str) -> Destination {
        Destination { transport: "smtp".into(), name: name.into() }
    }

    fn active(deliveries_max: usize) -> Active<u32, u32> {
        Active::new(Limits { deliveries_max, recipients_max: 10_000 })
    }

    fn wide() -> Settings {
        Settings { initial: 100, limit: 100, ..Settings::default() }
    }

    #[test]
    fn a_single_message_overtakes_a_list() {
        let mut active = active(100);
        active.add(1, &at("a"), 0..5000, 50, Settings::default());
        for _ in 0..5 {
            assert_eq!(active.next(T0).unwrap().message, 1);
        }
        active.add(2, &at("a"), [0], 50, Settings::default());
        assert_eq!(active.next(T0), None, "the window of the destination is full");
        active.end(&at("a"), End::Served, T0);
        let two: Vec<u32> = std::iter::from_fn(|| active.next(T0)).map(|delivery| delivery.message).collect();
        assert!(two.contains(&2), "{two:?}");
    }

    #[test]
    fn destinations_take_turns() {
        let mut active = active(100);
        for name in ["a", "b", "c"] {
            active.add(1, &at(name), 0..3, 1, wide());
        }
        let order: String = (0..9).map(|_| active.next(T0).unwrap().destination.name).collect();
        assert_eq!(order, "abcabcabc");
        assert_eq!(active.next(T0), None);
    }

    #[test]
    fn slow_destinations_leave_places_to_others() {
        let mut active = active(40);
        for name in ["slow1", "slow2"] {
            active.add(1, &at(name), 0..1000, 1, wide());
        }
        let begun: Vec<String> =
            std::iter::from_fn(|| active.next(T0)).map(|delivery| delivery.destination.name).collect();
        assert_eq!(begun.len(), 40, "two alone may have all");
        // They end one after another; a third destination needs its turn only.
        active.add(2, &at("quick"), 0..10, 1, wide());
        active.end(&at("slow1"), End::Served, T0);
        assert_eq!(active.next(T0).unwrap().destination, at("quick"));
        let mut begun = 0;
        for _ in 0..15 {
            active.end(&at("slow1"), End::Served, T0);
            begun += std::iter::from_fn(|| active.next(T0))
                .filter(|delivery| delivery.destination == at("quick"))
                .count();
        }
        assert!(begun >= 9, "{begun}");
    }

    #[test]
    fn what_waits_for_a_destination_that_is_out_of_order_comes_back() {
        let mut active = active(100);
        active.add(1, &at("dead"), 0..10, 1, Settings { initial: 1, ..Settings::default() });
        active.add(2, &at("dead"), 0..2, 1, Settings::default());
        active.next(T0).unwrap();
        let mut back = active.end(&at("dead"), End::Blamed, T0);
        back.sort_unstable();
        assert_eq!(
            back.iter().map(|(message, recipients)| (*message, recipients.len())).collect::<Vec<_>>(),
            [(1, 9), (2, 2)]
        );
        assert!(active.is_out_of_order(&at("dead"), T0) && active.waiting_recipients() == 0);
        active.revive_all();
        assert!(!active.is_out_of_order(&at("dead"), T0));
    }

    #[test]
    fn idle_destinations_are_forgotten() {
        let mut active = active(100);
        for number in 0..1000 {
            active.add(1, &at(&number.to_string()), [0], 1, Settings::default());
        }
        while let Some(delivery) = active.next(T0) {
            active.end(&delivery.destination, End::Served, T0);
        }
        active.forget_idle(T0);
        assert_eq!(active.destinations(), 0);
    }

    #[test]
    fn a_message_can_be_taken_back() {
        let mut active = active(100);
        active.add(1, &at("a"), 0..3, 1, Settings::default());
        active.add(2, &at("a"), 0..3, 1, Settings::default());
        active.add(1, &at("b"), 0..2, 1, Settings::default());
        let taken = active.take_message(&1);
        assert_eq!(
            taken
                .iter()
                .map(|(place, recipients)| (place.name.as_str(), recipients.len()))
                .collect::<Vec<_>>(),
            [("a", 3), ("b", 2)]
        );
        assert!(std::iter::from_fn(|| active.next(T0)).all(|delivery| delivery.message == 2));
    }

    #[test]
    fn a_rate_delay_says_when_to_look_again() {
        let mut active = active(100);
        let settings = Settings { rate_delay: Duration::from_secs(2), ..Settings::default() };
        active.add(1, &at("a"), 0..2, 1, settings);
        active.next(T0).unwrap();
        active.end(&at("a"), End::Served, T0);
        assert_eq!((active.next(T0), active.wakes_at()), (None, Some(Duration::from_secs(2))));
        assert!(active.next(Duration::from_secs(2)).is_some());
    }

    proptest! {
        /// Every recipient is delivered exactly once or comes back exactly once, whatever ends how; no limit is passed.
        #[test]
        fn nobody_is_lost_or_doubled(
            messages in proptest::collection::vec((0u8..6, 1usize..40, 0usize..7), 1..30),
            ends in proptest::collection::vec(0u8..8, 0..400),
            deliveries_max in 1usize..20,
        ) {
            let mut active = Active::new(Limits { deliveries_max, recipients_max: 1000 });
            let mut seen: BTreeMap<(usize, usize), u32> = BTreeMap::new();
            for (message, (place, count, per_delivery)) in messages.iter().enumerate() {
                active.add(message, &at(&place.to_string()), 0..*count, *per_delivery, Settings::default());
            }
            let mut running = Vec::new();
            let mut ends = ends.into_iter();
            let mut now = T0;
            loop {
                while let Some(delivery) = active.next(now) {
                    prop_assert!(!delivery.recipients.is_empty());
                    for recipient in &delivery.recipients {
                        *seen.entry((delivery.message, *recipient)).or_default() += 1;
                    }
                    running.push(delivery.destination);
                    prop_assert!(running.len() <= deliveries_max);
                }
                let Some(destination) = running.pop() else {
                    let Some(at) = active.wakes_at() else { break };
                    now = at;
                    continue;
                };
                let end = match ends.next().unwrap_or(0) {
                    5 | 6 => End::Blamed,
                    7 => End::AskedForLess,
                    _ => End::Served,
                };
                now += Duration::from_millis(100);
                for (message, recipients) in active.end(&destination, end, now) {
                    for recipient in recipients {
                        *seen.entry((message, recipient)).or_default() += 1;
                    }
                }
            }
            let expected: usize = messages.iter().map(|(_, count, _)| count).sum();
            prop_assert_eq!((seen.len(), active.waiting_recipients(), active.running()), (expected, 0, 0));
            prop_assert!(seen.values().all(|&times| times == 1));
        }
    }
}
