//! Memory for the messages that are being received, shared out by client.
//!
//! The memory is counted in shares, one for each message. A client may have `SHARE_FACTOR` times as many as are free, and
//! never the last one of several; so some are always free for those who have few. A message that gets no share waits. The next
//! share is for the client that has the fewest, and of those that have as many for the one that has waited longest.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The memory of a service process. The lock is held for a few additions.
#[derive(Debug)]
pub struct MessageMemory {
    shares_max: usize,
    state: Mutex<MemoryState>,
}

#[derive(Debug, Default)]
struct MemoryState {
    free: usize,
    /// Those that have a share or wait for one.
    clients: HashMap<Option<IpAddr>, Client>,
    /// Those that wait, in the order in which they are given a share: how many they have, and since which ticket they wait.
    waiting: BTreeSet<(usize, u64, Option<IpAddr>)>,
    next_ticket: u64,
}

#[derive(Debug, Default)]
struct Client {
    shares: usize,
    waiting: BTreeMap<u64, oneshot::Sender<MemoryShare>>,
}

/// Memory for one message, until it is dropped.
#[derive(Debug)]
pub struct MemoryShare {
    /// On the heap: a session that only waits for its client has room for it, too.
    _taken: Box<Taken>,
}

#[derive(Debug)]
struct Taken {
    memory: Arc<MessageMemory>,
    client: Option<IpAddr>,
}

impl MemoryShare {
    fn new(memory: &Arc<MessageMemory>, client: Option<IpAddr>) -> Self {
        Self { _taken: Box::new(Taken { memory: Arc::clone(memory), client }) }
    }
}

/// A place among those that wait, until it is dropped.
struct Waiter<'m> {
    memory: &'m MessageMemory,
    client: Option<IpAddr>,
    ticket: u64,
}

impl MessageMemory {
    /// For so many messages at a time; one at least.
    #[must_use]
    pub fn new(shares_max: usize) -> Self {
        let shares_max = shares_max.max(1);
        Self { shares_max, state: Mutex::new(MemoryState { free: shares_max, ..MemoryState::default() }) }
    }

    /// A share, if this client may have one now.
    pub fn try_share(self: &Arc<Self>, client: Option<IpAddr>) -> Option<MemoryShare> {
        let mut state = self.state();
        // A client that waits may have none now, and this one has as many or more, or may have one first.
        if !self.may_take(&state, client) {
            return None;
        }
        state.take(client);
        Some(MemoryShare::new(self, client))
    }

    /// Waits for a share. To drop the future is to give up. (`None` would mean that the memory is gone, which does not happen.)
    pub async fn share(self: &Arc<Self>, client: Option<IpAddr>) -> Option<MemoryShare> {
        if let Some(share) = self.try_share(client) {
            return Some(share);
        }
        // On the heap: few wait, and every session would have room for it.
        Box::pin(self.wait_for_share(client)).await
    }

    async fn wait_for_share(self: &Arc<Self>, client: Option<IpAddr>) -> Option<MemoryShare> {
        let (sender, receiver) = oneshot::channel();
        let ticket = self.state().wait(client, sender);
        let _waiter = Waiter { memory: self, client, ticket };
        // One may have come free in between.
        self.hand_out();
        receiver.await.ok()
    }

    /// Whether a further message of this client would have to wait.
    pub fn is_exhausted_for(&self, client: Option<IpAddr>) -> bool {
        !self.may_take(&self.state(), client)
    }

    /// How many shares are free.
    pub fn free_shares(&self) -> usize {
        self.state().free
    }

    fn may_take(&self, state: &MemoryState, client: Option<IpAddr>) -> bool {
        self.may_have_more(state.free, state.clients.get(&client).map_or(0, |client| client.shares))
    }

    /// Whether a client that has so many shares may have one more, while so many are free.
    fn may_have_more(&self, free: usize, shares: usize) -> bool {
        let most = free.saturating_mul(SHARE_FACTOR).min(self.shares_max.saturating_sub(1).max(1));
        free > 0 && shares < most
    }

