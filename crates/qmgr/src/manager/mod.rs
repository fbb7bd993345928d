//! The queue manager: one process, which alone reads and writes the queue.
//!
//! ```text
//! incoming, deferred ─ scan ─ take ─ route ─┬─ Active ─ next ─ agent ─ outcome ─┬─ marks, logs of reasons
//!                                           └─ error, retry, discard ───────────┘        │
//!                                removed ◀─ nothing left ─┬─ report ◀── all tried ───────┘
//!                                                deferred ◀┘
//! ```
//!
//! It is one thread, which waits for events and for the disk; the sockets of agents and wake-ups belong to the runtime. A
//! message in hand is a lease: a crash at any moment leaves its file in `active`, from where the next queue manager gets it.

mod agents;
mod letter;
mod lock;
mod report;
mod round;
mod scan;
mod server;
mod tables;
mod work;

pub use server::{Confined, Manager, Opened, QueueManager};
