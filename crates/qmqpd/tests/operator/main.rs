//! What an operator hears from `qmqpd`: the same from check, start and reload; what is true, and never a panic.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub
)]

mod limits;
mod listening;
mod output;
mod said;
mod site;
mod sockets;
mod space;
mod syslog;
