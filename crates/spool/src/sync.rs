//! Threads, locks and conditions: those of the standard library. Under `--cfg shuttle` those of a model checker,
//! which decides who runs next, so that `tests/model.rs` tries this code in rare orders.

/// The number of this process; in a model always the same, as in containers.
pub(crate) fn process_id() -> u32 {
    if cfg!(shuttle) { 1 } else { std::process::id() }
}

#[cfg(not(shuttle))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard},
    thread::{self, JoinHandle, Thread, ThreadId},
};

#[cfg(shuttle)]
pub(crate) use shuttle::{
    sync::{Condvar, Mutex, MutexGuard},
    thread::{self, JoinHandle, Thread, ThreadId},
};
