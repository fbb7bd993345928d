//! What an operator hears from `qmqpd`: the same from check, start and reload; what is true, and never a panic.
#![cfg(test)]

mod limits;
mod listening;
mod output;
mod said;
mod site;
mod sockets;
mod space;
mod syslog;
