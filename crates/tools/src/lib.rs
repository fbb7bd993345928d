//! Tools around qmqpd: each program is one function here, and its file in `bin` calls it.

pub mod bench;
pub mod config;
pub mod queue;
pub mod send;
