//! The whole program among programs that nobody here wrote: clients send to it, Postfix's tools read its queue, a real
//! queue manager delivers from it; and it is stopped, killed, reloaded, starved and abandoned.
#![cfg(test)]

mod address_tables;
mod agents;
mod changes;
mod client_limits;
mod clients;
mod content_filter;
mod crash;
mod deliverer;
mod delivery;
mod expressions;
mod hostile;
mod life;
mod limits;
mod milters;
mod proxymap;
mod strangers;
mod supervision;
mod trouble;

use std::process::ExitCode;

use testbed::isolation;
use testbed::trials::Trials;

fn main() -> ExitCode {
    testbed::program::set(env!("CARGO_BIN_EXE_qmqpd"), env!("CARGO_TARGET_TMPDIR"));
    isolation::enter();
    let mut trials = Trials::default();
    clients::add(&mut trials);
    delivery::add(&mut trials);
    content_filter::add(&mut trials);
    agents::add(&mut trials);
    deliverer::add(&mut trials);
    limits::add(&mut trials);
    client_limits::add(&mut trials);
    hostile::add(&mut trials);
    strangers::add(&mut trials);
    trouble::add(&mut trials);
    life::add(&mut trials);
    supervision::add(&mut trials);
    crash::add(&mut trials);
    changes::add(&mut trials);
    proxymap::add(&mut trials);
    address_tables::add(&mut trials);
    milters::add(&mut trials);
    expressions::add(&mut trials);
    trials.run()
}
