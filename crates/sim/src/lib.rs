//! The simulated world: one seed, one thread, the real code of the queue.
//!
//! Committers, journal, checkpoints, settlement and leases run on a simulated disk, as tasks of a model checker (shuttle, under
//! `--cfg shuttle`) whose order is drawn from the seed; clients, a queue manager and an operator work with them, and faults
//! come between. A ledger says at the end of each message what became of it. `docs/simulation.md` tells how to use it.

mod chance;
mod drive;
mod ledger;
mod manager;
mod order;
mod plan;
mod world;

pub use drive::{Outcome, run, shrink};
pub use ledger::Totals;
pub use plan::{Fault, Run};
pub use spool::planted::{Planted, plant};
