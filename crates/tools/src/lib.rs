//! Tools around qmqpd: each program is one function here, and its file in `bin` calls it.

pub mod bench;
pub mod config;
pub mod queue;
pub mod send;

/// One line of qmqpctl on standard error.
fn complain(what: &dyn std::fmt::Display) {
    use std::io::Write;
    // A standard error that is gone has no reader.
    let _ = writeln!(std::io::stderr(), "qmqpctl: {what}");
}
