//! Who may come in, and until when.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use super::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore, watch};

/// Places for clients, and whether the process still takes any.
#[derive(Debug)]
pub struct ConnectionLimit {
    places: Arc<Semaphore>,
    places_max: u32,
    reject_slots: Arc<RejectSlots>,
    is_over: watch::Sender<bool>,
}

/// A client's place, until it is dropped.
pub type Permit = OwnedSemaphorePermit;

/// Where clients are who have no place, while they are told so: who may not send, and who is too many. When it is full, the
/// one who has been here longest goes.
#[derive(Debug)]
struct RejectSlots {
    /// Twice as many as may stay: those that were asked to leave are still closing.
    slots: Arc<Semaphore>,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    /// In the order of their coming.
    staying: VecDeque<(u64, Arc<Notify>)>,
}

/// A reject slot, until it is dropped.
#[derive(Debug)]
pub struct RejectSlot {
    room: Arc<RejectSlots>,
    number: u64,
    wanted: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

impl RejectSlot {
    /// Waits until another client wants it.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }
}

impl Drop for RejectSlot {
    fn drop(&mut self) {
        let mut queue = self.room.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(at) = queue.staying.binary_search_by_key(&self.number, |(number, _)| *number) {
            queue.staying.remove(at);
        }
    }
}

impl ConnectionLimit {
    /// With so many places.
    pub fn new(places_max: usize) -> Self {
        let places_max = u32::try_from(places_max.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        let permits = |count: u32| Arc::new(Semaphore::new(usize::try_from(count).unwrap_or(usize::MAX)));
        Self {
            places: permits(places_max),
            places_max,
            reject_slots: Arc::new(RejectSlots {
                slots: permits(REJECT_SLOTS_MAX.saturating_mul(2)),
                queue: Mutex::new(Queue::default()),
            }),
            is_over: watch::channel(false).0,
        }
    }

    /// A place, if one is free.
    pub(super) fn try_permit(&self) -> Option<Permit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Waits for a permit. (`None` would mean that the semaphore was closed, which does not happen.)
    pub async fn permit(&self) -> Option<Permit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// How many places are free.
    pub fn free_places(&self) -> usize {
        self.places.available_permits()
    }

    /// A reject slot, if even that is free.
    pub fn try_reject_slot(&self) -> Option<RejectSlot> {
        let room = &self.reject_slots;
        let permit = Arc::clone(&room.slots).try_acquire_owned().ok()?;
        let wanted = Arc::new(Notify::new());
        let mut queue = room.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let number = queue.next;
        queue.next = number.saturating_add(1);
        queue.staying.push_back((number, Arc::clone(&wanted)));
        if queue.staying.len() > usize::try_from(REJECT_SLOTS_MAX).unwrap_or(usize::MAX)
            && let Some((_, oldest)) = queue.staying.pop_front()
        {
            oldest.notify_one();
        }
        drop(queue);
        Some(RejectSlot { room: Arc::clone(room), number, wanted, _permit: permit })
    }

    /// Whether no client has a permit.
    pub(super) fn is_empty(&self) -> bool {
        u32::try_from(self.places.available_permits()).unwrap_or(u32::MAX) >= self.places_max
    }

    /// From now on no client is accepted. Returns whether one could be until now.
    pub(super) fn close(&self) -> bool {
        !self.is_over.send_replace(true)
    }

    /// Whether accepting has stopped.
    pub(super) fn is_closed(&self) -> bool {
        *self.is_over.borrow()
    }

    /// To wait for that: true is the end.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.is_over.subscribe()
    }

    /// Waits for the last client to leave, after accepting has stopped.
    pub(super) async fn drained(&self) {
        // Errors would mean that a semaphore was closed, which does not happen.
        // Held to the end: who is in a reject slot could still wait for a place.
        let _places = self.places.acquire_many(self.places_max).await;
        let _ = self.reject_slots.slots.acquire_many(REJECT_SLOTS_MAX.saturating_mul(2)).await;
    }
}

/// Clients that may take their time to hear that they are not served.
const REJECT_SLOTS_MAX: u32 = 256;

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_has_been_in_the_waiting_room_longest_goes() {
        let connection_limit = ConnectionLimit::new(1);
        let count = usize::try_from(REJECT_SLOTS_MAX).unwrap();
        let mut slots: Vec<RejectSlot> =
            (0..count).map(|_| connection_limit.try_reject_slot().unwrap()).collect();
        // One leaves, another one comes; and then one too many.
        slots.remove(5);
        slots.push(connection_limit.try_reject_slot().unwrap());
        slots.push(connection_limit.try_reject_slot().unwrap());
        slots[0].wanted().await;
        let others = slots.iter().skip(1).map(|slot| Box::pin(slot.wanted()));
        let mut others: Vec<_> = others.collect();
        for other in &mut others {
            let soon = tokio::time::timeout(std::time::Duration::ZERO, other).await;
            assert!(soon.is_err(), "only one had to go");
        }
        drop(others);
        // Those who do not go are at most as many again.
        slots.extend((0..count).map_while(|_| connection_limit.try_reject_slot()));
        assert_eq!(slots.len(), 2 * count);
        assert!(connection_limit.try_reject_slot().is_none());
    }
}
