//! What an operator hears from `qmqpd`: the same from check, start and reload; what is true, and never a panic.
#![cfg(test)]

mod limits;
mod listening;
mod output;
mod queue;
mod said;
mod site;
mod sockets;
mod space;
mod syslog;

use std::process::ExitCode;

use testbed::trials::Trials;

fn main() -> ExitCode {
    testbed::program::set(env!("CARGO_BIN_EXE_qmqpd"), env!("CARGO_TARGET_TMPDIR"));
    testbed::isolation::enter();
    let mut trials = Trials::default();
    limits::add(&mut trials);
    listening::add(&mut trials);
    output::add(&mut trials);
    queue::add(&mut trials);
    said::add(&mut trials);
    sockets::add(&mut trials);
    space::add(&mut trials);
    syslog::add(&mut trials);
    trials.run()
}
