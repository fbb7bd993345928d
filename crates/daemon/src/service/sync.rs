//! Tasks and what they wait for: those of tokio. Under `--cfg shuttle`, in the tests of this crate, those of a model checker,
//! which decides who runs next, so that `model.rs` tries this very code in orders that a machine meets once in a year.

#[cfg(not(all(test, shuttle)))]
pub(super) use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};
#[cfg(not(all(test, shuttle)))]
pub(super) use tokio::{
    select, spawn,
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    task::{JoinSet, yield_now},
    time::timeout,
};

#[cfg(all(test, shuttle))]
pub(super) use shuttle::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};
#[cfg(all(test, shuttle))]
pub(super) use shuttle_tokio::{
    select, spawn,
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    task::{JoinSet, yield_now},
    time::timeout,
};
