//! Who may come in, and until when.

use std::sync::Arc;

use super::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Places for clients, and whether the process still takes any.
#[derive(Debug)]
pub struct Admission {
    places: Arc<Semaphore>,
    places_max: u32,
    /// For clients that are being turned away.
    waiting_room: Arc<Semaphore>,
    is_over: watch::Sender<bool>,
}

/// A client's place, until it is dropped.
pub(super) type Place = OwnedSemaphorePermit;

impl Admission {
    /// With so many places.
    pub(super) fn new(places_max: usize) -> Self {
        let places_max = u32::try_from(places_max.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        let permits = |count: u32| Arc::new(Semaphore::new(usize::try_from(count).unwrap_or(usize::MAX)));
        Self {
            places: permits(places_max),
            places_max,
            waiting_room: permits(WAITING_ROOM_PLACES),
            is_over: watch::channel(false).0,
        }
    }

    /// A place, if one is free.
    pub(super) fn try_place(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Waits for a place. (`None` would mean that somebody closed the semaphore; nobody does.)
    pub(super) async fn place(&self) -> Option<Place> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// A place for one who will hear that there is none, if even that is free.
    pub(super) fn try_waiting_room(&self) -> Option<Place> {
        Arc::clone(&self.waiting_room).try_acquire_owned().ok()
    }

    /// Whether nobody has a place.
    pub(super) fn is_empty(&self) -> bool {
        u32::try_from(self.places.available_permits()).unwrap_or(u32::MAX) >= self.places_max
    }

    /// From now on nobody comes in. Returns whether somebody could until now.
    pub(super) fn close(&self) -> bool {
        !self.is_over.send_replace(true)
    }

    /// To wait for that: true is the end.
    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.is_over.subscribe()
    }

    /// Waits for the last client to leave, when nobody comes in any more.
    pub(super) async fn drained(&self) {
        // Errors would mean that somebody closed a semaphore; nobody does.
        let _ = self.places.acquire_many(self.places_max).await;
        let _ = self.waiting_room.acquire_many(WAITING_ROOM_PLACES).await;
    }
}

/// Clients that hear `too many connections` at a time; beyond that they are closed without a word.
const WAITING_ROOM_PLACES: u32 = 256;