    /// Gives those that wait what they may have.
    fn hand_out(self: &Arc<Self>) {
        loop {
            let mut state = self.state();
            // If the one that has the fewest may have no more, no other may.
            let next = state.waiting.first().copied();
            let Some((shares, ticket, client)) = next else { return };
            if !self.may_have_more(state.free, shares) {
                return;
            }
            let sender = state.stop_waiting(client, ticket);
            state.take(client);
            drop(state);
            let share = MemoryShare::new(self, client);
            // Outside of the lock: a share that does not reach its message comes back here.
            if let Some(sender) = sender {
                let _gave_up = sender.send(share);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, MemoryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryState {
    fn take(&mut self, client: Option<IpAddr>) {
        self.free = self.free.saturating_sub(1);
        self.change(client, |client| client.shares = client.shares.saturating_add(1));
    }

    fn give_back(&mut self, client: Option<IpAddr>) {
        self.free = self.free.saturating_add(1);
        self.change(client, |client| client.shares = client.shares.saturating_sub(1));
    }

    fn wait(&mut self, client: Option<IpAddr>, sender: oneshot::Sender<MemoryShare>) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket = ticket.wrapping_add(1);
        self.change(client, |client| client.waiting.insert(ticket, sender));
        ticket
    }

    fn stop_waiting(&mut self, client: Option<IpAddr>, ticket: u64) -> Option<oneshot::Sender<MemoryShare>> {
        self.change(client, |client| client.waiting.remove(&ticket))
    }

    /// Changes what a client has, and its place among those that wait.
    fn change<R>(&mut self, client: Option<IpAddr>, change: impl FnOnce(&mut Client) -> R) -> R {
        let place = |found: &Client| Some((found.shares, *found.waiting.first_key_value()?.0, client));
        let found = self.clients.entry(client).or_default();
        if let Some(place) = place(found) {
            self.waiting.remove(&place);
        }
        let result = change(found);
        match place(found) {
            Some(place) => drop(self.waiting.insert(place)),
            None if found.shares == 0 => drop(self.clients.remove(&client)),
            None => {}
        }
        result
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.memory.state().give_back(self.client);
        self.memory.hand_out();
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        drop(self.memory.state().stop_waiting(self.client, self.ticket));
    }
}

/// A client may have so many times the shares that are free.
const SHARE_FACTOR: usize = 16;

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;

    fn client(number: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, number]))
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn one_client_never_has_all_memory() {
        for (shares, most) in [(1, 1), (2, 1), (4, 3), (16, 15), (256, 241)] {
            let memory = Arc::new(MessageMemory::new(shares));
            let held: Vec<_> = std::iter::from_fn(|| memory.try_share(client(1))).collect();
            assert_eq!(held.len(), most, "of {shares}");
            assert!(memory.is_exhausted_for(client(1)));
            assert_eq!(memory.try_share(client(2)).is_some(), shares > 1, "another one, of {shares}");
            drop(held);
            assert_eq!((memory.free_shares(), memory.state().clients.len()), (shares, 0));
        }
    }

    #[test]
    fn who_has_least_is_next_and_then_who_has_waited_longest() {
        let memory = Arc::new(MessageMemory::new(4));
        let mut held: Vec<_> = [1, 1, 1, 2].map(|number| memory.try_share(client(number)).unwrap()).into();
        let mut greedy = pin!(memory.share(client(1)));
        let mut modest = pin!(memory.share(client(2)));
        let mut late = pin!(memory.share(client(3)));
        assert!(poll(greedy.as_mut()).is_none() && poll(modest.as_mut()).is_none());
        assert!(poll(late.as_mut()).is_none());
        held.truncate(3);
        held.truncate(2);
        // Two came free: one for the client that had none, one for the other that then had none.
        let late = poll(late.as_mut()).unwrap().unwrap();
        let modest = poll(modest.as_mut()).unwrap().unwrap();
        assert!(poll(greedy.as_mut()).is_none());
        drop((late, modest));
        assert!(poll(greedy.as_mut()).is_some(), "who waits gets what the others leave");
    }

    #[test]
    fn who_gives_up_leaves_nothing_behind() {
        let memory = Arc::new(MessageMemory::new(1));
        let share = memory.try_share(client(1));
        let mut first = Box::pin(memory.share(client(1)));
        let mut second = Box::pin(memory.share(client(2)));
        let mut third = Box::pin(memory.share(client(2)));
        assert!([&mut first, &mut second, &mut third].into_iter().all(|one| poll(one.as_mut()).is_none()));
        drop(second);
        drop(share);
        // It was given one, and never looked.
        drop(third);
        assert!(poll(first.as_mut()).unwrap().is_some());
        drop(first);
        assert_eq!(memory.free_shares(), 1);
        let state = memory.state();
        assert!(state.clients.is_empty() && state.waiting.is_empty());
    }

    proptest! {
        /// Whatever comes and goes in whatever order: no share is lost or made, and no client waits for one that it may have.
        #[test]
        fn shares_are_neither_lost_nor_idle(
            shares in 1_usize..40,
            steps in prop::collection::vec((0_u8..4, 0_u8..3, any::<prop::sample::Index>()), 0..200),
        ) {
            let memory = Arc::new(MessageMemory::new(shares));
            let (mut held, mut waiting) = (Vec::new(), Vec::new());
            for (number, step, which) in steps {
                match step {
                    0 => waiting.push(Box::pin({
                        let memory = Arc::clone(&memory);
                        async move { memory.share(client(number)).await }
                    })),
                    1 if !held.is_empty() => drop(held.swap_remove(which.index(held.len()))),
                    2 if !waiting.is_empty() => drop(waiting.swap_remove(which.index(waiting.len()))),
                    _ => {}
                }
                waiting.retain_mut(|one| match poll(one.as_mut()) {
                    Some(share) => {
                        held.extend(share);
                        false
                    }
                    None => true,
                });
                prop_assert_eq!(held.len() + memory.free_shares(), shares);
                let state = memory.state();
                for (found, client) in &state.clients {
                    prop_assert!(client.waiting.is_empty() || !memory.may_take(&state, *found));
                }
            }
            drop((held, waiting));
            prop_assert_eq!((memory.free_shares(), memory.state().clients.len()), (shares, 0));
        }
    }
}
