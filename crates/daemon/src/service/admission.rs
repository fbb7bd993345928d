//! Who may come in, and until when.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use super::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore, watch};

/// Places for clients, and whether the process still takes any.
#[derive(Debug)]
pub struct Admission {
    places: Arc<Semaphore>,
    places_max: u32,
    waiting_room: Arc<WaitingRoom>,
    is_over: watch::Sender<bool>,
}

/// A client's place, until it is dropped.
pub type Place = OwnedSemaphorePermit;

/// Where clients are who have no place, while they are told so: who may not send, and who is too many. When it is full, the
/// one who has been here longest goes.
#[derive(Debug)]
struct WaitingRoom {
    /// Twice as many as may stay: those who have been asked to leave are on their way out.
    seats: Arc<Semaphore>,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    /// In the order of their coming.
    staying: VecDeque<(u64, Arc<Notify>)>,
}

/// A seat in the waiting room, until it is dropped.
#[derive(Debug)]
pub struct Seat {
    room: Arc<WaitingRoom>,
    number: u64,
    wanted: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

impl Seat {
    /// Waits until another client wants it.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut queue = self.room.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(at) = queue.staying.binary_search_by_key(&self.number, |(number, _)| *number) {
            queue.staying.remove(at);
        }
    }
}

impl Admission {
    /// With so many places.
    pub fn new(places_max: usize) -> Self {
        let places_max = u32::try_from(places_max.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        let permits = |count: u32| Arc::new(Semaphore::new(usize::try_from(count).unwrap_or(usize::MAX)));
        Self {
            places: permits(places_max),
            places_max,
            waiting_room: Arc::new(WaitingRoom {
                seats: permits(WAITING_ROOM_SEATS.saturating_mul(2)),
                queue: Mutex::new(Queue::default()),
            }),
            is_over: watch::channel(false).0,
        }
    }

    /// A place, if one is free.
    pub(super) fn try_place(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Waits for a place. (`None` would mean that somebody closed the semaphore; nobody does.)
    pub async fn place(&self) -> Option<Place> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// How many places are free.
    pub fn free_places(&self) -> usize {
        self.places.available_permits()
    }

    /// A seat in the waiting room, if even that is free.
    pub fn try_seat(&self) -> Option<Seat> {
        let room = &self.waiting_room;
        let permit = Arc::clone(&room.seats).try_acquire_owned().ok()?;
        let wanted = Arc::new(Notify::new());
        let mut queue = room.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let number = queue.next;
        queue.next = number.saturating_add(1);
        queue.staying.push_back((number, Arc::clone(&wanted)));
        if queue.staying.len() > usize::try_from(WAITING_ROOM_SEATS).unwrap_or(usize::MAX)
            && let Some((_, oldest)) = queue.staying.pop_front()
        {
            oldest.notify_one();
        }
        drop(queue);
        Some(Seat { room: Arc::clone(room), number, wanted, _permit: permit })
    }

    /// Whether nobody has a place.
    pub(super) fn is_empty(&self) -> bool {
        u32::try_from(self.places.available_permits()).unwrap_or(u32::MAX) >= self.places_max
    }

    /// From now on nobody comes in. Returns whether somebody could until now.
    pub(super) fn close(&self) -> bool {
        !self.is_over.send_replace(true)
    }

    /// Whether nobody comes in any more.
    pub(super) fn is_closed(&self) -> bool {
        *self.is_over.borrow()
    }

    /// To wait for that: true is the end.
    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.is_over.subscribe()
    }

    /// Waits for the last client to leave, when nobody comes in any more.
    pub(super) async fn drained(&self) {
        // Errors would mean that somebody closed a semaphore; nobody does.
        // Held to the end: who is in the waiting room could still wait for a place.
        let _places = self.places.acquire_many(self.places_max).await;
        let _ = self.waiting_room.seats.acquire_many(WAITING_ROOM_SEATS.saturating_mul(2)).await;
    }
}

/// Clients that may take their time to hear that they are not served.
const WAITING_ROOM_SEATS: u32 = 256;

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_has_been_in_the_waiting_room_longest_goes() {
        let admission = Admission::new(1);
        let count = usize::try_from(WAITING_ROOM_SEATS).unwrap();
        let mut seats: Vec<Seat> = (0..count).map(|_| admission.try_seat().unwrap()).collect();
        // One leaves, another one comes; and then one too many.
        seats.remove(5);
        seats.push(admission.try_seat().unwrap());
        seats.push(admission.try_seat().unwrap());
        seats[0].wanted().await;
        let others = seats.iter().skip(1).map(|seat| Box::pin(seat.wanted()));
        let mut others: Vec<_> = others.collect();
        for other in &mut others {
            let soon = tokio::time::timeout(std::time::Duration::ZERO, other).await;
            assert!(soon.is_err(), "only one had to go");
        }
        drop(others);
        // Those who do not go are at most as many again.
        seats.extend((0..count).map_while(|_| admission.try_seat()));
        assert_eq!(seats.len(), 2 * count);
        assert!(admission.try_seat().is_none());
    }
}
